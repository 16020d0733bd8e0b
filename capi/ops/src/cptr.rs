//! Pointers that C gave us: the only file that reads arrays, strings and structs of the caller and writes its results.
//!
//! Responsible for null checks and lengths. Must never keep a pointer, and never trust a length that the API does not promise.

use core::ffi::{CStr, c_char, c_void};

use libc::iovec;
use rdgram_engine::{IOV_LIMIT, RemoteSlice, UserSlice};
use rdgram_sys as sys;

use crate::errno::{Errno, Result};

/// A struct that the caller may leave out.
///
/// # Safety
/// `pointer` is null or points to a `T` that nobody writes during the call.
pub(crate) unsafe fn optional<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: the caller of this function promises it.
    unsafe { pointer.as_ref() }
}

/// A struct that the caller must give.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn required<'a, T>(pointer: *const T) -> Result<&'a T> {
    // SAFETY: the caller of this function promises it.
    unsafe { optional(pointer) }.ok_or(Errno::INVAL)
}

/// An array of the caller; null only when empty.
///
/// # Safety
/// `pointer` points to `count` values that nobody writes during the call, or `count` is 0.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, and the caller of this function promises the rest.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// A string that the caller may leave out; not UTF-8 is an error.
///
/// # Safety
/// `pointer` is null or a C string that nobody writes during the call.
pub(crate) unsafe fn string<'a>(pointer: *const c_char) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the caller of this function promises the rest.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|_| Errno::INVAL)
}

/// Writes a result, unless the caller does not want it.
///
/// # Safety
/// `pointer` is null or valid for writing a `T`.
pub(crate) unsafe fn give<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: not null, and the caller of this function promises the rest.
        unsafe { pointer.write(value) };
    }
}

/// Copies as much of `bytes` as fits into the caller's buffer of `*length` bytes and sets `*length` to the full size.
/// `Err(FI_ETOOSMALL)` when it did not fit.
///
/// # Safety
/// `length` is null or valid; `buffer` is valid for writing `*length` bytes, or null.
pub(crate) unsafe fn give_bytes(bytes: &[u8], buffer: *mut c_void, length: *mut usize) -> Result {
    if length.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, and the caller of this function promises the rest.
    let room = unsafe { length.read() };
    // SAFETY: as above.
    unsafe { length.write(bytes.len()) };
    if buffer.is_null() {
        return Err(Errno::TOOSMALL);
    }
    // SAFETY: the copy is within both; they are different objects.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), bytes.len().min(room)) };
    if room < bytes.len() { Err(Errno::TOOSMALL) } else { Ok(()) }
}

/// Copies text into the caller's buffer of `room` bytes, cut and always terminated; a buffer without room is left alone.
///
/// # Safety
/// `buffer` is null or valid for writing `room` bytes.
pub(crate) unsafe fn give_text(text: &[u8], buffer: *mut c_char, room: usize) {
    if buffer.is_null() || room == 0 {
        return;
    }
    let length = text.len().min(room - 1);
    // SAFETY: the copy is within both; they are different objects.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), length) };
    // SAFETY: `length < room`.
    let end = unsafe { buffer.add(length) };
    // SAFETY: inside of the buffer.
    unsafe { end.write(0) };
}

/// An operation's I/O vector, on the stack: nothing is allocated per operation.
pub(crate) struct Slices {
    slices: [UserSlice; IOV_LIMIT],
    count: usize,
}

impl Slices {
    /// The pieces of an I/O vector. More than [`IOV_LIMIT`] are refused.
    ///
    /// # Safety
    /// `iov` points to `count` entries; for each the promise of [`UserSlice::new`].
    #[inline]
    pub(crate) unsafe fn many(iov: *const iovec, count: usize) -> Result<Self> {
        if count > IOV_LIMIT {
            return Err(Errno::INVAL);
        }
        let mut slices = [UserSlice::empty(); IOV_LIMIT];
        // SAFETY: the application's promise.
        let iov = unsafe { array(iov, count) }?;
        for (slice, piece) in slices.iter_mut().zip(iov) {
            // SAFETY: the application's promise.
            *slice = unsafe { UserSlice::new(piece.iov_base.cast(), piece.iov_len) };
        }
        Ok(Self { slices, count })
    }

    /// The pieces of a vector of elements of `size` bytes.
    ///
    /// # Safety
    /// `ioc` points to `count` entries; for each the promise of [`UserSlice::new`].
    #[inline]
    pub(crate) unsafe fn elements(ioc: *const sys::fi_ioc, count: usize, size: usize) -> Result<Self> {
        if count > IOV_LIMIT {
            return Err(Errno::INVAL);
        }
        let mut slices = [UserSlice::empty(); IOV_LIMIT];
        // SAFETY: the application's promise.
        let ioc = unsafe { array(ioc, count) }?;
        for (slice, piece) in slices.iter_mut().zip(ioc) {
            let length = piece.count.checked_mul(size).ok_or(Errno::MSGSIZE)?;
            // SAFETY: the application's promise.
            *slice = unsafe { UserSlice::new(piece.addr.cast(), length) };
        }
        Ok(Self { slices, count })
    }

