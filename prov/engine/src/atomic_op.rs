//! What an atomic operation computes: one kernel per operation and datatype (`fi_atomic(3)`). Values and bytes only: who may touch which memory is decided elsewhere.

use crate::long_double::LongDouble;

/// An operation of `enum fi_op`, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of fi_atomic(3)")]
pub enum AtomicOp {
    Min = 0,
    Max = 1,
    Sum = 2,
    Prod = 3,
    Lor = 4,
    Land = 5,
    Bor = 6,
    Band = 7,
    Lxor = 8,
    Bxor = 9,
    Read = 10,
    Write = 11,
    Cswap = 12,
    CswapNe = 13,
    CswapLe = 14,
    CswapLt = 15,
    CswapGe = 16,
    CswapGt = 17,
    Mswap = 18,
}

impl AtomicOp {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::Prod,
        Self::Lor,
        Self::Land,
        Self::Bor,
        Self::Band,
        Self::Lxor,
        Self::Bxor,
        Self::Read,
        Self::Write,
        Self::Cswap,
        Self::CswapNe,
        Self::CswapLe,
        Self::CswapLt,
        Self::CswapGe,
        Self::CswapGt,
        Self::Mswap,
    ];

    /// From its number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Takes comparands beside operands.
    pub fn compares(self) -> bool {
        self as u8 >= Self::Cswap as u8
    }
}

/// A datatype of `enum fi_datatype`, by its number. The two of `long double` are the 80-bit format of x86, and known there only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of fi_atomic(3)")]
pub enum Datatype {
    Int8 = 0,
    Uint8 = 1,
    Int16 = 2,
    Uint16 = 3,
    Int32 = 4,
    Uint32 = 5,
    Int64 = 6,
    Uint64 = 7,
    Float = 8,
    Double = 9,
    FloatComplex = 10,
    DoubleComplex = 11,
    LongDouble = 12,
    LongDoubleComplex = 13,
    Int128 = 14,
    Uint128 = 15,
}

impl Datatype {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Int8,
        Self::Uint8,
        Self::Int16,
        Self::Uint16,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::Float,
        Self::Double,
        Self::FloatComplex,
        Self::DoubleComplex,
        Self::LongDouble,
        Self::LongDoubleComplex,
        Self::Int128,
        Self::Uint128,
    ];

    /// From its number; `None` for what is not supported.
    pub fn from_number(number: u32) -> Option<Self> {
        let datatype = Self::ALL.get(usize::try_from(number).ok()?).copied()?;
        let foreign = matches!(datatype, Self::LongDouble | Self::LongDoubleComplex);
        (cfg!(target_arch = "x86_64") || !foreign).then_some(datatype)
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float => 4,
            Self::Int64 | Self::Uint64 | Self::Double | Self::FloatComplex => 8,
            Self::DoubleComplex | Self::LongDouble | Self::Int128 | Self::Uint128 => 16,
            Self::LongDoubleComplex => 32,
        }
    }
}

/// Most bytes of an element.
pub(crate) const ELEMENT_MAX: usize = 32;

/// Whether the operation is defined for the datatype: order is of real numbers only, bits are of integers only.
pub fn atomic_is_defined(operation: AtomicOp, datatype: Datatype) -> bool {
    use AtomicOp::*;
    let (complex, real) = match datatype {
        Datatype::FloatComplex | Datatype::DoubleComplex | Datatype::LongDoubleComplex => (true, false),
        Datatype::Float | Datatype::Double | Datatype::LongDouble => (false, true),
        _ => (false, false),
    };
    let integer = !complex && !real;
    match operation {
        Min | Max | CswapLe | CswapLt | CswapGe | CswapGt => !complex,
        Bor | Band | Bxor | Mswap => integer,
        Sum | Prod | Lor | Land | Lxor | Read | Write | Cswap | CswapNe => true,
    }
}

