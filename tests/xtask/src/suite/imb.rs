//! The Intel MPI Benchmarks as tests: each one has to come to its end and to measure every size.
//! It must never invent a number: a table that cannot be read is a failure.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::table::{self, COMPLETED};
use super::{Failure, Outcome, Setting};
use crate::command::{Finished, Job};
use crate::mpi::Launch;
use crate::mpi::library::{compile, openmp};
use crate::netns;

/// Benchmarks of one binary.
#[derive(Debug)]
pub(crate) struct Benchmarks {
    /// The file they are in.
    pub(crate) binary: &'static str,
    /// Their names.
    pub(crate) names: &'static [&'static str],
    style: Style,
}

/// The two command lines that the binaries have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Sizes by powers of two, repetitions by time.
    Sized,
    /// IMB-MT's: counts of integers, so many repetitions, and what arrived is compared with what was sent.
    Threaded,
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
    /// Repetitions of every size in IMB-MT, which does not look at the time.
    repeat: &'static str,
    /// How many integers a message of IMB-MT has.
    counts: &'static str,
}

/// What a benchmark that came to its end has measured. IMB leaves sizes out when its own time is up, as on a
/// crowded machine: that is said, and is no failure.
#[derive(Debug)]
pub(crate) struct Measured {
    sizes: usize,
    left_out: usize,
}

/// Few repetitions: what counts is that every size is run.
pub(crate) const SHORT: Extent =
    Extent { time: "0.2", iterations: "100", sizes: "0:20", repeat: "20", counts: COUNTS };
/// For the many benchmarks of one-sided and nonblocking communication in every run of the tests.
pub(crate) const BRIEF: Extent =
    Extent { time: "0.1", iterations: "20", sizes: "0:17", repeat: "20", counts: COUNTS };
/// IMB's own sizes.
pub(crate) const COMPLETE: Extent =
    Extent { time: "0.2", iterations: "100", sizes: "0:22", repeat: "50", counts: COUNTS };
/// Small messages only, and enough of them for a rate.
pub(crate) const RATE: Extent = Extent { repeat: "2000", counts: "2", ..SHORT };

/// So many threads in each rank of IMB-MT.
const THREADS_OF_RANK: &str = "2";
/// Up to 256 KiB for each thread, 64 of which are under way at once.
const COUNTS: &str = "1,4,16,64,256,1024,4096,16384,65536";
/// IMB itself ends a benchmark whose time is up, as on a crowded machine: that is said, and is no failure.
const NOT_ALL_SIZES: &str = "some benchmarks gave their largest sizes up when IMB's time for them was over";
/// What IMB-MT says when it received something else than was sent.
const WRONG_DATA: &str = "CHECK FAILURES";
/// After so many failures the rest would say nothing new, and each may take until its time is up.
const FAILURES_MAX: usize = 6;

/// What `mpi-tests/patterns` does too, for MPIs of another ABI.
const PATTERNS: [&str; 2] = ["PingPong", "Allreduce"];

/// All of IMB-MPI1.
pub(crate) const MPI1: Benchmarks = Benchmarks {
    binary: "IMB-MPI1",
    names: &[
        "PingPong",
        "PingPongSpecificSource",
        "PingPongAnySource",
        "PingPing",
        "PingPingSpecificSource",
        "PingPingAnySource",
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
        "Reduce_local",
        "Reduce_scatter",
        "Reduce_scatter_block",
        "Allreduce",
        "Barrier",
    ],
    style: Style::Sized,
};

/// All of IMB-MT.
pub(crate) const THREADS: Benchmarks = Benchmarks {
    binary: "IMB-MT",
    names: &[
        "PingPongMT",
        "PingPingMT",
        "SendRecvMT",
        "ExchangeMT",
        "UniBandMT",
        "BiBandMT",
        "BarrierMT",
        "BcastMT",
        "ReduceMT",
        "AllReduceMT",
    ],
    style: Style::Threaded,
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
    style: Style::Sized,
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
    style: Style::Sized,
};

