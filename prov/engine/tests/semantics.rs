//! What operations mean, on a network that behaves: each test is one sentence of fi_msg(3), fi_tagged(3), fi_endpoint(3) or DESIGN.

mod common;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;

fn two() -> (Node, Node, FiAddr, FiAddr) {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    (a, b, to_b, to_a)
}

#[test]
fn messages_of_every_size_arrive_whole() {
    let (mut a, mut b, to_b, to_a) = two();
    for (number, length) in
        [0, 1, 64, 1300, 1400, 1500, 5000, 16384, 16385, 70_000, 1 << 20].into_iter().enumerate()
    {
        for early in [false, true] {
            let message = pattern(number, length);
            let mut buffer = vec![0xee; length + 8];
            if early {
                a.send(to_b, &message, Some(7), 100 + number);
                settle(&mut [&mut a, &mut b]);
                b.recv(to_a, &mut buffer, Some((7, 0)), number);
            } else {
                b.recv(to_a, &mut buffer, Some((7, 0)), number);
                a.send(to_b, &message, Some(7), 100 + number);
            }
            settle(&mut [&mut a, &mut b]);
            let got = b.next().unwrap().unwrap();
            assert_eq!((got.context, got.length, got.tag, got.source), (number, length, 7, to_a));
            assert_eq!(got.flags, CompletionFlags::RECV | CompletionFlags::TAGGED);
            assert_eq!(buffer[..length], message[..]);
            assert!(buffer[length..].iter().all(|byte| *byte == 0xee));
            let sent = a.next().unwrap().unwrap();
            assert_eq!(
                (sent.context, sent.flags),
                (100 + number, CompletionFlags::SEND | CompletionFlags::TAGGED)
            );
            assert!(a.next().is_none() && b.next().is_none());
            assert!(a.domain.is_quiet() && b.domain.is_quiet());
        }
    }
    assert_eq!(a.domain.cntr_value(a.cntr), (22, 0));
    assert_eq!(b.domain.cntr_value(b.cntr), (22, 0));
}

#[test]
fn tagged_and_untagged_messages_never_meet() {
    let (mut a, mut b, to_b, _) = two();
    let (mut tagged, mut untagged) = ([0; 4], [0; 4]);
    b.recv(ANY, &mut tagged, Some((0, u64::MAX)), 1);
    a.send(to_b, b"msg.", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert!(b.next().is_none());
    b.recv(ANY, &mut untagged, None, 2);
    assert_eq!(b.next().unwrap().unwrap().context, 2);
    a.send(to_b, b"tag.", Some(9), 0);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().context, 1);
    assert_eq!((&tagged, &untagged), (b"tag.", b"msg."));
}

#[test]
fn messages_match_in_the_order_they_were_sent() {
    let (mut a, mut b, to_b, _) = two();
    let messages: Vec<Vec<u8>> = (0..40).map(|number| pattern(number, number * 977)).collect();
    for (number, message) in messages.iter().enumerate() {
        a.send(to_b, message, Some(1), number);
    }
    settle(&mut [&mut a, &mut b]);
    let mut buffers: Vec<Vec<u8>> = messages.iter().map(|message| vec![0; message.len()]).collect();
    for (number, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((1, 0)), number);
        settle(&mut [&mut a, &mut b]);
        let got = b.next().unwrap().unwrap();
        assert_eq!((got.context, got.length), (number, messages[number].len()));
    }
    assert_eq!(buffers, messages);
    assert_eq!(a.all().len(), 40);
}

#[test]
fn a_long_message_is_truncated_and_its_sender_does_not_notice() {
    let (mut a, mut b, to_b, _) = two();
    for length in [100, 9000, 100_000] {
        let message = pattern(1, length);
        let mut buffer = [0xee; 60];
        a.send(to_b, &message, None, 5);
        b.recv_with(ANY, &mut buffer[..50], None, 6, OpFlags::COMPLETION);
        settle(&mut [&mut a, &mut b]);
        let failure = b.next().unwrap().unwrap_err();
        assert_eq!(
            (failure.cause, failure.completion.length, failure.overflow),
            (Cause::Truncated, 50, length - 50)
        );
        assert_eq!(failure.completion.context, 6);
        assert_eq!(buffer[..50], message[..50]);
        assert_eq!(buffer[50..], [0xee; 10]);
        assert_eq!(a.next().unwrap().unwrap().context, 5);
        assert!(a.domain.is_quiet() && b.domain.is_quiet());
    }
}

