//! Idle reads: what a thread does that polls a queue or a counter in a loop and finds nothing.
//!
//! MPI libraries wait by polling. On a machine with more such threads than processors each of them keeps the one that it waits for from running, until the
//! kernel's time slice is over: milliseconds for a message that takes microseconds. So a thread that has polled in vain for a while, on a machine that the
//! kernel says is crowded, sleeps for a moment; a datagram wakes it. Decides when, and for how long. Must never sleep with the lock held, nor on a machine where
//! every thread has a processor, nor when the caller does other work between its reads.
//! The measurements behind the numbers are in `prov/docs/decisions/0007-idle-polls.md`.

use std::sync::Arc;
use std::time::Duration;

use rdgram_engine::{CntrId, Instant, Sleep};
use rdgram_host::runqueue::{Waited, waited};
use rdgram_host::wait::WaitSet;

use crate::domain::State;

/// Polling in vain before the first nap: some round trips over the loopback interface, in which the ranks that share this processor, who yield to one another, have their turns.
const SPIN: Duration = Duration::from_micros(40);
/// Longest nap: what else the caller polls for, such as messages in shared memory, waits no longer than this.
const NAP_MAX: Duration = Duration::from_micros(100);
/// From one read to the next: a caller that takes longer does other work in between, which no nap may hold up.
const GAP_MAX: Duration = Duration::from_micros(10);
/// How often the kernel is asked whether the machine is crowded.
const WINDOW: Duration = Duration::from_millis(10);
/// The part of a window, in percent, that this thread waited for a processor, from which the machine is crowded.
const CROWDED_FROM: u128 = 10;
/// The part below which it is not any more.
const CROWDED_UNTIL: u128 = 1;
/// Time from one turn on the processor to the next, below which those who share it take turns by themselves: their libraries yield between polls. Naps alone bring a turn in
/// more than 40 µs, yields one in a few.
const TURNS_EVERY: Duration = Duration::from_micros(20);

/// What a domain remembers of reads in vain.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// The first and the last read of an unbroken row of them.
    row: Option<(Instant, Instant)>,
    /// The counter that was read last, and its value then.
    counter: Option<(CntrId, (u64, u64))>,
    crowd: Crowd,
}

impl Idle {
    /// A read found something, or there was something to do.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.row = None;
    }

    /// Whether a counter has another value than at its last read; then reading it was not in vain.
    #[inline]
    pub(crate) fn is_news(&mut self, counter: CntrId, value: (u64, u64)) -> bool {
        let before = self.counter.replace((counter, value));
        let news = before.is_none_or(|(other, before)| other != counter || before != value);
        if news {
            self.end();
        }
        news
    }

    /// A read found nothing at `now`; true when it is time for a nap. `ask` is the kernel's count.
    #[inline]
    fn is_over(&mut self, now: Instant, ask: impl FnOnce() -> Option<Waited>) -> bool {
        let first = match self.row {
            Some((first, last)) if now.saturating_duration_since(last) <= GAP_MAX => first,
            _ => now,
        };
        self.row = Some((first, now));
        now.saturating_duration_since(first) >= SPIN && self.crowd.is_there(now, ask)
    }
}

/// Whether other threads want this thread's processor, and do not get it.
#[derive(Debug, Default)]
struct Crowd {
    asked: Option<(Instant, Option<Waited>)>,
    there: bool,
}

impl Crowd {
    #[inline]
    fn is_there(&mut self, now: Instant, ask: impl FnOnce() -> Option<Waited>) -> bool {
        match self.asked {
            Some((then, _)) if now.saturating_duration_since(then) < WINDOW => {}
            before => self.judge(now, before, ask()),
        }
        self.there
    }

    #[cold]
    fn judge(&mut self, now: Instant, before: Option<(Instant, Option<Waited>)>, told: Option<Waited>) {
        self.asked = Some((now, told));
        let (Some((then, Some(before))), Some(told)) = (before, told) else { return };
        if before.thread != told.thread {
            return;
        }
        let window = now.saturating_duration_since(then).as_nanos();
        let percent = told.total.saturating_sub(before.total).as_nanos() * 100 / window.max(1);
        let take_turns =
            u128::from(told.turns.saturating_sub(before.turns)) * TURNS_EVERY.as_nanos() > window;
        self.there = !take_turns && percent >= if self.there { CROWDED_UNTIL } else { CROWDED_FROM };
    }
}

/// A nap that a caller may take once it has left the lock.
#[derive(Debug)]
pub(crate) struct Nap {
    set: Arc<WaitSet>,
    limit: Duration,
}

impl Nap {
    /// Sleeps until a datagram arrives or the nap is over.
    #[cold]
    pub(crate) fn take(self) {
        // Whatever ends it, the caller comes back and looks.
        let _woken = self.set.block(Some(self.limit));
    }
}

