//! Peers on the same host: how they are met, what goes through memory instead of datagrams, and how it ends.
//!
//! Operations, matching and placement are the same on both routes; a segment that goes through memory has no PSN, because nothing there is lost. A peer is met after a few packets, and
//! when its memory is there nothing new begins by datagrams; once all that was sent that way is acknowledged, everything goes through memory. So no message ever overtakes another one's route.
//! The context stays: it tells incarnations apart, and its packets wake a sleeping neighbour and ask whether a silent one lives.
//!
//! Must never wait for a neighbour, and never believe one: what it says is checked as a packet is, and a neighbour that says nonsense loses its own route only.

use core::time::Duration;

use rdgram_proto::{Defect, Instant, Moment, planted};
use rdgram_wire::{Control, Segment};

use crate::cq::Entry;
use crate::direct::Placement;
use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::entries::{RxStage, TxKind, TxStage};
use crate::local::*;
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::packet;
use crate::slab::Key;
use crate::types::*;

/// Packets of a peer before it is met: one that says little is not worth shared memory.
const MEET_AFTER: u8 = 4;
/// Items taken in one progress call before others have their turn.
const ITEMS_MAX: usize = 256;
/// Items taken of a neighbour that has ended: no queue is longer.
const LAST_ITEMS_MAX: usize = 1 << 20;
/// Time between the first two looks at the exchange while something of it is under way, and between the last ones: each time is twice as long as the one before.
/// A neighbour that computes answers late, and until then datagrams do.
const EXCHANGE_FIRST: Duration = Duration::from_micros(20);
const EXCHANGE_LAST: Duration = Duration::from_secs(1);
/// Time between two looks for strangers and for neighbours that ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest sleep while something is awaited of anybody and neighbours may end.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// The socket is looked at no more often than this while only neighbours talk: the bound within which a first packet is noticed.
const SOCKET_EVERY: Duration = Duration::from_micros(20);
/// After a datagram the socket is looked at in every progress call for so long.
const SOCKET_BUSY: Duration = Duration::from_millis(1);
/// Longest message that goes through memory before it is asked for, bytes, whatever both sides prefer: what a receiver can be made to keep.
pub(crate) const EAGER_MAX: usize = 64 << 10;
/// Bytes of [`ForeignPiece`] in an announcement.
const PIECE_LENGTH: usize = 16;

const _: () = assert!(HEADER_ROOM >= Segment::HEADER_MAX);

/// Kinds of item.
mod kind {
    /// A DDP segment and its payload.
    pub(super) const SEGMENT: u8 = 1;
    /// The start of a message whose payload is at its sender; the item's payload says where.
    pub(super) const ANNOUNCEMENT: u8 = 2;
    /// A whole message, with one of the two that follow or both.
    pub(super) const MESSAGE: u8 = 0x10;
    pub(super) const TAGGED: u8 = 0x01;
    pub(super) const DATA: u8 = 0x02;
    /// Of every kind: the sender of the message waits to be told that all of it is here.
    pub(super) const ANSWER: u8 = 0x20;
}

/// How a segment came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Network,
    Memory,
}

/// Whether a peer can be reached through memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It was not tried yet: so many packets came.
    Unmet(u8),
    /// It cannot.
    Absent,
    /// That is being found out.
    Meeting(Neighbour),
    /// It can, but not everything that was sent by datagrams is acknowledged.
    Draining(Neighbour),
    Up(Neighbour),
}

impl Default for Link {
    fn default() -> Self {
        Self::Unmet(0)
    }
}

impl Link {
    /// The neighbour that it is, up or not.
    pub(crate) fn neighbour(self) -> Option<Neighbour> {
        match self {
            Self::Unmet(_) | Self::Absent => None,
            Self::Meeting(neighbour) | Self::Draining(neighbour) | Self::Up(neighbour) => Some(neighbour),
        }
    }

    /// The neighbour, when everything goes through memory.
    #[inline]
    pub(crate) fn up(self) -> Option<Neighbour> {
        if let Self::Up(neighbour) = self { Some(neighbour) } else { None }
    }
}

