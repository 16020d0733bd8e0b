//! The progress thread of a domain: what FI_PROGRESS_AUTO promises to an application that computes. And the same for one that makes its own progress, for when it does not: who sends
//! and then computes, or waits for something else, would leave what is lost unrepeated, and what others send unanswered.
//!
//! Responsible for progress while the application makes none, and for the thread's life: it starts with the domain and has ended when the domain is closed
//! or libfabric cleans up. It sleeps on the sockets, the engine's next deadline and a waker, so idleness costs nothing; and it stays away from an
//! application that makes progress itself, since two who share the work only wait for each other. Must never hold the lock while it sleeps, nor run in a
//! forked child, nor take a signal.

use core::sync::atomic::{AtomicU64, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use rdgram_engine::Wake;
use rdgram_host::thread::Thread;
use rdgram_host::wait::WaitSet;
use rdgram_host::{clock, membarrier};
use rdgram_sync::{Latch, Serialize};

use crate::domain::{Shared, State};
use crate::errno::{Errno, Result};
use crate::log;
use crate::wait::WaitKey;

/// How long the thread stays away from an application that makes progress. What comes when the application has just begun to compute waits for at most twice
/// this; an application that polls pays for one short look in this time.
const AWAY: Duration = Duration::from_millis(1);
/// The same for an application that makes its own progress: it costs one that does a few instructions ten times a second. One that does not is stood in for after this, or twice this.
const ABSENCE: Duration = Duration::from_millis(100);
/// Looks in a row that found the application there without knowing whether it made progress: then the lock is taken to see.
const GLIMPSES_MAX: u32 = 5;
/// Looks in a row that found the lock taken before the thread queues for it: an application may call in a tight loop and yet make no progress.
const REFUSALS_MAX: u32 = 2;
/// How long closing waits for the thread. It needs one look's time; longer than this only a defect takes.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The thread, while there is one.
#[derive(Debug, Default)]
pub(crate) struct ProgressThread(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    thread: Thread,
    stop: Arc<Latch>,
    waker: Arc<dyn Wake>,
}

impl ProgressThread {
    /// How many references to the domain's shared state are the thread's.
    pub(crate) fn references(&self) -> usize {
        usize::from(self.lock().is_some_and(|running| running.is_some()))
    }

    fn take(&self) -> Option<Running> {
        self.lock()?.take()
    }

    /// `None` when another thread has it: one that closes the same domain, which may not be, or one that a forked child has not got.
    fn lock(&self) -> Option<MutexGuard<'_, Option<Running>>> {
        match self.0.try_lock() {
            Ok(running) => Some(running),
            Err(TryLockError::Poisoned(running)) => Some(running.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Starts the thread of a domain whose application asked for it. Its lock must be one that keeps threads apart.
pub(crate) fn start<S: Serialize>(shared: &Arc<Shared<S>>) -> Result {
    start_with(shared, AWAY, |state| {
        state.work();
    })
}

/// Starts the thread of a domain whose application makes its own progress. It is left to itself where that is not possible.
pub(crate) fn stand_in<S: Serialize>(shared: &Arc<Shared<S>>) {
    if shared.turns().is_some() && !membarrier::barrier() {
        return;
    }
    // Where the system has no thread or descriptor left, the application is left to itself.
    let _none = start_with(shared, ABSENCE, |state| {
        state.work();
    });
}

/// As [`start`]; `away` is how long the thread stays away, `work` what makes progress.
fn start_with<S: Serialize>(shared: &Arc<Shared<S>>, away: Duration, work: fn(&mut State)) -> Result {
    let (key, set) =
        shared.with(|state| state.waits.open_progress_thread().map_err(|error| Errno::from_os(&error)))?;
    let waker = set.waker();
    let stop = Arc::new(Latch::new());
    let attendance = Attendance {
        shared: Arc::clone(shared),
        key,
        set,
        stop: Arc::clone(&stop),
        away,
        work,
        seen: 0,
        turns: 0,
        armed: false,
        glimpses: 0,
        refusals: 0,
        back: Arc::default(),
    };
    let thread = Thread::spawn("rdgram-progress", move || attendance.run()).map_err(|error| {
        log::warn_once(
            "thread",
            &format!("no progress thread: {error}; FI_RDGRAM_PROGRESS=manual does without"),
        );
        let _closed = shared.with(|state| {
            state.waits.close(key);
            Ok(())
        });
        Errno::from_os(&error)
    })?;
    if let Some(mut place) = shared.thread().lock() {
        *place = Some(Running { thread, stop, waker });
    }
    Ok(())
}

/// What became of the thread's reference to the shared state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// It was given back, or there was none.
    Returned,
    /// The thread runs in the parent process of this one: nobody here will give it back.
    Orphaned,
}

/// Ends the thread, if there is one, and waits for it.
pub(crate) fn stop<S: Serialize>(shared: &Shared<S>) -> Reference {
    let Some(running) = shared.thread().take() else { return Reference::Returned };
    if shared.is_inherited() {
        running.thread.forget();
        return Reference::Orphaned;
    }
    running.stop.set();
    running.waker.wake();
    if !running.thread.join(END_WITHIN) {
        log::warn_once("thread end", "the progress thread of a domain did not end; please report this");
    }
    Reference::Returned
}

/// What the thread does and knows.
struct Attendance<S: Serialize> {
    shared: Arc<Shared<S>>,
    key: WaitKey,
    set: Arc<WaitSet>,
    stop: Arc<Latch>,
    away: Duration,
    work: fn(&mut State),
    /// The application's progress calls at the last look.
    seen: u64,
    /// All its turns, where the lock counts them.
    turns: u32,
    /// What may bring work wakes this thread: whoever brings some has to know.
    armed: bool,
    /// Looks in a row that found only that the application was there.
    glimpses: u32,
    /// Looks in a row that found the lock taken.
    refusals: u32,
    /// The application is back from an absence: the count of its progress calls then, else 0.
    back: Arc<AtomicU64>,
}

/// What one look decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is more to do.
    Again,
    /// The application makes progress itself.
    Away,
    /// Nothing to do: sleep until there is.
    Block,
}

impl<S: Serialize> Attendance<S> {
    fn run(mut self) {
        let failed = catch_unwind(AssertUnwindSafe(|| self.attend())).unwrap_or(Err(Errno::OTHER)).is_err();
        if failed {
            log::warn_once(
                "progress thread",
                "the progress thread of a domain has ended by an error: what needs it waits for ever; please report this",
            );
        }
        // Keeps the reference to the shared state until the domain is closed: its count says whether anything is still open.
        while !self.stop.is_set() {
            if self.set.rest(None).is_err() {
                return;
            }
            self.set.clear();
        }
    }

    /// Until it is told to stop.
    fn attend(&mut self) -> Result {
        let mut step = Step::Away;
        while !self.stop.is_set() {
            step = self.look(step == Step::Block)?;
            match step {
                Step::Again => Ok(true),
                Step::Away => self.set.rest(Some(self.away)),
                Step::Block => self.set.block(None),
            }
            .map_err(|error| Errno::from_os(&error))?;
        }
        Ok(())
    }

    /// One look: progress when the application makes none, and then everything armed that may bring work. `woken`: the last look ended in sleep, so something
    /// woke this thread.
    fn look(&mut self, woken: bool) -> Result<Step> {
        let came = self.application_came();
        // It has disarmed this thread, so nothing has to be asked of the domain: threads of many processes may be told at once, and barriers take their turns.
        let back = self.back.swap(0, Ordering::Acquire);
        if back != 0 {
            self.seen = back;
            self.armed = false;
            self.set.clear();
            // As below.
            return Ok(if self.stop.is_set() { Step::Again } else { Step::Away });
        }
        if came && !self.armed && self.glimpses < GLIMPSES_MAX {
            self.glimpses += 1;
            return Ok(Step::Away);
        }
        self.glimpses = 0;
        let stands_in = self.away == ABSENCE;
        // Without a lock that counts only the calls tell.
        let may_have_called = came || self.shared.turns().is_none();
        let (key, set, stop, work) = (self.key, &self.set, &self.stop, self.work);
        let (seen, armed, back) = (&mut self.seen, &mut self.armed, &self.back);
        let look = |state: &mut State| {
            set.clear();
            // This may have cleared the very wake-up that came with it.
            if stop.is_set() {
                return Ok(Step::Again);
            }
            let calls = core::mem::replace(seen, state.calls());
            // A thread that is blocked in a call was woken too.
            if (calls != *seen && may_have_called) || (woken && state.waits.any_thread()) {
                state.disarm(key);
                state.stand_in = None;
                *armed = false;
                return Ok(Step::Away);
            }
            work(state);
            *armed = true;
            if !state.arm(key, clock::now()) {
                return Ok(Step::Again);
            }
            state.stand_in = stands_in.then(|| (key, Arc::clone(back)));
            Ok(Step::Block)
        };
        if self.shared.turns().is_some() {
            if let Some(step) = self.shared.visit(look)? {
                return Ok(step);
            }
            // What woke this thread must not wake it again and again while the application is inside.
            self.set.clear();
            return Ok(if self.stop.is_set() { Step::Again } else { Step::Away });
        }
        if self.refusals < REFUSALS_MAX {
            if let Some(step) = self.shared.with_if_free(look)? {
                self.refusals = 0;
                return Ok(step);
            }
            self.refusals += 1;
            return Ok(Step::Away);
        }
        self.refusals = 0;
        self.shared.with(look)
    }

    /// Whether the application was there since the last look, as far as can be said without the lock.
    fn application_came(&mut self) -> bool {
        let turns = self.shared.turns().unwrap_or(self.turns);
        core::mem::replace(&mut self.turns, turns) != turns
    }
}

#[cfg(test)]
mod tests {
    use rdgram_sync::{Biased, Mutual};

    use super::*;
    use crate::domain::tests::shared;
    use crate::wait::{Patience, Target, block_until};

    /// Whoever is blocked in a domain that a panic of the thread shuts hears of it, and the domain can still be closed.
    #[test]
    fn a_panic_of_the_thread_shuts_the_domain_and_wakes_everybody() {
        let shared = shared::<Mutual>();
        let cntr = shared.with(|state| Ok(state.engine.cntr_open())).expect("open");
        std::thread::scope(|scope| {
            let blocked = scope
                .spawn(|| block_until(&shared, Target::Cntr(cntr), Patience::new(-1), |_| Ok(None::<()>)));
            start_with(&shared, AWAY, |_| panic!("a test's panic")).expect("starts");
            assert_eq!(blocked.join().expect("no panic here"), Err(Errno::OTHER));
        });
        assert!(!shared.is_usable());
        assert_eq!(
            Arc::strong_count(&shared),
            1 + shared.thread().references(),
            "it still holds its reference"
        );
        assert_eq!(stop(&shared), Reference::Returned);
        assert_eq!((Arc::strong_count(&shared), shared.thread().references()), (1, 0));
    }

    #[test]
    fn it_stays_away_from_an_application_that_makes_progress() {
        let shared = shared::<Mutual>();
        let (key, set) = shared
            .with(|state| state.waits.open_progress_thread().map_err(|error| Errno::from_os(&error)))
            .expect("opens");
        let mut attendance = Attendance {
            shared: Arc::clone(&shared),
            key,
            set,
            stop: Arc::new(Latch::new()),
            work: |state| {
                state.engine.progress();
            },
            away: AWAY,
            seen: 0,
            turns: 0,
            armed: false,
            glimpses: 0,
            refusals: 0,
            back: Arc::default(),
        };
        assert_eq!(attendance.look(false), Ok(Step::Block), "nobody else does");
        let call = || {
            shared.with(|state| {
                state.progress();
                Ok(())
            })
        };
        call().expect("usable");
        assert_eq!(attendance.look(true), Ok(Step::Away));
        assert!(
            shared.with(|state| Ok(!state.waits.any_armed())).expect("usable"),
            "operations need not wake it"
        );
        call().expect("usable");
        call().expect("usable");
        assert_eq!(attendance.look(false), Ok(Step::Away));
        assert_eq!(attendance.look(false), Ok(Step::Block), "no call in the time between");
        // While the application is inside, two looks give way and the third waits for its turn.
        let inside = shared.with(|_| Ok([attendance.look(false), attendance.look(false)])).expect("usable");
        assert_eq!(inside, [Ok(Step::Away), Ok(Step::Away)]);
        assert_eq!(attendance.refusals, REFUSALS_MAX);
        assert_eq!(attendance.look(false), Ok(Step::Block));
        attendance.stop.set();
        attendance.set.waker().wake();
        assert_eq!(
            attendance.look(false),
            Ok(Step::Again),
            "it must not sleep after it cleared the call to stop"
        );
    }

    /// Of an application that keeps its threads apart: what it does is known by the count of its turns, and only a visit tells whether it made progress.
    #[test]
    fn it_stands_in_for_an_application_that_is_away_or_only_sends() {
        let shared = shared::<Biased>();
        let (key, set) = shared
            .with(|state| state.waits.open_progress_thread().map_err(|error| Errno::from_os(&error)))
            .expect("opens");
        let mut attendance = Attendance {
            shared: Arc::clone(&shared),
            key,
            set,
            stop: Arc::new(Latch::new()),
            away: ABSENCE,
            work: |state| {
                state.engine.progress();
            },
            seen: 0,
            turns: 0,
            armed: false,
            glimpses: 0,
            refusals: 0,
            back: Arc::default(),
        };
        let progress = || {
            let made = shared.with(|state| {
                state.progress();
                Ok(())
            });
            made.expect("usable");
        };
        let send = || shared.with(|_| Ok(())).expect("usable");
        let is_armed = || shared.with(|state| Ok(state.waits.any_armed())).expect("usable");
        progress();
        assert_eq!([attendance.look(false), attendance.look(false)], [Ok(Step::Away), Ok(Step::Block)]);
        progress();
        assert!(!is_armed(), "whoever makes progress owes it nothing");
        assert!(attendance.set.rest(Some(Duration::ZERO)).expect("polls"), "and wakes it once");
        assert_eq!(attendance.look(true), Ok(Step::Away));
        assert!(!attendance.armed);
        for _ in 0..GLIMPSES_MAX {
            send();
            assert_eq!(attendance.look(false), Ok(Step::Away));
        }
        send();
        assert_eq!(attendance.look(false), Ok(Step::Block), "it sends, and makes no progress");
        let inside = shared.with(|_| Ok(attendance.look(true))).expect("usable");
        assert_eq!(inside, Ok(Step::Away), "nobody comes in with the application");
    }

    #[test]
    fn a_blocked_thread_of_the_application_comes_first() {
        let shared = shared::<Mutual>();
        let cntr = shared.with(|state| Ok(state.engine.cntr_open())).expect("open");
        start(&shared).expect("starts");
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                block_until(&shared, Target::Cntr(cntr), Patience::new(-1), |state| {
                    Ok((state.engine.cntr_value(cntr).0 == 1).then_some(()))
                })
            });
            while !shared.with(|state| Ok(state.waits.any_thread())).expect("usable") {
                std::thread::yield_now();
            }
            let added = shared.with(|state| {
                state.engine.cntr_add(cntr, 1);
                Ok(())
            });
            added.expect("usable");
            assert_eq!(blocked.join().expect("no panic"), Ok(Some(())));
        });
        assert_eq!(stop(&shared), Reference::Returned);
    }
}
