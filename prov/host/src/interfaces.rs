//! The addresses of this host: which there are, which to use, and what the host knows about the way to others.
//!
//! Choosing is a pure function over the list. Never opens an endpoint's socket.

use core::ffi::CStr;
use core::fmt;
use core::ptr;
use core::time::Duration;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use rdgram_engine::Instant;
use rdgram_udp::Udp;

use crate::clock;

/// One address of one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// The interface's index for a link-local IPv6 address, else 0.
    pub scope_id: u32,
    /// Leading bits of the address that name its network.
    pub prefix: u8,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Line speed, where the driver knows one.
    pub speed_mbps: Option<u32>,
    /// Switched on.
    pub up: bool,
    /// Has a carrier.
    pub running: bool,
    /// `lo`.
    pub loopback: bool,
    /// A tunnel to one other host.
    pub point_to_point: bool,
    /// The host's end of a network of containers or virtual machines, by its name.
    pub host_side: bool,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name, self.address, self.prefix)
    }
}

/// Names that container engines and hypervisors give to their host's ends of virtual networks.
const HOST_SIDE: [&str; 16] = [
    "docker", "veth", "br-", "virbr", "cni", "tun", "tap", "vnet", "lxcbr", "lxdbr", "incusbr", "podman",
    "flannel", "cali", "vmnet", "vboxnet",
];

/// What an interface's name says about it.
fn is_host_side(name: &str) -> bool {
    HOST_SIDE.iter().any(|prefix| name.starts_with(prefix))
}

/// All IPv4 and IPv6 addresses of this host (of this network namespace).
///
/// # Errors
/// What the system says.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is live; on success it is a list that is ours to free.
    let result = unsafe { libc::getifaddrs(ptr::from_mut(&mut first)) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = AddressList(first);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok();
    let mut found = Vec::new();
    let mut next = list.0.cast_const();
    while !next.is_null() {
        // SAFETY: `next` is an entry of the list, which lives until the end of this function.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        if let Some(interface) = read_entry(entry, socket.as_ref()) {
            found.push(interface);
        }
    }
    Ok(found)
}

/// What `getifaddrs` returned.
struct AddressList(*mut libc::ifaddrs);

impl Drop for AddressList {
    fn drop(&mut self) {
        // SAFETY: it came from `getifaddrs` and is freed once.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// An entry of the list, unless it is of another address family. Its pointers are null or lead to what they say.
fn read_entry(entry: &libc::ifaddrs, socket: Option<&std::net::UdpSocket>) -> Option<Interface> {
    // SAFETY: an entry of the list points to a socket address or nowhere.
    let (address, scope_id) = unsafe { read_address(entry.ifa_addr) }?;
    // SAFETY: likewise.
    let prefix = match unsafe { read_address(entry.ifa_netmask) } {
        Some((IpAddr::V4(mask), _)) => mask.to_bits().leading_ones(),
        Some((IpAddr::V6(mask), _)) => mask.to_bits().leading_ones(),
        None => 0,
    };
    // SAFETY: every entry has a name, ending in NUL, as long as the list lives.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
    let has = |flag: libc::c_int| entry.ifa_flags & flag.unsigned_abs() != 0;
    Some(Interface {
        address,
        scope_id,
        prefix: u8::try_from(prefix).unwrap_or(128),
        mtu: socket.and_then(|socket| mtu_of(socket, &name)).unwrap_or(MTU_UNKNOWN),
        speed_mbps: speed_of(&name),
        up: has(libc::IFF_UP),
        running: has(libc::IFF_RUNNING),
        loopback: has(libc::IFF_LOOPBACK),
        point_to_point: has(libc::IFF_POINTOPOINT),
        host_side: is_host_side(&name),
        name,
    })
}

/// The address and scope behind a pointer, when it is an IPv4 or IPv6 one.
///
/// # Safety
/// `address` is null or leads to a socket address as long as its family says.
unsafe fn read_address(address: *const libc::sockaddr) -> Option<(IpAddr, u32)> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    let family = unsafe { (*address).sa_family };
    match libc::c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a `sockaddr_in`.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some((Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into(), 0))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a `sockaddr_in6`.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some((Ipv6Addr::from(v6.sin6_addr.s6_addr).into(), v6.sin6_scope_id))
        }
        _ => None,
    }
}

/// The MTU to assume where the system does not say: Ethernet's.
const MTU_UNKNOWN: u32 = 1500;

/// The MTU of the interface `name`.
fn mtu_of(socket: &std::net::UdpSocket, name: &str) -> Option<u32> {
    // SAFETY: an `ifreq` is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (slot, byte) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: this request takes an `ifreq` with a name ending in NUL, which is live.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, ptr::from_mut(&mut request)) };
    if result != 0 {
        return None;
    }
    // SAFETY: the request succeeded, so it wrote this field of the union.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).ok()
}

