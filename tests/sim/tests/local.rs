//! What endpoints that share memory promise, one sentence a test: on a network that loses nothing unless told to, in virtual time.

use core::net::SocketAddr;
use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;

use rdgram_engine::*;
use rdgram_sim::faults::Faults;
use rdgram_sim::local::{Memory, Sharing};
use rdgram_sim::net::{Nanos, Net, nanos};
use rdgram_sim::node::Process;
use rdgram_sim::rng::Rng;

/// From one endpoint to another by datagram: long, so that what waits for one shows.
const LATENCY: Duration = Duration::from_millis(1);
/// Longest message that is put before it is asked for.
const EAGER: usize = 4 << 10;
/// Longer than that.
const LONG: usize = 100_000;
const MEGABYTE: usize = 1 << 20;
/// A tag that nobody sends to unless a test does.
const NEVER: u64 = 999_999;

/// A completion's context, and how it failed if it did.
type Ended = (usize, Option<Cause>);

struct Host {
    net: Rc<RefCell<Net>>,
    processes: Vec<Option<Process>>,
    /// Entries of each one's queues, in order.
    ended: Vec<Vec<Ended>>,
    /// Memory of every operation.
    memory: Vec<Vec<u8>>,
    tags: u64,
}

fn address(index: usize) -> SocketAddr {
    let port = 7_000 + u16::try_from(index).expect("few");
    ([10, 0, 0, 1], port).into()
}

fn bytes_of(tag: u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| {
            u8::try_from((at * 31 + at / 251 + usize::try_from(tag).expect("small") * 17) % 251)
                .expect("below 256")
        })
        .collect()
}

impl Host {
    /// Processes that share memory, and have not met.
    fn new(count: usize, sharing: Sharing, config: &EpConfig) -> Self {
        Self::with_buffer(count, sharing, config, Faults::none().receive_buffer)
    }

    /// The same with receive buffers of so many bytes.
    fn with_buffer(count: usize, sharing: Sharing, config: &EpConfig, receive_buffer: usize) -> Self {
        let faults = Faults { receive_buffer, ..Faults::none() };
        let net = Rc::new(RefCell::new(Net::new(Rng::new(1, 0), faults, LATENCY)));
        let hosts = (0..count).map(|index| (address(index), 0)).collect();
        net.borrow_mut().memory = Memory::new(Sharing { hosts, ..sharing }, Rng::new(1, 1));
        let mut processes = Vec::new();
        for index in 0..count {
            let rng = Rng::new(1, 2 + index as u64);
            let mut process = Process::open(&net, address(index), config.clone(), rng).expect("opens");
            for other in 0..count {
                assert_eq!(process.domain.av_insert(process.av, address(other)), FiAddr(other as u64));
            }
            processes.push(Some(process));
        }
        Self { net, processes, ended: vec![Vec::new(); count], memory: Vec::new(), tags: 1_000 }
    }

    /// Processes that have met.
    fn met(count: usize, sharing: Sharing) -> Self {
        Self::met_with(count, sharing, &EpConfig::default())
    }

