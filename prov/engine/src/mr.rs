//! Memory regions and their keys. Registration is bookkeeping: nothing is pinned, nothing is cached.

use std::collections::HashMap;

use crate::domain::{Access, DuplicateKey, Region};

/// The regions of a domain.
#[derive(Debug, Default)]
pub(crate) struct MrTable {
    regions: Vec<Option<(u64, Region)>>,
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
        self.regions[index as usize] = Some((key, region));
        Ok((index, key))
    }

    pub(crate) fn close(&mut self, index: u32) {
        if let Some((key, _)) = self.regions.get_mut(index as usize).and_then(Option::take) {
            self.free.push(index);
            if self.keys.get(&key) == Some(&index) {
                self.keys.remove(&key);
            }
        }
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
        Region { slices: Vec::new(), access }
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
