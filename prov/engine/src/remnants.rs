//! Last packets of messages that stand in line together. Datagrams make a train as long as they are of one size, and the last one of a message is of another than those before it: so messages
//! of two packets and more would leave in a train, and through the kernel, each by itself. Their last packets wait until the rest of the line is sent; those are of one size too when the messages are.

use std::collections::VecDeque;

use rdgram_proto::Moment;

use crate::bundle::HELD_LENGTH;
use crate::endpoint::Core;
use crate::entries::{TxEntry, TxStage};
use crate::matching::PeerId;
use crate::packet;
use crate::slab::Key;
use crate::transmit::prefix;

/// So many wait at most: that is how many messages the receiver can be made to hold unfinished, and a train of them is long enough.
const REMNANTS_MAX: usize = 32;
/// So often the oldest is passed by: a line that never ends would else keep it for ever. More than the datagrams of what a burst holds back.
const PASSED_MAX: usize = 4 * REMNANTS_MAX;

/// The line of them, in the order in which their messages began.
#[derive(Debug)]
pub(crate) struct Remnants {
    line: VecDeque<Key>,
    /// How often others were sent, or tried, since the line was empty.
    passed: usize,
    /// There were too many, or they have waited too long: all of them go before another message begins.
    goes_on: bool,
}

impl Default for Remnants {
    fn default() -> Self {
        Self::NONE
    }
}

impl Remnants {
    pub(crate) const NONE: Self = Self { line: VecDeque::new(), passed: 0, goes_on: false };

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.line.iter()
    }

    /// Takes an operation out: a key that stayed there might name another one by the time it comes to the front.
    pub(crate) fn leave(&mut self, key: Key) {
        self.line.retain(|other| *other != key);
        self.note_end();
    }

    fn push(&mut self, key: Key) {
        self.line.push_back(key);
        self.goes_on |= self.line.len() == REMNANTS_MAX;
    }

    fn pass(&mut self) {
        self.passed += 1;
        self.goes_on |= self.passed == PASSED_MAX;
    }

    fn pop(&mut self) {
        self.line.pop_front();
        self.note_end();
    }

    fn note_end(&mut self) {
        if self.line.is_empty() {
            self.passed = 0;
            self.goes_on = false;
        }
    }
}

impl TxEntry {
    /// A message whose datagrams may share a train with those before it: it goes on, or begins now.
    fn prolongs_train(&self) -> bool {
        let goes_on = self.started && self.stage == TxStage::Eager && self.length <= HELD_LENGTH;
        (goes_on || self.is_short()) && self.length > 0
    }
}

impl Core {
    /// A packet of the message at the front of the line was sent. If one is left, it may wait for the messages behind it, or behind remnants: then true, and its message is not in that line any more.
    pub(crate) fn defer_remnant(&mut self, peer: PeerId) -> bool {
        let entry = &self.peers[peer.0 as usize];
        let (starts, remnants) = (&entry.queues.starts, &entry.queues.remnants);
        let (Some(&key), None) = (starts.front(), entry.link.up()) else { return false };
        let tx = &self.txs[key];
        let waits = self.config.hold_bursts
            && tx.prolongs_train()
            && !tx.all_sent()
            && (!remnants.is_empty() || starts.get(1).is_some_and(|next| self.prolongs_train(*next)))
            && entry.context.as_deref().is_some_and(|context| {
                let room = context.segment() - prefix(context.needs_syn());
                let (_, payload) = packet::segment_of(tx, packet::next(tx, key, room));
                tx.length - tx.sent == payload as u64
            });
        if waits {
            let queues = &mut self.peers[peer.0 as usize].queues;
            queues.starts.pop_front();
            queues.remnants.push(key);
        }
        waits
    }

    fn prolongs_train(&self, key: Key) -> bool {
        self.txs.get(key).is_some_and(TxEntry::prolongs_train)
    }

    /// Sends the oldest remnant, unless a message may begin, or go on, first. `None` when there is none to be sent now; false when the window has no room.
    pub(crate) fn send_remnant(&mut self, peer: PeerId, at: Moment) -> Option<bool> {
        loop {
            let queues = &self.peers[peer.0 as usize].queues;
            let key = *queues.remnants.line.front()?;
            // One that is held for the link to come up waits for just these.
            let begins = |next: &Key| self.prolongs_train(*next) && !self.is_held_for_link(peer, *next);
            let passes = !queues.remnants.goes_on && queues.starts.front().is_some_and(begins);
            let waits = self.txs.get(key).is_some_and(|tx| tx.stage == TxStage::Eager && !tx.all_sent());
            if passes {
                self.peers[peer.0 as usize].queues.remnants.pass();
                return None;
            }
            let sent = waits && self.send_next(peer, key, at);
            if waits && !(sent && self.txs[key].all_sent()) {
                // No room, or more to come: it takes more than one packet when those have become smaller.
                return Some(sent);
            }
            self.peers[peer.0 as usize].queues.remnants.pop();
            if sent {
                return Some(true);
            }
        }
    }
}
