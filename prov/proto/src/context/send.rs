//! What is sent: new packets, packets again, probes, acknowledgements and notices; and what there is room for. Must never send after death, nor more than the peer allows.

use rdgram_wire::{Ack, Flags, Kind, Llp, Psn};

use super::{AckNeed, Context, ProbeSent, Retransmission};
use crate::cc::CongestionControl;
use crate::config::{ACK_DELAY, Class, Credit};
use crate::planted::{Defect, planted};
use crate::time::{Instant, Moment};

/// Tokens that may wait for a refusal, in windows: beyond it no new data is sent, so that a peer which counts refusals and never sends them costs bounded memory.
const UNCONFIRMED_WINDOWS: u32 = 4;

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// The largest datagram to build now: UDP payload with all headers.
    pub fn segment(&self) -> usize {
        self.mtu.segment().into()
    }

    /// Whether headers built now include the SYN extension, [`Syn::LENGTH`](rdgram_wire::Syn::LENGTH) bytes.
    pub const fn needs_syn(&self) -> bool {
        !self.established
    }

    /// Whether a new packet of this class and size may be sent.
    #[must_use]
    pub fn can_send(&self, class: Class, bytes: usize) -> bool {
        let outstanding = self.tx.outstanding();
        if self.dead.is_some() || (!self.established && outstanding >= self.config.first_flight) {
            return false;
        }
        match class {
            Class::Control => outstanding < self.config.window,
            Class::Data => {
                outstanding < self.config.window - self.config.control_reserve
                    && self.refusals.waiting() < (UNCONFIRMED_WINDOWS * self.config.window) as usize
                    && self.flight_has_room(bytes)
            }
        }
    }

    /// Sends a new packet: gives it its PSN. `bytes` is the whole datagram, and `token` what it can be built from again.
    /// Only when [`Self::can_send`] said so. The header lacks length and integrity.
    pub fn send(&mut self, at: Moment, token: T, bytes: u16, class: Class, request_ack: bool) -> Llp {
        debug_assert!(self.can_send(class, bytes.into()), "no room: {self:?}");
        self.rto_floor = at.rto_floor;
        if self.tx.outstanding() == 0 {
            // What was asked before has nothing to say about this packet.
            self.answered = false;
            self.probe_sent = None;
        }
        let tx = self.begin_transmission(at.now);
        let psn = self.tx.push(token, tx, at.now, bytes, class, request_ack);
        self.counters.sent += 1;
        self.congestion.on_sent(self.tx.in_flight());
        let mut llp = self.data_header(at.now, psn, tx);
        self.note_asked(&mut llp, tx, request_ack || self.wants_answer(bytes.into()));
        llp
    }

    /// Sends one more packet of data like the one that `llp` was made for, of the same size and at the same moment: the header differs in PSN, transmission number and AR.
    /// False when there is no room: then nothing has changed.
    pub fn send_alike(&mut self, at: Moment, token: T, bytes: u16, llp: &mut Llp) -> bool {
        if !self.can_send(Class::Data, bytes.into()) {
            return false;
        }
        let tx = self.begin_transmission(at.now);
        llp.psn = self.tx.push(token, tx, at.now, bytes, Class::Data, false);
        llp.tx_number = low(tx);
        self.counters.sent += 1;
        self.congestion.on_sent(self.tx.in_flight());
        self.note_asked(llp, tx, self.wants_answer(bytes.into()));
        true
    }

    /// The next packet to send again: probes first, then what is lost or was not taken, as the windows permit.
    pub fn poll_retransmit(&mut self, at: Moment) -> Option<Retransmission<T>> {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() {
            return None;
        }
        self.expire_credit(at.now);
        self.detect_losses(at.now);
        let probe = core::mem::take(&mut self.probe_due) && self.tx.outstanding() != 0;
        let psn = if probe { self.tx.base() } else { self.tx.first_waiting()? };
        let slot = *self.tx.get(psn)?;
        if !probe && slot.class == Class::Data && !self.flight_has_room(slot.bytes.into()) {
            return None;
        }
        let tx = self.begin_transmission(at.now);
        self.tx.retransmit(psn, tx, at.now);
        self.congestion.on_sent(self.tx.in_flight());
        let again = slot.transmissions != 0;
        self.counters.retransmitted += u64::from(again);
        let mut llp = self.data_header(at.now, psn, tx);
        llp.flags.set(Flags::RETX, again);
        let last = self.tx.waiting() == 0 || self.wants_answer(slot.bytes.into());
        self.note_asked(&mut llp, tx, probe || slot.request_ack || last);
        Some(Retransmission {
            llp,
            token: self.token_again(psn, slot.token),
            fragment: self.mtu.fragments(slot.bytes),
        })
    }

    /// Whether a poll may give something to send now: a loss to be judged, a packet to be sent again, a probe, the answer to one.
    #[must_use]
    pub fn wants_turn(&self, now: Instant) -> bool {
        let judges = self.loss_timer.is_some_and(|due| due <= now);
        let probes = self.confirm_due.is_some() || self.probes_to_answer != [None; 2];
        let searches = || self.established && self.rtt.smoothed().is_some() && self.mtu.wants_probe(now);
        self.dead.is_none() && (judges || probes || self.has_retransmission() || searches())
    }

    /// Whether [`Self::poll_retransmit`] may have something to send now.
    #[must_use]
    pub fn has_retransmission(&self) -> bool {
        self.dead.is_none() && (self.probe_due || self.tx.waiting() != 0)
    }

    /// The datapath did not take the last transmission of `psn`: [`Self::poll_retransmit`] gives it again, and the network is not blamed.
    /// No timer runs for it: try again when the datapath takes something.
    pub fn unsent(&mut self, psn: Psn) {
        if self.tx.take_back(psn) {
            // A probe of silence is still due, whatever the windows say.
            self.probe_due |= psn == self.tx.base() && (self.tail_probed || self.backoff != 0);
        }
    }

    /// The datapath did not take an acknowledgement, or the answer to the probe of this number: it is owed again.
    pub fn unsent_answer(&mut self, probe: Option<u32>) {
        match probe {
            // Whichever of the two it was: not to answer a padded one costs the peer more.
            Some(number) => {
                if let Some(free) = self.probes_to_answer.iter_mut().rev().find(|probe| probe.is_none()) {
                    *free = Some(number);
                }
            }
            None => self.body_owed = true,
        }
        self.ack_need = AckNeed::Now;
    }

    /// A probe to send, and the size of its datagram with all padding.
    pub fn poll_probe(&mut self, at: Moment) -> Option<(Llp, u16)> {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() {
            return None;
        }
        let (number, size) = if self.confirm_due.take().is_some() {
            self.asked_tx = self.next_tx;
            let syn = if self.established { 0 } else { rdgram_wire::Syn::LENGTH };
            (self.mtu.next_number(), u16::try_from(Llp::LENGTH + syn).unwrap_or(u16::MAX))
        } else {
            // Only once data flows: a peer that is merely known is not worth a search.
            let rtt = self.rtt.smoothed().filter(|_| self.established)?;
            self.mtu.poll(at.now, rtt)?
        };
        self.counters.probes += 1;
        let tx = self.next_tx;
        self.next_tx += 1;
        self.probe_sent = Some(ProbeSent { number, tx });
        let mut llp = self.header(Kind::Probe, at.now);
        llp.psn = Psn(number);
        llp.tx_number = low(tx);
        Some((llp, size))
    }

    /// The answer to the peer's last probe.
    pub fn poll_probe_ack(&mut self, at: Moment) -> Option<Llp> {
        let number = self.probes_to_answer.iter_mut().find_map(Option::take)?;
        if self.dead.is_some() {
            return None;
        }
        let mut llp = self.header(Kind::ProbeAck, at.now);
        llp.psn = Psn(number);
        Some(llp)
    }

    /// Whether an acknowledgement is due that no packet sent so far carried.
    pub const fn ack_need(&self) -> AckNeed {
        self.ack_need
    }

    /// When an acknowledgement of packets has waited long enough, if one waits.
    #[must_use]
    pub fn ack_due(&self) -> Option<Instant> {
        let waits = self.unacknowledged > 0 && matches!(self.ack_need, AckNeed::Later | AckNeed::Idle);
        waits.then(|| self.ack_owed_since + ACK_DELAY)
    }

    /// An acknowledgement that waits has waited long enough, or nothing will be sent soon that could carry it.
    pub fn hurry_ack(&mut self) {
        if self.ack_need != AckNeed::No {
            self.ack_need = AckNeed::Now;
        }
    }

    /// Something waits until more of what is in flight is acknowledged. When the last packet did not ask for an answer, nor a PROBE after it, one is to ask: true then.
    pub fn demand_ack(&mut self, at: Moment) -> bool {
        let asked = self.asked_tx + 1 >= self.next_tx;
        if self.dead.is_some() || !self.established || self.tx.in_flight() == 0 || asked {
            return false;
        }
        self.confirm_due.get_or_insert(at.now);
        true
    }

    /// So much of what the peer may have in flight is unacknowledged that it soon comes to a stop: it has to hear of it before more is received.
    #[must_use]
    pub fn is_ack_pressing(&self) -> bool {
        self.ack_need == AckNeed::Now && self.unacknowledged >= u32::from(self.offer.packets) / 5
    }

    /// An ACK: everything accepted so far, and the credit from now on. Only once something was received.
    pub fn ack(&mut self, at: Moment) -> (Llp, Ack) {
        let llp = self.header(Kind::Ack, at.now);
        let (words, sack) = self.rx.as_ref().map_or((0, [0; rdgram_wire::SACK_WORDS]), |rx| rx.sack());
        self.ack_need = AckNeed::No;
        self.body_owed = false;
        self.unacknowledged = 0;
        self.counters.acks_sent += 1;
        self.advertised = self.offer;
        (llp, Ack { credit_bytes: self.offer.bytes, ce_count: self.ce_received, words, sack })
    }

    /// When the newest DATA of the peer came.
    #[must_use]
    pub fn last_data(&self) -> Option<Instant> {
        self.echo.map(|echo| echo.received)
    }

    /// So much came since the credit was set that it is time to think about it again.
    #[must_use]
    pub const fn wants_credit(&self) -> bool {
        self.accepted > 0 && self.accepted >= self.offer.packets / 2
    }

    /// What the peer may have in flight from now on; falls back to the standing credit by itself when nothing comes of the peer for a while.
    /// A window that reopens is worth an acknowledgement of its own.
    pub fn set_credit(&mut self, credit: Credit) {
        self.offer = credit;
        self.accepted = 0;
        if self.rx.is_none() || self.dead.is_some() {
            return;
        }
        let told = self.advertised;
        let reopens = credit.packets / 2 >= told.packets && credit.packets != told.packets;
        let changed = credit.bytes.abs_diff(told.bytes) > told.bytes / 8;
        self.body_owed |= changed;
        if reopens || changed {
            self.ack_need = self.ack_need.max(AckNeed::Idle);
        }
    }

    /// The index for an RNR that is about to be sent: every acknowledgement counts it from now on.
    pub fn note_refusal(&mut self) -> u16 {
        self.refused = self.refused.wrapping_add(1);
        self.refused
    }

    /// A CLOSE, if the peer is known: this endpoint goes away.
    pub fn close(&mut self, at: Moment) -> Option<Llp> {
        if self.dead.is_some() || self.peer.is_none() {
            return None;
        }
        Some(self.header(Kind::Close, at.now))
    }

    /// Whether one more packet of data may be in flight: congestion window and credits. One always may: it asks whether they still hold.
    fn flight_has_room(&self, bytes: usize) -> bool {
        let packets = self.congestion.window().min(self.credit.packets.into());
        let in_flight = self.tx.in_flight();
        in_flight == 0
            || (in_flight < packets && self.tx.data_bytes() + bytes as u64 <= u64::from(self.credit.bytes))
    }

    /// Whether the packet just sent has to be answered soon: nothing more like it can be sent, or half of what can be is.
    fn wants_answer(&self, bytes: usize) -> bool {
        let packets = self.congestion.window().min(self.credit.packets.into());
        !self.can_send(Class::Data, bytes) || self.tx.in_flight() == packets / 2
    }

    /// A peer that sends nothing is not told anew that it may send much: its share of the buffer is given to others.
    pub(super) fn withdraw_stale_offer(&mut self, now: Instant) {
        if self.echo.is_some_and(|echo| echo.received + self.config.credit_lifetime < now) {
            self.offer = self.local.credit;
            self.advertised = self.local.credit;
            self.accepted = 0;
        }
    }

    /// Falls back to the standing credit when what the peer said last is too old to count on.
    pub(super) fn expire_credit(&mut self, now: Instant) {
        if self.credit_until.is_some_and(|until| until < now) {
            self.credit_until = None;
            if let Some(peer) = &self.peer {
                self.credit = peer.credit();
            }
        }
    }

    fn begin_transmission(&mut self, now: Instant) -> u64 {
        if self.tx.in_flight() == 0 {
            self.rto_base = now;
        }
        self.tail_base = now;
        let tx = self.next_tx;
        self.next_tx += 1;
        tx
    }

    /// The packet sent last is a request: its answer acknowledges it.
    pub fn note_request(&mut self) {
        self.asked_tx = self.next_tx - 1;
    }

    /// The datapath did not take a PROBE.
    pub fn unsent_probe(&mut self) {
        if self.probe_sent.is_some_and(|probe| probe.tx == self.asked_tx) {
            self.asked_tx = 0;
        }
    }

    fn note_asked(&mut self, llp: &mut Llp, tx: u64, asks: bool) {
        llp.flags.set(Flags::AR, asks);
        if asks {
            self.asked_tx = tx;
        }
    }

    fn data_header(&mut self, now: Instant, psn: Psn, tx: u64) -> Llp {
        let mut llp = self.header(Kind::Data, now);
        llp.psn = psn;
        llp.tx_number = low(tx);
        llp
    }

    fn token_again(&self, psn: Psn, token: T) -> T {
        if planted(Defect::RetransmitWrongToken) {
            return self.tx.get(psn.next()).map_or(token, |slot| slot.token);
        }
        token
    }
}

/// The 16 bits of a transmission number that travel.
const fn low(tx: u64) -> u16 {
    (tx & 0xFFFF) as u16
}
