//! The libfabric providers that MPI is run over, and what has to be set to use them.
//! A library that was not freshly built is never used.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::layout::Layout;
use crate::netns::Link;
use crate::plugin;

/// The name under which libfabric knows this project's provider.
pub(crate) const RDGRAM: &str = "rdgram";
/// What it is compared with.
pub(crate) const PEER: &str = "tcp;ofi_rxm";

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
    /// On the two hosts that `tests/net/hosts.sh` makes around the run, with this link between them.
    Hosts(Link),
}

impl Place {
    /// The link between the hosts, if there are two.
    pub(crate) fn link(self) -> Option<Link> {
        match self {
            Self::Loopback => None,
            Self::Hosts(link) => Some(link),
        }
    }
}

impl Provider {
    /// The provider `name`; this project's own is built first.
    pub(crate) fn prepare(layout: &Layout, name: &str) -> Result<Self> {
        let plugin_dir = if name == RDGRAM { Some(plugin::build(layout)?) } else { None };
        Ok(Self { name: name.to_owned(), plugin_dir })
    }

    /// This project's own, built already and put into this directory.
    pub(crate) fn built(dir: PathBuf) -> Self {
        Self { name: RDGRAM.to_owned(), plugin_dir: Some(dir) }
    }

    /// A provider that comes with libfabric itself.
    pub(crate) fn builtin(name: &str) -> Self {
        Self { name: name.to_owned(), plugin_dir: None }
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