/// What an endpoint knows of the route through memory, and of when to look where.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    route: Option<Box<dyn LocalRoute>>,
    /// Peer of each neighbour.
    peers: Vec<Option<PeerId>>,
    /// Neighbours met and not left.
    met: usize,
    asleep: bool,
    unwelcome: bool,
    look_at: Instant,
    exchange_every: Duration,
    socket_at: Instant,
    socket_busy_until: Instant,
    /// Peers whose queue had no room.
    stalled: Vec<PeerId>,
    /// Peers that have to be sent a datagram, because they sleep.
    rings: Vec<PeerId>,
    /// Messages to copy out of their senders' memory.
    pulls: Vec<Key>,
    /// Operations of which a part was put.
    advanced: Vec<Key>,
    /// Peers that have ended, as soon as what they put before is taken.
    ending: Vec<(PeerId, Cause)>,
}

impl Neighbours {
    pub(crate) fn open(&mut self, route: Option<Box<dyn LocalRoute>>) {
        self.route = route;
    }

    fn peer(&self, neighbour: Neighbour) -> Option<PeerId> {
        self.peers.get(usize::from(neighbour.0)).copied().flatten()
    }

    fn note(&mut self, neighbour: Neighbour, peer: PeerId) {
        let index = usize::from(neighbour.0);
        if self.peers.len() <= index {
            self.peers.resize(index + 1, None);
        }
        if self.peers[index].replace(peer).is_none() {
            self.met += 1;
        }
    }

    fn forget(&mut self, neighbour: Neighbour) {
        if self.peers.get_mut(usize::from(neighbour.0)).and_then(Option::take).is_some() {
            self.met -= 1;
        }
    }

    /// Nobody waits for anything here.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pulls.is_empty()
            && self.ending.is_empty()
            && self.route.as_ref().is_none_or(|route| self.met == 0 || !route.has_items())
    }

    /// Counters of the route.
    pub(crate) fn stats(&self) -> LocalStats {
        self.route.as_ref().map_or_else(LocalStats::default, |route| route.stats())
    }

    /// From now on no neighbour may copy from this process.
    pub(crate) fn forbid_pulls(&mut self) {
        if let Some(route) = &mut self.route {
            route.forbid_pulls();
        }
    }

    /// A message waits to be copied out of its sender's memory.
    pub(crate) fn pull(&mut self, key: Key) {
        self.pulls.push(key);
    }

    /// Whether a progress call may leave the socket alone: only neighbours have talked lately.
    #[inline]
    pub(crate) fn spares_socket(&self, now: Instant) -> bool {
        self.met > 0 && now < self.socket_at && now >= self.socket_busy_until
    }

    /// The socket was looked at; `busy`: something came or went there.
    #[inline]
    pub(crate) fn note_socket(&mut self, now: Instant, busy: bool) {
        if self.met > 0 {
            self.socket_at = now + SOCKET_EVERY;
            if busy {
                self.socket_busy_until = now + SOCKET_BUSY;
            }
        }
    }

    /// Before a sleep: neighbours have to ring from now on. False when there is work already.
    pub(crate) fn sleep(&mut self) -> bool {
        let Some(route) = self.route.as_mut().filter(|_| self.met > 0) else { return true };
        if !self.stalled.is_empty() || !self.ending.is_empty() || !self.pulls.is_empty() {
            return false;
        }
        self.asleep = route.sleep();
        self.asleep
    }

    /// How long a sleep may last, as far as neighbours matter; `awaited`: something is awaited of anybody.
    pub(crate) fn sleep_limit(&self, awaited: bool) -> Option<Duration> {
        let route = self.route.as_ref()?;
        if route.is_meeting() {
            return Some(self.exchange_every);
        }
        (self.met > 0 && awaited).then_some(SLEEP_MAX)
    }
}

// ---- meeting and parting

impl Core {
    /// A packet of the peer was handled: after some of them it is met.
    #[inline]
    pub(crate) fn note_heard(&mut self, peer: PeerId) {
        if let Link::Unmet(packets) = self.peer(peer).link {
            if self.neighbours.route.is_some() {
                self.consider(peer, packets);
            }
        }
    }

