//! Hybrid placement: what is guessed right lies where it belongs and is not copied, what is guessed wrong does no harm.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;
/// Payload of a segment on this network: 1,500 bytes less IP, UDP and our headers.
const SEGMENT: usize = 1500 - 28 - Plan::HEADER;
/// Where the header has its cookie and its integrity field (protocol.md, section 2).
const COOKIE: usize = 32;
const INTEGRITY: usize = 36;
/// In the bytes around a receive buffer, which nobody may touch.
const GUARD: u8 = 0xee;

fn forced() -> EpConfig {
    EpConfig { direct: Direct::Force, ..EpConfig::default() }
}

/// A sender, and a receiver of this configuration.
fn two(config: EpConfig) -> (Node, Node, FiAddr) {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::with(&net, 2, config, 2));
    let to_b = a.knows(&b);
    b.knows(&a);
    (a, b, to_b)
}

fn stats(node: &Node) -> Stats {
    node.domain.ep_stats(node.ep)
}

/// Sends messages of these lengths at once, all of them expected, and checks what arrives.
fn transfer(a: &mut Node, b: &mut Node, to_b: FiAddr, lengths: &[usize]) -> Stats {
    let messages: Vec<_> =
        lengths.iter().enumerate().map(|(number, length)| pattern(number, *length)).collect();
    let mut buffers: Vec<_> = lengths.iter().map(|length| vec![GUARD; length + 8]).collect();
    for (number, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((number as u64, 0)), number);
    }
    for (number, message) in messages.iter().enumerate() {
        a.send(to_b, message, Some(number as u64), number);
    }
    settle(&mut [a, b]);
    assert_eq!(b.all().len(), messages.len());
    assert!(a.all().into_iter().all(|sent| sent.is_ok()));
    for (buffer, message) in buffers.iter().zip(&messages) {
        assert!(buffer[..message.len()] == message[..], "a message of {} bytes differs", message.len());
        assert_eq!(buffer[message.len()..], [GUARD; 8]);
    }
    assert!(a.domain.is_quiet() && b.domain.is_quiet());
    let stats = stats(b);
    assert_eq!(
        (stats.rx_malformed, stats.rx_integrity, stats.rx_stale),
        (0, 0, 0),
        "nothing was torn to pieces"
    );
    stats
}

#[test]
fn a_long_message_needs_no_copy() {
    for length in [17_000, 20 * SEGMENT, 100_000, 1 << 20] {
        let (mut a, mut b, to_b) = two(forced());
        let stats = transfer(&mut a, &mut b, to_b, &[length]);
        assert_eq!((stats.rx_placed_bytes, stats.rx_direct_bytes), (length as u64, length as u64));
        assert!(stats.rx_plans > 0 && stats.rx_alike > 0, "{stats:?}");
    }
}

#[test]
fn where_it_does_not_pay_nothing_is_guessed() {
    for config in [
        EpConfig { direct: Direct::Off, ..EpConfig::default() },
        // Segments of an Ethernet frame are too short.
        EpConfig::default(),
    ] {
        let (mut a, mut b, to_b) = two(config);
        let stats = transfer(&mut a, &mut b, to_b, &[200_000, 300_000]);
        assert_eq!((stats.rx_placed_bytes, stats.rx_direct_bytes, stats.rx_plans), (500_000, 0, 0));
    }
}

#[test]
fn messages_in_turns_are_guessed_too() {
    for lengths in [
        &[4 << 20, 4 << 20][..],
        &[1 << 20, 1 << 20],
        &[1 << 20, 700_000, 20 * SEGMENT, 900_001],
        &[300_000; 8],
    ] {
        let (mut a, mut b, to_b) = two(forced());
        let stats = transfer(&mut a, &mut b, to_b, lengths);
        let copied = stats.rx_placed_bytes - stats.rx_direct_bytes;
        assert_eq!(copied, 0, "{lengths:?}: {stats:?}");
    }
    // One goes on with its turns alone until the sender hears of the other.
    for nth in 1..4 {
        let (mut a, mut b, to_b) = two(forced());
        a.lose_nth(nth);
        let stats = transfer(&mut a, &mut b, to_b, &[8 << 20, 8 << 20]);
        let copied = stats.rx_placed_bytes - stats.rx_direct_bytes;
        assert!(copied * 100 < stats.rx_placed_bytes, "{nth}: {stats:?}");
    }
}