    fn met_with(count: usize, sharing: Sharing, config: &EpConfig) -> Self {
        let mut host = Self::new(count, sharing, config);
        let pairs = move || (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)));
        for _ in 0..10 {
            for (from, to) in pairs().filter(|(from, to)| from != to) {
                host.converse(from, to);
            }
            host.run(Duration::from_millis(20));
        }
        for index in 0..count {
            let links = host.process(index).domain.ep_stats(host.process(index).ep).links;
            assert_eq!(links, count as u64 - 1, "process {index}");
        }
        host.run(Duration::from_millis(100));
        host.ended.iter_mut().for_each(Vec::clear);
        host
    }

    fn process(&self, index: usize) -> &Process {
        self.processes[index].as_ref().expect("it lives")
    }

    fn process_mut(&mut self, index: usize) -> &mut Process {
        self.processes[index].as_mut().expect("it lives")
    }

    fn stats(&self, index: usize) -> (Stats, LocalStats) {
        let process = self.process(index);
        (process.domain.ep_stats(process.ep), process.domain.ep_local_stats(process.ep))
    }

    /// Bytes that live as long as this.
    fn lend(&mut self, mut bytes: Vec<u8>) -> UserSlice {
        // SAFETY: the vector is neither changed nor dropped before the endpoints are, and its bytes are looked at only when nothing is under way.
        let slice = unsafe { UserSlice::new(bytes.as_mut_ptr(), bytes.len()) };
        self.memory.push(bytes);
        slice
    }

    fn send(&mut self, from: usize, to: usize, tag: u64, length: usize) {
        self.send_with(from, to, tag, length, OpFlags::COMPLETION);
    }

    /// As [`Self::send`]; complete when its target has taken it.
    fn deliver(&mut self, from: usize, to: usize, tag: u64, length: usize) {
        self.send_with(from, to, tag, length, OpFlags::COMPLETION | OpFlags::DELIVERY_COMPLETE);
    }

    fn send_with(&mut self, from: usize, to: usize, tag: u64, length: usize, flags: OpFlags) {
        let slices = [self.lend(bytes_of(tag, length))];
        let destination = FiAddr(to as u64);
        let context = usize::try_from(tag).expect("small");
        let op = SendOp { destination, slices: &slices, tag: Some(tag), data: None, context, flags };
        let process = self.process_mut(from);
        process.domain.send(process.ep, &op).expect("accepted");
    }

    /// Returns where the message will be.
    fn receive(&mut self, at: usize, source: FiAddr, tag: u64, length: usize, context: usize) -> usize {
        let matching = Match { source, tag: Some(TagMatch { tag, ignore: 0 }) };
        self.receive_with(at, matching, length, context, OpFlags::COMPLETION)
    }

    fn receive_with(
        &mut self,
        at: usize,
        matching: Match,
        length: usize,
        context: usize,
        flags: OpFlags,
    ) -> usize {
        let slices = [self.lend(vec![0; length])];
        let op = RecvOp { matching, slices: &slices, context, flags };
        let process = self.process_mut(at);
        process.domain.recv(process.ep, &op).expect("accepted");
        self.memory.len() - 1
    }

    /// A small message with its receive.
    fn converse(&mut self, from: usize, to: usize) {
        self.tags += 1;
        let tag = self.tags;
        self.receive(to, FiAddr::UNSPEC, tag, 8, 0);
        self.send(from, to, tag, 8);
    }

    fn progress(&mut self, index: usize) -> bool {
        let Some(process) = &mut self.processes[index] else { return false };
        let worked = process.domain.progress();
        for cq in [process.tx_cq, process.rx_cq] {
            loop {
                match process.domain.cq_pop(cq) {
                    Ok(None) => break,
                    Ok(Some(completion)) => self.ended[index].push((completion.context, None)),
                    Err(FailurePending) => {
                        let failure = process.domain.cq_pop_failure(cq).expect("it is pending");
                        self.ended[index].push((failure.completion.context, Some(failure.cause)));
                    }
                }
            }
        }
        worked
    }

    /// Everybody works while no time passes.
    fn work(&mut self) {
        let mut rounds = 0;
        while (0..self.processes.len()).filter(|index| self.progress(*index)).count() > 0 {
            rounds += 1;
            assert!(rounds < 1_000, "it never ends");
        }
    }

    fn now(&self) -> Nanos {
        self.net.borrow().now()
    }

    /// Time passes, in small steps.
    fn run(&mut self, time: Duration) {
        let end = self.now() + nanos(time);
        while self.now() < end {
            let next = self.now() + 50_000;
            self.net.borrow_mut().advance(next, |_, _| {});
            self.work();
        }
    }

    /// The most that the second process reads its socket in one progress call, while the first sends it a long message.
    fn most_receives_in_a_call(&mut self) -> u64 {
        let receives = |host: &Self| host.process(1).domain.ep_datapath(host.process(1).ep).receives();
        for _ in 0..10 {
            self.converse(0, 1);
            self.run(4 * LATENCY);
        }
        self.receive(1, FiAddr::UNSPEC, 1, 4 * MEGABYTE, 1);
        self.send(0, 1, 1, 4 * MEGABYTE);
        let mut most = 0;
        for _ in 0..1_000 {
            let next = self.now() + nanos(2 * LATENCY);
            self.net.borrow_mut().advance(next, |_, _| {});
            let before = receives(self);
            self.progress(1);
            most = most.max(receives(self) - before);
            for _ in 0..20 {
                self.progress(0);
            }
        }
        assert!(self.has(1, (1, None)), "it comes");
        most
    }

    /// How often the first process reads its socket while it polls for a millisecond, in which nothing comes by datagram.
    fn receives_in_a_millisecond(&mut self) -> u64 {
        let receives = |host: &Self| host.process(0).domain.ep_datapath(host.process(0).ep).receives();
        let before = receives(self);
        for _ in 0..200 {
            let next = self.now() + nanos(Duration::from_micros(5));
            self.net.borrow_mut().advance(next, |_, _| {});
            self.progress(0);
        }
        receives(self) - before
    }

    fn has(&self, index: usize, ended: Ended) -> bool {
        self.ended[index].contains(&ended)
    }
}

