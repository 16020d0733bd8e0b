//! One-sided operations and atomics: each test is one sentence of fi_rma(3), fi_atomic(3), fi_mr(3) or fi_cq(3).

mod common;

use common::*;
use rdgram_engine::*;

/// Two processes, the second with a region of `size` zero bytes under key 7.
struct World {
    a: Node,
    b: Node,
    to_b: FiAddr,
    memory: Vec<u8>,
    region: MrId,
}

impl World {
    fn new(size: usize, access: Access) -> Self {
        Self::with(size, access, Orders::empty())
    }

    fn with(size: usize, access: Access, orders: Orders) -> Self {
        let net = net();
        let config = EpConfig { orders, ..EpConfig::default() };
        let events = CounterEvents::READ | CounterEvents::WRITE;
        let (mut a, mut b) = (Node::counting(&net, 1, config, 1, events), Node::new(&net, 2));
        let to_b = a.knows(&b);
        b.knows(&a);
        let memory = vec![0; size];
        let region = Region { slices: vec![slice(&memory)], access, virtual_addresses: false };
        let (region, _) = b.domain.mr_open(region, Some(7)).unwrap();
        Self { a, b, to_b, memory, region }
    }

    fn settle(&mut self) {
        settle(&mut [&mut self.a, &mut self.b]);
    }

    fn rma(
        &mut self,
        kind: RmaKind,
        local: &[u8],
        remote: &[RemoteSlice],
        data: Option<u64>,
        context: usize,
        flags: OpFlags,
    ) {
        let slices = [slice(local)];
        let op = RmaOp { kind, destination: self.to_b, slices: &slices, remote, data, context, flags };
        self.a.domain.rma(self.a.ep, &op).unwrap();
    }

    fn atomic(
        &mut self,
        operation: AtomicOp,
        operands: &[u64],
        compare: &[u64],
        result: Option<&[u64]>,
        offset: u64,
        context: usize,
    ) {
        let bytes = |values: &[u64]| {
            // SAFETY: the arrays of a test outlive its operations.
            [unsafe { UserSlice::new(values.as_ptr().cast_mut().cast(), values.len() * 8) }]
        };
        let result = result.map(bytes);
        let length = operands.len().max(result.map_or(0, |result| result[0].len() / 8)) as u64 * 8;
        let args = AtomicArgs {
            destination: self.to_b,
            operation,
            datatype: Datatype::Uint64,
            operands: &bytes(operands),
            compare: &bytes(compare),
            result: result.as_ref().map(|result| &result[..]),
            remote: RemoteSlice { key: 7, offset, length },
            context,
            flags: OpFlags::COMPLETION,
        };
        self.a.domain.atomic(self.a.ep, &args).unwrap();
    }
}

fn at(offset: u64, length: usize) -> RemoteSlice {
    RemoteSlice { key: 7, offset, length: length as u64 }
}

const BOTH: Access = Access::REMOTE_READ.union(Access::REMOTE_WRITE);

#[test]
fn writes_and_reads_of_every_size() {
    for length in [0, 1, 100, 1300, 1400, 5000, 16_384, 17_000, 200_000, 1 << 20] {
        let mut world = World::new(length + 64, BOTH);
        let message = pattern(length, length);
        world.rma(RmaKind::Write, &message, &[at(32, length)], None, 1, OpFlags::COMPLETION);
        world.settle();
        let done = world.a.next().unwrap().unwrap();
        assert_eq!((done.context, done.flags), (1, CompletionFlags::RMA | CompletionFlags::WRITE));
        assert_eq!(world.memory[32..32 + length], message[..]);
        assert!(world.memory[..32].iter().chain(&world.memory[32 + length..]).all(|byte| *byte == 0));
        let back = vec![0xee; length];
        world.rma(RmaKind::Read, &back, &[at(32, length)], None, 2, OpFlags::COMPLETION);
        world.settle();
        let done = world.a.next().unwrap().unwrap();
        assert_eq!((done.context, done.flags), (2, CompletionFlags::RMA | CompletionFlags::READ));
        assert_eq!(back, message);
        assert!(world.b.next().is_none(), "the target is told nothing");
        assert!(world.a.domain.is_quiet() && world.b.domain.is_quiet());
    }
}

