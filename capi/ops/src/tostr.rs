//! Objects in words, for `fi_tostr(3)` with FI_TYPE_FID.
//!
//! Responsible for one line per object: what it is, whose, and where. Must never change anything, nor write beyond the buffer.

use core::ffi::{CStr, c_char, c_int};

use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::errno::Errno;
use crate::guard::entry;
use crate::{address, cptr, ep, fid};

/// What an object of this class is called.
fn word(class: usize) -> &'static str {
    const WORDS: [(u32, &str); 9] = [
        (sys::FI_CLASS_FABRIC, "fabric"),
        (sys::FI_CLASS_DOMAIN, "domain"),
        (sys::FI_CLASS_EP, "endpoint"),
        (sys::FI_CLASS_AV, "address vector"),
        (sys::FI_CLASS_MR, "memory region"),
        (sys::FI_CLASS_EQ, "event queue"),
        (sys::FI_CLASS_CQ, "completion queue"),
        (sys::FI_CLASS_CNTR, "counter"),
        (sys::FI_CLASS_POLL, "poll set"),
    ];
    let known = WORDS.iter().find(|(known, _)| fid::class_of(*known) == class);
    known.map_or("object", |(_, word)| word)
}

/// `fi_ops.tostr` of any object: its class and its address.
pub(crate) unsafe extern "C" fn object(object: *const sys::fid, buf: *mut c_char, len: usize) -> c_int {
    entry(|| {
        if object.is_null() {
            return Errno::INVAL.negative();
        }
        // SAFETY: not null, hence live.
        let class = unsafe { fid::class(object) };
        // SAFETY: the buffer of the call.
        unsafe { append(&format!("rdgram {} {object:p}\n", word(class)), buf, len) }
    })
}

/// `fi_ops.tostr` of an endpoint: also the address that peers know it by, unless the process was forked.
pub(crate) unsafe extern "C" fn endpoint<S: Serialize>(
    object: *const sys::fid,
    buf: *mut c_char,
    len: usize,
) -> c_int {
    entry(|| {
        if object.is_null() {
            return Errno::INVAL.negative();
        }
        // SAFETY: called through the table of this type.
        let endpoint = unsafe { fid::object::<ep::Ep<S>>(object.cast_mut().cast()) };
        let name = endpoint.name().map_or_else(|_| String::new(), |name| format!(" {}", address::text(name)));
        // SAFETY: the buffer of the call.
        unsafe { append(&format!("rdgram endpoint {object:p}{name}\n"), buf, len) }
    })
}

/// Adds a line to the text in the buffer: the core builds the words of several things in one.
///
/// # Safety
/// `buf` is null or a terminated text in a buffer of `len` bytes.
unsafe fn append(line: &str, buf: *mut c_char, len: usize) -> c_int {
    if buf.is_null() || len == 0 {
        return Errno::INVAL.negative();
    }
    // SAFETY: not null, and the caller promises the rest.
    let bytes = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };
    let used = CStr::from_bytes_until_nul(bytes).map_or(len, CStr::count_bytes);
    // SAFETY: `used <= len`: what is left of the buffer.
    unsafe { cptr::give_text(line.as_bytes(), buf.wrapping_add(used), len - used) };
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(buffer: &[u8]) -> &str {
        CStr::from_bytes_until_nul(buffer).expect("terminated").to_str().expect("ASCII")
    }

    #[test]
    fn lines_are_added_and_cut() {
        let mut buffer = *b"a\0xxxxxx";
        // SAFETY: a text in a buffer of the length given.
        assert_eq!(unsafe { append("bcd\n", buffer.as_mut_ptr().cast(), buffer.len()) }, 0);
        assert_eq!(text(&buffer), "abcd\n");
        // SAFETY: as above.
        assert_eq!(unsafe { append("efghi\n", buffer.as_mut_ptr().cast(), buffer.len()) }, 0);
        assert_eq!(text(&buffer), "abcd\nef");
        // SAFETY: as above; there is no room at all.
        assert_eq!(unsafe { append("j", buffer.as_mut_ptr().cast(), buffer.len()) }, 0);
        assert_eq!(text(&buffer), "abcd\nef");
        // SAFETY: null is refused.
        assert_eq!(unsafe { append("j", core::ptr::null_mut(), 8) }, Errno::INVAL.negative());
    }

    #[test]
    fn every_class_has_its_word() {
        assert_eq!(word(fid::class_of(sys::FI_CLASS_CNTR)), "counter");
        assert_eq!(word(0), "object");
    }
}
