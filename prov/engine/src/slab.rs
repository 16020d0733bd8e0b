//! Tables of operation entries: grow by chunks, never move, and name an entry by index and generation.
//!
//! An entry's value survives `release`, so that what it owns (a vector's capacity) is used again: that is what keeps the steady state free of allocation.

use rdgram_proto::{Defect, planted};

/// Entries per chunk: less than a page of the largest, because an endpoint's first message needs one.
const CHUNK: usize = 16;
/// Bits of a key that are the index; the rest is the generation.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// Names an entry. Also what goes on the wire as message id or STag, so a key from a packet may be anything: see [`Slab::get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u32);

impl Key {
    /// As a wire value.
    pub(crate) fn to_wire(self) -> u32 {
        self.0
    }

    /// From a wire value: names nothing until a slab says so.
    pub(crate) fn from_wire(value: u32) -> Self {
        Self(value)
    }

    /// A small number that no other entry in use has.
    pub(crate) fn place(self) -> u32 {
        self.0 & INDEX_MASK
    }

    fn index(self) -> usize {
        self.place() as usize
    }
}

/// The name of an entry that is not in use: no key has this index.
const FREE: u32 = INDEX_MASK;

#[derive(Debug)]
struct Entry<T> {
    /// The key that names it while it is in use, else [`FREE`].
    name: u32,
    generation: u8,
    value: T,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Entry<T>; CHUNK]>>,
    free: Vec<u32>,
    used: usize,
    /// Where the generations of each chunk go on that was given back, so that old keys still name nothing.
    generations: Vec<u8>,
}

impl<T: Default> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), used: 0, generations: Vec::new() }
    }

    /// Takes an entry; its value is whatever it was when released (or the default): the caller sets all of it. `None` when all keys are in use.
    pub(crate) fn take(&mut self) -> Option<Key> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let index = self.free.pop().expect("a chunk was added");
        let entry = self.entry_mut(index as usize);
        entry.name = (u32::from(entry.generation) << INDEX_BITS) | index;
        let key = Key(entry.name);
        self.used += 1;
        Some(key)
    }

    /// Gives an entry back.
    pub(crate) fn release(&mut self, key: Key) {
        let entry = self.entry_mut(key.index());
        assert!(entry.name != FREE, "released twice");
        entry.name = FREE;
        entry.generation = entry.generation.wrapping_add(1);
        self.used -= 1;
        self.free.push(key.0 & INDEX_MASK);
    }

    /// Whether `entry` is in use by the name of `key`.
    #[inline]
    fn is_named(entry: &Entry<T>, key: Key) -> bool {
        entry.name == key.0 || (planted(Defect::GenerationIgnored) && entry.name != FREE)
    }

    /// The entry, if `key` names one in use: any bits may be asked for.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = &self.chunks.get(key.index() / CHUNK)?[key.index() % CHUNK];
        Self::is_named(entry, key).then_some(&entry.value)
    }

    /// As `get`.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = &mut self.chunks.get_mut(key.index() / CHUNK)?[key.index() % CHUNK];
        Self::is_named(entry, key).then_some(&mut entry.value)
    }

    /// Entries in use.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Bytes taken by the table itself.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry<T>>()
    }

    /// All entries in use. For what happens once a second: walks the table.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .filter(|entry| entry.name != FREE)
            .map(|entry| &entry.value)
    }

    /// Keys of all entries in use that `wanted` says yes to. For rare events (a peer's death, close): walks the table.
    pub(crate) fn keys_where(&self, wanted: impl Fn(&T) -> bool) -> Vec<Key> {
        let mut keys = Vec::new();
        for chunk in &self.chunks {
            for entry in chunk.iter() {
                if entry.name != FREE && wanted(&entry.value) {
                    keys.push(Key(entry.name));
                }
            }
        }
        keys
    }

    /// Gives back what more than one chunk of entries needs and nothing uses: the last chunks, and what released entries own. For when a burst is long over: the next
    /// one allocates again.
    pub(crate) fn shrink(&mut self) {
        if self.chunks.len() <= 1 {
            return;
        }
        let unused = |chunk: &[Entry<T>; CHUNK]| chunk.iter().all(|entry| entry.name == FREE);
        while let Some(chunk) = self.chunks.last().filter(|chunk| unused(chunk)) {
            let newest = chunk.iter().map(|entry| entry.generation).max().unwrap_or_default();
            self.generations.resize(self.generations.len().max(self.chunks.len()), 0);
            self.generations[self.chunks.len() - 1] = newest;
            self.chunks.pop();
        }
        let left = self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut());
        for entry in left.filter(|entry| entry.name == FREE) {
            entry.value = T::default();
        }
        let end = self.chunks.len() * CHUNK;
        self.free.retain(|index| (*index as usize) < end);
        self.free.shrink_to_fit();
        self.chunks.shrink_to_fit();
    }

    fn entry_mut(&mut self, index: usize) -> &mut Entry<T> {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    #[cold]
    fn grow(&mut self) -> Option<()> {
        let first = self.chunks.len() * CHUNK;
        if first + CHUNK > INDEX_MASK as usize {
            return None;
        }
        let generation = self.generations.get(self.chunks.len()).copied().unwrap_or_default();
        let blank = || Entry { name: FREE, generation, value: T::default() };
        self.chunks.push(Box::new(core::array::from_fn(|_| blank())));
        self.free
            .extend((first..first + CHUNK).rev().map(|index| u32::try_from(index).expect("checked above")));
        Some(())
    }
}

