//! A process waits for another in every way there is: with a receive directed at it, with a message that has to be granted, with a read, and for payload that it granted.
//! The other one is killed at any moment: then every operation ends. Or it computes for ten minutes: then none fails.

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;

use rdgram_engine::*;
use rdgram_sim::faults::Faults;
use rdgram_sim::net::{Nanos, Net};
use rdgram_sim::node::Process;
use rdgram_sim::rng::Rng;
use rdgram_sim::world::SECOND;

const SEEDS: u64 = 200;
/// Longest time from a process's end until all that waits for it has failed: some of the questions are lost.
const NOTICED: Nanos = 40 * SECOND;
/// Larger than what is sent without asking.
const LARGE: usize = 200_000;
const KEY: u64 = 7;

/// Contexts of the waiting side's operations.
const RECEIVE: usize = 1;
const ANNOUNCED: usize = 2;
const READ: usize = 3;
const GRANTED: usize = 4;
const WAITING: usize = 4;

struct Pair {
    net: Rc<RefCell<Net>>,
    rng: Rng,
    sides: [Option<Process>; 2],
    peers: [FiAddr; 2],
    /// Entries that each side's queues gave, by context.
    ended: [Vec<(usize, Option<Cause>)>; 2],
    /// Memory of every operation and of the region.
    memory: Vec<Vec<u8>>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let faults = Faults {
            loss: 50_000,
            duplicate: 20_000,
            duplicate_delay_max: Duration::from_millis(20),
            reorder: 50_000,
            reorder_delay_max: Duration::from_millis(2),
            ..Faults::none()
        };
        let latency = Duration::from_nanos(rng.magnitude(2_000..=3_000_000));
        let net = Rc::new(RefCell::new(Net::new(Rng::new(seed, 1), faults, latency)));
        let address = |side: u8| ([10, 0, 0, side + 1], 7_000).into();
        let open = |side: u8| {
            let rng = Rng::new(seed, 2 + u64::from(side));
            Process::open(&net, address(side), EpConfig::default(), rng).expect("opens")
        };
        let mut sides = [open(0), open(1)];
        let peers = [0, 1].map(|side: u8| {
            let process = &mut sides[usize::from(side)];
            process.domain.av_insert(process.av, address(1 - side))
        });
        Self { net, rng, sides: sides.map(Some), peers, ended: [Vec::new(), Vec::new()], memory: Vec::new() }
    }

    fn now(&self) -> Nanos {
        self.net.borrow().now()
    }

    /// Bytes that live as long as this.
    fn bytes(&mut self, length: usize) -> UserSlice {
        self.memory.push(vec![0; length]);
        let bytes = self.memory.last_mut().expect("just pushed");
        // SAFETY: the vector is never touched again nor dropped before the endpoints are.
        unsafe { UserSlice::new(bytes.as_mut_ptr(), length) }
    }

    fn receive(&mut self, side: usize, source: FiAddr, tag: u64, length: usize, context: usize) {
        let slices = [self.bytes(length)];
        let matching = Match { source, tag: Some(TagMatch { tag, ignore: 0 }) };
        let op = RecvOp { matching, slices: &slices, context, flags: OpFlags::COMPLETION };
        let process = self.sides[side].as_mut().expect("it lives");
        process.domain.recv(process.ep, &op).expect("accepted");
    }

    fn send(&mut self, side: usize, tag: u64, length: usize, context: usize) {
        let slices = [self.bytes(length)];
        let (destination, flags) = (self.peers[side], OpFlags::COMPLETION);
        let op = SendOp { destination, slices: &slices, tag: Some(tag), data: None, context, flags };
        let process = self.sides[side].as_mut().expect("it lives");
        process.domain.send(process.ep, &op).expect("accepted");
    }

    fn read(&mut self, context: usize) {
        let slices = [self.bytes(LARGE)];
        let op = RmaOp {
            kind: RmaKind::Read,
            destination: self.peers[0],
            slices: &slices,
            remote: &[RemoteSlice { key: KEY, offset: 0, length: LARGE as u64 }],
            data: None,
            context,
            flags: OpFlags::COMPLETION,
        };
        let process = self.sides[0].as_mut().expect("it lives");
        process.domain.rma(process.ep, &op).expect("accepted");
    }

    /// The first side begins to wait for the second.
    fn begin(&mut self) {
        let slices = vec![self.bytes(LARGE)];
        let region = Region { slices, access: Access::REMOTE_READ, virtual_addresses: false };
        let other = self.sides[1].as_mut().expect("it lives");
        other.domain.mr_open(region, Some(KEY)).expect("a new key");
        self.send(1, 40, LARGE, 0);
        self.run(SECOND, &[0, 1]);
        self.receive(0, self.peers[0], 10, 8, RECEIVE);
        self.send(0, 20, LARGE, ANNOUNCED);
        self.read(READ);
        self.receive(0, FiAddr::UNSPEC, 40, LARGE, GRANTED);
    }

    /// So much time passes while these sides make progress, or less when the waiting side has nothing more to wait for.
    fn run(&mut self, time: Nanos, sides: &[usize]) {
        let end = self.now() + time;
        while self.now() < end && self.ended[0].len() < WAITING {
            let step = self.rng.magnitude(1_000..=20_000_000);
            let next = (self.now() + step).min(end);
            self.net.borrow_mut().advance(next, |_, _| {});
            for &side in sides {
                self.progress(side);
            }
        }
    }

    fn progress(&mut self, side: usize) {
        let Some(process) = &mut self.sides[side] else { return };
        process.domain.progress();
        for cq in [process.tx_cq, process.rx_cq] {
            loop {
                match process.domain.cq_pop(cq) {
                    Ok(None) => break,
                    Ok(Some(completion)) => self.ended[side].push((completion.context, None)),
                    Err(FailurePending) => {
                        let failure = process.domain.cq_pop_failure(cq).expect("it is pending");
                        self.ended[side].push((failure.completion.context, Some(failure.cause)));
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_waits_for_a_killed_process_ends() {
    let mut failures = [0_u64; WAITING + 1];
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        pair.begin();
        let moment = pair.rng.magnitude(1_000..=10_000_000_000);
        pair.run(moment, &[0, 1]);
        pair.sides[1] = None;
        pair.run(NOTICED, &[0]);
        let mut contexts: Vec<usize> = pair.ended[0].iter().map(|(context, _)| *context).collect();
        contexts.sort_unstable();
        assert_eq!(contexts, [RECEIVE, ANNOUNCED, READ, GRANTED], "seed {seed}: {:?}", pair.ended[0]);
        for (context, cause) in &pair.ended[0] {
            assert!(matches!(cause, None | Some(Cause::Refused)), "seed {seed}: {cause:?}");
            failures[*context] += u64::from(cause.is_some());
        }
        let process = pair.sides[0].take().expect("it lives");
        assert!(process.domain.is_quiet(), "seed {seed}: {:?}", process.domain.ep_describe(process.ep));
    }
    // What waits for the application of the other side fails always, what only waits for the network now and then.
    assert_eq!((failures[RECEIVE], failures[ANNOUNCED]), (SEEDS, SEEDS));
    assert!(failures[READ] > 0 && failures[GRANTED] > 0, "{failures:?}");
}

#[test]
fn nothing_that_waits_for_a_computing_process_fails() {
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        pair.begin();
        let moment = pair.rng.magnitude(1_000..=100_000_000);
        pair.run(moment, &[0, 1]);
        pair.run(600 * SECOND, &[0]);
        assert!(pair.ended[0].iter().all(|(_, cause)| cause.is_none()), "seed {seed}: {:?}", pair.ended[0]);
        assert!(pair.ended[0].len() < WAITING);
        pair.receive(1, FiAddr::UNSPEC, 20, LARGE, 0);
        pair.send(1, 10, 8, 0);
        pair.run(60 * SECOND, &[0, 1]);
        assert_eq!(pair.ended[0].len(), WAITING, "seed {seed}: {:?}", pair.ended[0]);
        assert!(pair.ended[0].iter().all(|(_, cause)| cause.is_none()), "seed {seed}: {:?}", pair.ended[0]);
    }
}
