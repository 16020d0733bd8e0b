//! How much is measured: the full form, the short form, and the smallest one that only tries the machinery.
//! Every number that decides how long a bench takes is here.

use std::time::Duration;

/// The short form begins nothing more after this time, so that it ends within three minutes.
const SHORT_BUDGET: Duration = Duration::from_secs(160);

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Is it the short form?
    pub(crate) short: bool,
    /// How often everything is measured, the contenders taking turns.
    pub(crate) rounds: usize,
    /// When to begin nothing more.
    pub(crate) budget: Option<Duration>,
    /// Of a floor's run, for each size.
    pub(crate) floor_seconds: f64,
    /// What IMB may take for each size.
    pub(crate) imb_seconds: f64,
    /// Sizes of PingPong.
    pub(crate) latency_sizes: Vec<u64>,
    /// Sizes of Uniband.
    pub(crate) rate_sizes: Vec<u64>,
    /// Sizes of PingPong between ranks that may share memory.
    pub(crate) local_sizes: Vec<u64>,
    /// Numbers of such ranks for collective operations.
    pub(crate) local_ranks: Vec<u32>,
    /// Is 64 MiB measured?
    pub(crate) huge: bool,
    /// MTUs of the link between two hosts.
    pub(crate) mtus: Vec<u16>,
    /// Numbers of ranks of collective operations.
    pub(crate) ranks: Vec<u32>,
    /// Datagrams lost of a thousand.
    pub(crate) losses: Vec<u16>,
    /// Numbers of peers, for everybody.
    pub(crate) peers: Vec<u32>,
    /// Numbers of peers, for rdgram alone.
    pub(crate) more_peers: Vec<u32>,
    /// Messages of every sender of an incast.
    pub(crate) incast_messages: u32,
    /// In how many rounds also the contenders are measured that no target is about, in the sections of latency.
    pub(crate) others_rounds: usize,
    /// Only the contenders and links that targets are about, in the other sections.
    pub(crate) few: bool,
}

impl Plan {
    /// Everything.
    pub(crate) fn full() -> Self {
        Self {
            short: false,
            rounds: 5,
            budget: None,
            floor_seconds: 0.3,
            imb_seconds: 0.3,
            latency_sizes: powers(22),
            rate_sizes: powers(22),
            local_sizes: powers(22),
            local_ranks: vec![2, 4],
            huge: true,
            mtus: vec![1500, 9000],
            ranks: vec![2, 4, 8],
            losses: vec![0, 1, 10, 50],
            peers: vec![16, 256, 1024],
            more_peers: vec![4096],
            incast_messages: 200,
            others_rounds: usize::MAX,
            few: false,
        }
    }

    /// The main rows.
    pub(crate) fn short() -> Self {
        Self {
            short: true,
            rounds: 3,
            budget: Some(SHORT_BUDGET),
            floor_seconds: 0.1,
            imb_seconds: 0.15,
            latency_sizes: vec![0, 8, 1024, 65_536, 1 << 20, 4 << 20],
            rate_sizes: vec![8, 1 << 20],
            local_sizes: vec![0, 8, 4096, 16_384, 65_536, 262_144, 1 << 20, 4 << 20],
            local_ranks: vec![2, 4],
            huge: false,
            mtus: vec![1500],
            ranks: vec![4],
            losses: vec![0, 10],
            peers: vec![256, 1024],
            more_peers: Vec::new(),
            incast_messages: 50,
            others_rounds: 1,
            few: true,
        }
    }

    /// Just enough to see that everything is run and read; the figures mean nothing.
    pub(crate) fn smoke() -> Self {
        Self {
            rounds: 1,
            floor_seconds: 0.02,
            imb_seconds: 0.3,
            latency_sizes: vec![8],
            rate_sizes: vec![8],
            local_sizes: vec![8],
            local_ranks: vec![2],
            mtus: Vec::new(),
            ranks: vec![2],
            budget: None,
            others_rounds: 0,
            peers: vec![16],
            incast_messages: 4,
            ..Self::short()
        }
    }
}

/// Zero, and the powers of two up to this one.
fn powers(last: u32) -> Vec<u64> {
    std::iter::once(0).chain((0..=last).map(|exponent| 1 << exponent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_reach_from_nothing_to_the_last_power() {
        assert_eq!(powers(3), [0, 1, 2, 4, 8]);
    }
}
