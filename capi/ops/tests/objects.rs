//! The life of objects through the tables: every slot filled, refusals, names, options, address vectors, regions, closing, forking.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ffi::{CStr, c_void};
use core::ptr::{null, null_mut};

use common::{World, call, close, context, enable, fid_call};
use rdgram_sys as sys;

const ANY: u64 = sys::FI_ADDR_UNSPEC;

/// A table is its size and then function pointers.
fn assert_filled(table: *const c_void, least: usize, name: &str) {
    let words = table.cast::<usize>();
    let size = unsafe { words.read() };
    assert!(size >= least, "{name}: {size} bytes");
    for slot in 1..size / size_of::<usize>() {
        assert_ne!(unsafe { words.add(slot).read() }, 0, "{name}: slot {slot}");
    }
}

/// `fi_tostr` with FI_TYPE_FID, as libfabric's core calls it.
fn words(fid: *mut sys::fid) -> String {
    let mut buffer = [0_u8; 128];
    let tostr = unsafe { (*(*fid).ops).tostr.expect("filled") };
    assert_eq!(unsafe { tostr(fid, buffer.as_mut_ptr().cast(), buffer.len()) }, 0);
    CStr::from_bytes_until_nul(&buffer).expect("terminated").to_str().expect("ASCII").to_owned()
}

#[test]
fn every_slot_of_every_object_is_filled() {
    for threading in [sys::FI_THREAD_DOMAIN, sys::FI_THREAD_SAFE] {
        let world = World::new(threading);
        let (cq, cntr, av, ep) =
            (world.cq(sys::FI_CQ_FORMAT_DATA, sys::FI_WAIT_FD), world.cntr(), world.av(), world.ep());
        let mr = register(&world, null(), 0, sys::FI_SEND, 0).expect("registers");
        let mut poll = null_mut();
        assert_eq!(call!(world.domain, ops.poll_open(null_mut(), &mut poll)), 0);
        let fids: [*mut sys::fid; 7] =
            [world.domain.cast(), cq.cast(), cntr.cast(), av.cast(), ep.cast(), mr.cast(), poll.cast()];
        for fid in fids {
            assert_filled(unsafe { (*fid).ops.cast() }, 56, "fi_ops");
        }
        unsafe {
            assert_filled((*world.domain).ops.cast(), 104, "fi_ops_domain");
            assert_filled((*world.domain).mr.cast(), 32, "fi_ops_mr");
            assert_filled((*cq).ops.cast(), 72, "fi_ops_cq");
            assert_filled((*cntr).ops.cast(), 72, "fi_ops_cntr");
            assert_filled((*poll).ops.cast(), 32, "fi_ops_poll");
            assert_filled((*av).ops.cast(), 96, "fi_ops_av");
            assert_filled((*ep).ops.cast(), 72, "fi_ops_ep");
            assert_filled((*ep).cm.cast(), 80, "fi_ops_cm");
            assert_filled((*ep).msg.cast(), 80, "fi_ops_msg");
            assert_filled((*ep).rma.cast(), 80, "fi_ops_rma");
            assert_filled((*ep).tagged.cast(), 80, "fi_ops_tagged");
            assert_filled((*ep).atomic.cast(), 112, "fi_ops_atomic");
            assert_filled((*ep).collective.cast(), 96, "fi_ops_collective");
        }
        let words = fids.map(words);
        for (words, word) in words.iter().zip(["domain", "completion queue", "counter", "address vector"]) {
            assert!(words.starts_with(&format!("rdgram {word} 0x")), "{words:?}");
        }
        assert!(words[4].contains(" fi_sockaddr_in://127.0.0.1:"), "{:?}", words[4]);
        for fid in fids.into_iter().skip(1) {
            assert_eq!(close(fid), 0);
        }
        world.close();
    }
}

