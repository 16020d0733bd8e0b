//! mpi4py-fft, which distributes fast Fourier transforms, with a flow that is calculated by them.

use std::path::PathBuf;

use anyhow::Result;

use super::{Answer, App, Inputs, printed};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{MPICH, library};
use crate::packages;

/// Neither is a multiple of usual numbers of ranks: parts differ in size.
const POINTS: &str = "54";
const STEPS: &str = "10";
/// Three of each of the two divisions of the cube.
const VALUES: usize = 6;

pub(super) const APP: App = App {
    name: "fourier",
    about: "mpi4py-fft: the Taylor-Green vortex in slabs and in pencils",
    mpi: MPICH,
    peer: "tcp",
    prepare,
    tell,
    answer,
};

fn prepare(layout: &Layout) -> Result<PathBuf> {
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::FFTW_DEV])?;
    library::mpi4py_fft(layout)
}

fn tell(job: Job, inputs: &Inputs<'_>) -> Result<Job> {
    let script = inputs.sources.join("taylor_green.py");
    Ok(job.env("MPI4PY_MPIABI", "mpich").arg("-B").arg(script).args([POINTS, STEPS]))
}

fn answer(_: &Inputs<'_>, output: &str) -> Result<Answer> {
    printed(output, VALUES)
}
