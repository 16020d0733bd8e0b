//! What the engine asks of the world: a clock and batches of datagrams.
//!
//! `prov/host` implements this over sockets, `tests/sim` over a seeded network. Nothing here knows a header: bytes out, bytes in.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use rdgram_proto::Instant;

use crate::local::LocalRoute;
use crate::mem::UserSlice;
use crate::plan::{Plan, Scattered};

/// Bytes set aside for the headers of one datagram: LLP 40 + SYN 64 + DDP 18 + extension 32, or the largest acknowledgement (244).
pub const HEADER_MAX: usize = 256;

/// One datagram to send: its headers by value, its payload by reference.
#[derive(Clone, Copy)]
pub struct TxPacket {
    /// Where to.
    pub destination: SocketAddr,
    /// The first `header_length` bytes are sent first.
    pub header: [u8; HEADER_MAX],
    /// How much of `header` is used: the headers, and a payload that fits behind them.
    pub header_length: u16,
    /// May be fragmented by IP (DF clear). Only for a packet that turned out too large for its path.
    pub fragment: bool,
    /// Zero bytes to append (path-MTU probes).
    pub padding: u16,
    /// The payload's slices: this many, from `first_slice` in the batch's arena.
    pub slices: u16,
    /// Index of the first payload slice in the batch's arena.
    pub first_slice: u32,
    /// Payload bytes, the sum over the slices.
    pub payload_length: u32,
}

impl TxPacket {
    const BLANK: Self = Self {
        destination: SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0),
        header: [0; HEADER_MAX],
        header_length: 0,
        fragment: false,
        padding: 0,
        slices: 0,
        first_slice: 0,
        payload_length: 0,
    };

    /// Bytes of the datagram.
    pub fn length(&self) -> usize {
        usize::from(self.header_length) + self.payload_length as usize + usize::from(self.padding)
    }
}

impl fmt::Debug for TxPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxPacket")
            .field("destination", &self.destination)
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// Datagrams to send, in order. The datapath may join consecutive ones of equal size and destination into one offloaded send.
#[derive(Debug)]
pub struct TxBatch {
    /// Packets are written where they lie and used again: only the first `used` mean something.
    packets: Vec<TxPacket>,
    used: usize,
    slices: Vec<UserSlice>,
    capacity: usize,
}

impl TxBatch {
    /// Headers that are copied from one packet to the next are no longer than this.
    pub(crate) const ALIKE_MAX: usize = 96;

    /// A batch that holds `capacity` datagrams without allocating.
    pub fn new(capacity: usize) -> Self {
        let (packets, slices) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity * 4));
        Self { packets, used: 0, slices, capacity }
    }

    /// The datagrams.
    pub fn packets(&self) -> &[TxPacket] {
        &self.packets[..self.used]
    }

    /// The payload slices of a datagram.
    pub fn slices(&self, packet: &TxPacket) -> &[UserSlice] {
        let first = packet.first_slice as usize;
        &self.slices[first..first + usize::from(packet.slices)]
    }

    /// Copies a whole datagram, headers, payload and padding, into `out` (cleared first).
    pub fn gather(&self, packet: &TxPacket, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&packet.header[..usize::from(packet.header_length)]);
        for slice in self.slices(packet) {
            slice.append_to(out);
        }
        out.resize(packet.length(), 0);
    }

    /// No datagram is waiting.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// No further datagram fits.
    pub fn is_full(&self) -> bool {
        self.used >= self.capacity
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.used = 0;
        self.slices.clear();
    }

    /// Appends a datagram: `write` fills in all of it but its slices, which `fill` pushes. Returns its length.
    pub(crate) fn push(
        &mut self,
        write: impl FnOnce(&mut TxPacket),
        fill: impl FnOnce(&mut Vec<UserSlice>),
    ) -> usize {
        write(self.next_packet().1);
        self.add_payload(fill)
    }

    /// Appends a datagram like the one before, whose headers `change` makes its own, with the payload that `fill` pushes. Returns its length.
    ///
    /// # Panics
    /// When there is none before, or its headers are longer than [`TxBatch::ALIKE_MAX`].
    pub(crate) fn push_alike(
        &mut self,
        change: impl FnOnce(&mut [u8]),
        fill: impl FnOnce(&mut Vec<UserSlice>),
    ) -> usize {
        let (before, packet) = self.next_packet();
        let like = before.last().expect("a packet to be like");
        // A copy of fixed length is a few moves.
        packet.header[..Self::ALIKE_MAX].copy_from_slice(&like.header[..Self::ALIKE_MAX]);
        packet.header_length = like.header_length;
        packet.destination = like.destination;
        packet.fragment = like.fragment;
        packet.padding = 0;
        change(&mut packet.header[..usize::from(like.header_length)]);
        self.add_payload(fill)
    }

    /// The packets in use, and the next one.
    fn next_packet(&mut self) -> (&[TxPacket], &mut TxPacket) {
        if self.used == self.packets.len() {
            self.packets.push(TxPacket::BLANK);
        }
        let (before, rest) = self.packets.split_at_mut(self.used);
        (before, &mut rest[0])
    }

    /// Gives the next packet its payload, and takes it in use.
    fn add_payload(&mut self, fill: impl FnOnce(&mut Vec<UserSlice>)) -> usize {
        let packet = &mut self.packets[self.used];
        self.used += 1;
        let first = self.slices.len();
        fill(&mut self.slices);
        let added = &self.slices[first..];
        packet.slices = u16::try_from(added.len()).expect("an operation has at most IOV_LIMIT slices");
        packet.payload_length = added
            .iter()
            .map(|slice| u32::try_from(slice.len()).expect("a segment is smaller than 64 KiB"))
            .sum();
        packet.first_slice = u32::try_from(first).expect("a batch holds few slices");
        packet.length()
    }
}

