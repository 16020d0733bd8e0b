//! The domain: everything that one lock covers. Endpoints, queues, counters, address vectors and regions live in its tables and are named by small ids.
//!
//! An id that was closed must not be used again: the face keeps each with the object it stands for. Ids of live objects are an invariant, so a wrong one panics.

use core::net::SocketAddr;
use std::sync::Arc;

use rdgram_proto::Instant;

use crate::av::AddressVector;
use crate::cq::{CompletionQueue, Counter, Entry};
use crate::datapath::{Datapath, Sleep, Wake};
use crate::endpoint::{Endpoint, State};
use crate::local::LocalStats;
use crate::matching::PeerId;
use crate::mem::UserSlice;
use crate::mr::MrTable;
use crate::types::*;

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
    /// Peers name bytes by their address here, not by their offset from the beginning (FI_MR_VIRT_ADDR, or FI_MR_BASIC of old).
    pub virtual_addresses: bool,
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

/// A table of objects named by index.
#[derive(Debug)]
struct Table<T>(Vec<Option<T>>);

impl<T> Table<T> {
    fn insert(&mut self, value: T) -> u32 {
        let index = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[index] = Some(value);
        u32::try_from(index).expect("fewer objects than 2^32")
    }

    fn get(&self, index: u32) -> &T {
        self.0[index as usize].as_ref().expect("the object is open")
    }

    fn get_mut(&mut self, index: u32) -> &mut T {
        self.0[index as usize].as_mut().expect("the object is open")
    }

