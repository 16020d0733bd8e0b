//! In steady state data operations allocate nothing: not the engine, and for the proof of it not the network below either. Counted by the allocator of this
//! binary, per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core::time::Duration;

use rdgram_engine::{
    Access, AtomicArgs, AtomicOp, Datatype, Direct, EpConfig, FiAddr, Match, OpFlags, RecvOp, Region,
    RemoteSlice, RmaKind, RmaOp, SendOp, TagMatch, TraceEvent, UserSlice,
};
use rdgram_sim::faults::Faults;
use rdgram_sim::net::{Nanos, Net};
use rdgram_sim::node::Process;
use rdgram_sim::rng::Rng;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches a thread local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two endpoints that know each other, and their network.
struct Pair {
    net: Rc<RefCell<Net>>,
    sides: [Process; 2],
    peers: [FiAddr; 2],
    events: Vec<TraceEvent>,
}

impl Pair {
    fn new(faults: Faults) -> Self {
        let net = Rc::new(RefCell::new(Net::new(Rng::new(1, 0), faults, Duration::from_micros(5))));
        let address = |side: u8| ([10, 0, 0, side + 1], 7_000).into();
        let open = |side: u8| {
            // One side guesses what comes, the other does not.
            let direct = if side == 0 { Direct::Off } else { Direct::Force };
            let config = EpConfig { direct, ..EpConfig::default() };
            Process::open(&net, address(side), config, Rng::new(1, u64::from(side))).expect("opens")
        };
        let mut sides = [open(0), open(1)];
        let peers = [0, 1].map(|side: u8| {
            let process = &mut sides[usize::from(side)];
            process.domain.av_insert(process.av, address(1 - side))
        });
        Self { net, sides, peers, events: Vec::new() }
    }

    /// Sends from one side into a receive of the other, and waits for both.
    fn transfer(&mut self, from: usize, source: &[UserSlice], target: &[UserSlice], flags: OpFlags) {
        let to = 1 - from;
        let matching = Match { source: FiAddr::UNSPEC, tag: Some(TagMatch { tag: 7, ignore: 0 }) };
        let receive = RecvOp { matching, slices: target, context: 1, flags: OpFlags::COMPLETION };
        let process = &mut self.sides[to];
        process.domain.recv(process.ep, &receive).expect("accepted");
        let destination = self.peers[from];
        let send = SendOp { destination, slices: source, tag: Some(7), data: Some(1), context: 2, flags };
        let process = &mut self.sides[from];
        process.domain.send(process.ep, &send).expect("accepted");
        let mut left = 1 + usize::from(flags.contains(OpFlags::COMPLETION));
        while left > 0 {
            left -= self.turn();
        }
    }

    /// Posts an empty receive at the second side for each tag.
    fn post_many(&mut self, tags: impl Iterator<Item = u64>) {
        let process = &mut self.sides[1];
        for tag in tags {
            let matching = Match { source: FiAddr::UNSPEC, tag: Some(TagMatch { tag, ignore: 1 << 60 }) };
            let receive = RecvOp { matching, slices: &[], context: 1, flags: OpFlags::COMPLETION };
            process.domain.recv(process.ep, &receive).expect("accepted");
        }
    }

    /// Sends an empty message from the first side for each tag.
    fn send_many(&mut self, tags: impl Iterator<Item = u64>) {
        let process = &mut self.sides[0];
        for tag in tags {
            let destination = self.peers[0];
            let flags = OpFlags::COMPLETION;
            let send = SendOp { destination, slices: &[], tag: Some(tag), data: None, context: 2, flags };
            process.domain.send(process.ep, &send).expect("accepted");
        }
    }

    fn wait_for(&mut self, completions: usize) {
        let mut left = completions;
        while left > 0 {
            left -= self.turn();
        }
    }