/// What became of a batch given to [`Datapath::transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmitted {
    /// The first this many datagrams were taken (sent, or lost by the network: the same to us).
    pub taken: usize,
    /// Why it stopped early, when it did.
    pub stopped: Option<TxStop>,
}

/// Why a datapath took fewer datagrams than it was given. The datagram at index `taken` is the one concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStop {
    /// No room now (EAGAIN, ENOBUFS): try again at the next progress call.
    Blocked,
    /// The datagram is larger than the route allows (EMSGSIZE); the largest that fits, when known.
    TooBig(Option<u16>),
    /// There is no route to this destination, or it is forbidden (EHOSTUNREACH, ENETUNREACH, EPERM); the errno.
    Unreachable(i32),
}

/// What the network reported about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The destination of the datagram that caused it.
    pub destination: SocketAddr,
    /// What was reported.
    pub kind: PathErrorKind,
}

/// Kinds of [`PathError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathErrorKind {
    /// ICMP port unreachable: nobody is bound to that port.
    PortUnreachable,
    /// ICMP host or network unreachable.
    HostUnreachable,
    /// ICMP fragmentation needed, with the next hop's MTU (IP packet size).
    TooBig(u16),
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The UDP source.
    pub source: SocketAddr,
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// The IP header said Congestion Experienced.
    pub congestion_experienced: bool,
}

/// What one call of [`Datapath::receive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Datagrams handed to the sink.
    pub datagrams: usize,
    /// The receive queue was found empty: nothing is left to read now.
    pub drained: bool,
    /// Datagrams were dropped for want of room in the receive queue.
    pub overflowed: bool,
}

/// A socket and a clock, or a simulation of both. One belongs to each endpoint.
pub trait Datapath {
    /// The time. Monotonic; read once per batch.
    fn now(&self) -> Instant;

    /// The address that peers reach this endpoint by.
    fn local_address(&self) -> SocketAddr;

    /// Largest IP packet on the route to `destination`, as far as the host knows (interface MTU). Asked once per peer.
    fn route_mtu(&self, destination: SocketAddr) -> u16;

    /// Bytes of receive buffer that the kernel keeps for this endpoint: what credits divide among peers.
    fn receive_buffer(&self) -> usize;

    /// Receives one batch without blocking, calling `sink` for each datagram in order.
    fn receive(&mut self, sink: &mut dyn FnMut(Datagram<'_>)) -> Received;

    /// Receives one datagram or train without blocking, scattered as `plan` says, whatever it turns out to be. `sink` is called once at most.
    /// Nothing received and yet not drained: what came is lost, because the plan has a target that is no memory.
    fn receive_scattered(&mut self, plan: &Plan, sink: &mut dyn FnMut(Scattered<'_>)) -> Received;

    /// Sends a batch without blocking.
    fn transmit(&mut self, batch: &TxBatch) -> Transmitted;

    /// The next error the network reported, if any. Polled only after `receive` or `transmit` hinted at one or every so often.
    fn poll_error(&mut self) -> Option<PathError>;

    /// Random bits for cookies, context ids and initial PSNs.
    fn random(&mut self) -> u64;

    /// A clock value to order incarnations by: of the host, not of the process (wall clock nanoseconds).
    fn incarnation(&self) -> u64;

    /// The way to other endpoints of this host through memory, when there is one. Asked once, when the endpoint is enabled with this incarnation.
    fn open_local(&mut self, incarnation: u64) -> Option<Box<dyn LocalRoute>> {
        let _ = incarnation;
        None
    }

    /// An endpoint that has been idle for some time gave much memory back to the allocator. A good moment to give it to the system.
    fn released(&mut self) {}
}

/// Called when something a waiter may be blocked on happened.
pub trait Wake: Send + Sync + fmt::Debug {
    /// Makes the waiter's descriptor readable.
    fn wake(&self);
}

/// How long a waiter may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// Work is at hand: do not sleep.
    Not,
    /// At most this long, unless a datagram arrives.
    For(Duration),
    /// Until a datagram arrives.
    Forever,
}
