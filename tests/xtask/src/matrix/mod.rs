//! `cargo xtask matrix`: every MPI with every suite in every place, one cell after the other, and a page with all of them.
//! A cell that was not run stays so on the page; nothing that was not run is called passed.

mod cell;
mod page;
mod vcis;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::cell::{Cell, Place, Record};
use crate::layout::Layout;
use crate::mpi::library::NAMES;
use crate::mpi::{Mpi, Provider, RDGRAM};
use crate::netns;
use crate::packages;
use crate::suite::Choice;

/// Where the page is in the workspace, and the results that it is made of.
const PAGE: &str = "prov/docs/matrix.md";
const RESULTS: &str = "prov/docs/matrix/results.jsonl";
const VCIS: &str = "prov/docs/matrix/vcis.json";

/// Options of `cargo xtask matrix`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these MPIs.
    #[arg(long = "mpi", value_delimiter = ',')]
    mpis: Vec<String>,
    /// Only these suites.
    #[arg(long = "suite", value_delimiter = ',')]
    suites: Vec<Choice>,
    /// Only these places.
    #[arg(long = "place", value_delimiter = ',')]
    places: Vec<Place>,
    /// Begin no cell after so many minutes; `--resume` goes on.
    #[arg(long)]
    minutes: Option<f64>,
    /// Run only cells that have no result from an earlier run.
    #[arg(long)]
    resume: bool,
    /// Run no cell, but measure what several virtual interfaces of MPICH are worth.
    #[arg(long)]
    vcis: bool,
    /// Run nothing, and only make the page of the results that there are.
    #[arg(long)]
    no_run: bool,
    /// Write the page and the results into the sources, not only print the page.
    #[arg(long)]
    write: bool,
}

/// The results by their cells: those in the sources, and those of later runs here, which are kept in a file under `target/`, a line for each run of a cell.
#[derive(Debug)]
struct Results {
    /// The file of the runs here.
    path: PathBuf,
    records: BTreeMap<Cell, Record>,
}

/// Run the chosen cells, then make the page of all results.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let target = layout.target.join("matrix");
    let in_sources = layout.root.join(RESULTS);
    let vcis_in_sources = layout.root.join(VCIS);
    let mut results = Results::open(&in_sources, target.join("results.jsonl"))?;
    let vcis = target.join("vcis.json");
    let cells = options.cells()?;
    let mut clean = true;
    if options.vcis {
        clean = vcis::run(layout, &vcis)?;
    } else if !options.no_run {
        let left: Vec<Cell> = cells
            .iter()
            .filter(|cell| !(options.resume && results.records.contains_key(*cell)))
            .cloned()
            .collect();
        clean = options.run_cells(layout, &left, &mut results)?;
    }
    let mut text = page::page(&results.records);
    let vcis = [vcis, vcis_in_sources.clone()].into_iter().find(|path| path.is_file());
    let vcis = vcis.map(|path| vcis::read(&path)).transpose()?;
    text.push_str(&vcis.as_ref().map(vcis::section).unwrap_or_default());
    if options.write {
        let page = layout.root.join(PAGE);
        write(&page, &text)?;
        write(&in_sources, &results.lines()?)?;
        if let Some(vcis) = vcis {
            write(&vcis_in_sources, &vcis.to_json()?)?;
        }
        println!("wrote {PAGE} and what it is made of");
    } else {
        print!("{text}");
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file with this text, and its directory if need be.
fn write(path: &Path, text: &str) -> Result<()> {
    let dir = path.parent().context("a file has a directory")?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Options {
    /// The chosen cells, those of one place together.
    fn cells(&self) -> Result<Vec<Cell>> {
        if let Some(name) = self.mpis.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("no MPI is named {name}: there are {}", NAMES.join(", "));
        }
        if let Some(suite) = self.suites.iter().find(|suite| !Choice::EACH.contains(suite)) {
            bail!("{} is no suite of the matrix", suite.name());
        }
        let chosen = |cell: &Cell| {
            (self.mpis.is_empty() || self.mpis.contains(&cell.mpi))
                && (self.suites.is_empty() || self.suites.iter().any(|suite| suite.name() == cell.suite))
                && (self.places.is_empty() || self.places.contains(&cell.place))
        };
        Ok(Cell::all().into_iter().filter(chosen).collect())
    }

    /// Did all of them pass?
    fn run_cells(&self, layout: &Layout, cells: &[Cell], results: &mut Results) -> Result<bool> {
        packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::VENV])?;
        if cells.iter().any(|cell| cell.place != Place::OneHost) {
            netns::available(layout)?;
        }
        let until = self.minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
        let provider = Provider::prepare(layout, RDGRAM)?;
        let mut clean = true;
        for cell in cells {
            if until.is_some_and(|until| Instant::now() >= until) {
                println!("no time is left: --resume goes on");
                return Ok(false);
            }
            let mpi = Mpi::prepare(layout, &cell.mpi)?;
            let record = cell.run(layout, &mpi, &provider)?;
            clean &= record.failed.is_empty();
            results.add(cell.clone(), record)?;
        }
        Ok(clean)
    }
}