/// The speed of the interface `name`, which virtual ones do not have.
fn speed_of(name: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/speed")).ok()?;
    text.trim().parse().ok().filter(|&speed| speed > 0)
}

/// Which of `all` to offer, best first. Without `forced`: those that are up, real ones only if there are any, else
/// host-side ones, else loopback; among them, addresses that only work on one link last, tunnels late, faster ones
/// first. With `forced`, the name of an interface or one of its addresses: just that.
///
/// # Errors
/// `NotFound` or `NetworkDown`, with what there is in the message, when `forced` is not there or down.
pub fn usable(all: Vec<Interface>, forced: Option<&str>) -> io::Result<Vec<Interface>> {
    let mut chosen = match forced {
        Some(wanted) => select(all, wanted)?,
        None => best_kind(all),
    };
    // A stable sort: the system's order decides among equals.
    chosen.sort_by_key(|interface| {
        let speed = interface.speed_mbps.unwrap_or(0);
        (is_link_local(interface.address), interface.point_to_point, core::cmp::Reverse(speed))
    });
    Ok(chosen)
}

fn select(all: Vec<Interface>, wanted: &str) -> io::Result<Vec<Interface>> {
    // An address may be followed by its scope, `fe80::1%eth0`: the name is in the interface already.
    let address: Option<IpAddr> = wanted.split('%').next().and_then(|text| text.parse().ok());
    let scope = wanted.split_once('%').map(|(_, scope)| scope);
    let is_wanted = |interface: &Interface| match address {
        Some(address) => {
            interface.address == address
                && scope
                    .is_none_or(|scope| scope == interface.name || scope == interface.scope_id.to_string())
        }
        None => interface.name == wanted,
    };
    let there = describe(&all);
    let found: Vec<_> = all.into_iter().filter(is_wanted).collect();
    if found.is_empty() {
        let message = format!("no interface and no address of this host is {wanted:?}; there are: {there}");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let up: Vec<_> = found.into_iter().filter(|interface| interface.up).collect();
    if up.is_empty() {
        let message = format!("the interface of {wanted:?} is down");
        return Err(io::Error::new(io::ErrorKind::NetworkDown, message));
    }
    Ok(up)
}

fn describe(all: &[Interface]) -> String {
    if all.is_empty() {
        return String::from("none");
    }
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Those of the best kind of which any is up.
fn best_kind(all: Vec<Interface>) -> Vec<Interface> {
    let kind = |interface: &Interface| match (interface.loopback, interface.host_side) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let up: Vec<_> = all.into_iter().filter(|interface| interface.up && interface.running).collect();
    let best = up.iter().map(kind).min();
    up.into_iter().filter(|interface| Some(kind(interface)) == best).collect()
}

/// Valid on one link only.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The address of this host that datagrams to `destination` come from, as the routing table decides.
///
/// # Errors
/// There is no route.
pub fn source_for(destination: SocketAddr) -> io::Result<IpAddr> {
    Udp::route(destination).map(|route| route.source)
}

/// How long what was learnt about a route is taken for true: first contacts with many peers of one host come close together, and each question is five system calls.
const ROUTE_LIFETIME: Duration = Duration::from_millis(100);

/// The host asked about last, and what was learnt when.
static LAST_ROUTE: Mutex<Option<(SocketAddr, u16, Instant)>> = Mutex::new(None);

/// Largest IP packet on the way to `destination` as far as this host knows; Ethernet's where there is no route.
pub fn route_mtu(destination: SocketAddr) -> u16 {
    let ask = || Udp::route(destination).map_or(1500, |route| route.mtu);
    // A process that was forked while it was locked never sees it unlocked.
    let Ok(mut last) = LAST_ROUTE.try_lock() else { return ask() };
    // Without the port, but with the scope of a link-local address.
    let (mut host, now) = (destination, clock::now());
    host.set_port(0);
    match *last {
        Some((known, mtu, when)) if known == host && now.saturating_duration_since(when) < ROUTE_LIFETIME => {
            mtu
        }
        _ => {
            let mtu = ask();
            *last = Some((host, mtu, now));
            mtu
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name address [speed] [flags]`: down, nocarrier.
    fn interface(line: &str) -> Interface {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a name").to_owned();
        let address = words.next().and_then(|word| word.parse().ok()).expect("an address");
        let rest: Vec<_> = words.collect();
        Interface {
            address,
            scope_id: 0,
            prefix: 24,
            mtu: 1500,
            speed_mbps: rest.iter().find_map(|word| word.parse().ok()),
            up: !rest.contains(&"down"),
            running: !rest.contains(&"down") && !rest.contains(&"nocarrier"),
            loopback: name == "lo",
            point_to_point: name.starts_with("tun") || name.starts_with("wg"),
            host_side: is_host_side(&name),
            name,
        }
    }

    fn chosen(lines: &[&str], forced: Option<&str>) -> Result<Vec<String>, io::ErrorKind> {
        let all = lines.iter().map(|line| interface(line)).collect();
        usable(all, forced)
            .map(|list| {
                list.iter().map(|interface| format!("{} {}", interface.name, interface.address)).collect()
            })
            .map_err(|error| error.kind())
    }

    #[test]
    fn ranking() {
        let table: [(&str, &[&str], &[&str]); 8] = [
            (
                "real before virtual",
                &["lo 127.0.0.1", "docker0 172.17.0.1", "eth0 10.0.0.1"],
                &["eth0 10.0.0.1"],
            ),
            ("virtual before loopback", &["lo 127.0.0.1", "veth1 10.1.0.1"], &["veth1 10.1.0.1"]),
            ("loopback when nothing else", &["lo 127.0.0.1", "lo ::1"], &["lo 127.0.0.1", "lo ::1"]),
            ("down is not there", &["lo 127.0.0.1", "eth0 10.0.0.1 down"], &["lo 127.0.0.1"]),
            (
                "no carrier is not there",
                &["eth0 10.0.0.1 nocarrier", "br-1a2b 172.18.0.1"],
                &["br-1a2b 172.18.0.1"],
            ),
            (
                "faster first, unknown last",
                &["eth0 10.0.0.1 1000", "eth2 10.2.0.1", "eth1 10.1.0.1 25000"],
                &["eth1 10.1.0.1", "eth0 10.0.0.1", "eth2 10.2.0.1"],
            ),
            (
                "link-local last, however fast",
                &[
                    "eth1 fe80::1 100000",
                    "eth0 10.0.0.1 1000",
                    "eth1 169.254.1.1 100000",
                    "eth0 fd00::1 1000",
                ],
                &["eth0 10.0.0.1", "eth0 fd00::1", "eth1 fe80::1", "eth1 169.254.1.1"],
            ),
            ("tunnels late", &["wg0 10.9.0.1", "eth0 10.0.0.1"], &["eth0 10.0.0.1", "wg0 10.9.0.1"]),
        ];
        for (name, lines, expected) in table {
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(chosen(lines, None), Ok(expected), "{name}");
        }
        assert_eq!(chosen(&[], None), Ok(Vec::new()));
    }

    #[test]
    fn forcing() {
        let lines =
            ["lo 127.0.0.1", "eth0 fe80::1", "eth0 10.0.0.1", "docker0 172.17.0.1", "eth1 10.1.0.1 down"];
        let by = |wanted| chosen(&lines, Some(wanted));
        assert_eq!(by("lo"), Ok(vec![String::from("lo 127.0.0.1")]));
        assert_eq!(by("docker0"), Ok(vec![String::from("docker0 172.17.0.1")]));
        assert_eq!(by("eth0"), Ok(vec![String::from("eth0 10.0.0.1"), String::from("eth0 fe80::1")]));
        assert_eq!(by("10.0.0.1"), Ok(vec![String::from("eth0 10.0.0.1")]));
        assert_eq!(by("fe80::1%eth0"), Ok(vec![String::from("eth0 fe80::1")]));
        assert_eq!(by("fe80::1%eth1"), Err(io::ErrorKind::NotFound));
        assert_eq!(by("eth9"), Err(io::ErrorKind::NotFound));
        assert_eq!(by("10.0.0.9"), Err(io::ErrorKind::NotFound));
        assert_eq!(by("eth1"), Err(io::ErrorKind::NetworkDown));
    }

    #[test]
    fn what_there_is_instead_is_in_the_message() {
        let all = vec![interface("lo 127.0.0.1"), interface("eth0 10.0.0.1")];
        let message = usable(all, Some("ib0")).expect_err("is not there").to_string();
        for part in ["\"ib0\"", "lo (127.0.0.1/24)", "eth0 (10.0.0.1/24)"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_loopback_interface_is_listed_as_it_is() {
        let all = list().expect("lists");
        let loopback =
            all.iter().find(|interface| interface.address == IpAddr::from([127, 0, 0, 1])).expect("is there");
        assert!(loopback.loopback && loopback.up && !loopback.host_side && !loopback.point_to_point);
        assert_eq!((loopback.name.as_str(), loopback.prefix, loopback.scope_id), ("lo", 8, 0));
        assert_eq!(usize::try_from(loopback.mtu), Ok(65_536));
    }

    #[test]
    fn routes_to_this_host_are_the_loopback_interface() {
        let destination = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(source_for(destination).expect("has a route"), destination.ip());
        assert_eq!(route_mtu(destination), u16::MAX);
    }
}
