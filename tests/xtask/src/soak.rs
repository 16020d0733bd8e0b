//! `cargo xtask soak`: the long run of random mixed traffic, `tests/soak`, between two network namespaces.
//! The program judges; this file only compiles and starts it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Place, Provider, RDGRAM};
use crate::netns::{self, Link};
use crate::packages;

/// Between the end of the traffic and that of the program, at most.
const ENDING: Duration = Duration::from_secs(240);

/// Options of `cargo xtask soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long there is traffic.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Draws traffic and faults; another one each time without. Even ones lose single datagrams, odd ones whole trains.
    #[arg(long)]
    seed: Option<u64>,
}

/// In the foreground, with a line every ten seconds.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    packages::require(
        layout,
        &[
            packages::GCC,
            packages::LIBC_HEADERS,
            packages::LIBFABRIC_DEV,
            packages::IPROUTE,
            packages::NFTABLES,
        ],
    )?;
    let provider = Provider::prepare(layout, RDGRAM)?;
    let program = compile(layout)?;
    let seed = options.seed.map_or_else(fresh_seed, Ok)?;
    println!("seed {seed}: again by `cargo xtask soak --minutes {} --seed {seed}`", options.minutes);
    let mut script = netns::command(layout, &link(seed));
    script.envs(provider.environment(Place::Hosts(Link::CLEAN))).arg(program);
    netns::foreground(script.arg((60.0 * options.minutes).to_string()).arg(seed.to_string()))
}

/// A short run as a check; returns the program's last line, which counts what happened.
pub(crate) fn short(layout: &Layout, provider: &Provider, seconds: u64) -> Result<String> {
    let program = compile(layout)?;
    let seed = fresh_seed()?;
    let output = netns::job(layout, format!("soak {seed}"), &link(seed))
        .envs(&provider.environment(Place::Hosts(Link::CLEAN)))
        .arg(program)
        .args([seconds.to_string(), seed.to_string()])
        .limit(Duration::from_secs(seconds) + ENDING)
        .check()
        .with_context(|| format!("seed {seed}"))?;
    let last = output.lines().rfind(|line| line.starts_with("seed ")).unwrap_or_default();
    Ok(last.to_owned())
}

fn link(seed: u64) -> Link {
    Link { split_trains: seed % 2 == 0, ..Link::CLEAN }
}

fn fresh_seed() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

fn compile(layout: &Layout) -> Result<PathBuf> {
    let dir = layout.program_dir("soak");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let program = dir.join("soak");
    Job::new(layout, "gcc soak.c", "gcc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&program)
        .arg(layout.root.join("tests/soak/soak.c"))
        .args(["-lfabric", "-ldl"])
        .check()?;
    Ok(program)
}
