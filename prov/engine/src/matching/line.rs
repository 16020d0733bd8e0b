//! Entries in order of arrival, each taken out by its key. While they are few they lie in an array that is walked: nothing is faster, and a queue is nearly always that short.
//! When they are many they are nodes of a list, each at the place that its key names, and none is walked to.
//! Knows nothing of sources and tags.

use std::collections::VecDeque;

use super::count_step;
use super::links::{Ends, Links};
use crate::slab::Key;

/// Most entries of the array: to walk it costs less than to look into an index up to several times this many, if it is in the cache.
pub(super) const FEW_MAX: usize = 128;
/// Fewer entries than this go back to the array: far enough below, so that a queue that grows and shrinks a little does not move to and fro.
pub(super) const MANY_MIN: usize = 32;

/// What a line holds.
pub(super) trait Keyed: Copy {
    fn key(&self) -> Key;
}

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    /// `None` where no entry of the line is.
    entry: Option<T>,
    turn: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// All entries, when they are few.
    few: VecDeque<T>,
    /// The number of entries in `nodes`, all of them when they are many, else 0.
    many: usize,
    nodes: Vec<Node<T>>,
    order: Links,
    ends: Ends,
    /// Nodes ever made.
    turns: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            few: VecDeque::new(),
            many: 0,
            nodes: Vec::new(),
            order: Links::default(),
            ends: Ends::EMPTY,
            turns: 0,
        }
    }
}

impl<T: Keyed> Line<T> {
    /// The entries are many: they have places.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.many > 0
    }

    pub(super) fn len(&self) -> usize {
        self.few.len() + self.many
    }

    /// The entries of a line that is not long, oldest first.
    #[inline]
    pub(super) fn few(&self) -> impl Iterator<Item = &T> {
        self.few.iter().inspect(|_| count_step())
    }

    /// All entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let many = self.order.iter(self.ends).map(|place| self.at(place)).inspect(|_| count_step());
        self.few().chain(many)
    }

    /// The youngest entry.
    pub(super) fn last(&self) -> Option<&T> {
        self.ends.last().map_or_else(|| self.few.back(), |place| Some(self.at(place)))
    }

    /// The entry at a place of a long line.
    pub(super) fn at(&self, place: u32) -> &T {
        self.nodes[place as usize].entry.as_ref().expect("a place we hold is taken")
    }

    /// Grows with each entry of a long line: says which of two places came first.
    pub(super) fn turn(&self, place: u32) -> u64 {
        self.nodes[place as usize].turn
    }

    /// Appends an entry while there are few. False when there are many, or it would make them many: then it is for `push_many`.
    #[inline]
    pub(super) fn push_few(&mut self, entry: T) -> bool {
        let few = !self.is_long() && self.few.len() < FEW_MAX;
        if few {
            self.few.push_back(entry);
        }
        few
    }

    /// Takes the entry with this key out of a line that is not long.
    #[inline]
    pub(super) fn remove_few(&mut self, key: Key) -> Option<T> {
        let index = self.few.iter().inspect(|_| count_step()).position(|entry| entry.key() == key)?;
        self.few.remove(index)
    }

    /// Appends an entry to many.
    pub(super) fn push_many(&mut self, entry: T) {
        let mut few = core::mem::take(&mut self.few);
        for entry in few.drain(..).chain([entry]) {
            let place = entry.key().place();
            let needed = place as usize + 1;
            if self.nodes.len() < needed {
                self.nodes.resize(needed, Node { entry: None, turn: 0 });
            }
            self.turns += 1;
            self.nodes[place as usize] = Node { entry: Some(entry), turn: self.turns };
            self.order.push(&mut self.ends, place);
            self.many += 1;
        }
        self.few = few;
    }

    /// Takes the entry with this key out of a long line, which is not long any more when few are left.
    pub(super) fn remove_many(&mut self, key: Key) -> Option<T> {
        count_step();
        let place = key.place();
        let node = self.nodes.get_mut(place as usize)?;
        let entry = node.entry.take_if(|entry| entry.key() == key)?;
        self.order.remove(&mut self.ends, place);
        self.many -= 1;
        if self.many < MANY_MIN {
            let nodes = &mut self.nodes;
            let left = self.order.iter(self.ends).filter_map(|place| nodes[place as usize].entry.take());
            self.few.extend(left);
            self.ends = Ends::EMPTY;
            self.many = 0;
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for Key {
        fn key(&self) -> Key {
            *self
        }
    }

    fn push(line: &mut Line<Key>, key: u32) {
        if !line.push_few(Key::from_wire(key)) {
            line.push_many(Key::from_wire(key));
        }
    }

    fn keys(line: &Line<Key>) -> Vec<u32> {
        line.iter().map(|key| key.to_wire()).collect()
    }

    #[test]
    fn grows_and_shrinks_in_order() {
        let many = u32::try_from(FEW_MAX).unwrap() + 1;
        let few = u32::try_from(MANY_MIN).unwrap() - 1;
        let mut line = Line::default();
        for _ in 0..2 {
            (0..many - 1).for_each(|key| push(&mut line, key));
            assert!(!line.is_long());
            push(&mut line, many - 1);
            assert!(line.is_long());
            assert!(keys(&line).into_iter().eq(0..many));
            assert_eq!((line.len(), line.last()), (FEW_MAX + 1, Some(&Key::from_wire(many - 1))));
            for key in 0..many - few {
                assert!(line.is_long());
                assert_eq!(line.remove_many(Key::from_wire(key)), Some(Key::from_wire(key)));
            }
            assert!(!line.is_long());
            assert!(keys(&line).into_iter().eq(many - few..many));
            assert_eq!((line.len(), line.last()), (MANY_MIN - 1, Some(&Key::from_wire(many - 1))));
            for key in many - few..many {
                assert!(line.remove_few(Key::from_wire(key)).is_some());
            }
        }
    }

    #[test]
    fn a_key_of_another_generation_names_nothing() {
        let mut line = Line::default();
        (0..=u32::try_from(FEW_MAX).unwrap()).for_each(|key| push(&mut line, key));
        assert_eq!(line.remove_many(Key::from_wire(5 | 1 << 24)), None);
        assert_eq!(line.remove_many(Key::from_wire(1 << 20)), None);
        assert_eq!(line.remove_many(Key::from_wire(5)), Some(Key::from_wire(5)));
        assert_eq!(line.remove_many(Key::from_wire(5)), None);
    }
}
