//! Time as an argument: instants, the moment an event is handled at, and the estimator of how often this process gets to look.
//!
//! Must never read a clock.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the caller's monotonic clock, in nanoseconds from its own beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's beginning.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` after the clock's beginning.
    #[inline]
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's beginning.
    #[inline]
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when that is not earlier.
    #[inline]
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates: a clock in nanoseconds lasts for 584 years, a duration may be longer.
#[inline]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().saturating_mul(1_000_000_000);
    nanos.saturating_add(duration.subsec_nanos() as u64)
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// What "now" is for a transport: the clock, and the silence that means nothing on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The clock, read once per batch.
    pub now: Instant,
    /// No timeout is shorter than this: see [`PollGap::rto_floor`].
    pub rto_floor: Duration,
}

/// Longest floor that gaps between polls can ask for.
const ROOF: Duration = Duration::from_millis(100);
/// How long a gap is remembered, at least; at most twice as long.
const WINDOW: Duration = Duration::from_millis(100);

/// How long this process stays away between two looks at its socket.
///
/// On an oversubscribed host the scheduler's tick, not the network, decides when an acknowledgement is seen, and peers of the same job are
/// scheduled alike: a timeout below that gap only makes spurious retransmissions. Of each window of 100 ms the *second* longest gap
/// counts: one long absence is the application computing, two are the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct PollGap {
    last: Option<Instant>,
    window_start: Instant,
    longest: Duration,
    second: Duration,
    previous: Duration,
}

impl PollGap {
    /// An estimator that has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last: None,
            window_start: Instant::ZERO,
            longest: Duration::ZERO,
            second: Duration::ZERO,
            previous: Duration::ZERO,
        }
    }

    /// The socket is about to be looked at.
    #[inline]
    pub fn on_poll(&mut self, now: Instant) {
        let Some(last) = self.last.replace(now) else {
            self.window_start = now;
            return;
        };
        let gap = now.saturating_duration_since(last);
        if gap > self.second {
            if gap > self.longest {
                self.second = self.longest;
                self.longest = gap;
            } else {
                self.second = gap;
            }
        }
        if now.saturating_duration_since(self.window_start) >= WINDOW {
            self.previous = self.second;
            self.longest = Duration::ZERO;
            self.second = Duration::ZERO;
            self.window_start = now;
        }
    }

    /// The floor for timeouts: `min`, or twice the gap when that is more, but at most 100 ms.
    #[inline]
    #[must_use]
    pub fn rto_floor(&self, min: Duration) -> Duration {
        let gap = self.second.max(self.previous).min(ROOF / 2);
        min.max(gap * 2)
    }
}

impl Default for PollGap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1000)
    }

    #[test]
    fn instants_saturate() {
        assert_eq!(Instant::from_nanos(5) - Duration::from_nanos(9), Instant::ZERO);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::from_nanos(u64::MAX));
        assert_eq!(Instant::ZERO.saturating_duration_since(at(1)), Duration::ZERO);
        assert_eq!(at(3).saturating_duration_since(at(1)), Duration::from_micros(2));
    }

    #[test]
    fn a_busy_poller_keeps_the_minimum() {
        let mut gap = PollGap::new();
        for us in 0..500_000 {
            gap.on_poll(at(us));
        }
        assert_eq!(gap.rto_floor(Duration::from_millis(1)), Duration::from_millis(1));
    }

    #[test]
    fn scheduler_ticks_raise_the_floor_and_are_forgotten() {
        let mut gap = PollGap::new();
        let min = Duration::from_millis(1);
        let mut us = 0;
        for _ in 0..50 {
            for _ in 0..1000 {
                us += 4;
                gap.on_poll(at(us));
            }
            us += 4000;
            gap.on_poll(at(us));
        }
        assert_eq!(gap.rto_floor(min), Duration::from_millis(8));
        for _ in 0..210_000 {
            us += 1;
            gap.on_poll(at(us));
        }
        assert_eq!(gap.rto_floor(min), min);
    }

    #[test]
    fn one_long_absence_means_nothing() {
        let mut gap = PollGap::new();
        let min = Duration::from_millis(1);
        gap.on_poll(at(0));
        gap.on_poll(at(10));
        gap.on_poll(at(60_000_000));
        gap.on_poll(at(60_000_010));
        assert_eq!(gap.rto_floor(min), min);
    }

    #[test]
    fn the_floor_has_a_roof() {
        let mut gap = PollGap::new();
        for s in 0..5 {
            gap.on_poll(at(s * 1_000_000));
            gap.on_poll(at(s * 1_000_000 + 90_000));
        }
        assert_eq!(gap.rto_floor(Duration::from_millis(1)), ROOF);
    }
}
