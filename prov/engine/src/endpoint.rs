//! An endpoint: its tables, its peers, and how it is opened and closed. What it does is in `submit` (calls), `receive` (datagrams), `message` (matching and placement), `transmit` and `progress`.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

use rdgram_proto::{Context, Defect, Instant, Local, Moment, PollGap, planted};
use rdgram_wire::Psn;

use crate::acks::Acks;
use crate::alike::Alike;
use crate::bundle::BundleEntry;
use crate::cold::Warmth;
use crate::count_line::CountLine;
use crate::cq::Entry;
use crate::credit::Credits;
use crate::datapath::{Datapath, TxBatch};
use crate::direct::Predictor;
use crate::domain::Shared;
use crate::entries::{PostedEntry, RxEntry, Token, TxEntry, TxStage};
use crate::grants::Grants;
use crate::link::Neighbours;
use crate::matching::{MatchQueue, PeerId};
use crate::mem;
use crate::notices::Notices;
use crate::peer::{Names, PEERS_MAX, Peer, context_id};
use crate::pool::Pool;
use crate::slab::{Key, Slab};
use crate::transmit::Owner;
use crate::types::*;
use crate::watch::Watch;

/// Datagrams per transmit batch: two full segmentation trains of 64.
const TX_BATCH: usize = 128;
/// A route's MTU until the host was asked: the least that IPv6 allows.
const PROVISIONAL_MTU: u16 = 1280;

/// The endpoint with its datapath: kept apart so that a received batch, which borrows the datapath, can be handled.
#[derive(Debug)]
pub(crate) struct Endpoint<D> {
    pub(crate) datapath: D,
    pub(crate) core: Core,
}

/// What is bound to an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    pub(crate) tx_cq: Option<CqId>,
    pub(crate) rx_cq: Option<CqId>,
    pub(crate) av: Option<AvId>,
    pub(crate) cntrs: Vec<(CntrId, CounterEvents)>,
}

impl Bindings {
    /// A counter counts some of these events.
    pub(crate) fn counts(&self, events: CounterEvents) -> bool {
        self.cntrs.iter().any(|(_, bound)| bound.intersects(events))
    }
}

/// Life of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Opened,
    Enabled,
    Closing,
}

/// A claimed message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) context: usize,
    pub(crate) message: Key,
}

/// Everything of an endpoint but its datapath.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: EpConfig,
    pub(crate) name: SocketAddr,
    pub(crate) state: State,
    pub(crate) incarnation: u64,
    pub(crate) credits: Credits,
    pub(crate) bindings: Bindings,
    pub(crate) stats: Stats,
    // Operations.
    pub(crate) txs: Slab<TxEntry>,
    pub(crate) posts: Slab<PostedEntry>,
    pub(crate) rxs: Slab<RxEntry>,
    pub(crate) bundles: Slab<BundleEntry>,
    pub(crate) injected: Pool,
    pub(crate) unexpected: Pool,
    pub(crate) tagged: MatchQueue,
    pub(crate) untagged: MatchQueue,
    pub(crate) claimed: Vec<Claimed>,
    pub(crate) grants: Grants,
    /// One-sided operations that counters here count.
    pub(crate) counting: CountLine,
    // Peers.
    pub(crate) peers: Vec<Peer>,
    pub(crate) by_name: Names,
    /// Peer of each address-vector index, valid for `routes_version`.
    pub(crate) routes: Vec<Option<PeerId>>,
    pub(crate) routes_version: u32,
    pub(crate) contexts: usize,
    /// Peers whose context has not been told its route's MTU.
    pub(crate) fresh: Vec<PeerId>,
    secret: (u64, u64),
    drawn: u64,
    // Progress.
    pub(crate) poll_gap: PollGap,
    /// Sends since the last progress call.
    pub(crate) burst: u32,
    /// Bytes of them that are held back.
    pub(crate) held_bytes: u64,
    pub(crate) next_timeout: Option<Instant>,
    /// Datagrams read since a timer is due, or a neighbour ended, without coming to the end of what waits in the socket.
    pub(crate) behind: usize,
    pub(crate) ready: VecDeque<PeerId>,
    pub(crate) acks: Acks,
    pub(crate) timed: Vec<PeerId>,
    /// The peer of the packets that were handled last, while its context's wishes are not noted.
    pub(crate) heard: Option<PeerId>,
    /// What the next packet of it is, if it differs from the last one only as the next of a train does.
    pub(crate) alike: Option<Alike>,
    pub(crate) watch: Watch,
    pub(crate) warmth: Warmth,
    pub(crate) notices: Notices,
    pub(crate) predictor: Predictor,
    pub(crate) neighbours: Neighbours,
    /// For a list of slices that is needed for one call.
    pub(crate) slices: Vec<mem::UserSlice>,
    pub(crate) batch: TxBatch,
    /// Of each datagram of the batch.
    pub(crate) batch_owners: Vec<Owner>,
    /// The datapath took no more: try again at the next progress call.
    pub(crate) blocked: bool,
    #[cfg(feature = "trace")]
    pub(crate) trace: Option<Vec<crate::trace::TraceEvent>>,
}

