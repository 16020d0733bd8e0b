//! From queues to datagrams: what is lost first, then control, then message starts, then bulk; as much as window and credits allow, in batches.

use rdgram_proto::{Class, Context, Defect, Moment, planted};
use rdgram_wire::{Control, Flags, Kind, Llp, Psn, Segment, Syn};

use crate::datapath::{Datapath, HEADER_MAX, TxPacket, TxStop};
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{Token, TxStage};
use crate::local::Neighbour;
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::packet;
use crate::slab::Key;
use crate::types::OpFlags;

/// Bytes of headers that precede a DDP segment.
pub(crate) fn prefix(syn: bool) -> usize {
    Llp::LENGTH + if syn { Syn::LENGTH } else { 0 }
}

/// Writes longer than this do not hold up what is behind them, bytes.
const LONG_WRITE: u64 = 16 << 10;
/// After this many bytes the next long operation has its turn.
pub(crate) const TURN: u64 = 64 << 10;

/// Why filling the batch from a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// Nothing more to send now: the queues are empty, or the window, a credit or an answer is missing.
    Exhausted,
    /// The batch is full.
    Full,
}

/// Who cares when a datagram of a batch is not taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// The transport: it sends the packet again.
    Transport(PeerId, Psn),
    /// The peer, who is owed it: an acknowledgement, and of a probe also its number.
    Answer(PeerId, Option<u32>),
    /// The peer's context, but it is said only once: a probe, a farewell.
    Once(PeerId),
    /// An answer to somebody who has no context.
    Nobody,
}

impl Owner {
    fn peer(self) -> Option<PeerId> {
        match self {
            Self::Transport(peer, _) | Self::Answer(peer, _) | Self::Once(peer) => Some(peer),
            Self::Nobody => None,
        }
    }
}

impl Core {
    /// Sends what the peers on the ready list have, until nothing more may be sent or the datapath blocks. True when a datagram was sent.
    pub(crate) fn transmit<D: Datapath>(
        &mut self,
        datapath: &mut D,
        at: Moment,
        shared: &mut Shared,
    ) -> bool {
        let mut sent = false;
        if core::mem::take(&mut self.blocked) {
            // What goes now fills the socket again: those that sleep come first.
            self.ring_all(datapath, at, shared);
        }
        self.settle_fresh(datapath);
        while !self.ready.is_empty() && !self.blocked {
            self.fill_batch(at);
            sent |= self.finish_put(shared);
            if self.batch.is_empty() {
                break;
            }
            sent = true;
            self.flush_batch(datapath, at, shared);
        }
        self.ring_all(datapath, at, shared);
        sent
    }

    fn ring_all<D: Datapath>(&mut self, datapath: &mut D, at: Moment, shared: &mut Shared) {
        while self.has_rings() && !self.blocked {
            self.ring(at);
            self.flush_batch(datapath, at, shared);
        }
    }

    /// Fills the batch from the ready peers, in turns.
    fn fill_batch(&mut self, at: Moment) {
        while let Some(&peer) = self.ready.front() {
            match self.fill_from(peer, at) {
                Fill::Full => {
                    // The next batch begins with another peer.
                    self.ready.rotate_left(1);
                    return;
                }
                Fill::Exhausted => {
                    self.ready.pop_front();
                    self.peer_mut(peer).ready = false;
                    self.note_context(peer);
                }
            }
        }
    }

