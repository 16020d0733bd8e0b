//! Where communication takes place: which interfaces, which addresses, and what they are called as fabrics and domains.
//!
//! Responsible for choosing by route, by name and by address, best first, one per fabric. Must never offer an address this host does not have.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::io;

use rdgram_host::interfaces::{self, Interface};

use crate::address::Family;
use crate::errno::{Errno, Result};
use crate::log::{self, Level, Subsystem};

/// What is known of this host's network. A test puts a host of its own in its place.
pub(super) trait Network {
    /// Every address of every interface.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;
    /// The address datagrams to `destination` come from.
    fn source_for(&self, destination: SocketAddr) -> io::Result<IpAddr>;
}

/// This host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host;

impl Network for Host {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        interfaces::list()
    }

    fn source_for(&self, destination: SocketAddr) -> io::Result<IpAddr> {
        interfaces::source_for(destination)
    }
}

/// What the application and the user restrict the choice to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Address family.
    pub(super) family: Family,
    /// Name of the fabric.
    pub(super) fabric: Option<&'a str>,
    /// Name of the domain.
    pub(super) domain: Option<&'a str>,
    /// FI_RDGRAM_IFACE.
    pub(super) forced: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether an interface is within the hints.
    fn admits(&self, interface: &Interface) -> bool {
        self.family.has(interface.address)
            && self.domain.is_none_or(|name| name == interface.name)
            && self.fabric.is_none_or(|name| name == fabric_name(interface))
    }
}

/// One answer's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// The subnet, `10.0.0.0/24`.
    pub(super) fabric: String,
    /// The interface, `eth0`.
    pub(super) domain: String,
    /// Only this host can be reached.
    pub(super) loopback: bool,
    /// Our address; port 0 when any will do.
    pub(super) source: SocketAddr,
    /// The peer's, when the application named one.
    pub(super) destination: Option<SocketAddr>,
}

/// The places for a source and a destination, either of which may be left out. A source without an address (only a port) is no restriction.
pub(super) fn sites(
    network: &impl Network,
    wanted: &Wanted<'_>,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
) -> Result<Vec<Site>> {
    let all = network.interfaces().map_err(|error| {
        log::warn_once("interfaces", &format!("the network interfaces cannot be listed: {error}"));
        Errno::NODATA
    })?;
    if destination.is_some_and(|address| !wanted.family.has(address.ip()) || address.ip().is_unspecified()) {
        return Err(Errno::NODATA);
    }
    let port = source.map_or(0, |address| address.port());
    let bound = source.map(|address| address.ip()).filter(|address| !address.is_unspecified());
    let sites = match (bound, destination) {
        (Some(address), _) => at(&all, wanted, address, port, destination)?,
        (None, Some(destination)) => {
            let address = towards(network, &all, wanted, destination)?;
            at(&all, wanted, address, port, Some(destination))?
        }
        (None, None) => {
            let family = source.map_or(wanted.family, |address| narrowed(wanted.family, address));
            best(all, &Wanted { family, ..*wanted }, port)?
        }
    };
    if sites.is_empty() { Err(Errno::NODATA) } else { Ok(sites) }
}

/// A wildcard address of one family restricts to it, unless both were resolved for an application that takes either.
fn narrowed(family: Family, wildcard: SocketAddr) -> Family {
    match family {
        Family::Any if wildcard.is_ipv6() => Family::V6,
        family => family,
    }
}

/// One place per fabric, best first.
fn best(all: Vec<Interface>, wanted: &Wanted<'_>, port: u16) -> Result<Vec<Site>> {
    let candidates: Vec<Interface> = match wanted.forced {
        Some(_) => {
            usable(all, wanted.forced)?.into_iter().filter(|interface| wanted.admits(interface)).collect()
        }
        // Loopback and the like are taken only when nothing better is within the hints.
        None => usable(all.into_iter().filter(|interface| wanted.admits(interface)).collect(), None)?,
    };
    // Link-local addresses reach one link only and need its name at both ends: for when there is nothing else.
    let all_local = candidates.iter().all(|interface| is_link_local(interface.address));
    let mut sites: Vec<Site> = Vec::new();
    for interface in candidates.iter().filter(|interface| all_local || !is_link_local(interface.address)) {
        let site = site(interface, interface.address, port, None);
        if sites.iter().all(|known| known.fabric != site.fabric) {
            sites.push(site);
        }
    }
    Ok(sites)
}

