//! Which long messages are asked for, and how much of each: receiver-driven grants.
//!
//! As long as all that is asked for and missing fits into a budget, a message is asked for whole and at once (CTS). Beyond that they stand in line, and get parts (GRANT) as
//! others arrive: the one with the least left first, since that ends most of them soonest, but every fourth part goes to the one that has waited longest.
//! What a silent sender was granted stops counting, so that it holds up nobody.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use rdgram_proto::{Defect, Instant, planted};
use rdgram_wire::{Control, Syn};

use crate::endpoint::Core;
use crate::matching::PeerId;
use crate::slab::Key;
use crate::types::EpConfig;

/// The budget, in receive buffers: what is on its way beside what lies there.
const BUFFERS: u64 = 2;
/// A part is at least this share of the budget: smaller ones cost a packet each and gain nothing.
const PART: u64 = 8;
/// One part of so many goes to the message that has waited longest.
const FAIR: u32 = 4;
/// A sender that sent nothing of what it was granted for so long is silent.
const SILENT: Duration = Duration::from_millis(2);

/// What was granted of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grant {
    /// Bytes that its sender may send.
    pub(crate) given: u64,
    /// What of them is missing counts.
    counted: bool,
    /// Bytes came, or were granted, since the senders were looked at last.
    moved: bool,
    /// Its place in line; 0 when it does not stand there.
    place: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Grants {
    budget: u64,
    /// Bytes granted and missing.
    open: u64,
    /// Messages with something granted, and perhaps some that have ended.
    active: Vec<Key>,
    /// Messages in line by what is not granted of them, and by age. Entries of messages that have moved on are skipped when they come up.
    shortest: BinaryHeap<Reverse<(u64, u32, u32)>>,
    oldest: VecDeque<(u32, Key)>,
    /// Messages in line.
    waiting: usize,
    places: u32,
    parts: u32,
    /// When senders are looked at next, while somebody waits.
    look: Option<Instant>,
}

impl Grant {
    /// Bytes given and not received.
    pub(crate) fn missing(&self, received: u64) -> u64 {
        self.given.saturating_sub(received)
    }
}

impl Grants {
    /// Nothing is asked for yet.
    pub(crate) fn new(config: &EpConfig, receive_buffer: usize) -> Self {
        Self {
            budget: config.grant_bytes.unwrap_or(BUFFERS * receive_buffer as u64).max(PART),
            open: 0,
            active: Vec::new(),
            shortest: BinaryHeap::new(),
            oldest: VecDeque::new(),
            waiting: 0,
            places: 0,
            parts: 0,
            look: None,
        }
    }

    /// `length` bytes of a message came; with them it is `received` bytes.
    pub(crate) fn on_data(&mut self, grant: &mut Grant, length: u64, received: u64) {
        grant.moved = true;
        if grant.counted {
            self.open -= length;
        } else {
            // Its sender speaks again.
            grant.counted = true;
            self.open += grant.given - received;
        }
    }

    /// A message ends, with or without all of it.
    pub(crate) fn close(&mut self, grant: &mut Grant, received: u64) {
        if core::mem::take(&mut grant.counted) {
            self.open -= grant.given - received;
        }
        if core::mem::take(&mut grant.place) != 0 {
            self.waiting -= 1;
        }
    }

    fn give(&mut self, grant: &mut Grant, key: Key, bytes: u64, received: u64) {
        if grant.given == 0 {
            self.active.push(key);
        }
        if !core::mem::replace(&mut grant.counted, true) {
            self.open += grant.given - received;
        }
        grant.given += bytes;
        grant.moved = true;
        self.open += bytes;
    }

    fn stand_in_line(&mut self, grant: &mut Grant, key: Key, left: u64) {
        self.places = self.places.checked_add(1).unwrap_or(1);
        grant.place = self.places;
        self.waiting += 1;
        self.shortest.push(Reverse((left, self.places, key.to_wire())));
        self.oldest.push_back((self.places, key));
    }

    /// Messages wait until something is granted of them.
    pub(crate) fn others_wait(&self) -> bool {
        self.waiting > 0
    }

    /// Room for another part. Something is always granted, whatever the budget.
    fn has_room(&self) -> bool {
        self.open == 0 || self.open + self.budget / PART <= self.budget
    }
}

