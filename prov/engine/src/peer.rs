//! Peers of an endpoint: one for each name ever sent to, received from, or asked for by a directed receive. A peer outlives its contexts.

use core::net::SocketAddr;
use std::collections::VecDeque;

use rdgram_proto::Context;
use rdgram_wire::Control;

use crate::entries::Token;
use crate::matching::PeerId;
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
    /// Where datagrams go: the name, until the peer was seen to send from elsewhere.
    pub(crate) destination: SocketAddr,
    /// It is this endpoint.
    pub(crate) itself: bool,
    pub(crate) context: Option<Box<Context<Token>>>,
    /// Contexts made so far: part of the context id, so that ids of ended contexts name nothing.
    pub(crate) contexts_made: u16,
    /// The peer's incarnation in the last context that ended after joining it, and the cookie it issued there.
    pub(crate) last_incarnation: Option<u64>,
    pub(crate) last_cookie: u32,
    /// The name's index in the address vector, valid for `av_version`.
    pub(crate) fi_addr: FiAddr,
    pub(crate) av_version: Option<u32>,
    /// The next message's number.
    pub(crate) tx_msn: u32,
    /// The message whose start is to be matched next.
    pub(crate) rx_msn: u32,
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
    /// A fenced operation was refused before it stood in line: the next one has its fence.
    pub(crate) fence_next: bool,
    pub(crate) control: VecDeque<Control>,
    /// Sends whose start, or eager payload, is to be sent: in order.
    pub(crate) starts: VecDeque<Key>,
    /// Granted sends: in turns.
    pub(crate) bulk: VecDeque<Key>,
    /// Bytes of our receive buffer that it may fill beyond the standing credit; it is in the list of those with a share.
    pub(crate) share: u32,
    pub(crate) shares: bool,
    /// In the endpoint's list of peers with something to send.
    pub(crate) ready: bool,
    /// In the endpoint's list of peers that an acknowledgement is owed to.
    pub(crate) acking: bool,
    /// In the endpoint's list of peers whose context has a timer.
    pub(crate) timed: bool,
    /// In the endpoint's list of peers that something is awaited of.
    pub(crate) awaited: Awaited,
    /// The user was told that it is silent.
    pub(crate) noticed: bool,
}

impl Peer {
    pub(crate) fn new(name: SocketAddr, itself: bool) -> Self {
        Self {
            name,
            destination: name,
            itself,
            context: None,
            contexts_made: 0,
            last_incarnation: None,
            last_cookie: 0,
            fi_addr: FiAddr::UNSPEC,
            av_version: None,
            tx_msn: FIRST_MSN,
            rx_msn: FIRST_MSN,
            order: VecDeque::new(),
            open: Vec::new(),
            multi_line: VecDeque::new(),
            writes: Vec::new(),
            underway: Underway::default(),
            fence_next: false,
            control: VecDeque::new(),
            starts: VecDeque::new(),
            bulk: VecDeque::new(),
            share: 0,
            shares: false,
            ready: false,
            acking: false,
            timed: false,
            awaited: Awaited::No,
            noticed: false,
        }
    }

    /// Drops the context and all that belonged to it. Operation entries are the endpoint's to fail.
    pub(crate) fn forget_context(&mut self) {
        if let Some(record) = self.context.take().and_then(|context| context.peer().copied()) {
            self.note_ended(record.incarnation, record.cookie);
        }
        self.tx_msn = FIRST_MSN;
        self.forget_received();
        self.underway = Underway::default();
        self.fence_next = false;
        self.control.clear();
        self.starts.clear();
        self.bulk.clear();
    }

    /// Nothing was received in this context yet.
    pub(crate) fn forget_received(&mut self) {
        self.rx_msn = FIRST_MSN;
        self.order.clear();
        self.open.clear();
        self.writes.clear();
    }

    /// Remembers the record of a context that ended, so that its late packets join no other.
    pub(crate) fn note_ended(&mut self, incarnation: u64, cookie: u32) {
        self.last_incarnation = Some(incarnation);
        self.last_cookie = cookie;
    }

    /// Something waits to be sent for the first time.
    pub(crate) fn has_queued(&self) -> bool {
        !self.control.is_empty() || !self.starts.is_empty() || !self.bulk.is_empty()
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
