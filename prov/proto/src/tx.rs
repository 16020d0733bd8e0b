//! The transmit window: every packet sent and not acknowledged cumulatively, indexed by PSN, and two lists through it: what is in flight, in
//! order of transmission, and what waits for retransmission. Must never hold a token after it was handed out, nor hand one out twice.

use std::collections::VecDeque;

use rdgram_wire::Psn;

use crate::config::Class;
use crate::planted::{Defect, planted};
use crate::time::Instant;

/// Where a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Given to the network.
    InFlight,
    /// Declared lost: waits for retransmission.
    Lost,
    /// Never left, or left too large for the path: waits for transmission, and the network is not to blame.
    Unsent,
    /// Acknowledged selectively.
    Acked,
}

/// A packet of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<T> {
    pub(crate) token: T,
    /// Number of the last transmission, in full.
    pub(crate) tx: u64,
    /// Time of the last transmission.
    pub(crate) sent: Instant,
    /// Bytes of the datagram.
    pub(crate) bytes: u16,
    /// Transmissions so far, saturating.
    pub(crate) transmissions: u8,
    pub(crate) class: Class,
    pub(crate) state: State,
    /// The sender waits for its acknowledgement.
    pub(crate) request_ack: bool,
    /// It was declared lost at some time.
    pub(crate) declared_lost: bool,
    earlier: Link,
    later: Link,
}

/// A place in the window as it is linked: the low bits of the PSN, which survive the ring's growth, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u16);

impl Link {
    const NONE: Self = Self(u16::MAX);
    const MASK: u32 = 0x7FFF;

    const fn to(psn: Psn) -> Self {
        Self((psn.0 & Self::MASK) as u16)
    }
}

/// A list through the slots.
#[derive(Clone, Copy, Debug)]
struct List {
    first: Link,
    last: Link,
    len: u32,
}

impl List {
    const EMPTY: Self = Self { first: Link::NONE, last: Link::NONE, len: 0 };
}

/// Which of the two lists.
#[derive(Clone, Copy)]
enum Queue {
    Flight = 0,
    Waiting = 1,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TxWindow<T> {
    /// From `base` on. Grows to the most that was ever outstanding and is reused.
    slots: VecDeque<Slot<T>>,
    base: Psn,
    lists: [List; 2],
    data_bytes: u64,
}

impl<T: Copy> TxWindow<T> {
    pub(crate) const fn new(initial: Psn) -> Self {
        Self { slots: VecDeque::new(), base: initial, lists: [List::EMPTY; 2], data_bytes: 0 }
    }

    /// The oldest PSN not acknowledged cumulatively.
    pub(crate) const fn base(&self) -> Psn {
        self.base
    }

    /// The PSN of the next packet.
    pub(crate) fn next(&self) -> Psn {
        self.base.add(self.outstanding())
    }