impl State {
    /// A read found nothing, after progress: what its caller does before it returns.
    #[inline]
    pub(crate) fn idle(&mut self) -> Option<Nap> {
        if self.worked {
            self.idle.end();
            return None;
        }
        let now = self.engine.progressed_at();
        if !self.idle.is_over(now, waited) { None } else { self.nap(now) }
    }

    #[cold]
    fn nap(&mut self, now: Instant) -> Option<Nap> {
        let limit = match self.engine.sleep(now) {
            Sleep::Not => return None,
            Sleep::For(duration) => duration.min(NAP_MAX),
            Sleep::Forever => NAP_MAX,
        };
        // The next read comes after the nap, and is still of this row.
        if let Some((_, last)) = &mut self.idle.row {
            *last = now + limit;
        }
        // Without a descriptor to spare the caller polls on.
        self.waits.nap_set().ok().map(|set| Nap { set, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

    /// The first poll of a row, one each microsecond, that may ask for a nap.
    const FIRST_NAP: Option<u32> = Some(40);

    /// A thread that has waited for this long in all.
    fn told(total: Duration) -> Option<Waited> {
        Some(Waited { thread: 1, total, turns: 0 })
    }

    /// Polls every microsecond for `polls` times, the first at `start`; the number of the first poll that asked for a nap.
    fn poll(idle: &mut Idle, start: Instant, polls: u32, waited: Duration) -> Option<u32> {
        (0..polls).find(|&poll| idle.is_over(start + Duration::from_micros(poll.into()), || told(waited)))
    }

    /// A crowded machine, as the kernel tells it.
    fn crowded() -> (Idle, Instant) {
        let mut idle = Idle::default();
        assert_eq!(poll(&mut idle, BEGIN, 60, Duration::ZERO), None, "nothing is known yet");
        idle.end();
        let later = BEGIN + WINDOW;
        assert_eq!(poll(&mut idle, later, 60, WINDOW / 10), FIRST_NAP, "told at the first question");
        (idle, later + Duration::from_micros(60))
    }

    #[test]
    fn a_thread_with_a_processor_of_its_own_never_naps() {
        let mut idle = Idle::default();
        for window in 0..100 {
            let start = BEGIN + WINDOW * window;
            assert_eq!(poll(&mut idle, start, 10_000, WINDOW * window / 20), None);
        }
    }

    #[test]
    fn a_crowded_thread_naps_after_a_row_of_reads_in_vain() {
        let (mut idle, now) = crowded();
        idle.end();
        assert_eq!(poll(&mut idle, now, 200, WINDOW / 10), FIRST_NAP);
        assert!(idle.is_over(now + SPIN + Duration::from_micros(1), || told(WINDOW / 10)), "and goes on");
    }

    #[test]
    fn a_caller_that_does_other_work_never_naps() {
        let (mut idle, now) = crowded();
        for read in 1..1000_u32 {
            let now = now + (GAP_MAX + Duration::from_micros(1)) * read;
            assert!(!idle.is_over(now, || told(WINDOW)));
        }
    }

    #[test]
    fn the_crowd_leaves() {
        let (mut idle, now) = crowded();
        let later = now + WINDOW * 2;
        assert_eq!(poll(&mut idle, later, 100, WINDOW / 10), None, "no waiting since it was asked");
    }

    #[test]
    fn those_who_take_turns_by_themselves_never_nap() {
        let (mut idle, now) = crowded();
        // Half of the time it waits; on the processor it is as often as in `turns`.
        let mut ask = |now: Instant, turns| {
            let since = now.saturating_duration_since(BEGIN);
            idle.crowd.is_there(now, || Some(Waited { thread: 1, total: since / 2, turns }))
        };
        assert!(!ask(now + WINDOW, 510), "a turn in less than 20 µs");
        assert!(!ask(now + WINDOW * 2, 5_510), "a turn in 2 µs, and so as long as it lasts");
        assert!(ask(now + WINDOW * 3, 5_514), "what shares the processor now keeps it");
        assert!(ask(now + WINDOW * 4, 5_764), "naps alone bring a turn in 40 µs");
        assert!(!ask(now + WINDOW * 5, 6_764), "those who share it yield again");
    }

    #[test]
    fn counts_of_different_threads_are_not_compared() {
        let mut crowd = Crowd::default();
        assert!(!crowd.is_there(BEGIN, || told(Duration::ZERO)));
        let other = || Some(Waited { thread: 2, total: Duration::from_secs(9), turns: 0 });
        assert!(!crowd.is_there(BEGIN + WINDOW, other));
        assert!(!crowd.is_there(BEGIN + WINDOW * 2, || None), "a system that does not tell");
        assert!(!crowd.is_there(BEGIN + WINDOW * 3, || told(Duration::from_secs(9))));
    }
}
