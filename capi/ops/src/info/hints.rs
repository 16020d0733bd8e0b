//! The hints of a query, read once into plain values.
//!
//! Responsible for every read through the application's pointers, and for reading a field only when the application's version has it. Must never judge a value.

use core::net::SocketAddr;

use rdgram_sys as sys;
use rdgram_sys::abi::DomainAttr;

use crate::address::{self, Family};
use crate::cptr;
use crate::errno::{Errno, Result};

/// What the application asked for. Attributes it left out are zero, which asks for nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hints<'a> {
    pub(super) caps: u64,
    pub(super) family: Family,
    pub(super) source: Option<SocketAddr>,
    pub(super) destination: Option<SocketAddr>,
    pub(super) handle: sys::fid_t,
    pub(super) tx: sys::fi_tx_attr,
    pub(super) rx: sys::fi_rx_attr,
    pub(super) ep: sys::fi_ep_attr,
    pub(super) domain: sys::fi_domain_attr,
    /// Since 1.20.
    pub(super) max_ep_auth_key: usize,
    pub(super) provider_version: u32,
    pub(super) provider_name: Option<&'a str>,
    pub(super) fabric_name: Option<&'a str>,
    pub(super) domain_name: Option<&'a str>,
}

impl Default for Hints<'_> {
    fn default() -> Self {
        Self {
            caps: 0,
            family: Family::Any,
            source: None,
            destination: None,
            handle: core::ptr::null_mut(),
            tx: zeroed(),
            rx: zeroed(),
            ep: zeroed(),
            domain: zeroed(),
            max_ep_auth_key: 0,
            provider_version: 0,
            provider_name: None,
            fabric_name: None,
            domain_name: None,
        }
    }
}

/// Attribute structs, for which all zeroes is a value.
///
/// # Safety
/// The type is a C struct of integers and pointers.
pub(super) unsafe trait Attributes: Copy {}

// SAFETY: integers only.
unsafe impl Attributes for sys::fi_tx_attr {}
// SAFETY: integers only.
unsafe impl Attributes for sys::fi_rx_attr {}
// SAFETY: integers and a pointer.
unsafe impl Attributes for sys::fi_ep_attr {}
// SAFETY: integers and pointers.
unsafe impl Attributes for sys::fi_domain_attr {}
// SAFETY: integers and pointers.
unsafe impl Attributes for sys::fi_fabric_attr {}
// SAFETY: integers and pointers.
unsafe impl Attributes for sys::fi_info {}

/// Attributes that say nothing.
pub(super) fn zeroed<T: Attributes>() -> T {
    // SAFETY: the trait's promise.
    unsafe { core::mem::zeroed() }
}

impl<'a> Hints<'a> {
    /// Reads the hints. Text that is not UTF-8 and addresses of other families can match nothing of ours.
    ///
    /// # Safety
    /// `info` is null or an `fi_info` whose pointers are null or valid, in the layout of `version` or a later one.
    pub(super) unsafe fn read(info: *const sys::fi_info, version: u32) -> Result<Option<Self>> {
        // SAFETY: the caller's promise.
        let Some(info) = (unsafe { cptr::optional(info) }) else { return Ok(None) };
        // SAFETY: the caller's promise.
        let fabric: sys::fi_fabric_attr = unsafe { copy(info.fabric_attr) };
        // SAFETY: the caller's promise.
        let domain: sys::fi_domain_attr = unsafe { copy(info.domain_attr) };
        // SAFETY: the caller's promise.
        let max_ep_auth_key = unsafe { max_ep_auth_key(info.domain_attr, version) };
        // SAFETY: the caller's promise.
        let source = unsafe { read_address(info.src_addr, info.src_addrlen) }?;
        // SAFETY: the caller's promise.
        let destination = unsafe { read_address(info.dest_addr, info.dest_addrlen) }?;
        Ok(Some(Self {
            caps: info.caps,
            family: Family::of_format(info.addr_format).ok_or(Errno::NODATA)?,
            source,
            destination,
            handle: info.handle,
            // SAFETY: the caller's promise.
            tx: unsafe { copy(info.tx_attr) },
            // SAFETY: the caller's promise.
            rx: unsafe { copy(info.rx_attr) },
            // SAFETY: the caller's promise.
            ep: unsafe { copy(info.ep_attr) },
            domain,
            max_ep_auth_key,
            provider_version: fabric.prov_version,
            // SAFETY: the caller's promise.
            provider_name: unsafe { name(fabric.prov_name) }?,
            // SAFETY: the caller's promise.
            fabric_name: unsafe { name(fabric.name) }?,
            // SAFETY: the caller's promise.
            domain_name: unsafe { name(domain.name) }?,
        }))
    }
}

/// # Safety
/// Null or valid.
unsafe fn copy<T: Attributes>(attributes: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { cptr::optional(attributes) }.copied().unwrap_or_else(zeroed)
}

/// # Safety
/// Null or a C string that outlives `'a`.
unsafe fn name<'a>(text: *const core::ffi::c_char) -> Result<Option<&'a str>> {
    // SAFETY: the caller's promise.
    unsafe { cptr::string(text) }.map_err(|_| Errno::NODATA)
}

/// # Safety
/// Null or valid, in the layout of `version` or a later one.
unsafe fn max_ep_auth_key(domain: *const sys::fi_domain_attr, version: u32) -> usize {
    if domain.is_null() || version < sys::fi_version(1, 20) {
        return 0;
    }
    // SAFETY: the structure of 1.20 and later has the field; only its place is computed.
    let field = unsafe { &raw const (*domain.cast::<DomainAttr>()).max_ep_auth_key };
    // SAFETY: as above.
    unsafe { field.read() }
}

/// # Safety
/// `address` is null or valid for reading `length` bytes.
unsafe fn read_address(address: *const core::ffi::c_void, length: usize) -> Result<Option<SocketAddr>> {
    if address.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(address.cast::<u8>(), length) };
    address::decode(bytes).map(Some).ok_or(Errno::NODATA)
}
