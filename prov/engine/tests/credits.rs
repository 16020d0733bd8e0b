//! The receive buffer is shared among its senders: what they have in flight together fits, whoever sends, and whoever stops.

mod common;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;
/// The default of many systems, doubled by the kernel.
const STOCK: usize = 2 * 212_992;
/// What the kernel charges for a datagram of up to 1,500 bytes.
const COST: usize = 2304;

/// One that receives, and many that know it.
fn gathering(senders: u16) -> (Node, Vec<(Node, FiAddr)>) {
    let net = net();
    net.borrow_mut().receive_buffer = STOCK;
    let target = Node::new(&net, 1);
    let senders = (0..senders)
        .map(|index| {
            let mut sender = Node::new(&net, 2 + index);
            let address = sender.knows(&target);
            (sender, address)
        })
        .collect();
    (target, senders)
}

/// Bytes of buffer that wait to be received.
fn occupied(target: &Node) -> usize {
    target.waiting() * COST
}

#[test]
fn sixty_four_senders_do_not_overrun_a_stock_buffer() {
    const MESSAGES: usize = 8;
    let (mut target, mut senders) = gathering(64);
    let message = pattern(1, 8192);
    let mut buffers = vec![vec![0_u8; message.len()]; 64 * MESSAGES];
    for buffer in &mut buffers {
        target.recv(ANY, buffer, None, 0);
    }
    let (mut most, mut received) = (0, 0);
    // Each has a lot to say from the first moment on, and the target looks only now and then.
    for (sender, address) in &mut senders {
        for _ in 0..MESSAGES {
            sender.send(*address, &message, None, 0);
        }
    }
    for round in 0..20_000 {
        for (sender, _) in &mut senders {
            sender.domain.progress();
            most = most.max(occupied(&target));
        }
        if round % 4 == 0 {
            while target.domain.progress() {}
            received += target.all().len();
        }
        target.time_passes(20);
        if received == buffers.len() {
            break;
        }
    }
    assert_eq!(received, buffers.len());
    assert!(buffers.iter().all(|buffer| *buffer == message));
    assert!(most <= STOCK, "{most} bytes waited at a time");
    assert!(most > STOCK / 4, "and the buffer is made use of: {most}");
}

/// The most datagrams that wait at the target while one sends.
fn flight_of(target: &mut Node, sender: &mut Node, to: FiAddr) -> usize {
    let message = pattern(2, 1 << 20);
    let mut buffer = vec![0_u8; message.len()];
    target.recv(ANY, &mut buffer, None, 0);
    sender.send(to, &message, None, 0);
    let mut most = 0;
    while target.all().is_empty() {
        sender.domain.progress();
        most = most.max(target.waiting());
        target.domain.progress();
        target.time_passes(10);
    }
    settle(&mut [target, sender]);
    assert!(buffer == message && sender.all().len() == 1);
    most
}

#[test]
fn who_sends_alone_has_most_of_the_buffer_and_gives_it_back() {
    let (mut target, mut senders) = gathering(2);
    let (mut second, to) = senders.pop().unwrap();
    let (mut first, _) = senders.pop().unwrap();
    for sender in [&mut first, &mut second] {
        let most = flight_of(&mut target, sender, to) * COST;
        assert!((STOCK / 2..=STOCK).contains(&most), "{most} bytes waited at a time");
        // The share of one that has stopped is the next one's.
        target.time_passes(200_000);
    }
    // And it cannot be counted on for ever.
    let long = pattern(3, 16 << 10);
    first.send(to, &long, None, 0);
    first.domain.progress();
    let waiting = target.waiting();
    assert!((1..=2).contains(&waiting), "{waiting} datagrams after a long silence");
}

#[test]
fn drops_make_the_shares_smaller_for_a_while() {
    let (mut target, mut senders) = gathering(1);
    let (mut sender, to) = senders.pop().unwrap();
    let before = flight_of(&mut target, &mut sender, to);
    for _ in 0..3 {
        target.net_overflows();
        target.domain.progress();
    }
    // What it was told before holds for a moment.
    target.time_passes(60_000);
    let after = flight_of(&mut target, &mut sender, to);
    assert!(after < before, "{after} datagrams after overflows, {before} before");
    assert_eq!(target.domain.ep_stats(target.ep).rx_overflows, 3);
    let again = (0..100).any(|_| {
        target.time_passes(100_000);
        flight_of(&mut target, &mut sender, to) >= before
    });
    assert!(again, "and then they recover");
}