impl<T: Default> core::ops::Index<Key> for Slab<T> {
    type Output = T;
    fn index(&self, key: Key) -> &T {
        self.get(key).expect("a key we hold names a live entry")
    }
}

impl<T: Default> core::ops::IndexMut<Key> for Slab<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("a key we hold names a live entry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_key_names_nothing() {
        let mut slab = Slab::<u32>::new();
        let first = slab.take().unwrap();
        slab[first] = 7;
        slab.release(first);
        assert_eq!(slab.get(first), None);
        let second = slab.take().unwrap();
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab[second], 7, "the value survives for reuse");
    }

    #[test]
    fn any_wire_value_is_harmless() {
        let mut slab = Slab::<u8>::new();
        let key = slab.take().unwrap();
        for value in [0, 1, 63, 64, u32::MAX, 0x00ff_ffff, key.to_wire() ^ 0x0100_0000] {
            let named = Key::from_wire(value);
            assert_eq!(slab.get(named).is_some(), named == key);
        }
    }

    #[test]
    fn what_is_given_back_names_nothing_when_it_is_there_again() {
        let mut slab = Slab::<u8>::new();
        let burst = |slab: &mut Slab<u8>| -> Vec<Key> { (0..1000).map(|_| slab.take().unwrap()).collect() };
        let keys = burst(&mut slab);
        let (memory, burst_chunks) = (slab.memory(), 1000_usize.div_ceil(CHUNK));
        for key in &keys[1..] {
            slab.release(*key);
        }
        slab.shrink();
        assert_eq!(slab.memory() * burst_chunks, memory, "one chunk has an entry in use");
        assert_eq!((slab.len(), slab.get(keys[0]).is_some()), (1, true));
        slab.release(keys[0]);
        slab.shrink();
        assert_eq!(slab.memory() * burst_chunks, memory, "one chunk is no burst");
        let again = burst(&mut slab);
        assert!(keys.iter().all(|key| slab.get(*key).is_none()), "old keys name nothing");
        assert!(again.iter().all(|key| slab.get(*key).is_some()));
    }

    #[test]
    fn grows_and_counts() {
        let mut slab = Slab::<usize>::new();
        let keys: Vec<_> = (0..1000).map(|_| slab.take().unwrap()).collect();
        for (value, key) in keys.iter().enumerate() {
            slab[*key] = value;
        }
        assert_eq!(slab.len(), 1000);
        assert_eq!(slab.keys_where(|value| *value >= 990).len(), 10);
        for key in keys {
            slab.release(key);
        }
        assert_eq!(slab.len(), 0);
    }
}