#[test]
fn several_pieces_on_both_sides() {
    let mut world = World::new(40_000, BOTH);
    let message = pattern(3, 9000);
    let remote = [at(100, 4000), at(20_000, 1), at(30_000, 4999)];
    world.rma(RmaKind::Write, &message, &remote, None, 1, OpFlags::COMPLETION);
    let back = vec![0; 9000];
    world.settle();
    world.rma(RmaKind::Read, &back, &remote, None, 2, OpFlags::COMPLETION);
    world.settle();
    assert_eq!(world.a.all().iter().filter(|entry| entry.is_ok()).count(), 2);
    assert_eq!(world.memory[100..4100], message[..4000]);
    assert_eq!(world.memory[20_000], message[4000]);
    assert_eq!(world.memory[30_000..34_999], message[4001..]);
    assert_eq!(back, message);
}

#[test]
fn what_the_target_refuses_fails_at_the_initiator_and_touches_nothing() {
    let cases = [
        (Access::REMOTE_WRITE, at(0, 100), RmaKind::Read, Cause::AccessDenied),
        (Access::REMOTE_READ, at(0, 100), RmaKind::Write, Cause::AccessDenied),
        (BOTH, at(950, 100), RmaKind::Write, Cause::OutOfRange),
        (BOTH, at(950, 100), RmaKind::Read, Cause::OutOfRange),
        (BOTH, at(u64::MAX - 5, 100), RmaKind::Read, Cause::OutOfRange),
        (BOTH, at(u64::MAX - 5, 100), RmaKind::Write, Cause::OutOfRange),
        (BOTH, RemoteSlice { key: 8, offset: 0, length: 100 }, RmaKind::Write, Cause::BadKey),
        (BOTH, RemoteSlice { key: 8, offset: 0, length: 100 }, RmaKind::Read, Cause::BadKey),
    ];
    for (access, remote, kind, cause) in cases {
        let mut world = World::new(1000, access);
        let local = vec![0xaa; 100];
        world.rma(kind, &local, &[remote], None, 9, OpFlags::COMPLETION);
        world.settle();
        let failure = world.a.next().unwrap().unwrap_err();
        assert_eq!((failure.completion.context, failure.cause), (9, cause));
        assert!(world.memory.iter().all(|byte| *byte == 0) && local.iter().all(|byte| *byte == 0xaa));
        assert!(world.a.next().is_none() && world.a.domain.is_quiet() && world.b.domain.is_quiet());
    }
}

#[test]
fn remote_cq_data_comes_after_the_bytes_and_counters_count_once() {
    let mut world = World::new(100_000, BOTH);
    let events = world.b.domain.cntr_open();
    world.b.domain.mr_bind_cntr(world.region, events, CounterEvents::REMOTE_WRITE);
    for (number, length) in [10, 60_000].into_iter().enumerate() {
        let message = pattern(number, length);
        world.rma(RmaKind::Write, &message, &[at(0, length)], Some(77), 1, OpFlags::COMPLETION);
        world.settle();
        let told = world.b.next().unwrap().unwrap();
        let flags = CompletionFlags::RMA | CompletionFlags::REMOTE_WRITE | CompletionFlags::REMOTE_CQ_DATA;
        assert_eq!((told.context, told.flags, told.data, told.length), (0, flags, 77, length));
        assert_eq!(world.memory[..length], message[..]);
        assert!(world.b.next().is_none());
        assert_eq!(world.b.domain.cntr_value(events), (number as u64 + 1, 0));
    }
}

