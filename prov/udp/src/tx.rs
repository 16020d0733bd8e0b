//! Sending: many datagrams in one system call, runs of equal ones as trains that the kernel or the card cuts.
//!
//! The kernel gathers the bytes from where they are. Never blocks, never copies, and never counts a datagram as sent
//! that a failed call did not take.

use core::ptr;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::PAYLOAD_MAX;
use crate::control::SegmentSize;
use crate::errors::ErrorQueue;
use crate::name::Name;
use crate::socket::{Fragment, Socket, errno};

/// Datagrams to send, by index.
///
/// # Safety
/// The memory that `gather` describes for a datagram is valid for reads until the send call that asked for it returns.
pub unsafe trait Packets {
    /// How many.
    fn count(&self) -> usize;

    /// Where one goes, and how large it is.
    fn shape(&self, index: usize) -> Shape;

    /// Pushes the pieces of one, in order. Their lengths sum up to that of its shape.
    fn gather(&self, index: usize, pieces: &mut Pieces<'_>);
}

/// What decides how a datagram is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where to.
    pub destination: SocketAddr,
    /// Bytes of payload.
    pub length: usize,
    /// IP may fragment it (DF clear).
    pub fragment: bool,
}

/// Takes the pieces of a datagram.
#[derive(Debug)]
pub struct Pieces<'a> {
    iovecs: &'a mut Vec<libc::iovec>,
}

impl Pieces<'_> {
    /// Appends `length` bytes at `address`.
    pub fn push(&mut self, address: *const u8, length: usize) {
        if length > 0 {
            self.iovecs.push(libc::iovec { iov_base: address.cast_mut().cast(), iov_len: length });
        }
    }

    /// Appends `length` zeros.
    pub fn push_zeros(&mut self, mut length: usize) {
        static ZEROS: [u8; 4096] = [0; 4096];
        while length > 0 {
            let piece = length.min(ZEROS.len());
            self.push(ZEROS.as_ptr(), piece);
            length -= piece;
        }
    }
}

/// What became of the datagrams given to [`Udp::send`](crate::Udp::send).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The first this many were taken by the kernel.
    pub taken: usize,
    /// Why the next one was not.
    pub stopped: Option<Stop>,
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No room now.
    Blocked,
    /// Larger than the interface sends unfragmented; the largest IP packet it does, when known.
    TooBig(Option<u16>),
    /// No route, forbidden, or otherwise impossible for good; the errno.
    Unreachable(i32),
}

/// Messages of one system call.
const MESSAGES_MAX: usize = 64;

/// Datagrams of one train: what every kernel with UDP_SEGMENT takes.
const TRAIN_MAX: usize = 64;

/// Pieces of one message (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;

/// Pieces after which no further message is begun.
const PIECES_ENOUGH: usize = 2048;

/// Failures of one datagram in a row that may each be the hint at a report about an earlier one.
const HINTS_MAX: u32 = 4;

/// Trains in a row that were refused while their first datagram alone was taken: then trains do not work here.
const REFUSALS_MAX: u32 = 3;

/// One entry of the system call: a datagram or a train.
#[derive(Clone, Copy, Debug)]
struct Message {
    name: Name,
    segment: SegmentSize,
    datagrams: usize,
    pieces: usize,
}

/// How to compose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// All that fit, trains where possible.
    Many,
    /// The next datagram by itself.
    One(Fragment),
}

/// What to do after a failed call.
enum Next {
    Again(Mode),
    Stop(Stop),
}

/// Headers to send from.
pub(crate) struct Sender {
    messages: Vec<Message>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    segmentation: bool,
    /// Trains refused in a row, and whether the one just refused still has to prove that trains are the cause.
    refusals: u32,
    refused: bool,
    /// Failures of the datagram at hand.
    hints: u32,
}

// SAFETY: the pointers in the vectors are made during a call and stale between calls.
unsafe impl Send for Sender {}
// SAFETY: nothing is reachable through a shared reference.
unsafe impl Sync for Sender {}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("segmentation", &self.segmentation).finish_non_exhaustive()
    }
}

