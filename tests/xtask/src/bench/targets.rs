//! What the project wants to reach between two hosts and on one, and whether a report reaches it.
//! This is the only place in the code where targets stand; each is a ratio within one run, or a count.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::report::{At, Metric, Report};
use super::section::{
    INCAST_BYTES, MEMCPY, MEMORY, PROCESS_VM, RAW_UDP, RAW_UDP_UNCONNECTED, RDGRAM_STOCK, SENDERS,
    SHARED_FLAG, SHM, TCP,
};
use super::site::{LOOPBACK, Lost, ONE_HOST, hosts_name, lossy_name};
use crate::mpi::RDGRAM;

/// The link that the targets between hosts are about.
const MTU: u16 = 1500;
/// Ranks of everything but collective operations.
const TWO: u32 = 2;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// "Independent of the number of peers" leaves room for some connected sockets.
const DESCRIPTORS: f64 = 16.0;
/// Copying explains what it explains; a tenth more is noise.
const EXPLAINED: f64 = 0.9;

/// On which side of the number is good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
    /// Nothing is asked for: it is told.
    Told,
}

/// How a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Reached.
    Ok,
    /// Missed.
    Short,
    /// The run did not measure it.
    NotMeasured,
    /// There is nothing to reach.
    Told,
}

/// A target beside what was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// What is compared.
    pub(crate) what: String,
    /// What was measured, if it was.
    pub(crate) value: Option<f64>,
    /// What it has to be.
    pub(crate) bound: Bound,
    /// Whether it is.
    pub(crate) verdict: Verdict,
}

/// How a figure comes from a report, if it was measured.
type Value = dyn Fn(&Report) -> Option<f64>;

/// What is compared, its bound, and how it comes from a report.
struct Target {
    what: String,
    bound: Bound,
    value: Box<Value>,
}

impl Bound {
    fn judge(self, value: Option<f64>) -> Verdict {
        match (self, value) {
            (_, None) => Verdict::NotMeasured,
            (Bound::Told, Some(_)) => Verdict::Told,
            (Bound::AtMost(limit), Some(value)) if value <= limit => Verdict::Ok,
            (Bound::AtLeast(limit), Some(value)) if value >= limit => Verdict::Ok,
            _ => Verdict::Short,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(limit) => f.pad(&format!("≤ {limit}")),
            Bound::AtLeast(limit) => f.pad(&format!("≥ {limit}")),
            Bound::Told => f.pad("-"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Short => "SHORT",
            Verdict::NotMeasured => "not measured",
            Verdict::Told => "told",
        })
    }
}

/// Every target, judged by what the report says.
pub(crate) fn judge(report: &Report) -> Vec<Judged> {
    let judged = targets().into_iter().map(|target| {
        let value = (target.value)(report);
        Judged { what: target.what, value, bound: target.bound, verdict: target.bound.judge(value) }
    });
    judged.collect()
}

fn targets() -> Vec<Target> {
    let mut targets = between_hosts();
    targets.extend(under_loss());
    targets.extend(many_peers());
    targets.extend(stock_limits());
    targets.extend(loopback());
    targets.extend(collectives());
    targets.extend(same_host());
    targets
}

fn target(what: impl Into<String>, bound: Bound, value: impl Fn(&Report) -> Option<f64> + 'static) -> Target {
    Target { what: what.into(), bound, value: Box::new(value) }
}

