//! What tests ended with: kept in a file while the suite runs, so that a run that was broken off can be gone on with.
//! It must never count a test that was not run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::list::Test;
use crate::mpi::route::Counters;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    /// As it should.
    Passed,
    /// Otherwise.
    Failed,
    /// Not, in its time.
    TimedOut,
    /// It was not run.
    LeftOut,
}

/// One test's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The test's name.
    pub(super) test: String,
    pub(super) ending: Ending,
    /// What was seen when it did not pass.
    pub(super) seen: String,
    pub(super) seconds: f64,
    /// What the provider counted, if it was asked to.
    pub(super) counters: Option<Counters>,
    /// MPICH said which provider it took, and it was the right one.
    pub(super) proven: bool,
}

/// The results of one run over one provider, by the tests' names.
#[derive(Debug)]
pub(super) struct Results {
    records: BTreeMap<String, Record>,
    file: File,
}

/// So many of each ending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) timed_out: usize,
    pub(super) left_out: usize,
}

impl Results {
    /// Those in `path`, if it is there, but for the tests that are to be forgotten.
    pub(super) fn open<'a>(path: &Path, forgotten: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut records = BTreeMap::new();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let record: Record = serde_json::from_str(line).with_context(|| format!("{}", path.display()))?;
            records.insert(record.test.clone(), record);
        }
        for test in forgotten {
            records.remove(test);
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        for record in records.values() {
            write(&mut file, record)?;
        }
        Ok(Self { records, file })
    }

    pub(super) fn get(&self, test: &str) -> Option<&Record> {
        self.records.get(test)
    }

    pub(super) fn add(&mut self, record: Record) -> Result<()> {
        write(&mut self.file, &record)?;
        self.records.insert(record.test.clone(), record);
        Ok(())
    }

    /// How these tests ended; one without a result is in no count.
    pub(super) fn count(&self, tests: &[&Test]) -> Counts {
        let mut counts = Counts::default();
        for record in self.of(tests) {
            *match record.ending {
                Ending::Passed => &mut counts.passed,
                Ending::Failed => &mut counts.failed,
                Ending::TimedOut => &mut counts.timed_out,
                Ending::LeftOut => &mut counts.left_out,
            } += 1;
        }
        counts
    }

    /// So many of them were seen to use the provider.
    pub(super) fn proven(&self, tests: &[&Test]) -> usize {
        self.of(tests).filter(|record| record.proven).count()
    }

    /// What the provider counted in all of them.
    pub(super) fn counters(&self, tests: &[&Test]) -> Option<Counters> {
        self.of(tests).filter_map(|record| record.counters).reduce(|sum, more| sum + more)
    }

    fn of(&self, tests: &[&Test]) -> impl Iterator<Item = &Record> {
        tests.iter().filter_map(|test| self.get(&test.name))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {} / {}", self.passed, self.failed, self.timed_out)
    }
}

/// One line each: what is there can be read however the run ends.
fn write(file: &mut File, record: &Record) -> Result<()> {
    let line = serde_json::to_string(record)? + "\n";
    file.write_all(line.as_bytes()).context("cannot write the results")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(test: &str, ending: Ending) -> Record {
        let test = test.to_owned();
        Record { test, ending, seen: String::new(), seconds: 1.5, counters: None, proven: true }
    }

    #[test]
    fn a_run_goes_on_where_it_was_broken_off() {
        let dir = std::env::temp_dir().join(format!("rdgram-results-{}", std::process::id()));
        let path = dir.join("results.jsonl");
        let mut first = Results::open(&path, [].into_iter()).expect("new results");
        for (test, ending) in [("a", Ending::TimedOut), ("b", Ending::Passed), ("a", Ending::Failed)] {
            first.add(record(test, ending)).expect("written");
        }
        drop(first);
        let resumed = Results::open(&path, [].into_iter()).expect("results");
        let ending = |results: &Results, test| results.get(test).map(|record| record.ending);
        assert_eq!(ending(&resumed, "a"), Some(Ending::Failed), "the later result counts");
        drop(resumed);
        let anew = Results::open(&path, ["a", "c"].into_iter()).expect("results");
        assert_eq!((ending(&anew, "a"), ending(&anew, "b")), (None, Some(Ending::Passed)));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
