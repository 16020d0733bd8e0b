//! Blocking: the descriptors of queues and counters, and who wakes whom.
//!
//! Responsible for two promises. A waiter never misses: before it blocks, everything that could end its wait is armed under the domain's lock — the
//! endpoints' sockets (level-triggered), a timer set to the engine's next deadline, and an event descriptor written by whoever completes something for
//! it. And it never spins: what woke it is cleared under the same lock before the queue is looked at again.
//! Three kinds of event could slip by, and each has one answer:
//! another thread's progress takes the datagram and completes our operation: the engine calls our waker;
//! another thread's operation makes a deadline earlier than our timer: it sets our timer ([`Waits::tighten`]);
//! another waiter of the same queue clears the descriptor that was meant for both: on leaving it wakes the rest ([`Waits::leave`]).
//! Must never block with the lock held, and never read a queue itself.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use rdgram_engine::{CntrId, CqId, Instant, Sleep, Wake};
use rdgram_host::clock;
use rdgram_host::wait::WaitSet;
use rdgram_sync::Serialize;

use crate::domain::{Shared, State};
use crate::errno::{Errno, Result};

/// Names a waiter of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitKey(u32);

/// What a waiter waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// An entry in a queue.
    Cq(CqId),
    /// A change of a counter.
    Cntr(CntrId),
}

/// Until when a waiter's timer lets it sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    /// Nobody relies on the descriptor.
    No,
    /// The timer fires then.
    Until(Instant),
    /// Only datagrams and wakers.
    Forever,
}

#[derive(Debug)]
struct Waiter {
    key: WaitKey,
    target: Target,
    set: Arc<WaitSet>,
    waker: Arc<dyn Wake>,
    armed: Armed,
    /// Threads inside of [`block_until`].
    blocked: u32,
    /// The application has the descriptor: it may be polling it at any time.
    exported: bool,
    /// `fi_cq_signal` was called and no read has returned for it yet.
    signalled: bool,
    /// The counter's value (successes, errors) that the application read last.
    seen: (u64, u64),
}

/// All waiters of a domain, and the sockets that each of them watches.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    waiters: Vec<Waiter>,
    sockets: Vec<RawFd>,
    next: u32,
    /// How many waiters are armed: the one word that an operation looks at.
    armed: u32,
}

impl Waits {
    /// A new waiter, watching every socket of the domain.
    pub(crate) fn open(&mut self, target: Target) -> io::Result<(WaitKey, Arc<WaitSet>)> {
        let set = Arc::new(WaitSet::new()?);
        for &socket in &self.sockets {
            set.add(socket)?;
        }
        let key = WaitKey(self.next);
        self.next += 1;
        let waker = set.waker();
        self.waiters.push(Waiter {
            key,
            target,
            set: Arc::clone(&set),
            waker,
            armed: Armed::No,
            blocked: 0,
            exported: false,
            signalled: false,
            seen: (0, 0),
        });
        Ok((key, set))
    }

    /// Forgets a waiter.
    pub(crate) fn close(&mut self, key: WaitKey) {
        if let Some(index) = self.waiters.iter().position(|waiter| waiter.key == key) {
            let waiter = self.waiters.swap_remove(index);
            if waiter.armed != Armed::No {
                self.armed -= 1;
            }
        }
    }

    /// Watches a socket from now on.
    pub(crate) fn add_socket(&mut self, socket: RawFd) -> io::Result<()> {
        for waiter in &self.waiters {
            waiter.set.add(socket)?;
        }
        self.sockets.push(socket);
        Ok(())
    }

    /// Watches a socket no longer. Called before it is closed.
    pub(crate) fn remove_socket(&mut self, socket: RawFd) {
        self.sockets.retain(|&other| other != socket);
        for waiter in &self.waiters {
            // A descriptor that is not there is what was asked for.
            let _absent = waiter.set.remove(socket);
        }
    }

    /// The descriptor was given to the application.
    pub(crate) fn export(&mut self, key: WaitKey) {
        if let Some(waiter) = self.waiter(key) {
            waiter.exported = true;
        }
    }

    /// `fi_cq_signal`: ends one blocking read.
    pub(crate) fn signal(&mut self, key: WaitKey) {
        if let Some(waiter) = self.waiter(key) {
            waiter.signalled = true;
            waiter.waker.wake();
        }
    }

    /// The application read a counter's value.
    pub(crate) fn note_seen(&mut self, key: WaitKey, value: (u64, u64)) {
        if let Some(waiter) = self.waiter(key) {
            waiter.seen = value;
        }
    }

    /// What the application read last.
    pub(crate) fn seen(&self, key: WaitKey) -> (u64, u64) {
        self.waiters.iter().find(|waiter| waiter.key == key).map_or((0, 0), |waiter| waiter.seen)
    }

    /// Somebody relies on a descriptor: operations have to call [`State::tighten`].
    #[inline]
    pub(crate) fn any_armed(&self) -> bool {
        self.armed != 0
    }

    fn waiter(&mut self, key: WaitKey) -> Option<&mut Waiter> {
        self.waiters.iter_mut().find(|waiter| waiter.key == key)
    }

    fn take_signal(&mut self, key: WaitKey) -> bool {
        self.waiter(key).is_some_and(|waiter| core::mem::take(&mut waiter.signalled))
    }

