//! What is where in a segment: every offset and every limit of it, from this one place.
//!
//! ```text
//!      0  anchor record: who owns the segment and what is in it; `sleeping` and the FIFO's tail on lines of their own
//!   4096  neighbour table: one word per neighbour of the owner, odd while the owner counts it as one
//!   8192  FIFO: slots of 256 bytes, that neighbours fill and the owner empties
//!         buffer states: one cache line each
//!         buffers, that the owner fills and neighbours read; from a page boundary on
//! ```

use rdgram_sync::fifo::Ring;

/// Neighbours of one endpoint, at most.
pub const NEIGHBOURS_MAX: usize = 1024;

/// Bytes of a slot.
pub(crate) const SLOT_SIZE: u32 = 256;

/// Version of the layout and of the exchange: the same, or the two sides do not meet.
pub(crate) const VERSION: u32 = 1;

/// What an anchor record begins with, published last.
pub(crate) const MAGIC: u64 = u64::from_ne_bytes(*b"RDGANCHR");

const PAGE: usize = 4096;
const LINE: usize = 64;

/// Slots of a FIFO, buffers, and bytes of one, at most: so that positions fit into the fields of a slot.
const SLOTS_MAX: u32 = 1 << 16;
const BUFFERS_MAX: u32 = 1 << 12;
const BUFFER_SIZE_MIN: u32 = 64;
const BUFFER_SIZE_MAX: u32 = 63 << 10;

/// The anchor record.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Anchor {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) pid: u32,
    pub(crate) incarnation: u64,
    pub(crate) slots: u32,
    pub(crate) slot_size: u32,
    pub(crate) buffers: u32,
    pub(crate) buffer_size: u32,
    pub(crate) total: u64,
    pub(crate) capabilities: u32,
    /// Not 0 once the owner has closed.
    pub(crate) closed: u32,
    /// Not 0 while the owner wants no payload that it did not ask for.
    pub(crate) unwelcome: u32,
    /// Not 0 once nobody may read the owner's own memory any more.
    pub(crate) pulls_forbidden: u32,
    rest: [u8; 2 * LINE - 64],
    /// Not 0 while the owner sleeps. By itself in a pair of lines, which processors fetch together.
    pub(crate) sleeping: u32,
    rest_of_sleeping: [u8; 2 * LINE - 4],
    /// The FIFO's tail. By itself likewise: every producer writes it.
    pub(crate) tail: u64,
    rest_of_tail: [u8; PAGE - 4 * LINE - 8],
}

/// Offsets in a segment that depend on nothing.
pub(crate) const SLEEPING: usize = core::mem::offset_of!(Anchor, sleeping);
pub(crate) const TAIL: usize = core::mem::offset_of!(Anchor, tail);
pub(crate) const CLOSED: usize = core::mem::offset_of!(Anchor, closed);
pub(crate) const UNWELCOME: usize = core::mem::offset_of!(Anchor, unwelcome);
pub(crate) const PULLS_FORBIDDEN: usize = core::mem::offset_of!(Anchor, pulls_forbidden);
const WORDS: usize = PAGE;
const FIFO: usize = WORDS + NEIGHBOURS_MAX * size_of::<u32>();

const _: () = assert!(size_of::<Anchor>() == PAGE && SLEEPING == 2 * LINE && TAIL == 4 * LINE);
const _: () = assert!(FIFO % PAGE == 0 && SLOT_SIZE as usize % LINE == 0);

/// A capability: the owner's memory may be read by `process_vm_readv`, if the system lets it.
pub(crate) const CAPABILITY_CMA: u32 = 1;

/// A slot behind its state word: fields in one word, then header and payload.
pub(crate) const SLOT_FIELDS: usize = size_of::<u64>();
pub(crate) const SLOT_BYTES: usize = SLOT_FIELDS + size_of::<Fields>();

/// Bytes of header and payload that fit into a slot.
pub(crate) const ROOM: usize = SLOT_SIZE as usize - SLOT_BYTES;

/// The same in the words by which they are read and written.
pub(crate) const ROOM_WORDS: usize = ROOM / size_of::<u64>();

const _: () = assert!(ROOM % size_of::<u64>() == 0 && ROOM <= u8::MAX as usize);
const _: () = assert!(SLOT_BYTES + 20 + 8 <= LINE, "a message of MPI with 8 bytes is one cache line");

/// What a slot says of its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Fields {
    pub(crate) kind: u8,
    /// Bytes of header, which is always in the slot.
    pub(crate) header: u8,
    /// Bytes of payload.
    pub(crate) payload: u16,
    /// The producer's buffer that has the payload, or [`INLINE`].
    pub(crate) buffer: u16,
    /// The low bits of the sequence number in the buffer's state.
    pub(crate) sequence: u16,
}

