//! Fabrics: what domains and event queues are opened on.
//!
//! Responsible for `fid_fabric`, for keeping it open while it has children, and for `fi_trywait`. Must never know what a domain does.

use core::ffi::{c_int, c_void};
use std::sync::Arc;

use rdgram_sys as sys;

use crate::errno::{Errno, to_c};
use crate::fid::{self, Face, Object};
use crate::{cptr, domain, eq, guard, stubs};

/// An open fabric.
#[repr(C)]
pub(crate) struct Fabric {
    face: Face<sys::fid_fabric>,
    /// Held by every child: the fabric may be closed when it is the only holder.
    usage: Arc<()>,
}

// SAFETY: `repr(C)`, the face comes first, and `fid_fabric` begins with `struct fid`.
unsafe impl Object for Fabric {
    type Fid = sys::fid_fabric;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_FABRIC);
}

static FID_OPS: sys::fi_ops = sys::fi_ops { close: Some(close), ..stubs::FID };

static FABRIC_OPS: sys::fi_ops_fabric = sys::fi_ops_fabric {
    size: size_of::<sys::fi_ops_fabric>(),
    domain: Some(open_domain),
    passive_ep: Some(stubs::int4),
    eq_open: Some(eq_open),
    wait_open: Some(stubs::int3),
    trywait: Some(trywait),
    domain2: Some(open_domain2),
};

impl Fabric {
    /// The API version the application asked for. The core stores it after `fabric()` returned, so it is known when a child is opened and not before.
    fn api_version(&self) -> u32 {
        // SAFETY: the core writes it once, before it gives the fabric to the application.
        unsafe { (*self.face.pointer()).api_version }
    }
}

/// The body of `fi_provider.fabric`.
///
/// # Safety
/// The arguments are those of the core's call.
pub(crate) unsafe fn open(
    attr: *mut sys::fi_fabric_attr,
    fabric: *mut *mut sys::fid_fabric,
    context: *mut c_void,
) -> c_int {
    if attr.is_null() || fabric.is_null() {
        return Errno::INVAL.negative();
    }
    // SAFETY: not null; the core's promise.
    let api_version = unsafe { (*attr).api_version };
    let object = Box::new(Fabric {
        face: Face::new(sys::fid_fabric {
            fid: fid::head(Fabric::CLASS, context, &FID_OPS),
            ops: fid::table(&FABRIC_OPS),
            api_version,
        }),
        usage: Arc::new(()),
    });
    // SAFETY: not null; the core's promise.
    unsafe { cptr::give(fabric, fid::publish(object)) };
    0
}

/// `fi_close`: `-FI_EBUSY` while a domain or an event queue is open.
unsafe extern "C" fn close(fabric: *mut sys::fid) -> c_int {
    guard::entry(|| {
        // SAFETY: libfabric calls the table of a fabric with that fabric.
        let object = unsafe { fid::object::<Fabric>(fabric.cast()) };
        if Arc::strong_count(&object.usage) > 1 {
            return Errno::BUSY.negative();
        }
        // SAFETY: closing is exclusive, and no child is left.
        drop(unsafe { fid::reclaim::<Fabric>(fabric.cast()) });
        0
    })
}

/// `fi_domain`.
unsafe extern "C" fn open_domain(
    fabric: *mut sys::fid_fabric,
    info: *mut sys::fi_info,
    domain: *mut *mut sys::fid_domain,
    context: *mut c_void,
) -> c_int {
    guard::entry(|| {
        // SAFETY: libfabric calls the table of a fabric with that fabric.
        let object = unsafe { fid::object::<Fabric>(fabric) };
        // SAFETY: the application's arguments are passed on as they are.
        unsafe { domain::open(Arc::clone(&object.usage), object.api_version(), info, domain, context) }
    })
}

/// `fi_domain2`: as `fi_domain`, and no flag is known.
unsafe extern "C" fn open_domain2(
    fabric: *mut sys::fid_fabric,
    info: *mut sys::fi_info,
    domain: *mut *mut sys::fid_domain,
    flags: u64,
    context: *mut c_void,
) -> c_int {
    if flags != 0 {
        return Errno::BADFLAGS.negative();
    }
    // SAFETY: the application's arguments are passed on as they are.
    unsafe { open_domain(fabric, info, domain, context) }
}

/// `fi_eq_open`.
unsafe extern "C" fn eq_open(
    fabric: *mut sys::fid_fabric,
    attr: *mut sys::fi_eq_attr,
    queue: *mut *mut sys::fid_eq,
    context: *mut c_void,
) -> c_int {
    guard::entry(|| {
        // SAFETY: libfabric calls the table of a fabric with that fabric.
        let object = unsafe { fid::object::<Fabric>(fabric) };
        // SAFETY: the application's arguments are passed on as they are.
        unsafe { eq::open(Arc::clone(&object.usage), object.api_version(), attr, queue, context) }
    })
}

/// `fi_trywait`: 0 when the caller may block on the descriptors of all objects, `-FI_EAGAIN` when one of them has something.
unsafe extern "C" fn trywait(_fabric: *mut sys::fid_fabric, fids: *mut *mut sys::fid, count: c_int) -> c_int {
    guard::entry(|| {
        let Ok(count) = usize::try_from(count) else { return Errno::INVAL.negative() };
        // SAFETY: the application's array of that many fids.
        let fids = match unsafe { cptr::array(fids.cast_const(), count) } {
            Ok(fids) => fids,
            Err(errno) => return errno.negative(),
        };
        // All are asked, since each prepares its own descriptor.
        let outcomes = fids.iter().map(|&fid| {
            // SAFETY: the application's fid, of one of our objects.
            unsafe { trywait_one(fid) }
        });
        outcomes.fold(0, |first, outcome| if first == 0 { outcome } else { first })
    })
}

