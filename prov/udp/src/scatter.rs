//! Receiving with a plan: one system call that puts the first bytes of each datagram of a train into slots of their own and the rest to the caller's memory.
//!
//! What comes is scattered as planned whatever it is: only the caller can tell whether the plan was right. Never blocks, never looks into a datagram.

use core::ptr;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::rx::Slot;
use crate::socket::Socket;

/// Most pieces of one call (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;
/// Most datagrams with places of their own: two pieces each, and one piece for what comes beyond them.
const DATAGRAMS_MAX: usize = (PIECES_MAX - 1) / 2;
/// Room for headers: as many as there can be, of 64 bytes.
const HEADERS_SIZE: usize = DATAGRAMS_MAX * 64;

/// Where what comes next is to go: the first bytes of each datagram apart, the rest to a target of its own.
///
/// # Safety
/// Until the sink is called every target must be valid for writes and accessed by nobody else.
pub unsafe trait Plan {
    /// Bytes of each datagram that are put apart; 64 at most.
    fn header(&self) -> usize;

    /// Datagrams that have a target. With headers they fill a train at most, and take two pieces each of the 1,024 that a call has.
    fn count(&self) -> usize;

    /// Where the rest of datagram `index` goes, and how many bytes of it. All but the last are equally long.
    fn target(&self, index: usize) -> (*mut u8, usize);
}

/// A datagram or a train, as a [`Plan`] scattered it.
#[derive(Debug)]
pub struct Scattered<'a> {
    /// Who sent it, or claims to have.
    pub source: SocketAddr,
    /// A router marked it: Congestion Experienced.
    pub congestion_experienced: bool,
    /// Bytes of each datagram of a train, the last one may be shorter; 0 for one alone.
    pub segment: usize,
    /// Bytes in all.
    pub length: usize,
    /// The header slots, one behind the other. Of those that nothing came into the content means nothing.
    pub headers: &'a [u8],
    /// As long as the longest train: what came beyond the plan, behind the room that the planned bytes would take here.
    pub bounce: &'a mut [u8],
}

/// Header slots and pieces.
pub(crate) struct Scatterer {
    headers: Box<[u8]>,
    pieces: Box<[libc::iovec; PIECES_MAX]>,
    slot: Slot,
}

// SAFETY: the pointers in the pieces are stale between calls, those of the slot are not used.
unsafe impl Send for Scatterer {}
// SAFETY: nothing is reachable through a shared reference.
unsafe impl Sync for Scatterer {}

impl fmt::Debug for Scatterer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scatterer").finish_non_exhaustive()
    }
}

impl Scatterer {
    pub(crate) fn new() -> Self {
        let blank = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![0; HEADERS_SIZE].into_boxed_slice(),
            pieces: Box::new([blank; PIECES_MAX]),
            slot: Slot::new(),
        }
    }

    /// The system call; `bounce` takes what comes beyond the plan. Bytes received and bytes of ancillary data, unless it failed.
    pub(crate) fn call<P: Plan>(
        &mut self,
        socket: &Socket,
        plan: &P,
        bounce: &mut [u8],
    ) -> Option<(usize, usize)> {
        let pieces = self.lay_out(plan, bounce);
        let mut header = self.slot.header();
        header.msg_iov = self.pieces.as_mut_ptr();
        header.msg_iovlen = pieces;
        // SAFETY: the slot and the first `pieces` pieces are live and of the lengths said: header slots and bounce buffer are borrowed exclusively, and the targets are valid by the promise of `Plan`.
        let length =
            unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        usize::try_from(length).ok().map(|length| (length, header.msg_controllen))
    }

    /// What the last call filled in.
    pub(crate) fn filled(&self) -> (&Slot, &[u8]) {
        (&self.slot, &self.headers)
    }

    /// Fills in the pieces; how many there are. Panics when the plan is for more than a call.
    fn lay_out<P: Plan>(&mut self, plan: &P, bounce: &mut [u8]) -> usize {
        let mut count = 0;
        let mut push = |base: *mut u8, length: usize| {
            self.pieces[count] = libc::iovec { iov_base: base.cast(), iov_len: length };
            count += 1;
        };
        let mut slots = self.headers.chunks_exact_mut(plan.header());
        let mut planned = 0;
        for index in 0..plan.count() {
            let slot = slots.next().expect("a call has pieces for the plan");
            let (target, length) = plan.target(index);
            push(slot.as_mut_ptr(), slot.len());
            push(target, length);
            planned += slot.len() + length;
        }
        let beyond = &mut bounce[planned..];
        push(beyond.as_mut_ptr(), beyond.len());
        count
    }
}