#[test]
fn remote_cq_data_and_injection() {
    let (mut a, mut b, to_b, to_a) = two();
    let mut buffer = [0; 16];
    b.recv(to_a, &mut buffer, Some((3, 0)), 1);
    let mut message = *b"injected";
    a.send_with(to_b, &message, Some(3), Some(0xdead_beef), 0, OpFlags::INJECT).unwrap();
    message.fill(0);
    settle(&mut [&mut a, &mut b]);
    let got = b.next().unwrap().unwrap();
    assert!(got.flags.contains(CompletionFlags::REMOTE_CQ_DATA));
    assert_eq!((got.data, got.length), (0xdead_beef, 8));
    assert_eq!(&buffer[..8], b"injected");
    assert!(a.next().is_none(), "inject writes no completion");
    assert_eq!(a.domain.cntr_value(a.cntr), (1, 0), "but counts");
    let long = vec![0; 4097];
    assert_eq!(a.send_with(to_b, &long, None, None, 0, OpFlags::INJECT), Err(SubmitError::TooLong));
    assert!(message.iter().all(|byte| *byte == 0));
}

#[test]
fn directed_receives_take_from_their_source_only_even_when_it_was_unknown_on_arrival() {
    let net = net();
    let (mut a, mut b, mut c) = (Node::new(&net, 1), Node::new(&net, 2), Node::new(&net, 3));
    let (a_to_c, b_to_c) = (a.knows(&c), b.knows(&c));
    a.send(a_to_c, b"from a", Some(1), 0);
    settle(&mut [&mut a, &mut b, &mut c]);
    b.send(b_to_c, b"from b", Some(1), 0);
    settle(&mut [&mut a, &mut b, &mut c]);
    let from_b = c.knows(&b);
    let mut buffer = [0; 6];
    c.recv(from_b, &mut buffer, Some((1, 0)), 1);
    assert_eq!(c.next().unwrap().unwrap().source, from_b);
    assert_eq!(&buffer, b"from b");
    c.recv(ANY, &mut buffer, Some((1, 0)), 2);
    assert_eq!(c.next().unwrap().unwrap().source, FiAddr::UNSPEC, "a is in no address vector");
    assert_eq!(&buffer, b"from a");
}

#[test]
fn peek_claim_and_discard() {
    let (mut a, mut b, to_b, _) = two();
    let any = Match { source: ANY, tag: Some(TagMatch { tag: 5, ignore: 0 }) };
    b.domain.peek(b.ep, any, Peek::Look, 1).unwrap();
    let failure = b.next().unwrap().unwrap_err();
    assert_eq!((failure.cause, failure.completion.context), (Cause::NoMessage, 1));
    for length in [10, 50_000] {
        let (first, second, third) = (pattern(1, length), pattern(2, length), pattern(3, length));
        for message in [&first, &second, &third] {
            a.send(to_b, message, Some(5), 0);
        }
        settle(&mut [&mut a, &mut b]);
        b.domain.peek(b.ep, any, Peek::Look, 2).unwrap();
        assert_eq!(b.next().unwrap().unwrap().length, length);
        b.domain.peek(b.ep, any, Peek::Claim, 3).unwrap();
        assert!(b.next().unwrap().unwrap().flags.contains(CompletionFlags::CLAIM));
        b.domain.peek(b.ep, any, Peek::Discard, 4).unwrap();
        assert_eq!(b.next().unwrap().unwrap().context, 4);
        let (mut got_third, got_first) = (vec![0; length], vec![0; length]);
        b.recv(ANY, &mut got_third, Some((5, 0)), 5);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.next().unwrap().unwrap().context, 5);
        assert_eq!(got_third, third);
        assert_eq!(b.domain.claim(b.ep, 99, &[]), Err(SubmitError::NotFound));
        b.domain.claim(b.ep, 3, &[slice(&got_first)]).unwrap();
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.next().unwrap().unwrap().context, 3);
        assert_eq!(got_first, first);
        assert_eq!(a.all().len(), 3, "a discarded message completes at its sender");
        assert!(a.domain.is_quiet() && b.domain.is_quiet());
    }
}

