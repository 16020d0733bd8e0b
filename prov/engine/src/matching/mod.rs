//! Which message meets which receive: two queues, posted receives and unexpected messages, each in order of arrival.
//!
//! Tagged and untagged traffic never meet, so each kind has its own pair of queues. What decides a match is kept in the queue itself, so that a search touches one array.
//! A queue that is long, and in which a search does not end soon, gets an index: the cost of a match does not grow with the queue then, in whichever order messages are taken.
//! This module sees no buffer and no packet.

mod index;
mod line;
mod links;
mod posted;
#[cfg(test)]
mod tests;
mod unexpected;

use rdgram_proto::{Defect, planted};

use self::posted::PostedQueue;
use self::unexpected::UnexpectedQueue;
use crate::slab::Key;
use crate::types::TagMatch;

/// A peer of an endpoint: index into its peer table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(crate) u32);

/// A posted receive, as far as matching is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    pub(crate) key: Key,
    /// From whom, `None` for anybody.
    pub(crate) source: Option<PeerId>,
    pub(crate) tag: TagMatch,
}

/// An unexpected message, as far as matching is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    pub(crate) key: Key,
    pub(crate) source: PeerId,
    pub(crate) tag: u64,
}

impl Posted {
    fn accepts(&self, source: PeerId, tag: u64) -> bool {
        self.tag.accepts(tag) && self.source.is_none_or(|wanted| wanted == source)
    }
}

impl Unexpected {
    fn is_for(&self, source: Option<PeerId>, tag: TagMatch) -> bool {
        tag.accepts(self.tag) && source.is_none_or(|wanted| wanted == self.source)
    }
}

/// The two queues of one kind of traffic. For untagged messages every tag is 0 and nothing is ignored.
#[derive(Debug, Default)]
pub(crate) struct MatchQueue {
    posted: PostedQueue,
    unexpected: UnexpectedQueue,
}

impl MatchQueue {
    /// The oldest posted receive that accepts a message. It stays in the queue.
    pub(crate) fn find_posted(&mut self, source: PeerId, tag: u64) -> Option<Posted> {
        self.posted.find(source, tag)
    }

    /// No message waits for a receive.
    #[inline]
    pub(crate) fn has_no_unexpected(&self) -> bool {
        self.unexpected.is_empty()
    }

    /// The oldest unexpected message that a receive accepts. It stays in the queue.
    pub(crate) fn find_unexpected(&mut self, source: Option<PeerId>, tag: TagMatch) -> Option<Unexpected> {
        self.unexpected.find(source, tag)
    }

    pub(crate) fn push_posted(&mut self, posted: Posted) {
        self.posted.push(posted);
    }

    pub(crate) fn push_unexpected(&mut self, message: Unexpected) {
        if planted(Defect::MatchOutOfOrder) {
            if let Some(last) = self.unexpected.last().copied() {
                self.unexpected.remove(last.key);
                self.unexpected.push(message);
                return self.unexpected.push(last);
            }
        }
        self.unexpected.push(message);
    }

    /// Puts an unexpected message before all others: a defect that is planted.
    pub(crate) fn push_unexpected_first(&mut self, message: Unexpected) {
        let others: Vec<Unexpected> = self.unexpected.iter().copied().collect();
        for other in &others {
            self.unexpected.remove(other.key);
        }
        self.unexpected.push(message);
        for other in others {
            self.unexpected.push(other);
        }
    }

    /// Takes a posted receive out. False when it is not there.
    pub(crate) fn remove_posted(&mut self, key: Key) -> bool {
        self.posted.remove(key)
    }

    /// Takes an unexpected message out. False when it is not there.
    pub(crate) fn remove_unexpected(&mut self, key: Key) -> bool {
        self.unexpected.remove(key)
    }

    /// All posted receives, oldest first.
    pub(crate) fn posted(&self) -> impl Iterator<Item = &Posted> {
        self.posted.iter()
    }
}

/// An entry was compared, or a bin looked into: what matching costs. Only tests count.
#[inline]
fn count_step() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}
