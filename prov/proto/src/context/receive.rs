//! What the peer says: joining, admission by cookie, acceptance of DATA, acknowledgements, notices and reports. Must never act on a packet that the
//! peer cannot have sent, and never move anything back because of an old one.

use core::time::Duration;

use rdgram_wire::{Ack, Flags, Llp, Psn, Reset, ResetReason, Syn, VERSION, WINDOW};

use super::{AckNeed, Context, Death, Echo, Event, PeerFault, Verdict};
use crate::cc::CongestionControl;
use crate::config::Remote;
use crate::mtu::Answer;
use crate::planted::{Defect, planted};
use crate::rx::{Arrival, RxWindow};
use crate::time::{Instant, Moment};
use crate::tx::State;

/// Refusals of our version that are believed.
const VERSION_REFUSALS: u8 = 3;

/// An acknowledgement as it applies to single packets.
#[derive(Clone, Copy)]
struct Acknowledgement {
    now: Instant,
    /// The newest transmission that the peer had received, in full.
    echo: Option<u64>,
    /// How long it had it, when that is known.
    delay: Option<Duration>,
    /// The refusal count, in full.
    refusals: u64,
}

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// A packet that the engine parsed, checked and found this context for, of every kind but RESET. `syn` is its extension, and `congestion_experienced` its ECN mark.
    ///
    /// Its acknowledgement is processed here; on [`Verdict::NotData`] go on with the body.
    pub fn on_packet(
        &mut self,
        at: Moment,
        llp: &Llp,
        syn: Option<&Syn>,
        congestion_experienced: bool,
    ) -> Verdict {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() {
            return Verdict::Drop(PeerFault::Dead);
        }
        let verdict = match self.admit(at, llp, syn) {
            Ok(()) if llp.kind.is_sequenced() => self.accept(at.now, llp, congestion_experienced),
            Ok(()) => Verdict::NotData,
            Err(fault) => Verdict::Drop(fault),
        };
        if matches!(verdict, Verdict::Drop(_)) {
            self.counters.faults += 1;
        }
        verdict
    }

    /// A packet of data that differs from the one before, which [`Self::on_packet`] took at the same moment, only in PSN and transmission number: who sent it and what it
    /// acknowledges was looked at then.
    pub fn on_alike(&mut self, at: Moment, llp: &Llp, congestion_experienced: bool) -> Verdict {
        if self.dead.is_some() {
            return Verdict::Drop(PeerFault::Dead);
        }
        let verdict = self.accept(at.now, llp, congestion_experienced);
        if matches!(verdict, Verdict::Drop(_)) {
            self.counters.faults += 1;
        }
        verdict
    }

    /// The body of an ACK, after [`Self::on_packet`] took its header.
    pub fn on_ack(&mut self, at: Moment, llp: &Llp, ack: &Ack) {
        if self.dead.is_some() || !llp.flags.contains(Flags::ACKED) || self.is_too_old(llp) {
            return;
        }
        if !llp.cumulative.is_before(self.tx.base()) {
            self.credit.bytes = ack.credit_bytes;
            self.credit_until = Some(at.now + self.config.credit_lifetime);
        }
        let acknowledgement = self.acknowledgement(at.now, llp);
        let mut acked = 0;
        for (start, word) in (0u32..).step_by(64).zip(ack.sack.iter().take(usize::from(ack.words))) {
            let mut word = *word;
            while word != 0 {
                let psn = llp.cumulative.add(1 + start + word.trailing_zeros());
                word &= word - 1;
                acked += self.acknowledge(psn, &acknowledgement);
            }
        }
        self.tx.advance();
        self.note_progress(at.now, acked);
        let marks = ack.ce_count.wrapping_sub(self.ce_reported);
        if marks != 0 && marks < 1 << 31 {
            self.ce_reported = ack.ce_count;
            self.congestion.on_ecn(self.arrived[0], self.next_tx);
        }
    }

    /// A RESET, instead of [`Self::on_packet`]. Believed only if the cookie and the PSN are ones that this context is sending with.
    pub fn on_reset(&mut self, at: Moment, reset: &Reset) {
        self.rto_floor = at.rto_floor;
        let cookie = self.peer.map_or(0, |peer| peer.cookie);
        let sending = self.tx.contains(reset.psn) || self.mtu.last_number() == Some(reset.psn.0);
        if reset.cookie != cookie || !sending {
            self.counters.faults += 1;
            return;
        }
        match reset.reason {
            ResetReason::Version => self.on_version_refused(),
            ResetReason::UnknownContext => self.contradicted(reset.incarnation),
        }
    }

    /// Damage can make our version another one, before any integrity field is looked at. So a peer that was heard speaks ours, and one that was not is asked a few times.
    fn on_version_refused(&mut self) {
        if self.peer.is_some() {
            self.counters.faults += 1;
            return;
        }
        self.version_refusals += 1;
        if self.version_refusals >= VERSION_REFUSALS {
            self.die(Death::Version);
        }
    }

    /// A CLOSE, after [`Self::on_packet`] took its header.
    pub fn on_close(&mut self, at: Moment) {
        self.rto_floor = at.rto_floor;
        self.die(Death::Closed);
    }

    /// The peer's name has a newer incarnation ([`supersedes`](super::supersedes)): this context is over.
    pub fn on_superseded(&mut self) {
        self.die(Death::Restarted);
    }

    /// A PROBE of `size` bytes, after [`Self::on_packet`] took its header: [`Self::poll_probe_ack`] answers it.
    pub fn on_probe(&mut self, llp: &Llp, size: usize) {
        if size <= usize::from(self.config.segment_max) {
            // One that asks for acknowledgements must not take the place of one that tries a size: both come when data begins to flow.
            let padded = size > Llp::LENGTH + Syn::LENGTH;
            self.probes_to_answer[usize::from(padded)] = Some(llp.psn.0);
        }
    }

    /// A PROBE_ACK, after [`Self::on_packet`] took its header.
    pub fn on_probe_ack(&mut self, at: Moment, llp: &Llp) {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() {
            return;
        }
        if let Answer::Grew(segment) = self.mtu.on_answer(llp.psn.0) {
            self.events.push_back(Event::SegmentGrew(segment));
        }
        if let Some(probe) = self.probe_sent.filter(|probe| probe.number == llp.psn.0) {
            self.note_probe_arrival(at.now, probe.tx);
        }
    }

    /// An RNR of the peer with this index was accepted and its message parked.
    pub fn on_rnr(&mut self, index: u16) {
        if !self.refusals.arrived(index) {
            self.counters.faults += 1;
        }
        while let Some(token) = self.refusals.confirmed() {
            self.events.push_back(Event::Acked(token));
        }
    }

    /// A report that the peer's port is closed (`host` false) or that its host or network cannot be reached.
    pub fn on_unreachable(&mut self, at: Moment, host: bool) {
        self.rto_floor = at.rto_floor;
        if host && self.liveness.on_host_unreachable(at.now) {
            self.die(Death::Unreachable);
        }
        if !host && self.liveness.on_port_unreachable(at.now) {
            self.die(Death::Refused);
        }
    }

    /// A datagram was too large, says the interface or the path; `mtu` is what it says fits: bytes of an IP packet.
    pub fn on_too_big(&mut self, at: Moment, mtu: Option<u16>) {
        self.rto_floor = at.rto_floor;
        if !self.mtu.on_too_big(at.now, mtu) {
            return;
        }
        let mut next = self.tx.first_in_flight();
        while let Some(psn) = next {
            next = self.tx.in_flight_after(psn);
            if self.tx.get(psn).is_some_and(|slot| self.mtu.fragments(slot.bytes)) {
                self.tx.withdraw(psn, State::Unsent);
            }
        }
    }

    /// The packet is sent again by fragments: what is known of the path is less than its size.
    #[must_use]
    pub fn goes_in_fragments(&self, psn: Psn) -> bool {
        self.tx.get(psn).is_some_and(|slot| self.mtu.fragments(slot.bytes))
    }

    /// Is this packet the peer's? Joins on its record, and takes its acknowledgement.
    fn admit(&mut self, at: Moment, llp: &Llp, syn: Option<&Syn>) -> Result<(), PeerFault> {
        let begins_again = |peer: Remote| {
            syn.is_some_and(|syn| syn.incarnation == peer.incarnation && !same_peer(&peer, syn))
        };
        if llp.cookie == 0 && self.peer.is_some_and(begins_again) {
            // Did the peer give this context up, and is making another? Then it answers a probe of this one by RESET.
            self.confirm_due.get_or_insert(at.now);
            return Err(PeerFault::Stale);
        }
        let knows_us = llp.cookie == self.local.cookie;
        // After it has shown our cookie once, a packet without it is a late one, repeated with the cookie if it matters, or somebody else's.
        let first_contact = llp.cookie == 0 && llp.dst_ctx == 0 && syn.is_some() && !self.established;
        if !knows_us && !first_contact {
            return Err(PeerFault::Cookie);
        }
        if knows_us && llp.dst_ctx != self.local.ctx {
            return Err(PeerFault::Context);
        }
        match (self.peer, syn) {
            (Some(peer), Some(syn)) if !same_peer(&peer, syn) => {
                // It names us and is of another context: only the record that we joined can be the late one. It comes again.
                if knows_us && !self.established && syn.incarnation >= peer.incarnation {
                    self.contradicted(syn.incarnation);
                }
                return Err(PeerFault::Stale);
            }
            (None, Some(syn)) => self.join(syn)?,
            // It knows us but never told us who it is: not a packet of a conforming peer.
            (None, None) => return Err(PeerFault::Context),
            _ => {}
        }
        if llp.flags.contains(Flags::ACKED) {
            self.take_acknowledgement(at.now, llp)?;
        }
        self.liveness.on_heard(at.now);
        self.mtu.on_heard();
        if knows_us && !self.established {
            self.established = true;
            self.events.push_back(Event::Established);
        }
        Ok(())
    }

    fn join(&mut self, syn: &Syn) -> Result<(), PeerFault> {
        if !(syn.version_min..=syn.version_max).contains(&VERSION) {
            self.die(Death::Version);
            return Err(PeerFault::Version);
        }
        let peer = Remote::from(syn);
        self.peer = Some(peer);
        self.rx = Some(RxWindow::new(syn.initial_psn));
        self.credit = peer.credit();
        self.credit_until = None;
        self.mtu.on_peer(syn.segment_max);
        Ok(())
    }

    /// The peer, in this incarnation, has no such context (any more). If it never showed that it knows us, a packet for our predecessor, received late, made us
    /// join what it had given up: see [`Event::Unjoined`]. But answers to another incarnation, whose numbers for messages mean nothing to this one, may be on
    /// their way already, and a PSN's content never changes: then the context is over.
    fn contradicted(&mut self, incarnation: u64) {
        let Some(peer) = self.peer.filter(|peer| !self.established && peer.incarnation == incarnation) else {
            self.die(Death::Restarted);
            return;
        };
        self.peer = None;
        self.rx = None;
        self.echo = None;
        self.ack_need = AckNeed::No;
        self.body_owed = false;
        self.unacknowledged = 0;
        self.ce_received = 0;
        self.credit = Self::first_credit(&self.config);
        self.credit_until = None;
        self.offer = self.local.credit;
        self.probe_due |= self.tx.outstanding() != 0;
        self.events.push_back(Event::Unjoined { incarnation: peer.incarnation, cookie: peer.cookie });
    }

    fn accept(&mut self, now: Instant, llp: &Llp, congestion_experienced: bool) -> Verdict {
        let Some(rx) = &mut self.rx else { return Verdict::Drop(PeerFault::Context) };
        let arrival = rx.accept(llp.psn);
        if arrival == Arrival::Outside {
            return Verdict::Drop(PeerFault::Window);
        }
        if congestion_experienced {
            self.ce_received = self.ce_received.wrapping_add(1);
            self.counters.ce_received += 1;
            self.body_owed = true;
        }
        self.withdraw_stale_offer(now);
        // The same transmission again, a network's duplicate, keeps the first time.
        let newer = |echo: Echo| (1..1 << 15).contains(&llp.tx_number.wrapping_sub(echo.tx_number));
        if self.echo.is_none_or(newer) {
            self.echo = Some(Echo { tx_number: llp.tx_number, received: now });
        }
        let Arrival::New { gap } = arrival else {
            self.counters.duplicates += 1;
            self.ack_need = AckNeed::Now;
            return Verdict::Duplicate;
        };
        self.counters.received += 1;
        if self.unacknowledged == 0 {
            self.ack_owed_since = now;
        }
        self.unacknowledged += 1;
        self.accepted = self.accepted.saturating_add(1);
        let need = if gap || llp.flags.contains(Flags::AR) || self.unacknowledged >= self.config.ack_every {
            AckNeed::Now
        } else if llp.flags.contains(Flags::SYN) {
            // A peer that does not know yet that it is known may send little more.
            AckNeed::Idle
        } else {
            AckNeed::Later
        };
        self.ack_need = self.ack_need.max(need);
        Verdict::Accept
    }

    /// Processes the cumulative part, which every header carries.
    fn take_acknowledgement(&mut self, now: Instant, llp: &Llp) -> Result<(), PeerFault> {
        let base = self.tx.base();
        let old = if planted(Defect::WindowWrap) {
            llp.cumulative.0 < base.0
        } else {
            llp.cumulative.is_before(base)
        };
        if old {
            // Nothing in an old acknowledgement is news, except what an ACK body adds: facts that stay true.
            return Ok(());
        }
        let acked = llp.cumulative.distance_from(base);
        if acked > self.tx.outstanding() {
            return Err(PeerFault::Acknowledgement);
        }
        self.credit.packets = llp.credit_packets;
        self.credit_until = Some(now + self.config.credit_lifetime);
        let acknowledgement = self.acknowledgement(now, llp);
        let acked = (0..acked).map(|i| self.acknowledge(base.add(i), &acknowledgement)).sum();
        self.tx.advance();
        self.note_progress(now, acked);
        Ok(())
    }

    /// An acknowledgement of more than a window ago: its 16-bit fields may mean anything.
    fn is_too_old(&self, llp: &Llp) -> bool {
        llp.cumulative.is_before(self.tx.base()) && self.tx.base().distance_from(llp.cumulative) > WINDOW
    }

    fn acknowledgement(&mut self, now: Instant, llp: &Llp) -> Acknowledgement {
        let echo = llp.flags.contains(Flags::ECHO).then(|| {
            let newest = self.next_tx - 1;
            newest.saturating_sub((newest.wrapping_sub(u64::from(llp.echo_tx))) & 0xFFFF)
        });
        // At its maximum the field says "at least".
        let delay = (llp.echo_delay_us < u16::MAX).then(|| Duration::from_micros(llp.echo_delay_us.into()));
        Acknowledgement { now, echo, delay, refusals: self.refusals.expand(llp.refusals) }
    }

    /// Takes in that `psn` was accepted. Returns how many packets that acknowledges: one, or none when it is no news.
    fn acknowledge(&mut self, psn: Psn, acknowledgement: &Acknowledgement) -> u32 {
        if planted(Defect::SackIsCumulative) && psn != self.tx.base() && self.tx.contains(psn) {
            let count = psn.distance_from(self.tx.base());
            let base = self.tx.base();
            for i in 0..count {
                self.acknowledge_one(base.add(i), acknowledgement);
            }
        }
        self.acknowledge_one(psn, acknowledgement)
    }

    fn acknowledge_one(&mut self, psn: Psn, acknowledgement: &Acknowledgement) -> u32 {
        if !self.tx.contains(psn) {
            return 0;
        }
        let Some(slot) = self.tx.acknowledge(psn) else { return 0 };
        // Which transmission was it? Of several, the last one only if the peer had received that one or a later one.
        let last_arrived =
            slot.transmissions <= 1 || acknowledgement.echo.is_some_and(|echo| slot.tx <= echo);
        if slot.state == State::Lost || (slot.declared_lost && !last_arrived) {
            self.counters.spurious += 1;
            self.congestion.on_spurious(1);
        }
        if last_arrived && slot.state != State::Unsent {
            self.note_arrival(slot.tx);
        }
        if let (true, Some(delay)) = (acknowledgement.echo == Some(slot.tx), acknowledgement.delay) {
            let elapsed = acknowledgement.now.saturating_duration_since(slot.sent);
            self.rtt.sample(elapsed.saturating_sub(delay));
        }
        if self.refusals.acknowledged(slot.token, acknowledgement.refusals) {
            self.events.push_back(Event::Acked(slot.token));
        }
        1
    }
}

/// Whether a record is of the incarnation and context that is known.
fn same_peer(known: &Remote, seen: &Syn) -> bool {
    let ghost = planted(Defect::GhostIncarnation);
    (known.incarnation == seen.incarnation || ghost)
        && (known.ctx, known.cookie, known.initial_psn) == (seen.ctx, seen.cookie, seen.initial_psn)
}
