//! `cargo xtask mpi`: a program, or suites of tests, over a chosen MPI and a chosen libfabric provider.
//! It must never call a run successful that did not prove which provider it took.

pub(crate) mod launch;
pub(crate) mod library;
mod proof;
pub(crate) mod provider;
pub(crate) mod route;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

pub(crate) use self::launch::Launch;
pub(crate) use self::library::{MPICH, Mpi, OLDER_MPICH, OPENMPI_4};
pub(crate) use self::provider::{PEER, Place, Provider, RDGRAM};
pub(crate) use self::route::Route;
use crate::layout::Layout;
use crate::netns::Link;
use crate::suite;

/// Options of `cargo xtask mpi`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of ranks; suites without it run with each number that belongs to them.
    #[arg(short = 'n', long)]
    pub(crate) ranks: Option<u32>,
    /// The libfabric provider to run over.
    #[arg(long, default_value = RDGRAM)]
    pub(crate) provider: String,
    /// The MPI: mpich-5.0.2, which is the default, another one of the README's table, or `all`; may be given several times.
    /// MPICH's test suite is run with mpich-4.3.2 unless this is said.
    #[arg(long = "mpi")]
    pub(crate) mpis: Vec<String>,
    /// Run this suite of tests instead of a program; may be given several times.
    #[arg(long = "suite", conflicts_with = "program")]
    pub(crate) suites: Vec<suite::Choice>,
    /// Run on one host or between two network namespaces (needs root).
    #[arg(long, default_value = "one")]
    pub(crate) hosts: Hosts,
    /// End a run after this many seconds.
    #[arg(long, default_value_t = 3600)]
    pub(crate) seconds: u64,
    /// What is chosen of MPICH's test suite.
    #[command(flatten)]
    pub(crate) mpich: suite::mpich::Selection,
    /// The program and its arguments.
    #[arg(last = true)]
    program: Vec<OsString>,
}

/// Where the ranks run, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hosts {
    /// All on this host.
    One,
    /// On two network namespaces.
    Two,
    /// The same, and one datagram of a hundred is lost.
    Lossy,
}

impl Options {
    /// Where the ranks run.
    pub(crate) fn place(&self) -> Place {
        match self.hosts {
            Hosts::One => Place::Loopback,
            Hosts::Two => Place::Hosts(Link::CLEAN),
            Hosts::Lossy => Place::Hosts(Link::LOSSY),
        }
    }
}

/// Run the user's program, or suites.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    if !options.suites.is_empty() {
        return suite::run(layout, options);
    }
    let Some((program, arguments)) = options.program.split_first() else {
        bail!("neither a program nor a suite given: see `cargo xtask mpi --help`")
    };
    let name = match options.mpis.as_slice() {
        [] => MPICH,
        [name] => name,
        _ => bail!("a program is run with one MPI"),
    };
    let mpi = Mpi::prepare(layout, name)?;
    let provider = Provider::prepare(layout, &options.provider)?;
    let launch = Launch {
        mpi: &mpi,
        provider: &provider,
        place: options.place(),
        ranks: options.ranks.unwrap_or(2),
        program: Path::new(program),
        limit: Duration::from_secs(options.seconds),
        route: None,
        launcher: &[],
    };
    let limit = Duration::from_secs(options.seconds);
    // A program of the user's may be silent for as long as it likes.
    let job = launch.job(layout, "mpirun")?.dir(&env::current_dir()?).stall(limit);
    let end = job.args(arguments).run()?;
    print!("{}", end.output);
    let proof = launch.proof(&end.output)?;
    let success = end.success();
    end.into_result()?;
    println!("{proof}");
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
