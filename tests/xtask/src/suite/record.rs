//! Reads what `mpi-tests/mpi4py_record.py` has written, one file per rank, into one result per test.
//! A test that ended on some ranks only has not passed.

use std::collections::{BTreeMap, BTreeSet};

/// How a test went on all ranks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Result {
    /// Every rank left it out.
    Skipped,
    /// No rank failed, and one at least did not skip.
    Passed,
    /// One rank at least failed.
    Failed,
    /// A rank began it and did not end it.
    Stuck,
}

/// What one run of the suite has left.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Tests that ended on all ranks, and the one in which the run got stuck.
    pub(crate) results: BTreeMap<String, Result>,
    /// Every rank came to the end of the suite.
    pub(crate) complete: bool,
}

/// One rank's file.
#[derive(Debug, Default)]
struct Rank {
    begun: Vec<String>,
    ended: BTreeMap<String, Result>,
    complete: bool,
}

impl Records {
    /// From the contents of the ranks' files; a rank without a file has an empty one.
    pub(crate) fn read(files: &[String]) -> Self {
        let ranks: Vec<Rank> = files.iter().map(|file| Rank::read(file)).collect();
        let mut results = BTreeMap::new();
        for (test, result) in ranks.iter().flat_map(|rank| &rank.ended) {
            if ranks.iter().all(|rank| rank.ended.contains_key(test)) {
                let worst = results.entry(test.clone()).or_insert(*result);
                *worst = (*result).max(*worst);
            }
        }
        let complete = !ranks.is_empty() && ranks.iter().all(|rank| rank.complete);
        if let Some(test) = stuck(&ranks) {
            results.insert(test, Result::Stuck);
        }
        Self { results, complete }
    }
}

impl Rank {
    fn read(file: &str) -> Self {
        let mut rank = Self::default();
        for line in file.lines() {
            let (word, test) = line.split_once(' ').unwrap_or((line, ""));
            let result = match word {
                "begin" => {
                    rank.begun.push(test.to_owned());
                    continue;
                }
                "complete" => {
                    rank.complete = true;
                    continue;
                }
                "passed" => Result::Passed,
                "skipped" => Result::Skipped,
                _ => Result::Failed,
            };
            let worst = rank.ended.entry(test.to_owned()).or_insert(result);
            *worst = result.max(*worst);
        }
        rank
    }
}

/// The first of the tests that ranks are in. Others may be ahead: what they are in waits for this one.
fn stuck(ranks: &[Rank]) -> Option<String> {
    let current: BTreeSet<&String> = ranks
        .iter()
        .filter_map(|rank| rank.begun.last().filter(|test| !rank.complete && !rank.ended.contains_key(*test)))
        .collect();
    let longest = ranks.iter().max_by_key(|rank| rank.begun.len())?;
    longest.begun.iter().find(|test| current.contains(test)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: [&str; 2]) -> Records {
        Records::read(&files.map(str::to_owned))
    }

    #[test]
    fn the_worst_rank_decides() {
        let one = "begin a\npassed a\nbegin b\npassed b\nbegin c\nskipped c\ncomplete \n";
        let other = "begin a\npassed a\nbegin b\nfailed b\nfailed b\nbegin c\npassed c\ncomplete \n";
        let records = read([one, other]);
        assert!(records.complete);
        assert_eq!(records.results["a"], Result::Passed);
        assert_eq!(records.results["b"], Result::Failed);
        assert_eq!(records.results["c"], Result::Passed);
    }

    #[test]
    fn a_run_is_stuck_where_its_slowest_rank_is() {
        let ahead = "begin a\npassed a\nbegin b\npassed b\nbegin c\n";
        let records = read([ahead, "begin a\npassed a\nbegin b\n"]);
        assert!(!records.complete);
        assert_eq!(records.results["b"], Result::Stuck);
        assert!(!records.results.contains_key("c"));
    }

    #[test]
    fn a_failed_part_is_not_made_good_by_a_later_one() {
        let file = "begin a\nfailed a\npassed a\ncomplete \n";
        assert_eq!(read([file, file]).results["a"], Result::Failed);
    }

    #[test]
    fn a_rank_that_wrote_nothing_has_not_passed() {
        let records = read(["begin a\npassed a\ncomplete \n", ""]);
        assert!(!records.complete && records.results.is_empty());
    }
}