#[test]
fn multi_receive_fills_a_buffer_and_says_when_it_is_released() {
    let (mut a, mut b, to_b, _) = two();
    b.domain.ep_config_mut(b.ep).min_multi_recv = 100;
    let (mut first, mut second) = (vec![0; 1000], vec![0; 30_000]);
    let flags = OpFlags::COMPLETION | OpFlags::MULTI_RECV;
    b.recv_with(ANY, &mut first, None, 1, flags);
    b.recv_with(ANY, &mut second, None, 2, flags);
    let messages: Vec<Vec<u8>> =
        [300, 400, 500, 250, 20_000].iter().enumerate().map(|(n, l)| pattern(n, *l)).collect();
    for message in &messages {
        a.send(to_b, message, None, 0);
    }
    settle(&mut [&mut a, &mut b]);
    let got = b.all();
    let seen: Vec<(usize, usize, bool)> = got
        .iter()
        .map(|entry| entry.unwrap())
        .map(|completion| {
            (completion.context, completion.length, completion.flags.contains(CompletionFlags::MULTI_RECV))
        })
        .collect();
    // 500 does not fit behind 300 + 400: the first buffer is released, and the second one takes the rest.
    assert_eq!(
        seen,
        [
            (1, 300, false),
            (1, 400, false),
            (1, 0, true),
            (2, 500, false),
            (2, 250, false),
            (2, 20_000, false)
        ]
    );
    assert_eq!(first[..700], [&messages[0][..], &messages[1][..]].concat()[..]);
    assert_eq!(second[..20_750], [&messages[2][..], &messages[3][..], &messages[4][..]].concat()[..]);
    let base = second.as_ptr().addr();
    let starts: Vec<usize> =
        got.iter().filter_map(|e| e.ok()).filter(|c| c.context == 2).map(|c| c.buffer - base).collect();
    assert_eq!(starts, [0, 500, 750]);
    b.domain.cancel(b.ep, 2).unwrap();
    let failure = b.next().unwrap().unwrap_err();
    assert_eq!(failure.cause, Cause::Canceled);
    assert!(failure.completion.flags.contains(CompletionFlags::MULTI_RECV));
}

#[test]
fn messages_in_multi_receive_buffers_complete_in_the_order_sent() {
    let (mut a, mut b, to_b, _) = two();
    let mut buffer = vec![0; 100_000];
    b.recv_with(ANY, &mut buffer, None, 1, OpFlags::COMPLETION | OpFlags::MULTI_RECV);
    // The first contact, so that nothing below waits for an answer to it.
    a.send(to_b, b"hello", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.all().len(), 1);
    // The last packet of the first message is lost once: the others are whole before it.
    b.lose_nth(3);
    let lengths = [3000, 40_000, 8, 0];
    let messages: Vec<Vec<u8>> =
        lengths.iter().enumerate().map(|(index, length)| pattern(index, *length)).collect();
    for message in &messages {
        a.send(to_b, message, None, 0);
    }
    a.domain.progress();
    b.domain.progress();
    assert_eq!(b.next(), None, "nothing passes the first message");
    settle(&mut [&mut a, &mut b]);
    let got: Vec<usize> = b.all().into_iter().map(|entry| entry.unwrap().length).collect();
    assert_eq!(got, lengths);
}

#[test]
fn what_is_whole_in_a_multi_receive_buffer_survives_the_end_of_its_sender() {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let to_b = a.knows(&b);
    let mut buffer = vec![0; 100_000];
    b.recv_with(ANY, &mut buffer, None, 1, OpFlags::COMPLETION | OpFlags::MULTI_RECV);
    a.send(to_b, b"hello", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.all().len(), 1);
    b.lose_nth(3);
    let first = pattern(1, 3000);
    a.send(to_b, &first, None, 0);
    a.send(to_b, b"whole", None, 0);
    a.domain.progress();
    b.domain.progress();
    assert_eq!(b.next(), None, "it waits for the first message");
    drop(a);
    let mut again = Node::with(&net, 1, EpConfig::default(), 100);
    let to_b = again.knows(&b);
    again.send(to_b, b"new", None, 0);
    settle(&mut [&mut again, &mut b]);
    assert_eq!(b.next().unwrap().unwrap_err().cause, Cause::Restarted);
    assert_eq!(b.next().unwrap().unwrap().length, 5);
    assert_eq!(b.next().unwrap().unwrap().length, 3);
    assert_eq!(b.next(), None);
}

#[test]
fn cancel_takes_back_what_is_not_matched() {
    let (mut a, mut b, to_b, _) = two();
    let (mut one, mut two) = ([0; 4], [0; 4]);
    b.recv(ANY, &mut one, Some((1, 0)), 1);
    b.recv(ANY, &mut two, Some((1, 0)), 2);
    b.domain.cancel(b.ep, 1).unwrap();
    assert_eq!(b.domain.cancel(b.ep, 1), Err(SubmitError::NotFound));
    assert_eq!(b.next().unwrap().unwrap_err().cause, Cause::Canceled);
    a.send(to_b, b"four", Some(1), 0);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().context, 2);
    assert_eq!(b.domain.cancel(b.ep, 2), Err(SubmitError::NotFound));
    assert_eq!((&one, &two), (&[0; 4], b"four"));
}

