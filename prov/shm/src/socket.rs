//! Unix sockets as the exchange uses them: abstract names, whole messages, one descriptor passed along.
//!
//! Wraps each system call once. Never blocks, and never decides what a message means.

use core::mem::offset_of;
use core::ptr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::segment::check;

/// Connections that wait to be accepted: as many as `net.core.somaxconn` lets wait, which is 4096 by default.
const BACKLOG: libc::c_int = 4096;

/// Listens under the name of an endpoint.
pub(crate) fn listen(name: SocketAddr) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    let (address, length) = abstract_address(name);
    // SAFETY: the address is live and of the length given.
    let result = unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    check(result)?;
    // SAFETY: takes no pointer.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

/// Lets nobody connect any more.
pub(crate) fn shut_down(listener: BorrowedFd<'_>) {
    // SAFETY: takes no pointer. It fails only for what is no listener.
    let _ = unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Connects to the listener of that name. `WouldBlock`: too many wait there already, try again.
pub(crate) fn connect(name: SocketAddr) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    let (address, length) = abstract_address(name);
    // SAFETY: the address is live and of the length given.
    let result = unsafe { libc::connect(fd.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    check(result)?;
    Ok(fd)
}

/// The next connection that waits at a listener. `WouldBlock`: none.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the address of the peer is not asked for; it has none.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags) };
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    /// As seen from this process; 0 when it is in a process namespace that we cannot see.
    pub(crate) pid: i32,
}

/// Who connected, or who listens, as the kernel knows it.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    #[allow(clippy::cast_possible_truncation, reason = "a few bytes")]
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: value and length are live, and the length tells the kernel how much room there is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            ptr::from_mut(&mut credentials).cast(),
            ptr::from_mut(&mut length),
        )
    };
    check(result)?;
    Ok(Credentials { uid: credentials.uid, pid: credentials.pid })
}

/// Ancillary data with one descriptor (`cmsg(3)`).
#[repr(C, align(8))]
struct Control {
    header: libc::cmsghdr,
    fd: RawFd,
    /// Room that a second descriptor would have: it is received, seen and closed rather than cut off unseen.
    second: RawFd,
}

const FD_SIZE: usize = size_of::<RawFd>();
const HEADER_SIZE: usize = size_of::<libc::cmsghdr>();

const _: () = assert!(offset_of!(Control, fd) == HEADER_SIZE, "data follow the header, as CMSG_DATA says");

impl Control {
    fn new(fd: RawFd) -> Self {
        let header = libc::cmsghdr {
            cmsg_len: HEADER_SIZE + FD_SIZE,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        Self { header, fd, second: -1 }
    }

    /// Takes over the descriptors that came; the first one is the answer.
    fn into_fd(self, length: usize) -> Option<OwnedFd> {
        let here = length >= HEADER_SIZE + FD_SIZE
            && self.header.cmsg_level == libc::SOL_SOCKET
            && self.header.cmsg_type == libc::SCM_RIGHTS;
        if !here {
            return None;
        }
        if self.header.cmsg_len >= HEADER_SIZE + 2 * FD_SIZE {
            // SAFETY: the kernel installed it for us with this message, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(self.second) });
        }
        // SAFETY: as above.
        Some(unsafe { OwnedFd::from_raw_fd(self.fd) })
    }
}

/// Sends one message, with a descriptor when there is one.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::new(fd.map_or(-1, |fd| fd.as_raw_fd()));
    let mut header = message_header(&mut piece);
    if fd.is_some() {
        header.msg_control = ptr::from_mut(&mut control).cast();
        header.msg_controllen = size_of::<Control>();
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to live bytes, of the lengths it says, that the call reads only.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), ptr::from_ref(&header), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message: its length, 0 when the other end hung up, and the descriptor that came with it. `WouldBlock`:
/// nothing came yet. Of a message longer than `bytes` the rest is lost.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control::new(-1);
    let mut header = message_header(&mut piece);
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to live bytes, of the lengths it says, that nobody else uses.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), ptr::from_mut(&mut header), flags) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    Ok((received, control.into_fd(header.msg_controllen)))
}

fn message_header(piece: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: an `msghdr` is plain data, for which zero is a valid value.
    let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
    header.msg_iov = ptr::from_mut(piece);
    header.msg_iovlen = 1;
    header
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes and keeps no pointer.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The abstract name `rdgram/<ip>:<port>`, with `%<scope>` behind the address when it has one: known in one network namespace, and gone with the process.
fn abstract_address(name: SocketAddr) -> (libc::sockaddr_un, libc::socklen_t) {
    let text = match name {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            format!("rdgram/{}%{}:{}", v6.ip(), v6.scope_id(), v6.port())
        }
        _ => format!("rdgram/{}:{}", name.ip(), name.port()),
    };
    #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
    let family = libc::AF_UNIX as libc::sa_family_t;
    let mut address = libc::sockaddr_un { sun_family: family, sun_path: [0; 108] };
    // The first byte stays zero, which makes it abstract.
    for (place, byte) in address.sun_path[1..].iter_mut().zip(text.bytes()) {
        *place = byte as libc::c_char;
    }
    let length = offset_of!(libc::sockaddr_un, sun_path) + 1 + text.len();
    #[allow(clippy::cast_possible_truncation, reason = "at most the size of the structure")]
    (address, length as libc::socklen_t)
}