impl Core {
    /// Asks for `wanted` bytes of a matched message, at once or when its turn comes.
    pub(crate) fn grant(&mut self, key: Key, wanted: u64) {
        let rx = &self.rxs[key];
        let (peer, message_id) = (rx.peer, rx.message_id);
        let grants = &self.grants;
        let fits = grants.waiting == 0 && grants.open + wanted <= grants.budget;
        // Queues in memory hold no more than their room, whatever is asked for.
        let by_memory = rx.by_memory;
        if fits || by_memory || wanted == 0 || !self.takes_grants(peer) {
            if wanted > 0 {
                self.forget_ended();
                self.grants.give(&mut self.rxs[key].grant, key, wanted, 0);
                self.note_granted(peer, wanted);
            }
            let control = Control::Cts { message_id, stag: key.to_wire(), length: wanted };
            self.peer_mut(peer).queues.control.push_back(control);
            self.make_ready(peer);
            return;
        }
        let (grants, rx) = (&mut self.grants, &mut self.rxs[key]);
        grants.stand_in_line(&mut rx.grant, key, wanted);
        self.give_parts();
    }

    fn takes_grants(&self, peer: PeerId) -> bool {
        let record = self.peer(peer).context.as_deref().and_then(|context| context.peer());
        record.is_some_and(|record| record.features & Syn::GRANTS != 0)
    }

    /// Grants what others have made room for, and looks after senders that keep it from others. In every progress call.
    pub(crate) fn progress_grants(&mut self, now: Instant) {
        if self.grants.waiting == 0 {
            self.grants.look = None;
            return;
        }
        match self.grants.look {
            Some(look) if look > now => {}
            Some(_) => self.discount_silent(now),
            None => self.grants.look = Some(now + SILENT),
        }
        self.give_parts();
        let look = self.grants.look;
        self.next_timeout = self.next_timeout.into_iter().chain(look).min();
    }

    /// Gives parts as long as there is room.
    fn give_parts(&mut self) {
        while self.grants.has_room() {
            let Some((key, fair)) = self.next_in_line() else { return };
            self.forget_ended();
            let (grants, rx) = (&mut self.grants, &mut self.rxs[key]);
            let (wanted, peer, message_id) = (rx.wanted(), rx.peer, rx.message_id);
            if planted(Defect::LostGrant) && rx.grant.given > 0 {
                grants.close(&mut rx.grant, rx.received);
                continue;
            }
            let least = grants.budget / PART;
            let room = if fair { least } else { grants.budget.saturating_sub(grants.open).max(least) };
            let bytes = (wanted - rx.grant.given).min(room);
            grants.give(&mut rx.grant, key, bytes, rx.received);
            let left = wanted - rx.grant.given;
            if left == 0 {
                rx.grant.place = 0;
                grants.waiting -= 1;
            } else {
                grants.shortest.push(Reverse((left, rx.grant.place, key.to_wire())));
            }
            let granted = rx.grant.given;
            self.note_granted(peer, bytes);
            let control = Control::Grant { message_id, stag: key.to_wire(), length: wanted, granted };
            self.stats.tx_grants += 1;
            self.peer_mut(peer).queues.control.push_back(control);
            self.make_ready(peer);
        }
    }

    /// The message to grant a part of, and whether it is its age that counts.
    fn next_in_line(&mut self) -> Option<(Key, bool)> {
        let rxs = &self.rxs;
        let stands = |key: Key, place: u32| rxs.get(key).filter(|rx| rx.grant.place == place);
        let grants = &mut self.grants;
        grants.parts = grants.parts.wrapping_add(1);
        if grants.parts % FAIR == 0 {
            while let Some(&(place, key)) = grants.oldest.front() {
                if stands(key, place).is_some() {
                    return Some((key, true));
                }
                grants.oldest.pop_front();
            }
        }
        while let Some(Reverse((left, place, key))) = grants.shortest.pop() {
            let key = Key::from_wire(key);
            if stands(key, place).is_some_and(|rx| rx.wanted() - rx.grant.given == left) {
                return Some((key, false));
            }
        }
        None
    }

    /// What was granted to senders that sent nothing since the last look stops counting until they do.
    fn discount_silent(&mut self, now: Instant) {
        let (grants, rxs) = (&mut self.grants, &mut self.rxs);
        grants.look = Some(now + SILENT);
        let open = &mut grants.open;
        grants.active.retain(|key| {
            let Some(rx) = rxs.get_mut(*key).filter(|rx| rx.grant.given > rx.received) else { return false };
            if !core::mem::take(&mut rx.grant.moved) && core::mem::take(&mut rx.grant.counted) {
                *open -= rx.grant.given - rx.received;
            }
            true
        });
    }

    /// Keeps the list of those with something granted near the number that there are: all of what is granted to those that ended was received.
    fn forget_ended(&mut self) {
        let (active, rxs) = (&mut self.grants.active, &self.rxs);
        if active.len() == active.capacity() {
            active.retain(|key| rxs.get(*key).is_some_and(|rx| rx.grant.given > rx.received));
            // Twice as many as are needed: else this would be done again at once.
            active.reserve(active.len());
        }
    }
}
