//! MPICH's own test suite (`test/mpi`), over the wanted provider and over tcp;ofi_rxm.
//! A test that passes over the second has to pass over the first; whatever fails over both is said.

mod list;
mod results;
mod runner;
mod source;
mod verdict;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::list::Test;
use self::results::{Counts, Ending, Results};
use self::runner::Runner;
use super::{Failure, Outcome, Setting};
use crate::mpi::library::Family;
use crate::mpi::{PEER, Provider, Route};
use crate::netns::{Hosts, Link};

/// The MPI that the suite is run with unless another one is named: the newest of the suite's own generation.
pub(crate) const MPI: &str = "mpich-4.3.2";

/// Everything that tests what a provider does for MPI. Left out are other languages, checkpoints and faults, which the wheels
/// do not have, and `perf` and `basic`, which compare times and need a quiet machine; they can be named.
const DIRS: [&str; 18] = [
    "pt2pt", "rma", "coll", "comm", "threads", "part", "datatype", "attr", "group", "topo", "init", "info",
    "errhan", "spawn", "errors", "io", "mpi_t", "impls",
];

/// The short form: of every kind what is quick, and of what is known to be hard for providers the least slow.
const SHORT: [&str; 44] = [
    "pt2pt/sendrecv2",
    "pt2pt/sendall",
    "pt2pt/anyall",
    "pt2pt/eagerdt",
    "pt2pt/isendirecv",
    "pt2pt/icsend",
    "pt2pt/rqfreeb",
    "pt2pt/mprobe",
    "pt2pt/many_isend",
    "pt2pt/manylmt",
    "pt2pt/huge_anysrc",
    "pt2pt/huge_dupcomm",
    "pt2pt/cancelanysrc",
    "pt2pt/irecv_any",
    "rma/accfence2",
    "rma/fetchandadd_tree",
    "rma/lockcontention2",
    "rma/locknull",
    "rma/window_allocation",
    "rma/contention_putget",
    "rma/linked_list_lockall",
    "rma/win_dynamic_acc",
    "rma/compare_and_swap",
    "rma/get_accumulate_double_derived",
    "rma/mutex_bench",
    "rma/atomic_rmw_fop",
    "rma/overlap_wins_acc",
    "rma/manyget",
    "coll/allred",
    "coll/alltoallw2",
    "coll/nonblocking2",
    "coll/icallreduce",
    "coll/neighb_alltoallw",
    "coll/p_alltoallw",
    "comm/commcreate1",
    "comm/comm_idup_nb",
    "threads/pt2pt/threads",
    "threads/pt2pt/mt_isendirecv",
    "threads/pt2pt/mt_sendrecv",
    "threads/comm/comm_idup",
    "part/parrived",
    "spawn/disconnect",
    "io/i_noncontig_coll2",
    "errhan/commcall",
];

/// Options of `--suite mpich-testsuite`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Selection {
    /// Of MPICH's test suite: only these directories.
    #[arg(long, value_delimiter = ',')]
    dirs: Vec<String>,
    /// Of MPICH's test suite: only these tests, by program (`sendflood`, `pt2pt/sendflood`) or by the whole line of the list.
    #[arg(long, value_delimiter = ',')]
    tests: Vec<String>,
    /// Of MPICH's test suite: the tests of the short form, whose results are kept apart.
    #[arg(long, conflicts_with = "tests")]
    short: bool,
    /// Of MPICH's test suite: over which route ranks of one host talk over rdgram.
    #[arg(long, default_value = "both")]
    routes: Routes,
    /// Of MPICH's test suite: what is run over tcp;ofi_rxm as well.
    #[arg(long, default_value = "failed")]
    peer: Peer,
    /// Of MPICH's test suite: begin no test after so many minutes; `--resume` goes on.
    #[arg(long)]
    minutes: Option<f64>,
    /// Of MPICH's test suite: run only what has no result from an earlier run.
    #[arg(long)]
    resume: bool,
}

/// Routes between ranks of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Routes {
    /// One after the other.
    Both,
    /// Shared memory.
    Memory,
    /// `FI_RDGRAM_LOCAL=off`.
    Datagrams,
}

