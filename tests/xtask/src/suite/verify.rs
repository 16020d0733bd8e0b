//! `mpi-tests/verify` with one MPI: every test of it, also those after one that failed.
//! The program judges; this file only counts, and says where it stopped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Failure, Outcome, Setting};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::Mpi;
use crate::mpi::library::{Family, compile};
use crate::netns;

/// After so many failures the rest would say nothing new, and each may take until its time is up.
const FAILURES_MAX: usize = 6;
/// How a line about a test that passed begins; the tests' names follow.
const PASSED: &str = "verify: passed ";
/// How the line begins that explains a failure.
const FAILED: &str = "verify: FAILED ";

/// Tests that a family is not asked for: they count as skipped, and its row says so.
#[derive(Debug)]
struct NotAskedFor {
    family: Family,
    tests: &'static [&'static str],
    note: &'static str,
}

/// Each is a defect of that MPI, not of the provider.
const NOT_ASKED_FOR: [NotAskedFor; 3] = [
    // Its btl/ofi crashes in a compare-and-swap (no local handle), and ends the job over MPI_REPLACE ("unknown
    // atomic op"); what it fetches into scattered elements is wrong. Its osc/rdma gives the
    // windows of disjoint communicators one backing file in /dev/shm and one of them fails, now and then, on four ranks; so it does over btl/tcp. Open MPI 5 does all of these.
    NotAskedFor {
        family: Family::OpenMpi4,
        tests: &[
            "shared-windows",
            "accumulate",
            "get-accumulate",
            "accumulate-scattered",
            "counters",
            "announced-counters",
            "windows-of-communicators",
        ],
        note: "its btl/ofi cannot replace nor compare and swap, its osc/rdma has no shared windows and mixes up those of disjoint communicators",
    },
    // `accumulate.c` explains the second.
    NotAskedFor {
        family: Family::OpenMpi5,
        tests: &["shared-windows"],
        note: "its osc/rdma has no shared windows, its btl/ofi compares signed integers unsigned",
    },
    // Told to use nothing but libfabric, it reads a shared window by a key under which it registered nothing.
    NotAskedFor {
        family: Family::Intel,
        tests: &["shared-windows"],
        note: "it registers no memory for shared windows",
    },
];

/// The tests that `chosen` names, by their names or groups; all without any. A failed test ends the program,
/// so it is started again for those that come after it.
pub(crate) fn run(setting: Setting<'_>, chosen: &[&str]) -> Result<Outcome> {
    let program = compile_verify(setting.layout, setting.mpi)?;
    let mut left = list(&setting, &program, chosen)?;
    let mut outcome = Outcome::default();
    let without = NOT_ASKED_FOR.iter().find(|without| without.family == setting.mpi.family);
    if let Some(NotAskedFor { tests, .. }) = without {
        let all = left.len();
        left.retain(|name| !tests.contains(&name.as_str()));
        outcome.skipped = all - left.len();
    }
    let (mut checks, mut routes) = (0, None);
    while !left.is_empty() {
        let launch = setting.launch(&program);
        let job = launch.job(setting.layout, setting.label("verify"))?;
        let end = job.arg("1").args(&left).run()?;
        outcome.proof = launch.proof(&end.output)?;
        outcome.dropped += netns::dropped(&end.output);
        outcome.received += netns::received(&end.output);
        let passed = passed(&end.output);
        checks += passed.iter().map(|(_, checks)| checks).sum::<u64>();
        let reached = left.iter().zip(&passed).take_while(|(wanted, (name, _))| *wanted == name).count();
        if reached != passed.len() {
            bail!("verify ran other tests than it was told to; {}", end.log().display());
        }
        outcome.passed += reached;
        left.drain(..reached);
        if left.is_empty() {
            routes = setting.route.map(|route| route.judge(&end.output)).transpose()?;
            // All tests may pass and MPI_Finalize fail.
            end.into_result()?;
            break;
        }
        let failed = left.remove(0);
        let seen = explanation(&end.output)
            .or_else(|| end.hung())
            .unwrap_or_else(|| format!("the program ended without a word; {}", end.log().display()));
        outcome.failed.push(Failure::new(failed, seen));
        if outcome.failed.len() >= FAILURES_MAX {
            outcome.failed.extend(left.drain(..).map(|name| Failure::new(name, "not reached")));
        }
    }
    let checks = format!("{checks} checks");
    outcome.detail = [Some(checks), routes].into_iter().flatten().collect::<Vec<_>>().join("; ");
    outcome.note = without.map(|NotAskedFor { note, .. }| (*note).to_owned()).unwrap_or_default();
    Ok(outcome)
}

/// The line with which the program says that all it was told to run has passed.
pub(crate) fn verdict(output: &str) -> Result<String> {
    let line = output.lines().find(|line| line.starts_with("verify: ") && line.contains("checks passed"));
    line.map(str::to_owned).context("verify ended without its verdict")
}

/// The names of the chosen tests, in the order in which they are run.
fn list(setting: &Setting<'_>, program: &Path, chosen: &[&str]) -> Result<Vec<String>> {
    let mut job = Job::new(setting.layout, "list the tests of verify", program).arg("--list").args(chosen);
    if let Some(lib) = setting.mpi.lib() {
        job = job.env("LD_LIBRARY_PATH", lib);
    }
    let names: Vec<String> = job.check()?.lines().map(str::to_owned).collect();
    if names.is_empty() {
        bail!("verify has no test of these names: {}", chosen.join(", "));
    }
    Ok(names)
}

/// The tests that passed, each with the number of its checks.
fn passed(output: &str) -> Vec<(String, u64)> {
    let of = |line: &str| {
        let mut words = line.split_once(PASSED)?.1.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    output.lines().filter_map(of).collect()
}

fn explanation(output: &str) -> Option<String> {
    output.lines().find_map(|line| Some(line.split_once(FAILED)?.1.to_owned()))
}

/// Compile all files of `mpi-tests/verify` into one program.
pub(crate) fn compile_verify(layout: &Layout, mpi: &Mpi) -> Result<PathBuf> {
    let dir = layout.root.join("mpi-tests/verify");
    let mut sources: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    compile(layout, mpi, "verify", &sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_ended_have_passed() {
        let output = "verify: passed sizes 1200 checks 0.1 s\nverify: FAILED in 'order' on rank 1: wrong\n";
        assert_eq!(passed(output), [("sizes".to_owned(), 1200)]);
        assert_eq!(explanation(output).as_deref(), Some("in 'order' on rank 1: wrong"));
    }
}
