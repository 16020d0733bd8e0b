//! The network: a virtual clock, datagrams on their way in a queue by time of arrival, a receive queue per port, and the faults that befall what passes.
//!
//! Knows no header (the trace option alone decodes, to print) and no endpoint. Everything that happens follows from the seed and the order of calls.

use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use rdgram_engine::{PathError, PathErrorKind};
use rdgram_wire::{Llp, Packet};

use crate::faults::Faults;
use crate::local::{Memory, SharedMemory, Sharing};
use crate::rng::{Rng, mix};

/// MTU of every interface: what senders know of the path.
pub const INTERFACE_MTU: u16 = 1_500;

/// Bytes that a queued datagram costs beyond its own: what a kernel's bookkeeping takes.
const QUEUE_OVERHEAD: usize = 256;

/// Room of a pooled datagram buffer: one that fits every datagram of an Ethernet-sized path never grows.
const BUFFER_CAPACITY: usize = 2_048;

/// Nanoseconds since the start of the run.
pub type Nanos = u64;

/// A duration in nanoseconds; runs are far shorter than the 584 years it can hold.
pub fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Names a port of the network; a port that was closed and opened again has a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortId(usize);

/// A datagram in a receive queue.
#[derive(Debug)]
pub struct Queued {
    /// Who sent it.
    pub source: SocketAddr,
    /// The UDP payload; give it back with [`Net::recycle`].
    pub bytes: Vec<u8>,
    /// Marked Congestion Experienced.
    pub congestion_experienced: bool,
}

/// What is on its way.
#[derive(Debug)]
enum Cargo {
    Datagram { destination: SocketAddr, datagram: Queued },
    Error { to: SocketAddr, error: PathError },
}

#[derive(Debug)]
struct Flight {
    at: Nanos,
    sequence: u64,
    cargo: Cargo,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[derive(Debug)]
struct Port {
    address: SocketAddr,
    open: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Something found no room.
    overflowed: bool,
    errors: VecDeque<PathError>,
}

/// One direction between two addresses.
#[derive(Debug)]
struct Link {
    source: SocketAddr,
    destination: SocketAddr,
    latency: Nanos,
    burst_left: u64,
    closed_until: Nanos,
}

/// What passed and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what it counts")]
pub struct NetCounters {
    pub sent: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub damaged: u64,
    pub too_big: u64,
    pub partitioned: u64,
    pub overflowed: u64,
    pub unreachable: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Net {
    now: Nanos,
    sequence: u64,
    rng: Rng,
    /// What goes wrong from now on.
    pub faults: Faults,
    /// Print every packet on stderr.
    pub trace: bool,
    /// What happened so far.
    pub counters: NetCounters,
    /// Memory that ports of one host share: of nobody, until it is replaced.
    pub memory: SharedMemory,
    latency_base: Nanos,
    flights: BinaryHeap<Reverse<Flight>>,
    ports: Vec<Port>,
    links: Vec<Link>,
    pool: Vec<Vec<u8>>,
    digest: u64,
}

impl Net {
    /// A network without ports whose links take about `latency` one way.
    pub fn new(rng: Rng, faults: Faults, latency: Duration) -> Self {
        Self {
            now: 0,
            sequence: 0,
            rng,
            faults,
            trace: false,
            counters: NetCounters::default(),
            memory: Memory::new(Sharing::none(), Rng::new(0, 0)),
            latency_base: nanos(latency),
            flights: BinaryHeap::with_capacity(4_096),
            ports: Vec::new(),
            links: Vec::new(),
            pool: Vec::new(),
            digest: 0,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// A number that depends on the header of every datagram ever sent, its length and its time: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Opens a port. The address must not be open.
    pub fn open(&mut self, address: SocketAddr) -> PortId {
        assert!(self.find(address).is_none(), "{address} is open already");
        self.ports.push(Port {
            address,
            open: true,
            queue: VecDeque::with_capacity(1_024),
            queued_bytes: 0,
            overflowed: false,
            errors: VecDeque::new(),
        });
        PortId(self.ports.len() - 1)
    }

    /// Closes a port: what it had received is gone, what arrives later is answered by a port-unreachable report.
    pub fn close(&mut self, port: PortId) {
        let port = &mut self.ports[port.0];
        port.open = false;
        port.queued_bytes = 0;
        port.errors.clear();
        self.pool.extend(port.queue.drain(..).map(|queued| queued.bytes));
    }

    /// The address of a port.
    pub fn address(&self, port: PortId) -> SocketAddr {
        self.ports[port.0].address
    }

    /// Bytes waiting in a port's receive queue, bookkeeping included.
    pub fn queued(&self, port: PortId) -> usize {
        self.ports[port.0].queued_bytes
    }

    /// Whether a port has something to read.
    pub fn is_readable(&self, port: PortId) -> bool {
        let port = &self.ports[port.0];
        !port.queue.is_empty() || !port.errors.is_empty()
    }

    /// Whether nothing is on its way and nothing waits to be read.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.ports.iter().all(|port| port.queue.is_empty())
    }

    /// The next datagram of a port.
    pub fn receive(&mut self, port: PortId) -> Option<Queued> {
        let port = &mut self.ports[port.0];
        let queued = port.queue.pop_front()?;
        port.queued_bytes -= queued.bytes.len() + QUEUE_OVERHEAD;
        Some(queued)
    }

    /// Whether a datagram found no room at a port since this was asked last.
    pub fn take_overflow(&mut self, port: PortId) -> bool {
        core::mem::take(&mut self.ports[port.0].overflowed)
    }

    /// The next datagram of a port, left there.
    pub fn peek(&self, port: PortId) -> Option<&Queued> {
        self.ports[port.0].queue.front()
    }

    /// The next error reported to a port.
    pub fn poll_error(&mut self, port: PortId) -> Option<PathError> {
        self.ports[port.0].errors.pop_front()
    }

    /// Closes one direction until a time.
    pub fn partition(&mut self, source: SocketAddr, destination: SocketAddr, until: Nanos) {
        let link = self.link(source, destination);
        self.links[link].closed_until = until;
    }

    /// Ends every fault; see [`Faults::heal`].
    pub fn heal(&mut self) {
        self.faults.heal();
        self.memory.lock().expect("one thread").heal();
        for link in &mut self.links {
            link.burst_left = 0;
            link.closed_until = 0;
        }
    }

    /// An empty buffer for a datagram.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_CAPACITY))
    }

