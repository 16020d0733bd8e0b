//! The one loop: receive, learn of errors, time out, transmit, acknowledge.

use rdgram_proto::{AckNeed, Instant, Moment};

use crate::datapath::{Datapath, PathError, Received, Sleep};
use crate::domain::Shared;
use crate::endpoint::{Core, Endpoint};
use crate::plan::Scattered;

/// Batches received in one progress call before others have their turn.
const RX_BATCHES_MAX: usize = 4;
/// What a datagram takes of the socket's receive buffer at least, with what the kernel keeps beside it: a small one of a train, of which only the first has that.
const DATAGRAM_LEAST: usize = 64;

impl<D: Datapath> Endpoint<D> {
    /// One round. True when anything happened.
    pub(crate) fn progress(&mut self, shared: &mut Shared) -> bool {
        self.core.burst = 0;
        self.core.held_bytes = 0;
        let now = self.datapath.now();
        shared.progressed_at = now;
        self.core.poll_gap.on_poll(now);
        let at = self.core.moment(now);
        for due in [self.core.watch.arm(now), self.core.warmth.arm(now)].into_iter().flatten() {
            self.core.next_timeout = Some(self.core.next_timeout.map_or(due, |next| next.min(due)));
        }
        let came = self.core.progress_neighbours(now, shared);
        let due = self.core.next_timeout.is_some_and(|timeout| timeout <= now);
        let spared = !due && self.core.neighbours.spares_socket(now);
        let mut received = 0;
        let mut drained = false;
        let batches = if spared { 0 } else { RX_BATCHES_MAX };
        for _ in 0..batches {
            let batch = self.receive(at, shared);
            received += batch.datagrams;
            drained = batch.drained;
            if batch.overflowed {
                self.core.stats.rx_overflows += 1;
                self.core.credits.on_overflow();
            }
            // What came alone is most often all: the application, which may be waiting for just that, is not kept for another look. Nor is a
            // sender that may send little more kept waiting, or it stops for as long as all that it sent is received.
            if drained || batch.datagrams == 1 || self.core.acks.press {
                break;
            }
        }
        let mut errors = false;
        if !spared {
            while let Some(error) = self.datapath.poll_error() {
                self.on_error(now, &error, shared);
                errors = true;
            }
        }
        // What has not been read yet may be the very acknowledgement that a timer waits for, or the last word of a peer that ended.
        if drained || self.has_read_what_was_there(due, received) {
            self.core.behind = 0;
            if self.core.next_timeout.is_some_and(|timeout| timeout <= now) {
                self.core.on_timers(now, shared);
                if self.core.warmth.has_released() {
                    self.datapath.released();
                }
            }
            self.core.finish_ends(shared);
        }
        self.core.give_notices(shared);
        self.core.progress_grants(now);
        let datagrams = self.core.stats.tx_datagrams;
        let idle = received == 0 && drained;
        let mut acknowledged = false;
        if self.core.blocked {
            // What there is to send fills the socket each time: acknowledgements would never have their turn after it.
            self.core.blocked = false;
            acknowledged = self.core.acknowledge(&mut self.datapath, at, idle, shared);
            self.core.blocked = true;
        }
        let sent = self.core.transmit(&mut self.datapath, at, shared);
        if !self.core.batch.is_empty() {
            self.core.flush_batch(&mut self.datapath, at, shared);
        }
        acknowledged |= self.core.acknowledge(&mut self.datapath, at, idle, shared);
        if !spared {
            let busy = received > 0 || self.core.stats.tx_datagrams != datagrams;
            self.core.neighbours.note_socket(now, busy);
        }
        came || received > 0 || errors || sent || acknowledged
    }

    /// Something has waited for the end of the socket's queue while `received` datagrams were read, now and before: at least as many as the queue held when that began. One that
    /// is filled as fast as it is read has no end.
    fn has_read_what_was_there(&mut self, due: bool, received: usize) -> bool {
        if received == 0 || !(due || self.core.neighbours.has_ends()) {
            return false;
        }
        self.core.behind += received;
        self.core.behind >= self.datapath.receive_buffer() / DATAGRAM_LEAST
    }

