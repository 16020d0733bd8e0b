//! Suites of tests over one MPI: runs them, counts what passed, failed and was skipped, and prints the table.
//! What a suite could not run is a failure; nothing that was not run counts as passed.

pub(crate) mod imb;
pub(crate) mod mpi4py;
pub(crate) mod mpich;
mod record;
pub(crate) mod table;
pub(crate) mod verify;

use std::fmt::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::mpi::library::NAMES;
use crate::mpi::{Launch, MPICH, Mpi, Options, PEER, Place, Provider, Route};
use crate::netns;
use crate::packages;

/// The suites on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// All of IMB-MPI1.
    Imb,
    /// All of IMB-RMA.
    ImbRma,
    /// All of IMB-NBC.
    ImbNbc,
    /// All of IMB-MT, two threads to a rank, every byte checked.
    ImbMt,
    /// `mpi-tests/verify`, compiled for the MPI.
    Verify,
    /// mpi4py's own suite; what fails is run over tcp;ofi_rxm too.
    Mpi4py,
    /// MPICH's own test suite, compared with the same over tcp;ofi_rxm: takes an hour, and is not part of `all`.
    MpichTestsuite,
    /// All the others.
    All,
}

/// What a suite is run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The directories.
    pub(crate) layout: &'a Layout,
    /// Which MPI.
    pub(crate) mpi: &'a Mpi,
    /// What it runs over.
    pub(crate) provider: &'a Provider,
    /// Where the ranks run.
    pub(crate) place: Place,
    /// How many; 0 where the suite itself says it, test by test.
    pub(crate) ranks: u32,
    /// How long a single run may take.
    pub(crate) limit: Duration,
    /// How ranks of one host reach each other; as it comes when that is not said.
    pub(crate) route: Option<&'static Route>,
}

/// How a suite ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Each test that failed, or was not reached, with what was seen.
    pub(crate) failed: Vec<Failure>,
    /// Tests that failed, and over [`PEER`] as well.
    pub(crate) failed_too: Vec<String>,
    /// Tests that were left out, by the suite's own judgement or because this MPI does not have them.
    pub(crate) skipped: usize,
    /// What says which provider was taken.
    pub(crate) proof: String,
    /// What else has to be known to read the counts.
    pub(crate) note: String,
    /// What was run, more closely.
    pub(crate) detail: String,
    /// Packets that were lost on purpose.
    pub(crate) dropped: u64,
    /// Packets that arrived at the host which received fewer, where there are two.
    pub(crate) received: u64,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Its name, as the suite can be asked for it; or what else went wrong.
    pub(crate) test: String,
    /// What was seen.
    pub(crate) seen: String,
}

impl Choice {
    /// Those that are meant by all.
    pub(crate) const EACH: [Self; 6] =
        [Self::Imb, Self::ImbRma, Self::ImbNbc, Self::ImbMt, Self::Verify, Self::Mpi4py];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Imb => "imb",
            Self::ImbRma => "imb-rma",
            Self::ImbNbc => "imb-nbc",
            Self::ImbMt => "imb-mt",
            Self::Verify => "verify",
            Self::Mpi4py => "mpi4py",
            Self::MpichTestsuite => "mpich-testsuite",
            Self::All => "all",
        }
    }

    /// With how many ranks it is run.
    fn ranks_of(self, options: &Options) -> Vec<u32> {
        let said = options.ranks.filter(|_| self != Self::MpichTestsuite);
        said.map_or_else(|| self.ranks().to_vec(), |ranks| vec![ranks])
    }

    /// The same unless it is said.
    fn ranks(self) -> &'static [u32] {
        match self {
            Self::Imb | Self::ImbRma | Self::ImbNbc | Self::ImbMt | Self::All => &[2],
            Self::Verify => &[2, 3, 4],
            Self::Mpi4py => &[2, 3],
            // Its lists say how many each test has.
            Self::MpichTestsuite => &[0],
        }
    }

    /// Run it, or these tests of it.
    pub(crate) fn run(self, setting: Setting<'_>, chosen: &[&str]) -> Result<Outcome> {
        match self {
            Self::Imb => imb::run(setting, &imb::MPI1, &imb::COMPLETE, chosen),
            Self::ImbRma => imb::run(setting, &imb::ONE_SIDED, &imb::COMPLETE, chosen),
            Self::ImbNbc => imb::run(setting, &imb::NONBLOCKING, &imb::COMPLETE, chosen),
            Self::ImbMt => imb::run(setting, &imb::THREADS, &imb::COMPLETE, chosen),
            Self::Verify => verify::run(setting, chosen),
            Self::Mpi4py => mpi4py::compare(setting),
            Self::MpichTestsuite => bail!("what is to be run of MPICH's test suite has options of its own"),
            Self::All => bail!("all is not one suite"),
        }
    }
}

impl Failure {
    /// `test` failed, and this was seen.
    pub(crate) fn new(test: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { test: test.into(), seen: seen.into() }
    }
}

impl From<String> for Failure {
    /// Something went wrong that is no test.
    fn from(seen: String) -> Self {
        Self::new("", seen)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.test.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.test, self.seen)
    }
}

