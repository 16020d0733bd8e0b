//! The send extension (protocol.md, section 7): what matching needs and RFC 5040 lacks. Must never know where the message is placed.
//!
//! ```text
//!      0  u8  flags: TAG 0x01, DATA 0x02, RENDEZVOUS 0x04      1  u8 zero     2  u16 zero
//!      4  u32 message id
//!      8  u64 total length of the message
//!     16  [u64 tag]  [u64 remote CQ data]
//! ```

use bitflags::bitflags;

use crate::Malformed;
use crate::bytes::{put, room, u32_at, u64_at};

mod field {
    pub(super) const FLAGS: usize = 0;
    pub(super) const ZERO: usize = 1;
    pub(super) const MESSAGE_ID: usize = 4;
    pub(super) const TOTAL: usize = 8;
    pub(super) const END: usize = 16;
}

const HEADER: &str = "send extension";

const _: () = assert!(Extension::LENGTH == field::END);

bitflags! {
    #[derive(Clone, Copy)]
    struct SendFlags: u8 {
        const TAG = 0x01;
        const DATA = 0x02;
        const RENDEZVOUS = 0x04;
    }
}

/// What only the segment at message offset 0 says: the envelope that is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// No payload follows: it is asked for by CTS.
    pub rendezvous: bool,
    /// The tag of a tagged message.
    pub tag: Option<u64>,
    /// Remote CQ data.
    pub data: Option<u64>,
}

/// The extension as a value.
#[derive(Clone, Copy)]
pub(super) struct Extension {
    pub(super) message_id: u32,
    pub(super) total: u64,
    pub(super) start: Option<Start>,
}

impl Extension {
    /// Bytes without tag and data.
    pub(super) const LENGTH: usize = 16;
    /// Bytes with both.
    pub(super) const LENGTH_MAX: usize = Self::LENGTH + 16;

    fn flags(&self) -> SendFlags {
        let mut flags = SendFlags::empty();
        if let Some(start) = &self.start {
            flags.set(SendFlags::TAG, start.tag.is_some());
            flags.set(SendFlags::DATA, start.data.is_some());
            flags.set(SendFlags::RENDEZVOUS, start.rendezvous);
        }
        flags
    }

    #[inline]
    pub(super) fn encoded_length(start: Option<&Start>) -> usize {
        let words =
            start.map_or(0, |start| usize::from(start.tag.is_some()) + usize::from(start.data.is_some()));
        Self::LENGTH + 8 * words
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        let head = room::<{ Self::LENGTH }>(out);
        head[field::FLAGS] = self.flags().bits();
        put(head, field::ZERO, [0; 3]);
        put(head, field::MESSAGE_ID, self.message_id.to_be_bytes());
        put(head, field::TOTAL, self.total.to_be_bytes());
        let mut at = Self::LENGTH;
        let start = self.start.unwrap_or_default();
        for word in [start.tag, start.data].into_iter().flatten() {
            put(out, at, word.to_be_bytes());
            at += 8;
        }
        at
    }

    /// Reads the extension of a segment with message offset `offset`, from the bytes after the untagged header up to the end of the segment.
    /// Returns its length too.
    #[inline(always)]
    pub(super) fn decode(
        bytes: &[u8],
        apart: usize,
        offset: u32,
        last: bool,
    ) -> Result<(Self, usize), Malformed> {
        let Some((head, rest)) = bytes.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: HEADER, need: Self::LENGTH, have: bytes.len() });
        };
        let raw = head[field::FLAGS];
        // An unknown flag may stand for words that would be taken for payload.
        let Some(flags) = SendFlags::from_bits(raw) else {
            return Err(Malformed::SendFlags(raw));
        };
        if offset != 0 && raw != 0 {
            return Err(Malformed::SendFlags(raw));
        }
        let (start, rest) = if offset == 0 { Self::start(flags, rest)? } else { (None, rest) };
        let extension =
            Self { message_id: u32_at(head, field::MESSAGE_ID), total: u64_at(head, field::TOTAL), start };
        extension.check(offset, last, rest.len() + apart)?;
        Ok((extension, bytes.len() - rest.len()))
    }

    #[inline]
    fn start(flags: SendFlags, rest: &[u8]) -> Result<(Option<Start>, &[u8]), Malformed> {
        let (tag, rest) = optional(flags.contains(SendFlags::TAG), rest)?;
        let (data, rest) = optional(flags.contains(SendFlags::DATA), rest)?;
        Ok((Some(Start { rendezvous: flags.contains(SendFlags::RENDEZVOUS), tag, data }), rest))
    }

    /// The payload lies inside the message; every segment but a rendezvous start and the only one of an empty message has some; L marks the segment
    /// that is the last of its DDP message.
    #[inline]
    fn check(&self, offset: u32, last: bool, payload: usize) -> Result<(), Malformed> {
        let fault = Malformed::Last { opcode: super::opcode::EXTENDED_SEND, last };
        if self.start.is_some_and(|start| start.rendezvous) {
            return match (payload, last) {
                (0, true) => Ok(()),
                (0, false) => Err(fault),
                _ => Err(Malformed::SendPayload { payload }),
            };
        }
        // Neither addend reaches 2^33.
        let end = u64::from(offset) + payload as u64;
        if end > self.total {
            return Err(Malformed::SendTotal { offset, payload, total: self.total });
        }
        if payload == 0 && self.total != 0 {
            return Err(Malformed::SendPayload { payload });
        }
        if last != (end == self.total) {
            return Err(fault);
        }
        Ok(())
    }
}

/// A word that is there when its flag is set.
#[inline]
fn optional(present: bool, bytes: &[u8]) -> Result<(Option<u64>, &[u8]), Malformed> {
    if !present {
        return Ok((None, bytes));
    }
    match bytes.split_first_chunk::<8>() {
        Some((word, rest)) => Ok((Some(u64::from_be_bytes(*word)), rest)),
        None => Err(Malformed::Short { header: HEADER, need: 8, have: bytes.len() }),
    }
}
