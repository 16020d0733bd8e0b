//! Packet sequence numbers: circular, 32 bits. Must never be ordered as integers (there is no `Ord` on purpose).

use core::fmt;

/// A packet sequence number. Numbers wrap; two of them compare only within half the circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Psn(pub u32);

impl Psn {
    /// The number after this one.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        self.add(1)
    }

    /// The number `count` after this one.
    #[inline]
    #[must_use]
    pub const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How far this number lies after `earlier`, going up.
    #[inline]
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether `other` is reached from here in fewer than 2^31 steps, and at least one.
    #[inline]
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        let distance = other.distance_from(self);
        distance != 0 && distance < 1 << 31
    }
}

impl fmt::Display for Psn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}
