//! Starts MPI programs: the arguments and variables with which each family of MPI takes the wanted provider,
//! also between ranks of one host. What was taken is for `proof.rs` to say.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::library::{Family, Mpi};
use super::proof::{proof, taken};
use super::provider::{Place, Provider};
use super::route::Route;
use crate::command::Job;
use crate::layout::Layout;
use crate::netns;
use crate::packages;

/// A program that prints nothing for so long hangs.
const STALL: Duration = Duration::from_secs(180);

/// One MPI run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// Which MPI.
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
    /// How ranks of one host reach each other; as it comes when that is not said.
    pub(crate) route: Option<&'static Route>,
    /// More arguments of the launcher.
    pub(crate) launcher: &'a [String],
}

impl Launch<'_> {
    /// The run as a job that only needs the program's arguments.
    pub(crate) fn job(&self, layout: &Layout, label: impl Into<String>) -> Result<Job> {
        match self.place {
            Place::Loopback => self.start(layout, Job::new(layout, label, self.mpi.mpirun())),
            Place::Hosts(link) => {
                let hosts = netns::job(layout, label, &link);
                self.wrapped(layout, hosts.args(["sh", "-c", self.names_of_hosts(), "sh"]))
            }
        }
    }

    /// The same started by a wrapper, which `job` holds with its arguments.
    pub(crate) fn wrapped(&self, layout: &Layout, job: Job) -> Result<Job> {
        self.start(layout, job.arg(self.mpi.mpirun()))
    }

    /// What in the run's output says that it used the wanted provider.
    pub(crate) fn proof(&self, output: &str) -> Result<String> {
        proof(self.mpi.family, output, self.provider)
    }

    /// The same of a run that may have ended before it said anything.
    pub(crate) fn taken(&self, output: &str) -> Result<Option<String>> {
        taken(self.mpi.family, output, self.provider)
    }

    fn start(&self, layout: &Layout, job: Job) -> Result<Job> {
        let dir = layout.run_dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut job = job.args(self.arguments()).args(self.launcher).arg(self.program).dir(&dir).stall(STALL);
        if let Some(lib) = self.mpi.lib() {
            job = job.env("LD_LIBRARY_PATH", lib);
        }
        let mut job = self.variables(job).envs(&self.provider.environment(self.place));
        for (name, value) in self.route.iter().flat_map(|route| route.variables()) {
            job = job.env(name, value);
        }
        Ok(job.limit(self.limit))
    }

    /// The launcher's arguments.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-n".into(), self.ranks.to_string().into()];
        let more: &[&str] = match self.mpi.family {
            Family::Mpich | Family::Intel => return arguments,
            Family::OpenMpi5 => &["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"],
            Family::OpenMpi4 => &["--oversubscribe", "--bind-to", "none"],
        };
        arguments.extend(more.iter().map(OsString::from));
        if packages::is_root() {
            arguments.push("--allow-run-as-root".into());
        }
        for (name, value) in OPENMPI_PARAMETERS {
            arguments.extend(["--mca".into(), name.into(), value.into()]);
        }
        if !self.provider.is_rdgram() {
            // Open MPI leaves out the providers of libfabric that use sockets, unless it is given a list.
            for name in ["mtl_ofi_provider_exclude", "opal_common_ofi_provider_exclude"] {
                arguments.extend(["--mca".into(), name.into(), "none".into()]);
            }
        }
        arguments
    }

    fn variables(&self, job: Job) -> Job {
        match self.mpi.family {
            // MPICH carries UCX too and may prefer it. Ranks of one host would otherwise talk through MPICH's
            // own shared memory. The summary names the provider.
            Family::Mpich => job
                .env("MPIR_CVAR_CH4_NETMOD", "ofi")
                .env("MPIR_CVAR_NOLOCAL", "1")
                .env("MPIR_CVAR_DEBUG_SUMMARY", "1"),
            Family::Intel => {
                let root = self.mpi.root().unwrap_or_else(|| Path::new("/"));
                let mut path = OsString::from(root.join("bin"));
                path.push(":");
                path.push(std::env::var_os("PATH").unwrap_or_default());
                job.env("I_MPI_ROOT", root)
                    .env("PATH", path)
                    .env("I_MPI_FABRICS", "ofi")
                    .env("I_MPI_DEBUG", "5")
                    // Ranks that share a core would each be given the whole of it.
                    .env("I_MPI_PIN", "0")
            }
            Family::OpenMpi5 | Family::OpenMpi4 => job,
        }
    }

    /// Between hosts each launcher is told of them in its own words; the script speaks MPICH's.
    fn names_of_hosts(&self) -> &'static str {
        match self.mpi.family {
            Family::Mpich => r#"exec "$@""#,
            Family::Intel => {
                r#"I_MPI_HYDRA_BOOTSTRAP=ssh I_MPI_HYDRA_BOOTSTRAP_EXEC=$HYDRA_LAUNCHER_EXEC \
                I_MPI_HYDRA_HOST_FILE=$HYDRA_HOST_FILE I_MPI_HYDRA_IFACE=$HYDRA_IFACE \
                I_MPI_PERHOST=1 exec "$@""#
            }
            Family::OpenMpi5 => {
                r#"PRTE_MCA_plm_ssh_agent=$HYDRA_LAUNCHER_EXEC PRTE_MCA_prte_default_hostfile=$HYDRA_HOST_FILE \
                PRTE_MCA_rmaps_default_mapping_policy=node exec "$@""#
            }
            Family::OpenMpi4 => {
                r#"OMPI_MCA_plm_rsh_agent=$HYDRA_LAUNCHER_EXEC OMPI_MCA_orte_default_hostfile=$HYDRA_HOST_FILE \
                OMPI_MCA_rmaps_base_mapping_policy=node exec "$@""#
            }
        }
    }
}

/// Messages by libfabric's tagged interface, one-sided communication by its remote memory access, nothing by
/// Open MPI's own shared memory or TCP; and the messages that name the provider.
const OPENMPI_PARAMETERS: [(&str, &str); 5] =
    [("pml", "cm"), ("mtl", "ofi"), ("btl", "ofi,self"), ("osc", "rdma"), ("opal_common_ofi_verbose", "20")];
