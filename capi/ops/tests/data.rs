//! The data path through the tables: every call of msg and tagged, formats, errors, peeks, cancels, multi-receive; with either flavour of lock.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ptr::{null, null_mut};

use common::{Node, World, call, context, fid_call, pattern};
use rdgram_sys as sys;

const ANY: u64 = sys::FI_ADDR_UNSPEC;

/// Runs a test with two endpoints of one domain, for both flavours of lock.
fn with_pair(test: impl Fn(Node, Node)) {
    for threading in [sys::FI_THREAD_DOMAIN, sys::FI_THREAD_SAFE] {
        let world = World::new(threading);
        let av = world.av();
        let [a, b] = [(), ()].map(|()| world.node(av, 0, sys::FI_WAIT_NONE));
        test(a, b);
        a.close();
        b.close();
        assert_eq!(common::close(av), 0, "close av");
        world.close();
    }
}

/// One message of each size through the plain calls.
#[test]
fn messages_of_every_size_arrive_whole() {
    with_pair(|a, b| {
        for (number, size) in
            [0, 1, 64, 1024, 1025, 4096, 16_384, 16_385, 65_536, 1 << 20].into_iter().enumerate()
        {
            let sent = pattern(size, number);
            let mut got = vec![0; size + 8];
            assert_eq!(b.recv(&mut got, ANY, number + 100), 0);
            assert_eq!(a.send(&sent, b.address, number + 1), 0);
            let (entry, source) = b.wait(&[a]);
            assert_eq!(entry.op_context, context(number + 100));
            assert_eq!((entry.flags, entry.len, source), (sys::FI_RECV | sys::FI_MSG, size, a.address));
            assert_eq!(got[..size], sent);
            let (entry, _) = a.wait(&[b]);
            assert_eq!((entry.op_context, entry.flags), (context(number + 1), sys::FI_SEND | sys::FI_MSG));
        }
    });
}

#[test]
fn unexpected_messages_match_by_tag_and_in_order() {
    with_pair(|a, b| {
        let first = pattern(100, 1);
        let second = pattern(100_000, 2);
        let third = pattern(8, 3);
        assert_eq!(a.tsend(&first, b.address, 7, 1), 0);
        assert_eq!(a.tsend(&second, b.address, 8, 2), 0);
        assert_eq!(a.tsend(&third, b.address, 7, 3), 0);
        for _ in 0..100 {
            common::progress(b.cq);
            common::progress(a.cq);
        }
        let mut got = vec![0; 100_000];
        for (tag, ignore, expected) in [(8, 0, &second), (7, 0, &first), (0, u64::MAX, &third)] {
            assert_eq!(b.trecv(&mut got, a.address, tag, ignore, 9), 0);
            let (entry, _) = b.wait(&[a]);
            assert_eq!(entry.len, expected.len());
            assert_eq!(&got[..entry.len], &expected[..]);
            assert_eq!(entry.flags, sys::FI_RECV | sys::FI_TAGGED);
        }
        assert_eq!([(); 3].map(|()| a.wait(&[b]).0.op_context.addr()).iter().sum::<usize>(), 6);
    });
}

/// All eighteen calls, once each.
/// The pieces of a buffer as vectors.
fn vectors(pieces: [&[u8]; 2]) -> [libc::iovec; 2] {
    pieces.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
}

/// The 48 bytes that go from `a` to `b` by every call, and where they arrive.
struct Exchange {
    a: Node,
    b: Node,
    bytes: Vec<u8>,
    got: [u8; 48],
}

impl Exchange {
    fn new(a: Node, b: Node) -> Self {
        Self { a, b, bytes: pattern(48, 5), got: [0; 48] }
    }

    fn start(&self) -> *const core::ffi::c_void {
        self.bytes.as_ptr().cast()
    }

    fn out(&self) -> [libc::iovec; 2] {
        let (head, tail) = self.bytes.split_at(20);
        vectors([head, tail])
    }

    fn room(&mut self) -> [libc::iovec; 2] {
        let (left, right) = self.got.split_at_mut(3);
        [left, right].map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
    }

