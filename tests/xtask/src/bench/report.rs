//! What a run of the bench found, as it is written to JSON and read back.
//! Everything printed or drawn comes from here: a report that was saved gives the same table and charts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::host::{Host, Moment};
use super::statistics::{extremes, median};
use super::targets::Judged;

/// What was measured, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Half a round trip.
    HalfRoundTripUs,
    /// Half a round trip by libfabric's own fi_pingpong, without MPI.
    FabricHalfRoundTripUs,
    /// Bytes over the time of half a round trip.
    PingPongMbS,
    /// Many messages in one direction.
    UnibandMbS,
    /// Many messages in one direction.
    UnibandMsgS,
    /// A stream of bytes in one direction; of copying, within one process.
    StreamMbS,
    /// Segments of the stream that did not arrive.
    StreamLost,
    /// The collective operation of this name.
    AllreduceUs,
    /// The collective operation of this name.
    AlltoallUs,
    /// The collective operation of this name.
    BarrierUs,
    /// Processor time of both sides.
    CpuSPerGb,
    /// Processor time of both sides.
    CpuSPerMillionMessages,
    /// Memory for a peer that was only inserted.
    UnusedPeerB,
    /// Memory for a peer that was talked to once.
    IdlePeerB,
    /// As `IdlePeerB`, of the kernel.
    IdlePeerKernelB,
    /// Descriptors that all peers together added.
    Descriptors,
    /// One message to each of all peers and one back.
    FirstMessagesS,
    /// Many senders, one receiver.
    IncastMbS,
    /// Datagrams dropped at full sockets.
    Drops,
    /// Packets dropped on purpose.
    LostOnPurpose,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Metric::HalfRoundTripUs => "half round trip, µs",
            Metric::FabricHalfRoundTripUs => "fi_pingpong, µs",
            Metric::PingPongMbS => "PingPong, MB/s",
            Metric::UnibandMbS => "Uniband, MB/s",
            Metric::UnibandMsgS => "Uniband, messages/s",
            Metric::StreamMbS => "stream, MB/s",
            Metric::StreamLost => "stream, segments lost",
            Metric::AllreduceUs => "Allreduce, µs",
            Metric::AlltoallUs => "Alltoall, µs",
            Metric::BarrierUs => "Barrier, µs",
            Metric::CpuSPerGb => "CPU s/GB",
            Metric::CpuSPerMillionMessages => "CPU s/million messages",
            Metric::UnusedPeerB => "unused peer, B",
            Metric::IdlePeerB => "idle peer, B",
            Metric::IdlePeerKernelB => "idle peer, kernel, B",
            Metric::Descriptors => "descriptors added",
            Metric::FirstMessagesS => "first messages, s",
            Metric::IncastMbS => "incast, MB/s",
            Metric::Drops => "datagrams dropped",
            Metric::LostOnPurpose => "packets lost on purpose",
        })
    }
}

/// Which measurement it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    /// The section that measured it: only what one section measured took turns.
    pub(crate) section: String,
    /// The name of the site.
    pub(crate) place: String,
    /// What it was measured of: a provider, or a floor.
    pub(crate) subject: String,
    /// What was measured.
    pub(crate) metric: Metric,
    /// Of a message, or of a segment; 0 where there is none.
    pub(crate) bytes: u64,
    /// Ranks, peers or senders.
    pub(crate) parties: u32,
}

/// Where something was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// The section.
    pub(crate) section: &'a str,
    /// The name of the site.
    pub(crate) place: &'a str,
}

/// The samples of one measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Which it is.
    #[serde(flatten)]
    pub(crate) key: Key,
    /// Of the samples.
    pub(crate) median: f64,
    /// The smallest sample.
    pub(crate) min: f64,
    /// The largest sample.
    pub(crate) max: f64,
    /// One of each round.
    pub(crate) samples: Vec<f64>,
}

/// Something that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// The section of the bench.
    pub(crate) section: String,
    /// The name of the site.
    pub(crate) place: String,
    /// Whose run it was.
    pub(crate) subject: String,
    /// What happened.
    pub(crate) what: String,
    /// Was it the bench's own decision not to measure?
    pub(crate) left_out: bool,
}

/// Counters of the provider in one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// The name of the site.
    pub(crate) place: String,
    /// By name, added over both ranks.
    pub(crate) values: BTreeMap<String, u64>,
}

