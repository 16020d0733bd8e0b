//! What the applications let others do: opens and closes regions, while they are used and under keys that were used before, and compares the counters of their use at the end.

use rdgram_engine::{Access, CounterEvents, Region as EngineRegion};

use crate::model::{Model, Op};
use crate::region::{Layout, Region, SLOTS};
use crate::remote::Remote;
use crate::remote_oracle::{count_at_region, count_at_target, count_of_life, judge_region};
use crate::world::World;

/// What peers may do with most regions.
pub(crate) const BOTH: Access = Access::REMOTE_READ.union(Access::REMOTE_WRITE);

impl World {
    /// Opens the regions of a new life.
    pub(crate) fn open_first_regions(&mut self, node: usize) -> Result<(), String> {
        for slot in 0..SLOTS {
            if slot == 0 || self.rng.chance(700_000) {
                self.open_region(node, slot)?;
            }
        }
        Ok(())
    }

    fn open_region(&mut self, node: usize, slot: usize) -> Result<(), String> {
        let key = self.key_for(node, slot);
        let layout = Layout::of(self.nodes.len(), slot);
        let access = match self.rng.weighted(&[80, 10, 10]) {
            0 => BOTH,
            1 => Access::REMOTE_READ,
            _ => Access::REMOTE_WRITE,
        };
        let virtual_addresses = self.rng.chance(400_000);
        let counted = self.rng.chance(500_000);
        let buffer = Region::memory(&layout, key, &mut self.rng);
        let slices = buffer.slices();
        let base = if virtual_addresses { slices[0].address().addr() as u64 } else { 0 };
        let this = &mut self.nodes[node];
        let life = this.life;
        let Some(process) = &mut this.process else { return Ok(()) };
        let (mr, given) = process
            .domain
            .mr_open(EngineRegion { slices, access, virtual_addresses }, Some(key))
            .map_err(|_| format!("node {node}: key {key:#x} is in use"))?;
        let cntrs = counted.then(|| [process.domain.cntr_open(), process.domain.cntr_open()]);
        if let Some([writes, reads]) = cntrs {
            process.domain.mr_bind_cntr(mr, writes, CounterEvents::REMOTE_WRITE);
            process.domain.mr_bind_cntr(mr, reads, CounterEvents::REMOTE_READ);
        }
        if given != key {
            return Err(format!("node {node}: key {given:#x} instead of {key:#x}"));
        }
        self.note(|| {
            format!("node {node} opens region {} under {key:#x}: {access:?}", self.model.regions.len())
        });
        let opened = self.model.tick();
        let mut region = Region {
            node,
            slot,
            life,
            key,
            access,
            base,
            layout,
            buffer: Some(buffer),
            opened,
            closed: None,
            touched_by: Vec::new(),
            lanes: Region::fresh_lanes(self.nodes.len()),
            mr: Some(mr),
            cntrs,
        };
        inherit(&mut self.model, &mut region);
        self.model.regions.push(region);
        Ok(())
    }

    /// A key that no open region of the node has: often that of the slot's last region, at times one that shares its lower half, which is the STag, with another.
    fn key_for(&mut self, node: usize, slot: usize) -> u64 {
        let last = self.model.regions.iter().rev().find(|region| region.node == node && region.slot == slot);
        let last = last.map(|region| region.key);
        let other = self.model.open_regions(node).map(|(_, region)| region.key).next();
        let key = match (last, other) {
            (Some(last), _) if self.rng.chance(500_000) => last,
            (_, Some(other)) if self.rng.chance(300_000) => other ^ (self.rng.bits() << 32),
            _ => self.rng.bits(),
        };
        let taken = self.model.open_regions(node).any(|(_, region)| region.key == key);
        if taken { self.rng.bits() } else { key }
    }

