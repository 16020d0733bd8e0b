//! Control messages (protocol.md, section 7): rendezvous grants, refusals, and what became of operations. Must never hold state of a message.
//!
//! ```text
//!     CTS    0  u8 1    1  3 zero     4  u32 message id     8  u32 STag     12  u64 length
//!     RNR    0  u8 2    1  3 zero     4  u32 message id     8  u16 index    10  u16 zero
//!     NOP    0  u8 3    1  3 zero
//!     NACK   0  u8 4    1  3 zero     4  u32 message id     8  u16 index    10  u16 code
//!     DONE   0  u8 5    1  3 zero     4  u32 message id
//!     VOID   0  u8 6    1  3 zero     4  u32 message id
//!     GRANT  0  u8 7    1  3 zero     4  u32 message id     8  u32 STag     12  u64 length     20  u64 granted
//! ```

use super::fixed;
use crate::Malformed;
use crate::bytes::{put, room, u16_at, u32_at, u64_at};

const CTS: u8 = 1;
const RNR: u8 = 2;
const NOP: u8 = 3;
const NACK: u8 = 4;
const DONE: u8 = 5;
const VOID: u8 = 6;
const GRANT: u8 = 7;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const ZERO: usize = 1;
    pub(super) const MESSAGE_ID: usize = 4;
    pub(super) const CTS_STAG: usize = 8;
    pub(super) const CTS_LENGTH: usize = 12;
    pub(super) const CTS_END: usize = 20;
    pub(super) const RNR_INDEX: usize = 8;
    pub(super) const RNR_ZERO: usize = 10;
    pub(super) const RNR_END: usize = 12;
    pub(super) const NOP_END: usize = 4;
    pub(super) const NACK_INDEX: usize = 8;
    pub(super) const NACK_CODE: usize = 10;
    pub(super) const NACK_END: usize = 12;
    pub(super) const DONE_END: usize = 8;
    pub(super) const VOID_END: usize = 8;
    pub(super) const GRANTED: usize = 20;
    pub(super) const GRANT_END: usize = 28;
}

const _: () = assert!(Control::CTS_LENGTH == field::CTS_END);
const _: () = assert!(Control::RNR_LENGTH == field::RNR_END);
const _: () = assert!(Control::NOP_LENGTH == field::NOP_END);
const _: () = assert!(Control::NACK_LENGTH == field::NACK_END);
const _: () = assert!(Control::DONE_LENGTH == field::DONE_END);
const _: () = assert!(Control::VOID_LENGTH == field::VOID_END);
const _: () = assert!(Control::GRANT_LENGTH == field::GRANT_END);

/// A control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Send the message, from its beginning, as RDMA Writes.
    Cts {
        /// The sender's name for the message.
        message_id: u32,
        /// Where to write.
        stag: u32,
        /// How many bytes; 0: none, the operation is complete.
        length: u64,
    },
    /// The payload was not kept: stop sending it and wait for CTS.
    Rnr {
        /// The sender's name for the message.
        message_id: u32,
        /// Counts the refusals of the context from 1, modulo 2^16.
        index: u16,
    },
    /// Nothing: fills a PSN whose operation was given up.
    Nop,
    /// The operation was not executed and is not going to be.
    Nack {
        /// The requester's name for the operation.
        message_id: u32,
        /// Counts the refusals of the context from 1, modulo 2^16, those by RNR among them.
        index: u16,
        /// Why: one of the `NACK_` constants, or a code of a later version.
        code: u16,
    },
    /// An atomic operation that fetches nothing was executed.
    Done {
        /// The requester's name for the operation.
        message_id: u32,
    },
    /// Nothing more comes of a write: it was refused, and its initiator has ended it.
    Void {
        /// The initiator's name for the operation.
        message_id: u32,
    },
    /// As CTS, but only the first `granted` bytes may be sent by now. The same with more bytes follows.
    Grant {
        /// The sender's name for the message.
        message_id: u32,
        /// Where to write.
        stag: u32,
        /// How many bytes are wanted in all: the same in every grant of the message.
        length: u64,
        /// How many of them may be sent.
        granted: u64,
    },
}

impl Control {
    /// Bytes of a CTS.
    pub const CTS_LENGTH: usize = 20;
    /// Bytes of an RNR.
    pub const RNR_LENGTH: usize = 12;
    /// Bytes of a NOP.
    pub const NOP_LENGTH: usize = 4;
    /// Bytes of a NACK.
    pub const NACK_LENGTH: usize = 12;
    /// Bytes of a DONE.
    pub const DONE_LENGTH: usize = 8;
    /// Bytes of a VOID.
    pub const VOID_LENGTH: usize = 8;
    /// Bytes of a GRANT.
    pub const GRANT_LENGTH: usize = 28;

    /// Code of a NACK: no memory has this key.
    pub const NACK_UNKNOWN_KEY: u16 = 1;
    /// Code of a NACK: the memory was not opened to this kind of operation.
    pub const NACK_ACCESS: u16 = 2;
    /// Code of a NACK: the operation reaches beyond the memory.
    pub const NACK_RANGE: u16 = 3;
    /// Code of a NACK: the target does not execute this operation.
    pub const NACK_UNSUPPORTED: u16 = 4;

