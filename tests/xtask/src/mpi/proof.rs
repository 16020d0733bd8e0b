//! Reads from what an MPI run has printed which libfabric provider it really took.
//! A run over the wrong provider, or over one that it does not name, is never reported as a result.

use anyhow::{Result, bail};

use super::library::Family;
use super::provider::Provider;

/// What stands before the provider's name in a line of MPICH's summary and of Intel MPI's start; MPICH lists
/// those it was offered as well, in other words.
const HYDRA_LINE: &str = "libfabric provider: ";
/// The same of Open MPI 5; Open MPI 4 names the interface there.
const OPENMPI_LINE: &str = "mtl:ofi:provider: ";
/// In a line of this project's own statistics: a number of messages follows.
const STATISTICS: &str = " rx_messages ";

/// What says that `ranks` ranks of this family ran over `provider`.
pub(crate) fn proof(family: Family, output: &str, provider: &Provider, ranks: u32) -> Result<String> {
    match family {
        Family::Mpich | Family::Intel => named(output, HYDRA_LINE, provider),
        Family::OpenMpi5 => named(output, OPENMPI_LINE, provider),
        Family::OpenMpi4 => counted(output, provider, ranks),
    }
}

/// Every line that names a provider has to name this one: spawned jobs print theirs as well.
fn named(output: &str, before: &str, provider: &Provider) -> Result<String> {
    let mut proof = None;
    for line in output.lines() {
        let Some((_, rest)) = line.split_once(before) else { continue };
        let taken = rest.split_once(" - ").map_or(rest, |(name, _)| name).trim();
        if taken != provider.name {
            bail!("the run was to use {}, and MPI took {taken}", provider.name);
        }
        proof = proof.or_else(|| Some(format!("{before}{rest}").trim().to_owned()));
    }
    match proof {
        Some(line) => Ok(line),
        None => bail!("MPI did not say which libfabric provider it took (is it built for libfabric?)"),
    }
}

/// As many endpoints of this project's as there are ranks have received messages.
fn counted(output: &str, provider: &Provider, ranks: u32) -> Result<String> {
    if !provider.is_rdgram() {
        bail!("Open MPI 4 does not say which provider it takes, and {} does not either", provider.name);
    }
    let received = |line: &str| line.split_once(STATISTICS)?.1.trim().parse::<u64>().ok();
    let endpoints = output.lines().filter_map(received).filter(|messages| *messages > 0).count();
    if u32::try_from(endpoints).is_ok_and(|endpoints| endpoints >= ranks) {
        return Ok(format!("{endpoints} endpoints of {} received messages", provider.name));
    }
    bail!("{ranks} ranks, and {endpoints} endpoints of {} that have received messages", provider.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpi::provider::{PEER, RDGRAM};

    #[test]
    fn the_provider_is_the_one_opened_not_one_that_was_offered() {
        let output = "provider: tcp, score = 4\nprovider: rdgram, score = 5\n\
                      libfabric provider: tcp;ofi_rxm - 127.0.0.0/8\n";
        assert!(proof(Family::Mpich, output, &Provider::builtin(RDGRAM), 2).is_err());
        let line = proof(Family::Mpich, output, &Provider::builtin(PEER), 2).ok();
        assert_eq!(line.as_deref(), Some("libfabric provider: tcp;ofi_rxm - 127.0.0.0/8"));
    }

    #[test]
    fn one_job_of_several_over_another_provider_is_enough() {
        let output = "libfabric provider: rdgram - lo\nlibfabric provider: tcp - lo\n";
        assert!(proof(Family::Mpich, output, &Provider::builtin(RDGRAM), 2).is_err());
    }

    #[test]
    fn the_other_families_have_lines_of_their_own() {
        let rdgram = Provider::builtin(RDGRAM);
        let intel = "[0] MPI startup(): libfabric provider: rdgram\n";
        assert!(proof(Family::Intel, intel, &rdgram, 2).is_ok());
        let open = "[vm:1] mtl_ofi_component.c:343: mtl:ofi:provider: rdgram\n";
        assert!(proof(Family::OpenMpi5, open, &rdgram, 2).is_ok());
        assert!(proof(Family::OpenMpi5, open, &Provider::builtin(PEER), 2).is_err());
        assert!(proof(Family::OpenMpi4, open, &rdgram, 2).is_err());
    }

    #[test]
    fn no_summary_is_no_proof() {
        let rdgram = Provider::builtin(RDGRAM);
        assert!(proof(Family::Mpich, "provider: rdgram, score = 5\n", &rdgram, 2).is_err());
        assert!(proof(Family::OpenMpi5, "", &rdgram, 2).is_err());
    }
}
