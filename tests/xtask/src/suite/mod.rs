//! Suites of tests over one MPI: runs them, counts what passed, failed and was skipped, and prints the table.
//! What a suite could not run is a failure; nothing that was not run counts as passed.

pub(crate) mod imb;
pub(crate) mod mpi4py;
pub(crate) mod mpich;
mod record;
pub(crate) mod table;
pub(crate) mod verify;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::layout::Layout;
use crate::mpi::library::NAMES;
use crate::mpi::{Launch, MPICH, Mpi, Options, Place, Provider, Route};
use crate::netns;
use crate::packages;

/// The suites on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// IMB-MPI1's PingPong and Allreduce.
    Imb,
    /// All of IMB-RMA.
    ImbRma,
    /// All of IMB-NBC.
    ImbNbc,
    /// `mpi-tests/verify`, compiled for the MPI.
    Verify,
    /// mpi4py's own suite, compared with the same over tcp;ofi_rxm.
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
    pub(crate) failed: Vec<String>,
    /// Tests that were left out, by the suite's own judgement or because this MPI does not have them.
    pub(crate) skipped: usize,
    /// What says which provider was taken.
    pub(crate) proof: String,
    /// What else has to be known to read the counts.
    pub(crate) note: String,
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Self::Imb => "imb",
            Self::ImbRma => "imb-rma",
            Self::ImbNbc => "imb-nbc",
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
            Self::Imb | Self::ImbRma | Self::ImbNbc | Self::All => &[2],
            Self::Verify => &[2, 3, 4],
            Self::Mpi4py => &[2, 3],
            // Its lists say how many each test has.
            Self::MpichTestsuite => &[0],
        }
    }

    fn run(self, setting: Setting<'_>, options: &Options) -> Result<Outcome> {
        match self {
            Self::Imb => imb::run(setting, &imb::TWO_SIDED, &imb::COMPLETE),
            Self::ImbRma => imb::run(setting, &imb::ONE_SIDED, &imb::COMPLETE),
            Self::ImbNbc => imb::run(setting, &imb::NONBLOCKING, &imb::COMPLETE),
            Self::Verify => verify::run(setting, &[]),
            Self::Mpi4py => mpi4py::compare(setting),
            Self::MpichTestsuite => mpich::run(setting, &options.mpich),
            Self::All => bail!("all is not one suite"),
        }
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
        let hosts = if self.place == Place::Hosts { " two hosts" } else { "" };
        let ranks = if self.ranks == 0 { String::new() } else { format!(" {} ranks", self.ranks) };
        format!("{what} {}{ranks} over {}{hosts}", self.mpi.name, self.provider.name)
    }
}

impl Outcome {
    /// As the result of one check.
    pub(crate) fn into_result(self) -> Result<String> {
        let Self { passed, failed, skipped, note, .. } = self;
        if !failed.is_empty() {
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
        Ok(if note.is_empty() { text } else { format!("{text}; {note}") })
    }
}

/// Run what the options ask for; the last line counts all tests.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::VENV])?;
    if options.place() == Place::Hosts {
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
                let outcome = carry_out(suite, setting, options);
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

fn carry_out(suite: Choice, setting: Setting<'_>, options: &Options) -> Outcome {
    println!("== {}", setting.label(suite.name()));
    let start = Instant::now();
    // A suite that cannot be run at all is one failure.
    let outcome = suite
        .run(setting, options)
        .unwrap_or_else(|error| Outcome { failed: vec![format!("{error:#}")], ..Outcome::default() });
    for failure in &outcome.failed {
        println!("  FAILED  {failure}");
    }
    println!(
        "   {} passed, {} failed, {} skipped, {:.0} s; {}",
        outcome.passed,
        outcome.failed.len(),
        outcome.skipped,
        start.elapsed().as_secs_f64(),
        outcome.proof
    );
    outcome
}

fn row(suite: Choice, setting: &Setting<'_>, outcome: &Outcome) -> String {
    let hosts = if setting.place == Place::Hosts { 2 } else { 1 };
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
        outcome.note
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
        return vec![Choice::Imb, Choice::ImbRma, Choice::ImbNbc, Choice::Verify, Choice::Mpi4py];
    }
    chosen.to_vec()
}
