//! One-sided operations through the tables: every call of rma and atomic, regions and their counters, refusals, orders; with either flavour of lock.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ffi::c_void;
use core::ptr::null_mut;

use common::{API, Node, World, call, context, fid_call, pattern};
use rdgram_sys as sys;

const CAPS: u64 = sys::FI_MSG | sys::FI_RMA | sys::FI_ATOMIC;
const BOTH: u64 = sys::FI_REMOTE_READ | sys::FI_REMOTE_WRITE;
/// The top bit is MPICH's.
const KEY: u64 = 0x8000_0000_0000_0007;

/// Far more rounds of progress than anything here takes.
const TURNS_MAX: usize = 10_000_000;

/// Two endpoints of one domain, and the domain.
struct Pair {
    world: World,
    a: Node,
    b: Node,
}

fn with_pair(test: impl Fn(&Pair)) {
    for threading in [sys::FI_THREAD_DOMAIN, sys::FI_THREAD_SAFE] {
        let world = World::with(API, c"127.0.0.1", CAPS, threading);
        let av = world.av();
        let [a, b] = [(), ()].map(|()| world.node(av, 0, sys::FI_WAIT_NONE));
        let pair = Pair { world, a, b };
        test(&pair);
        pair.a.close();
        pair.b.close();
        assert_eq!(common::close(av), 0, "close av");
        pair.world.close();
    }
}

impl Pair {
    fn region<T>(&self, memory: &mut [T], access: u64, key: u64) -> *mut sys::fid_mr {
        let mut region = null_mut();
        let (start, length) = (memory.as_mut_ptr().cast(), size_of_val(memory));
        let slot = unsafe { (*(*self.world.domain).mr).reg.expect("filled") };
        let domain = self.world.domain.cast();
        let result = unsafe { slot(domain, start, length, access, 0, key, 0, &mut region, null_mut()) };
        assert_eq!(result, 0, "mr_reg");
        region
    }

    /// The next completion of `a` is of this operation.
    fn done(&self, number: usize, flags: u64) {
        let (entry, _) = self.a.wait(&[self.b]);
        assert_eq!((entry.op_context, entry.flags), (context(number), flags));
    }

    /// Takes entries of `a` until something holds.
    fn until_read(&self, what: &str, holds: impl Fn() -> bool) {
        self.until(what, || {
            let _entry = self.a.read();
            holds()
        });
    }

    /// Progresses until something holds.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..TURNS_MAX {
            if holds() {
                return;
            }
            common::progress(self.a.cq);
            common::progress(self.b.cq);
        }
        panic!("{what}");
    }
}

fn ep(node: Node) -> *mut sys::fid_ep {
    node.ep
}

fn start<T>(slice: &[T]) -> *const c_void {
    slice.as_ptr().cast()
}

fn room<T>(slice: &mut [T]) -> *mut c_void {
    slice.as_mut_ptr().cast()
}

const WRITTEN: u64 = sys::FI_RMA | sys::FI_WRITE;
const READ: u64 = sys::FI_RMA | sys::FI_READ;

/// Where the calls with lists write to and read from: two places of the region, 40 bytes in all.
const PLACES: [(usize, usize); 2] = [(2, 30), (50, 10)];

fn places() -> [sys::fi_rma_iov; 2] {
    PLACES.map(|(addr, len)| sys::fi_rma_iov { addr: addr as u64, len, key: KEY })
}

fn piece(part: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
}

/// For `fi_writemsg` and `fi_readmsg`; operation 6, with data 77.
fn rma_msg(local: &[libc::iovec; 2], remote: &[sys::fi_rma_iov; 2], to: sys::fi_addr_t) -> sys::fi_msg_rma {
    sys::fi_msg_rma {
        msg_iov: local.as_ptr(),
        desc: null_mut(),
        iov_count: 2,
        addr: to,
        rma_iov: remote.as_ptr(),
        rma_iov_count: 2,
        context: context(6),
        data: 77,
    }
}

