//! Where a measurement takes place: this host's loopback, or two hosts with a link of a certain kind.
//! The name of a site is what reports and targets know it by.

use std::ffi::OsString;
use std::path::Path;

use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::Place;
use crate::netns::{self, Link};

/// The name of the loopback site. What is measured there is the way of datagrams, also of rdgram.
pub(crate) const LOOPBACK: &str = "loopback, datagrams";
/// The name of the site where processes may share memory.
pub(crate) const ONE_HOST: &str = "one host";
/// Payload of a UDP datagram is smaller than the packet by the headers of IPv4 and UDP.
const HEADERS: u16 = 28;
/// The loopback interface takes any: what the two links of the bench carry, and half a train.
const LOOPBACK_SEGMENTS: [u16; 3] = [1472, 8972, 32_000];

/// A place with a name.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// As reports call it.
    pub(crate) name: String,
    link: Option<Link>,
    /// Settings of whatever runs here.
    pub(crate) environment: Vec<(String, OsString)>,
}

/// What is lost when the link loses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Each datagram for itself: the sending host segments.
    Datagrams,
    /// Whole trains, as one packet.
    Trains,
}

impl Site {
    /// This host, over its loopback interface.
    pub(crate) fn loopback() -> Self {
        let environment = vec![("FI_RDGRAM_LOCAL".to_owned(), OsString::from("off"))];
        Self { environment, ..Self::named(LOOPBACK) }
    }

    /// This host, for what does not use its loopback either.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), link: None, environment: Vec::new() }
    }

    /// Two hosts and a clean link.
    pub(crate) fn hosts(mtu: u16) -> Self {
        let link = Link { mtu, loss_per_mille: 0, split_trains: false };
        Self { link: Some(link), ..Self::named(&hosts_name(mtu)) }
    }

    /// Two hosts and a link that loses.
    pub(crate) fn lossy(mtu: u16, lost: Lost, per_mille: u16) -> Self {
        let link = Link { mtu, loss_per_mille: per_mille, split_trains: lost == Lost::Datagrams };
        Self { link: Some(link), ..Self::named(&lossy_name(mtu, lost, per_mille)) }
    }

    /// Where MPI's ranks run.
    pub(crate) fn place(&self) -> Place {
        self.link.map_or(Place::Loopback, Place::Hosts)
    }

    /// Does the link lose packets on purpose?
    pub(crate) fn is_lossy(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.loss_per_mille > 0)
    }

    /// Payload of the datagrams that fit the interface.
    pub(crate) fn segments(&self) -> Vec<u16> {
        match &self.link {
            None => LOOPBACK_SEGMENTS.to_vec(),
            Some(link) => vec![link.mtu - HEADERS],
        }
    }

    /// A job that runs `program` here; its arguments may follow.
    pub(crate) fn job(&self, layout: &Layout, label: &str, program: &Path) -> Job {
        match &self.link {
            None => Job::new(layout, label, program),
            Some(link) => netns::job(layout, label, link).arg(program),
        }
    }
}

/// The name of the site with a clean link.
pub(crate) fn hosts_name(mtu: u16) -> String {
    format!("hosts, MTU {mtu}")
}

/// The name of the site with a link that loses.
pub(crate) fn lossy_name(mtu: u16, lost: Lost, per_mille: u16) -> String {
    let what = match lost {
        Lost::Datagrams => "datagrams",
        Lost::Trains => "trains",
    };
    format!("hosts, MTU {mtu}, {} % of {what} lost", f64::from(per_mille) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_lost() {
        assert_eq!(Site::lossy(1500, Lost::Datagrams, 10).name, "hosts, MTU 1500, 1 % of datagrams lost");
        assert_eq!(lossy_name(1500, Lost::Trains, 1), "hosts, MTU 1500, 0.1 % of trains lost");
    }

    #[test]
    fn the_loopback_is_for_datagrams() {
        assert_eq!(Site::loopback().environment, [("FI_RDGRAM_LOCAL".to_owned(), OsString::from("off"))]);
        assert!(Site::named(ONE_HOST).environment.is_empty());
    }

    #[test]
    fn segments_fit_the_link() {
        assert_eq!(Site::hosts(9000).segments(), [8972]);
        assert!(!Site::hosts(9000).is_lossy());
        assert!(Site::lossy(1500, Lost::Trains, 1).is_lossy());
    }
}