/// The end of a read is known to its target by the acknowledgement of the answer: who counts it does not wait for what may carry that.
#[test]
fn a_read_is_counted_at_its_target_at_once() {
    let mut world = World::new(100, BOTH);
    let events = world.b.domain.cntr_open();
    world.b.domain.mr_bind_cntr(world.region, events, CounterEvents::REMOTE_READ);
    let back = vec![0; 100];
    for number in 0..3 {
        if number == 1 {
            world.settle();
        }
        world.rma(RmaKind::Read, &back, &[at(0, 100)], None, 1, OpFlags::COMPLETION);
        for _ in 0..4 {
            world.a.domain.progress();
            world.b.domain.progress();
        }
        assert_eq!(world.b.domain.cntr_value(events), (number + 1, 0));
    }
}

#[test]
fn operations_are_counted_in_the_order_issued() {
    let mut world = World::new(300_000, BOTH);
    // Its own memory is the fastest target of all.
    let own = vec![0; 100];
    let region = Region { slices: vec![slice(&own)], access: BOTH, virtual_addresses: false };
    world.a.domain.mr_open(region, Some(7)).unwrap();
    let to_itself = world.a.domain.av_insert(world.a.av, world.a.address);
    let (long, short) = (vec![0; 200_000], vec![0; 100]);
    world.rma(RmaKind::Read, &long, &[at(0, 200_000)], None, 1, OpFlags::COMPLETION);
    world.rma(RmaKind::Read, &short, &[at(0, 100)], None, 2, OpFlags::COMPLETION);
    world.rma(RmaKind::Write, &short, &[at(250_000, 100)], None, 3, OpFlags::COMPLETION);
    let to_b = core::mem::replace(&mut world.to_b, to_itself);
    world.rma(RmaKind::Read, &short, &[at(0, 100)], None, 4, OpFlags::COMPLETION);
    world.to_b = to_b;
    let mut ended = Vec::new();
    while ended.len() < 4 {
        world.a.domain.progress();
        world.b.domain.progress();
        world.a.time_passes(10);
        ended.extend(world.a.all().into_iter().map(|entry| entry.unwrap().context));
        let counted = world.a.domain.cntr_value(world.a.cntr);
        assert_eq!(counted, if ended.contains(&1) { (ended.len() as u64, 0) } else { (0, 0) }, "{ended:?}");
    }
    assert_ne!(ended[0], 1, "the long one ends last: else this shows nothing");
}

#[test]
fn atomics_compute_at_the_target_in_order() {
    let mut world = World::new(64, BOTH);
    let word = |world: &World, index: usize| {
        u64::from_ne_bytes(world.memory[index * 8..index * 8 + 8].try_into().unwrap())
    };
    world.atomic(AtomicOp::Write, &[5, 6], &[], None, 0, 1);
    world.atomic(AtomicOp::Sum, &[10, 100], &[], None, 0, 2);
    let (old, swapped, read) = (vec![0u64; 2], vec![0u64; 1], vec![0u64; 2]);
    world.atomic(AtomicOp::Prod, &[2, 3], &[], Some(&old), 0, 3);
    world.atomic(AtomicOp::Cswap, &[1], &[30], Some(&swapped), 0, 4);
    world.atomic(AtomicOp::Read, &[], &[], Some(&read), 0, 5);
    world.settle();
    let contexts: Vec<usize> = world.a.all().iter().map(|entry| entry.unwrap().context).collect();
    assert_eq!(contexts.len(), 5);
    assert_eq!((&old[..], &swapped[..], &read[..]), (&[15, 106][..], &[30][..], &[1, 318][..]));
    assert_eq!((word(&world, 0), word(&world, 1)), (1, 318));
    world.atomic(AtomicOp::Sum, &[1], &[], None, 60, 6);
    world.settle();
    assert_eq!(world.a.next().unwrap().unwrap_err().cause, Cause::OutOfRange);
    assert!(world.a.domain.is_quiet() && world.b.domain.is_quiet());
}