#[test]
fn every_call_that_writes_works() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = vec![0_u8; 64];
        let region = pair.region(&mut memory, BOTH, KEY);
        let bytes = pattern(40, 3);
        let (head, tail) = bytes.split_at(7);
        let (out, remote) = ([head, tail].map(piece), places());
        let msg = rma_msg(&out, &remote, to);
        let check = |at: &[(usize, usize)]| {
            let parts = at.iter().flat_map(|&(from, length)| memory[from..][..length].to_vec());
            assert_eq!(parts.collect::<Vec<u8>>(), bytes);
            let written = memory.iter().filter(|byte| **byte != 0).count();
            assert!(written <= 40, "bytes outside of the target changed");
            unsafe { memory.as_ptr().cast_mut().write_bytes(0, 64) };
        };
        let told = |data: Option<u64>| {
            let (entry, source) = pair.b.wait(&[pair.a]);
            let flags = sys::FI_RMA | sys::FI_REMOTE_WRITE | sys::FI_REMOTE_CQ_DATA;
            assert_eq!((entry.flags, Some(entry.data), entry.op_context), (flags, data, null_mut()));
            assert_eq!((entry.len, source), (40, u64::MAX), "without FI_SOURCE nobody is named");
        };
        assert_eq!(call!(a, rma.write(start(&bytes), 40, null_mut(), to, 24, KEY, context(1))), 0);
        pair.done(1, WRITTEN);
        check(&[(24, 40)]);
        assert_eq!(call!(a, rma.writev(out.as_ptr(), null_mut(), 2, to, 0, KEY, context(2))), 0);
        pair.done(2, WRITTEN);
        check(&[(0, 40)]);
        assert_eq!(call!(a, rma.writedata(start(&bytes), 40, null_mut(), 5, to, 1, KEY, context(3))), 0);
        told(Some(5));
        pair.done(3, WRITTEN);
        check(&[(1, 40)]);
        assert_eq!(call!(a, rma.injectdata(start(&bytes), 40, 6, to, 2, KEY)), 0);
        told(Some(6));
        check(&[(2, 40)]);
        assert_eq!(call!(a, rma.inject(start(&bytes), 40, to, 3, KEY)), 0);
        pair.until("an injected write arrives", || memory[42] == bytes[39]);
        check(&[(3, 40)]);
        assert_eq!(call!(a, rma.writemsg(&msg, sys::FI_DELIVERY_COMPLETE)), 0);
        pair.done(6, WRITTEN);
        check(&PLACES);
        assert_eq!(call!(a, rma.writemsg(&msg, sys::FI_REMOTE_CQ_DATA)), 0);
        told(Some(77));
        pair.done(6, WRITTEN);
        check(&PLACES);
        assert_eq!(common::close(region), 0);
    });
}

#[test]
fn every_call_that_reads_works() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = pattern(64, 5);
        let region = pair.region(&mut memory, BOTH, KEY);
        let mut back = vec![0_u8; 40];
        let (left, right) = back.split_at(11);
        let (into, remote) = ([left, right].map(piece), places());
        assert_eq!(call!(a, rma.readmsg(&rma_msg(&into, &remote, to), 0)), 0);
        pair.done(6, READ);
        assert_eq!(back, [&memory[2..32], &memory[50..60]].concat());
        assert_eq!(call!(a, rma.readv(into.as_ptr(), null_mut(), 2, to, 24, KEY, context(7))), 0);
        pair.done(7, READ);
        assert_eq!(back, memory[24..]);
        assert_eq!(call!(a, rma.read(room(&mut back), 40, null_mut(), to, 3, KEY, context(8))), 0);
        pair.done(8, READ);
        assert_eq!(back, memory[3..43]);
        assert_eq!(common::close(region), 0);
    });
}

