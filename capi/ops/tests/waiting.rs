//! Waiting through the tables: blocking reads, signals, `fi_trywait` with poll(2). No test depends on how long anything takes: what must happen is waited for
//! without an end, and what must not happen is made impossible by order.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ptr::{null, null_mut};
use std::sync::mpsc;

use common::{Node, World, call, context, fid_call};
use rdgram_sys as sys;

const ANY: u64 = sys::FI_ADDR_UNSPEC;
const AGAIN: isize = -(sys::FI_EAGAIN as isize);

/// `fi_cq_sread` of one entry.
fn sread(node: &Node, timeout: i32) -> Result<usize, isize> {
    let mut entry: sys::fi_cq_tagged_entry = unsafe { core::mem::zeroed() };
    match call!(node.cq, ops.sread((&raw mut entry).cast(), 1, null(), timeout)) {
        1 => Ok(entry.op_context.addr()),
        other => Err(other),
    }
}

/// Two worlds: nobody but the endpoint itself makes its progress.
fn two_worlds() -> ([World; 2], [*mut sys::fid_av; 2], [Node; 2], [u64; 2]) {
    let worlds = [(), ()].map(|()| World::new(sys::FI_THREAD_SAFE));
    let avs = [worlds[0].av(), worlds[1].av()];
    let nodes = [0, 1].map(|index: usize| worlds[index].node(avs[index], 0, sys::FI_WAIT_FD));
    let to = [
        common::av_insert(avs[0], &common::name(nodes[1].ep)),
        common::av_insert(avs[1], &common::name(nodes[0].ep)),
    ];
    (worlds, avs, nodes, to)
}

fn close_all(worlds: [World; 2], avs: [*mut sys::fid_av; 2], nodes: [Node; 2]) {
    // The peer answers the linger of the one that closes first.
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(move || node.close());
        }
    });
    for av in avs {
        assert_eq!(common::close(av), 0);
    }
    for world in worlds {
        world.close();
    }
}

#[test]
fn a_blocked_read_wakes_by_datagrams_again_and_again() {
    let (worlds, avs, [a, b], [to_b, to_a]) = two_worlds();
    const ROUNDS: usize = 200;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut got = [0_u8; 8];
            for round in 0..ROUNDS {
                assert_eq!(b.recv(&mut got, ANY, round), 0);
                assert_eq!(sread(&b, -1), Ok(round));
                assert_eq!(call!(b.ep, msg.inject(got.as_ptr().cast(), 8, to_a)), 0);
            }
        });
        let mut got = [0_u8; 8];
        for round in 0..ROUNDS {
            let sent = (round as u64).to_ne_bytes();
            assert_eq!(a.recv(&mut got, ANY, round), 0);
            assert_eq!(call!(a.ep, msg.inject(sent.as_ptr().cast(), 8, to_b)), 0);
            assert_eq!(sread(&a, -1), Ok(round));
            assert_eq!(got, sent);
        }
    });
    close_all(worlds, avs, [a, b]);
}

#[test]
fn large_transfers_complete_while_both_sides_only_block() {
    let (worlds, avs, [a, b], [to_b, _]) = two_worlds();
    let sent = common::pattern(8 << 20, 3);
    let mut got = vec![0; 8 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(b.recv(&mut got, ANY, 1), 0);
            assert_eq!(sread(&b, -1), Ok(1));
        });
        assert_eq!(a.send(&sent, to_b, 2), 0);
        assert_eq!(sread(&a, -1), Ok(2));
    });
    assert!(got == sent);
    close_all(worlds, avs, [a, b]);
}

#[test]
fn a_blocked_read_wakes_by_another_thread_s_operation() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let [a, b] = [(), ()].map(|()| world.node(av, 0, sys::FI_WAIT_FD));
    for round in 0..100 {
        let mut got = [0_u8; 8];
        assert_eq!(b.recv(&mut got, ANY, round), 0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| sread(&b, -1));
            // To oneself in one half of the rounds, from the neighbour in the other.
            let from = if round % 2 == 0 { b } else { a };
            assert_eq!(call!(from.ep, msg.inject(c"12345678".as_ptr().cast(), 8, b.address)), 0);
            assert_eq!(waiter.join().expect("no panic"), Ok(round));
        });
        assert_eq!(&got, b"12345678");
    }
    a.close();
    b.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

#[test]
fn every_one_of_several_blocked_readers_gets_its_entry() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let [a, b] = [(), ()].map(|()| world.node(av, 0, sys::FI_WAIT_FD));
    const READERS: usize = 4;
    for _ in 0..50 {
        let mut got = [[0_u8; 1]; READERS];
        for (number, buffer) in got.iter_mut().enumerate() {
            assert_eq!(b.recv(buffer, ANY, number), 0);
        }
        std::thread::scope(|scope| {
            let readers = [(); READERS].map(|()| scope.spawn(|| sread(&b, -1)));
            for _ in 0..READERS {
                assert_eq!(call!(a.ep, msg.inject(c"x".as_ptr().cast(), 1, b.address)), 0);
            }
            let mut seen = readers.map(|reader| reader.join().expect("no panic").expect("an entry"));
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3]);
        });
    }
    a.close();
    b.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

