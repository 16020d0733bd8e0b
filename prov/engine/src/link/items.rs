//! What an item in a neighbour's queue looks like (protocol.md, section 9), beside the segments that many of them are.

use crate::local::ForeignPiece;
use crate::mem::UserSlice;
use crate::types::IOV_LIMIT;

/// Bytes of [`ForeignPiece`] in an announcement.
pub(super) const PIECE_LENGTH: usize = 16;

/// Kinds of item.
pub(super) mod kind {
    /// A DDP segment and its payload.
    pub(in crate::link) const SEGMENT: u8 = 1;
    /// The start of a message whose payload is at its sender; the item's payload says where.
    pub(in crate::link) const ANNOUNCEMENT: u8 = 2;
    /// A whole message, with one of the two that follow or both.
    pub(in crate::link) const MESSAGE: u8 = 0x10;
    pub(in crate::link) const TAGGED: u8 = 0x01;
    pub(in crate::link) const DATA: u8 = 0x02;
    /// Of a message, whole or in segments: its sender waits to be told that all of it is here.
    pub(in crate::link) const ANSWER: u8 = 0x20;
}

/// The header of a whole message. Which of its parts are there, the item's kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageHeader {
    pub(super) msn: u32,
    pub(super) tag: Option<u64>,
    pub(super) data: Option<u64>,
    /// The sender's name for it, when it waits to be told that it is here.
    pub(super) message_id: Option<u32>,
}

impl MessageHeader {
    /// Bytes of the longest.
    pub(super) const MAX: usize = 4 + 8 + 8 + 4;

    pub(super) fn read(kind: u8, header: &[u8]) -> Option<Self> {
        if kind & !(kind::TAGGED | kind::DATA | kind::ANSWER) != kind::MESSAGE {
            return None;
        }
        let (msn, mut rest) = header.split_first_chunk()?;
        let mut optional = |present: u8| {
            if kind & present == 0 {
                return Some(None);
            }
            let (value, after) = rest.split_first_chunk()?;
            rest = after;
            Some(Some(u64::from_le_bytes(*value)))
        };
        let (tag, data) = (optional(kind::TAGGED)?, optional(kind::DATA)?);
        let message_id = match (kind & kind::ANSWER, rest.is_empty()) {
            (0, true) => None,
            (0, false) => return None,
            _ => Some(u32::from_le_bytes(rest.try_into().ok()?)),
        };
        Some(Self { msn: u32::from_le_bytes(*msn), tag, data, message_id })
    }

    /// Writes it: the item's kind, and how many bytes were written.
    pub(super) fn write(&self, out: &mut [u8; Self::MAX]) -> (u8, usize) {
        let (mut kind, mut used) = (kind::MESSAGE, 4);
        out[..4].copy_from_slice(&self.msn.to_le_bytes());
        for (value, flag) in [(self.tag, kind::TAGGED), (self.data, kind::DATA)] {
            if let Some(value) = value {
                kind |= flag;
                out[used..used + 8].copy_from_slice(&value.to_le_bytes());
                used += 8;
            }
        }
        if let Some(message_id) = self.message_id {
            kind |= kind::ANSWER;
            out[used..used + 4].copy_from_slice(&message_id.to_le_bytes());
            used += 4;
        }
        (kind, used)
    }
}

pub(super) fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Writes where the slices are; returns the bytes used.
pub(super) fn list_pieces(slices: &[UserSlice], out: &mut [u8; IOV_LIMIT * PIECE_LENGTH]) -> usize {
    let mut used = 0;
    for slice in slices {
        out[used..used + 8].copy_from_slice(&(slice.address().addr() as u64).to_le_bytes());
        out[used + 8..used + 16].copy_from_slice(&(slice.len() as u64).to_le_bytes());
        used += PIECE_LENGTH;
    }
    used
}

/// Cuts a list of pieces down to `wanted` bytes.
pub(super) fn cut(pieces: &mut Vec<ForeignPiece>, mut wanted: u64) {
    pieces.retain_mut(|(_, length)| {
        *length = (*length).min(wanted);
        wanted -= *length;
        *length > 0
    });
}
