//! What neighbours put into our queue. Hostile input ends here: an item that no honest neighbour puts ends its sender, and nothing else.

use rdgram_proto::Instant;
use rdgram_wire::{Control, Segment};

use super::items::{MessageHeader, PIECE_LENGTH, cut, kind, number_at};
use super::{ITEMS_MAX, Route};
use crate::direct::Placement;
use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::entries::RxStage;
use crate::local::*;
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::slab::Key;
use crate::types::*;

impl Core {
    /// Takes what neighbours have put into our queue, and looks after them when it is time. True when something came.
    #[inline]
    pub(crate) fn progress_neighbours(&mut self, now: Instant, shared: &mut Shared) -> bool {
        if self.neighbours.route.is_none() {
            return false;
        }
        self.progress_route(now, shared)
    }

    fn progress_route(&mut self, now: Instant, shared: &mut Shared) -> bool {
        if core::mem::take(&mut self.neighbours.asleep) {
            if let Some(route) = &mut self.neighbours.route {
                route.awake();
            }
        }
        let came = self.neighbours.met > 0 && self.take_items(shared) > 0;
        // Before the pulls: they rely on a recent look at the processes.
        if now >= self.neighbours.look_at {
            self.look_around(now);
        }
        if !self.neighbours.pulls.is_empty() {
            self.run_pulls(shared);
        }
        self.tell_room();
        while let Some(peer) = self.neighbours.stalled.pop() {
            self.make_ready(peer);
        }
        came
    }

    /// Takes up to [`ITEMS_MAX`] items; returns how many came.
    pub(super) fn take_items(&mut self, shared: &mut Shared) -> usize {
        let Some(mut route) = self.neighbours.route.take() else { return 0 };
        let taken = route.take(ITEMS_MAX, &mut |arrival| self.on_arrival(&arrival, shared));
        self.neighbours.route = Some(route);
        taken
    }

    /// Neighbours put no payload that nobody asked for while half of the pool for it is in use.
    pub(super) fn tell_room(&mut self) {
        let unwelcome = self.unexpected.handed_out() > self.config.unexpected_pool / 2;
        if unwelcome != self.neighbours.unwelcome {
            self.neighbours.unwelcome = unwelcome;
            if let Some(route) = &mut self.neighbours.route {
                route.set_welcome(!unwelcome);
            }
        }
    }

    fn on_arrival(&mut self, arrival: &Arrival<'_>, shared: &mut Shared) {
        let Some(peer) = self.neighbours.peer(arrival.from) else {
            self.stats.rx_stale += 1;
            return;
        };
        let answer = arrival.kind & kind::ANSWER != 0;
        let understood = match arrival.kind & !kind::ANSWER {
            kind::SEGMENT => {
                let understood = self.on_segment_item(peer, answer, arrival, shared);
                // A refusal may confirm what was acknowledged by datagram.
                self.drain_events(peer, shared);
                understood
            }
            kind::ANNOUNCEMENT => self.on_announcement(peer, arrival, shared),
            _ => self.on_message_item(peer, arrival, shared),
        };
        if understood.is_none() {
            self.stats.rx_malformed += 1;
            self.begin_end(peer, Cause::Corrupt);
        }
        if self.peer(peer).has_queued() {
            self.make_ready(peer);
        }
    }

    fn on_segment_item(
        &mut self,
        peer: PeerId,
        answer: bool,
        arrival: &Arrival<'_>,
        shared: &mut Shared,
    ) -> Option<()> {
        let segment = Segment::decode_apart(arrival.header, arrival.payload.len()).ok()?;
        if let (Segment::ExtendedSend { msn, message_id, total, last, .. }, true) = (segment, answer) {
            let closes = self.state == State::Closing;
            match if closes { None } else { self.message_of(peer, msn, message_id, total) } {
                Some(key) => self.rxs[key].answer = true,
                // It was discarded, or the endpoint closes: as much is here as ever will be.
                None if last => {
                    self.peer_mut(peer).queues.control.push_back(Control::Done { message_id });
                    return Some(());
                }
                None => return Some(()),
            }
        }
        if let Segment::ExtendedAtomic { .. } = segment {
            return self.on_atomic_item(peer, &segment, arrival.payload, shared);
        }
        self.place(peer, &segment, Placement::Shared(arrival.payload), Route::Memory, shared);
        Some(())
    }

