//! Messages that arrive: their order, their match, where their bytes go, and how they end.

use rdgram_proto::{Defect, planted};
use rdgram_wire::{Bundle, Control, Segment, Start};

use crate::cq::Entry;
use crate::direct::{Placement, Stream};
use crate::domain::Shared;
use crate::endpoint::{Claimed, Core};
use crate::entries::{RxStage, Target, TxStage};
use crate::link::{self, Route};
use crate::matching::{PeerId, Unexpected};
use crate::mem::{self, UserSlice};
use crate::slab::Key;
use crate::types::*;

/// How far ahead of the next message to match a start may be: all of them share the PSNs of a window with the one that is missing.
const ORDER_MAX: u32 = (rdgram_wire::WINDOW + 1) * Bundle::ITEMS_MAX;

impl Core {
    /// A segment of an eager message, or the start of an announced one.
    pub(crate) fn on_send_segment(
        &mut self,
        peer: PeerId,
        segment: &Segment,
        payload: Placement<'_>,
        route: Route,
        shared: &mut Shared,
    ) {
        let Segment::ExtendedSend { msn, offset, message_id, total, start, .. } = *segment else { return };
        if u64::from(offset) + payload.len() as u64 > total {
            self.stats.rx_malformed += 1;
            return;
        }
        let Some(key) = self.message_of(peer, msn, message_id, total) else { return };
        self.rxs[key].by_memory |= route == Route::Memory;
        let first = start.is_some() && !self.rxs[key].started;
        if let (Some(start), true) = (start, first) {
            self.take_envelope(key, start);
            if msn == self.peer(peer).rx_msn {
                self.advance_order(peer);
                self.arrive(key, shared);
            }
        }
        // The match may have ended the message (nothing wanted of it), and its entry with it.
        if self.rxs.get(key).is_some_and(|rx| rx.msn == msn && rx.peer == peer) {
            self.deposit(key, offset as usize, payload);
            self.settle(key, shared);
        }
        if first {
            self.match_followers(peer, shared);
        }
    }

    /// The entry of message `msn`, made when this is the first of it. `None` for one that ended (or makes no sense): its segment is dropped.
    pub(crate) fn message_of(&mut self, peer: PeerId, msn: u32, message_id: u32, total: u64) -> Option<Key> {
        let entry = self.peer(peer);
        let ahead = msn.wrapping_sub(entry.rx_msn);
        let known = if ahead > u32::MAX / 2 {
            Some(entry.queues.open.iter().rev().copied().find(|key| self.rxs[*key].msn == msn)?)
        } else if ahead >= ORDER_MAX
            || (planted(Defect::AheadOfWindowDropped) && ahead > self.config.transport.window)
        {
            self.stats.rx_malformed += 1;
            return None;
        } else {
            entry.queues.order.get(ahead as usize).copied().flatten()
        };
        if let Some(key) = known {
            let rx = &self.rxs[key];
            return (rx.message_id == message_id && rx.total == total).then_some(key);
        }
        let key = self.rxs.take()?;
        let rx = &mut self.rxs[key];
        rx.peer = peer;
        rx.msn = msn;
        rx.message_id = message_id;
        rx.total = total;
        let order = &mut self.peer_mut(peer).queues.order;
        if order.len() <= ahead as usize {
            order.resize(ahead as usize + 1, None);
        }
        order[ahead as usize] = Some(key);
        Some(key)
    }

    pub(crate) fn take_envelope(&mut self, key: Key, start: Start) {
        let rx = &mut self.rxs[key];
        rx.started = true;
        rx.tag = start.tag;
        rx.data = start.data;
        rx.remote |= start.rendezvous;
        self.stats.rx_messages += 1;
    }

    /// The front of the order is about to be matched.
    pub(crate) fn advance_order(&mut self, peer: PeerId) {
        let entry = self.peer_mut(peer);
        let key = entry.queues.order.pop_front().flatten().expect("the front message was found there");
        entry.rx_msn = entry.rx_msn.wrapping_add(1);
        // Eager payload may still be missing: later segments find the message here.
        entry.queues.open.push(key);
    }