#[test]
fn an_atomic_that_fetches_reads_and_writes() {
    let cases = [
        (Access::REMOTE_WRITE, AtomicOp::Sum, false, None),
        (Access::REMOTE_WRITE, AtomicOp::Sum, true, Some(Cause::AccessDenied)),
        (Access::REMOTE_READ, AtomicOp::Sum, true, Some(Cause::AccessDenied)),
        (Access::REMOTE_READ, AtomicOp::Sum, false, Some(Cause::AccessDenied)),
        (Access::REMOTE_READ, AtomicOp::Read, true, None),
        (BOTH, AtomicOp::Sum, true, None),
    ];
    for (access, operation, fetch, cause) in cases {
        let mut world = World::new(64, access);
        let (writes, reads) = (world.b.domain.cntr_open(), world.b.domain.cntr_open());
        world.b.domain.mr_bind_cntr(world.region, writes, CounterEvents::REMOTE_WRITE);
        world.b.domain.mr_bind_cntr(world.region, reads, CounterEvents::REMOTE_READ);
        let old = Vec::from([7u64]);
        let operands: &[u64] = if operation == AtomicOp::Read { &[] } else { &[5] };
        world.atomic(operation, operands, &[], fetch.then_some(&old[..]), 0, 1);
        world.settle();
        let outcome = world.a.next().unwrap();
        assert_eq!(outcome.err().map(|failure| failure.cause), cause, "{access:?} {operation:?} {fetch}");
        let counted = [writes, reads].map(|cntr| world.b.domain.cntr_value(cntr).0);
        let done = u64::from(cause.is_none());
        assert_eq!(counted, if fetch { [0, done] } else { [done, 0] }, "{access:?} {operation:?} {fetch}");
        assert_eq!(old[0], if fetch && cause.is_none() { 0 } else { 7 });
    }
}

#[test]
fn loss_neither_repeats_nor_reorders_atomics() {
    let mut world = World::new(64, BOTH);
    let mut state = 1u32;
    world.a.lose(move |_, _| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (state >> 16) % 5 == 0
    });
    let results = vec![[0u64; 1]; 300];
    for (number, result) in results.iter().enumerate() {
        world.atomic(AtomicOp::Sum, &[1], &[], Some(result), 8, number);
        if number % 3 == 0 {
            world.atomic(AtomicOp::Bxor, &[1 << 40], &[], None, 16, 1000);
        }
    }
    world.settle();
    assert_eq!(world.a.all().iter().filter(|entry| entry.is_ok()).count(), 400);
    let seen: Vec<u64> = results.iter().map(|result| result[0]).collect();
    assert_eq!(seen, (0..300).collect::<Vec<u64>>());
    assert_eq!(world.memory[8..16], 300u64.to_ne_bytes());
    assert_eq!(world.memory[16..24], 0u64.to_ne_bytes());
}

#[test]
fn closing_a_region_ends_reads_of_it_and_touches_it_no_more() {
    let mut world = World::new(1 << 20, BOTH);
    let back = vec![0; 1 << 20];
    world.rma(RmaKind::Read, &back, &[at(0, 1 << 20)], None, 1, OpFlags::COMPLETION);
    for _ in 0..3 {
        world.a.domain.progress();
        world.b.domain.progress();
        world.a.time_passes(50);
    }
    assert!(world.a.next().is_none(), "under way");
    world.b.domain.mr_close(world.region);
    world.memory = Vec::new();
    world.settle();
    let failure = world.a.next().unwrap().unwrap_err();
    assert_eq!((failure.completion.context, failure.cause), (1, Cause::BadKey));
    assert!(world.a.domain.is_quiet() && world.b.domain.is_quiet());
}

#[test]
fn an_endpoint_that_closes_refuses_what_it_does_not_carry_out() {
    let mut world = World::new(1000, BOTH);
    let to_a = world.b.knows(&world.a);
    // Something injected that is not acknowledged keeps the target's endpoint there.
    world.b.send_with(to_a, &[1; 8], Some(1), None, 9, OpFlags::INJECT).unwrap();
    world.b.domain.ep_shutdown(world.b.ep);
    let (local, old) = (vec![0xaa; 100], vec![7u64]);
    world.rma(RmaKind::Write, &local, &[at(0, 100)], None, 1, OpFlags::COMPLETION);
    world.rma(RmaKind::Read, &local, &[at(0, 100)], None, 2, OpFlags::COMPLETION);
    world.atomic(AtomicOp::Sum, &[1], &[], Some(&old), 0, 3);
    world.settle();
    let outcomes: Vec<(usize, Cause)> = world
        .a
        .all()
        .iter()
        .filter_map(|entry| entry.err().map(|failure| (failure.completion.context, failure.cause)))
        .collect();
    assert_eq!(outcomes, [(1, Cause::BadKey), (2, Cause::BadKey), (3, Cause::BadKey)]);
    assert!(world.memory.iter().all(|byte| *byte == 0), "a closed endpoint's memory was written");
}

