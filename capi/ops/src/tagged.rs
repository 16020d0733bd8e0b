//! `fi_tagged(3)`: the nine calls for tagged messages.
//!
//! Responsible for the order of their arguments, and for nothing else: what they do is in `transfer`.

use core::ffi::c_void;
use core::marker::PhantomData;

use libc::iovec;
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cptr;
use crate::ep::Kind;
use crate::errno::Errno;
use crate::transfer::{self, How, Recv, Send};

/// The table, for one flavour of lock.
pub(crate) struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    pub(crate) const TAGGED: &'static sys::fi_ops_tagged = &sys::fi_ops_tagged {
        size: size_of::<sys::fi_ops_tagged>(),
        recv: Some(recv::<S>),
        recvv: Some(recvv::<S>),
        recvmsg: Some(recvmsg::<S>),
        send: Some(send::<S>),
        sendv: Some(sendv::<S>),
        sendmsg: Some(sendmsg::<S>),
        inject: Some(inject::<S>),
        senddata: Some(senddata::<S>),
        injectdata: Some(injectdata::<S>),
    };
}

fn receiving(how: How, source: sys::fi_addr_t, tag: u64, ignore: u64, context: *mut c_void) -> Recv {
    Recv { kind: Kind::Tagged, how, source, tag, ignore, context }
}

fn sending(how: How, destination: sys::fi_addr_t, tag: u64, data: Option<u64>, context: *mut c_void) -> Send {
    Send { kind: Kind::Tagged, how, destination, tag, data, context }
}

unsafe extern "C" fn recv<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *mut c_void,
    len: usize,
    _desc: *mut c_void,
    src_addr: sys::fi_addr_t,
    tag: u64,
    ignore: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { transfer::recv::<S>(ep, buf, len, receiving(How::Call, src_addr, tag, ignore, context)) }
}

unsafe extern "C" fn recvv<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const iovec,
    _desc: *mut *mut c_void,
    count: usize,
    src_addr: sys::fi_addr_t,
    tag: u64,
    ignore: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { transfer::recvv::<S>(ep, iov, count, receiving(How::Call, src_addr, tag, ignore, context)) }
}

unsafe extern "C" fn recvmsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_tagged,
    flags: u64,
) -> isize {
    // SAFETY: the application's struct, or null.
    let Some(msg) = (unsafe { cptr::optional(msg) }) else { return Errno::INVAL.negative() as isize };
    let recv = receiving(How::Msg(flags), msg.addr, msg.tag, msg.ignore, msg.context);
    // SAFETY: the arguments of the call.
    unsafe { transfer::recvv::<S>(ep, msg.msg_iov, msg.iov_count, recv) }
}

unsafe extern "C" fn send<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    _desc: *mut c_void,
    dest_addr: sys::fi_addr_t,
    tag: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { transfer::send::<S>(ep, buf, len, sending(How::Call, dest_addr, tag, None, context)) }
}

unsafe extern "C" fn sendv<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const iovec,
    _desc: *mut *mut c_void,
    count: usize,
    dest_addr: sys::fi_addr_t,
    tag: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { transfer::sendv::<S>(ep, iov, count, sending(How::Call, dest_addr, tag, None, context)) }
}

unsafe extern "C" fn sendmsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_tagged,
    flags: u64,
) -> isize {
    // SAFETY: the application's struct, or null.
    let Some(msg) = (unsafe { cptr::optional(msg) }) else { return Errno::INVAL.negative() as isize };
    let send = sending(How::Msg(flags), msg.addr, msg.tag, Some(msg.data), msg.context);
    // SAFETY: the arguments of the call.
    unsafe { transfer::sendv::<S>(ep, msg.msg_iov, msg.iov_count, send) }
}

unsafe extern "C" fn inject<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    dest_addr: sys::fi_addr_t,
    tag: u64,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe {
        transfer::send::<S>(ep, buf, len, sending(How::Inject, dest_addr, tag, None, core::ptr::null_mut()))
    }
}

unsafe extern "C" fn senddata<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    _desc: *mut c_void,
    data: u64,
    dest_addr: sys::fi_addr_t,
    tag: u64,
    context: *mut c_void,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { transfer::send::<S>(ep, buf, len, sending(How::Call, dest_addr, tag, Some(data), context)) }
}

unsafe extern "C" fn injectdata<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    len: usize,
    data: u64,
    dest_addr: sys::fi_addr_t,
    tag: u64,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe {
        transfer::send::<S>(
            ep,
            buf,
            len,
            sending(How::Inject, dest_addr, tag, Some(data), core::ptr::null_mut()),
        )
    }
}
