//! One cell of the matrix: what it runs, and what came out.
//! What failed is run over tcp;ofi_rxm too before it is called a failure of this project's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::command::commit;
use crate::layout::Layout;
use crate::mpi::library::NAMES;
use crate::mpi::{self, Mpi, PEER, Provider};
use crate::netns::Link;
use crate::suite::{self, Choice, Failure, Outcome, Setting};

/// A single run in a cell may take so long.
const RUN: Duration = Duration::from_secs(300);
/// mpi4py's suite is one run.
const RUN_MPI4PY: Duration = Duration::from_secs(900);

/// Each host receives more in every suite; a host without a rank far fewer.
const PACKETS_MIN: u64 = 2000;

/// Where the ranks of a cell are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// On one host: by shared memory.
    OneHost,
    /// On two: by datagrams, and by both where a host has several ranks.
    TwoHosts,
    /// On two, and one datagram of a hundred is lost.
    Loss,
}

/// An MPI, a suite and a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) place: Place,
    pub(super) mpi: String,
    pub(super) suite: String,
}

/// How a cell ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) commit: String,
    /// Seconds since 1970.
    pub(super) date: u64,
    pub(super) seconds: f64,
    /// MPI's words for the provider that it took.
    pub(super) proof: String,
    pub(super) passed: usize,
    pub(super) failed: Vec<Failure>,
    /// What fails over [`PEER`] as well.
    pub(super) failed_too: Vec<String>,
    pub(super) left_out: usize,
    pub(super) note: String,
    pub(super) detail: String,
    pub(super) dropped: u64,
    pub(super) received: u64,
}

impl Place {
    /// All of them, as on the page.
    pub(super) const ALL: [Self; 3] = [Self::OneHost, Self::TwoHosts, Self::Loss];

    fn of_ranks(self) -> mpi::Place {
        match self {
            Self::OneHost => mpi::Place::Loopback,
            Self::TwoHosts => mpi::Place::Hosts(Link::CLEAN),
            Self::Loss => mpi::Place::Hosts(Link::LOSSY),
        }
    }
}

impl Cell {
    /// All of them, in the order in which they are run.
    pub(super) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for place in Place::ALL {
            for mpi in NAMES {
                for suite in Choice::EACH {
                    cells.push(Self { place, mpi: mpi.to_owned(), suite: suite.name().to_owned() });
                }
            }
        }
        cells.retain(|cell| cell.cannot().is_none());
        cells
    }

    /// Why this MPI cannot run this suite at all.
    pub(super) fn cannot(&self) -> Option<&'static str> {
        let other_abi = self.mpi.starts_with("openmpi")
            && ["imb-rma", "imb-nbc", "imb-mt"].contains(&self.suite.as_str());
        // Debian (bookworm, trixie, sid) has no source package of the benchmarks, and of OSU's neither; PyPI has
        // only Intel's binaries.
        other_abi.then_some(
            "the benchmarks' binaries have the ABI of MPICH, and neither Debian nor PyPI has their sources",
        )
    }

    fn choice(&self) -> Option<Choice> {
        Choice::EACH.into_iter().find(|suite| suite.name() == self.suite)
    }

    /// Run it. A suite that cannot be run is a failure.
    pub(super) fn run(&self, layout: &Layout, mpi: &Mpi, provider: &Provider) -> Result<Record> {
        let suite = self.choice().ok_or_else(|| anyhow::anyhow!("no suite is named {}", self.suite))?;
        let place = self.place.of_ranks();
        let limit = if suite == Choice::Mpi4py { RUN_MPI4PY } else { RUN };
        let ranks = ranks(suite);
        let setting = Setting { layout, mpi, provider, place, ranks, limit, route: None };
        let start = Instant::now();
        let outcome = suite::carry_out(suite, setting, || compare(suite, setting));
        let mut record = Record::of(outcome, commit(layout), start.elapsed());
        let doubt = match self.place {
            Place::OneHost => None,
            _ if record.received < PACKETS_MIN => Some("the hosts hardly talked to each other"),
            Place::Loss if record.dropped == 0 => Some("no packet was dropped"),
            _ => None,
        };
        record.failed.extend(doubt.map(|doubt| Failure::from(doubt.to_owned())));
        Ok(record)
    }
}

/// Ranks of a suite: with four each host has two, and both routes are taken at once.
pub(super) fn ranks(suite: Choice) -> u32 {
    if suite == Choice::Verify { 4 } else { 2 }
}

/// Run the suite, and over [`PEER`] what failed.
fn compare(suite: Choice, setting: Setting<'_>) -> Result<Outcome> {
    let mut outcome = suite.run(setting, &[])?;
    let failed: Vec<String> = outcome.failed.iter().map(|failure| failure.test.clone()).collect();
    let failed: Vec<&str> = failed.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    // mpi4py's suite does this itself.
    if failed.is_empty() || suite == Choice::Mpi4py {
        return Ok(outcome);
    }
    println!("   {} tests over {PEER}", failed.len());
    let peer = Provider::builtin(setting.mpi.peer());
    match suite.run(Setting { provider: &peer, ..setting }, &failed) {
        Ok(theirs) => outcome.excuse(&theirs),
        // Then nothing is excused.
        Err(error) => outcome.failed.push(Failure::new(format!("over {PEER}"), format!("{error:#}"))),
    }
    Ok(outcome)
}

/// What the note of a cell says of a run before.
const BEFORE: &str = "failed in a run before: ";

impl Record {
    /// What failed in the run before, and does not fail now, is a part of the truth about this cell.
    pub(super) fn remember(&mut self, before: &Self) {
        let gone =
            before.failed.iter().filter(|failure| self.failed.iter().all(|now| now.test != failure.test));
        let named = gone.map(|failure| {
            // The directory of the build is nobody's concern.
            let text = failure.to_string();
            format!("{BEFORE}{}", text.split([';', '\n']).next().unwrap_or_default())
        });
        let older = before.note.split("; ").filter(|note| note.starts_with(BEFORE)).map(str::to_owned);
        let notes = core::iter::once(core::mem::take(&mut self.note)).chain(older).chain(named);
        self.note = notes.filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
    }

    fn of(outcome: Outcome, commit: String, took: Duration) -> Self {
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            commit,
            date,
            seconds: took.as_secs_f64(),
            proof: outcome.proof,
            passed: outcome.passed,
            failed: outcome.failed,
            failed_too: outcome.failed_too,
            left_out: outcome.skipped,
            note: outcome.note,
            detail: outcome.detail,
            dropped: outcome.dropped,
            received: outcome.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_mpi_cannot_run_is_no_cell() {
        let cells = Cell::all();
        let count = |mpi: &str| cells.iter().filter(|cell| cell.mpi == mpi).count();
        assert_eq!((count(NAMES[0]), count("openmpi-5")), (18, 9));
        assert!(cells.iter().all(|cell| cell.choice().is_some()));
    }

    #[test]
    fn only_what_was_run_over_both_and_failed_over_both_is_excused() {
        let failed = |names: &[&str]| names.iter().map(|name| Failure::new(*name, "seen")).collect();
        let mut ours = Outcome { failed: failed(&["a", "b", ""]), ..Outcome::default() };
        ours.excuse(&Outcome { failed: failed(&["b", "c", ""]), ..Outcome::default() });
        assert_eq!(ours.failed, failed(&["a", ""]) as Vec<Failure>);
        assert_eq!(ours.failed_too, ["b"]);
    }
}