impl Core {
    pub(crate) fn new<D: Datapath>(config: EpConfig, datapath: &D) -> Self {
        Self {
            name: datapath.local_address(),
            state: State::Opened,
            incarnation: 0,
            credits: Credits::new(datapath.receive_buffer()),
            bindings: Bindings::default(),
            stats: Stats::default(),
            txs: Slab::new(),
            posts: Slab::new(),
            rxs: Slab::new(),
            bundles: Slab::new(),
            injected: Pool::new(config.memory_ceiling),
            unexpected: Pool::new(config.unexpected_pool),
            tagged: MatchQueue::default(),
            untagged: MatchQueue::default(),
            claimed: Vec::new(),
            grants: Grants::new(&config, datapath.receive_buffer()),
            counting: CountLine::default(),
            peers: Vec::new(),
            by_name: Names::default(),
            routes: Vec::new(),
            routes_version: 0,
            contexts: 0,
            fresh: Vec::new(),
            secret: (0, 0),
            drawn: 0,
            poll_gap: PollGap::default(),
            burst: 0,
            held_bytes: 0,
            next_timeout: None,
            behind: 0,
            ready: VecDeque::new(),
            acks: Acks::default(),
            timed: Vec::new(),
            heard: None,
            alike: None,
            watch: Watch::default(),
            warmth: Warmth::default(),
            notices: Notices::default(),
            predictor: Predictor::default(),
            neighbours: Neighbours::default(),
            slices: Vec::new(),
            batch: TxBatch::new(TX_BATCH),
            batch_owners: Vec::with_capacity(TX_BATCH),
            blocked: false,
            #[cfg(feature = "trace")]
            trace: None,
            config,
        }
    }

