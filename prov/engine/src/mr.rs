//! Memory regions and their keys. Registration is bookkeeping: nothing is pinned, nothing is cached.

use std::collections::HashMap;

use rdgram_proto::{Defect, planted};

use crate::domain::{Access, DuplicateKey, Region};
use crate::mem::{self, UserSlice};
use crate::types::{Cause, CntrId, CounterEvents, MrId, RemoteSlice};

/// A registered region.
#[derive(Debug)]
pub(crate) struct Registered {
    key: u64,
    region: Region,
    /// Counters bound to it (FI_RMA_EVENT).
    pub(crate) cntrs: Vec<(CntrId, CounterEvents)>,
}

/// Where in a region an access goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) id: MrId,
    pub(crate) slices: &'a [UserSlice],
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

/// The regions of a domain.
#[derive(Debug, Default)]
pub(crate) struct MrTable {
    regions: Vec<Option<Registered>>,
    free: Vec<u32>,
    keys: HashMap<u64, u32>,
    next_key: u64,
}

impl MrTable {
    /// Registers a region under the key asked for, or under one of our choice. Only regions that peers may access occupy a key (`fi_mr(3)`).
    pub(crate) fn open(
        &mut self,
        region: Region,
        requested_key: Option<u64>,
    ) -> Result<(u32, u64), DuplicateKey> {
        let key = match requested_key {
            Some(key) => key,
            None => self.unused_key(),
        };
        let remote = region.access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE);
        if remote && self.keys.contains_key(&key) {
            return Err(DuplicateKey);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.regions.push(None);
            u32::try_from(self.regions.len() - 1).expect("fewer regions than 2^32")
        });
        if remote {
            self.keys.insert(key, index);
        }
        self.regions[index as usize] = Some(Registered { key, region, cntrs: Vec::new() });
        Ok((index, key))
    }

    pub(crate) fn close(&mut self, index: u32) {
        if let Some(Registered { key, .. }) = self.regions.get_mut(index as usize).and_then(Option::take) {
            self.free.push(index);
            if self.keys.get(&key) == Some(&index) {
                self.keys.remove(&key);
            }
        }
    }

    /// A region by its index.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Registered> {
        self.regions.get_mut(index as usize)?.as_mut()
    }

    /// A counter counts some of these events of the region's.
    pub(crate) fn counts(&self, index: u32, events: CounterEvents) -> bool {
        self.cntrs(index).iter().any(|(_, bound)| bound.intersects(events))
    }

    /// Counters bound to a region.
    pub(crate) fn cntrs(&self, index: u32) -> &[(CntrId, CounterEvents)] {
        self.regions.get(index as usize).and_then(Option::as_ref).map_or(&[], |found| &found.cntrs)
    }

    /// Where a peer's access to `remote` goes, after every check: the key, the permission, the bounds.
    pub(crate) fn resolve(&self, remote: RemoteSlice, access: Access) -> Result<Place<'_>, Cause> {
        let index = *self.keys.get(&remote.key).ok_or(Cause::BadKey)?;
        let found = self.regions[index as usize].as_ref().ok_or(Cause::BadKey)?;
        if !found.region.access.contains(access) {
            return Err(Cause::AccessDenied);
        }
        let size = mem::total(&found.region.slices) as u64;
        let base = if found.region.virtual_addresses {
            found.region.slices.first().map_or(0, |slice| slice.address().addr() as u64)
        } else {
            0
        };
        let offset = remote.offset.checked_sub(base).ok_or(Cause::OutOfRange)?;
        let end = offset.checked_add(remote.length).ok_or(Cause::OutOfRange)?;
        if end > size + u64::from(planted(Defect::BoundsOffByOne)) {
            return Err(Cause::OutOfRange);
        }
        Ok(Place {
            id: MrId(index),
            slices: &found.region.slices,
            offset: usize::try_from(offset).map_err(|_| Cause::OutOfRange)?,
            length: usize::try_from(remote.length).map_err(|_| Cause::OutOfRange)?,
        })
    }

    fn unused_key(&mut self) -> u64 {
        while self.keys.contains_key(&self.next_key) {
            self.next_key += 1;
        }
        self.next_key += 1;
        self.next_key - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(access: Access) -> Region {
        Region { slices: Vec::new(), access, virtual_addresses: false }
    }

    #[test]
    fn accesses_are_checked_before_anything_is_touched() {
        let mut memory = [0u8; 100];
        let slices = vec![UserSlice::of_block(&mut memory)];
        let base = slices[0].address().addr() as u64;
        let mut table = MrTable::default();
        table
            .open(
                Region { slices: slices.clone(), access: Access::REMOTE_WRITE, virtual_addresses: false },
                Some(1),
            )
            .unwrap();
        table.open(Region { slices, access: Access::REMOTE_READ, virtual_addresses: true }, Some(2)).unwrap();
        let everything = UserSlice::everything();
        table
            .open(
                Region { slices: vec![everything], access: Access::REMOTE_READ, virtual_addresses: false },
                Some(3),
            )
            .unwrap();
        let at = |key, offset, length| RemoteSlice { key, offset, length };
        assert_eq!(table.resolve(at(9, 0, 1), Access::REMOTE_WRITE).unwrap_err(), Cause::BadKey);
        assert_eq!(table.resolve(at(1, 0, 1), Access::REMOTE_READ).unwrap_err(), Cause::AccessDenied);
        assert_eq!(table.resolve(at(1, 90, 11), Access::REMOTE_WRITE).unwrap_err(), Cause::OutOfRange);
        assert_eq!(table.resolve(at(1, u64::MAX, 1), Access::REMOTE_WRITE).unwrap_err(), Cause::OutOfRange);
        assert_eq!(table.resolve(at(1, 1, u64::MAX), Access::REMOTE_WRITE).unwrap_err(), Cause::OutOfRange);
        assert_eq!(table.resolve(at(1, 90, 10), Access::REMOTE_WRITE).unwrap().offset, 90);
        assert_eq!(table.resolve(at(1, 100, 0), Access::REMOTE_WRITE).unwrap().length, 0);
        assert_eq!(table.resolve(at(2, base + 7, 3), Access::REMOTE_READ).unwrap().offset, 7);
        assert_eq!(table.resolve(at(2, 7, 3), Access::REMOTE_READ).unwrap_err(), Cause::OutOfRange);
        assert_eq!(table.resolve(at(3, base, 100), Access::REMOTE_READ).unwrap().offset as u64, base);
    }

    #[test]
    fn keys_are_unique_among_remotely_accessible_regions() {
        let mut table = MrTable::default();
        let (first, key) = table.open(region(Access::REMOTE_READ), Some(u64::MAX - 1)).unwrap();
        assert_eq!(key, u64::MAX - 1);
        assert_eq!(table.open(region(Access::REMOTE_WRITE), Some(key)), Err(DuplicateKey));
        assert!(table.open(region(Access::SEND), Some(key)).is_ok(), "a local region needs no key");
        table.close(first);
        assert!(table.open(region(Access::REMOTE_WRITE), Some(key)).is_ok());
        let (_, chosen) = table.open(region(Access::REMOTE_WRITE), None).unwrap();
        assert_ne!(chosen, key);
    }
}
