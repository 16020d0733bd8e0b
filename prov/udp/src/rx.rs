//! Receiving: one system call for many datagrams, into buffers that hold whole trains.
//!
//! The sink sees the bytes where the kernel put them. Never blocks, never copies, never looks into a datagram.

use core::ptr;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::control::Control;
use crate::errors::ErrorQueue;
use crate::name::{NAME_MAX, Name};
use crate::scatter::{Plan, Scattered, Scatterer};
use crate::socket::{Socket, errno};

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it, or claims to have.
    pub source: SocketAddr,
    /// Its payload.
    pub bytes: &'a [u8],
    /// A router marked it: Congestion Experienced.
    pub congestion_experienced: bool,
}

/// What one call of [`Udp::receive`](crate::Udp::receive) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Datagrams given to the sink.
    pub datagrams: usize,
    /// The queue was found empty.
    pub drained: bool,
    /// Before one of these datagrams others were dropped: the socket's buffer was full (SO_RXQ_OVFL).
    pub overflowed: bool,
}

/// Largest train: what the length field of an IP packet can say.
pub(crate) const BUFFER_SIZE: usize = 1 << 16;

/// Buffers: each takes a datagram or a train. Few, because a train fills the cache already.
const BUFFERS: usize = 8;

/// Buffers offered when the last two calls did not both fill all: a quiet socket is asked by the plain call, which costs less, and most often has nothing.
const BUFFERS_QUIET: usize = 1;

/// Failed calls in a row that are taken for hints at reports in the error queue.
const HINTS_MAX: u32 = 16;

/// The CE codepoint, both ECN bits set (RFC 3168).
const CONGESTION_EXPERIENCED: u8 = 0b11;

/// Buffers and headers to receive into.
pub(crate) struct Receiver {
    /// `BUFFERS` times `BUFFER_SIZE`; pages that were never needed are never touched.
    bytes: Box<[u8]>,
    slots: Box<[Slot; BUFFERS]>,
    headers: Box<[libc::mmsghdr; BUFFERS]>,
    /// Buffers to offer next time.
    offer: usize,
    /// The last call filled all that it was offered.
    filled: bool,
    /// Headers from the first that the kernel has not written to since they were prepared.
    prepared: usize,
    /// Drops that the socket has counted so far, as a datagram told: modulo 2^32.
    drops: u32,
    scatterer: Scatterer,
}

/// What the kernel fills beside the payload.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    name: Name,
    control: Control,
    iovec: libc::iovec,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            name: Name::empty(),
            control: Control::new(),
            iovec: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
        }
    }

    /// A header whose name and ancillary data are this slot's, without a piece.
    pub(crate) fn header(&mut self) -> libc::msghdr {
        // SAFETY: a `msghdr` is plain data, for which zero is a valid value.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut self.name).cast();
        header.msg_namelen = NAME_MAX;
        header.msg_control = ptr::from_mut(&mut self.control).cast();
        header.msg_controllen = self.control.0.len();
        header
    }

    /// What the kernel said beside the payload, in so many bytes of ancillary data.
    fn ancillary(&self, length: usize) -> Ancillary {
        let mut said = Ancillary::default();
        for message in self.control.messages(length) {
            match (message.level, message.kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => said.segment = message.word(0) as usize,
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => said.drops = Some(message.word(0)),
                // One byte over IPv4, an int over IPv6.
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    said.congestion_experienced = marked(u32::from(message.byte(0)));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    said.congestion_experienced = marked(message.word(0));
                }
                _ => {}
            }
        }
        said
    }
}

/// Ancillary data of a datagram or train.
#[derive(Clone, Copy, Default)]
struct Ancillary {
    /// The segment size of a train; 0: it is none.
    segment: usize,
    congestion_experienced: bool,
    /// Drops that the socket has counted, when there were any.
    drops: Option<u32>,
}

// SAFETY: the pointers in slots and headers lead into this value's own boxes, or are stale between calls.
unsafe impl Send for Receiver {}
// SAFETY: nothing is reachable through a shared reference.
unsafe impl Sync for Receiver {}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("offer", &self.offer).finish_non_exhaustive()
    }
}

impl Receiver {
    pub(crate) fn new() -> Self {
        // SAFETY: an `mmsghdr` is plain data, for which zero is a valid value.
        let header: libc::mmsghdr = unsafe { core::mem::zeroed() };
        Self {
            bytes: vec![0; BUFFERS * BUFFER_SIZE].into_boxed_slice(),
            slots: Box::new([Slot::new(); BUFFERS]),
            headers: Box::new([header; BUFFERS]),
            offer: BUFFERS_QUIET,
            filled: false,
            prepared: 0,
            drops: 0,
            scatterer: Scatterer::new(),
        }
    }

