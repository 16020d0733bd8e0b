//! Names of symmetric insertion: a name counted up, and the addresses of all combinations.
//!
//! Responsible for `fi_av_insertsym`'s ranges. Resolving may ask a name service: must never be called with a domain's lock held.

use core::ffi::CStr;
use core::net::{IpAddr, SocketAddr};
use std::ffi::CString;

use crate::address::{self, Family, Lookup};

/// Every node with every service, services first.
pub(super) fn symmetric(family: Family, nodes: &Names, services: &Names) -> Vec<Option<SocketAddr>> {
    nodes
        .iter()
        .flat_map(|node| services.iter().map(move |service| (node.clone(), service)))
        .map(|(node, service)| resolve(family, &node?, &service?))
        .collect()
}

fn resolve(family: Family, node: &CStr, service: &CStr) -> Option<SocketAddr> {
    let lookup = Lookup { family, numeric: false, passive: false };
    address::resolve(Some(node), Some(service), lookup).first().copied()
}

/// A name and those that follow it: an address counted up, or a name whose trailing number is.
pub(super) struct Names {
    kind: NameKind,
    count: usize,
}

enum NameKind {
    Address(IpAddr),
    Numbered { stem: String, first: u64, width: usize },
    Single(String),
}

impl Names {
    /// `None` when the name cannot be counted up and more than one is wanted.
    pub(super) fn new(name: &str, count: usize) -> Option<Self> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (stem, number) = name.split_at(name.len() - digits);
        let kind = match (name.parse(), number.parse()) {
            (Ok(address), _) => NameKind::Address(address),
            (_, Ok(first)) if count > 1 => NameKind::Numbered { stem: stem.to_owned(), first, width: digits },
            _ if count > 1 => return None,
            _ => NameKind::Single(name.to_owned()),
        };
        Some(Self { kind, count })
    }

    fn iter(&self) -> impl Iterator<Item = Option<CString>> + '_ {
        (0..self.count).map(|index| CString::new(self.nth(index)?).ok())
    }

    fn nth(&self, index: usize) -> Option<String> {
        match &self.kind {
            NameKind::Address(IpAddr::V4(address)) => {
                let bits = address.to_bits().checked_add(u32::try_from(index).ok()?)?;
                Some(core::net::Ipv4Addr::from_bits(bits).to_string())
            }
            NameKind::Address(IpAddr::V6(address)) => {
                let bits = address.to_bits().checked_add(index as u128)?;
                Some(core::net::Ipv6Addr::from_bits(bits).to_string())
            }
            NameKind::Numbered { stem, first, width } => {
                let number = first.checked_add(index as u64)?;
                Some(format!("{stem}{number:0width$}"))
            }
            NameKind::Single(name) => Some(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(name: &str, count: usize) -> Option<Vec<String>> {
        let names = Names::new(name, count)?;
        Some(
            names
                .iter()
                .map(|name| name.map_or_else(String::new, |name| name.to_string_lossy().into()))
                .collect(),
        )
    }

    #[test]
    fn names_are_counted_up() {
        let owned = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(all("10.0.0.255", 2), owned(&["10.0.0.255", "10.0.1.0"]));
        assert_eq!(all("fe80::f", 2), owned(&["fe80::f", "fe80::10"]));
        assert_eq!(all("node08", 3), owned(&["node08", "node09", "node10"]));
        assert_eq!(all("9299", 2), owned(&["9299", "9300"]));
        assert_eq!(all("host", 1), owned(&["host"]));
        assert_eq!(all("host", 2), None);
        assert_eq!(all("255.255.255.255", 2), owned(&["255.255.255.255", ""]));
    }

    #[test]
    fn symmetric_insertion_runs_through_services_first() {
        let (Some(nodes), Some(services)) = (Names::new("127.0.0.1", 2), Names::new("9000", 2)) else {
            panic!("both can be counted up");
        };
        let found: Vec<_> = symmetric(Family::V4, &nodes, &services)
            .into_iter()
            .map(|address| address.map_or_else(String::new, |address| address.to_string()))
            .collect();
        assert_eq!(found, ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.2:9000", "127.0.0.2:9001"]);
    }
}
