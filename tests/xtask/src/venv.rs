//! Python environments that hold what PyPI offers as binaries: MPICH, and the Intel MPI Benchmarks.
//! Versions are pinned here; a run must never depend on what PyPI considers newest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::Job;
use crate::layout::Layout;
use crate::packages;

/// The MPI that everything is tested with.
pub(crate) const MPICH: &str = "5.0.2";
/// Older ones, with older libfabrics in them, that have to work too.
pub(crate) const OLDER_MPICH: [&str; 2] = ["4.3.2", "4.0.3"];
/// Only for its `IMB-MPI1` binary: the benchmarks run on MPICH's library, which has the same ABI.
const IMPI: &str = "impi-rt==2021.18.1";

/// Where MPICH and the benchmarks are.
#[derive(Debug, Clone)]
pub(crate) struct Mpi {
    /// The root of the environment with MPICH.
    pub(crate) mpich: PathBuf,
    /// The IMB-MPI1 binary.
    pub(crate) imb: PathBuf,
}

impl Mpi {
    /// Make both environments, with this version of MPICH, unless they are there.
    pub(crate) fn prepare(layout: &Layout, version: &str) -> Result<Self> {
        packages::require(layout, &[packages::VENV])?;
        let name = if version == MPICH { "venv-mpich".to_owned() } else { format!("venv-mpich-{version}") };
        let mpich = make(layout, &name, &format!("mpich=={version}"), "bin/mpirun")?;
        let impi = make(layout, "venv-impi", IMPI, "bin/IMB-MPI1")?;
        Ok(Self { mpich, imb: impi.join("bin/IMB-MPI1") })
    }

    /// The launcher.
    pub(crate) fn mpirun(&self) -> PathBuf {
        self.mpich.join("bin/mpirun")
    }

    /// The compiler wrapper.
    pub(crate) fn mpicc(&self) -> PathBuf {
        self.mpich.join("bin/mpicc")
    }

    /// The directory of `libmpi.so`.
    pub(crate) fn lib(&self) -> PathBuf {
        self.mpich.join("lib")
    }
}

fn make(layout: &Layout, name: &str, requirement: &str, product: &str) -> Result<PathBuf> {
    let dir = layout.target.join(name);
    let stamp = dir.join(".rdgram-requirement");
    if fs::read_to_string(&stamp).is_ok_and(|made_with| made_with == requirement) {
        return Ok(dir);
    }
    println!("  installing {requirement} from PyPI into {}", display(layout, &dir));
    Job::new(layout, format!("python3 -m venv {name}"), "python3")
        .args(["-m", "venv", "--clear"])
        .arg(&dir)
        .check()?;
    Job::new(layout, format!("pip install {requirement}"), dir.join("bin/pip"))
        .args(["install", "--disable-pip-version-check", "--no-input", requirement])
        .limit(Duration::from_secs(1200))
        .check()?;
    if !dir.join(product).is_file() {
        bail!("{requirement} brought no {product}");
    }
    fs::write(&stamp, requirement).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(dir)
}

fn display(layout: &Layout, path: &Path) -> String {
    path.strip_prefix(&layout.root).unwrap_or(path).display().to_string()
}
