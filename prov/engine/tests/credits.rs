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

/// 64 senders, each of which has so many messages of `length` bytes to send from the first moment on, to one that looks only now and then.
/// The most bytes of buffer that were occupied, and how often it looked.
fn rush(messages: usize, length: usize) -> (usize, usize) {
    let (mut target, mut senders) = gathering(64);
    let message = pattern(1, length);
    let mut buffers = vec![vec![0_u8; message.len()]; 64 * messages];
    for buffer in &mut buffers {
        target.recv(ANY, buffer, None, 0);
    }
    let (mut most, mut received, mut looks) = (0, 0, 0);
    for (sender, address) in &mut senders {
        for _ in 0..messages {
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
            looks += 1;
        }
        target.time_passes(20);
        if received == buffers.len() {
            break;
        }
    }
    assert_eq!(received, buffers.len());
    assert!(buffers.iter().all(|buffer| *buffer == message));
    (most, looks)
}

#[test]
fn sixty_four_senders_do_not_overrun_a_stock_buffer() {
    for (messages, length) in [(8, 8192), (2, 256 << 10)] {
        let (most, _) = rush(messages, length);
        assert!(most <= STOCK, "{most} bytes waited at a time");
        assert!(most > STOCK / 4, "and the buffer is made use of: {most}");
    }
}

#[test]
fn who_has_sent_all_that_was_granted_makes_room_for_who_is_granted_next() {
    // 128 messages, of which a few are granted at a time. Shares that were kept for a while after the last byte left each sender one packet or two.
    let (_, looks) = rush(2, 256 << 10);
    assert!(looks < 1000, "all that was sent was read in {looks} looks");
}

#[test]
fn who_waits_for_a_grant_takes_no_share() {
    let (mut target, mut senders) = gathering(64);
    let long = pattern(1, 256 << 10);
    let (mut first, to) = senders.pop().unwrap();
    for (sender, to) in &mut senders {
        sender.send(*to, &long, Some(1), 0);
        sender.domain.progress();
        target.domain.progress();
    }
    // Nobody receives with that tag.
    let most = flight_of(&mut target, &mut first, to) * COST;
    assert!((STOCK / 4..=STOCK).contains(&most), "{most} bytes waited at a time");
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
