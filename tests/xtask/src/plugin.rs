//! Builds the provider and puts it where libfabric looks for it.
//! It must never hand out a stale library: a failed build is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::Job;
use crate::layout::Layout;

/// Build the release library; returns the directory for `FI_PROVIDER_PATH`.
pub(crate) fn build(layout: &Layout) -> Result<PathBuf> {
    Job::new(layout, "cargo build --release", "cargo")
        .args(["build", "--release", "--package", "rdgram-fi"])
        .limit(Duration::from_secs(1800))
        .check()?;
    install(&layout.target.join("release"), layout.plugin_dir())
}

/// Put the library that cargo has built in the directory `built` into `dir`; returns that.
pub(crate) fn install(built: &Path, dir: PathBuf) -> Result<PathBuf> {
    // Cargo cannot put the hyphen into the file name that libfabric's loader looks for.
    let built = built.join("librdgram_fi.so");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let installed = dir.join("librdgram-fi.so");
    // Renamed into place: a process that has the old library mapped keeps its old file. Another run of this tool
    // may do the same at the same time.
    let staged = dir.join(format!(".librdgram-fi.so.{}", std::process::id()));
    fs::copy(&built, &staged).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&staged, &installed).with_context(|| format!("cannot replace {}", installed.display()))?;
    Ok(dir)
}
