//! A process of the simulated job: a domain with one endpoint, its queues, and what the process knows of its peers.

use core::net::SocketAddr;
use std::cell::RefCell;
use std::rc::Rc;

use rdgram_engine::{AvId, CntrId, CounterEvents, CqId, Direction, Domain, EpConfig, EpId, FiAddr};

use crate::datapath::SimDatapath;
use crate::model::{LifeId, OpId};
use crate::net::{Nanos, Net, PortId};
use crate::reference::Reference;
use crate::rng::Rng;

/// Entries that the queues are opened for.
const CQ_SIZE: usize = 128;

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Running.
    Up,
    /// Closing properly: makes progress, asks for nothing; comes back `gap` after it is gone.
    Closing {
        /// When its patience ends.
        until: Nanos,
        /// How long nobody will be there.
        gap: Nanos,
    },
    /// Gone; comes back.
    Down {
        /// When.
        until: Nanos,
    },
}

/// The engine's side of a node. Dropping it ends the endpoint without a word to anybody.
#[derive(Debug)]
pub struct Process {
    /// The engine.
    pub domain: Domain<SimDatapath>,
    /// The endpoint.
    pub ep: EpId,
    /// Completions of sends.
    pub tx_cq: CqId,
    /// Completions of receives; may be the same queue.
    pub rx_cq: CqId,
    /// The address vector.
    pub av: AvId,
    /// Counts sends.
    pub sends: CntrId,
    /// Counts receives.
    pub receives: CntrId,
    /// Counts writes and atomics that fetch nothing.
    pub writes: CntrId,
    /// Counts reads and atomics that fetch.
    pub reads: CntrId,
    /// Counts peers' writes.
    pub remote_writes: CntrId,
    /// Counts peers' reads.
    pub remote_reads: CntrId,
    /// The endpoint's port.
    pub port: PortId,
}

impl Process {
    /// Opens everything.
    pub fn open(
        net: &Rc<RefCell<Net>>,
        address: SocketAddr,
        config: EpConfig,
        mut rng: Rng,
    ) -> Result<Self, String> {
        let one_queue = rng.chance(500_000);
        let datapath = SimDatapath::open(net, address, rng);
        let port = datapath.port();
        let mut domain = Domain::new();
        let tx_cq = domain.cq_open(CQ_SIZE);
        let rx_cq = if one_queue { tx_cq } else { domain.cq_open(CQ_SIZE) };
        let av = domain.av_open(8);
        let [sends, receives, writes, reads, remote_writes, remote_reads] =
            [(); 6].map(|()| domain.cntr_open());
        let ep = domain.ep_open(config, datapath);
        domain.trace(ep);
        let busy = |_| "a new endpoint is bound already".to_owned();
        domain.ep_bind_cq(ep, tx_cq, Direction::Transmit).map_err(busy)?;
        domain.ep_bind_cq(ep, rx_cq, Direction::Receive).map_err(busy)?;
        let counters = [
            (sends, CounterEvents::SEND),
            (receives, CounterEvents::RECV),
            (writes, CounterEvents::WRITE),
            (reads, CounterEvents::READ),
            (remote_writes, CounterEvents::REMOTE_WRITE),
            (remote_reads, CounterEvents::REMOTE_READ),
        ];
        for (cntr, events) in counters {
            domain.ep_bind_cntr(ep, cntr, events).map_err(busy)?;
        }
        domain.ep_bind_av(ep, av).map_err(busy)?;
        domain.ep_enable(ep).map_err(|error| format!("enable: {error:?}"))?;
        Ok(Self {
            domain,
            ep,
            tx_cq,
            rx_cq,
            av,
            sends,
            receives,
            writes,
            reads,
            remote_writes,
            remote_reads,
            port,
        })
    }

    /// Closes everything, in the order that libfabric asks for. The endpoint must not be needed any more.
    pub fn close(mut self) -> Result<(), String> {
        drop(self.domain.ep_remove(self.ep));
        let busy = |_| "in use although the endpoint is gone".to_owned();
        self.domain.cq_close(self.tx_cq).map_err(busy)?;
        if self.rx_cq != self.tx_cq {
            self.domain.cq_close(self.rx_cq).map_err(busy)?;
        }
        let Self { sends, receives, writes, reads, remote_writes, remote_reads, .. } = self;
        for cntr in [sends, receives, writes, reads, remote_writes, remote_reads] {
            self.domain.cntr_close(cntr).map_err(busy)?;
        }
        self.domain.av_close(self.av).map_err(busy)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// Its address.
    pub address: SocketAddr,
    /// The engine's side, unless it is down.
    pub process: Option<Process>,
    /// Whether it is there.
    pub state: State,
    /// The current life, or the last one.
    pub life: LifeId,
    /// Address-vector index of each node, once inserted.
    pub peers: Vec<Option<FiAddr>>,
    /// When each was inserted.
    pub inserted: Vec<Nanos>,
    /// Next time it does something.
    pub wake_at: Nanos,
    /// Does nothing before this.
    pub silent_until: Nanos,
    /// Next time a slow reader looks into its queues.
    pub read_at: Nanos,
    /// Receives posted and not ended.
    pub posted: Vec<OpId>,
    /// Peeks that claimed a message still to be received.
    pub claims: Vec<OpId>,
    /// Steps in a row in which it had nothing to ask for.
    pub idle_steps: u32,
    /// What its matcher has to do.
    pub reference: Reference,
    /// Next time that it looks for left-over messages at the end.
    pub sweep_at: Nanos,
}

impl Node {
    /// A node that is down.
    pub fn new(address: SocketAddr, nodes: usize) -> Self {
        Self {
            address,
            process: None,
            state: State::Down { until: 0 },
            life: 0,
            peers: vec![None; nodes],
            inserted: vec![0; nodes],
            wake_at: 0,
            silent_until: 0,
            read_at: 0,
            posted: Vec::new(),
            claims: Vec::new(),
            idle_steps: 0,
            reference: Reference::default(),
            sweep_at: 0,
        }
    }

    /// The node behind an address-vector index.
    pub fn node_of(&self, address: FiAddr) -> Option<usize> {
        self.peers.iter().position(|peer| *peer == Some(address))
    }

    /// Inserts a peer into the address vector.
    pub fn insert(&mut self, peer: usize, address: SocketAddr, now: Nanos) {
        if let (Some(process), None) = (&mut self.process, self.peers[peer]) {
            self.peers[peer] = Some(process.domain.av_insert(process.av, address));
            self.inserted[peer] = now;
        }
    }

    /// Earliest time at which it can do something, when it is to act at `at`.
    pub fn schedule(&mut self, at: Nanos) {
        self.wake_at = self.wake_at.min(at.max(self.silent_until));
    }
}