#[test]
fn a_message_that_ends_in_mid_train_leaves_the_rest_of_it_alone() {
    let (mut a, mut b, to_b) = two(forced());
    let memory = vec![GUARD; 20 * SEGMENT];
    let region =
        Region { slices: vec![slice(&memory)], access: Access::REMOTE_WRITE, virtual_addresses: false };
    b.domain.mr_open(region, Some(7)).unwrap();
    let (message, written) = (pattern(1, 20 * SEGMENT), pattern(2, 20 * SEGMENT));
    let mut buffer = vec![GUARD; 20 * SEGMENT];
    b.recv(ANY, &mut buffer, None, 1);
    a.send(to_b, &message, None, 2);
    // Before the payload is asked for: packets of the write, as long as those of the message, follow them at once.
    let slices = [slice(&written)];
    let remote = [RemoteSlice { key: 7, offset: 0, length: written.len() as u64 }];
    let (kind, flags) = (RmaKind::Write, OpFlags::COMPLETION | OpFlags::MORE);
    b.domain.progress();
    let op =
        RmaOp { kind, destination: to_b, slices: &slices, remote: &remote, data: None, context: 3, flags };
    a.domain.rma(a.ep, &op).unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().context, 1);
    assert!(buffer == message && memory == written);
    let stats = stats(&b);
    assert_eq!(stats.rx_direct_bytes, 20 * SEGMENT as u64, "{stats:?}");
    assert!(stats.rx_plans_wrong == 1 && stats.rx_plans == 1, "{stats:?}");
}

#[test]
fn what_was_lost_is_placed_when_it_comes() {
    for nth in [3, 4, 20, 50] {
        let (mut a, mut b, to_b) = two(forced());
        b.lose_nth(nth);
        let stats = transfer(&mut a, &mut b, to_b, &[300_000]);
        assert!(stats.rx_plans_wrong > 0, "{nth}: {stats:?}");
        assert!(stats.rx_direct_bytes > 0 && stats.rx_direct_bytes < 300_000, "{nth}: {stats:?}");
    }
}

#[test]
fn the_wrong_message_is_told_by_its_name_alone() {
    let (mut a, mut b, to_b) = two(forced());
    let (first, second) = (pattern(1, 100_000), pattern(2, 100_000));
    let mut buffers = [vec![GUARD; 100_000], vec![GUARD; 100_000]];
    for (number, buffer) in buffers.iter_mut().enumerate() {
        b.recv(ANY, buffer, Some((number as u64, 0)), number);
    }
    a.send(to_b, &first, Some(0), 0);
    a.send(to_b, &second, Some(1), 1);
    // The first is asked for first, but the sender does not hear of it until the second is under way: at the same place of its buffer.
    a.lose_nth(1);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.all().len(), 2);
    assert!(buffers[0] == first && buffers[1] == second);
    let stats = stats(&b);
    assert!(stats.rx_plans_wrong > 0 && stats.rx_direct_bytes > 100_000, "{stats:?}");
}

#[test]
fn duplicates_count_once() {
    let (mut a, mut b, to_b) = two(forced());
    // Acknowledgements to the sender are lost now and then: it sends again what arrived.
    let (at, mut count) = (a.address, 0);
    b.lose(move |to, _| {
        count += usize::from(*to == at);
        *to == at && count > 1 && count % 2 == 0
    });
    let stats = transfer(&mut a, &mut b, to_b, &[400_000, 300_000]);
    assert_eq!(stats.rx_placed_bytes, 700_000);
    assert!(stats.rx_direct_bytes > 0);
}

#[test]
fn a_truncated_receive_is_not_written_beyond() {
    for (length, room) in [(200_000, 100_000), (200_000, 3 * SEGMENT), (200_000, 100), (20_000, 19_999)] {
        let (mut a, mut b, to_b) = two(forced());
        let message = pattern(1, length);
        let mut buffer = vec![GUARD; length];
        b.recv(ANY, &mut buffer[..room], None, 6);
        a.send(to_b, &message, None, 5);
        settle(&mut [&mut a, &mut b]);
        let failure = b.next().unwrap().unwrap_err();
        assert_eq!((failure.cause, failure.overflow), (Cause::Truncated, length - room));
        assert!(buffer[..room] == message[..room], "{room} of {length} bytes differ");
        assert!(buffer[room..].iter().all(|byte| *byte == GUARD), "{room} of {length}: written beyond");
        assert_eq!(stats(&b).rx_direct_bytes, room as u64);
    }
}

