//! Finds the oldest of the entries that are alike to a search, however many there are: a hash table of bins, and in each bin a list.
//!
//! Ignored bits are part of a bin's name, not a reason to walk: MPI libraries keep bits for themselves in the tag, and ignore them in every receive.

use core::hash::BuildHasher;
use std::hash::RandomState;

use hashbrown::HashTable;

use super::links::{Ends, Links};
use super::{PeerId, count_step};
use crate::types::TagMatch;

/// Kinds of receives that are told apart in one queue. MPI has four: with a source and a tag, without one of them, and without both.
pub(super) const KINDS_MAX: usize = 8;
/// Entries that are walked before an index is made: most searches end at one of the first.
pub(super) const PATIENCE: usize = 32;

/// What a receive compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    sourced: bool,
    ignore: u64,
}

impl Kind {
    pub(super) fn of(source: Option<PeerId>, tag: TagMatch) -> Self {
        Self { sourced: source.is_some(), ignore: tag.ignore }
    }

    /// The bin of the receives of this kind that accept a message.
    pub(super) fn bin(self, source: PeerId, tag: u64) -> Bin {
        Bin::of(self.sourced.then_some(source), TagMatch { tag, ignore: self.ignore })
    }
}

/// All receives of one kind that accept the same messages, or all messages that they accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bin {
    source: Option<PeerId>,
    /// Without the bits that are ignored.
    tag: u64,
    ignore: u64,
}

impl Bin {
    /// The bin of a receive.
    pub(super) fn of(source: Option<PeerId>, tag: TagMatch) -> Self {
        Self { source, tag: tag.tag & !tag.ignore, ignore: tag.ignore }
    }
}

#[derive(Debug)]
struct Bucket {
    bin: Bin,
    ends: Ends,
}

/// See the module. The hash is keyed, because tags come from the network.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: HashTable<Bucket>,
    links: Links,
    hasher: RandomState,
    /// Entries that came since the last search.
    unused: usize,
}

impl Index {
    /// Forgets all entries, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        self.unused = 0;
    }

    /// One more entry comes, to `entries` in all. Whether the index is worth its upkeep: not when half of them came since the last search.
    pub(super) fn is_useful(&mut self, entries: usize) -> bool {
        self.unused += 1;
        2 * self.unused <= entries
    }

    /// Adds an entry that is younger than all others.
    pub(super) fn push(&mut self, bin: Bin, place: u32) {
        count_step();
        let Self { buckets, links, hasher, .. } = self;
        let hash = hasher.hash_one(bin);
        let is_it = |bucket: &Bucket| is_of(bucket, &bin);
        let mut bucket = buckets
            .entry(hash, is_it, |bucket| hasher.hash_one(bucket.bin))
            .or_insert_with(|| Bucket { bin, ends: Ends::EMPTY });
        links.push(&mut bucket.get_mut().ends, place);
    }

    /// Takes an entry out of its bin.
    pub(super) fn remove(&mut self, bin: Bin, place: u32) {
        count_step();
        let hash = self.hasher.hash_one(bin);
        let found = self.buckets.find_entry(hash, |bucket| is_of(bucket, &bin));
        let mut bucket = found.expect("the bin of an entry that was added");
        let ends = &mut bucket.get_mut().ends;
        self.links.remove(ends, place);
        if *ends == Ends::EMPTY {
            bucket.remove();
        }
    }

    /// The oldest entry of a bin.
    pub(super) fn first(&mut self, bin: Bin) -> Option<u32> {
        count_step();
        self.unused = 0;
        let hash = self.hasher.hash_one(bin);
        self.buckets.find(hash, |bucket| is_of(bucket, &bin)).and_then(|bucket| bucket.ends.first())
    }
}

fn is_of(bucket: &Bucket, bin: &Bin) -> bool {
    count_step();
    bucket.bin == *bin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_without_entries_is_no_more() {
        let mut index = Index::default();
        let bin = |tag: u64| Bin::of(None, TagMatch { tag, ignore: 0 });
        for tag in 0..1000 {
            index.push(bin(tag), 3);
            index.push(bin(tag), 4);
            index.remove(bin(tag), 3);
            assert_eq!(index.first(bin(tag)), Some(4));
            index.remove(bin(tag), 4);
            assert_eq!(index.first(bin(tag)), None);
        }
        assert_eq!(index.buckets.len(), 0);
    }
}
