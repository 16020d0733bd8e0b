//! Real applications over the library: the one that takes the least time; all are `cargo xtask app`.

use super::Context;
use crate::app;
use crate::packages;
use crate::tally::{Tally, skip};

/// Its answer over rdgram has to be that over libfabric's own provider.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    tally.check("LAMMPS, 4 ranks", || {
        packages::require_or_skip(layout, &[packages::VENV])?;
        let provider = context.provider()?;
        if !provider.is_rdgram() {
            return Err(skip("its answer is compared with that over another provider already"));
        }
        app::short(layout, &provider)
    });
}
