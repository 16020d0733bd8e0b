//! Endpoints on a network of queues: no loss unless a test asks for it, time moves by hand. The simulator is for schedules; this is for semantics.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use rdgram_engine::*;

type Lose = Box<dyn FnMut(&SocketAddr, &[u8]) -> bool>;
pub(crate) type Queue = VecDeque<(SocketAddr, Vec<u8>)>;

/// Longest train, bytes.
const TRAIN_MAX: usize = 65_507;

/// Whose datagrams are noise.
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// What all datapaths of a test share.
#[derive(Default)]
pub(crate) struct Net {
    queues: HashMap<SocketAddr, Queue>,
    pub(crate) now_ns: u64,
    /// Decides for each datagram whether it is lost.
    pub(crate) lose: Option<Lose>,
    /// Reported to senders whose destination does not exist.
    pub(crate) unreachable: VecDeque<(SocketAddr, SocketAddr)>,
    pub(crate) sent: u64,
    /// Calls that sent something.
    pub(crate) calls: u64,
    /// What every endpoint is told of its receive buffer.
    pub(crate) receive_buffer: usize,
    /// What every endpoint is told of its routes; 1,500 when nothing is said.
    pub(crate) route_mtu: Option<u16>,
    /// What the next receive call says of drops.
    pub(crate) overflowed: bool,
    /// This endpoint's receive calls never come to the end: noise of strangers arrives as fast as it reads.
    pub(crate) flooded: Option<SocketAddr>,
    /// Nothing can be sent there.
    pub(crate) no_route: Option<SocketAddr>,
    /// This endpoint's socket takes so many datagrams more.
    pub(crate) room: Option<(SocketAddr, usize)>,
    /// This endpoint's interface takes whole datagrams of so many bytes.
    pub(crate) limit: Option<(SocketAddr, usize)>,
    /// Datagrams that were refused.
    pub(crate) refused: u64,
    random: u64,
}

/// More refusals than any test's endpoint has reason for: it tries the same again and again.
const REFUSALS_MAX: u64 = 10_000;

impl Net {
    /// Why the endpoint at `source` cannot send this datagram now.
    fn refusal(&mut self, source: SocketAddr, packet: &TxPacket, length: usize) -> Option<TxStop> {
        if self.no_route == Some(packet.destination) {
            return Some(TxStop::Unreachable(113));
        }
        if self.limit.is_some_and(|(at, most)| at == source && length > most) && !packet.fragment {
            return Some(TxStop::TooBig(self.limit.and_then(|(_, most)| u16::try_from(most + 28).ok())));
        }
        match &mut self.room {
            Some((at, 0)) if *at == source => return Some(TxStop::Blocked),
            Some((at, left)) if *at == source => *left -= 1,
            _ => {}
        }
        None
    }
}

pub(crate) type SharedNet = Rc<RefCell<Net>>;

pub(crate) struct Path {
    net: SharedNet,
    address: SocketAddr,
    incarnation: u64,
}

impl Drop for Path {
    fn drop(&mut self) {
        self.net.borrow_mut().queues.remove(&self.address);
    }
}