/// The address to use towards `destination`: the forced interface's, or what the routing table says.
fn towards(
    network: &impl Network,
    all: &[Interface],
    wanted: &Wanted<'_>,
    destination: SocketAddr,
) -> Result<IpAddr> {
    if wanted.forced.is_some() {
        let same_family = |interface: &Interface| interface.address.is_ipv4() == destination.is_ipv4();
        let forced = usable(all.to_vec(), wanted.forced)?.into_iter().find(same_family);
        return forced.map(|interface| interface.address).ok_or(Errno::NODATA);
    }
    network.source_for(destination).map_err(|error| {
        log::log(
            Level::Info,
            Subsystem::Core,
            c"getinfo",
            format_args!("no route to {destination}: {error}"),
        );
        Errno::NODATA
    })
}

fn usable(all: Vec<Interface>, forced: Option<&str>) -> Result<Vec<Interface>> {
    interfaces::usable(all, forced).map_err(|error| {
        log::warn_once("interface", &format!("FI_RDGRAM_IFACE={}: {error}", forced.unwrap_or_default()));
        Errno::NODATA
    })
}

/// The place of one address of this host. Nothing when no interface has it.
fn at(
    all: &[Interface],
    wanted: &Wanted<'_>,
    address: IpAddr,
    port: u16,
    destination: Option<SocketAddr>,
) -> Result<Vec<Site>> {
    if destination.is_some_and(|destination| destination.is_ipv4() != address.is_ipv4()) {
        return Err(Errno::NODATA);
    }
    // All of the loopback network may be bound to, though only one address of it is listed: Debian gives the host's own name 127.0.1.1.
    let owner = all
        .iter()
        .find(|interface| interface.address == address)
        .or_else(|| all.iter().find(|interface| interface.loopback && covers(interface, address)));
    let found = owner.filter(|interface| interface.up && wanted.admits(interface));
    Ok(found.map(|interface| site(interface, address, port, destination)).into_iter().collect())
}

fn site(interface: &Interface, address: IpAddr, port: u16, destination: Option<SocketAddr>) -> Site {
    let source = match address {
        IpAddr::V4(address) => SocketAddr::new(address.into(), port),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, interface.scope_id).into(),
    };
    Site {
        fabric: fabric_name(interface),
        domain: interface.name.clone(),
        loopback: interface.loopback,
        source,
        destination,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Whether an address is within an interface's subnet.
fn covers(interface: &Interface, address: IpAddr) -> bool {
    interface.address.is_ipv4() == address.is_ipv4()
        && network_of(interface.address, interface.prefix) == network_of(address, interface.prefix)
}

/// The address of the subnet.
fn network_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// The name of the fabric: the subnet. Link-local subnets have the same numbers on every link, so the link is named too.
fn fabric_name(interface: &Interface) -> String {
    let network = network_of(interface.address, interface.prefix);
    let link = match interface.address {
        IpAddr::V6(address) if address.is_unicast_link_local() => format!("%{}", interface.name),
        _ => String::new(),
    };
    format!("{network}{link}/{}", interface.prefix)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn names_of_fabrics() {
        let table = [
            ("10.1.2.3", 24, "10.1.2.0/24"),
            ("10.1.2.3", 32, "10.1.2.3/32"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("127.0.0.1", 8, "127.0.0.0/8"),
            ("2001:db8::5", 64, "2001:db8::/64"),
            ("::1", 128, "::1/128"),
            ("fe80::1:2", 64, "fe80::%eth0/64"),
        ];
        for (address, prefix, expected) in table {
            let interface = interface("eth0", address, prefix);
            assert_eq!(fabric_name(&interface), expected, "{address}/{prefix}");
        }
    }

    /// An interface that is up.
    pub(in crate::info) fn interface(name: &str, address: &str, prefix: u8) -> Interface {
        Interface {
            name: name.to_owned(),
            address: address.parse().expect("an address"),
            scope_id: 0,
            prefix,
            mtu: 1500,
            speed_mbps: None,
            up: true,
            running: true,
            loopback: name == "lo",
            point_to_point: false,
            host_side: name.starts_with("docker"),
        }
    }
}
