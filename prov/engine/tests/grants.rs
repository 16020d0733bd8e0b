//! Long messages are asked for in parts when many come at once: the shortest first, none for ever last, and never more than the budget at a time.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;
use rdgram_wire::Llp;

const ANY: FiAddr = FiAddr::UNSPEC;
const BUDGET: u64 = 64 << 10;

/// A receiver that asks for little at a time, and senders that have met it.
fn gathering(senders: u16) -> (Node, Vec<(Node, FiAddr)>) {
    let net = net();
    let config = EpConfig { grant_bytes: Some(BUDGET), ..EpConfig::default() };
    let mut target = Node::with(&net, 1, config, 1);
    let senders = (0..senders)
        .map(|index| {
            let config = EpConfig { eager_max: 16 << 10, ..EpConfig::default() };
            let mut sender = Node::with(&net, 2 + index, config, 2 + u64::from(index));
            let address = sender.knows(&target);
            let mut hello = [0; 5];
            target.recv(ANY, &mut hello, None, 0);
            sender.send(address, b"hello", None, 0);
            settle(&mut [&mut target, &mut sender]);
            assert!(target.all().len() == 1 && sender.all().len() == 1);
            (sender, address)
        })
        .collect();
    (target, senders)
}

/// One round of everybody; the tags of what the target has received in it.
fn round(target: &mut Node, senders: &mut [(Node, FiAddr)]) -> Vec<u64> {
    for (sender, _) in senders {
        sender.domain.progress();
    }
    target.domain.progress();
    target.time_passes(20);
    target.all().into_iter().map(|entry| entry.unwrap().tag).collect()
}

#[test]
fn no_more_is_on_its_way_than_the_budget() {
    let (mut target, mut senders) = gathering(4);
    let messages: Vec<_> = (0..4).map(|seed| pattern(seed, 1 << 20)).collect();
    let mut buffers = vec![vec![0_u8; 1 << 20]; 4];
    for (tag, buffer) in buffers.iter_mut().enumerate() {
        target.recv(ANY, buffer, Some((tag as u64, 0)), 0);
        let (sender, to) = &mut senders[tag];
        sender.send(*to, &messages[tag], Some(tag as u64), 0);
    }
    let (mut most, mut done) = (0, 0);
    for _ in 0..100_000 {
        for (sender, _) in &mut senders {
            sender.domain.progress();
        }
        most = most.max(target.waiting_bytes());
        done += round(&mut target, &mut senders).len();
        if done == 4 {
            break;
        }
    }
    assert!(buffers == messages);
    // With headers, and what is asked for while the last of the parts before is still there.
    assert!(most <= usize::try_from(BUDGET).unwrap() * 3 / 2, "{most} bytes waited at a time");
    let stats = target.domain.ep_stats(target.ep);
    assert!(stats.tx_grants >= 4 * (1 << 20) / BUDGET && stats.rx_malformed == 0, "{stats:?}");
    for (sender, _) in &mut senders {
        settle(&mut [&mut target, sender]);
        assert_eq!(sender.all().len(), 1);
    }
    assert!(target.domain.is_quiet());
}

#[test]
fn the_shortest_goes_first_and_the_longest_is_not_forgotten() {
    const SHORT: usize = 30 << 10;
    const SHORTS: usize = 60;
    let (mut target, mut senders) = gathering(2);
    let (long, short) = (pattern(1, 1 << 20), pattern(2, SHORT));
    let mut long_buffer = vec![0_u8; long.len()];
    let mut buffers = vec![vec![0_u8; SHORT]; SHORTS];
    target.recv(ANY, &mut long_buffer, Some((1000, 0)), 0);
    let (sender, to) = &mut senders[0];
    sender.send(*to, &long, Some(1000), 0);
    round(&mut target, &mut senders);
    // The long one has begun when the short ones come: they pass it.
    for (tag, buffer) in buffers.iter_mut().enumerate() {
        target.recv(ANY, buffer, Some((tag as u64, 0)), 0);
        let (sender, to) = &mut senders[1];
        sender.send(*to, &short, Some(tag as u64), 0);
    }
    let mut order = Vec::new();
    for _ in 0..100_000 {
        order.extend(round(&mut target, &mut senders));
        if order.len() == SHORTS && !order.contains(&1000) {
            let placed = target.domain.ep_stats(target.ep).rx_placed_bytes;
            let of_long = placed - (SHORTS * SHORT) as u64;
            assert!(of_long > 4 * BUDGET, "{of_long} bytes of the long one beside the short ones");
        }
        if order.len() == SHORTS + 1 {
            break;
        }
    }
    assert!(long_buffer == long && buffers.iter().all(|buffer| *buffer == short));
    let place = order.iter().position(|tag| *tag == 1000).expect("it came");
    assert!(place > SHORTS / 4, "the short ones pass it, but it was number {place}");
    assert!(order[..4].iter().all(|tag| *tag < SHORTS as u64));
}