#[test]
fn timeouts_and_signals_end_a_blocked_read() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_FD);
    assert_eq!(sread(&node, 0), Err(AGAIN));
    assert_eq!(sread(&node, 30), Err(AGAIN));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| sread(&node, -1));
        assert_eq!(call!(node.cq, ops.signal()), 0);
        assert_eq!(waiter.join().expect("no panic"), Err(AGAIN));
    });
    // One given before the read counts too, once.
    assert_eq!(call!(node.cq, ops.signal()), 0);
    assert_eq!(sread(&node, -1), Err(AGAIN));
    let mut got = [0_u8; 1];
    assert_eq!(node.recv(&mut got, ANY, 7), 0);
    assert_eq!(node.send(b"x", node.address, 8), 0);
    let mut seen = [sread(&node, -1), sread(&node, -1)].map(|entry| entry.expect("an entry"));
    seen.sort_unstable();
    assert_eq!(seen, [7, 8]);
    node.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

#[test]
fn an_error_entry_ends_a_blocked_read() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_UNSPEC);
    let mut got = [0_u8; 1];
    assert_eq!(node.recv(&mut got, ANY, 7), 0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| sread(&node, -1));
        let cancel = unsafe { (*(*node.ep).ops).cancel.expect("filled") };
        assert_eq!(unsafe { cancel(node.ep.cast(), context(7)) }, 0);
        assert_eq!(waiter.join().expect("no panic"), Err(-(sys::FI_EAVAIL as isize)));
    });
    assert_eq!(node.read_error().base.err, sys::FI_ECANCELED);
    node.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

#[test]
fn a_blocked_sender_learns_that_nobody_is_there() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_FD);
    // A port that was bound a moment ago and is not any more.
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let mut name = common::name(node.ep);
    name[2..4].copy_from_slice(&gone.port().to_be_bytes());
    let to = common::av_insert(av, &name);
    let bytes = [0_u8; 4096];
    assert_eq!(node.send(&bytes, to, 5), 0);
    assert_eq!(sread(&node, -1), Err(-(sys::FI_EAVAIL as isize)));
    let error = node.read_error().base;
    assert_eq!((error.err, error.op_context), (sys::FI_ECONNREFUSED, context(5)));
    node.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

/// `fi_trywait`, then poll(2), then read: as event loops do it.
fn poll_and_read(world: &World, node: &Node) -> usize {
    let mut fd = -1;
    assert_eq!(fid_call!(node.cq, control(sys::FI_GETWAIT as i32, (&raw mut fd).cast())), 0);
    loop {
        match node.read() {
            Ok(Some((entry, _))) => return entry.op_context.addr(),
            Ok(None) => {}
            Err(error) => panic!("cq_read: {error}"),
        }
        let mut fids = [node.cq.cast::<sys::fid>()];
        match call!(world.fabric, ops.trywait(fids.as_mut_ptr(), 1)) {
            0 => {
                let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                assert_eq!(unsafe { libc::poll(&mut poll, 1, -1) }, 1);
            }
            result => assert_eq!(result, -sys::FI_EAGAIN),
        }
    }
}

#[test]
fn event_loops_never_miss_and_never_stay_readable() {
    let (worlds, avs, [a, b], [to_b, to_a]) = two_worlds();
    const ROUNDS: usize = 200;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut got = [0_u8; 8];
            for round in 0..ROUNDS {
                assert_eq!(b.recv(&mut got, ANY, round), 0);
                assert_eq!(poll_and_read(&worlds[1], &b), round);
                assert_eq!(call!(b.ep, msg.inject(got.as_ptr().cast(), 8, to_a)), 0);
            }
        });
        let mut got = [0_u8; 8];
        for round in 0..ROUNDS {
            assert_eq!(a.recv(&mut got, ANY, round), 0);
            assert_eq!(call!(a.ep, msg.inject(c"12345678".as_ptr().cast(), 8, to_b)), 0);
            assert_eq!(poll_and_read(&worlds[0], &a), round);
        }
    });
    close_all(worlds, avs, [a, b]);
}

