//! Aggregation: which messages share a datagram, which leave at once, and what happens to those that shared one.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;

/// Two that have met, so that nothing below belongs to the first contact. The second has this configuration.
fn met(config: EpConfig) -> (SharedNet, Node, Node, FiAddr) {
    let net = net();
    let mut a = Node::new(&net, 1);
    let mut b = Node::with(&net, 2, config, 2);
    let to_b = a.knows(&b);
    let mut hello = [0; 5];
    b.recv(ANY, &mut hello, None, 0);
    a.send(to_b, b"hello", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && b.all().len() == 1);
    (net, a, b, to_b)
}

fn inject(node: &mut Node, to: FiAddr, bytes: &[u8], tag: u64) {
    node.send_with(to, bytes, Some(tag), None, 0, OpFlags::INJECT).unwrap();
}

#[test]
fn a_burst_shares_datagrams() {
    const COUNT: usize = 200;
    let (net, mut a, mut b, to_b) = met(EpConfig::default());
    let mut buffers = vec![[0u8; 8]; COUNT];
    for (index, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((index as u64, 0)), index);
    }
    let before = net.borrow().sent;
    for index in 0..COUNT {
        inject(&mut a, to_b, &(index as u64).to_be_bytes(), index as u64);
    }
    a.domain.progress();
    let sent = net.borrow().sent - before;
    assert!(sent < 25, "{sent} datagrams for {COUNT} messages");
    settle(&mut [&mut a, &mut b]);
    let contexts: Vec<usize> = b.all().into_iter().map(|entry| entry.unwrap().context).collect();
    assert_eq!(contexts, (0..COUNT).collect::<Vec<_>>());
    assert!(buffers.iter().enumerate().all(|(index, buffer)| u64::from_be_bytes(*buffer) == index as u64));
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn nothing_is_held_but_the_end_of_a_burst() {
    let (net, mut a, mut b, to_b) = met(EpConfig::default());
    let sent = |net: &SharedNet| net.borrow().sent;
    for round in 0..20 {
        let before = sent(&net);
        inject(&mut a, to_b, b"alone", 1);
        assert_eq!(sent(&net) - before, 1, "round {round}");
        settle(&mut [&mut a, &mut b]);
    }
    let before = sent(&net);
    for _ in 0..8 {
        inject(&mut a, to_b, b"burst", 1);
    }
    assert_eq!(sent(&net) - before, 8);
    inject(&mut a, to_b, b"held", 1);
    assert_eq!(sent(&net) - before, 8);
    assert!(a.domain.is_holding());
    a.domain.progress();
    assert_eq!(sent(&net) - before, 9);
    assert!(!a.domain.is_holding());
    // A large message takes what is held before it along.
    for _ in 0..10 {
        inject(&mut a, to_b, b"burst", 1);
    }
    let large = pattern(1, 20_000);
    let held = sent(&net);
    a.send(to_b, &large, Some(1), 0);
    assert!(sent(&net) - held >= 2 && !a.domain.is_holding());
    settle(&mut [&mut a, &mut b]);
}

#[test]
fn messages_too_large_to_share_a_datagram_share_a_call() {
    const COUNT: usize = 48;
    for length in [257, 1000, 4096, 16 << 10] {
        let (net, mut a, mut b, to_b) = met(EpConfig::default());
        let messages: Vec<_> = (0..COUNT).map(|seed| pattern(seed, length)).collect();
        let mut buffers = vec![vec![0_u8; length]; COUNT];
        for (index, buffer) in buffers.iter_mut().enumerate() {
            b.recv(ANY, buffer, Some((index as u64, 0)), index);
        }
        let before = net.borrow().calls;
        for (index, message) in messages.iter().enumerate() {
            a.send(to_b, message, Some(index as u64), 0);
        }
        let calls = net.borrow().calls - before;
        // The first eight have calls of their own, and then 64 KiB or 21 messages share one.
        let shared = (COUNT - 8) / 20.min((64 << 10) / length);
        assert!(calls <= 8 + shared as u64, "{calls} calls for {COUNT} messages of {length} bytes");
        settle(&mut [&mut a, &mut b]);
        assert!(buffers == messages);
        assert_eq!((a.all().len(), b.all().len()), (COUNT, COUNT));
    }
}

