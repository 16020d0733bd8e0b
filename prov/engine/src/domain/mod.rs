//! The domain: everything that one lock covers. Endpoints, queues, counters, address vectors and regions live in its tables and are named by small ids.
//!
//! An id that was closed must not be used again: the face keeps each with the object it stands for. Ids of live objects are an invariant, so a wrong one panics.

mod endpoints;
mod objects;

use core::net::SocketAddr;

use rdgram_proto::Instant;

use crate::av::AddressVector;
use crate::cq::{CompletionQueue, Counter, Entry};
use crate::datapath::{Datapath, Sleep};
use crate::endpoint::{Endpoint, State};
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

    /// Whether something waits for nothing but the next [`Self::progress`] to be sent: the end of a burst, or what FI_MORE held back.
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// How many endpoints the last [`Self::progress`] looked after: what it costs.
    pub fn endpoints_progressed(&self) -> u32 {
        self.progressed
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
