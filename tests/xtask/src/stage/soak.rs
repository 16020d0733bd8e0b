//! The long run of random mixed traffic, `tests/soak`, in a short form.

use super::Context;
use crate::netns;
use crate::packages;
use crate::soak;
use crate::tally::{Tally, skip};

/// Long enough for every fault to come several times.
const SECONDS: u64 = 25;

/// One run, of a seed that nobody chose.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    tally.check("random mixed traffic with faults", || {
        netns::available(layout)?;
        packages::require_or_skip(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::LIBFABRIC_DEV])?;
        let provider = context.provider()?;
        if !provider.is_rdgram() {
            return Err(skip("only rdgram is asked to survive this"));
        }
        soak::short(layout, &provider, SECONDS)
    });
}
