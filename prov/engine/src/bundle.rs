//! Aggregation: small messages to one peer share a datagram, and with it a system call, a header and an acknowledgement.
//!
//! Two things make messages wait for each other. Those that the window, a credit or FI_MORE has kept in line go out together when they may. And the sends of a burst, calls in a row without a look at a queue in between,
//! are held from the ninth on until a datagram is full or the next progress call (decision 0012); the first of them left at once, so nobody's ping is delayed.
//! Messages too large for that, but of few datagrams, are held as well: those of one size leave as one train, the others in one system call.

use rdgram_proto::{Class, Defect, Moment, planted};
use rdgram_wire::{Bundle, Llp, Segment, Syn};

use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{Token, TxEntry, TxStage};
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::packet;
use crate::slab::Key;
use crate::transmit::datagram_length;
use crate::types::OpFlags;

/// Largest payload of a message in a bundle, bytes: one that is larger fills a good part of a datagram, and is not copied.
const PAYLOAD_MAX: usize = 256;
/// Most bytes of an item.
const ITEM_MAX: usize = Bundle::FRAME + Segment::HEADER_MAX + PAYLOAD_MAX;
/// Most bytes of a bundle's body, whatever the path takes.
const BODY_MAX: usize = Bundle::ITEMS_MAX as usize * ITEM_MAX;
/// Sends in a row that leave at once.
const BURST: u32 = 8;
/// So many held messages are sent: small ones fill most of a datagram, others a train of some size.
const HELD_MAX: usize = 20;
/// Longest message that is held, bytes: for one that is longer a system call of its own is a small part of the cost.
pub(crate) const HELD_LENGTH: u64 = 16 << 10;
/// Bytes that are held together: a full train.
const HELD_BYTES: u64 = 64 << 10;

/// Messages that share a datagram.
#[derive(Debug)]
pub(crate) struct BundleEntry {
    pub(crate) peer: PeerId,
    txs: Vec<Key>,
    block: Option<Box<[u8]>>,
    /// The used part of the block, the body of the datagram: it is sent again as it is.
    body: UserSlice,
}

impl Default for BundleEntry {
    fn default() -> Self {
        Self { peer: PeerId::default(), txs: Vec::new(), block: None, body: UserSlice::empty() }
    }
}

impl BundleEntry {
    pub(crate) fn body(&self) -> &[UserSlice] {
        core::slice::from_ref(&self.body)
    }
}

impl TxEntry {
    /// It may share a datagram: a message that is whole in its first packet, small, and waits for nothing.
    fn is_small(&self) -> bool {
        self.is_short() && self.length <= PAYLOAD_MAX as u64
    }

    /// It may share a system call: a message of few packets that waits for nothing.
    pub(crate) fn is_short(&self) -> bool {
        self.stage == TxStage::Eager
            && !self.started
            && !self.rendezvous
            && self.length <= HELD_LENGTH
            && !self.flags.contains(OpFlags::FENCE)
    }
}

impl Core {
    /// Whether a send just put in line is held back for others to share its datagram, or its system call. Counts the burst.
    pub(crate) fn is_held(&mut self, peer: PeerId, key: Key) -> bool {
        self.burst += 1;
        let tx = &self.txs[key];
        let held = self.held_bytes + tx.length;
        let entry = self.peer(peer);
        let holds = self.config.hold_bursts
            && entry.link.up().is_none()
            && self.burst > BURST
            && tx.is_short()
            && held < HELD_BYTES
            && entry.queues.starts.len() < HELD_MAX
            && entry.context.as_deref().is_some_and(|context| context.in_flight() > 0);
        self.held_bytes = if holds { held } else { 0 };
        holds
    }

    fn takes_bundles(&self, peer: PeerId) -> bool {
        let context = self.peer(peer).context.as_deref();
        let features = context.filter(|context| !context.needs_syn()).and_then(|context| context.peer());
        let by_datagram = self.peer(peer).link.up().is_none();
        by_datagram && self.config.bundles && features.is_some_and(|peer| peer.features & Syn::BUNDLES != 0)
    }

