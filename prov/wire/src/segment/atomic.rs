//! The Atomic Request and Response headers (RFC 7306, sections 5.2.1 and 5.2.2). Must never execute one.
//!
//! ```text
//!     request    0  u32 zero in 28 bits, atomic opcode in 4     4  u32 request identifier
//!                8  u32 remote STag                            12  u64 remote tagged offset
//!               20  u64 add or swap data                       28  u64 add or swap mask
//!               36  u64 compare data                           44  u64 compare mask
//!
//!     response   0  u32 original request identifier             4  u64 original remote data value
//! ```

use super::fixed;
use crate::Malformed;
use crate::bytes::{put, room, u32_at, u64_at};

mod request {
    pub(super) const OPCODE: usize = 0;
    pub(super) const IDENTIFIER: usize = 4;
    pub(super) const STAG: usize = 8;
    pub(super) const OFFSET: usize = 12;
    pub(super) const OPERAND: usize = 20;
    pub(super) const MASK: usize = 28;
    pub(super) const COMPARE: usize = 36;
    pub(super) const COMPARE_MASK: usize = 44;
    pub(super) const END: usize = 52;
}

mod response {
    pub(super) const IDENTIFIER: usize = 0;
    pub(super) const VALUE: usize = 4;
    pub(super) const END: usize = 12;
}

const _: () = assert!(AtomicRequest::LENGTH == request::END);
const _: () = assert!(AtomicResponse::LENGTH == response::END);

/// What an atomic request does to the 64 bits it names. A swap without condition is a `CmpSwap` with a compare mask of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AtomicOpcode {
    /// Adds; a set bit of the mask is the top of a field, which carries no further.
    FetchAdd = 0,
    /// Replaces the bits of the swap mask if the bits of the compare mask are equal.
    CmpSwap = 2,
}

/// The request as a value.
#[derive(Clone, Copy)]
pub(super) struct AtomicRequest {
    pub(super) opcode: AtomicOpcode,
    pub(super) request: u32,
    pub(super) stag: u32,
    pub(super) offset: u64,
    pub(super) operand: u64,
    pub(super) mask: u64,
    pub(super) compare: u64,
    pub(super) compare_mask: u64,
}

impl AtomicRequest {
    pub(super) const LENGTH: usize = 52;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, request::OPCODE, u32::from(self.opcode as u8).to_be_bytes());
        put(out, request::IDENTIFIER, self.request.to_be_bytes());
        put(out, request::STAG, self.stag.to_be_bytes());
        put(out, request::OFFSET, self.offset.to_be_bytes());
        put(out, request::OPERAND, self.operand.to_be_bytes());
        put(out, request::MASK, self.mask.to_be_bytes());
        put(out, request::COMPARE, self.compare.to_be_bytes());
        put(out, request::COMPARE_MASK, self.compare_mask.to_be_bytes());
        Self::LENGTH
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let head = fixed::<{ Self::LENGTH }>("Atomic Request", bytes)?;
        let opcode = match (u32_at(head, request::OPCODE) & 0xF) as u8 {
            0 => AtomicOpcode::FetchAdd,
            2 => AtomicOpcode::CmpSwap,
            opcode => return Err(Malformed::AtomicOpcode(opcode)),
        };
        Ok(Self {
            opcode,
            request: u32_at(head, request::IDENTIFIER),
            stag: u32_at(head, request::STAG),
            offset: u64_at(head, request::OFFSET),
            operand: u64_at(head, request::OPERAND),
            mask: u64_at(head, request::MASK),
            compare: u64_at(head, request::COMPARE),
            compare_mask: u64_at(head, request::COMPARE_MASK),
        })
    }
}

/// The response as a value.
#[derive(Clone, Copy)]
pub(super) struct AtomicResponse {
    pub(super) request: u32,
    pub(super) value: u64,
}

impl AtomicResponse {
    pub(super) const LENGTH: usize = 12;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, response::IDENTIFIER, self.request.to_be_bytes());
        put(out, response::VALUE, self.value.to_be_bytes());
        Self::LENGTH
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let head = fixed::<{ Self::LENGTH }>("Atomic Response", bytes)?;
        Ok(Self { request: u32_at(head, response::IDENTIFIER), value: u64_at(head, response::VALUE) })
    }
}
