//! What the datapath does not take: nothing that is owed is forgotten, nothing is tried for ever, and nobody else suffers.

mod common;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;
/// So long that a socket stays full for all of a test.
const LONG: usize = 4 << 20;

/// Three that know one another.
fn three() -> [Node; 3] {
    let net = net();
    let mut nodes = [1, 2, 3].map(|port| Node::new(&net, port));
    let addresses = [0, 1, 2].map(|index: usize| nodes[index].address);
    for node in &mut nodes {
        for (index, address) in addresses.into_iter().enumerate() {
            assert_eq!(node.domain.av_insert(node.av, address), FiAddr(index as u64));
        }
    }
    let mut word = [0; 4];
    for (from, to) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
        nodes[to].recv(ANY, &mut word, None, 0);
        nodes[from].send(FiAddr(to as u64), b"word", None, 0);
        settle(&mut nodes.each_mut());
        assert!(nodes[from].all().len() == 1 && nodes[to].all().len() == 1);
    }
    nodes
}

#[test]
fn an_answer_to_a_stranger_that_cannot_be_reached_harms_nobody() {
    let (mut a, mut b, to_b) = acquainted();
    let stranger = "192.0.2.1:0".parse().unwrap();
    a.change_net(|net| net.no_route = Some(stranger));
    // Of another version, and it wants an answer.
    let mut packet = [0; 40];
    packet[..4].copy_from_slice(&[0x21, 0x01, 0, 40]);
    a.inject(stranger, &packet);
    a.domain.progress();
    a.change_net(|net| assert_eq!(net.refused, 1, "an answer was tried"));
    let mut word = [0; 4];
    b.recv(ANY, &mut word, None, 1);
    a.send(to_b, b"word", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && &word == b"word");
}

#[test]
fn acknowledgements_have_their_turn_while_the_socket_stays_full() {
    let [mut a, mut b, mut c] = three();
    let (long, mut room, mut word) = (pattern(1, LONG), vec![0; LONG], [0; 4]);
    b.recv(ANY, &mut room, None, 1);
    a.recv(ANY, &mut word, None, 3);
    a.has_room_for(4);
    a.send(FiAddr(1), &long, None, 2);
    let mut step = |node: &mut Node| {
        a.has_room_for(4);
        a.domain.progress();
        let mut full = false;
        a.change_net(|net| full = core::mem::take(&mut net.refused) != 0);
        b.domain.progress();
        node.domain.progress();
        a.time_passes(5);
        full
    };
    for _ in 0..20 {
        step(&mut c);
    }
    c.send(FiAddr(0), b"word", None, 4);
    for _ in 0..20 {
        assert!(step(&mut c), "the socket is full all the time");
    }
    assert!(c.next().is_some_and(|end| end.is_ok()), "timers alone would bring it about");
    a.change_net(|net| net.room = None);
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(room, long);
}

#[test]
fn an_acknowledgement_that_found_no_room_is_still_owed() {
    let [mut a, mut b, mut c] = three();
    let mut word = [0; 4];
    a.recv(ANY, &mut word, None, 1);
    c.send(FiAddr(0), b"word", None, 2);
    a.has_room_for(0);
    for _ in 0..3 {
        a.domain.progress();
    }
    a.change_net(|net| {
        assert_ne!(net.refused, 0, "it was tried");
        net.room = None;
    });
    a.domain.progress();
    c.domain.progress();
    assert!(c.next().is_some_and(|end| end.is_ok()), "without any time going by");
    settle(&mut [&mut a, &mut b, &mut c]);
}

#[test]
fn a_packet_that_no_size_of_segments_helps_is_not_tried_for_ever() {
    let (mut a, mut b, to_b) = acquainted();
    let (bytes, mut room) = (pattern(2, 440), vec![0; 440]);
    b.recv(ANY, &mut room, None, 1);
    let at = a.address;
    a.change_net(|net| net.limit = Some((at, 300)));
    a.send(to_b, &bytes, None, 2);
    for _ in 0..100 {
        a.domain.progress();
        a.time_passes(1000);
    }
    a.change_net(|net| {
        assert!((1..100).contains(&net.refused), "{} refusals", net.refused);
        net.limit = None;
    });
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && room == bytes);
}
