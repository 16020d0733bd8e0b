//! `cargo xtask`: the one tool that builds, demonstrates and tests the project.
//! It drives other programs and reports; it must never contain a test's judgement of the protocol itself.

#![allow(
    clippy::disallowed_methods,
    reason = "the rule that time is an argument is the provider's; this tool times the commands it runs"
)]

mod app;
mod bench;
mod bindings;
mod command;
mod cross;
mod demo;
mod layout;
mod manual;
mod matrix;
mod mpi;
mod netns;
mod packages;
mod plugin;
mod soak;
mod stacks;
mod stage;
mod suite;
mod tally;
mod tsan;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::layout::Layout;

/// Build, demonstrate and test rdgram.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing, build, and compare MPI over rdgram with MPI over tcp;ofi_rxm.
    Demo,
    /// Run everything CI runs, or only the named stages.
    Test(stage::Options),
    /// Run an MPI program over rdgram, `cargo xtask mpi -n 2 -- ./program arguments`, or suites of tests with
    /// one MPI or all: `cargo xtask mpi --mpi openmpi-5 --suite verify`.
    Mpi(mpi::Options),
    /// Run real applications over rdgram and over another provider, and compare their answers:
    /// `cargo xtask app lammps --hosts two`.
    App(app::Options),
    /// Every MPI with every suite on one host, on two, and on two with loss; writes prov/docs/matrix.md (needs root).
    Matrix(matrix::Options),
    /// Measure rdgram beside libfabric's other providers and bare UDP, and compare with the targets.
    Bench(bench::Options),
    /// Random mixed traffic for a long time, with loss, stopped, killed and restarted processes (needs root).
    Soak(soak::Options),
    /// Two hosts on this machine, as network namespaces (needs root).
    Netns(netns::Options),
    /// Make the man page fi_rdgram(7).
    Man(manual::Options),
    /// Run the programs with many threads under ThreadSanitizer (needs a nightly compiler).
    Tsan,
    /// Regenerate the checked-in libfabric bindings, or check that they are current.
    Bindings(bindings::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let layout = Layout::find()?;
    command::end_jobs_on_signals()?;
    match cli.task {
        Task::Demo => demo::run(&layout),
        Task::Test(options) => stage::run(&layout, &options),
        Task::Mpi(options) => mpi::run(&layout, &options),
        Task::App(options) => app::run(&layout, &options),
        Task::Matrix(options) => matrix::run(&layout, &options),
        Task::Bench(options) => bench::run(&layout, &options),
        Task::Soak(options) => soak::run(&layout, &options),
        Task::Netns(options) => netns::run(&layout, &options),
        Task::Man(options) => manual::run(&layout, &options),
        Task::Tsan => tsan::run(&layout),
        Task::Bindings(options) => bindings::run(&layout, &options),
    }
}
