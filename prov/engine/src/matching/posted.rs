//! Posted receives: the oldest one that accepts a message. In an index each receive has its bin, and a message looks into one bin of every kind of receive.

use super::index::{Bin, Index, KINDS_MAX, Kind, PATIENCE};
use super::line::{Keyed, Line};
use super::{PeerId, Posted};
use crate::slab::Key;

impl Keyed for Posted {
    fn key(&self) -> Key {
        self.key
    }
}

/// How a receive is searched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// By walking, until that takes long.
    #[default]
    Walk,
    /// In the index, which holds all receives.
    Index,
    /// By walking: there are receives of too many kinds. Until few are left.
    WalkOn,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PostedQueue {
    line: Line<Posted>,
    way: Way,
    by_kind: ByKind,
}

impl PostedQueue {
    #[inline]
    pub(super) fn find(&mut self, source: PeerId, tag: u64) -> Option<Posted> {
        if self.line.is_long() {
            return self.find_among_many(source, tag);
        }
        self.line.few().find(|posted| posted.accepts(source, tag)).copied()
    }

    #[inline]
    pub(super) fn push(&mut self, posted: Posted) {
        if !self.line.push_few(posted) {
            self.push_many(posted);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, key: Key) -> bool {
        if self.line.is_long() {
            return self.remove_of_many(key);
        }
        self.line.remove_few(key).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Posted> {
        self.line.iter()
    }

    #[cold]
    fn find_among_many(&mut self, source: PeerId, tag: u64) -> Option<Posted> {
        if self.way != Way::Index {
            let accepts = |posted: &&Posted| posted.accepts(source, tag);
            let found = self.line.iter().take(PATIENCE).find(accepts).copied();
            if found.is_some() || self.line.len() <= PATIENCE {
                return found;
            }
            if self.way == Way::WalkOn || !self.make_index() {
                return self.line.iter().skip(PATIENCE).find(accepts).copied();
            }
        }
        let place = self.by_kind.first(&self.line, source, tag)?;
        Some(*self.line.at(place))
    }

    /// Makes the index. False when there are too many kinds of receives for one.
    fn make_index(&mut self) -> bool {
        let made = self.line.iter().all(|posted| self.by_kind.add(*posted));
        if made {
            self.way = Way::Index;
        } else {
            self.forget_index(Way::WalkOn);
        }
        made
    }

    #[cold]
    fn push_many(&mut self, posted: Posted) {
        self.line.push_many(posted);
        if self.way != Way::Index {
            return;
        }
        if !self.by_kind.index.is_useful(self.line.len()) {
            self.forget_index(Way::Walk);
        } else if !self.by_kind.add(posted) {
            self.forget_index(Way::WalkOn);
        }
    }

    #[cold]
    fn remove_of_many(&mut self, key: Key) -> bool {
        let Some(posted) = self.line.remove_many(key) else { return false };
        if !self.line.is_long() {
            self.forget_index(Way::Walk);
        } else if self.way == Way::Index {
            self.by_kind.remove(posted);
        }
        true
    }

    fn forget_index(&mut self, way: Way) {
        self.way = way;
        self.by_kind.index.clear();
        self.by_kind.kinds.clear();
    }
}

/// The index, and the kinds of the receives in it, with how many there are of each.
#[derive(Debug, Default)]
struct ByKind {
    index: Index,
    kinds: Vec<(Kind, usize)>,
}

impl ByKind {
    /// False when the receive would be of one kind too many.
    fn add(&mut self, posted: Posted) -> bool {
        let kind = Kind::of(posted.source, posted.tag);
        match self.kinds.iter().position(|(other, _)| *other == kind) {
            Some(at) => self.kinds[at].1 += 1,
            None if self.kinds.len() == KINDS_MAX => return false,
            None => self.kinds.push((kind, 1)),
        }
        self.index.push(Bin::of(posted.source, posted.tag), posted.key.place());
        true
    }

    fn remove(&mut self, posted: Posted) {
        self.index.remove(Bin::of(posted.source, posted.tag), posted.key.place());
        let kind = Kind::of(posted.source, posted.tag);
        let at = self.kinds.iter().position(|(other, _)| *other == kind).expect("counted when it was added");
        self.kinds[at].1 -= 1;
        if self.kinds[at].1 == 0 {
            self.kinds.swap_remove(at);
        }
    }

    /// The place of the oldest receive that accepts a message.
    fn first(&mut self, line: &Line<Posted>, source: PeerId, tag: u64) -> Option<u32> {
        let places = self.kinds.iter().filter_map(|(kind, _)| self.index.first(kind.bin(source, tag)));
        places.min_by_key(|place| line.turn(*place))
    }
}