/// Sends a burst of messages of `length` bytes; how many runs of datagrams of one size the last twenty made, which are held.
fn runs_of_a_burst(length: usize) -> usize {
    const COUNT: usize = 28;
    let (_net, mut a, mut b, to_b) = met(EpConfig::default());
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let (seen, at) = (Rc::clone(&sizes), b.address);
    b.lose(move |to, bytes| {
        if *to == at {
            seen.borrow_mut().push(bytes.len());
        }
        false
    });
    let messages: Vec<_> = (0..COUNT).map(|seed| pattern(seed, length)).collect();
    let mut buffers = vec![vec![0_u8; length]; COUNT];
    for (index, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((index as u64, 0)), index);
    }
    for (index, message) in messages.iter().enumerate() {
        if index == 8 {
            sizes.borrow_mut().clear();
        }
        a.send(to_b, message, Some(index as u64), 0);
    }
    a.domain.progress();
    let runs = sizes.borrow().chunk_by(|one, other| one == other).count();
    settle(&mut [&mut a, &mut b]);
    assert!(buffers == messages);
    assert_eq!(
        b.all().into_iter().map(|entry| entry.unwrap().context).collect::<Vec<_>>(),
        Vec::from_iter(0..COUNT)
    );
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
    runs
}

#[test]
fn last_packets_of_a_burst_leave_together() {
    // In two packets, in three, and with a last one of a few bytes.
    for length in [1_500, 2_047, 3_000, 2_800] {
        let runs = runs_of_a_burst(length);
        assert!(runs <= 2, "{runs} trains for twenty messages of {length} bytes");
    }
}

#[test]
fn a_last_packet_is_not_kept_by_a_line_without_end() {
    let (_net, mut a, mut b, to_b) = met(EpConfig::default());
    let message = pattern(1, 1_500);
    let mut buffer = vec![0_u8; 1_500];
    b.recv(ANY, &mut buffer, Some((7, 0)), 1);
    let mut crowd = vec![[0_u8; 300]; 60_000];
    for small in &mut crowd {
        b.recv(ANY, small, Some((8, 0)), 0);
    }
    let small = |a: &mut Node, count: usize| {
        for _ in 0..count {
            inject(a, to_b, &[1; 300], 8);
        }
    };
    // The window is closed, and a line stands, which becomes longer all the time.
    small(&mut a, 2_000);
    a.send(to_b, &message, Some(7), 0);
    let (mut came, mut before) = (100, 0);
    loop {
        small(&mut a, came + 100);
        a.domain.progress();
        b.domain.progress();
        let entries: Vec<_> = b.all().into_iter().map(|entry| entry.unwrap().context).collect();
        came = entries.len();
        before += came;
        assert!(before < 10_000, "its last packet does not leave");
        if entries.contains(&1) {
            break;
        }
    }
    assert!(buffer == message);
    settle(&mut [&mut a, &mut b]);
}

#[test]
fn a_fence_waits_for_last_packets_that_wait_themselves() {
    let (_net, mut a, mut b, to_b) = met(EpConfig::default());
    let message = pattern(1, 1_500);
    let mut buffers = vec![vec![0_u8; 1_500]; 30];
    for (index, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((7, 0)), index);
    }
    for index in 0..30 {
        let flags = if index == 20 { OpFlags::FENCE } else { OpFlags::empty() };
        a.send_with(to_b, &message, Some(7), None, index, OpFlags::COMPLETION | flags).unwrap();
    }
    settle(&mut [&mut a, &mut b]);
    assert!(buffers.iter().all(|buffer| *buffer == message));
    assert_eq!((a.all().len(), b.all().len()), (30, 30));
}

#[test]
fn where_it_is_switched_off_each_message_has_its_own_datagram() {
    let net = net();
    let config = EpConfig { bundles: false, hold_bursts: false, ..EpConfig::default() };
    let (mut a, mut b) = (Node::with(&net, 1, config, 1), Node::new(&net, 2));
    let to_b = a.knows(&b);
    a.send(to_b, b"hello", Some(1), 0);
    settle(&mut [&mut a, &mut b]);
    let before = net.borrow().sent;
    for _ in 0..20 {
        inject(&mut a, to_b, b"each", 1);
    }
    assert_eq!(net.borrow().sent - before, 20);
    settle(&mut [&mut a, &mut b]);
}