#[test]
fn messages_to_oneself() {
    let net = net();
    let mut a = Node::new(&net, 1);
    let to_a = a.domain.av_insert(a.av, a.address);
    for length in [0, 10, 16_384, 100_000] {
        for posted_first in [true, false] {
            let message = pattern(length, length);
            let mut buffer = vec![0; length];
            if posted_first {
                a.recv(to_a, &mut buffer, Some((1, 0)), 1);
            }
            a.send(to_a, &message, Some(1), 2);
            if !posted_first {
                a.recv(to_a, &mut buffer, Some((1, 0)), 1);
            }
            let mut contexts: Vec<usize> = a.all().iter().map(|entry| entry.unwrap().context).collect();
            contexts.sort_unstable();
            assert_eq!(contexts, [1, 2]);
            assert_eq!(buffer, message);
            assert!(a.domain.is_quiet());
        }
    }
    assert_eq!(net.borrow().sent, 0, "they never touch the network");
}

#[test]
fn a_full_unexpected_pool_leaves_payload_at_the_sender_and_loses_nothing() {
    let net = net();
    let mut a = Node::new(&net, 1);
    let mut b = Node::with(&net, 2, EpConfig { unexpected_pool: 10_000, ..EpConfig::default() }, 2);
    let to_b = a.knows(&b);
    let messages: Vec<Vec<u8>> = (0..30).map(|number| pattern(number, 3000)).collect();
    for (number, message) in messages.iter().enumerate() {
        a.send(to_b, message, Some(number as u64), number);
    }
    settle(&mut [&mut a, &mut b]);
    assert!(b.domain.ep_stats(b.ep).refused_messages >= 25);
    assert!(a.all().len() <= 3, "a refused message does not complete");
    for number in (0..30).rev() {
        let mut buffer = vec![0; 3000];
        b.recv(ANY, &mut buffer, Some((number as u64, 0)), number);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.next().unwrap().unwrap().context, number);
        assert_eq!(buffer, messages[number]);
    }
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
}

#[test]
fn match_complete_waits_for_the_match() {
    let (mut a, mut b, to_b, _) = two();
    a.send_with(to_b, b"sync", None, None, 1, OpFlags::COMPLETION | OpFlags::MATCH_COMPLETE).unwrap();
    settle(&mut [&mut a, &mut b]);
    assert!(a.next().is_none());
    let mut buffer = [0; 4];
    b.recv(ANY, &mut buffer, None, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.next().unwrap().unwrap().context, 1);
    assert_eq!(&buffer, b"sync");
}

#[test]
fn slices_are_gathered_and_scattered() {
    let (mut a, mut b, to_b, _) = two();
    let message = pattern(4, 40_000);
    let mut buffer = vec![0; 40_000];
    let from: Vec<UserSlice> = message.chunks(7001).map(slice).collect();
    let to: Vec<UserSlice> = buffer.chunks_mut(3333).map(|chunk| slice(chunk)).collect();
    let matching = Match { source: ANY, tag: None };
    b.domain.recv(b.ep, &RecvOp { matching, slices: &to, context: 1, flags: OpFlags::COMPLETION }).unwrap();
    let op = SendOp {
        destination: to_b,
        slices: &from,
        tag: None,
        data: None,
        context: 2,
        flags: OpFlags::COMPLETION,
    };
    a.domain.send(a.ep, &op).unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().length, 40_000);
    assert_eq!(buffer, message);
}

#[test]
fn everything_survives_loss() {
    let (mut a, mut b, to_b, _) = two();
    let net_handle = {
        let mut counter = 0u32;
        move |_: &std::net::SocketAddr, _: &[u8]| {
            counter = counter.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (counter >> 16) % 10 == 0
        }
    };
    a.lose(net_handle);
    let messages: Vec<Vec<u8>> = (0..60).map(|number| pattern(number, number * 1500)).collect();
    let mut buffers: Vec<Vec<u8>> = messages.iter().map(|message| vec![0; message.len()]).collect();
    for (number, message) in messages.iter().enumerate() {
        a.send(to_b, message, Some(1), number);
        if number % 2 == 0 {
            b.recv(ANY, &mut buffers[number / 2], Some((1, 0)), number / 2);
        }
    }
    for (number, buffer) in buffers.iter_mut().enumerate().skip(30) {
        b.recv(ANY, buffer, Some((1, 0)), number);
    }
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.all().iter().filter(|entry| entry.is_ok()).count(), 60);
    assert_eq!(a.all().iter().filter(|entry| entry.is_ok()).count(), 60);
    assert_eq!(buffers, messages);
    assert!(a.domain.ep_stats(a.ep).tx_retransmitted > 0);
}

