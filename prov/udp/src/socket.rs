//! Opening, binding and configuring a socket: the system calls, each wrapped once.
//!
//! Never decides what an error means for a datagram: `tx`, `rx` and `errors` do.

use core::ptr;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::name::{NAME_MAX, Name};

/// How to open a socket.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of receive buffer to ask for. Limited by `net.core.rmem_max` unless the process has `CAP_NET_ADMIN`.
    pub receive_buffer: usize,
    /// Bytes of send buffer to ask for. Limited by `net.core.wmem_max` likewise.
    pub send_buffer: usize,
    /// The ports to choose from, both ends included, when the address to bind to names none.
    pub port_range: Option<(u16, u16)>,
    /// Send runs of equal datagrams as trains (UDP_SEGMENT), where the system can.
    pub segmentation: bool,
    /// Receive trains as one (UDP_GRO), where the system can.
    pub coalescing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_buffer: 8 << 20,
            send_buffer: 4 << 20,
            port_range: None,
            segmentation: true,
            coalescing: true,
        }
    }
}

/// May IP fragment a datagram?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// No: DF is set, and what routers reported earlier is not minded (the transport probes by itself).
    Never,
    /// Yes: DF is clear.
    Allowed,
}

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
    receive_buffer: usize,
}

/// What SO_MEMINFO gives (`linux/sock_diag.h`); the last is SK_MEMINFO_DROPS.
const MEMINFO_VALUES: usize = 9;

/// ECT(0) in the two ECN bits of the type of service: "this sender minds congestion marks" (RFC 3168).
const ECT0: libc::c_int = 0b10;

impl Socket {
    /// Opens, configures and binds a socket.
    pub(crate) fn open(bind: SocketAddr, options: &Options) -> io::Result<Self> {
        let fd = new_socket(bind.ip())?;
        let mut socket = Self { fd, local: bind, receive_buffer: 0 };
        socket.configure(options)?;
        socket.bind(bind, options.port_range)?;
        socket.local = socket.name()?;
        Ok(socket)
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Bytes of receive buffer, as the kernel counts.
    pub(crate) fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Datagrams that found no room in the receive buffer so far, modulo 2^32. 0 where the system does not say (before Linux 4.12).
    pub(crate) fn dropped(&self) -> u32 {
        let mut values = [0_u32; MEMINFO_VALUES];
        #[allow(clippy::cast_possible_truncation, reason = "a few bytes")]
        let mut length = size_of_val(&values) as libc::socklen_t;
        // SAFETY: values and length are live, and the length tells the kernel how much room there is.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                ptr::from_mut(&mut length),
            )
        };
        if result < 0 { 0 } else { values[MEMINFO_VALUES - 1] }
    }

    /// The system knows UDP_SEGMENT.
    pub(crate) fn can_segment(&self) -> bool {
        self.get(libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
    }

    /// Sets whether IP may fragment what is sent from now on.
    pub(crate) fn set_fragment(&self, fragment: Fragment) -> io::Result<()> {
        match (self.local, fragment) {
            (SocketAddr::V4(_), Fragment::Never) => {
                self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
            }
            (SocketAddr::V4(_), Fragment::Allowed) => {
                self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
            }
            (SocketAddr::V6(_), Fragment::Never) => {
                self.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
            }
            (SocketAddr::V6(_), Fragment::Allowed) => {
                self.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
            }
        }
    }

    fn configure(&mut self, options: &Options) -> io::Result<()> {
        match self.local {
            SocketAddr::V4(_) => {
                self.set(libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
                self.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
                self.set(libc::IPPROTO_IP, libc::IP_TOS, ECT0)?;
            }
            SocketAddr::V6(_) => {
                self.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
                self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
                self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
                self.set(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ECT0)?;
            }
        }
        self.set_fragment(Fragment::Never)?;
        // Costs nothing until something was dropped; without it (before Linux 2.6.33) only the transport's own loss detection notices.
        let _ = self.set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        self.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.receive_buffer)?;
        self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer)?;
        if options.coalescing {
            // Refused by kernels before 5.0: then every datagram comes by itself, which is right but slower.
            let _ = self.set(libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        self.receive_buffer = usize::try_from(self.get(libc::SOL_SOCKET, libc::SO_RCVBUF)?).unwrap_or(0);
        Ok(())
    }

    /// Sets a buffer size beyond the system's limit where that is allowed, else up to the limit.
    fn set_buffer(&self, forced: libc::c_int, plain: libc::c_int, bytes: usize) -> io::Result<()> {
        // The kernel doubles the number, so half the range is all there is.
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX).min(libc::c_int::MAX / 2);
        match self.set(libc::SOL_SOCKET, forced, bytes) {
            Ok(()) => Ok(()),
            Err(_) => self.set(libc::SOL_SOCKET, plain, bytes),
        }
    }

    fn bind(&self, address: SocketAddr, range: Option<(u16, u16)>) -> io::Result<()> {
        let (first, last) = match range {
            Some(range) if address.port() == 0 => range,
            _ => return self.bind_one(address),
        };
        if first == 0 || first > last {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{first}-{last} is not a range of UDP ports"),
            ));
        }
        let mut candidate = address;
        for port in first..=last {
            candidate.set_port(port);
            match self.bind_one(candidate) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("every UDP port of the range {first}-{last} is in use on {}", address.ip()),
        ))
    }

    fn bind_one(&self, address: SocketAddr) -> io::Result<()> {
        let name = Name::new(address);
        // SAFETY: `name` is a socket address of the given length, read during the call only.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), ptr::from_ref(&name).cast(), name.length()) };
        check(result)
    }

    /// Connects, which for UDP looks the route up and sends nothing.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<()> {
        let name = Name::new(address);
        // SAFETY: `name` is a socket address of the given length, read during the call only.
        let result =
            unsafe { libc::connect(self.fd.as_raw_fd(), ptr::from_ref(&name).cast(), name.length()) };
        check(result)
    }

    /// A socket for one question about a route: not bound, not configured.
    pub(crate) fn throwaway(destination: SocketAddr) -> io::Result<Self> {
        Ok(Self { fd: new_socket(destination.ip())?, local: destination, receive_buffer: 0 })
    }

    /// `getsockname`.
    pub(crate) fn name(&self) -> io::Result<SocketAddr> {
        let mut name = Name::empty();
        let mut length = NAME_MAX;
        // SAFETY: `name` and `length` are live, and `length` tells the kernel how much room there is.
        let result = unsafe {
            libc::getsockname(
                self.fd.as_raw_fd(),
                ptr::from_mut(&mut name).cast(),
                ptr::from_mut(&mut length),
            )
        };
        check(result)?;
        name.address().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the option's value is an int, live during the call, and of the length given.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, option, ptr::from_ref(&value).cast(), INT_LENGTH)
        };
        check(result)
    }

    /// Reads an option whose value is an int.
    pub(crate) fn get(&self, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut length = INT_LENGTH;
        // SAFETY: value and length are live, and the length tells the kernel how much room there is.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                ptr::from_mut(&mut value).cast(),
                ptr::from_mut(&mut length),
            )
        };
        check(result).map(|()| value)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "four bytes")]
const INT_LENGTH: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

fn new_socket(ip: IpAddr) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes and keeps no pointer.
    let fd = unsafe { libc::socket(family, kind, 0) };
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The error of the system call that just failed.
pub(crate) fn errno() -> libc::c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
