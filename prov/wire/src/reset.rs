//! The reset body (protocol.md, section 8): which packet was not understood, and why. Must never be believed here: the context decides.
//!
//! ```text
//!      0  u32 PSN of the offending packet     4  u32 its cookie
//!      8  u64 incarnation of the endpoint that resets
//!     16  u32 reason
//! ```

use crate::bytes::{put, room, u32_at, u64_at};
use crate::{Llp, Malformed, Psn};

mod field {
    pub(super) const PSN: usize = 0;
    pub(super) const COOKIE: usize = 4;
    pub(super) const INCARNATION: usize = 8;
    pub(super) const REASON: usize = 16;
    pub(super) const END: usize = 20;
}

const _: () = assert!(Reset::LENGTH == field::END);

/// Why a packet was answered with a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ResetReason {
    /// The context it names does not exist.
    UnknownContext = 1,
    /// Its version is not spoken.
    Version = 2,
}

/// The reset body as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The PSN of the offending packet.
    pub psn: Psn,
    /// The cookie of the offending packet.
    pub cookie: u32,
    /// The incarnation of the endpoint that resets.
    pub incarnation: u64,
    /// Why.
    pub reason: ResetReason,
}

impl Reset {
    /// Bytes of the body.
    pub const LENGTH: usize = 20;

    /// The answer to a datagram that was refused with [`Malformed::Version`], if it is owed one: it carries SYN and is no RESET itself.
    #[must_use]
    pub fn of_version(datagram: &[u8], incarnation: u64) -> Option<Self> {
        let (psn, cookie) = Llp::foreign(datagram)?;
        Some(Self { psn, cookie, incarnation, reason: ResetReason::Version })
    }

    /// Writes the body and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than [`Reset::LENGTH`].
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, field::PSN, self.psn.0.to_be_bytes());
        put(out, field::COOKIE, self.cookie.to_be_bytes());
        put(out, field::INCARNATION, self.incarnation.to_be_bytes());
        put(out, field::REASON, (self.reason as u32).to_be_bytes());
        Self::LENGTH
    }

    /// Reads a body that fills `bytes`.
    ///
    /// # Errors
    /// `Short`, `Trailing`, `ResetReason`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const HEADER: &str = "RESET body";
        let Some((head, rest)) = bytes.split_first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: HEADER, need: Self::LENGTH, have: bytes.len() });
        };
        if !rest.is_empty() {
            return Err(Malformed::Trailing { header: HEADER, extra: rest.len() });
        }
        let reason = match u32_at(head, field::REASON) {
            1 => ResetReason::UnknownContext,
            2 => ResetReason::Version,
            reason => return Err(Malformed::ResetReason(reason)),
        };
        Ok(Self {
            psn: Psn(u32_at(head, field::PSN)),
            cookie: u32_at(head, field::COOKIE),
            incarnation: u64_at(head, field::INCARNATION),
            reason,
        })
    }
}
