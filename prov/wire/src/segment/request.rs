//! The Extended Request (protocol.md, section 7): reads and atomic operations on memory that has a key of 64 bits.
//! Must never judge bounds, operation or datatype: the target answers those with NACK, which a drop would hide.
//!
//! ```text
//!     READ      0  u8 1    1  u8 flags: PART 0x01; others ignored       2  u16 zero
//!               4  u32 message id                8  u32 sink STag     12  u32 zero
//!              16  u64 sink offset              24  u64 key           32  u64 offset in the region
//!              40  u64 length
//!
//!     ATOMIC    0  u8 2    1  u8 operation       2  u8 datatype        3  u8 flags: FETCH 0x01, COMPARE 0x02; others ignored
//!               4  u32 message id                8  u32 sink STag     12  u32 count
//!              16  u64 key                      24  u64 offset in the region
//! ```

use super::fixed;
use crate::Malformed;
use crate::bytes::{put, room, u32_at, u64_at};

const READ: u8 = 1;
const ATOMIC: u8 = 2;

const PART: u8 = 0x01;

const FETCH: u8 = 0x01;
const COMPARE: u8 = 0x02;

/// The places that both types share.
mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const MESSAGE_ID: usize = 4;
    pub(super) const SINK_STAG: usize = 8;
}

mod read {
    pub(super) const FLAGS: usize = 1;
    pub(super) const ZERO: usize = 2;
    pub(super) const ZERO_WORD: usize = 12;
    pub(super) const SINK_OFFSET: usize = 16;
    pub(super) const KEY: usize = 24;
    pub(super) const OFFSET: usize = 32;
    pub(super) const LENGTH: usize = 40;
    pub(super) const END: usize = 48;
}

mod atomic {
    pub(super) const OPERATION: usize = 1;
    pub(super) const DATATYPE: usize = 2;
    pub(super) const FLAGS: usize = 3;
    pub(super) const COUNT: usize = 12;
    pub(super) const KEY: usize = 16;
    pub(super) const OFFSET: usize = 24;
    pub(super) const END: usize = 32;
}

const _: () = assert!(ExtendedRead::LENGTH == read::END);
const _: () = assert!(ExtendedAtomic::LENGTH == atomic::END);

/// What is requested.
#[derive(Clone, Copy)]
pub(super) enum Request {
    Read(ExtendedRead),
    Atomic(ExtendedAtomic),
}

impl Request {
    /// Reads the request from the bytes after the untagged header up to the end of the segment: a READ fills them, operands follow an ATOMIC.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(&READ) => Ok(Self::Read(ExtendedRead::decode(bytes)?)),
            Some(&ATOMIC) => Ok(Self::Atomic(ExtendedAtomic::decode(bytes)?)),
            Some(&code) => Err(Malformed::RequestType(code)),
            None => {
                Err(Malformed::Short { header: "Extended Request", need: ExtendedAtomic::LENGTH, have: 0 })
            }
        }
    }
}

/// A READ as a value.
#[derive(Clone, Copy)]
pub(super) struct ExtendedRead {
    pub(super) message_id: u32,
    pub(super) sink_stag: u32,
    pub(super) sink_offset: u64,
    pub(super) part: bool,
    pub(super) key: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl ExtendedRead {
    pub(super) const LENGTH: usize = 48;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, field::TYPE, [READ]);
        put(out, read::FLAGS, [if self.part { PART } else { 0 }]);
        put(out, read::ZERO, [0; 2]);
        put(out, field::MESSAGE_ID, self.message_id.to_be_bytes());
        put(out, field::SINK_STAG, self.sink_stag.to_be_bytes());
        put(out, read::ZERO_WORD, [0; 4]);
        put(out, read::SINK_OFFSET, self.sink_offset.to_be_bytes());
        put(out, read::KEY, self.key.to_be_bytes());
        put(out, read::OFFSET, self.offset.to_be_bytes());
        put(out, read::LENGTH, self.length.to_be_bytes());
        Self::LENGTH
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let head = fixed::<{ Self::LENGTH }>("READ", bytes)?;
        Ok(Self {
            message_id: u32_at(head, field::MESSAGE_ID),
            sink_stag: u32_at(head, field::SINK_STAG),
            sink_offset: u64_at(head, read::SINK_OFFSET),
            part: head[read::FLAGS] & PART != 0,
            key: u64_at(head, read::KEY),
            offset: u64_at(head, read::OFFSET),
            length: u64_at(head, read::LENGTH),
        })
    }
}

/// An ATOMIC as a value.
#[derive(Clone, Copy)]
pub(super) struct ExtendedAtomic {
    pub(super) operation: u8,
    pub(super) datatype: u8,
    pub(super) fetch: bool,
    pub(super) compare: bool,
    pub(super) message_id: u32,
    pub(super) sink_stag: u32,
    pub(super) count: u32,
    pub(super) key: u64,
    pub(super) offset: u64,
}

impl ExtendedAtomic {
    pub(super) const LENGTH: usize = 32;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        let fetch = if self.fetch { FETCH } else { 0 };
        let compare = if self.compare { COMPARE } else { 0 };
        put(out, field::TYPE, [ATOMIC]);
        put(out, atomic::OPERATION, [self.operation]);
        put(out, atomic::DATATYPE, [self.datatype]);
        put(out, atomic::FLAGS, [fetch | compare]);
        put(out, field::MESSAGE_ID, self.message_id.to_be_bytes());
        put(out, field::SINK_STAG, self.sink_stag.to_be_bytes());
        put(out, atomic::COUNT, self.count.to_be_bytes());
        put(out, atomic::KEY, self.key.to_be_bytes());
        put(out, atomic::OFFSET, self.offset.to_be_bytes());
        Self::LENGTH
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: "ATOMIC", need: Self::LENGTH, have: bytes.len() });
        };
        Ok(Self {
            operation: head[atomic::OPERATION],
            datatype: head[atomic::DATATYPE],
            fetch: head[atomic::FLAGS] & FETCH != 0,
            compare: head[atomic::FLAGS] & COMPARE != 0,
            message_id: u32_at(head, field::MESSAGE_ID),
            sink_stag: u32_at(head, field::SINK_STAG),
            count: u32_at(head, atomic::COUNT),
            key: u64_at(head, atomic::KEY),
            offset: u64_at(head, atomic::OFFSET),
        })
    }
}
