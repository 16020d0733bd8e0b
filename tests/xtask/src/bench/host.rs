//! The machine a bench ran on, and whether it was quiet.
//! A figure without these facts says nothing: they are part of every report.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::commit;
use crate::layout::Layout;
use crate::mpi::MPICH;

/// How long the machine is watched to see whether it is quiet.
const WATCH: Duration = Duration::from_millis(500);
/// A machine that is busier than this while the bench does nothing spoils its figures.
const QUIET_PERCENT: f64 = 5.0;

/// The machine and the versions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The processor's name.
    pub(crate) processor: String,
    /// Processors that may be used.
    pub(crate) cores: usize,
    /// Main memory.
    pub(crate) memory_mb: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Limits of socket buffers: `net.core.*`.
    pub(crate) limits: BTreeMap<String, u64>,
    /// Of the network interfaces of the places measured.
    pub(crate) mtu: BTreeMap<String, u64>,
    /// Of this project and of what it was measured with.
    pub(crate) versions: BTreeMap<String, String>,
}

/// How busy the machine was at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// What was about to begin.
    pub(crate) before: String,
    /// Averages over 1, 5 and 15 minutes; the bench itself is part of them once it runs.
    pub(crate) load: Vec<f64>,
    /// Share of all processors' time taken by others while the bench did nothing.
    pub(crate) busy_percent: f64,
}

impl Host {
    /// Look around. Facts that cannot be had are left empty.
    pub(crate) fn look(layout: &Layout) -> Self {
        let limits = ["rmem_default", "rmem_max", "wmem_default", "wmem_max"].map(|name| {
            (name.to_owned(), read(&format!("/proc/sys/net/core/{name}")).parse().unwrap_or_default())
        });
        let loopback = read("/sys/class/net/lo/mtu").parse().unwrap_or_default();
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mb: field("/proc/meminfo", "MemTotal")
                .split_whitespace()
                .next()
                .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
                .unwrap_or_default()
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            limits: limits.into(),
            mtu: BTreeMap::from([("loopback".to_owned(), loopback)]),
            versions: BTreeMap::from([
                ("rdgram".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("commit".to_owned(), commit(layout)),
                ("mpich".to_owned(), MPICH.to_owned()),
            ]),
        }
    }
}

impl Moment {
    /// Watch the machine for a moment, doing nothing.
    pub(crate) fn watch(before: &str) -> Self {
        let start = times(&read("/proc/stat"));
        thread::sleep(WATCH);
        let end = times(&read("/proc/stat"));
        let load = read("/proc/loadavg");
        Self {
            before: before.to_owned(),
            load: load.split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect(),
            busy_percent: busy_percent(start, end),
        }
    }

    /// Would figures taken now mean something?
    pub(crate) fn is_quiet(&self) -> bool {
        self.busy_percent <= QUIET_PERCENT
    }
}

/// Time of all processors that was spent, and all of it.
fn times(stat: &str) -> (u64, u64) {
    let Some(line) = stat.lines().find(|line| line.starts_with("cpu ")) else { return (0, 0) };
    // user nice system idle iowait irq softirq steal; what follows is contained in user.
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let all = fields.iter().sum::<u64>();
    let idle = fields.iter().skip(3).take(2).sum::<u64>();
    (all - idle, all)
}

fn busy_percent(start: (u64, u64), end: (u64, u64)) -> f64 {
    let busy = end.0.saturating_sub(start.0);
    let all = end.1.saturating_sub(start.1);
    if all == 0 { 0.0 } else { 100.0 * busy as f64 / all as f64 }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of the first line `NAME : VALUE` of a file of /proc.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value));
    value.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_time_is_not_busy() {
        let start = times("cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 2 3 4\n");
        assert_eq!(start, (150, 1000));
        let end = times("cpu  110 0 60 870 60 0 0 0 7 0\n");
        assert_eq!(end, (170, 1100));
        assert!((busy_percent(start, end) - 20.0).abs() < 1e-9);
        assert!(busy_percent(end, end).abs() < 1e-9);
    }
}
