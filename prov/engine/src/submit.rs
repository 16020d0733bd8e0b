//! Calls: send, receive, peek, claim, cancel. Each either fails at once and changes nothing, or is accepted and completes exactly once.

use rdgram_proto::FIRST_STAGING;

use crate::count_line::Ended;
use crate::cq::Entry;
use crate::datapath::Datapath;
use crate::domain::Shared;
use crate::endpoint::{Claimed, Core, Endpoint, State};
use crate::entries::{Multi, RxStage, TxKind, TxStage};
use crate::local::Neighbour;
use crate::matching::{PeerId, Posted};
use crate::mem::{self, UserSlice};
use crate::slab::Key;
use crate::types::*;

impl<D: Datapath> Endpoint<D> {
    /// See [`crate::Domain::send`].
    pub(crate) fn send(&mut self, op: &SendOp<'_>, shared: &mut Shared) -> Result<(), SubmitError> {
        let core = &mut self.core;
        core.check_enabled()?;
        let peer = core.peer_at(shared, op.destination)?;
        if let Some(to) = core.peer(peer).link.up() {
            if core.send_at_once(peer, to, op, shared) {
                if core.has_rings() {
                    let at = core.moment(self.datapath.now());
                    core.transmit(&mut self.datapath, at, shared);
                }
                return Ok(());
            }
        }
        let key = core.take_send(peer, op)?;
        if core.peer(peer).itself {
            return core.send_to_self(key, shared).inspect_err(|_| core.release_tx(key));
        }
        if let Some(to) = core.peer(peer).link.up() {
            core.queue_there(key, peer, to);
            if !core.put_at_once(peer, to, key, shared) || core.has_rings() {
                let at = core.moment(self.datapath.now());
                core.transmit(&mut self.datapath, at, shared);
            }
            return Ok(());
        }
        let now = self.datapath.now();
        core.ensure_context(peer, now);
        core.queue_tx(key, peer, shared);
        if !op.flags.contains(OpFlags::MORE) && !core.is_held(peer, key) {
            let at = core.moment(now);
            core.transmit(&mut self.datapath, at, shared);
        }
        Ok(())
    }

    /// See [`crate::Domain::recv`].
    pub(crate) fn recv(&mut self, op: &RecvOp<'_>, shared: &mut Shared) -> Result<(), SubmitError> {
        let core = &mut self.core;
        core.check_enabled()?;
        let source = core.source_of(shared, op.matching)?;
        let key = core.take_posted_entry(op.matching.tag, source, op.slices, op.context, op.flags)?;
        #[cfg(feature = "trace")]
        core.trace_post(key);
        let none_waits = core.queue_of(op.matching.tag.is_some()).has_no_unexpected();
        if none_waits || core.meet_unexpected(key, shared) {
            let tag = op.matching.tag.unwrap_or(TagMatch { tag: 0, ignore: 0 });
            core.queue_of(op.matching.tag.is_some()).push_posted(Posted { key, source, tag });
            if source.is_some() {
                core.watch.begin();
            }
        }
        self.send_answers(shared);
        Ok(())
    }

    /// See [`crate::Domain::peek`].
    pub(crate) fn peek(
        &mut self,
        matching: Match,
        peek: Peek,
        context: usize,
        shared: &mut Shared,
    ) -> Result<(), SubmitError> {
        self.core.check_enabled()?;
        self.progress(shared);
        let core = &mut self.core;
        let source = core.source_of(shared, matching)?;
        let any = TagMatch { tag: 0, ignore: 0 };
        let found =
            core.queue_of(matching.tag.is_some()).find_unexpected(source, matching.tag.unwrap_or(any));
        #[cfg(feature = "trace")]
        core.trace_peek(source, matching.tag, found.map(|found| found.key), peek);
        let Some(message) = found else {
            let kind = if matching.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
            let tag = matching.tag.map_or(0, |tag| tag.tag);
            let completion =
                Completion { context, flags: CompletionFlags::RECV | kind, tag, ..Completion::default() };
            core.complete_rx(
                shared,
                Entry::Failure(Failure { completion, overflow: 0, cause: Cause::NoMessage }),
            );
            return Ok(());
        };
        let mut completion = Completion { context, buffer: 0, ..core.completion_of(message.key, shared) };
        match peek {
            Peek::Look => {}
            Peek::Claim => {
                completion.flags |= CompletionFlags::CLAIM;
                core.queue_of(matching.tag.is_some()).remove_unexpected(message.key);
                core.rxs[message.key].stage = RxStage::Claimed { context };
                core.claimed.push(Claimed { context, message: message.key });
            }
            Peek::Discard => {
                core.queue_of(matching.tag.is_some()).remove_unexpected(message.key);
                core.discard(message.key, shared);
            }
        }
        core.complete_rx(shared, Entry::Success(completion));
        self.send_answers(shared);
        Ok(())
    }