#[test]
fn what_a_target_refuses_is_an_error_entry() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = vec![0_u8; 100];
        let read_only = pair.region(&mut memory, sys::FI_REMOTE_READ, 1);
        let write_only = pair.region(&mut memory, sys::FI_REMOTE_WRITE, 2);
        let mut local = vec![1_u8; 100];
        let refusals = [
            (false, 0, 9, sys::FI_ENOKEY),
            (false, 0, 1, sys::FI_EACCES),
            (true, 0, 2, sys::FI_EACCES),
            (false, 1, 2, sys::FI_EACCES),
            (true, u64::MAX, 1, sys::FI_EACCES),
        ];
        for (reads, offset, key, expected) in refusals {
            let result = if reads {
                call!(a, rma.read(room(&mut local), 100, null_mut(), to, offset, key, context(4)))
            } else {
                call!(a, rma.write(start(&local), 100, null_mut(), to, offset, key, context(4)))
            };
            assert_eq!(result, 0);
            let error = pair.a.wait_error(&[pair.b]).base;
            assert_eq!((error.err, error.op_context), (expected, context(4)));
            assert_eq!(error.flags, if reads { READ } else { WRITTEN });
        }
        let mut old = [0_u64];
        let fetch = call!(
            a,
            atomic.readwrite(
                start(&[1_u64]),
                1,
                null_mut(),
                room(&mut old),
                null_mut(),
                to,
                0,
                2,
                sys::FI_UINT64,
                sys::FI_SUM,
                context(5)
            )
        );
        assert_eq!(fetch, 0);
        let error = pair.a.wait_error(&[pair.b]).base;
        assert_eq!((error.err, error.flags), (sys::FI_EACCES, sys::FI_ATOMIC | sys::FI_READ));
        assert!(memory.iter().all(|byte| *byte == 0), "a refused operation touches nothing");
        assert_eq!(common::close(read_only), 0);
        assert_eq!(common::close(write_only), 0);
    });
}

#[test]
fn what_cannot_be_asked_is_refused_at_once() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let bytes = vec![0_u8; 5000];
        let mut iov = [libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 8 }; 33];
        let remote = [sys::fi_rma_iov { addr: 0, len: 9, key: KEY }];
        let msg = sys::fi_msg_rma {
            msg_iov: iov.as_mut_ptr(),
            desc: null_mut(),
            iov_count: 1,
            addr: to,
            rma_iov: remote.as_ptr(),
            rma_iov_count: 1,
            context: null_mut(),
            data: 0,
        };
        let invalid = -(sys::FI_EINVAL as isize);
        assert_eq!(call!(a, rma.writemsg(&msg, 0)), invalid, "9 bytes there, 8 here");
        assert_eq!(call!(a, rma.writemsg(core::ptr::null(), 0)), invalid);
        let none = sys::fi_msg_rma { rma_iov_count: 0, ..msg };
        assert_eq!(call!(a, rma.readmsg(&none, 0)), invalid);
        let many = sys::fi_msg_rma { iov_count: 33, ..msg };
        assert_eq!(call!(a, rma.writemsg(&many, 0)), invalid);
        let flags = -(sys::FI_EBADFLAGS as isize);
        let eight = [sys::fi_rma_iov { len: 8, ..remote[0] }];
        let fits = sys::fi_msg_rma { rma_iov: eight.as_ptr(), ..msg };
        assert_eq!(call!(a, rma.readmsg(&fits, sys::FI_REMOTE_CQ_DATA)), flags);
        assert_eq!(call!(a, rma.writemsg(&fits, sys::FI_MULTI_RECV)), flags);
        let size = -(sys::FI_EMSGSIZE as isize);
        assert_eq!(call!(a, rma.inject(start(&bytes), 4097, to, 0, KEY)), size);
        assert_eq!(call!(a, rma.write(start(&bytes), 8, null_mut(), 99, 0, KEY, null_mut())), invalid);

        let operands = [0_u64; 128];
        let atomic = |count, datatype, op| {
            call!(a, atomic.write(start(&operands), count, null_mut(), to, 0, KEY, datatype, op, null_mut()))
        };
        let unsupported = -(sys::FI_EOPNOTSUPP as isize);
        assert_eq!(atomic(1, sys::FI_DOUBLE, sys::FI_BOR), unsupported);
        assert_eq!(atomic(1, sys::FI_UINT64, sys::FI_CSWAP), unsupported);
        assert_eq!(atomic(1, sys::FI_UINT64, 99), unsupported);
        assert_eq!(atomic(0, sys::FI_UINT64, sys::FI_SUM), invalid);
        let mut most = 0;
        assert_eq!(call!(a, atomic.writevalid(sys::FI_UINT64, sys::FI_SUM, &mut most)), 0);
        assert_eq!(atomic(most + 1, sys::FI_UINT64, sys::FI_SUM), size);
        let inherited = call!(a, atomic.compwritevalid(sys::FI_UINT64, sys::FI_SUM, &mut most));
        assert_eq!(inherited, -sys::FI_EOPNOTSUPP);
    });
}