    /// Gives a datagram's buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.pool.push(buffer);
    }

    /// Sends a datagram. `fragment`: IP may cut it up, so that the path's MTU does not matter.
    pub fn send(&mut self, source: SocketAddr, destination: SocketAddr, mut bytes: Vec<u8>, fragment: bool) {
        self.counters.sent += 1;
        self.note(source, destination, &bytes);
        let link = self.link(source, destination);
        if self.memory.lock().expect("one thread").rings(source, destination) {
            let at = self.now + self.transit(link);
            self.print("->", source, destination, &bytes);
            return self.launch(at, source, destination, bytes);
        }
        if let Some(reason) = self.swallow(link, ip_size(destination, bytes.len()), fragment) {
            self.print(reason, source, destination, &bytes);
            self.recycle(bytes);
            return;
        }
        let at = self.now + self.transit(link);
        if self.rng.chance(self.faults.duplicate) {
            self.counters.duplicated += 1;
            let mut copy = self.buffer();
            copy.extend_from_slice(&bytes);
            let late = at + self.rng.below(nanos(self.faults.duplicate_delay_max).max(1));
            self.launch(late, source, destination, copy);
        }
        if self.rng.chance(self.faults.corrupt) && !bytes.is_empty() {
            self.counters.damaged += 1;
            for _ in 0..=self.rng.below(3) {
                let bit = self.rng.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        if self.rng.chance(self.faults.truncate) {
            self.counters.damaged += 1;
            let keep = self.rng.index(bytes.len() + 1);
            bytes.truncate(keep);
        }
        self.print("->", source, destination, &bytes);
        self.launch(at, source, destination, bytes);
    }

    /// When the next thing arrives.
    pub fn next_arrival(&self) -> Option<Nanos> {
        self.flights.peek().map(|flight| flight.0.at)
    }

    /// Moves the clock to `to` and delivers what arrives until then. `arrived` is told each address that something came in at, and when.
    pub fn advance(&mut self, to: Nanos, mut arrived: impl FnMut(SocketAddr, Nanos)) {
        assert!(to >= self.now, "time does not go back");
        while self.flights.peek().is_some_and(|flight| flight.0.at <= to) {
            let flight = self.flights.pop().expect("peeked").0;
            self.now = flight.at;
            match flight.cargo {
                Cargo::Datagram { destination, datagram } => {
                    if self.deliver(destination, datagram) {
                        arrived(destination, flight.at);
                    }
                }
                Cargo::Error { to, error } => {
                    if let Some(port) = self.find(to) {
                        self.ports[port].errors.push_back(error);
                        arrived(to, flight.at);
                    }
                }
            }
        }
        self.now = to;
    }

    fn deliver(&mut self, destination: SocketAddr, datagram: Queued) -> bool {
        let Some(index) = self.find(destination) else {
            self.counters.unreachable += 1;
            self.print("unreachable", datagram.source, destination, &datagram.bytes);
            self.report(datagram.source, PathError { destination, kind: PathErrorKind::PortUnreachable });
            self.recycle(datagram.bytes);
            return false;
        };
        let cost = datagram.bytes.len() + QUEUE_OVERHEAD;
        if self.ports[index].queued_bytes + cost > self.faults.receive_buffer {
            self.counters.overflowed += 1;
            self.ports[index].overflowed = true;
            self.print("overflow", datagram.source, destination, &datagram.bytes);
            self.recycle(datagram.bytes);
            return false;
        }
        self.counters.delivered += 1;
        self.ports[index].queued_bytes += cost;
        self.ports[index].queue.push_back(datagram);
        true
    }

    /// Whether a datagram does not get through, and why.
    fn swallow(&mut self, link: usize, size: usize, fragment: bool) -> Option<&'static str> {
        if self.links[link].closed_until > self.now {
            self.counters.partitioned += 1;
            return Some("partitioned");
        }
        if let Some(path) = self.faults.path_mtu.filter(|path| size > usize::from(path.mtu) && !fragment) {
            self.counters.too_big += 1;
            if path.reported {
                let (source, destination) = (self.links[link].source, self.links[link].destination);
                self.report(source, PathError { destination, kind: PathErrorKind::TooBig(path.mtu) });
            }
            return Some("too big");
        }
        if self.links[link].burst_left > 0 {
            self.links[link].burst_left -= 1;
            self.counters.lost += 1;
            return Some("lost");
        }
        if self.rng.chance(self.faults.burst) {
            self.links[link].burst_left = self.rng.below(self.faults.burst_length.max(1));
            self.counters.lost += 1;
            return Some("lost");
        }
        if self.rng.chance(self.faults.loss) {
            self.counters.lost += 1;
            return Some("lost");
        }
        None
    }

    /// How long a datagram takes.
    fn transit(&mut self, link: usize) -> Nanos {
        let mut transit = self.links[link].latency;
        if !self.faults.jitter_max.is_zero() {
            transit += self.rng.below(nanos(self.faults.jitter_max));
        }
        if self.rng.chance(self.faults.reorder) {
            transit += self.rng.below(nanos(self.faults.reorder_delay_max).max(1));
        }
        transit
    }

    fn launch(&mut self, at: Nanos, source: SocketAddr, destination: SocketAddr, bytes: Vec<u8>) {
        let congestion_experienced = self.rng.chance(self.faults.marking);
        let datagram = Queued { source, bytes, congestion_experienced };
        self.push(at, Cargo::Datagram { destination, datagram });
    }

    /// An error travels back to whoever caused it.
    fn report(&mut self, to: SocketAddr, error: PathError) {
        let link = self.link(error.destination, to);
        let at = self.now + self.links[link].latency;
        if self.trace {
            eprintln!("{:>14} {to} learns {error:?}", self.now);
        }
        self.push(at, Cargo::Error { to, error });
    }

    fn push(&mut self, at: Nanos, cargo: Cargo) {
        self.sequence += 1;
        self.flights.push(Reverse(Flight { at, sequence: self.sequence, cargo }));
    }

    /// The open port of an address.
    fn find(&self, address: SocketAddr) -> Option<usize> {
        self.ports.iter().position(|port| port.open && port.address == address)
    }

    fn link(&mut self, source: SocketAddr, destination: SocketAddr) -> usize {
        let found =
            self.links.iter().position(|link| link.source == source && link.destination == destination);
        found.unwrap_or_else(|| {
            let latency = self.latency_base + self.rng.below(self.latency_base.max(1));
            self.links.push(Link { source, destination, latency, burst_left: 0, closed_until: 0 });
            self.links.len() - 1
        })
    }

    fn note(&mut self, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        let mut digest =
            self.digest ^ self.now ^ (u64::from(source.port()) << 48) ^ (u64::from(destination.port()) << 32);
        digest ^= bytes.len() as u64;
        // What follows the header may hold addresses of memory, which are others in every run.
        for word in bytes[..bytes.len().min(Llp::INTEGRITY_OFFSET)].chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            digest = (digest.rotate_left(5) ^ u64::from_le_bytes(padded)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.digest = mix(digest);
    }

    fn print(&self, what: &str, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        if !self.trace {
            return;
        }
        match Packet::decode(bytes) {
            Ok(packet) => eprintln!("{:>14} {source} {what} {destination}: {packet}", self.now),
            Err(malformed) => {
                eprintln!(
                    "{:>14} {source} {what} {destination}: {} bytes, {malformed}",
                    self.now,
                    bytes.len()
                );
            }
        }
    }
}

/// Bytes of the IP packet around a UDP payload.
pub fn ip_size(destination: SocketAddr, payload: usize) -> usize {
    payload + if destination.is_ipv4() { 28 } else { 48 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::PathMtu;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn net(faults: Faults) -> (Net, PortId, PortId) {
        let mut net = Net::new(Rng::new(1, 0), faults, Duration::from_micros(10));
        let (a, b) = (net.open(address(1)), net.open(address(2)));
        (net, a, b)
    }

    fn received(net: &mut Net, port: PortId) -> Vec<Vec<u8>> {
        core::iter::from_fn(|| net.receive(port).map(|queued| queued.bytes)).collect()
    }

    #[test]
    fn without_faults_everything_arrives_in_order() {
        let (mut net, _, b) = net(Faults::none());
        for byte in 0..100 {
            net.send(address(1), address(2), vec![byte], false);
        }
        net.advance(1_000, |_, _| panic!("nothing can have arrived yet"));
        net.advance(1_000_000, |at, _| assert_eq!(at, address(2)));
        assert_eq!(received(&mut net, b), (0..100).map(|byte| vec![byte]).collect::<Vec<_>>());
        assert!(net.is_idle());
        assert_eq!(net.queued(b), 0);
    }

    #[test]
    fn a_full_receive_queue_drops_the_newest() {
        let (mut net, _, b) = net(Faults { receive_buffer: 3 * (QUEUE_OVERHEAD + 1), ..Faults::none() });
        for byte in 0..5 {
            net.send(address(1), address(2), vec![byte], false);
        }
        net.advance(1_000_000, |_, _| {});
        assert_eq!(received(&mut net, b), [[0], [1], [2]]);
        assert_eq!(net.counters.overflowed, 2);
    }

    #[test]
    fn a_path_mtu_is_reported_unless_it_is_a_black_hole() {
        for reported in [true, false] {
            let (mut net, a, b) =
                net(Faults { path_mtu: Some(PathMtu { mtu: 1_300, reported }), ..Faults::none() });
            net.send(address(1), address(2), vec![0; 1_300 - 28], false);
            net.send(address(1), address(2), vec![0; 1_301 - 28], false);
            net.send(address(1), address(2), vec![0; 1_301 - 28], true);
            net.advance(1_000_000, |_, _| {});
            assert_eq!(received(&mut net, b).len(), 2);
            let error = PathError { destination: address(2), kind: PathErrorKind::TooBig(1_300) };
            assert_eq!(net.poll_error(a), reported.then_some(error));
        }
    }

    #[test]
    fn a_closed_port_answers_and_a_reopened_one_gets_what_is_on_its_way() {
        let (mut net, a, b) = net(Faults::none());
        net.close(b);
        net.send(address(1), address(2), vec![1], false);
        net.advance(1_000_000, |_, _| {});
        assert_eq!(
            net.poll_error(a),
            Some(PathError { destination: address(2), kind: PathErrorKind::PortUnreachable })
        );
        net.send(address(1), address(2), vec![2], false);
        let b = net.open(address(2));
        net.advance(2_000_000, |_, _| {});
        assert_eq!(received(&mut net, b), [[2]]);
    }

    #[test]
    fn a_partition_closes_one_direction_and_heals() {
        let (mut net, a, b) = net(Faults::none());
        net.partition(address(1), address(2), 500);
        net.send(address(1), address(2), vec![1], false);
        net.send(address(2), address(1), vec![2], false);
        net.advance(500, |_, _| {});
        net.send(address(1), address(2), vec![3], false);
        net.advance(1_000_000, |_, _| {});
        assert_eq!(received(&mut net, b), [[3]]);
        assert_eq!(received(&mut net, a), [[2]]);
    }

    #[test]
    fn loss_duplication_and_damage_happen_about_as_often_as_told() {
        let faults = Faults {
            loss: 100_000,
            burst: 10_000,
            burst_length: 10,
            duplicate: 100_000,
            duplicate_delay_max: Duration::from_millis(1),
            corrupt: 100_000,
            ..Faults::none()
        };
        let (mut net, _, b) = net(faults);
        for _ in 0..10_000 {
            net.send(address(1), address(2), vec![0; 100], false);
            let next = net.now() + 1_000;
            net.advance(next, |_, _| {});
            while let Some(queued) = net.receive(b) {
                net.recycle(queued.bytes);
            }
        }
        let NetCounters { lost, duplicated, damaged, .. } = net.counters;
        assert!((1_000..2_000).contains(&lost), "{lost}");
        assert!((700..1_000).contains(&duplicated), "{duplicated}");
        assert!((700..1_000).contains(&damaged), "{damaged}");
    }
}
