//! The RDMA Read Request header (RFC 5040 section 4.4). Must never check bounds: the source answers them with an error, which a drop would hide.
//!
//! ```text
//!      0  u32 sink STag     4  u64 sink tagged offset
//!     12  u32 size
//!     16  u32 source STag  20  u64 source tagged offset
//! ```

use super::fixed;
use crate::Malformed;
use crate::bytes::{put, room, u32_at, u64_at};

mod field {
    pub(super) const SINK_STAG: usize = 0;
    pub(super) const SINK_OFFSET: usize = 4;
    pub(super) const SIZE: usize = 12;
    pub(super) const SOURCE_STAG: usize = 16;
    pub(super) const SOURCE_OFFSET: usize = 20;
    pub(super) const END: usize = 28;
}

const _: () = assert!(ReadRequest::LENGTH == field::END);

/// The header as a value.
#[derive(Clone, Copy)]
pub(super) struct ReadRequest {
    pub(super) sink_stag: u32,
    pub(super) sink_offset: u64,
    pub(super) length: u32,
    pub(super) source_stag: u32,
    pub(super) source_offset: u64,
}

impl ReadRequest {
    pub(super) const LENGTH: usize = 28;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, field::SINK_STAG, self.sink_stag.to_be_bytes());
        put(out, field::SINK_OFFSET, self.sink_offset.to_be_bytes());
        put(out, field::SIZE, self.length.to_be_bytes());
        put(out, field::SOURCE_STAG, self.source_stag.to_be_bytes());
        put(out, field::SOURCE_OFFSET, self.source_offset.to_be_bytes());
        Self::LENGTH
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let head = fixed::<{ Self::LENGTH }>("RDMA Read Request", bytes)?;
        Ok(Self {
            sink_stag: u32_at(head, field::SINK_STAG),
            sink_offset: u64_at(head, field::SINK_OFFSET),
            length: u32_at(head, field::SIZE),
            source_stag: u32_at(head, field::SOURCE_STAG),
            source_offset: u64_at(head, field::SOURCE_OFFSET),
        })
    }
}
