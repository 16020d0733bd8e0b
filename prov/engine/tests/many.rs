//! Many messages at a time: beyond the pool their payload stays at the sender, and all of them match in whichever order they are asked for.

mod common;

use common::*;
use rdgram_engine::*;

const COUNT: usize = 100_000;
const LENGTH: usize = 24;
/// Bits that an MPI library keeps for itself in every tag, and ignores in every receive.
const PROTOCOL: u64 = 0x7000_0000_0000_0000;

/// Two nodes, the second with this pool, and how each calls the other.
fn two(unexpected_pool: usize) -> (Node, Node, FiAddr, FiAddr) {
    let net = net();
    let config = EpConfig { unexpected_pool, ..EpConfig::default() };
    let (mut a, mut b) = (Node::new(&net, 1), Node::with(&net, 2, config, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    (a, b, to_b, to_a)
}

/// One message for each tag.
fn messages() -> Vec<Vec<u8>> {
    (0..COUNT).map(|tag| [&tag.to_be_bytes()[..], &pattern(tag, LENGTH - 8)].concat()).collect()
}

/// The contexts of all completions, none of which is a failure.
fn contexts(node: &mut Node) -> Vec<usize> {
    node.all().into_iter().map(|entry| entry.unwrap().context).collect()
}

fn assert_each_once(mut contexts: Vec<usize>) {
    contexts.sort_unstable();
    assert!(contexts.into_iter().eq(0..COUNT));
}

#[test]
fn unexpected_messages_are_received_last_tag_first() {
    const POOL: usize = 64 << 10;
    let (mut a, mut b, to_b, to_a) = two(POOL);
    let messages = messages();
    for (tag, message) in messages.iter().enumerate() {
        a.send(to_b, message, Some(tag as u64), tag);
    }
    settle(&mut [&mut a, &mut b]);
    let stats = b.domain.ep_stats(b.ep);
    assert_eq!(stats.unexpected_messages, COUNT as u64);
    assert_eq!(stats.unexpected_bytes_max, POOL as u64);
    let staged = POOL / 64;
    assert_eq!(stats.refused_messages, (COUNT - staged) as u64);
    // Only those that found room have been received as far as their sender is concerned.
    let sent_before = contexts(&mut a);
    assert_eq!(sent_before.len(), staged);
    let mut buffers = vec![[0; LENGTH]; COUNT];
    for (tag, buffer) in buffers.iter_mut().enumerate().rev() {
        b.recv(to_a, buffer, Some((tag as u64, PROTOCOL)), tag);
        if tag % 500 == 0 {
            settle(&mut [&mut a, &mut b]);
            let mut received = contexts(&mut b);
            received.sort_unstable();
            assert!(received.into_iter().eq(tag..tag + 500));
        }
    }
    assert!(buffers.iter().zip(&messages).all(|(buffer, message)| buffer[..] == message[..]));
    assert_each_once([sent_before, contexts(&mut a)].concat());
    assert_eq!(b.domain.ep_stats(b.ep).unexpected_bytes_max, POOL as u64);
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn posted_receives_are_matched_last_first() {
    let (mut a, mut b, to_b, to_a) = two(0);
    let messages = messages();
    let mut buffers = vec![[0; LENGTH]; COUNT];
    for (tag, buffer) in buffers.iter_mut().enumerate() {
        // Every kind of receive among the others.
        let source = if tag % 2 == 0 { to_a } else { FiAddr::UNSPEC };
        b.recv(source, buffer, Some((tag as u64, if tag % 3 == 0 { PROTOCOL } else { 0 })), tag);
    }
    for (tag, message) in messages.iter().enumerate().rev() {
        a.send(to_b, message, Some(tag as u64), tag);
    }
    settle(&mut [&mut a, &mut b]);
    assert!(buffers.iter().zip(&messages).all(|(buffer, message)| buffer[..] == message[..]));
    assert!(contexts(&mut b).into_iter().eq((0..COUNT).rev()));
    assert_each_once(contexts(&mut a));
    assert_eq!(b.domain.ep_stats(b.ep).unexpected_messages, 0);
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}
