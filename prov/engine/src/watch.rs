//! Peers that something is awaited of: a grant, an answer, payload, a message for a receive directed at them. Nothing in flight asks for these, so once a second
//! this does, and tells the user of a peer that says nothing. One walk over the tables serves all peers. Must never end an operation: the transport says who is dead.

use core::time::Duration;

use rdgram_proto::{Instant, Moment};

use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::entries::{RxStage, TxEntry, TxKind, TxStage};
use crate::matching::PeerId;
use crate::types::{Notice, NoticeKind};

/// Time between two walks.
const EVERY: Duration = Duration::from_secs(1);
/// Silence after which the user is told.
const NOTICE_AFTER: Duration = Duration::from_secs(10);

/// Who waits for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awaited {
    #[default]
    No,
    /// Nobody but this endpoint: something injected is on its way.
    ByEndpoint,
    /// An operation that the application has to wait for.
    ByApplication,
}

/// When the next walk is due. Never while nothing is awaited: an idle endpoint has no timer.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Something may be awaited that was not at the last walk.
    begun: bool,
    due: Option<Instant>,
    /// The peers that the last walk found.
    found: Vec<PeerId>,
}

impl Watch {
    /// Something is awaited from now on.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    /// Something is awaited, or may be.
    pub(crate) fn is_awake(&self) -> bool {
        self.begun || self.due.is_some()
    }

    /// When the next walk is due, at the latest, if there is no progress meanwhile that plans it.
    pub(crate) fn due_from(&self, now: Instant) -> Option<Instant> {
        self.due.or_else(|| self.begun.then(|| now + EVERY))
    }

    /// Plans a walk when there is something new to look for. Some when none was planned before.
    #[inline]
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Instant> {
        if !core::mem::take(&mut self.begun) || self.due.is_some() {
            return None;
        }
        self.due = Some(now + EVERY);
        self.due
    }
}

impl Core {
    /// Asks the peers that something is awaited of, when it is time.
    pub(crate) fn watch_peers(&mut self, at: Moment, shared: &mut Shared) {
        if self.watch.due.is_some_and(|due| due <= at.now) {
            self.find_awaited();
            let mut found = core::mem::take(&mut self.watch.found);
            self.watch.due = (!found.is_empty()).then(|| at.now + EVERY);
            for peer in found.drain(..) {
                self.ask(peer, at, shared);
            }
            self.watch.found = found;
        }
        if let Some(due) = self.watch.due {
            self.next_timeout = Some(self.next_timeout.map_or(due, |next| next.min(due)));
        }
    }

    fn find_awaited(&mut self) {
        let Self { txs, rxs, tagged, untagged, peers, watch, .. } = self;
        // One that was never talked to, or whose context ended, may not have been started yet.
        let mut note = |peer: PeerId, how: Awaited| {
            let entry = &mut peers[peer.0 as usize];
            if entry.context_id().is_none() {
                return;
            }
            if entry.awaited == Awaited::No {
                watch.found.push(peer);
            }
            entry.awaited = entry.awaited.max(how);
        };
        for tx in txs.values() {
            note(tx.peer, awaited_by(tx));
        }
        for rx in rxs.values().filter(|rx| rx.stage == RxStage::Matched) {
            note(rx.peer, Awaited::ByApplication);
        }
        for posted in tagged.posted().chain(untagged.posted()) {
            if let Some(source) = posted.source {
                note(source, Awaited::ByApplication);
            }
        }
    }

    fn ask(&mut self, peer: PeerId, at: Moment, shared: &mut Shared) {
        self.thaw(peer);
        let closing = self.state == State::Closing;
        let (local, entry) = (self.name, self.peer_mut(peer));
        let awaited = core::mem::take(&mut entry.awaited);
        let Some(context) = entry.context.as_deref_mut() else { return };
        context.ask(at);
        let silent = context.silence() >= NOTICE_AFTER;
        if silent && awaited == Awaited::ByApplication && !entry.noticed && !closing {
            entry.noticed = true;
            let kind = NoticeKind::Silent { peer: entry.name, heard: context.peer().is_some() };
            shared.notice(Notice { local, kind });
        }
        self.drain_events(peer, shared);
        self.note_context(peer);
        self.make_ready(peer);
    }
}

fn awaited_by(tx: &TxEntry) -> Awaited {
    let ours = matches!(tx.kind, TxKind::Response) || matches!(tx.stage, TxStage::Abandoned);
    if ours || !tx.is_awaited() { Awaited::ByEndpoint } else { Awaited::ByApplication }
}