impl Datapath for Path {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.net.borrow().now_ns)
    }
    fn local_address(&self) -> SocketAddr {
        self.address
    }
    fn route_mtu(&self, _destination: SocketAddr) -> u16 {
        self.net.borrow().route_mtu.unwrap_or(1500)
    }
    fn receive_buffer(&self) -> usize {
        self.net.borrow().receive_buffer
    }
    fn receive(&mut self, sink: &mut dyn FnMut(Datagram<'_>)) -> Received {
        let mut datagrams = 0;
        let overflowed = core::mem::take(&mut self.net.borrow_mut().overflowed);
        loop {
            let next = self.net.borrow_mut().queues.get_mut(&self.address).and_then(VecDeque::pop_front);
            let Some((source, bytes)) = next else {
                if self.net.borrow().flooded != Some(self.address) {
                    return Received { datagrams, drained: true, overflowed };
                }
                let noise = Datagram { source: STRANGER, bytes: b"noise", congestion_experienced: false };
                sink(noise);
                sink(noise);
                return Received { datagrams: datagrams + 2, drained: false, overflowed };
            };
            sink(Datagram { source, bytes: &bytes, congestion_experienced: false });
            datagrams += 1;
        }
    }
    fn receive_scattered(&mut self, plan: &Plan, sink: &mut dyn FnMut(Scattered<'_>)) -> Received {
        let mut net = self.net.borrow_mut();
        let queue = net.queues.get_mut(&self.address).expect("it lives");
        let Some((source, mut train)) = queue.pop_front() else {
            return Received { datagrams: 0, drained: true, overflowed: false };
        };
        let segment = train.len();
        let mut datagrams = 1;
        while train.len() == datagrams * segment
            && queue.front().is_some_and(|(from, bytes)| {
                *from == source
                    && (1..=segment).contains(&bytes.len())
                    && train.len() + bytes.len() <= TRAIN_MAX
            })
        {
            train.extend(queue.pop_front().expect("it was looked at").1);
            datagrams += 1;
        }
        drop(net);
        let (mut headers, mut bounce) = (vec![0; Plan::DATAGRAMS_MAX * Plan::HEADER], vec![0; Plan::ROOM]);
        plan.scatter(&train, &mut headers, &mut bounce);
        sink(Scattered {
            source,
            congestion_experienced: false,
            segment: if datagrams == 1 { 0 } else { segment },
            length: train.len(),
            headers: &headers,
            bounce: &mut bounce,
        });
        Received { datagrams, drained: false, overflowed: false }
    }
    fn transmit(&mut self, batch: &TxBatch) -> Transmitted {
        let mut bytes = Vec::new();
        self.net.borrow_mut().calls += 1;
        for (taken, packet) in batch.packets().iter().enumerate() {
            batch.gather(packet, &mut bytes);
            let mut net = self.net.borrow_mut();
            if let Some(stop) = net.refusal(self.address, packet, bytes.len()) {
                net.refused += 1;
                assert!(net.refused < REFUSALS_MAX, "it tries for ever");
                return Transmitted { taken, stopped: Some(stop) };
            }
            net.sent += 1;
            let mut lose = net.lose.take();
            let lost = lose.as_mut().is_some_and(|lose| lose(&packet.destination, &bytes));
            net.lose = lose;
            if lost {
                continue;
            }
            match net.queues.get_mut(&packet.destination) {
                Some(queue) => queue.push_back((self.address, bytes.clone())),
                None => net.unreachable.push_back((self.address, packet.destination)),
            }
        }
        Transmitted { taken: batch.packets().len(), stopped: None }
    }
    fn poll_error(&mut self) -> Option<PathError> {
        let mut net = self.net.borrow_mut();
        let index = net.unreachable.iter().position(|(source, _)| *source == self.address)?;
        let (_, destination) = net.unreachable.remove(index)?;
        Some(PathError { destination, kind: PathErrorKind::PortUnreachable })
    }
    fn random(&mut self) -> u64 {
        let mut net = self.net.borrow_mut();
        net.random =
            net.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        net.random
    }
    fn incarnation(&self) -> u64 {
        self.incarnation
    }
}

/// A process with one endpoint, one queue and one address vector.
pub(crate) struct Node {
    pub(crate) domain: Domain<Path>,
    pub(crate) ep: EpId,
    pub(crate) cq: CqId,
    pub(crate) av: AvId,
    pub(crate) cntr: CntrId,
    pub(crate) address: SocketAddr,
    net: SharedNet,
}

pub(crate) fn net() -> SharedNet {
    Rc::new(RefCell::new(Net { now_ns: 1, receive_buffer: 8 << 20, ..Net::default() }))
}

impl Node {
    pub(crate) fn new(net: &SharedNet, port: u16) -> Self {
        Self::with(net, port, EpConfig::default(), u64::from(port))
    }

    pub(crate) fn with(net: &SharedNet, port: u16, config: EpConfig, incarnation: u64) -> Self {
        Self::counting(net, port, config, incarnation, CounterEvents::SEND | CounterEvents::RECV)
    }

    /// With a counter of these events.
    pub(crate) fn counting(
        net: &SharedNet,
        port: u16,
        config: EpConfig,
        incarnation: u64,
        events: CounterEvents,
    ) -> Self {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        net.borrow_mut().queues.insert(address, Queue::new());
        let mut domain = Domain::new();
        let cq = domain.cq_open(16);
        let av = domain.av_open(4);
        let cntr = domain.cntr_open();
        let ep = domain.ep_open(config, Path { net: net.clone(), address, incarnation });
        domain.ep_bind_cq(ep, cq, Direction::Transmit).unwrap();
        domain.ep_bind_cq(ep, cq, Direction::Receive).unwrap();
        domain.ep_bind_cntr(ep, cntr, events).unwrap();
        domain.ep_bind_av(ep, av).unwrap();
        domain.ep_enable(ep).unwrap();
        Self { domain, ep, cq, av, cntr, address, net: net.clone() }
    }

    /// Ends it without a word, and makes another at its address.
    pub(crate) fn restarted(self, incarnation: u64) -> Self {
        let (net, port) = (self.net.clone(), self.address.port());
        drop(self);
        Self::with(&net, port, EpConfig::default(), incarnation)
    }

    pub(crate) fn knows(&mut self, other: &Node) -> FiAddr {
        self.domain.av_insert(self.av, other.address)
    }

    /// The next entry of the queue.
    pub(crate) fn next(&mut self) -> Option<Result<Completion, Failure>> {
        match self.domain.cq_pop(self.cq) {
            Ok(None) => None,
            Ok(Some(completion)) => Some(Ok(completion)),
            Err(FailurePending) => self.domain.cq_pop_failure(self.cq).map(Err),
        }
    }

    pub(crate) fn all(&mut self) -> Vec<Result<Completion, Failure>> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// From now on `lose` decides for each datagram of the network whether it is lost.
    pub(crate) fn lose(&self, lose: impl FnMut(&SocketAddr, &[u8]) -> bool + 'static) {
        self.net.borrow_mut().lose = Some(Box::new(lose));
    }

    /// The `nth` datagram to this node from now on is lost, the first being 1.
    pub(crate) fn lose_nth(&self, nth: usize) {
        let (at, mut count) = (self.address, 0);
        self.lose(move |to, _| {
            count += usize::from(*to == at);
            *to == at && count == nth
        });
    }

    /// A datagram that nobody's endpoint made arrives.
    pub(crate) fn inject(&self, source: SocketAddr, bytes: &[u8]) {
        let mut net = self.net.borrow_mut();
        net.queues.get_mut(&self.address).expect("it lives").push_back((source, bytes.to_vec()));
    }

    /// The next receive call of anybody tells that datagrams were dropped.
    pub(crate) fn net_overflows(&self) {
        self.net.borrow_mut().overflowed = true;
    }

    /// From now on noise arrives here as fast as it is read.
    pub(crate) fn is_flooded(&self) {
        self.net.borrow_mut().flooded = Some(self.address);
    }

    /// Its socket takes so many datagrams from now on.
    pub(crate) fn has_room_for(&self, datagrams: usize) {
        self.net.borrow_mut().room = Some((self.address, datagrams));
    }

    /// Changes what its network does.
    pub(crate) fn change_net(&self, change: impl FnOnce(&mut Net)) {
        change(&mut self.net.borrow_mut());
    }

    /// Changes what waits to be received.
    pub(crate) fn change_waiting(&self, change: impl FnOnce(&mut Queue)) {
        change(self.net.borrow_mut().queues.get_mut(&self.address).expect("it lives"));
    }

    /// Datagrams that wait to be received.
    pub(crate) fn waiting(&self) -> usize {
        self.net.borrow().queues[&self.address].len()
    }

    /// Bytes of them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.net.borrow().queues[&self.address].iter().map(|(_, bytes)| bytes.len()).sum()
    }

    pub(crate) fn time_passes(&self, micros: u64) {
        self.net.borrow_mut().now_ns += micros * 1000;
    }

    pub(crate) fn send(&mut self, to: FiAddr, bytes: &[u8], tag: Option<u64>, context: usize) {
        self.send_with(to, bytes, tag, None, context, OpFlags::COMPLETION).unwrap();
    }

    pub(crate) fn send_with(
        &mut self,
        to: FiAddr,
        bytes: &[u8],
        tag: Option<u64>,
        data: Option<u64>,
        context: usize,
        flags: OpFlags,
    ) -> Result<(), SubmitError> {
        let slices = [slice(bytes)];
        self.domain.send(self.ep, &SendOp { destination: to, slices: &slices, tag, data, context, flags })
    }

    pub(crate) fn recv(&mut self, from: FiAddr, buffer: &mut [u8], tag: Option<(u64, u64)>, context: usize) {
        self.recv_with(from, buffer, tag, context, OpFlags::COMPLETION);
    }

    pub(crate) fn recv_with(
        &mut self,
        from: FiAddr,
        buffer: &mut [u8],
        tag: Option<(u64, u64)>,
        context: usize,
        flags: OpFlags,
    ) {
        let slices = [slice(buffer)];
        let matching = Match { source: from, tag: tag.map(|(tag, ignore)| TagMatch { tag, ignore }) };
        self.domain.recv(self.ep, &RecvOp { matching, slices: &slices, context, flags }).unwrap();
    }
}

