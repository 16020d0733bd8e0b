//! From an operation to its next packet, and from a packet's token back to the packet: the same bytes whenever it is asked for, because a PSN's content never changes.

use rdgram_wire::{Control, Segment, Start};

use crate::endpoint::Core;
use crate::entries::{Token, TxEntry, TxKind, TxStage};
use crate::mem;
use crate::slab::{Key, Slab};
use crate::transmit::datagram_length;

impl TxEntry {
    /// It is sent from the line of starts.
    pub(crate) fn starts_here(&self) -> bool {
        matches!(
            self.stage,
            TxStage::Eager | TxStage::Announced | TxStage::Abandoned | TxStage::Writing | TxStage::Requesting
        )
    }

    /// It is sent from the line of long operations.
    pub(crate) fn moves_bulk(&self) -> bool {
        matches!(self.stage, TxStage::Granted | TxStage::Responding | TxStage::Writing | TxStage::Voiding(_))
            && !self.is_held()
    }

    /// A packet of it, with so many bytes of payload, is sent.
    pub(crate) fn note_sent(&mut self, token: Token, payload: u64) {
        // A read counts requests, everything else bytes.
        self.sent += if matches!(token, Token::Request { .. }) { 1 } else { payload };
        self.parted |= matches!(token, Token::RmaWrite { .. }) && payload < self.length;
        self.voided |= matches!(token, Token::Void { .. });
    }
}

/// What to send next of an operation, in a datagram with `room` bytes for the segment.
pub(crate) fn next(tx: &TxEntry, key: Key, room: usize) -> Token {
    let blank = blank(tx, key);
    let (segment, _) = segment_of(tx, blank);
    extend(tx, blank, (room - segment.encoded_length()) as u64)
}

/// What to send next of an operation, with at most `space` bytes of payload.
pub(crate) fn next_in(tx: &TxEntry, key: Key, space: u64) -> Token {
    extend(tx, blank(tx, key), space)
}

/// Gives a kind of packet its payload.
fn extend(tx: &TxEntry, blank: Token, space: u64) -> Token {
    match blank {
        Token::Start { tx: key, .. } => {
            let length = if tx.rendezvous { 0 } else { first_part(tx.length, space) };
            Token::Start { tx: key, length: short(length) }
        }
        Token::Fragment { tx: key, offset, .. } => {
            Token::Fragment { tx: key, offset, length: short((tx.length - tx.sent).min(space)) }
        }
        Token::Write { tx: key, offset, .. } => {
            Token::Write { tx: key, offset, length: short((tx.allowed - tx.sent).min(space)) }
        }
        Token::RmaWrite { tx: key, offset, .. } => {
            // A packet goes to one piece of the target's memory.
            let piece = Core::remote_at(&tx.remote, offset).length;
            Token::RmaWrite { tx: key, offset, length: short((tx.length - tx.sent).min(space).min(piece)) }
        }
        Token::Response { tx: key, offset, .. } => {
            Token::Response { tx: key, offset, length: short((tx.length - tx.sent).min(space)) }
        }
        whole @ (Token::Request { .. } | Token::Void { .. } | Token::Bundle { .. } | Token::Control(_)) => {
            whole
        }
    }
}

/// What of a message goes with its start. One of two packets is halved: the receiver copies the first while the second is sent, and none is a
/// remnant of a few bytes.
fn first_part(length: u64, space: u64) -> u64 {
    if length > space && length <= 2 * space { length.div_ceil(2) } else { length.min(space) }
}

/// The kind of packet that comes next, without payload.
fn blank(tx: &TxEntry, key: Key) -> Token {
    match tx.stage {
        TxStage::Granted => Token::Write { tx: key, offset: tx.sent, length: 0 },
        TxStage::Writing => Token::RmaWrite { tx: key, offset: tx.sent, length: 0 },
        TxStage::Responding => Token::Response { tx: key, offset: tx.sent, length: 0 },
        TxStage::Voiding(_) => Token::Void { tx: key },
        TxStage::Requesting => Token::Request { tx: key, index: short(tx.sent) },
        _ if tx.started => {
            let offset = u32::try_from(tx.sent).expect("eager messages are short");
            Token::Fragment { tx: key, offset, length: 0 }
        }
        _ => Token::Start { tx: key, length: 0 },
    }
}

