//! Where things are: the workspace, the build directory and what this tool puts into it.
//! It must never create anything outside the build directory.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The directories of one run.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Cargo's build directory, absolute.
    pub(crate) target: PathBuf,
}

impl Layout {
    /// Find the workspace this tool was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .context("the workspace this tool was built from is gone")?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(given) => root.join(given),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The directory to name in `FI_PROVIDER_PATH`.
    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.target.join("rdgram")
    }

    /// The logs of every command that was run.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }

    /// Where MPI programs run: what they leave behind when they crash stays here.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.target.join("xtask-runs")
    }

    /// Programs that the tests compile.
    pub(crate) fn program_dir(&self, suite: &str) -> PathBuf {
        self.target.join("xtask-programs").join(suite)
    }
}