/// All of them, or those that are chosen, in one run; after one that failed those that are left in another.
pub(crate) fn run(
    setting: Setting<'_>,
    benchmarks: &Benchmarks,
    extent: &Extent,
    chosen: &[&str],
) -> Result<Outcome> {
    let program = Program::find(&setting, benchmarks)?;
    let mut outcome = Outcome { note: program.note.to_owned(), ..Outcome::default() };
    let mut left: Vec<&str> = benchmarks.names.to_vec();
    left.retain(|name| chosen.is_empty() || chosen.contains(name));
    let all = left.len();
    left.retain(|name| program.has(name));
    outcome.skipped = all - left.len();
    let mut short_of_time = Vec::new();
    while !left.is_empty() {
        let launch = setting.launch(&program.path);
        let job = launch.job(setting.layout, setting.label(benchmarks.binary))?;
        let end = benchmarks.arguments(&setting, job, &left, extent)?.run()?;
        outcome.dropped += netns::dropped(&end.output);
        outcome.received += netns::received(&end.output);
        if let Some(proof) = launch.taken(&end.output)? {
            outcome.proof = proof;
        }
        let through = benchmarks.through(&left, &end.output, extent);
        let passed = if outcome.proof.is_empty() { 0 } else { through };
        outcome.passed += passed;
        short_of_time.extend(left.drain(..passed).filter(|name| table::left_out_of(&end.output, name)));
        if left.is_empty() {
            let taken = setting.route.map(|route| route.judge(&end.output)).transpose()?;
            outcome.detail = taken.unwrap_or_default();
            // All tables may be there and MPI_Finalize fail.
            end.into_result()?;
            break;
        }
        outcome.failed.push(Failure::new(left.remove(0), how(&end)));
        if outcome.failed.len() >= FAILURES_MAX {
            outcome.failed.extend(left.drain(..).map(|name| Failure::new(name, "not reached")));
        }
    }
    if !short_of_time.is_empty() {
        outcome.note = NOT_ALL_SIZES.to_owned();
        outcome.detail = format!("gave sizes up for lack of time: {}", short_of_time.join(", "));
    }
    Ok(outcome)
}

fn how(end: &Finished) -> String {
    let wrong = end.output.lines().find(|line| line.contains(WRONG_DATA)).map(str::to_owned);
    let how = wrong.or_else(|| end.hung()).unwrap_or_else(|| "the program ended in it".to_owned());
    format!("{how}; {}", end.log().display())
}

/// What the benchmarks are in.
struct Program {
    path: PathBuf,
    note: &'static str,
    /// All that it can; everything without.
    names: Option<&'static [&'static str]>,
}

impl Program {
    /// The binary, or for an MPI of another ABI our own program with the same patterns.
    fn find(setting: &Setting<'_>, benchmarks: &Benchmarks) -> Result<Self> {
        if let Some(path) = setting.mpi.imb(benchmarks.binary) {
            return Ok(Self { path, note: "", names: None });
        }
        if benchmarks.binary != MPI1.binary {
            bail!("{} is not there for this MPI's ABI, and no package has its sources", benchmarks.binary);
        }
        let source = setting.layout.root.join("mpi-tests/patterns.c");
        let path = compile(setting.layout, setting.mpi, "patterns", &[source])?;
        let note =
            "PingPong and Allreduce of mpi-tests/patterns instead of IMB, whose binaries have another ABI";
        Ok(Self { path, note, names: Some(&PATTERNS) })
    }

    fn has(&self, name: &str) -> bool {
        self.names.is_none_or(|names| names.contains(&name))
    }
}

impl Benchmarks {
    /// The command line for these of them, with all ranks.
    pub(crate) fn arguments(
        &self,
        setting: &Setting<'_>,
        job: Job,
        names: &[&str],
        extent: &Extent,
    ) -> Result<Job> {
        if self.style == Style::Sized {
            return Ok(arguments(job, names, setting.ranks, extent));
        }
        let libraries = setting.mpi.lib().into_iter().chain([openmp(setting.layout)?]);
        let path: OsString = env::join_paths(libraries).context("a directory's name has a colon in it")?;
        Ok(job
            .env("LD_LIBRARY_PATH", path)
            .env("OMP_NUM_THREADS", THREADS_OF_RANK)
            .args(["-thread_level", "multiple", "-check", "1", "-warmup", "2"])
            .args(["-repeat", extent.repeat, "-count", extent.counts])
            .args(names))
    }

