//! Address vectors: an index for each address, lowest free first, in both directions.

use core::net::SocketAddr;
use std::collections::HashMap;

use crate::types::FiAddr;

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: SocketAddr,
    uses: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct AddressVector {
    slots: Vec<Option<Slot>>,
    by_address: HashMap<SocketAddr, u32>,
    free: Vec<u32>,
    /// Changes with every insertion and removal: what endpoints cache of the vector is valid for one version.
    pub(crate) version: u32,
    /// Endpoints bound.
    pub(crate) bound: u32,
}

impl AddressVector {
    pub(crate) fn new(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), ..Self::default() }
    }

    /// The address's index: a new one, or the one it has, with one more use.
    pub(crate) fn insert(&mut self, address: SocketAddr) -> FiAddr {
        if let Some(&index) = self.by_address.get(&address) {
            if let Some(slot) = &mut self.slots[index as usize] {
                slot.uses += 1;
            }
            return FiAddr(u64::from(index));
        }
        let index = self.lowest_free();
        self.slots[index as usize] = Some(Slot { address, uses: 1 });
        self.by_address.insert(address, index);
        self.version = self.version.wrapping_add(1);
        FiAddr(u64::from(index))
    }

    /// Takes one use away; the index is free when none is left. False when there is no such index.
    pub(crate) fn remove(&mut self, address: FiAddr) -> bool {
        let Some(slot) = usize::try_from(address.0).ok().and_then(|index| self.slots.get_mut(index)) else {
            return false;
        };
        let Some(found) = slot else { return false };
        found.uses -= 1;
        if found.uses == 0 {
            self.by_address.remove(&found.address);
            *slot = None;
            self.free.push(u32::try_from(address.0).expect("an index of the table"));
            self.free.sort_unstable_by(|a, b| b.cmp(a));
            self.version = self.version.wrapping_add(1);
        }
        true
    }

    pub(crate) fn lookup(&self, address: FiAddr) -> Option<SocketAddr> {
        let index = usize::try_from(address.0).ok()?;
        self.slots.get(index)?.as_ref().map(|slot| slot.address)
    }

    pub(crate) fn find(&self, address: &SocketAddr) -> FiAddr {
        self.by_address.get(address).map_or(FiAddr::UNSPEC, |&index| FiAddr(u64::from(index)))
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
