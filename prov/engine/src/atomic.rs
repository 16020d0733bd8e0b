//! Atomic operations, both sides. A request carries its operands, takes a number in the sequence of messages, and is executed at the target when its turn comes, exactly once; an explicit answer completes it.

use rdgram_proto::{Defect, planted};
use rdgram_wire::{Control, Segment};

use crate::atomic_op::{AtomicOp, Datatype, ELEMENT_MAX, atomic_is_defined, combine};
use crate::datapath::Datapath;
use crate::domain::{Access, Shared};
use crate::endpoint::{Core, Endpoint};
use crate::entries::{AtomicCode, AtomicRequest, TxKind, TxStage};
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::slab::Key;
use crate::types::*;

impl<D: Datapath> Endpoint<D> {
    /// See [`crate::Domain::atomic`].
    pub(crate) fn atomic(&mut self, op: &AtomicArgs<'_>, shared: &mut Shared) -> Result<(), SubmitError> {
        let core = &mut self.core;
        core.check_enabled()?;
        let peer = core.peer_at(shared, op.destination)?;
        let key = core.take_atomic(peer, op)?;
        core.join_count_line(key);
        if core.peer(peer).itself {
            core.atomic_to_self(key, shared);
            return Ok(());
        }
        let now = self.datapath.now();
        core.ensure_context(peer, now);
        core.number(key, peer);
        core.line_up(key, peer);
        core.report_early(key, shared);
        if !op.flags.contains(OpFlags::MORE) {
            let at = core.moment(now);
            core.transmit(&mut self.datapath, at, shared);
        }
        Ok(())
    }
}

impl Core {
    fn take_atomic(&mut self, peer: PeerId, op: &AtomicArgs<'_>) -> Result<Key, SubmitError> {
        let size = op.datatype.size();
        let bytes = usize::try_from(op.remote.length).map_err(|_| SubmitError::TooLong)?;
        let operands = if op.operation == AtomicOp::Read { 0 } else { bytes };
        let comparands = if op.operation.compares() { bytes } else { 0 };
        let result_fits =
            op.result.is_none_or(|result| mem::total(result) == bytes && result.len() <= IOV_LIMIT);
        let given = mem::total(op.operands) == operands || op.operation == AtomicOp::Read;
        let compared = comparands == 0 || mem::total(op.compare) == comparands;
        if bytes > ATOMIC_MAX || bytes == 0 || bytes % size != 0 || !given || !compared || !result_fits {
            return Err(SubmitError::TooLong);
        }
        let key = self.take_tx(peer, &[], op.context, op.flags - OpFlags::INJECT)?;
        // The operands are copied whatever the flags: they are short, and the request is one packet.
        let mut block = self
            .injected
            .take(operands + comparands)
            .ok_or(SubmitError::NoMemory)
            .inspect_err(|_| self.release_tx(key))?;
        mem::gather(op.operands, 0, &mut block[..operands]);
        mem::gather(op.compare, 0, &mut block[operands..operands + comparands]);
        let tx = &mut self.txs[key];
        tx.flags = op.flags;
        tx.length = bytes as u64;
        tx.slices.push(UserSlice::of_block(&mut block[..operands + comparands]));
        tx.block = Some(block);
        tx.kind = TxKind::Atomic { fetch: op.result.is_some() };
        tx.stage = TxStage::Requesting;
        tx.remote.push(op.remote);
        tx.sink.extend_from_slice(op.result.unwrap_or(&[]));
        tx.atomic = AtomicCode {
            operation: op.operation as u8,
            datatype: op.datatype as u8,
            compare: op.operation.compares(),
            count: u32::try_from(bytes / size).expect("at most ATOMIC_MAX"),
        };
        Ok(key)
    }

    fn atomic_to_self(&mut self, key: Key, shared: &mut Shared) {
        let tx = &self.txs[key];
        let (code, remote) = (tx.atomic, tx.remote[0]);
        let fetch = tx.kind == TxKind::Atomic { fetch: true };
        let mut operands = [0; 2 * ATOMIC_MAX];
        let length = mem::total(&tx.slices);
        mem::gather(&tx.slices, 0, &mut operands[..length]);
        let mut old = [0; ATOMIC_MAX];
        match execute(code, fetch, remote, &operands[..length], &mut old, shared) {
            Ok(region) => {
                let wanted = usize::try_from(remote.length).expect("at most ATOMIC_MAX");
                mem::scatter(&self.txs[key].sink, 0, &old[..wanted]);
                self.report_executed(region, fetch, shared);
                self.finish_tx(key, shared);
            }
            Err(cause) => self.refuse_tx(key, cause, shared),
        }
    }

    /// A peer's atomic: kept until its turn, with its operands.
    pub(crate) fn on_atomic(&mut self, peer: PeerId, segment: &Segment, payload: &[u8], shared: &mut Shared) {
        let Segment::ExtendedAtomic { msn, message_id, .. } = *segment else { return };
        let Some(request) = request_of(segment, payload) else { return };
        let Some(entry) = self.message_of(peer, msn, message_id, 0) else { return };
        if self.rxs[entry].started {
            return;
        }
        let mut block =
            if payload.len() <= 2 * ATOMIC_MAX { self.injected.take(payload.len()) } else { None };
        if let Some(block) = &mut block {
            block[..payload.len()].copy_from_slice(payload);
        }
        let rx = &mut self.rxs[entry];
        rx.started = true;
        rx.atomic = Some(request);
        rx.staging = block;
        if planted(Defect::AtomicOutOfOrder) && msn != self.peer(peer).rx_msn {
            let block = self.rxs[entry].staging.take();
            self.carry_out(peer, message_id, &request, block, shared);
        }
        if msn == self.peer(peer).rx_msn {
            self.advance_order(peer);
            self.arrive(entry, shared);
        }
        self.match_followers(peer, shared);
    }