    fn fill_from(&mut self, peer: PeerId, at: Moment) -> Fill {
        let Some(context) = self.peer(peer).context.as_deref() else { return Fill::Exhausted };
        if let (Some(neighbour), false) = (self.peer(peer).link.up(), context.wants_turn(at.now)) {
            return self.fill_queue(peer, neighbour, at);
        }
        if context.wants_credit() {
            self.share_credit(peer, at.now);
        }
        let filled = self.fill_retransmissions(peer, at);
        if filled == Fill::Full {
            return filled;
        }
        self.acks.awaited = false;
        self.settle_link(peer);
        if let Some(neighbour) = self.peer(peer).link.up() {
            return self.fill_queue(peer, neighbour, at);
        }
        while self.send_control(peer, at) {
            if self.batch.is_full() {
                return Fill::Full;
            }
        }
        // Starts first, but not alone: a granted message gets every second datagram.
        loop {
            let started = self.send_start(peer, at);
            if self.batch.is_full() {
                return Fill::Full;
            }
            let moved = self.send_bulk(peer, at);
            if self.batch.is_full() {
                return Fill::Full;
            }
            if !started && !moved {
                if self.acks.awaited {
                    self.demand_ack(peer, at);
                }
                return if self.batch.is_full() { Fill::Full } else { Fill::Exhausted };
            }
        }
    }

    /// Puts what the peer has to say into its queue, as long as there is room.
    fn fill_queue(&mut self, peer: PeerId, neighbour: Neighbour, at: Moment) -> Fill {
        if !self.put_control(peer, neighbour) {
            return Fill::Exhausted;
        }
        loop {
            let started = self.send_start(peer, at);
            let moved = self.send_bulk(peer, at);
            if !started && !moved {
                return Fill::Exhausted;
            }
        }
    }

    fn fill_retransmissions(&mut self, peer: PeerId, at: Moment) -> Fill {
        while let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() {
            let Some(again) = context.poll_retransmit(at) else { break };
            // An operation that was given up leaves its PSNs, which the peer waits for.
            let token =
                if self.token_lives(&again.token) { again.token } else { Token::Control(Control::Nop) };
            let psn = again.llp.psn;
            self.push_data(peer, again.llp, token, again.fragment, psn);
            self.stats.tx_retransmitted += 1;
            if self.batch.is_full() {
                return Fill::Full;
            }
        }
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else {
            return Fill::Exhausted;
        };
        let probe_acks = [context.poll_probe_ack(at), context.poll_probe_ack(at)];
        for llp in probe_acks.into_iter().flatten() {
            self.push_bare(peer, llp, 0);
        }
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else {
            return Fill::Exhausted;
        };
        if let Some((llp, size)) = context.poll_probe(at) {
            self.push_bare(peer, llp, size);
        }
        if self.batch.is_full() { Fill::Full } else { Fill::Exhausted }
    }

    fn send_control(&mut self, peer: PeerId, at: Moment) -> bool {
        let entry = &mut self.peers[peer.0 as usize];
        let (Some(context), Some(&control)) = (entry.context.as_deref_mut(), entry.queues.control.front())
        else {
            return false;
        };
        let bytes = prefix(context.needs_syn()) + Segment::Control(control).encoded_length();
        if !context.can_send(Class::Control, bytes) {
            return false;
        }
        let token = Token::Control(control);
        let llp = context.send(at, token, datagram_length(bytes), Class::Control, true);
        entry.queues.control.pop_front();
        let psn = llp.psn;
        self.push_data(peer, llp, token, false, psn);
        true
    }

    /// Sends the next datagram of the oldest operation in line. False when there is none, or the window, a fence or an order holds it back.
    fn send_start(&mut self, peer: PeerId, at: Moment) -> bool {
        if let Some(sent) = self.send_remnant(peer, at) {
            return sent;
        }
        while let Some(&key) = self.peer(peer).queues.starts.front() {
            let entry = &mut self.peers[peer.0 as usize];
            let Some(tx) = self.txs.get_mut(key).filter(|tx| tx.starts_here() && !tx.all_sent()) else {
                entry.queues.starts.pop_front();
                continue;
            };
            let fenced = tx.flags.contains(OpFlags::FENCE)
                && !entry.queues.underway.is_empty()
                && !planted(Defect::FenceIgnored);
            if !tx.started && (fenced || entry.queues.underway.holds_up(tx.class(), self.config.orders)) {
                self.acks.awaited = true;
                return false;
            }
            if self.is_held_for_link(peer, key) {
                return false;
            }
            let (entry, tx) = (&mut self.peers[peer.0 as usize], &mut self.txs[key]);
            if tx.stage == TxStage::Writing && tx.length > LONG_WRITE {
                // Messages behind it need not wait for all of it.
                tx.started = true;
                entry.queues.underway.add(tx.class());
                entry.queues.starts.pop_front();
                entry.queues.bulk.push_back(key);
                continue;
            }
            if let Some(sent) = self.send_bundle(peer, at) {
                return sent;
            }
            let sent = self.send_next(peer, key, at);
            if sent && !self.defer_remnant(peer) && self.txs[key].all_sent() {
                self.peer_mut(peer).queues.starts.pop_front();
            }
            return sent;
        }
        false
    }

