//! Peers that something is awaited of, and that say nothing: those that vanished are noticed, those that compute are let be, and nothing is asked in vain.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;
/// Longest time until a killed process is noticed.
const NOTICED_S: u64 = 7;
/// Larger than what is sent without asking.
const LARGE: usize = 100_000;

fn two() -> (Node, Node, FiAddr, FiAddr) {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    // They know one another.
    let mut buffer = [0; 4];
    b.recv(ANY, &mut buffer, None, 0);
    a.send(to_b, b"word", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert!(a.next().is_some() && b.next().is_some());
    (a, b, to_b, to_a)
}

/// Time passes while these make progress.
fn pass(seconds: u64, nodes: &mut [&mut Node]) {
    for _ in 0..seconds * 100 {
        for node in nodes.iter_mut() {
            node.domain.progress();
        }
        nodes[0].time_passes(10_000);
    }
}

fn assert_fails(node: &mut Node, context: usize) {
    let failure = node.next().expect("the operation ends").expect_err("in an error");
    assert_eq!((failure.cause, failure.completion.context), (Cause::Refused, context));
    assert_eq!(failure.completion.source, FiAddr(0), "the user is told of whom");
    assert!(node.next().is_none());
}

fn notices(node: &mut Node) -> Vec<NoticeKind> {
    let local = node.address;
    std::iter::from_fn(|| node.domain.poll_notice())
        .map(|notice| {
            assert_eq!(notice.local, local);
            notice.kind
        })
        .collect()
}

/// From now on the DATA packets of `sender` are lost; its acknowledgements are not.
fn lose_data_to(node: &Node, receiver: &Node) {
    const KIND_DATA: u8 = 1;
    let address = receiver.address;
    node.lose(move |destination, bytes| *destination == address && bytes[0] & 0x0f == KIND_DATA);
}

/// Polls without a pause: a microsecond each.
fn poll(millis: u64, nodes: &mut [&mut Node]) {
    for _ in 0..millis * 1000 {
        for node in nodes.iter_mut() {
            node.domain.progress();
        }
        nodes[0].time_passes(1);
    }
}

/// Timers wait for the end of what has been received, which may be what they wait for. Here it never comes.
#[test]
fn what_is_lost_is_sent_again_however_much_comes_meanwhile() {
    let (mut a, mut b, to_b, _) = two();
    let mut buffer = [0; 4];
    b.recv(ANY, &mut buffer, None, 1);
    a.is_flooded();
    b.lose_nth(1);
    a.send(to_b, b"lost", None, 2);
    poll(300, &mut [&mut a, &mut b]);
    assert!(b.next().expect("it arrives").is_ok());
    assert!(a.next().expect("it is acknowledged").is_ok());
    assert_eq!(&buffer, b"lost");
}

#[test]
fn a_killed_process_is_noticed_however_much_comes_meanwhile() {
    let (mut a, b, to_b, _) = two();
    a.is_flooded();
    drop(b);
    a.send(to_b, b"word", None, 2);
    for _ in 0..NOTICED_S {
        poll(200, &mut [&mut a]);
        a.time_passes(800_000);
    }
    assert_fails(&mut a, 2);
}

/// One thread sleeps, another one posts: nothing is sent, so only the walk over those that are awaited will ever ask.
#[test]
fn a_receive_posted_while_another_thread_sleeps_is_watched() {
    let (mut a, mut b, to_b, _) = two();
    pass(3, &mut [&mut a, &mut b]);
    let now = a.domain.ep_datapath(a.ep).now();
    assert_eq!(a.domain.sleep(now), Sleep::Forever);
    let mut buffer = [0; 4];
    a.recv(to_b, &mut buffer, None, 1);
    assert!(matches!(a.domain.sleep(now), Sleep::For(time) if time.as_secs() <= 1));
}

#[test]
fn a_receive_directed_at_a_killed_process_fails() {
    let (mut a, b, to_b, _) = two();
    let (mut tagged, mut untagged, mut anybodys) = ([0; 4], [0; 4], [0; 4]);
    a.recv(to_b, &mut tagged, Some((1, 0)), 1);
    a.recv(ANY, &mut anybodys, Some((2, 0)), 3);
    drop(b);
    pass(NOTICED_S, &mut [&mut a]);
    assert_fails(&mut a, 1);
    // One that was posted long after anything was heard.
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let to_b = a.knows(&b);
    a.send(to_b, b"", None, 0);
    settle(&mut [&mut a, &mut b]);
    drop(b);
    pass(100, &mut [&mut a]);
    a.all();
    a.recv(to_b, &mut untagged, None, 2);
    pass(2, &mut [&mut a]);
    assert_fails(&mut a, 2);
}

#[test]
fn a_receive_directed_at_a_process_that_was_met_later_fails_when_it_is_killed() {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    let mut buffer = [0; 4];
    a.recv(to_b, &mut buffer, Some((1, 0)), 1);
    pass(3, &mut [&mut a]);
    b.send(to_a, b"else", Some(2), 0);
    pass(1, &mut [&mut a, &mut b]);
    drop(b);
    pass(NOTICED_S, &mut [&mut a]);
    assert_fails(&mut a, 1);
}

#[test]
fn a_message_announced_to_a_killed_process_fails() {
    let (mut a, mut b, to_b, _) = two();
    let message = pattern(1, LARGE);
    a.send(to_b, &message, None, 5);
    pass(1, &mut [&mut a, &mut b]);
    assert!(a.next().is_none(), "it waits for a grant");
    drop(b);
    pass(NOTICED_S, &mut [&mut a]);
    assert_fails(&mut a, 5);
}

#[test]
fn a_granted_message_of_a_killed_process_fails() {
    let (mut a, mut b, _, to_a) = two();
    let message = pattern(1, LARGE);
    let mut buffer = vec![0; LARGE];
    b.send(to_a, &message, None, 5);
    pass(1, &mut [&mut a, &mut b]);
    lose_data_to(&b, &a);
    a.recv(ANY, &mut buffer, None, 6);
    pass(1, &mut [&mut a, &mut b]);
    drop(b);
    pass(NOTICED_S, &mut [&mut a]);
    assert_fails(&mut a, 6);
}

#[test]
fn a_read_of_a_killed_process_fails() {
    let (mut a, mut b, to_b, _) = two();
    let (memory, target) = (pattern(1, 64), [0_u8; 64]);
    let region =
        Region { slices: vec![slice(&memory)], access: Access::REMOTE_READ, virtual_addresses: false };
    b.domain.mr_open(region, Some(7)).unwrap();
    lose_data_to(&b, &a);
    let (slices, remote) = ([slice(&target)], [RemoteSlice { key: 7, offset: 0, length: 64 }]);
    let op = RmaOp {
        kind: RmaKind::Read,
        destination: to_b,
        slices: &slices,
        remote: &remote,
        data: None,
        context: 8,
        flags: OpFlags::COMPLETION,
    };
    a.domain.rma(a.ep, &op).unwrap();
    pass(1, &mut [&mut a, &mut b]);
    assert!(a.next().is_none(), "it waits for the answer");
    drop(b);
    pass(NOTICED_S, &mut [&mut a]);
    assert_fails(&mut a, 8);
}

#[test]
fn a_peer_that_computes_for_ten_minutes_is_healthy() {
    let (mut a, mut b, to_b, to_a) = two();
    let message = pattern(1, LARGE);
    let mut buffer = [0; 4];
    a.send(to_b, &message, None, 5);
    pass(1, &mut [&mut a, &mut b]);
    a.recv(to_b, &mut buffer, None, 6);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    a.lose(move |_, _| {
        count.set(count.get() + 1);
        false
    });
    pass(600, &mut [&mut a]);
    assert!(a.all().is_empty());
    assert!((100..=121).contains(&asked.get()), "{} questions in ten minutes", asked.get());
    assert_eq!(notices(&mut a), [NoticeKind::Silent { peer: b.address, heard: true }]);
    // It is back.
    let mut received = vec![0; LARGE];
    b.recv(ANY, &mut received, None, 1);
    b.send(to_a, b"here", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.all().iter().filter(|entry| entry.is_ok()).count(), 2);
    assert_eq!((received, &buffer), (message, b"here"));
}

#[test]
fn a_receive_waits_for_a_silent_peer_however_long_and_a_send_until_the_peer_timeout() {
    let (mut a, _b, to_b, _) = two();
    let mut buffer = [0; 4];
    a.recv(to_b, &mut buffer, None, 6);
    pass(2000, &mut [&mut a]);
    assert!(a.all().is_empty());
    a.send(to_b, b"anybody?", None, 7);
    pass(895, &mut [&mut a]);
    assert!(a.all().is_empty());
    pass(20, &mut [&mut a]);
    let ended: Vec<_> = a.all().iter().map(|entry| entry.expect_err("in an error")).collect();
    assert_eq!(ended.iter().map(|failure| failure.completion.context).collect::<Vec<_>>(), [7, 6]);
    assert!(ended.iter().all(|failure| failure.cause == Cause::TimedOut));
}

#[test]
fn who_awaits_nothing_has_no_timer_and_sends_nothing() {
    let (mut a, mut b, _, to_a) = two();
    let mut buffer = [0; 4];
    // A receive from anybody waits, and so does a message that nobody wants yet.
    a.recv(ANY, &mut buffer, Some((1, 0)), 6);
    b.send(to_a, b"lone", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert!(b.next().is_some());
    pass(3, &mut [&mut a, &mut b]);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    a.lose(move |_, _| {
        count.set(count.get() + 1);
        false
    });
    for node in [&mut a, &mut b] {
        let now = node.domain.ep_datapath(node.ep).now();
        assert_eq!(node.domain.sleep(now), Sleep::Forever);
    }
    pass(100, &mut [&mut a, &mut b]);
    assert_eq!(asked.get(), 0);
}

#[test]
fn a_receive_directed_at_somebody_never_met_waits() {
    let net = net();
    let mut a = Node::new(&net, 1);
    let to_b = a.domain.av_insert(a.av, ([10, 0, 0, 1], 2).into());
    let mut buffer = [0; 4];
    a.recv(to_b, &mut buffer, None, 6);
    pass(100, &mut [&mut a]);
    assert!(a.all().is_empty());
    let mut b = Node::new(&net, 2);
    let to_a = b.knows(&a);
    b.send(to_a, b"late", None, 2);
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.next().unwrap().unwrap().context, 6);
}

#[test]
fn the_user_is_told_once_of_a_peer_never_heard() {
    let net = net();
    let (mut a, b) = (Node::new(&net, 1), Node::new(&net, 2));
    let to_b = a.knows(&b);
    a.lose(|_, _| true);
    a.send(to_b, b"word", None, 5);
    pass(9, &mut [&mut a]);
    assert_eq!(notices(&mut a), []);
    pass(5, &mut [&mut a]);
    assert_eq!(notices(&mut a), [NoticeKind::Silent { peer: b.address, heard: false }]);
    pass(100, &mut [&mut a]);
    assert_eq!(notices(&mut a), []);
}

#[test]
fn the_user_is_not_told_of_a_peer_that_nobody_waits_for() {
    let (mut a, _b, to_b, _) = two();
    a.send_with(to_b, b"word", None, None, 0, OpFlags::INJECT).unwrap();
    pass(100, &mut [&mut a]);
    assert_eq!(notices(&mut a), []);
}

#[test]
fn the_user_is_told_once_that_memory_is_full() {
    let net = net();
    let config = EpConfig { memory_ceiling: 1 << 20, ..EpConfig::default() };
    let mut a = Node::with(&net, 1, config, 1);
    let full = loop {
        let slices = [slice(&[])];
        let matching = Match { source: ANY, tag: None };
        let op = RecvOp { matching, slices: &slices, context: 0, flags: OpFlags::COMPLETION };
        if let Err(error) = a.domain.recv(a.ep, &op) {
            break error;
        }
    };
    assert_eq!(full, SubmitError::NoMemory);
    for expected in [&[NoticeKind::MemoryFull { ceiling: 1 << 20 }][..], &[]] {
        assert_eq!(a.send_with(ANY, b"", None, None, 0, OpFlags::COMPLETION), Err(SubmitError::BadAddress));
        a.domain.progress();
        assert_eq!(notices(&mut a), expected);
    }
}

#[test]
fn the_user_is_told_once_of_a_peer_of_another_version() {
    let (mut a, mut b, to_b, to_a) = two();
    let stranger: std::net::SocketAddr = ([10, 0, 0, 1], 9).into();
    // A first packet of version 2, as version 1 knows of it.
    let mut foreign = [0_u8; 104];
    (foreign[0], foreign[1]) = (0x21, 0x01);
    for (source, count, told) in [(b.address, 2, 0), (b.address, 2, 0), (stranger, 3, 1), (stranger, 9, 0)] {
        for _ in 0..count {
            a.inject(source, &foreign);
        }
        a.domain.progress();
        let expected = vec![NoticeKind::OtherVersion { source }; told];
        assert_eq!(notices(&mut a), expected, "{count} from {source}");
        // The peer speaks our version: the others were damaged.
        a.send(to_b, b"", None, 0);
        b.send(to_a, b"", None, 0);
        settle(&mut [&mut a, &mut b]);
    }
}