    /// PSNs sent and not acknowledged cumulatively.
    pub(crate) fn outstanding(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Packets in flight.
    pub(crate) const fn in_flight(&self) -> u32 {
        self.lists[Queue::Flight as usize].len
    }

    /// Packets that wait for retransmission.
    pub(crate) const fn waiting(&self) -> u32 {
        self.lists[Queue::Waiting as usize].len
    }

    /// Bytes of packets of [`Class::Data`] in flight.
    pub(crate) const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Whether `psn` was sent and is not acknowledged cumulatively.
    pub(crate) fn contains(&self, psn: Psn) -> bool {
        psn.distance_from(self.base) < self.outstanding()
    }

    /// The packet of `psn`, if it is in the window.
    pub(crate) fn get(&self, psn: Psn) -> Option<&Slot<T>> {
        self.slots.get(psn.distance_from(self.base) as usize)
    }

    /// The oldest packet not acknowledged.
    pub(crate) fn oldest(&self) -> Option<&Slot<T>> {
        // The first slot is never `Acked`: it would have left the window.
        self.slots.front()
    }

    /// The packet in flight that was transmitted first.
    pub(crate) fn first_in_flight(&self) -> Option<Psn> {
        self.psn_of(self.lists[Queue::Flight as usize].first)
    }

    /// The packet in flight that was transmitted after `psn`.
    pub(crate) fn in_flight_after(&self, psn: Psn) -> Option<Psn> {
        self.psn_of(self.get(psn)?.later)
    }

    /// The packet that waits longest for retransmission.
    pub(crate) fn first_waiting(&self) -> Option<Psn> {
        self.psn_of(self.lists[Queue::Waiting as usize].first)
    }

    /// Adds a new packet, in flight.
    pub(crate) fn push(
        &mut self,
        token: T,
        tx: u64,
        sent: Instant,
        bytes: u16,
        class: Class,
        request_ack: bool,
    ) -> Psn {
        let psn = self.next();
        self.slots.push_back(Slot {
            token,
            tx,
            sent,
            bytes,
            transmissions: 1,
            class,
            state: State::InFlight,
            request_ack,
            declared_lost: false,
            earlier: Link::NONE,
            later: Link::NONE,
        });
        self.enqueue(Queue::Flight, psn);
        psn
    }

    /// Transmits `psn` again: whatever it was, it is now the last in flight. Returns the slot as it is sent.
    pub(crate) fn retransmit(&mut self, psn: Psn, tx: u64, sent: Instant) -> Option<Slot<T>> {
        self.dequeue(psn)?;
        let slot = self.get_mut(psn)?;
        slot.tx = tx;
        slot.sent = sent;
        slot.transmissions = slot.transmissions.saturating_add(1);
        slot.state = State::InFlight;
        self.enqueue(Queue::Flight, psn);
        self.get(psn).copied()
    }

    /// Takes `psn` out of flight, to wait for retransmission. False when it is not in flight.
    pub(crate) fn withdraw(&mut self, psn: Psn, state: State) -> bool {
        if self.get(psn).is_none_or(|slot| slot.state != State::InFlight) {
            return false;
        }
        self.dequeue(psn);
        if let Some(slot) = self.get_mut(psn) {
            slot.state = state;
            slot.declared_lost |= state == State::Lost;
        }
        self.enqueue(Queue::Waiting, psn);
        true
    }

    /// Takes `psn`, whose last transmission never left, out of flight. False when it is not in flight.
    pub(crate) fn take_back(&mut self, psn: Psn) -> bool {
        let in_flight = self.withdraw(psn, State::Unsent);
        if let (true, Some(slot)) = (in_flight, self.get_mut(psn)) {
            slot.transmissions = slot.transmissions.saturating_sub(1);
        }
        in_flight
    }

    /// Acknowledges one PSN. `None` when it was already, or is not in the window. Call [`Self::advance`] after the last one.
    pub(crate) fn acknowledge(&mut self, psn: Psn) -> Option<Slot<T>> {
        if self.get(psn)?.state == State::Acked {
            return None;
        }
        self.dequeue(psn);
        let slot = self.get_mut(psn)?;
        let taken = *slot;
        slot.state = State::Acked;
        Some(taken)
    }

    /// Drops what is acknowledged from the window's beginning.
    pub(crate) fn advance(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.state == State::Acked) {
            self.slots.pop_front();
            self.base = self.base.next();
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.base = self.next();
        self.slots.clear();
        self.lists = [List::EMPTY; 2];
        self.data_bytes = 0;
    }

    /// Goes on from `base`, in the memory of a window that is empty.
    pub(crate) fn reopen(&mut self, base: Psn) {
        self.clear();
        self.base = base;
    }

    fn get_mut(&mut self, psn: Psn) -> Option<&mut Slot<T>> {
        self.slots.get_mut(psn.distance_from(self.base) as usize)
    }

    fn psn_of(&self, link: Link) -> Option<Psn> {
        if link == Link::NONE {
            return None;
        }
        let ahead = u32::from(link.0).wrapping_sub(self.base.0) & Link::MASK;
        Some(self.base.add(ahead))
    }

    fn link_mut(&mut self, link: Link) -> Option<&mut Slot<T>> {
        let psn = self.psn_of(link)?;
        self.get_mut(psn)
    }

    /// Appends `psn`, which is in no list.
    fn enqueue(&mut self, queue: Queue, psn: Psn) {
        let last = self.lists[queue as usize].last;
        let Some(slot) = self.get_mut(psn) else { return };
        slot.earlier = last;
        slot.later = Link::NONE;
        let data_bytes = Self::data_bytes_of(slot);
        match self.link_mut(last) {
            Some(before) => before.later = Link::to(psn),
            None => self.lists[queue as usize].first = Link::to(psn),
        }
        let list = &mut self.lists[queue as usize];
        list.last = Link::to(psn);
        list.len += 1;
        if matches!(queue, Queue::Flight) {
            self.data_bytes += data_bytes;
        }
    }

    /// Takes `psn` out of the list that its state says.
    fn dequeue(&mut self, psn: Psn) -> Option<()> {
        let slot = *self.get(psn)?;
        let queue = match slot.state {
            State::InFlight => Queue::Flight,
            State::Lost | State::Unsent => Queue::Waiting,
            State::Acked => return None,
        };
        match self.link_mut(slot.earlier) {
            Some(before) => before.later = slot.later,
            None => self.lists[queue as usize].first = slot.later,
        }
        match self.link_mut(slot.later) {
            Some(after) => after.earlier = slot.earlier,
            None => self.lists[queue as usize].last = slot.earlier,
        }
        if matches!(queue, Queue::Flight) {
            if planted(Defect::LostCredit) && slot.transmissions > 1 {
                return Some(());
            }
            self.data_bytes -= Self::data_bytes_of(&slot);
        }
        self.lists[queue as usize].len -= 1;
        Some(())
    }

    fn data_bytes_of(slot: &Slot<T>) -> u64 {
        match slot.class {
            Class::Data => u64::from(slot.bytes),
            Class::Control => 0,
        }
    }
}

#[cfg(test)]
impl<T: Copy> TxWindow<T> {
    /// Slots that fit without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Counts everything again, the slow way.
    pub(crate) fn assert_consistent(&self) {
        let count = |state| self.slots.iter().filter(|slot| slot.state == state).count();
        assert_eq!(self.in_flight() as usize, count(State::InFlight));
        assert_eq!(self.waiting() as usize, count(State::Lost) + count(State::Unsent));
        let flight = self.slots.iter().filter(|slot| slot.state == State::InFlight);
        assert_eq!(self.data_bytes, flight.map(Self::data_bytes_of).sum::<u64>());
        assert!(self.slots.front().is_none_or(|slot| slot.state != State::Acked));
        for (queue, len) in [(Queue::Flight, self.in_flight()), (Queue::Waiting, self.waiting())] {
            let list = self.lists[queue as usize];
            let (mut link, mut last, mut seen, mut tx) = (list.first, Link::NONE, 0, 0);
            while let Some(psn) = self.psn_of(link) {
                let slot = self.get(psn).expect("a linked slot is in the window");
                assert_eq!(slot.earlier, last);
                let flight = matches!(queue, Queue::Flight);
                assert_eq!(flight, slot.state == State::InFlight);
                assert!(!flight || slot.tx > tx, "in order of transmission");
                (last, link, tx) = (link, slot.later, slot.tx);
                seen += 1;
            }
            assert_eq!((seen, list.last), (len, last));
        }
    }
}
