//! What goes wrong in a run: each kind of fault is on or off, and as strong, as the seed says ("swarm testing"). This file draws; it never acts.

use core::fmt;
use core::time::Duration;

use crate::rng::{Ppm, Rng};

/// A limit of IP packet size somewhere on the way, smaller than the senders' own interfaces say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The largest IP packet that gets through.
    pub mtu: u16,
    /// Whether the sender is told (ICMP), or the packet just vanishes (a black hole).
    pub reported: bool,
}

/// Kinds of fault. A run has at least [`Faults::KINDS_MIN`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams lost, each by itself.
    Loss,
    /// Runs of consecutive datagrams lost.
    BurstLoss,
    /// Datagrams delivered twice, the second time perhaps much later.
    Duplicate,
    /// Datagrams overtaken by later ones.
    Reorder,
    /// Every datagram delayed by a random amount.
    Jitter,
    /// Bits flipped.
    Corrupt,
    /// Datagrams shortened.
    Truncate,
    /// A path MTU below the interface's.
    PathMtu,
    /// One direction between two hosts closed for a while.
    Partition,
    /// Receive batches split anywhere.
    Rechunk,
    /// Sends refused (EAGAIN), whole or in part.
    Blocked,
    /// An endpoint that makes no progress for a long time.
    Silence,
    /// Completion queues read rarely and little.
    SlowReader,
    /// An endpoint that ends and comes back under the same address.
    Restart,
    /// A receive buffer so small that it overflows.
    Overflow,
    /// Datagrams marked Congestion Experienced.
    Marking,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::Loss,
        Self::BurstLoss,
        Self::Duplicate,
        Self::Reorder,
        Self::Jitter,
        Self::Corrupt,
        Self::Truncate,
        Self::PathMtu,
        Self::Partition,
        Self::Rechunk,
        Self::Blocked,
        Self::Silence,
        Self::SlowReader,
        Self::Restart,
        Self::Overflow,
        Self::Marking,
    ];
}

/// The faults of a run. A field that is 0 or `None` is a fault that does not happen.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The kinds drawn.
    pub kinds: Vec<Kind>,
    /// A datagram is lost.
    pub loss: Ppm,
    /// A datagram begins a burst of losses.
    pub burst: Ppm,
    /// Longest burst, datagrams.
    pub burst_length: u64,
    /// A datagram is delivered twice.
    pub duplicate: Ppm,
    /// Longest delay of the second copy.
    pub duplicate_delay_max: Duration,
    /// A datagram is held back.
    pub reorder: Ppm,
    /// For how long at most.
    pub reorder_delay_max: Duration,
    /// Longest extra delay of every datagram.
    pub jitter_max: Duration,
    /// A datagram has bits flipped.
    pub corrupt: Ppm,
    /// A datagram is shortened.
    pub truncate: Ppm,
    /// The path's MTU.
    pub path_mtu: Option<PathMtu>,
    /// A receive batch is split after fewer datagrams than there are.
    pub rechunk: bool,
    /// A transmit call stops early.
    pub blocked: Ppm,
    /// Completion queues are read rarely.
    pub slow_reader: bool,
    /// Bytes of receive buffer.
    pub receive_buffer: usize,
    /// A datagram is marked Congestion Experienced.
    pub marking: Ppm,
    /// How often something closes one direction, by how many operations into the run.
    pub partitions: usize,
    /// How often an endpoint falls silent.
    pub silences: usize,
    /// How often an endpoint is restarted.
    pub restarts: usize,
}

impl Faults {
    /// Fewest kinds of fault in a run.
    pub const KINDS_MIN: usize = 4;

    /// No faults: a perfect network.
    pub fn none() -> Self {
        Self { receive_buffer: 4 << 20, ..Self::default() }
    }

