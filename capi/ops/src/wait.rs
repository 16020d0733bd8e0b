//! Blocking: the descriptors of queues and counters, and who wakes whom.
//!
//! Responsible for two promises. A waiter never misses: before it blocks, everything that could end its wait is armed under the domain's lock — the
//! endpoints' sockets (level-triggered), a timer set to the engine's next deadline, and an event descriptor written by whoever completes something for
//! it. And it never spins: what woke it is cleared under the same lock before the queue is looked at again.
//! Four kinds of event could slip by, and each has one answer:
//! another thread's progress takes the datagram and completes our operation: the engine calls our waker;
//! another thread's operation makes a deadline earlier than our timer: it sets our timer ([`Waits::tighten`]);
//! another thread waits for the same object and clears what was meant for both: each blocked thread has a descriptor of its own ([`Waits::claim`]), and
//! the application's stays readable after a `fi_trywait` that refused;
//! a panic shuts the domain while threads are blocked: all are woken ([`Waits::wake_all`]).
//! Must never block with the lock held, and never read a queue itself.

use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An entry in a queue.
    Cq(CqId),
    /// A change of a counter.
    Cntr(CntrId),
    /// Only what the sockets and the timer bring.
    Work,
}

/// Who sleeps on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Nobody: it is kept for the next thread that blocks.
    Nobody,
    /// One thread inside of [`block_until`].
    Thread,
    /// The application has it: it may be polling it at any time.
    Application,
    /// The domain's progress thread.
    ProgressThread,
    /// Any number of threads that nap ([`crate::idle`]): none of them relies on anything but the sockets, and none clears anything.
    Nappers,
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
    user: User,
    target: Target,
    set: Arc<WaitSet>,
    waker: Arc<dyn Wake>,
    armed: Armed,
    /// `fi_cq_signal` was called for the thread.
    signalled: bool,
    /// Of a counter: what the application read last.
    seen: Seen,
}

/// What an application knows of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What `fi_cntr_read` returned last.
    pub(crate) successes: u64,
    /// What `fi_cntr_readerr` returned last.
    pub(crate) errors: u64,
}

/// All waiters of a domain, and the sockets that each of them watches.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    waiters: Vec<Waiter>,
    sockets: Vec<RawFd>,
    next: u32,
    /// How many waiters are armed: the one word that an operation looks at.
    armed: u32,
    /// Queues that were signalled while nobody was blocked on them.
    signalled: Vec<CqId>,
}

impl Waits {
    /// A new waiter, watching every socket of the domain.
    fn open(&mut self, user: User, target: Target) -> io::Result<(WaitKey, Arc<WaitSet>)> {
        let set = Arc::new(WaitSet::new()?);
        for &socket in &self.sockets {
            set.add(socket)?;
        }
        let key = WaitKey(self.next);
        self.next += 1;
        let waker = set.waker();
        self.waiters.push(Waiter {
            key,
            user,
            target,
            set: Arc::clone(&set),
            waker,
            armed: Armed::No,
            signalled: false,
            seen: Seen::default(),
        });
        Ok((key, set))
    }

    /// The waiter of the domain's progress thread.
    pub(crate) fn open_progress_thread(&mut self) -> io::Result<(WaitKey, Arc<WaitSet>)> {
        self.open(User::ProgressThread, Target::Work)
    }

    /// What threads nap on.
    pub(crate) fn nap_set(&mut self) -> io::Result<Arc<WaitSet>> {
        match self.waiters.iter().find(|waiter| waiter.user == User::Nappers) {
            Some(waiter) => Ok(Arc::clone(&waiter.set)),
            None => Ok(self.open(User::Nappers, Target::Work)?.1),
        }
    }

    /// A waiter for one blocked thread alone, until [`State::give_back`].
    fn claim(&mut self, target: Target) -> io::Result<(WaitKey, Arc<WaitSet>)> {
        let Some(spare) = self.waiters.iter_mut().find(|waiter| waiter.user == User::Nobody) else {
            return self.open(User::Thread, target);
        };
        spare.user = User::Thread;
        spare.target = target;
        spare.signalled = false;
        Ok((spare.key, Arc::clone(&spare.set)))
    }

