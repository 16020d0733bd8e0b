//! MPICH's test suite from Debian's source package: fetched by apt, unpacked, configured and built for one MPI.
//! It must never touch the machine's own lists of sources nor its package database.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::list::Test;
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::Mpi;
use crate::packages;

/// Debian's release and the version in it: the results of another one would not be comparable.
const RELEASE: &str = "bookworm";
const VERSION: &str = "4.0.2-3";
const ARCHIVE: &str = "mpich_4.0.2.orig.tar.xz";
/// The suite inside of the archive.
const INSIDE: &str = "mpich-4.0.2/test/mpi";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Written when configure has come to its end.
const STAMP: &str = ".rdgram-configured";

const FETCH: Duration = Duration::from_secs(900);
const CONFIGURE: Duration = Duration::from_secs(1800);
const BUILD: Duration = Duration::from_secs(3600);

/// The suite, configured for this MPI: the directory that has its lists.
pub(super) fn prepare(layout: &Layout, mpi: &Mpi) -> Result<PathBuf> {
    let parent = layout.target.join("mpich-testsuite");
    let dir = parent.join(&mpi.name);
    if dir.join(STAMP).is_file() {
        return Ok(dir);
    }
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::MAKE, packages::XZ])?;
    let archive = fetch(layout, &parent)?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let depth = INSIDE.split('/').count();
    Job::new(layout, "unpack MPICH's test suite", "tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(&dir)
        .arg(format!("--strip-components={depth}"))
        .arg(INSIDE)
        .check()?;
    configure(layout, mpi, &dir)?;
    fs::write(dir.join(STAMP), VERSION).context("cannot say that the suite is configured")?;
    Ok(dir)
}

/// Download the source package with apt, by a list of sources and a cache of our own.
fn fetch(layout: &Layout, parent: &Path) -> Result<PathBuf> {
    let archive = parent.join(ARCHIVE);
    if archive.is_file() {
        return Ok(archive);
    }
    packages::require(layout, &[packages::DEBIAN_KEYRING])?;
    println!("  fetching the source package of mpich {VERSION} from Debian {RELEASE}");
    let apt = parent.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part)).with_context(|| format!("cannot create {}", apt.display()))?;
    }
    let sources = apt.join("sources.list");
    let line = format!("deb-src [signed-by={KEYRING}] {MIRROR} {RELEASE} main\n");
    fs::write(&sources, line).with_context(|| format!("cannot write {}", sources.display()))?;
    let settings = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        // Its own user could not write into the build directory.
        "APT::Sandbox::User=root".to_owned(),
    ];
    let job = |label: &str| {
        let job = Job::new(layout, label, "apt-get").dir(parent).limit(FETCH);
        settings.iter().fold(job, |job, setting| job.arg("-o").arg(setting))
    };
    job("apt-get update for sources").args(["update", "-q"]).check()?;
    job("apt-get source mpich")
        .args(["source", "-q", "--download-only", "--only-source"])
        .arg(format!("mpich={VERSION}"))
        .check()?;
    fs::remove_dir_all(&apt).with_context(|| format!("cannot remove {}", apt.display()))?;
    if !archive.is_file() {
        bail!("apt fetched no {ARCHIVE}");
    }
    Ok(archive)
}

/// Only C: the wheels' Fortran and C++ would need compilers of the versions that they were made with.
fn configure(layout: &Layout, mpi: &Mpi, dir: &Path) -> Result<()> {
    let root = mpi.root().context("the suite is for the MPICH of a wheel")?;
    println!("  configuring MPICH's test suite for {}", mpi.name);
    Job::new(layout, format!("configure MPICH's test suite for {}", mpi.name), "nice")
        .arg(dir.join("configure"))
        .arg(format!("CC={}", mpi.mpicc().display()))
        .arg(format!("CPPFLAGS=-I{}", root.join("include").display()))
        // What its sources make compilers warn of is not this project's.
        .arg("CFLAGS=-O1 -g -w")
        .arg(format!("--with-mpi={}", root.display()))
        .args(["--disable-fortran", "--disable-cxx", "--enable-threads=multiple"])
        .args(["--disable-dependency-tracking", "--disable-shared"])
        .dir(dir)
        .limit(CONFIGURE)
        .check()
        .map(drop)
}

/// Build the programs of these tests that are not there. Some do not compile with every MPI: they are missing afterwards.
pub(super) fn build(layout: &Layout, root: &Path, tests: &[Test]) -> Result<()> {
    let mut missing: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    for test in tests {
        let program = root.join(&test.dir).join(&test.program);
        if let (false, Some(dir), Some(name)) = (program.is_file(), program.parent(), program.file_name()) {
            missing.entry(dir.to_owned()).or_default().insert(name.to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("  building {} programs", missing.values().map(BTreeSet::len).sum::<usize>());
    let jobs = format!("-j{}", thread::available_parallelism().map_or(1, usize::from));
    let make = |dir: &Path| {
        let label = format!("make {}", dir.strip_prefix(root).unwrap_or(dir).display());
        Job::new(layout, label, "nice").args(["make", "--keep-going"]).arg(&jobs).dir(dir).limit(BUILD)
    };
    for library in ["util", "dtpools"] {
        make(&root.join(library)).check()?;
    }
    for (dir, programs) in missing {
        make(&dir).args(&programs).run()?;
    }
    if tests.iter().all(|test| !root.join(&test.dir).join(&test.program).is_file()) {
        bail!("none of the programs could be built");
    }
    Ok(())
}