    /// Closes a region: from here on nobody may touch its memory.
    fn close_region(&mut self, index: usize) -> Result<(), String> {
        let now = self.model.tick();
        judge_region(&self.model, index, &self.model.regions[index], false)?;
        let region = &mut self.model.regions[index];
        region.closed = Some(now);
        let (node, buffer, cntrs) = (region.node, region.buffer.take(), region.cntrs.take());
        if let (Some(process), Some(mr)) = (&mut self.nodes[node].process, region.mr.take()) {
            process.domain.mr_close(mr);
            for cntr in cntrs.into_iter().flatten() {
                process.domain.cntr_close(cntr).map_err(|_| "a counter of a closed region is in use")?;
            }
        }
        self.note(|| format!("node {node} closes region {index}"));
        self.oracle.retire(buffer)
    }

    /// Closes all regions of a node.
    pub(crate) fn close_regions(&mut self, node: usize) -> Result<(), String> {
        let open: Vec<usize> = self.model.open_regions(node).map(|(index, _)| index).collect();
        open.into_iter().try_for_each(|index| self.close_region(index))
    }

    /// Opens or closes a region, preferably one that is being used.
    pub(crate) fn do_region(&mut self, node: usize) -> Result<(), String> {
        let slot = self.rng.index(SLOTS);
        let open = self.model.open_regions(node).find(|(_, region)| region.slot == slot);
        let Some((index, region)) = open.map(|(index, region)| (index, region.touched_by.clone())) else {
            self.accepted += 1;
            return self.open_region(node, slot);
        };
        let used = region.iter().rev().take(8).any(|op| self.model.remote(*op).is_some_and(Remote::is_open));
        if !used && self.rng.chance(500_000) {
            return Ok(());
        }
        self.accepted += 1;
        self.close_region(index)?;
        if self.rng.chance(500_000) { self.open_region(node, slot) } else { Ok(()) }
    }

    /// Compares a node's counters of one-sided operations with what was submitted and executed.
    pub(crate) fn check_remote_counters(&self, node: usize) -> Result<(), String> {
        let this = &self.nodes[node];
        let Some(process) = &this.process else { return Ok(()) };
        let value = |cntr| process.domain.cntr_value(cntr);
        for (reads, local, at_target) in
            [(false, process.writes, process.remote_writes), (true, process.reads, process.remote_reads)]
        {
            let (done, errors) = value(local);
            let (accepted, failed) = count_of_life(&self.model, this.life, reads);
            if done + errors != accepted {
                return Err(format!(
                    "node {node} counts {done} and {errors} failed of {accepted} operations (reads: {reads})"
                ));
            }
            failed.check(&format!("node {node}, failures (reads: {reads})"), errors)?;
            let count = count_at_target(&self.model, node, reads);
            count.check(&format!("node {node}, by its peers (reads: {reads})"), value(at_target).0)?;
        }
        for (index, region) in self.model.open_regions(node) {
            let Some([writes, reads]) = region.cntrs else { continue };
            for (reads, cntr) in [(false, writes), (true, reads)] {
                let what = format!("region {index} of node {node}, by its peers (reads: {reads})");
                count_at_region(&self.model, index, reads).check(&what, value(cntr).0)?;
            }
        }
        Ok(())
    }
}

/// What is still on its way to an earlier region of this key may end in the new one.
fn inherit(model: &mut Model, region: &mut Region) {
    let index = model.regions.len();
    let first_of_life = !model.regions.iter().any(|other| other.life == region.life);
    for op in 0..model.ops.len() {
        let Op::Remote(remote) = &mut model.ops[op] else { continue };
        // First contact costs no round trip: what a former life of the target has acknowledged may come again to the next.
        let on_its_way = remote.is_open() || first_of_life || !remote.certain;
        let named = remote.to == region.node && remote.pieces.iter().any(|piece| piece.key == region.key);
        if on_its_way && named {
            remote.regions.push(index);
            remote.astray = true;
            region.touched_by.push(op);
            let initiator = model.lives[remote.life].node;
            region.lanes[initiator].unknown |= remote.atomic().is_some();
        }
    }
}
