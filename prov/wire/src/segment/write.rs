//! The write extension (protocol.md, section 7): an RDMA Write to memory that has a key of 64 bits, as part of an operation.
//! Must never check bounds or rights: the target answers those with NACK, which a drop would hide.
//!
//! ```text
//!      0  u8  flags: DATA 0x01, REPORT 0x02; others ignored      1  u8 zero     2  u16 zero
//!      4  u32 message id
//!      8  u64 key
//!     16  u64 total length of the operation
//!     24  [u64 remote CQ data]
//! ```

use crate::Malformed;
use crate::bytes::{put, room, u32_at, u64_at};

mod field {
    pub(super) const FLAGS: usize = 0;
    pub(super) const ZERO: usize = 1;
    pub(super) const MESSAGE_ID: usize = 4;
    pub(super) const KEY: usize = 8;
    pub(super) const TOTAL: usize = 16;
    pub(super) const DATA: usize = 24;
    pub(super) const END: usize = 32;
}

const DATA: u8 = 0x01;
const REPORT: u8 = 0x02;

const HEADER: &str = "write extension";

const _: () = assert!(WriteExtension::LENGTH == field::DATA);
const _: () = assert!(WriteExtension::LENGTH_MAX == field::END);

/// The extension as a value.
#[derive(Clone, Copy)]
pub(super) struct WriteExtension {
    pub(super) message_id: u32,
    pub(super) key: u64,
    pub(super) total: u64,
    pub(super) data: Option<u64>,
    pub(super) report: bool,
}

impl WriteExtension {
    /// Bytes without data.
    pub(super) const LENGTH: usize = 24;
    /// Bytes with data.
    pub(super) const LENGTH_MAX: usize = Self::LENGTH + 8;

    /// What the tagged header says of the key.
    #[inline]
    pub(super) const fn stag(key: u64) -> u32 {
        (key & 0xFFFF_FFFF) as u32
    }

    #[inline]
    pub(super) const fn encoded_length(data: Option<u64>) -> usize {
        if data.is_some() { Self::LENGTH_MAX } else { Self::LENGTH }
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let head = room::<{ Self::LENGTH }>(out);
        let data = if self.data.is_some() { DATA } else { 0 };
        let report = if self.report { REPORT } else { 0 };
        head[field::FLAGS] = data | report;
        put(head, field::ZERO, [0; 3]);
        put(head, field::MESSAGE_ID, self.message_id.to_be_bytes());
        put(head, field::KEY, self.key.to_be_bytes());
        put(head, field::TOTAL, self.total.to_be_bytes());
        let Some(data) = self.data else { return Self::LENGTH };
        put(out, field::DATA, data.to_be_bytes());
        Self::LENGTH_MAX
    }

    /// Reads the extension of a segment with the STag `stag`, from the bytes after the tagged header up to the end of the segment.
    /// Returns its length too.
    #[inline]
    pub(super) fn decode(
        bytes: &[u8],
        apart: usize,
        stag: u32,
        last: bool,
    ) -> Result<(Self, usize), Malformed> {
        let Some((head, rest)) = bytes.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: HEADER, need: Self::LENGTH, have: bytes.len() });
        };
        let flags = head[field::FLAGS];
        let (data, payload) = if flags & DATA == 0 {
            (None, rest.len())
        } else if let Some((word, rest)) = rest.split_first_chunk::<8>() {
            (Some(u64::from_be_bytes(*word)), rest.len())
        } else {
            return Err(Malformed::Short { header: HEADER, need: Self::LENGTH_MAX, have: bytes.len() });
        };
        let extension = Self {
            message_id: u32_at(head, field::MESSAGE_ID),
            key: u64_at(head, field::KEY),
            total: u64_at(head, field::TOTAL),
            data,
            report: flags & REPORT != 0,
        };
        extension.check(stag, last, payload + apart)?;
        Ok((extension, bytes.len() - payload))
    }

    /// Both headers name the same memory; the payload is a part of the operation, and empty only in an empty one; the only segment is the last.
    #[inline]
    fn check(&self, stag: u32, last: bool, payload: usize) -> Result<(), Malformed> {
        if stag != Self::stag(self.key) {
            return Err(Malformed::WriteStag { stag, key: self.key });
        }
        let total = self.total;
        if payload as u64 > total || (payload == 0 && total != 0) {
            return Err(Malformed::WriteTotal { payload, total });
        }
        if payload as u64 == total && !last {
            return Err(Malformed::Last { opcode: super::opcode::EXTENDED_WRITE, last });
        }
        Ok(())
    }
}