    /// Time, as the transport wants it.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        Moment { now, rto_floor: self.poll_gap.rto_floor(self.config.transport.rto_min) }
    }

    // ---- peers

    /// The peer of that name, made when new. `None` beyond the largest number of peers.
    pub(crate) fn peer_named(&mut self, name: SocketAddr) -> Option<PeerId> {
        let known = self.by_name.find(&self.peers, &name);
        if known.is_some() {
            return known;
        }
        if self.peers.len() >= PEERS_MAX {
            return None;
        }
        let peer = PeerId(u32::try_from(self.peers.len()).expect("at most PEERS_MAX"));
        self.peers.push(Peer::new(name, name == self.name));
        self.by_name.insert(&self.peers, peer);
        Some(peer)
    }

    pub(crate) fn peer(&self, peer: PeerId) -> &Peer {
        &self.peers[peer.0 as usize]
    }

    pub(crate) fn peer_mut(&mut self, peer: PeerId) -> &mut Peer {
        &mut self.peers[peer.0 as usize]
    }

    /// The peer behind an address-vector index.
    pub(crate) fn peer_at(&mut self, shared: &Shared, address: FiAddr) -> Result<PeerId, SubmitError> {
        let av = self.bindings.av.and_then(|av| shared.av(av)).ok_or(SubmitError::NotBound)?;
        if av.version != self.routes_version {
            self.routes.clear();
            self.routes_version = av.version;
        }
        let index = usize::try_from(address.0).map_err(|_| SubmitError::BadAddress)?;
        if let Some(Some(peer)) = self.routes.get(index) {
            return Ok(*peer);
        }
        let name = av.lookup(address).ok_or(SubmitError::BadAddress)?;
        let peer = self.peer_named(name).ok_or(SubmitError::NoMemory)?;
        if self.routes.len() <= index {
            self.routes.resize(index + 1, None);
        }
        self.routes[index] = Some(peer);
        Ok(peer)
    }

    /// The address-vector index of a peer.
    pub(crate) fn fi_addr(&mut self, shared: &Shared, peer: PeerId) -> FiAddr {
        let Some(av) = self.bindings.av.and_then(|av| shared.av(av)) else { return FiAddr::UNSPEC };
        let peer = &mut self.peers[peer.0 as usize];
        if peer.av_version != Some(av.version) {
            peer.av_version = Some(av.version);
            peer.fi_addr = av.find(&peer.name);
        }
        peer.fi_addr
    }

    /// The peer's context, made when there is none.
    pub(crate) fn ensure_context(&mut self, peer: PeerId, now: Instant) {
        self.thaw(peer);
        if self.peer(peer).context.is_some() {
            return;
        }
        self.contexts += 1;
        self.fresh.push(peer);
        // A receive directed at it may have been posted long ago.
        self.watch.begin();
        let credit = self.credits.standing();
        let random = self.random();
        let entry = &mut self.peers[peer.0 as usize];
        entry.contexts_made = entry.contexts_made.wrapping_add(1) & 0x0fff;
        #[allow(clippy::cast_possible_truncation, reason = "two halves of one random number")]
        let (cookie, initial_psn) = (random as u32, Psn((random >> 32) as u32));
        // Every second context of the simulator begins shortly before PSNs wrap: others get there once in four billion packets.
        #[cfg(feature = "trace")]
        let initial_psn = if cookie & 1 == 0 { Psn(u32::MAX - initial_psn.0 % 256) } else { initial_psn };
        let local = Local {
            ctx: context_id(peer, entry.contexts_made),
            cookie,
            incarnation: self.incarnation,
            initial_psn,
            name: self.name,
            credit,
            route_mtu: PROVISIONAL_MTU,
            ipv6: entry.destination().is_ipv6(),
        };
        let mut context = Context::new(&self.config.transport, local, now);
        if entry.ended.is_some() {
            context.forgo_grace(now);
        }
        entry.context = Some(Box::new(context));
    }

    /// Tells contexts made since the last call what their route carries. A context may be made while the datapath is lent to a received batch,
    /// so this waits until just before anything is sent.
    pub(crate) fn settle_fresh<D: Datapath>(&mut self, datapath: &D) {
        while let Some(peer) = self.fresh.pop() {
            let mtu = datapath.route_mtu(self.peer(peer).destination());
            if let Some(context) = self.context_mut(peer) {
                context.set_route_mtu(mtu);
            }
        }
    }

    /// The next of a keyed pseudorandom sequence: what an outsider must not guess (cookies, initial PSNs).
    fn random(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret.0);
        hasher.write_u64(self.secret.1);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }

    /// Puts the peer on the list of those with something to send.
    pub(crate) fn make_ready(&mut self, peer: PeerId) {
        self.thaw(peer);
        let entry = &mut self.peers[peer.0 as usize];
        if !entry.ready {
            entry.ready = true;
            self.ready.push_back(peer);
        }
    }

    /// Takes the context's timer and acknowledgement wishes into the endpoint's lists. After every call that may have changed them.
    pub(crate) fn note_context(&mut self, peer: PeerId) {
        self.touch(peer);
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = &entry.context else { return };
        if let Some(timeout) = context.next_timeout() {
            self.next_timeout = Some(self.next_timeout.map_or(timeout, |next| next.min(timeout)));
            if !entry.timed {
                entry.timed = true;
                self.timed.push(peer);
            }
        }
        self.list_ack(peer);
    }

    // ---- completions

    pub(crate) fn complete_tx(&mut self, shared: &mut Shared, entry: Entry) {
        shared.push(self.bindings.tx_cq, entry);
    }

    pub(crate) fn complete_rx(&mut self, shared: &mut Shared, entry: Entry) {
        shared.push(self.bindings.rx_cq, entry);
    }

    /// Reports what came whole from a peer; with FI_SOURCE_ERR as an error, when the peer has no address here.
    pub(crate) fn complete_from(&mut self, shared: &mut Shared, peer: PeerId, completion: Completion) {
        if self.config.source_errors && completion.source == FiAddr::UNSPEC {
            shared.push_from_stranger(self.bindings.rx_cq, completion, self.peer(peer).name);
        } else {
            self.complete_rx(shared, Entry::Success(completion));
        }
    }

    /// Adds one to the counters bound for `events`.
    pub(crate) fn count(&self, shared: &mut Shared, events: CounterEvents, error: bool) {
        for (cntr, bound) in &self.bindings.cntrs {
            if bound.intersects(events) {
                shared.count(*cntr, error);
            }
        }
    }

    /// Bytes that operation entries and blocks occupy.
    pub(crate) fn memory(&self) -> usize {
        self.txs.memory()
            + self.posts.memory()
            + self.rxs.memory()
            + self.bundles.memory()
            + self.injected.handed_out()
            + self.unexpected.handed_out()
    }

    // ---- operation entries

    /// Frees a send and what it holds.
    pub(crate) fn release_tx(&mut self, key: Key) {
        let entry = &mut self.txs[key];
        entry.slices.clear();
        entry.sink.clear();
        entry.remote.clear();
        entry.stage = TxStage::Free;
        let (peer, class) = (entry.peer, entry.class());
        let began = entry.started && !class.is_empty();
        if let Some(block) = entry.block.take() {
            self.injected.put(block);
        }
        self.txs.release(key);
        if began {
            let entry = self.peer_mut(peer);
            entry.queues.underway.remove(class);
            // A fence, or an order, may have waited for this one.
            if !entry.queues.starts.is_empty() {
                self.make_ready(peer);
            }
        }
    }

    /// Frees a posted receive.
    pub(crate) fn release_posted(&mut self, key: Key) {
        self.posts[key].slices.clear();
        self.posts.release(key);
    }

    /// Frees a message and its staging block.
    pub(crate) fn release_rx(&mut self, key: Key) {
        let rx = &mut self.rxs[key];
        let (peer, missing) = (rx.peer, rx.grant.missing(rx.received));
        if !planted(Defect::GrantLeak) {
            self.grants.close(&mut rx.grant, rx.received);
        }
        if let Some(block) = rx.staging.take() {
            // The operands of an atomic are held apart: they are never refused for want of room.
            if rx.atomic.is_some() { self.injected.put(block) } else { self.unexpected.put(block) }
        }
        self.rxs[key].reset();
        self.rxs.release(key);
        self.note_grant_used(peer, missing);
    }

    pub(crate) fn queue_of(&mut self, tagged: bool) -> &mut MatchQueue {
        if tagged { &mut self.tagged } else { &mut self.untagged }
    }
}

