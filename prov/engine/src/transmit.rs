//! From queues to datagrams: what is lost first, then control, then message starts, then bulk; as much as window and credits allow, in batches.

use rdgram_proto::{Class, Context, Moment};
use rdgram_wire::{Flags, Llp, Psn, Segment, Start, Syn};

use crate::datapath::{Datapath, HEADER_MAX, TxPacket, TxStop};
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{Token, TxEntry, TxStage};
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::slab::{Key, Slab};

/// Bytes of headers that precede a DDP segment.
fn prefix(syn: bool) -> usize {
    Llp::LENGTH + if syn { Syn::LENGTH } else { 0 }
}

/// Why filling the batch from a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// Nothing more to send now: the queues are empty, or the window, a credit or an answer is missing.
    Exhausted,
    /// The batch is full.
    Full,
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
        self.blocked = false;
        self.settle_fresh(datapath);
        while !self.ready.is_empty() && !self.blocked {
            self.fill_batch(at);
            if self.batch.is_empty() {
                break;
            }
            sent = true;
            self.flush_batch(datapath, at, shared);
        }
        sent
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
        if self.peer(peer).context.is_none() {
            return Fill::Exhausted;
        }
        let filled = self.fill_retransmissions(peer, at);
        if filled == Fill::Full {
            return filled;
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
                return Fill::Exhausted;
            }
        }
    }

    fn fill_retransmissions(&mut self, peer: PeerId, at: Moment) -> Fill {
        while let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() {
            let Some(again) = context.poll_retransmit(at) else { break };
            if self.token_lives(&again.token) {
                let psn = again.llp.psn;
                self.push_data(peer, again.llp, again.token, again.fragment, psn);
                self.stats.tx_retransmitted += 1;
            }
            if self.batch.is_full() {
                return Fill::Full;
            }
        }
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else {
            return Fill::Exhausted;
        };
        if let Some(llp) = context.poll_probe_ack(at) {
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
        let (Some(context), Some(&control)) = (entry.context.as_deref_mut(), entry.control.front()) else {
            return false;
        };
        let bytes = prefix(context.needs_syn()) + Segment::Control(control).encoded_length();
        if !context.can_send(Class::Control, bytes) {
            return false;
        }
        let token = Token::Control(control);
        let llp = context.send(at, token, datagram_length(bytes), Class::Control, true);
        entry.control.pop_front();
        let psn = llp.psn;
        self.push_data(peer, llp, token, false, psn);
        true
    }

    /// Sends the next datagram of the oldest eager or announced message. False when there is none, or the window is closed.
    fn send_start(&mut self, peer: PeerId, at: Moment) -> bool {
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = entry.context.as_deref_mut() else { return false };
        while let Some(&key) = entry.starts.front() {
            let sends_more = self
                .txs
                .get(key)
                .is_some_and(|tx| matches!(tx.stage, TxStage::Eager | TxStage::Announced) && !tx.all_sent());
            if !sends_more {
                entry.starts.pop_front();
                continue;
            }
            let tx = &mut self.txs[key];
            let token = next_eager(context, key, tx);
            let (segment, length) = segment_of(tx, token);
            let bytes = prefix(context.needs_syn()) + segment.encoded_length() + length;
            if !context.can_send(Class::Data, bytes) {
                return false;
            }
            tx.started = true;
            tx.sent += length as u64;
            tx.in_flight += 1;
            let ask = tx.all_sent() && tx.is_awaited();
            if tx.all_sent() {
                entry.starts.pop_front();
            }
            let llp = context.send(at, token, datagram_length(bytes), Class::Data, ask);
            let psn = llp.psn;
            self.push_data(peer, llp, token, false, psn);
            return true;
        }
        false
    }

    /// Sends the next datagram of a granted message, and lets the next one have its turn.
    fn send_bulk(&mut self, peer: PeerId, at: Moment) -> bool {
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = entry.context.as_deref_mut() else { return false };
        while let Some(&key) = entry.bulk.front() {
            let sends_more =
                self.txs.get(key).is_some_and(|tx| tx.stage == TxStage::Granted && !tx.all_sent());
            if !sends_more {
                entry.bulk.pop_front();
                continue;
            }
            let tx = &mut self.txs[key];
            let header = prefix(context.needs_syn())
                + Segment::Write { stag: 0, offset: 0, last: false }.encoded_length();
            let room = context.segment() - header;
            let length = usize::try_from(tx.granted - tx.sent).unwrap_or(usize::MAX).min(room);
            if !context.can_send(Class::Data, header + length) {
                return false;
            }
            let token = Token::Write { tx: key, offset: tx.sent, length: datagram_length(length) };
            tx.sent += length as u64;
            tx.in_flight += 1;
            if tx.all_sent() {
                entry.bulk.pop_front();
            }
            let llp = context.send(at, token, datagram_length(header + length), Class::Data, tx.all_sent());
            let psn = llp.psn;
            self.push_data(peer, llp, token, false, psn);
            return true;
        }
        false
    }

    /// Sends the acknowledgements that are due now and that nothing sent since has carried; with `idle`, also those that may wait. True when one was sent.
    pub(crate) fn acknowledge<D: Datapath>(
        &mut self,
        datapath: &mut D,
        at: Moment,
        idle: bool,
        shared: &mut Shared,
    ) -> bool {
        if self.acking.is_empty() || self.blocked {
            return false;
        }
        self.settle_fresh(datapath);
        let credit = self.credit();
        let mut kept = 0;
        for index in 0..self.acking.len() {
            let peer = self.acking[index];
            let entry = &mut self.peers[peer.0 as usize];
            let need = entry.context.as_ref().map_or(rdgram_proto::AckNeed::No, |context| context.ack_need());
            let due = match need {
                rdgram_proto::AckNeed::Now => true,
                rdgram_proto::AckNeed::Idle => idle,
                rdgram_proto::AckNeed::No => false,
            };
            let wait = need != rdgram_proto::AckNeed::No && (!due || self.batch.is_full());
            if wait {
                self.acking[kept] = peer;
                kept += 1;
                continue;
            }
            entry.acking = false;
            if due {
                self.push_ack(peer, at, credit);
            }
        }
        self.acking.truncate(kept);
        let sent = !self.batch.is_empty();
        if sent {
            self.flush_batch(datapath, at, shared);
        }
        sent
    }

    fn push_ack(&mut self, peer: PeerId, at: Moment, credit: rdgram_proto::Credit) {
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else { return };
        let (llp, ack) = context.ack(at, credit);
        let syn = llp.flags.contains(Flags::SYN).then(|| context.syn());
        let mut body = [0; HEADER_MAX];
        let length = ack.encode(&mut body);
        self.stats.tx_acks += 1;
        self.push(
            peer,
            None,
            Outgoing { llp, syn, body: &body[..length], padding: 0, fragment: false },
            None,
            0,
            0,
        );
    }

    /// Pushes a packet without a body, padded to `size` bytes.
    pub(crate) fn push_bare(&mut self, peer: PeerId, llp: Llp, size: u16) {
        let syn = self.syn_for(peer, &llp);
        let padding = usize::from(size).saturating_sub(prefix(syn.is_some()));
        let padding = datagram_length(padding);
        self.push(peer, None, Outgoing { llp, syn, body: &[], padding, fragment: false }, None, 0, 0);
    }

    /// Pushes a reset to an address that no context may exist for.
    pub(crate) fn push_reset(&mut self, destination: core::net::SocketAddr, reset: rdgram_wire::Reset) {
        let mut body = [0; HEADER_MAX];
        let length = reset.encode(&mut body);
        let llp = Llp::new(rdgram_wire::Kind::Reset);
        let outgoing = Outgoing { llp, syn: None, body: &body[..length], padding: 0, fragment: false };
        let packet = outgoing.packet(destination, &[], 0, 0, true);
        self.batch.push(packet, |_| ());
        self.batch_owners.push((PeerId(u32::MAX), None));
    }

    /// Pushes the packet that `token` stands for.
    fn push_data(&mut self, peer: PeerId, llp: Llp, token: Token, fragment: bool, psn: Psn) {
        let syn = self.syn_for(peer, &llp);
        let mut body = [0; Segment::HEADER_MAX];
        let (segment, tx, offset, length) = describe(&self.txs, token);
        let written = segment.encode(&mut body);
        let outgoing = Outgoing { llp, syn, body: &body[..written], padding: 0, fragment };
        self.push(peer, Some(psn), outgoing, tx, offset, length);
    }

    fn syn_for(&self, peer: PeerId, llp: &Llp) -> Option<Syn> {
        let context = self.peer(peer).context.as_deref()?;
        llp.flags.contains(Flags::SYN).then(|| context.syn())
    }

    fn push(
        &mut self,
        peer: PeerId,
        psn: Option<Psn>,
        outgoing: Outgoing<'_>,
        owner: Option<Key>,
        offset: usize,
        length: usize,
    ) {
        let destination = self.peer(peer).destination;
        let slices: &[UserSlice] = owner.map_or(&[], |key| &self.txs[key].slices);
        let packet = outgoing.packet(destination, slices, offset, length, self.config.full_integrity);
        self.stats.tx_datagrams += 1;
        self.batch.push(packet, |arena| mem::parts(slices, offset, length, |part| arena.push(part)));
        self.stats.tx_bytes += self.batch.packets().last().map_or(0, |packet| packet.length() as u64);
        self.batch_owners.push((peer, psn));
    }

    /// Gives the batch to the datapath and tells the transport what was not taken.
    pub(crate) fn flush_batch<D: Datapath>(&mut self, datapath: &mut D, at: Moment, shared: &mut Shared) {
        let outcome = datapath.transmit(&self.batch);
        let count = self.batch.packets().len();
        let mut refused = outcome.taken.min(count)..count;
        let culprit = self.batch_owners.get(refused.start).copied();
        match (outcome.stopped, culprit) {
            // A probe that does not even leave the host is a probe lost.
            (Some(TxStop::TooBig(_)), Some((_, None))) => refused.start += 1,
            (Some(TxStop::TooBig(mtu)), Some((peer, Some(_)))) => {
                if let Some(context) = self.context_mut(peer) {
                    context.on_too_big(at, mtu);
                }
            }
            (Some(TxStop::Unreachable(_)), Some((peer, _))) => {
                // As good as lost: the transport sends it again while it believes in the peer.
                refused.start += 1;
                if let Some(context) = self.context_mut(peer) {
                    context.on_unreachable(at, true);
                }
                self.drain_events(peer, shared);
            }
            (Some(TxStop::Blocked), _) => self.blocked = true,
            _ => {}
        }
        for index in refused {
            let (peer, psn) = self.batch_owners[index];
            if let (Some(psn), Some(context)) = (psn, self.context_mut(peer)) {
                context.unsent(psn);
                self.make_ready(peer);
            }
        }
        self.batch.clear();
        self.batch_owners.clear();
    }

    pub(crate) fn context_mut(&mut self, peer: PeerId) -> Option<&mut Context<Token>> {
        self.peers.get_mut(peer.0 as usize)?.context.as_deref_mut()
    }
}