#[test]
fn a_buffer_in_pieces_is_planned_piece_by_piece() {
    let (mut a, mut b, to_b) = two(forced());
    let message = pattern(1, 200_000);
    let buffers: Vec<_> = [50_000, 10, 0, 99_990, 50_000].map(|length| vec![GUARD; length + 8]).into();
    let slices: Vec<_> = buffers.iter().map(|buffer| slice(buffer).part(0, buffer.len() - 8)).collect();
    let matching = Match { source: ANY, tag: None };
    let receive = RecvOp { matching, slices: &slices, context: 1, flags: OpFlags::COMPLETION };
    b.domain.recv(b.ep, &receive).unwrap();
    a.send(to_b, &message, None, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().length, 200_000);
    let joined: Vec<u8> = buffers.iter().flat_map(|buffer| buffer[..buffer.len() - 8].to_vec()).collect();
    assert!(joined == message);
    assert!(buffers.iter().all(|buffer| buffer[buffer.len() - 8..] == [GUARD; 8]));
    assert!(stats(&b).rx_direct_bytes > 100_000);
}

#[test]
fn what_a_checksum_covers_is_copied_after_it_was_checked() {
    let net = net();
    let sender = EpConfig { full_integrity: true, ..EpConfig::default() };
    let (mut a, mut b) = (Node::with(&net, 1, sender, 1), Node::with(&net, 2, forced(), 2));
    let to_b = a.knows(&b);
    let stats = transfer(&mut a, &mut b, to_b, &[300_000]);
    assert_eq!((stats.rx_placed_bytes, stats.rx_direct_bytes), (300_000, 0));
    assert!(stats.rx_plans > 0);
    // Whoever does so itself expects it of others.
    let config = EpConfig { full_integrity: true, direct: Direct::Auto, ..EpConfig::default() };
    let (mut a, mut b, to_b) = two(config);
    assert_eq!(transfer(&mut a, &mut b, to_b, &[300_000]).rx_plans, 0);
}

#[test]
fn strangers_cannot_place_anything() {
    let (mut a, mut b, to_b) = two(forced());
    let message = pattern(1, 100_000);
    let mut buffer = vec![GUARD; 100_000];
    b.recv(ANY, &mut buffer, None, 1);
    a.send(to_b, &message, None, 2);
    a.domain.progress();
    b.domain.progress();
    let stranger = "10.0.0.9:9".parse().unwrap();
    for length in [0, 1, 39, 40, 53, 54, 55, 1472, 9000, 65_507] {
        b.inject(stranger, &pattern(length, length));
        b.domain.progress();
    }
    a.domain.progress();
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().length, 100_000);
    assert!(buffer == message);
    let stats = stats(&b);
    assert!(stats.rx_plans_wrong >= 5 && stats.rx_malformed >= 5 && stats.rx_direct_bytes > 0, "{stats:?}");
}

/// A message that was asked for, none of whose payload has arrived; and the first datagram of that, which was lost on its way.
fn first_lost(a: &mut Node, b: &mut Node, to_b: FiAddr, message: &[u8], buffer: &mut [u8]) -> Vec<u8> {
    b.recv(ANY, buffer, None, 1);
    a.send(to_b, message, None, 2);
    a.domain.progress();
    b.domain.progress();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (at, first) = (b.address, Rc::clone(&seen));
    b.lose(move |to, bytes| {
        if *to == at && bytes.len() > SEGMENT && first.borrow().is_empty() {
            first.borrow_mut().extend_from_slice(bytes);
        }
        *to == at
    });
    a.domain.progress();
    b.lose(|_, _| false);
    seen.take()
}

#[test]
fn what_the_transport_drops_is_not_placed() {
    let (mut a, mut b, to_b) = two(forced());
    let message = pattern(1, 100_000);
    let mut buffer = vec![GUARD; 100_000];
    // Forged by somebody who has seen all but the cookie.
    let mut forged = first_lost(&mut a, &mut b, to_b, &message, &mut buffer);
    forged[Plan::HEADER..].fill(0x66);
    forged[COOKIE] ^= 1;
    forged[INTEGRITY..INTEGRITY + 4].fill(0);
    let integrity = crc32c::crc32c(&forged[..Plan::HEADER]);
    forged[INTEGRITY..INTEGRITY + 4].copy_from_slice(&integrity.to_be_bytes());
    b.inject(a.address, &forged);
    b.domain.progress();
    let after = stats(&b);
    assert_eq!((after.rx_plans, after.rx_plans_wrong, after.rx_stale), (1, 0, 1), "it is what was guessed");
    assert_eq!((after.rx_placed_bytes, after.rx_direct_bytes), (0, 0));
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().length, 100_000);
    assert!(buffer == message);
}