    /// Sends the next datagram of a long operation, and lets the next one have its turn now and then.
    fn send_bulk(&mut self, peer: PeerId, at: Moment) -> bool {
        let mut held = 0;
        while let Some(&key) = self.peer(peer).queues.bulk.front() {
            let moves = self.txs.get(key).is_some_and(|tx| tx.moves_bulk() && !tx.all_sent());
            if !moves {
                self.peer_mut(peer).queues.bulk.pop_front();
                continue;
            }
            if self.is_held_for_link(peer, key) {
                let bulk = &mut self.peer_mut(peer).queues.bulk;
                held += 1;
                if held >= bulk.len() {
                    return false;
                }
                bulk.rotate_left(1);
                continue;
            }
            let before = self.txs[key].sent;
            if !self.send_next(peer, key, at) {
                return false;
            }
            let tx = &self.txs[key];
            if tx.all_sent() || tx.is_held() {
                self.peer_mut(peer).queues.bulk.pop_front();
            } else if before / TURN != tx.sent / TURN {
                self.peer_mut(peer).queues.bulk.rotate_left(1);
            }
            return true;
        }
        false
    }

    /// Sends the next datagram of an operation, if window and credits allow.
    pub(crate) fn send_next(&mut self, peer: PeerId, key: Key, at: Moment) -> bool {
        if let Some(neighbour) = self.peer(peer).link.up() {
            return self.put_next(peer, neighbour, key);
        }
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = entry.context.as_deref_mut() else { return false };
        let tx = &mut self.txs[key];
        let before = prefix(context.needs_syn());
        let token = packet::next(tx, key, context.segment() - before);
        let (segment, payload) = packet::segment_of(tx, token);
        let bytes = before + segment.encoded_length() + payload;
        if !context.can_send(Class::Data, bytes) {
            self.acks.awaited = true;
            return false;
        }
        if !tx.started {
            tx.started = true;
            entry.queues.underway.add(tx.class());
        }
        tx.note_sent(token, payload as u64);
        tx.in_flight += 1;
        // A request is answered.
        let ask = tx.all_sent() && tx.stage != TxStage::Requesting && tx.asks(&self.bindings);
        let llp = context.send(at, token, datagram_length(bytes), Class::Data, ask);
        if tx.stage == TxStage::Requesting {
            context.note_request();
        }
        let psn = llp.psn;
        self.push_data(peer, llp, token, false, psn);
        // Messages and long operations take turns, packet by packet, as long as there are both.
        let queues = &self.peer(peer).queues;
        if queues.starts.is_empty() || queues.bulk.is_empty() {
            self.send_alike(peer, key, token, llp, at);
        }
        true
    }

    /// Pushes a packet without a body, padded to `size` bytes.
    pub(crate) fn push_bare(&mut self, peer: PeerId, llp: Llp, size: u16) {
        let syn = self.syn_for(peer, &llp);
        let padding = usize::from(size).saturating_sub(prefix(syn.is_some()));
        let padding = datagram_length(padding);
        let owner = match llp.kind {
            Kind::ProbeAck => Owner::Answer(peer, Some(llp.psn.0)),
            _ => Owner::Once(peer),
        };
        self.push(peer, owner, Outgoing { llp, syn, body: &[], padding, fragment: false }, Source::Nothing);
    }

