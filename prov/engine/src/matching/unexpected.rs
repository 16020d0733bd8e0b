//! Unexpected messages: the oldest one that a receive accepts. A kind of receive whose searches take long has an index of its own, of all messages.

use super::index::{Bin, Index, KINDS_MAX, Kind, PATIENCE};
use super::line::{Keyed, Line};
use super::{PeerId, Unexpected};
use crate::slab::Key;
use crate::types::TagMatch;

impl Keyed for Unexpected {
    fn key(&self) -> Key {
        self.key
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnexpectedQueue {
    line: Line<Unexpected>,
    /// The kinds of receives that have an index.
    kinds: Vec<Kind>,
    /// The index of each, and behind these such as were used before, empty, for their memory.
    indexes: Vec<Index>,
}

impl UnexpectedQueue {
    #[inline]
    pub(super) fn find(&mut self, source: Option<PeerId>, tag: TagMatch) -> Option<Unexpected> {
        if self.line.is_long() {
            return self.find_among_many(source, tag);
        }
        self.line.few().find(|message| message.is_for(source, tag)).copied()
    }

    #[inline]
    pub(super) fn push(&mut self, message: Unexpected) {
        if !self.line.push_few(message) {
            self.push_many(message);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> bool {
        if self.line.is_long() {
            return self.remove_of_many(key);
        }
        self.line.remove_few(key).is_some()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.line.len() == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unexpected> {
        self.line.iter()
    }

    pub(super) fn last(&self) -> Option<&Unexpected> {
        self.line.last()
    }

    #[cold]
    fn find_among_many(&mut self, source: Option<PeerId>, tag: TagMatch) -> Option<Unexpected> {
        let kind = Kind::of(source, tag);
        let mut known = self.kinds.iter().position(|other| *other == kind);
        if known.is_none() {
            let accepts = |message: &&Unexpected| message.is_for(source, tag);
            let found = self.line.iter().take(PATIENCE).find(accepts).copied();
            if found.is_some() || self.line.len() <= PATIENCE {
                return found;
            }
            known = self.make_index(kind);
            if known.is_none() {
                return self.line.iter().skip(PATIENCE).find(accepts).copied();
            }
        }
        let place = self.indexes[known?].first(Bin::of(source, tag))?;
        Some(*self.line.at(place))
    }

    /// Makes an index for one more kind of receive: which one it is. `None` when there are too many.
    fn make_index(&mut self, kind: Kind) -> Option<usize> {
        let at = self.kinds.len();
        if at == KINDS_MAX {
            return None;
        }
        if self.indexes.len() == at {
            self.indexes.push(Index::default());
        }
        for message in self.line.iter() {
            self.indexes[at].push(kind.bin(message.source, message.tag), message.key.place());
        }
        self.kinds.push(kind);
        Some(at)
    }

    #[cold]
    fn push_many(&mut self, message: Unexpected) {
        self.line.push_many(message);
        let entries = self.line.len();
        for at in (0..self.kinds.len()).rev() {
            if self.indexes[at].is_useful(entries) {
                self.indexes[at].push(self.kinds[at].bin(message.source, message.tag), message.key.place());
            } else {
                self.indexes[at].clear();
                self.kinds.swap_remove(at);
                self.indexes.swap(at, self.kinds.len());
            }
        }
    }

    #[cold]
    fn remove_of_many(&mut self, key: Key) -> bool {
        let Some(message) = self.line.remove_many(key) else { return false };
        if !self.line.is_long() {
            self.kinds.clear();
            self.indexes.iter_mut().for_each(Index::clear);
        }
        for (kind, index) in self.kinds.iter().zip(&mut self.indexes) {
            index.remove(kind.bin(message.source, message.tag), message.key.place());
        }
        true
    }
}