/// What an element becomes: `None` when it stays as it is.
///
/// All slices have the datatype's size; the pair must be one that [`atomic_is_defined`].
pub(crate) fn combine(
    operation: AtomicOp,
    datatype: Datatype,
    old: &[u8],
    operand: &[u8],
    compare: &[u8],
) -> Option<[u8; ELEMENT_MAX]> {
    macro_rules! dispatch {
        ($($datatype:ident => $type:ty),*) => {
            match datatype {
                $(Datatype::$datatype => run::<$type>(operation, old, operand, compare),)*
            }
        };
    }
    dispatch! {
        Int8 => i8, Uint8 => u8, Int16 => i16, Uint16 => u16, Int32 => i32, Uint32 => u32, Int64 => i64, Uint64 => u64,
        Float => f32, Double => f64, FloatComplex => Complex<f32>, DoubleComplex => Complex<f64>,
        LongDouble => LongDouble, LongDoubleComplex => Complex<LongDouble>, Int128 => i128, Uint128 => u128
    }
}

fn run<T: Element>(
    operation: AtomicOp,
    old: &[u8],
    operand: &[u8],
    compare: &[u8],
) -> Option<[u8; ELEMENT_MAX]> {
    // An operation without operands or comparands is given none.
    let value = |bytes: &[u8]| if bytes.is_empty() { T::from_bytes(old) } else { T::from_bytes(bytes) };
    let new = T::combine(operation, T::from_bytes(old), value(operand), value(compare))?;
    let mut bytes = [0; ELEMENT_MAX];
    new.to_bytes(&mut bytes[..old.len()]);
    Some(bytes)
}

/// A complex number as C lays it out.
#[derive(Clone, Copy, PartialEq)]
struct Complex<T> {
    real: T,
    imaginary: T,
}

/// A value that operations compute with.
trait Element: Copy + PartialEq {
    /// Both take slices of exactly the type's size.
    fn from_bytes(bytes: &[u8]) -> Self;
    fn to_bytes(self, bytes: &mut [u8]);
    fn combine(operation: AtomicOp, old: Self, operand: Self, compare: Self) -> Option<Self>;
}

/// What every type has: arithmetic, truth, equality.
macro_rules! common {
    ($operation:expr, $old:expr, $operand:expr, $compare:expr, $sum:expr, $product:expr, $is_true:expr, $truth:expr) => {
        match $operation {
            AtomicOp::Sum => Some($sum),
            AtomicOp::Prod => Some($product),
            AtomicOp::Lor => Some($truth($is_true($old) | $is_true($operand))),
            AtomicOp::Land => Some($truth($is_true($old) & $is_true($operand))),
            AtomicOp::Lxor => Some($truth($is_true($old) ^ $is_true($operand))),
            AtomicOp::Write => Some($operand),
            AtomicOp::Cswap => ($compare == $old).then_some($operand),
            AtomicOp::CswapNe => ($compare != $old).then_some($operand),
            _ => None,
        }
    };
}

/// What ordered types have beside.
macro_rules! ordered {
    ($operation:expr, $old:expr, $operand:expr, $compare:expr, $otherwise:expr) => {
        match $operation {
            AtomicOp::Min => ($operand < $old).then_some($operand),
            AtomicOp::Max => ($operand > $old).then_some($operand),
            AtomicOp::CswapLe => ($compare <= $old).then_some($operand),
            AtomicOp::CswapLt => ($compare < $old).then_some($operand),
            AtomicOp::CswapGe => ($compare >= $old).then_some($operand),
            AtomicOp::CswapGt => ($compare > $old).then_some($operand),
            _ => $otherwise,
        }
    };
}

macro_rules! bytes_of {
    ($type:ty) => {
        fn from_bytes(bytes: &[u8]) -> Self {
            <$type>::from_ne_bytes(bytes.try_into().expect("an element of this type"))
        }
        fn to_bytes(self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.to_ne_bytes());
        }
    };
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Element for $type {
            bytes_of!($type);
            fn combine(operation: AtomicOp, old: Self, operand: Self, compare: Self) -> Option<Self> {
                match operation {
                    AtomicOp::Bor => Some(old | operand),
                    AtomicOp::Band => Some(old & operand),
                    AtomicOp::Bxor => Some(old ^ operand),
                    AtomicOp::Mswap => Some((operand & compare) | (old & !compare)),
                    _ => ordered!(operation, old, operand, compare, common!(
                        operation, old, operand, compare,
                        old.wrapping_add(operand), old.wrapping_mul(operand), |value: Self| value != 0, <$type>::from
                    )),
                }
            }
        }
    )*};
}

