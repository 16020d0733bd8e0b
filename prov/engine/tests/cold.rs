//! Peers that nothing is said to or by: what they cost, that nothing wakes for them, and that nothing is lost, doubled or forgotten by it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;
/// Time after which an idle peer is cold, seconds.
const COLD_S: u64 = 2;
/// What an idle peer may cost, bytes.
const IDLE_PEER_MAX: usize = 512;

/// The system's allocator, counting the bytes in use.
struct Counting;

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches a thread local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.set(IN_USE.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn pass(seconds: u64, nodes: &mut [&mut Node]) {
    for _ in 0..seconds * 100 {
        for node in nodes.iter_mut() {
            node.domain.progress();
        }
        nodes[0].time_passes(10_000);
    }
}

/// Two that know one another.
fn two() -> (Node, Node, FiAddr, FiAddr) {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    exchange(&mut a, &mut b, to_b, to_a);
    (a, b, to_b, to_a)
}

/// A message each way, received once.
fn exchange(a: &mut Node, b: &mut Node, to_b: FiAddr, to_a: FiAddr) {
    let (mut at_a, mut at_b) = ([0; 4], [0; 4]);
    a.recv(ANY, &mut at_a, Some((1, 0)), 1);
    b.recv(ANY, &mut at_b, Some((2, 0)), 2);
    a.send(to_b, b"ping", Some(2), 3);
    b.send(to_a, b"pong", Some(1), 4);
    settle(&mut [a, b]);
    assert_eq!((&at_a, &at_b), (b"pong", b"ping"));
    for node in [a, b] {
        let ended = node.all();
        assert!(ended.len() == 2 && ended.iter().all(Result::is_ok), "{ended:?}");
    }
}

fn cold_peers(node: &Node) -> usize {
    let peers = node.domain.ep_describe(node.ep);
    peers.iter().filter(|(_, state)| state.ends_with(" cold")).count()
}

fn assert_cold(nodes: &mut [&mut Node]) {
    pass(COLD_S, nodes);
    for node in nodes {
        assert_eq!(cold_peers(node), node.domain.ep_describe(node.ep).len());
    }
}

/// The endpoint of a process that exchanged a message each way with so many others, and its bytes after so many seconds.
fn bytes_of_endpoint(others: u16, seconds: u64) -> usize {
    let net = net();
    let mut node = Node::new(&net, 1);
    let mut peers: Vec<Node> = (0..others).map(|index| Node::new(&net, 2 + index)).collect();
    let addresses: Vec<_> = peers.iter().map(|peer| node.knows(peer)).collect();
    // All are sent before anybody answers: a burst as large as can be.
    for to in addresses {
        node.send_with(to, b"question", None, None, 0, OpFlags::empty()).unwrap();
    }
    for peer in &mut peers {
        let to_node = peer.knows(&node);
        let mut received = [0; 8];
        node.recv(ANY, &mut received, None, 0);
        peer.send(to_node, b"answer..", None, 0);
        for _ in 0..4 {
            peer.domain.progress();
            node.domain.progress();
        }
        assert_eq!((&received, node.all().len()), (b"answer..", 1));
    }
    let mut all: Vec<&mut Node> = core::iter::once(&mut node).chain(&mut peers).collect();
    pass(seconds, &mut all);
    let with = IN_USE.get();
    drop(node);
    with - IN_USE.get()
}

#[test]
fn an_idle_peer_costs_little() {
    const PEERS: u16 = 256;
    // What each further one costs: after a burst of this size all that few peers need is given back too.
    let per_peer = |seconds| {
        let (more, less) = (bytes_of_endpoint(2 * PEERS, seconds), bytes_of_endpoint(PEERS, seconds));
        more.saturating_sub(less) / usize::from(PEERS)
    };
    let (warm, cold) = (per_peer(0), per_peer(COLD_S));
    assert!(cold <= IDLE_PEER_MAX, "{cold} bytes");
    assert!(
        warm > 2 * IDLE_PEER_MAX,
        "a peer that was talked to costs {warm} bytes: this does not measure it"
    );
}

#[test]
fn nothing_wakes_for_cold_peers() {
    let (mut a, mut b, ..) = two();
    assert_cold(&mut [&mut a, &mut b]);
    for node in [&mut a, &mut b] {
        let now = node.domain.ep_datapath(node.ep).now();
        assert_eq!(node.domain.sleep(now), Sleep::Forever);
    }
    let before = a.domain.ep_stats(a.ep);
    pass(100, &mut [&mut a, &mut b]);
    assert_eq!(a.domain.ep_stats(a.ep), before);
}

#[test]
fn traffic_goes_on() {
    let (mut a, mut b, to_b, to_a) = two();
    for round in 0..5 {
        assert_cold(&mut [&mut a, &mut b]);
        exchange(&mut a, &mut b, to_b, to_a);
        for node in [&a, &b] {
            assert_eq!((cold_peers(node), node.domain.ep_stats(node.ep).peers_thawed), (0, round + 1));
        }
    }
    assert_eq!(a.domain.ep_stats(a.ep).tx_retransmitted, 0);
}

#[test]
fn what_was_said_before_is_known_after() {
    let (mut a, mut b, to_b, to_a) = two();
    let said = Rc::new(RefCell::new(Vec::new()));
    let (log, to) = (Rc::clone(&said), b.address);
    a.lose(move |destination, bytes| {
        if *destination == to {
            log.borrow_mut().push(bytes.to_vec());
        }
        false
    });
    exchange(&mut a, &mut b, to_b, to_a);
    assert_cold(&mut [&mut a, &mut b]);
    let late = said.take();
    let before = b.domain.ep_stats(b.ep);
    for bytes in &late {
        b.inject(a.address, bytes);
    }
    settle(&mut [&mut a, &mut b]);
    assert!(b.all().is_empty());
    let after = b.domain.ep_stats(b.ep);
    assert_eq!(after.rx_messages, before.rx_messages);
    assert!(after.rx_duplicates > before.rx_duplicates && after.tx_acks > before.tx_acks, "it is answered");
    exchange(&mut a, &mut b, to_b, to_a);
}

#[test]
fn a_loss_after_the_pause_is_repaired() {
    for nth in 1..6 {
        let (mut a, mut b, to_b, to_a) = two();
        assert_cold(&mut [&mut a, &mut b]);
        b.lose_nth(nth);
        exchange(&mut a, &mut b, to_b, to_a);
    }
}

#[test]
fn a_message_that_waits_at_a_cold_peer_is_asked_for() {
    let (mut a, mut b, to_b, _) = two();
    let message = pattern(1, 100_000);
    let mut received = vec![0; message.len()];
    a.send(to_b, &message, None, 5);
    pass(4, &mut [&mut a, &mut b]);
    assert_eq!((cold_peers(&a), cold_peers(&b)), (0, 1), "who waits is not cold");
    b.recv(ANY, &mut received, None, 6);
    settle(&mut [&mut a, &mut b]);
    assert_eq!((a.all().len(), b.all().len()), (1, 1));
    assert_eq!(received, message);
}

#[test]
fn the_end_of_a_cold_peer_is_noticed() {
    let (mut a, mut b, ..) = two();
    assert_cold(&mut [&mut a, &mut b]);
    b.domain.ep_shutdown(b.ep);
    b.domain.ep_remove(b.ep);
    a.domain.progress();
    assert_eq!(a.domain.ep_stats(a.ep).peers_dead, 1);
}

#[test]
fn a_report_of_a_cold_peer_is_followed_up() {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    exchange(&mut a, &mut b, to_b, to_a);
    assert_cold(&mut [&mut a, &mut b]);
    net.borrow_mut().unreachable.push_back((a.address, b.address));
    drop(b);
    pass(1, &mut [&mut a]);
    assert_eq!(a.domain.ep_stats(a.ep).peers_dead, 1);
}

#[test]
fn a_peer_whose_message_came_in_part_is_not_cold() {
    let (mut a, mut b, to_b, _) = two();
    let message = pattern(1, 10_000);
    let mut received = vec![0; message.len()];
    let (at_b, mut count) = (b.address, 0);
    a.lose(move |to, _| {
        count += u32::from(*to == at_b);
        *to == at_b && count > 3
    });
    a.send(to_b, &message, None, 5);
    pass(4, &mut [&mut a, &mut b]);
    assert_eq!(cold_peers(&b), 0);
    a.lose(|_, _| false);
    b.recv(ANY, &mut received, None, 6);
    pass(2, &mut [&mut a, &mut b]);
    assert_eq!((a.all().len(), b.all().len()), (1, 1));
    assert_eq!(received, message);
}

#[test]
fn a_cold_peer_that_was_restarted_is_another() {
    let (mut a, mut b, to_b, _) = two();
    assert_cold(&mut [&mut a, &mut b]);
    let mut b = b.restarted(1_000);
    let to_a = b.knows(&a);
    let mut buffer = [0; 4];
    a.recv(ANY, &mut buffer, None, 1);
    b.send(to_a, b"anew", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && b.all().len() == 1 && &buffer == b"anew");
    assert_eq!(a.domain.ep_stats(a.ep).peers_dead, 1);
    assert_eq!(b.domain.ep_stats(b.ep).tx_retransmitted, 0, "known by its first packet");
    exchange(&mut a, &mut b, to_b, to_a);
}