impl<'a> Setting<'a> {
    /// A run of `program`.
    pub(crate) fn launch(&self, program: &'a std::path::Path) -> Launch<'a> {
        let Self { mpi, provider, place, ranks, limit, route, .. } = *self;
        Launch { mpi, provider, place, ranks, program, limit, route, launcher: &[] }
    }

    /// Names its logs.
    pub(crate) fn label(&self, what: &str) -> String {
        let hosts = match self.place.link() {
            None => "",
            Some(link) if link.loss_per_mille == 0 => " two hosts",
            Some(_) => " two hosts with loss",
        };
        let ranks = if self.ranks == 0 { String::new() } else { format!(" {} ranks", self.ranks) };
        format!("{what} {}{ranks} over {}{hosts}", self.mpi.name, self.provider.name)
    }
}

impl Outcome {
    /// Tests that failed over [`PEER`] as well are not this project's failures.
    pub(crate) fn excuse(&mut self, theirs: &Self) {
        let too = |failure: &Failure| {
            !failure.test.is_empty() && theirs.failed.iter().any(|other| other.test == failure.test)
        };
        let (too, ours): (Vec<_>, Vec<_>) = self.failed.drain(..).partition(too);
        self.failed = ours;
        self.failed_too.extend(too.into_iter().map(|failure| failure.test));
    }

    /// All that is to be said beside the counts.
    fn remarks(&self) -> String {
        let too = match self.failed_too.len() {
            0 => String::new(),
            count => format!("{count} fail over {PEER} too: {}", self.failed_too.join(", ")),
        };
        let dropped =
            if self.dropped > 0 { format!("{} packets dropped", self.dropped) } else { String::new() };
        let all = [self.note.as_str(), &self.detail, &too, &dropped];
        all.into_iter().filter(|remark| !remark.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// As the result of one check.
    pub(crate) fn into_result(self) -> Result<String> {
        let remarks = self.remarks();
        let Self { passed, failed, skipped, .. } = self;
        if !failed.is_empty() {
            let failed: Vec<String> = failed.iter().map(Failure::to_string).collect();
            bail!("{passed} passed, {} failed:\n    {}", failed.len(), failed.join("\n    "));
        }
        if passed == 0 {
            bail!("no test was run");
        }
        let mut text = format!("{passed} passed");
        if skipped > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {skipped} skipped");
        }
        if !remarks.is_empty() {
            let _ = write!(text, "; {remarks}");
        }
        Ok(text)
    }
}

/// Run what the options ask for; the last line counts all tests.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::VENV])?;
    if options.place().link().is_some() {
        netns::available(layout)?;
    }
    let provider = Provider::prepare(layout, &options.provider)?;
    let mut rows = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for name in names(options) {
        let mpi = Mpi::prepare(layout, name)?;
        for suite in suites(&options.suites) {
            for ranks in suite.ranks_of(options) {
                let limit = Duration::from_secs(options.seconds);
                let place = options.place();
                let route = None;
                let setting = Setting { layout, mpi: &mpi, provider: &provider, place, ranks, limit, route };
                let outcome = carry_out(suite, setting, || match suite {
                    Choice::MpichTestsuite => mpich::run(setting, &options.mpich),
                    _ => suite.run(setting, &[]),
                });
                passed += outcome.passed;
                failed += outcome.failed.len();
                skipped += outcome.skipped;
                rows.push(row(suite, &setting, &outcome));
            }
        }
    }
    println!("\n| MPI | suite | ranks | hosts | provider taken | passed | failed | skipped | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Run it, and print how it ended.
pub(crate) fn carry_out(
    suite: Choice,
    setting: Setting<'_>,
    run: impl FnOnce() -> Result<Outcome>,
) -> Outcome {
    println!("== {}", setting.label(suite.name()));
    let start = Instant::now();
    // A suite that cannot be run at all is one failure.
    let outcome = run().unwrap_or_else(|error| Outcome {
        failed: vec![Failure::from(format!("{error:#}"))],
        ..Outcome::default()
    });
    for failure in &outcome.failed {
        println!("  FAILED  {failure}");
    }
    println!(
        "   {} passed, {} failed, {} skipped, {:.0} s; {}; {}",
        outcome.passed,
        outcome.failed.len(),
        outcome.skipped,
        start.elapsed().as_secs_f64(),
        outcome.proof,
        outcome.remarks()
    );
    outcome
}

fn row(suite: Choice, setting: &Setting<'_>, outcome: &Outcome) -> String {
    let hosts = match setting.place.link() {
        None => "1",
        Some(link) if link.loss_per_mille == 0 => "2",
        Some(_) => "2, loss",
    };
    let ranks = if setting.ranks == 0 { "as listed".to_owned() } else { setting.ranks.to_string() };
    let taken = if outcome.proof.is_empty() { "not known" } else { setting.provider.name.as_str() };
    format!(
        "| {} | {} | {} | {hosts} | {taken} | {} | {} | {} | {} |",
        setting.mpi.name,
        suite.name(),
        ranks,
        outcome.passed,
        outcome.failed.len(),
        outcome.skipped,
        outcome.remarks()
    )
}

fn names(options: &Options) -> Vec<&str> {
    let chosen = &options.mpis;
    if chosen.is_empty() {
        return vec![if options.suites == [Choice::MpichTestsuite] { mpich::MPI } else { MPICH }];
    }
    if chosen.iter().any(|name| name == "all") {
        return NAMES.to_vec();
    }
    chosen.iter().map(String::as_str).collect()
}

fn suites(chosen: &[Choice]) -> Vec<Choice> {
    if chosen.contains(&Choice::All) {
        return Choice::EACH.to_vec();
    }
    chosen.to_vec()
}
