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

    /// Describes a block of the provider's own, for the operation entry that owns it: the entry drops the slice before the block.
    pub(crate) fn of_block(block: &mut [u8]) -> Self {
        Self { address: block.as_mut_ptr(), length: block.len() }
    }

    /// The whole address space, for tests of its registration.
    #[cfg(test)]
    pub(crate) fn everything() -> Self {
        Self { address: core::ptr::null_mut(), length: usize::MAX }
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

/// Writes `bytes` at `offset` of the memory that `slices` describe one after the other. What lies beyond their end is left out; the caller knows the room.
pub(crate) fn scatter(slices: &[UserSlice], mut offset: usize, mut bytes: &[u8]) {
    for slice in slices {
        if bytes.is_empty() {
            return;
        }
        let part = slice.part(offset, bytes.len());
        part.write(&bytes[..part.len()]);
        bytes = &bytes[part.len()..];
        offset = offset.saturating_sub(slice.len());
    }
}

/// Calls `each` with the parts of `slices` that make up `length` bytes from `offset`.
pub(crate) fn parts(
    slices: &[UserSlice],
    mut offset: usize,
    mut length: usize,
    mut each: impl FnMut(UserSlice),
) {
    for slice in slices {
        if length == 0 {
            return;
        }
        let part = slice.part(offset, length);
        if !part.is_empty() {
            each(part);
        }
        length -= part.len();
        offset = offset.saturating_sub(slice.len());
    }
}

/// The first of [`parts`]: what of a range lies in one piece.
pub(crate) fn first_part(slices: &[UserSlice], offset: usize, length: usize) -> UserSlice {
    let mut first = None;
    parts(slices, offset, length, |part| {
        first.get_or_insert(part);
    });
    first.unwrap_or(UserSlice::empty())
}

/// Copies `length` bytes from the start of `from` to `to` at `offset`, both lists of the application's slices.
pub(crate) fn copy(from: &[UserSlice], to: &[UserSlice], offset: usize, length: usize) {
    move_range(from, 0, to, offset, length);
}

/// Copies `length` bytes at `from_offset` of `from` to `to_offset` of `to`.
pub(crate) fn move_range(
    from: &[UserSlice],
    from_offset: usize,
    to: &[UserSlice],
    to_offset: usize,
    length: usize,
) {
    let mut done = 0;
    parts(from, from_offset, length, |source| {
        let mut within = 0;
        parts(to, to_offset + done, source.len(), |target| {
            // SAFETY: `part` cut both to the same length inside their slices, whose promises make them valid; `copy` allows overlap.
            unsafe {
                core::ptr::copy(source.address.wrapping_add(within), target.address, target.len());
            };
            within += target.len();
        });
        done += source.len();
    });
}

/// Copies the bytes from `offset` of `slices` into `out`, which they fill.
pub(crate) fn gather(slices: &[UserSlice], offset: usize, out: &mut [u8]) {
    let mut done = 0;
    parts(slices, offset, out.len(), |part| {
        part.read_into(&mut out[done..done + part.len()]);
        done += part.len();
    });
    assert_eq!(done, out.len(), "the range lies in the slices");
}

/// Bytes that `slices` describe together. A list longer than the address space is as long as it.
pub(crate) fn total(slices: &[UserSlice]) -> usize {
    slices.iter().fold(0, |sum, slice| sum.saturating_add(slice.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(memory: &mut [u8], lengths: &[usize]) -> Vec<UserSlice> {
        let mut rest = memory;
        lengths
            .iter()
            .map(|&length| {
                let (first, after) = core::mem::take(&mut rest).split_at_mut(length);
                rest = after;
                UserSlice::of_block(first)
            })
            .collect()
    }

    #[test]
    fn scatter_crosses_slices_and_stops_at_the_end() {
        let mut memory = [0u8; 10];
        let list = slices(&mut memory, &[3, 0, 4, 3]);
        scatter(&list, 2, &[1, 2, 3, 4, 5, 6]);
        scatter(&list, 9, &[9, 9, 9]);
        assert_eq!(memory, [0, 0, 1, 2, 3, 4, 5, 6, 0, 9]);
    }

    #[test]
    fn parts_cover_exactly_the_range() {
        let mut memory: Vec<u8> = (0..20).collect();
        let list = slices(&mut memory, &[5, 1, 0, 7, 7]);
        for offset in 0..=20 {
            for length in 0..=20 - offset {
                let mut seen = Vec::new();
                parts(&list, offset, length, |part| part.append_to(&mut seen));
                let expected: Vec<u8> =
                    (offset..offset + length).map(|byte| u8::try_from(byte).unwrap()).collect();
                assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn copy_joins_lists_of_different_cuts() {
        let mut from_memory: Vec<u8> = (1..=12).collect();
        let mut to_memory = vec![0u8; 16];
        let from = slices(&mut from_memory, &[5, 7]);
        let to = slices(&mut to_memory, &[2, 3, 1, 10]);
        copy(&from, &to, 3, 12);
        assert_eq!(to_memory[3..15], (1..=12).collect::<Vec<u8>>()[..]);
        assert_eq!((to_memory[2], to_memory[15]), (0, 0));
    }
}
