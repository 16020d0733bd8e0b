//! The list of `fi_info` that is returned, in the C library's memory: the core frees every pointer in it with `free`.
//!
//! Responsible for allocating each structure at its largest known size, because the core copies as many bytes as its own version has. Must never put a pointer of
//! Rust's allocator into the list.

use core::ffi::{c_char, c_void};

use rdgram_sys as sys;

use super::answer::Template;
use super::hints::{Hints, zeroed};
use super::place::Site;
use crate::address;
use crate::errno::{Errno, Result};

/// A list that is freed when it is not handed out.
#[derive(Debug)]
pub(super) struct List {
    head: *mut sys::fi_info,
    tail: *mut sys::fi_info,
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is ours, and made of the C library's memory.
        unsafe { free(self.head) };
    }
}

impl List {
    /// One info per place, in the same order.
    pub(super) fn build(template: &Template, sites: &[Site], hints: &Hints<'_>) -> Result<Self> {
        let mut list = Self { head: core::ptr::null_mut(), tail: core::ptr::null_mut() };
        for site in sites {
            let info = list.append()?;
            // SAFETY: the list's own memory, reached by nobody else.
            fill(unsafe { &mut *info }, template, site, hints)?;
        }
        Ok(list)
    }

    /// Hands the list out: whoever has it frees it.
    pub(super) fn into_raw(self) -> *mut sys::fi_info {
        core::mem::ManuallyDrop::new(self).head
    }

    /// The first info.
    #[cfg(test)]
    pub(super) fn head(&self) -> *const sys::fi_info {
        self.head
    }

    /// An empty info at the end.
    fn append(&mut self) -> Result<*mut sys::fi_info> {
        let info = allocate(zeroed::<sys::fi_info>())?;
        if self.tail.is_null() {
            self.head = info;
        } else {
            // SAFETY: the list's own memory, reached by nobody else.
            let tail = unsafe { &mut *self.tail };
            tail.next = info;
        }
        self.tail = info;
        Ok(info)
    }
}

/// Fills an info. What is allocated hangs on it at once, so that it is freed with the list when the next step fails.
fn fill(info: &mut sys::fi_info, template: &Template, site: &Site, hints: &Hints<'_>) -> Result {
    // A loopback address reaches this host only; who asked for remote peers all the same gets what was asked for.
    let local_only = site.loopback && (hints.caps | hints.domain.caps) & sys::FI_REMOTE_COMM == 0;
    let withheld = if local_only { sys::FI_REMOTE_COMM } else { 0 };

    info.caps = template.caps & !withheld;
    info.addr_format = address::format_of(site.source);
    info.handle = hints.handle;
    info.tx_attr = allocate(template.tx)?;
    info.rx_attr = allocate(template.rx)?;
    info.ep_attr = allocate(template.ep)?.cast();
    let mut domain = template.domain;
    domain.base.caps &= !withheld;
    info.domain_attr = allocate(domain)?.cast();
    // The provider's name stays null: the core fills it in, and takes a name of ours for one of a layered provider.
    info.fabric_attr = allocate(zeroed::<sys::fi_fabric_attr>())?;

    let domain_name = duplicate(site.domain.as_bytes())?;
    // SAFETY: allocated above, reached by nobody else.
    unsafe { (*info.domain_attr).name = domain_name };
    let fabric_name = duplicate(site.fabric.as_bytes())?;
    // SAFETY: allocated above, reached by nobody else.
    unsafe { (*info.fabric_attr).name = fabric_name };

    let source = address::encode(site.source);
    info.src_addr = copy(source.bytes())?;
    info.src_addrlen = source.bytes().len();
    if let Some(destination) = site.destination {
        let destination = address::encode(destination);
        info.dest_addr = copy(destination.bytes())?;
        info.dest_addrlen = destination.bytes().len();
    }
    Ok(())
}

/// A value in the C library's memory.
fn allocate<T: Copy>(value: T) -> Result<*mut T> {
    // SAFETY: any size may be asked for.
    let memory = unsafe { libc::malloc(size_of::<T>()) }.cast::<T>();
    if memory.is_null() {
        return Err(Errno::NOMEM);
    }
    // SAFETY: enough memory for the value, aligned for anything.
    unsafe { memory.write(value) };
    Ok(memory)
}

/// Bytes in the C library's memory.
fn copy(bytes: &[u8]) -> Result<*mut c_void> {
    // SAFETY: any size may be asked for.
    let memory = unsafe { libc::malloc(bytes.len()) };
    if memory.is_null() {
        return Err(Errno::NOMEM);
    }
    // SAFETY: as many bytes as were asked for; a fresh allocation overlaps nothing.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast::<u8>(), bytes.len()) };
    Ok(memory)
}

/// A C string in the C library's memory.
fn duplicate(text: &[u8]) -> Result<*mut c_char> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend(text.iter().copied().take_while(|&byte| byte != 0));
    bytes.push(0);
    Ok(copy(&bytes)?.cast())
}

/// Frees a list as `fi_freeinfo` does.
///
/// # Safety
/// The list is null, or was made here (or equally) and nobody uses it any more.
pub(super) unsafe fn free(head: *mut sys::fi_info) {
    let mut next = head;
    // SAFETY: the caller's promise.
    while let Some(info) = unsafe { next.as_ref() } {
        // SAFETY: the caller's promise.
        if let Some(domain) = unsafe { info.domain_attr.as_ref() } {
            release(domain.name);
            release(domain.auth_key);
        }
        // SAFETY: the caller's promise.
        if let Some(fabric) = unsafe { info.fabric_attr.as_ref() } {
            release(fabric.name);
            release(fabric.prov_name);
        }
        // SAFETY: the caller's promise.
        if let Some(ep) = unsafe { info.ep_attr.as_ref() } {
            release(ep.auth_key);
        }
        release(info.src_addr);
        release(info.dest_addr);
        release(info.tx_attr);
        release(info.rx_attr);
        release(info.ep_attr);
        release(info.domain_attr);
        release(info.fabric_attr);
        let following = info.next;
        release(next);
        next = following;
    }
}

/// Frees one allocation of the list being freed, or nothing.
fn release<T>(memory: *mut T) {
    // SAFETY: only called by `free`, with each pointer of a list of the C library's memory once.
    unsafe { libc::free(memory.cast()) };
}
