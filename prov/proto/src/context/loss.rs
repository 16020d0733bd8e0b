//! Loss by order of transmission (protocol.md, section 6; RFC 8985): what has to be sent again, and when that has to be asked. Must never declare a packet lost because time passed alone: a later transmission must have arrived.

use super::Context;
use crate::cc::CongestionControl;
use crate::time::Instant;
use crate::tx::State;

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// The transmission `tx` arrived.
    pub(super) fn note_arrival(&mut self, tx: u64) {
        let [first, second, third] = &mut self.arrived;
        if tx > *first {
            (*first, *second, *third) = (tx, *first, *second);
        } else if tx > *second && tx != *first {
            (*second, *third) = (tx, *second);
        } else if tx > *third && tx != *second && tx != *first {
            *third = tx;
        }
    }

    /// The probe sent as transmission `tx` was answered. What was sent before it and is not acknowledged was lost, unless the acknowledgement of that,
    /// with all that lies beyond a gap, is right behind the answer.
    pub(super) fn note_probe_arrival(&mut self, now: Instant, tx: u64) {
        self.note_arrival(tx);
        self.persistent |= self.backoff >= 2;
        // One that only asked for acknowledgements says nothing about a silence to come.
        self.answered |= self.tail_probed || self.backoff != 0;
        self.backoff = 0;
        self.rto_base = now;
        if self.has_overtaken() {
            self.loss_timer.get_or_insert_with(|| now + self.rtt.reordering());
        }
    }

    /// An acknowledgement brought `acked` packets: the path and the peer are alive.
    pub(super) fn note_progress(&mut self, now: Instant, acked: u32) {
        if acked == 0 {
            return;
        }
        self.persistent |= self.backoff >= 2;
        self.backoff = 0;
        self.fruitless = 0;
        self.rto_base = now;
        self.tail_base = now;
        self.tail_probed = false;
        self.probe_due = false;
        self.congestion.on_ack(acked, self.arrived[0], self.next_tx);
        if self.has_overtaken() {
            // Judged when the batch is through: the packet that is missing may be acknowledged by its next one.
            self.loss_timer = Some(now);
        } else {
            self.loss_timer = None;
            self.persistent = false;
        }
    }

    /// Declares packets lost: three later transmissions arrived, or one did and more than 9/8 of the round trip has passed.
    pub(super) fn detect_losses(&mut self, now: Instant) {
        if self.loss_timer.is_none_or(|due| due > now) {
            return;
        }
        self.loss_timer = None;
        let reordering = self.rtt.reordering();
        let mut next = self.tx.first_in_flight();
        while let Some((psn, slot)) = next.and_then(|psn| Some((psn, self.tx.get(psn)?))) {
            if slot.tx >= self.arrived[0] {
                break;
            }
            next = self.tx.in_flight_after(psn);
            let (tx, deadline) = (slot.tx, slot.sent + reordering);
            if tx >= self.arrived[2] && deadline > now {
                self.loss_timer = Some(self.loss_timer.map_or(deadline, |timer| timer.min(deadline)));
                continue;
            }
            self.tx.withdraw(psn, State::Lost);
            self.counters.lost += 1;
            if core::mem::take(&mut self.persistent) {
                self.congestion.on_timeout(self.next_tx);
            } else {
                self.congestion.on_loss(tx, self.next_tx);
            }
        }
        self.persistent = false;
    }

    /// Whether something in flight was transmitted before something that arrived.
    fn has_overtaken(&self) -> bool {
        let first = self.tx.first_in_flight().and_then(|psn| self.tx.get(psn));
        first.is_some_and(|slot| slot.tx < self.arrived[0])
    }
}
