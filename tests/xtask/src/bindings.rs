//! Regenerates or checks the libfabric bindings that are checked in under `capi/sys`.
//! The generator is a package of its own: what it needs must never become a dependency of the workspace.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::command::Job;
use crate::layout::Layout;

/// Options of `cargo xtask bindings`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Change nothing; fail when the checked-in bindings differ from what would be generated.
    #[arg(long)]
    check: bool,
}

/// Run the generator.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    print!("{}", generator(layout, options.check).check()?);
    Ok(ExitCode::SUCCESS)
}

/// The generator as a job.
pub(crate) fn generator(layout: &Layout, check: bool) -> Job {
    Job::new(layout, "generate bindings", "cargo")
        .args(["run", "--quiet", "--manifest-path"])
        .arg(layout.root.join("capi/sys/generate/Cargo.toml"))
        .arg("--target-dir")
        .arg(layout.target.join("bindings-generator"))
        .arg("--")
        .args(check.then_some("--check"))
        .limit(Duration::from_secs(900))
}