#[test]
fn wait_objects_are_told() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    for (asked, told) in [
        (sys::FI_WAIT_NONE, sys::FI_WAIT_NONE),
        (sys::FI_WAIT_UNSPEC, sys::FI_WAIT_FD),
        (sys::FI_WAIT_FD, sys::FI_WAIT_FD),
        (sys::FI_WAIT_YIELD, sys::FI_WAIT_YIELD),
        (sys::FI_WAIT_POLLFD, sys::FI_WAIT_POLLFD),
    ] {
        let cq = world.cq(sys::FI_CQ_FORMAT_MSG, asked);
        let mut object = u32::MAX;
        assert_eq!(fid_call!(cq, control(sys::FI_GETWAITOBJ as i32, (&raw mut object).cast())), 0);
        assert_eq!(object, told);
        assert_eq!(common::close(cq), 0);
    }
    let cq = world.cq(sys::FI_CQ_FORMAT_MSG, sys::FI_WAIT_NONE);
    assert_eq!(call!(cq, ops.sread(null_mut(), 1, null(), 0)), -(sys::FI_ENOSYS as isize));
    let mut fids = [cq.cast::<sys::fid>()];
    assert_eq!(call!(world.fabric, ops.trywait(fids.as_mut_ptr(), 1)), -sys::FI_EINVAL);
    assert_eq!(common::close(cq), 0);

    let cq = world.cq(sys::FI_CQ_FORMAT_MSG, sys::FI_WAIT_POLLFD);
    let mut fd = libc::pollfd { fd: -1, events: 0, revents: 0 };
    let mut wait = sys::fi_wait_pollfd { change_index: 0, nfds: 0, fd: &mut fd };
    let get = |wait: &mut sys::fi_wait_pollfd| {
        fid_call!(cq, control(sys::FI_GETWAIT as i32, core::ptr::from_mut(wait).cast()))
    };
    assert_eq!((get(&mut wait), wait.nfds), (-sys::FI_ETOOSMALL, 1));
    assert_eq!(get(&mut wait), 0);
    assert!(fd.fd >= 0 && fd.events == libc::POLLIN);
    assert_eq!(common::close(cq), 0);
    world.close();
}

#[test]
fn a_counter_s_descriptor_follows_its_value() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let cntr = counter(&world);
    let fd = descriptor(cntr);
    assert_eq!(trywait(&world, cntr), 0);
    assert!(!readable(fd));
    assert_eq!(call!(cntr, ops.add(1)), 0);
    assert!(readable(fd));
    assert_eq!(trywait(&world, cntr), -sys::FI_EAGAIN, "not read yet");
    assert_eq!(call!(cntr, ops.read()), 1);
    assert_eq!(trywait(&world, cntr), 0);
    assert!(!readable(fd));
    assert_eq!(common::close(cntr), 0);
    world.close();
}

/// A counter with FI_WAIT_FD.
fn counter(world: &World) -> *mut sys::fid_cntr {
    let mut attr: sys::abi::CntrAttr = unsafe { core::mem::zeroed() };
    attr.base.wait_obj = sys::FI_WAIT_FD;
    let mut cntr = null_mut();
    assert_eq!(call!(world.domain, ops.cntr_open(&mut attr.base, &mut cntr, null_mut())), 0);
    cntr
}

/// The descriptor of a queue or a counter.
fn descriptor<T>(object: *mut T) -> i32 {
    let mut fd = -1;
    assert_eq!(fid_call!(object, control(sys::FI_GETWAIT as i32, (&raw mut fd).cast())), 0);
    fd
}

fn trywait<T>(world: &World, object: *mut T) -> i32 {
    let mut fids = [object.cast::<sys::fid>()];
    call!(world.fabric, ops.trywait(fids.as_mut_ptr(), 1))
}

fn readable(fd: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// A pointer that threads of a test may share.
struct Shared<T>(*mut T);
unsafe impl<T> Send for Shared<T> {}
unsafe impl<T> Sync for Shared<T> {}

/// Runs `blocking` on a thread of its own; returns when that thread sleeps in poll(2), and hears there what it returned.
fn blocked<'scope, R: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    blocking: impl FnOnce() -> R + Send + 'scope,
) -> std::thread::ScopedJoinHandle<'scope, R> {
    let (tell, hear) = mpsc::channel();
    let handle = scope.spawn(move || {
        tell.send(unsafe { libc::gettid() }).expect("is heard");
        blocking()
    });
    let task = hear.recv().expect("is told");
    let ppoll = format!("{} ", libc::SYS_ppoll);
    // The only place where these threads call it is the one that is meant.
    while !std::fs::read_to_string(format!("/proc/self/task/{task}/syscall"))
        .is_ok_and(|call| call.starts_with(&ppoll))
    {
        std::thread::yield_now();
    }
    handle
}

