//! The DDP headers with the control bits of RDMAP (RFC 5041 section 4, RFC 5040 section 4.1; protocol.md, section 7).
//! Must never look at what follows them.
//!
//! ```text
//!     control  T 0x8000 | L 0x4000 | zero 0x3C00 | DV 0x0300 | RV 0x00C0 | zero 0x0030 | opcode 0x000F
//!
//!     tagged     0  u16 control     2  u32 STag                  6  u64 tagged offset
//!     untagged   0  u16 control     2  u32 STag to invalidate    6  u32 queue number
//!               10  u32 message sequence number                 14  u32 message offset
//! ```

use super::opcode;
use crate::Malformed;
use crate::bytes::{put, room, u16_at, u32_at, u64_at};

const TAGGED: u16 = 0x8000;
const LAST: u16 = 0x4000;
const DDP_VERSION: u16 = 0x0300;
const RDMAP_VERSION: u16 = 0x00C0;
const OPCODE: u16 = 0x000F;
/// DDP version 1 and RDMAP version 1.
const VERSIONS: u16 = 0x0140;

mod field {
    pub(super) const CONTROL: usize = 0;
    pub(super) const STAG: usize = 2;
    pub(super) const TAGGED_OFFSET: usize = 6;
    pub(super) const TAGGED_END: usize = 14;
    pub(super) const INVALIDATE: usize = 2;
    pub(super) const QUEUE: usize = 6;
    pub(super) const MSN: usize = 10;
    pub(super) const MESSAGE_OFFSET: usize = 14;
    pub(super) const UNTAGGED_END: usize = 18;
}

const _: () = assert!(Tagged::LENGTH == field::TAGGED_END);
const _: () = assert!(Untagged::LENGTH == field::UNTAGGED_END);

/// The control word, its versions checked.
#[derive(Clone, Copy)]
pub(super) struct ControlWord {
    pub(super) opcode: u8,
    pub(super) last: bool,
    pub(super) tagged: bool,
}

impl ControlWord {
    /// Reads the word at the start of a segment. Reserved bits are not looked at (RFC 5041 section 4.1).
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<2>() else {
            return Err(Malformed::Short { header: "DDP control word", need: 2, have: bytes.len() });
        };
        let word = u16_at(head, field::CONTROL);
        if word & (DDP_VERSION | RDMAP_VERSION) != VERSIONS {
            return Err(version_fault(word));
        }
        Ok(Self { opcode: (word & OPCODE) as u8, last: word & LAST != 0, tagged: word & TAGGED != 0 })
    }

    /// Whether encoded headers are those of the tagged model.
    #[inline]
    pub(super) fn is_tagged(bytes: &[u8]) -> bool {
        u16_at(bytes, field::CONTROL) & TAGGED != 0
    }

    #[inline]
    fn word(self) -> u16 {
        let tagged = if self.tagged { TAGGED } else { 0 };
        let last = if self.last { LAST } else { 0 };
        tagged | last | VERSIONS | u16::from(self.opcode)
    }
}

#[cold]
fn version_fault(word: u16) -> Malformed {
    let ddp = ((word & DDP_VERSION) >> 8) as u8;
    if ddp == 1 {
        Malformed::RdmapVersion(((word & RDMAP_VERSION) >> 6) as u8)
    } else {
        Malformed::DdpVersion(ddp)
    }
}

/// The tagged buffer model: the segment says where it is placed.
#[derive(Clone, Copy)]
pub(super) struct Tagged {
    pub(super) stag: u32,
    pub(super) offset: u64,
}

impl Tagged {
    pub(super) const LENGTH: usize = 14;

    #[inline]
    pub(super) fn encode(self, opcode: u8, last: bool, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, field::CONTROL, ControlWord { opcode, last, tagged: true }.word().to_be_bytes());
        put(out, field::STAG, self.stag.to_be_bytes());
        put(out, field::TAGGED_OFFSET, self.offset.to_be_bytes());
        Self::LENGTH
    }

    /// Adds `by` to the offset of a header that is encoded already.
    #[inline]
    pub(super) fn advance(out: &mut [u8], by: u64) {
        let out = room::<{ Self::LENGTH }>(out);
        let offset = u64_at(out, field::TAGGED_OFFSET).wrapping_add(by);
        put(out, field::TAGGED_OFFSET, offset.to_be_bytes());
    }

    /// Reads the header of a segment that is `bytes`. What follows has to pass [`Tagged::check`].
    #[inline]
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short {
                header: "DDP tagged header",
                need: Self::LENGTH,
                have: bytes.len(),
            });
        };
        Ok(Self { stag: u32_at(head, field::STAG), offset: u64_at(head, field::TAGGED_OFFSET) })
    }

    /// The payload must not wrap the tagged offset (RFC 5041 section 7.1).
    #[inline]
    pub(super) fn check(self, payload: usize) -> Result<(), Malformed> {
        match self.offset.checked_add(payload as u64) {
            Some(_) => Ok(()),
            None => Err(Malformed::TaggedOffset { offset: self.offset, payload }),
        }
    }
}

/// The untagged buffer model: the segment names a message of a queue.
#[derive(Clone, Copy)]
pub(super) struct Untagged {
    pub(super) msn: u32,
    pub(super) offset: u32,
}

impl Untagged {
    pub(super) const LENGTH: usize = 18;

    /// A message of one segment.
    #[inline]
    pub(super) const fn whole(msn: u32) -> Self {
        Self { msn, offset: 0 }
    }

    #[inline]
    pub(super) fn encode(self, opcode: u8, last: bool, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        let queue = opcode::queue(opcode).unwrap_or(0);
        put(out, field::CONTROL, ControlWord { opcode, last, tagged: false }.word().to_be_bytes());
        put(out, field::INVALIDATE, [0; 4]);
        put(out, field::QUEUE, queue.to_be_bytes());
        put(out, field::MSN, self.msn.to_be_bytes());
        put(out, field::MESSAGE_OFFSET, self.offset.to_be_bytes());
        Self::LENGTH
    }

    /// Adds `by` to the offset of a header that is encoded already.
    #[inline]
    pub(super) fn advance(out: &mut [u8], by: u32) {
        let out = room::<{ Self::LENGTH }>(out);
        let offset = u32_at(out, field::MESSAGE_OFFSET).wrapping_add(by);
        put(out, field::MESSAGE_OFFSET, offset.to_be_bytes());
    }

    /// Reads the header; `queue` is the one of the opcode. The STag to invalidate belongs to opcodes that are not implemented.
    #[inline]
    pub(super) fn decode(bytes: &[u8], opcode: u8, queue: u32) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short {
                header: "DDP untagged header",
                need: Self::LENGTH,
                have: bytes.len(),
            });
        };
        let stated = u32_at(head, field::QUEUE);
        if stated != queue {
            return Err(Malformed::Queue { opcode, queue: stated });
        }
        Ok(Self { msn: u32_at(head, field::MSN), offset: u32_at(head, field::MESSAGE_OFFSET) })
    }
}
