//! The domain: everything that one lock covers. Endpoints, queues, counters, address vectors and regions live in its tables and are named by small ids.

use core::net::SocketAddr;
use std::sync::Arc;

use rdgram_proto::Instant;

use crate::datapath::{Datapath, Sleep, Wake};
use crate::mem::UserSlice;
use crate::types::*;

/// See the module.
#[derive(Debug)]
pub struct Domain<D> {
    _d: core::marker::PhantomData<D>,
}

#[allow(missing_docs, clippy::todo, unused_variables)]
impl<D: Datapath> Domain<D> {
    pub fn new() -> Self { todo!() }

    // ---- completion queues
    pub fn cq_open(&mut self, size: usize) -> CqId { todo!() }
    /// Fails while an endpoint is bound to it.
    pub fn cq_close(&mut self, cq: CqId) -> Result<(), Busy> { todo!() }
    /// The oldest entry. `Err` when that is an error entry: read it with `cq_pop_failure`. Does not progress.
    pub fn cq_pop(&mut self, cq: CqId) -> Result<Option<Completion>, FailurePending> { todo!() }
    /// The oldest entry, if it is an error entry.
    pub fn cq_pop_failure(&mut self, cq: CqId) -> Option<Failure> { todo!() }
    pub fn cq_is_empty(&self, cq: CqId) -> bool { todo!() }
    /// `waker` is called once, when the next entry is written; `None` disarms. Also called for cq_signal by the face itself.
    pub fn cq_arm(&mut self, cq: CqId, waker: Option<Arc<dyn Wake>>) { todo!() }

    // ---- counters
    pub fn cntr_open(&mut self) -> CntrId { todo!() }
    pub fn cntr_close(&mut self, cntr: CntrId) -> Result<(), Busy> { todo!() }
    /// (successes, errors). Does not progress.
    pub fn cntr_value(&self, cntr: CntrId) -> (u64, u64) { todo!() }
    pub fn cntr_add(&mut self, cntr: CntrId, value: u64) { todo!() }
    pub fn cntr_add_error(&mut self, cntr: CntrId, value: u64) { todo!() }
    pub fn cntr_set(&mut self, cntr: CntrId, value: u64) { todo!() }
    pub fn cntr_set_error(&mut self, cntr: CntrId, value: u64) { todo!() }
    pub fn cntr_arm(&mut self, cntr: CntrId, waker: Option<Arc<dyn Wake>>) { todo!() }

    // ---- address vectors: indices from 0, lowest free; the same address twice gives the same index and one more use
    pub fn av_open(&mut self, count: usize) -> AvId { todo!() }
    pub fn av_close(&mut self, av: AvId) -> Result<(), Busy> { todo!() }
    pub fn av_insert(&mut self, av: AvId, address: SocketAddr) -> FiAddr { todo!() }
    /// False when there is no such index.
    pub fn av_remove(&mut self, av: AvId, address: FiAddr) -> bool { todo!() }
    pub fn av_lookup(&self, av: AvId, address: FiAddr) -> Option<SocketAddr> { todo!() }

    // ---- memory regions
    /// Registers; `requested_key` None lets us choose. `length` may reach to the end of the address space.
    pub fn mr_open(&mut self, region: Region, requested_key: Option<u64>) -> Result<(MrId, u64), DuplicateKey> { todo!() }
    pub fn mr_close(&mut self, mr: MrId) { todo!() }

    // ---- endpoints
    pub fn ep_open(&mut self, config: EpConfig, datapath: D) -> EpId { todo!() }
    pub fn ep_bind_cq(&mut self, ep: EpId, cq: CqId, direction: Direction) -> Result<(), Busy> { todo!() }
    pub fn ep_bind_cntr(&mut self, ep: EpId, cntr: CntrId, events: CounterEvents) -> Result<(), Busy> { todo!() }
    pub fn ep_bind_av(&mut self, ep: EpId, av: AvId) -> Result<(), Busy> { todo!() }
    pub fn ep_enable(&mut self, ep: EpId) -> Result<(), SubmitError> { todo!() }
    pub fn ep_address(&self, ep: EpId) -> SocketAddr { todo!() }
    pub fn ep_config_mut(&mut self, ep: EpId) -> &mut EpConfig { todo!() }
    pub fn ep_stats(&self, ep: EpId) -> Stats { todo!() }
    pub fn ep_datapath(&self, ep: EpId) -> &D { todo!() }
    /// Begins to close: cancels what the application is told of (without writing completions) and keeps what was injected or accepted and not yet acknowledged.
    /// The caller progresses until `ep_lingers` is false (or its patience ends), then calls `ep_remove`.
    pub fn ep_shutdown(&mut self, ep: EpId) { todo!() }
    pub fn ep_lingers(&self, ep: EpId) -> bool { todo!() }
    /// Sends close notices and drops the endpoint.
    pub fn ep_remove(&mut self, ep: EpId) -> D { todo!() }
    /// Fills `table` with each peer for diagnostics: (address, one line of state).
    pub fn ep_describe(&self, ep: EpId) -> Vec<(SocketAddr, String)> { todo!() }

    // ---- operations
    pub fn send(&mut self, ep: EpId, op: &SendOp<'_>) -> Result<(), SubmitError> { todo!() }
    pub fn recv(&mut self, ep: EpId, op: &RecvOp<'_>) -> Result<(), SubmitError> { todo!() }
    /// Looks for a message (after progress): always writes one completion, `Cause::NoMessage` when there is none.
    pub fn peek(&mut self, ep: EpId, matching: Match, peek: Peek, context: usize) -> Result<(), SubmitError> { todo!() }
    /// Receives the message that a peek with this context claimed.
    pub fn claim(&mut self, ep: EpId, context: usize, slices: &[UserSlice]) -> Result<(), SubmitError> { todo!() }
    /// Drops the message that a peek with this context claimed; completes with context.
    pub fn claim_discard(&mut self, ep: EpId, context: usize) -> Result<(), SubmitError> { todo!() }
    /// Cancels the posted receive with this context: NotFound when it is not posted (any more).
    pub fn cancel(&mut self, ep: EpId, context: usize) -> Result<(), SubmitError> { todo!() }

    // ---- progress
    /// Receives, times out, transmits, acknowledges, for every endpoint. True when anything happened.
    pub fn progress(&mut self) -> bool { todo!() }
    /// How long a waiter may sleep if no datagram arrives.
    pub fn sleep(&self, now: Instant) -> Sleep { todo!() }
    /// No operation, no unacknowledged packet, no staged byte: every table is empty (posted receives aside).
    pub fn is_quiet(&self) -> bool { todo!() }
}

/// The object is in use or already bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The oldest entry of the queue is an error entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePending;

/// The requested key is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateKey;

/// A memory region to register.
#[derive(Clone, Debug)]
pub struct Region {
    /// The memory, in order.
    pub slices: Vec<UserSlice>,
    /// What peers may do.
    pub access: Access,
}

bitflags::bitflags! {
    /// What may be done with a region (`fi_mr(3)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Access: u32 {
        /// Source of a send.
        const SEND = 1 << 0;
        /// Target of a receive.
        const RECV = 1 << 1;
        /// Target of a local read.
        const READ = 1 << 2;
        /// Source of a local write.
        const WRITE = 1 << 3;
        /// Peers may read.
        const REMOTE_READ = 1 << 4;
        /// Peers may write.
        const REMOTE_WRITE = 1 << 5;
    }
}