#[test]
fn every_thread_that_waits_for_a_counter_looks_at_its_change() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let cntr = Shared(counter(&world));
    let cntr = &cntr;
    let wait = |threshold| move || call!(cntr.0, ops.wait(threshold, -1));
    std::thread::scope(|scope| {
        // The one whose goal is far sees each change too, and must not take it from the others.
        let far = blocked(scope, wait(1000));
        for goal in 1..=100 {
            let near = blocked(scope, wait(goal));
            assert_eq!(call!(cntr.0, ops.add(1)), 0);
            assert_eq!(near.join().expect("no panic"), 0);
        }
        assert_eq!(call!(cntr.0, ops.set(1000)), 0);
        assert_eq!(far.join().expect("no panic"), 0);
    });
    assert_eq!(common::close(cntr.0), 0);
    world.close();
}

#[test]
fn an_error_ends_every_wait_for_a_counter() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let cntr = Shared(counter(&world));
    let cntr = &cntr;
    std::thread::scope(|scope| {
        let waiters = [5, 6, 7].map(|goal| blocked(scope, move || call!(cntr.0, ops.wait(goal, -1))));
        assert_eq!(call!(cntr.0, ops.adderr(1)), 0);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), -sys::FI_EAVAIL);
        }
    });
    assert_eq!(call!(cntr.0, ops.wait(5, 0)), -sys::FI_ETIMEDOUT, "an error of before the call");
    assert_eq!(common::close(cntr.0), 0);
    world.close();
}

#[test]
fn what_was_not_read_of_a_counter_is_pending() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let cntr = counter(&world);
    assert_eq!(trywait(&world, cntr), 0);
    assert_eq!(call!(cntr, ops.read()), 0);
    // Between the reads of its two values.
    assert_eq!(call!(cntr, ops.add(1)), 0);
    assert_eq!(call!(cntr, ops.readerr()), 0);
    assert_eq!(trywait(&world, cntr), -sys::FI_EAGAIN);
    assert_eq!(call!(cntr, ops.adderr(1)), 0);
    assert_eq!(call!(cntr, ops.read()), 1);
    assert_eq!(trywait(&world, cntr), -sys::FI_EAGAIN);
    assert_eq!(call!(cntr, ops.readerr()), 1);
    assert_eq!(trywait(&world, cntr), 0);
    assert_eq!(common::close(cntr), 0);
    world.close();
}

#[test]
fn a_signal_ends_every_blocked_read() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_FD);
    std::thread::scope(|scope| {
        let readers = [(); 3].map(|()| blocked(scope, || sread(&node, -1)));
        assert_eq!(call!(node.cq, ops.signal()), 0);
        for reader in readers {
            assert_eq!(reader.join().expect("no panic"), Err(AGAIN));
        }
    });
    assert_eq!(sread(&node, 0), Err(AGAIN), "nothing is left of the signal");
    node.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

/// A blocking read must not clear what a descriptor says to somebody who polls it.
#[test]
fn a_blocking_read_leaves_the_descriptor_of_others_readable() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_FD);
    let fd = descriptor(node.cq);
    assert_eq!(trywait(&world, node.cq), 0);
    assert!(!readable(fd));
    let mut got = [0_u8; 1];
    assert_eq!(node.recv(&mut got, ANY, 7), 0);
    assert_eq!(node.send(b"x", node.address, 8), 0);
    assert!(sread(&node, -1).is_ok());
    assert!(readable(fd), "the second entry is still there");
    assert_eq!(trywait(&world, node.cq), -sys::FI_EAGAIN);
    assert!(readable(fd), "for whoever else polls it");
    assert!(sread(&node, -1).is_ok());
    assert_eq!(trywait(&world, node.cq), 0);
    assert!(!readable(fd));
    node.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

/// Somebody polls the descriptor while another thread blocks: both hear of each entry, in any order of arrival.
#[test]
fn a_poller_and_a_blocked_reader_share_a_queue() {
    let (worlds, avs, [a, b], [to_b, _]) = two_worlds();
    const EACH: usize = 500;
    let mut got = vec![[0_u8; 1]; 2 * EACH];
    for (number, buffer) in got.iter_mut().enumerate() {
        assert_eq!(b.recv(buffer, ANY, number), 0);
    }
    std::thread::scope(|scope| {
        let polling = scope.spawn(|| (0..EACH).map(|_| poll_and_read(&worlds[1], &b)).collect::<Vec<_>>());
        let blocking =
            scope.spawn(|| (0..EACH).map(|_| sread(&b, -1).expect("an entry")).collect::<Vec<_>>());
        for _ in 0..2 * EACH {
            assert_eq!(call!(a.ep, msg.inject(c"x".as_ptr().cast(), 1, to_b)), 0);
        }
        while !polling.is_finished() || !blocking.is_finished() {
            common::progress(a.cq);
        }
        let mut seen = polling.join().expect("no panic");
        seen.extend(blocking.join().expect("no panic"));
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..2 * EACH));
    });
    close_all(worlds, avs, [a, b]);
}
