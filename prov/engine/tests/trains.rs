//! Long operations: each packet of a train is the one that is sent again when it is lost.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;
use rdgram_wire::{Flags, Kind, Llp, Packet, Segment};

const ANY: FiAddr = FiAddr::UNSPEC;

/// By destination port and PSN: everything behind the LLP header.
type Seen = HashMap<(u16, u32), Vec<u8>>;

/// Two that have met, and what every long packet of data says from now on, each of which is lost once.
struct World {
    a: Node,
    b: Node,
    to_b: FiAddr,
    seen: Rc<RefCell<Seen>>,
    again: Rc<Cell<usize>>,
}

impl World {
    fn new() -> Self {
        let (a, b, to_b) = acquainted();
        let (seen, again) = (Rc::<RefCell<Seen>>::default(), Rc::<Cell<usize>>::default());
        let world = Self { a, b, to_b, seen: Rc::clone(&seen), again: Rc::clone(&again) };
        world.a.lose(move |to, bytes| {
            let packet = Packet::decode(bytes).expect("well-formed");
            if packet.llp.kind != Kind::Data || bytes.len() < 1000 {
                return false;
            }
            let mut headers = bytes[..packet.headers].to_vec();
            headers[Llp::INTEGRITY_OFFSET..Llp::LENGTH].fill(0);
            assert_eq!(crc32c::crc32c(&headers), packet.llp.integrity, "{:?}", packet.llp);
            let body = bytes[Llp::LENGTH..].to_vec();
            match seen.borrow_mut().insert((to.port(), packet.llp.psn.0), body) {
                Some(first) => {
                    assert!(packet.llp.flags.contains(Flags::RETX));
                    assert!(
                        first == bytes[Llp::LENGTH..],
                        "the same PSN says the same: {:?}",
                        packet.llp.psn
                    );
                    again.set(again.get() + 1);
                    false
                }
                None => true,
            }
        });
        world
    }

    fn settle(&mut self) {
        settle(&mut [&mut self.a, &mut self.b]);
    }

    /// All packets were sent twice, were of the kind that `is_kind` knows, and moved `bytes`.
    fn check(&self, bytes: usize, is_kind: impl Fn(&Segment) -> bool) {
        let seen = self.seen.borrow();
        assert!(seen.len() >= bytes / 1472 && self.again.get() >= seen.len(), "{} packets", seen.len());
        let of_kind =
            seen.values().filter(|body| is_kind(&Segment::decode(body).expect("a segment").0)).count();
        assert!(of_kind + 1 >= seen.len(), "{of_kind} of {}", seen.len());
    }
}

fn message(length: usize, is_kind: impl Fn(&Segment) -> bool) {
    let mut world = World::new();
    let message = pattern(1, length);
    let mut buffer = vec![0; length];
    world.b.recv(ANY, &mut buffer, None, 0);
    world.a.send(world.to_b, &message, None, 0);
    world.settle();
    assert!(world.b.all().len() == 1 && buffer == message);
    world.check(length, is_kind);
}

#[test]
fn of_an_eager_message() {
    message(60_000, |segment| matches!(segment, Segment::ExtendedSend { .. }));
}

#[test]
fn of_a_long_message() {
    message(300_000, |segment| matches!(segment, Segment::Write { .. }));
}

fn one_sided(kind: RmaKind, pieces: &[usize], is_kind: impl Fn(&Segment) -> bool) {
    let mut world = World::new();
    let length = pieces.iter().sum();
    let (local, remote) = match kind {
        RmaKind::Write => (pattern(2, length), vec![0; length]),
        RmaKind::Read => (vec![0; length], pattern(2, length)),
    };
    let mut offset = 0;
    let mut targets = Vec::new();
    for (key, piece) in (7..).zip(pieces) {
        let slices = vec![slice(&remote[offset..offset + piece])];
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let region = Region { slices, access, virtual_addresses: false };
        world.b.domain.mr_open(region, Some(key)).unwrap();
        targets.push(RemoteSlice { key, offset: 0, length: *piece as u64 });
        offset += piece;
    }
    let (destination, slices, flags) = (world.to_b, [slice(&local)], OpFlags::COMPLETION);
    let op = RmaOp { kind, destination, slices: &slices, remote: &targets, data: None, context: 1, flags };
    world.a.domain.rma(world.a.ep, &op).unwrap();
    world.settle();
    assert!(world.a.all().len() == 1 && local == remote);
    world.check(length, is_kind);
}

#[test]
fn of_a_write_to_one_region_and_to_several() {
    for pieces in [&[300_000][..], &[100_000, 3000, 150_000], &[9000, 7001]] {
        one_sided(RmaKind::Write, pieces, |segment| matches!(segment, Segment::ExtendedWrite { .. }));
    }
}

#[test]
fn of_the_answer_to_a_read() {
    for pieces in [&[300_000][..], &[100_000, 150_001]] {
        one_sided(RmaKind::Read, pieces, |segment| matches!(segment, Segment::ReadResponse { .. }));
    }
}
