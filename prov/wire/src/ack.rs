//! The acknowledgement body (protocol.md, section 4): what lies accepted beyond the cumulative acknowledgement of the LLP header.
//! Must never know which PSN that is.
//!
//! ```text
//!      0  u32 credit, bytes
//!      4  u32 DATA packets received with Congestion Experienced, modulo 2^32
//!      8  u16 n, words of the bitmap (0 to 16)     10  u16 zero
//!     12  n x u64: bit i of word w is PSN cumulative + 1 + 64 w + i
//! ```

use crate::Malformed;
use crate::bytes::{put, room, u16_at, u32_at, u64_at};

/// Words of the largest bitmap.
pub const SACK_WORDS: usize = 16;
/// PSNs from the cumulative acknowledgement on that can be received.
pub const WINDOW: u32 = 1024;

mod field {
    pub(super) const CREDIT_BYTES: usize = 0;
    pub(super) const CE_COUNT: usize = 4;
    pub(super) const WORDS: usize = 8;
    pub(super) const ZERO: usize = 10;
    pub(super) const SACK: usize = 12;
}

const _: () = assert!(Ack::HEADER_LENGTH == field::SACK);
const _: () = assert!(SACK_WORDS * 64 == WINDOW as usize);
const _: () = assert!(SACK_WORDS <= u16::MAX as usize);

/// The window begins at the cumulative acknowledgement itself and bit 0 stands for the PSN after it: the last bit of the last word lies outside.
const BEYOND: u64 = 1 << 63;

/// The acknowledgement body as a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Payload-carrying bytes that may be in flight.
    pub credit_bytes: u32,
    /// DATA packets received with Congestion Experienced, modulo 2^32.
    pub ce_count: u32,
    /// Words of the bitmap in use: none after them has a bit. Encoding counts by itself.
    pub words: u16,
    /// The bitmap: bit i of word w is PSN cumulative + 1 + 64 w + i, set when accepted.
    pub sack: [u64; SACK_WORDS],
}

impl Ack {
    /// Bytes before the bitmap.
    pub const HEADER_LENGTH: usize = 12;
    /// Bytes of the longest body.
    pub const LENGTH_MAX: usize = Self::HEADER_LENGTH + 8 * SACK_WORDS;

    /// Whether the PSN `i + 1` after the cumulative acknowledgement is accepted.
    #[inline]
    #[must_use]
    pub const fn is_set(&self, i: u32) -> bool {
        i < WINDOW && self.sack[(i / u64::BITS) as usize] >> (i % u64::BITS) & 1 != 0
    }

    /// Bytes that [`Ack::encode`] writes.
    #[inline]
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        Self::HEADER_LENGTH + 8 * usize::from(self.used())
    }

    /// Words up to the last that has a bit.
    #[inline]
    fn used(&self) -> u16 {
        let mut used = 0;
        for (count, word) in (1..).zip(&self.sack) {
            if *word != 0 {
                used = count;
            }
        }
        used
    }

    /// Writes the body, without the words that follow the last set bit, and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than [`Ack::encoded_length`].
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let used = self.used();
        let head = room::<{ Self::HEADER_LENGTH }>(out);
        put(head, field::CREDIT_BYTES, self.credit_bytes.to_be_bytes());
        put(head, field::CE_COUNT, self.ce_count.to_be_bytes());
        put(head, field::WORDS, used.to_be_bytes());
        put(head, field::ZERO, [0; 2]);
        for (index, word) in self.sack[..usize::from(used)].iter().enumerate() {
            put(out, field::SACK + 8 * index, word.to_be_bytes());
        }
        Self::HEADER_LENGTH + 8 * usize::from(used)
    }

    /// Reads a body that fills `bytes`. `words` is counted anew, so that words without a bit at the end make no difference.
    ///
    /// # Errors
    /// `Short`, `Trailing`, `SackWords`, `SackBit`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const HEADER: &str = "ACK body";
        let Some((head, bitmap)) = bytes.split_first_chunk::<{ Self::HEADER_LENGTH }>() else {
            return Err(Malformed::Short { header: HEADER, need: Self::HEADER_LENGTH, have: bytes.len() });
        };
        let stated = u16_at(head, field::WORDS);
        let words = usize::from(stated);
        if words > SACK_WORDS {
            return Err(Malformed::SackWords(stated));
        }
        let need = Self::HEADER_LENGTH + 8 * words;
        if bytes.len() < need {
            return Err(Malformed::Short { header: HEADER, need, have: bytes.len() });
        }
        if bytes.len() > need {
            return Err(Malformed::Trailing { header: HEADER, extra: bytes.len() - need });
        }
        let mut sack = [0; SACK_WORDS];
        for (word, chunk) in sack.iter_mut().zip(bitmap.chunks_exact(8)) {
            *word = u64_at(chunk, 0);
        }
        if sack[SACK_WORDS - 1] & BEYOND != 0 {
            return Err(Malformed::SackBit);
        }
        let mut ack = Self {
            credit_bytes: u32_at(head, field::CREDIT_BYTES),
            ce_count: u32_at(head, field::CE_COUNT),
            words: 0,
            sack,
        };
        ack.words = ack.used();
        Ok(ack)
    }
}