    /// How many of these, which were run in this order, came to their end.
    pub(crate) fn through(&self, names: &[&str], output: &str, extent: &Extent) -> usize {
        let (good, wrong) = output.split_once(WRONG_DATA).map_or((output, false), |(good, _)| (good, true));
        let tables = table::tables(good);
        let rows = |name: &str| tables.get(name).map_or(0, Vec::len);
        match self.style {
            // The name of a benchmark is printed when it begins.
            Style::Sized => {
                let measured = |name: &&&str| rows(name) > 0 || table::left_out_of(output, name);
                let begun = names.iter().take_while(|name| tables.contains_key(**name)).count();
                let ended = if output.contains(COMPLETED) { begun } else { begun.saturating_sub(1) };
                names[..ended].iter().take_while(measured).count()
            }
            // It is printed with its first row: wrong data may belong to the last benchmark that was named, or to
            // the first size of the next. What a barrier measures has no sizes.
            Style::Threaded => {
                let wanted =
                    |name: &str| if name == "BarrierMT" { 1 } else { extent.counts.split(',').count() };
                let complete = names.iter().take_while(|name| rows(name) == wanted(name)).count();
                if wrong { complete.saturating_sub(1) } else { complete }
            }
        }
    }
}

/// What of each is run, in words.
pub(crate) fn describe(extent: &Extent) -> String {
    let Extent { time, iterations, sizes, repeat, counts } = extent;
    format!(
        "IMB: `-msglog {sizes} -iter {iterations} -time {time}`; IMB-MT: {THREADS_OF_RANK} threads to a rank, \
         `-check 1 -repeat {repeat} -count {counts}`"
    )
}

/// One benchmark of IMB-MPI1, IMB-RMA or IMB-NBC.
pub(crate) fn one(setting: &Setting<'_>, program: &Path, name: &str, extent: &Extent) -> Result<Measured> {
    let launch = setting.launch(program);
    let job = launch.job(setting.layout, setting.label(&format!("IMB {name}")))?;
    let output = arguments(job, &[name], setting.ranks, extent).check()?;
    judge(&launch, &output, name)
}

/// Benchmarks with all ranks.
pub(crate) fn arguments(job: Job, names: &[&str], ranks: u32, extent: &Extent) -> Job {
    job.args(["-time", extent.time, "-iter", extent.iterations, "-msglog", extent.sizes])
        .args(["-npmin", &ranks.to_string()])
        .args(names)
}

/// The benchmark came to its end, having measured something.
pub(crate) fn judge(launch: &Launch<'_>, output: &str, name: &str) -> Result<Measured> {
    launch.proof(output)?;
    if !output.contains(COMPLETED) {
        bail!("IMB did not come to its end");
    }
    let sizes = table::tables(output).remove(name).map_or(0, |rows| rows.len());
    let left_out = table::left_out(output);
    if sizes == 0 && left_out == 0 {
        bail!("IMB printed no table for {name}");
    }
    Ok(Measured { sizes, left_out })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_that_did_not_end_is_named() {
        let begun = "# Benchmarking PingPong\n#bytes #repetitions t\n0 100 1.0\n# Benchmarking Bcast\n\
                     #bytes #repetitions t\n0 100 1.0\n";
        let names = ["PingPong", "Bcast", "Barrier"];
        assert_eq!(MPI1.through(&names, begun, &SHORT), 1, "Bcast was begun");
        let ended = begun.to_owned() + COMPLETED;
        assert_eq!(MPI1.through(&names, &ended, &SHORT), 2, "and Barrier was not");
        assert_eq!(MPI1.through(&names, COMPLETED, &SHORT), 0);
    }

    #[test]
    fn a_benchmark_without_a_row_has_not_passed() {
        let output = "# Benchmarking PingPong\n# Benchmarking Bcast\n#bytes #repetitions t\n0 100 1.0\n";
        assert_eq!(MPI1.through(&["PingPong", "Bcast"], &(output.to_owned() + COMPLETED), &SHORT), 0);
    }

    #[test]
    fn a_threaded_benchmark_needs_all_its_sizes_and_the_right_data() {
        let rows = |name: &str, rows: usize| {
            format!("# Benchmarking {name}\n#bytes #repetitions t\n{}", "8 20 1.5\n".repeat(rows))
        };
        let count = COUNTS.split(',').count();
        let good = rows("PingPongMT", count) + &rows("BcastMT", count - 1);
        assert_eq!(THREADS.through(&["PingPongMT", "BcastMT"], &good, &SHORT), 1);
        let wrong = rows("PingPongMT", count) + "CHECK FAILURES: rank 0: 3\n";
        assert_eq!(THREADS.through(&["PingPongMT"], &wrong, &SHORT), 0);
    }
}