    /// Receives one batch.
    pub(crate) fn receive(
        &mut self,
        socket: &Socket,
        errors: &mut ErrorQueue,
        sink: &mut dyn FnMut(Datagram<'_>),
    ) -> Received {
        let offer = self.offer;
        let count = self.fill(socket, errors, offer);
        // Under load calls that fill their buffers, two in a row, are followed by one with all; a quiet socket gets few again.
        // One datagram now and then, a ping-pong, is always taken by the plain call.
        let filled = count == offer;
        self.offer = if filled && self.filled { BUFFERS } else { BUFFERS_QUIET };
        self.filled = filled;
        let (mut datagrams, drops) = (0, self.drops);
        for index in 0..count {
            datagrams += self.deliver(index, sink);
        }
        Received { datagrams, drained: count < offer, overflowed: drops != self.drops }
    }

    /// Receives one datagram or train as `plan` says.
    pub(crate) fn receive_scattered<P: Plan>(
        &mut self,
        socket: &Socket,
        errors: &mut ErrorQueue,
        plan: &P,
        sink: &mut dyn FnMut(Scattered<'_>),
    ) -> Received {
        // What is prepared points into the bytes that are lent here.
        self.prepared = 0;
        let bounce = &mut self.bytes[..BUFFER_SIZE];
        let Some((length, control)) = persist(errors, || self.scatterer.call(socket, plan, bounce)) else {
            return Received { datagrams: 0, drained: errno() != libc::EFAULT, overflowed: false };
        };
        let (slot, headers) = self.scatterer.filled();
        let Some(source) = slot.name.address() else {
            return Received { datagrams: 0, drained: false, overflowed: false };
        };
        let Ancillary { segment, congestion_experienced, drops } = slot.ancillary(control);
        let overflowed = drops.is_some_and(|drops| core::mem::replace(&mut self.drops, drops) != drops);
        let datagrams = if segment == 0 { 1 } else { length.div_ceil(segment).max(1) };
        sink(Scattered { source, congestion_experienced, segment, length, headers, bounce });
        Received { datagrams, drained: false, overflowed }
    }

    /// One system call into the first `offer` buffers; how many of them it filled.
    fn fill(&mut self, socket: &Socket, errors: &mut ErrorQueue, offer: usize) -> usize {
        persist(errors, || {
            self.prepare(offer);
            let count = usize::try_from(self.call(socket, offer)).ok()?;
            self.prepared = 0;
            Some(count)
        })
        .unwrap_or(0)
    }

    /// The system call: how many headers it filled, or a negative number.
    fn call(&mut self, socket: &Socket, offer: usize) -> isize {
        let fd = socket.as_fd().as_raw_fd();
        if offer == 1 {
            let header = &mut self.headers[0];
            // SAFETY: `prepare` made the header point to a live buffer of the length it says, which belongs to this value and is borrowed exclusively.
            let length = unsafe { libc::recvmsg(fd, ptr::from_mut(&mut header.msg_hdr), libc::MSG_DONTWAIT) };
            let Ok(bytes) = libc::c_uint::try_from(length) else { return -1 };
            header.msg_len = bytes;
            return 1;
        }
        let length = libc::c_uint::try_from(offer).unwrap_or(1);
        // SAFETY: as above, for each of the first `offer` headers.
        let count = unsafe {
            libc::recvmmsg(fd, self.headers.as_mut_ptr(), length, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        count as isize
    }

    /// Points the headers at their buffers; the kernel overwrites lengths when it fills one.
    fn prepare(&mut self, offer: usize) {
        if offer <= self.prepared {
            return;
        }
        self.prepared = offer;
        let buffers = self.bytes.chunks_exact_mut(BUFFER_SIZE);
        for ((slot, header), buffer) in
            self.slots.iter_mut().zip(self.headers.iter_mut()).zip(buffers).take(offer)
        {
            slot.iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr = slot.header();
            header.msg_hdr.msg_iov = ptr::from_mut(&mut slot.iovec);
            header.msg_hdr.msg_iovlen = 1;
        }
    }

    /// Gives the sink what buffer `index` holds, split into datagrams; how many there were.
    fn deliver(&mut self, index: usize, sink: &mut dyn FnMut(Datagram<'_>)) -> usize {
        let slot = &self.slots[index];
        let header = &self.headers[index];
        let Some(source) = slot.name.address() else {
            return 0;
        };
        let Ancillary { segment, congestion_experienced, drops } =
            slot.ancillary(header.msg_hdr.msg_controllen);
        self.drops = drops.unwrap_or(self.drops);
        let start = index * BUFFER_SIZE;
        let length = (header.msg_len as usize).min(BUFFER_SIZE);
        let bytes = &self.bytes[start..start + length];
        let mut datagrams = 0;
        // An empty datagram is one too, and no train says 0.
        let segment = if segment == 0 { BUFFER_SIZE } else { segment };
        if bytes.is_empty() {
            sink(Datagram { source, bytes, congestion_experienced });
            datagrams = 1;
        }
        for bytes in bytes.chunks(segment) {
            sink(Datagram { source, bytes, congestion_experienced });
            datagrams += 1;
        }
        datagrams
    }
}

/// Repeats a receive call until it brings something, or nothing is there.
fn persist<T>(errors: &mut ErrorQueue, mut call: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..HINTS_MAX {
        if let Some(received) = call() {
            return Some(received);
        }
        match errno() {
            libc::EINTR => {}
            // A target that is no memory: what came is lost, as if on its way.
            libc::EAGAIN | libc::EFAULT => return None,
            // What else a receive call reports is the errno of an ICMP report, or a passing lack of memory.
            _ => errors.hint(),
        }
    }
    None
}

fn marked(traffic_class: u32) -> bool {
    traffic_class & u32::from(CONGESTION_EXPERIENCED) == u32::from(CONGESTION_EXPERIENCED)
}
