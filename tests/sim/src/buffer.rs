//! The application's memory: buffers cut into pieces with guard zones between them, seeded contents, and poison once an operation has ended.
//!
//! The only file of the simulator that touches raw memory. Nothing here knows an operation.

use core::ops::Range;

use rdgram_engine::UserSlice;

use crate::rng::{Rng, mix};

/// Bytes that nobody may touch, before, between and after the pieces.
const GUARD_LENGTH: usize = 24;
/// What untouched memory holds.
pub const GUARD: u8 = 0xa5;
/// What memory holds after its operation has ended: sending it, or writing there, shows.
const POISON: u8 = 0xdd;

/// A buffer. Its memory stays where it is for as long as it lives.
#[derive(Debug)]
pub struct Buffer {
    memory: *mut [u8],
    /// Start and length of each piece, in order.
    pieces: Vec<(usize, usize)>,
    capacity: usize,
}

impl Buffer {
    /// A buffer of `capacity` bytes in at most `pieces` pieces, at least one.
    pub fn new(capacity: usize, pieces: usize, rng: &mut Rng) -> Self {
        let mut cuts: Vec<usize> = (1..pieces).map(|_| rng.index(capacity + 1)).collect();
        cuts.sort_unstable();
        cuts.push(capacity);
        let mut start = GUARD_LENGTH;
        let mut previous = 0;
        let mut list = Vec::with_capacity(cuts.len());
        for cut in cuts {
            list.push((start, cut - previous));
            start += cut - previous + GUARD_LENGTH;
            previous = cut;
        }
        let memory = Box::into_raw(vec![GUARD; start].into_boxed_slice());
        Self { memory, pieces: list, capacity }
    }

    /// Bytes it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What to give to the engine.
    pub fn slices(&self) -> Vec<UserSlice> {
        let base = self.memory.cast::<u8>();
        self.pieces
            .iter()
            .map(|(start, length)| {
                // SAFETY: inside this buffer, which outlives the operation: it is dropped only after the completion, or after the engine itself is gone.
                unsafe { UserSlice::new(base.wrapping_add(*start), *length) }
            })
            .collect()
    }

    /// The offset of an address that the engine reported, within the pieces.
    pub fn offset_of(&self, address: usize) -> Option<usize> {
        let base = self.memory.cast::<u8>().addr();
        let mut before = 0;
        for (start, length) in &self.pieces {
            if (base + start..=base + start + length).contains(&address) {
                return Some(before + address - base - start);
            }
            before += length;
        }
        None
    }

    /// Fills it with the contents of message `id`.
    pub fn fill(&mut self, id: u64) {
        let mut contents = vec![0; self.capacity];
        pattern(id, &mut contents);
        let mut done = 0;
        for (start, length) in self.pieces.clone() {
            self.bytes_mut()[start..start + length].copy_from_slice(&contents[done..done + length]);
            done += length;
        }
    }

    /// Writes bytes at an offset of the pieces, as one.
    pub fn put(&mut self, offset: usize, contents: &[u8]) {
        let mut before = 0;
        for (start, length) in self.pieces.clone() {
            let from = offset.clamp(before, before + length);
            let to = (offset + contents.len()).clamp(before, before + length);
            if from < to {
                let target = start + from - before..start + to - before;
                self.bytes_mut()[target].copy_from_slice(&contents[from - offset..to - offset]);
            }
            before += length;
        }
    }

    /// The bytes of a range of the pieces, as one.
    pub fn gather(&self, range: Range<usize>) -> Vec<u8> {
        let mut out = Vec::with_capacity(range.len());
        self.walk(|offset, part| {
            let from = range.start.clamp(offset, offset + part.len()) - offset;
            let to = range.end.clamp(offset, offset + part.len()) - offset;
            out.extend_from_slice(&part[from..to]);
        });
        out
    }

    /// Whether everything outside `written` (of the pieces) is as it was.
    pub fn is_untouched_outside(&self, written: Range<usize>) -> bool {
        let mut untouched = self.gaps_are_intact();
        self.walk(|offset, part| {
            let from = written.start.clamp(offset, offset + part.len()) - offset;
            let to = written.end.clamp(offset, offset + part.len()) - offset;
            untouched &= part[..from].iter().chain(&part[to..]).all(|byte| *byte == GUARD);
        });
        untouched
    }

