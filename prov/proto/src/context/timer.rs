//! Timers: when to look again, and what silence asks for. Must never take silence for congestion or death: an expiry sends one packet.

use core::time::Duration;

use super::{Context, Death};
use crate::cc::CongestionControl;
use crate::config::ACK_DELAY;
use crate::planted::{Defect, planted};
use crate::time::{Instant, Moment};

/// Timeouts in a row of a large packet after which the path's MTU is in doubt.
const DOUBT_AFTER: u32 = 3;
/// A peer that allows fewer packets than this is crowded: what is sent to it in vain takes room that others need.
const CROWDED: u16 = 4;

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// When [`Self::on_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.dead.is_some() {
            return None;
        }
        let confirm = self.confirm_due.or_else(|| self.liveness.confirm_at().filter(|_| !self.probe_due));
        let tail = self.rto_deadline().map(|rto| self.tail_deadline(rto).unwrap_or(rto));
        earliest(earliest(self.loss_timer, tail), earliest(self.mtu.next_timeout(), confirm))
    }

    /// Time passed. Afterwards [`Self::poll_retransmit`] and [`Self::poll_probe`] may have something to send.
    pub fn on_timeout(&mut self, at: Moment) {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() {
            return;
        }
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= at.now);
        self.detect_losses(at.now);
        let rto = self.rto_deadline();
        if due(rto) {
            self.expire(at.now);
        } else if due(rto.and_then(|rto| self.tail_deadline(rto))) {
            self.probe_silence(at.now);
            self.tail_probed = true;
            self.counters.tail_probes += 1;
        }
        self.mtu.on_timeout(at.now, self.liveness.last_heard());
        if due(self.liveness.confirm_at()) {
            if self.tx.outstanding() != 0 {
                self.probe_due = true;
            } else {
                self.confirm_due.get_or_insert(at.now);
            }
        }
    }

    /// Something is awaited of the peer: a grant, an answer, payload, a message. To be called about once a second while that is so. When nothing in flight asks whether
    /// the peer lives, and it was not heard lately, a probe does: one that vanished would be waited for until the end of time.
    pub fn ask(&mut self, at: Moment) {
        self.rto_floor = at.rto_floor;
        if self.dead.is_some() || self.tx.outstanding() != 0 || !self.liveness.asks(at.now) {
            return;
        }
        self.confirm_due.get_or_insert(at.now);
    }

    /// For how long the peer was asked and said nothing: timeouts of what is in flight, and questions of [`Self::ask`].
    pub fn silence(&self) -> Duration {
        self.liveness.silence()
    }

    /// The retransmission timeout as it is now, backed off.
    pub(super) fn rto(&self) -> Duration {
        let floor = self.rto_floor.max(self.config.rto_min);
        let rto = (self.rtt.timeout() + ACK_DELAY).max(floor);
        // 2^16 times any floor is beyond any roof.
        (rto * (1 << (2 * self.backoff).min(16))).min(self.config.rto_max.max(floor))
    }

    /// One packet asks whether the peer is there and has what was sent. The oldest, unless that was sent again already or the peer is crowded: one that says nothing
    /// most likely computes, and its socket need not hold one copy after the other. Then a PROBE asks, and its answer tells what was lost. After an answer it is the packet's turn: the peer is not away.
    fn probe_silence(&mut self, now: Instant) {
        let repeated = self.tail_probed || self.backoff > 0;
        let away = !core::mem::take(&mut self.answered);
        if self.established && away && (repeated || self.credit.packets < CROWDED) {
            self.confirm_due.get_or_insert(now);
        } else {
            self.probe_due = true;
        }
    }

    /// One timeout: one packet.
    fn expire(&mut self, now: Instant) {
        let rto = self.rto();
        self.counters.timeouts += 1;
        if self.liveness.on_silence(rto) >= self.config.peer_timeout {
            self.die(Death::TimedOut);
            return;
        }
        self.probe_silence(now);
        self.backoff += 1;
        self.fruitless += 1;
        self.rto_base = now;
        if let Some(oldest) = self.tx.oldest().filter(|_| self.fruitless >= DOUBT_AFTER) {
            self.mtu.doubt(oldest.bytes);
        }
    }

    fn rto_deadline(&self) -> Option<Instant> {
        self.has_tail().then(|| self.rto_base + self.rto())
    }

    /// After max(2 x smoothed RTT and the delay of an acknowledgement, a floor), when that is before the timeout `rto`. Needs a sample: without one the timeout is a guess already.
    fn tail_deadline(&self, rto: Instant) -> Option<Instant> {
        if self.tail_probed || self.backoff != 0 {
            return None;
        }
        let mut delay = (self.rtt.smoothed()? * 2 + ACK_DELAY).max(self.config.tail_probe_min);
        if self.rto_floor > self.config.rto_min {
            // Half the floor is the gap between two looks at the socket: sooner, our own absence would be taken for a loss.
            delay = delay.max(self.rto_floor / 2);
        }
        let deadline = self.tail_base + delay;
        (deadline < rto).then_some(deadline)
    }

    /// Whether something is in flight that an acknowledgement may be missing for.
    fn has_tail(&self) -> bool {
        let unwatched = planted(Defect::UnackedTail) && self.tx.outstanding() == 1;
        self.tx.in_flight() != 0 && !unwatched
    }
}

/// The earlier of two deadlines, of which either may be missing.
fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
