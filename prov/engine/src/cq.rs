//! Completion queues and counters: where operations report. Entries are never dropped: the queue grows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::datapath::Wake;
use crate::types::{Completion, Failure};

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
    /// Endpoints bound.
    pub(crate) bound: u32,
}

impl CompletionQueue {
    pub(crate) fn new(size: usize) -> Self {
        Self { entries: VecDeque::with_capacity(size), waker: None, bound: 0 }
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

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.entries.pop_front()
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
