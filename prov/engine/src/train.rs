//! Trains: packets of one long operation that follow each other in a batch. Each is made from the one before, whose headers differ in few places: cheaper than from nothing.
//! Must give the same bytes as `packet` does, from which a lost one is made again.

use rdgram_proto::Moment;
use rdgram_wire::{Flags, Llp, Segment};

use crate::datapath::{HEADER_MAX, TxBatch};
use crate::endpoint::Core;
use crate::entries::{Token, TxEntry, TxStage};
use crate::matching::PeerId;
use crate::mem;
use crate::slab::Key;
use crate::transmit::{Owner, TURN, datagram_length};

impl Token {
    /// The packet of the same operation and length at `offset`; `None` when one packet of this kind does not follow another.
    fn at(self, offset: u64) -> Option<Self> {
        Some(match self {
            Self::Fragment { tx, length, .. } => {
                Self::Fragment { tx, offset: u32::try_from(offset).ok()?, length }
            }
            Self::Write { tx, length, .. } => Self::Write { tx, offset, length },
            Self::RmaWrite { tx, length, .. } => Self::RmaWrite { tx, offset, length },
            Self::Response { tx, length, .. } => Self::Response { tx, offset, length },
            Self::Start { .. }
            | Self::Request { .. }
            | Self::Void { .. }
            | Self::Bundle { .. }
            | Self::Control(_) => return None,
        })
    }
}

impl TxEntry {
    /// Whether the next `step` bytes may be sent, and do not end the operation: the packet that does says so.
    fn goes_on_for(&self, step: u64) -> bool {
        let (allowed, total) = match self.stage {
            TxStage::Granted => (self.allowed, self.granted),
            _ => (self.length, self.length),
        };
        let next = self.sent + step;
        next <= allowed && next < total
    }
}

impl Core {
    /// Sends more packets of an operation up to the end of its turn, each like the one of `token` and `llp` that was pushed last, as far as there are such.
    pub(crate) fn send_alike(&mut self, peer: PeerId, key: Key, token: Token, mut llp: Llp, at: Moment) {
        let Some(context) = self.peers[peer.0 as usize].context.as_deref_mut() else { return };
        let Some(like) = self.batch.packets().last() else { return };
        let (headers, length) = (usize::from(like.header_length), like.payload_length as usize);
        let (bytes, step) = (datagram_length(headers + length), datagram_length(length));
        let tx = &mut self.txs[key];
        // A payload that fits behind its headers is there, what covers the payload has to read it, and each piece of a target's memory has a key of its own.
        let unlike = headers + length <= HEADER_MAX
            || headers > TxBatch::ALIKE_MAX
            || llp.flags.contains(Flags::SYN)
            || self.config.full_integrity
            || tx.remote.len() > 1
            || token.at(tx.sent).is_none();
        if unlike {
            return;
        }
        let turn = (tx.sent - u64::from(step)) / TURN;
        while tx.sent / TURN == turn && tx.goes_on_for(step.into()) && !self.batch.is_full() {
            let Some(token) = token.at(tx.sent) else { return };
            if !context.send_alike(at, token, bytes, &mut llp) {
                return;
            }
            let offset = usize::try_from(tx.sent).expect("inside of memory");
            self.batch.push_alike(
                |headers| {
                    llp.encode_next(headers);
                    Segment::advance(&mut headers[Llp::LENGTH..], step);
                    let crc = crc32c::crc32c(headers);
                    headers[Llp::INTEGRITY_OFFSET..Llp::LENGTH].copy_from_slice(&crc.to_be_bytes());
                },
                |arena| mem::parts(&tx.slices, offset, length, |part| arena.push(part)),
            );
            self.batch_owners.push(Owner::Transport(peer, llp.psn));
            self.stats.tx_datagrams += 1;
            self.stats.tx_bytes += u64::from(bytes);
            tx.sent += u64::from(step);
            tx.in_flight += 1;
        }
    }
}