impl Sender {
    pub(crate) fn new(segmentation: bool) -> Self {
        Self {
            messages: Vec::with_capacity(MESSAGES_MAX),
            iovecs: Vec::with_capacity(PIECES_ENOUGH + PIECES_MAX),
            headers: Vec::with_capacity(MESSAGES_MAX),
            segmentation,
            refusals: 0,
            refused: false,
            hints: 0,
        }
    }

    pub(crate) fn segmentation(&self) -> bool {
        self.segmentation
    }

    /// Sends in order until all are taken or one cannot be.
    pub(crate) fn send<P: Packets>(&mut self, socket: &Socket, errors: &mut ErrorQueue, packets: &P) -> Sent {
        self.hints = 0;
        self.refused = false;
        if packets.count() == 1 && self.send_alone(socket, errors, packets) {
            return Sent { taken: 1, stopped: None };
        }
        let mut taken = 0;
        let mut mode = Mode::Many;
        while taken < packets.count() {
            if packets.shape(taken).fragment {
                mode = Mode::One(Fragment::Allowed);
            }
            self.compose(packets, taken, mode);
            match self.submit(socket, mode) {
                Ok(messages) => {
                    if messages < self.messages.len() {
                        // "The error code is lost" (sendmmsg(2), BUGS), and it may have been a report, which is told once.
                        errors.hint();
                    }
                    self.note_success(messages);
                    taken += self.messages[..messages].iter().map(|message| message.datagrams).sum::<usize>();
                    mode = Mode::Many;
                }
                Err(error) => match self.judge(error, mode, socket, errors) {
                    Next::Again(again) => mode = again,
                    Next::Stop(stop) => return Sent { taken, stopped: Some(stop) },
                },
            }
        }
        Sent { taken, stopped: None }
    }

    /// Sends a single datagram in one piece, by the call that has the least to read from us. False when it is not like that, or the call failed: then the long way tells why.
    fn send_alone<P: Packets>(&mut self, socket: &Socket, errors: &mut ErrorQueue, packets: &P) -> bool {
        let shape = packets.shape(0);
        self.iovecs.clear();
        packets.gather(0, &mut Pieces { iovecs: &mut self.iovecs });
        let ([piece], false) = (self.iovecs.as_slice(), shape.fragment) else { return false };
        let name = Name::new(shape.destination);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let fd = socket.as_fd().as_raw_fd();
        let address = ptr::from_ref(&name).cast();
        // SAFETY: the name is live and of the length given; the piece is valid for reads during the call, as whoever implements `Packets` promises.
        let result =
            unsafe { libc::sendto(fd, piece.iov_base, piece.iov_len, flags, address, name.length()) };
        if result >= 0 {
            return true;
        }
        if errno() != libc::EAGAIN {
            // It may have been a report about an earlier datagram, which is told once.
            errors.hint();
        }
        false
    }

    /// Lays out messages for the datagrams from `first` on.
    fn compose<P: Packets>(&mut self, packets: &P, first: usize, mode: Mode) {
        self.messages.clear();
        self.iovecs.clear();
        let mut next = first;
        while next < packets.count()
            && self.messages.len() < MESSAGES_MAX
            && self.iovecs.len() < PIECES_ENOUGH
        {
            let head = packets.shape(next);
            if mode == Mode::Many && head.fragment {
                break;
            }
            let message = self.compose_one(packets, next, head, mode == Mode::Many && self.segmentation);
            next += message.datagrams;
            self.messages.push(message);
            if mode != Mode::Many {
                break;
            }
        }
    }

