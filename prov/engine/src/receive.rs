//! From datagrams to messages: decode, check, find the context, let the transport judge, then place. Hostile input ends here.

use core::net::SocketAddr;

use rdgram_proto::{Death, Defect, Event, Incarnation, Moment, PeerFault, Verdict, planted, supersedes};
use rdgram_wire::{Body, Bundle, Control, Flags, Kind, Llp, Malformed, Packet, Reset, ResetReason, Segment};

use crate::alike::Headers;
use crate::atomic::execute_duplicate;
use crate::datapath::{Datagram, PathError, PathErrorKind};
use crate::direct::Placement;
use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::entries::{Token, TxStage};
use crate::link::Route;
use crate::matching::PeerId;
use crate::peer::{Peer, peer_of};
use crate::slab::Key;
use crate::types::Cause;

impl Core {
    /// Handles one datagram.
    pub(crate) fn on_datagram(&mut self, at: Moment, datagram: &Datagram<'_>, shared: &mut Shared) {
        if let Some((headers, payload)) = self.split_alike(datagram.bytes) {
            let payload = Placement::Bounced(payload);
            if self.on_alike(at, headers, payload, false, datagram.congestion_experienced, shared) {
                return;
            }
        }
        self.stats.rx_datagrams += 1;
        self.stats.rx_bytes += datagram.bytes.len() as u64;
        // Never moved: an acknowledgement makes it large.
        match &Packet::decode(datagram.bytes) {
            Err(fault) => self.on_malformed(datagram, fault),
            Ok(packet) if !integrity_holds(datagram.bytes, &packet.llp, packet.headers) => {
                self.stats.rx_integrity += 1;
            }
            Ok(packet) => self.on_intact(at, datagram, packet, None, shared),
        }
    }

    /// Handles a datagram whose headers hold; `direct`: the bytes of its payload, when they lie at their final address already.
    pub(crate) fn on_intact(
        &mut self,
        at: Moment,
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        direct: Option<usize>,
        shared: &mut Shared,
    ) {
        self.alike = None;
        self.notices.note_version_spoken(datagram.source);
        if let Body::Reset(reset) = &packet.body {
            return self.on_reset(at, datagram.source, reset, shared);
        }
        let Some(peer) = self.find_context(at, datagram, packet, shared) else { return };
        self.on_packet(at, peer, packet, datagram, direct, shared);
        self.drain_events(peer, shared);
        self.note_heard(peer);
        if self.heard != Some(peer) {
            self.settle_heard(at);
            self.heard = Some(peer);
        }
    }

    /// After the packets that came from a peer one after the other: what its context wants now. Before anything else looks for that.
    pub(crate) fn settle_heard(&mut self, at: Moment) {
        self.alike = None;
        let Some(peer) = self.heard.take() else { return };
        self.note_context(peer);
        let entry = self.peer(peer);
        if entry.has_queued() || entry.context.as_deref().is_some_and(|context| context.wants_turn(at.now)) {
            self.make_ready(peer);
        }
    }

    /// The peer whose context the packet belongs to: by context id, or by the name in its SYN extension.
    fn find_context(
        &mut self,
        at: Moment,
        datagram: &Datagram<'_>,
        packet: &Packet<'_>,
        shared: &mut Shared,
    ) -> Option<PeerId> {
        let llp = &packet.llp;
        if llp.dst_ctx != 0 {
            let peer = peer_of(llp.dst_ctx).filter(|peer| {
                let entry = self.peers.get(peer.0 as usize);
                entry.and_then(Peer::context_id) == Some(llp.dst_ctx)
            });
            match peer {
                Some(peer) => self.thaw(peer),
                None => {
                    self.stats.rx_stale += 1;
                    self.answer_unknown(datagram.source, llp);
                }
            }
            return peer;
        }
        let syn = packet.syn.as_ref()?;
        if self.state == State::Closing && self.by_name.find(&self.peers, &syn.name).is_none() {
            return None;
        }
        let peer = self.peer_named(syn.name)?;
        let entry = self.peer(peer);
        if entry.itself {
            self.stats.rx_stale += 1;
            return None;
        }
        self.thaw(peer);
        let entry = self.peer(peer);
        // A context that the peer has not answered yet has none: crossing SYNs make one context, whichever incarnation answers.
        let joined = entry.context.as_deref().and_then(|context| context.peer_incarnation());
        let ended = entry.ended.as_deref().copied();
        let known = joined.or_else(|| ended.map(|ended| ended.incarnation));
        match supersedes(known, syn.incarnation) {
            // What it put into our queue before it ended comes first: the packet comes again.
            Incarnation::Newer if joined.is_some() && entry.link.neighbour().is_some() => {
                self.begin_end(peer, Cause::Restarted);
                return None;
            }
            Incarnation::Newer if joined.is_some() => self.fail_peer(peer, Cause::Restarted, shared),
            // Of a context that ended: a late packet, which must not join one made since.
            Incarnation::Same
                if joined.is_none() && ended.is_some_and(|ended| ended.cookie == syn.cookie) =>
            {
                self.stats.rx_stale += 1;
                self.answer_unknown(datagram.source, llp);
                return None;
            }
            Incarnation::Older => {
                self.stats.rx_stale += 1;
                return None;
            }
            Incarnation::Same | Incarnation::Newer => {}
        }
        self.peer_mut(peer).note_source(datagram.source);
        self.ensure_context(peer, at.now);
        Some(peer)
    }