    /// One receive call, with a plan when there is something to predict.
    fn receive(&mut self, at: Moment, shared: &mut Shared) -> Received {
        let core = &mut self.core;
        if let Some(guess) = core.guess() {
            let sink = &mut |train: Scattered<'_>| core.on_scattered(at, &guess, train, shared);
            let batch = self.datapath.receive_scattered(guess.plan(), sink);
            core.settle_heard(at);
            core.forget_guess(guess);
            if batch.datagrams == 0 && !batch.drained {
                // It comes again: soon without a plan, and then the application gets the fault that is its own.
                core.predictor.on_planned(0, usize::MAX);
            }
            return batch;
        }
        let batch = self.datapath.receive(&mut |datagram| core.on_datagram(at, &datagram, shared));
        core.settle_heard(at);
        core.predictor.on_unplanned(batch.datagrams);
        batch
    }

    fn on_error(&mut self, now: Instant, error: &PathError, shared: &mut Shared) {
        let at = self.core.moment(now);
        self.core.on_path_error(at, error, shared);
    }

    /// See [`crate::Domain::sleep`].
    pub(crate) fn sleep(&mut self, now: Instant) -> Sleep {
        let core = &mut self.core;
        core.hurry_acks();
        let acks = core.acks.is_due() && !core.blocked;
        let work = acks || core.may_send() || !core.neighbours.sleep();
        let limit = core.neighbours.sleep_limit(core.watch.is_awake());
        // What one thread posts while another one sleeps is watched too.
        let walk = core.watch.due_from(now);
        let next_timeout =
            [core.next_timeout, walk, limit.map(|limit| now + limit)].into_iter().flatten().min();
        match next_timeout {
            _ if work => Sleep::Not,
            Some(timeout) if timeout <= now => Sleep::Not,
            // Nothing tells when a full socket has room again but asking.
            _ if core.blocked => Sleep::For(BLOCKED_RETRY),
            Some(timeout) => Sleep::For(timeout.saturating_duration_since(now)),
            None => Sleep::Forever,
        }
    }
}

/// How long a waiter sleeps while the socket takes no datagram.
const BLOCKED_RETRY: core::time::Duration = core::time::Duration::from_micros(200);

impl Core {
    /// Something is ready to be sent, and the datapath takes it.
    pub(crate) fn may_send(&self) -> bool {
        !self.ready.is_empty() && !self.blocked
    }

    /// Fires the timers that are due and finds the next one.
    fn on_timers(&mut self, now: Instant, shared: &mut Shared) {
        let at = self.moment(now);
        self.next_timeout = None;
        let mut kept = 0;
        for index in 0..self.timed.len() {
            let peer = self.timed[index];
            let due = self
                .context_mut(peer)
                .and_then(|context| context.next_timeout())
                .is_some_and(|timeout| timeout <= now);
            if due {
                if let Some(context) = self.context_mut(peer) {
                    context.on_timeout(at);
                }
                self.drain_events(peer, shared);
                self.make_ready(peer);
            }
            let next = self.context_mut(peer).and_then(|context| context.next_timeout());
            if let Some(next) = next {
                self.next_timeout = Some(self.next_timeout.map_or(next, |least| least.min(next)));
                self.timed[kept] = peer;
                kept += 1;
            } else {
                self.peer_mut(peer).timed = false;
            }
        }
        self.timed.truncate(kept);
        self.watch_peers(at, shared);
        self.cool(now);
    }

    /// See [`crate::Domain::is_quiet`].
    pub(crate) fn is_quiet(&self) -> bool {
        let contexts_idle =
            self.peers.iter().filter_map(|peer| peer.context.as_deref()).all(|context| context.is_idle());
        let acks_owed = self
            .peers
            .iter()
            .filter_map(|peer| peer.context.as_deref())
            .any(|context| context.ack_need() != AckNeed::No);
        let entries = self.txs.len()
            + self.rxs.len()
            + self.bundles.len()
            + self.injected.handed_out()
            + self.unexpected.handed_out();
        let queues = self.peers.iter().any(|peer| peer.has_queued() || !peer.queues.writes.is_empty());
        let quiet = contexts_idle
            && self.neighbours.is_quiet()
            && !acks_owed
            && entries == 0
            && !queues
            && self.claimed.is_empty();
        debug_assert!(
            !quiet || self.peers.iter().all(|peer| peer.granted == 0),
            "what is granted ends with its message"
        );
        quiet
    }
}