    /// Forgets a waiter.
    pub(crate) fn close(&mut self, key: WaitKey) {
        self.set_armed(key, Armed::No);
        self.waiters.retain(|waiter| waiter.key != key);
    }

    /// Forgets a queue.
    pub(crate) fn close_cq(&mut self, cq: CqId) {
        self.signalled.retain(|&other| other != cq);
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

    /// `fi_cq_signal`: ends every blocking read of the queue, or the next one when there is none.
    pub(crate) fn signal(&mut self, cq: CqId) {
        let mut ended = false;
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.target == Target::Cq(cq)) {
            match waiter.user {
                User::Nobody | User::ProgressThread | User::Nappers => continue,
                User::Thread => {
                    waiter.signalled = true;
                    ended = true;
                }
                User::Application => {}
            }
            waiter.waker.wake();
        }
        if !ended && !self.signalled.contains(&cq) {
            self.signalled.push(cq);
        }
    }

    /// The application read a counter.
    pub(crate) fn note_seen(&mut self, key: WaitKey, note: impl FnOnce(&mut Seen)) {
        if let Some(waiter) = self.waiter(key) {
            note(&mut waiter.seen);
        }
    }

    /// What the application read last.
    pub(crate) fn seen(&self, key: WaitKey) -> Seen {
        self.waiters.iter().find(|waiter| waiter.key == key).map_or_else(Seen::default, |waiter| waiter.seen)
    }

    /// Somebody relies on a descriptor: operations have to call [`State::tighten`].
    #[inline]
    pub(crate) fn any_armed(&self) -> bool {
        self.armed != 0
    }

    /// Some thread is inside of a blocking call: it makes progress when there is something to do.
    pub(crate) fn any_thread(&self) -> bool {
        self.waiters.iter().any(|waiter| waiter.user == User::Thread)
    }

    /// Wakes everybody, whatever they wait for.
    pub(crate) fn wake_all(&self) {
        for waiter in &self.waiters {
            waiter.waker.wake();
        }
    }

    fn waiter(&mut self, key: WaitKey) -> Option<&mut Waiter> {
        self.waiters.iter_mut().find(|waiter| waiter.key == key)
    }