fn between_hosts() -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    use Metric::{HalfRoundTripUs, PingPongMbS, UnibandMbS, UnibandMsgS};
    let place = &hosts_name(MTU);
    let to_tcp = |metric, bytes| against_tcp(place, metric, bytes);
    let to_stream = |metric| {
        let place = place.clone();
        move |report: &Report| {
            Some(latency(report, &place, RDGRAM, metric, MIB)? / best_stream(report, &place)?)
        }
    };
    let to_raw = {
        let place = place.clone();
        move |report: &Report| {
            Some(latency(report, &place, RDGRAM, HalfRoundTripUs, 8)? / raw_udp(report, &place)?)
        }
    };
    let mut targets = vec![
        target(format!("{place}: 8 B half round trip / raw UDP"), AtMost(1.35), to_raw),
        target(format!("{place}: 8 B half round trip / tcp"), AtMost(0.65), to_tcp(HalfRoundTripUs, 8)),
        target(format!("{place}: 1 MiB PingPong / raw UDP stream"), AtLeast(0.7), to_stream(PingPongMbS)),
        target(format!("{place}: 1 MiB Uniband / raw UDP stream"), AtLeast(0.7), to_stream(UnibandMbS)),
        target(format!("{place}: 1 MiB PingPong / tcp"), AtLeast(2.5), to_tcp(PingPongMbS, MIB)),
        target(format!("{place}: 1 MiB Uniband / tcp"), AtLeast(2.5), to_tcp(UnibandMbS, MIB)),
        target(format!("{place}: 8 B message rate / tcp"), AtLeast(7.0), to_tcp(UnibandMsgS, 8)),
    ];
    for mib in [4, 64] {
        let place = place.clone();
        targets.push(target(
            format!("{place}: {mib} MiB PingPong / 1 MiB less the time of copying"),
            AtLeast(EXPLAINED),
            move |report| explained(report, &place, mib * MIB),
        ));
    }
    targets
}

fn under_loss() -> Vec<Target> {
    let value = |metric| {
        move |report: &Report| {
            let median = |per_mille| {
                let place = lossy_name(MTU, Lost::Datagrams, per_mille);
                report.median(At { section: "loss", place: &place }, RDGRAM, metric, MIB, TWO)
            };
            Some(median(10)? / median(0)?)
        }
    };
    let bound = Bound::AtLeast(0.8);
    vec![
        target("1 % of datagrams lost: 1 MiB PingPong / without loss", bound, value(Metric::PingPongMbS)),
        target("1 % of datagrams lost: 1 MiB Uniband / without loss", bound, value(Metric::UnibandMbS)),
    ]
}

fn many_peers() -> Vec<Target> {
    let of_most = |metric| move |report: &Report| with_most_peers(report, metric);
    let idle = |report: &Report| {
        // Pages given back by the kernel meanwhile are no credit.
        let kernel = with_most_peers(report, Metric::IdlePeerKernelB)?.max(0.0);
        Some(with_most_peers(report, Metric::IdlePeerB)? + kernel)
    };
    let first = |report: &Report| {
        let place = hosts_name(MTU);
        let median = |subject| {
            report.median(At { section: "peers", place: &place }, subject, Metric::FirstMessagesS, 0, 1024)
        };
        Some(median(TCP)? / median(RDGRAM)?)
    };
    vec![
        target("unused peer, bytes", Bound::AtMost(64.0), of_most(Metric::UnusedPeerB)),
        target("idle peer, bytes, with the kernel's", Bound::AtMost(512.0), idle),
        target("descriptors added by all peers", Bound::AtMost(DESCRIPTORS), of_most(Metric::Descriptors)),
        target("first message to 1,024 peers: time of tcp / ours", Bound::AtLeast(5.0), first),
    ]
}

fn stock_limits() -> Vec<Target> {
    let share = |metric| {
        move |report: &Report| {
            let place = hosts_name(MTU);
            let median =
                |subject| report.median(At { section: "limits", place: &place }, subject, metric, MIB, TWO);
            Some(median(RDGRAM_STOCK)? / median(RDGRAM)?)
        }
    };
    let drops = |report: &Report| {
        let place = hosts_name(MTU);
        let of_size = |bytes| {
            report.median(
                At { section: "limits", place: &place },
                RDGRAM_STOCK,
                Metric::Drops,
                bytes,
                SENDERS,
            )
        };
        INCAST_BYTES.into_iter().map(of_size).sum()
    };
    vec![
        target(
            "stock socket buffers: 1 MiB PingPong / large ones",
            Bound::AtLeast(0.8),
            share(Metric::PingPongMbS),
        ),
        target(
            "stock socket buffers: 1 MiB Uniband / large ones",
            Bound::AtLeast(0.8),
            share(Metric::UnibandMbS),
        ),
        target("stock socket buffers, 64 senders to 1: datagrams dropped", Bound::AtMost(0.0), drops),
    ]
}

