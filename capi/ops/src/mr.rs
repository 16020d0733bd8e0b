//! Memory regions: registration is bookkeeping.
//!
//! Responsible for attributes, keys and access rights as `fi_mr(3)` has them. Must never touch the memory registered: it may not even be mapped.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use std::sync::Arc;

use libc::iovec;
use rdgram_engine::{Access, CounterEvents, MrId, Region, UserSlice};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cntr::Cntr;
use crate::domain::{Domain, Shared};
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::{cptr, flags, stubs};

/// Most pieces of one region.
const IOV_MAX: usize = rdgram_engine::IOV_LIMIT;

/// `fid_mr`.
#[repr(C)]
pub(crate) struct Mr<S: Serialize> {
    child: Child<sys::fid_mr>,
    shared: Arc<Shared<S>>,
    /// None without remote access: then nothing of the network ever asks for it.
    id: Option<MrId>,
}

// SAFETY: `repr(C)`, and `Child<fid_mr>` is the first field.
unsafe impl<S: Serialize> Object for Mr<S> {
    type Fid = sys::fid_mr;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_MR);
}

/// The table of a region, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops =
        &sys::fi_ops { close: Some(close::<S>), bind: Some(bind::<S>), control: Some(control), ..stubs::FID };
}

/// What of a registration counts, whichever call it came by.
struct Registration<'a> {
    pieces: &'a [iovec],
    access: u64,
    requested_key: u64,
    flags: u64,
    context: *mut c_void,
}

/// Registers a region for one of the three calls.
///
/// # Safety
/// `domain` is the fid of the call, `mr` a place for the result.
unsafe fn register<S: Serialize>(
    domain: *mut sys::fid,
    registration: &Registration<'_>,
    mr: *mut *mut sys::fid_mr,
) -> Result {
    // SAFETY: called through the table of this type.
    let domain = unsafe { fid::object::<Domain<S>>(domain.cast()) };
    let shared = domain.shared();
    if registration.flags & !(sys::FI_RMA_EVENT | sys::FI_RMA_PMEM) != 0 {
        return Err(Errno::BADFLAGS);
    }
    let access = flags::access(registration.access)?;
    let remote = access.intersects(Access::REMOTE_READ | Access::REMOTE_WRITE);
    let (id, key) = if remote {
        let requested = (!shared.provider_keys).then_some(registration.requested_key);
        let virtual_addresses = shared.virtual_addresses;
        let region = Region { slices: slices(registration.pieces)?, access, virtual_addresses };
        let opened = shared.with(|state| state.engine.mr_open(region, requested).map_err(|_| Errno::NOKEY));
        opened.map(|(id, key)| (Some(id), key))?
    } else {
        (None, sys::FI_KEY_NOTAVAIL)
    };
    let face = sys::fid_mr {
        fid: fid::head(Mr::<S>::CLASS, registration.context, Tables::<S>::FID),
        mem_desc: core::ptr::null_mut(),
        key,
    };
    let region = Mr { child: Child::new(face, shared), shared: Arc::clone(shared), id };
    // SAFETY: libfabric's caller gives a place.
    unsafe { cptr::give(mr, fid::publish(Box::new(region))) };
    Ok(())
}

fn slices(pieces: &[iovec]) -> Result<Vec<UserSlice>> {
    if pieces.is_empty() || pieces.len() > IOV_MAX {
        return Err(Errno::INVAL);
    }
    let slices = pieces.iter().map(|piece| {
        // SAFETY: `fi_mr(3)`: the application keeps the memory valid for what peers may do with it as long as the region is registered; of a region that
        // spans what is not mapped (all of memory), peers are only told addresses that are.
        unsafe { UserSlice::new(piece.iov_base.cast(), piece.iov_len) }
    });
    Ok(slices.collect())
}

/// `fi_mr_reg`.
#[allow(clippy::too_many_arguments, reason = "as many as the slot has")]
pub(crate) unsafe extern "C" fn reg<S: Serialize>(
    fid: *mut sys::fid,
    buf: *const c_void,
    len: usize,
    access: u64,
    _offset: u64,
    requested_key: u64,
    flags: u64,
    mr: *mut *mut sys::fid_mr,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        let piece = iovec { iov_base: buf.cast_mut(), iov_len: len };
        let registration =
            Registration { pieces: core::slice::from_ref(&piece), access, requested_key, flags, context };
        // SAFETY: the arguments of the call.
        to_c(unsafe { register::<S>(fid, &registration, mr) })
    })
}