integers!(i8, u8, i16, u16, i32, u32, i64, u64, i128, u128);

macro_rules! floats {
    ($($type:ty),*) => {$(
        impl Element for $type {
            bytes_of!($type);
            fn combine(operation: AtomicOp, old: Self, operand: Self, compare: Self) -> Option<Self> {
                ordered!(operation, old, operand, compare, common!(
                    operation, old, operand, compare,
                    old + operand, old * operand, |value: Self| value != Self::default(), |truth: bool| <$type>::from(u8::from(truth))
                ))
            }
        }

        impl Element for Complex<$type> {
            fn from_bytes(bytes: &[u8]) -> Self {
                let (real, imaginary) = bytes.split_at(bytes.len() / 2);
                Self { real: <$type>::from_bytes(real), imaginary: <$type>::from_bytes(imaginary) }
            }
            fn to_bytes(self, bytes: &mut [u8]) {
                let (real, imaginary) = bytes.split_at_mut(bytes.len() / 2);
                self.real.to_bytes(real);
                self.imaginary.to_bytes(imaginary);
            }
            fn combine(operation: AtomicOp, old: Self, operand: Self, compare: Self) -> Option<Self> {
                let sum = Self { real: old.real + operand.real, imaginary: old.imaginary + operand.imaginary };
                let product = Self {
                    real: old.real * operand.real - old.imaginary * operand.imaginary,
                    imaginary: old.real * operand.imaginary + old.imaginary * operand.real,
                };
                common!(
                    operation, old, operand, compare, sum, product,
                    |value: Self| value.real != <$type>::default() || value.imaginary != <$type>::default(),
                    |truth: bool| Self { real: <$type>::from(u8::from(truth)), imaginary: <$type>::default() }
                )
            }
        }
    )*};
}

floats!(f32, f64, LongDouble);

#[cfg(test)]
mod tests {
    use super::*;

    fn i32s(operation: AtomicOp, old: i32, operand: i32, compare: i32) -> i32 {
        let new = combine(
            operation,
            Datatype::Int32,
            &old.to_ne_bytes(),
            &operand.to_ne_bytes(),
            &compare.to_ne_bytes(),
        );
        new.map_or(old, |bytes| i32::from_ne_bytes(bytes[..4].try_into().unwrap()))
    }

    /// A value whose order is that of `byte`. A long double needs a set leading bit to be a number.
    fn small(datatype: Datatype, byte: u8) -> Vec<u8> {
        let long = (1_u128 << 63 | u128::from(byte) << 64).to_ne_bytes();
        match datatype {
            Datatype::LongDouble => long.to_vec(),
            Datatype::LongDoubleComplex => [long, long].concat(),
            _ => vec![byte; datatype.size()],
        }
    }