    #[inline]
    pub(super) const fn encoded_length(&self) -> usize {
        match self {
            Self::Cts { .. } => Self::CTS_LENGTH,
            Self::Rnr { .. } => Self::RNR_LENGTH,
            Self::Nop => Self::NOP_LENGTH,
            Self::Nack { .. } => Self::NACK_LENGTH,
            Self::Done { .. } => Self::DONE_LENGTH,
            Self::Void { .. } => Self::VOID_LENGTH,
            Self::Grant { .. } => Self::GRANT_LENGTH,
        }
    }

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        match *self {
            Self::Cts { message_id, stag, length } => {
                let out = room::<{ Self::CTS_LENGTH }>(out);
                put(out, field::TYPE, [CTS]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                put(out, field::CTS_STAG, stag.to_be_bytes());
                put(out, field::CTS_LENGTH, length.to_be_bytes());
                Self::CTS_LENGTH
            }
            Self::Rnr { message_id, index } => {
                let out = room::<{ Self::RNR_LENGTH }>(out);
                put(out, field::TYPE, [RNR]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                put(out, field::RNR_INDEX, index.to_be_bytes());
                put(out, field::RNR_ZERO, [0; 2]);
                Self::RNR_LENGTH
            }
            Self::Nop => {
                let out = room::<{ Self::NOP_LENGTH }>(out);
                put(out, field::TYPE, [NOP]);
                put(out, field::ZERO, [0; 3]);
                Self::NOP_LENGTH
            }
            Self::Nack { message_id, index, code } => {
                let out = room::<{ Self::NACK_LENGTH }>(out);
                put(out, field::TYPE, [NACK]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                put(out, field::NACK_INDEX, index.to_be_bytes());
                put(out, field::NACK_CODE, code.to_be_bytes());
                Self::NACK_LENGTH
            }
            Self::Done { message_id } => {
                let out = room::<{ Self::DONE_LENGTH }>(out);
                put(out, field::TYPE, [DONE]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                Self::DONE_LENGTH
            }
            Self::Void { message_id } => {
                let out = room::<{ Self::VOID_LENGTH }>(out);
                put(out, field::TYPE, [VOID]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                Self::VOID_LENGTH
            }
            Self::Grant { message_id, stag, length, granted } => {
                let out = room::<{ Self::GRANT_LENGTH }>(out);
                put(out, field::TYPE, [GRANT]);
                put(out, field::ZERO, [0; 3]);
                put(out, field::MESSAGE_ID, message_id.to_be_bytes());
                put(out, field::CTS_STAG, stag.to_be_bytes());
                put(out, field::CTS_LENGTH, length.to_be_bytes());
                put(out, field::GRANTED, granted.to_be_bytes());
                Self::GRANT_LENGTH
            }
        }
    }

    /// Reads a message that fills `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(&CTS) => {
                let head = fixed::<{ Self::CTS_LENGTH }>("CTS", bytes)?;
                Ok(Self::Cts {
                    message_id: u32_at(head, field::MESSAGE_ID),
                    stag: u32_at(head, field::CTS_STAG),
                    length: u64_at(head, field::CTS_LENGTH),
                })
            }
            Some(&RNR) => {
                let head = fixed::<{ Self::RNR_LENGTH }>("RNR", bytes)?;
                Ok(Self::Rnr {
                    message_id: u32_at(head, field::MESSAGE_ID),
                    index: u16_at(head, field::RNR_INDEX),
                })
            }
            Some(&NOP) => {
                fixed::<{ Self::NOP_LENGTH }>("NOP", bytes)?;
                Ok(Self::Nop)
            }
            Some(&NACK) => {
                let head = fixed::<{ Self::NACK_LENGTH }>("NACK", bytes)?;
                Ok(Self::Nack {
                    message_id: u32_at(head, field::MESSAGE_ID),
                    index: u16_at(head, field::NACK_INDEX),
                    code: u16_at(head, field::NACK_CODE),
                })
            }
            Some(&DONE) => {
                let head = fixed::<{ Self::DONE_LENGTH }>("DONE", bytes)?;
                Ok(Self::Done { message_id: u32_at(head, field::MESSAGE_ID) })
            }
            Some(&VOID) => {
                let head = fixed::<{ Self::VOID_LENGTH }>("VOID", bytes)?;
                Ok(Self::Void { message_id: u32_at(head, field::MESSAGE_ID) })
            }
            Some(&GRANT) => {
                let head = fixed::<{ Self::GRANT_LENGTH }>("GRANT", bytes)?;
                Ok(Self::Grant {
                    message_id: u32_at(head, field::MESSAGE_ID),
                    stag: u32_at(head, field::CTS_STAG),
                    length: u64_at(head, field::CTS_LENGTH),
                    granted: u64_at(head, field::GRANTED),
                })
            }
            Some(&code) => Err(Malformed::ControlType(code)),
            None => Err(Malformed::Short { header: "control message", need: Self::NOP_LENGTH, have: 0 }),
        }
    }
}