fn loopback() -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    use Metric::{HalfRoundTripUs, PingPongMbS};
    let what = |what: &str| format!("{LOOPBACK}: {what}");
    let to_tcp = |metric, bytes| against_tcp(LOOPBACK, metric, bytes);
    vec![
        target(what("8 B half round trip / tcp"), AtMost(0.7), to_tcp(HalfRoundTripUs, 8)),
        target(what("64 KiB PingPong / tcp"), AtLeast(1.3), to_tcp(PingPongMbS, 64 * KIB)),
        target(what("1 MiB PingPong / tcp"), AtLeast(1.0), to_tcp(PingPongMbS, MIB)),
    ]
}

/// Ranks that share memory, beside libfabric's provider for that.
fn same_host() -> Vec<Target> {
    use Bound::{AtLeast, AtMost, Told};
    use Metric::{
        AllreduceUs, AlltoallUs, FabricHalfRoundTripUs, HalfRoundTripUs, PingPongMbS, StreamMbS, UnibandMsgS,
    };
    let what = |what: &str| format!("{ONE_HOST}: {what}");
    let median = |report: &Report, subject, metric, bytes, ranks| {
        report.median(At { section: "same-host", place: ONE_HOST }, subject, metric, bytes, ranks)
    };
    let to_shm = |metric, bytes, ranks| {
        move |report: &Report| {
            let of = |subject| median(report, subject, metric, bytes, ranks);
            Some(of(RDGRAM)? / of(SHM)?)
        }
    };
    let to_floor = move |metric, floor, floor_metric, bytes, parties| {
        move |report: &Report| {
            Some(
                median(report, RDGRAM, metric, bytes, TWO)?
                    / median(report, floor, floor_metric, bytes, parties)?,
            )
        }
    };
    let mut targets = vec![
        target(what("8 B half round trip / shm"), AtMost(1.0), to_shm(HalfRoundTripUs, 8, TWO)),
        target(
            what("8 B half round trip / shared flag"),
            Told,
            to_floor(HalfRoundTripUs, SHARED_FLAG, HalfRoundTripUs, 8, TWO),
        ),
        target(what("8 B fi_pingpong / shm"), AtMost(1.0), to_shm(FabricHalfRoundTripUs, 8, TWO)),
        target(
            what("8 B fi_pingpong / shared flag"),
            Told,
            to_floor(FabricHalfRoundTripUs, SHARED_FLAG, HalfRoundTripUs, 8, TWO),
        ),
        target(what("8 B message rate / shm"), AtLeast(1.0), to_shm(UnibandMsgS, 8, TWO)),
    ];
    for (size, bytes) in [
        ("4 KiB", 4 * KIB),
        ("16 KiB", 16 * KIB),
        ("64 KiB", 64 * KIB),
        ("256 KiB", 256 * KIB),
        ("1 MiB", MIB),
        ("4 MiB", 4 * MIB),
    ] {
        let what = what(&format!("{size} PingPong / shm"));
        targets.push(target(what, AtLeast(1.0), to_shm(PingPongMbS, bytes, TWO)));
    }
    targets.push(target(
        what("1 MiB PingPong / process_vm_readv"),
        AtLeast(0.95),
        to_floor(PingPongMbS, PROCESS_VM, StreamMbS, MIB, TWO),
    ));
    for ranks in [2, 4] {
        for (name, metric) in [("Allreduce", AllreduceUs), ("Alltoall", AlltoallUs)] {
            let what = what(&format!("8 B {name}, {ranks} ranks / shm"));
            targets.push(target(what, AtMost(1.0), to_shm(metric, 8, ranks)));
        }
    }
    targets
}