    /// Sends the messages at the front of the line, the first of which may go, in one datagram. `None` when there are no two that can share one; false when the window has no room.
    pub(crate) fn send_bundle(&mut self, peer: PeerId, at: Moment) -> Option<bool> {
        let line = &self.peer(peer).queues.starts;
        let small = |key: &Key| self.txs.get(*key).is_some_and(TxEntry::is_small);
        if line.len() < 2 || !line.iter().take(2).all(small) || !self.takes_bundles(peer) {
            return None;
        }
        let context = self.peers[peer.0 as usize].context.as_deref_mut()?;
        let room = (context.segment() - Llp::LENGTH).min(BODY_MAX);
        if room < 2 * ITEM_MAX {
            // Whether two fit depends on the messages: not worth a look where datagrams are that small.
            return None;
        }
        if !context.can_send(Class::Data, Llp::LENGTH + room) {
            self.acks.awaited = true;
            return Some(false);
        }
        let block = self.injected.take(room)?;
        let Some(bundle) = self.bundles.take() else {
            self.injected.put(block);
            return None;
        };
        let ask = self.fill_bundle(bundle, block, peer, room);
        let length = datagram_length(Llp::LENGTH + self.bundles[bundle].body.len());
        let context = self.peers[peer.0 as usize].context.as_deref_mut()?;
        let llp = context.send(at, Token::Bundle { bundle }, length, Class::Data, ask);
        let psn = llp.psn;
        self.push_data(peer, llp, Token::Bundle { bundle }, false, psn);
        Some(true)
    }

    /// Moves messages from the line into a bundle of at most `room` bytes of the block. True when somebody waits for one of them.
    fn fill_bundle(&mut self, bundle: Key, mut block: Box<[u8]>, peer: PeerId, room: usize) -> bool {
        let entry = &mut self.peers[peer.0 as usize];
        let bundle = &mut self.bundles[bundle];
        let (mut ask, mut used) = (false, 0);
        while let Some(&key) = entry.queues.starts.front() {
            let Some(tx) = self.txs.get_mut(key).filter(|tx| tx.is_small()) else { break };
            let payload = usize::try_from(tx.length).expect("a small message");
            let (segment, _) =
                packet::segment_of(tx, Token::Start { tx: key, length: datagram_length(payload) });
            let item = segment.encoded_length() + payload;
            let full = bundle.txs.len() == Bundle::ITEMS_MAX as usize;
            if full || used + Bundle::FRAME + item > room {
                break;
            }
            write_item(&mut block[used..used + Bundle::FRAME + item], &segment, &tx.slices);
            used += Bundle::FRAME + item;
            bundle.txs.push(key);
            tx.started = true;
            tx.sent = tx.length;
            tx.in_flight += 1;
            ask |= tx.asks(&self.bindings);
            entry.queues.underway.add(tx.class());
            entry.queues.starts.pop_front();
        }
        bundle.peer = peer;
        bundle.body = UserSlice::of_block(&mut block[..used]);
        bundle.block = Some(block);
        self.stats.tx_bundles += 1;
        self.stats.tx_bundled_messages += bundle.txs.len() as u64;
        ask
    }

    /// A bundle was acknowledged: each of its messages was.
    pub(crate) fn on_bundle_acked(&mut self, bundle: Key, shared: &mut Shared) {
        let Some(entry) = self.bundles.get_mut(bundle) else { return };
        let mut txs = core::mem::take(&mut entry.txs);
        if planted(Defect::BundleHalfAcked) {
            txs.truncate(1);
        }
        for key in txs.drain(..) {
            self.on_acked(key, shared);
        }
        self.bundles[bundle].txs = txs;
        self.release_bundle(bundle);
    }

    /// Bundles of a context that is gone.
    pub(crate) fn forget_bundles(&mut self, peer: PeerId) {
        for bundle in self.bundles.keys_where(|bundle| bundle.peer == peer) {
            self.release_bundle(bundle);
        }
    }

    fn release_bundle(&mut self, bundle: Key) {
        let entry = &mut self.bundles[bundle];
        entry.txs.clear();
        entry.body = UserSlice::empty();
        if let Some(block) = entry.block.take() {
            self.injected.put(block);
        }
        self.bundles.release(bundle);
    }
}

/// Writes an item that fills `out`: its length, its headers, its payload.
fn write_item(out: &mut [u8], segment: &Segment, slices: &[UserSlice]) {
    let (frame, item) = out.split_at_mut(Bundle::FRAME);
    Bundle::encode_frame(datagram_length(item.len()), frame);
    let headers = segment.encode(item);
    mem::gather(slices, 0, &mut item[headers..]);
}
