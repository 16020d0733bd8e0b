//! What goes into neighbours' queues: whole messages, announcements, the segments of everything else.

use rdgram_proto::{Defect, Moment, planted};
use rdgram_wire::Segment;

use super::items::{MessageHeader, PIECE_LENGTH, kind, list_pieces};
use super::{EAGER_MAX, Link};
use crate::cq::Entry;
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{TxKind, TxStage};
use crate::local::*;
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::packet;
use crate::slab::Key;
use crate::types::*;

impl Core {
    /// Sends a message through memory at once, without an operation entry. False when it has to stand in line, or needs one.
    #[inline]
    pub(crate) fn send_at_once(
        &mut self,
        peer: PeerId,
        to: Neighbour,
        op: &SendOp<'_>,
        shared: &mut Shared,
    ) -> bool {
        const SLOW: OpFlags = OpFlags::FENCE.union(OpFlags::MATCH_COMPLETE).union(OpFlags::DELIVERY_COMPLETE);
        let length = mem::total(op.slices);
        let refused = self.refuses(op.slices, length, op.flags);
        let slow = op.flags.intersects(SLOW) || self.stands_in_line(peer);
        if refused || slow || !self.is_eager_there(peer, to, length as u64) {
            return false;
        }
        let entry = &self.peers[peer.0 as usize];
        let Some(route) = self.neighbours.route.as_mut().filter(|route| length <= route.piece_max()) else {
            return false;
        };
        let mut header = [0; MessageHeader::MAX];
        let values = MessageHeader { msn: entry.tx_msn, tag: op.tag, data: op.data, message_id: None };
        let (kind, used) = values.write(&mut header);
        let parcel = Parcel { kind, header: &header[..used], payload: op.slices, offset: 0, length };
        match route.put(to, &parcel) {
            Put::Done => {}
            Put::Ring => self.neighbours.rings.push(peer),
            Put::Full | Put::Gone => return false,
        }
        self.peers[peer.0 as usize].tx_msn = entry.tx_msn.wrapping_add(1);
        self.stats.tx_messages += 1;
        if op.flags.contains(OpFlags::COMPLETION) {
            let kind = if op.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
            let flags = CompletionFlags::SEND | kind;
            let completion = Completion { context: op.context, flags, ..Completion::default() };
            self.complete_tx(shared, Entry::Success(completion));
        }
        self.count(shared, CounterEvents::SEND, false);
        true
    }

    /// Puts the first item of a send that nothing stands before, without a place in line. Otherwise gives it one, and says so: false.
    pub(crate) fn put_at_once(&mut self, peer: PeerId, to: Neighbour, key: Key, shared: &mut Shared) -> bool {
        let waits = self.txs[key].flags.contains(OpFlags::FENCE) || self.stands_in_line(peer);
        let put = !waits && self.put_next(peer, to, key);
        if !put || !self.txs[key].all_sent() {
            self.line_up(key, peer);
        }
        self.report_early(key, shared);
        self.finish_put(shared);
        put
    }

    /// Whether what is sent to the peer now has to wait for others.
    fn stands_in_line(&self, peer: PeerId) -> bool {
        let entry = self.peer(peer);
        !entry.queues.starts.is_empty() || entry.fence_next || !self.config.orders.is_empty()
    }

    /// Whether a message may go through memory before it is asked for.
    pub(crate) fn is_eager_there(&self, peer: PeerId, to: Neighbour, length: u64) -> bool {
        let Some(route) = &self.neighbours.route else { return false };
        let streaming = !self.peer(peer).queues.underway.is_empty();
        let most = EAGER_MAX.min(self.config.eager_max).min(route.eager_max(to, streaming));
        length <= most as u64 && route.is_welcome(to)
    }

    /// Somebody sleeps and has to be sent a datagram.
    #[inline]
    pub(crate) fn has_rings(&self) -> bool {
        !self.neighbours.rings.is_empty()
    }

    /// Sends a datagram to those that sleep.
    pub(crate) fn ring(&mut self, at: Moment) {
        while !self.batch.is_full() {
            let Some(peer) = self.neighbours.rings.pop() else { return };
            self.thaw(peer);
            self.push_ack(peer, at);
        }
    }

    /// Whether everything may go through memory now: nothing that was sent by datagrams is unacknowledged, and no operation is tied to them.
    pub(crate) fn settle_link(&mut self, peer: PeerId) {
        let entry = &self.peers[peer.0 as usize];
        let Link::Draining(neighbour) = entry.link else { return };
        let Some(context) = entry.context.as_deref() else { return };
        // Until the peer has answered this context, it may know another of ours, whose messages have the same numbers.
        let in_flight = context.needs_syn() || context.unacknowledged() > 0;
        let queues = &entry.queues;
        let is_tied = |key: &Key| self.is_tied(*key);
        let tied =
            queues.starts.iter().chain(&queues.bulk).any(is_tied) || queues.remnants.iter().any(is_tied);
        if in_flight || tied {
            self.acks.awaited = true;
            return;
        }
        self.peer_mut(peer).link = Link::Up(neighbour);
    }