#[test]
fn a_datagram_in_two_is_not_one() {
    let (mut a, mut b, to_b) = two(forced());
    let message = pattern(1, 100_000);
    let mut buffer = vec![GUARD; 100_000];
    let whole = first_lost(&mut a, &mut b, to_b, &message, &mut buffer);
    for half in whole.chunks(whole.len() / 2) {
        b.inject(a.address, half);
    }
    b.domain.progress();
    let after = stats(&b);
    assert_eq!((after.rx_plans_wrong, after.rx_malformed, after.rx_placed_bytes), (1, 2, 0), "{after:?}");
    settle(&mut [&mut a, &mut b]);
    assert_eq!(b.next().unwrap().unwrap().length, 100_000);
    assert!(buffer == message);
}

#[test]
fn wrong_guesses_become_rare() {
    let (mut a, mut b, to_b) = two(forced());
    let mut buffer = vec![GUARD; 100_000];
    let message = pattern(1, 100_000);
    b.recv(ANY, &mut buffer, Some((1, 0)), 1);
    a.send(to_b, &message, Some(1), 2);
    a.domain.progress();
    b.domain.progress();
    // Asked for and not answered: everything else that comes is not what was guessed.
    let stranger = "10.0.0.9:9".parse().unwrap();
    for _ in 0..1000 {
        b.inject(stranger, &[0; 2000]);
        b.domain.progress();
    }
    let stats = stats(&b);
    assert!((5..40).contains(&stats.rx_plans_wrong), "{stats:?}");
    settle(&mut [&mut a, &mut b]);
    assert!(buffer == message);
}

#[test]
fn a_peer_that_goes_in_mid_transfer_ends_it_and_nothing_is_written_after() {
    let (mut a, mut b, to_b) = two(forced());
    // More than a window.
    let mut buffer = vec![GUARD; 4 << 20];
    let message = pattern(1, 4 << 20);
    b.recv(ANY, &mut buffer, None, 1);
    a.send(to_b, &message, None, 2);
    for _ in 0..3 {
        a.domain.progress();
        b.domain.progress();
    }
    assert!(stats(&b).rx_direct_bytes > 0 && b.next().is_none());
    // What was sent is in the queue, and behind it the notice that the sender is gone.
    a.domain.progress();
    a.domain.ep_shutdown(a.ep);
    let ep = a.ep;
    drop(a.domain.ep_remove(ep));
    let mut failed = false;
    for _ in 0..100 {
        b.domain.progress();
        if let Some(ended) = b.next() {
            assert_eq!(ended.unwrap_err().completion.context, 1);
            failed = true;
            buffer.fill(GUARD);
        }
        b.time_passes(10);
    }
    assert!(failed && buffer.iter().all(|byte| *byte == GUARD));
}

#[test]
fn answers_to_reads_need_no_copy_either() {
    for length in [2 * SEGMENT, 100_000, 1 << 20] {
        let (mut a, mut b, to_b) = two(forced());
        // They know one another: packets of a first contact have longer headers.
        transfer(&mut a, &mut b, to_b, &[4]);
        let memory = pattern(3, length);
        let region =
            Region { slices: vec![slice(&memory)], access: Access::REMOTE_READ, virtual_addresses: false };
        a.domain.mr_open(region, Some(7)).unwrap();
        let to_a = b.knows(&a);
        let sink = vec![GUARD; length + 8];
        let remote = [
            RemoteSlice { key: 7, offset: 0, length: 1000 },
            RemoteSlice { key: 7, offset: 1000, length: length as u64 - 1000 },
        ];
        for remote in [&[RemoteSlice { key: 7, offset: 0, length: length as u64 }][..], &remote[..]] {
            let before = stats(&b);
            let slices = [slice(&sink).part(0, length)];
            let (kind, flags) = (RmaKind::Read, OpFlags::COMPLETION);
            let op =
                RmaOp { kind, destination: to_a, slices: &slices, remote, data: None, context: 1, flags };
            b.domain.rma(b.ep, &op).unwrap();
            settle(&mut [&mut a, &mut b]);
            assert_eq!(b.next().unwrap().unwrap().context, 1);
            assert!(sink[..length] == memory[..] && sink[length..] == [GUARD; 8]);
            let after = stats(&b);
            assert_eq!(after.rx_placed_bytes - before.rx_placed_bytes, length as u64);
            let direct = after.rx_direct_bytes - before.rx_direct_bytes;
            assert!(direct > 0 && (direct == length as u64 || remote.len() > 1), "{after:?}");
        }
    }
}