/// A message of each sender for each of the buffers; the first is granted all of the budget.
fn announce(target: &mut Node, senders: &mut [(Node, FiAddr)], message: &[u8], buffers: &mut [Vec<u8>]) {
    for (tag, (buffer, (sender, to))) in buffers.iter_mut().zip(senders).enumerate() {
        target.recv(ANY, buffer, Some((tag as u64, 0)), 0);
        sender.send(*to, message, Some(tag as u64), 0);
        target.domain.progress();
    }
}

#[test]
fn a_silent_sender_holds_nobody_up() {
    let (mut target, mut senders) = gathering(2);
    let message = pattern(3, 256 << 10);
    let mut buffers = vec![vec![0_u8; message.len()]; 2];
    announce(&mut target, &mut senders, &message, &mut buffers);
    // The first computes now.
    let mut rounds = 0;
    while target.all().is_empty() {
        senders[1].0.domain.progress();
        target.domain.progress();
        target.time_passes(100);
        rounds += 1;
        assert!(rounds < 1000, "the second waits for the first");
    }
    assert!(buffers[1] == message);
    // And goes on when it is back.
    let [(first, _), (second, _)] = &mut senders[..] else { unreachable!("two") };
    settle(&mut [&mut target, first, second]);
    assert_eq!(target.all().len(), 1);
    assert!(buffers[0] == message && target.domain.is_quiet());
}

#[test]
fn what_a_dead_sender_was_granted_is_free_again() {
    let (mut target, mut senders) = gathering(2);
    let message = pattern(3, 256 << 10);
    let mut buffers = vec![vec![0_u8; message.len()]; 2];
    announce(&mut target, &mut senders, &message, &mut buffers);
    let (mut first, _) = senders.remove(0);
    first.domain.ep_shutdown(first.ep);
    drop(first.domain.ep_remove(first.ep));
    let (second, _) = &mut senders[0];
    settle(&mut [&mut target, second]);
    let entries = target.all();
    assert!(
        entries.iter().any(|entry| matches!(entry, Ok(completion) if completion.tag == 1)),
        "{entries:?}"
    );
    assert!(buffers[1] == message && target.domain.is_quiet());
}

#[test]
fn bytes_that_come_twice_are_not_taken_for_more_than_was_granted() {
    let (mut target, mut senders) = gathering(1);
    let message = pattern(4, 1 << 20);
    let mut buffers = vec![vec![0_u8; message.len()]];
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (at, log) = (target.address, Rc::clone(&seen));
    target.lose(move |to, bytes| {
        if *to == at {
            log.borrow_mut().push(bytes.to_vec());
        }
        false
    });
    announce(&mut target, &mut senders, &message, &mut buffers);
    senders[0].0.domain.progress();
    target.domain.progress();
    // A sender that says the same again under new PSNs, often enough to exceed what is granted, though not the message.
    let packets = seen.take();
    let psn = Llp::decode(packets.last().expect("payload came")).expect("a packet").psn;
    let payload = packets.iter().max_by_key(|bytes| bytes.len()).expect("payload came");
    let llp = Llp::decode(payload).expect("a packet");
    for again in 1..400 {
        let mut forged = payload.clone();
        Llp { psn: psn.add(again), integrity: 0, ..llp }.encode(&mut forged);
        let integrity = crc32c::crc32c(&forged[..Plan::HEADER]);
        forged[Llp::INTEGRITY_OFFSET..Llp::LENGTH].copy_from_slice(&integrity.to_be_bytes());
        target.inject(senders[0].0.address, &forged);
    }
    target.domain.progress();
    assert!(target.domain.ep_stats(target.ep).rx_malformed > 0);
    assert!(target.all().is_empty(), "nothing is complete");
}
