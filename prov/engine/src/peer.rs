//! Peers of an endpoint: one for each name ever sent to, received from, or asked for by a directed receive. A peer outlives its contexts.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::ops::{Deref, DerefMut};
use std::collections::VecDeque;
use std::hash::RandomState;

use hashbrown::HashTable;
use rdgram_proto::{Cold, Context};
use rdgram_wire::Control;

use crate::acks::Listed;
use crate::entries::Token;
use crate::link::Link;
use crate::matching::PeerId;
use crate::remnants::Remnants;
use crate::slab::Key;
use crate::types::{FiAddr, RemoteSlice};
use crate::underway::Underway;
use crate::watch::Awaited;

/// Message sequence numbers of a context begin here (RFC 5041 section 4.2).
const FIRST_MSN: u32 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What the peer is called: the address in address vectors.
    pub(crate) name: SocketAddr,
    /// Where the peer was seen to send from, when that is not its name.
    elsewhere: Option<Box<SocketAddr>>,
    /// It is this endpoint.
    pub(crate) itself: bool,
    pub(crate) context: Option<Box<Context<Token>>>,
    /// The context while the peer is cold: then there is no other, and nothing in the queues.
    pub(crate) cold: Option<Cold>,
    /// Contexts made so far: part of the context id, so that ids of ended contexts name nothing.
    pub(crate) contexts_made: u16,
    /// The last context that ended after joining the peer: most have none.
    pub(crate) ended: Option<Box<Ended>>,
    /// The name's index in the address vector, valid for `av_version`.
    pub(crate) fi_addr: FiAddr,
    pub(crate) av_version: Option<u32>,
    /// The next message's number.
    pub(crate) tx_msn: u32,
    /// The message whose start is to be matched next.
    pub(crate) rx_msn: u32,
    pub(crate) queues: QueuesOnDemand,
    /// A fenced operation was refused before it stood in line: the next one has its fence.
    pub(crate) fence_next: bool,
    /// Bytes of our receive buffer that it may fill beyond the standing credit; it is in the list of those with a share.
    pub(crate) share: u32,
    pub(crate) shares: bool,
    /// Looks through the shares until payload that it was not asked for is forgotten.
    pub(crate) unasked: u8,
    /// Bytes that it was granted and that have not come.
    pub(crate) granted: u64,
    /// In the endpoint's list of peers with something to send.
    pub(crate) ready: bool,
    /// In the endpoint's lists of peers that an acknowledgement is owed to.
    pub(crate) acks: Listed,
    /// In the endpoint's list of peers whose context has a timer.
    pub(crate) timed: bool,
    /// In the endpoint's list of peers that something is awaited of.
    pub(crate) awaited: Awaited,
    /// The user was told that it is silent.
    pub(crate) noticed: bool,
    /// In the endpoint's list of peers that may go cold, after so many more walks.
    pub(crate) warm: bool,
    pub(crate) walks_left: u8,
    /// Whether it can be reached through memory.
    pub(crate) link: Link,
}

/// What is remembered of a context that ended, so that its late packets join no other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// The peer's incarnation.
    pub(crate) incarnation: u64,
    /// The cookie that it issued.
    pub(crate) cookie: u32,
}

/// What is under way between this endpoint and a peer.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Messages from `rx_msn` on of which something is here: slot `i` is message `rx_msn + i`.
    pub(crate) order: VecDeque<Option<Key>>,
    /// Messages before `rx_msn` with eager payload missing.
    pub(crate) open: Vec<Key>,
    /// Messages on their way into multi-receive buffers, in the order matched: they complete in it (decision 0011).
    pub(crate) multi_line: VecDeque<Key>,
    /// Writes of the peer of which some packets have been placed. The peer says when it gives one up (VOID).
    pub(crate) writes: Vec<IncomingWrite>,
    /// Operations to the peer that began and did not end.
    pub(crate) underway: Underway,
    pub(crate) control: VecDeque<Control>,
    /// Sends whose start, or eager payload, is to be sent: in order.
    pub(crate) starts: VecDeque<Key>,
    /// Messages of which all but the last packet is sent, because others followed them.
    pub(crate) remnants: Remnants,
    /// Granted sends: in turns.
    pub(crate) bulk: VecDeque<Key>,
}

static NOTHING: Queues = Queues {
    order: VecDeque::new(),
    open: Vec::new(),
    multi_line: VecDeque::new(),
    writes: Vec::new(),
    underway: Underway::NONE,
    control: VecDeque::new(),
    starts: VecDeque::new(),
    remnants: Remnants::NONE,
    bulk: VecDeque::new(),
};

/// The queues of a peer: reading them makes none, the first change does.
#[derive(Debug, Default)]
pub(crate) struct QueuesOnDemand(Option<Box<Queues>>);

