//! One-sided operations, both sides: writes and reads of an initiator, and what the target does about them.
//!
//! A write's packets name their place, so they are placed as they come, and the packet acknowledgement completes the write. A read is a request, answered by packets for the initiator's sink. What the target
//! refuses (key, permission, bounds) comes back as NACK, which is counted with RNR: no acknowledgement completes an operation that was refused (protocol.md section 5).

use rdgram_proto::{Defect, planted};
use rdgram_wire::{Control, Segment};

use crate::datapath::Datapath;
use crate::direct::{Placement, Stream};
use crate::domain::{Access, Shared};
use crate::endpoint::{Core, Endpoint};
use crate::entries::{TxEntry, TxKind, TxStage};
use crate::link::Route;
use crate::matching::PeerId;
use crate::mem;
use crate::peer::IncomingWrite;
use crate::slab::Key;
use crate::types::*;

/// NACK codes of protocol.md section 7.
mod nack {
    pub(super) const KEY: u16 = 1;
    pub(super) const ACCESS: u16 = 2;
    pub(super) const RANGE: u16 = 3;
    pub(super) const OPERATION: u16 = 4;
}

impl<D: Datapath> Endpoint<D> {
    /// See [`crate::Domain::rma`].
    pub(crate) fn rma(&mut self, op: &RmaOp<'_>, shared: &mut Shared) -> Result<(), SubmitError> {
        let core = &mut self.core;
        core.check_enabled()?;
        let peer = core.peer_at(shared, op.destination)?;
        let key = core.take_rma(peer, op)?;
        core.join_count_line(key);
        // No packet can name such a place, so the target cannot be the one to refuse it (protocol.md section 7).
        let beyond = |piece: &RemoteSlice| piece.offset.checked_add(piece.length).is_none();
        if op.kind == RmaKind::Write && op.remote.iter().any(beyond) {
            core.peer_mut(peer).fence_next |= op.flags.contains(OpFlags::FENCE);
            core.refuse_tx(key, Cause::OutOfRange, shared);
            return Ok(());
        }
        if core.peer(peer).itself {
            core.rma_to_self(key, shared);
            return Ok(());
        }
        let now = self.datapath.now();
        core.ensure_context(peer, now);
        core.line_up(key, peer);
        if op.kind == RmaKind::Read {
            core.expect(Stream::Answer(key));
        }
        core.report_early(key, shared);
        if !op.flags.contains(OpFlags::MORE) {
            let at = core.moment(now);
            core.transmit(&mut self.datapath, at, shared);
        }
        Ok(())
    }
}