/// What is run over the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Everything.
    All,
    /// What did not pass over the wanted provider.
    Failed,
    /// Nothing: every failure counts.
    None,
}

/// The results of tests over one provider and one route.
#[derive(Debug)]
struct Column<'a> {
    name: String,
    /// What was to be run. There may be older results of others.
    tests: Vec<&'a Test>,
    results: Results,
    /// Its results are what is judged.
    judged: bool,
    route: Option<&'static Route>,
    /// It came to its end.
    complete: bool,
}

/// Run what the options choose, and compare.
pub(crate) fn run(setting: Setting<'_>, options: &Selection) -> Result<Outcome> {
    if setting.mpi.family != Family::Mpich {
        bail!("MPICH's test suite is for MPICH");
    }
    if setting.place.link().is_some_and(|link| link != Link::CLEAN) {
        bail!("MPICH's test suite is not run with loss: its time limits are for networks without");
    }
    let root = source::prepare(setting.layout, setting.mpi)?;
    let tests = options.select(&root)?;
    source::build(setting.layout, &root, &tests)?;
    let hosts = if setting.place.link().is_some() { Some(Hosts::stand(setting.layout)?) } else { None };
    let minutes = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let until = minutes.map(|minutes| Instant::now() + minutes);
    let runner =
        |provider, route| Runner { setting, provider, route, hosts: hosts.as_ref(), root: &root, until };
    let mut columns = Vec::new();
    let all: Vec<&Test> = tests.iter().collect();
    for route in options.routes(&setting) {
        columns.push(options.column(&runner(setting.provider, route), all.clone(), true)?);
    }
    if options.peer != Peer::None {
        let peer = Provider::builtin(PEER);
        let wanted =
            |test: &&&Test| options.peer == Peer::All || columns.iter().any(|column| column.failed(test));
        let tests: Vec<&Test> = all.iter().filter(wanted).copied().collect();
        columns.push(options.column(&runner(&peer, None), tests, false)?);
    }
    print_table(&all, &columns);
    Ok(judge(&all, &columns))
}

impl Selection {
    /// For every run of the tests.
    pub(crate) fn short() -> Self {
        Self {
            dirs: Vec::new(),
            tests: Vec::new(),
            short: true,
            routes: Routes::Memory,
            peer: Peer::Failed,
            minutes: None,
            resume: false,
        }
    }

    /// The tests that are chosen, in the order of the lists.
    fn select(&self, root: &Path) -> Result<Vec<Test>> {
        let named = self.dirs.iter().map(String::as_str);
        let dirs: Vec<&str> = if self.dirs.is_empty() { DIRS.to_vec() } else { named.collect() };
        let mut tests = Vec::new();
        for dir in dirs {
            tests.extend(list::read(root, dir)?);
        }
        let named: Vec<&str> = self.tests.iter().map(String::as_str).collect();
        let named = if self.short { SHORT.to_vec() } else { named };
        if let Some(name) = named.iter().find(|name| !tests.iter().any(|test| test.is_named(name))) {
            bail!("the suite has no test {name} in the chosen directories");
        }
        if !named.is_empty() {
            tests.retain(|test| named.iter().any(|name| test.is_named(name)));
        }
        Ok(tests)
    }