fn collectives() -> Vec<Target> {
    let mut targets = Vec::new();
    for ranks in [4, 8] {
        for (name, metric, bytes) in [
            ("Allreduce", Metric::AllreduceUs, 8),
            ("Alltoall", Metric::AlltoallUs, 8),
            ("Barrier", Metric::BarrierUs, 0),
        ] {
            let what = format!("{LOOPBACK}: {name}, {ranks} ranks / tcp");
            targets.push(target(what, Bound::AtMost(1.0), move |report| {
                let at = At { section: "collectives", place: LOOPBACK };
                let median = |subject| report.median(at, subject, metric, bytes, ranks);
                Some(median(RDGRAM)? / median(TCP)?)
            }));
        }
    }
    targets
}

fn latency(report: &Report, place: &str, subject: &str, metric: Metric, bytes: u64) -> Option<f64> {
    report.median(At { section: "latency", place }, subject, metric, bytes, TWO)
}

fn against_tcp(place: &str, metric: Metric, bytes: u64) -> impl Fn(&Report) -> Option<f64> + 'static {
    let place = place.to_owned();
    move |report| {
        Some(latency(report, &place, RDGRAM, metric, bytes)? / latency(report, &place, TCP, metric, bytes)?)
    }
}

/// The floor is the faster of the two ways to send.
fn raw_udp(report: &Report, place: &str) -> Option<f64> {
    let connected = latency(report, place, RAW_UDP, Metric::HalfRoundTripUs, 8)?;
    Some(connected.min(latency(report, place, RAW_UDP_UNCONNECTED, Metric::HalfRoundTripUs, 8)?))
}

/// The fastest segment size counts.
fn best_stream(report: &Report, place: &str) -> Option<f64> {
    let streams = report.of(At { section: "latency", place }, Metric::StreamMbS);
    streams.filter(|result| result.key.subject == RAW_UDP).map(|result| result.median).reduce(f64::max)
}

/// The rate at `bytes` beside the one expected from 1 MiB: a buffer that no longer fits the caches costs every
/// byte what copying it costs more.
fn explained(report: &Report, place: &str, bytes: u64) -> Option<f64> {
    let memory = At { section: "latency", place: MEMORY };
    let copying = |bytes| report.median(memory, MEMCPY, Metric::StreamMbS, bytes, 1);
    let extra = (1.0 / copying(bytes)? - 1.0 / copying(MIB)?).max(0.0);
    let expected = 1.0 / (1.0 / latency(report, place, RDGRAM, Metric::PingPongMbS, MIB)? + extra);
    Some(latency(report, place, RDGRAM, Metric::PingPongMbS, bytes)? / expected)
}