    /// Lets the transport judge the packet and gives it to its handler.
    fn on_packet(
        &mut self,
        at: Moment,
        peer: PeerId,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        direct: Option<usize>,
        shared: &mut Shared,
    ) {
        let Some(context) = self.context_mut(peer) else { return };
        let llp = &packet.llp;
        let verdict = context.on_packet(at, llp, packet.syn.as_ref(), datagram.congestion_experienced);
        // What the packet acknowledges was there before it was sent. A library may take an answer for later than the completion of what is answered (Intel MPI hung).
        if verdict == Verdict::Accept {
            self.drain_events(peer, shared);
        }
        let Some(context) = self.context_mut(peer) else { return };
        match (verdict, &packet.body) {
            (Verdict::Accept, Body::Data { segment, payload }) => {
                let placement = direct.map_or(Placement::Bounced(payload), Placement::Direct);
                // An announcement is no payload: whoever only waits to be granted something needs no share.
                if placement.len() > 0 {
                    self.note_payload(peer, matches!(segment, Segment::Write { .. }));
                }
                self.place(peer, segment, placement, Route::Network, shared);
                self.expect_alike(peer, llp, segment, datagram.bytes, placement.len());
            }
            (Verdict::Accept, Body::Bundle(bundle)) => {
                self.note_payload(peer, false);
                self.place_bundle(peer, bundle, shared);
            }
            (Verdict::Duplicate, Body::Data { segment, payload }) if planted(Defect::AtomicRepeated) => {
                execute_duplicate(segment, payload, shared);
            }
            (Verdict::Duplicate, _) => self.stats.rx_duplicates += 1,
            (Verdict::NotData, Body::Ack(ack)) => context.on_ack(at, llp, ack),
            (Verdict::NotData, Body::Close) => context.on_close(at),
            (Verdict::NotData, Body::Probe) => context.on_probe(llp, datagram.bytes.len()),
            (Verdict::NotData, Body::ProbeAck) => context.on_probe_ack(at, llp),
            // For a context that is gone, whose id another one has now (of an earlier incarnation of this endpoint, say): whoever sends it has to learn that.
            (Verdict::Drop(PeerFault::Cookie), _) if llp.cookie != 0 => {
                self.stats.rx_stale += 1;
                self.answer_unknown(datagram.source, llp);
            }
            (Verdict::Drop(_), _)
            | (Verdict::NotData, Body::Data { .. } | Body::Bundle(_) | Body::Reset(_))
            | (Verdict::Accept, _) => self.stats.rx_stale += 1,
        }
    }

    /// Places the segments of an accepted bundle. One that is malformed is dropped by itself.
    fn place_bundle(&mut self, peer: PeerId, bundle: &Bundle<'_>, shared: &mut Shared) {
        let placed = if planted(Defect::BundleTailLost) { bundle.items().count() - 1 } else { usize::MAX };
        for item in bundle.items().take(placed) {
            match item {
                Ok((segment, payload)) => {
                    self.place(peer, &segment, Placement::Bounced(payload), Route::Network, shared);
                }
                Err(_) => self.stats.rx_malformed += 1,
            }
        }
    }