    /// The operands of an atomic are looked at: a copy of them, then.
    fn on_atomic_item(
        &mut self,
        peer: PeerId,
        segment: &Segment,
        payload: UserSlice,
        shared: &mut Shared,
    ) -> Option<()> {
        let mut operands = [0; 2 * ATOMIC_MAX];
        let copy = operands.get_mut(..payload.len())?;
        payload.read_into(copy);
        self.place(peer, segment, Placement::Bounced(copy), Route::Memory, shared);
        Some(())
    }

    fn on_announcement(&mut self, peer: PeerId, arrival: &Arrival<'_>, shared: &mut Shared) -> Option<()> {
        let segment = Segment::decode_apart(arrival.header, 0).ok()?;
        let Segment::ExtendedSend { msn, message_id, total, start: Some(start), .. } = segment else {
            return None;
        };
        let mut bytes = [0; IOV_LIMIT * PIECE_LENGTH];
        let bytes = bytes.get_mut(..arrival.payload.len())?;
        arrival.payload.read_into(bytes);
        if self.state == State::Closing {
            return Some(());
        }
        let key = self.message_of(peer, msn, message_id, total)?;
        let rx = &mut self.rxs[key];
        if !start.rendezvous || rx.started {
            return None;
        }
        rx.by_memory = true;
        let mut left = total;
        for piece in bytes.chunks_exact(PIECE_LENGTH) {
            let (address, length) = (number_at(piece, 0), number_at(piece, 8));
            left = left.checked_sub(length)?;
            rx.foreign.push((address, length));
        }
        if left > 0 {
            return None;
        }
        self.place(peer, &segment, Placement::Bounced(&[]), Route::Memory, shared);
        Some(())
    }

    /// A whole message.
    fn on_message_item(&mut self, peer: PeerId, arrival: &Arrival<'_>, shared: &mut Shared) -> Option<()> {
        let MessageHeader { msn, tag, data, message_id } = MessageHeader::read(arrival.kind, arrival.header)?;
        let length = arrival.payload.len();
        if self.state == State::Closing {
            // It has been dealt with, as a datagram is that was acknowledged.
            let answer = message_id.map(|message_id| Control::Done { message_id });
            self.peer_mut(peer).queues.control.extend(answer);
            return Some(());
        }
        if self.receive_at_once(peer, msn, tag, data, arrival.payload, shared) {
            if let Some(message_id) = message_id {
                self.peer_mut(peer).queues.control.push_back(Control::Done { message_id });
            }
            return Some(());
        }
        let key = self.message_of(peer, msn, message_id.unwrap_or(0), length as u64)?;
        if self.rxs[key].started {
            return None;
        }
        self.rxs[key].by_memory = true;
        self.rxs[key].answer = message_id.is_some();
        self.take_envelope(key, rdgram_wire::Start { rendezvous: false, tag, data });
        if msn == self.peer(peer).rx_msn {
            self.advance_order(peer);
            self.arrive(key, shared);
        }
        self.deposit(key, 0, Placement::Shared(arrival.payload));
        self.settle(key, shared);
        self.match_followers(peer, shared);
        Some(())
    }