impl Results {
    /// Those in the sources and in the file `path`, if they are there. The later one of a cell counts.
    fn open(in_sources: &Path, path: PathBuf) -> Result<Self> {
        let mut records: BTreeMap<Cell, Record> = BTreeMap::new();
        for file in [in_sources, &path] {
            for line in fs::read_to_string(file).unwrap_or_default().lines() {
                let (cell, record): (Cell, Record) =
                    serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))?;
                if records.get(&cell).is_none_or(|known| known.date <= record.date) {
                    records.insert(cell, record);
                }
            }
        }
        Ok(Self { path, records })
    }

    /// One line for each cell.
    fn lines(&self) -> Result<String> {
        let lines = self.records.iter().map(|entry| Ok(serde_json::to_string(&entry)? + "\n"));
        lines.collect()
    }

    /// The file only grows: what is there can be read however the run ends, and the last result of a cell counts. What failed in the one before and does not fail now is not forgotten.
    fn add(&mut self, cell: Cell, mut record: Record) -> Result<()> {
        if let Some(before) = self.records.get(&cell) {
            record.remember(before);
        }
        let dir = self.path.parent().context("the results have no directory")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let line = serde_json::to_string(&(&cell, &record))? + "\n";
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.records.insert(cell, record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(date: u64, passed: usize) -> Record {
        Record { date, passed, ..Record::default() }
    }

    #[test]
    fn the_later_result_of_a_cell_counts_wherever_it_is() {
        let dir = std::env::temp_dir().join(format!("rdgram-matrix-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for temporary files");
        let (in_sources, here) = (dir.join("in-sources"), dir.join("here"));
        let [first, second, ..] = &Cell::all()[..] else { panic!("there are cells") };
        let mut earlier = Results::open(&in_sources, here.clone()).expect("none");
        earlier.add(first.clone(), record(1, 10)).expect("written");
        earlier.add(second.clone(), record(3, 30)).expect("written");
        let mut written = Results { path: PathBuf::new(), records: BTreeMap::new() };
        written.records.insert(first.clone(), record(2, 20));
        written.records.insert(second.clone(), record(2, 20));
        fs::write(&in_sources, written.lines().expect("lines")).expect("written");
        let both = Results::open(&in_sources, here).expect("both");
        assert_eq!([both.records[first].passed, both.records[second].passed], [20, 30]);
        let mut again = both;
        let hung = crate::suite::Failure::new("testJoin", "hung; /somewhere/log");
        again.add(first.clone(), Record { failed: vec![hung], ..record(4, 9) }).expect("written");
        again.add(first.clone(), record(5, 10)).expect("written");
        assert_eq!(again.records[first].note, "failed in a run before: testJoin: hung");
        again.add(first.clone(), record(6, 10)).expect("written");
        assert_eq!(again.records[first].note, "failed in a run before: testJoin: hung", "not forgotten");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