    /// Places an accepted segment. What names nothing of ours is dropped: its PSN stays accepted.
    pub(crate) fn place(
        &mut self,
        peer: PeerId,
        segment: &Segment,
        placement: Placement<'_>,
        route: Route,
        shared: &mut Shared,
    ) {
        if self.state == State::Closing && !matches!(segment, Segment::Control(_)) {
            return self.turn_away(peer, segment);
        }
        let payload = placement.bounced();
        match *segment {
            Segment::ExtendedSend { .. } => self.on_send_segment(peer, segment, placement, route, shared),
            Segment::Write { stag, offset, .. } => {
                self.on_granted_data(peer, Key::from_wire(stag), offset, placement, route, shared)
            }
            Segment::ExtendedWrite { .. } => self.on_rma_write(peer, segment, placement, route, shared),
            Segment::ExtendedRead { .. } => self.on_rma_read(peer, segment, shared),
            Segment::ExtendedAtomic { .. } => self.on_atomic(peer, segment, payload, shared),
            Segment::ReadResponse { stag, offset, .. } => {
                self.on_response(peer, Key::from_wire(stag), offset, placement, shared);
            }
            Segment::Control(control) => self.on_control(peer, control, shared),
            _ => self.stats.rx_malformed += 1,
        }
    }

    /// An endpoint that closes takes no message, and lets nobody at memory any more: to acknowledge a write in silence would complete it.
    fn turn_away(&mut self, peer: PeerId, segment: &Segment) {
        if let Segment::ExtendedWrite { message_id, .. }
        | Segment::ExtendedRead { message_id, .. }
        | Segment::ExtendedAtomic { message_id, .. } = *segment
        {
            self.nack(peer, message_id, Cause::BadKey);
        }
    }

    fn on_control(&mut self, peer: PeerId, control: Control, shared: &mut Shared) {
        match control {
            Control::Cts { message_id, stag, length } => {
                self.on_grant(peer, Key::from_wire(message_id), stag, [length; 2], shared)
            }
            Control::Grant { message_id, stag, length, granted } => {
                self.on_grant(peer, Key::from_wire(message_id), stag, [length, granted], shared)
            }
            Control::Rnr { message_id, index } => self.on_rnr(peer, Key::from_wire(message_id), index),
            Control::Nack { message_id, index, code } => {
                self.on_nack(peer, Key::from_wire(message_id), index, code, shared)
            }
            Control::Done { message_id } => self.on_done(peer, Key::from_wire(message_id), shared),
            Control::Void { message_id } => self.on_void(peer, message_id),
            Control::Nop => {}
        }
    }

    /// The receiver asks for the payload: `length` bytes in all, of which the first `granted` may be sent by now. The first to arrive of a message's grants opens it;
    /// a later one gives more, or was overtaken.
    fn on_grant(
        &mut self,
        peer: PeerId,
        key: Key,
        stag: u32,
        [length, granted]: [u64; 2],
        shared: &mut Shared,
    ) {
        let Some(tx) = self.txs.get_mut(key).filter(|tx| tx.peer == peer) else {
            self.stats.rx_stale += 1;
            return;
        };
        let moved = match tx.stage {
            TxStage::Eager | TxStage::Announced | TxStage::Parked => {
                if let Some(queues) = self.peers[peer.0 as usize].queues.existing() {
                    queues.remnants.leave(key);
                }
                tx.stage = TxStage::Granted;
                tx.stag = stag;
                tx.granted = length.min(tx.length);
                tx.allowed = 0;
                tx.sent = 0;
                false
            }
            TxStage::Granted if tx.stag == stag => !tx.is_held(),
            _ => {
                self.stats.rx_stale += 1;
                return;
            }
        };
        let granted = granted.min(tx.granted);
        tx.allowed =
            if planted(Defect::GrantShrinks) { granted.max(tx.sent) } else { granted.max(tx.allowed) };
        if tx.granted == 0 {
            self.finish_tx_if_done(key, shared);
        } else if !moved && tx.allowed > tx.sent {
            self.peer_mut(peer).queues.bulk.push_back(key);
        }
    }

    /// The receiver kept the envelope only.
    fn on_rnr(&mut self, peer: PeerId, key: Key, index: u16) {
        if let Some(tx) = self.txs.get_mut(key).filter(|tx| tx.peer == peer && tx.stage == TxStage::Eager) {
            tx.stage = TxStage::Parked;
            if let Some(queues) = self.peers[peer.0 as usize].queues.existing() {
                queues.remnants.leave(key);
            }
        }
        if let Some(context) = self.context_mut(peer) {
            context.on_rnr(index);
        }
    }

    /// Takes from the context what happened to our packets and to the peer.
    #[inline]
    pub(crate) fn drain_events(&mut self, peer: PeerId, shared: &mut Shared) {
        if self.peer(peer).context.as_deref().is_some_and(|context| context.has_events()) {
            self.take_events(peer, shared);
        }
    }