    /// Writes a region of the other side, or reads it, and waits for the end.
    fn access(&mut self, from: usize, kind: RmaKind, memory: &[UserSlice]) {
        let length = memory.iter().map(UserSlice::len).sum::<usize>() as u64;
        let operation = RmaOp {
            kind,
            destination: self.peers[from],
            slices: memory,
            remote: &[RemoteSlice { key: KEY, offset: 0, length }],
            data: (kind == RmaKind::Write).then_some(1),
            context: 3,
            flags: OpFlags::COMPLETION,
        };
        let process = &mut self.sides[from];
        process.domain.rma(process.ep, &operation).expect("accepted");
        let mut left = 1 + usize::from(kind == RmaKind::Write);
        while left > 0 {
            left -= self.turn();
        }
    }

    /// Adds to a region of the other side, with or without a result, and waits for the end.
    fn add(&mut self, from: usize, operands: &[UserSlice], result: Option<&[UserSlice]>) {
        let operation = AtomicArgs {
            destination: self.peers[from],
            operation: AtomicOp::Sum,
            datatype: Datatype::Uint64,
            operands,
            compare: &[],
            result,
            remote: RemoteSlice { key: KEY, offset: 0, length: operands[0].len() as u64 },
            context: 4,
            flags: OpFlags::COMPLETION,
        };
        let process = &mut self.sides[from];
        process.domain.atomic(process.ep, &operation).expect("accepted");
        while self.turn() == 0 {}
    }

    /// A little time passes, both sides make progress. Returns the completions read.
    fn turn(&mut self) -> usize {
        self.turn_after(5_000)
    }

    fn turn_after(&mut self, pause: Nanos) -> usize {
        let mut net = self.net.borrow_mut();
        let next = net.now() + pause;
        net.advance(next, |_, _| {});
        drop(net);
        let mut completions = 0;
        for process in &mut self.sides {
            process.domain.progress();
            for cq in [process.tx_cq, process.rx_cq] {
                while process.domain.cq_pop(cq).expect("no failure").is_some() {
                    completions += 1;
                }
            }
            // The matcher's record is the simulator's: given room enough, it allocates nothing either.
            process.domain.take_trace(process.ep, &mut self.events);
            self.events.clear();
        }
        completions
    }
}

/// Allocations of `rounds` ping-pongs, after as many that warm everything up.
fn allocations(faults: Faults, length: usize, flags: OpFlags, rounds: usize) -> u64 {
    let mut pair = Pair::new(faults);
    let mut memory = vec![0_u8; 2 * length];
    let (source, target) = memory.split_at_mut(length);
    // SAFETY: both outlive the pair's operations, which `transfer` waits for, and nothing else touches them meanwhile.
    let source = [unsafe { UserSlice::new(source.as_mut_ptr(), length) }];
    // SAFETY: as above.
    let target = [unsafe { UserSlice::new(target.as_mut_ptr(), length) }];
    let mut before = 0;
    for round in 0..2 * rounds {
        if round == rounds {
            before = ALLOCATIONS.get();
        }
        pair.transfer(round % 2, &source, &target, flags);
    }
    ALLOCATIONS.get() - before
}

/// Key of each side's region.
const KEY: u64 = 0x1234_5678_9abc_def0;

/// Allocations of `rounds` one-sided operations, after as many that warm everything up.
fn one_sided(
    faults: Faults,
    length: usize,
    rounds: usize,
    operate: impl Fn(&mut Pair, usize, &[UserSlice; 2]),
) -> u64 {
    let mut pair = Pair::new(faults);
    let mut regions = [vec![0_u8; length], vec![0_u8; length]];
    for (process, region) in pair.sides.iter_mut().zip(&mut regions) {
        // SAFETY: the region outlives the pair, and nothing else touches it.
        let slices = vec![unsafe { UserSlice::new(region.as_mut_ptr(), length) }];
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let region = Region { slices, access, virtual_addresses: false };
        process.domain.mr_open(region, Some(KEY)).expect("the key is free");
    }
    let mut memory = vec![0_u8; 2 * length];
    let (one, other) = memory.split_at_mut(length);
    // SAFETY: both outlive the pair's operations, which `operate` waits for, and nothing else touches them meanwhile.
    let one = unsafe { UserSlice::new(one.as_mut_ptr(), length) };
    // SAFETY: as above.
    let other = unsafe { UserSlice::new(other.as_mut_ptr(), length) };
    let mut before = 0;
    for round in 0..2 * rounds {
        if round == rounds {
            before = ALLOCATIONS.get();
        }
        operate(&mut pair, round % 2, &[one, other]);
    }
    ALLOCATIONS.get() - before
}