/// The payload follows the header.
pub(crate) const INLINE: u16 = u16::MAX;

const _: () = assert!(size_of::<Fields>() == size_of::<u64>());
const _: () = assert!(BUFFERS_MAX <= INLINE as u32 && BUFFER_SIZE_MAX <= u16::MAX as u32);

impl Fields {
    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.kind)
            | u64::from(self.header) << 8
            | u64::from(self.payload) << 16
            | u64::from(self.buffer) << 32
            | u64::from(self.sequence) << 48
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "cut out on purpose")]
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            kind: word as u8,
            header: (word >> 8) as u8,
            payload: (word >> 16) as u16,
            buffer: (word >> 32) as u16,
            sequence: (word >> 48) as u16,
        }
    }
}

/// The sizes of a segment's parts, valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    ring: Ring,
    buffers: u32,
    buffer_size: u32,
}

impl Geometry {
    /// Slots: a power of two. Buffers: possibly none. Their size: a multiple of the cache line.
    pub(crate) fn new(slots: u32, buffers: u32, buffer_size: u32) -> Option<Self> {
        let possible = (2..=SLOTS_MAX).contains(&slots)
            && buffers <= BUFFERS_MAX
            && (BUFFER_SIZE_MIN..=BUFFER_SIZE_MAX).contains(&buffer_size)
            && buffer_size as usize % LINE == 0;
        let ring = Ring::new(slots)?;
        possible.then_some(Self { ring, buffers, buffer_size })
    }

    #[inline]
    pub(crate) fn ring(self) -> Ring {
        self.ring
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "made of an u32")]
    pub(crate) fn slots(self) -> u32 {
        self.ring.slots() as u32
    }

    #[inline]
    pub(crate) fn buffers(self) -> u32 {
        self.buffers
    }

    #[inline]
    pub(crate) fn buffer_size(self) -> u32 {
        self.buffer_size
    }

    /// Bytes of the whole.
    pub(crate) fn total(self) -> usize {
        self.buffer(self.buffers as usize).next_multiple_of(PAGE)
    }

    /// Where a neighbour's word is.
    #[inline]
    pub(crate) fn word(number: u16) -> usize {
        debug_assert!((number as usize) < NEIGHBOURS_MAX);
        WORDS + number as usize * size_of::<u32>()
    }

    /// Where a slot is.
    #[inline]
    pub(crate) fn slot(self, index: usize) -> usize {
        debug_assert!((index as u64) < self.ring.slots());
        FIFO + index * SLOT_SIZE as usize
    }

    /// Where a buffer's state is.
    #[inline]
    pub(crate) fn buffer_state(self, index: usize) -> usize {
        FIFO + self.slots() as usize * SLOT_SIZE as usize + index * LINE
    }

    /// Where a buffer is.
    #[inline]
    pub(crate) fn buffer(self, index: usize) -> usize {
        let first = self.buffer_state(self.buffers as usize).next_multiple_of(PAGE);
        first + index * self.buffer_size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_lie_on_their_boundaries() {
        for (slots, buffers, size) in
            [(2, 0, 64), (4, 1, 64), (1024, 64, 16 << 10), (1 << 16, 1 << 12, 63 << 10)]
        {
            let geometry = Geometry::new(slots, buffers, size).expect("possible");
            assert_eq!(Geometry::word(0), PAGE);
            assert!(Geometry::word(1023) + 4 <= geometry.slot(0));
            let last = geometry.slot(slots as usize - 1);
            assert!(last + SLOT_SIZE as usize <= geometry.buffer_state(0));
            assert!(geometry.buffer_state(buffers as usize) <= geometry.buffer(0));
            assert!(geometry.buffer(buffers as usize) <= geometry.total());
            assert_eq!((geometry.slot(1) % LINE, geometry.buffer_state(1) % LINE), (0, 0));
            assert_eq!((geometry.buffer(0) % PAGE, geometry.total() % PAGE), (0, 0));
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (slots, buffers, size) in [
            (0, 1, 64),
            (1, 1, 64),
            (3, 1, 64),
            (1 << 17, 1, 64),
            (4, 1 << 13, 64),
            (4, 1, 0),
            (4, 1, 100),
            (4, 1, 64 << 10),
        ] {
            assert_eq!(Geometry::new(slots, buffers, size), None, "{slots} {buffers} {size}");
        }
    }

    #[test]
    fn fields_survive_their_word() {
        let fields = Fields { kind: 7, header: 20, payload: 0xabcd, buffer: 63, sequence: 0x1234 };
        assert_eq!(Fields::from_word(fields.to_word()), fields);
    }
}