    #[test]
    fn integers_follow_the_manual() {
        use AtomicOp::*;
        let cases = [
            (Min, 5, -3, 0, -3),
            (Min, -5, 3, 0, -5),
            (Max, 5, -3, 0, 5),
            (Max, 5, 30, 0, 30),
            (Sum, i32::MAX, 1, 0, i32::MIN),
            (Prod, -4, 6, 0, -24),
            (Lor, 0, 0, 0, 0),
            (Lor, 0, 7, 0, 1),
            (Land, 7, 2, 0, 1),
            (Land, 7, 0, 0, 0),
            (Lxor, 7, 2, 0, 0),
            (Lxor, 0, 2, 0, 1),
            (Bor, 0b1100, 0b1010, 0, 0b1110),
            (Band, 0b1100, 0b1010, 0, 0b1000),
            (Bxor, 0b1100, 0b1010, 0, 0b0110),
            (Read, 9, 4, 0, 9),
            (Write, 9, 4, 0, 4),
            (Cswap, 9, 4, 9, 4),
            (Cswap, 9, 4, 8, 9),
            (CswapNe, 9, 4, 8, 4),
            (CswapNe, 9, 4, 9, 9),
            (CswapLe, 9, 4, 9, 4),
            (CswapLe, 9, 4, 10, 9),
            (CswapLt, 9, 4, 8, 4),
            (CswapLt, 9, 4, 9, 9),
            (CswapGe, 9, 4, 9, 4),
            (CswapGe, 9, 4, 8, 9),
            (CswapGt, 9, 4, 10, 4),
            (CswapGt, 9, 4, 9, 9),
            (Mswap, 0x1234, 0xabcd, 0x0ff0, 0x1bc4),
        ];
        for (operation, old, operand, compare, new) in cases {
            assert_eq!(
                i32s(operation, old, operand, compare),
                new,
                "{operation:?} {old} {operand} {compare}"
            );
        }
    }

    #[test]
    fn complex_numbers_multiply_as_complex_numbers() {
        let number = |real: f64, imaginary: f64| [real.to_ne_bytes(), imaginary.to_ne_bytes()].concat();
        let product =
            combine(AtomicOp::Prod, Datatype::DoubleComplex, &number(1.0, 2.0), &number(3.0, -1.0), &[])
                .unwrap();
        assert_eq!(product[..16], number(5.0, 5.0)[..]);
        let same = combine(
            AtomicOp::Cswap,
            Datatype::DoubleComplex,
            &number(1.0, 2.0),
            &number(0.0, 0.0),
            &number(1.0, 3.0),
        );
        assert_eq!(same, None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn long_doubles_keep_the_bits_that_a_double_has_not() {
        // 2^63 + 1 needs all 64 bits of the significand.
        let large = (0x8000_0000_0000_0001_u128 | (16_383 + 63) << 64).to_ne_bytes();
        let one = (1_u128 << 63 | 16_383 << 64).to_ne_bytes();
        let sum = combine(AtomicOp::Sum, Datatype::LongDouble, &large, &one, &[]).unwrap();
        let expected = 0x8000_0000_0000_0002_u128 | (16_383 + 63) << 64;
        assert_eq!(sum[..16], expected.to_ne_bytes());
        assert_eq!(combine(AtomicOp::Max, Datatype::LongDouble, &large, &one, &[]), None);
        // (1 + i) (1 + i) = 2 i
        let number = [one, one].concat();
        let product = combine(AtomicOp::Prod, Datatype::LongDoubleComplex, &number, &number, &[]).unwrap();
        let two = (1_u128 << 63 | 16_384 << 64).to_ne_bytes();
        assert_eq!((&product[..16], &product[16..]), (&[0; 16][..], &two[..]));
    }

    #[test]
    fn every_defined_pair_computes_and_reads_change_nothing() {
        for operation in AtomicOp::ALL {
            for datatype in
                Datatype::ALL.into_iter().filter(|datatype| atomic_is_defined(operation, *datatype))
            {
                let size = datatype.size();
                let (old, operand, compare) = (small(datatype, 1), small(datatype, 2), small(datatype, 1));
                assert_eq!(old.len(), size);
                let new = combine(operation, datatype, &old, &operand, &compare);
                assert_eq!(
                    new.is_none(),
                    matches!(
                        operation,
                        AtomicOp::Read
                            | AtomicOp::Min
                            | AtomicOp::CswapNe
                            | AtomicOp::CswapLt
                            | AtomicOp::CswapGt
                    ),
                    "{operation:?} {datatype:?}"
                );
                assert_eq!(AtomicOp::from_number(operation as u32), Some(operation));
                assert_eq!(Datatype::from_number(datatype as u32), Some(datatype));
            }
        }
        assert_eq!(Datatype::from_number(16), None);
        assert_eq!(AtomicOp::from_number(19), None);
    }
}
