//! Completion queues and counters: where operations report. Entries are never dropped: the queue grows.

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

/// A completion queue.
#[derive(Debug, Default)]
pub(crate) struct CompletionQueue {
    entries: VecDeque<Entry>,
    waker: Option<Arc<dyn Wake>>,
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
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
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

    pub(crate) fn arm(&mut self, waker: Option<Arc<dyn Wake>>) {
        self.waker = waker;
    }
}

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    successes: u64,
    errors: u64,
    changes: u64,
    waker: Option<Arc<dyn Wake>>,
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
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn arm(&mut self, waker: Option<Arc<dyn Wake>>) {
        self.waker = waker;
    }
}