fn with_most_peers(report: &Report, metric: Metric) -> Option<f64> {
    let place = hosts_name(MTU);
    let results = report.of(At { section: "peers", place: &place }, metric);
    let ours = results.filter(|result| result.key.subject == RDGRAM);
    ours.max_by_key(|result| result.key.parties).map(|result| result.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::with;

    fn verdict(report: &Report, what: &str) -> Option<(Option<f64>, Verdict)> {
        let judged = judge(report).into_iter().find(|judged| judged.what == what)?;
        Some((judged.value, judged.verdict))
    }

    #[test]
    fn a_target_between_hosts_is_judged_on_both_sides() {
        let place = &hosts_name(MTU);
        let report = |ours| {
            with(
                "latency",
                &[
                    (place, RDGRAM, Metric::HalfRoundTripUs, 8, 2, ours),
                    (place, TCP, Metric::HalfRoundTripUs, 8, 2, 4.0),
                    (place, RAW_UDP, Metric::HalfRoundTripUs, 8, 2, 2.0),
                    (place, RAW_UDP_UNCONNECTED, Metric::HalfRoundTripUs, 8, 2, 2.5),
                ],
            )
        };
        let to_tcp = "hosts, MTU 1500: 8 B half round trip / tcp";
        assert_eq!(verdict(&report(2.0), to_tcp), Some((Some(0.5), Verdict::Ok)));
        assert_eq!(verdict(&report(3.0), to_tcp), Some((Some(0.75), Verdict::Short)));
        let to_raw = "hosts, MTU 1500: 8 B half round trip / raw UDP";
        assert_eq!(verdict(&report(3.0), to_raw), Some((Some(1.5), Verdict::Short)));
        assert_eq!(verdict(&report(2.5), to_raw), Some((Some(1.25), Verdict::Ok)));
    }

    #[test]
    fn what_is_only_told_has_a_value_and_no_verdict() {
        let report = with(
            "same-host",
            &[
                (ONE_HOST, RDGRAM, Metric::HalfRoundTripUs, 8, 2, 0.5),
                (ONE_HOST, SHM, Metric::HalfRoundTripUs, 8, 2, 0.4),
                (ONE_HOST, SHARED_FLAG, Metric::HalfRoundTripUs, 8, 2, 0.25),
            ],
        );
        let told = verdict(&report, "one host: 8 B half round trip / shared flag");
        assert_eq!(told, Some((Some(2.0), Verdict::Told)));
        let judged = verdict(&report, "one host: 8 B half round trip / shm");
        assert_eq!(judged, Some((Some(1.25), Verdict::Short)));
    }

    #[test]
    fn what_was_not_measured_is_never_ok() {
        let report = with("latency", &[]);
        assert!(judge(&report).iter().all(|judged| judged.verdict == Verdict::NotMeasured));
        assert!(judge(&report).len() > 20);
    }

    #[test]
    fn drops_of_all_sizes_are_added_and_a_missing_size_is_no_zero() {
        let place = &hosts_name(MTU);
        let drops = |bytes, value| (place.as_str(), RDGRAM_STOCK, Metric::Drops, bytes, SENDERS, value);
        let [first, second, third] = INCAST_BYTES;
        let what = "stock socket buffers, 64 senders to 1: datagrams dropped";
        let all = with("limits", &[drops(first, 0.0), drops(second, 3.0), drops(third, 0.0)]);
        assert_eq!(verdict(&all, what), Some((Some(3.0), Verdict::Short)));
        let some = with("limits", &[drops(first, 0.0), drops(second, 0.0)]);
        assert_eq!(verdict(&some, what), Some((None, Verdict::NotMeasured)));
    }

    #[test]
    fn copying_excuses_what_it_costs() {
        let place = &hosts_name(MTU);
        let report = |huge| {
            with(
                "latency",
                &[
                    (place, RDGRAM, Metric::PingPongMbS, MIB, 2, 4000.0),
                    (place, RDGRAM, Metric::PingPongMbS, 64 * MIB, 2, huge),
                ],
            )
        };
        let memory = with(
            "latency",
            &[
                (MEMORY, MEMCPY, Metric::StreamMbS, MIB, 1, 32_000.0),
                (MEMORY, MEMCPY, Metric::StreamMbS, 64 * MIB, 1, 8_000.0),
            ],
        );
        let judged = |huge| {
            let mut report = report(huge);
            report.results.extend(memory.results.clone());
            verdict(&report, "hosts, MTU 1500: 64 MiB PingPong / 1 MiB less the time of copying")
        };
        // 1/4000 + 1/8000 - 1/32000 is 1/2909.
        assert_eq!(judged(2900.0).map(|(_, verdict)| verdict), Some(Verdict::Ok));
        assert_eq!(judged(2000.0).map(|(_, verdict)| verdict), Some(Verdict::Short));
    }

    #[test]
    fn the_largest_number_of_peers_counts() {
        let place = &hosts_name(MTU);
        let unused = |peers, value| (place.as_str(), RDGRAM, Metric::UnusedPeerB, 0, peers, value);
        let report = with("peers", &[unused(16, 900.0), unused(4096, 60.0), unused(1024, 70.0)]);
        assert_eq!(verdict(&report, "unused peer, bytes"), Some((Some(60.0), Verdict::Ok)));
    }
}
