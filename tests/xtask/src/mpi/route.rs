//! How the ranks of one host reach each other, and what in a run's output proves that they did.
//! A run over a chosen route counts only when the provider's own counters say that it was taken.

use std::ops::Add;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The variables that choose a route.
#[derive(Debug)]
pub(crate) struct Route {
    /// Names the checks.
    pub(crate) name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    taken: fn(Counters) -> bool,
}

/// Sums over all ranks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Ends of links through shared memory.
    links: u64,
    /// Items put into shared memory.
    put: u64,
    /// Bytes read out of another rank's memory.
    pulled: u64,
}

impl Route {
    /// Shared memory, as it comes.
    pub(crate) const MEMORY: Self =
        Self { name: "shared memory", variables: &[], taken: |counters| counters.put > 0 };
    /// Nothing but datagrams.
    pub(crate) const DATAGRAMS: Self = Self {
        name: "FI_RDGRAM_LOCAL=off",
        variables: &[("FI_RDGRAM_LOCAL", "off")],
        taken: |counters| counters.links == 0 && counters.put == 0,
    };
    /// Shared memory, and no rank reads another's own.
    pub(crate) const COPIES: Self = Self {
        name: "FI_RDGRAM_DMA=memcpy",
        variables: &[("FI_RDGRAM_DMA", "memcpy")],
        taken: |counters| counters.put > 0 && counters.pulled == 0,
    };
    /// MPICH takes the ranks for those of two hosts: between them shared memory of the provider's, else MPICH's own.
    pub(crate) const CLIQUES: Self = Self {
        name: "two cliques",
        variables: &[("MPIR_CVAR_NOLOCAL", "0"), ("MPIR_CVAR_NUM_CLIQUES", "2")],
        taken: |counters| counters.put > 0,
    };

    /// What has to be set, after everything else.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        self.variables.iter().copied().chain([("FI_RDGRAM_STATS", "1")])
    }

    /// Was it taken? Says by how many links.
    pub(crate) fn judge(&self, output: &str) -> Result<String> {
        self.confirm(Counters::of(output)?)
    }

    /// The same of what several runs have counted.
    pub(crate) fn confirm(&self, counters: Counters) -> Result<String> {
        if !(self.taken)(counters) {
            bail!("the ranks did not talk by {}: {counters:?}", self.name);
        }
        Ok(format!("{} links", counters.links))
    }
}

impl Counters {
    /// The sums of what a run's ranks have printed.
    pub(crate) fn of(output: &str) -> Result<Self> {
        let sum = |name: &str| -> Option<u64> {
            let values: Vec<u64> = output.lines().filter_map(|line| value(line, name)).collect();
            (!values.is_empty()).then(|| values.iter().sum())
        };
        match (sum("links"), sum("local_put"), sum("local_pulled_bytes")) {
            (Some(links), Some(put), Some(pulled)) => Ok(Self { links, put, pulled }),
            _ => bail!("no rank printed its counters"),
        }
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            links: self.links + other.links,
            put: self.put + other.put,
            pulled: self.pulled + other.pulled,
        }
    }
}

/// The value in a line "rdgram: ADDRESS NAME VALUE". A launcher may put something before it.
fn value(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_once("rdgram: ")?.1.split_whitespace().skip(1);
    if words.next()? == name { words.next()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_ranks_are_added() {
        let of = |port: u16, links: u8| {
            format!(
                "rdgram: 127.0.0.1:{port} links {links}\nrdgram: 127.0.0.1:{port} local_put 5\n\
                 [1] rdgram: 127.0.0.1:{port} local_pulled_bytes 0\n"
            )
        };
        let output = of(7000, 1) + &of(7001, 2);
        let counters = Counters::of(&output).expect("they are there");
        assert_eq!(counters, Counters { links: 3, put: 10, pulled: 0 });
        assert!(Route::COPIES.judge(&output).is_ok() && Route::DATAGRAMS.judge(&output).is_err());
        assert!(Route::MEMORY.judge("verify: 12 checks passed\n").is_err());
    }
}
