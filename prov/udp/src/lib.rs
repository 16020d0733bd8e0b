//! UDP sockets for rdgram: batches of datagrams out and in, and what the network reports about them.
//!
//! Knows no header and no endpoint: bytes out, bytes in. Everything that can go wrong with one datagram is told
//! apart here (no room, too large, no route, an ICMP report about an earlier one), so that nothing above reads an
//! errno of a socket.
//!
//! - `socket`: opening, binding, options
//! - `tx`: sending, one system call for many datagrams; trains of equal size go as one (UDP_SEGMENT)
//! - `rx`: receiving, trains split again (UDP_GRO)
//! - `scatter`: receiving straight to where the caller wants it
//! - `errors`: the socket's error queue
//! - `route`: what the host knows about the way to an address
//! - `control`, `name`: ancillary data and socket addresses as the kernel lays them out

mod control;
mod errors;
mod name;
mod route;
mod rx;
mod scatter;
mod socket;
mod tx;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

pub use errors::{NetworkError, NetworkErrorKind};
pub use route::Route;
pub use rx::{Datagram, Received};
pub use scatter::{Plan, Scattered};
pub use socket::Options;
pub use tx::{Packets, Pieces, Sent, Shape, Stop};

use errors::ErrorQueue;
use rx::Receiver;
use socket::Socket;
use tx::Sender;

/// Largest payload of one UDP datagram over IPv4, and of one train over either family.
pub const PAYLOAD_MAX: usize = 65_507;

/// One bound socket with the buffers to use it: never blocks, and allocates nothing once it is open.
#[derive(Debug)]
pub struct Udp {
    socket: Socket,
    sender: Sender,
    receiver: Receiver,
    errors: ErrorQueue,
}

impl Udp {
    /// Opens a socket bound to `bind`. Port 0 takes any free one, of `options.port_range` when there is one.
    ///
    /// # Errors
    /// What the system says; a range with no free port is `AddrInUse` with the range in its message.
    pub fn open(bind: SocketAddr, options: &Options) -> io::Result<Self> {
        let socket = Socket::open(bind, options)?;
        let segmentation = options.segmentation && socket.can_segment();
        Ok(Self {
            sender: Sender::new(segmentation),
            receiver: Receiver::new(),
            errors: ErrorQueue::new(),
            socket,
        })
    }

    /// The address and port that it is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local()
    }

    /// Bytes of receive buffer as the kernel accounts them (twice what was asked for, when it was granted).
    pub fn receive_buffer(&self) -> usize {
        self.socket.receive_buffer()
    }

    /// Datagrams that found no room in the receive buffer so far, modulo 2^32. A system call.
    pub fn dropped(&self) -> u32 {
        self.socket.dropped()
    }

    /// Whether runs of equal datagrams still go out as trains.
    pub fn segmentation(&self) -> bool {
        self.sender.segmentation()
    }

    /// Sends `packets` in order, without blocking, in as few system calls as possible.
    pub fn send<P: Packets>(&mut self, packets: &P) -> Sent {
        self.sender.send(&self.socket, &mut self.errors, packets)
    }

    /// Receives one batch without blocking: one system call. `sink` sees each datagram, in order.
    pub fn receive(&mut self, sink: &mut dyn FnMut(Datagram<'_>)) -> Received {
        self.receiver.receive(&self.socket, &mut self.errors, sink)
    }

    /// Receives one datagram or train without blocking, scattered as `plan` says: one system call. `sink` sees it, unless there is none.
    pub fn receive_scattered<P: Plan>(&mut self, plan: &P, sink: &mut dyn FnMut(Scattered<'_>)) -> Received {
        self.receiver.receive_scattered(&self.socket, &mut self.errors, plan, sink)
    }

    /// The next report about an earlier datagram. Free unless a send or receive call found a hint at one.
    pub fn poll_error(&mut self) -> Option<NetworkError> {
        self.errors.poll(&self.socket)
    }

    /// What the host knows about the way to `destination`. Makes system calls: ask once per peer.
    ///
    /// # Errors
    /// No route, or no descriptor free.
    pub fn route(destination: SocketAddr) -> io::Result<Route> {
        route::look_up(destination)
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