fn sharing() -> Sharing {
    Sharing { room: 64, piece: 4 << 10, eager: EAGER, ..Sharing::none() }
}

#[test]
fn a_sender_of_small_credit_is_answered_before_all_that_it_sent_is_received() {
    let most = |buffer| {
        let mut host = Host::with_buffer(2, sharing(), &EpConfig::default(), buffer);
        // Each is alone on its host.
        let hosts = (0..2).map(|index| (address(index), index)).collect();
        host.net.borrow_mut().memory.lock().expect("one thread").set_hosts(hosts);
        host.most_receives_in_a_call()
    };
    assert_eq!(most(400 << 10), 1, "it may send little, and stops until it hears");
    assert_eq!(most(8 << 20), 4, "one that may send much goes on meanwhile");
}

#[test]
fn an_endpoint_without_neighbours_seldom_looks_for_any() {
    let mut host = Host::new(2, sharing(), &EpConfig::default());
    // Each is alone on its host.
    let hosts = (0..2).map(|index| (address(index), index)).collect();
    host.net.borrow_mut().memory.lock().expect("one thread").set_hosts(hosts);
    let (rounds, every) = (20_u32, Duration::from_millis(20));
    for _ in 0..rounds {
        host.converse(0, 1);
        host.run(every);
    }
    let looks = host.net.borrow().memory.lock().expect("one thread").looks(address(0));
    let tenths = u64::from(rounds) * 2;
    assert!((1..=tenths + 2).contains(&looks), "{looks} looks in {tenths} times 10 ms");
    assert_eq!(host.stats(0).0.links, 0);
}

#[test]
fn the_socket_is_seldom_read_while_only_neighbours_talk_and_more_often_once_a_peer_needs_it() {
    // The third is on another host.
    let hosts = vec![(address(0), 0), (address(1), 0), (address(2), 2)];
    let mut host = Host::new(3, sharing(), &EpConfig::default());
    host.net.borrow_mut().memory.lock().expect("one thread").set_hosts(hosts);
    let talk = |host: &mut Host, other: usize| {
        for _ in 0..10 {
            host.converse(0, other);
            host.converse(other, 0);
            host.run(Duration::from_millis(20));
        }
        host.run(Duration::from_millis(100));
    };
    talk(&mut host, 1);
    assert_eq!(host.stats(0).0.links, 1);
    assert!((9..=12).contains(&host.receives_in_a_millisecond()));
    talk(&mut host, 2);
    assert_eq!(host.stats(0).0.links, 1);
    assert!((45..=55).contains(&host.receives_in_a_millisecond()));
}

#[test]
fn a_send_that_completes_by_delivery_waits_until_its_target_has_taken_it() {
    // Whole, in pieces, and read where it is.
    for length in [100, EAGER + 1, LONG] {
        let mut host =
            Host::met(2, Sharing { eager: if length == LONG { EAGER } else { LONG }, ..sharing() });
        let place = host.receive(1, FiAddr::UNSPEC, 1, length, 2);
        host.deliver(0, 1, 1, length);
        while host.progress(0) {}
        assert!(!host.has(0, (1, None)), "{length} bytes: nobody has taken them");
        host.work();
        assert!(host.has(0, (1, None)) && host.has(1, (2, None)), "{length} bytes: {:?}", host.ended);
        assert_eq!(host.memory[place], bytes_of(1, length));
    }
}