const PLAIN: u64 = sys::FI_ATOMIC | sys::FI_WRITE;
const FETCHED: u64 = sys::FI_ATOMIC | sys::FI_READ;
const UINT64: sys::fi_datatype = sys::FI_UINT64;

/// One piece for each value.
fn pieces(values: &[u64]) -> Vec<sys::fi_ioc> {
    values
        .iter()
        .map(|value| sys::fi_ioc { addr: core::ptr::from_ref(value).cast_mut().cast(), count: 1 })
        .collect()
}

/// The two values behind the first of the target's.
const REMOTE: sys::fi_rma_ioc = sys::fi_rma_ioc { addr: 8, count: 2, key: KEY };

/// An atomic on two values, as the message calls take it, of context 9.
fn atomic_message(to: u64, operands: &[sys::fi_ioc], op: sys::fi_op) -> sys::fi_msg_atomic {
    sys::fi_msg_atomic {
        msg_iov: operands.as_ptr(),
        desc: null_mut(),
        iov_count: operands.len(),
        addr: to,
        rma_iov: &REMOTE,
        rma_iov_count: 1,
        datatype: UINT64,
        op,
        context: context(9),
        data: 0,
    }
}

#[test]
fn every_call_of_atomic_that_returns_nothing_works() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = [0_u64, 10, 20, 30];
        let region = pair.region(&mut memory, BOTH, KEY);
        let now = || unsafe { core::ptr::read_volatile(&raw const memory) };
        let two = [1_u64, 2];
        let operands = pieces(&two);
        let (dt, sum, nil) = (UINT64, sys::FI_SUM, null_mut());

        assert_eq!(call!(a, atomic.write(start(&two), 2, nil, to, 8, KEY, dt, sum, context(1))), 0);
        pair.done(1, PLAIN);
        assert_eq!(now(), [0, 11, 22, 30]);
        let (iov, descs) = (operands.as_ptr(), null_mut());
        assert_eq!(call!(a, atomic.writev(iov, descs, 2, to, 8, KEY, dt, sum, context(2))), 0);
        pair.done(2, PLAIN);
        let msg = atomic_message(to, &operands, sum);
        assert_eq!(call!(a, atomic.writemsg(&msg, sys::FI_DELIVERY_COMPLETE)), 0);
        pair.done(9, PLAIN);
        assert_eq!(now(), [0, 13, 26, 30]);
        assert_eq!(call!(a, atomic.inject(start(&two), 2, to, 8, KEY, dt, sys::FI_ATOMIC_WRITE)), 0);
        pair.until("an injected atomic is executed", || now() == [0, 1, 2, 30]);
        assert_eq!(common::close(region), 0);
    });
}

