//! Acknowledgements that nobody waits for: data that goes the other way carries them, or they go by themselves a moment later.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;

/// How long one may wait (protocol.md, section 4).
const DELAY_US: u64 = 100;

struct Pair {
    net: SharedNet,
    a: Node,
    b: Node,
    to_b: FiAddr,
    to_a: FiAddr,
}

impl Pair {
    /// Two that have exchanged a message, and of what they send count `events`.
    fn on(net: SharedNet, events: CounterEvents) -> Self {
        let [mut a, mut b] = [1, 2].map(|port| Node::counting(&net, port, EpConfig::default(), 1, events));
        let (to_b, to_a) = (a.knows(&b), b.knows(&a));
        let mut pair = Self { net, a, b, to_b, to_a };
        let mut word = [0; 4];
        pair.b.recv(pair.to_a, &mut word, None, 0);
        pair.a.send(pair.to_b, b"word", None, 0);
        settle(&mut [&mut pair.a, &mut pair.b]);
        assert!(pair.a.all().len() == 1 && pair.b.all().len() == 1);
        pair
    }

    fn counting(events: CounterEvents) -> Self {
        Self::on(net(), events)
    }

    fn new() -> Self {
        Self::counting(CounterEvents::RECV)
    }

    /// A message of which nobody waits to hear.
    fn message(&mut self) {
        let mut word = [0; 4];
        self.b.recv(FiAddr::UNSPEC, &mut word, None, 1);
        self.a.send_with(self.to_b, b"word", None, None, 0, OpFlags::INJECT).unwrap();
        self.b.domain.progress();
        assert!(self.b.all().len() == 1 && &word == b"word");
    }

    fn acks(&self) -> u64 {
        self.b.domain.ep_stats(self.b.ep).tx_acks
    }

    /// From now on nothing is sent for as long as one may wait, and then one acknowledgement.
    fn waits_its_time(&mut self) {
        let before = self.acks();
        self.b.time_passes(DELAY_US - 1);
        self.b.domain.progress();
        assert_eq!(self.acks(), before);
        self.b.time_passes(1);
        self.b.domain.progress();
        assert_eq!(self.acks(), before + 1);
    }
}

#[test]
fn one_goes_by_itself_once_it_has_waited() {
    let mut pair = Pair::new();
    pair.message();
    pair.waits_its_time();
    pair.a.domain.progress();
    assert!(pair.a.domain.is_quiet() && pair.b.domain.is_quiet());
}

#[test]
fn data_carries_those_that_wait() {
    let mut pair = Pair::new();
    let before = pair.acks();
    for _ in 0..10 {
        pair.message();
        pair.b.time_passes(DELAY_US / 2);
        pair.b.domain.progress();
        let mut word = [0; 4];
        pair.a.recv(FiAddr::UNSPEC, &mut word, None, 2);
        pair.b.send_with(pair.to_a, b"back", None, None, 0, OpFlags::INJECT).unwrap();
        pair.a.domain.progress();
        assert!(pair.a.all().len() == 1 && &word == b"back");
    }
    assert_eq!(pair.acks(), before);
    settle(&mut [&mut pair.a, &mut pair.b]);
}

/// Each waits for as long as it may, whatever was carried before: else a peer that is answered often would cost an acknowledgement now and then.
#[test]
fn the_wait_begins_with_what_is_not_acknowledged_yet() {
    let mut pair = Pair::new();
    pair.message();
    pair.b.send_with(pair.to_a, b"back", None, None, 0, OpFlags::INJECT).unwrap();
    pair.b.time_passes(DELAY_US / 2);
    pair.message();
    pair.waits_its_time();
}

#[test]
fn nothing_waits_once_its_owner_goes_to_sleep() {
    let mut pair = Pair::new();
    let before = pair.acks();
    pair.message();
    let now = pair.b.domain.ep_datapath(pair.b.ep).now();
    assert_eq!(pair.b.domain.sleep(now), Sleep::Not);
    pair.b.domain.progress();
    assert_eq!(pair.acks(), before + 1);
    assert_ne!(pair.b.domain.sleep(now), Sleep::Not);
}

#[test]
fn nothing_waits_once_its_endpoint_closes() {
    let mut pair = Pair::new();
    let before = pair.acks();
    pair.message();
    pair.b.domain.ep_shutdown(pair.b.ep);
    pair.b.domain.progress();
    assert_eq!(pair.acks(), before + 1);
}