    fn take_signal(&mut self, key: Option<WaitKey>, target: Target) -> bool {
        let waiter = key.and_then(|key| self.waiter(key));
        if waiter.is_some_and(|waiter| core::mem::take(&mut waiter.signalled)) {
            return true;
        }
        let Target::Cq(cq) = target else { return false };
        let place = self.signalled.iter().position(|&other| other == cq);
        place.map(|place| self.signalled.swap_remove(place)).is_some()
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
    pub(crate) fn arm(&mut self, key: WaitKey, now: Instant) -> bool {
        let sleep = self.engine.sleep(now);
        let armed = match sleep {
            Sleep::Not => return false,
            Sleep::For(duration) => Armed::Until(now + duration),
            Sleep::Forever => Armed::Forever,
        };
        let Some(waiter) = self.waits.waiter(key) else { return false };
        let waker = Arc::clone(&waiter.waker);
        waiter.set.arm(sleep);
        match waiter.target {
            Target::Cq(cq) => self.engine.cq_arm(cq, waker),
            Target::Cntr(cntr) => self.engine.cntr_arm(cntr, waker),
            Target::Work => {}
        }
        self.waits.set_armed(key, armed);
        true
    }

    /// The application makes progress again: the thread that stood in for it has to look after that.
    #[cold]
    pub(crate) fn dismiss(&mut self, key: WaitKey, back: &AtomicU64) {
        self.disarm(key);
        back.store(self.calls(), Ordering::Release);
        if let Some(waiter) = self.waits.waiter(key) {
            waiter.waker.wake();
        }
    }

    /// Nobody relies on the descriptor for the time being.
    pub(crate) fn disarm(&mut self, key: WaitKey) {
        self.waits.set_armed(key, Armed::No);
        let Some(waiter) = self.waits.waiters.iter().find(|waiter| waiter.key == key) else { return };
        match waiter.target {
            Target::Cq(cq) => self.engine.cq_disarm(cq, &waiter.waker),
            Target::Cntr(cntr) => self.engine.cntr_disarm(cntr, &waiter.waker),
            Target::Work => {}
        }
    }

    /// A thread does not block any more.
    fn give_back(&mut self, key: WaitKey) {
        self.disarm(key);
        if let Some(waiter) = self.waits.waiter(key) {
            waiter.user = User::Nobody;
        }
    }

    /// `fi_trywait`: true when the caller may block on the descriptor, false when `pending` says that there is something to read first. Then the
    /// descriptor is readable: what was cleared here may have been for another thread that polls it.
    pub(crate) fn try_wait(&mut self, key: WaitKey, pending: impl Fn(&Self) -> bool) -> bool {
        if let Some(waiter) = self.waits.waiter(key) {
            waiter.set.clear();
        }
        self.progress();
        if !pending(self) && self.arm(key, clock::now()) {
            return true;
        }
        self.disarm(key);
        if let Some(waiter) = self.waits.waiter(key) {
            waiter.waker.wake();
        }
        false
    }
}

/// The application's descriptor for a queue or a counter: made when it is first asked for, since most are only read.
#[derive(Debug, Default)]
pub(crate) struct Descriptor(OnceLock<(WaitKey, Arc<WaitSet>)>);

impl Descriptor {
    /// The descriptor and the name of its waiter.
    pub(crate) fn get<S: Serialize>(&self, shared: &Shared<S>, target: Target) -> Result<(WaitKey, RawFd)> {
        if self.0.get().is_none() {
            shared.with(|state| {
                // Another thread may have been here between the look and the lock.
                if self.0.get().is_none() {
                    let made = state.waits.open(User::Application, target);
                    // Empty, as was just seen under the lock.
                    let _set = self.0.set(made.map_err(|error| Errno::from_os(&error))?);
                }
                Ok(())
            })?;
        }
        self.0.get().map(|(key, set)| (*key, set.fd())).ok_or(Errno::OTHER)
    }

    /// The name of its waiter, when the application has it.
    pub(crate) fn key(&self) -> Option<WaitKey> {
        self.0.get().map(|(key, _)| *key)
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
    target: Target,
    patience: Patience,
    mut poll: impl FnMut(&mut State) -> Result<Option<R>>,
) -> Result<Option<R>> {
    let mut place: Option<(WaitKey, Arc<WaitSet>)> = None;
    let mut broken: Option<Errno> = None;
    loop {
        let step = shared.with(|state| {
            let step = match broken {
                None => look(state, &mut place, target, patience, &mut poll),
                Some(errno) => Err(errno),
            };
            if let (Ok(Step::Done(_)) | Err(_), Some((key, _))) = (&step, &place) {
                state.give_back(*key);
            }
            step
        })?;
        match (step, &place) {
            (Step::Done(result), _) => return Ok(result),
            (Step::Block(limit), Some((_, set))) => {
                // Readable, timed out or interrupted: the next look tells.
                broken = set.block(limit).err().map(|error| Errno::from_os(&error));
            }
            (Step::Again, _) | (Step::Block(_), None) => {}
        }
    }
}

fn look<R>(
    state: &mut State,
    place: &mut Option<(WaitKey, Arc<WaitSet>)>,
    target: Target,
    patience: Patience,
    poll: &mut impl FnMut(&mut State) -> Result<Option<R>>,
) -> Result<Step<R>> {
    if let Some((_, set)) = place {
        set.clear();
    }
    state.progress();
    if let Some(result) = poll(state)? {
        return Ok(Step::Done(Some(result)));
    }
    let now = clock::now();
    let left = patience.left(now);
    let key = place.as_ref().map(|(key, _)| *key);
    if state.waits.take_signal(key, target) || left == Some(Duration::ZERO) {
        return Ok(Step::Done(None));
    }
    let key = match key {
        Some(key) => key,
        None => {
            let claimed = state.waits.claim(target).map_err(|error| Errno::from_os(&error))?;
            // What its last user left behind.
            claimed.1.clear();
            place.insert(claimed).0
        }
    };
    Ok(if state.arm(key, now) { Step::Block(left) } else { Step::Again })
}
