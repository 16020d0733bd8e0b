//! Peers that nothing has been said to or by for a second go cold: their contexts keep what both sides go by, and everything else serves other peers, or is given
//! back. One walk serves all peers, and there is none once all are cold. Must never take anything from a peer that something is under way to, or owed to.

use core::time::Duration;

use rdgram_proto::{Context, Instant, Local};
use rdgram_wire::Psn;

use crate::endpoint::Core;
use crate::entries::Token;
use crate::matching::PeerId;
use crate::peer::Queues;

/// Time between two walks.
const EVERY: Duration = Duration::from_millis(500);
/// Walks that find a peer untouched before the one that makes it cold: it was idle for a second at least, and for one and a half at most.
const WALKS: u8 = 2;
/// Spares that are kept although nobody needed them lately: few peers that talk now and then are no reason to allocate. Of more, none are.
const SPARES: usize = 4;
/// Entries that lists keep room for, likewise.
const LISTED: usize = 64;
/// The system is not troubled for less memory than this, bytes.
const MUCH: usize = 1 << 20;

/// What a warm peer has and a cold one has not.
#[derive(Debug)]
struct Spare {
    context: Box<Context<Token>>,
    queues: Option<Box<Queues>>,
}

/// Who is warm, and when to look at them again.
#[derive(Debug, Default)]
pub(crate) struct Warmth {
    due: Option<Instant>,
    /// Peers that may go cold. One that nothing but another packet can change is not here, cold or not.
    warm: Vec<PeerId>,
    spares: Vec<Spare>,
    /// Peers that became warm again since the last walk: so many spares are worth keeping.
    thawed: usize,
    /// Bytes of contexts given back, of which the datapath has not been told.
    released: usize,
}

impl Warmth {
    /// Plans a walk when there is something to look at. Some when none was planned before.
    #[inline]
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Instant> {
        if self.warm.is_empty() || self.due.is_some() {
            return None;
        }
        self.due = Some(now + EVERY);
        self.due
    }

    /// Whether all is cold, and much was given back since this was true last.
    pub(crate) fn has_released(&mut self) -> bool {
        let much = self.due.is_none() && self.released >= MUCH;
        if much {
            self.released = 0;
        }
        much
    }

    /// Keeps as many spares as were needed since the last walk, or all when they are few.
    fn shrink(&mut self) {
        let needed = core::mem::take(&mut self.thawed);
        if self.spares.len() > needed.max(SPARES) {
            self.released += (self.spares.len() - needed) * size_of::<Context<Token>>();
            self.spares.truncate(needed);
        }
    }
}

impl Core {
    /// Something happened in a peer's context.
    #[inline]
    pub(crate) fn touch(&mut self, peer: PeerId) {
        let entry = &mut self.peers[peer.0 as usize];
        entry.walks_left = WALKS;
        if !entry.warm {
            entry.warm = true;
            self.warmth.warm.push(peer);
        }
    }

    /// Makes a cold peer warm: before anything that needs its context.
    #[inline]
    pub(crate) fn thaw(&mut self, peer: PeerId) {
        if self.peers[peer.0 as usize].cold.is_some() {
            self.thaw_cold(peer);
        }
    }

    fn thaw_cold(&mut self, peer: PeerId) {
        let Some(cold) = self.peer_mut(peer).cold.take() else { return };
        let Spare { mut context, queues } = self.warmth.spares.pop().unwrap_or_else(|| self.spare());
        context.thaw(&cold);
        self.warmth.thawed += 1;
        self.stats.peers_thawed += 1;
        let entry = self.peer_mut(peer);
        entry.context = Some(context);
        entry.queues.give(queues);
        self.touch(peer);
    }

    /// Makes a peer cold, when nothing is under way. False when something is.
    pub(crate) fn freeze(&mut self, peer: PeerId, now: Instant) -> bool {
        let entry = &mut self.peers[peer.0 as usize];
        if entry.ready || entry.acks.is_any() || !entry.queues.is_idle() {
            return false;
        }
        let Some(mut context) = entry.context.take() else { return false };
        entry.cold = context.freeze(now);
        if entry.cold.is_none() {
            entry.context = Some(context);
            return false;
        }
        let queues = entry.queues.take();
        self.warmth.spares.push(Spare { context, queues });
        true
    }

    /// Makes the peers cold that have been idle for long, when it is time to look.
    pub(crate) fn cool(&mut self, now: Instant) {
        if self.warmth.due.is_some_and(|due| due <= now) {
            let mut warm = core::mem::take(&mut self.warmth.warm);
            warm.retain(|peer| self.stays_warm(*peer, now));
            self.warmth.warm = warm;
            self.warmth.shrink();
            let done = self.warmth.warm.is_empty() && self.warmth.spares.len() <= SPARES;
            self.warmth.due = (!done).then(|| now + EVERY);
            if done {
                self.release_unused();
            }
        }
        if let Some(due) = self.warmth.due {
            self.next_timeout = Some(self.next_timeout.map_or(due, |next| next.min(due)));
        }
    }

    /// Whether the peer has to be looked at again.
    fn stays_warm(&mut self, peer: PeerId, now: Instant) -> bool {
        let entry = self.peer_mut(peer);
        let busy = entry.context.as_deref().is_some_and(|context| context.next_timeout().is_some());
        if busy || entry.walks_left > 0 {
            entry.walks_left = entry.walks_left.saturating_sub(1);
            return true;
        }
        entry.warm = false;
        self.freeze(peer, now);
        false
    }

    /// Nobody is warm: what the last burst needed is given back, as far as nothing uses it.
    fn release_unused(&mut self) {
        self.warmth.spares.shrink_to(LISTED);
        self.ready.shrink_to(LISTED);
        for list in [&mut self.warmth.warm, &mut self.timed, &mut self.fresh] {
            list.shrink_to(LISTED);
        }
        self.acks.shrink_to(LISTED);
        self.txs.shrink();
        self.rxs.shrink();
        self.posts.shrink();
        self.bundles.shrink();
        self.injected.shrink();
        self.unexpected.shrink();
    }

    /// For a cold context: which one does not matter.
    fn spare(&self) -> Spare {
        let local = Local {
            ctx: 0,
            cookie: 0,
            incarnation: self.incarnation,
            initial_psn: Psn(0),
            name: self.name,
            credit: self.credits.standing(),
            route_mtu: 0,
            ipv6: false,
        };
        Spare { context: Box::new(Context::new(&self.config.transport, local, Instant::ZERO)), queues: None }
    }

    /// Where a peer's context stands, for diagnostics.
    pub(crate) fn describe(&self, peer: PeerId) -> Option<String> {
        let entry = self.peer(peer);
        if let Some(cold) = &entry.cold {
            let mut context = self.spare().context;
            context.thaw(cold);
            return Some(context.describe() + " cold");
        }
        Some(entry.context.as_deref()?.describe())
    }
}