    fn consider(&mut self, peer: PeerId, packets: u8) {
        if packets < MEET_AFTER {
            self.peer_mut(peer).link = Link::Unmet(packets + 1);
            return;
        }
        let incarnation = self.context_mut(peer).and_then(|context| context.peer_incarnation());
        if let Some(incarnation) = incarnation {
            self.meet(peer, incarnation);
        }
    }

    fn meet(&mut self, peer: PeerId, incarnation: u64) {
        let name = self.peer(peer).name;
        let Some(route) = self.neighbours.route.as_mut().filter(|_| self.state == State::Enabled) else {
            return;
        };
        self.peers[peer.0 as usize].link = match route.meet(name, incarnation) {
            Some(neighbour) => {
                self.neighbours.note(neighbour, peer);
                self.neighbours.look_at = Instant::ZERO;
                self.neighbours.exchange_every = EXCHANGE_FIRST;
                Link::Meeting(neighbour)
            }
            None => Link::Absent,
        };
    }

    fn on_local_event(&mut self, event: LocalEvent) {
        match event {
            LocalEvent::Up(neighbour) => {
                let Some(peer) = self.neighbours.peer(neighbour) else { return };
                if self.peer(peer).link == Link::Meeting(neighbour) {
                    self.peer_mut(peer).link = Link::Draining(neighbour);
                    self.stats.links += 1;
                    self.make_ready(peer);
                }
            }
            LocalEvent::Absent(neighbour) => {
                if let Some(peer) = self.neighbours.peer(neighbour) {
                    self.neighbours.forget(neighbour);
                    self.peer_mut(peer).link = Link::Absent;
                }
            }
            LocalEvent::Stranger { name, incarnation } => {
                let Some(peer) = self.by_name.find(&self.peers, &name) else { return };
                self.thaw(peer);
                let known = self.context_mut(peer).and_then(|context| context.peer_incarnation());
                if known == Some(incarnation) && matches!(self.peer(peer).link, Link::Unmet(_)) {
                    self.meet(peer, incarnation);
                }
            }
        }
    }

    /// The exchange with neighbours, and who of them has ended.
    fn look_around(&mut self, now: Instant) {
        let Some(mut route) = self.neighbours.route.take() else { return };
        while let Some(event) = route.poll() {
            // An answer to it is a call of the route.
            self.neighbours.route = Some(route);
            self.on_local_event(event);
            route = self.neighbours.route.take().expect("put back just now");
        }
        while let Some(loss) = route.poll_loss() {
            let (neighbour, cause) = match loss {
                Loss::Died(neighbour) => (neighbour, Cause::Refused),
                Loss::Corrupt(neighbour) => (neighbour, Cause::Corrupt),
            };
            if let Some(peer) = self.neighbours.peer(neighbour) {
                self.begin_end(peer, cause);
            }
        }
        let exchange = &mut self.neighbours.exchange_every;
        self.neighbours.look_at = now + LOOK_EVERY.min(*exchange);
        *exchange = (*exchange * 2).min(EXCHANGE_LAST);
        self.neighbours.route = Some(route);
    }

    /// A neighbour has ended. What it put into our queue before, and what it said in order by datagrams, comes first.
    pub(crate) fn begin_end(&mut self, peer: PeerId, cause: Cause) {
        self.neighbours.socket_at = Instant::ZERO;
        match self.neighbours.ending.iter_mut().find(|(other, _)| *other == peer) {
            // Nobody is bound to its port any more because it closed.
            Some((_, known)) if *known == Cause::Refused => *known = cause,
            Some(_) => {}
            None => self.neighbours.ending.push((peer, cause)),
        }
    }

    /// Ends the peers that are to end, when the socket has been read to its end.
    pub(crate) fn finish_ends(&mut self, shared: &mut Shared) {
        if self.neighbours.ending.is_empty() {
            return;
        }
        if !planted(Defect::LastItemsLost) {
            self.take_items(LAST_ITEMS_MAX, shared);
            self.run_pulls(shared);
        }
        for (peer, cause) in core::mem::take(&mut self.neighbours.ending) {
            self.thaw(peer);
            self.fail_peer(peer, cause, shared);
        }
    }

