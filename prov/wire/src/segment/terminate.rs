//! The Terminate control field (RFC 5040 section 4.8). Must never act: it says which layer found which error.
//!
//! ```text
//!     layer 0xF0000000 | error type 0x0F000000 | error code 0x00FF0000 | header control M 0x8000, D 0x4000, R 0x2000 | zero 0x1FFF
//! ```
//!
//! What the header control bits announce (a segment length and the headers of the offending segment) is left to the payload: it serves
//! a reader of captures, and rdgram writes none.

use crate::Malformed;
use crate::bytes::{put, room, u32_at};

/// The field as a value.
#[derive(Clone, Copy)]
pub(super) struct Terminate {
    pub(super) layer: u8,
    pub(super) etype: u8,
    pub(super) code: u8,
}

impl Terminate {
    pub(super) const LENGTH: usize = 4;

    pub(super) fn encode(&self, out: &mut [u8]) -> usize {
        debug_assert!(self.layer < 16 && self.etype < 16, "layer and error type have four bits");
        let out = room::<{ Self::LENGTH }>(out);
        put(out, 0, [(self.layer & 0xF) << 4 | self.etype & 0xF, self.code, 0, 0]);
        Self::LENGTH
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: "Terminate", need: Self::LENGTH, have: bytes.len() });
        };
        let word = u32_at(head, 0);
        Ok(Self {
            layer: (word >> 28) as u8,
            etype: (word >> 24 & 0xF) as u8,
            code: (word >> 16 & 0xFF) as u8,
        })
    }
}
