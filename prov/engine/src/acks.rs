//! Which peers an acknowledgement is owed to, and when it is sent; and asking for one. Must never forget one that the datapath did not take.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use rdgram_proto::{AckNeed, Instant, Moment};
use rdgram_wire::Flags;

use crate::datapath::{Datapath, HEADER_MAX};
use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::matching::PeerId;
use crate::transmit::{Outgoing, Owner, Source};

/// In which lists a peer is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listed {
    due: bool,
    later: bool,
}

impl Listed {
    pub(crate) const fn is_any(self) -> bool {
        self.due || self.later
    }
}

/// An endpoint's lists.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    due: Vec<PeerId>,
    /// Those that may wait for data that carries them, or for an idle progress call, by the end of the wait. What was carried stays in the list until then.
    later: BinaryHeap<Reverse<(Instant, PeerId)>>,
    /// One of the peers is about to come to a stop for want of an acknowledgement.
    pub(crate) press: bool,
    /// Something that is to be sent to the peer whose turn it is waits for acknowledgements.
    pub(crate) awaited: bool,
}

impl Acks {
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    pub(crate) fn shrink_to(&mut self, listed: usize) {
        self.due.shrink_to(listed);
        self.later.shrink_to(listed);
    }
}

impl Core {
    /// Takes what the peer's context wants acknowledged into the lists.
    pub(crate) fn list_ack(&mut self, peer: PeerId) {
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = &entry.context else { return };
        if let (Some(due), false) = (context.ack_due(), entry.acks.later) {
            entry.acks.later = true;
            self.acks.later.push(Reverse((due, peer)));
        }
        if context.ack_need() > AckNeed::Later && !entry.acks.due {
            entry.acks.due = true;
            self.acks.due.push(peer);
        }
        self.acks.press |= context.is_ack_pressing();
    }

    /// Sends the acknowledgements that are due now and that nothing sent since has carried; with `idle`, also those that were to wait for that. True when one was sent.
    pub(crate) fn acknowledge<D: Datapath>(
        &mut self,
        datapath: &mut D,
        at: Moment,
        idle: bool,
        shared: &mut Shared,
    ) -> bool {
        self.end_waits(at.now);
        if self.acks.due.is_empty() || self.blocked {
            return false;
        }
        self.settle_fresh(datapath);
        self.acks.press = false;
        let mut kept = 0;
        for index in 0..self.acks.due.len() {
            let peer = self.acks.due[index];
            let entry = &mut self.peers[peer.0 as usize];
            let need = entry.context.as_ref().map_or(AckNeed::No, |context| context.ack_need());
            let due = need == AckNeed::Now || (need == AckNeed::Idle && idle);
            let wait = need > AckNeed::Later && (!due || self.batch.is_full());
            if wait {
                self.acks.due[kept] = peer;
                kept += 1;
                continue;
            }
            entry.acks.due = false;
            if due {
                self.push_ack(peer, at);
            }
        }
        self.acks.due.truncate(kept);
        let sent = !self.batch.is_empty();
        if sent {
            self.flush_batch(datapath, at, shared);
        }
        sent
    }

    /// What has waited long enough for data to carry it is due.
    fn end_waits(&mut self, now: Instant) {
        if self.state == State::Closing {
            return self.hurry_acks();
        }
        while let Some(&Reverse((due, peer))) = self.acks.later.peek() {
            if due > now {
                return;
            }
            self.acks.later.pop();
            self.end_wait(peer, |context_due| context_due <= now);
        }
    }

    /// Nothing will be sent for a while: nothing waits any longer.
    pub(crate) fn hurry_acks(&mut self) {
        while let Some(Reverse((_, peer))) = self.acks.later.pop() {
            self.end_wait(peer, |_| true);
        }
    }

    /// The peer left the list of those that wait. It returns to it when another packet has begun to wait since, unless that is `over`, by when it is due.
    fn end_wait(&mut self, peer: PeerId, over: impl FnOnce(Instant) -> bool) {
        self.peer_mut(peer).acks.later = false;
        if let Some(context) = self.context_mut(peer) {
            if context.ack_due().is_some_and(over) {
                context.hurry_ack();
            }
            self.list_ack(peer);
        }
    }

    /// Something that is to be sent to the peer waits for acknowledgements: unless one was asked for, it is now.
    pub(crate) fn demand_ack(&mut self, peer: PeerId, at: Moment) {
        let Some(context) = self.context_mut(peer) else { return };
        if !context.demand_ack(at) {
            return;
        }
        if let Some((llp, size)) = context.poll_probe(at) {
            self.push_bare(peer, llp, size);
        }
    }

    pub(crate) fn push_ack(&mut self, peer: PeerId, at: Moment) {
        self.share_credit(peer, at.now);
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else { return };
        let (llp, ack) = context.ack(at);
        let syn = llp.flags.contains(Flags::SYN).then(|| context.syn());
        let mut body = [0; HEADER_MAX];
        let length = ack.encode(&mut body);
        self.stats.tx_acks += 1;
        self.push(
            peer,
            Owner::Answer(peer, None),
            Outgoing { llp, syn, body: &body[..length], padding: 0, fragment: false },
            Source::Nothing,
        );
    }
}