impl<D: Datapath> Endpoint<D> {
    pub(crate) fn new(config: EpConfig, datapath: D) -> Self {
        let core = Core::new(config, &datapath);
        Self { datapath, core }
    }

    pub(crate) fn enable(&mut self) {
        self.core.incarnation = self.datapath.incarnation();
        self.core.secret = (self.datapath.random(), self.datapath.random());
        self.core.injected = Pool::new(self.core.config.memory_ceiling);
        self.core.unexpected = Pool::new(self.core.config.unexpected_pool);
        self.core.grants = Grants::new(&self.core.config, self.datapath.receive_buffer());
        // Peers are taken to have a buffer like this one's until they say otherwise: many may begin at once.
        let first_flight = &mut self.core.config.transport.first_flight;
        *first_flight = (*first_flight).min(self.core.credits.standing().packets.into());
        let now = self.datapath.now();
        self.core.neighbours.open(self.datapath.open_local(self.core.incarnation), now);
        self.core.state = State::Enabled;
    }

    /// See [`crate::Domain::ep_shutdown`].
    pub(crate) fn shutdown(&mut self) {
        let core = &mut self.core;
        core.state = State::Closing;
        core.neighbours.forbid_pulls();
        // The domain took the bindings: nothing more is told to the application. Its receive buffers are its own again.
        for key in core.rxs.keys_where(|_| true) {
            core.release_rx(key);
        }
        for key in core.posts.keys_where(|_| true) {
            core.release_posted(key);
        }
        core.tagged = MatchQueue::default();
        core.untagged = MatchQueue::default();
        core.claimed.clear();
        for peer in &mut core.peers {
            let Some(queues) = peer.queues.existing() else { continue };
            queues.order.clear();
            queues.open.clear();
            queues.multi_line.clear();
        }
        for key in core.txs.keys_where(|_| true) {
            core.detach_tx(key);
        }
    }