    /// The way of most messages: it is this one's turn, and a receive waits that it fits into. Nothing else is different from the long way. False when it has to be taken.
    fn receive_at_once(
        &mut self,
        peer: PeerId,
        msn: u32,
        tag: Option<u64>,
        data: Option<u64>,
        payload: UserSlice,
        shared: &mut Shared,
    ) -> bool {
        let entry = self.peer(peer);
        if msn != entry.rx_msn || !entry.queues.order.is_empty() {
            return false;
        }
        let Some(posted) = self.queue_of(tag.is_some()).find_posted(peer, tag.unwrap_or(0)) else {
            return false;
        };
        let receive = &self.posts[posted.key];
        if receive.multi.is_some() || payload.len() > receive.capacity {
            return false;
        }
        #[cfg(feature = "trace")]
        self.trace_at_once(peer, tag, payload.len(), posted.key);
        self.queue_of(tag.is_some()).remove_posted(posted.key);
        self.peers[peer.0 as usize].rx_msn = msn.wrapping_add(1);
        self.stats.rx_messages += 1;
        let receive = &self.posts[posted.key];
        mem::move_range(&[payload], 0, &receive.slices, 0, payload.len());
        let kind = if tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        let with_data =
            if data.is_some() { CompletionFlags::REMOTE_CQ_DATA } else { CompletionFlags::empty() };
        let (context, written) = (receive.context, receive.flags.contains(OpFlags::COMPLETION));
        let buffer = receive.slices.first().map_or(0, |slice| slice.address().addr());
        if written {
            let completion = Completion {
                context,
                flags: CompletionFlags::RECV | kind | with_data,
                length: payload.len(),
                buffer,
                data: data.unwrap_or(0),
                tag: tag.unwrap_or(0),
                source: self.fi_addr(shared, peer),
            };
            self.complete_from(shared, peer, completion);
        }
        self.count(shared, CounterEvents::RECV, false);
        self.release_posted(posted.key);
        true
    }

    /// Tells the sender of a message that all of it is here, if it waits for that.
    pub(crate) fn answer(&mut self, key: Key) {
        let rx = &mut self.rxs[key];
        if core::mem::take(&mut rx.answer) {
            let (peer, message_id) = (rx.peer, rx.message_id);
            self.peer_mut(peer).queues.control.push_back(Control::Done { message_id });
            self.make_ready(peer);
        }
    }

    /// Copies messages out of their senders' memory, or asks for those that cannot be had that way.
    pub(crate) fn run_pulls(&mut self, shared: &mut Shared) {
        let mut pulls = core::mem::take(&mut self.neighbours.pulls);
        for key in pulls.drain(..) {
            self.run_pull(key, shared);
        }
        self.neighbours.pulls = pulls;
    }

    fn run_pull(&mut self, key: Key, shared: &mut Shared) {
        let Some(rx) = self.rxs.get_mut(key) else { return };
        let waits = rx.remote && rx.stage == RxStage::Matched && !rx.foreign.is_empty();
        let Some(target) = rx.target.filter(|_| waits) else { return };
        let (peer, wanted, message_id) = (rx.peer, rx.wanted(), rx.message_id);
        let mut pieces = core::mem::take(&mut rx.foreign);
        cut(&mut pieces, wanted);
        let neighbour = self.peer(peer).link.neighbour();
        let length = usize::try_from(wanted).expect("fits the buffer");
        let mut into: Vec<UserSlice> = core::mem::take(&mut self.slices);
        mem::parts(&self.posts[target.posted].slices, target.base, length, |part| into.push(part));
        let pulled = match (neighbour, &mut self.neighbours.route) {
            (Some(neighbour), Some(route)) => route.pull(neighbour, &pieces, &into),
            _ => Err(PullError::Refused),
        };
        into.clear();
        self.slices = into;
        pieces.clear();
        self.rxs[key].foreign = pieces;
        match pulled {
            Ok(()) => {
                let rx = &mut self.rxs[key];
                rx.received = wanted;
                // It may wait for others in its buffer: no datagram is to be received there any more.
                rx.placed_end = wanted;
                // It asks for nothing more, which ends the send.
                let control = Control::Cts { message_id, stag: 0, length: 0 };
                self.peer_mut(peer).queues.control.push_back(control);
                self.make_ready(peer);
                self.finish_rx(key, shared);
            }
            Err(PullError::Refused) => self.grant(key, wanted),
            Err(PullError::Dead) => self.begin_end(peer, Cause::Refused),
        }
    }
}
