//! Address vectors: an index for each address, lowest free first, in both directions.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use std::hash::RandomState;

use hashbrown::HashTable;

use crate::types::FiAddr;

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: SocketAddr,
    uses: u32,
}

/// See the module. Peers that are only known cost what is here: the slot, and five bytes in a table of indices that holds no second copy of the address.
#[derive(Debug, Default)]
pub(crate) struct AddressVector {
    slots: Vec<Option<Slot>>,
    /// Index of each address, by the address's hash.
    by_address: HashTable<u32>,
    hasher: RandomState,
    free: Vec<u32>,
    /// Changes with every insertion and removal: what endpoints cache of the vector is valid for one version.
    pub(crate) version: u32,
    /// Endpoints bound.
    pub(crate) bound: u32,
}

/// The address in a slot that the table names.
fn address_at(slots: &[Option<Slot>], index: u32) -> Option<SocketAddr> {
    slots[index as usize].map(|slot| slot.address)
}

/// What the table asks when it grows: the hash of an index is that of its address.
fn hash_at<'a>(slots: &'a [Option<Slot>], hasher: &'a RandomState) -> impl Fn(&u32) -> u64 + 'a {
    move |index| hasher.hash_one(address_at(slots, *index))
}

impl AddressVector {
    pub(crate) fn new(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), ..Self::default() }
    }

    pub(crate) fn reserve(&mut self, count: usize) {
        self.by_address.reserve(count, hash_at(&self.slots, &self.hasher));
        self.slots.reserve(count.saturating_sub(self.free.len()));
    }

    /// The address's index: a new one, or the one it has, with one more use.
    pub(crate) fn insert(&mut self, address: SocketAddr) -> FiAddr {
        if let Some(index) = self.index_of(&address) {
            self.slots[index as usize].as_mut().expect("the table names slots in use").uses += 1;
            return FiAddr(u64::from(index));
        }
        let index = self.lowest_free();
        self.slots[index as usize] = Some(Slot { address, uses: 1 });
        let hash = self.hasher.hash_one(Some(address));
        self.by_address.insert_unique(hash, index, hash_at(&self.slots, &self.hasher));
        self.version = self.version.wrapping_add(1);
        FiAddr(u64::from(index))
    }

    /// Takes one use away; the index is free when none is left. False when there is no such index.
    pub(crate) fn remove(&mut self, address: FiAddr) -> bool {
        let Some(index) = u32::try_from(address.0).ok().filter(|index| (*index as usize) < self.slots.len())
        else {
            return false;
        };
        let Some(slot) = &mut self.slots[index as usize] else { return false };
        slot.uses -= 1;
        if slot.uses > 0 {
            return true;
        }
        let hash = hash_at(&self.slots, &self.hasher)(&index);
        if let Ok(entry) = self.by_address.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        self.slots[index as usize] = None;
        self.free.push(index);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        self.version = self.version.wrapping_add(1);
        true
    }

    pub(crate) fn lookup(&self, address: FiAddr) -> Option<SocketAddr> {
        let index = usize::try_from(address.0).ok()?;
        self.slots.get(index)?.as_ref().map(|slot| slot.address)
    }

    pub(crate) fn find(&self, address: &SocketAddr) -> FiAddr {
        self.index_of(address).map_or(FiAddr::UNSPEC, |index| FiAddr(u64::from(index)))
    }

    fn index_of(&self, address: &SocketAddr) -> Option<u32> {
        let hash = self.hasher.hash_one(Some(address));
        let is_it = |index: &u32| address_at(&self.slots, *index) == Some(*address);
        self.by_address.find(hash, is_it).copied()
    }

    fn lowest_free(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer addresses than 2^32")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn indices_follow_insertion_and_the_lowest_free_is_next() {
        let mut av = AddressVector::new(0);
        for port in 1..=5 {
            assert_eq!(av.insert(address(port)), FiAddr(u64::from(port) - 1));
        }
        assert!(av.remove(FiAddr(3)) && av.remove(FiAddr(1)));
        assert_eq!(av.insert(address(10)), FiAddr(1));
        assert_eq!(av.insert(address(11)), FiAddr(3));
        assert_eq!(av.insert(address(12)), FiAddr(5));
        assert_eq!(av.lookup(FiAddr(3)), Some(address(11)));
        assert_eq!(av.find(&address(10)), FiAddr(1));
        assert_eq!(av.find(&address(2)), FiAddr::UNSPEC);
    }

    #[test]
    fn many_addresses_are_found_after_growth_and_removal() {
        let mut av = AddressVector::new(0);
        av.reserve(100);
        for port in 0..2000 {
            assert_eq!(av.insert(address(port)), FiAddr(u64::from(port)));
        }
        assert!((0..2000).step_by(2).all(|index| av.remove(FiAddr(index))));
        for port in 0..2000 {
            let expected = if port % 2 == 0 { FiAddr::UNSPEC } else { FiAddr(u64::from(port)) };
            assert_eq!(av.find(&address(port)), expected);
        }
    }

    #[test]
    fn the_same_address_twice_is_one_index_with_two_uses() {
        let mut av = AddressVector::new(0);
        let first = av.insert(address(1));
        assert_eq!(av.insert(address(1)), first);
        assert!(av.remove(first));
        assert_eq!(av.lookup(first), Some(address(1)));
        assert!(av.remove(first));
        assert_eq!(av.lookup(first), None);
        assert!(!av.remove(first) && !av.remove(FiAddr::UNSPEC));
    }
}