    fn remove(&mut self, index: u32) -> T {
        self.0[index as usize].take().expect("the object is open")
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

/// What endpoints share.
#[derive(Debug)]
pub(crate) struct Shared {
    cqs: Table<CompletionQueue>,
    cntrs: Table<Counter>,
    avs: Table<AddressVector>,
    mrs: MrTable,
    notices: Vec<Notice>,
    pub(crate) progressed_at: Instant,
}

/// Notices kept for a face that does not ask for them.
const NOTICES_MAX: usize = 16;

impl Shared {
    pub(crate) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    pub(crate) fn push(&mut self, cq: Option<CqId>, entry: Entry) {
        if let Some(cq) = cq {
            self.cqs.get_mut(cq.0).push(entry);
        }
    }

    pub(crate) fn push_from_stranger(
        &mut self,
        cq: Option<CqId>,
        completion: Completion,
        sender: SocketAddr,
    ) {
        if let Some(cq) = cq {
            self.cqs.get_mut(cq.0).push_from_stranger(completion, sender);
        }
    }

    pub(crate) fn count(&mut self, cntr: CntrId, error: bool) {
        let counter = self.cntrs.get_mut(cntr.0);
        let (successes, errors) = counter.values();
        if error {
            counter.set(successes, errors.wrapping_add(1));
        } else {
            counter.set(successes.wrapping_add(1), errors);
        }
    }

    pub(crate) fn mrs(&self) -> &MrTable {
        &self.mrs
    }

    /// Counts at the counters bound to a region.
    pub(crate) fn count_region(&mut self, region: Option<MrId>, events: CounterEvents) {
        let Some(region) = region else { return };
        for index in 0..self.mrs.cntrs(region.0).len() {
            let (cntr, bound) = self.mrs.cntrs(region.0)[index];
            if bound.intersects(events) {
                self.count(cntr, false);
            }
        }
    }

    pub(crate) fn av(&self, av: AvId) -> Option<&AddressVector> {
        self.avs.0.get(av.0 as usize).and_then(Option::as_ref)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Domain<D> {
    shared: Shared,
    endpoints: Table<Endpoint<D>>,
    /// A call since the last progress, or that one, left something to be sent.
    holding: bool,
    progressed: u32,
}

impl<D: Datapath> Default for Domain<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Datapath> Domain<D> {
    /// An empty domain.
    pub fn new() -> Self {
        let shared = Shared {
            cqs: Table(Vec::new()),
            cntrs: Table(Vec::new()),
            avs: Table(Vec::new()),
            mrs: MrTable::default(),
            notices: Vec::new(),
            progressed_at: Instant::ZERO,
        };
        Self { shared, endpoints: Table(Vec::new()), holding: false, progressed: 0 }
    }

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

    /// Whether something waits for nothing but the next [`Self::progress`] to be sent: the end of a burst, or what FI_MORE held back.
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// How many endpoints the last [`Self::progress`] looked after: what it costs.
    pub fn endpoints_progressed(&self) -> u32 {
        self.progressed
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

    // ---- endpoints

    /// Opens an endpoint on a datapath.
    pub fn ep_open(&mut self, config: EpConfig, datapath: D) -> EpId {
        EpId(self.endpoints.insert(Endpoint::new(config, datapath)))
    }

    /// Binds a queue. Fails when that direction has one.
    pub fn ep_bind_cq(&mut self, ep: EpId, cq: CqId, direction: Direction) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        let slot = match direction {
            Direction::Transmit => &mut bindings.tx_cq,
            Direction::Receive => &mut bindings.rx_cq,
        };
        if slot.is_some() {
            return Err(Busy);
        }
        *slot = Some(cq);
        self.shared.cqs.get_mut(cq.0).bound += 1;
        Ok(())
    }

    /// Binds a counter. Fails when one of the events has one.
    pub fn ep_bind_cntr(&mut self, ep: EpId, cntr: CntrId, events: CounterEvents) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        if bindings.cntrs.iter().any(|(_, bound)| bound.intersects(events)) {
            return Err(Busy);
        }
        bindings.cntrs.push((cntr, events));
        self.shared.cntrs.get_mut(cntr.0).bound += 1;
        Ok(())
    }

    /// Binds an address vector. Fails when there is one.
    pub fn ep_bind_av(&mut self, ep: EpId, av: AvId) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        if bindings.av.is_some() {
            return Err(Busy);
        }
        bindings.av = Some(av);
        self.shared.avs.get_mut(av.0).bound += 1;
        Ok(())
    }

    /// Readies an endpoint for operations. Needs an address vector and, as the face has checked, queues for what it will do.
    pub fn ep_enable(&mut self, ep: EpId) -> Result<(), SubmitError> {
        let endpoint = self.endpoints.get_mut(ep.0);
        if endpoint.core.bindings.av.is_none() {
            return Err(SubmitError::NotBound);
        }
        if endpoint.core.state != State::Opened {
            return Err(SubmitError::BadState);
        }
        endpoint.enable();
        Ok(())
    }

    /// The endpoint's name.
    pub fn ep_address(&self, ep: EpId) -> SocketAddr {
        self.endpoints.get(ep.0).core.name
    }

    /// The endpoint's parameters. `min_multi_recv` may be changed at any time, the rest before enable.
    pub fn ep_config_mut(&mut self, ep: EpId) -> &mut EpConfig {
        &mut self.endpoints.get_mut(ep.0).core.config
    }

    /// The endpoint's counters.
    pub fn ep_stats(&self, ep: EpId) -> Stats {
        self.endpoints.get(ep.0).core.stats
    }

    /// Counters of the endpoint's way through memory.
    pub fn ep_local_stats(&self, ep: EpId) -> LocalStats {
        self.endpoints.get(ep.0).core.neighbours.stats()
    }

    /// The endpoint's datapath.
    pub fn ep_datapath(&self, ep: EpId) -> &D {
        &self.endpoints.get(ep.0).datapath
    }

    /// Begins to close: the application hears no more of the endpoint, and what was injected or accepted is still delivered.
    /// The caller progresses until [`Self::ep_lingers`] is false, or its patience ends, and then calls [`Self::ep_remove`].
    pub fn ep_shutdown(&mut self, ep: EpId) {
        self.unbind(ep);
        self.endpoints.get_mut(ep.0).shutdown();
    }

    /// Whether anything is still to be delivered.
    pub fn ep_lingers(&self, ep: EpId) -> bool {
        self.endpoints.get(ep.0).lingers()
    }

    /// Acknowledges what is owed, tells peers that the endpoint closes, and drops it.
    pub fn ep_remove(&mut self, ep: EpId) -> D {
        self.unbind(ep);
        let mut endpoint = self.endpoints.remove(ep.0);
        endpoint.say_goodbye(&mut self.shared);
        endpoint.datapath
    }

    fn unbind(&mut self, ep: EpId) {
        let bindings = core::mem::take(&mut self.endpoints.get_mut(ep.0).core.bindings);
        for cq in bindings.tx_cq.into_iter().chain(bindings.rx_cq) {
            self.shared.cqs.get_mut(cq.0).bound -= 1;
        }
        for (cntr, _) in bindings.cntrs {
            self.shared.cntrs.get_mut(cntr.0).bound -= 1;
        }
        if let Some(av) = bindings.av {
            self.shared.avs.get_mut(av.0).bound -= 1;
        }
    }

    /// One line for each peer with a context: its name, and where it stands.
    pub fn ep_describe(&self, ep: EpId) -> Vec<(SocketAddr, String)> {
        let core = &self.endpoints.get(ep.0).core;
        let ids = (0..core.peers.len()).filter_map(|index| u32::try_from(index).ok().map(PeerId));
        ids.filter_map(|peer| Some((core.peer(peer).name, core.describe(peer)?))).collect()
    }

    // ---- operations

    #[inline]
    fn call<R>(&mut self, ep: EpId, call: impl FnOnce(&mut Endpoint<D>, &mut Shared) -> R) -> R {
        let endpoint = self.endpoints.get_mut(ep.0);
        let result = call(endpoint, &mut self.shared);
        // Of several endpoints another one may hold something; of one, all is known.
        self.holding = endpoint.core.may_send() || (self.holding && self.progressed > 1);
        result
    }

    /// Sends a message.
    pub fn send(&mut self, ep: EpId, op: &SendOp<'_>) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.send(op, shared))
    }

    /// Writes to or reads from a target's memory.
    pub fn rma(&mut self, ep: EpId, op: &RmaOp<'_>) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.rma(op, shared))
    }

    /// Changes a target's memory atomically with respect to all other atomics of its domain.
    pub fn atomic(&mut self, ep: EpId, op: &AtomicArgs<'_>) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.atomic(op, shared))
    }

    /// Posts a receive.
    pub fn recv(&mut self, ep: EpId, op: &RecvOp<'_>) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.recv(op, shared))
    }

    /// Progresses, then looks for a message: writes one completion, of [`Cause::NoMessage`] when there is none.
    pub fn peek(&mut self, ep: EpId, matching: Match, peek: Peek, context: usize) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.peek(matching, peek, context, shared))
    }

