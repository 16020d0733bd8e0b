//! Several virtual interfaces of MPICH, each with an endpoint of its own: that they work, and what they are worth
//! to ranks of several threads, over rdgram and over tcp;ofi_rxm in turns.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::bench::statistics::{extremes, median};
use crate::command::commit;
use crate::layout::Layout;
use crate::mpi::library::MPICH;
use crate::mpi::{Mpi, PEER, Place, Provider, RDGRAM};
use crate::suite::imb::{self, Extent};
use crate::suite::{Setting, table};

/// Threads of a rank, and interfaces.
const KINDS: [(u32, u32); 4] = [(1, 1), (2, 1), (2, 2), (2, 4)];
/// Each is measured so often.
const ROUNDS: usize = 5;
const BENCHMARK: &str = "UniBandMT";
const RUN: Duration = Duration::from_secs(120);

/// What was measured of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    threads: u32,
    vcis: u32,
    /// Benchmarks of IMB-MT that passed over rdgram.
    passed: usize,
    /// Of how many.
    of: usize,
    /// Messages a second of both threads, a value for each round, by the provider's name.
    rates: BTreeMap<String, Vec<f64>>,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Table {
    commit: String,
    rows: Vec<Row>,
}

/// Measure, and keep it in this file. Did everything pass?
pub(super) fn run(layout: &Layout, file: &Path) -> Result<bool> {
    let mpi = Mpi::prepare(layout, MPICH)?;
    let providers = [Provider::prepare(layout, RDGRAM)?, Provider::builtin(PEER)];
    let setting = |provider| {
        let place = Place::Loopback;
        Setting { layout, mpi: &mpi, provider, place, ranks: 2, limit: RUN, route: None }
    };
    let mut rows = Vec::new();
    for (threads, vcis) in KINDS {
        let of = imb::THREADS.names.len();
        let output = once(setting(&providers[0]), threads, vcis, imb::THREADS.names, &imb::COMPLETE)?;
        let passed = imb::THREADS.through(imb::THREADS.names, &output, &imb::COMPLETE);
        println!("  {threads} threads, {vcis} interfaces: {passed} of {of} benchmarks passed");
        rows.push(Row { threads, vcis, passed, of, rates: BTreeMap::new() });
    }
    for _ in 0..ROUNDS {
        for row in &mut rows {
            for provider in &providers {
                let output = once(setting(provider), row.threads, row.vcis, &[BENCHMARK], &imb::RATE)?;
                row.rates.entry(provider.name.clone()).or_default().push(rate(&output)?);
            }
        }
    }
    let clean = rows.iter().all(|row| row.passed == row.of);
    let table = Table { commit: commit(layout), rows };
    super::write(file, &table.to_json()?)?;
    Ok(clean)
}

impl Table {
    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// What a run has left in this file.
pub(super) fn read(file: &Path) -> Result<Table> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// One run, in which MPICH has to say that it made so many interfaces.
fn once(setting: Setting<'_>, threads: u32, vcis: u32, names: &[&str], extent: &Extent) -> Result<String> {
    let program: PathBuf = setting.mpi.imb(imb::THREADS.binary).context("IMB-MT is not there")?;
    let program: &Path = &program;
    let launch = setting.launch(program);
    let job = launch.job(setting.layout, setting.label(&format!("IMB-MT {threads} threads {vcis} VCIs")))?;
    let job = imb::THREADS.arguments(&setting, job, names, extent)?;
    let output = job
        .env("OMP_NUM_THREADS", threads.to_string())
        .env("MPIR_CVAR_CH4_NUM_VCIS", vcis.to_string())
        .check()?;
    launch.proof(&output)?;
    if !output.lines().any(|line| line.trim() == format!("num_vcis: {vcis}")) {
        bail!("MPICH did not make {vcis} interfaces");
    }
    Ok(output)
}

/// The last column of the only row.
fn rate(output: &str) -> Result<f64> {
    let rows = table::tables(output).remove(BENCHMARK).context("no table")?;
    rows.last().and_then(|row| row.columns.last().copied()).context("the table has no row")
}

/// The section of the page.
pub(super) fn section(table: &Table) -> String {
    let mut text = format!(
        "\n## Several virtual interfaces of MPICH\n\n\
         `{MPICH}`, one host, 2 ranks, `MPIR_CVAR_CH4_NUM_VCIS`: MPICH gives each interface a domain and an endpoint of its own, and \
         each communicator an interface; the threads of IMB-MT have a communicator each. Millions of messages of 8 B a second by {BENCHMARK}, all threads together, \
         medians of {ROUNDS} rounds in turns, and the least and the largest of them (`cargo xtask matrix --vcis`, commit {}). With two threads to a rank there are twice as many threads as processors.\n\n\
         | threads of a rank | interfaces | IMB-MT over rdgram | rdgram | `{PEER}` |\n|---|---|---|---|---|\n",
        table.commit
    );
    for row in &table.rows {
        let rate = |provider: &str| millions(row.rates.get(provider).map_or(&[], Vec::as_slice));
        let _ = writeln!(
            text,
            "| {} | {} | {} of {} passed | {} | {} |",
            row.threads,
            row.vcis,
            row.passed,
            row.of,
            rate(RDGRAM),
            rate(PEER)
        );
    }
    text
}

/// The median of rates, with the extremes: on a busy machine they lie far apart.
fn millions(rates: &[f64]) -> String {
    match (median(rates), extremes(rates)) {
        (Some(median), Some((least, largest))) => {
            format!("{:.2} ({:.2} to {:.2})", median / 1e6, least / 1e6, largest / 1e6)
        }
        _ => "not run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_run() {
        let rates = BTreeMap::from([(RDGRAM.to_owned(), vec![1e6, 3e6, 2e6])]);
        let row = Row { threads: 2, vcis: 4, passed: 9, of: 10, rates };
        let text = section(&Table { commit: "abc".to_owned(), rows: vec![row] });
        assert!(text.ends_with("| 2 | 4 | 9 of 10 passed | 2.00 (1.00 to 3.00) | not run |\n"));
    }
}