    /// Matches the messages whose starts came early, as far as there is no gap.
    pub(crate) fn match_followers(&mut self, peer: PeerId, shared: &mut Shared) {
        while let Some(Some(key)) = self.peer(peer).queues.order.front().copied() {
            if !self.rxs[key].started {
                return;
            }
            self.advance_order(peer);
            self.arrive(key, shared);
            if self.rxs.get(key).is_some() {
                self.settle(key, shared);
            }
        }
    }

    /// A message enters matching; an atomic is executed.
    pub(crate) fn arrive(&mut self, key: Key, shared: &mut Shared) {
        if let Some(request) = self.rxs[key].atomic {
            self.execute_in_turn(key, request, shared);
            return;
        }
        let (source, tag) = (self.rxs[key].peer, self.rxs[key].tag);
        #[cfg(feature = "trace")]
        self.trace_arrival(key);
        if let Some(target) = self.take_posted(source, tag, self.rxs[key].total, shared) {
            self.attach(key, target, shared);
            return;
        }
        self.rxs[key].stage = RxStage::Unexpected;
        self.stats.unexpected_messages += 1;
        let message = Unexpected { key, source, tag: tag.unwrap_or(0) };
        if planted(Defect::SelfSendReorder) && self.rxs[key].local.is_some() {
            self.queue_of(tag.is_some()).push_unexpected_first(message);
            return;
        }
        self.queue_of(tag.is_some()).push_unexpected(message);
    }

    /// Finds the oldest posted receive that accepts a message and reserves its memory there.
    fn take_posted(
        &mut self,
        source: PeerId,
        tag: Option<u64>,
        total: u64,
        shared: &mut Shared,
    ) -> Option<Target> {
        loop {
            let posted = self.queue_of(tag.is_some()).find_posted(source, tag.unwrap_or(0))?;
            if let Some(target) = self.reserve(posted.key, total, shared) {
                return Some(target);
            }
        }
    }

    /// Reserves the memory of a posted receive for a message of `total` bytes, and takes the receive from the queue unless more messages fit.
    /// `None` when a multi-receive buffer has too little left: it is released, and another receive is to be looked for.
    pub(crate) fn reserve(&mut self, posted: Key, total: u64, shared: &mut Shared) -> Option<Target> {
        let min_left = self.config.min_multi_recv;
        let entry = &mut self.posts[posted];
        let tagged = entry.tag.is_some();
        let Some(multi) = &mut entry.multi else {
            let target = Target { posted, base: 0, room: entry.capacity };
            self.queue_of(tagged).remove_posted(posted);
            return Some(target);
        };
        let left = entry.capacity - multi.consumed;
        if total > left as u64 && multi.consumed > 0 {
            self.release_multi(posted, shared);
            return None;
        }
        let target = Target { posted, base: multi.consumed, room: left };
        multi.consumed += usize::try_from(total).unwrap_or(usize::MAX).min(left);
        multi.outstanding += 1;
        if entry.capacity - multi.consumed < min_left {
            multi.released = true;
            self.queue_of(tagged).remove_posted(posted);
        }
        Some(target)
    }

    /// Takes a multi-receive buffer from its queue: its last message says so, or an empty completion when there is none.
    fn release_multi(&mut self, posted: Key, shared: &mut Shared) {
        let entry = &mut self.posts[posted];
        let tagged = entry.tag.is_some();
        let Some(multi) = &mut entry.multi else { return };
        multi.released = true;
        let idle = multi.outstanding == 0;
        #[cfg(feature = "trace")]
        self.trace_release(posted);
        self.queue_of(tagged).remove_posted(posted);
        if idle {
            self.report_released(posted, shared);
        }
    }