    /// An atomic came to its turn.
    pub(crate) fn execute_in_turn(&mut self, key: Key, request: AtomicRequest, shared: &mut Shared) {
        let rx = &mut self.rxs[key];
        let (peer, message_id) = (rx.peer, rx.message_id);
        let block = rx.staging.take();
        self.forget_open(key);
        self.release_rx(key);
        if planted(Defect::AtomicOutOfOrder) && block.is_none() {
            // It was executed when it came.
            return;
        }
        self.carry_out(peer, message_id, &request, block, shared);
    }

    /// Executes an atomic and answers it. Its operands are in `block`, if there was memory for them.
    fn carry_out(
        &mut self,
        peer: PeerId,
        message_id: u32,
        request: &AtomicRequest,
        block: Option<Box<[u8]>>,
        shared: &mut Shared,
    ) {
        let mut old = [0; ATOMIC_MAX];
        let outcome = match &block {
            Some(block) => {
                let operands = &block[..request.operands];
                execute(request.code, request.fetch, request.remote, operands, &mut old, shared)
            }
            None => Err(Cause::NotSupported),
        };
        if let Some(block) = block {
            self.injected.put(block);
        }
        match outcome {
            Ok(region) => {
                self.answer_atomic(peer, message_id, request, &old);
                self.report_executed(region, request.fetch, shared);
            }
            Err(cause) => self.nack(peer, message_id, cause),
        }
    }

    fn answer_atomic(&mut self, peer: PeerId, message_id: u32, request: &AtomicRequest, old: &[u8]) {
        if !request.fetch {
            self.peer_mut(peer).queues.control.push_back(Control::Done { message_id });
            self.make_ready(peer);
            return;
        }
        let length = usize::try_from(request.remote.length).expect("executed, so at most ATOMIC_MAX");
        // Answers are never refused for want of memory: the atomic was executed.
        let Some(answer) = self.take_response(peer, request.sink_stag, 0, request.remote.length) else {
            return;
        };
        let mut block = self.injected.take_unlimited(length);
        block[..length].copy_from_slice(&old[..length]);
        let tx = &mut self.txs[answer];
        tx.slices.push(UserSlice::of_block(&mut block[..length]));
        tx.block = Some(block);
        self.send_response(peer, answer);
    }

    /// Counts an executed atomic: what fetches counts as a read, also when it writes (`fi_endpoint(3)`, FI_REMOTE_READ).
    fn report_executed(&mut self, region: MrId, fetch: bool, shared: &mut Shared) {
        let events = if fetch { CounterEvents::REMOTE_READ } else { CounterEvents::REMOTE_WRITE };
        self.count(shared, events, false);
        shared.count_region(Some(region), events);
    }
}

/// What a segment asks for.
fn request_of(segment: &Segment, payload: &[u8]) -> Option<AtomicRequest> {
    let Segment::ExtendedAtomic {
        operation, datatype, fetch, compare, sink_stag, count, key, offset, ..
    } = *segment
    else {
        return None;
    };
    let size = Datatype::from_number(u32::from(datatype)).map_or(0, Datatype::size) as u64;
    Some(AtomicRequest {
        code: AtomicCode { operation, datatype, compare, count },
        fetch,
        sink_stag,
        remote: RemoteSlice { key, offset, length: u64::from(count) * size },
        operands: payload.len(),
    })
}

/// The planted defect: a duplicate is as good as the original.
pub(crate) fn execute_duplicate(segment: &Segment, payload: &[u8], shared: &Shared) {
    if let Some(request) = request_of(segment, payload) {
        // Whether it can be executed is of no interest.
        let _ = execute(request.code, request.fetch, request.remote, payload, &mut [0; ATOMIC_MAX], shared);
    }
}

/// Checks everything, then executes: nothing is touched when anything is wrong. Old values go to `old`; with `fetch` they leave the region, which must permit that.
fn execute(
    code: AtomicCode,
    fetch: bool,
    remote: RemoteSlice,
    operands: &[u8],
    old: &mut [u8],
    shared: &Shared,
) -> Result<MrId, Cause> {
    let operation = AtomicOp::from_number(u32::from(code.operation)).ok_or(Cause::NotSupported)?;
    let datatype = Datatype::from_number(u32::from(code.datatype)).ok_or(Cause::NotSupported)?;
    let bytes = usize::try_from(remote.length).map_err(|_| Cause::NotSupported)?;
    let reads = operation == AtomicOp::Read;
    let expected = if reads { 0 } else { bytes } + if operation.compares() { bytes } else { 0 };
    let sound = atomic_is_defined(operation, datatype)
        && bytes <= ATOMIC_MAX
        && bytes > 0
        && operands.len() == expected
        && code.compare == operation.compares();
    if !sound {
        return Err(Cause::NotSupported);
    }
    let mut access = Access::empty();
    access.set(Access::REMOTE_READ, fetch || reads);
    access.set(Access::REMOTE_WRITE, !reads);
    let place = shared.mrs().resolve(remote, access)?;
    mem::gather(place.slices, place.offset, &mut old[..bytes]);
    let size = datatype.size();
    for at in (0..bytes).step_by(size) {
        let operand = operands.get(at..at + size).unwrap_or(&[]);
        let compare = operands.get(bytes + at..bytes + at + size).unwrap_or(&[]);
        let new: Option<[u8; ELEMENT_MAX]> =
            combine(operation, datatype, &old[at..at + size], operand, compare);
        if let Some(new) = new {
            mem::scatter(place.slices, place.offset + at, &new[..size]);
        }
    }
    Ok(place.id)
}