    /// What the engine is given.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[UserSlice] {
        &self.slices[..self.count]
    }
}

/// The target's side of an RMA operation, on the stack likewise.
pub(crate) struct RemoteSlices {
    slices: [RemoteSlice; IOV_LIMIT],
    count: usize,
}

impl RemoteSlices {
    /// The pieces of an RMA vector. More than [`IOV_LIMIT`] are refused, and none.
    ///
    /// # Safety
    /// `iov` points to `count` entries.
    #[inline]
    pub(crate) unsafe fn many(iov: *const sys::fi_rma_iov, count: usize) -> Result<Self> {
        if count > IOV_LIMIT || count == 0 {
            return Err(Errno::INVAL);
        }
        let mut slices = [RemoteSlice::default(); IOV_LIMIT];
        // SAFETY: the application's promise.
        let iov = unsafe { array(iov, count) }?;
        for (slice, piece) in slices.iter_mut().zip(iov) {
            *slice = RemoteSlice { key: piece.key, offset: piece.addr, length: piece.len as u64 };
        }
        Ok(Self { slices, count })
    }

    /// What the engine is given.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[RemoteSlice] {
        &self.slices[..self.count]
    }

    /// Bytes of all pieces; nothing for an impossible sum.
    #[inline]
    pub(crate) fn total(&self) -> Option<u64> {
        self.as_slice().iter().try_fold(0_u64, |sum, slice| sum.checked_add(slice.length))
    }
}

/// Bytes of all pieces; an impossible sum is refused.
#[inline]
pub(crate) fn total(slices: &[UserSlice]) -> Result<usize> {
    slices.iter().try_fold(0_usize, |sum, slice| sum.checked_add(slice.len())).ok_or(Errno::MSGSIZE)
}

/// One piece.
///
/// # Safety
/// The promise of [`UserSlice::new`], which `fi_msg(3)` asks of the application.
#[inline]
pub(crate) unsafe fn piece(buffer: *mut c_void, length: usize) -> UserSlice {
    // SAFETY: the application's promise.
    unsafe { UserSlice::new(buffer.cast(), length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn give_bytes_is_the_two_step_protocol() {
        let mut length = 0_usize;
        // SAFETY: a null buffer and a valid length.
        let first = unsafe { give_bytes(b"abcd", core::ptr::null_mut(), &mut length) };
        assert_eq!((first, length), (Err(Errno::TOOSMALL), 4));

        let mut buffer = [0_u8; 8];
        let mut length = 2_usize;
        // SAFETY: a buffer larger than the length given.
        let short = unsafe { give_bytes(b"abcd", buffer.as_mut_ptr().cast(), &mut length) };
        assert_eq!((short, length, &buffer[..4]), (Err(Errno::TOOSMALL), 4, b"ab\0\0".as_slice()));

        let mut length = buffer.len();
        // SAFETY: a buffer of the length given.
        let whole = unsafe { give_bytes(b"abcd", buffer.as_mut_ptr().cast(), &mut length) };
        assert_eq!((whole, length, &buffer[..5]), (Ok(()), 4, b"abcd\0".as_slice()));
    }

    #[test]
    fn give_text_always_terminates() {
        let mut buffer = [b'x'; 4];
        // SAFETY: a buffer of the room given.
        unsafe { give_text(b"longer", buffer.as_mut_ptr().cast(), buffer.len()) };
        assert_eq!(&buffer, b"lon\0");
        // SAFETY: nothing may be written without room.
        unsafe { give_text(b"longer", buffer.as_mut_ptr().cast(), 0) };
        assert_eq!(&buffer, b"lon\0");
    }

    #[test]
    fn vectors_have_a_limit_and_may_be_empty() {
        let iov = [iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; IOV_LIMIT + 1];
        // SAFETY: empty pieces promise nothing.
        assert!(unsafe { Slices::many(iov.as_ptr(), iov.len()) }.is_err());
        // SAFETY: no pieces.
        let none = unsafe { Slices::many(core::ptr::null(), 0) }.map(|slices| slices.as_slice().len());
        assert_eq!(none, Ok(0));
        // SAFETY: null with a count is refused before it is read.
        let null = unsafe { Slices::many(core::ptr::null(), 1) };
        assert_eq!(null.map(|slices| slices.count), Err(Errno::INVAL));
    }

    #[test]
    fn impossible_sums_are_refused() {
        let iov = [
            iovec { iov_base: core::ptr::null_mut(), iov_len: usize::MAX },
            iovec { iov_base: core::ptr::null_mut(), iov_len: 2 },
        ];
        // SAFETY: nobody reads through these slices.
        let slices = unsafe { Slices::many(iov.as_ptr(), 2) };
        assert_eq!(slices.and_then(|slices| total(slices.as_slice())), Err(Errno::MSGSIZE));
    }
}
