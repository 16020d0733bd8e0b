//! The only clock reads of the provider.
//!
//! Everything else gets time as an argument, so that a simulator can stand in for it.

use core::ptr;

use rdgram_engine::Instant;
use rdgram_sync::Ratchet;

/// The time: monotonic, of this host since it started. Not affected by steps of the wall clock.
pub fn now() -> Instant {
    Instant::from_nanos(read(libc::CLOCK_MONOTONIC))
}

/// Nanoseconds of the wall clock, strictly increasing within the process: a process that starts later on the same
/// host gets a larger one, unless the clock was set back by more than the time in between.
pub fn incarnation() -> u64 {
    static LAST: Ratchet = Ratchet::new();
    LAST.next(read(libc::CLOCK_REALTIME))
}

/// Nanoseconds of `clock`. It exists on every Linux, so reading it cannot fail.
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live and exclusive.
    let result = unsafe { libc::clock_gettime(clock, ptr::from_mut(&mut time)) };
    assert_eq!(result, 0, "the system has no clock {clock}");
    // Both are positive: the wall clock counts from 1970.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
        assert!(first > Instant::ZERO);
    }

    #[test]
    fn incarnations_increase() {
        let mut last = incarnation();
        for _ in 0..10_000 {
            let next = incarnation();
            assert!(next > last);
            last = next;
        }
    }
}