#[test]
fn what_was_announced_by_datagram_and_goes_through_memory_is_delivered_when_it_is_placed() {
    let mut host = Host::new(2, sharing(), &EpConfig::default());
    host.deliver(0, 1, 1, LONG);
    for _ in 0..10 {
        host.converse(0, 1);
        host.converse(1, 0);
        host.run(Duration::from_millis(20));
    }
    assert_eq!((host.stats(0).0.links, host.stats(1).0.links), (1, 1), "they have met");
    let before = host.stats(0).1.copied_bytes;
    let place = host.receive(1, FiAddr::UNSPEC, 1, LONG, 2);
    host.progress(1);
    while host.progress(0) {}
    assert!(host.stats(0).1.copied_bytes - before >= LONG as u64, "all of it is in the queue");
    assert!(!host.has(0, (1, None)), "nobody has taken it");
    host.work();
    assert!(host.has(0, (1, None)) && host.has(1, (2, None)), "{:?}", host.ended);
    assert_eq!(host.memory[place], bytes_of(1, LONG));
}

#[test]
fn long_messages_that_wait_to_be_read_are_read_in_the_order_matched() {
    let mut host = Host::met(2, sharing());
    for tag in 1..=3 {
        host.receive(1, FiAddr::UNSPEC, tag, LONG, 10 + usize::try_from(tag).expect("small"));
        host.send(0, 1, tag, LONG);
    }
    host.work();
    assert!(host.stats(1).1.pulled_bytes >= 3 * LONG as u64);
    assert_eq!(host.ended[1], [(11, None), (12, None), (13, None)]);
}

#[test]
fn a_message_alone_is_pulled_from_where_one_of_a_stream_is_put() {
    const LENGTH: usize = 3_000;
    let mut host = Host::met(2, Sharing { eager: 1_000, ..sharing() });
    for round in 1..=2 {
        for tag in 0..3 {
            host.receive(1, FiAddr::UNSPEC, tag, LENGTH, 1);
            host.send(0, 1, tag, LENGTH);
        }
        host.work();
        assert_eq!(host.stats(1).1.pulled_bytes, round * LENGTH as u64, "the first of three");
        assert_eq!(host.ended[1].len() as u64, round * 3);
    }
}

#[test]
fn what_was_read_from_memory_is_no_place_for_datagrams_any_more() {
    const LENGTH: usize = 5_000;
    let config = EpConfig { direct: Direct::Force, ..EpConfig::default() };
    let mut host = Host::new(3, Sharing { eager: 100, room: 64, ..sharing() }, &config);
    // The third is a stranger on another host, and writes datagrams.
    let hosts = [0, 0, 1].into_iter().enumerate().map(|(index, host)| (address(index), host)).collect();
    host.net.borrow_mut().memory.lock().expect("one thread").set_hosts(hosts);
    // The first message of a line that is complete in order: its sender is asked for it, and silent.
    host.send_with(0, 1, NEVER, 10, OpFlags::COMPLETION | OpFlags::MATCH_COMPLETE);
    for _ in 0..10 {
        host.converse(0, 1);
        host.converse(1, 0);
        host.run(Duration::from_millis(20));
    }
    // More of them than streams are remembered: the first is forgotten, and the others are what is guessed to come.
    let count = 40;
    for _ in 0..count {
        host.send(0, 1, NEVER, LENGTH);
    }
    host.work();
    let matching = Match { source: FiAddr::UNSPEC, tag: Some(TagMatch { tag: NEVER, ignore: 0 }) };
    let flags = OpFlags::COMPLETION | OpFlags::MULTI_RECV;
    let place = host.receive_with(1, matching, 41 * LENGTH, 7, flags);
    assert_eq!(host.stats(1).1.pulled_bytes, count * LENGTH as u64, "all but the first are here");
    assert!(!host.has(1, (7, None)), "and wait for it");
    host.receive(1, FiAddr(2), 5, 1_000, 8);
    host.send(2, 1, 5, 1_000);
    let late = host.now() + nanos(Duration::from_millis(10));
    host.net.borrow_mut().advance(late, |_, _| {});
    host.progress(1);
    assert!(host.has(1, (8, None)), "a datagram came");
    host.work();
    let whole = host.ended[1].iter().filter(|ended| **ended == (7, None)).count() as u64;
    assert_eq!(whole, 1 + count);
    for message in host.memory[place][10..].chunks_exact(LENGTH).take(40) {
        assert_eq!(message, bytes_of(NEVER, LENGTH));
    }
}

