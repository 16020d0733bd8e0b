//! Completion queues and counters: where operations report, and who is woken when they do. Entries are never dropped: the queue grows.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::datapath::Wake;
use crate::types::{Cause, Completion, Failure};

/// An entry of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Success(Completion),
    Failure(Failure),
}

/// Who is to be woken by the next change, each once.
#[derive(Debug, Default)]
struct Wakers(Vec<Arc<dyn Wake>>);

impl Wakers {
    fn arm(&mut self, waker: Arc<dyn Wake>) {
        if !self.0.iter().any(|other| Arc::ptr_eq(other, &waker)) {
            self.0.push(waker);
        }
    }

    fn disarm(&mut self, waker: &Arc<dyn Wake>) {
        self.0.retain(|other| !Arc::ptr_eq(other, waker));
    }

    #[inline]
    fn wake(&mut self) {
        if !self.0.is_empty() {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// A completion queue.
#[derive(Debug, Default)]
pub(crate) struct CompletionQueue {
    entries: VecDeque<Entry>,
    wakers: Wakers,
    /// Senders of the entries that failed for want of an address, in order; and that of the last such entry taken.
    strangers: VecDeque<SocketAddr>,
    stranger: Option<SocketAddr>,
    /// Endpoints bound.
    pub(crate) bound: u32,
}

impl CompletionQueue {
    pub(crate) fn new(size: usize) -> Self {
        Self { entries: VecDeque::with_capacity(size), ..Self::default() }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        self.wakers.wake();
    }

    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// What came whole from a sender that has no address here.
    pub(crate) fn push_from_stranger(&mut self, completion: Completion, sender: SocketAddr) {
        self.strangers.push_back(sender);
        self.push(Entry::Failure(Failure { completion, overflow: 0, cause: Cause::NoAddress }));
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        if matches!(entry, Some(Entry::Failure(Failure { cause: Cause::NoAddress, .. }))) {
            self.stranger = self.strangers.pop_front();
        }
        entry
    }

    /// Who sent what the last entry taken with [`Cause::NoAddress`] is about.
    pub(crate) fn stranger(&self) -> Option<SocketAddr> {
        self.stranger
    }

    pub(crate) fn arm(&mut self, waker: Arc<dyn Wake>) {
        self.wakers.arm(waker);
    }

    pub(crate) fn disarm(&mut self, waker: &Arc<dyn Wake>) {
        self.wakers.disarm(waker);
    }
}

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    successes: u64,
    errors: u64,
    changes: u64,
    wakers: Wakers,
    /// Endpoints bound.
    pub(crate) bound: u32,
}

impl Counter {
    pub(crate) fn values(&self) -> (u64, u64) {
        (self.successes, self.errors)
    }

    /// How often it was changed: a value that was set back and counted up again looks unchanged, this does not.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn set(&mut self, successes: u64, errors: u64) {
        self.successes = successes;
        self.errors = errors;
        self.changes = self.changes.wrapping_add(1);
        self.wakers.wake();
    }

    pub(crate) fn arm(&mut self, waker: Arc<dyn Wake>) {
        self.wakers.arm(waker);
    }

    pub(crate) fn disarm(&mut self, waker: &Arc<dyn Wake>) {
        self.wakers.disarm(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everybody_armed_is_woken_once_by_a_change() {
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let wakers = counts.clone().map(|count| count as Arc<dyn Wake>);
        let mut counter = Counter::default();
        for waker in &wakers {
            counter.arm(Arc::clone(waker));
        }
        counter.arm(Arc::clone(&wakers[0]));
        counter.disarm(&wakers[2]);
        counter.set(1, 0);
        counter.set(2, 0);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1, 0]);
    }
}
