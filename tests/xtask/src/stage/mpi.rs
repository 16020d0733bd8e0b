//! MPI programs over the library: our own verification, the sleeping rank, the Intel MPI Benchmarks, mpi4py's
//! suite and MPICH's own, with MPICH. Each run proves with MPICH's own words which provider it used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::layout::Layout;
use crate::mpi::library::compile;
use crate::mpi::{Launch, Mpi, OLDER_MPICH, Place, Provider, Route};
use crate::packages;
use crate::suite::imb::{self, Benchmarks, Extent};
use crate::suite::{Setting, mpi4py as suite_of_mpi4py, mpich, verify as suite_of_ours};
use crate::tally::Tally;

/// In a normal run the sleeping rank sleeps only this long; what matters is that it makes no progress.
const SLEEP_SECONDS: &str = "5";
/// All of `verify` on a crowded machine.
const VERIFY_SECONDS: u64 = 600;
const BENCHMARK_SECONDS: u64 = 120;
const MPI4PY_SECONDS: u64 = 1200;
/// One test of MPICH's suite, unless its own limit is shorter.
const TESTSUITE_SECONDS: u64 = 600;

/// Ways between ranks of one host other than the usual one, each with the number of ranks that it is tried with.
const ROUTES: [(u32, &Route); 3] = [(2, &Route::DATAGRAMS), (2, &Route::COPIES), (4, &Route::CLIQUES)];

/// What the MPI stages need.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) mpi: Mpi,
    pub(super) provider: Provider,
}

/// MPICH, the provider, and a compiler for the programs; None when a check has said why not.
pub(super) fn prepare(context: &mut Context<'_>, tally: &mut Tally) -> Option<Bench> {
    let mut bench = None;
    tally.check("library and MPICH", || {
        packages::require_or_skip(context.layout, &[packages::GCC, packages::LIBC_HEADERS, packages::VENV])?;
        bench = Some(Bench { mpi: context.mpi()?, provider: context.provider()? });
        Ok(String::new())
    });
    bench
}

impl Bench {
    /// A run of `program`.
    pub(super) fn launch<'a>(
        &'a self,
        place: Place,
        ranks: u32,
        program: &'a Path,
        seconds: u64,
    ) -> Launch<'a> {
        let limit = Duration::from_secs(seconds);
        let (mpi, provider) = (&self.mpi, &self.provider);
        Launch { mpi, provider, place, ranks, program, limit, route: None, launcher: &[] }
    }

    /// A suite on one host.
    pub(super) fn setting<'a>(&'a self, layout: &'a Layout, ranks: u32, seconds: u64) -> Setting<'a> {
        let (place, limit) = (Place::Loopback, Duration::from_secs(seconds));
        Setting { layout, mpi: &self.mpi, provider: &self.provider, place, ranks, limit, route: None }
    }

    /// One of the benchmarks' binaries.
    pub(super) fn imb(&self, binary: &str) -> Result<PathBuf> {
        self.mpi.imb(binary).context("the benchmarks do not run on this MPI")
    }
}

/// Our own programs.
pub(super) fn verify(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for ranks in [2, 3, 4] {
        for group in ["two-sided", "one-sided"] {
            tally.check(&format!("verify {group}, {ranks} ranks"), || {
                suite_of_ours::run(bench.setting(layout, ranks, VERIFY_SECONDS), &[group])?.into_result()
            });
        }
    }
    if bench.provider.is_rdgram() {
        for (ranks, route) in ROUTES {
            tally.check(&format!("verify, {ranks} ranks, {}", route.name), || {
                let setting = Setting { route: Some(route), ..bench.setting(layout, ranks, VERIFY_SECONDS) };
                suite_of_ours::run(setting, &[])?.into_result()
            });
        }
    }
    tally.check("messages outstanding while their receiver sleeps", || {
        let source = layout.root.join("mpi-tests/sleeper.c");
        let sleeper = compile(layout, &bench.mpi, "sleeper", &[source])?;
        let launch = bench.launch(Place::Loopback, 2, &sleeper, 120);
        let output = launch.job(layout, "sleeper")?.arg(SLEEP_SECONDS).check()?;
        launch.proof(&output)?;
        let last = output.lines().rev().find(|line| line.starts_with("sleeper: "));
        last.map(str::to_owned).context("the program ended without its verdict")
    });
}

/// IMB-MPI1; it has to complete.
pub(super) fn imb(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for ranks in [2, 4] {
        benchmarks(layout, &bench, tally, &imb::MPI1, ranks, &imb::SHORT);
    }
}

/// One-sided and nonblocking benchmarks.
pub(super) fn imb_more(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for list in [&imb::ONE_SIDED, &imb::NONBLOCKING] {
        benchmarks(layout, &bench, tally, list, 2, &imb::BRIEF);
    }
}

/// Several threads in each rank, all of which communicate.
pub(super) fn threads(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for route in [&Route::MEMORY, &Route::DATAGRAMS] {
        tally.check(&format!("IMB-MT, 2 ranks of 2 threads, {}", route.name), || {
            let setting = Setting { route: Some(route), ..bench.setting(layout, 2, BENCHMARK_SECONDS) };
            imb::run(setting, &imb::THREADS, &imb::SHORT, &[])?.into_result()
        });
    }
}

fn benchmarks(
    layout: &Layout,
    bench: &Bench,
    tally: &mut Tally,
    list: &Benchmarks,
    ranks: u32,
    extent: &Extent,
) {
    for name in list.names {
        tally.check(&format!("IMB {name}, {ranks} ranks"), || {
            let program = bench.imb(list.binary)?;
            let setting = bench.setting(layout, ranks, BENCHMARK_SECONDS);
            Ok(imb::one(&setting, &program, name, extent)?.to_string())
        });
    }
}

/// mpi4py's own suite.
pub(super) fn mpi4py(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    tally.check("mpi4py's suite, 2 ranks", || {
        suite_of_mpi4py::alone(bench.setting(layout, 2, MPI4PY_SECONDS))?.into_result()
    });
}

/// MPICH's own suite of tests, the short form.
pub(super) fn mpich_testsuite(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    tally.check("MPICH's test suite, a short form", || {
        let mpi = Mpi::prepare(layout, mpich::MPI)?;
        let setting = Setting { mpi: &mpi, ..bench.setting(layout, 0, TESTSUITE_SECONDS) };
        mpich::run(setting, &mpich::Selection::short())?.into_result()
    });
}

/// Older versions of MPICH take the same library. Their programs need their own compiler wrapper; the
/// benchmark's binary serves all of them.
pub(super) fn wheels(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for version in OLDER_MPICH {
        let mut older = None;
        tally.check(&format!("{version} from PyPI"), || {
            let mpi = Mpi::prepare(layout, version)?;
            older = Some(Bench { mpi, provider: bench.provider.clone() });
            Ok(String::new())
        });
        let Some(older) = older else { continue };
        tally.check(&format!("IMB PingPong, {version}"), || {
            let setting = older.setting(layout, 2, BENCHMARK_SECONDS);
            Ok(imb::one(&setting, &older.imb("IMB-MPI1")?, "PingPong", &imb::SHORT)?.to_string())
        });
    }
}