    /// The peer's context has ended, and its route with it.
    pub(crate) fn part_from(&mut self, peer: PeerId) {
        let entry = self.peer_mut(peer);
        let Some(neighbour) = core::mem::take(&mut entry.link).neighbour() else { return };
        self.neighbours.forget(neighbour);
        if let Some(route) = &mut self.neighbours.route {
            route.leave(neighbour);
        }
    }

    // ---- receiving

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
        let came = self.neighbours.met > 0 && self.take_items(ITEMS_MAX, shared) > 0;
        if !self.neighbours.pulls.is_empty() {
            self.run_pulls(shared);
        }
        if now >= self.neighbours.look_at {
            self.look_around(now);
        }
        self.tell_room();
        while let Some(peer) = self.neighbours.stalled.pop() {
            self.make_ready(peer);
        }
        came
    }

    fn take_items(&mut self, most: usize, shared: &mut Shared) -> usize {
        let Some(mut route) = self.neighbours.route.take() else { return 0 };
        let taken = route.take(most, &mut |arrival| self.on_arrival(&arrival, shared));
        self.neighbours.route = Some(route);
        taken
    }

    /// Neighbours put no payload that nobody asked for while half of the pool for it is in use.
    fn tell_room(&mut self) {
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
            kind::SEGMENT => self.on_segment_item(peer, answer, arrival, shared),
            kind::ANNOUNCEMENT => self.on_announcement(peer, answer, arrival, shared),
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
        if let (Segment::ExtendedSend { msn, message_id, total, .. }, true) = (segment, answer) {
            let key = self.message_of(peer, msn, message_id, total)?;
            self.rxs[key].answer = true;
        }
        // The operands of an atomic are looked at: a copy of them, then.
        let mut operands = [0; 2 * ATOMIC_MAX];
        let placement = if matches!(segment, Segment::ExtendedAtomic { .. }) {
            let copy = operands.get_mut(..arrival.payload.len())?;
            arrival.payload.read_into(copy);
            Placement::Bounced(copy)
        } else {
            Placement::Shared(arrival.payload)
        };
        self.place(peer, &segment, placement, Route::Memory, shared);
        Some(())
    }

    fn on_announcement(
        &mut self,
        peer: PeerId,
        answer: bool,
        arrival: &Arrival<'_>,
        shared: &mut Shared,
    ) -> Option<()> {
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
        rx.answer = answer;
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
        while let Some(key) = self.neighbours.pulls.pop() {
            let Some(rx) = self.rxs.get_mut(key) else { continue };
            let waits = rx.remote && rx.stage == RxStage::Matched && !rx.foreign.is_empty();
            let Some(target) = rx.target.filter(|_| waits) else { continue };
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
                    self.rxs[key].received = wanted;
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
}

// ---- sending

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
        let entry = &self.peers[peer.0 as usize];
        let Some(route) = &mut self.neighbours.route else { return false };
        let too_long = op.slices.len() > IOV_LIMIT
            || length > route.piece_max().min(self.config.eager_max)
            || (op.flags.contains(OpFlags::INJECT) && length > self.config.inject_max);
        let waits = !entry.queues.starts.is_empty() || entry.fence_next || !self.config.orders.is_empty();
        if too_long || waits || op.flags.intersects(SLOW) || !route.is_welcome(to) {
            return false;
        }
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
        let entry = self.peer(peer);
        let waits = !entry.queues.starts.is_empty() || entry.fence_next || !self.config.orders.is_empty();
        let fenced = self.txs[key].flags.contains(OpFlags::FENCE);
        let put = !waits && !fenced && self.put_next(peer, to, key);
        if !put || !self.txs[key].all_sent() {
            self.line_up(key, peer);
        }
        self.report_early(key, shared);
        self.finish_put(shared);
        put
    }

    /// Whether a message may go through memory before it is asked for.
    pub(crate) fn is_eager_there(&self, to: Neighbour, length: u64) -> bool {
        let Some(route) = &self.neighbours.route else { return false };
        let most = EAGER_MAX.min(self.config.eager_max).min(route.eager_max(to));
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
        let mut lines = entry.queues.starts.iter().chain(&entry.queues.bulk);
        if in_flight || lines.any(|key| self.is_tied(*key)) {
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
        let tx = &self.txs[key];
        let token = packet::next_in(tx, key, route.piece_max() as u64);
        let (segment, _, offset, length) = packet::describe(&self.txs, token);
        let mut header = [0; HEADER_ROOM];
        let mut pieces = [0; IOV_LIMIT * PIECE_LENGTH];
        let answer = tx.kind == TxKind::Send && tx.flags.contains(OpFlags::DELIVERY_COMPLETE);
        let asks = if answer { kind::ANSWER } else { 0 };
        let outcome = match tx.stage {
            TxStage::Announced => {
                let used = segment.encode(&mut header);
                let listed = list_pieces(&tx.slices, &mut pieces);
                let parcel = Parcel {
                    kind: kind::ANNOUNCEMENT | asks,
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
        tx.answer_asked |= answer && tx.stage == TxStage::Announced;
        if tx.sent == 0 {
            tx.answers |= match tx.stage {
                TxStage::Writing => true,
                TxStage::Eager => answer,
                TxStage::Granted => tx.answer_asked,
                _ => false,
            };
        }
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
            Put::Full | Put::Gone => {
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

/// The header of a whole message. Which of its parts are there, the item's kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MessageHeader {
    msn: u32,
    tag: Option<u64>,
    data: Option<u64>,
    /// The sender's name for it, when it waits to be told that it is here.
    message_id: Option<u32>,
}

impl MessageHeader {
    /// Bytes of the longest.
    const MAX: usize = 4 + 8 + 8 + 4;

    fn read(kind: u8, header: &[u8]) -> Option<Self> {
        if kind & !(kind::TAGGED | kind::DATA | kind::ANSWER) != kind::MESSAGE {
            return None;
        }
        let (msn, mut rest) = header.split_first_chunk()?;
        let mut optional = |present: u8| {
            if kind & present == 0 {
                return Some(None);
            }
            let (value, after) = rest.split_first_chunk()?;
            rest = after;
            Some(Some(u64::from_le_bytes(*value)))
        };
        let (tag, data) = (optional(kind::TAGGED)?, optional(kind::DATA)?);
        let message_id = match (kind & kind::ANSWER, rest.is_empty()) {
            (0, true) => None,
            (0, false) => return None,
            _ => Some(u32::from_le_bytes(rest.try_into().ok()?)),
        };
        Some(Self { msn: u32::from_le_bytes(*msn), tag, data, message_id })
    }

    /// Writes it: the item's kind, and how many bytes were written.
    fn write(&self, out: &mut [u8; Self::MAX]) -> (u8, usize) {
        let (mut kind, mut used) = (kind::MESSAGE, 4);
        out[..4].copy_from_slice(&self.msn.to_le_bytes());
        for (value, flag) in [(self.tag, kind::TAGGED), (self.data, kind::DATA)] {
            if let Some(value) = value {
                kind |= flag;
                out[used..used + 8].copy_from_slice(&value.to_le_bytes());
                used += 8;
            }
        }
        if let Some(message_id) = self.message_id {
            kind |= kind::ANSWER;
            out[used..used + 4].copy_from_slice(&message_id.to_le_bytes());
            used += 4;
        }
        (kind, used)
    }
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Writes where the slices are; returns the bytes used.
fn list_pieces(slices: &[UserSlice], out: &mut [u8; IOV_LIMIT * PIECE_LENGTH]) -> usize {
    let mut used = 0;
    for slice in slices {
        out[used..used + 8].copy_from_slice(&(slice.address().addr() as u64).to_le_bytes());
        out[used + 8..used + 16].copy_from_slice(&(slice.len() as u64).to_le_bytes());
        used += PIECE_LENGTH;
    }
    used
}

/// Cuts a list of pieces down to `wanted` bytes.
fn cut(pieces: &mut Vec<ForeignPiece>, mut wanted: u64) {
    pieces.retain_mut(|(_, length)| {
        *length = (*length).min(wanted);
        wanted -= *length;
        *length > 0
    });
}
