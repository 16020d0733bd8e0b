//! Peers on the same host: how they are met, what goes through memory instead of datagrams, and how it ends.
//!
//! Operations, matching and placement are the same on both routes; a segment that goes through memory has no PSN, because nothing there is lost. A peer is met after a few packets, and
//! when its memory is there nothing new begins by datagrams; once all that was sent that way is acknowledged, everything goes through memory. So no message ever overtakes another one's route.
//! The context stays: it tells incarnations apart, and its packets wake a sleeping neighbour and ask whether a silent one lives.
//!
//! Must never wait for a neighbour, and never believe one: what it says is checked as a packet is, and a neighbour that says nonsense loses its own route only.

mod arriving;
mod items;
mod putting;

use core::time::Duration;

use rdgram_proto::Instant;
use rdgram_wire::Segment;

use crate::domain::Shared;
use crate::endpoint::{Core, State};
use crate::local::*;
use crate::matching::PeerId;
use crate::slab::Key;
use crate::types::Cause;

/// Packets of a peer before it is met: one that says little is not worth shared memory.
const MEET_AFTER: u8 = 4;
/// Items taken in one progress call before others have their turn.
const ITEMS_MAX: usize = 256;
/// Rounds in which the items of a neighbour that has ended are taken: no queue is longer.
const LAST_ROUNDS: usize = (1 << 16) / ITEMS_MAX + 1;
/// Time between the first two looks at the exchange while something of it is under way, and between the last ones: each time is twice as long as the one before.
/// A neighbour that computes answers late, and until then datagrams do.
const EXCHANGE_FIRST: Duration = Duration::from_micros(20);
const EXCHANGE_LAST: Duration = Duration::from_secs(1);
/// Time between two looks for strangers and for neighbours that ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same while there are none: a stranger is one that has been talking to us, so that we meet it ourselves.
const LOOK_ALONE: Duration = Duration::from_millis(100);
/// Longest sleep while something is awaited of anybody and neighbours may end.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// The same while nothing is: should the datagram that wakes a sleeper get lost, its neighbours wait no longer than this.
const SLEEP_IDLE: Duration = Duration::from_secs(1);
/// How long a waiter sleeps while a neighbour's queue is full: nobody tells when it has room again.
const FULL_RETRY: Duration = Duration::from_micros(200);
/// The socket is looked at no more often than this while only neighbours talk: the bound within which a packet is noticed after a silence.
const SOCKET_EVERY: Duration = Duration::from_micros(20);
/// The same as long as no peer is known that is reached by datagrams only.
const SOCKET_ALONE: Duration = Duration::from_micros(100);
/// After a datagram the socket is looked at in every progress call for so long.
const SOCKET_BUSY: Duration = Duration::from_millis(1);
/// Longest message that goes through memory before it is asked for, bytes, whatever both sides prefer: what a receiver can be made to keep.
pub(crate) const EAGER_MAX: usize = 64 << 10;

const _: () = assert!(HEADER_ROOM >= Segment::HEADER_MAX);

/// How a segment came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Network,
    Memory,
}

/// Whether a peer can be reached through memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It was not tried yet: so many packets came.
    Unmet(u8),
    /// It cannot.
    Absent,
    /// That is being found out.
    Meeting(Neighbour),
    /// It can, but not everything that was sent by datagrams is acknowledged.
    Draining(Neighbour),
    Up(Neighbour),
}

impl Default for Link {
    fn default() -> Self {
        Self::Unmet(0)
    }
}

impl Link {
    /// The neighbour that it is, up or not.
    pub(crate) fn neighbour(self) -> Option<Neighbour> {
        match self {
            Self::Unmet(_) | Self::Absent => None,
            Self::Meeting(neighbour) | Self::Draining(neighbour) | Self::Up(neighbour) => Some(neighbour),
        }
    }

    /// The neighbour, when everything goes through memory.
    #[inline]
    pub(crate) fn up(self) -> Option<Neighbour> {
        if let Self::Up(neighbour) = self { Some(neighbour) } else { None }
    }
}

/// What an endpoint knows of the route through memory, and of when to look where.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    route: Option<Box<dyn LocalRoute>>,
    /// Peer of each neighbour.
    peers: Vec<Option<PeerId>>,
    /// Bytes that each may have put and we have not taken, and bytes that one progress call takes.
    waiting_max: usize,
    taken_max: usize,
    /// Neighbours met and not left.
    met: usize,
    /// Some peer cannot be reached through memory.
    strangers: bool,
    asleep: bool,
    unwelcome: bool,
    look_at: Instant,
    exchange_every: Duration,
    socket_at: Instant,
    socket_busy_until: Instant,
    /// Peers whose queue had no room.
    stalled: Vec<PeerId>,
    /// Peers that have to be sent a datagram, because they sleep.
    rings: Vec<PeerId>,
    /// Messages to copy out of their senders' memory.
    pulls: Vec<Key>,
    /// Operations of which a part was put.
    advanced: Vec<Key>,
    /// Peers that have ended, as soon as what they put before is taken.
    ending: Vec<(PeerId, Cause)>,
}

