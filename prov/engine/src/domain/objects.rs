//! What a domain's endpoints are bound to and use: completion queues, counters, address vectors, memory regions.

use core::net::SocketAddr;
use std::sync::Arc;

use super::{Busy, Domain, DuplicateKey, FailurePending, Region};
use crate::av::AddressVector;
use crate::cq::{CompletionQueue, Counter, Entry};
use crate::datapath::{Datapath, Wake};
use crate::types::*;

impl<D: Datapath> Domain<D> {
    // ---- completion queues

    /// Opens a completion queue with room for `size` entries before it has to grow.
    pub fn cq_open(&mut self, size: usize) -> CqId {
        CqId(self.shared.cqs.insert(CompletionQueue::new(size)))
    }

    /// Closes a completion queue. Fails while an endpoint is bound to it.
    pub fn cq_close(&mut self, cq: CqId) -> Result<(), Busy> {
        if self.shared.cqs.get(cq.0).bound > 0 {
            return Err(Busy);
        }
        self.shared.cqs.remove(cq.0);
        Ok(())
    }

    /// Takes the oldest entry. `Err` when that is an error entry, which [`Self::cq_pop_failure`] takes. Does not progress.
    pub fn cq_pop(&mut self, cq: CqId) -> Result<Option<Completion>, FailurePending> {
        let queue = self.shared.cqs.get_mut(cq.0);
        match queue.front().copied() {
            None => Ok(None),
            Some(Entry::Failure(_)) => Err(FailurePending),
            Some(Entry::Success(completion)) => {
                queue.pop();
                Ok(Some(completion))
            }
        }
    }

    /// Takes the oldest entry if it is an error entry.
    pub fn cq_pop_failure(&mut self, cq: CqId) -> Option<Failure> {
        let queue = self.shared.cqs.get_mut(cq.0);
        match queue.front().copied() {
            Some(Entry::Failure(failure)) => {
                queue.pop();
                Some(failure)
            }
            _ => None,
        }
    }

    /// The name of the sender that the last failure taken with [`Cause::NoAddress`] is about.
    pub fn cq_stranger(&self, cq: CqId) -> Option<SocketAddr> {
        self.shared.cqs.get(cq.0).stranger()
    }

    /// Whether nothing is to be read.
    pub fn cq_is_empty(&self, cq: CqId) -> bool {
        self.shared.cqs.get(cq.0).front().is_none()
    }

    /// Arms the queue: `waker` is called once, when the next entry is written. Any number may be armed; the same one counts once.
    pub fn cq_arm(&mut self, cq: CqId, waker: Arc<dyn Wake>) {
        self.shared.cqs.get_mut(cq.0).arm(waker);
    }

    /// Takes an armed waker back.
    pub fn cq_disarm(&mut self, cq: CqId, waker: &Arc<dyn Wake>) {
        self.shared.cqs.get_mut(cq.0).disarm(waker);
    }

    // ---- counters

    /// Opens a counter at 0.
    pub fn cntr_open(&mut self) -> CntrId {
        CntrId(self.shared.cntrs.insert(Counter::default()))
    }

    /// Closes a counter. Fails while an endpoint is bound to it.
    pub fn cntr_close(&mut self, cntr: CntrId) -> Result<(), Busy> {
        if self.shared.cntrs.get(cntr.0).bound > 0 {
            return Err(Busy);
        }
        self.shared.cntrs.remove(cntr.0);
        Ok(())
    }

    /// Successes and errors counted. Does not progress.
    pub fn cntr_value(&self, cntr: CntrId) -> (u64, u64) {
        self.shared.cntrs.get(cntr.0).values()
    }

    /// How often a counter changed, by operations or by the application.
    pub fn cntr_changes(&self, cntr: CntrId) -> u64 {
        self.shared.cntrs.get(cntr.0).changes()
    }

    /// Adds to the successes.
    pub fn cntr_add(&mut self, cntr: CntrId, value: u64) {
        let counter = self.shared.cntrs.get_mut(cntr.0);
        let (successes, errors) = counter.values();
        counter.set(successes.wrapping_add(value), errors);
    }