    /// Pushes a reset to an address that no context may exist for.
    pub(crate) fn push_reset(&mut self, destination: core::net::SocketAddr, reset: rdgram_wire::Reset) {
        let mut body = [0; HEADER_MAX];
        let length = reset.encode(&mut body);
        let llp = Llp::new(Kind::Reset);
        let outgoing = Outgoing { llp, syn: None, body: &body[..length], padding: 0, fragment: false };
        self.batch.push(|packet| outgoing.write(packet, destination, Payload::NONE, true, false), |_| ());
        self.batch_owners.push(Owner::Nobody);
    }

    /// Pushes the packet that `token` stands for.
    pub(crate) fn push_data(&mut self, peer: PeerId, llp: Llp, token: Token, fragment: bool, psn: Psn) {
        let syn = self.syn_for(peer, &llp);
        if let Token::Bundle { bundle } = token {
            let llp = Llp { kind: Kind::Bundle, ..llp };
            let outgoing = Outgoing { llp, syn, body: &[], padding: 0, fragment };
            return self.push(peer, Owner::Transport(peer, psn), outgoing, Source::Bundle(bundle));
        }
        let mut body = [0; Segment::HEADER_MAX];
        let (segment, tx, offset, length) = packet::describe(&self.txs, token);
        let written = segment.encode(&mut body);
        let outgoing = Outgoing { llp, syn, body: &body[..written], padding: 0, fragment };
        let source = tx.map_or(Source::Nothing, |tx| Source::Operation { tx, offset, length });
        self.push(peer, Owner::Transport(peer, psn), outgoing, source);
    }

    fn syn_for(&self, peer: PeerId, llp: &Llp) -> Option<Syn> {
        let context = self.peer(peer).context.as_deref()?;
        llp.flags.contains(Flags::SYN).then(|| context.syn())
    }

    pub(crate) fn push(&mut self, peer: PeerId, owner: Owner, outgoing: Outgoing<'_>, source: Source) {
        let destination = self.peer(peer).destination();
        let (payload, full) = match source {
            Source::Nothing => (Payload::NONE, false),
            Source::Operation { tx, offset, length } => {
                (Payload { slices: &self.txs[tx].slices, offset, length }, self.config.full_integrity)
            }
            Source::Bundle(bundle) => {
                let slices = self.bundles[bundle].body();
                (Payload { slices, offset: 0, length: mem::total(slices) }, true)
            }
        };
        let inline = outgoing.header_length() + payload.length <= HEADER_MAX;
        let bytes = self.batch.push(
            |packet| outgoing.write(packet, destination, payload, full, inline),
            |arena| {
                if !inline {
                    mem::parts(payload.slices, payload.offset, payload.length, |part| arena.push(part));
                }
            },
        );
        self.stats.tx_datagrams += 1;
        self.stats.tx_bytes += bytes as u64;
        self.batch_owners.push(owner);
    }

    /// Gives the batch to the datapath and tells the transport what was not taken.
    pub(crate) fn flush_batch<D: Datapath>(&mut self, datapath: &mut D, at: Moment, shared: &mut Shared) {
        let outcome = datapath.transmit(&self.batch);
        let count = self.batch.packets().len();
        let mut refused = outcome.taken.min(count)..count;
        let culprit = self.batch_owners.get(refused.start).copied();
        match (outcome.stopped, culprit) {
            (Some(TxStop::TooBig(mtu)), Some(Owner::Transport(peer, psn))) => {
                let whole = !self.batch.packets()[refused.start].fragment;
                let in_fragments = self.context_mut(peer).is_some_and(|context| {
                    context.on_too_big(at, mtu);
                    context.goes_in_fragments(psn)
                });
                // One that would go as it went is as good as lost, or it would be tried for ever.
                refused.start += usize::from(!(whole && in_fragments));
            }
            // A probe that does not even leave the host is a probe lost.
            (Some(TxStop::TooBig(_)), Some(_)) => refused.start += 1,
            (Some(TxStop::Unreachable(_)), Some(owner)) => {
                // As good as lost: the transport sends it again while it believes in the peer.
                refused.start += 1;
                let peer = owner.peer();
                if let Some((peer, context)) = peer.and_then(|peer| Some((peer, self.context_mut(peer)?))) {
                    context.on_unreachable(at, true);
                    self.drain_events(peer, shared);
                }
            }
            (Some(TxStop::Blocked), _) => self.blocked = true,
            _ => {}
        }
        for index in refused {
            let owner = self.batch_owners[index];
            let Some((peer, context)) = owner.peer().and_then(|peer| Some((peer, self.context_mut(peer)?)))
            else {
                continue;
            };
            match owner {
                Owner::Transport(_, psn) => {
                    context.unsent(psn);
                    self.make_ready(peer);
                }
                // It may also be what wakes a neighbour.
                Owner::Answer(_, probe) => {
                    context.unsent_answer(probe);
                    self.note_context(peer);
                    self.make_ready(peer);
                }
                // It may have been a probe that asks for acknowledgements.
                Owner::Once(_) => {
                    context.unsent_probe();
                    self.make_ready(peer);
                }
                Owner::Nobody => {}
            }
        }
        self.batch.clear();
        self.batch_owners.clear();
    }