#[test]
fn enabling_needs_queues_and_a_vector() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    let other = World::new(sys::FI_THREAD_SAFE);
    let (cq, av, ep) = (world.cq(sys::FI_CQ_FORMAT_MSG, sys::FI_WAIT_NONE), world.av(), world.ep());
    let mut byte = 0_u8;
    let mut recv = || call!(ep, msg.recv((&raw mut byte).cast(), 1, null_mut(), ANY, null_mut()));
    assert_eq!(recv(), -(sys::FI_EOPBADSTATE as isize), "not enabled");
    assert_eq!(enable(ep), -sys::FI_ENOCQ);
    let bind = |fid: *mut sys::fid, flags| fid_call!(ep, bind(fid, flags));
    assert_eq!(bind(cq.cast(), sys::FI_TRANSMIT | sys::FI_REMOTE_READ), -sys::FI_EBADFLAGS);
    assert_eq!(bind(cq.cast(), 0), -sys::FI_EBADFLAGS);
    assert_eq!(bind(cq.cast(), sys::FI_TRANSMIT), 0);
    assert_eq!(enable(ep), -sys::FI_ENOCQ, "no queue for receives");
    assert_eq!(bind(cq.cast(), sys::FI_TRANSMIT | sys::FI_RECV), -sys::FI_EINVAL, "one direction is bound");
    assert_eq!(bind(cq.cast(), sys::FI_RECV), 0);
    assert_eq!(enable(ep), -sys::FI_ENOAV);
    let stranger = other.av();
    assert_eq!(bind(stranger.cast(), 0), -sys::FI_EDOMAIN, "another domain's, of another flavour");
    assert_eq!(bind(null_mut(), 0), -sys::FI_EINVAL);
    assert_eq!(bind(world.domain.cast(), 0), -sys::FI_EINVAL);
    assert_eq!(bind(av.cast(), 0), 0);
    assert_eq!(enable(ep), 0);
    assert_eq!(enable(ep), -sys::FI_EOPBADSTATE);
    assert_eq!(bind(av.cast(), 0), -sys::FI_EOPBADSTATE);

    assert_eq!(close(world.domain), -sys::FI_EBUSY);
    assert_eq!(close(world.fabric), -sys::FI_EBUSY);
    assert_eq!(close(cq), -sys::FI_EBUSY);
    assert_eq!(close(av), -sys::FI_EBUSY);
    assert_eq!(close(ep), 0);
    assert_eq!(close(cq), 0);
    assert_eq!(close(av), 0);
    world.close();
    assert_eq!(close(stranger), 0);
    other.close();
}

#[test]
fn names_are_given_in_two_steps_and_may_be_set_before_enabling() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    let ep = world.ep();
    let getname = unsafe { (*(*ep).cm).getname.expect("filled") };
    let setname = unsafe { (*(*ep).cm).setname.expect("filled") };
    let mut length = 0;
    assert_eq!(unsafe { getname(ep.cast(), null_mut(), &mut length) }, -sys::FI_ETOOSMALL);
    assert_eq!(length, 16);
    let first = common::name(ep);
    assert_eq!((first.len(), first[0], &first[4..8]), (16, 2, [127, 0, 0, 1].as_slice()));
    assert_ne!(first[2..4], [0, 0], "a port is chosen");

    let mut wanted = first.clone();
    wanted[2..4].fill(0);
    wanted[7] = 2;
    assert_eq!(unsafe { setname(ep.cast(), wanted.as_mut_ptr().cast(), 16) }, 0);
    let second = common::name(ep);
    assert_eq!(second[4..8], [127, 0, 0, 2]);
    assert_eq!(unsafe { setname(ep.cast(), wanted.as_mut_ptr().cast(), 5) }, -sys::FI_EINVAL);
    assert_eq!(close(ep), 0);
    world.close();
}