    /// See [`crate::Domain::claim`].
    pub(crate) fn claim(
        &mut self,
        context: usize,
        slices: &[UserSlice],
        shared: &mut Shared,
    ) -> Result<(), SubmitError> {
        let core = &mut self.core;
        let index = core
            .claimed
            .iter()
            .position(|claimed| claimed.context == context)
            .ok_or(SubmitError::NotFound)?;
        let message = core.claimed[index].message;
        let tag = core.rxs[message].tag.map(|tag| TagMatch { tag, ignore: 0 });
        let source = Some(core.rxs[message].peer);
        let posted = core.take_posted_entry(tag, source, slices, context, OpFlags::COMPLETION)?;
        let claimed = core.claimed.remove(index);
        core.receive_claimed(claimed, posted, shared);
        self.send_answers(shared);
        Ok(())
    }

    /// See [`crate::Domain::claim_discard`].
    pub(crate) fn claim_discard(&mut self, context: usize, shared: &mut Shared) -> Result<(), SubmitError> {
        let core = &mut self.core;
        let index = core
            .claimed
            .iter()
            .position(|claimed| claimed.context == context)
            .ok_or(SubmitError::NotFound)?;
        let claimed = core.claimed.remove(index);
        let completion = Completion { context, buffer: 0, ..core.completion_of(claimed.message, shared) };
        core.discard(claimed.message, shared);
        core.complete_rx(shared, Entry::Success(completion));
        self.send_answers(shared);
        Ok(())
    }

    /// Sends what a call to the receive side made due (CTS).
    fn send_answers(&mut self, shared: &mut Shared) {
        if self.core.neighbours.has_pulls() {
            self.core.run_pulls(shared);
        }
        let core = &self.core;
        // Not for what is held to share a datagram.
        if core.ready.iter().any(|peer| !core.peer(*peer).queues.control.is_empty()) {
            let at = self.core.moment(self.datapath.now());
            self.core.transmit(&mut self.datapath, at, shared);
        }
    }
}

impl Core {
    pub(crate) fn check_enabled(&self) -> Result<(), SubmitError> {
        if self.state == State::Enabled { Ok(()) } else { Err(SubmitError::BadState) }
    }

    pub(crate) fn check_memory(&mut self) -> Result<(), SubmitError> {
        if self.memory() < self.config.memory_ceiling { Ok(()) } else { Err(self.memory_full()) }
    }

    /// The ceiling is reached: the user is told, too.
    fn memory_full(&mut self) -> SubmitError {
        self.notices.note_memory_full();
        SubmitError::NoMemory
    }

    /// The peer of a directed receive, `None` for one from anybody.
    fn source_of(&mut self, shared: &Shared, matching: Match) -> Result<Option<PeerId>, SubmitError> {
        if matching.source == FiAddr::UNSPEC {
            return Ok(None);
        }
        self.peer_at(shared, matching.source).map(Some)
    }

    fn take_send(&mut self, peer: PeerId, op: &SendOp<'_>) -> Result<Key, SubmitError> {
        let key = self.take_tx(peer, op.slices, op.context, op.flags)?;
        let tx = &mut self.txs[key];
        tx.kind = TxKind::Send;
        tx.tag = op.tag;
        tx.data = op.data;
        Ok(key)
    }

