//! `fi_rma(3)`: the nine calls that write and read a peer's memory.
//!
//! Responsible for the order of their arguments and for turning them into one operation of the engine's. Allocates nothing, copies nothing; must never look at the target's memory.

use core::ffi::c_void;
use core::marker::PhantomData;

use libc::iovec;
use rdgram_engine::{FiAddr, OpFlags, RemoteSlice, RmaKind, RmaOp, UserSlice};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cptr::{self, RemoteSlices};
use crate::domain::State;
use crate::ep::{Ep, Kind};
use crate::errno::{Errno, Result};
use crate::fid;
use crate::flags;
use crate::guard::entry;
use crate::transfer::{How, enabled, finish, number};

/// The table, for one flavour of lock.
pub(crate) struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    pub(crate) const RMA: &'static sys::fi_ops_rma = &sys::fi_ops_rma {
        size: size_of::<sys::fi_ops_rma>(),
        read: Some(read::<S>),
        readv: Some(readv::<S>),
        readmsg: Some(readmsg::<S>),
        write: Some(write::<S>),
        writev: Some(writev::<S>),
        writemsg: Some(writemsg::<S>),
        inject: Some(inject::<S>),
        writedata: Some(writedata::<S>),
        injectdata: Some(injectdata::<S>),
    };
}

/// The arguments of a call, but its pieces.
#[derive(Clone, Copy, Debug)]
struct Rma {
    kind: RmaKind,
    how: How,
    target: sys::fi_addr_t,
    data: Option<u64>,
    context: *mut c_void,
}

fn reading(how: How, target: sys::fi_addr_t, context: *mut c_void) -> Rma {
    Rma { kind: RmaKind::Read, how, target, data: None, context }
}

fn writing(how: How, target: sys::fi_addr_t, data: Option<u64>, context: *mut c_void) -> Rma {
    Rma { kind: RmaKind::Write, how, target, data, context }
}

/// Where in the target's memory an operation of one remote piece goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: u64,
    key: u64,
}

impl Place {
    fn piece(self, length: usize) -> RemoteSlice {
        RemoteSlice { key: self.key, offset: self.address, length: length as u64 }
    }
}

/// One local piece, one remote piece.
///
/// # Safety
/// `ep` is the fid of the call; the buffer is the application's promise of `fi_rma(3)`.
#[inline]
unsafe fn one<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *mut c_void,
    len: usize,
    place: Place,
    rma: Rma,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let piece = unsafe { cptr::piece(buf, len) };
        let (local, remote) = (core::slice::from_ref(&piece), [place.piece(len)]);
        finish(ep.shared().with(|state| submit(state, ep.slot(), local, len, &remote, &rma)))
    })
}

/// Several local pieces, one remote piece.
///
/// # Safety
/// As for [`one`]; `iov` points to `count` entries.
#[inline]
unsafe fn many<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const iovec,
    count: usize,
    place: Place,
    rma: Rma,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the application's promise.
        let slices = unsafe { cptr::Slices::many(iov, count) };
        finish(slices.and_then(|slices| {
            let length = cptr::total(slices.as_slice())?;
            let remote = [place.piece(length)];
            ep.shared().with(|state| submit(state, ep.slot(), slices.as_slice(), length, &remote, &rma))
        }))
    })
}

/// Several pieces on both sides.
///
/// # Safety
/// As for [`many`]; `msg` is the application's struct, or null, and its arrays have the lengths that it says.
#[inline]
unsafe fn message<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_rma,
    flags: u64,
    kind: RmaKind,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        // SAFETY: the caller of this function promises it.
        finish(unsafe { cptr::required(msg) }.and_then(|msg| {
            // SAFETY: as above.
            let slices = unsafe { cptr::Slices::many(msg.msg_iov, msg.iov_count) }?;
            // SAFETY: as above.
            let remote = unsafe { RemoteSlices::many(msg.rma_iov, msg.rma_iov_count) }?;
            let length = cptr::total(slices.as_slice())?;
            if remote.total() != Some(length as u64) {
                return Err(Errno::INVAL);
            }
            let how = How::Msg(flags);
            let rma = Rma { kind, how, target: msg.addr, data: Some(msg.data), context: msg.context };
            ep.shared()
                .with(|state| submit(state, ep.slot(), slices.as_slice(), length, remote.as_slice(), &rma))
        }))
    })
}