impl Deref for QueuesOnDemand {
    type Target = Queues;
    fn deref(&self) -> &Queues {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for QueuesOnDemand {
    fn deref_mut(&mut self) -> &mut Queues {
        self.0.get_or_insert_default()
    }
}

impl QueuesOnDemand {
    /// The queues, if there are any: for what only takes out.
    pub(crate) fn existing(&mut self) -> Option<&mut Queues> {
        self.0.as_deref_mut()
    }

    /// Takes the queues away, with their memory.
    pub(crate) fn take(&mut self) -> Option<Box<Queues>> {
        self.0.take()
    }

    /// Gives the memory of empty queues, where there are none.
    pub(crate) fn give(&mut self, queues: Option<Box<Queues>>) {
        self.0 = self.0.take().or(queues);
    }

    /// Nothing is in them, and no operation is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.order.is_empty()
            && self.open.is_empty()
            && self.multi_line.is_empty()
            && self.writes.is_empty()
            && self.underway.is_empty()
            && self.control.is_empty()
            && self.starts.is_empty()
            && self.remnants.is_empty()
            && self.bulk.is_empty()
    }
}

impl Peer {
    pub(crate) fn new(name: SocketAddr, itself: bool) -> Self {
        Self {
            name,
            elsewhere: None,
            itself,
            context: None,
            cold: None,
            contexts_made: 0,
            ended: None,
            fi_addr: FiAddr::UNSPEC,
            av_version: None,
            tx_msn: FIRST_MSN,
            rx_msn: FIRST_MSN,
            queues: QueuesOnDemand::default(),
            fence_next: false,
            share: 0,
            shares: false,
            unasked: 0,
            granted: 0,
            ready: false,
            acks: Listed::default(),
            timed: false,
            awaited: Awaited::No,
            noticed: false,
            warm: false,
            walks_left: 0,
            link: Link::default(),
        }
    }

    /// Drops the context and all that belonged to it. Operation entries are the endpoint's to fail.
    pub(crate) fn forget_context(&mut self) {
        if let Some(record) = self.context.take().and_then(|context| context.peer().copied()) {
            self.note_ended(record.incarnation, record.cookie);
        }
        self.tx_msn = FIRST_MSN;
        self.forget_received();
        self.fence_next = false;
        if let Some(queues) = self.queues.existing() {
            queues.underway = Underway::NONE;
            queues.control.clear();
            queues.starts.clear();
            queues.remnants = Remnants::NONE;
            queues.bulk.clear();
        }
    }

    /// Nothing was received in this context yet.
    pub(crate) fn forget_received(&mut self) {
        self.rx_msn = FIRST_MSN;
        if let Some(queues) = self.queues.existing() {
            queues.order.clear();
            queues.open.clear();
            queues.writes.clear();
        }
    }

    /// Remembers the record of a context that ended, so that its late packets join no other.
    pub(crate) fn note_ended(&mut self, incarnation: u64, cookie: u32) {
        self.ended = Some(Box::new(Ended { incarnation, cookie }));
    }

    /// Where datagrams go: the name, until the peer was seen to send from elsewhere.
    pub(crate) fn destination(&self) -> SocketAddr {
        self.elsewhere.as_deref().copied().unwrap_or(self.name)
    }

    /// The peer was seen to send from this address.
    pub(crate) fn note_source(&mut self, source: SocketAddr) {
        if source != self.destination() {
            self.elsewhere = (source != self.name).then(|| Box::new(source));
        }
    }

    /// Something waits to be sent for the first time.
    pub(crate) fn has_queued(&self) -> bool {
        let queues = &*self.queues;
        !(queues.control.is_empty()
            && queues.starts.is_empty()
            && queues.remnants.is_empty()
            && queues.bulk.is_empty())
    }

    /// The id of its context, warm or cold.
    pub(crate) fn context_id(&self) -> Option<u32> {
        let cold = self.cold.as_ref().map(Cold::ctx);
        cold.or_else(|| self.context.as_deref().map(|context| context.local().ctx))
    }
}

/// Peers by name. The table holds no second copy of the names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    peers: HashTable<PeerId>,
    hasher: RandomState,
}

impl Names {
    /// The peer of that name among `peers`.
    pub(crate) fn find(&self, peers: &[Peer], name: &SocketAddr) -> Option<PeerId> {
        let is_it = |peer: &PeerId| peers[peer.0 as usize].name == *name;
        self.peers.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// Adds a peer of `peers` whose name is new.
    pub(crate) fn insert(&mut self, peers: &[Peer], peer: PeerId) {
        let hash = |peer: &PeerId| self.hasher.hash_one(peers[peer.0 as usize].name);
        self.peers.insert_unique(hash(&peer), peer, hash);
    }
}

/// A peer's write of several packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IncomingWrite {
    pub(crate) message_id: u32,
    pub(crate) received: u64,
    /// Where its last byte is, once that has come.
    pub(crate) end: Option<RemoteSlice>,
}

/// Bits of a context id that are the peer's index plus one; the rest counts the peer's contexts.
const PEER_BITS: u32 = 20;

/// The id of a peer's `made`-th context. Never 0.
pub(crate) fn context_id(peer: PeerId, made: u16) -> u32 {
    (peer.0 + 1) | (u32::from(made) << PEER_BITS)
}

/// The peer that a context id may be of: the caller compares the whole id with the context's.
pub(crate) fn peer_of(context_id: u32) -> Option<PeerId> {
    (context_id & ((1 << PEER_BITS) - 1)).checked_sub(1).map(PeerId)
}

/// Most peers of an endpoint.
pub(crate) const PEERS_MAX: usize = (1 << PEER_BITS) - 2;