    /// They have come with this data and tag, and the sender was told if it was to be.
    fn check(&mut self, data: Option<u64>, tag: Option<u64>, reported: bool) {
        let (entry, source) = self.b.wait(&[self.a]);
        assert_eq!((entry.len, source), (48, self.a.address));
        assert_eq!(self.got, self.bytes[..]);
        self.got.fill(0);
        assert_eq!(entry.flags & sys::FI_REMOTE_CQ_DATA != 0, data.is_some());
        assert_eq!(entry.flags & sys::FI_TAGGED != 0, tag.is_some());
        assert_eq!((entry.data, entry.tag), (data.unwrap_or(0), tag.unwrap_or(0)));
        if reported {
            assert_eq!(self.a.wait(&[self.b]).0.op_context, context(1));
        }
    }
}

#[test]
fn every_call_of_msg_works() {
    with_pair(|a, b| {
        let mut exchange = Exchange::new(a, b);
        let (start, out, into) = (exchange.start(), exchange.out(), exchange.room());
        let msg = |data| sys::fi_msg {
            msg_iov: out.as_ptr(),
            desc: null_mut(),
            iov_count: 2,
            addr: b.address,
            context: context(1),
            data,
        };
        let recvmsg = sys::fi_msg { msg_iov: into.as_ptr(), addr: ANY, context: context(2), ..msg(0) };
        let post = || assert_eq!(call!(b.ep, msg.recvv(into.as_ptr(), null_mut(), 2, ANY, context(2))), 0);

        post();
        assert_eq!(call!(a.ep, msg.send(start, 48, null_mut(), b.address, context(1))), 0);
        exchange.check(None, None, true);
        assert_eq!(call!(b.ep, msg.recvmsg(&recvmsg, 0)), 0);
        assert_eq!(call!(a.ep, msg.sendv(out.as_ptr(), null_mut(), 2, b.address, context(1))), 0);
        exchange.check(None, None, true);
        post();
        assert_eq!(call!(a.ep, msg.sendmsg(&msg(11), sys::FI_REMOTE_CQ_DATA | sys::FI_DELIVERY_COMPLETE)), 0);
        exchange.check(Some(11), None, true);
        post();
        assert_eq!(call!(a.ep, msg.sendmsg(&msg(11), sys::FI_INJECT)), 0);
        exchange.check(None, None, true);
        post();
        assert_eq!(call!(a.ep, msg.inject(start, 48, b.address)), 0);
        exchange.check(None, None, false);
        post();
        assert_eq!(call!(a.ep, msg.senddata(start, 48, null_mut(), 12, b.address, context(1))), 0);
        exchange.check(Some(12), None, true);
        post();
        assert_eq!(call!(a.ep, msg.injectdata(start, 48, u64::MAX, b.address)), 0);
        exchange.check(Some(u64::MAX), None, false);
        assert!(matches!(a.read(), Ok(None)), "injected messages are not reported");
    });
}

#[test]
fn every_call_of_tagged_works() {
    with_pair(|a, b| {
        let mut exchange = Exchange::new(a, b);
        let (start, out, into) = (exchange.start(), exchange.out(), exchange.room());
        let msg = |data| sys::fi_msg_tagged {
            msg_iov: out.as_ptr(),
            desc: null_mut(),
            iov_count: 2,
            addr: b.address,
            tag: 77,
            ignore: 0,
            context: context(1),
            data,
        };
        let recvmsg = sys::fi_msg_tagged { msg_iov: into.as_ptr(), addr: ANY, context: context(2), ..msg(0) };
        let post =
            || assert_eq!(call!(b.ep, tagged.recvv(into.as_ptr(), null_mut(), 2, ANY, 77, 0, context(2))), 0);

        post();
        assert_eq!(call!(a.ep, tagged.send(start, 48, null_mut(), b.address, 77, context(1))), 0);
        exchange.check(None, Some(77), true);
        assert_eq!(call!(b.ep, tagged.recvmsg(&recvmsg, sys::FI_COMPLETION)), 0);
        assert_eq!(call!(a.ep, tagged.sendv(out.as_ptr(), null_mut(), 2, b.address, 77, context(1))), 0);
        exchange.check(None, Some(77), true);
        post();
        assert_eq!(call!(a.ep, tagged.sendmsg(&msg(13), sys::FI_REMOTE_CQ_DATA | sys::FI_MATCH_COMPLETE)), 0);
        exchange.check(Some(13), Some(77), true);
        post();
        assert_eq!(call!(a.ep, tagged.inject(start, 48, b.address, 77)), 0);
        exchange.check(None, Some(77), false);
        post();
        assert_eq!(call!(a.ep, tagged.senddata(start, 48, null_mut(), 14, b.address, 77, context(1))), 0);
        exchange.check(Some(14), Some(77), true);
        post();
        assert_eq!(call!(a.ep, tagged.injectdata(start, 48, 15, b.address, 77)), 0);
        exchange.check(Some(15), Some(77), false);
        assert!(matches!(a.read(), Ok(None)), "injected messages are not reported");
    });
}

