//! The programs in `tests/bench`, compiled, and the libfabric those without MPI run on.
//! They must be compiled alike: what they are compared with is compiled with optimisation too.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Mpi, Place, Provider};

/// The compiled programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The Intel MPI Benchmarks.
    pub(crate) imb: PathBuf,
    /// Raw UDP, latency.
    pub(crate) floor_pingpong: PathBuf,
    /// Raw UDP, bandwidth.
    pub(crate) floor_stream: PathBuf,
    /// Two processes of one host: a shared flag, copies.
    pub(crate) floor_local: PathBuf,
    /// MPI: processor time.
    pub(crate) transfer: PathBuf,
    /// libfabric: what peers cost.
    pub(crate) peers: PathBuf,
    /// libfabric: many senders.
    pub(crate) incast: PathBuf,
    /// Counts drops around a command.
    pub(crate) udp_drops: PathBuf,
    /// libfabric's ping-pong on both hosts.
    pub(crate) fi_pingpong: PathBuf,
    /// Debian's libfabric is older than the `tcp` that is a reliable datagram provider by itself; the one
    /// beside the Intel MPI Benchmarks has it, and is compatible.
    libfabric_dir: PathBuf,
}

impl Programs {
    /// Compile all of them.
    pub(crate) fn compile(layout: &Layout, mpi: &Mpi) -> Result<Self> {
        let sources = layout.root.join("tests/bench");
        let dir = layout.program_dir("bench");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let compile = |compiler: &Path, name: &str, libraries: &[&str]| -> Result<PathBuf> {
            let program = dir.join(name);
            Job::new(layout, format!("compile {name}"), compiler)
                .args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
                .arg(&program)
                .arg(sources.join(format!("{name}.c")))
                .args(libraries)
                .check()?;
            Ok(program)
        };
        let gcc = Path::new("gcc");
        let imb = mpi.imb("IMB-MPI1").context("there are no benchmarks for this MPI")?;
        let impi = imb.parent().and_then(Path::parent).context("IMB is in no environment")?;
        Ok(Self {
            floor_pingpong: compile(gcc, "floor_pingpong", &[])?,
            floor_stream: compile(gcc, "floor_stream", &[])?,
            floor_local: compile(gcc, "floor_local", &[])?,
            transfer: compile(&mpi.mpicc(), "transfer", &[])?,
            peers: compile(gcc, "peers", &["-lfabric"])?,
            incast: compile(gcc, "incast", &["-lfabric"])?,
            udp_drops: sources.join("udp_drops.sh"),
            fi_pingpong: sources.join("fi_pingpong.sh"),
            libfabric_dir: impi.join("lib"),
            imb,
        })
    }

    /// The variables of a libfabric program that is to run over `provider`.
    pub(crate) fn environment(&self, provider: &Provider, place: Place) -> Vec<(String, OsString)> {
        let mut variables = vec![
            ("LD_LIBRARY_PATH".to_owned(), OsString::from(&self.libfabric_dir)),
            // Its own providers lie beside it; this project's names another directory below.
            ("FI_PROVIDER_PATH".to_owned(), OsString::from(&self.libfabric_dir)),
            ("RDGRAM_TEST_PROVIDER".to_owned(), OsString::from(&provider.name)),
        ];
        variables.extend(provider.environment(place));
        variables
    }
}