impl Neighbours {
    pub(crate) fn open(&mut self, route: Option<Box<dyn LocalRoute>>, now: Instant) {
        if let Some(route) = &route {
            self.waiting_max = route.waiting_max();
            self.taken_max = ITEMS_MAX * route.piece_max();
        }
        self.route = route;
        self.exchange_every = EXCHANGE_LAST;
        self.look_at = now + LOOK_ALONE;
    }

    fn peer(&self, neighbour: Neighbour) -> Option<PeerId> {
        self.peers.get(usize::from(neighbour.0)).copied().flatten()
    }

    fn note(&mut self, neighbour: Neighbour, peer: PeerId) {
        let index = usize::from(neighbour.0);
        if self.peers.len() <= index {
            self.peers.resize(index + 1, None);
        }
        if self.peers[index].replace(peer).is_none() {
            self.met += 1;
        }
    }

    fn forget(&mut self, neighbour: Neighbour) {
        if self.peers.get_mut(usize::from(neighbour.0)).and_then(Option::take).is_some() {
            self.met -= 1;
        }
    }

    /// Nobody waits for anything here.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pulls.is_empty()
            && self.ending.is_empty()
            && self.route.as_ref().is_none_or(|route| self.met == 0 || !route.has_items())
    }

    /// Counters of the route.
    pub(crate) fn stats(&self) -> LocalStats {
        self.route.as_ref().map_or_else(LocalStats::default, |route| route.stats())
    }

    /// From now on no neighbour may copy from this process.
    pub(crate) fn forbid_pulls(&mut self) {
        if let Some(route) = &mut self.route {
            route.forbid_pulls();
        }
    }

    /// Bytes of payload that nobody asked for and that honest neighbours can have put before they saw that it is unwelcome.
    pub(crate) fn unasked_max(&self) -> usize {
        // A block is up to twice as long as what it holds.
        2 * (self.met * (self.waiting_max + EAGER_MAX) + self.taken_max)
    }

    /// Neighbours have ended that are still to be taken leave of.
    #[inline]
    pub(crate) fn has_ends(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Messages wait to be copied out of their senders' memory.
    #[inline]
    pub(crate) fn has_pulls(&self) -> bool {
        !self.pulls.is_empty()
    }

    /// A message waits to be copied out of its sender's memory.
    pub(crate) fn pull(&mut self, key: Key) {
        self.pulls.push(key);
    }

    /// Whether a progress call may leave the socket alone: only neighbours have talked lately.
    #[inline]
    pub(crate) fn spares_socket(&self, now: Instant) -> bool {
        self.met > 0 && now < self.socket_at && now >= self.socket_busy_until
    }

    /// The socket was looked at; `busy`: something came or went there.
    #[inline]
    pub(crate) fn note_socket(&mut self, now: Instant, busy: bool) {
        if self.met > 0 {
            self.socket_at = now + if self.strangers { SOCKET_EVERY } else { SOCKET_ALONE };
            if busy {
                self.socket_busy_until = now + SOCKET_BUSY;
            }
        }
    }

    /// Before a sleep: neighbours have to ring from now on. False when there is work already.
    pub(crate) fn sleep(&mut self) -> bool {
        let Some(route) = self.route.as_mut().filter(|_| self.met > 0) else { return true };
        if !self.ending.is_empty() || !self.pulls.is_empty() {
            return false;
        }
        self.asleep = route.sleep();
        self.asleep
    }

    /// How long a sleep may last, as far as neighbours matter; `awaited`: something is awaited of anybody.
    pub(crate) fn sleep_limit(&self, awaited: bool) -> Option<Duration> {
        let route = self.route.as_ref()?;
        if !self.stalled.is_empty() {
            return Some(FULL_RETRY);
        }
        if route.is_meeting() {
            return Some(self.exchange_every);
        }
        (self.met > 0).then_some(if awaited { SLEEP_MAX } else { SLEEP_IDLE })
    }
}

// ---- meeting and parting

impl Core {
    /// A packet of the peer was handled: after some of them it is met.
    #[inline]
    pub(crate) fn note_heard(&mut self, peer: PeerId) {
        if let Link::Unmet(packets) = self.peer(peer).link {
            if self.neighbours.route.is_some() {
                self.consider(peer, packets);
            }
        }
    }

