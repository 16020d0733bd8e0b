//! Tries the machinery of the bench: its programs compile, run, and print what it reads.
//! Nothing is judged by how fast it was: a machine that runs tests is no machine to measure on.

use super::Context;
use crate::bench;
use crate::packages::{self, GCC, LIBC_HEADERS, LIBFABRIC_BIN, LIBFABRIC_DEV, VENV};
use crate::tally::Tally;

/// The smallest form of a few sections.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    tally.check("floors, MPI and peers, measured once", || {
        packages::require_or_skip(layout, &[GCC, LIBC_HEADERS, VENV, LIBFABRIC_DEV, LIBFABRIC_BIN])?;
        bench::smoke(layout)
    });
}