#[test]
fn options_are_checked_by_name_and_length() {
    let world = World::new(sys::FI_THREAD_DOMAIN);
    let ep = world.ep();
    let get = unsafe { (*(*ep).ops).getopt.expect("filled") };
    let set = unsafe { (*(*ep).ops).setopt.expect("filled") };
    let level = sys::FI_OPT_ENDPOINT as i32;
    let least = sys::FI_OPT_MIN_MULTI_RECV as i32;
    let value = 16_384_usize;
    let bytes: *const c_void = (&raw const value).cast();
    unsafe {
        assert_eq!(set(ep.cast(), level, least, bytes, 8), 0);
        assert_eq!(set(ep.cast(), level, least, bytes, 4), -sys::FI_EINVAL);
        assert_eq!(set(ep.cast(), level, 999, bytes, 8), -sys::FI_ENOPROTOOPT);
        assert_eq!(set(ep.cast(), 7, least, bytes, 8), -sys::FI_ENOPROTOOPT);
        let mut got = 0_usize;
        let mut length = 4;
        let place: *mut c_void = (&raw mut got).cast();
        assert_eq!(get(ep.cast(), level, least, place, &mut length), -sys::FI_ETOOSMALL);
        assert_eq!(length, 8);
        assert_eq!(get(ep.cast(), level, least, place, &mut length), 0);
        assert_eq!(got, value);
        assert_eq!(get(ep.cast(), level, sys::FI_OPT_INJECT_MSG_SIZE, place, &mut length), 0);
        assert_eq!(got, 4096);
        let too_much = 1_usize << 20;
        let bytes: *const c_void = (&raw const too_much).cast();
        assert_eq!(set(ep.cast(), level, sys::FI_OPT_INJECT_MSG_SIZE, bytes, 8), -sys::FI_EINVAL);
        let forbidden = false;
        let bytes: *const c_void = (&raw const forbidden).cast();
        assert_eq!(set(ep.cast(), level, sys::FI_OPT_SHARED_MEMORY_PERMITTED, bytes, 1), 0);
        assert_eq!(
            get(ep.cast(), level, sys::FI_OPT_FI_HMEM_P2P as i32, place, &mut length),
            -sys::FI_ENOPROTOOPT
        );
    }
    assert_eq!(close(ep), 0);
    world.close();
}

