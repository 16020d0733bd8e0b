//! Names of endpoints: `fi_getname` and `fi_setname`. The rest of `fi_cm(3)` is for connections, which there are none of.
//!
//! Responsible for the two-step protocol of lengths. Must never resolve or choose an address.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;

use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::address;
use crate::ep::Ep;
use crate::errno::{Errno, to_c};
use crate::guard::entry;
use crate::{cptr, fid, stubs};

/// The table, for one flavour of lock.
pub(crate) struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    pub(crate) const CM: &'static sys::fi_ops_cm = &sys::fi_ops_cm {
        size: size_of::<sys::fi_ops_cm>(),
        setname: Some(setname::<S>),
        getname: Some(getname::<S>),
        getpeer: Some(stubs::int3),
        connect: Some(stubs::int4),
        listen: Some(stubs::int1),
        accept: Some(stubs::int3),
        reject: Some(stubs::int4),
        shutdown: Some(stubs::int2),
        join: Some(stubs::int5),
    };
}

/// `fi_getname`: `-FI_ETOOSMALL` and the length when the buffer is too short.
unsafe extern "C" fn getname<S: Serialize>(
    fid: *mut sys::fid,
    addr: *mut c_void,
    addrlen: *mut usize,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        to_c(ep.name().and_then(|name| {
            // SAFETY: the application's buffer of the length it says.
            unsafe { cptr::give_bytes(address::encode(name).bytes(), addr, addrlen) }
        }))
    })
}

/// `fi_setname`: binds to another address, as long as the endpoint is not enabled.
unsafe extern "C" fn setname<S: Serialize>(fid: *mut sys::fid, addr: *mut c_void, addrlen: usize) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        // SAFETY: the application's buffer of the length it says.
        let bytes = unsafe { cptr::array(addr.cast_const().cast::<u8>(), addrlen) };
        let name = bytes.and_then(|bytes| address::decode(bytes).ok_or(Errno::INVAL));
        to_c(name.and_then(|name| ep.rename(name)))
    })
}