/// The headers of a datagram, still as values.
struct Outgoing<'a> {
    llp: Llp,
    syn: Option<Syn>,
    /// The encoded DDP header, or body of another kind.
    body: &'a [u8],
    padding: u16,
    fragment: bool,
}

impl Outgoing<'_> {
    /// Encodes the headers, with length and integrity filled in, for `length` payload bytes from `offset` of `slices`.
    fn packet(
        mut self,
        destination: core::net::SocketAddr,
        slices: &[UserSlice],
        offset: usize,
        length: usize,
        full: bool,
    ) -> TxPacket {
        let header_length = prefix(self.syn.is_some()) + self.body.len();
        self.llp.length = datagram_length(header_length + length + usize::from(self.padding));
        // Padding is never covered: its content does not matter, its arrival does.
        let full = full && length > 0;
        self.llp.flags.set(Flags::FULL, full);
        self.llp.integrity = 0;
        let mut header = [0; HEADER_MAX];
        let mut at = self.llp.encode(&mut header);
        if let Some(syn) = &self.syn {
            at += syn.encode(&mut header[at..]);
        }
        header[at..at + self.body.len()].copy_from_slice(self.body);
        let mut crc = crc32c::crc32c(&header[..header_length]);
        if full {
            mem::parts(slices, offset, length, |part| crc = part.crc32c(crc));
        }
        header[Llp::INTEGRITY_OFFSET..Llp::LENGTH].copy_from_slice(&crc.to_be_bytes());
        TxPacket {
            destination,
            header,
            header_length: datagram_length(header_length),
            fragment: self.fragment,
            padding: self.padding,
            slices: 0,
            first_slice: 0,
            payload_length: 0,
        }
    }
}

