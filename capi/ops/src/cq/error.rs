//! Error entries: their layout by API version, their words, and what the user is told of them.
//!
//! Responsible for never writing beyond the struct that the application has. Must never make an error of its own.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use rdgram_engine::{Cause, CompletionFlags, CqId, Failure, FiAddr};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use super::Cq;
use super::format::pointer;
use crate::address::{self, Encoded};
use crate::domain::State;
use crate::errno::{Errno, cause_text, provider_number, to_c_size};
use crate::guard::entry;
use crate::{cptr, fid, flags, log};

/// Bytes of `fi_cq_err_entry` that an application of this version has: it grew twice.
fn error_entry_size(api_version: u32) -> usize {
    const WITH_SIZE: u32 = sys::fi_version(1, 5);
    const WITH_SOURCE: u32 = sys::fi_version(1, 20);
    match api_version {
        ..WITH_SIZE => core::mem::offset_of!(sys::fi_cq_err_entry, err_data_size),
        WITH_SIZE..WITH_SOURCE => size_of::<sys::fi_cq_err_entry>(),
        WITH_SOURCE.. => size_of::<sys::abi::CqErrEntry>(),
    }
}

fn error_entry(failure: &Failure) -> sys::abi::CqErrEntry {
    let completion = &failure.completion;
    let received = completion.flags.contains(CompletionFlags::RECV);
    sys::abi::CqErrEntry {
        base: sys::fi_cq_err_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
            tag: completion.tag,
            olen: failure.overflow,
            err: Errno::from(failure.cause).number(),
            prov_errno: provider_number(failure.cause),
            err_data: core::ptr::null_mut(),
            err_data_size: 0,
        },
        // Of what was sent it is the destination, which is not this field's business.
        src_addr: if received { completion.source } else { FiAddr::UNSPEC }.0,
    }
}

/// `fi_cq_readerr`.
pub(super) unsafe extern "C" fn readerr<S: Serialize>(
    cq: *mut sys::fid_cq,
    buf: *mut sys::fi_cq_err_entry,
    _flags: u64,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(cq) };
        if buf.is_null() {
            return to_c_size(Err(Errno::INVAL));
        }
        let failure = cq.shared.with(|state| {
            let mut failure = state.engine.cq_pop_failure(cq.id);
            if failure.is_none() {
                state.progress();
                failure = state.engine.cq_pop_failure(cq.id);
            }
            let failure = failure.ok_or(Errno::AGAIN)?;
            let ends = needs_telling(failure.cause).then(|| Ends::find(state, cq.id, &failure));
            let unknown = failure.cause == Cause::NoAddress;
            let sender = state.engine.cq_stranger(cq.id).filter(|_| unknown);
            Ok((failure, ends, sender))
        });
        to_c_size(failure.map(|(failure, ends, sender)| {
            let size = error_entry_size(cq.shared.api_version);
            // SAFETY: the application's struct has at least this size in the version it was built for.
            let place = unsafe { DataPlace::read(buf, size) };
            if let Some(ends) = ends {
                ends.tell(failure.cause);
            }
            // SAFETY: as above, and so has ours.
            unsafe { give_error_entry(buf, &error_entry(&failure), size) };
            if let Some(sender) = sender {
                // SAFETY: as above.
                unsafe { place.give(buf, &address::encode(sender), &cq.stranger) };
            }
            1
        }))
    })
}

/// Whether the user has to learn of it, and not only the application: something outside of the program is wrong.
fn needs_telling(cause: Cause) -> bool {
    match cause {
        Cause::Refused
        | Cause::Unreachable
        | Cause::Closed
        | Cause::Restarted
        | Cause::TimedOut
        | Cause::Version
        | Cause::NoMemory
        | Cause::Corrupt => true,
        Cause::Truncated
        | Cause::Canceled
        | Cause::NoMessage
        | Cause::EndpointClosed
        | Cause::NoAddress
        | Cause::BadKey
        | Cause::AccessDenied
        | Cause::OutOfRange
        | Cause::NotSupported => false,
    }
}

/// The two ends of a failed operation, as far as they are known.
struct Ends {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

impl Ends {
    fn find(state: &State, cq: CqId, failure: &Failure) -> Self {
        let endpoint = state.endpoints.iter().flatten().find(|endpoint| endpoint.reports_to(cq));
        let local = endpoint.and_then(|endpoint| endpoint.name(&state.engine).ok());
        let peer = endpoint
            .and_then(|endpoint| endpoint.av())
            .and_then(|av| state.engine.av_lookup(av, failure.completion.source));
        Self { local, peer }
    }

    /// One line on stderr for each cause and peer.
    fn tell(&self, cause: Cause) {
        let words = cause_text(provider_number(cause)).to_string_lossy();
        let name = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        let local = name(self.local).unwrap_or_else(|| "an endpoint".to_owned());
        let peer = name(self.peer).unwrap_or_else(|| "a peer".to_owned());
        let text = format!("operation of {local} with {peer} failed: {words}");
        log::warn_once(&text, &text);
    }
}

/// Where `err_data` goes (`fi_cq(3)`): into the application's buffer, or, when it has none, it stays in one of ours until the next read.
#[derive(Clone, Copy)]
struct DataPlace {
    /// The buffer and its length.
    buffer: Option<(*mut c_void, usize)>,
    /// The application's struct has a field for the length.
    has_size: bool,
}

impl DataPlace {
    /// # Safety
    /// `buf` is valid for reads of `size` bytes.
    unsafe fn read(buf: *const sys::fi_cq_err_entry, size: usize) -> Self {
        let has_size = size > core::mem::offset_of!(sys::fi_cq_err_entry, err_data_size);
        if !has_size {
            return Self { buffer: None, has_size };
        }
        // SAFETY: inside of the struct.
        let length = unsafe { (*buf).err_data_size };
        // SAFETY: as above.
        let data = unsafe { (*buf).err_data };
        Self { buffer: (length > 0 && !data.is_null()).then_some((data, length)), has_size }
    }