    /// Lays out one message: the datagram at `first`, and those that can join it in a train.
    fn compose_one<P: Packets>(&mut self, packets: &P, first: usize, head: Shape, trains: bool) -> Message {
        let start = self.iovecs.len();
        packets.gather(first, &mut Pieces { iovecs: &mut self.iovecs });
        debug_assert_eq!(total(&self.iovecs[start..]), head.length, "the pieces make up the datagram");
        let mut datagrams = 1;
        let mut bytes = head.length;
        let limit = if trains { TRAIN_MAX.min(packets.count() - first) } else { 1 };
        let mut last = head;
        // Only the last datagram of a train may be shorter than the first.
        while datagrams < limit && last.length == head.length {
            last = packets.shape(first + datagrams);
            bytes += last.length;
            let joins = last.destination == head.destination
                && !last.fragment
                && (1..=head.length).contains(&last.length)
                && bytes <= PAYLOAD_MAX;
            if !joins {
                break;
            }
            let mark = self.iovecs.len();
            packets.gather(first + datagrams, &mut Pieces { iovecs: &mut self.iovecs });
            if self.iovecs.len() - start > PIECES_MAX {
                self.iovecs.truncate(mark);
                break;
            }
            datagrams += 1;
        }
        Message {
            name: Name::new(head.destination),
            segment: SegmentSize::new(u16::try_from(head.length).unwrap_or(u16::MAX)),
            datagrams,
            pieces: self.iovecs.len() - start,
        }
    }

    /// One system call for the messages laid out; how many it took, or its errno.
    fn submit(&mut self, socket: &Socket, mode: Mode) -> Result<usize, i32> {
        self.headers.clear();
        let mut iovecs = self.iovecs.as_mut_slice();
        for message in &mut self.messages {
            let (pieces, rest) = iovecs.split_at_mut(message.pieces);
            iovecs = rest;
            // SAFETY: an `mmsghdr` is plain data, for which zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { core::mem::zeroed() };
            header.msg_hdr.msg_namelen = message.name.length();
            header.msg_hdr.msg_name = ptr::from_mut(&mut message.name).cast();
            header.msg_hdr.msg_iov = pieces.as_mut_ptr();
            header.msg_hdr.msg_iovlen = pieces.len();
            if message.datagrams > 1 {
                header.msg_hdr.msg_control = ptr::from_mut(&mut message.segment).cast();
                header.msg_hdr.msg_controllen = size_of::<SegmentSize>();
            }
            self.headers.push(header);
        }
        if mode == Mode::One(Fragment::Allowed) {
            socket
                .set_fragment(Fragment::Allowed)
                .map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))?;
            let result = self.call(socket);
            // Cannot fail where the opposite succeeded a moment ago; if it did, larger datagrams would still arrive.
            let _ = socket.set_fragment(Fragment::Never);
            return result;
        }
        self.call(socket)
    }

    /// The system call: the plain one for a single message, which is a little faster.
    fn call(&mut self, socket: &Socket) -> Result<usize, i32> {
        let fd = socket.as_fd().as_raw_fd();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        if let [header] = self.headers.as_slice() {
            // SAFETY: name, control and iovec array belong to this value and live on; the memory behind the iovecs is
            // valid for reads as long as this call lasts, as whoever implements `Packets` promises.
            let result = unsafe { libc::sendmsg(fd, ptr::from_ref(&header.msg_hdr), flags) };
            return if result < 0 { Err(errno()) } else { Ok(1) };
        }
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: as above, for each of the `count` headers.
        let result = unsafe { libc::sendmmsg(fd, self.headers.as_mut_ptr(), count, flags) };
        usize::try_from(result).map_err(|_| errno())
    }

    /// Messages were taken: whatever was in doubt about their first is settled.
    fn note_success(&mut self, messages: usize) {
        self.hints = 0;
        if self.refused {
            // The train's first datagram by itself was taken.
            self.refused = false;
            self.refusals += 1;
            self.segmentation = self.segmentation && self.refusals < REFUSALS_MAX;
        } else if self.messages[..messages].iter().any(|message| message.datagrams > 1) {
            self.refusals = 0;
        }
    }

    /// What the errno of a failed call means for the first datagram of its first message.
    fn judge(&mut self, error: i32, mode: Mode, socket: &Socket, errors: &mut ErrorQueue) -> Next {
        let train = self.messages.first().is_some_and(|message| message.datagrams > 1);
        match error {
            libc::EINTR => Next::Again(mode),
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Next::Stop(Stop::Blocked),
            // The interface cannot do checksums, or encrypts: no train will ever pass.
            libc::EIO if train => {
                self.segmentation = false;
                Next::Again(Mode::Many)
            }
            // A segment too large for the interface, or something about trains; the first datagram alone tells.
            libc::EINVAL | libc::EMSGSIZE if train => {
                errors.hint();
                self.refused = true;
                Next::Again(Mode::One(Fragment::Never))
            }
            libc::EMSGSIZE => match errors.local_limit(socket) {
                Some(mtu) => Next::Stop(Stop::TooBig(Some(mtu))),
                None => self.maybe_hint(mode, Stop::TooBig(self.interface_mtu())),
            },
            // Never said of the datagram at hand.
            libc::ECONNREFUSED | libc::EPROTO | libc::ENOPROTOOPT | libc::EHOSTDOWN | libc::EOPNOTSUPP => {
                errors.hint();
                self.maybe_hint(mode, Stop::Blocked)
            }
            // Said of the datagram at hand by the routing table, or of an earlier one by ICMP.
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES => {
                errors.hint();
                self.maybe_hint(mode, Stop::Unreachable(error))
            }
            _ => Next::Stop(Stop::Unreachable(error)),
        }
    }

    /// Tries again, because the failure may have been a report about an earlier datagram; `otherwise` when it repeats.
    fn maybe_hint(&mut self, mode: Mode, otherwise: Stop) -> Next {
        self.hints += 1;
        if self.hints < HINTS_MAX { Next::Again(mode) } else { Next::Stop(otherwise) }
    }

    /// The MTU of the interface towards the first message's destination.
    fn interface_mtu(&self) -> Option<u16> {
        let destination = self.messages.first()?.name.address()?;
        crate::route::look_up(destination).ok().map(|route| route.mtu)
    }
}