    /// Reports a released multi-receive buffer that no message is left to report, and frees it.
    pub(crate) fn report_released(&mut self, posted: Key, shared: &mut Shared) {
        let entry = &self.posts[posted];
        let kind = if entry.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        let completion = Completion {
            context: entry.context,
            flags: CompletionFlags::MULTI_RECV,
            ..Completion::default()
        };
        let canceled = entry.multi.and_then(|multi| multi.canceled);
        self.release_posted(posted);
        let entry = match canceled {
            Some(cause) => {
                let completion =
                    Completion { flags: completion.flags | CompletionFlags::RECV | kind, ..completion };
                Entry::Failure(Failure { completion, overflow: 0, cause })
            }
            // No message: an entry that only gives the buffer back carries no other flag (fi_cq(3)).
            None => Entry::Success(completion),
        };
        self.complete_rx(shared, entry);
    }

    /// Gives a message its target: what was staged moves there, what is at the sender is asked for.
    pub(crate) fn attach(&mut self, key: Key, target: Target, shared: &mut Shared) {
        let rx = &mut self.rxs[key];
        rx.stage = RxStage::Matched;
        rx.target = Some(target);
        let peer = rx.peer;
        if self.posts[target.posted].multi.is_some() {
            self.peer_mut(peer).queues.multi_line.push_back(key);
        }
        self.watch.begin();
        #[cfg(feature = "trace")]
        self.trace_match(key);
        let rx = &mut self.rxs[key];
        if let Some(send) = rx.local {
            self.copy_local(key, send, shared);
            return;
        }
        if let Some(block) = rx.staging.take() {
            let length = usize::try_from(rx.total).expect("staged messages are short").min(target.room);
            mem::scatter(&self.posts[target.posted].slices, target.base, &block[..length]);
            if !planted(Defect::PoolLeak) {
                self.unexpected.put(block);
            }
        }
        if self.rxs[key].remote {
            self.ask_for(key, shared);
            self.expect(Stream::Granted(key));
        }
    }

    /// Asks for what is wanted of a message whose payload is at its sender.
    fn ask_for(&mut self, key: Key, shared: &mut Shared) {
        let rx = &self.rxs[key];
        let wanted = rx.wanted();
        if wanted > 0 && !rx.foreign.is_empty() {
            return self.neighbours.pull(key);
        }
        let refused = rx.total <= self.config.eager_max as u64;
        if !(planted(Defect::LostRnrGrant) && refused) {
            self.grant(key, wanted);
        }
        if wanted == 0 {
            self.finish_rx(key, shared);
        }
    }

    /// Puts eager payload where it belongs: the target, or a staging block; refuses the message when there is none.
    pub(crate) fn deposit(&mut self, key: Key, offset: usize, payload: Placement<'_>) {
        let rx = &mut self.rxs[key];
        if rx.remote || payload.len() == 0 {
            return;
        }
        if rx.received + payload.len() as u64 > rx.total {
            // Overlapping segments: no honest sender makes them.
            self.stats.rx_malformed += 1;
            return;
        }
        if let Some(target) = rx.target {
            rx.received += payload.len() as u64;
            let fits = payload.len().min(target.room.saturating_sub(offset));
            payload.copy_to(&self.posts[target.posted].slices, target.base + offset, fits);
            return;
        }
        if rx.staging.is_none() {
            let most = if rx.by_memory { link::EAGER_MAX } else { self.config.eager_max };
            let length = usize::try_from(rx.total).ok().filter(|total| *total <= most.max(payload.len()));
            // What came through memory has left its sender: that the pool is full, senders are told beforehand (`LocalRoute::set_welcome`), and honest ones look.
            let bound = self.config.unexpected_pool + self.neighbours.unasked_max();
            let honest = self.unexpected.handed_out() <= bound;
            rx.staging = match length {
                Some(length) if rx.by_memory && honest => Some(self.unexpected.take_unlimited(length)),
                _ if rx.by_memory => None,
                Some(length) => self.unexpected.take(length),
                None => None,
            };
            self.stats.unexpected_bytes_max =
                self.stats.unexpected_bytes_max.max(self.unexpected.handed_out_max() as u64);
        }
        let Some(block) = &mut rx.staging else {
            if rx.by_memory {
                let peer = rx.peer;
                return self.begin_end(peer, Cause::Corrupt);
            }
            self.refuse(key);
            return;
        };
        let end = offset + payload.len();
        payload.copy_to(&[UserSlice::of_block(&mut block[offset..end])], 0, payload.len());
        rx.received += payload.len() as u64;
    }

