//! The wall between Rust and C: no panic crosses it, and errno is as the caller left it.
//!
//! Responsible for `catch_unwind`, errno and the latch that refuses further calls. Must never do any work of an operation.

use core::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdgram_sync::Latch;

/// A C return type that can say that the call failed for a reason of ours.
pub(crate) trait Outcome: Copy {
    /// `-FI_EOTHER`, or what comes nearest.
    const FAILED: Self;
}

/// `-FI_EOTHER` as a constant expression.
const EOTHER: i16 = -256;

impl Outcome for c_int {
    const FAILED: Self = EOTHER as Self;
}

impl Outcome for isize {
    const FAILED: Self = EOTHER as Self;
}

impl Outcome for u64 {
    const FAILED: Self = 0;
}

impl Outcome for *const c_char {
    const FAILED: Self = c"internal error".as_ptr();
}

impl Outcome for () {
    const FAILED: Self = ();
}

/// Keeps errno over a call: libfabric returns its errors, and an application may still be about to read its own.
struct Keep(c_int);

impl Keep {
    fn errno() -> Self {
        // SAFETY: the C library's accessor for the calling thread's errno.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: the location is valid for this thread's lifetime.
        Self(unsafe { location.read() })
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

fn set_errno(value: c_int) {
    // SAFETY: the C library's accessor for the calling thread's errno.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: the location is valid for this thread's lifetime.
    unsafe { location.write(value) };
}

/// Runs the body of a C entry point.
#[inline]
pub(crate) fn entry<R: Outcome>(body: impl FnOnce() -> R) -> R {
    let _errno = Keep::errno();
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(R::FAILED)
}

/// Sets a latch unless it is disarmed: when a panic leaves the scope, before the lock that was taken earlier is released, so that nobody sees half-made state.
pub(crate) struct Bomb<'a>(&'a Latch);

impl<'a> Bomb<'a> {
    /// Armed from here on.
    #[inline]
    pub(crate) fn arm(latch: &'a Latch) -> Self {
        Self(latch)
    }

    /// The work ended by itself.
    #[inline]
    pub(crate) fn disarm(self) {
        core::mem::forget(self);
    }
}

impl Drop for Bomb<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;

    #[test]
    fn a_panic_becomes_eother_and_errno_stays() {
        set_errno(77);
        let value: c_int = entry(|| {
            set_errno(5);
            panic!("a test's panic");
        });
        assert_eq!(value, Errno::OTHER.negative());
        assert_eq!(Keep::errno().0, 77);
    }

    #[test]
    fn the_latch_is_set_by_a_panic_only() {
        let latch = Latch::new();
        Bomb::arm(&latch).disarm();
        assert!(!latch.is_set());
        let value: isize = entry(|| {
            let _bomb = Bomb::arm(&latch);
            panic!("a test's panic");
        });
        assert_eq!(value, isize::FAILED);
        assert!(latch.is_set());
    }
}