#[test]
fn address_vectors_insert_look_up_and_remove() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let address = |last: u8, port: u8| [2, 0, 0, port, 10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0_u8];
    let list = [address(1, 1), address(2, 1), address(3, 0), address(1, 1)].concat();
    let mut found = [7_u64; 4];
    let mut errors = [9_i32; 4];
    let insert = |found: *mut u64, flags, context: *mut c_void| {
        call!(av, ops.insert(list.as_ptr().cast(), 4, found, flags, context))
    };
    assert_eq!(insert(found.as_mut_ptr(), sys::FI_SYNC_ERR, errors.as_mut_ptr().cast()), 3);
    assert_eq!(found, [0, 1, ANY, 0], "the same address has one index");
    assert_eq!(errors, [0, 0, sys::FI_EINVAL, 0]);
    assert_eq!(insert(null_mut(), 0, null_mut()), 3, "the indices are not wanted");
    assert_eq!(insert(null_mut(), 1 << 60, null_mut()), -sys::FI_EBADFLAGS);
    assert_eq!(insert(null_mut(), sys::FI_SYNC_ERR, null_mut()), -sys::FI_EINVAL);
    assert_eq!(call!(av, ops.insert(null(), 1, null_mut(), 0, null_mut())), -sys::FI_EINVAL);

    let mut bytes = [0_u8; 20];
    let mut length = 4;
    assert_eq!(call!(av, ops.lookup(1, bytes.as_mut_ptr().cast(), &mut length)), 0);
    assert_eq!((length, &bytes[..6]), (16, [2, 0, 0, 1, 0, 0].as_slice()), "cut off, the length told");
    assert_eq!(call!(av, ops.lookup(1, bytes.as_mut_ptr().cast(), &mut length)), 0);
    assert_eq!(bytes[..16], address(2, 1));
    assert_eq!(call!(av, ops.lookup(2, bytes.as_mut_ptr().cast(), &mut length)), -sys::FI_EINVAL);

    let mut text = [0_u8; 64];
    let mut room = text.len();
    let start = call!(av, ops.straddr(bytes.as_ptr().cast(), text.as_mut_ptr().cast(), &mut room));
    assert_eq!(start.cast::<u8>(), text.as_ptr());
    assert_eq!(&text[..room], b"fi_sockaddr_in://10.0.0.2:1\0");

    let mut gone = [1_u64, 1];
    assert_eq!(call!(av, ops.remove(gone.as_mut_ptr(), 2, 0)), 0, "inserted twice");
    assert_eq!(call!(av, ops.remove(gone.as_mut_ptr(), 1, 0)), -sys::FI_EINVAL);
    assert_eq!(call!(av, ops.remove(gone.as_mut_ptr(), 1, 1)), -sys::FI_EINVAL);
    let mut next = ANY;
    assert_eq!(call!(av, ops.insert(address(9, 9).as_ptr().cast(), 1, &mut next, 0, null_mut())), 1);
    assert_eq!(next, 1, "the lowest free index");

    let mut found = [0_u64; 4];
    let (node, service) = (c"127.0.0.1".as_ptr(), c"4000".as_ptr());
    assert_eq!(call!(av, ops.insertsvc(node, service, found.as_mut_ptr(), 0, null_mut())), 1);
    assert_eq!(call!(av, ops.insertsym(node, 2, service, 2, found.as_mut_ptr(), 0, null_mut())), 4);
    assert_eq!(found, [2, 3, 4, 5]);
    assert_eq!(call!(av, ops.insertsvc(node, null(), found.as_mut_ptr(), 0, null_mut())), -sys::FI_EINVAL);
    assert_eq!(close(av), 0);

    let mut named: sys::fi_av_attr = unsafe { core::mem::zeroed() };
    named.name = c"shared".as_ptr();
    let mut none = null_mut();
    assert_eq!(call!(world.domain, ops.av_open(&mut named, &mut none, null_mut())), -sys::FI_ENOSYS);
    world.close();
}

#[test]
fn asynchronous_insertion_reports_to_the_event_queue() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let mut attr: sys::fi_av_attr = unsafe { core::mem::zeroed() };
    attr.flags = sys::FI_EVENT;
    let mut av = null_mut();
    assert_eq!(call!(world.domain, ops.av_open(&mut attr, &mut av, null_mut())), 0);
    assert_eq!(attr.type_, sys::FI_AV_TABLE, "the type chosen is told");
    let list = [[2, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0_u8], [0; 16]].concat();
    let mut found = [0_u64; 2];
    let insert = |found: &mut [u64; 2]| {
        call!(av, ops.insert(list.as_ptr().cast(), 2, found.as_mut_ptr(), 0, context(3)))
    };
    assert_eq!(insert(&mut found), -sys::FI_ENOEQ);

    let mut attr: sys::fi_eq_attr = unsafe { core::mem::zeroed() };
    attr.wait_obj = sys::FI_WAIT_NONE;
    let mut eq = null_mut();
    assert_eq!(call!(world.fabric, ops.eq_open(&mut attr, &mut eq, null_mut())), 0);
    assert_eq!(fid_call!(av, bind(eq.cast(), 0)), 0);
    assert_eq!(insert(&mut found), 0, "told by an event");
    assert_eq!(found, [0, ANY]);

    let mut event = 0;
    let mut entry: sys::fi_eq_entry = unsafe { core::mem::zeroed() };
    let read = |event: &mut u32, entry: &mut sys::fi_eq_entry| {
        call!(eq, ops.read(event, core::ptr::from_mut(entry).cast(), size_of::<sys::fi_eq_entry>(), 0))
    };
    assert_eq!(read(&mut event, &mut entry), -(sys::FI_EAVAIL as isize), "the bad address comes first");
    let mut error: sys::fi_eq_err_entry = unsafe { core::mem::zeroed() };
    assert!(call!(eq, ops.readerr(&mut error, 0)) > 0);
    assert_eq!((error.err, error.data, error.context), (sys::FI_EINVAL, 1, context(3)));
    assert!(read(&mut event, &mut entry) > 0);
    assert_eq!((event, entry.data, entry.context), (sys::FI_AV_COMPLETE, 1, context(3)));
    assert_eq!(entry.fid, av.cast());
    assert_eq!(close(eq), -sys::FI_EBUSY, "bound");
    assert_eq!(close(av), 0);
    assert_eq!(close(eq), 0);
    world.close();
}