    /// A part of the operation was sent by datagrams, and the rest has to follow it.
    fn is_tied(&self, key: Key) -> bool {
        self.txs.get(key).is_some_and(|tx| {
            let begun = tx.sent > 0 && !tx.answers && !tx.all_sent();
            begun && matches!(tx.stage, TxStage::Eager | TxStage::Writing | TxStage::Requesting)
        })
    }

    /// Whether an operation must not begin, or go on, by datagrams: its peer's memory is about to be the way.
    pub(crate) fn is_held_for_link(&self, peer: PeerId, key: Key) -> bool {
        let entry = self.peer(peer);
        matches!(entry.link, Link::Draining(_))
            && entry.context.as_deref().is_some_and(|context| !context.needs_syn())
            && !self.is_tied(key)
    }

    /// Puts the next item of an operation. False when there is no room.
    pub(crate) fn put_next(&mut self, peer: PeerId, to: Neighbour, key: Key) -> bool {
        let Some(route) = &mut self.neighbours.route else { return false };
        let tx = &mut self.txs[key];
        if tx.stage == TxStage::Eager && !tx.started && !route.is_welcome(to) {
            // It has stood in line since it was.
            tx.rendezvous = true;
            tx.stage = TxStage::Announced;
        }
        let tx = &self.txs[key];
        let token = packet::next_in(tx, key, route.piece_max() as u64);
        let (segment, _, offset, length) = packet::describe(&self.txs, token);
        let mut header = [0; HEADER_ROOM];
        let answer = tx.kind == TxKind::Send && tx.flags.contains(OpFlags::DELIVERY_COMPLETE);
        let asks = if answer { kind::ANSWER } else { 0 };
        let outcome = match tx.stage {
            TxStage::Announced => {
                let used = segment.encode(&mut header);
                let mut pieces = [0; IOV_LIMIT * PIECE_LENGTH];
                let listed = list_pieces(&tx.slices, &mut pieces);
                let parcel = Parcel {
                    kind: kind::ANNOUNCEMENT,
                    header: &header[..used],
                    payload: &[UserSlice::of_block(&mut pieces[..listed])],
                    offset: 0,
                    length: listed,
                };
                route.put(to, &parcel)
            }
            TxStage::Eager if length as u64 == tx.length => {
                let message_id = answer.then(|| key.to_wire());
                let values = MessageHeader { msn: tx.msn, tag: tx.tag, data: tx.data, message_id };
                let mut header = [0; MessageHeader::MAX];
                let (kind, used) = values.write(&mut header);
                route.put(
                    to,
                    &Parcel { kind, header: &header[..used], payload: &tx.slices, offset: 0, length },
                )
            }
            stage => {
                let used = segment.encode(&mut header);
                let kind = kind::SEGMENT | if stage == TxStage::Eager { asks } else { 0 };
                route.put(to, &Parcel { kind, header: &header[..used], payload: &tx.slices, offset, length })
            }
        };
        if !self.note_put(peer, outcome) {
            return false;
        }
        let tx = &mut self.txs[key];
        tx.answers |= match tx.stage {
            // The first part may have gone by datagrams: of a write they are acknowledged, and then all of it is.
            TxStage::Writing => tx.sent == 0,
            TxStage::Eager => answer && tx.sent == 0,
            TxStage::Granted => true,
            _ => false,
        };
        if !tx.started {
            tx.started = true;
            let class = tx.class();
            self.peer_mut(peer).queues.underway.add(class);
        }
        self.txs[key].note_sent(token, length as u64);
        self.neighbours.advanced.push(key);
        true
    }

    /// Puts the control messages in line. False when there is no room.
    pub(crate) fn put_control(&mut self, peer: PeerId, to: Neighbour) -> bool {
        while let Some(&control) = self.peer(peer).queues.control.front() {
            let Some(route) = &mut self.neighbours.route else { return false };
            let mut header = [0; HEADER_ROOM];
            let used = Segment::Control(control).encode(&mut header);
            let header = &header[..used];
            let parcel = Parcel { kind: kind::SEGMENT, header, payload: &[], offset: 0, length: 0 };
            let outcome = route.put(to, &parcel);
            if !self.note_put(peer, outcome) {
                return false;
            }
            self.peer_mut(peer).queues.control.pop_front();
        }
        true
    }

    /// Whether an item was taken.
    fn note_put(&mut self, peer: PeerId, outcome: Put) -> bool {
        match outcome {
            Put::Done => true,
            Put::Ring => {
                if !self.neighbours.rings.contains(&peer) {
                    self.neighbours.rings.push(peer);
                }
                true
            }
            Put::Full if planted(Defect::FullItemLost) => true,
            Put::Gone => {
                // It has ended its context with us, or itself: which, is known once the socket has been read.
                self.begin_end(peer, Cause::Restarted);
                false
            }
            Put::Full => {
                if !self.neighbours.stalled.contains(&peer) {
                    self.neighbours.stalled.push(peer);
                }
                false
            }
        }
    }

    /// Ends the operations of which the last item was put.
    pub(crate) fn finish_put(&mut self, shared: &mut Shared) -> bool {
        let put = !self.neighbours.advanced.is_empty();
        let mut advanced = core::mem::take(&mut self.neighbours.advanced);
        for key in advanced.drain(..) {
            if self.txs.get(key).is_some() {
                self.finish_tx_if_done(key, shared);
            }
        }
        self.neighbours.advanced = advanced;
        put
    }
}