/// The DDP header of a packet, and its payload bytes.
pub(crate) fn segment_of(tx: &TxEntry, token: Token) -> (Segment, usize) {
    match token {
        Token::Start { tx: key, length } => {
            let start = Start { rendezvous: tx.rendezvous, tag: tx.tag, data: tx.data };
            let last = tx.rendezvous || u64::from(length) == tx.length;
            let (message_id, total) = (key.to_wire(), tx.length);
            let segment =
                Segment::ExtendedSend { msn: tx.msn, offset: 0, last, message_id, total, start: Some(start) };
            (segment, usize::from(length))
        }
        Token::Fragment { tx: key, offset, length } => {
            let last = u64::from(offset) + u64::from(length) == tx.length;
            let (message_id, total) = (key.to_wire(), tx.length);
            let segment = Segment::ExtendedSend { msn: tx.msn, offset, last, message_id, total, start: None };
            (segment, usize::from(length))
        }
        Token::Write { offset, length, .. } => {
            let last = offset + u64::from(length) == tx.granted;
            (Segment::Write { stag: tx.stag, offset, last }, usize::from(length))
        }
        Token::RmaWrite { tx: key, offset, length } => {
            let place = Core::remote_at(&tx.remote, offset);
            let segment = Segment::ExtendedWrite {
                offset: place.offset,
                last: offset + u64::from(length) == tx.length,
                message_id: key.to_wire(),
                key: place.key,
                total: tx.length,
                data: tx.data,
                report: false,
            };
            (segment, usize::from(length))
        }
        Token::Request { tx: key, index } => request(tx, key, index),
        Token::Response { offset, length, .. } => {
            let last = offset + u64::from(length) == tx.length;
            (Segment::ReadResponse { stag: tx.stag, offset: tx.granted + offset, last }, usize::from(length))
        }
        Token::Void { tx: key } => (Segment::Control(Control::Void { message_id: key.to_wire() }), 0),
        Token::Control(control) => (Segment::Control(control), 0),
        Token::Bundle { .. } => unreachable!("a bundle has no segment of its own"),
    }
}

fn request(tx: &TxEntry, key: Key, index: u16) -> (Segment, usize) {
    let index = usize::from(index);
    let place = tx.remote.get(index).copied().unwrap_or_default();
    let name = key.to_wire();
    if let TxKind::Atomic { fetch } = tx.kind {
        let segment = Segment::ExtendedAtomic {
            msn: tx.msn,
            operation: tx.atomic.operation,
            datatype: tx.atomic.datatype,
            fetch,
            compare: tx.atomic.compare,
            message_id: name,
            sink_stag: name,
            count: tx.atomic.count,
            key: place.key,
            offset: place.offset,
        };
        return (segment, mem::total(&tx.slices));
    }
    let sink_offset = tx.remote[..index].iter().map(|piece| piece.length).sum();
    let segment = Segment::ExtendedRead {
        message_id: name,
        sink_stag: name,
        sink_offset,
        part: index + 1 < tx.remote.len(),
        key: place.key,
        offset: place.offset,
        length: place.length,
    };
    (segment, 0)
}

/// Segment, owner, payload offset and payload length of a token's packet.
pub(crate) fn describe(txs: &Slab<TxEntry>, token: Token) -> (Segment, Option<Key>, usize, usize) {
    let Some(key) = token.operation() else {
        let Token::Control(control) = token else { unreachable!("every other token has an operation") };
        return (Segment::Control(control), None, 0, 0);
    };
    let (segment, length) = segment_of(&txs[key], token);
    let offset = match token {
        Token::Fragment { offset, .. } => u64::from(offset),
        Token::Write { offset, .. } | Token::RmaWrite { offset, .. } | Token::Response { offset, .. } => {
            offset
        }
        Token::Start { .. }
        | Token::Request { .. }
        | Token::Void { .. }
        | Token::Bundle { .. }
        | Token::Control(_) => 0,
    };
    (segment, Some(key), usize::try_from(offset).expect("inside of memory"), length)
}

/// A number that is known to be below 65,536.
fn short(value: u64) -> u16 {
    datagram_length(usize::try_from(value).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::first_part;

    #[test]
    fn a_message_of_two_packets_is_halved_and_no_other() {
        let space = 1000;
        assert_eq!([0, 999, 1000].map(|length| first_part(length, space)), [0, 999, 1000]);
        assert_eq!([1001, 1500, 2000].map(|length| first_part(length, space)), [501, 750, 1000]);
        assert_eq!([2001, 64_000].map(|length| first_part(length, space)), [1000, 1000]);
    }
}
