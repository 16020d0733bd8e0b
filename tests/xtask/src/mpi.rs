//! Runs MPI programs over a chosen libfabric provider, and reads from MPICH which one it really took.
//! A run over the wrong provider is never reported as a result.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::command::Job;
use crate::layout::Layout;
use crate::plugin;
use crate::venv::{MPICH, Mpi};

/// The name under which libfabric knows this project's provider.
pub(crate) const RDGRAM: &str = "rdgram";
/// What it is compared with.
pub(crate) const PEER: &str = "tcp;ofi_rxm";

/// How the line begins in which MPICH names the provider it opened; it lists those it was offered as well.
const SUMMARY: &str = "libfabric provider: ";

/// Options of `cargo xtask mpi`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of ranks.
    #[arg(short = 'n', long, default_value_t = 2)]
    ranks: u32,
    /// The libfabric provider to run over.
    #[arg(long, default_value = RDGRAM)]
    provider: String,
    /// The version of MPICH, from PyPI.
    #[arg(long, default_value = MPICH)]
    mpich: String,
    /// End the run after this many seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// A libfabric provider, with what has to be set to use it.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    /// As libfabric names it.
    pub(crate) name: String,
    plugin_dir: Option<PathBuf>,
}

/// Where the ranks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// All on this host, over its loopback interface.
    Loopback,
    /// On the hosts that `tests/net/hosts.sh` has made around the run.
    Hosts,
}

/// One MPI run.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Where MPICH is.
    pub(crate) mpi: &'a Mpi,
    /// What to run over.
    pub(crate) provider: &'a Provider,
    /// Where the ranks run.
    pub(crate) place: Place,
    /// How many.
    pub(crate) ranks: u32,
    /// The program, an absolute path.
    pub(crate) program: &'a Path,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl Provider {
    /// The provider `name`; this project's own is built first.
    pub(crate) fn prepare(layout: &Layout, name: &str) -> Result<Self> {
        let plugin_dir = if name == RDGRAM { Some(plugin::build(layout)?) } else { None };
        Ok(Self { name: name.to_owned(), plugin_dir })
    }

    /// Is it this project's?
    pub(crate) fn is_rdgram(&self) -> bool {
        self.plugin_dir.is_some()
    }

    /// The variables that make libfabric take it. On one host everything stays on the loopback interface,
    /// whichever provider it is, so that a comparison compares the same path; what the caller has set wins.
    pub(crate) fn environment(&self, place: Place) -> Vec<(String, OsString)> {
        let mut variables = vec![("FI_PROVIDER".to_owned(), OsString::from(&self.name))];
        if let Some(dir) = &self.plugin_dir {
            variables.push(("FI_PROVIDER_PATH".to_owned(), dir.into()));
        }
        if place == Place::Loopback {
            for name in ["FI_RDGRAM_IFACE", "FI_TCP_IFACE", "FI_UDP_IFACE", "FI_SOCKETS_IFACE"] {
                let value = env::var_os(name).unwrap_or_else(|| OsString::from("lo"));
                variables.push((name.to_owned(), value));
            }
        }
        variables
    }
}

impl Launch<'_> {
    /// The run as a job that only needs the program's arguments.
    pub(crate) fn job(&self, layout: &Layout, label: impl Into<String>) -> Job {
        let job = Job::new(layout, label, self.mpi.mpirun());
        self.configure(job.args(self.mpirun_args()).arg(self.program))
    }

    /// As [`Launch::job`], started by a wrapper that `job` already holds with its arguments.
    pub(crate) fn wrapped(&self, job: Job) -> Job {
        self.configure(job.arg(self.mpi.mpirun()).args(self.mpirun_args()).arg(self.program))
    }

    fn mpirun_args(&self) -> Vec<OsString> {
        vec!["-n".into(), self.ranks.to_string().into()]
    }

    fn configure(&self, job: Job) -> Job {
        job.env("LD_LIBRARY_PATH", self.mpi.lib())
            // MPICH carries UCX too and may prefer it.
            .env("MPIR_CVAR_CH4_NETMOD", "ofi")
            // Ranks of one host would otherwise talk through MPICH's own shared memory.
            .env("MPIR_CVAR_NOLOCAL", "1")
            // Prints which provider was taken.
            .env("MPIR_CVAR_DEBUG_SUMMARY", "1")
            .envs(&self.provider.environment(self.place))
            .limit(self.limit)
    }
}

/// The provider MPICH says it has opened, and the line of its summary that says so.
fn provider_taken(output: &str) -> Option<(&str, &str)> {
    let line = output.lines().map(str::trim).find(|line| line.starts_with(SUMMARY))?;
    let rest = &line[SUMMARY.len()..];
    Some((rest.split_once(" - ").map_or(rest, |(name, _)| name).trim(), line))
}

/// The line of MPICH's summary that names the provider; an error when it is not the wanted one.
pub(crate) fn proof(output: &str, provider: &Provider) -> Result<String> {
    match provider_taken(output) {
        Some((taken, line)) if taken == provider.name => Ok(line.to_owned()),
        Some((taken, _)) => bail!("the run was to use {}, and MPICH took {taken}", provider.name),
        None => bail!("MPICH did not say which libfabric provider it took (is it built for libfabric?)"),
    }
}

/// Run the user's program.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let mpi = Mpi::prepare(layout, &options.mpich)?;
    let provider = Provider::prepare(layout, &options.provider)?;
    let Some((program, arguments)) = options.program.split_first() else { bail!("no program given") };
    let launch = Launch {
        mpi: &mpi,
        provider: &provider,
        place: Place::Loopback,
        ranks: options.ranks,
        program: Path::new(program),
        limit: Duration::from_secs(options.seconds),
    };
    let end = launch.job(layout, "mpirun").dir(&env::current_dir()?).args(arguments).run()?;
    print!("{}", end.output);
    let proof = proof(&end.output, &provider)?;
    let success = end.success();
    end.into_result()?;
    println!("{proof}");
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_the_one_opened_not_one_that_was_offered() {
        let output = "provider: tcp, score = 4\nprovider: rdgram, score = 5\n\
                      libfabric provider: tcp;ofi_rxm - 127.0.0.0/8\n";
        let line = "libfabric provider: tcp;ofi_rxm - 127.0.0.0/8";
        assert_eq!(provider_taken(output), Some(("tcp;ofi_rxm", line)));
        let rdgram = Provider { name: RDGRAM.to_owned(), plugin_dir: None };
        assert!(proof(output, &rdgram).is_err());
        let peer = Provider { name: PEER.to_owned(), plugin_dir: None };
        assert!(proof(output, &peer).is_ok());
    }

    #[test]
    fn no_summary_is_no_proof() {
        let rdgram = Provider { name: RDGRAM.to_owned(), plugin_dir: None };
        assert!(proof("provider: rdgram, score = 5\n", &rdgram).is_err());
    }
}
