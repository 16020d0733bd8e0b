//! The engine's datapath over one UDP socket.
//!
//! Translates, and decides nothing: what errors mean is told apart below (`rdgram-udp`), what to do about them above.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rdgram_engine::{
    Datagram, Datapath, Instant, LocalRoute, PathError, PathErrorKind, Plan, Received, Scattered,
    Transmitted, TxBatch, TxPacket, TxStop,
};
use rdgram_udp::{NetworkErrorKind, Packets, Pieces, Shape, Stop, Udp};

use crate::local::HostLocal;
use crate::{Dma, Report, SocketOptions, clock};

/// A bound socket, as the engine's endpoints see it.
#[derive(Debug)]
pub struct HostDatapath {
    udp: Udp,
    /// Bytes of receive buffer that were asked for.
    wanted: usize,
    /// How memory may be shared with endpoints of this host, if at all.
    local: Option<(Dma, Report)>,
}

impl HostDatapath {
    /// Opens a socket bound to `bind`, which should name one address of this host: it is the endpoint's name.
    ///
    /// # Errors
    /// What the system says; no free port in the range of `options` is `AddrInUse` with the range in its message.
    pub fn open(bind: SocketAddr, options: &SocketOptions) -> io::Result<Self> {
        Ok(Self { udp: Udp::open(bind, options)?, wanted: options.receive_buffer, local: None })
    }

    /// Lets the endpoint share memory with others of this host, once it is enabled. `report` is told why that does not work, where it should.
    pub fn permit_local(&mut self, dma: Dma, report: Report) {
        self.local = Some((dma, report));
    }

    /// The socket, to wait on it. Readable when a datagram or a report of the network is there.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }

    /// When the system granted less receive buffer than was asked for: what was wanted and what there is, in bytes as
    /// `net.core.rmem_max` counts them.
    pub fn receive_buffer_short(&self) -> Option<(usize, usize)> {
        // The kernel reports twice the size set, its own overhead included.
        let got = self.udp.receive_buffer() / 2;
        (got < self.wanted).then_some((self.wanted, got))
    }

    /// Datagrams that found no room in the receive buffer so far, modulo 2^32.
    pub fn dropped(&self) -> u32 {
        self.udp.dropped()
    }
}

/// The engine's batch, as the socket layer sees it.
struct Batch<'a>(&'a TxBatch);

impl Batch<'_> {
    fn packet(&self, index: usize) -> &TxPacket {
        &self.0.packets()[index]
    }
}

// SAFETY: headers live in the batch, which is borrowed for the call; the payload slices are operations' buffers, which
// the engine holds only as long as they are valid for reads (the promise of `UserSlice::new`).
unsafe impl Packets for Batch<'_> {
    fn count(&self) -> usize {
        self.0.packets().len()
    }

    fn shape(&self, index: usize) -> Shape {
        let packet = self.packet(index);
        Shape { destination: packet.destination, length: packet.length(), fragment: packet.fragment }
    }

    fn gather(&self, index: usize, pieces: &mut Pieces<'_>) {
        let packet = self.packet(index);
        let header = &packet.header[..usize::from(packet.header_length)];
        pieces.push(header.as_ptr(), header.len());
        for slice in self.0.slices(packet) {
            pieces.push(slice.address().cast_const(), slice.len());
        }
        pieces.push_zeros(usize::from(packet.padding));
    }
}

/// The engine's plan, as the socket layer sees it.
struct Targets<'a>(&'a Plan);

// SAFETY: targets are buffers of operations that have not completed (the promise of `UserSlice::new`), and none can
// complete before the engine, in the sink, handles what was received.
unsafe impl rdgram_udp::Plan for Targets<'_> {
    fn header(&self) -> usize {
        Plan::HEADER
    }

    fn count(&self) -> usize {
        self.0.targets().len()
    }

    fn target(&self, index: usize) -> (*mut u8, usize) {
        let target = self.0.targets()[index];
        (target.address(), target.len())
    }
}

impl Datapath for HostDatapath {
    fn now(&self) -> Instant {
        clock::now()
    }

    fn local_address(&self) -> SocketAddr {
        self.udp.local_address()
    }

    fn route_mtu(&self, destination: SocketAddr) -> u16 {
        crate::interfaces::route_mtu(destination)
    }

    fn receive_buffer(&self) -> usize {
        self.udp.receive_buffer()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(Datagram<'_>)) -> Received {
        let received = self.udp.receive(&mut |datagram| {
            sink(Datagram {
                source: datagram.source,
                bytes: datagram.bytes,
                congestion_experienced: datagram.congestion_experienced,
            });
        });
        Received { datagrams: received.datagrams, drained: received.drained, overflowed: received.overflowed }
    }

    fn receive_scattered(&mut self, plan: &Plan, sink: &mut dyn FnMut(Scattered<'_>)) -> Received {
        let received = self.udp.receive_scattered(&Targets(plan), &mut |train| {
            sink(Scattered {
                source: train.source,
                congestion_experienced: train.congestion_experienced,
                segment: train.segment,
                length: train.length,
                headers: train.headers,
                bounce: train.bounce,
            });
        });
        Received { datagrams: received.datagrams, drained: received.drained, overflowed: received.overflowed }
    }

    fn transmit(&mut self, batch: &TxBatch) -> Transmitted {
        let sent = self.udp.send(&Batch(batch));
        let stopped = sent.stopped.map(|stop| match stop {
            Stop::Blocked => TxStop::Blocked,
            Stop::TooBig(mtu) => TxStop::TooBig(mtu),
            Stop::Unreachable(errno) => TxStop::Unreachable(errno),
        });
        Transmitted { taken: sent.taken, stopped }
    }

    fn poll_error(&mut self) -> Option<PathError> {
        self.udp.poll_error().map(|error| PathError {
            destination: error.destination,
            kind: match error.kind {
                NetworkErrorKind::PortUnreachable => PathErrorKind::PortUnreachable,
                NetworkErrorKind::HostUnreachable => PathErrorKind::HostUnreachable,
                NetworkErrorKind::TooBig(mtu) => PathErrorKind::TooBig(mtu),
            },
        })
    }

    fn random(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: the buffer is live, exclusive and of the length given.
        let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        // Requests of up to 256 bytes are filled whole and cannot be interrupted (getrandom(2)).
        assert_eq!(usize::try_from(filled), Ok(bytes.len()), "the system gives no random numbers");
        u64::from_ne_bytes(bytes)
    }

    fn open_local(&mut self, incarnation: u64) -> Option<Box<dyn LocalRoute>> {
        let (dma, report) = self.local?;
        match HostLocal::open(self.udp.local_address(), incarnation, dma, report) {
            Ok(local) => Some(Box::new(local)),
            Err(error) => {
                report(
                    true,
                    &format!("no shared memory with peers on this host: {error}; datagrams are used instead"),
                );
                None
            }
        }
    }

    fn incarnation(&self) -> u64 {
        clock::incarnation()
    }

    fn released(&mut self) {
        // What is freed in the middle of the heap stays with the process otherwise.
        #[cfg(target_env = "gnu")]
        // SAFETY: takes a number, and moves nothing that is in use; any thread may call it at any time.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}