    /// Adds to the errors.
    pub fn cntr_add_error(&mut self, cntr: CntrId, value: u64) {
        let counter = self.shared.cntrs.get_mut(cntr.0);
        let (successes, errors) = counter.values();
        counter.set(successes, errors.wrapping_add(value));
    }

    /// Sets the successes.
    pub fn cntr_set(&mut self, cntr: CntrId, value: u64) {
        let counter = self.shared.cntrs.get_mut(cntr.0);
        let (_, errors) = counter.values();
        counter.set(value, errors);
    }

    /// Sets the errors.
    pub fn cntr_set_error(&mut self, cntr: CntrId, value: u64) {
        let counter = self.shared.cntrs.get_mut(cntr.0);
        let (successes, _) = counter.values();
        counter.set(successes, value);
    }

    /// Arms the counter: `waker` is called once, when it changes next. Any number may be armed; the same one counts once.
    pub fn cntr_arm(&mut self, cntr: CntrId, waker: Arc<dyn Wake>) {
        self.shared.cntrs.get_mut(cntr.0).arm(waker);
    }

    /// Takes an armed waker back.
    pub fn cntr_disarm(&mut self, cntr: CntrId, waker: &Arc<dyn Wake>) {
        self.shared.cntrs.get_mut(cntr.0).disarm(waker);
    }

    // ---- address vectors

    /// Opens an address vector; `count` addresses are expected.
    pub fn av_open(&mut self, count: usize) -> AvId {
        AvId(self.shared.avs.insert(AddressVector::new(count)))
    }

    /// Closes an address vector. Fails while an endpoint is bound to it.
    pub fn av_close(&mut self, av: AvId) -> Result<(), Busy> {
        if self.shared.avs.get(av.0).bound > 0 {
            return Err(Busy);
        }
        self.shared.avs.remove(av.0);
        Ok(())
    }

    /// Makes room for `count` more addresses at once: growing step by step leaves holes.
    pub fn av_reserve(&mut self, av: AvId, count: usize) {
        self.shared.avs.get_mut(av.0).reserve(count);
    }

    /// The address's index, from 0 in the order of insertion; the lowest free one after removals; the one it has when it is there already.
    pub fn av_insert(&mut self, av: AvId, address: SocketAddr) -> FiAddr {
        self.shared.avs.get_mut(av.0).insert(address)
    }

    /// Takes an address out (once for each time it was inserted). False when there is no such index.
    pub fn av_remove(&mut self, av: AvId, address: FiAddr) -> bool {
        self.shared.avs.get_mut(av.0).remove(address)
    }

    /// The address at an index.
    pub fn av_lookup(&self, av: AvId, address: FiAddr) -> Option<SocketAddr> {
        self.shared.avs.get(av.0).lookup(address)
    }

    // ---- memory regions

    /// Registers memory, under `requested_key` or under a key of our choice. The length may reach to the end of the address space.
    pub fn mr_open(
        &mut self,
        region: Region,
        requested_key: Option<u64>,
    ) -> Result<(MrId, u64), DuplicateKey> {
        let (index, key) = self.shared.mrs.open(region, requested_key)?;
        Ok((MrId(index), key))
    }

    /// Counts peers' accesses to the region (FI_RMA_EVENT).
    pub fn mr_bind_cntr(&mut self, mr: MrId, cntr: CntrId, events: CounterEvents) {
        if let Some(region) = self.shared.mrs.get_mut(mr.0) {
            region.cntrs.push((cntr, events));
            self.shared.cntrs.get_mut(cntr.0).bound += 1;
        }
    }

    /// Ends a registration: from here on no byte of the region is touched. Reads of it that are being answered fail at their initiators.
    pub fn mr_close(&mut self, mr: MrId) {
        for (cntr, _) in self.shared.mrs.cntrs(mr.0).to_vec() {
            self.shared.cntrs.get_mut(cntr.0).bound -= 1;
        }
        self.shared.mrs.close(mr.0);
        for endpoint in self.endpoints.0.iter_mut().flatten() {
            endpoint.core.forget_region(mr);
        }
    }
}