impl Core {
    fn take_rma(&mut self, peer: PeerId, op: &RmaOp<'_>) -> Result<Key, SubmitError> {
        let length = mem::total(op.slices);
        let remote = op.remote.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.length));
        if remote != Some(length as u64) || op.remote.is_empty() || op.remote.len() > IOV_LIMIT {
            return Err(SubmitError::TooLong);
        }
        let payload = if op.kind == RmaKind::Write { op.slices } else { &[] };
        let key = self.take_tx(peer, payload, op.context, op.flags)?;
        if op.kind == RmaKind::Read && op.slices.len() > IOV_LIMIT {
            self.release_tx(key);
            return Err(SubmitError::TooLong);
        }
        let tx = &mut self.txs[key];
        tx.length = length as u64;
        tx.data = op.data;
        tx.remote.extend_from_slice(op.remote);
        match op.kind {
            RmaKind::Write => {
                tx.kind = TxKind::Write;
                tx.stage = TxStage::Writing;
            }
            RmaKind::Read => {
                tx.kind = TxKind::Read;
                tx.stage = TxStage::Requesting;
                tx.sink.extend_from_slice(op.slices);
            }
        }
        Ok(key)
    }

    /// Gives a one-sided operation its place in the line of those to be counted, when a counter counts them.
    pub(crate) fn join_count_line(&mut self, key: Key) {
        const COUNTED: CounterEvents = CounterEvents::READ.union(CounterEvents::WRITE);
        if self.bindings.counts(COUNTED) {
            self.txs[key].turn = Some(self.counting.join());
        }
    }

    /// Gives an operation its place in the line to its peer.
    pub(crate) fn line_up(&mut self, key: Key, peer: PeerId) {
        if core::mem::take(&mut self.peer_mut(peer).fence_next) {
            self.txs[key].flags |= OpFlags::FENCE;
        }
        self.peer_mut(peer).queues.starts.push_back(key);
        self.make_ready(peer);
    }

    /// The piece of the target's memory that byte `offset` of an operation lies in: where exactly, and how many bytes from there.
    pub(crate) fn remote_at(remote: &[RemoteSlice], mut offset: u64) -> RemoteSlice {
        for piece in remote {
            if offset < piece.length {
                return RemoteSlice {
                    key: piece.key,
                    offset: piece.offset.wrapping_add(offset),
                    length: piece.length - offset,
                };
            }
            offset -= piece.length;
        }
        // An operation without bytes, or at its end.
        remote.last().map_or_else(RemoteSlice::default, |piece| RemoteSlice { length: 0, ..*piece })
    }

    fn rma_to_self(&mut self, key: Key, shared: &mut Shared) {
        let write = self.txs[key].kind == TxKind::Write;
        let access = if write { Access::REMOTE_WRITE } else { Access::REMOTE_READ };
        let tx = &self.txs[key];
        let mut fault = tx.remote.iter().find_map(|piece| shared.mrs().resolve(*piece, access).err());
        if fault.is_none() {
            let mut done = 0;
            for index in 0..tx.remote.len() {
                let Ok(place) = shared.mrs().resolve(tx.remote[index], access) else { continue };
                let local = if write { &tx.slices } else { &tx.sink };
                let (mine, theirs) = (
                    Window { slices: local, offset: done },
                    Window { slices: place.slices, offset: place.offset },
                );
                let (from, to) = if write { (mine, theirs) } else { (theirs, mine) };
                mem::move_range(from.slices, from.offset, to.slices, to.offset, place.length);
                done += place.length;
            }
        }
        let (peer, data, total, remote) =
            (tx.peer, tx.data, tx.length, tx.remote.last().copied().unwrap_or_default());
        if let Some(cause) = fault.take() {
            self.refuse_tx(key, cause, shared);
            return;
        }
        if write {
            self.report_written(peer, remote, data, total, shared);
        } else {
            self.report_read(shared.mrs().resolve(remote, access).ok().map(|place| place.id), shared);
        }
        self.finish_tx(key, shared);
    }

    /// Ends an operation in failure, as soon as nothing is in flight of it.
    pub(crate) fn refuse_tx(&mut self, key: Key, cause: Cause, shared: &mut Shared) {
        self.txs[key].stage = TxStage::Refused(cause);
        self.leave_lines(key);
        self.finish_tx_if_done(key, shared);
    }

    /// Takes an operation out of its peer's lines: a key that stayed there might name another operation by the time it comes to the front.
    fn leave_lines(&mut self, key: Key) {
        let peer = self.txs[key].peer;
        let entry = self.peer_mut(peer);
        entry.queues.starts.retain(|other| *other != key);
        entry.queues.remnants.leave(key);
        entry.queues.bulk.retain(|other| *other != key);
        self.make_ready(peer);
    }

    /// Tells the target that nothing more comes of a write it refused: what it noted of it would wait for ever, and be taken for a part of a later one with the same message id.
    pub(crate) fn void_tx(&mut self, key: Key, cause: Cause) {
        let tx = &mut self.txs[key];
        tx.stage = TxStage::Voiding(cause);
        let peer = tx.peer;
        self.peer_mut(peer).queues.bulk.push_back(key);
        self.make_ready(peer);
    }

    /// Stops an answer, and lets go of the memory it reads. What is in flight of it keeps its entry: acknowledgements are still to come.
    pub(crate) fn withdraw_response(&mut self, key: Key) {
        let tx = &mut self.txs[key];
        tx.stage = TxStage::Withdrawn;
        tx.slices.clear();
        self.leave_lines(key);
        if self.txs[key].in_flight == 0 {
            self.release_tx(key);
        }
    }

    // ---- target

    /// Bytes of a peer's write.
    pub(crate) fn on_rma_write(
        &mut self,
        peer: PeerId,
        segment: &Segment,
        payload: Placement<'_>,
        route: Route,
        shared: &mut Shared,
    ) {
        let Segment::ExtendedWrite { offset, last, message_id, key, total, data, .. } = *segment else {
            return;
        };
        let remote = RemoteSlice { key, offset, length: payload.len() as u64 };
        let place = match shared.mrs().resolve(remote, Access::REMOTE_WRITE) {
            Ok(place) => place,
            Err(cause) => return self.nack(peer, message_id, cause),
        };
        payload.copy_to(place.slices, place.offset, payload.len());
        let end = if last { Some(remote) } else { None };
        match self.note_written(peer, message_id, total, payload.len(), end) {
            Noted::Whole(end) => {
                self.report_written(peer, end.unwrap_or(remote), data, total, shared);
                if route == Route::Memory {
                    // No acknowledgement tells its initiator.
                    self.peer_mut(peer).queues.control.push_back(Control::Done { message_id });
                    self.make_ready(peer);
                }
                if planted(Defect::CountedTwice) && total > payload.len() as u64 {
                    self.count(shared, CounterEvents::REMOTE_WRITE, false);
                }
            }
            Noted::Part => {}
            Noted::TooMany => self.nack(peer, message_id, Cause::NoMemory),
        }
    }

    /// Notes bytes of a peer's write that have been placed.
    fn note_written(
        &mut self,
        peer: PeerId,
        message_id: u32,
        total: u64,
        bytes: usize,
        end: Option<RemoteSlice>,
    ) -> Noted {
        if bytes as u64 >= total {
            return Noted::Whole(end);
        }
        let writes = &mut self.peer_mut(peer).queues.writes;
        // Packets of one write come together: it is found at the end.
        let index = match writes.iter().rposition(|write| write.message_id == message_id) {
            Some(index) => index,
            None if writes.len() >= WRITES_MAX => return Noted::TooMany,
            None => {
                writes.push(IncomingWrite { message_id, received: 0, end: None });
                writes.len() - 1
            }
        };
        let newest = writes.len() - 1;
        writes.swap(index, newest);
        let write = &mut writes[newest];
        write.received += bytes as u64;
        write.end = write.end.or(end);
        if planted(Defect::WriteReportedAtLastPacket) {
            if write.end.is_some() {
                write.received = total;
            } else {
                write.received = write.received.min(total - 1);
            }
        }
        if write.received < total {
            return Noted::Part;
        }
        let end = write.end;
        writes.pop();
        Noted::Whole(end)
    }

    /// A peer has ended a write that was refused.
    pub(crate) fn on_void(&mut self, peer: PeerId, message_id: u32) {
        self.peer_mut(peer).queues.writes.retain(|write| write.message_id != message_id);
    }

    /// A peer's write is complete: tells whoever asked for it. It counts at the region where it ends.
    fn report_written(
        &mut self,
        peer: PeerId,
        remote: RemoteSlice,
        data: Option<u64>,
        total: u64,
        shared: &mut Shared,
    ) {
        if let Some(data) = data {
            let flags =
                CompletionFlags::RMA | CompletionFlags::REMOTE_WRITE | CompletionFlags::REMOTE_CQ_DATA;
            let source = self.fi_addr(shared, peer);
            let length = usize::try_from(total).unwrap_or(usize::MAX);
            let completion = Completion { flags, length, data, source, ..Completion::default() };
            self.complete_from(shared, peer, completion);
        }
        self.count(shared, CounterEvents::REMOTE_WRITE, false);
        let region = shared
            .mrs()
            .resolve(RemoteSlice { length: 0, ..remote }, Access::REMOTE_WRITE)
            .ok()
            .map(|place| place.id);
        shared.count_region(region, CounterEvents::REMOTE_WRITE);
    }

    /// A peer's read was answered.
    pub(crate) fn report_read(&mut self, region: Option<MrId>, shared: &mut Shared) {
        self.count(shared, CounterEvents::REMOTE_READ, false);
        shared.count_region(region, CounterEvents::REMOTE_READ);
    }

    /// A peer wants to read: the answer is an operation of ours.
    pub(crate) fn on_rma_read(&mut self, peer: PeerId, segment: &Segment, shared: &mut Shared) {
        let Segment::ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length } =
            *segment
        else {
            return;
        };
        if sink_offset.checked_add(length).is_none() {
            // No answer could name its place.
            self.stats.rx_malformed += 1;
            return;
        }
        let place = match shared.mrs().resolve(RemoteSlice { key, offset, length }, Access::REMOTE_READ) {
            Ok(place) => place,
            Err(cause) => return self.nack(peer, message_id, cause),
        };
        if self.check_memory().is_err() {
            return self.nack(peer, message_id, Cause::NoMemory);
        }
        let Some(answer) = self.take_response(peer, sink_stag, sink_offset, length) else {
            return self.nack(peer, message_id, Cause::NoMemory);
        };
        let counts = self.bindings.counts(CounterEvents::REMOTE_READ)
            || shared.mrs().counts(place.id.0, CounterEvents::REMOTE_READ);
        let tx = &mut self.txs[answer];
        tx.region = Some(place.id);
        tx.counted = !part && counts;
        mem::parts(place.slices, place.offset, place.length, |part| tx.slices.push(part));
        self.send_response(peer, answer);
    }

    /// An entry for an answer of `length` bytes, whatever the memory ceiling says: an atomic has been executed when its answer is made, and must have it.
    pub(crate) fn take_response(
        &mut self,
        peer: PeerId,
        sink_stag: u32,
        sink_offset: u64,
        length: u64,
    ) -> Option<Key> {
        let key = self.txs.take()?;
        let tx = &mut self.txs[key];
        tx.blank();
        tx.peer = peer;
        tx.kind = TxKind::Response;
        tx.stage = TxStage::Responding;
        tx.stag = sink_stag;
        tx.granted = sink_offset;
        tx.length = length;
        Some(key)
    }

    pub(crate) fn send_response(&mut self, peer: PeerId, key: Key) {
        self.peer_mut(peer).queues.bulk.push_back(key);
        self.make_ready(peer);
    }

    /// Refuses an operation for good.
    pub(crate) fn nack(&mut self, peer: PeerId, message_id: u32, cause: Cause) {
        let code = match cause {
            Cause::BadKey => nack::KEY,
            Cause::AccessDenied => nack::ACCESS,
            Cause::OutOfRange => nack::RANGE,
            _ => nack::OPERATION,
        };
        // Through memory a peer may ask for something while its context is cold.
        self.thaw(peer);
        if let Some(context) = self.context_mut(peer) {
            let index = if planted(Defect::NackNotCounted) { 0 } else { context.note_refusal() };
            self.peer_mut(peer).queues.control.push_back(Control::Nack { message_id, index, code });
            self.make_ready(peer);
        }
    }

    // ---- initiator

    /// The target refused an operation.
    pub(crate) fn on_nack(&mut self, peer: PeerId, key: Key, index: u16, code: u16, shared: &mut Shared) {
        let cause = match code {
            nack::KEY => Cause::BadKey,
            nack::ACCESS => Cause::AccessDenied,
            nack::RANGE => Cause::OutOfRange,
            _ => Cause::NotSupported,
        };
        let refusable = self
            .txs
            .get(key)
            .is_some_and(|tx| tx.peer == peer && matches!(tx.stage, TxStage::Writing | TxStage::Requesting));
        if refusable {
            self.refuse_tx(key, cause, shared);
        }
        self.thaw(peer);
        if let Some(context) = self.context_mut(peer) {
            context.on_rnr(index);
        }
    }

    /// Bytes of an answer.
    pub(crate) fn on_response(
        &mut self,
        peer: PeerId,
        key: Key,
        offset: u64,
        payload: Placement<'_>,
        shared: &mut Shared,
    ) {
        let awaits = |tx: &&mut TxEntry| {
            let fetches = matches!(tx.kind, TxKind::Read | TxKind::Atomic { fetch: true });
            tx.peer == peer && tx.stage == TxStage::Requesting && fetches
        };
        let Some(tx) = self.txs.get_mut(key).filter(awaits) else {
            self.stats.rx_stale += 1;
            return;
        };
        let length = payload.len() as u64;
        let fits = offset.checked_add(length).is_some_and(|end| end <= tx.length)
            && tx.received + length <= tx.length;
        if !fits {
            self.stats.rx_malformed += 1;
            return;
        }
        let place = usize::try_from(offset).expect("below the length of a buffer");
        payload.copy_to(&tx.sink, place, payload.len());
        tx.received += length;
        let (end, whole) = (offset + length, tx.length);
        let furthest = end > tx.placed_end;
        tx.placed_end = tx.placed_end.max(end);
        tx.answered = tx.received == tx.length
            || (planted(Defect::ReadDoneAtLastPacket) && offset + length == tx.length);
        self.note_placed(Stream::Answer(key), payload, end, whole, furthest);
        self.finish_tx_if_done(key, shared);
    }

    /// An atomic without old values was executed, or what went through memory has been placed.
    pub(crate) fn on_done(&mut self, peer: PeerId, key: Key, shared: &mut Shared) {
        let awaits = |tx: &&mut TxEntry| {
            let fetches_nothing = tx.kind == TxKind::Atomic { fetch: false };
            let executed = tx.stage == TxStage::Requesting && fetches_nothing;
            let placed = tx.answers && tx.all_sent();
            tx.peer == peer && (executed || placed)
        };
        let Some(tx) = self.txs.get_mut(key).filter(awaits) else {
            self.stats.rx_stale += 1;
            return;
        };
        tx.answered = true;
        self.finish_tx_if_done(key, shared);
    }

    /// A region goes away: answers that read it stop, and their requesters are told. What is in flight of them is never read again: a NOP takes its place.
    pub(crate) fn forget_region(&mut self, region: MrId) {
        let answers = self.txs.keys_where(|tx| tx.stage == TxStage::Responding && tx.region == Some(region));
        for key in answers {
            if planted(Defect::ClosedRegionRead) {
                continue;
            }
            if self.txs[key].slices.is_empty() {
                // An answer without bytes goes its way; but the region's name may soon be another's.
                self.txs[key].region = None;
                continue;
            }
            let (peer, sink) = (self.txs[key].peer, self.txs[key].stag);
            self.withdraw_response(key);
            self.nack(peer, sink, Cause::BadKey);
        }
    }
}

/// Writes of one peer that are not complete, at most: far more than an honest one has under way.
const WRITES_MAX: usize = 1 << 16;

/// What is known of a write after a packet of it.
enum Noted {
    /// All of it has been placed; where it ends, if a packet said so.
    Whole(Option<RemoteSlice>),
    /// More is to come.
    Part,
    /// It cannot be noted.
    TooMany,
}

/// Bytes of a list of slices, from an offset.
#[derive(Clone, Copy)]
struct Window<'a> {
    slices: &'a [mem::UserSlice],
    offset: usize,
}
