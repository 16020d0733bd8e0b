//! The socket's error queue: what ICMP, or our own IP layer, reported about datagrams sent earlier.
//!
//! With `IP_RECVERR` the kernel queues each report, and makes the next send or receive call fail once with its errno
//! as a hint. That failure says nothing about the call's own datagram. Never blocks, and never reads the queue
//! without a hint.

use core::ptr;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::control::{Control, Message};
use crate::name::{NAME_MAX, Name};
use crate::socket::{Socket, errno};

/// A report about an earlier datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError {
    /// Where that datagram was sent to.
    pub destination: SocketAddr,
    /// What was reported.
    pub kind: NetworkErrorKind,
}

/// Kinds of [`NetworkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkErrorKind {
    /// Nobody is bound to that port.
    PortUnreachable,
    /// The host or its network cannot be reached, or a firewall forbids it.
    HostUnreachable,
    /// A hop could not forward a packet of that size without fragmenting it: the largest it can (IP packet size).
    TooBig(u16),
}

/// Reports kept for `poll`. They are hints, repeated as long as their cause lasts: what does not fit is dropped.
const PENDING_MAX: usize = 64;

/// What RFC 1122 requires every IPv4 host to accept, for routers that name no size (before RFC 1191).
const MTU_UNNAMED: u32 = 576;

/// The two ICMP messages of IPv4 and two of IPv6 that matter (RFC 792, RFC 1191, RFC 4443).
mod icmp {
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const UNREACHABLE_PORT: u8 = 3;
    pub(super) const UNREACHABLE_FRAGMENTATION_NEEDED: u8 = 4;
    pub(super) const V6_UNREACHABLE: u8 = 1;
    pub(super) const V6_UNREACHABLE_PORT: u8 = 4;
    pub(super) const V6_TOO_BIG: u8 = 2;
}

/// The reports read so far, and whether there may be more.
#[derive(Debug)]
pub(crate) struct ErrorQueue {
    pending: VecDeque<NetworkError>,
    hinted: bool,
}

/// One entry of the kernel's queue.
enum Entry {
    /// The network said something.
    Network(NetworkError),
    /// Our own IP layer refused a datagram as too large; the size it would have taken.
    Local(u16),
    /// Nothing that matters.
    Other,
}

impl ErrorQueue {
    /// Nothing was reported.
    pub(crate) fn new() -> Self {
        Self { pending: VecDeque::with_capacity(PENDING_MAX), hinted: false }
    }

    /// A call failed with an errno that may stem from a report.
    pub(crate) fn hint(&mut self) {
        self.hinted = true;
    }

    /// The next report.
    pub(crate) fn poll(&mut self, socket: &Socket) -> Option<NetworkError> {
        if let Some(error) = self.pending.pop_front() {
            return Some(error);
        }
        while self.hinted {
            match read_entry(socket) {
                Some(Entry::Network(error)) => return Some(error),
                Some(_) => {}
                None => self.hinted = false,
            }
        }
        None
    }

    /// After a send call failed with EMSGSIZE: the size that our own IP layer would have taken, or `None` when it
    /// was not the one to refuse (then the errno was the hint at a report).
    pub(crate) fn local_limit(&mut self, socket: &Socket) -> Option<u16> {
        let mut limit = None;
        // To the end: an entry left behind would keep the descriptor readable for whoever polls it.
        while let Some(entry) = read_entry(socket) {
            match entry {
                Entry::Network(error) if self.pending.len() < PENDING_MAX => self.pending.push_back(error),
                Entry::Local(mtu) => limit = Some(mtu),
                _ => {}
            }
        }
        self.hinted = false;
        limit
    }
}

/// Takes one entry off the kernel's queue; `None` when it is empty.
fn read_entry(socket: &Socket) -> Option<Entry> {
    let mut name = Name::empty();
    let mut control = Control::new();
    loop {
        // SAFETY: a `msghdr` is plain data, for which zero is a valid value.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        header.msg_name = ptr::from_mut(&mut name).cast();
        header.msg_namelen = NAME_MAX;
        header.msg_control = ptr::from_mut(&mut control).cast();
        header.msg_controllen = control.0.len();
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: name and control buffer are live, exclusive and of the lengths given; there is no payload buffer.
        let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), ptr::from_mut(&mut header), flags) };
        if result >= 0 {
            let reports = control.messages(header.msg_controllen).filter_map(|message| report(&message));
            return Some(reports.last().map_or(Entry::Other, |report| judge(report, name.address())));
        }
        if errno() != libc::EINTR {
            return None;
        }
    }
}

