//! The stages that need nothing but Rust: format, lints, docs, tests, simulator, bindings, aarch64.
//! They must never depend on what the machine offers beyond a toolchain, except to say "skipped".

use std::time::Duration;

use anyhow::{Result, bail};

use super::Context;
use crate::bindings as generator;
use crate::command::Job;
use crate::cross;
use crate::layout::Layout;
use crate::manual;
use crate::packages;
use crate::tally::{Tally, skip};

/// The generator says so in these words where the installed libfabric is not the one the bindings are of.
const GENERATOR_SKIPS: &str = "skipped";

fn cargo(layout: &Layout, args: &[&str], minutes: u64) -> Job {
    let label = format!("cargo {}", args.join(" "));
    Job::new(layout, label, "cargo")
        .args(args)
        .env("CARGO_TERM_COLOR", "never")
        .limit(Duration::from_secs(60 * minutes))
}

fn quietly(job: Job) -> Result<String> {
    job.check().map(|_| String::new())
}

/// rustfmt.
pub(super) fn format(context: &mut Context<'_>, tally: &mut Tally) {
    tally.check("cargo fmt --check", || {
        quietly(cargo(context.layout, &["fmt", "--all", "--check", "--", "--color=never"], 2))
    });
}

/// clippy.
pub(super) fn clippy(context: &mut Context<'_>, tally: &mut Tally) {
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    tally.check("cargo clippy", || quietly(cargo(context.layout, &args, 20)));
}

/// rustdoc, and the man page.
pub(super) fn docs(context: &mut Context<'_>, tally: &mut Tally) {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    let job = cargo(context.layout, &args, 20).env("RUSTDOCFLAGS", "-D warnings");
    tally.check("cargo doc", || quietly(job));
    tally.check("man page", || manual::check(context.layout));
}

/// Unit and property tests. The simulator has a stage of its own.
pub(super) fn unit(context: &mut Context<'_>, tally: &mut Tally) {
    let args = ["test", "--workspace", "--exclude", "rdgram-sim", "--no-fail-fast"];
    tally.check("cargo test", || {
        let output = cargo(context.layout, &args, 25).check()?;
        Ok(format!("{} tests", tests_passed(&output)))
    });
}

/// The simulator: the seeds, then the planted defects that it has to find. In the test profile, which is
/// optimised and keeps the assertions.
pub(super) fn simulator(context: &mut Context<'_>, tally: &mut Tally) {
    tally.check("simulator, seeds", || {
        let output =
            cargo(context.layout, &["test", "--package", "rdgram-sim", "--no-fail-fast"], 25).check()?;
        Ok(format!("{} tests", tests_passed(&output)))
    });
    let planted = [
        "test",
        "--package",
        "rdgram-sim",
        "--features",
        "planted",
        "--test",
        "planted",
        "--",
        "--nocapture",
    ];
    tally.check("simulator, planted defects", || {
        let output = cargo(context.layout, &planted, 25).check()?;
        if tests_passed(&output) == 0 {
            bail!("no test for planted defects was run");
        }
        let found = output.lines().filter(|line| line.contains(": after ")).count();
        Ok(format!("{found} found"))
    });
}

/// Every interleaving of the locks that the model checker can make (`prov/sync/tests/model.rs`).
pub(super) fn models(context: &mut Context<'_>, tally: &mut Tally) {
    tally.check("models of the locks", || {
        let arguments = ["test", "--package", "rdgram-sync", "--test", "model", "--release"];
        // Its own directory: the flag would make cargo build everything anew, here and for whoever comes after.
        let job = cargo(context.layout, &arguments, 15).env("RUSTFLAGS", "--cfg loom");
        let output = job.env("CARGO_TARGET_DIR", context.layout.target.join("loom")).check()?;
        match tests_passed(&output) {
            0 => bail!("no model was run"),
            passed => Ok(format!("{passed} models")),
        }
    });
}

/// Are the checked-in bindings what the generator makes?
pub(super) fn bindings(context: &mut Context<'_>, tally: &mut Tally) {
    tally.check("bindings --check", || {
        let needs = [packages::LIBCLANG, packages::LIBC_HEADERS, packages::LIBFABRIC_DEV];
        packages::require_or_skip(context.layout, &needs)?;
        let output = generator::generator(context.layout, true).check()?;
        match output.lines().find(|line| line.contains(GENERATOR_SKIPS)) {
            Some(line) => Err(skip(line.trim())),
            None => Ok(String::new()),
        }
    });
}

/// Does it type-check for aarch64?
pub(super) fn aarch64(context: &mut Context<'_>, tally: &mut Tally) {
    tally.check("cargo check for aarch64", || cross::check(context.layout));
}

/// The number of tests that cargo's test harnesses report as passed.
fn tests_passed(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("test result: ok. ")?.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_of_all_harnesses_are_added() {
        let output = "test result: ok. 3 passed; 0 failed\nother\ntest result: ok. 4 passed; 0 failed\n";
        assert_eq!(super::tests_passed(output), 7);
    }
}