/// What to send next of an eager or announced message.
fn next_eager(context: &Context<Token>, key: Key, tx: &TxEntry) -> Token {
    if !tx.started {
        let (segment, _) = segment_of(tx, Token::Start { tx: key, length: 0 });
        let room = context.segment() - prefix(context.needs_syn()) - segment.encoded_length();
        let length =
            if tx.rendezvous { 0 } else { usize::try_from(tx.length).unwrap_or(usize::MAX).min(room) };
        return Token::Start { tx: key, length: datagram_length(length) };
    }
    let offset = u32::try_from(tx.sent).expect("eager messages are short");
    let (segment, _) = segment_of(tx, Token::Fragment { tx: key, offset, length: 0 });
    let room = context.segment() - prefix(context.needs_syn()) - segment.encoded_length();
    let length = usize::try_from(tx.length - tx.sent).unwrap_or(usize::MAX).min(room);
    Token::Fragment { tx: key, offset, length: datagram_length(length) }
}

/// The DDP header of a send's packet, and its payload bytes.
fn segment_of(tx: &TxEntry, token: Token) -> (Segment, usize) {
    match token {
        Token::Start { tx: key, length } => {
            let start = Start { rendezvous: tx.rendezvous, tag: tx.tag, data: tx.data };
            let last = tx.rendezvous || u64::from(length) == tx.length;
            let segment = Segment::ExtendedSend {
                msn: tx.msn,
                offset: 0,
                last,
                message_id: key.to_wire(),
                total: tx.length,
                start: Some(start),
            };
            (segment, usize::from(length))
        }
        Token::Fragment { tx: key, offset, length } => {
            let last = u64::from(offset) + u64::from(length) == tx.length;
            let segment = Segment::ExtendedSend {
                msn: tx.msn,
                offset,
                last,
                message_id: key.to_wire(),
                total: tx.length,
                start: None,
            };
            (segment, usize::from(length))
        }
        Token::Write { offset, length, .. } => {
            let last = offset + u64::from(length) == tx.granted;
            (Segment::Write { stag: tx.stag, offset, last }, usize::from(length))
        }
        Token::Control(control) => (Segment::Control(control), 0),
    }
}

/// Segment, owner, payload offset and length of a token's packet.
fn describe(txs: &Slab<TxEntry>, token: Token) -> (Segment, Option<Key>, usize, usize) {
    match token {
        Token::Control(control) => (Segment::Control(control), None, 0, 0),
        Token::Start { tx, .. } => {
            let (segment, length) = segment_of(&txs[tx], token);
            (segment, Some(tx), 0, length)
        }
        Token::Fragment { tx, offset, .. } => {
            let (segment, length) = segment_of(&txs[tx], token);
            (segment, Some(tx), offset as usize, length)
        }
        Token::Write { tx, offset, .. } => {
            let (segment, length) = segment_of(&txs[tx], token);
            (segment, Some(tx), usize::try_from(offset).expect("inside the application's memory"), length)
        }
    }
}

/// A length that is known to fit a datagram.
fn datagram_length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("no datagram is longer than 65,507 bytes")
}