    fn take_events(&mut self, peer: PeerId, shared: &mut Shared) {
        while let Some(event) = self.context_mut(peer).and_then(|context| context.poll_event()) {
            match event {
                Event::Acked(Token::Bundle { bundle }) => self.on_bundle_acked(bundle, shared),
                Event::Acked(token) => {
                    if let Some(tx) = token.operation() {
                        self.on_acked(tx, shared);
                    }
                }
                Event::Established | Event::SegmentGrew(_) => {}
                Event::Unjoined { incarnation, cookie } => {
                    self.part_from(peer);
                    self.peer_mut(peer).note_ended(incarnation, cookie);
                    self.fail_received(peer, Cause::Restarted, shared);
                }
                Event::Dead(death) if self.peer(peer).link.neighbour().is_some() => {
                    self.begin_end(peer, cause_of(death));
                }
                Event::Dead(death) => self.fail_peer(peer, cause_of(death), shared),
            }
        }
    }

    /// A packet of an operation was acknowledged.
    pub(crate) fn on_acked(&mut self, tx: Key, shared: &mut Shared) {
        if let Some(entry) = self.txs.get_mut(tx) {
            entry.in_flight -= 1;
            self.finish_tx_if_done(tx, shared);
        }
    }

    // ---- what is not for a context

    fn on_malformed(&mut self, datagram: &Datagram<'_>, fault: &Malformed) {
        self.stats.rx_malformed += 1;
        let Malformed::Version(_) = fault else { return };
        if self.batch.is_full() {
            return;
        }
        if let Some(reset) = Reset::of_version(datagram.bytes, self.incarnation) {
            self.notices.note_other_version(datagram.source);
            self.push_reset(datagram.source, reset);
        }
    }

    /// Answers a packet for a context that is not (any more). Never larger than what it answers, and never to a reset or a close.
    fn answer_unknown(&mut self, source: SocketAddr, llp: &Llp) {
        if !(llp.kind.is_sequenced() || llp.kind == Kind::Probe) || self.batch.is_full() {
            return;
        }
        let reset = Reset {
            psn: llp.psn,
            cookie: llp.cookie,
            incarnation: self.incarnation,
            reason: ResetReason::UnknownContext,
        };
        self.push_reset(source, reset);
    }

    fn on_reset(&mut self, at: Moment, source: SocketAddr, reset: &Reset, shared: &mut Shared) {
        let Some(peer) = self.peer_at_destination(source) else {
            self.stats.rx_stale += 1;
            return;
        };
        // A cold context has sent nothing that is not answered.
        if let Some(context) = self.context_mut(peer) {
            context.on_reset(at, reset);
        }
        self.drain_events(peer, shared);
    }

    /// Handles what the network reported about a destination.
    pub(crate) fn on_path_error(&mut self, at: Moment, error: &PathError, shared: &mut Shared) {
        let Some(peer) = self.peer_at_destination(error.destination) else { return };
        self.thaw(peer);
        let Some(context) = self.context_mut(peer) else { return };
        match error.kind {
            PathErrorKind::PortUnreachable => context.on_unreachable(at, false),
            PathErrorKind::HostUnreachable => context.on_unreachable(at, true),
            PathErrorKind::TooBig(mtu) => context.on_too_big(at, Some(mtu)),
        }
        self.drain_events(peer, shared);
        self.note_context(peer);
        self.make_ready(peer);
    }

    /// The peer that datagrams to or from `address` concern. Usually its name; rarely it was seen to send from elsewhere.
    fn peer_at_destination(&self, address: SocketAddr) -> Option<PeerId> {
        let named = self.by_name.find(&self.peers, &address);
        if named.is_some() {
            return named;
        }
        let found = self.peers.iter().position(|peer| peer.destination() == address)?;
        u32::try_from(found).ok().map(PeerId)
    }
}

fn cause_of(death: Death) -> Cause {
    match death {
        Death::Refused => Cause::Refused,
        Death::Unreachable => Cause::Unreachable,
        Death::Closed => Cause::Closed,
        Death::Restarted => Cause::Restarted,
        Death::TimedOut => Cause::TimedOut,
        Death::Version => Cause::Version,
    }
}

/// CRC32C of the `headers` bytes of headers, or of everything with FULL, with the integrity field taken as zero.
pub(crate) fn integrity_holds(bytes: &[u8], llp: &Llp, headers: usize) -> bool {
    let covered = if llp.flags.contains(Flags::FULL) { bytes.len() } else { headers };
    let Some(covered) = bytes.get(..covered).filter(|covered| covered.len() >= Llp::LENGTH) else {
        return false;
    };
    let (first, length, rest) = Headers::split(covered);
    let crc = crc32c::crc32c(first.bytes(length));
    // Only of what is longer: a call costs more than the bytes.
    let crc = if rest.is_empty() { crc } else { crc32c::crc32c_append(crc, rest) };
    crc == llp.integrity
}