/// `fi_mr_reg`.
fn register(
    world: &World,
    start: *const c_void,
    length: usize,
    access: u64,
    key: u64,
) -> Result<*mut sys::fid_mr, i32> {
    let mut mr = null_mut();
    let reg = unsafe { (*(*world.domain).mr).reg.expect("filled") };
    match unsafe { reg(world.domain.cast(), start, length, access, 0, key, 0, &mut mr, null_mut()) } {
        0 => Ok(mr),
        error => Err(error),
    }
}

#[test]
fn regions_have_the_keys_asked_for() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let memory = [0_u8; 64];
    let remote = sys::FI_REMOTE_READ | sys::FI_REMOTE_WRITE;
    let key = |mr: *mut sys::fid_mr| unsafe { (*mr).key };
    let start = memory.as_ptr().cast();
    let first = register(&world, start, 64, remote, 1 << 63).expect("registers");
    assert_eq!(key(first), 1 << 63);
    assert_eq!(register(&world, start, 64, remote, 1 << 63), Err(-sys::FI_ENOKEY));
    let all = register(&world, null(), usize::MAX, remote, 5).expect("all of memory");
    assert_eq!(key(all), 5);
    let local = register(&world, start, 64, sys::FI_SEND | sys::FI_RECV, 1 << 63).expect("no key needed");
    assert_eq!(key(local), sys::FI_KEY_NOTAVAIL);
    assert_eq!(register(&world, start, 64, 1 << 50, 6), Err(-sys::FI_EINVAL));
    assert_eq!(fid_call!(first, control(sys::FI_ENABLE as i32, null_mut())), 0);
    assert_eq!(close(first), 0);
    let again = register(&world, start, 64, remote, 1 << 63).expect("the key is free again");
    for mr in [all, local, again] {
        assert_eq!(close(mr), 0);
    }
    world.close();
}

#[test]
fn what_was_injected_arrives_though_its_endpoint_is_closed() {
    let worlds = [(), ()].map(|()| World::new(sys::FI_THREAD_SAFE));
    let avs = [worlds[0].av(), worlds[1].av()];
    let nodes = [0, 1].map(|index: usize| worlds[index].node(avs[index], 0, sys::FI_WAIT_NONE));
    let to = common::av_insert(avs[0], &common::name(nodes[1].ep));
    const MESSAGES: usize = 500;
    for number in 0..MESSAGES {
        let bytes = number.to_ne_bytes();
        loop {
            match call!(nodes[0].ep, tagged.inject(bytes.as_ptr().cast(), 8, to, number as u64)) {
                0 => break,
                error => assert_eq!(error, -(sys::FI_EAGAIN as isize)),
            }
            common::progress(nodes[0].cq);
            common::progress(nodes[1].cq);
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| nodes[0].close());
        let mut got = [0_u8; 8];
        for number in (0..MESSAGES).rev() {
            assert_eq!(nodes[1].trecv(&mut got, ANY, number as u64, 0, number), 0);
            assert_eq!(nodes[1].wait(&[]).0.op_context, context(number));
            assert_eq!(usize::from_ne_bytes(got), number);
        }
    });
    nodes[1].close();
    for av in avs {
        assert_eq!(close(av), 0);
    }
    for world in worlds {
        world.close();
    }
}