/// The fields of a `sock_extended_err` that say what happened.
struct Report {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
}

fn report(message: &Message<'_>) -> Option<Report> {
    let here = matches!(
        (message.level, message.kind),
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
    );
    here.then(|| Report {
        errno: message.word(0),
        origin: message.byte(4),
        kind: message.byte(5),
        code: message.byte(6),
        info: message.word(8),
    })
}

fn judge(report: Report, destination: Option<SocketAddr>) -> Entry {
    let mtu = |info: u32| u16::try_from(if info == 0 { MTU_UNNAMED } else { info }).unwrap_or(u16::MAX);
    let kind = match (report.origin, report.kind, report.code) {
        (libc::SO_EE_ORIGIN_LOCAL, ..) if i32::try_from(report.errno) == Ok(libc::EMSGSIZE) => {
            return Entry::Local(mtu(report.info));
        }
        (libc::SO_EE_ORIGIN_ICMP, icmp::UNREACHABLE, icmp::UNREACHABLE_PORT)
        | (libc::SO_EE_ORIGIN_ICMP6, icmp::V6_UNREACHABLE, icmp::V6_UNREACHABLE_PORT) => {
            NetworkErrorKind::PortUnreachable
        }
        (libc::SO_EE_ORIGIN_ICMP, icmp::UNREACHABLE, icmp::UNREACHABLE_FRAGMENTATION_NEEDED)
        | (libc::SO_EE_ORIGIN_ICMP6, icmp::V6_TOO_BIG, _) => NetworkErrorKind::TooBig(mtu(report.info)),
        (libc::SO_EE_ORIGIN_ICMP, icmp::UNREACHABLE, _)
        | (libc::SO_EE_ORIGIN_ICMP6, icmp::V6_UNREACHABLE, _) => NetworkErrorKind::HostUnreachable,
        _ => return Entry::Other,
    };
    destination.map_or(Entry::Other, |destination| Entry::Network(NetworkError { destination, kind }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origin: u8, kind: u8, code: u8, info: u32) -> Option<NetworkErrorKind> {
        let destination = Some(SocketAddr::from(([192, 0, 2, 1], 7)));
        match judge(Report { errno: 0, origin, kind, code, info }, destination) {
            Entry::Network(error) => Some(error.kind),
            _ => None,
        }
    }

    #[test]
    fn an_empty_queue_is_looked_into_once() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Socket::open(local, &crate::Options::default()).expect("opens");
        let mut errors = ErrorQueue::new();
        errors.hint();
        assert_eq!(errors.poll(&socket), None);
        assert!(!errors.hinted, "polling is free again");
    }

    #[test]
    fn icmp_messages_are_told_apart() {
        use NetworkErrorKind::{HostUnreachable, PortUnreachable, TooBig};
        let v4 = libc::SO_EE_ORIGIN_ICMP;
        let v6 = libc::SO_EE_ORIGIN_ICMP6;
        assert_eq!(judged(v4, 3, 3, 0), Some(PortUnreachable));
        assert_eq!(judged(v4, 3, 1, 0), Some(HostUnreachable));
        assert_eq!(judged(v4, 3, 13, 0), Some(HostUnreachable));
        assert_eq!(judged(v4, 3, 4, 1400), Some(TooBig(1400)));
        assert_eq!(judged(v4, 3, 4, 0), Some(TooBig(576)));
        assert_eq!(judged(v4, 11, 0, 0), None);
        assert_eq!(judged(v6, 1, 4, 0), Some(PortUnreachable));
        assert_eq!(judged(v6, 1, 3, 0), Some(HostUnreachable));
        assert_eq!(judged(v6, 2, 0, 1280), Some(TooBig(1280)));
        assert_eq!(judged(v6, 2, 0, 1 << 20), Some(TooBig(u16::MAX)));
        assert_eq!(judged(v6, 3, 4, 0), None);
    }
}