    /// No room: the envelope stays, the payload waits at the sender.
    fn refuse(&mut self, key: Key) {
        let rx = &mut self.rxs[key];
        rx.remote = true;
        rx.received = 0;
        let (peer, message_id) = (rx.peer, rx.message_id);
        self.stats.refused_messages += 1;
        if let Some(context) = self.context_mut(peer) {
            let index = context.note_refusal();
            self.peer_mut(peer).queues.control.push_back(Control::Rnr { message_id, index });
            self.make_ready(peer);
        }
    }

    /// After something of a message came: it may be whole, and need not be found by its number any more.
    pub(crate) fn settle(&mut self, key: Key, shared: &mut Shared) {
        let rx = &self.rxs[key];
        if rx.stage == RxStage::Early {
            return;
        }
        let no_more_segments = rx.remote || rx.received == rx.total;
        if no_more_segments {
            let peer = rx.peer;
            if !rx.remote {
                self.answer(key);
            }
            self.peer_mut(peer).queues.open.retain(|open| *open != key);
        }
        let rx = &self.rxs[key];
        if rx.stage == RxStage::Matched && rx.is_whole() {
            self.finish_rx(key, shared);
        }
    }

    /// Payload of a message that was asked for.
    pub(crate) fn on_granted_data(
        &mut self,
        peer: PeerId,
        key: Key,
        offset: u64,
        payload: Placement<'_>,
        route: Route,
        shared: &mut Shared,
    ) {
        let Some(rx) =
            self.rxs.get_mut(key).filter(|rx| rx.peer == peer && rx.remote && rx.stage == RxStage::Matched)
        else {
            self.stats.rx_stale += 1;
            return;
        };
        let Some(target) = rx.target else { return };
        let end = offset.checked_add(payload.len() as u64);
        // What is granted is at most what is wanted. The sum too: who sends the same bytes twice must not exceed it.
        let given = rx.grant.given;
        if end.is_none_or(|end| end > given) || rx.received + payload.len() as u64 > given {
            self.stats.rx_malformed += 1;
            return;
        }
        let (end, whole) = (offset + payload.len() as u64, rx.wanted());
        let furthest = end > rx.placed_end;
        rx.placed_end = rx.placed_end.max(end);
        let offset = usize::try_from(offset).expect("below wanted, which fits the buffer");
        rx.received += payload.len() as u64;
        rx.answer |= route == Route::Memory;
        self.grants.on_data(&mut rx.grant, payload.len() as u64, rx.received);
        if !(planted(Defect::AckBeforePlacement) && rx.is_whole()) {
            payload.copy_to(&self.posts[target.posted].slices, target.base + offset, payload.len());
        }
        self.note_grant_used(peer, payload.len() as u64);
        self.note_placed(Stream::Granted(key), payload, end, whole, furthest);
        if self.rxs[key].is_whole() {
            self.answer(key);
            self.finish_rx(key, shared);
        }
    }

    /// Copies a message to ourselves from its send, and ends both.
    fn copy_local(&mut self, key: Key, send: Key, shared: &mut Shared) {
        let target = self.rxs[key].target.expect("attached before");
        let length =
            usize::try_from(self.txs[send].length).expect("inside the application's memory").min(target.room);
        mem::copy(&self.txs[send].slices, &self.posts[target.posted].slices, target.base, length);
        self.rxs[key].local = None;
        self.rxs[key].received = self.rxs[key].total;
        self.finish_tx(send, shared);
        self.finish_rx(key, shared);
    }