    /// Other providers than our own have no choice of routes, nor do ranks that are divided among hosts.
    fn routes(&self, setting: &Setting<'_>) -> Vec<Option<&'static Route>> {
        if setting.place.link().is_some() || !setting.provider.is_rdgram() {
            return vec![None];
        }
        match self.routes {
            Routes::Both => vec![Some(&Route::MEMORY), Some(&Route::DATAGRAMS)],
            Routes::Memory => vec![Some(&Route::MEMORY)],
            Routes::Datagrams => vec![Some(&Route::DATAGRAMS)],
        }
    }

    /// Run these tests, as far as they have no result and there is time.
    fn column<'a>(&self, runner: &Runner<'_>, tests: Vec<&'a Test>, judged: bool) -> Result<Column<'a>> {
        let name = runner.name();
        println!("  {} tests over {name}", tests.len());
        let layout = runner.setting.layout;
        let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let kind = if self.short { "results-short" } else { "results" };
        let dir = layout.target.join("mpich-testsuite").join(kind).join(&runner.setting.mpi.name);
        let forgotten = tests.iter().filter(|_| !self.resume).map(|test| test.name.as_str());
        let mut results = Results::open(&dir.join(format!("{file}.jsonl")), forgotten)?;
        let complete = runner.run(&tests, &mut results)?;
        Ok(Column { name, tests, results, judged, route: runner.route, complete })
    }
}

impl Column<'_> {
    /// Those of `tests` that were to be run.
    fn of<'b>(&self, tests: &[&'b Test]) -> Vec<&'b Test> {
        let ours: BTreeSet<&str> = self.tests.iter().map(|test| test.name.as_str()).collect();
        tests.iter().filter(|test| ours.contains(test.name.as_str())).copied().collect()
    }

    fn ending(&self, test: &Test) -> Option<Ending> {
        self.results.get(&test.name).map(|record| record.ending)
    }

    fn failed(&self, test: &Test) -> bool {
        matches!(self.ending(test), Some(Ending::Failed | Ending::TimedOut))
    }

    /// Why its results may not be what they seem to be.
    fn doubt(&self, tests: &[&Test]) -> Option<String> {
        if self.results.count(tests).passed > 0 && self.results.proven(tests) == 0 {
            return Some(format!("{}: no test said which provider it took", self.name));
        }
        let counters = self.results.counters(tests)?;
        self.route?.confirm(counters).err().map(|error| format!("{}: {error:#}", self.name))
    }
}

/// What all columns say together.
fn judge(tests: &[&Test], columns: &[Column<'_>]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut too: BTreeSet<&str> = BTreeSet::new();
    let peer = columns.iter().find(|column| !column.judged);
    for column in columns {
        if !column.complete {
            let left = column.tests.iter().filter(|test| column.ending(test).is_none()).count();
            let text = format!("{}: {left} tests were not run for lack of time", column.name);
            outcome.failed.push(Failure::from(text));
        }
        if !column.judged {
            continue;
        }
        let counts = column.results.count(tests);
        outcome.passed += counts.passed;
        outcome.skipped += counts.left_out;
        for test in tests.iter().filter(|test| column.failed(test)) {
            if peer.is_some_and(|peer| peer.failed(test)) {
                too.insert(&test.name);
            } else {
                let seen = column.results.get(&test.name).map_or("", |record| record.seen.as_str());
                outcome.failed.push(Failure::new(&test.name, format!("over {}: {seen}", column.name)));
            }
        }
        outcome.failed.extend(column.doubt(tests).map(Failure::from));
        outcome.proof = format!("{} tests named the provider", column.results.proven(tests));
    }
    outcome.failed_too = too.into_iter().map(str::to_owned).collect();
    outcome
}

/// Directories as rows; "passed / failed / timed out" of every column.
fn print_table(tests: &[&Test], columns: &[Column<'_>]) {
    let mut groups: Vec<&str> = Vec::new();
    for test in tests {
        if !groups.contains(&test.group()) {
            groups.push(test.group());
        }
    }
    let names: String = columns.iter().map(|column| format!(" {} |", column.name)).collect();
    println!("\npassed / failed / timed out\n\n| directory | left out |{names}");
    println!("|---|---|{}", "---|".repeat(columns.len()));
    for group in groups {
        let of_group: Vec<&Test> = tests.iter().filter(|test| test.group() == group).copied().collect();
        print_row(group, &of_group, columns);
    }
    print_row("all", tests, columns);
}

fn print_row(name: &str, tests: &[&Test], columns: &[Column<'_>]) {
    let counts: Vec<Counts> = columns.iter().map(|column| column.results.count(&column.of(tests))).collect();
    let left_out = counts.first().map_or(0, |counts| counts.left_out);
    let cells: String = counts.iter().map(|counts| format!(" {counts} |")).collect();
    println!("| {name} | {left_out} |{cells}");
}