#[test]
fn every_call_of_atomic_that_fetches_works() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = [0_u64, 1, 2, 30];
        let region = pair.region(&mut memory, BOTH, KEY);
        let now = || unsafe { core::ptr::read_volatile(&raw const memory) };
        let two = [1_u64, 2];
        let operands = pieces(&two);
        let (dt, nil) = (UINT64, null_mut());
        let mut old = [0_u64; 2];
        let result = room(&mut old);
        let mut results = pieces(&old);
        let (into, descs) = (results.as_mut_ptr(), null_mut());

        let (from, sum) = (start(&two), sys::FI_SUM);
        assert_eq!(call!(a, atomic.readwrite(from, 2, nil, result, nil, to, 8, KEY, dt, sum, context(3))), 0);
        pair.done(3, FETCHED);
        assert_eq!((old, now()), ([1, 2], [0, 2, 4, 30]));
        let (none, read) = (core::ptr::null(), sys::FI_ATOMIC_READ);
        let fetch =
            call!(a, atomic.readwritev(none, descs, 0, into, descs, 2, to, 16, KEY, dt, read, context(4)));
        assert_eq!(fetch, 0);
        pair.done(4, FETCHED);
        assert_eq!((old, now()), ([4, 30], [0, 2, 4, 30]));
        let msg = atomic_message(to, &operands, sys::FI_MAX);
        assert_eq!(call!(a, atomic.readwritemsg(&msg, into, descs, 2, 0)), 0);
        pair.done(9, FETCHED);
        assert_eq!((old, now()), ([2, 4], [0, 2, 4, 30]));
        assert_eq!(common::close(region), 0);
    });
}

#[test]
fn every_call_of_atomic_that_compares_works() {
    with_pair(|pair| {
        let (a, to) = (ep(pair.a), pair.b.address);
        let mut memory = [0_u64, 2, 4, 30];
        let region = pair.region(&mut memory, BOTH, KEY);
        let now = || unsafe { core::ptr::read_volatile(&raw const memory) };
        let (two, expected, swapped) = ([1_u64, 2], [2_u64, 5], [7_u64, 8]);
        let (operands, comparands) = (pieces(&two), pieces(&expected));
        let (dt, nil) = (UINT64, null_mut());
        let mut old = [0_u64; 2];
        let result = room(&mut old);
        let mut results = pieces(&old);
        let (into, descs) = (results.as_mut_ptr(), null_mut());
        let (iov, compare) = (operands.as_ptr(), comparands.as_ptr());

        let (from, with, op) = (start(&swapped), start(&expected), sys::FI_CSWAP);
        let swap =
            call!(a, atomic.compwrite(from, 2, nil, with, nil, result, nil, to, 8, KEY, dt, op, context(5)));
        assert_eq!(swap, 0);
        pair.done(5, FETCHED);
        assert_eq!((old, now()), ([2, 4], [0, 7, 4, 30]));
        let op = sys::FI_CSWAP_NE;
        #[rustfmt::skip]
        let swap = call!(a, atomic.compwritev(
            iov, descs, 2, compare, descs, 2, into, descs, 2, to, 8, KEY, dt, op, context(6)
        ));
        assert_eq!(swap, 0);
        pair.done(6, FETCHED);
        assert_eq!((old, now()), ([7, 4], [0, 1, 2, 30]));
        let msg = atomic_message(to, &operands, sys::FI_CSWAP);
        assert_eq!(call!(a, atomic.compwritemsg(&msg, compare, descs, 2, into, descs, 2, 0)), 0);
        pair.done(9, FETCHED);
        assert_eq!((old, now()), ([1, 2], [0, 1, 2, 30]));
        assert_eq!(common::close(region), 0);
    });
}

