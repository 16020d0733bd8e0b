//! MPI programs over the library: our own verification, the sleeping rank, and the Intel MPI Benchmarks.
//! Each run proves with MPICH's own words which provider it used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::command::Job;
use crate::imb::{self, TWO_SIDED_AND_COLLECTIVE};
use crate::layout::Layout;
use crate::mpi::{Launch, Place, Provider, proof};
use crate::packages;
use crate::tally::{Tally, skip};
use crate::venv::{Mpi, OLDER_MPICH};

/// In a normal run the sleeping rank sleeps only this long; what matters is that it makes no progress.
const SLEEP_SECONDS: &str = "5";

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
        Launch { mpi: &self.mpi, provider: &self.provider, place, ranks, program, limit }
    }
}

/// Our own programs.
pub(super) fn verify(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    let mut programs = None;
    tally.check("compile mpi-tests", || {
        programs = Some((compile_verify(layout, &bench.mpi)?, compile_sleeper(layout, &bench.mpi)?));
        Ok(String::new())
    });
    let Some((verify, sleeper)) = programs else { return };
    for ranks in [2, 4] {
        tally.check(&format!("verify, {ranks} ranks"), || {
            let launch = bench.launch(Place::Loopback, ranks, &verify, 300);
            judge_verify(&bench, &launch.job(layout, format!("verify {ranks} ranks")).check()?)
        });
    }
    tally.check("messages outstanding while their receiver sleeps", || {
        let launch = bench.launch(Place::Loopback, 2, &sleeper, 120);
        let output = launch.job(layout, "sleeper").arg(SLEEP_SECONDS).check()?;
        proof(&output, &bench.provider)?;
        let last = output.lines().rev().find(|line| line.starts_with("sleeper: "));
        last.map(str::to_owned).context("the program ended without its verdict")
    });
}

/// Read the verdict of `mpi-tests/verify`.
pub(super) fn judge_verify(bench: &Bench, output: &str) -> Result<String> {
    proof(output, &bench.provider)?;
    let verdict = output.lines().find(|line| line.starts_with("verify: ") && line.contains("checks passed"));
    verdict.map(str::to_owned).context("verify ended without its verdict")
}

/// IMB-MPI1's two-sided and collective list; it has to complete.
pub(super) fn imb(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for ranks in [2, 4] {
        for benchmark in TWO_SIDED_AND_COLLECTIVE {
            tally.check(&format!("IMB {benchmark}, {ranks} ranks"), || {
                let launch = bench.launch(Place::Loopback, ranks, &bench.mpi.imb, 120);
                let job = launch.job(layout, format!("IMB {benchmark} {ranks} ranks"));
                judge_imb(&bench, &job.args(imb_arguments(benchmark, ranks)).check()?, benchmark)
            });
        }
    }
}

/// Older versions of MPICH take the same library. Their programs need their own compiler wrapper; the
/// benchmark's binary serves all of them.
pub(super) fn wheels(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let Some(bench) = prepare(context, tally) else { return };
    for version in OLDER_MPICH {
        let mut older = None;
        tally.check(&format!("MPICH {version} from PyPI"), || {
            let mpi = Mpi::prepare(layout, version)?;
            older = Some(Bench { mpi, provider: bench.provider.clone() });
            Ok(String::new())
        });
        let Some(older) = older else { continue };
        tally.check(&format!("IMB PingPong, MPICH {version}"), || {
            let launch = older.launch(Place::Loopback, 2, &older.mpi.imb, 120);
            let job = launch.job(layout, format!("IMB PingPong MPICH {version}"));
            judge_imb(&older, &job.args(imb_arguments("PingPong", 2)).check()?, "PingPong")
        });
    }
}

/// One benchmark with all ranks. Few repetitions: what counts is that every size is run.
pub(super) fn imb_arguments(benchmark: &str, ranks: u32) -> Vec<String> {
    let ranks = ranks.to_string();
    ["-time", "0.2", "-iter", "100", "-msglog", "0:20", "-npmin", &ranks, benchmark]
        .map(str::to_owned)
        .to_vec()
}

/// The benchmark came to its end. IMB leaves sizes out when its own time is up, as on a crowded machine;
/// how many is said.
pub(super) fn judge_imb(bench: &Bench, output: &str, benchmark: &str) -> Result<String> {
    proof(output, &bench.provider)?;
    if !output.contains(imb::COMPLETED) {
        bail!("IMB did not come to its end");
    }
    let measured = imb::tables(output).remove(benchmark).map_or(0, |rows| rows.len());
    let left_out = imb::left_out(output);
    match (measured, left_out) {
        (0, 0) => bail!("IMB printed no table for {benchmark}"),
        (_, 0) => Ok(format!("{measured} sizes")),
        _ => Ok(format!("{measured} sizes, {left_out} left out for lack of time")),
    }
}

/// Compile `mpi-tests/verify`, all files into one program.
pub(super) fn compile_verify(layout: &Layout, mpi: &Mpi) -> Result<PathBuf> {
    let dir = layout.root.join("mpi-tests/verify");
    let mut sources: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    compile(layout, mpi, "verify", &sources)
}

fn compile_sleeper(layout: &Layout, mpi: &Mpi) -> Result<PathBuf> {
    compile(layout, mpi, "sleeper", &[layout.root.join("mpi-tests/sleeper.c")])
}

fn compile(layout: &Layout, mpi: &Mpi, name: &str, sources: &[PathBuf]) -> Result<PathBuf> {
    if sources.is_empty() {
        return Err(skip(format!("no sources for {name}")));
    }
    let dir = layout.program_dir("mpi");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let program = dir.join(name);
    Job::new(layout, format!("mpicc {name}"), mpi.mpicc())
        .args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .args(sources)
        .check()?;
    Ok(program)
}