    fn set_armed(&mut self, key: WaitKey, armed: Armed) {
        let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.key == key) else { return };
        match (waiter.armed != Armed::No, armed != Armed::No) {
            (false, true) => self.armed += 1,
            (true, false) => self.armed -= 1,
            _ => {}
        }
        waiter.armed = armed;
    }

    /// Wakes whoever sleeps longer than `sleep` allows, by its own timer.
    fn tighten(&mut self, now: Instant, sleep: Sleep) {
        let until = match sleep {
            Sleep::Not => now,
            Sleep::For(duration) => now + duration,
            Sleep::Forever => return,
        };
        for waiter in &mut self.waiters {
            let later = match waiter.armed {
                Armed::No => false,
                Armed::Until(then) => until < then,
                Armed::Forever => true,
            };
            if later {
                waiter.armed = Armed::Until(until);
                match sleep {
                    Sleep::Not => waiter.waker.wake(),
                    Sleep::For(_) | Sleep::Forever => waiter.set.arm(sleep),
                }
            }
        }
    }

    /// A thread stops waiting (or a `fi_trywait` refused): what it cleared may have been for others.
    fn leave(&mut self, key: WaitKey) -> bool {
        let Some(waiter) = self.waiter(key) else { return false };
        if waiter.blocked > 0 {
            waiter.waker.wake();
        }
        let unused = waiter.blocked == 0 && !waiter.exported;
        if unused {
            self.set_armed(key, Armed::No);
        }
        unused
    }
}

impl State {
    /// After an operation or progress while somebody may be blocked: deadlines may have moved.
    #[cold]
    pub(crate) fn tighten(&mut self) {
        let now = clock::now();
        let sleep = self.engine.sleep(now);
        self.waits.tighten(now, sleep);
    }

    /// Arms everything that can end a wait. False when there is work at hand instead.
    fn arm(&mut self, key: WaitKey, now: Instant) -> bool {
        let sleep = self.engine.sleep(now);
        let armed = match sleep {
            Sleep::Not => return false,
            Sleep::For(duration) => Armed::Until(now + duration),
            Sleep::Forever => Armed::Forever,
        };
        let Some(waiter) = self.waits.waiter(key) else { return false };
        let waker = Some(Arc::clone(&waiter.waker));
        waiter.set.arm(sleep);
        match waiter.target {
            Target::Cq(cq) => self.engine.cq_arm(cq, waker),
            Target::Cntr(cntr) => self.engine.cntr_arm(cntr, waker),
        }
        self.waits.set_armed(key, armed);
        true
    }

    fn leave(&mut self, key: WaitKey) {
        if !self.waits.leave(key) {
            return;
        }
        match self.waits.waiter(key).map(|waiter| waiter.target) {
            Some(Target::Cq(cq)) => self.engine.cq_arm(cq, None),
            Some(Target::Cntr(cntr)) => self.engine.cntr_arm(cntr, None),
            None => {}
        }
    }

    /// `fi_trywait`: true when the caller may block on the descriptor, false when `pending` says that there is something to read first.
    pub(crate) fn try_wait(&mut self, key: WaitKey, pending: impl Fn(&Self) -> bool) -> bool {
        if let Some(waiter) = self.waits.waiter(key) {
            waiter.set.clear();
        }
        self.progress();
        if !pending(self) && self.arm(key, clock::now()) {
            return true;
        }
        self.leave(key);
        false
    }
}

/// How long a call may block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Option<Instant>);

impl Patience {
    /// From libfabric's milliseconds: negative is forever.
    pub(crate) fn new(timeout_ms: i32) -> Self {
        Self(u64::try_from(timeout_ms).ok().map(|ms| clock::now() + Duration::from_millis(ms)))
    }

    fn left(self, now: Instant) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(now))
    }
}

/// What one look under the lock decided.
enum Step<R> {
    Done(Option<R>),
    Again,
    Block(Option<Duration>),
}

/// Progresses and blocks until `poll` gives something, the patience ends or a signal comes (both give `None`).
pub(crate) fn block_until<S: Serialize, R>(
    shared: &Shared<S>,
    key: WaitKey,
    set: &WaitSet,
    patience: Patience,
    mut poll: impl FnMut(&mut State) -> Result<Option<R>>,
) -> Result<Option<R>> {
    let mut blocked = false;
    loop {
        let was_blocked = core::mem::take(&mut blocked);
        let step = shared.with(|state| {
            if let (true, Some(waiter)) = (was_blocked, state.waits.waiter(key)) {
                waiter.blocked -= 1;
            }
            let step = look(state, key, set, patience, &mut poll);
            match (&step, state.waits.waiter(key)) {
                (Ok(Step::Block(_)), Some(waiter)) => waiter.blocked += 1,
                (Ok(Step::Again), _) => {}
                _ => state.leave(key),
            }
            step
        })?;
        match step {
            Step::Done(result) => return Ok(result),
            Step::Again => {}
            Step::Block(limit) => {
                blocked = true;
                // Readable, timed out or interrupted: the next look tells.
                set.block(limit).map_err(|error| Errno::from_os(&error))?;
            }
        }
    }
}

fn look<R>(
    state: &mut State,
    key: WaitKey,
    set: &WaitSet,
    patience: Patience,
    poll: &mut impl FnMut(&mut State) -> Result<Option<R>>,
) -> Result<Step<R>> {
    set.clear();
    state.progress();
    if let Some(result) = poll(state)? {
        return Ok(Step::Done(Some(result)));
    }
    let now = clock::now();
    let left = patience.left(now);
    if state.waits.take_signal(key) || left == Some(Duration::ZERO) {
        return Ok(Step::Done(None));
    }
    Ok(if state.arm(key, now) { Step::Block(left) } else { Step::Again })
}