    /// Draws the faults of a seed.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut faults = Self::none();
        // Between few and many: with all of them at once, each hides what another would show.
        let share = rng.pick(&[250_000, 400_000, 600_000]);
        let mut rest = Vec::new();
        for kind in Kind::ALL {
            if rng.chance(share) {
                faults.kinds.push(kind);
            } else {
                rest.push(kind);
            }
        }
        while faults.kinds.len() < Self::KINDS_MIN {
            faults.kinds.push(rest.swap_remove(rng.index(rest.len())));
        }
        for kind in faults.kinds.clone() {
            faults.strengthen(kind, rng);
        }
        faults
    }

    /// Draws how strong a kind is.
    fn strengthen(&mut self, kind: Kind, rng: &mut Rng) {
        let ppm = |rng: &mut Rng, low: u64, high: u64| {
            Ppm::try_from(rng.magnitude(low..=high)).expect("a probability")
        };
        match kind {
            Kind::Loss => self.loss = ppm(rng, 1_000, 200_000),
            Kind::BurstLoss => {
                self.burst = ppm(rng, 500, 10_000);
                self.burst_length = rng.magnitude(2..=64);
            }
            Kind::Duplicate => {
                self.duplicate = ppm(rng, 1_000, 200_000);
                self.duplicate_delay_max = Duration::from_micros(rng.magnitude(10..=5_000_000));
            }
            Kind::Reorder => {
                self.reorder = ppm(rng, 1_000, 300_000);
                self.reorder_delay_max = Duration::from_micros(rng.magnitude(10..=20_000));
            }
            Kind::Jitter => self.jitter_max = Duration::from_micros(rng.magnitude(1..=2_000)),
            Kind::Corrupt => self.corrupt = ppm(rng, 1_000, 100_000),
            Kind::Truncate => self.truncate = ppm(rng, 1_000, 100_000),
            Kind::PathMtu => {
                let mtu = u16::try_from(rng.range(1_280..=1_499)).expect("below 1,500");
                self.path_mtu = Some(PathMtu { mtu, reported: rng.chance(500_000) });
            }
            Kind::Partition => self.partitions = rng.size(1..=4),
            Kind::Rechunk => self.rechunk = true,
            Kind::Blocked => self.blocked = ppm(rng, 10_000, 500_000),
            Kind::Silence => self.silences = rng.size(1..=4),
            Kind::SlowReader => self.slow_reader = true,
            Kind::Restart => self.restarts = rng.size(1..=2),
            Kind::Overflow => self.receive_buffer = rng.size(16 << 10..=256 << 10),
            Kind::Marking => self.marking = ppm(rng, 10_000, 500_000),
        }
    }

    /// Whether bytes may change on the way: then the integrity field must cover the payload too.
    pub fn damages(&self) -> bool {
        self.corrupt > 0 || self.truncate > 0
    }

    /// What remains when the faults heal: the network keeps its shape, but nothing goes wrong any more.
    pub fn heal(&mut self) {
        *self = Self {
            kinds: core::mem::take(&mut self.kinds),
            path_mtu: self.path_mtu,
            receive_buffer: self.receive_buffer,
            ..Self::none()
        };
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ppm: Ppm| f64::from(ppm) / 10_000.0;
        for (index, kind) in self.kinds.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match kind {
                Kind::Loss => write!(f, "loss {}%", percent(self.loss))?,
                Kind::BurstLoss => write!(f, "bursts {}% up to {}", percent(self.burst), self.burst_length)?,
                Kind::Duplicate => write!(
                    f,
                    "duplicates {}% up to {:?} late",
                    percent(self.duplicate),
                    self.duplicate_delay_max
                )?,
                Kind::Reorder => {
                    write!(f, "reordering {}% by up to {:?}", percent(self.reorder), self.reorder_delay_max)?
                }
                Kind::Jitter => write!(f, "jitter up to {:?}", self.jitter_max)?,
                Kind::Corrupt => write!(f, "corruption {}%", percent(self.corrupt))?,
                Kind::Truncate => write!(f, "truncation {}%", percent(self.truncate))?,
                Kind::PathMtu => match self.path_mtu {
                    Some(path) if path.reported => write!(f, "path MTU {}", path.mtu)?,
                    Some(path) => write!(f, "path MTU {} (black hole)", path.mtu)?,
                    None => {}
                },
                Kind::Partition => write!(f, "{} partitions", self.partitions)?,
                Kind::Rechunk => f.write_str("receive batches split")?,
                Kind::Blocked => write!(f, "sends blocked {}%", percent(self.blocked))?,
                Kind::Silence => write!(f, "{} silences", self.silences)?,
                Kind::SlowReader => f.write_str("slow queue readers")?,
                Kind::Restart => write!(f, "{} restarts", self.restarts)?,
                Kind::Overflow => write!(f, "receive buffer of {}", self.receive_buffer)?,
                Kind::Marking => write!(f, "congestion marks {}%", percent(self.marking))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_enough_kinds_and_every_kind_occurs() {
        let mut seen = [0; Kind::ALL.len()];
        for seed in 0..200 {
            let faults = Faults::draw(&mut Rng::new(seed, 0));
            assert!(faults.kinds.len() >= Faults::KINDS_MIN);
            for kind in &faults.kinds {
                seen[Kind::ALL.iter().position(|k| k == kind).unwrap()] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }
}
