//! Poll sets through the tables: what is reported, and what a set keeps open.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

use common::{World, call, close, context, fid_call};
use rdgram_sys as sys;

const ANY: u64 = sys::FI_ADDR_UNSPEC;
/// Contexts by which the members are told apart.
const QUEUE: usize = 0x51;
const COUNTER: usize = 0xC0;

fn open(world: &World) -> *mut sys::fid_poll {
    let mut attr = sys::fi_poll_attr { flags: 0 };
    let mut set = null_mut();
    assert_eq!(call!(world.domain, ops.poll_open(&mut attr, &mut set)), 0, "poll_open");
    set
}

/// The contexts that a poll with room for `room` reports.
fn poll(set: *mut sys::fid_poll, room: c_int) -> Vec<usize> {
    let mut contexts = [null_mut::<c_void>(); 4];
    let found = call!(set, ops.poll(contexts.as_mut_ptr(), room));
    let found = usize::try_from(found).unwrap_or_else(|_| panic!("poll: {found}"));
    contexts[..found].iter().map(|context| context.addr()).collect()
}

fn add<T>(set: *mut sys::fid_poll, member: *mut T, number: usize) {
    unsafe { (*member.cast::<sys::fid>()).context = context(number) };
    assert_eq!(call!(set, ops.poll_add(member.cast(), 0)), 0, "poll_add");
}

#[test]
fn queues_are_reported_while_they_hold_something_and_counters_when_they_changed() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let (av, cntr, set) = (world.av(), world.cntr(), open(&world));
    let ep = world.ep();
    let cq = world.cq(sys::FI_CQ_FORMAT_TAGGED, sys::FI_WAIT_NONE);
    assert_eq!(fid_call!(ep, bind(cntr.cast(), sys::FI_RECV)), 0);
    assert_eq!(fid_call!(ep, bind(cq.cast(), sys::FI_TRANSMIT | sys::FI_RECV)), 0);
    assert_eq!(fid_call!(ep, bind(av.cast(), 0)), 0);
    assert_eq!(common::enable(ep), 0);
    let node = common::Node { ep, cq, address: common::av_insert(av, &common::name(ep)) };
    add(set, cq, QUEUE);
    add(set, cntr, COUNTER);
    add(set, cq, QUEUE);
    assert_eq!(poll(set, 4), [0_usize; 0]);

    let mut byte = [0_u8];
    assert_eq!(node.recv(&mut byte, ANY, 1), 0);
    assert_eq!(node.send(b"x", node.address, 2), 0);
    let mut reported = poll(set, 4);
    while !reported.contains(&COUNTER) {
        reported = poll(set, 4);
    }
    assert_eq!(reported, [QUEUE, COUNTER], "each once, although one was added twice");
    assert_eq!(poll(set, 4), [QUEUE], "the counter was reported");
    for _ in 0..2 {
        node.wait(&[]);
    }
    assert_eq!(poll(set, 4), [0_usize; 0], "the queue was read");

    assert_eq!(close(cq), -sys::FI_EBUSY);
    assert_eq!(close(ep), 0);
    assert_eq!(close(cq), -sys::FI_EBUSY, "the set has it");
    assert_eq!(call!(set, ops.poll_del(cq.cast(), 0)), 0);
    assert_eq!(call!(set, ops.poll_del(cq.cast(), 0)), -sys::FI_EINVAL, "no member any more");
    assert_eq!(close(cq), 0);
    assert_eq!(close(cntr), -sys::FI_EBUSY);
    assert_eq!(close(set), 0);
    assert_eq!(close(cntr), 0, "the set's members are released with it");
    assert_eq!(close(av), 0);
    world.close();
}

#[test]
fn a_counter_that_is_back_at_its_old_value_has_changed() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    let (cntr, set) = (world.cntr(), open(&world));
    assert_eq!(call!(cntr, ops.add(3)), 0);
    add(set, cntr, COUNTER);
    assert_eq!(poll(set, 1), [0_usize; 0], "as it was when it was added");
    assert_eq!(call!(cntr, ops.set(0)), 0);
    assert_eq!(call!(cntr, ops.add(3)), 0);
    assert_eq!(poll(set, 0), [0_usize; 0], "no room");
    assert_eq!(poll(set, 1), [COUNTER]);
    assert_eq!(call!(cntr, ops.adderr(1)), 0);
    assert_eq!(poll(set, 1), [COUNTER], "errors count");
    assert_eq!(close(set), 0);
    assert_eq!(close(cntr), 0);
    world.close();
}

#[test]
fn only_queues_and_counters_of_the_same_domain_are_members() {
    let (world, other) = (World::new(sys::FI_THREAD_SAFE), World::new(sys::FI_THREAD_SAFE));
    let (set, av) = (open(&world), world.av());
    let (cq, cntr) = (other.cq(sys::FI_CQ_FORMAT_MSG, sys::FI_WAIT_NONE), other.cntr());
    let add = |member: *mut sys::fid, flags| call!(set, ops.poll_add(member, flags));
    assert_eq!(add(cq.cast(), 0), -sys::FI_EDOMAIN);
    assert_eq!(add(cntr.cast(), 0), -sys::FI_EDOMAIN);
    assert_eq!(add(av.cast(), 0), -sys::FI_EINVAL);
    assert_eq!(add(null_mut(), 0), -sys::FI_EINVAL);
    assert_eq!(add(cq.cast(), 1), -sys::FI_EBADFLAGS);
    assert_eq!(call!(set, ops.poll(null_mut(), 1)), -sys::FI_EINVAL);
    assert_eq!(call!(set, ops.poll(null_mut(), -1)), -sys::FI_EINVAL);
    assert_eq!(close(world.domain), -sys::FI_EBUSY);
    let mut refused = null_mut();
    let mut attr = sys::fi_poll_attr { flags: 1 };
    assert_eq!(call!(world.domain, ops.poll_open(&mut attr, &mut refused)), -sys::FI_EINVAL);
    for fid in [set.cast::<sys::fid>(), av.cast(), cq.cast(), cntr.cast()] {
        assert_eq!(close(fid), 0);
    }
    world.close();
    other.close();
}