#[inline]
fn submit(
    state: &mut State,
    slot: usize,
    slices: &[UserSlice],
    length: usize,
    remote: &[RemoteSlice],
    rma: &Rma,
) -> Result {
    let State { engine, endpoints, .. } = state;
    let (id, endpoint) = enabled(endpoints, slot)?;
    let limits = endpoint.limits(Kind::Rma);
    let reads = rma.kind == RmaKind::Read;
    let mut flags = match rma.how {
        // What a read brings is never copied before: of the endpoint's flags this one means writes.
        How::Call if reads => endpoint.tx.call - OpFlags::INJECT,
        How::Call => endpoint.tx.call,
        How::Inject => OpFlags::INJECT | OpFlags::INJECT_COMPLETE,
        How::Msg(flags) if reads => flags::read(flags, endpoint.tx.reporting)?,
        How::Msg(flags) => flags::send(flags, endpoint.tx.reporting)?,
    };
    if length > limits.message || (flags.contains(OpFlags::INJECT) && length > limits.inject) {
        return Err(Errno::MSGSIZE);
    }
    flags = flags::with_target_level(flags);
    let data = match (rma.how, rma.data) {
        (How::Msg(flags), data) if flags & sys::FI_REMOTE_CQ_DATA != 0 => data,
        (How::Msg(_), _) => None,
        (_, data) => data,
    };
    engine.rma(
        id,
        &RmaOp {
            kind: rma.kind,
            destination: FiAddr(rma.target),
            slices,
            remote,
            data,
            context: number(rma.context),
            flags,
        },
    )?;
    Ok(())
}

unsafe extern "C" fn read<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *mut c_void,
    len: usize,
    _desc: *mut c_void,
    src_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { one::<S>(ep, buf, len, Place { address: addr, key }, reading(How::Call, src_addr, context)) }
}

unsafe extern "C" fn readv<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const iovec,
    _desc: *mut *mut c_void,
    count: usize,
    src_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    context: *mut c_void,
) -> isize {
    let place = Place { address: addr, key };
    // SAFETY: the arguments of the call.
    unsafe { many::<S>(ep, iov, count, place, reading(How::Call, src_addr, context)) }
}

unsafe extern "C" fn readmsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_rma,
    flags: u64,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { message::<S>(ep, msg, flags, RmaKind::Read) }
}

unsafe extern "C" fn write<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    _desc: *mut c_void,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    context: *mut c_void,
) -> isize {
    let write = writing(How::Call, dest_addr, None, context);
    // SAFETY: the arguments of the call.
    unsafe { one::<S>(ep, buf.cast_mut(), len, Place { address: addr, key }, write) }
}

unsafe extern "C" fn writev<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const iovec,
    _desc: *mut *mut c_void,
    count: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    context: *mut c_void,
) -> isize {
    let write = writing(How::Call, dest_addr, None, context);
    // SAFETY: the arguments of the call.
    unsafe { many::<S>(ep, iov, count, Place { address: addr, key }, write) }
}

unsafe extern "C" fn writemsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_rma,
    flags: u64,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { message::<S>(ep, msg, flags, RmaKind::Write) }
}

unsafe extern "C" fn inject<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
) -> isize {
    let write = writing(How::Inject, dest_addr, None, core::ptr::null_mut());
    // SAFETY: the arguments of the call.
    unsafe { one::<S>(ep, buf.cast_mut(), len, Place { address: addr, key }, write) }
}

unsafe extern "C" fn writedata<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    _desc: *mut c_void,
    data: u64,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    context: *mut c_void,
) -> isize {
    let write = writing(How::Call, dest_addr, Some(data), context);
    // SAFETY: the arguments of the call.
    unsafe { one::<S>(ep, buf.cast_mut(), len, Place { address: addr, key }, write) }
}

unsafe extern "C" fn injectdata<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    data: u64,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
) -> isize {
    let write = writing(How::Inject, dest_addr, Some(data), core::ptr::null_mut());
    // SAFETY: the arguments of the call.
    unsafe { one::<S>(ep, buf.cast_mut(), len, Place { address: addr, key }, write) }
}
