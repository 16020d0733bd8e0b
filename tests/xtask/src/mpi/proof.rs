//! Reads from what an MPI run has printed which libfabric provider it really took.
//! A run over the wrong provider, or over one that it does not name, is never reported as a result.

use anyhow::{Result, bail};

use super::library::Family;
use super::provider::Provider;

/// What stands before the provider's name in a line of MPICH's summary and of Intel MPI's start; MPICH lists
/// those it was offered as well, in other words.
const HYDRA_LINE: &str = "libfabric provider: ";
/// The same of Open MPI 5.
const OPENMPI_5_LINE: &str = "mtl:ofi:provider: ";
/// The same of Open MPI 4, which in the line that Open MPI 5 has names the interface.
const OPENMPI_4_LINE: &str = "mtl:ofi:prov: ";

/// What says that a run of this family used `provider`.
pub(crate) fn proof(family: Family, output: &str, provider: &Provider) -> Result<String> {
    match taken(family, output, provider)? {
        Some(line) => Ok(line),
        None => bail!("MPI did not say which libfabric provider it took (is it built for libfabric?)"),
    }
}

/// The same of a run that may have ended before it said anything. Every line that names a provider has to name this one: spawned jobs print theirs as well.
pub(crate) fn taken(family: Family, output: &str, provider: &Provider) -> Result<Option<String>> {
    let before = match family {
        Family::Mpich | Family::Intel => HYDRA_LINE,
        Family::OpenMpi5 => OPENMPI_5_LINE,
        Family::OpenMpi4 => OPENMPI_4_LINE,
    };
    let mut proof = None;
    for line in output.lines() {
        let Some((_, rest)) = line.split_once(before) else { continue };
        let taken = rest.split_once(" - ").map_or(rest, |(name, _)| name).trim();
        if taken != provider.name {
            bail!("the run was to use {}, and MPI took {taken}", provider.name);
        }
        proof = proof.or_else(|| Some(format!("{before}{rest}").trim().to_owned()));
    }
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mpi::provider::{PEER, RDGRAM};

    #[test]
    fn the_provider_is_the_one_opened_not_one_that_was_offered() {
        let output = "provider: tcp, score = 4\nprovider: rdgram, score = 5\n\
                      libfabric provider: tcp;ofi_rxm - 127.0.0.0/8\n";
        assert!(proof(Family::Mpich, output, &Provider::builtin(RDGRAM)).is_err());
        let line = proof(Family::Mpich, output, &Provider::builtin(PEER)).ok();
        assert_eq!(line.as_deref(), Some("libfabric provider: tcp;ofi_rxm - 127.0.0.0/8"));
    }

    #[test]
    fn one_job_of_several_over_another_provider_is_enough() {
        let output = "libfabric provider: rdgram - lo\nlibfabric provider: tcp - lo\n";
        assert!(proof(Family::Mpich, output, &Provider::builtin(RDGRAM)).is_err());
    }

    #[test]
    fn the_other_families_have_lines_of_their_own() {
        let rdgram = Provider::builtin(RDGRAM);
        let intel = "[0] MPI startup(): libfabric provider: rdgram\n";
        assert!(proof(Family::Intel, intel, &rdgram).is_ok());
        let open = "[vm:1] mtl_ofi_component.c:343: mtl:ofi:provider: rdgram\n";
        assert!(proof(Family::OpenMpi5, open, &rdgram).is_ok());
        assert!(proof(Family::OpenMpi5, open, &Provider::builtin(PEER)).is_err());
        assert!(proof(Family::OpenMpi4, open, &rdgram).is_err());
        let older = "[vm:1] mtl:ofi:prov: rdgram\n[vm:1] mtl:ofi:provider: lo\n";
        assert!(proof(Family::OpenMpi4, older, &rdgram).is_ok());
    }

    #[test]
    fn no_summary_is_no_proof() {
        let rdgram = Provider::builtin(RDGRAM);
        assert!(proof(Family::Mpich, "provider: rdgram, score = 5\n", &rdgram).is_err());
        assert!(proof(Family::OpenMpi5, "", &rdgram).is_err());
    }
}