/// Who counts what it sends waits for the count to change.
#[test]
fn none_waits_that_a_counter_waits_for() {
    let mut pair = Pair::counting(CounterEvents::SEND);
    let (before, counted) = (pair.acks(), pair.a.domain.cntr_value(pair.a.cntr).0);
    pair.message();
    assert_eq!(pair.acks(), before + 1);
    pair.a.domain.progress();
    assert_eq!(pair.a.domain.cntr_value(pair.a.cntr), (counted + 1, 0));
}

/// What keeps coming from others leaves no idle progress call.
#[test]
fn a_stream_of_others_holds_none_back() {
    let mut pair = Pair::new();
    let mut other = Node::new(&pair.net, 3);
    let to_b = other.knows(&pair.b);
    pair.b.knows(&other);
    pair.message();
    let mut room = [[0; 4]; 8];
    for room in &mut room {
        pair.b.recv(FiAddr::UNSPEC, room, None, 3);
    }
    let mut came = 0;
    for _ in 0..8 {
        other.send_with(to_b, b"more", None, None, 0, OpFlags::INJECT).unwrap();
        other.domain.progress();
        pair.b.time_passes(DELAY_US / 4);
        pair.b.domain.progress();
        came += pair.b.all().len();
        pair.a.domain.progress();
    }
    assert!(came == room.len() && pair.a.domain.is_quiet(), "{came} messages");
}

/// A fence waits for the end of what was sent before it, which nobody else waits for. Also when the socket has no room for the question at first.
#[test]
fn who_waits_for_one_asks_for_it() {
    for room in [None, Some(1)] {
        fence_waits_no_time(room);
    }
}

fn fence_waits_no_time(room: Option<usize>) {
    let mut pair = Pair::new();
    let mut words = [[0; 4]; 2];
    for (index, word) in words.iter_mut().enumerate() {
        pair.b.recv(FiAddr::UNSPEC, word, None, index);
    }
    if let Some(datagrams) = room {
        pair.a.has_room_for(datagrams);
    }
    pair.a.send_with(pair.to_b, b"word", None, None, 0, OpFlags::INJECT).unwrap();
    let fenced = OpFlags::COMPLETION | OpFlags::FENCE;
    pair.a.send_with(pair.to_b, b"next", None, None, 5, fenced).unwrap();
    for _ in 0..4 {
        pair.a.domain.progress();
        pair.a.change_net(|net| net.room = None);
        pair.a.domain.progress();
        pair.b.domain.progress();
    }
    assert!(pair.b.all().len() == 2 && words == [*b"word", *b"next"], "without any time going by");
    assert_eq!(pair.a.domain.ep_stats(pair.a.ep).tx_retransmitted, 0);
}

/// Two whose path takes any datagram, with no more than the standing credit.
fn with_long_packets() -> Pair {
    let net = net();
    net.borrow_mut().route_mtu = Some(u16::MAX);
    let mut pair = Pair::on(net, CounterEvents::RECV);
    let (long, mut room) = (pattern(2, LONG), vec![0; LONG]);
    for _ in 0..8 {
        pair.b.recv(FiAddr::UNSPEC, &mut room, None, 3);
        pair.a.send(pair.to_b, &long, None, 4);
        settle(&mut [&mut pair.a, &mut pair.b]);
        assert!(pair.a.all().len() == 1 && pair.b.all().len() == 1);
    }
    pair.a.time_passes(400_000);
    settle(&mut [&mut pair.a, &mut pair.b]);
    pair
}

/// More than the standing credit, and one packet.
const LONG: usize = 40_000;

/// The next packet is too large for what is left of the credit.
#[test]
fn who_has_no_room_for_more_asks() {
    let mut pair = with_long_packets();
    let (long, mut room) = (pattern(2, LONG), vec![0; LONG]);
    pair.message();
    pair.b.recv(FiAddr::UNSPEC, &mut room, None, 3);
    pair.a.send(pair.to_b, &long, None, 4);
    for _ in 0..6 {
        pair.a.domain.progress();
        pair.b.domain.progress();
    }
    assert!(pair.a.all().len() == 1 && pair.b.all().len() == 1, "without any time going by");
}

/// So is a datagram that several messages could share.
#[test]
fn who_has_no_room_for_a_bundle_asks() {
    let mut pair = with_long_packets();
    let mut room = [[0; 4096]; 10];
    for room in &mut room {
        pair.b.recv(FiAddr::UNSPEC, room, None, 3);
    }
    for length in [4096, 4096, 4096, 4096, 4096, 4096, 4096, 1000] {
        pair.a.send_with(pair.to_b, &room[9][..length], None, None, 0, OpFlags::INJECT).unwrap();
    }
    for flags in [OpFlags::MORE, OpFlags::empty()] {
        pair.a.send_with(pair.to_b, b"word", None, None, 0, OpFlags::INJECT | flags).unwrap();
    }
    for _ in 0..6 {
        pair.a.domain.progress();
        pair.b.domain.progress();
    }
    assert_eq!(pair.b.all().len(), 10, "without any time going by");
}

