//! The end of a peer: everything that depended on it ends in an error, and nothing else is touched.

use crate::cq::Entry;
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{RxEntry, RxStage, TxKind, TxStage};
use crate::matching::PeerId;
use crate::slab::Key;
use crate::types::*;

impl Core {
    /// Ends the peer's context and fails its operations. A later operation begins a new context: the peer may come back.
    pub(crate) fn fail_peer(&mut self, peer: PeerId, cause: Cause, shared: &mut Shared) {
        if self.peer(peer).context.is_none() {
            return;
        }
        self.part_from(peer);
        self.stats.peers_dead += 1;
        self.contexts -= 1;
        self.peer_mut(peer).forget_context();
        self.forget_bundles(peer);
        for key in self.txs.keys_where(|tx| tx.peer == peer && tx.stage != TxStage::Local) {
            self.fail_tx(key, cause, shared);
        }
        self.fail_received(peer, cause, shared);
        // A peer that closes in order may leave receives that nobody minds; one that vanished leaves them waiting for ever.
        if cause != Cause::Closed {
            self.fail_directed(peer, cause, shared);
        }
    }

    /// Fails the messages of a peer that will never be whole, and forgets their order.
    pub(crate) fn fail_received(&mut self, peer: PeerId, cause: Cause, shared: &mut Shared) {
        self.peer_mut(peer).forget_received();
        self.end_multi_line(peer, cause, shared);
        // Answers to requests that are forgotten now: nobody waits for them.
        for key in self.txs.keys_where(|tx| tx.peer == peer && tx.kind == TxKind::Response) {
            self.withdraw_response(key);
        }
        // What is here in whole and had its turn can still be received; what waits for an earlier message waits for ever.
        let stays =
            |rx: &RxEntry| rx.is_whole() && matches!(rx.stage, RxStage::Unexpected | RxStage::Claimed { .. });
        for key in self.rxs.keys_where(|rx| rx.peer == peer && !stays(rx)) {
            self.fail_rx(key, cause, shared);
        }
    }

    /// Ends the messages in multi-receive buffers in their order: what is whole was only waiting for an earlier one.
    fn end_multi_line(&mut self, peer: PeerId, cause: Cause, shared: &mut Shared) {
        while let Some(key) = self.peer_mut(peer).queues.multi_line.pop_front() {
            let rx = &self.rxs[key];
            match rx.target.filter(|_| rx.is_whole()) {
                Some(target) => self.report_rx(key, target, shared),
                None => self.fail_rx(key, cause, shared),
            }
        }
    }

    /// Fails a send. An injected one has no context that the application would know: only counters tell.
    pub(crate) fn fail_tx(&mut self, key: Key, cause: Cause, shared: &mut Shared) {
        let tx = &self.txs[key];
        let (completion, peer) = (tx.completion(), tx.peer);
        let told = !tx.reported
            && tx.kind != TxKind::Response
            && (!tx.flags.contains(OpFlags::INJECT) || tx.flags.contains(OpFlags::COMPLETION));
        self.count_tx(key, true, shared);
        self.release_tx(key);
        if told {
            let completion = Completion { source: self.fi_addr(shared, peer), ..completion };
            self.complete_tx(shared, Entry::Failure(Failure { completion, overflow: 0, cause }));
        }
    }

    /// Fails a message that will never be whole.
    fn fail_rx(&mut self, key: Key, cause: Cause, shared: &mut Shared) {
        let rx = &self.rxs[key];
        let (stage, tagged, target) = (rx.stage, rx.tag.is_some(), rx.target);
        #[cfg(feature = "trace")]
        self.trace_drop(key);
        match stage {
            RxStage::Early => {}
            RxStage::Unexpected => {
                self.queue_of(tagged).remove_unexpected(key);
            }
            RxStage::Claimed { .. } => self.claimed.retain(|claimed| claimed.message != key),
            RxStage::Matched => {}
        }
        let completion = self.completion_of(key, shared);
        self.release_rx(key);
        let Some(target) = target else { return };
        let completion = Completion { length: 0, ..completion };
        self.complete_rx(shared, Entry::Failure(Failure { completion, overflow: 0, cause }));
        self.count(shared, CounterEvents::RECV, true);
        let Some(multi) = &mut self.posts[target.posted].multi else {
            self.release_posted(target.posted);
            return;
        };
        multi.outstanding -= 1;
        if multi.released && multi.outstanding == 0 {
            self.report_released(target.posted, shared);
        }
    }

    fn fail_directed(&mut self, peer: PeerId, cause: Cause, shared: &mut Shared) {
        let queued = self.tagged.posted().chain(self.untagged.posted());
        let directed: Vec<Key> =
            queued.filter(|posted| posted.source == Some(peer)).map(|posted| posted.key).collect();
        for key in directed {
            self.cancel_posted(key, cause, shared);
        }
    }
}
