//! Debian's parallel HDF5 through h5py: a file that all ranks write and read together by MPI-IO.

use std::path::PathBuf;

use anyhow::Result;

use super::{Answer, App, Inputs, printed};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{OPENMPI_4, PEER};
use crate::packages;

/// One of each kind of dataset.
const VALUES: usize = 4;

pub(super) const APP: App = App {
    name: "hdf5",
    about: "parallel HDF5 through h5py: one file by MPI-IO, written and read in different parts",
    mpi: OPENMPI_4,
    peer: PEER,
    prepare,
    tell,
    answer,
};

fn prepare(layout: &Layout) -> Result<PathBuf> {
    packages::require(layout, &[packages::H5PY_MPI, packages::MPI4PY])?;
    // Not the first in PATH: Debian's packages are for Debian's own.
    Ok(PathBuf::from("/usr/bin/python3"))
}

fn tell(job: Job, inputs: &Inputs<'_>) -> Result<Job> {
    Ok(job.arg("-B").arg(inputs.sources.join("parallel_hdf5.py")).arg(inputs.dir.join("together.h5")))
}

fn answer(_: &Inputs<'_>, output: &str) -> Result<Answer> {
    printed(output, VALUES)
}