/// Everything a run found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The machine and the versions.
    pub(crate) host: Host,
    /// How busy the machine was with other things, while nothing was measured.
    pub(crate) moments: Vec<Moment>,
    /// Was it the short form?
    pub(crate) short: bool,
    /// How often everything was to be measured.
    pub(crate) rounds: usize,
    /// The whole run.
    pub(crate) seconds: f64,
    /// What was measured.
    pub(crate) results: Vec<Measured>,
    /// What could not be measured.
    pub(crate) troubles: Vec<Trouble>,
    /// The provider's counters.
    pub(crate) counters: Vec<Counters>,
    /// The targets, judged.
    pub(crate) judged: Vec<Judged>,
}

impl Report {
    /// Samples become results.
    pub(crate) fn measured(samples: BTreeMap<Key, Vec<f64>>) -> Vec<Measured> {
        let rows = samples.into_iter().filter_map(|(key, samples)| {
            let median = median(&samples)?;
            let (min, max) = extremes(&samples)?;
            Some(Measured { key, median, min, max, samples })
        });
        rows.collect()
    }

    /// The median of one measurement, if it was made.
    pub(crate) fn median(
        &self,
        at: At<'_>,
        subject: &str,
        metric: Metric,
        bytes: u64,
        parties: u32,
    ) -> Option<f64> {
        let mut results = self.of(at, metric);
        let result = results.find(|result| {
            let key = &result.key;
            key.subject == subject && key.bytes == bytes && key.parties == parties
        });
        result.map(|result| result.median)
    }

    /// The results of one metric in one section at one place.
    pub(crate) fn of<'a>(&'a self, at: At<'a>, metric: Metric) -> impl Iterator<Item = &'a Measured> {
        self.results.iter().filter(move |result| {
            let key = &result.key;
            key.section == at.section && key.place == at.place && key.metric == metric
        })
    }

    /// The places of a section, in the order of the alphabet.
    pub(crate) fn places(&self, section: &str) -> Vec<&str> {
        let results = self.results.iter().filter(|result| result.key.section == section);
        let mut places: Vec<&str> = results.map(|result| result.key.place.as_str()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with these medians: place, subject, metric, bytes, parties, value.
    pub(crate) fn with(section: &str, values: &[(&str, &str, Metric, u64, u32, f64)]) -> Report {
        let samples = values.iter().map(|(place, subject, metric, bytes, parties, value)| {
            let key = Key {
                section: section.to_owned(),
                place: (*place).to_owned(),
                subject: (*subject).to_owned(),
                metric: *metric,
                bytes: *bytes,
                parties: *parties,
            };
            (key, vec![*value])
        });
        Report {
            host: Host::default(),
            moments: Vec::new(),
            short: true,
            rounds: 1,
            seconds: 1.0,
            results: Report::measured(samples.collect()),
            troubles: Vec::new(),
            counters: Vec::new(),
            judged: Vec::new(),
        }
    }

    #[test]
    fn a_report_survives_json() -> anyhow::Result<()> {
        let report = with("latency", &[("loopback", "tcp", Metric::HalfRoundTripUs, 8, 2, 3.5)]);
        let text = serde_json::to_string(&report)?;
        let again: Report = serde_json::from_str(&text)?;
        let at = At { section: "latency", place: "loopback" };
        assert_eq!(again.median(at, "tcp", Metric::HalfRoundTripUs, 8, 2), Some(3.5));
        assert_eq!(again.median(at, "tcp", Metric::HalfRoundTripUs, 64, 2), None);
        let elsewhere = At { section: "limits", ..at };
        assert_eq!(again.median(elsewhere, "tcp", Metric::HalfRoundTripUs, 8, 2), None);
        Ok(())
    }

    #[test]
    fn results_carry_median_and_extremes() {
        let key = Key {
            section: "loss".to_owned(),
            place: "loopback".to_owned(),
            subject: "tcp".to_owned(),
            metric: Metric::Drops,
            bytes: 0,
            parties: 2,
        };
        let results = Report::measured(BTreeMap::from([(key, vec![5.0, 1.0, 2.0])]));
        assert_eq!((results[0].median, results[0].min, results[0].max), (2.0, 1.0, 5.0));
    }
}