    /// Whether the guard zones are as they were.
    pub fn gaps_are_intact(&self) -> bool {
        let bytes = self.bytes();
        let mut end = 0;
        let mut intact = true;
        for (start, length) in &self.pieces {
            intact &= bytes[end..*start].iter().all(|byte| *byte == GUARD);
            end = start + length;
        }
        intact && bytes[end..].iter().all(|byte| *byte == GUARD)
    }

    /// Overwrites everything: the operation has ended.
    pub fn poison(&mut self) {
        self.bytes_mut().fill(POISON);
    }

    /// Whether nobody wrote since [`Self::poison`].
    pub fn is_poisoned(&self) -> bool {
        self.bytes().iter().all(|byte| *byte == POISON)
    }

    fn walk(&self, mut each: impl FnMut(usize, &[u8])) {
        let bytes = self.bytes();
        let mut offset = 0;
        for (start, length) in &self.pieces {
            each(offset, &bytes[*start..start + length]);
            offset += length;
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: made by `Box::into_raw`, freed only in `drop`; the engine writes only inside its own calls, during which no such reference lives.
        unsafe { &*self.memory }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and exclusive, by `&mut self`.
        unsafe { &mut *self.memory }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` and not freed before.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

/// Shortest message whose contents name it.
pub const NAMED_LENGTH: usize = 8;

const NAME_MASK: u64 = 0x6d73_6720_6964_2021;

/// Writes the contents of message `id`: its name in the first 8 bytes, then a sequence of its own.
pub fn pattern(id: u64, out: &mut [u8]) {
    for (index, word) in out.chunks_mut(8).enumerate() {
        let value = if index == 0 { id ^ NAME_MASK } else { mix(id.rotate_left(32) ^ index as u64) };
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
}

/// The message that contents claim to be of.
pub fn named(contents: &[u8]) -> Option<u64> {
    let word = contents.first_chunk::<NAMED_LENGTH>()?;
    Some(u64::from_le_bytes(*word) ^ NAME_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_survive_any_cut_into_pieces() {
        let mut rng = Rng::new(3, 0);
        for _ in 0..200 {
            let (capacity, pieces) = (rng.index(500), rng.size(1..=9));
            let mut buffer = Buffer::new(capacity, pieces, &mut rng);
            assert!(buffer.is_untouched_outside(0..0));
            buffer.fill(42);
            let mut expected = vec![0; capacity];
            pattern(42, &mut expected);
            assert_eq!(buffer.gather(0..capacity), expected);
            assert!(buffer.is_untouched_outside(0..capacity));
            assert_eq!(buffer.slices().iter().map(UserSlice::len).sum::<usize>(), capacity);
            assert_eq!(named(&expected), (capacity >= 8).then_some(42));
        }
    }

    #[test]
    fn what_was_put_is_gathered() {
        let mut rng = Rng::new(5, 0);
        for _ in 0..200 {
            let mut buffer = Buffer::new(100, rng.size(1..=9), &mut rng);
            let start = rng.index(100);
            let contents: Vec<u8> =
                (0..rng.index(101 - start)).map(|_| rng.bits().to_le_bytes()[0]).collect();
            let mut expected = vec![GUARD; 100];
            expected[start..start + contents.len()].copy_from_slice(&contents);
            buffer.put(start, &contents);
            assert_eq!(buffer.gather(0..100), expected);
            assert!(buffer.gaps_are_intact());
        }
    }

    #[test]
    fn a_stray_write_shows() {
        let mut rng = Rng::new(4, 0);
        let mut buffer = Buffer::new(100, 3, &mut rng);
        buffer.slices()[1].write(&[1]);
        let touched = buffer.offset_of(buffer.slices()[1].address().addr()).unwrap();
        assert!(!buffer.is_untouched_outside(0..0));
        assert!(buffer.is_untouched_outside(touched..touched + 1));
        buffer.poison();
        assert!(buffer.is_poisoned());
        buffer.slices()[2].write(&[1]);
        assert!(!buffer.is_poisoned());
    }
}