    fn consider(&mut self, peer: PeerId, packets: u8) {
        if packets < MEET_AFTER {
            self.peer_mut(peer).link = Link::Unmet(packets + 1);
            return;
        }
        let incarnation = self.context_mut(peer).and_then(|context| context.peer_incarnation());
        if let Some(incarnation) = incarnation {
            self.meet(peer, incarnation);
        }
    }

    fn meet(&mut self, peer: PeerId, incarnation: u64) {
        let name = self.peer(peer).name;
        let Some(route) = self.neighbours.route.as_mut().filter(|_| self.state == State::Enabled) else {
            return;
        };
        self.peers[peer.0 as usize].link = match route.meet(name, incarnation) {
            Some(neighbour) => {
                self.neighbours.note(neighbour, peer);
                self.neighbours.look_at = Instant::ZERO;
                self.neighbours.exchange_every = EXCHANGE_FIRST;
                Link::Meeting(neighbour)
            }
            None => {
                self.neighbours.strangers = true;
                Link::Absent
            }
        };
    }

    fn on_local_event(&mut self, event: LocalEvent) {
        match event {
            LocalEvent::Up(neighbour) => {
                let Some(peer) = self.neighbours.peer(neighbour) else { return };
                if self.peer(peer).link == Link::Meeting(neighbour) {
                    self.peer_mut(peer).link = Link::Draining(neighbour);
                    self.stats.links += 1;
                    self.make_ready(peer);
                }
            }
            LocalEvent::Absent(neighbour) => {
                if let Some(peer) = self.neighbours.peer(neighbour) {
                    self.neighbours.forget(neighbour);
                    self.neighbours.strangers = true;
                    self.peer_mut(peer).link = Link::Absent;
                }
            }
            LocalEvent::Stranger { name, incarnation } => {
                let Some(peer) = self.by_name.find(&self.peers, &name) else { return };
                self.thaw(peer);
                let known = self.context_mut(peer).and_then(|context| context.peer_incarnation());
                if known == Some(incarnation) && matches!(self.peer(peer).link, Link::Unmet(_)) {
                    self.meet(peer, incarnation);
                }
            }
        }
    }

    /// The exchange with neighbours, and who of them has ended.
    fn look_around(&mut self, now: Instant) {
        let Some(mut route) = self.neighbours.route.take() else { return };
        while let Some(event) = route.poll() {
            // An answer to it is a call of the route.
            self.neighbours.route = Some(route);
            self.on_local_event(event);
            route = self.neighbours.route.take().expect("put back just now");
        }
        while let Some(loss) = route.poll_loss() {
            let (neighbour, cause) = match loss {
                Loss::Died(neighbour) => (neighbour, Cause::Refused),
                Loss::Corrupt(neighbour) => (neighbour, Cause::Corrupt),
            };
            if let Some(peer) = self.neighbours.peer(neighbour) {
                self.begin_end(peer, cause);
            }
        }
        let exchange = &mut self.neighbours.exchange_every;
        let every = if self.neighbours.met == 0 { LOOK_ALONE } else { LOOK_EVERY };
        self.neighbours.look_at = now + every.min(*exchange);
        *exchange = (*exchange * 2).min(EXCHANGE_LAST);
        self.neighbours.route = Some(route);
    }

    /// A neighbour has ended. What it put into our queue before, and what it said in order by datagrams, comes first.
    pub(crate) fn begin_end(&mut self, peer: PeerId, cause: Cause) {
        self.neighbours.socket_at = Instant::ZERO;
        match self.neighbours.ending.iter_mut().find(|(other, _)| *other == peer) {
            // That it closed says more than that it is gone, or that nobody is bound to its port.
            Some((_, known)) if cause == Cause::Closed => *known = cause,
            Some(_) => {}
            None => {
                // Of now, not of when some timer came due.
                self.behind = 0;
                self.neighbours.ending.push((peer, cause));
            }
        }
    }

    /// Ends the peers that are to end, when the socket has been read to its end.
    pub(crate) fn finish_ends(&mut self, shared: &mut Shared) {
        if self.neighbours.ending.is_empty() {
            return;
        }
        for _ in 0..LAST_ROUNDS {
            if self.take_items(shared) == 0 {
                break;
            }
            self.tell_room();
        }
        self.run_pulls(shared);
        for (peer, cause) in core::mem::take(&mut self.neighbours.ending) {
            self.thaw(peer);
            self.fail_peer(peer, cause, shared);
        }
    }

    /// The peer's context has ended, and its route with it.
    pub(crate) fn part_from(&mut self, peer: PeerId) {
        let entry = self.peer_mut(peer);
        let Some(neighbour) = core::mem::take(&mut entry.link).neighbour() else { return };
        self.neighbours.forget(neighbour);
        if let Some(route) = &mut self.neighbours.route {
            route.leave(neighbour);
        }
    }
}
