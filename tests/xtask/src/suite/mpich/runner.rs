//! Runs tests of the suite, one at a time, each with its own limit, over one provider.
//! It must leave nothing behind: no process of a test that hangs, and nothing in shared memory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::list::Test;
use super::results::{Ending, Record, Results};
use super::verdict;
use crate::command::Finished;
use crate::mpi::route::Counters;
use crate::mpi::{Launch, Provider, Route};
use crate::netns::Hosts;
use crate::suite::Setting;

/// What MPICH makes for windows and ranks of one host; it removes the names itself, unless it is killed.
const SHARED: &str = "/dev/shm";
const SHARED_PREFIX: &str = "mpich_";
/// A test that its launcher ends after its time has this much more until we do.
const GRACE: Duration = Duration::from_secs(30);
/// A test gets half of the memory that is free: the rest belongs to others.
const MEMORY_SHARE: f64 = 0.5;

/// Tests that look at bytes which MPI does not define, and what makes MPICH define them. Both compare the padding of
/// `long double` too. A short message is packed, and what is packed has any padding; a receiver that takes as many
/// pieces as this one has elements (32 with rdgram, 4 with tcp;ofi_rxm) is given the padding with the rest, others
/// unpack the values alone. Nothing may be received in pieces then.
const UNPACKED: [&str; 2] = ["datatype/sendrecvt2 2", "datatype/sendrecvt4 2"];
const UNPACKING: (&str, &str) = ("MPIR_CVAR_CH4_OFI_ENABLE_PT2PT_NOPACK", "0");

/// All that tests of one table's column have in common.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) provider: &'a Provider,
    pub(super) route: Option<&'static Route>,
    pub(super) hosts: Option<&'a Hosts>,
    /// The suite's directory.
    pub(super) root: &'a Path,
    /// No test begins after it.
    pub(super) until: Option<Instant>,
}

impl Runner<'_> {
    /// Names the column, and the file of its results.
    pub(super) fn name(&self) -> String {
        match (self.route, self.hosts) {
            (_, Some(_)) => format!("{}, two hosts", self.provider.name),
            (Some(route), None) => format!("{}, {}", self.provider.name, route.name),
            (None, None) => self.provider.name.clone(),
        }
    }

    /// Run those of `tests` that have no result yet; false: its time was over before all had one.
    pub(super) fn run(&self, tests: &[&Test], results: &mut Results) -> Result<bool> {
        for test in tests {
            if results.get(&test.name).is_some() {
                continue;
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            let record = self.one(test)?;
            if matches!(record.ending, Ending::Failed | Ending::TimedOut) {
                println!("  {:<8} {} ({:.1} s): {}", "not ok", test.name, record.seconds, record.seen);
            }
            results.add(record)?;
        }
        Ok(true)
    }

    fn one(&self, test: &Test) -> Result<Record> {
        let mut record = Record {
            test: test.name.clone(),
            ending: Ending::LeftOut,
            seen: String::new(),
            seconds: 0.0,
            counters: None,
            proven: false,
        };
        let dir = self.root.join(&test.dir);
        let program = dir.join(&test.program);
        if let Some(reason) = why_not(test, &program) {
            record.seen = reason;
            return Ok(record);
        }
        let launch = self.launch(test, &program);
        let shared = shared_names();
        let start = Instant::now();
        let end = self.start(test, &launch)?;
        record.seconds = start.elapsed().as_secs_f64();
        remove_shared(&shared)?;
        // Between hosts ranks of one host share memory and others do not: there is no one route.
        record.counters = Counters::of(&end.output).ok().filter(|_| self.route.is_some());
        (record.ending, record.seen) = self.judge(test, &launch, &end, &mut record.proven);
        if record.ending == Ending::Passed {
            fs::remove_file(end.log()).context("cannot remove a log")?;
        }
        Ok(record)
    }

    fn launch<'b>(&'b self, test: &'b Test, program: &'b Path) -> Launch<'b> {
        let Setting { mpi, place, limit, .. } = self.setting;
        let (provider, route, launcher) = (self.provider, self.route, &test.launcher);
        let mut limit = limit.min(Duration::from_secs(test.seconds));
        if test.times_out {
            limit += GRACE;
        }
        Launch { mpi, provider, place, ranks: test.ranks, program, limit, route, launcher }
    }

    fn start(&self, test: &Test, launch: &Launch<'_>) -> Result<Finished> {
        let layout = self.setting.layout;
        // Not the whole line: the label names a file.
        let label = format!("{}/{} {} ranks over {}", test.dir, test.program, test.ranks, self.name());
        let job = match self.hosts {
            Some(hosts) => launch.wrapped(layout, hosts.job(layout, label))?,
            None => launch.job(layout, label)?,
        };
        let mut job = job.dir(launch.program.parent().unwrap_or(self.root)).stall(launch.limit);
        if test.times_out {
            job = job.env("MPIEXEC_TIMEOUT", test.seconds.to_string());
        }
        if UNPACKED.contains(&test.name.as_str()) {
            job = job.env(UNPACKING.0, UNPACKING.1);
        }
        for (name, value) in &test.variables {
            job = job.env(name, value);
        }
        job.args(&test.arguments).run()
    }

    fn judge(&self, test: &Test, launch: &Launch<'_>, end: &Finished, proven: &mut bool) -> (Ending, String) {
        let log = end.log().display();
        match launch.taken(&end.output) {
            Ok(line) => *proven = line.is_some(),
            Err(error) => return (Ending::Failed, format!("{error:#}; {log}")),
        }
        if let Some(hung) = end.hung() {
            return (Ending::TimedOut, format!("{hung}; {log}"));
        }
        match verdict::judge(test.expected, &end.output, end.success()) {
            Ok(()) => (Ending::Passed, String::new()),
            Err(wrong) => (Ending::Failed, format!("{wrong}; {log}")),
        }
    }
}

/// Why a test is not run.
fn why_not(test: &Test, program: &Path) -> Option<String> {
    if let Some(ticket) = &test.known_failure {
        return Some(format!("known to fail with MPICH ({ticket})"));
    }
    if !program.is_file() {
        return Some("it does not compile with this MPI".to_owned());
    }
    let free = memory_free().unwrap_or_default();
    (test.memory > free * MEMORY_SHARE)
        .then(|| format!("it needs {} GiB of memory, and {free:.0} are free", test.memory))
}

/// In units of 2^30 bytes.
fn memory_free() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / f64::from(1 << 20))
}

/// Segments that MPICH has named, of whatever run.
fn shared_names() -> BTreeSet<OsString> {
    let Ok(entries) = fs::read_dir(SHARED) else { return BTreeSet::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(SHARED_PREFIX)).collect()
}

/// Remove the segments that are not among `before` and that no process uses: those of other runs of MPICH are in use.
fn remove_shared(before: &BTreeSet<OsString>) -> Result<()> {
    let mut left: Vec<PathBuf> =
        shared_names().difference(before).map(|name| Path::new(SHARED).join(name)).collect();
    if left.is_empty() {
        return Ok(());
    }
    let ours = fs::metadata("/proc/self").map(|data| data.uid()).ok();
    left.retain(|path| fs::metadata(path).ok().map(|data| data.uid()) == ours);
    let used = mapped();
    for path in left.iter().filter(|path| !used.iter().any(|maps| maps.contains(&*path.to_string_lossy()))) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// What all processes have mapped.
fn mapped() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("maps")).ok()).collect()
}