#[test]
fn operations_to_a_neighbour_that_counts_us_no_longer_fail_at_once() {
    let mut host = Host::met(2, sharing());
    host.net.borrow_mut().memory.lock().expect("one thread").revoke(address(0), address(1));
    host.deliver(1, 0, 1, 8);
    host.progress(1);
    host.progress(1);
    assert!(host.has(1, (1, Some(Cause::Restarted))), "{:?}", host.ended);
}

#[test]
fn a_granted_message_goes_on_at_once() {
    // Its receiver may not read it where it is, so that it has to ask for it, in a queue too short for all of it.
    for room in [64, 4] {
        let mut host = Host::met(2, Sharing { refused: 1_000_000, room, ..sharing() });
        let before = host.stats(1).1;
        host.send(0, 1, 1, LONG);
        let place = host.receive(1, FiAddr::UNSPEC, 1, LONG, 2);
        host.work();
        assert!(host.has(0, (1, None)) && host.has(1, (2, None)), "room {room}: {:?}", host.ended);
        assert_eq!(host.memory[place], bytes_of(1, LONG));
        let after = host.stats(1).1;
        assert!(after.taken >= before.taken + (LONG / (4 << 10)) as u64 && after.pulled_bytes == 0);
    }
}

#[test]
fn what_a_neighbour_put_before_it_ended_is_received_before_its_operations_fail() {
    // More than one progress call takes, in which its end is noticed too.
    const MESSAGES: usize = 600;
    let mut host = Host::met(2, Sharing { room: 1_024, ..sharing() });
    let mut places = Vec::new();
    for number in 1..=MESSAGES {
        places.push(host.receive(0, FiAddr::UNSPEC, number as u64, 100, number));
        host.send(1, 0, number as u64, 100);
    }
    host.receive(0, FiAddr(1), NEVER, 8, 0);
    host.processes[1] = None;
    let later = host.now() + nanos(Duration::from_millis(20));
    host.net.borrow_mut().advance(later, |_, _| {});
    host.run(Duration::from_millis(100));
    let received = (1..=MESSAGES).map(|number| (number, None));
    let expected: Vec<Ended> = received.chain([(0, Some(Cause::Refused))]).collect();
    assert_eq!(host.ended[0], expected);
    for (number, place) in (1..).zip(places) {
        assert_eq!(host.memory[place], bytes_of(number, 100));
    }
}

#[test]
fn an_endpoint_lingers_until_a_neighbour_whose_queue_was_full_has_its_answer() {
    let mut host = Host::met(2, Sharing { room: 1, ..sharing() });
    host.receive(1, FiAddr::UNSPEC, 1, 8, 2);
    host.deliver(0, 1, 1, 8);
    host.send(1, 0, NEVER, 8);
    host.progress(1);
    assert!(host.has(1, (2, None)), "the message was received, and its sender's queue is full");
    let lingers = |host: &Host| host.process(1).domain.ep_lingers(host.process(1).ep);
    let ep = host.process(1).ep;
    host.process_mut(1).domain.ep_shutdown(ep);
    assert!(lingers(&host));
    host.progress(0);
    host.progress(1);
    assert!(!lingers(&host));
    host.progress(0);
    assert!(host.has(0, (1, None)), "{:?}", host.ended);
}