    /// Sends the acknowledgements that are owed and a close notice to every peer that knows this endpoint. Best effort: a peer that misses it learns
    /// from the port that nobody answers.
    pub(crate) fn say_goodbye(&mut self, shared: &mut Shared) {
        if self.core.state == State::Opened {
            return;
        }
        let at = self.core.moment(self.datapath.now());
        self.core.acknowledge(&mut self.datapath, at, true, shared);
        for index in 0..self.core.peers.len() {
            let peer = PeerId(u32::try_from(index).expect("at most PEERS_MAX"));
            let cold = self.core.peer(peer).cold.is_some();
            self.core.thaw(peer);
            let Some(context) = self.core.context_mut(peer) else { continue };
            let Some(llp) = context.close(at) else { continue };
            self.core.push_bare(peer, llp, 0);
            if cold {
                // Its memory serves the next one.
                self.core.freeze(peer, at.now);
            }
            if self.core.batch.is_full() {
                self.core.flush_batch(&mut self.datapath, at, shared);
            }
        }
        if !self.core.batch.is_empty() {
            self.core.flush_batch(&mut self.datapath, at, shared);
        }
    }

    /// Something that was injected, or accepted and copied, is not sent or not acknowledged yet. What waits for the peer's application alone is not waited for.
    pub(crate) fn lingers(&self) -> bool {
        let unfinished = |tx: &TxEntry| tx.in_flight > 0 || !tx.all_sent();
        // An answer that finds a neighbour's queue full is tried again only here.
        let unanswered = |peer: &Peer| peer.link.up().is_some() && !peer.queues.control.is_empty();
        !self.core.txs.keys_where(unfinished).is_empty() || self.core.peers.iter().any(unanswered)
    }
}

impl Core {
    /// At close: makes an operation independent of the application's memory by copying what may have to be sent again, or drops it when that is unbounded or pointless.
    fn detach_tx(&mut self, key: Key) {
        let entry = &mut self.txs[key];
        entry.sink.clear();
        if entry.block.is_some() {
            return;
        }
        let short = usize::try_from(entry.length).is_ok_and(|length| length <= self.config.eager_max);
        match entry.stage {
            TxStage::Eager | TxStage::Parked | TxStage::Announced | TxStage::Writing if short => {}
            TxStage::Announced => {
                entry.slices.clear();
                entry.stage = TxStage::Abandoned;
                return;
            }
            _ => return self.release_tx(key),
        }
        let length = mem::total(&entry.slices);
        let mut block = self.injected.take_unlimited(length);
        let entry = &mut self.txs[key];
        mem::gather(&entry.slices, 0, &mut block[..length]);
        entry.slices.clear();
        entry.slices.push(mem::UserSlice::of_block(&mut block[..length]));
        entry.block = Some(block);
    }

    /// What a packet's token needs to be built again is still there.
    pub(crate) fn token_lives(&self, token: &Token) -> bool {
        if planted(Defect::AnswerLost) && matches!(token, Token::Response { .. }) {
            return false;
        }
        token
            .operation()
            .is_none_or(|tx| self.txs.get(tx).is_some_and(|entry| entry.stage != TxStage::Withdrawn))
    }
}