#[test]
fn a_fence_waits_for_what_came_before() {
    let mut world = World::new(100_000, BOTH);
    let (first, second) = (pattern(1, 90_000), pattern(2, 90_000));
    let mut dropped = 0;
    world.a.lose(move |_, _| {
        dropped += 1;
        dropped == 2
    });
    world.rma(RmaKind::Write, &first, &[at(0, 90_000)], None, 1, OpFlags::COMPLETION);
    world.rma(RmaKind::Write, &second, &[at(0, 90_000)], None, 2, OpFlags::COMPLETION | OpFlags::FENCE);
    world.settle();
    let contexts: Vec<usize> = world.a.all().iter().map(|entry| entry.unwrap().context).collect();
    assert_eq!(contexts, [1, 2]);
    assert_eq!(world.memory[..90_000], second[..]);
}

#[test]
fn orders_that_were_asked_for_make_later_operations_wait() {
    for (orders, waits) in [(Orders::SAW | Orders::RAW, true), (Orders::WAW | Orders::SAR, false)] {
        let mut world = World::with(100_000, BOTH, orders);
        // A first operation opens the window: the next ones leave at once.
        world.rma(RmaKind::Write, &[1], &[at(99_999, 1)], None, 0, OpFlags::empty());
        world.settle();
        let mut sent = 0;
        world.a.lose(move |_, _| {
            sent += 1;
            sent == 2
        });
        let bytes = pattern(1, 9000);
        let mut room = [0; 4];
        world.b.recv(FiAddr::UNSPEC, &mut room, None, 3);
        world.rma(RmaKind::Write, &bytes, &[at(0, 9000)], None, 1, OpFlags::COMPLETION);
        world.a.send(world.to_b, b"next", None, 2);
        let mut turns = 0;
        let received = loop {
            world.a.domain.progress();
            world.b.domain.progress();
            world.a.time_passes(10);
            if let Some(entry) = world.b.next() {
                break entry.unwrap();
            }
            turns += 1;
            assert!(turns < 10_000, "the message never arrives");
        };
        assert_eq!(received.context, 3);
        assert_eq!(world.memory[..9000] == bytes[..], waits, "{orders:?}");
        world.settle();
        assert!(world.a.domain.is_quiet());
    }
}

#[test]
fn a_fence_holds_although_its_own_operation_is_refused_at_once() {
    let mut world = World::new(100_000, BOTH);
    let (first, second) = (pattern(1, 90_000), pattern(2, 90_000));
    let mut sent = 0;
    world.a.lose(move |_, _| {
        sent += 1;
        sent == 2
    });
    world.rma(RmaKind::Write, &first, &[at(0, 90_000)], None, 1, OpFlags::COMPLETION);
    let nowhere = [at(u64::MAX - 5, 100)];
    world.rma(RmaKind::Write, &first[..100], &nowhere, None, 2, OpFlags::COMPLETION | OpFlags::FENCE);
    world.rma(RmaKind::Write, &second, &[at(0, 90_000)], None, 3, OpFlags::COMPLETION);
    world.settle();
    let outcomes: Vec<Result<usize, Cause>> = world
        .a
        .all()
        .iter()
        .map(|entry| entry.map(|done| done.context).map_err(|failure| failure.cause))
        .collect();
    assert_eq!(outcomes, [Err(Cause::OutOfRange), Ok(1), Ok(3)]);
    assert_eq!(world.memory[..90_000], second[..]);
}

