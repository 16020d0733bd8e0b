//! Packets that differ from the one before them only as the next one of a train does: what was found out about that one is not found out again.
//!
//! The receiver's side of `send_alike`. A packet is alike when its headers are, byte for byte, what follows from those before: the same context, cookie and acknowledgement,
//! the same message or memory, one PSN and one transmission further, and as many bytes on as the one before was long. Must never take for alike what a whole look would treat otherwise.

use rdgram_proto::{Defect, Moment, Verdict, planted};
use rdgram_wire::{Flags, Llp, Segment};

use crate::direct::Placement;
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::link::Route;
use crate::matching::PeerId;

/// Shortest payload that is worth it, bytes: trains are made of packets that are full.
const PAYLOAD_MIN: usize = 256;

/// Room for the headers of every segment: a SYN extension comes seldom, and what is longer is covered in two parts.
const HEADERS_MAX: usize = (Llp::LENGTH + Segment::HEADER_MAX).next_multiple_of(8);

/// The first bytes of a datagram, aligned as the CRC likes them, their integrity field 0.
#[derive(Debug)]
#[repr(align(8))]
pub(crate) struct Headers([u8; HEADERS_MAX]);

impl Headers {
    /// Those at the start of `covered`, and what is beyond them.
    pub(crate) fn split(covered: &[u8]) -> (Self, usize, &[u8]) {
        let (first, rest) = covered.split_at(covered.len().min(HEADERS_MAX));
        let mut headers = Self([0; HEADERS_MAX]);
        headers.0[..first.len()].copy_from_slice(first);
        headers.0[Llp::INTEGRITY_OFFSET..Llp::LENGTH].fill(0);
        (headers, first.len(), rest)
    }

    /// The first `length` bytes.
    pub(crate) fn bytes(&self, length: usize) -> &[u8] {
        &self.0[..length]
    }
}

/// What the next packet is, if it is alike.
#[derive(Debug)]
pub(crate) struct Alike {
    peer: PeerId,
    llp: Llp,
    segment: Segment,
    headers: Headers,
    header_length: usize,
    payload: usize,
}

/// The segment `by` bytes further on in the same message or memory, when it is neither the first nor the last there and its own `by` bytes have a place.
fn next_segment(segment: &Segment, by: usize) -> Option<Segment> {
    let by = by as u64;
    let further = |offset: u64| offset.checked_add(by).filter(|next| next.checked_add(by).is_some());
    match *segment {
        Segment::ExtendedSend { msn, offset, last: false, message_id, total, start: None } => {
            let next = further(offset.into()).filter(|next| next + by < total)?;
            let offset = u32::try_from(next).ok()?;
            Some(Segment::ExtendedSend { msn, offset, last: false, message_id, total, start: None })
        }
        Segment::Write { stag, offset, last: false } => {
            Some(Segment::Write { stag, offset: further(offset)?, last: false })
        }
        Segment::ReadResponse { stag, offset, last: false } => {
            Some(Segment::ReadResponse { stag, offset: further(offset)?, last: false })
        }
        _ => None,
    }
}

impl Alike {
    /// Moves on by one packet, to that of this segment.
    fn step_to(&mut self, segment: Segment) {
        self.segment = segment;
        self.llp.psn = self.llp.psn.next();
        self.llp.tx_number = self.llp.tx_number.wrapping_add(1);
        self.llp.encode_next(&mut self.headers.0);
        let step = u16::try_from(self.payload).expect("of a datagram");
        Segment::advance(&mut self.headers.0[Llp::LENGTH..], step);
    }

    fn is(&self, headers: &[u8], payload: usize) -> bool {
        let (before, after) = (..Llp::INTEGRITY_OFFSET, Llp::LENGTH..self.header_length);
        let same = |bytes: &[u8]| {
            bytes[before] == self.headers.0[before] && bytes[after.clone()] == self.headers.0[after.clone()]
        };
        payload == self.payload
            && headers.len() == self.header_length
            && (same(headers) || planted(Defect::AlikeUnchecked))
    }

