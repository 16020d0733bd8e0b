//! Domains: what one lock covers, shared by every object opened on it.
//!
//! Responsible for the lock, the latch, the fork check and progress. Must never match on the threading level after the domain is open.

use core::ffi::{c_int, c_void};
use std::sync::Arc;

use rdgram_sys as sys;

/// `fi_domain`: opens a domain of a fabric whose application asked for `api_version`. The domain holds `fabric` until it is closed: the fabric counts
/// its children by it (`Arc::strong_count`).
///
/// # Safety
/// The pointers are those of the `fi_ops_fabric.domain` call.
pub(crate) unsafe fn open(
    fabric: Arc<()>,
    api_version: u32,
    info: *mut sys::fi_info,
    domain: *mut *mut sys::fid_domain,
    context: *mut c_void,
) -> c_int {
    let _ = (fabric, api_version, info, domain, context);
    -sys::FI_ENOSYS
}

/// `fi_trywait` for one object of a domain: FI_CLASS_CQ and FI_CLASS_CNTR. `-FI_EAGAIN` when something is pending, 0 when the caller may block on the
/// object's descriptor.
///
/// # Safety
/// `fid` is a live fid of one of our completion queues or counters.
pub(crate) unsafe fn trywait(fid: *mut sys::fid) -> c_int {
    let _ = fid;
    -sys::FI_ENOSYS
}