#[test]
fn ones_own_memory_is_a_target_like_any_other() {
    let net = net();
    let mut a = Node::new(&net, 1);
    let to_a = a.domain.av_insert(a.av, a.address);
    let memory = vec![0u8; 64];
    let region = Region { slices: vec![slice(&memory)], access: BOTH, virtual_addresses: true };
    let (_, key) = a.domain.mr_open(region, None).unwrap();
    let message = pattern(1, 64);
    let base = memory.as_ptr().addr() as u64;
    let slices = [slice(&message)];
    let remote = [RemoteSlice { key, offset: base, length: 64 }];
    let write = RmaOp {
        kind: RmaKind::Write,
        destination: to_a,
        slices: &slices,
        remote: &remote,
        data: Some(1),
        context: 5,
        flags: OpFlags::COMPLETION,
    };
    a.domain.rma(a.ep, &write).unwrap();
    assert_eq!(memory, message);
    assert_eq!(a.all().len(), 2);
    let denied = RmaOp { remote: &[RemoteSlice { key, offset: base + 1, length: 64 }], ..write };
    a.domain.rma(a.ep, &denied).unwrap();
    assert_eq!(a.next().unwrap().unwrap_err().cause, Cause::OutOfRange);
    assert!(a.domain.is_quiet());
    assert_eq!(net.borrow().sent, 0);
}

#[test]
fn a_read_of_several_places_counts_once() {
    let mut world = World::new(40_000, BOTH);
    let (of_region, of_endpoint) = (world.b.domain.cntr_open(), world.b.domain.cntr_open());
    world.b.domain.mr_bind_cntr(world.region, of_region, CounterEvents::REMOTE_READ);
    world.b.domain.ep_bind_cntr(world.b.ep, of_endpoint, CounterEvents::REMOTE_READ).unwrap();
    let back = vec![0; 9000];
    let remote = [at(100, 4000), at(20_000, 1), at(30_000, 4999)];
    world.rma(RmaKind::Read, &back, &remote, None, 2, OpFlags::COMPLETION);
    world.settle();
    assert!(world.a.next().unwrap().is_ok());
    assert_eq!(world.b.domain.cntr_value(of_region), (1, 0));
    assert_eq!(world.b.domain.cntr_value(of_endpoint), (1, 0));
}

#[test]
fn nothing_is_left_of_a_refused_write() {
    let mut world = World::new(10_000, BOTH);
    let message = pattern(1, 4000);
    let half = [at(0, 2000), RemoteSlice { key: 8, offset: 0, length: 2000 }];
    world.rma(RmaKind::Write, &message, &half, None, 1, OpFlags::COMPLETION);
    world.settle();
    assert_eq!(world.a.next().unwrap().unwrap_err().cause, Cause::BadKey);
    assert!(world.a.domain.is_quiet() && world.b.domain.is_quiet());
    // Message ids come again after so many operations.
    for context in 0..255 {
        world.rma(RmaKind::Write, &message[..8], &[at(0, 8)], None, context, OpFlags::COMPLETION);
        world.settle();
        assert!(world.a.next().unwrap().is_ok());
    }
    let mut sent = 0;
    world.a.lose(move |_, _| {
        sent += 1;
        sent == 3
    });
    world.rma(RmaKind::Write, &message, &[at(0, 4000)], Some(77), 1, OpFlags::COMPLETION);
    for _ in 0..5 {
        world.b.domain.progress();
        assert!(world.b.next().is_none(), "reported before its last bytes");
        world.a.domain.progress();
    }
    world.settle();
    assert_eq!(world.b.next().unwrap().unwrap().data, 77);
    assert_eq!(world.memory[..4000], message[..]);
}