#[test]
fn what_was_injected_arrives_though_its_process_ended_with_everything_open() {
    const MESSAGES: usize = 200;
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_NONE);
    let name = common::name(node.ep);
    let child = unsafe { libc::fork() };
    if child == 0 {
        let own = World::new(sys::FI_THREAD_DOMAIN);
        let av = own.av();
        let sender = own.node(av, 0, sys::FI_WAIT_NONE);
        let to = common::av_insert(av, &name);
        for number in 0..MESSAGES {
            let bytes = number.to_ne_bytes();
            while call!(sender.ep, tagged.inject(bytes.as_ptr().cast(), 8, to, number as u64)) != 0 {
                common::progress(sender.cq);
            }
        }
        // What libfabric's destructor does at exit.
        unsafe {
            (*rdgram_ops::initialize()).cleanup.expect("filled")();
            libc::_exit(0)
        }
    }
    let mut got = [0_u8; 8];
    for number in (0..MESSAGES).rev() {
        assert_eq!(node.trecv(&mut got, ANY, number as u64, 0, number), 0);
        assert_eq!(node.wait(&[]).0.op_context, context(number));
        assert_eq!(usize::from_ne_bytes(got), number);
    }
    let mut status = -1;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child's end");
    node.close();
    assert_eq!(close(av), 0);
    world.close();
}

#[test]
fn a_forked_child_is_refused_and_may_open_its_own() {
    let world = World::new(sys::FI_THREAD_SAFE);
    let av = world.av();
    let node = world.node(av, 0, sys::FI_WAIT_FD);
    match unsafe { libc::fork() } {
        0 => {
            // In the child: no assertion may unwind into the test harness.
            let refused = call!(node.ep, msg.inject(c"x".as_ptr().cast(), 1, node.address)) == -256
                && call!(node.cq, ops.read(null_mut(), 0)) == -256
                && close(node.ep) == 0
                && close(node.cq) == 0
                && close(av) == 0
                && close(world.domain) == 0;
            let own = World::new(sys::FI_THREAD_SAFE);
            let av = own.av();
            let fresh = own.node(av, 0, sys::FI_WAIT_NONE);
            let works = fresh.send(b"x", fresh.address, 1) == 0 && {
                let mut got = [0_u8; 1];
                fresh.recv(&mut got, ANY, 2) == 0 && {
                    fresh.wait(&[]);
                    fresh.wait(&[]);
                    got == *b"x"
                }
            };
            unsafe { libc::_exit(if refused && works { 0 } else { 1 }) }
        }
        child => {
            let mut status = -1;
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child's verdict");
        }
    }
    // The parent goes on as if nothing had been.
    let mut got = [0_u8; 3];
    assert_eq!(node.recv(&mut got, ANY, 1), 0);
    assert_eq!(node.send(b"abc", node.address, 2), 0);
    node.wait(&[]);
    node.wait(&[]);
    assert_eq!(&got, b"abc");
    node.close();
    assert_eq!(close(av), 0);
    world.close();
}

#[test]
fn six_is_like_four() {
    let caps = sys::FI_TAGGED | sys::FI_DIRECTED_RECV | sys::FI_SOURCE;
    let world = World::with(common::API, c"::1", caps, sys::FI_THREAD_DOMAIN);
    let av = world.av();
    let [a, b] = [(), ()].map(|()| world.node(av, 0, sys::FI_WAIT_NONE));
    assert_eq!(common::name(a.ep).len(), 28);
    let sent = common::pattern(100_000, 1);
    let mut got = vec![0; 100_000];
    assert_eq!(b.trecv(&mut got, a.address, 1, 0, 1), 0);
    assert_eq!(a.tsend(&sent, b.address, 1, 2), 0);
    assert_eq!(b.wait(&[a]).1, a.address);
    a.wait(&[b]);
    assert!(got == sent);
    a.close();
    b.close();
    assert_eq!(close(av), 0);
    world.close();
}
