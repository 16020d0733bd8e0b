//! The body of a BUNDLE (protocol.md, section 2): several small DDP segments that share a datagram and its PSN. Must never look beyond an item's stated length.
//!
//! ```text
//!     0  u16 length of the first item      2  a DDP segment, headers and payload, of that length
//!     .. u16 length of the next item       .. and so on to the end of the datagram
//! ```

use crate::bytes::{put, room, u16_at};
use crate::{Malformed, Segment};

/// Bytes before each item.
const FRAME: usize = 2;

const _: () = assert!(Bundle::ITEMS_MAX * crate::WINDOW < 1 << 15);

/// Segments that came in one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    items: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Bytes that an item takes beside its segment.
    pub const FRAME: usize = FRAME;
    /// Most items of a bundle. A window of bundles holds fewer messages than half of what the 16 bits of the refusal count can tell apart.
    pub const ITEMS_MAX: u32 = 24;

    /// Reads the body of a BUNDLE: every item is inside of it. What an item says is read by [`Bundle::items`].
    ///
    /// # Errors
    /// `BundleItem`, `BundleItems`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        for _ in 0..Self::ITEMS_MAX {
            let (item, after) = split(rest).ok_or(Malformed::BundleItem { left: rest.len() })?;
            if item.is_empty() {
                return Err(Malformed::BundleItem { left: rest.len() });
            }
            if after.is_empty() {
                return Ok(Self { items: bytes });
            }
            rest = after;
        }
        Err(Malformed::BundleItems)
    }

    /// The segments in order, each with its payload.
    pub fn items(&self) -> impl Iterator<Item = Result<(Segment, &'a [u8]), Malformed>> {
        let mut rest = self.items;
        core::iter::from_fn(move || {
            let (item, after) = split(rest)?;
            rest = after;
            Some(Segment::decode(item).map(|(segment, headers)| (segment, &item[headers..])))
        })
    }

    /// Writes the length that precedes an item, and returns how many bytes that took.
    ///
    /// # Panics
    /// When `out` is shorter than [`Bundle::FRAME`].
    pub fn encode_frame(length: u16, out: &mut [u8]) -> usize {
        put(room::<FRAME>(out), 0, length.to_be_bytes());
        FRAME
    }
}

/// The first item, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (frame, rest) = bytes.split_first_chunk::<FRAME>()?;
    rest.split_at_checked(usize::from(u16_at(frame, 0)))
}