    pub(crate) fn context_mut(&mut self, peer: PeerId) -> Option<&mut Context<Token>> {
        self.peers.get_mut(peer.0 as usize)?.context.as_deref_mut()
    }
}

/// Where the payload of a datagram is.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Nothing,
    Operation { tx: Key, offset: usize, length: usize },
    Bundle(Key),
}

/// The headers of a datagram, still as values.
pub(crate) struct Outgoing<'a> {
    pub(crate) llp: Llp,
    pub(crate) syn: Option<Syn>,
    /// The encoded DDP header, or body of another kind.
    pub(crate) body: &'a [u8],
    pub(crate) padding: u16,
    pub(crate) fragment: bool,
}

/// The payload of a datagram: `length` bytes from `offset` of `slices`.
#[derive(Clone, Copy)]
struct Payload<'a> {
    slices: &'a [UserSlice],
    offset: usize,
    length: usize,
}

impl Payload<'_> {
    const NONE: Self = Self { slices: &[], offset: 0, length: 0 };
}

impl Outgoing<'_> {
    fn header_length(&self) -> usize {
        prefix(self.syn.is_some()) + self.body.len()
    }

    /// Encodes the headers into `packet`, with length and integrity filled in; the payload too, when it is to be `inline`: the kernel takes one piece faster than two.
    fn write(
        mut self,
        packet: &mut TxPacket,
        destination: core::net::SocketAddr,
        payload: Payload<'_>,
        full: bool,
        inline: bool,
    ) {
        let header_length = self.header_length();
        self.llp.length = datagram_length(header_length + payload.length + usize::from(self.padding));
        // Padding is never covered: its content does not matter, its arrival does.
        let full = full && payload.length > 0;
        self.llp.flags.set(Flags::FULL, full);
        self.llp.integrity = 0;
        let header = &mut packet.header;
        let mut at = self.llp.encode(header);
        if let Some(syn) = &self.syn {
            at += syn.encode(&mut header[at..]);
        }
        header[at..at + self.body.len()].copy_from_slice(self.body);
        let mut crc = crc32c::crc32c(&header[..header_length]);
        if full {
            mem::parts(payload.slices, payload.offset, payload.length, |part| crc = part.crc32c(crc));
        }
        header[Llp::INTEGRITY_OFFSET..Llp::LENGTH].copy_from_slice(&crc.to_be_bytes());
        let mut first_piece = header_length;
        if inline && payload.length > 0 {
            first_piece += payload.length;
            mem::gather(payload.slices, payload.offset, &mut header[header_length..first_piece]);
        }
        packet.destination = destination;
        packet.header_length = datagram_length(first_piece);
        packet.fragment = self.fragment;
        packet.padding = self.padding;
    }
}

/// A length that is known to fit a datagram.
pub(crate) fn datagram_length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("no datagram is longer than 65,507 bytes")
}