    fn integrity_holds(&self, headers: &[u8]) -> bool {
        let crc = crc32c::crc32c(self.headers.bytes(self.header_length));
        headers[Llp::INTEGRITY_OFFSET..Llp::LENGTH] == crc.to_be_bytes()
    }
}

impl Core {
    /// A packet of data was accepted, and everything done about it: the next one may be alike.
    pub(crate) fn expect_alike(
        &mut self,
        peer: PeerId,
        llp: &Llp,
        segment: &Segment,
        bytes: &[u8],
        payload: usize,
    ) {
        if payload < PAYLOAD_MIN || llp.flags.intersects(Flags::SYN | Flags::FULL) {
            return;
        }
        let header_length = Llp::LENGTH + segment.encoded_length();
        let Some(headers) = bytes.get(..header_length) else { return };
        let Some(next) = next_segment(segment, payload) else { return };
        let headers = Headers::split(headers).0;
        let alike = Alike { peer, llp: *llp, segment: *segment, headers, header_length, payload };
        self.alike.insert(alike).step_to(next);
    }

    /// A datagram's headers and payload, if it is alike.
    #[inline]
    pub(crate) fn split_alike<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        bytes.split_at_checked(self.alike.as_ref()?.header_length)
    }

    /// Handles a packet that is alike: its headers, its payload, and whether the integrity of the headers `holds` for sure. False when it is not, and nothing was done.
    ///
    /// That its peer is the one `heard`, and the moment the same, is what makes a second look at cookie and acknowledgement needless: [`Core::settle_heard`] forgets both together.
    pub(crate) fn on_alike(
        &mut self,
        at: Moment,
        headers: &[u8],
        payload: Placement<'_>,
        holds: bool,
        congestion_experienced: bool,
        shared: &mut Shared,
    ) -> bool {
        let Some(alike) = self.alike.as_mut().filter(|alike| alike.is(headers, payload.len())) else {
            return false;
        };
        let (peer, llp, segment) = (alike.peer, alike.llp, alike.segment);
        // What was done about the packet before may have ended the context.
        let context = self.peers[peer.0 as usize].context.as_deref_mut();
        let Some(context) = context.filter(|context| context.local().ctx == llp.dst_ctx) else {
            return false;
        };
        if !(holds || alike.integrity_holds(headers)) {
            return false;
        }
        match next_segment(&segment, alike.payload) {
            Some(next) => alike.step_to(next),
            None => self.alike = None,
        }
        self.stats.rx_datagrams += 1;
        self.stats.rx_bytes += (headers.len() + payload.len()) as u64;
        self.stats.rx_alike += 1;
        debug_assert_eq!(self.heard, Some(peer), "the packet before was the peer's");
        match context.on_alike(at, &llp, congestion_experienced) {
            Verdict::Accept => {
                self.note_payload(peer, matches!(segment, Segment::Write { .. }));
                self.place(peer, &segment, payload, Route::Network, shared);
                self.drain_events(peer, shared);
            }
            Verdict::Duplicate => self.stats.rx_duplicates += 1,
            Verdict::NotData | Verdict::Drop(_) => self.stats.rx_stale += 1,
        }
        self.note_heard(peer);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_place_for_its_payload_is_not_expected() {
        let write = |offset| Segment::Write { stag: 1, offset, last: false };
        assert_eq!(next_segment(&write(1000), 500), Some(write(1500)));
        assert_eq!(next_segment(&write(u64::MAX - 1000), 500), Some(write(u64::MAX - 500)));
        for offset in [u64::MAX - 999, u64::MAX - 499, u64::MAX] {
            assert_eq!(next_segment(&write(offset), 500), None, "a whole look finds it malformed");
        }
        let send = |offset, total| Segment::ExtendedSend {
            msn: 1,
            offset,
            last: false,
            message_id: 2,
            total,
            start: None,
        };
        assert_eq!(next_segment(&send(500, 1501), 500), Some(send(1000, 1501)));
        assert_eq!(next_segment(&send(500, 1500), 500), None, "the next one is the last");
        assert_eq!(next_segment(&send(u32::MAX - 100, u64::MAX), 500), None);
    }
}