    /// A matched message is whole. In a multi-receive buffer it completes when those of its sender before it have.
    pub(crate) fn finish_rx(&mut self, key: Key, shared: &mut Shared) {
        let rx = &self.rxs[key];
        let Some(target) = rx.target else { return };
        if self.posts[target.posted].multi.is_none() {
            return self.report_rx(key, target, shared);
        }
        let peer = rx.peer;
        if planted(Defect::MultiRecvOutOfOrder) {
            self.peer_mut(peer).queues.multi_line.retain(|other| *other != key);
            return self.report_rx(key, target, shared);
        }
        if self.peer(peer).queues.multi_line.front() != Some(&key) {
            return;
        }
        while let Some(&key) = self.peer(peer).queues.multi_line.front() {
            let rx = &self.rxs[key];
            let Some(target) = rx.target.filter(|_| rx.is_whole()) else { return };
            self.peer_mut(peer).queues.multi_line.pop_front();
            self.report_rx(key, target, shared);
        }
    }

    /// Reports a message and frees its entries.
    pub(crate) fn report_rx(&mut self, key: Key, target: Target, shared: &mut Shared) {
        let rx = &self.rxs[key];
        let (total, peer) = (rx.total, rx.peer);
        let completion = self.completion_of(key, shared);
        let overflow =
            if planted(Defect::TruncateOverrun) { 0 } else { total - total.min(target.room as u64) };
        self.forget_open(key);
        self.release_rx(key);
        let mut completion =
            Completion { length: usize::try_from(total - overflow).expect("fits the buffer"), ..completion };
        let written = self.posts[target.posted].flags.contains(OpFlags::COMPLETION);
        let last = self.end_of_target(target, &mut completion);
        if overflow > 0 {
            let overflow = usize::try_from(overflow).unwrap_or(usize::MAX);
            self.complete_rx(
                shared,
                Entry::Failure(Failure { completion, overflow, cause: Cause::Truncated }),
            );
        } else if written || completion.flags.contains(CompletionFlags::MULTI_RECV) {
            self.complete_from(shared, peer, completion);
            if planted(Defect::DoubleCompletion) && total > 1000 {
                self.complete_rx(shared, Entry::Success(completion));
            }
        }
        self.count(shared, CounterEvents::RECV, overflow > 0);
        if last {
            self.release_posted(target.posted);
        }
    }

    /// What a completion of this message says, length aside.
    pub(crate) fn completion_of(&mut self, key: Key, shared: &Shared) -> Completion {
        let rx = &self.rxs[key];
        let kind = if rx.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        let data = if rx.data.is_some() { CompletionFlags::REMOTE_CQ_DATA } else { CompletionFlags::empty() };
        let (context, buffer) = rx.target.map_or((0, 0), |target| {
            let posted = &self.posts[target.posted];
            let address =
                posted.slices.first().map_or(0, |slice| slice.part(target.base, 0).address().addr());
            (posted.context, address)
        });
        let (peer, tag, data_value, total) = (rx.peer, rx.tag.unwrap_or(0), rx.data.unwrap_or(0), rx.total);
        Completion {
            context,
            flags: CompletionFlags::RECV | kind | data,
            length: usize::try_from(total).unwrap_or(usize::MAX),
            buffer,
            data: data_value,
            tag,
            source: self.fi_addr(shared, peer),
        }
    }

    /// Takes a message's share off its receive. True when the receive has no other.
    fn end_of_target(&mut self, target: Target, completion: &mut Completion) -> bool {
        let Some(multi) = &mut self.posts[target.posted].multi else { return true };
        multi.outstanding -= 1;
        let last = multi.released && multi.outstanding == 0;
        if last {
            completion.flags |= CompletionFlags::MULTI_RECV;
        }
        last
    }

