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
    fn counting(events: CounterEvents) -> Self {
        let net = net();
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

/// A fence holds a message back while a long one before it goes out in many packets, none of which but the last asks.
#[test]
fn a_wait_behind_a_long_message_costs_few_probes() {
    const PROBE: u8 = 5;
    let mut pair = Pair::new();
    let (long, mut room, mut word) = (pattern(1, 1 << 20), vec![0; 1 << 20], [0; 4]);
    pair.b.recv(FiAddr::UNSPEC, &mut room, None, 1);
    pair.b.recv(FiAddr::UNSPEC, &mut word, None, 2);
    let probes = Rc::new(Cell::new(0));
    let count = Rc::clone(&probes);
    pair.a.lose(move |_, packet| {
        count.set(count.get() + u32::from(packet[0] & 0xF == PROBE));
        false
    });
    pair.a.send(pair.to_b, &long, None, 3);
    pair.a.send_with(pair.to_b, b"next", None, None, 4, OpFlags::COMPLETION | OpFlags::FENCE).unwrap();
    settle(&mut [&mut pair.a, &mut pair.b]);
    assert!(pair.a.all().len() == 2 && room == long && &word == b"next");
    let packets = pair.a.domain.ep_stats(pair.a.ep).tx_datagrams;
    assert!(packets > 700 && probes.get() < 20, "{} probes among {packets} datagrams", probes.get());
}