    /// # Safety
    /// `buf` is what was read, and valid for writes; a buffer that it named is valid for writes of the length named.
    unsafe fn give(self, buf: *mut sys::fi_cq_err_entry, address: &Encoded, kept: &Mutex<Encoded>) {
        let mut length = address.bytes().len();
        if let Some((data, room)) = self.buffer {
            length = length.min(room);
            // SAFETY: the caller promises the buffer; the address is ours.
            unsafe { core::ptr::copy_nonoverlapping(address.bytes().as_ptr(), data.cast(), length) };
        } else {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = *address;
            // SAFETY: inside of the struct in every version.
            unsafe { (*buf).err_data = kept.bytes().as_ptr().cast_mut().cast() };
        }
        if self.has_size {
            // SAFETY: the field is there.
            unsafe { (*buf).err_data_size = length };
        }
    }
}

/// Writes as much of an error entry as the application has. Its own `err_data` buffer stays: no data comes with our errors.
///
/// # Safety
/// `buf` is valid for reads and writes of `size` bytes.
unsafe fn give_error_entry(buf: *mut sys::fi_cq_err_entry, entry: &sys::abi::CqErrEntry, size: usize) {
    const DATA: usize = core::mem::offset_of!(sys::fi_cq_err_entry, err_data);
    const REST: usize = DATA + size_of::<*mut c_void>();
    let from = core::ptr::from_ref(entry).cast::<u8>();
    let to = buf.cast::<u8>();
    // SAFETY: both are at least this long (72 bytes is the smallest), and distinct.
    unsafe { core::ptr::copy_nonoverlapping(from, to, DATA) };
    // SAFETY: as above: `REST <= size`.
    unsafe { core::ptr::copy_nonoverlapping(from.wrapping_add(REST), to.wrapping_add(REST), size - REST) };
}

/// `fi_cq_strerror`. The text is static; the application's buffer gets a copy.
pub(super) unsafe extern "C" fn strerror(
    _cq: *mut sys::fid_cq,
    prov_errno: c_int,
    _err_data: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> *const c_char {
    entry(|| {
        let text: &'static CStr = cause_text(prov_errno);
        // SAFETY: the application's buffer of the length it says, or null.
        unsafe { cptr::give_text(text.to_bytes(), buf, len) };
        text.as_ptr()
    })
}

#[cfg(test)]
mod tests {
    use rdgram_engine::Completion;

    use super::*;

    const COMPLETION: Completion = Completion {
        context: 0x1000,
        flags: CompletionFlags::RECV.union(CompletionFlags::TAGGED),
        length: 17,
        buffer: 0x2000,
        data: 3,
        tag: 4,
        source: FiAddr(5),
    };

    #[test]
    fn error_entries_end_where_the_application_s_do() {
        assert_eq!(error_entry_size(0), 72);
        assert_eq!(error_entry_size(sys::fi_version(1, 4)), 72);
        assert_eq!(error_entry_size(sys::fi_version(1, 5)), 80);
        assert_eq!(error_entry_size(sys::fi_version(1, 20)), 88);
        assert_eq!(error_entry_size(sys::fi_version(2, 5)), 88);

        let failure = Failure { completion: COMPLETION, overflow: 9, cause: Cause::Truncated };
        for size in [72, 80, 88] {
            let mut memory = [0x5A_u8; 96].map(u64::from).map(|byte| byte * 0x0101_0101_0101_0101);
            // SAFETY: more than `size` bytes.
            unsafe { give_error_entry(memory.as_mut_ptr().cast(), &error_entry(&failure), size) };
            let words = size / 8;
            assert_eq!((memory[0], memory[2], memory[6]), (0x1000, 17, 9));
            assert_eq!(memory[8], 0x5A5A_5A5A_5A5A_5A5A, "err_data is the application's");
            assert!(memory[words..].iter().all(|&word| word == 0x5A5A_5A5A_5A5A_5A5A), "beyond {size}");
        }
    }

    #[test]
    fn strerror_fills_the_buffer_and_returns_a_text() {
        let mut buffer = [b'x' as c_char; 16];
        // SAFETY: a buffer of the length given; the queue is not looked at.
        let text = unsafe {
            strerror(core::ptr::null_mut(), 1, core::ptr::null(), buffer.as_mut_ptr(), buffer.len())
        };
        // SAFETY: a static text.
        assert_eq!(unsafe { CStr::from_ptr(text) }, cause_text(1));
        assert_eq!(buffer[15], 0);
        // SAFETY: null is allowed.
        let unknown =
            unsafe { strerror(core::ptr::null_mut(), 99, core::ptr::null(), core::ptr::null_mut(), 0) };
        assert!(!unknown.is_null());
    }
}