fn total(iovecs: &[libc::iovec]) -> usize {
    iovecs.iter().map(|iovec| iovec.iov_len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// How often a datagram or train is tried again that always fails with `error`, up to ten times, and what then.
    fn decided(error: i32, datagrams: usize) -> (u32, Option<Stop>) {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Socket::open(local, &Options::default()).expect("opens");
        let mut errors = ErrorQueue::new();
        let mut sender = Sender::new(true);
        let segment = SegmentSize::new(100);
        sender.messages.push(Message {
            name: Name::new(socket.local()),
            segment,
            datagrams,
            pieces: datagrams,
        });
        let mut again = 0;
        while again < 10 {
            match sender.judge(error, Mode::Many, &socket, &mut errors) {
                Next::Again(_) => again += 1,
                Next::Stop(stop) => return (again, Some(stop)),
            }
        }
        (again, None)
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(decided(libc::EAGAIN, 1), (0, Some(Stop::Blocked)));
        assert_eq!(decided(libc::ENOBUFS, 5), (0, Some(Stop::Blocked)));
        assert_eq!(decided(libc::EPERM, 1), (0, Some(Stop::Unreachable(libc::EPERM))));
        assert_eq!(decided(libc::EINVAL, 1), (0, Some(Stop::Unreachable(libc::EINVAL))));
        // These may be about an earlier datagram: not believed at once.
        assert_eq!(decided(libc::EHOSTUNREACH, 1), (3, Some(Stop::Unreachable(libc::EHOSTUNREACH))));
        assert_eq!(decided(libc::ENETUNREACH, 5), (3, Some(Stop::Unreachable(libc::ENETUNREACH))));
        assert_eq!(decided(libc::EMSGSIZE, 1), (3, Some(Stop::TooBig(Some(u16::MAX)))));
        // And this always is.
        assert_eq!(decided(libc::ECONNREFUSED, 1), (3, Some(Stop::Blocked)));
        // A signal, and what may be the train's fault.
        for (error, datagrams) in [(libc::EINTR, 1), (libc::EINVAL, 5), (libc::EMSGSIZE, 5), (libc::EIO, 5)] {
            assert_eq!(decided(error, datagrams), (10, None), "errno {error}");
        }
    }
}
