//! The Intel MPI Benchmarks as tests: each one has to come to its end and to measure every size.
//! It must never invent a number: a table that cannot be read is a failure.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::table::{self, COMPLETED};
use super::{Outcome, Setting};
use crate::command::Job;
use crate::mpi::Launch;
use crate::mpi::library::compile;

/// Benchmarks of one binary.
#[derive(Debug)]
pub(crate) struct Benchmarks {
    /// The file they are in.
    pub(crate) binary: &'static str,
    /// Their names.
    pub(crate) names: &'static [&'static str],
}

/// How much of each.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Seconds that IMB may take for a size.
    time: &'static str,
    /// Repetitions of a small message.
    iterations: &'static str,
    /// Sizes, as IMB's `-msglog` has them.
    sizes: &'static str,
}

/// What a benchmark that came to its end has measured. IMB leaves sizes out when its own time is up, as on a
/// crowded machine: that is said, and is no failure.
#[derive(Debug)]
pub(crate) struct Measured {
    /// What says which provider was taken.
    pub(crate) proof: String,
    sizes: usize,
    left_out: usize,
}

/// Few repetitions: what counts is that every size is run.
pub(crate) const SHORT: Extent = Extent { time: "0.2", iterations: "100", sizes: "0:20" };
/// For the many benchmarks of one-sided and nonblocking communication in every run of the tests.
pub(crate) const BRIEF: Extent = Extent { time: "0.1", iterations: "20", sizes: "0:17" };
/// IMB's own sizes.
pub(crate) const COMPLETE: Extent = Extent { time: "1", iterations: "200", sizes: "0:22" };

/// What every MPI is run with.
pub(crate) const TWO_SIDED: Benchmarks = Benchmarks { binary: "IMB-MPI1", names: &["PingPong", "Allreduce"] };

/// The two-sided and collective benchmarks of IMB-MPI1.
pub(crate) const TWO_SIDED_AND_COLLECTIVE: Benchmarks = Benchmarks {
    binary: "IMB-MPI1",
    names: &[
        "PingPong",
        "PingPing",
        "Sendrecv",
        "Exchange",
        "Uniband",
        "Biband",
        "Bcast",
        "Allgather",
        "Allgatherv",
        "Gather",
        "Gatherv",
        "Scatter",
        "Scatterv",
        "Alltoall",
        "Alltoallv",
        "Reduce",
        "Reduce_scatter",
        "Allreduce",
        "Barrier",
    ],
};

/// All of IMB-RMA.
pub(crate) const ONE_SIDED: Benchmarks = Benchmarks {
    binary: "IMB-RMA",
    names: &[
        "Unidir_put",
        "Unidir_get",
        "Bidir_put",
        "Bidir_get",
        "One_put_all",
        "One_get_all",
        "All_put_all",
        "All_get_all",
        "Put_local",
        "Put_all_local",
        "Get_local",
        "Get_all_local",
        "Exchange_put",
        "Exchange_get",
        "Accumulate",
        "Get_accumulate",
        "Fetch_and_op",
        "Compare_and_swap",
        "Truly_passive_put",
    ],
};

/// All of IMB-NBC; those with `_pure` in their names differ from the others only in that nothing is computed
/// meanwhile.
pub(crate) const NONBLOCKING: Benchmarks = Benchmarks {
    binary: "IMB-NBC",
    names: &[
        "Ibcast",
        "Iallgather",
        "Iallgatherv",
        "Igather",
        "Igatherv",
        "Iscatter",
        "Iscatterv",
        "Ialltoall",
        "Ialltoallv",
        "Ireduce",
        "Ireduce_scatter",
        "Iallreduce",
        "Ibarrier",
        "Ibcast_pure",
        "Iallgather_pure",
        "Iallgatherv_pure",
        "Igather_pure",
        "Igatherv_pure",
        "Iscatter_pure",
        "Iscatterv_pure",
        "Ialltoall_pure",
        "Ialltoallv_pure",
        "Ireduce_pure",
        "Ireduce_scatter_pure",
        "Iallreduce_pure",
        "Ibarrier_pure",
    ],
};

/// Every benchmark, each in a run of its own.
pub(crate) fn run(setting: Setting<'_>, benchmarks: &Benchmarks, extent: &Extent) -> Result<Outcome> {
    let (program, note) = program(&setting, benchmarks)?;
    let mut outcome = Outcome { note: note.to_owned(), ..Outcome::default() };
    let mut left_out = Vec::new();
    for &name in benchmarks.names {
        match one(&setting, &program, name, extent) {
            Ok(measured) => {
                println!("  ok      {name}: {measured}");
                outcome.passed += 1;
                outcome.proof = measured.proof;
                if measured.left_out > 0 {
                    left_out.push(name);
                }
            }
            Err(error) => outcome.failed.push(format!("{name}: {error:#}")),
        }
    }
    if !left_out.is_empty() {
        outcome.note = format!("not all sizes for lack of time: {}", left_out.join(", "));
    }
    Ok(outcome)
}

/// The binary, or for an MPI of another ABI our own program with the same patterns.
fn program(setting: &Setting<'_>, benchmarks: &Benchmarks) -> Result<(PathBuf, &'static str)> {
    if let Some(binary) = setting.mpi.imb(benchmarks.binary) {
        return Ok((binary, ""));
    }
    if benchmarks.binary != TWO_SIDED.binary {
        bail!("{} is not there for this MPI's ABI, and no package has its sources", benchmarks.binary);
    }
    let source = setting.layout.root.join("mpi-tests/patterns.c");
    let program = compile(setting.layout, setting.mpi, "patterns", &[source])?;
    Ok((program, "mpi-tests/patterns instead of IMB, whose binaries have another ABI"))
}

/// One benchmark.
pub(crate) fn one(
    setting: &Setting<'_>,
    program: &std::path::Path,
    name: &str,
    extent: &Extent,
) -> Result<Measured> {
    let launch = setting.launch(program);
    let job = launch.job(setting.layout, setting.label(&format!("IMB {name}")))?;
    let output = arguments(job, name, setting.ranks, extent).check()?;
    judge(&launch, &output, name)
}

/// One benchmark with all ranks.
pub(crate) fn arguments(job: Job, name: &str, ranks: u32, extent: &Extent) -> Job {
    job.args(["-time", extent.time, "-iter", extent.iterations, "-msglog", extent.sizes]).args([
        "-npmin",
        &ranks.to_string(),
        name,
    ])
}

/// The benchmark came to its end, having measured something.
pub(crate) fn judge(launch: &Launch<'_>, output: &str, name: &str) -> Result<Measured> {
    let proof = launch.proof(output)?;
    if !output.contains(COMPLETED) {
        bail!("IMB did not come to its end");
    }
    let sizes = table::tables(output).remove(name).map_or(0, |rows| rows.len());
    let left_out = table::left_out(output);
    if sizes == 0 && left_out == 0 {
        bail!("IMB printed no table for {name}");
    }
    Ok(Measured { proof, sizes, left_out })
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sizes", self.sizes)?;
        if self.left_out > 0 {
            write!(f, ", given up at one or more of them for lack of time")?;
        }
        Ok(())
    }
}
