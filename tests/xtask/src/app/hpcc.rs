//! The HPC Challenge: a dense system of equations, a transposition, random updates of a distributed table, a Fourier
//! transform, and rings of messages. It judges itself; its own file holds what it found.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Answer, App, Inputs};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{OPENMPI_4, PEER};
use crate::packages;

/// Order of the system; the others' sizes follow from it.
const ORDER: u32 = 1000;

pub(super) const APP: App = App {
    name: "hpcc",
    about: "HPC Challenge: HPL, PTRANS, RandomAccess, FFT, rings",
    mpi: OPENMPI_4,
    peer: PEER,
    prepare,
    tell,
    answer,
};

fn prepare(layout: &Layout) -> Result<PathBuf> {
    packages::require(layout, &[packages::HPCC])?;
    Ok(PathBuf::from("/usr/bin/hpcc"))
}

fn tell(job: Job, inputs: &Inputs<'_>) -> Result<Job> {
    fs::write(inputs.dir.join("hpccinf.txt"), settings(inputs.ranks)).context("cannot write its settings")?;
    Ok(job)
}

/// The lines are told apart by their numbers; what stands after the values is for the reader.
fn settings(ranks: u32) -> String {
    let rows = (1..=ranks).rev().find(|rows| rows * rows <= ranks && ranks % rows == 0).unwrap_or(1);
    let columns = ranks / rows;
    format!(
        "The challenge,\nin a short form.\nunused   name of the output of HPL\n8   where it goes\n\
         1   number of orders\n{ORDER}\n1   number of block sizes\n64\n0   ranks by rows\n1   number of grids\n\
         {rows}   rows\n{columns}   columns\n16.0   largest residual\n1   number of factorizations\n2\n\
         1   number of ends of the recursion\n4\n1   number of panels\n2\n1   number of recursions\n1\n\
         1   number of broadcasts\n1\n1   number of depths\n1\n2   exchange of rows\n64   its threshold\n0   L\n0   U\n\
         1   equilibration\n8   alignment\n---\n0   more orders for PTRANS\n0\n0   more block sizes for PTRANS\n0\n"
    )
}

/// What it counts or calculates, with the value that it has to have where that is known.
const RESULTS: [(&str, Option<&str>); 14] = [
    ("Success", Some("1")),
    ("HPL_N", None),
    ("HPL_Anorm1", None),
    ("HPL_AnormI", None),
    ("HPL_Xnorm1", None),
    ("HPL_XnormI", None),
    ("HPL_RnormI", None),
    ("PTRANS_n", None),
    ("PTRANS_residual", Some("0")),
    // A table in memory that its ranks update at random; 1 % of errors is allowed where they race, and here they do not.
    ("MPIRandomAccess_Errors", Some("0")),
    ("MPIRandomAccess_LCG_Errors", Some("0")),
    ("MPIRandomAccess_N", None),
    ("MPIFFT_N", None),
    ("MPIFFT_maxErr", None),
];
/// The parts in which ranks talk and that are of one length however fast they are.
const TIMES: [&str; 4] = ["HPL_time", "PTRANS_time", "MPIRandomAccess_time", "MPIRandomAccess_LCG_time"];

fn answer(inputs: &Inputs<'_>, _: &str) -> Result<Answer> {
    let text = fs::read_to_string(inputs.dir.join("hpccoutf.txt")).context("it wrote no results")?;
    judge(&text)
}

fn judge(text: &str) -> Result<Answer> {
    // HPL and PTRANS count what failed; in the summary stands only what was calculated.
    if let Some(failed) = text.lines().find(|line| line.contains("FAILED")) {
        bail!("it says: {}", failed.trim());
    }
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.next().with_context(|| format!("its results have no {name}"))
    };
    let mut lines = Vec::new();
    for (name, wanted) in RESULTS {
        let value = value(name)?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != value) {
            bail!("{name} is {value} instead of {wanted}");
        }
        lines.push(format!("{name} {value}"));
    }
    let mut seconds = 0.0;
    for name in TIMES {
        seconds += value(name)?.parse::<f64>().with_context(|| format!("{name} is no number"))?;
    }
    Ok(Answer { lines, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> String {
        let values = RESULTS.iter().map(|(name, wanted)| format!("{name}={}\n", wanted.unwrap_or("7.5")));
        values.chain(TIMES.iter().map(|name| format!("{name}=0.25\n"))).collect()
    }

    #[test]
    fn errors_and_missing_results_are_no_answer() {
        let good = results();
        let answer = judge(&good).expect("all is there");
        assert_eq!((answer.lines.len(), answer.seconds), (RESULTS.len(), 1.0));
        assert!(judge(&good.replace("Access_Errors=0", "Access_Errors=1")).is_err());
        assert!(judge(&good.replace("MPIFFT_maxErr", "other")).is_err());
        assert!(judge(&format!("WALL 500 500 FAILED 0.6\n{good}")).is_err());
    }

    #[test]
    fn the_grid_holds_all_ranks() {
        for (ranks, rows, columns) in [(2, 1, 2), (3, 1, 3), (4, 2, 2), (6, 2, 3), (8, 2, 4)] {
            let settings = settings(ranks);
            let lines: Vec<&str> = settings.lines().collect();
            assert_eq!(lines[10..12], [format!("{rows}   rows"), format!("{columns}   columns")]);
        }
    }
}
