//! mpi4py's own test suite, with one MPI: alone against a list of known failures, or with what fails
//! run over tcp;ofi_rxm as well. A hang or a crash costs the test that it happened in; the others still run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::record::{self, Records};
use super::{Failure, Outcome, Setting};
use crate::command::Finished;
use crate::mpi::library::{Family, INTEL, OPENMPI_4, OPENMPI_5, mpi4py, mpi4py_source};
use crate::mpi::{PEER, Provider};
use crate::netns;

/// So often the suite is begun again after a hang or a crash.
const RUNS_MAX: usize = 8;

/// What fails in every run of this suite, whatever the provider, and why.
const KNOWN_FAILURES: [(&str, &str); 1] = [(
    "test_mpiabi.TestMPIABI.testGetFortranInfo",
    "the wheels of MPICH are built without Fortran: what MPI_Abi_get_fortran_info reports is empty",
)];

/// Tests that are not run.
#[derive(Debug)]
struct LeftOut {
    /// Tests, classes or modules of tests.
    tests: &'static [&'static str],
    reason: &'static str,
    /// Only with these MPIs; with every if there is none.
    mpis: &'static [&'static str],
    only_between_hosts: bool,
}

const LEFT_OUT: [LeftOut; 10] = [
    // MPICH probes there for a message of any source and receives another one when a message to itself is among them. This fails by chance, and the
    // rank that fails leaves the others waiting.
    LeftOut {
        tests: &[
            "test_comm_topo.TestTopoWorld.testDistgraphcomm",
            "test_comm_topo.TestTopoWorldDup.testDistgraphcomm",
        ],
        reason: "MPICH's MPI_Dist_graph_create miscounts, over UCX and tcp;ofi_rxm too",
        mpis: &[],
        only_between_hosts: false,
    },
    // A segmentation fault, in each of 8 runs over either provider at the same place of libmpi, before the children open an endpoint.
    LeftOut {
        tests: &[
            "test_spawn.TestSpawnMultipleSelf",
            "test_spawn.TestSpawnMultipleWorld",
            "test_spawn.TestSpawnMultipleSelfMany",
            "test_spawn.TestSpawnMultipleWorldMany",
        ],
        reason: "MPICH 4's children of MPI_Comm_spawn_multiple crash in MPI_Init between these hosts, over tcp;ofi_rxm too",
        mpis: &["mpich-4.3.2", "mpich-4.2.3", "mpich-4.1.3", "mpich-4.0.3"],
        only_between_hosts: true,
    },
    // The parent waits in PMIx_Lookup, the children in PMIx_Connect, before any of them opens an endpoint for
    // the others: over rdgram in two runs of two, over tcp;ofi_rxm in the one that was made.
    LeftOut {
        tests: &["test_spawn"],
        reason: "Open MPI 5 hangs in its launcher when it spawns between these hosts, over tcp;ofi_rxm too",
        mpis: &[OPENMPI_5],
        only_between_hosts: true,
    },
    LeftOut {
        tests: &["test_dynproc.TestDPM.testJoin"],
        reason: "Open MPI 5 hangs in PMIx_Connect, its launcher's, now and then",
        mpis: &[OPENMPI_5],
        only_between_hosts: true,
    },
    // Of MPI_Issend four tests were tried over either provider. What hangs costs three minutes each time, and some thirty tests of these modules use it.
    LeftOut {
        tests: &["test_p2p_buf", "test_p2p_obj", "test_util_pkl5"],
        reason: "Open MPI 4's mtl/ofi hangs in MPI_Issend and crashes in MPI_Cancel of a send, over tcp;ofi_rxm too",
        mpis: &[OPENMPI_4],
        only_between_hosts: false,
    },
    LeftOut {
        tests: &[
            "test_cco_vec.TestCCOVecWorld.testAlltoallwBottom",
            "test_cco_vec.TestCCOVecWorldDup.testAlltoallwBottom",
            "test_dynproc.TestDPM.testJoin",
        ],
        reason: "Open MPI 4 crashes in MPI_Alltoallw of MPI_BOTTOM and hangs in MPI_Comm_join, over tcp;ofi_rxm too",
        mpis: &[OPENMPI_4],
        only_between_hosts: false,
    },
    // "btl_ofi_atomics.c: to_fi_op: Unknown or unsupported atomic op. BTL OFI will now abort": its own table has no such operation. Over tcp;ofi_rxm it takes another way, and
    // these pass. mpi-tests/verify does not ask for them either.
    LeftOut {
        tests: &[
            "test_rma.TestRMASelf.testAccumulate",
            "test_rma.TestRMASelf.testCompareAndSwap",
            "test_rma.TestRMASelf.testFetchAndOp",
            "test_rma.TestRMASelf.testGetAccumulate",
            "test_rma.TestRMAWorld.testAccumulate",
            "test_rma.TestRMAWorld.testCompareAndSwap",
            "test_rma.TestRMAWorld.testFetchAndOp",
            "test_rma.TestRMAWorld.testGetAccumulate",
            "test_rma_nb.TestRMASelf.testAccumulate",
            "test_rma_nb.TestRMASelf.testGetAccumulate",
            "test_rma_nb.TestRMAWorld.testAccumulate",
            "test_rma_nb.TestRMAWorld.testGetAccumulate",
        ],
        reason: "Open MPI 4's btl/ofi knows no operation to replace nor to compare and swap, and ends the program",
        mpis: &[OPENMPI_4],
        only_between_hosts: false,
    },
    // Once in three runs: a child waits in PMIx_Init, before MPI looks for a provider.
    LeftOut {
        tests: &["test_spawn"],
        reason: "Open MPI 4's children hang in PMIx_Init, its launcher's, now and then",
        mpis: &[OPENMPI_4],
        only_between_hosts: false,
    },
    // What mpi4py makes of such a size is no memory. Over tcp Intel MPI carries one-sided operations out in messages.
    LeftOut {
        tests: &[
            "test_win.TestWinCreateDynamicSelf.testAttachDetach",
            "test_win.TestWinCreateDynamicSelf.testAttributes",
            "test_win.TestWinCreateDynamicSelf.testGetAttr",
            "test_win.TestWinCreateDynamicSelf.testMemory",
            "test_win.TestWinCreateDynamicWorld.testAttachDetach",
            "test_win.TestWinCreateDynamicWorld.testAttributes",
            "test_win.TestWinCreateDynamicWorld.testGetAttr",
            "test_win.TestWinCreateDynamicWorld.testMemory",
        ],
        reason: "Intel MPI says of its dynamic windows that their size is -1 where a provider carries one-sided operations out, over its own shm too",
        mpis: &[INTEL],
        only_between_hosts: false,
    },
    // The rank that fails leaves the other waiting: in each of the runs, three over rdgram and one over tcp.
    LeftOut {
        tests: &["test_cco_buf.TestCCOBufInplaceWorld.testReduceScatter"],
        reason: "Intel MPI's MPI_Reduce_scatter in place gives wrong sums between two hosts, over tcp too",
        mpis: &[INTEL],
        only_between_hosts: true,
    },
];