#[test]
fn an_operation_begun_after_its_peer_has_died_fails_as_soon_as_one_begun_before() {
    let mut host = Host::met(2, sharing());
    host.processes[1] = None;
    host.run(Duration::from_millis(100));
    host.send(0, 1, 1, 8);
    host.run(Duration::from_millis(90));
    assert_eq!(host.ended[0], [(1, Some(Cause::Refused))]);
}

#[test]
fn a_neighbour_that_puts_nonsense_loses_its_own_route_only() {
    let nonsense: [(u8, &[u8]); 6] =
        [(0, &[]), (1, &[]), (1, &[0xff; 40]), (2, &[1; 60]), (0x13, &[0; 5]), (0x7f, &[0; 96])];
    for (kind, header) in nonsense {
        let mut host = Host::met(3, sharing());
        host.receive(0, FiAddr(1), NEVER, 8, 1);
        host.receive(0, FiAddr(2), NEVER, 8, 2);
        let memory = host.net.borrow().memory.clone();
        memory.lock().expect("one thread").put_nonsense(address(1), address(0), kind, header);
        host.run(Duration::from_millis(100));
        assert_eq!(host.ended[0], [(1, Some(Cause::Corrupt))], "kind {kind:#x}");
        let put = host.stats(2).1.put;
        host.send(2, 0, NEVER, 8);
        host.work();
        assert!(host.has(0, (2, None)), "kind {kind:#x}: {:?}", host.ended[0]);
        assert!(host.stats(2).1.put > put, "the other's route is gone");
    }
}

#[test]
fn unexpected_payload_beyond_half_of_the_pool_stays_at_the_sender_and_is_matched_in_any_order() {
    const POOL: usize = 32 << 10;
    const MESSAGES: u64 = 64;
    const LENGTH: usize = 1_000;
    let config = EpConfig { unexpected_pool: POOL, ..EpConfig::default() };
    let mut host = Host::met_with(2, sharing(), &config);
    for tag in 1..=MESSAGES {
        host.send(0, 1, tag, LENGTH);
        host.work();
    }
    host.run(Duration::from_millis(50));
    let kept = host.stats(1).0.unexpected_bytes_max;
    assert!(kept >= POOL as u64 / 2 && kept <= POOL as u64 * 3 / 4, "{kept} bytes of {POOL} were kept");
    let sent = host.ended[0].len() as u64;
    assert!(sent < MESSAGES * 3 / 4, "{sent} messages have left their sender");
    for tag in (1..=MESSAGES).rev() {
        let place = host.receive(1, FiAddr::UNSPEC, tag, LENGTH, usize::try_from(tag).expect("small"));
        host.work();
        assert_eq!(host.ended[1].last(), Some(&(usize::try_from(tag).expect("small"), None)));
        assert_eq!(host.memory[place], bytes_of(tag, LENGTH));
    }
    assert_eq!(host.ended[0].len() as u64, MESSAGES);
    assert!(host.ended[0].iter().all(|(_, cause)| cause.is_none()));
}

#[test]
fn nothing_begins_through_memory_while_something_sent_by_datagrams_is_unacknowledged() {
    let mut host = Host::new(2, Sharing { slow: 1_000_000, ..sharing() }, &EpConfig::default());
    for _ in 0..10 {
        host.converse(0, 1);
        host.converse(1, 0);
        host.run(Duration::from_millis(20));
    }
    host.ended.iter_mut().for_each(Vec::clear);
    assert_eq!(host.stats(0).0.links, 0);
    host.net.borrow_mut().faults.loss = 1_000_000;
    host.receive(1, FiAddr::UNSPEC, 1, 8, 1);
    host.receive(1, FiAddr::UNSPEC, 2, 8, 2);
    host.send(0, 1, 1, 8);
    let memory = host.net.borrow().memory.clone();
    memory.lock().expect("one thread").heal();
    host.run(Duration::from_millis(3_000));
    assert_eq!(host.stats(0).0.links, 1, "it could go through memory now");
    host.send(0, 1, 2, 8);
    host.run(Duration::from_millis(3_000));
    assert_eq!((host.stats(0).1.put, &host.ended[1][..]), (0, &[][..]));
    host.net.borrow_mut().faults.loss = 0;
    host.run(Duration::from_millis(5_000));
    assert_eq!(host.ended[1], [(1, None), (2, None)]);
    assert_eq!(host.stats(0).1.put, 1, "the second message");
}

