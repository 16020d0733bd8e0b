//! `cargo xtask test`: the stages, in order, each a set of checks.
//! Stages only decide what is run; what is right is judged by the programs they run.

mod app;
mod bench;
mod capi;
mod capture;
mod fabric;
mod fabtests;
mod hosts;
mod mpi;
mod rust;
mod soak;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::layout::Layout;
use crate::mpi::{MPICH, Mpi, Provider, RDGRAM};
use crate::tally::Tally;

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these stages; all without any.
    stages: Vec<String>,
    /// List the stages.
    #[arg(long)]
    list: bool,
    /// Run the stages that use the library over another libfabric provider, to test the tests.
    #[arg(long, default_value = RDGRAM)]
    provider: String,
}

/// What the stages share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    layout: &'a Layout,
    provider_name: &'a str,
    provider: Option<Provider>,
    mpi: Option<Mpi>,
}

/// A group of checks.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Context<'_>, &mut Tally),
}

const STAGES: &[Stage] = &[
    Stage { name: "format", about: "rustfmt", run: rust::format },
    Stage { name: "clippy", about: "clippy, warnings are errors", run: rust::clippy },
    Stage { name: "docs", about: "rustdoc and the man page, warnings are errors", run: rust::docs },
    Stage { name: "unit", about: "unit and property tests of every crate", run: rust::unit },
    Stage { name: "sim", about: "the simulator: seeds and planted bugs", run: rust::simulator },
    Stage { name: "models", about: "model checking of the locks and of the shared ring", run: rust::models },
    Stage { name: "bindings", about: "checked-in libfabric bindings are current", run: rust::bindings },
    Stage { name: "aarch64", about: "the workspace type-checks for aarch64", run: rust::aarch64 },
    Stage { name: "capi", about: "C programs against the built library", run: capi::run },
    Stage { name: "fabric", about: "fi_info and fi_pingpong", run: fabric::run },
    Stage { name: "verify", about: "mpi-tests: every byte checked, 2, 3 and 4 ranks", run: mpi::verify },
    Stage { name: "imb", about: "IMB-MPI1, 2 and 4 ranks", run: mpi::imb },
    Stage { name: "imb-rma", about: "IMB-RMA and IMB-NBC, 2 ranks, a short form", run: mpi::imb_more },
    Stage { name: "imb-mt", about: "IMB-MT, 2 ranks of 2 threads, every byte checked", run: mpi::threads },
    Stage { name: "mpi4py", about: "mpi4py's own suite of tests, 2 ranks", run: mpi::mpi4py },
    Stage {
        name: "mpich-testsuite",
        about: "MPICH's own suite of tests, a short form",
        run: mpi::mpich_testsuite,
    },
    Stage { name: "wheels", about: "older versions of MPICH, with older libfabrics", run: mpi::wheels },
    Stage { name: "app", about: "an application of others, its answer compared with tcp's", run: app::run },
    Stage { name: "bench", about: "the bench's programs, tried on this host", run: bench::run },
    Stage { name: "hosts", about: "two network namespaces: clean, 1 % loss, trains lost", run: hosts::run },
    Stage { name: "capture", about: "the Wireshark dissector: real and hostile packets", run: capture::run },
    Stage {
        name: "soak",
        about: "random mixed traffic with faults between two hosts, a short form",
        run: soak::run,
    },
    Stage {
        name: "fabtests",
        about: "libfabric's own test suite, found by FABTESTS_BIN",
        run: fabtests::run,
    },
];

impl<'a> Context<'a> {
    /// The provider under test, built on first use.
    fn provider(&mut self) -> Result<Provider> {
        if self.provider.is_none() {
            self.provider = Some(Provider::prepare(self.layout, self.provider_name)?);
        }
        self.provider.clone().ok_or_else(|| anyhow::anyhow!("no provider"))
    }

    /// MPICH and IMB, installed on first use.
    fn mpi(&mut self) -> Result<Mpi> {
        if self.mpi.is_none() {
            self.mpi = Some(Mpi::prepare(self.layout, MPICH)?);
        }
        self.mpi.clone().ok_or_else(|| anyhow::anyhow!("no MPI"))
    }
}

/// Run the stages.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    if options.list {
        for stage in STAGES {
            println!("{:<15} {}", stage.name, stage.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = options.stages.iter().find(|name| STAGES.iter().all(|stage| stage.name != **name))
    {
        bail!("no stage is named {unknown}: see `cargo xtask test --list`");
    }
    let mut context = Context { layout, provider_name: &options.provider, provider: None, mpi: None };
    let mut tally = Tally::default();
    let start = Instant::now();
    for stage in STAGES {
        if options.stages.is_empty() || options.stages.iter().any(|name| name == stage.name) {
            println!("== {}: {}", stage.name, stage.about);
            let stage_start = Instant::now();
            (stage.run)(&mut context, &mut tally);
            println!("   {} took {:.0} s", stage.name, stage_start.elapsed().as_secs_f64());
        }
    }
    println!("== total: {:.0} s", start.elapsed().as_secs_f64());
    println!("{tally}");
    Ok(if tally.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
