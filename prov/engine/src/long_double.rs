//! `long double` of x86: 80 bits in 16 bytes. Rust has no such type; its arithmetic is a library's.

use core::cmp::Ordering;
use core::ops::{Add, Mul, Sub};

use rustc_apfloat::Float as _;
use rustc_apfloat::ieee::X87DoubleExtended;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct LongDouble(X87DoubleExtended);

/// Bits that mean something; the rest of the 16 bytes is padding.
const BITS: u32 = 80;

impl LongDouble {
    pub(crate) fn from_ne_bytes(bytes: [u8; 16]) -> Self {
        Self(X87DoubleExtended::from_bits(u128::from_ne_bytes(bytes) & ((1 << BITS) - 1)))
    }

    pub(crate) fn to_ne_bytes(self) -> [u8; 16] {
        self.0.to_bits().to_ne_bytes()
    }
}

impl Default for LongDouble {
    fn default() -> Self {
        Self(X87DoubleExtended::ZERO)
    }
}

impl From<u8> for LongDouble {
    fn from(value: u8) -> Self {
        Self(X87DoubleExtended::from_u128(value.into()).value)
    }
}

impl PartialEq for LongDouble {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl PartialOrd for LongDouble {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

macro_rules! arithmetic {
    ($($operator:ident $function:ident;)*) => {$(
        impl $operator for LongDouble {
            type Output = Self;
            fn $function(self, other: Self) -> Self {
                // Rounds to nearest, like the processor; flags of exceptions have no reader.
                Self(self.0.$function(other.0).value)
            }
        }
    )*};
}

arithmetic! {
    Add add;
    Sub sub;
    Mul mul;
}