#[test]
fn a_vanished_peer_fails_what_depends_on_it() {
    let (mut a, mut b, to_b, to_a) = two();
    let mut buffer = [0; 4];
    b.recv(to_a, &mut buffer, None, 1);
    a.send(to_b, b"here", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.all().len() + b.all().len(), 2);
    drop(b);
    a.send(to_b, &pattern(1, 40_000), None, 3);
    a.send_with(to_b, b"gone", None, None, 4, OpFlags::INJECT).unwrap();
    let mut later = [0; 4];
    a.recv(to_b, &mut later, None, 5);
    settle(&mut [&mut a]);
    let mut failed: Vec<(usize, Cause)> =
        a.all().iter().map(|entry| entry.unwrap_err()).map(|f| (f.completion.context, f.cause)).collect();
    failed.sort_unstable_by_key(|entry| entry.0);
    assert_eq!(failed, [(3, Cause::Refused), (5, Cause::Refused)]);
    assert!(a.domain.is_quiet());
}

#[test]
fn a_restarted_peer_is_another_peer() {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::with(&net, 2, EpConfig::default(), 10));
    let to_b = a.knows(&b);
    a.send(to_b, b"one", Some(1), 1);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.all().len(), 1);
    let message = pattern(2, 100_000);
    a.send(to_b, &message, Some(2), 2);
    settle(&mut [&mut a, &mut b]);
    assert!(a.next().is_none(), "announced, and not asked for");
    drop(b);
    let mut b = Node::with(&net, 2, EpConfig::default(), 11);
    let to_a = b.knows(&a);
    b.send(to_a, b"again", Some(3), 3);
    let mut buffer = [0; 5];
    a.recv(to_b, &mut buffer, Some((3, 0)), 4);
    settle(&mut [&mut a, &mut b]);
    let entries = a.all();
    assert!(
        entries
            .iter()
            .any(|entry| entry.is_err_and(|f| f.cause == Cause::Restarted && f.completion.context == 2))
    );
    assert!(b.next().unwrap().is_ok());
    let mut fresh = [0; 3];
    a.send(to_b, b"new", Some(5), 6);
    b.recv(to_a, &mut fresh, Some((5, 0)), 7);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(&fresh, b"new");
}

#[test]
fn injected_data_outlives_the_endpoint() {
    let (mut a, mut b, to_b, _) = two();
    let mut lost = false;
    a.lose(move |_, _| !std::mem::replace(&mut lost, true));
    let message = b"last words".to_vec();
    a.send_with(to_b, &message, Some(1), None, 0, OpFlags::INJECT).unwrap();
    drop(message);
    a.domain.ep_shutdown(a.ep);
    assert!(a.domain.ep_lingers(a.ep), "the only copy was lost");
    settle(&mut [&mut a, &mut b]);
    assert!(!a.domain.ep_lingers(a.ep));
    let ep = a.ep;
    drop(a.domain.ep_remove(ep));
    let mut buffer = [0; 10];
    b.domain.progress();
    b.recv(ANY, &mut buffer, Some((1, 0)), 1);
    assert_eq!(b.next().unwrap().unwrap().length, 10);
    assert_eq!(&buffer, b"last words");
}

#[test]
fn an_abandoned_rendezvous_does_not_hold_up_what_was_injected_after_it() {
    let (mut a, mut b, to_b, _) = two();
    let mut sent = 0;
    a.lose(move |_, _| {
        sent += 1;
        sent <= 2
    });
    a.send(to_b, &pattern(1, 100_000), Some(1), 1);
    a.send_with(to_b, b"after", Some(2), None, 0, OpFlags::INJECT).unwrap();
    a.domain.ep_shutdown(a.ep);
    assert!(a.domain.ep_lingers(a.ep), "both first transmissions were lost");
    settle(&mut [&mut a, &mut b]);
    assert!(!a.domain.ep_lingers(a.ep));
    let mut buffer = [0; 5];
    b.recv(ANY, &mut buffer, Some((2, 0)), 2);
    assert_eq!(b.next().unwrap().unwrap().context, 2);
    assert_eq!(&buffer, b"after");
}
