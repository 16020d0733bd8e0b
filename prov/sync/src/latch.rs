//! The poison latch: once a panic was caught inside an object, the object is not entered again.

use core::sync::atomic::{AtomicBool, Ordering};

/// Set once, never cleared, read on each entry.
#[derive(Debug, Default)]
pub struct Latch {
    set: AtomicBool,
}

impl Latch {
    /// A latch that is not set.
    pub const fn new() -> Self {
        Self { set: AtomicBool::new(false) }
    }

    /// Sets it; true for the one call that did (who then reports the cause).
    pub fn set(&self) -> bool {
        // Relaxed, here and below: the latch publishes nothing but itself.
        !self.set.swap(true, Ordering::Relaxed)
    }

    /// It was set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_set_once() {
        let latch = Latch::new();
        assert!(!latch.is_set());
        assert!(latch.set());
        assert!(!latch.set());
        assert!(latch.is_set());
    }
}
