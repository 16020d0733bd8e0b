//! User memory: the only file of the engine that dereferences pointers of the application.
//!
//! A [`UserSlice`] is a promise made at the API: the memory stays valid, and is not used against the operation's direction, until the operation has
//! completed (`fi_msg(3)`: "the buffer must not be touched until the completion"). The engine keeps its half by dropping every slice at completion.

use core::fmt;

/// A piece of an operation's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserSlice {
    address: *mut u8,
    length: usize,
}

// SAFETY: the slice is a description of memory that the application lent to the operation; whichever thread holds the domain lock may use it.
unsafe impl Send for UserSlice {}
// SAFETY: as above; a shared reference only allows what the domain lock already serialises.
unsafe impl Sync for UserSlice {}

impl fmt::Debug for UserSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}+{}", self.address, self.length)
    }
}

impl UserSlice {
    /// Describes `length` bytes at `address`.
    ///
    /// # Safety
    /// Until the operation that this slice is given to has completed, the memory must be valid for reads (send side) or for writes (receive side), and
    /// nobody else may write it (send side) or access it (receive side). `address` may be anything when `length` is 0.
    pub unsafe fn new(address: *mut u8, length: usize) -> Self {
        Self { address, length }
    }

    /// No bytes.
    pub const fn empty() -> Self {
        Self { address: core::ptr::null_mut(), length: 0 }
    }

    /// Bytes described.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where it begins.
    pub fn address(&self) -> *mut u8 {
        self.address
    }

    /// The part from `offset`, at most `length` bytes: what lies outside is cut off.
    #[must_use]
    pub fn part(&self, offset: usize, length: usize) -> Self {
        let offset = offset.min(self.length);
        Self { address: self.address.wrapping_add(offset), length: length.min(self.length - offset) }
    }

    /// Appends the bytes to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if self.length == 0 {
            return;
        }
        // SAFETY: the promise of `new`: valid for reads until the operation completes, and it has not, or the engine would not hold the slice.
        let bytes = unsafe { core::slice::from_raw_parts(self.address, self.length) };
        out.extend_from_slice(bytes);
    }

    /// Copies the bytes into `out`, which must be of the same length.
    pub fn read_into(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.length, "copy between different lengths");
        // SAFETY: the promise of `new` for the source; `out` is a live exclusive slice of that length; `copy` allows overlap.
        unsafe { core::ptr::copy(self.address, out.as_mut_ptr(), self.length) };
    }

    /// Writes `bytes` to the start of the slice. Panics when they do not fit: bounds are the caller's to check, and this is the last line.
    pub fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "placement outside the buffer");
        // SAFETY: the promise of `new`: valid for writes; the length was checked; `copy` allows overlap.
        unsafe { core::ptr::copy(bytes.as_ptr(), self.address, bytes.len()) };
    }

    /// Continues a CRC32C over the bytes.
    pub fn crc32c(&self, crc: u32) -> u32 {
        if self.length == 0 {
            return crc;
        }
        // SAFETY: the promise of `new`: valid for reads.
        let bytes = unsafe { core::slice::from_raw_parts(self.address, self.length) };
        crc32c::crc32c_append(crc, bytes)
    }
}