    /// A payload of more pieces than an operation may have, or longer than what may be injected.
    #[inline]
    pub(crate) fn refuses(&self, slices: &[UserSlice], length: usize, flags: OpFlags) -> bool {
        slices.len() > IOV_LIMIT || (flags.contains(OpFlags::INJECT) && length > self.config.inject_max)
    }

    /// An operation's entry, with its payload lent or, for injection, copied. The rest of it is blank.
    pub(crate) fn take_tx(
        &mut self,
        peer: PeerId,
        slices: &[UserSlice],
        context: usize,
        flags: OpFlags,
    ) -> Result<Key, SubmitError> {
        let length = mem::total(slices);
        let inject = flags.contains(OpFlags::INJECT);
        if self.refuses(slices, length, flags) {
            return Err(SubmitError::TooLong);
        }
        self.check_memory()?;
        let mut block = None;
        if inject && length > 0 {
            block = self.injected.take(length);
            if block.is_none() {
                return Err(self.memory_full());
            }
        }
        let Some(key) = self.txs.take() else {
            if let Some(block) = block {
                self.injected.put(block);
            }
            return Err(SubmitError::NoMemory);
        };
        self.watch.begin();
        let tx = &mut self.txs[key];
        tx.blank();
        tx.peer = peer;
        tx.flags = flags;
        tx.context = context;
        tx.length = length as u64;
        if let Some(mut block) = block {
            let whole = UserSlice::of_block(&mut block[..length]);
            mem::copy(slices, &[whole], 0, length);
            tx.slices.push(whole);
            tx.block = Some(block);
        } else {
            tx.slices.extend_from_slice(slices);
        }
        Ok(key)
    }

    /// Gives an operation its number in the sequence of messages to its peer.
    pub(crate) fn number(&mut self, key: Key, peer: PeerId) {
        let entry = &mut self.peers[peer.0 as usize];
        self.txs[key].msn = entry.tx_msn;
        entry.tx_msn = entry.tx_msn.wrapping_add(1);
    }

    /// Gives a send to another endpoint its number and its place in line.
    fn queue_tx(&mut self, key: Key, peer: PeerId, shared: &mut Shared) {
        let staging = self.peer(peer).context.as_deref().and_then(|context| context.peer());
        let staging_max = staging.map_or(FIRST_STAGING, |peer| peer.staging_max);
        let eager_max = self.config.eager_max.min(staging_max as usize);
        self.number(key, peer);
        let tx = &mut self.txs[key];
        // A match can only be reported by the receiver: a rendezvous tells it for nothing.
        tx.rendezvous = tx.length > eager_max as u64 || tx.flags.contains(OpFlags::MATCH_COMPLETE);
        tx.stage = if tx.rendezvous { TxStage::Announced } else { TxStage::Eager };
        self.stats.tx_messages += 1;
        self.line_up(key, peer);
        self.report_early(key, shared);
    }

    /// Gives a send to a neighbour its number and its place in line.
    fn queue_there(&mut self, key: Key, peer: PeerId, to: Neighbour) {
        self.number(key, peer);
        let tx = &self.txs[key];
        let rendezvous =
            tx.flags.contains(OpFlags::MATCH_COMPLETE) || !self.is_eager_there(peer, to, tx.length);
        let tx = &mut self.txs[key];
        tx.rendezvous = rendezvous;
        tx.stage = if rendezvous { TxStage::Announced } else { TxStage::Eager };
        self.stats.tx_messages += 1;
    }

    /// FI_INJECT_COMPLETE: what was copied is complete.
    pub(crate) fn report_early(&mut self, key: Key, shared: &mut Shared) {
        let tx = &self.txs[key];
        let copied = tx.block.is_some() && tx.sink.is_empty();
        if copied && tx.flags.contains(OpFlags::COMPLETION | OpFlags::INJECT_COMPLETE) {
            self.report_tx(key, shared);
        }
    }