    pub(crate) fn forget_open(&mut self, key: Key) {
        let peer = self.rxs[key].peer;
        self.peer_mut(peer).queues.open.retain(|open| *open != key);
    }

    /// Drops an unexpected message (FI_DISCARD): its sender completes as if it had been received.
    pub(crate) fn discard(&mut self, key: Key, shared: &mut Shared) {
        let rx = &self.rxs[key];
        let (peer, message_id) = (rx.peer, rx.message_id);
        if let Some(send) = rx.local {
            self.finish_tx(send, shared);
        } else if rx.remote {
            self.peer_mut(peer).queues.control.push_back(Control::Cts { message_id, stag: 0, length: 0 });
            self.make_ready(peer);
        }
        self.forget_open(key);
        self.release_rx(key);
    }

    // ---- calls that meet messages already here

    /// Gives a new receive the oldest unexpected message that it accepts (to a multi-receive buffer: all that fit). True when it is still to be posted.
    pub(crate) fn meet_unexpected(&mut self, posted: Key, shared: &mut Shared) -> bool {
        loop {
            let entry = &self.posts[posted];
            let (source, tag, multi) = (entry.source, entry.tag, entry.multi.is_some());
            let any = TagMatch { tag: 0, ignore: 0 };
            let queue = self.queue_of(tag.is_some());
            let Some(message) = queue.find_unexpected(source, tag.unwrap_or(any)) else { return true };
            let total = self.rxs[message.key].total;
            let Some(target) = self.reserve(posted, total, shared) else { return false };
            self.queue_of(tag.is_some()).remove_unexpected(message.key);
            let more = multi && self.posts[posted].multi.is_some_and(|multi| !multi.released);
            self.attach(message.key, target, shared);
            if self.rxs.get(message.key).is_some() {
                self.settle(message.key, shared);
            }
            if !more {
                return false;
            }
        }
    }

    /// Gives a claimed message to a receive.
    pub(crate) fn receive_claimed(&mut self, claimed: Claimed, posted: Key, shared: &mut Shared) {
        let room = self.posts[posted].capacity;
        self.attach(claimed.message, Target { posted, base: 0, room }, shared);
        if self.rxs.get(claimed.message).is_some() {
            self.settle(claimed.message, shared);
        }
    }

    /// A message to ourselves: matched at once, or staged, or left with its send.
    pub(crate) fn send_to_self(&mut self, send: Key, shared: &mut Shared) -> Result<(), SubmitError> {
        let Some(key) = self.rxs.take() else { return Err(SubmitError::NoMemory) };
        let tx = &mut self.txs[send];
        tx.stage = TxStage::Local;
        let (peer, total, tag, data) = (tx.peer, tx.length, tx.tag, tx.data);
        let early = !tx.flags.contains(OpFlags::MATCH_COMPLETE);
        let rx = &mut self.rxs[key];
        rx.peer = peer;
        rx.total = total;
        rx.tag = tag;
        rx.data = data;
        rx.started = true;
        rx.local = Some(send);
        self.stats.rx_messages += 1;
        self.arrive(key, shared);
        let unmatched =
            self.rxs.get(key).is_some_and(|rx| rx.stage == RxStage::Unexpected && rx.local == Some(send));
        if !unmatched || !early || usize::try_from(total).map_or(true, |total| total > self.config.eager_max)
        {
            return Ok(());
        }
        let length = usize::try_from(total).expect("at most eager_max");
        if let Some(mut block) = self.unexpected.take(length) {
            let whole = [UserSlice::of_block(&mut block[..length])];
            mem::copy(&self.txs[send].slices, &whole, 0, length);
            let rx = &mut self.rxs[key];
            rx.staging = Some(block);
            rx.received = total;
            rx.local = None;
            self.finish_tx(send, shared);
        }
        Ok(())
    }
}