/// What is left out in this setting.
fn left_out(setting: &Setting<'_>) -> impl Iterator<Item = &'static LeftOut> {
    let Setting { mpi, place, .. } = *setting;
    LEFT_OUT.iter().filter(move |left| {
        (left.mpis.is_empty() || left.mpis.contains(&mpi.name.as_str()))
            && (place.link().is_some() || !left.only_between_hosts)
    })
}

/// All runs of the suite over one provider.
#[derive(Debug, Default)]
struct Suite {
    results: BTreeMap<String, record::Result>,
    /// Why runs did not come to their end; they say what was stuck.
    broken: BTreeMap<String, String>,
    /// What is wrong beside the tests.
    unfinished: Vec<String>,
    proof: String,
    dropped: u64,
    received: u64,
}

/// Over one provider only: nothing but the known failures may fail, and those have to.
pub(crate) fn alone(setting: Setting<'_>) -> Result<Outcome> {
    let suite = run(setting, &[])?;
    let mut outcome = suite.outcome(|test| KNOWN_FAILURES.iter().any(|(known, _)| *known == test));
    for (known, reason) in KNOWN_FAILURES {
        if suite.results.get(known) != Some(&record::Result::Failed) {
            outcome.failed.push(Failure::new(known, format!("was known to fail ({reason}) and did not")));
        }
    }
    outcome.note = format!("{} known to fail", KNOWN_FAILURES.len());
    Ok(outcome)
}

/// Over the wanted provider, and over [`PEER`] what fails there: only what fails over the first alone counts.
pub(crate) fn compare(setting: Setting<'_>) -> Result<Outcome> {
    let suite = run(setting, &[])?;
    let note = left_out(&setting).map(|left| left.reason).collect::<Vec<_>>().join("; ");
    let (failed, others): (Vec<_>, Vec<_>) = suite.results.iter().partition(|(_, result)| !good(**result));
    if failed.is_empty() {
        return Ok(Outcome { note, ..suite.outcome(|_| false) });
    }
    let peer = Provider::builtin(setting.mpi.peer());
    println!("   {} tests over {PEER}", failed.len());
    let others: Vec<&str> = others.into_iter().map(|(test, _)| test.as_str()).collect();
    let theirs = run(Setting { provider: &peer, ..setting }, &others)?;
    // A test that was not reached there does not fail there.
    let fails_too = |test: &str| theirs.results.get(test).is_some_and(|result| !good(*result));
    let mut outcome = Outcome { note, ..suite.outcome(fails_too) };
    let too = failed.into_iter().map(|(test, _)| test).filter(|test| fails_too(test));
    outcome.failed_too = too.cloned().collect();
    outcome.failed.extend(theirs.unfinished.iter().map(|text| Failure::new(format!("over {PEER}"), text)));
    Ok(outcome)
}

fn good(result: record::Result) -> bool {
    matches!(result, record::Result::Passed | record::Result::Skipped)
}

impl Suite {
    /// The counts, without the failures that are `excused`.
    fn outcome(&self, excused: impl Fn(&str) -> bool) -> Outcome {
        let count = |wanted| self.results.values().filter(|result| **result == wanted).count();
        let mut outcome = Outcome {
            passed: count(record::Result::Passed),
            skipped: count(record::Result::Skipped),
            failed: self.unfinished.iter().cloned().map(Failure::from).collect(),
            proof: self.proof.clone(),
            dropped: self.dropped,
            received: self.received,
            ..Outcome::default()
        };
        for (test, result) in &self.results {
            if !good(*result) && !excused(test) {
                let seen = self.broken.get(test).map_or("failed", String::as_str);
                outcome.failed.push(Failure::new(test, seen));
            }
        }
        outcome
    }
}

/// Run the suite to its end, over hangs and crashes, without these tests.
fn run(setting: Setting<'_>, without: &[&str]) -> Result<Suite> {
    let python = mpi4py(setting.layout)?;
    let source = mpi4py_source(setting.layout)?;
    let mut suite = Suite::default();
    for LeftOut { tests, reason, .. } in left_out(&setting) {
        println!("   left out: {}: {reason}", tests.join(", "));
    }
    for _ in 0..RUNS_MAX {
        let dir = records_dir(setting, &suite, without)?;
        let (end, proof) = once(setting, &python, &source, &dir)?;
        suite.proof = proof;
        suite.dropped += netns::dropped(&end.output);
        suite.received += netns::received(&end.output);
        let records = read(&dir, setting.ranks);
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        let known = suite.results.len();
        for (test, result) in records.results {
            if result == record::Result::Stuck {
                suite.broken.insert(test.clone(), how(&end));
            }
            suite.results.insert(test, result);
        }
        if records.complete {
            suite.judge_end(&end);
            return Ok(suite);
        }
        if suite.results.len() == known {
            suite.unfinished.push(format!("the suite gets no further: {}", how(&end)));
            return Ok(suite);
        }
    }
    suite.unfinished.push(format!("not through after {RUNS_MAX} runs that hung or crashed"));
    Ok(suite)
}

impl Suite {
    /// All tests were run; MPI's finalization may still have failed.
    fn judge_end(&mut self, end: &Finished) {
        let all_good = self.results.values().all(|result| good(*result));
        if end.hung().is_some() || (all_good && !end.success()) {
            self.unfinished.push(format!("after the last test: {}", how(end)));
        }
    }
}

fn how(end: &Finished) -> String {
    let how = end.hung().unwrap_or_else(|| "the program ended in it".to_owned());
    format!("{how}; {}", end.log().display())
}

/// One run: the tests that have no result yet.
fn once(setting: Setting<'_>, python: &Path, source: &Path, dir: &Path) -> Result<(Finished, String)> {
    let abi = match setting.mpi.family {
        Family::Mpich | Family::Intel => "mpich",
        Family::OpenMpi5 | Family::OpenMpi4 => "openmpi",
    };
    let launch = setting.launch(python);
    let end = launch
        .job(setting.layout, setting.label("mpi4py"))?
        .env("MPI4PY_MPIABI", abi)
        .arg("-B")
        .arg(setting.layout.root.join("mpi-tests/mpi4py_record.py"))
        .arg(source.join("test"))
        .arg(dir)
        .arg("-v")
        .run()?;
    let proof = launch.proof(&end.output).with_context(|| format!("see {}", end.log().display()))?;
    Ok((end, proof))
}

/// A new directory for the records, with the tests that are to be left out.
fn records_dir(setting: Setting<'_>, suite: &Suite, without: &[&str]) -> Result<PathBuf> {
    let dir = setting.layout.run_dir().join(format!("mpi4py-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lines = |names: Vec<&str>| -> String { names.iter().map(|name| format!("{name}\n")).collect() };
    let done = suite.results.keys().map(String::as_str).chain(without.iter().copied());
    fs::write(dir.join("done"), lines(done.collect()))
        .context("cannot write the list of tests that are done")?;
    let left = lines(left_out(&setting).flat_map(|left| left.tests).copied().collect());
    fs::write(dir.join("left-out"), left).context("cannot write the list of tests that are left out")?;
    Ok(dir)
}

fn read(dir: &Path, ranks: u32) -> Records {
    // A rank that did not come as far as its first test has no file.
    let file = |rank| fs::read_to_string(dir.join(format!("rank-{rank}"))).unwrap_or_default();
    Records::read(&(0..ranks).map(file).collect::<Vec<_>>())
}
