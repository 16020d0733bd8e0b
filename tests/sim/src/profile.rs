//! The shape of a run: how many endpoints, their limits, the network's speed, the plan of what happens when. Drawn from the seed once.

use core::net::{Ipv6Addr, SocketAddr};
use core::time::Duration;

use rdgram_engine::{Direct, EpConfig};

use crate::faults::Faults;
use crate::net::Nanos;
use crate::rng::Rng;

/// Something that happens once so many operations were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One direction between two nodes closes.
    Partition {
        /// Whose datagrams vanish.
        from: usize,
        /// On the way to whom.
        to: usize,
        /// For how long.
        duration: Nanos,
    },
    /// A node makes no progress.
    Silence {
        /// Which.
        node: usize,
        /// For how long.
        duration: Nanos,
    },
    /// A node's endpoint ends and another is opened at its address.
    Restart {
        /// Which.
        node: usize,
        /// Closed properly first, with notices to its peers.
        graceful: bool,
        /// How long nobody is there.
        gap: Nanos,
    },
    /// A node sends many small messages in a row.
    Burst {
        /// Which.
        from: usize,
        /// To whom.
        to: usize,
        /// How many.
        count: usize,
    },
    /// No application begins anything: what is under way ends, and peers go cold.
    Pause {
        /// For how long.
        duration: Nanos,
    },
    /// A node inserts a peer into its address vector.
    Insert {
        /// Which.
        node: usize,
        /// Whom.
        peer: usize,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Endpoints.
    pub nodes: usize,
    /// Addresses are of IPv6.
    pub ipv6: bool,
    /// Operations to accept before the faults heal.
    pub operations: usize,
    /// One-way delay of the network.
    pub latency: Duration,
    /// Longest time between two steps of a busy application.
    pub pace: Nanos,
    /// Limits of each node's endpoint.
    pub configs: Vec<EpConfig>,
    /// Whether node i knows node j from the start.
    pub knows: Vec<Vec<bool>>,
    /// What happens, by operations accepted, in order.
    pub events: Vec<(usize, Event)>,
    /// Messages whose contents alone tell them from others may be sent.
    pub anonymous: bool,
}

impl Profile {
    /// Draws the shape of a run with these faults.
    pub fn draw(rng: &mut Rng, faults: &Faults, operations: usize) -> Self {
        let nodes = 3 + rng.weighted(&[60, 25, 15]);
        let late = rng.chance(300_000);
        let integrity = faults.damages() || rng.chance(200_000);
        let knows = (0..nodes)
            .map(|node| (0..nodes).map(|peer| node == peer || !late || rng.chance(700_000)).collect())
            .collect();
        let mut profile = Self {
            nodes,
            ipv6: rng.chance(250_000),
            operations,
            latency: Duration::from_nanos(rng.magnitude(2_000..=3_000_000)),
            pace: rng.magnitude(500..=200_000),
            configs: (0..nodes).map(|_| Self::config(rng, integrity)).collect(),
            knows,
            events: Vec::new(),
            anonymous: faults.restarts == 0,
        };
        profile.plan(rng, faults);
        profile
    }

    fn config(rng: &mut Rng, full_integrity: bool) -> EpConfig {
        let mut config = EpConfig {
            eager_max: rng.pick(&[512, 1 << 10, 4 << 10, 16 << 10, 64 << 10]),
            inject_max: rng.pick(&[64, 256, 512, 4 << 10]),
            grant_bytes: rng.pick(&[None, Some(4 << 10), Some(32 << 10), Some(256 << 10)]),
            unexpected_pool: rng.pick(&[0, 4 << 10, 32 << 10, 256 << 10, 64 << 20]),
            min_multi_recv: rng.pick(&[64, 512, 4_096]),
            full_integrity,
            bundles: rng.chance(800_000),
            hold_bursts: rng.chance(700_000),
            direct: rng.pick(&[Direct::Off, Direct::Auto, Direct::Force, Direct::Force]),
            ..EpConfig::default()
        };
        config.transport.window = rng.pick(&[8, 32, 128, 1_024, 1_024]);
        config.transport.control_reserve = rng.pick(&[2, 16, 64]);
        config.transport.staging_max = rng.pick(&[512, 4 << 10, 16 << 10, 64 << 10]);
        config.transport.ack_every = rng.pick(&[1, 4, 32, 128]);
        config
    }

    fn plan(&mut self, rng: &mut Rng, faults: &Faults) {
        let mut events = Vec::new();
        let when = |rng: &mut Rng| rng.index(self.operations * 9 / 10);
        for _ in 0..faults.partitions {
            let from = rng.index(self.nodes);
            let to = (from + rng.size(1..=self.nodes - 1)) % self.nodes;
            let duration = rng.magnitude(100_000..=20_000_000_000);
            let at = when(rng);
            events.push((at, Event::Partition { from, to, duration }));
            if rng.chance(300_000) {
                events.push((at, Event::Partition { from: to, to: from, duration }));
            }
        }
        for _ in 0..faults.silences {
            let duration = rng.magnitude(1_000_000..=200_000_000_000);
            events.push((when(rng), Event::Silence { node: rng.index(self.nodes), duration }));
        }
        for _ in 0..faults.restarts {
            let gap = rng.magnitude(1_000..=5_000_000_000);
            let (node, graceful) = (rng.index(self.nodes), rng.chance(400_000));
            events.push((when(rng), Event::Restart { node, graceful, gap }));
        }
        for _ in 0..rng.weighted(&[50, 35, 15]) {
            let from = rng.index(self.nodes);
            let to = (from + rng.size(1..=self.nodes - 1)) % self.nodes;
            // Every third is of more messages than a window has packets.
            let count = if rng.chance(333_000) { rng.size(1_100..=2_500) } else { rng.size(10..=300) };
            events.push((when(rng), Event::Burst { from, to, count }));
        }
        for _ in 0..rng.weighted(&[40, 30, 30]) {
            events.push((when(rng), Event::Pause { duration: rng.magnitude(1_000_000_000..=6_000_000_000) }));
        }
        for node in 0..self.nodes {
            for peer in 0..self.nodes {
                if !self.knows[node][peer] {
                    events.push((when(rng), Event::Insert { node, peer }));
                }
            }
        }
        events.sort_by_key(|(at, _)| *at);
        self.events = events;
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> SocketAddr {
        let number = u8::try_from(node + 1).expect("few nodes");
        let port = 7_000 + u16::from(number);
        if self.ipv6 {
            SocketAddr::from((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)), port))
        } else {
            SocketAddr::from(([10, 0, 0, number], port))
        }
    }
}