/// Two that have met, and the second one's address at the first: whatever comes from now on has no SYN.
pub(crate) fn acquainted() -> (Node, Node, FiAddr) {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let to_b = a.knows(&b);
    b.knows(&a);
    let mut hello = [0; 5];
    b.recv(FiAddr::UNSPEC, &mut hello, None, 0);
    a.send(to_b, b"hello", None, 0);
    settle(&mut [&mut a, &mut b]);
    assert!(a.all().len() == 1 && b.all().len() == 1);
    (a, b, to_b)
}

/// Describes test memory, which outlives every operation of its test.
pub(crate) fn slice(bytes: &[u8]) -> UserSlice {
    // SAFETY: tests keep their buffers alive until the operations on them have completed, and look at receive buffers only afterwards.
    unsafe { UserSlice::new(bytes.as_ptr().cast_mut(), bytes.len()) }
}

/// Progresses all nodes until nothing happens any more, moving time on in between.
pub(crate) fn settle(nodes: &mut [&mut Node]) {
    let mut idle = 0;
    for _ in 0..20_000 {
        let mut worked = false;
        for node in nodes.iter_mut() {
            worked |= node.domain.progress();
        }
        nodes[0].time_passes(if worked { 10 } else { 500 });
        idle = if worked { 0 } else { idle + 1 };
        if idle > 20 && nodes.iter().all(|node| node.domain.is_quiet()) {
            return;
        }
        if idle > 400 {
            return;
        }
    }
    panic!("traffic never settles");
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index * 31 + seed * 17 + index / 251) % 256).unwrap()).collect()
}
