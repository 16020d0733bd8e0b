//! The engine's datapath over the simulated network. Adds what a socket does to its owner: batches split anywhere, sends refused, sizes refused.

use core::net::SocketAddr;
use std::cell::RefCell;
use std::rc::Rc;

use core::fmt;

use rdgram_engine::{
    Datagram, Datapath, Instant, LocalRoute, PathError, Plan, Received, Scattered, Transmitted, TxBatch,
    TxStop,
};

use crate::local::Memory;
use crate::net::{INTERFACE_MTU, Net, PortId, ip_size};
use crate::rng::Rng;

/// Most datagrams of one receive call.
const RECEIVE_BATCH: usize = 64;

/// Longest train, bytes.
const TRAIN_MAX: usize = 65_507;

/// The wall clock when the run starts, nanoseconds: incarnations are values of it.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// See the module.
pub struct SimDatapath {
    net: Rc<RefCell<Net>>,
    port: PortId,
    address: SocketAddr,
    rng: Rng,
    scatter: Scatter,
    receives: u64,
}

/// Where trains are received that an endpoint has a plan for.
struct Scatter {
    train: Vec<u8>,
    headers: Box<[u8]>,
    bounce: Box<[u8]>,
}

impl fmt::Debug for SimDatapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDatapath").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SimDatapath {
    /// Opens a port of the network.
    pub fn open(net: &Rc<RefCell<Net>>, address: SocketAddr, rng: Rng) -> Self {
        let port = net.borrow_mut().open(address);
        let scatter = Scatter {
            train: Vec::with_capacity(Plan::ROOM),
            headers: vec![0; Plan::DATAGRAMS_MAX * Plan::HEADER].into(),
            bounce: vec![0; Plan::ROOM].into(),
        };
        Self { net: Rc::clone(net), port, address, rng, scatter, receives: 0 }
    }

    /// Receive calls so far.
    pub fn receives(&self) -> u64 {
        self.receives
    }

    /// The port.
    pub fn port(&self) -> PortId {
        self.port
    }
}

impl Drop for SimDatapath {
    fn drop(&mut self) {
        self.net.borrow_mut().close(self.port);
    }
}

impl Datapath for SimDatapath {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.net.borrow().now())
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn route_mtu(&self, _destination: SocketAddr) -> u16 {
        INTERFACE_MTU
    }

    fn receive_buffer(&self) -> usize {
        self.net.borrow().faults.receive_buffer
    }

    fn receive(&mut self, sink: &mut dyn FnMut(Datagram<'_>)) -> Received {
        self.receives += 1;
        let rechunk = self.net.borrow().faults.rechunk;
        let limit = if rechunk { self.rng.size(1..=8) } else { RECEIVE_BATCH };
        let overflowed = self.net.borrow_mut().take_overflow(self.port);
        let mut datagrams = 0;
        while datagrams < limit {
            // The network is released while the engine works: it may ask for the time.
            let Some(queued) = self.net.borrow_mut().receive(self.port) else {
                return Received { datagrams, drained: true, overflowed };
            };
            sink(Datagram {
                source: queued.source,
                bytes: &queued.bytes,
                congestion_experienced: queued.congestion_experienced,
            });
            self.net.borrow_mut().recycle(queued.bytes);
            datagrams += 1;
        }
        // Whether this was the last one is only known by asking again.
        Received { datagrams, drained: false, overflowed }
    }

    fn receive_scattered(&mut self, plan: &Plan, sink: &mut dyn FnMut(Scattered<'_>)) -> Received {
        self.receives += 1;
        let mut net = self.net.borrow_mut();
        let overflowed = net.take_overflow(self.port);
        let Some(first) = net.receive(self.port) else {
            return Received { datagrams: 0, drained: true, overflowed };
        };
        let rechunk = net.faults.rechunk;
        let limit = if rechunk { self.rng.size(1..=8) } else { RECEIVE_BATCH };
        let segment = first.bytes.len();
        let Scatter { train, headers, bounce } = &mut self.scatter;
        train.clear();
        train.extend_from_slice(&first.bytes);
        net.recycle(first.bytes);
        let mut datagrams = 1;
        // As offloads join them: of one sender and of one mark, equally long but for the last.
        while datagrams < limit && train.len() == datagrams * segment {
            let next = net.peek(self.port).filter(|next| {
                next.source == first.source
                    && next.congestion_experienced == first.congestion_experienced
                    && (1..=segment).contains(&next.bytes.len())
                    && train.len() + next.bytes.len() <= TRAIN_MAX
            });
            if next.is_none() {
                break;
            }
            let next = net.receive(self.port).expect("it was looked at");
            train.extend_from_slice(&next.bytes);
            net.recycle(next.bytes);
            datagrams += 1;
        }
        drop(net);
        plan.scatter(train, headers, bounce);
        sink(Scattered {
            source: first.source,
            congestion_experienced: first.congestion_experienced,
            segment: if datagrams == 1 { 0 } else { segment },
            length: train.len(),
            headers,
            bounce,
        });
        Received { datagrams, drained: false, overflowed }
    }

    fn transmit(&mut self, batch: &TxBatch) -> Transmitted {
        let mut net = self.net.borrow_mut();
        let blocked_after = net.faults.blocked;
        let room = if self.rng.chance(blocked_after) {
            self.rng.index(batch.packets().len() + 1)
        } else {
            usize::MAX
        };
        for (taken, packet) in batch.packets().iter().enumerate() {
            if taken >= room {
                return Transmitted { taken, stopped: Some(TxStop::Blocked) };
            }
            if ip_size(packet.destination, packet.length()) > usize::from(INTERFACE_MTU) && !packet.fragment {
                return Transmitted { taken, stopped: Some(TxStop::TooBig(Some(INTERFACE_MTU))) };
            }
            let mut bytes = net.buffer();
            batch.gather(packet, &mut bytes);
            net.send(self.address, packet.destination, bytes, packet.fragment);
        }
        Transmitted { taken: batch.packets().len(), stopped: None }
    }

    fn poll_error(&mut self) -> Option<PathError> {
        self.net.borrow_mut().poll_error(self.port)
    }

    fn random(&mut self) -> u64 {
        self.rng.bits()
    }

    fn open_local(&mut self, incarnation: u64) -> Option<Box<dyn LocalRoute>> {
        let memory = self.net.borrow().memory.clone();
        Memory::open(&memory, self.address, incarnation)
    }

    fn incarnation(&self) -> u64 {
        EPOCH + self.net.borrow().now()
    }
}
