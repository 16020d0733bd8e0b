//! The flavour without a lock: whoever calls keeps the threads apart.
//!
//! Costs nothing in release builds; builds with debug assertions check the promise.

#[cfg(debug_assertions)]
use core::sync::atomic::{AtomicBool, Ordering};

use crate::Serialize;

/// `FI_THREAD_DOMAIN`: the application serialises all calls that reach one domain.
#[derive(Debug, Default)]
pub struct Caller {
    #[cfg(debug_assertions)]
    inside: AtomicBool,
}

// SAFETY: the duty is the user's, who took it on with the unsafe `Guarded::new`.
unsafe impl Serialize for Caller {
    #[inline]
    fn enter(&self) {
        #[cfg(debug_assertions)]
        assert!(
            !self.inside.swap(true, Ordering::Acquire),
            "FI_THREAD_DOMAIN: two calls are inside one domain at once; the application must serialise them \
             or open the domain with FI_THREAD_SAFE"
        );
    }

    #[inline]
    fn try_enter(&self) -> bool {
        self.enter();
        true
    }

    #[inline]
    fn leave(&self) {
        #[cfg(debug_assertions)]
        self.inside.store(false, Ordering::Release);
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "FI_THREAD_DOMAIN")]
    fn second_call_inside_is_detected() {
        let caller = Caller::default();
        caller.enter();
        caller.enter();
    }

    #[test]
    fn calls_in_turn_pass() {
        let caller = Caller::default();
        for _ in 0..3 {
            caller.enter();
            caller.leave();
            assert!(caller.try_enter());
            caller.leave();
        }
    }
}
