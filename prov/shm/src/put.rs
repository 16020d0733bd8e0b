//! Putting items into a neighbour's FIFO.
//!
//! No system call, no allocation. Never leaves a claimed slot behind, unless the process dies in between.

use core::ptr;
use core::sync::atomic::Ordering;

use rdgram_sync::fifo::{self, Claim};

use crate::buffers::Lent;
use crate::layout::{Fields, INLINE, ROOM};
use crate::neighbour::Link;
use crate::{KIND_MAX, Local, Neighbour, Own, Piece};

/// The exchange's own kind: "I have mapped your segment". The first item of whoever connected.
pub(crate) const KIND_UP: u8 = KIND_MAX + 1;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an item may have found no room"]
pub enum Put {
    /// It is there.
    Done,
    /// It is there, and the neighbour sleeps: wake it.
    DoneWake,
    /// No room now, neither there nor, for a long payload, in our buffers. Try again later.
    Full,
    /// The neighbour is not up, has left or is dead.
    Gone,
}

impl Local {
    /// Puts an item into the neighbour's FIFO: a header, up to [`room`](Self::room) bytes, and a payload, which goes along when there
    /// is room for it too, else through one of our buffers, up to [`buffer_size`](Self::buffer_size) bytes.
    ///
    /// # Panics
    /// When `kind`, the header or the payload is too large.
    ///
    /// # Safety
    /// The memory of the pieces is valid for reads during the call.
    #[inline]
    pub unsafe fn put(&mut self, to: Neighbour, kind: u8, header: &[u8], payload: &[Piece]) -> Put {
        assert!(kind <= KIND_MAX, "a kind of the caller's");
        let link = self.entries.get(to.index()).and_then(|entry| entry.link());
        let Some(link) = link.filter(|link| link.is_open()) else { return Put::Gone };
        let length = payload.iter().map(|piece| piece.length).sum::<usize>();
        let put = if header.len() + length <= ROOM {
            self.scratch[..header.len()].copy_from_slice(header);
            // SAFETY: the caller's promise; the room was compared with the length of all pieces.
            unsafe { gather(payload, self.scratch[header.len()..].as_mut_ptr()) };
            put_inline(link, &mut self.scratch, kind, header.len(), length)
        } else {
            let Some(own) = &mut self.own else { return Put::Gone };
            assert!(header.len() <= ROOM && length <= own.segment.geometry().buffer_size() as usize);
            if !fifo::has_room(&link.segment, link.segment.geometry().ring()) {
                self.stats.full += 1;
                return Put::Full;
            }
            let Some(lent) = own.buffers.take(&own.segment, to.0) else {
                self.stats.full += 1;
                return Put::Full;
            };
            // SAFETY: the caller's promise; the buffer is ours, large enough, and nobody reads it before its item is put.
            unsafe { gather(payload, own.segment.buffer(lent.index).as_ptr()) };
            self.scratch[..header.len()].copy_from_slice(header);
            put_lent(link, own, &mut self.scratch, kind, header.len(), length, lent)
        };
        match put {
            Put::Done | Put::DoneWake => {
                self.stats.items_put += 1;
                self.stats.bytes_memcpy += length as u64;
            }
            Put::Full => self.stats.full += 1,
            Put::Gone => {}
        }
        put
    }
}

/// Tells a neighbour that we have mapped its segment.
pub(crate) fn put_up(link: &Link) -> Put {
    put_inline(link, &mut [0; ROOM], KIND_UP, 0, 0)
}

/// An item whose header and payload are in `bytes`, one after the other.
#[inline]
fn put_inline(link: &Link, bytes: &mut [u8; ROOM], kind: u8, header: usize, payload: usize) -> Put {
    let fields = fields(kind, header, payload, Lent { index: INLINE, sequence: 0 });
    put_slot(link, bytes, fields, header + payload)
}

/// An item whose header is in `bytes`, and its payload in a buffer.
fn put_lent(
    link: &Link,
    own: &mut Own,
    bytes: &mut [u8; ROOM],
    kind: u8,
    header: usize,
    payload: usize,
    lent: Lent,
) -> Put {
    let put = put_slot(link, bytes, fields(kind, header, payload, lent), header);
    if !matches!(put, Put::Done | Put::DoneWake) {
        own.buffers.give_back(lent);
    }
    put
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "compared with the room and the size of a buffer")]
fn fields(kind: u8, header: usize, payload: usize, lent: Lent) -> Fields {
    let Lent { index: buffer, sequence } = lent;
    Fields { kind, header: header as u8, payload: payload as u16, buffer, sequence }
}

#[inline]
fn put_slot(link: &Link, bytes: &mut [u8; ROOM], fields: Fields, length: usize) -> Put {
    let segment = &link.segment;
    let Some(claim) = fifo::claim(segment, segment.geometry().ring(), link.owner) else { return Put::Full };
    fill(link, &claim, bytes, fields, length);
    match fifo::publish(segment, claim) {
        Some(false) => Put::Done,
        Some(true) => Put::DoneWake,
        None => Put::Gone,
    }
}

/// Writes whole words, as few as hold the bytes; the rest of the last one is zero, so that no former item shows there.
#[inline]
fn fill(link: &Link, claim: &Claim, bytes: &mut [u8; ROOM], fields: Fields, length: usize) {
    // Relaxed: the publication carries them.
    let store = |at, word| link.segment.slot_word(claim.index(), at).store(word, Ordering::Relaxed);
    store(0, fields.to_word());
    let words = length.div_ceil(size_of::<u64>());
    bytes[length..words * size_of::<u64>()].fill(0);
    for (at, chunk) in (1..=words).zip(bytes.chunks_exact(size_of::<u64>())) {
        let mut word = [0; size_of::<u64>()];
        word.copy_from_slice(chunk);
        store(at, u64::from_ne_bytes(word));
    }
}

/// Copies all pieces to `to`, one after the other.
///
/// # Safety
/// The pieces are valid for reads, `to` for writes of as many bytes as they have, and they do not overlap it.
#[inline]
unsafe fn gather(pieces: &[Piece], mut to: *mut u8) {
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(piece.address, to, piece.length) };
        // SAFETY: still inside what the caller promised, or just behind it.
        to = unsafe { to.add(piece.length) };
    }
}