    /// Receives the message that a peek with this context claimed.
    pub fn claim(&mut self, ep: EpId, context: usize, slices: &[UserSlice]) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.claim(context, slices, shared))
    }

    /// Drops the message that a peek with this context claimed, and completes with that context.
    pub fn claim_discard(&mut self, ep: EpId, context: usize) -> Result<(), SubmitError> {
        self.call(ep, |endpoint, shared| endpoint.claim_discard(context, shared))
    }

    /// Cancels the posted receive with this context: [`SubmitError::NotFound`] when it is not posted (any more).
    pub fn cancel(&mut self, ep: EpId, context: usize) -> Result<(), SubmitError> {
        self.endpoints.get_mut(ep.0).core.cancel(context, &mut self.shared)
    }

    // ---- progress

    /// Receives, times out, transmits and acknowledges, for every endpoint. True when anything happened.
    pub fn progress(&mut self) -> bool {
        let mut worked = false;
        self.holding = false;
        self.progressed = 0;
        for endpoint in self.endpoints.0.iter_mut().flatten() {
            if endpoint.core.state != State::Opened {
                worked |= endpoint.progress(&mut self.shared);
                self.holding |= endpoint.core.may_send();
                self.progressed += 1;
            }
        }
        worked
    }

    /// When progress was made last, of an endpoint.
    #[inline]
    pub fn progressed_at(&self) -> Instant {
        self.shared.progressed_at
    }

    /// What the user should be told although nothing failed. To be asked after progress.
    #[inline]
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.shared.notices.pop()
    }

    /// How long a waiter may sleep if no datagram arrives.
    pub fn sleep(&mut self, now: Instant) -> Sleep {
        let mut least = Sleep::Forever;
        for endpoint in self.endpoints.0.iter_mut().flatten() {
            least = match (least, endpoint.sleep(now)) {
                (Sleep::Not, _) | (_, Sleep::Not) => return Sleep::Not,
                (Sleep::Forever, other) | (other, Sleep::Forever) => other,
                (Sleep::For(one), Sleep::For(other)) => Sleep::For(one.min(other)),
            };
        }
        least
    }

    /// No operation, no unacknowledged packet, no staged byte: every table is empty but for posted receives.
    pub fn is_quiet(&self) -> bool {
        self.endpoints.values().all(|endpoint| endpoint.core.is_quiet())
    }

    /// From now on what enters the matcher is kept for [`Self::take_trace`].
    #[cfg(feature = "trace")]
    pub fn trace(&mut self, ep: EpId) {
        self.endpoints.get_mut(ep.0).core.trace.get_or_insert_default();
    }

    /// What entered the matcher since the last call, in order.
    #[cfg(feature = "trace")]
    pub fn take_trace(&mut self, ep: EpId, events: &mut Vec<crate::trace::TraceEvent>) {
        if let Some(trace) = &mut self.endpoints.get_mut(ep.0).core.trace {
            events.append(trace);
        }
    }
}
