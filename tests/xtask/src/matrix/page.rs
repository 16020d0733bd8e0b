//! The page of the matrix: a table for each place, and what has to be known to read it.
//! It must never show a cell without a result as anything else than not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::cell::{self, Cell, Place, Record};
use crate::mpi::PEER;
use crate::mpi::library::NAMES;
use crate::suite::{Choice, imb};

/// More of what was seen of a failure is in the log.
const SEEN_CHARS: usize = 300;

/// Remarks under a table, each with its number.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The number of this one.
    fn number(&mut self, text: &str) -> usize {
        let at = self.0.iter().position(|known| known == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        at + 1
    }
}

/// The whole page.
pub(super) fn page(records: &BTreeMap<Cell, Record>) -> String {
    let mut text = introduction(records);
    for place in Place::ALL {
        text.push_str(&section(place, records));
    }
    text
}

fn introduction(records: &BTreeMap<Cell, Record>) -> String {
    let all = Cell::all();
    let of = |cell: &Cell| records.get(cell);
    let run: Vec<&Record> = all.iter().filter_map(of).collect();
    let (passed, failed, left_out) = run.iter().fold((0, 0, 0), |(passed, failed, left_out), record| {
        (passed + record.passed, failed + record.failed.len(), left_out + record.left_out())
    });
    let commits: BTreeSet<&str> = run.iter().map(|record| record.commit.as_str()).collect();
    let commits: Vec<&str> = commits.into_iter().collect();
    let minutes = run.iter().map(|record| record.seconds).sum::<f64>() / 60.0;
    format!(
        "# The matrix: every MPI, every suite, every place\n\n\
         Made by `cargo xtask matrix --write` (as root, for the hosts are network namespaces); do not edit. `--mpi`, `--suite` and \
         `--place` choose cells, `--resume` goes on with those that have no result.\n\n\
         A cell is **passed / failed / left out**, and its time in seconds. Every run proved by MPI's own words that it took rdgram. What does not pass is run over `{PEER}` as well, \
         in the same place (Intel MPI: over `tcp`); what fails there too is counted as left out, and named. A dash: this MPI cannot run the suite.\n\n\
         - `imb`, `imb-rma`, `imb-nbc`, `imb-mt`: all benchmarks of IMB-MPI1, IMB-RMA, IMB-NBC and IMB-MT, {} ranks. {}.\n\
         - `verify`: `mpi-tests/verify`, {} ranks, between hosts two on each: every byte checked.\n\
         - `mpi4py`: the own suite of mpi4py, {} ranks.\n\n\
         {} of {} cells were run: {passed} passed, {failed} failed, {left_out} left out; {minutes:.0} minutes, commit {}.\n",
        cell::ranks(Choice::Imb),
        imb::describe(&imb::COMPLETE),
        cell::ranks(Choice::Verify),
        cell::ranks(Choice::Mpi4py),
        run.len(),
        all.len(),
        commits.join(", "),
    )
}

fn section(place: Place, records: &BTreeMap<Cell, Record>) -> String {
    let mut notes = Notes::default();
    let names: Vec<&str> = Choice::EACH.into_iter().map(Choice::name).collect();
    let mut text = format!(
        "\n## {}\n\n| | {} |\n|---|{}\n",
        title(place),
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for mpi in NAMES {
        let _ = write!(text, "| `{mpi}` |");
        for suite in &names {
            let cell = Cell { place, mpi: mpi.to_owned(), suite: (*suite).to_owned() };
            let _ = write!(text, " {} |", entry(&cell, records.get(&cell), &mut notes));
        }
        text.push('\n');
    }
    if !notes.0.is_empty() {
        text.push('\n');
    }
    for (number, note) in notes.0.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", number + 1);
    }
    text
}

fn title(place: Place) -> &'static str {
    match place {
        Place::OneHost => "One host (shared memory)",
        Place::TwoHosts => "Two hosts",
        Place::Loss => "Two hosts, 1 % of the datagrams lost",
    }
}

fn entry(cell: &Cell, record: Option<&Record>, notes: &mut Notes) -> String {
    if let Some(reason) = cell.cannot() {
        return format!("— ({})", notes.number(reason));
    }
    let Some(record) = record else { return "not run".to_owned() };
    let mut text = format!("{} / {} / {}", record.passed, record.failed.len(), record.left_out());
    let mut numbers: Vec<String> =
        remarks(record).iter().map(|remark| notes.number(remark).to_string()).collect();
    numbers.dedup();
    if !numbers.is_empty() {
        let _ = write!(text, " ({})", numbers.join(", "));
    }
    let _ = write!(text, "; {:.0} s", record.seconds);
    text
}

/// What is to be said of a cell.
fn remarks(record: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    if !record.note.is_empty() {
        remarks.push(record.note.clone());
    }
    if !record.failed_too.is_empty() {
        remarks.push(format!("fail over `{PEER}` too: {}", record.failed_too.join(", ")));
    }
    for failure in &record.failed {
        // The directory of the build is nobody's concern.
        let seen = failure.to_string().lines().next().unwrap_or_default().to_owned();
        let seen = seen.split("; /").next().unwrap_or_default();
        let seen: String =
            seen.split(" (the ranks' stacks").next().unwrap_or_default().chars().take(SEEN_CHARS).collect();
        remarks.push(format!("**failed**: {seen}"));
    }
    remarks
}

impl Record {
    /// By the suite's own judgement, or because it does not work over [`PEER`] either.
    fn left_out(&self) -> usize {
        self.left_out + self.failed_too.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Failure;

    fn record() -> Record {
        Record {
            commit: "abc".to_owned(),
            date: 0,
            seconds: 12.3,
            proof: "provider: rdgram".to_owned(),
            passed: 7,
            failed: vec![Failure::new("Bcast", "hung; /somewhere/log")],
            failed_too: vec!["Reduce".to_owned()],
            left_out: 1,
            note: String::new(),
            detail: "100 checks".to_owned(),
            dropped: 3,
            received: 10_000,
        }
    }

    #[test]
    fn a_cell_without_a_result_is_not_run() {
        let page = page(&BTreeMap::new());
        assert_eq!(page.matches("not run |").count(), Cell::all().len());
        assert!(page.contains("0 of "));
    }

    #[test]
    fn failures_are_counted_and_told() {
        let cell = Cell { place: Place::Loss, mpi: NAMES[0].to_owned(), suite: "imb".to_owned() };
        let mut notes = Notes::default();
        assert_eq!(entry(&cell, Some(&record()), &mut notes), "7 / 1 / 2 (1, 2); 12 s");
        assert_eq!(notes.0, ["fail over `tcp;ofi_rxm` too: Reduce", "**failed**: Bcast: hung"]);
    }

    #[test]
    fn the_same_remark_has_one_number() {
        let mut notes = Notes::default();
        assert_eq!((notes.number("a"), notes.number("b"), notes.number("a")), (1, 2, 1));
    }
}