/// # Safety
/// `fid` is null or a live fid of one of our objects.
unsafe fn trywait_one(fid: *mut sys::fid) -> c_int {
    if fid.is_null() {
        return Errno::INVAL.negative();
    }
    // SAFETY: not null, and the caller's promise.
    let class = unsafe { fid::class(fid) };
    const EQ: usize = fid::class_of(sys::FI_CLASS_EQ);
    const CQ: usize = fid::class_of(sys::FI_CLASS_CQ);
    const CNTR: usize = fid::class_of(sys::FI_CLASS_CNTR);
    match class {
        // SAFETY: the class says that it is an event queue.
        EQ => to_c(unsafe { eq::trywait(fid) }),
        // SAFETY: the class says that it is a completion queue or a counter.
        CQ | CNTR => unsafe { domain::trywait(fid) },
        _ => Errno::INVAL.negative(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> *mut sys::fid_fabric {
        let mut attr = sys::fi_fabric_attr {
            fabric: core::ptr::null_mut(),
            name: core::ptr::null_mut(),
            prov_name: core::ptr::null_mut(),
            prov_version: 0,
            api_version: sys::fi_version(1, 22),
        };
        let mut fabric = core::ptr::null_mut();
        // SAFETY: valid attributes and a place for the result.
        assert_eq!(unsafe { open(&mut attr, &mut fabric, core::ptr::null_mut()) }, 0);
        fabric
    }

    /// Opens an event queue as an application does, through the table.
    fn queue_of(fabric: *mut sys::fid_fabric) -> *mut sys::fid_eq {
        let mut attr = sys::fi_eq_attr {
            size: 0,
            flags: 0,
            wait_obj: sys::FI_WAIT_FD,
            signaling_vector: 0,
            wait_set: core::ptr::null_mut(),
        };
        let mut queue = core::ptr::null_mut();
        // SAFETY: an open fabric, valid attributes and a place for the result.
        assert_eq!(unsafe { eq_open(fabric, &mut attr, &mut queue, core::ptr::null_mut()) }, 0);
        queue
    }

    fn close_any(fid: *mut sys::fid) -> c_int {
        // SAFETY: a live fid.
        let ops = unsafe { (*fid).ops };
        // SAFETY: every fid has a table.
        let ops = unsafe { &*ops };
        let close = ops.close.expect("every slot is filled");
        // SAFETY: the object's own operation.
        unsafe { close(fid) }
    }

    #[test]
    fn a_fabric_with_children_stays_open() {
        let fabric = opened();
        let queue = queue_of(fabric);
        assert_eq!(close_any(fabric.cast()), -16);
        assert_eq!(close_any(queue.cast()), 0);
        assert_eq!(close_any(fabric.cast()), 0);
    }

    #[test]
    fn trywait_asks_every_object() {
        let fabric = opened();
        let queues = [queue_of(fabric), queue_of(fabric)];
        let mut fids = queues.map(|queue| queue.cast::<sys::fid>());
        // SAFETY: an open fabric and an array of two.
        assert_eq!(unsafe { trywait(fabric, fids.as_mut_ptr(), 2) }, 0);
        // SAFETY: an open queue.
        let ops = unsafe { (*queues[1]).ops };
        // SAFETY: every queue has a table.
        let write = unsafe { &*ops }.write.expect("every slot is filled");
        // SAFETY: an open queue and no bytes.
        assert_eq!(unsafe { write(queues[1], 1, core::ptr::null(), 0, 0) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { trywait(fabric, fids.as_mut_ptr(), 2) }, -11);
        let mut nonsense = [fabric.cast::<sys::fid>()];
        // SAFETY: an open fabric and an array of one.
        assert_eq!(unsafe { trywait(fabric, nonsense.as_mut_ptr(), 1) }, -22);
        // SAFETY: a negative count is refused before the array is read.
        assert_eq!(unsafe { trywait(fabric, core::ptr::null_mut(), -1) }, -22);
        for queue in queues {
            assert_eq!(close_any(queue.cast()), 0);
        }
        assert_eq!(close_any(fabric.cast()), 0);
    }

    #[test]
    fn the_api_version_is_where_the_core_stores_it() {
        let fabric = opened();
        // SAFETY: as the core does after `fabric()`.
        unsafe { (*fabric).api_version = sys::fi_version(2, 5) };
        // SAFETY: an open fabric.
        assert_eq!(unsafe { fid::object::<Fabric>(fabric) }.api_version(), sys::fi_version(2, 5));
        assert_eq!(close_any(fabric.cast()), 0);
    }

    #[test]
    fn unknown_flags_are_refused() {
        let fabric = opened();
        let mut domain = core::ptr::null_mut();
        // SAFETY: refused before anything is read.
        let outcome = unsafe {
            open_domain2(fabric, core::ptr::null_mut(), &mut domain, sys::FI_PEER, core::ptr::null_mut())
        };
        assert_eq!(outcome, -260);
        assert_eq!(close_any(fabric.cast()), 0);
    }
}