#[test]
fn regions_and_endpoints_count_each_operation_once() {
    for threading in [sys::FI_THREAD_DOMAIN, sys::FI_THREAD_SAFE] {
        let world = World::with(API, c"127.0.0.1", CAPS, threading);
        let av = world.av();
        let [reads, writes, region_writes, region_reads] = [(); 4].map(|()| world.cntr());
        let a = counted_node(&world, av, &[(reads, sys::FI_READ), (writes, sys::FI_WRITE)]);
        let b = world.node(av, 0, sys::FI_WAIT_NONE);
        let pair = Pair { world, a, b };
        let mut memory = vec![0_u8; 100_000];
        let region = pair.region(&mut memory, BOTH, KEY);
        let flags = -sys::FI_EBADFLAGS;
        assert_eq!(fid_call!(region, bind(region_writes.cast(), sys::FI_SEND)), flags);
        assert_eq!(fid_call!(region, bind(region_writes.cast(), sys::FI_REMOTE_WRITE)), 0);
        assert_eq!(fid_call!(region, bind(region_reads.cast(), sys::FI_REMOTE_READ)), 0);
        assert_eq!(common::close(region_reads), -sys::FI_EBUSY, "a region is bound to it");

        let (ep, to) = (a.ep, b.address);
        let (bytes, one, mut back, mut old) = (pattern(100_000, 1), [1_u64], vec![0_u8; 100_000], [0_u64]);
        let (dt, sum, nil) = (sys::FI_UINT64, sys::FI_SUM, null_mut());
        assert_eq!(call!(ep, rma.write(start(&bytes), 100_000, nil, to, 0, KEY, nil)), 0);
        assert_eq!(call!(ep, rma.inject(start(&bytes), 10, to, 0, KEY)), 0);
        assert_eq!(call!(ep, rma.write(start(&bytes), 0, nil, to, 0, KEY, nil)), 0);
        assert_eq!(call!(ep, atomic.inject(start(&one), 1, to, 0, KEY, dt, sum)), 0);
        assert_eq!(call!(ep, atomic.write(start(&one), 1, nil, to, 0, KEY, dt, sum, nil)), 0);
        assert_eq!(call!(ep, rma.read(room(&mut back), 100_000, nil, to, 0, KEY, nil)), 0);
        let fetch =
            call!(ep, atomic.readwrite(start(&one), 1, nil, room(&mut old), nil, to, 0, KEY, dt, sum, nil));
        assert_eq!(fetch, 0);
        let value = |cntr: *mut sys::fid_cntr| call!(cntr, ops.read());
        let all = || [writes, reads, region_writes, region_reads].map(value);
        pair.until_read("all are counted", || all() == [5, 2, 5, 2]);
        for _ in 0..100 {
            let _entry = a.read();
        }
        assert_eq!(all(), [5, 2, 5, 2]);
        assert_eq!(common::close(region), 0);
        a.close();
        b.close();
        for cntr in [reads, writes, region_writes, region_reads] {
            assert_eq!(common::close(cntr), 0);
        }
        assert_eq!(common::close(av), 0);
        pair.world.close();
    }
}

fn counted_node(world: &World, av: *mut sys::fid_av, counters: &[(*mut sys::fid_cntr, u64)]) -> Node {
    let cq = world.cq(sys::FI_CQ_FORMAT_TAGGED, sys::FI_WAIT_NONE);
    let ep = world.ep();
    assert_eq!(fid_call!(ep, bind(cq.cast(), sys::FI_TRANSMIT | sys::FI_RECV)), 0, "bind cq");
    for (cntr, events) in counters {
        assert_eq!(fid_call!(ep, bind(cntr.cast(), *events)), 0, "bind cntr");
    }
    assert_eq!(fid_call!(ep, bind(av.cast(), 0)), 0, "bind av");
    assert_eq!(common::enable(ep), 0, "enable");
    Node { ep, cq, address: common::av_insert(av, &common::name(ep)) }
}

#[test]
fn the_whole_address_space_can_be_a_region() {
    with_pair(|pair| {
        let mut region = null_mut();
        let slot = unsafe { (*(*pair.world.domain).mr).reg.expect("filled") };
        let domain = pair.world.domain.cast();
        let (everything, nowhere) = (usize::MAX, core::ptr::null());
        let result = unsafe { slot(domain, nowhere, everything, BOTH, 0, KEY, 0, &mut region, null_mut()) };
        assert_eq!(result, 0);
        let memory = [0_u8; 16];
        let at = memory.as_ptr().expose_provenance() as u64;
        let bytes = pattern(16, 9);
        let (a, to) = (ep(pair.a), pair.b.address);
        assert_eq!(call!(a, rma.write(start(&bytes), 16, null_mut(), to, at, KEY, context(1))), 0);
        pair.done(1, WRITTEN);
        assert_eq!(unsafe { core::ptr::read_volatile(&raw const memory) }[..], bytes[..]);
        assert_eq!(common::close(region), 0);
    });
}