#[test]
fn a_write_to_several_regions_counts_where_it_ends() {
    let mut world = World::new(10_000, BOTH);
    let memory = vec![0u8; 10_000];
    let other = Region { slices: vec![slice(&memory)], access: BOTH, virtual_addresses: false };
    let (other, _) = world.b.domain.mr_open(other, Some(9)).unwrap();
    let [first, last] = [(); 2].map(|()| world.b.domain.cntr_open());
    let message = pattern(1, 6000);
    let pieces = [RemoteSlice { key: 9, offset: 0, length: 4000 }, at(0, 2000)];
    world.b.domain.mr_bind_cntr(world.region, last, CounterEvents::REMOTE_WRITE);
    world.rma(RmaKind::Write, &message, &pieces, None, 1, OpFlags::COMPLETION);
    world.settle();
    assert_eq!(world.b.domain.cntr_value(last), (1, 0));
    world.b.domain.mr_bind_cntr(other, first, CounterEvents::REMOTE_WRITE);
    world.rma(RmaKind::Write, &message, &pieces, None, 2, OpFlags::COMPLETION);
    world.settle();
    assert_eq!((world.b.domain.cntr_value(first), world.b.domain.cntr_value(last)), ((0, 0), (2, 0)));
    assert!(world.b.domain.is_quiet());
}

#[test]
fn an_answer_that_was_stopped_is_mistaken_for_no_later_operation() {
    let net = net();
    let (mut a, mut b, mut c) = (Node::new(&net, 1), Node::new(&net, 2), Node::new(&net, 3));
    let (to_b, to_c) = (a.knows(&b), b.knows(&c));
    let memory = vec![1u8; 1 << 20];
    let region = || Region { slices: vec![slice(&memory)], access: BOTH, virtual_addresses: false };
    let (opened, _) = b.domain.mr_open(region(), Some(7)).unwrap();
    c.domain.mr_open(region(), Some(7)).unwrap();
    let back = vec![0u8; 1 << 20];
    let slices = [slice(&back)];
    let remote = [at(0, 1 << 20)];
    let read = RmaOp {
        kind: RmaKind::Read,
        destination: to_b,
        slices: &slices,
        remote: &remote,
        data: None,
        context: 1,
        flags: OpFlags::COMPLETION,
    };
    a.domain.rma(a.ep, &read).unwrap();
    b.domain.progress();
    // The reader computes. Meanwhile its target closes the region and has more to do with others than it has names for operations.
    b.domain.mr_close(opened);
    let small = [slice(&memory[..8])];
    let remote = [at(0, 8)];
    for context in 1..=256 {
        let write = RmaOp {
            kind: RmaKind::Write,
            destination: to_c,
            slices: &small,
            remote: &remote,
            context,
            ..read
        };
        b.domain.rma(b.ep, &write).unwrap();
        if context < 256 {
            settle(&mut [&mut b, &mut c]);
            assert!(b.next().unwrap().is_ok());
        }
    }
    // The last one has the stopped answer's name, and is under way when the reader wakes up.
    settle(&mut [&mut a, &mut b]);
    assert!(b.next().is_none(), "completed by another operation's acknowledgement");
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!(b.next().unwrap().unwrap().context, 256);
    assert_eq!(a.next().unwrap().unwrap_err().cause, Cause::BadKey);
    assert!([a, b, c].iter().all(|node| node.domain.is_quiet()));
}

#[test]
fn an_atomic_that_was_executed_is_answered_whatever_memory_is_left() {
    let net = net();
    let mut a = Node::new(&net, 1);
    let mut b = Node::with(&net, 2, EpConfig { memory_ceiling: 1000, ..EpConfig::default() }, 2);
    let to_b = a.knows(&b);
    let memory = vec![0u8; 64];
    let region = Region { slices: vec![slice(&memory)], access: BOTH, virtual_addresses: false };
    b.domain.mr_open(region, Some(7)).unwrap();
    let (one, old) = (1u64.to_ne_bytes(), vec![0xeeu8; 8]);
    let args = AtomicArgs {
        destination: to_b,
        operation: AtomicOp::Sum,
        datatype: Datatype::Uint64,
        operands: &[slice(&one)],
        compare: &[],
        result: Some(&[slice(&old)]),
        remote: at(8, 8),
        context: 3,
        flags: OpFlags::COMPLETION,
    };
    a.domain.atomic(a.ep, &args).unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!(a.next().unwrap().unwrap().context, 3);
    assert_eq!((old, &memory[8..16]), (vec![0; 8], &one[..]));
}