/// `fi_mr_regv`.
#[allow(clippy::too_many_arguments, reason = "as many as the slot has")]
pub(crate) unsafe extern "C" fn regv<S: Serialize>(
    fid: *mut sys::fid,
    iov: *const iovec,
    count: usize,
    access: u64,
    _offset: u64,
    requested_key: u64,
    flags: u64,
    mr: *mut *mut sys::fid_mr,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: the application's array.
        let pieces = unsafe { cptr::array(iov, count) };
        to_c(pieces.and_then(|pieces| {
            let registration = Registration { pieces, access, requested_key, flags, context };
            // SAFETY: the arguments of the call.
            unsafe { register::<S>(fid, &registration, mr) }
        }))
    })
}

/// `fi_mr_regattr`. Only fields that every version has are read; of the later ones, FI_MR_DMABUF changes the first and is refused by its flag.
pub(crate) unsafe extern "C" fn regattr<S: Serialize>(
    fid: *mut sys::fid,
    attr: *const sys::fi_mr_attr,
    flags: u64,
    mr: *mut *mut sys::fid_mr,
) -> c_int {
    entry(|| {
        // SAFETY: the application's struct.
        let attr = unsafe { cptr::required(attr) };
        to_c(attr.and_then(|attr| {
            if flags & sys::FI_MR_DMABUF != 0 {
                return Err(Errno::OPNOTSUPP);
            }
            // SAFETY: the application's array.
            let pieces = unsafe { cptr::array(attr.mr_iov, attr.iov_count) }?;
            let registration = Registration {
                pieces,
                access: attr.access,
                requested_key: attr.requested_key,
                flags,
                context: attr.context,
            };
            // SAFETY: the arguments of the call.
            unsafe { register::<S>(fid, &registration, mr) }
        }))
    })
}

/// `fi_close` of a region. Peers that ask for it from now on are refused.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let mr = unsafe { fid::object::<Mr<S>>(fid.cast()) };
        if let (Some(id), false) = (mr.id, mr.shared.is_inherited()) {
            let _refused = mr.shared.with(|state| {
                state.engine.mr_close(id);
                Ok(())
            });
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Mr<S>>(fid.cast()) });
        0
    })
}

/// `fi_mr_bind`: counters of peers' accesses (FI_RMA_EVENT). Endpoints need no binding (FI_MR_ENDPOINT is not asked for) and are accepted.
unsafe extern "C" fn bind<S: Serialize>(fid: *mut sys::fid, bfid: *mut sys::fid, flags: u64) -> c_int {
    const EP: usize = fid::class_of(sys::FI_CLASS_EP);
    const CNTR: usize = fid::class_of(sys::FI_CLASS_CNTR);
    entry(|| {
        // SAFETY: called through the table of this type.
        let mr = unsafe { fid::object::<Mr<S>>(fid.cast()) };
        if bfid.is_null() {
            return Errno::INVAL.negative();
        }
        // SAFETY: the application binds a live fid.
        match unsafe { fid::class(bfid) } {
            EP if flags == 0 => 0,
            CNTR => {
                // SAFETY: as above.
                let cntr = unsafe { fid::sibling::<Cntr<S>, _>(bfid, &mr.shared) };
                to_c(cntr.and_then(|cntr| bind_cntr(mr, cntr, flags)))
            }
            _ => Errno::INVAL.negative(),
        }
    })
}

/// The engine refuses to close a counter while a region is bound to it.
fn bind_cntr<S: Serialize>(mr: &Mr<S>, cntr: &Cntr<S>, flags: u64) -> Result {
    let events = flags::counter_events(flags)?;
    let by_peers = CounterEvents::REMOTE_READ | CounterEvents::REMOTE_WRITE;
    if events.is_empty() || !by_peers.contains(events) {
        return Err(Errno::BADFLAGS);
    }
    // Without remote access there is nothing to count.
    let id = mr.id.ok_or(Errno::INVAL)?;
    mr.shared.with(|state| {
        state.engine.mr_bind_cntr(id, cntr.id(), events);
        Ok(())
    })
}

/// `fi_control`: FI_ENABLE, which changes nothing: a region works from the start.
unsafe extern "C" fn control(_fid: *mut sys::fid, command: c_int, _arg: *mut c_void) -> c_int {
    if fid::command(command) == sys::FI_ENABLE { 0 } else { -sys::FI_ENOSYS }
}