#[test]
fn a_sleeper_is_rung() {
    let mut host = Host::met(2, sharing());
    // One that is awake is not.
    let datagrams = host.stats(0).0.tx_datagrams;
    host.converse(0, 1);
    host.work();
    assert_eq!(host.stats(0).0.tx_datagrams, datagrams);
    host.receive(1, FiAddr::UNSPEC, 1, 8, 1);
    let now = Instant::from_nanos(host.now());
    assert_ne!(host.process_mut(1).domain.sleep(now), Sleep::Not);
    host.send(0, 1, 1, 8);
    assert_eq!(host.stats(0).0.tx_datagrams, datagrams + 1);
    let arrival = host.net.borrow().next_arrival().expect("it is on its way");
    let mut rung = false;
    host.net.borrow_mut().advance(arrival, |at, _| rung |= at == address(1));
    assert!(rung, "its descriptor becomes readable");
    host.work();
    assert!(host.has(1, (1, None)));
    // And whoever has something in its queue does not fall asleep.
    host.send(0, 1, 2, 8);
    let now = Instant::from_nanos(host.now());
    assert_eq!(host.process_mut(1).domain.sleep(now), Sleep::Not);
}

/// The message is in the sleeper's queue, and its send has ended: nobody repeats it, so nobody but whoever put it can wake the sleeper.
#[test]
fn a_sleeper_is_rung_although_the_socket_was_full() {
    const TRIALS: u64 = 8;
    let mut host = Host::met(2, sharing());
    for trial in 1..=TRIALS {
        host.receive(1, FiAddr::UNSPEC, trial, 8, 1);
        let now = Instant::from_nanos(host.now());
        assert_ne!(host.process_mut(1).domain.sleep(now), Sleep::Not);
        host.net.borrow_mut().faults.blocked = 1_000_000;
        host.send(0, 1, trial, 8);
        host.net.borrow_mut().faults.blocked = 0;
        host.process_mut(0).domain.progress();
        let arrival = host.net.borrow().next_arrival().expect("it is on its way");
        let mut rung = false;
        host.net.borrow_mut().advance(arrival, |at, _| rung |= at == address(1));
        assert!(rung, "trial {trial}");
        host.work();
    }
}

/// Should that datagram get lost on its way, the sleeper looks by itself.
#[test]
fn a_sleeper_with_neighbours_looks_once_a_second() {
    let mut host = Host::met(2, sharing());
    host.receive(1, FiAddr::UNSPEC, 1, 8, 1);
    host.run(Duration::from_secs(5));
    let now = Instant::from_nanos(host.now());
    let sleep = host.process_mut(1).domain.sleep(now);
    assert!(matches!(sleep, Sleep::For(time) if time <= Duration::from_secs(1)), "{sleep:?}");
}

#[test]
fn an_endpoint_that_closes_forbids_pulls_and_its_announced_messages_end() {
    let mut host = Host::met(2, sharing());
    host.send(0, 1, 1, LONG);
    host.work();
    let ep = host.process(0).ep;
    host.process_mut(0).domain.ep_shutdown(ep);
    // From here on the memory is the application's again.
    let last = host.memory.len() - 1;
    host.memory[last].fill(0xee);
    let place = host.receive(1, FiAddr(0), 1, LONG, 2);
    host.run(Duration::from_millis(100));
    assert_eq!(host.stats(1).1.pulled_bytes, 0);
    drop(host.process_mut(0).domain.ep_remove(ep));
    host.processes[0] = None;
    host.run(Duration::from_secs(30));
    match host.ended[1][..] {
        [(2, None)] => assert_eq!(host.memory[place], bytes_of(1, LONG)),
        [(2, Some(_))] => {}
        ref other => panic!("{other:?}"),
    }
}