#[test]
fn a_bundle_that_was_lost_comes_again_and_each_message_once() {
    let (_net, mut a, mut b, to_b) = met(EpConfig::default());
    // Of the datagrams from the first on, every third is lost.
    let (at, mut count) = (b.address, 0);
    b.lose(move |to, _| {
        count += usize::from(*to == at);
        *to == at && count % 3 == 0
    });
    let mut buffers = vec![[0u8; 8]; 100];
    for (index, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((0, 0)), index);
    }
    for index in 0..100u64 {
        inject(&mut a, to_b, &index.to_be_bytes(), 0);
    }
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.all().len(), 100);
    let got: Vec<u64> = buffers.iter().map(|buffer| u64::from_be_bytes(*buffer)).collect();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn messages_of_a_whole_window_of_bundles_wait_for_the_first() {
    const COUNT: usize = 5000;
    let (_net, mut a, mut b, to_b) = met(EpConfig::default());
    b.lose_nth(1);
    for index in 0..COUNT {
        inject(&mut a, to_b, &(index as u64).to_be_bytes(), 0);
    }
    settle(&mut [&mut a, &mut b]);
    for index in 0..COUNT {
        let mut buffer = [0u8; 8];
        b.recv(ANY, &mut buffer, Some((0, 0)), index);
        assert_eq!(b.next().unwrap().unwrap().context, index);
        assert_eq!(u64::from_be_bytes(buffer), index as u64);
    }
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn nothing_is_bundled_for_a_peer_of_small_datagrams() {
    let mut config = EpConfig::default();
    config.transport.segment_max = 256;
    let (_net, mut a, mut b, to_b) = met(config);
    for index in 0..20 {
        inject(&mut a, to_b, &pattern(index, 250), index as u64);
    }
    settle(&mut [&mut a, &mut b]);
    for index in 0..20 {
        let mut buffer = [0u8; 250];
        b.recv(ANY, &mut buffer, Some((index as u64, 0)), 0);
        assert_eq!(b.next().unwrap().unwrap().length, 250);
        assert_eq!(buffer[..], pattern(index, 250));
    }
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn a_message_of_a_bundle_is_refused_by_itself() {
    let (_net, mut a, mut b, to_b) = met(EpConfig { unexpected_pool: 0, ..EpConfig::default() });
    let mut expected = [0u8; 8];
    b.recv(ANY, &mut expected, Some((15, 0)), 15);
    for index in 0..20u64 {
        inject(&mut a, to_b, &index.to_be_bytes(), index);
    }
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().context, 15);
    for index in (0..20u64).rev().filter(|index| *index != 15) {
        let mut buffer = [0u8; 8];
        b.recv(ANY, &mut buffer, Some((index, 0)), 0);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.all().len(), 1);
        assert_eq!(u64::from_be_bytes(buffer), index);
    }
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn messages_of_a_bundle_end_with_their_peer() {
    let (net, mut a, b, to_b) = met(EpConfig::default());
    for index in 0..20 {
        a.send_with(to_b, b"message", Some(1), None, index, OpFlags::COMPLETION).unwrap();
    }
    a.domain.progress();
    drop(b);
    let mut again = Node::with(&net, 2, EpConfig::default(), 100);
    let to_a = again.knows(&a);
    again.send(to_a, b"new", Some(9), 0);
    settle(&mut [&mut again, &mut a]);
    let failed = a
        .all()
        .into_iter()
        .filter(|entry| entry.is_err_and(|failure| failure.cause == Cause::Restarted))
        .count();
    assert_eq!(failed, 20);
    a.send(to_b, b"after", Some(1), 0);
    settle(&mut [&mut again, &mut a]);
    assert!(a.next().unwrap().is_ok());
    let mut new = [0; 3];
    a.recv(ANY, &mut new, Some((9, 0)), 0);
    assert_eq!(a.all().len(), 1);
    assert!(a.domain.is_quiet(), "the bundles of the one that is gone are given back");
}
