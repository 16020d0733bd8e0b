//! Packets that are handled as the one before them: that it is done, and only where a whole look would come to the same.

mod common;

use common::*;
use rdgram_engine::*;
use rdgram_wire::{Flags, Llp, Packet};

/// An eager message of many packets, all of them waiting at its receiver.
struct World {
    a: Node,
    b: Node,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (mut a, mut b, to_b) = acquainted();
        let (message, mut buffer) = (pattern(3, 30_000), vec![0; 30_000]);
        b.recv(FiAddr::UNSPEC, &mut buffer, None, 7);
        a.send(to_b, &message, None, 0);
        while a.domain.progress() {}
        assert!(b.waiting() > 20, "{} packets", b.waiting());
        Self { a, b, message, buffer }
    }

    /// With this change of what waits the message arrives all the same. The receiver's counters.
    fn arrives_with(mut self, change: impl FnOnce(&mut Queue)) -> Stats {
        let before = self.b.domain.ep_stats(self.b.ep);
        self.b.change_waiting(change);
        settle(&mut [&mut self.a, &mut self.b]);
        assert!(self.a.all().len() == 1 && self.b.all().len() == 1 && self.buffer == self.message);
        let after = self.b.domain.ep_stats(self.b.ep);
        assert_eq!(before.rx_alike, 0);
        after
    }
}

/// Rewrites a datagram's LLP header, with an integrity field that fits.
fn forge(bytes: &mut [u8], change: impl FnOnce(&mut Llp)) {
    let headers = Packet::decode(bytes).expect("well-formed").headers;
    let mut llp = Llp::decode(bytes).expect("well-formed");
    change(&mut llp);
    llp.integrity = 0;
    llp.encode(bytes);
    let integrity = crc32c::crc32c(&bytes[..headers]);
    bytes[Llp::INTEGRITY_OFFSET..Llp::LENGTH].copy_from_slice(&integrity.to_be_bytes());
}

#[test]
fn all_but_the_first_two_and_the_last() {
    let world = World::new();
    let packets = world.b.waiting() as u64;
    let stats = world.arrives_with(|_| {});
    // One in between asks for an acknowledgement, which is another flag, and so is the one after it.
    assert!((packets - 6..=packets - 3).contains(&stats.rx_alike), "{} of {packets}", stats.rx_alike);
}

#[test]
fn not_one_that_comes_after_a_gap_or_out_of_order() {
    let whole = World::new().arrives_with(|_| {}).rx_alike;
    let stats = World::new().arrives_with(|waiting| drop(waiting.remove(8)));
    assert!(stats.rx_alike < whole && stats.rx_alike > 10, "{} of {whole}", stats.rx_alike);
    let stats = World::new().arrives_with(|waiting| waiting.swap(8, 12));
    assert!(stats.rx_alike < whole && stats.rx_duplicates == 0, "{} of {whole}", stats.rx_alike);
}

#[test]
fn one_that_came_before_is_a_duplicate_either_way() {
    let whole = World::new().arrives_with(|waiting| {
        let again = waiting[8].clone();
        waiting.insert(9, again);
    });
    // After 8 and 9 a packet 10 is expected, and it is what comes; but it came before them.
    let alike = World::new().arrives_with(|waiting| {
        let early = waiting[10].clone();
        waiting.insert(8, early);
    });
    assert_eq!([whole.rx_duplicates, alike.rx_duplicates], [1, 1]);
}

/// What counts as the same does not hang on how many packets a receive call finds.
#[test]
fn one_by_one_comes_to_the_same() {
    let together = World::new().arrives_with(|_| {});
    let World { mut a, mut b, message, buffer } = World::new();
    let mut packets = Vec::new();
    b.change_waiting(|waiting| packets.extend(waiting.drain(..)));
    for (source, bytes) in packets {
        b.inject(source, &bytes);
        b.domain.progress();
    }
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && b.all().len() == 1 && buffer == message);
    let alone = b.domain.ep_stats(b.ep);
    assert_eq!(alone.rx_alike, 0);
    let without = |mut stats: Stats| {
        // One by one they are acknowledged more often.
        (stats.rx_alike, stats.tx_acks, stats.tx_datagrams, stats.tx_bytes) = (0, 0, 0, 0);
        format!("{stats:?}")
    };
    assert_eq!(without(together), without(alone));
}

/// Two senders whose packets lie one between the other in one receive call: both are answered at once, without a timer's help.
#[test]
fn each_of_two_senders_is_answered_at_once() {
    let net = net();
    let (mut a, mut b, mut c) = (Node::new(&net, 1), Node::new(&net, 2), Node::new(&net, 3));
    let to = [a.knows(&b), c.knows(&b)];
    b.knows(&a);
    b.knows(&c);
    let (message, mut first, mut second) = (pattern(3, 30_000), vec![0; 30_000], vec![0; 30_000]);
    for (sender, to) in [&mut a, &mut c].into_iter().zip(to) {
        b.recv(FiAddr::UNSPEC, &mut first, None, 7);
        sender.send(to, &message, None, 0);
        settle(&mut [sender, &mut b]);
        assert!(sender.all().len() == 1 && b.all().len() == 1);
    }
    b.recv(FiAddr::UNSPEC, &mut first, None, 7);
    b.recv(FiAddr::UNSPEC, &mut second, None, 8);
    for (sender, to) in [&mut a, &mut c].into_iter().zip(to) {
        sender
            .send_with(to, &message, None, None, 0, OpFlags::COMPLETION | OpFlags::DELIVERY_COMPLETE)
            .unwrap();
        while sender.domain.progress() {}
    }
    b.change_waiting(|waiting| {
        let packets: Vec<_> = waiting.drain(..).collect();
        let (from_a, from_c) = packets.split_at(packets.len() / 2);
        // Two of each, in turns.
        waiting.extend(from_a.chunks(2).zip(from_c.chunks(2)).flat_map(|(a, c)| [a, c].concat()));
    });
    let acks = b.domain.ep_stats(b.ep).tx_acks;
    b.domain.progress();
    assert_eq!(b.domain.ep_stats(b.ep).tx_acks - acks, 2);
    a.domain.progress();
    c.domain.progress();
    assert!(a.all().len() == 1 && b.all().len() == 2 && c.all().len() == 1);
    assert!(first == message && second == message);
}

#[test]
fn not_one_whose_integrity_field_is_wrong() {
    for at in [1, 17, Llp::INTEGRITY_OFFSET, Llp::LENGTH + 5] {
        let stats = World::new().arrives_with(|waiting| waiting[8].1[at] ^= 1);
        assert_eq!(stats.rx_integrity + stats.rx_malformed, 1, "byte {at}");
    }
}

#[test]
fn not_one_with_another_cookie_or_another_flag() {
    let stats = World::new().arrives_with(|waiting| forge(&mut waiting[8].1, |llp| llp.cookie ^= 1));
    assert!(stats.rx_stale >= 1, "{stats:?}");
    // Nor one that says more than the one before: a request for an acknowledgement gets a whole look.
    let whole = World::new().arrives_with(|_| {}).rx_alike;
    let stats = World::new().arrives_with(|waiting| forge(&mut waiting[8].1, |llp| llp.flags |= Flags::AR));
    assert!(stats.rx_stale == 0 && stats.rx_integrity == 0 && stats.rx_alike < whole, "{stats:?}");
}