#[test]
fn sending_to_oneself_works() {
    with_pair(|a, _| {
        let sent = pattern(5000, 1);
        let mut got = vec![0; 5000];
        assert_eq!(a.tsend(&sent, a.address, 3, 1), 0);
        assert_eq!(a.trecv(&mut got, a.address, 3, 0, 2), 0);
        let mut seen: Vec<_> = [(); 2].iter().map(|()| a.wait(&[]).0.op_context.addr()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        assert_eq!(got, sent);
    });
}

#[test]
fn truncation_is_an_error_of_the_receiver_alone() {
    with_pair(|a, b| {
        for size in [100, 50_000] {
            let sent = pattern(size, 1);
            let mut got = vec![0; 60];
            assert_eq!(b.trecv(&mut got, ANY, 1, 0, 21), 0);
            assert_eq!(a.tsend(&sent, b.address, 1, 22), 0);
            let error = b.wait_error(&[a]).base;
            assert_eq!((error.err, error.len, error.olen), (sys::FI_ETRUNC, 60, size - 60));
            assert_eq!((error.op_context, error.tag), (context(21), 1));
            assert_eq!(got, sent[..60]);
            assert_eq!(a.wait(&[b]).0.op_context, context(22));
        }
    });
}

#[test]
fn a_cancelled_receive_is_reported_and_gone() {
    with_pair(|a, b| {
        let mut got = vec![0; 8];
        assert_eq!(b.trecv(&mut got, ANY, 1, 0, 31), 0);
        let cancel = |number| {
            let cancel = unsafe { (*(*b.ep).ops).cancel.expect("filled") };
            unsafe { cancel(b.ep.cast(), context(number)) }
        };
        assert_eq!(cancel(99), -(sys::FI_ENOENT as isize));
        assert_eq!(cancel(31), 0);
        let error = b.wait_error(&[a]).base;
        assert_eq!((error.err, error.op_context), (sys::FI_ECANCELED, context(31)));
        assert_eq!(cancel(31), -(sys::FI_ENOENT as isize));
    });
}

#[test]
fn peek_claim_and_discard() {
    with_pair(|a, b| {
        let peek = sys::FI_PEEK | sys::FI_COMPLETION;
        assert_eq!(b.trecv_flags(&mut [], 5, 40, peek), 0);
        let error = b.wait_error(&[a]).base;
        assert_eq!((error.err, error.op_context), (sys::FI_ENOMSG, context(40)));

        let sent = [pattern(700, 1), pattern(70_000, 2), pattern(10, 3)];
        for message in &sent {
            assert_eq!(a.tsend(message, b.address, 5, 1), 0);
        }
        let look = |number: usize, flags: u64| loop {
            assert_eq!(b.trecv_flags(&mut [], 5, number, flags), 0);
            match b.read() {
                Ok(Some((entry, source))) => return (entry, source),
                Err(_) => assert_eq!(b.read_error().base.err, sys::FI_ENOMSG),
                Ok(None) => panic!("a peek completes at once"),
            }
            common::progress(a.cq);
        };
        let (entry, source) = look(41, peek);
        assert_eq!((entry.op_context, entry.len, entry.tag, source), (context(41), 700, 5, a.address));
        let (entry, _) = look(42, peek | sys::FI_CLAIM);
        assert_eq!(entry.len, 700);
        // The first message is set aside: the next peek sees the second one.
        let (entry, _) = look(43, peek | sys::FI_DISCARD);
        assert_eq!(entry.len, 70_000);
        let mut got = vec![0; 700];
        assert_eq!(b.trecv_flags(&mut got, 5, 42, sys::FI_CLAIM | sys::FI_COMPLETION), 0);
        let (entry, _) = b.wait(&[a]);
        assert_eq!((entry.op_context, entry.len), (context(42), 700));
        assert_eq!(got, sent[0]);
        assert_eq!(b.trecv(&mut got, ANY, 5, 0, 44), 0);
        assert_eq!(b.wait(&[a]).0.len, 10);
        assert_eq!(got[..10], sent[2]);
        for _ in &sent {
            assert_eq!(a.wait(&[b]).0.op_context, context(1), "a discarded message completes at its sender");
        }
        let nothing = b.trecv_flags(&mut [], 5, 42, sys::FI_CLAIM | sys::FI_DISCARD);
        assert_eq!(nothing, -(sys::FI_ENOENT as isize));
    });
}

#[test]
fn one_buffer_for_many_messages() {
    with_pair(|a, b| {
        let set = unsafe { (*(*b.ep).ops).setopt.expect("filled") };
        let least = 64_usize;
        let option = (sys::FI_OPT_ENDPOINT as i32, sys::FI_OPT_MIN_MULTI_RECV as i32);
        let result =
            unsafe { set(b.ep.cast(), option.0, option.1, (&raw const least).cast(), size_of::<usize>()) };
        assert_eq!(result, 0);
        let mut buffer = vec![0_u8; 1000];
        let base = buffer.as_mut_ptr();
        let iov = libc::iovec { iov_base: base.cast(), iov_len: 1000 };
        let msg = sys::fi_msg {
            msg_iov: &iov,
            desc: null_mut(),
            iov_count: 1,
            addr: ANY,
            context: context(50),
            data: 0,
        };
        assert_eq!(call!(b.ep, msg.recvmsg(&msg, sys::FI_MULTI_RECV | sys::FI_COMPLETION)), 0);
        let sent = [pattern(400, 1), pattern(0, 2), pattern(560, 3)];
        for message in &sent {
            assert_eq!(a.send(message, b.address, 1), 0);
        }
        let mut offset = 0;
        let mut released = false;
        for message in &sent {
            let (entry, _) = b.wait(&[a]);
            assert_eq!((entry.op_context, entry.len), (context(50), message.len()));
            assert_eq!(entry.buf.cast::<u8>(), unsafe { base.add(offset) });
            offset += message.len();
            released = entry.flags & sys::FI_MULTI_RECV != 0;
        }
        if !released {
            let (entry, _) = b.wait(&[a]);
            assert_ne!(entry.flags & sys::FI_MULTI_RECV, 0, "40 bytes are left, fewer than 64");
        }
        assert_eq!(buffer[..960], sent.concat());
        for _ in &sent {
            a.wait(&[b]);
        }
    });
}

#[test]
fn arguments_are_checked() {
    with_pair(|a, b| {
        let bytes = [0_u8; 8192];
        let inject = |length| call!(a.ep, msg.inject(bytes.as_ptr().cast(), length, b.address));
        assert_eq!(inject(4097), -(sys::FI_EMSGSIZE as isize));
        assert_eq!(a.send(&bytes, 99, 1), -(sys::FI_EINVAL as isize), "no such address");
        let msg = sys::fi_msg {
            msg_iov: null(),
            desc: null_mut(),
            iov_count: 0,
            addr: b.address,
            context: null_mut(),
            data: 0,
        };
        assert_eq!(call!(a.ep, msg.sendmsg(&msg, 1 << 60)), -(sys::FI_EBADFLAGS as isize));
        assert_eq!(call!(a.ep, msg.sendmsg(null(), 0)), -(sys::FI_EINVAL as isize));
        let many = sys::fi_msg { iov_count: 33, ..msg };
        assert_eq!(call!(a.ep, msg.sendmsg(&many, 0)), -(sys::FI_EINVAL as isize));
        let nothing = sys::fi_msg { iov_count: 1, ..msg };
        assert_eq!(call!(a.ep, msg.sendmsg(&nothing, 0)), -(sys::FI_EINVAL as isize));
        // No bytes, no pieces, no pointer: a message all the same.
        assert_eq!(call!(b.ep, msg.recv(null_mut(), 0, null_mut(), ANY, context(2))), 0);
        assert_eq!(call!(a.ep, msg.sendmsg(&msg, 0)), 0);
        assert_eq!(b.wait(&[a]).0.len, 0);
        a.wait(&[b]);
    });
}

#[test]
fn selective_completion_reports_what_asks_for_it() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    let av = world.av();
    let [a, b] = [(), ()].map(|()| world.node(av, sys::FI_SELECTIVE_COMPLETION, sys::FI_WAIT_NONE));
    let mut got = [0_u8; 8];
    let iov = libc::iovec { iov_base: got.as_mut_ptr().cast(), iov_len: 8 };
    let msg = sys::fi_msg {
        msg_iov: &iov,
        desc: null_mut(),
        iov_count: 1,
        addr: ANY,
        context: context(2),
        data: 0,
    };
    assert_eq!(b.recv(&mut [0; 8], ANY, 1), 0);
    assert_eq!(call!(b.ep, msg.recvmsg(&msg, sys::FI_COMPLETION)), 0);
    assert_eq!(a.send(b"silence!", b.address, 1), 0);
    assert_eq!(a.send(b"reported", b.address, 2), 0);
    assert_eq!(b.wait(&[a]).0.op_context, context(2), "the first receive is not reported");
    assert_eq!(&got, b"reported");
    assert!(matches!(a.read(), Ok(None)));

    // The endpoint's own flags hold for calls without flags.
    let mut flags = sys::FI_TRANSMIT | sys::FI_COMPLETION;
    assert_eq!(fid_call!(a.ep, control(sys::FI_SETOPSFLAG as i32, (&raw mut flags).cast())), 0);
    flags = sys::FI_TRANSMIT;
    assert_eq!(fid_call!(a.ep, control(sys::FI_GETOPSFLAG as i32, (&raw mut flags).cast())), 0);
    assert_eq!(flags, sys::FI_COMPLETION);
    assert_eq!(b.recv(&mut got, ANY, 3), 0);
    assert_eq!(a.send(b"reported", b.address, 4), 0);
    assert_eq!(a.wait(&[b]).0.op_context, context(4));
    a.close();
    b.close();
    assert_eq!(common::close(av), 0);
    world.close();
}