    /// A receive's entry, filled in.
    fn take_posted_entry(
        &mut self,
        tag: Option<TagMatch>,
        source: Option<PeerId>,
        slices: &[UserSlice],
        context: usize,
        flags: OpFlags,
    ) -> Result<Key, SubmitError> {
        if slices.len() > IOV_LIMIT {
            return Err(SubmitError::TooLong);
        }
        self.check_memory()?;
        let key = self.posts.take().ok_or(SubmitError::NoMemory)?;
        let entry = &mut self.posts[key];
        debug_assert!(entry.slices.is_empty(), "a released entry holds nothing");
        entry.slices.extend_from_slice(slices);
        entry.capacity = mem::total(slices);
        entry.context = context;
        entry.flags = flags;
        entry.source = source;
        entry.tag = tag;
        entry.multi = flags.contains(OpFlags::MULTI_RECV).then(Multi::default);
        Ok(key)
    }

    /// Writes a send's completion.
    fn report_tx(&mut self, key: Key, shared: &mut Shared) {
        let tx = &mut self.txs[key];
        if tx.reported {
            return;
        }
        tx.reported = true;
        if tx.flags.contains(OpFlags::COMPLETION) {
            let completion = tx.completion();
            self.complete_tx(shared, Entry::Success(completion));
        }
    }

    /// Ends an operation when nothing of it is missing.
    pub(crate) fn finish_tx_if_done(&mut self, key: Key, shared: &mut Shared) {
        let tx = &self.txs[key];
        if !tx.is_done() {
            return;
        }
        match tx.stage {
            TxStage::Refused(cause) if tx.parted => self.void_tx(key, cause),
            TxStage::Refused(cause) | TxStage::Voiding(cause) => self.fail_tx(key, cause, shared),
            TxStage::Withdrawn => self.release_tx(key),
            _ => self.finish_tx(key, shared),
        }
    }

    /// Ends an operation in success.
    pub(crate) fn finish_tx(&mut self, key: Key, shared: &mut Shared) {
        self.report_tx(key, shared);
        let tx = &self.txs[key];
        if tx.kind == TxKind::Response && tx.counted {
            self.report_read(tx.region, shared);
        }
        self.count_tx(key, false, shared);
        self.release_tx(key);
    }

    /// Counts an operation that ended: a one-sided one when those issued before it have been counted.
    pub(crate) fn count_tx(&mut self, key: Key, error: bool, shared: &mut Shared) {
        let tx = &mut self.txs[key];
        let ended = Ended { events: tx.events(), error };
        let Some(turn) = tx.turn.take() else { return self.count(shared, ended.events, error) };
        self.counting.end(turn, ended);
        while let Some(ended) = self.counting.next() {
            self.count(shared, ended.events, ended.error);
        }
    }

    /// See [`crate::Domain::cancel`].
    pub(crate) fn cancel(&mut self, context: usize, shared: &mut Shared) -> Result<(), SubmitError> {
        let posts = &self.posts;
        let key = {
            let mut queued = self.tagged.posted().chain(self.untagged.posted());
            queued.find(|posted| posts[posted.key].context == context).map(|posted| posted.key)
        };
        let key = key.ok_or(SubmitError::NotFound)?;
        self.cancel_posted(key, Cause::Canceled, shared);
        Ok(())
    }

    /// Takes a queued receive out and fails it; a multi-receive buffer with messages under way fails when the last of them is done.
    pub(crate) fn cancel_posted(&mut self, key: Key, cause: Cause, shared: &mut Shared) {
        let tagged = self.posts[key].tag.is_some();
        self.queue_of(tagged).remove_posted(key);
        #[cfg(feature = "trace")]
        self.trace_cancel(key);
        let entry = &mut self.posts[key];
        if let Some(multi) = &mut entry.multi {
            multi.released = true;
            multi.canceled = Some(cause);
            if multi.outstanding == 0 {
                self.report_released(key, shared);
            }
            return;
        }
        let kind = if tagged { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        let completion = Completion {
            context: entry.context,
            flags: CompletionFlags::RECV | kind,
            tag: entry.tag.map_or(0, |tag| tag.tag),
            ..Completion::default()
        };
        let source = entry.source;
        let source = source.map_or(FiAddr::UNSPEC, |source| self.fi_addr(shared, source));
        let completion = Completion { source, ..completion };
        self.release_posted(key);
        self.complete_rx(shared, Entry::Failure(Failure { completion, overflow: 0, cause }));
        self.count(shared, CounterEvents::RECV, true);
    }
}
