//! The data path: what the eighteen calls of `fi_msg(3)` and `fi_tagged(3)` have in common.
//!
//! Responsible for turning the arguments of a call into one operation of the engine's. Allocates nothing, copies nothing; must never look at a packet.

use core::ffi::c_void;

use rdgram_engine::{FiAddr, Match, OpFlags, RecvOp, SendOp, TagMatch, UserSlice};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::domain::State;
use crate::ep::{Ep, Kind};
use crate::errno::{Errno, Result, to_c};
use crate::flags::{self, TaggedRecv};
use crate::guard::entry;
use crate::{cptr, fid};

/// Which flags hold for an operation (`fi_endpoint(3)`): those of the endpoint for most calls, those of the call alone for `fi_sendmsg` and its kin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// `op_flags` of the endpoint.
    Call,
    /// `fi_inject` and its kin: copied at once, never reported.
    Inject,
    /// The call's own.
    Msg(u64),
}

/// The arguments of a send, but its pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) kind: Kind,
    pub(crate) how: How,
    pub(crate) destination: sys::fi_addr_t,
    pub(crate) tag: u64,
    pub(crate) data: Option<u64>,
    pub(crate) context: *mut c_void,
}

/// The arguments of a receive, but its pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recv {
    pub(crate) kind: Kind,
    pub(crate) how: How,
    pub(crate) source: sys::fi_addr_t,
    pub(crate) tag: u64,
    pub(crate) ignore: u64,
    pub(crate) context: *mut c_void,
}

/// A context as the number that the engine keeps.
pub(crate) fn number(context: *mut c_void) -> usize {
    context.expose_provenance()
}

/// Ends a call: `0` or the negative number, in the width of `ssize_t`.
pub(crate) fn finish(result: Result) -> isize {
    to_c(result) as isize
}

/// A send of one piece.
///
/// # Safety
/// `ep` is the fid of the call; the buffer is the application's promise of `fi_msg(3)`.
#[inline]
pub(crate) unsafe fn send<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    send: Send,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let piece = unsafe { cptr::piece(buf.cast_mut(), len) };
        finish(
            ep.shared()
                .with(|state| submit_send(state, ep.slot(), core::slice::from_ref(&piece), len, &send)),
        )
    })
}

/// A send of several pieces.
///
/// # Safety
/// As for [`send`]; `iov` points to `count` entries.
#[inline]
pub(crate) unsafe fn sendv<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const libc::iovec,
    count: usize,
    send: Send,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let slices = unsafe { cptr::Slices::many(iov, count) };
        finish(slices.and_then(|slices| {
            let length = cptr::total(slices.as_slice())?;
            ep.shared().with(|state| submit_send(state, ep.slot(), slices.as_slice(), length, &send))
        }))
    })
}

#[inline]
fn submit_send(state: &mut State, slot: usize, slices: &[UserSlice], length: usize, send: &Send) -> Result {
    let State { engine, endpoints, .. } = state;
    let (id, endpoint) = enabled(endpoints, slot)?;
    let limits = endpoint.limits(send.kind);
    let mut flags = match send.how {
        How::Call => endpoint.tx.call,
        How::Inject => OpFlags::INJECT | OpFlags::INJECT_COMPLETE,
        How::Msg(flags) => flags::send(flags, endpoint.tx.reporting)?,
    };
    if length > limits.message || (flags.contains(OpFlags::INJECT) && length > limits.inject) {
        return Err(Errno::MSGSIZE);
    }
    flags = flags::with_level(flags, length, limits.inject);
    let data = match (send.how, send.data) {
        (How::Msg(flags), data) if flags & sys::FI_REMOTE_CQ_DATA != 0 => data,
        (How::Msg(_), _) => None,
        (_, data) => data,
    };
    engine.send(
        id,
        &SendOp {
            destination: FiAddr(send.destination),
            slices,
            tag: send.kind.tag(send.tag),
            data,
            context: number(send.context),
            flags,
        },
    )?;
    Ok(())
}

/// A receive into one piece.
///
/// # Safety
/// As for [`send`].
#[inline]
pub(crate) unsafe fn recv<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *mut c_void,
    len: usize,
    recv: Recv,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let piece = unsafe { cptr::piece(buf, len) };
        finish(ep.shared().with(|state| submit_recv(state, ep.slot(), core::slice::from_ref(&piece), &recv)))
    })
}

/// A receive into several pieces; with FI_PEEK, FI_CLAIM and FI_DISCARD, none.
///
/// # Safety
/// As for [`sendv`].
#[inline]
pub(crate) unsafe fn recvv<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const libc::iovec,
    count: usize,
    recv: Recv,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let slices = unsafe { cptr::Slices::many(iov, count) };
        finish(slices.and_then(|slices| {
            cptr::total(slices.as_slice())?;
            ep.shared().with(|state| submit_recv(state, ep.slot(), slices.as_slice(), &recv))
        }))
    })
}

#[inline]
fn submit_recv(state: &mut State, slot: usize, slices: &[UserSlice], recv: &Recv) -> Result {
    let (id, endpoint) = enabled(&state.endpoints, slot)?;
    let reporting = endpoint.rx.reporting;
    let action = match (recv.how, recv.kind) {
        (How::Call | How::Inject, _) => TaggedRecv::Post(endpoint.rx.call),
        (How::Msg(flags), Kind::Tagged) => flags::tagged_recv(flags, reporting)?,
        (How::Msg(flags), _) => TaggedRecv::Post(flags::recv(flags, reporting)?),
    };
    let matching = Match {
        source: if endpoint.directed { FiAddr(recv.source) } else { FiAddr::UNSPEC },
        tag: recv.kind.tag(recv.tag).map(|tag| TagMatch { tag, ignore: recv.ignore }),
    };
    let context = number(recv.context);
    match action {
        TaggedRecv::Post(flags) => {
            state.engine.recv(id, &RecvOp { matching, slices, context, flags })?;
        }
        TaggedRecv::Peek(peek) => {
            // A message that is already in the socket is to be found.
            state.progress();
            state.engine.peek(id, matching, peek, context)?;
        }
        TaggedRecv::Claim => state.engine.claim(id, context, slices)?,
        TaggedRecv::Discard => state.engine.claim_discard(id, context)?,
    }
    Ok(())
}

/// An endpoint that operations may be given to.
#[inline]
pub(crate) fn enabled(
    endpoints: &[Option<crate::ep::EpState>],
    slot: usize,
) -> Result<(rdgram_engine::EpId, &crate::ep::EpState)> {
    let endpoint = endpoints.get(slot).and_then(Option::as_ref).ok_or(Errno::OPBADSTATE)?;
    Ok((endpoint.id().ok_or(Errno::OPBADSTATE)?, endpoint))
}
