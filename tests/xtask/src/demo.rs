//! `cargo xtask demo`: from a fresh machine to MPI over rdgram, beside MPI over tcp;ofi_rxm.
//! It must fail loudly when the provider measured was not the one named.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::layout::Layout;
use crate::mpi::{Launch, MPICH, Mpi, PEER, Place, Provider, RDGRAM};
use crate::packages;
use crate::suite::table::{self, Row};

/// Each provider is run this often, alternating, and the medians are shown: other load on the machine then
/// meets both.
const ROUNDS: usize = 3;
const RANKS: u32 = 2;
const BENCHMARKS: [&str; 2] = ["PingPong", "Allreduce"];
/// The column with the time of each benchmark's table.
const TIME_COLUMN: [usize; 2] = [0, 2];

/// Per benchmark and size, the times of all rounds in microseconds.
type Times = BTreeMap<(usize, u64), Vec<f64>>;

/// Do everything.
pub(crate) fn run(layout: &Layout) -> Result<ExitCode> {
    println!("1/4 system packages");
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::VENV])?;
    println!("2/4 the provider, optimised build");
    let rdgram = Provider::prepare(layout, RDGRAM)?;
    println!("  {}", layout.plugin_dir().join("librdgram-fi.so").display());
    println!("3/4 MPICH and the Intel MPI Benchmarks");
    let mpi = Mpi::prepare(layout, MPICH)?;
    println!("4/4 IMB-MPI1 {}, {RANKS} ranks, {ROUNDS} rounds of each provider", BENCHMARKS.join(" and "));
    let peer = Provider::prepare(layout, PEER)?;
    let mut ours = Times::new();
    let mut theirs = Times::new();
    let mut proofs = BTreeMap::new();
    for round in 1..=ROUNDS {
        for (provider, times) in [(&rdgram, &mut ours), (&peer, &mut theirs)] {
            let proof = measure(layout, &mpi, provider, times)
                .with_context(|| format!("round {round} over {}", provider.name))?;
            proofs.insert(provider.name.clone(), proof);
        }
    }
    for benchmark in 0..BENCHMARKS.len() {
        print_table(benchmark, &ours, &theirs)?;
    }
    println!("\nWhich provider was used, as MPICH reports it (MPIR_CVAR_DEBUG_SUMMARY=1):");
    for (name, proof) in proofs {
        println!("  run over {name:<12} {proof}");
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(layout: &Layout, mpi: &Mpi, provider: &Provider, times: &mut Times) -> Result<String> {
    let program = mpi.imb("IMB-MPI1").context("the benchmarks do not run on this MPI")?;
    let launch = Launch {
        mpi,
        provider,
        place: Place::Loopback,
        ranks: RANKS,
        program: &program,
        limit: Duration::from_secs(300),
        route: None,
        launcher: &[],
    };
    let output = launch
        .job(layout, format!("IMB over {}", provider.name))?
        .args(["-time", "0.3", "-iter", "300", "-msglog", "0:22"])
        .args(BENCHMARKS)
        .check()?;
    let proof = launch.proof(&output)?;
    let tables = table::tables(&output);
    for (benchmark, name) in BENCHMARKS.iter().enumerate() {
        let rows = tables.get(*name).filter(|rows| !rows.is_empty());
        for Row { bytes, columns } in rows.with_context(|| format!("IMB printed no table for {name}"))? {
            let time = columns.get(TIME_COLUMN[benchmark]).context("a row of IMB's table is too short")?;
            times.entry((benchmark, *bytes)).or_default().push(*time);
        }
    }
    Ok(proof)
}

fn print_table(benchmark: usize, ours: &Times, theirs: &Times) -> Result<()> {
    let kind = if benchmark == 0 { "half round trip" } else { "average" };
    println!(
        "\n{} ({kind}, median of {ROUNDS} rounds; a ratio below 1: rdgram is faster)",
        BENCHMARKS[benchmark]
    );
    println!(
        "{:>10}  {:>12}  {:>15}  {:>10}  {:>12}  {:>16}",
        "bytes", "rdgram µs", "tcp;ofi_rxm µs", "time ratio", "rdgram MB/s", "tcp;ofi_rxm MB/s"
    );
    let sizes: BTreeSet<u64> = ours
        .keys()
        .chain(theirs.keys())
        // An Allreduce of nothing is no communication: its ratio would mean nothing.
        .filter(|(of, bytes)| *of == benchmark && (*bytes > 0 || benchmark == 0))
        .map(|(_, bytes)| *bytes)
        .collect();
    let mut compared = 0;
    for bytes in sizes {
        let key = (benchmark, bytes);
        let (Some(our), Some(their)) = (ours.get(&key), theirs.get(&key)) else {
            println!("{bytes:>10}  left out by IMB for lack of time over one of them");
            continue;
        };
        let (our, their) = (median(our), median(their));
        compared += 1;
        println!(
            "{bytes:>10}  {our:>12.2}  {their:>15.2}  {:>9.2}x  {:>12.1}  {:>16.1}",
            our / their,
            rate(bytes, our),
            rate(bytes, their)
        );
    }
    if compared == 0 {
        bail!("no size of {} was measured over both providers", BENCHMARKS[benchmark]);
    }
    Ok(())
}

/// Bytes per microsecond are megabytes per second.
fn rate(bytes: u64, microseconds: f64) -> f64 {
    let bytes = u32::try_from(bytes).map_or(f64::NAN, f64::from);
    bytes / microseconds
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
