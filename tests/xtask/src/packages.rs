//! Installs missing system packages with apt on Debian and Ubuntu, after saying which and why.
//! It must never install what a task does not need, nor touch a system without apt.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::Job;
use crate::layout::Layout;
use crate::tally::skip;

/// Something a task needs and the package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    package: &'static str,
    reason: &'static str,
    present: Present,
}

/// How to see that it is there.
#[derive(Debug, Clone, Copy)]
enum Present {
    /// A program found in `PATH` or in the directories of the administrator.
    Program(&'static str),
    /// Any of these files.
    File(&'static str),
    /// Python can make a virtual environment with pip in it.
    Ensurepip,
}

/// A C compiler.
pub(crate) const GCC: Need =
    Need { package: "gcc", reason: "compiles the test programs", present: Present::Program("gcc") };
/// What reads libfabric's headers for the bindings.
pub(crate) const LIBCLANG: Need = Need {
    package: "libclang-dev",
    reason: "reads headers, to compare the bindings that are checked in",
    present: Present::File("/usr/share/doc/libclang-dev"),
};
/// The headers of the C library.
pub(crate) const LIBC_HEADERS: Need = Need {
    package: "libc6-dev",
    reason: "headers for the test programs",
    present: Present::File("/usr/include/stdio.h"),
};
/// What builds the test suite of MPICH.
pub(crate) const MAKE: Need =
    Need { package: "make", reason: "builds the test suite of MPICH", present: Present::Program("make") };
/// What unpacks it.
pub(crate) const XZ: Need =
    Need { package: "xz-utils", reason: "unpacks Debian's sources", present: Present::Program("xz") };
/// What its signature is checked with.
pub(crate) const DEBIAN_KEYRING: Need = Need {
    package: "debian-archive-keyring",
    reason: "checks the signatures of Debian's sources",
    present: Present::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
};
/// Python with virtual environments.
pub(crate) const VENV: Need = Need {
    package: "python3-venv",
    reason: "makes the environments that hold MPICH and the Intel MPI Benchmarks",
    present: Present::Ensurepip,
};
/// Debian's Open MPI.
pub(crate) const OPENMPI: Need = Need {
    package: "openmpi-bin",
    reason: "Open MPI 4, to be run over the library",
    present: Present::File("/usr/bin/mpirun.openmpi"),
};
/// Its headers and compiler wrapper.
pub(crate) const OPENMPI_DEV: Need = Need {
    package: "libopenmpi-dev",
    reason: "compiles the test programs for Open MPI 4",
    present: Present::File("/usr/share/doc/libopenmpi-dev"),
};
/// libfabric to compile against.
pub(crate) const LIBFABRIC_DEV: Need = Need {
    package: "libfabric-dev",
    reason: "the libfabric that the C programs are compiled against",
    present: Present::File("/usr/include/rdma/fabric.h"),
};
/// The tools `fi_info` and `fi_pingpong`.
pub(crate) const LIBFABRIC_BIN: Need = Need {
    package: "libfabric-bin",
    reason: "fi_info and fi_pingpong",
    present: Present::Program("fi_pingpong"),
};
/// Network namespaces.
pub(crate) const IPROUTE: Need =
    Need { package: "iproute2", reason: "network namespaces as hosts", present: Present::Program("ip") };
/// Loss between namespaces.
pub(crate) const NFTABLES: Need =
    Need { package: "nftables", reason: "loses datagrams on purpose", present: Present::Program("nft") };

/// The HPC Challenge.
pub(crate) const HPCC: Need = Need {
    package: "hpcc",
    reason: "the HPC Challenge, to be run over the library",
    present: Present::Program("hpcc"),
};
/// h5py for parallel HDF5 and Open MPI.
pub(crate) const H5PY_MPI: Need = Need {
    package: "python3-h5py-mpi",
    reason: "parallel HDF5, to be run over the library",
    present: Present::File("/usr/share/doc/python3-h5py-mpi"),
};
/// Debian's mpi4py, which that goes with.
pub(crate) const MPI4PY: Need = Need {
    package: "python3-mpi4py",
    reason: "what parallel HDF5 is called by",
    present: Present::File("/usr/share/doc/python3-mpi4py"),
};
/// FFTW to compile against.
pub(crate) const FFTW_DEV: Need = Need {
    package: "libfftw3-dev",
    reason: "mpi4py-fft is built with it",
    present: Present::File("/usr/include/fftw3.h"),
};

/// Captures and dissects packets.
pub(crate) const TSHARK: Need = Need {
    package: "tshark",
    reason: "captures packets, and shows them by the dissector of the wire protocol",
    present: Present::Program("tshark"),
};

/// Makes a man page of the manual.
pub(crate) const GO_MD2MAN: Need = Need {
    package: "go-md2man",
    reason: "makes a man page of the manual",
    present: Present::Program("go-md2man"),
};
/// Typesets it.
pub(crate) const GROFF: Need =
    Need { package: "groff-base", reason: "typesets the man page", present: Present::Program("groff") };

impl Need {
    fn is_present(&self, layout: &Layout) -> bool {
        match self.present {
            Present::Program(name) => program_exists(name),
            Present::File(path) => Path::new(path).exists(),
            Present::Ensurepip => Job::new(layout, "look for ensurepip", "python3")
                .args(["-c", "import ensurepip, venv"])
                .quiet()
                .run()
                .is_ok_and(|end| end.success()),
        }
    }
}

/// Is there such a program?
pub(crate) fn program_exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}

/// Install what is missing of `needs`, or fail saying what is missing.
pub(crate) fn require(layout: &Layout, needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_present(layout)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !program_exists("apt-get") {
        bail!("missing: {} (this system has no apt-get: install them by hand)", names.join(" "));
    }
    println!("  installing with apt:");
    for need in &missing {
        println!("    {:<14} {}", need.package, need.reason);
    }
    apt(layout, "apt-get update", &["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&names);
    apt(layout, "apt-get install", &install)?;
    for need in missing {
        if !need.is_present(layout) {
            bail!("apt installed {}, and what is wanted of it is still missing", need.package);
        }
    }
    Ok(())
}

/// As [`require`], for a check that is skipped where the packages cannot be had.
pub(crate) fn require_or_skip(layout: &Layout, needs: &[Need]) -> Result<()> {
    require(layout, needs).map_err(|error| skip(format!("{:#}", error).lines().next().unwrap_or_default()))
}

/// Are we the superuser?
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

fn apt(layout: &Layout, label: &str, args: &[&str]) -> Result<()> {
    let job = if is_root() {
        Job::new(layout, label, "apt-get")
    } else if program_exists("sudo") {
        // Not interactive: a password prompt would be lost in the log and look like a hang.
        Job::new(layout, label, "sudo").args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
    } else {
        bail!("neither root nor sudo: run `apt-get {}` as root, then again", args.join(" "));
    };
    job.args(args).env("DEBIAN_FRONTEND", "noninteractive").limit(Duration::from_secs(900)).check().map(drop)
}