#[test]
fn counters_count_every_call_once() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let b = world.node(av, 0, sys::FI_WAIT_NONE);
    let (sends, recvs) = (world.cntr(), world.cntr());
    let a = world.ep();
    assert_eq!(fid_call!(a, bind(av.cast(), 0)), 0);
    assert_eq!(fid_call!(a, bind(sends.cast(), sys::FI_SEND)), 0);
    assert_eq!(fid_call!(a, bind(sends.cast(), sys::FI_SEND)), -sys::FI_EINVAL, "bound already");
    assert_eq!(fid_call!(a, bind(recvs.cast(), sys::FI_RECV)), 0);
    assert_eq!(common::enable(a), 0, "counters instead of queues");
    let address = common::av_insert(av, &common::name(a));

    let mut got = [0_u8; 4];
    for number in 0..3 {
        assert_eq!(b.recv(&mut got, ANY, number), 0);
    }
    let start = c"abcd".as_ptr().cast();
    assert_eq!(call!(a, msg.send(start, 4, null_mut(), b.address, null_mut())), 0);
    assert_eq!(call!(a, msg.inject(start, 4, b.address)), 0);
    assert_eq!(call!(a, tagged.inject(start, 4, b.address, 1)), 0);
    assert_eq!(call!(sends, ops.wait(3, -1)), 0);
    assert_eq!(call!(sends, ops.read()), 3);
    assert_eq!(call!(sends, ops.wait(4, 0)), -sys::FI_ETIMEDOUT);
    assert_eq!(call!(sends, ops.wait(4, 20)), -sys::FI_ETIMEDOUT);

    assert_eq!(call!(a, msg.recv(got.as_mut_ptr().cast(), 2, null_mut(), ANY, null_mut())), 0);
    assert_eq!(b.send(b"four", address, 5), 0);
    assert_eq!(call!(recvs, ops.wait(1, -1)), -sys::FI_EAVAIL, "truncated");
    assert_eq!((call!(recvs, ops.read()), call!(recvs, ops.readerr())), (0, 1));
    assert_eq!(call!(recvs, ops.add(5)), 0);
    assert_eq!(call!(recvs, ops.adderr(2)), 0);
    assert_eq!((call!(recvs, ops.read()), call!(recvs, ops.readerr())), (5, 3));
    assert_eq!(call!(recvs, ops.set(0)), 0);
    assert_eq!(call!(recvs, ops.seterr(0)), 0);
    assert_eq!((call!(recvs, ops.read()), call!(recvs, ops.readerr())), (0, 0));

    assert_eq!(common::close(sends), -sys::FI_EBUSY, "bound");
    assert_eq!(common::close(a), 0);
    assert_eq!(common::close(sends), 0);
    assert_eq!(common::close(recvs), 0);
    b.close();
    assert_eq!(common::close(av), 0);
    world.close();
}