const PROBE: u8 = 5;

/// Counts the probes that a node sends.
fn probes_of(node: &Node) -> Rc<Cell<u32>> {
    let probes = Rc::new(Cell::new(0));
    let count = Rc::clone(&probes);
    node.lose(move |_, packet| {
        count.set(count.get() + u32::from(packet[0] & 0xF == PROBE));
        false
    });
    probes
}

fn region(memory: &[u8]) -> Region {
    let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
    Region { slices: vec![slice(memory)], access, virtual_addresses: false }
}

fn rma(node: &mut Node, to: FiAddr, kind: RmaKind, bytes: &[u8], flags: OpFlags) {
    let remote = [RemoteSlice { key: 7, offset: 0, length: bytes.len() as u64 }];
    let slices = [slice(bytes)];
    let op = RmaOp { kind, destination: to, slices: &slices, remote: &remote, data: None, context: 1, flags };
    node.domain.rma(node.ep, &op).unwrap();
}

/// The answer to a request acknowledges it.
#[test]
fn who_waits_for_an_answer_does_not_ask() {
    let mut pair = Pair::new();
    let (memory, back, mut word) = (vec![3; 100], vec![0; 100], [0; 4]);
    pair.b.domain.mr_open(region(&memory), Some(7)).unwrap();
    let probes = probes_of(&pair.a);
    pair.b.recv(FiAddr::UNSPEC, &mut word, None, 2);
    rma(&mut pair.a, pair.to_b, RmaKind::Read, &back, OpFlags::COMPLETION);
    pair.a.send_with(pair.to_b, b"next", None, None, 4, OpFlags::COMPLETION | OpFlags::FENCE).unwrap();
    for _ in 0..4 {
        pair.a.domain.progress();
        pair.b.domain.progress();
    }
    assert!(&word == b"next" && back == memory && probes.get() == 0, "{} probes", probes.get());
}

/// Operations are counted in the order issued: one that is not counted itself holds up those behind it.
#[test]
fn none_waits_that_others_are_counted_behind() {
    let mut pair = Pair::counting(CounterEvents::READ);
    let mut other = Node::new(&pair.net, 3);
    let to_other = pair.a.knows(&other);
    other.knows(&pair.a);
    let (memory, back, mut word) = (vec![3; 100], vec![0; 100], [0; 4]);
    for target in [&mut pair.b, &mut other] {
        target.domain.mr_open(region(&memory), Some(7)).unwrap();
    }
    other.recv(FiAddr::UNSPEC, &mut word, None, 2);
    pair.a.send(to_other, b"word", None, 3);
    settle(&mut [&mut pair.a, &mut pair.b, &mut other]);
    rma(&mut pair.a, to_other, RmaKind::Write, &[4; 8], OpFlags::INJECT);
    rma(&mut pair.a, pair.to_b, RmaKind::Read, &back, OpFlags::COMPLETION);
    for _ in 0..4 {
        for node in [&mut pair.a, &mut pair.b, &mut other] {
            node.domain.progress();
        }
    }
    assert_eq!(pair.a.domain.cntr_value(pair.a.cntr), (1, 0), "without any time going by");
}

/// A fence holds a message back while a long one before it goes out in many packets, none of which but the last asks.
#[test]
fn a_wait_behind_a_long_message_costs_few_probes() {
    let mut pair = Pair::new();
    let (long, mut room, mut word) = (pattern(1, 1 << 20), vec![0; 1 << 20], [0; 4]);
    pair.b.recv(FiAddr::UNSPEC, &mut room, None, 1);
    pair.b.recv(FiAddr::UNSPEC, &mut word, None, 2);
    let probes = probes_of(&pair.a);
    pair.a.send(pair.to_b, &long, None, 3);
    pair.a.send_with(pair.to_b, b"next", None, None, 4, OpFlags::COMPLETION | OpFlags::FENCE).unwrap();
    settle(&mut [&mut pair.a, &mut pair.b]);
    assert!(pair.a.all().len() == 2 && room == long && &word == b"next");
    let packets = pair.a.domain.ep_stats(pair.a.ep).tx_datagrams;
    assert!(packets > 700 && probes.get() < 20, "{} probes among {packets} datagrams", probes.get());
}