#[test]
fn writes_and_reads_allocate_nothing() {
    for (length, rounds) in [(8, 2_000), (5_000, 2_000), (1 << 20, 60)] {
        for kind in [RmaKind::Write, RmaKind::Read] {
            let operate = |pair: &mut Pair, from: usize, memory: &[UserSlice; 2]| {
                pair.access(from, kind, &memory[..1]);
            };
            assert_eq!(one_sided(Faults::none(), length, rounds, operate), 0, "{kind:?} of {length} bytes");
        }
    }
}

#[test]
fn atomics_allocate_nothing() {
    for fetch in [false, true] {
        let operate = |pair: &mut Pair, from: usize, memory: &[UserSlice; 2]| {
            pair.add(from, &memory[..1], fetch.then_some(&memory[1..]));
        };
        assert_eq!(one_sided(Faults::none(), 64, 2_000, operate), 0, "fetching: {fetch}");
    }
}

#[test]
fn losses_of_one_sided_operations_allocate_nothing() {
    let faults = Faults { loss: 20_000, ..Faults::none() };
    let operate = |pair: &mut Pair, from: usize, memory: &[UserSlice; 2]| {
        pair.access(from, RmaKind::Write, &memory[..1]);
        pair.access(from, RmaKind::Read, &memory[1..]);
    };
    assert_eq!(one_sided(faults, 60_000, 2_000, operate), 0);
}

#[test]
fn the_allocator_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn eager_messages_allocate_nothing() {
    for length in [0, 8, 1_000, 16_000] {
        assert_eq!(allocations(Faults::none(), length, OpFlags::COMPLETION, 2_000), 0, "{length} bytes");
    }
}

/// Few peers that talk now and then are cold in between.
#[test]
fn pauses_allocate_nothing() {
    let mut pair = Pair::new(Faults::none());
    let mut memory = [0_u8; 16];
    // SAFETY: it outlives the pair's operations, which `transfer` waits for, and nothing else touches it meanwhile.
    let [source, target] = [0, 8].map(|at| [unsafe { UserSlice::new(memory[at..].as_mut_ptr(), 8) }]);
    let mut before = 0;
    for round in 0..20 {
        if round == 10 {
            before = ALLOCATIONS.get();
        }
        pair.transfer(round % 2, &source, &target, OpFlags::COMPLETION);
        for _ in 0..20 {
            pair.turn_after(100_000_000);
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    for side in &pair.sides {
        assert_eq!(side.domain.ep_stats(side.ep).peers_thawed, 19, "cold in every pause");
    }
}

#[test]
fn injected_messages_allocate_nothing() {
    assert_eq!(allocations(Faults::none(), 64, OpFlags::INJECT, 2_000), 0);
}

#[test]
fn long_queues_allocate_nothing() {
    const MANY: usize = 1_000;
    const ROUNDS: usize = 20;
    let tags = || 0..MANY as u64;
    let mut pair = Pair::new(Faults::none());
    let mut before = 0;
    for round in 0..2 * ROUNDS {
        if round == ROUNDS {
            before = ALLOCATIONS.get();
        }
        pair.post_many(tags());
        pair.send_many(tags().rev());
        pair.wait_for(2 * MANY);
        pair.send_many(tags());
        pair.wait_for(MANY);
        pair.post_many(tags().rev());
        pair.wait_for(MANY);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn rendezvous_allocates_nothing() {
    assert_eq!(allocations(Faults::none(), 1 << 20, OpFlags::COMPLETION, 100), 0);
}

#[test]
fn losses_allocate_nothing() {
    let faults = Faults { loss: 20_000, ..Faults::none() };
    assert_eq!(allocations(faults, 100_000, OpFlags::COMPLETION, 1_000), 0);
}
