//! Addresses: `sockaddr_in` and `sockaddr_in6` as bytes, as values and as text, and names resolved to them.
//!
//! Responsible for the one conversion between C's socket addresses and Rust's. Must never look at interfaces or routes.

use core::ffi::{CStr, c_char, c_int};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use rdgram_sys as sys;

/// Bytes of a `sockaddr_in`.
pub(crate) const V4_LENGTH: usize = 16;
/// Bytes of a `sockaddr_in6`.
pub(crate) const V6_LENGTH: usize = 28;

/// Address families as the kernel numbers them, in the type of `sa_family`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 and 10")]
const FAMILY_V4: u16 = libc::AF_INET as u16;
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 and 10")]
const FAMILY_V6: u16 = libc::AF_INET6 as u16;

/// Which addresses an application can use, from `fi_info.addr_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Either.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// The family of an address format; `None` for formats that are not socket addresses of the Internet's.
    pub(crate) fn of_format(format: u32) -> Option<Self> {
        match format {
            sys::FI_FORMAT_UNSPEC | sys::FI_SOCKADDR | sys::FI_SOCKADDR_IP => Some(Self::Any),
            sys::FI_SOCKADDR_IN => Some(Self::V4),
            sys::FI_SOCKADDR_IN6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Whether an address belongs to it.
    pub(crate) fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    fn number(self) -> c_int {
        match self {
            Self::Any => libc::AF_UNSPEC,
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// The `addr_format` of an address.
pub(crate) fn format_of(address: SocketAddr) -> u32 {
    if address.is_ipv4() { sys::FI_SOCKADDR_IN } else { sys::FI_SOCKADDR_IN6 }
}

/// A socket address as the bytes of its C struct.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Encoded {
    bytes: [u8; V6_LENGTH],
    length: usize,
}

impl Encoded {
    /// The C struct.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes the C struct of an address.
pub(crate) fn encode(address: SocketAddr) -> Encoded {
    let mut bytes = [0; V6_LENGTH];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    let length = match address {
        SocketAddr::V4(address) => {
            bytes[0..2].copy_from_slice(&FAMILY_V4.to_ne_bytes());
            bytes[4..8].copy_from_slice(&address.ip().octets());
            V4_LENGTH
        }
        SocketAddr::V6(address) => {
            bytes[0..2].copy_from_slice(&FAMILY_V6.to_ne_bytes());
            bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&address.ip().octets());
            bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            V6_LENGTH
        }
    };
    Encoded { bytes, length }
}

/// Reads the C struct of an address; `None` for other families and for too few bytes.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    match family {
        FAMILY_V4 => {
            let bytes = bytes.first_chunk::<V4_LENGTH>()?;
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            Some(SocketAddrV4::new(ip, port).into())
        }
        FAMILY_V6 => {
            let bytes = bytes.first_chunk::<V6_LENGTH>()?;
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            let flow = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let ip = Ipv6Addr::from(*bytes[8..24].first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*bytes[24..28].first_chunk()?);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

/// How many bytes the C struct of this family has, from its first two bytes; `None` for other families.
pub(crate) fn length_of_family(family: [u8; 2]) -> Option<usize> {
    match u16::from_ne_bytes(family) {
        FAMILY_V4 => Some(V4_LENGTH),
        FAMILY_V6 => Some(V6_LENGTH),
        _ => None,
    }
}

/// The text of an address, as `fi_av_straddr` and `fi_tostr` of the built-in providers write it.
pub(crate) fn text(address: SocketAddr) -> String {
    if address.is_ipv4() {
        format!("fi_sockaddr_in://{address}")
    } else {
        format!("fi_sockaddr_in6://{address}")
    }
}

/// How a node and a service are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// Which addresses are wanted.
    pub(crate) family: Family,
    /// The node is an address, not a name: no name service is asked.
    pub(crate) numeric: bool,
    /// Without a node: any address of this host, to be bound to, and not the loopback address.
    pub(crate) passive: bool,
}

/// Resolves a node and a service: IPv4 addresses first, since a host's name may have IPv6 addresses that lead nowhere. Empty when there is none.
pub(crate) fn resolve(node: Option<&CStr>, service: Option<&CStr>, lookup: Lookup) -> Vec<SocketAddr> {
    let flags = if lookup.numeric { libc::AI_NUMERICHOST } else { 0 }
        | if lookup.passive { libc::AI_PASSIVE } else { 0 };
    let hints = libc::addrinfo {
        ai_flags: flags,
        ai_family: lookup.family.number(),
        ai_socktype: libc::SOCK_DGRAM,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: core::ptr::null_mut(),
        ai_canonname: core::ptr::null_mut(),
        ai_next: core::ptr::null_mut(),
    };
    let pointer = |text: Option<&CStr>| text.map_or(core::ptr::null::<c_char>(), CStr::as_ptr);
    let mut list = core::ptr::null_mut();
    // SAFETY: C strings or null, valid hints, and a place for the list.
    let result = unsafe { libc::getaddrinfo(pointer(node), pointer(service), &hints, &mut list) };
    if result != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next: *const libc::addrinfo = list;
    // SAFETY: getaddrinfo's list, valid until it is freed below; it ends in null.
    while let Some(entry) = unsafe { next.as_ref() } {
        let length = usize::try_from(entry.ai_addrlen).unwrap_or(0);
        if !entry.ai_addr.is_null() {
            // SAFETY: the entry's address, of the length it says.
            let bytes = unsafe { core::slice::from_raw_parts(entry.ai_addr.cast::<u8>(), length) };
            found.extend(decode(bytes).filter(|address| !found.contains(address)).as_slice());
        }
        next = entry.ai_next;
    }
    // SAFETY: the list that getaddrinfo gave, freed once.
    unsafe { libc::freeaddrinfo(list) };
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMERIC: Lookup = Lookup { family: Family::Any, numeric: true, passive: false };

    #[test]
    fn encoding_is_that_of_the_c_structs() {
        let v4 = encode("10.1.2.3:258".parse().expect("an address"));
        assert_eq!(v4.bytes(), [2, 0, 1, 2, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
        let v6 = encode(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 258, 0, 5).into());
        assert_eq!(v6.bytes().len(), size_of::<libc::sockaddr_in6>());
        assert_eq!(v6.bytes()[..4], [10, 0, 1, 2]);
        assert_eq!((v6.bytes()[23], v6.bytes()[24]), (1, 5));
    }

    #[test]
    fn decoding_reverses_encoding() {
        for text in ["0.0.0.0:0", "255.255.255.255:65535", "[::]:0", "[fe80::1%7]:9", "[2001:db8::5]:4000"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(decode(encode(address).bytes()), Some(address), "{text}");
        }
    }

    #[test]
    fn decoding_refuses_what_it_does_not_know() {
        let v6 = encode("[::1]:5".parse().expect("an address"));
        assert_eq!(decode(&v6.bytes()[..27]), None);
        assert_eq!(decode(&[2, 0, 1, 2, 10]), None);
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[1; 40]), None);
        assert_eq!(length_of_family([1, 0]), None);
        assert_eq!(length_of_family(FAMILY_V6.to_ne_bytes()), Some(V6_LENGTH));
    }

    #[test]
    fn numeric_nodes_and_services() {
        type Row = (Option<&'static CStr>, Option<&'static CStr>, Lookup, &'static [&'static str]);
        let table: &[Row] = &[
            (Some(c"10.0.0.7"), Some(c"4711"), NUMERIC, &["10.0.0.7:4711"]),
            (Some(c"::1"), None, NUMERIC, &["[::1]:0"]),
            (Some(c"::1"), None, Lookup { family: Family::V4, ..NUMERIC }, &[]),
            (Some(c"localhost"), None, NUMERIC, &[]),
            (None, Some(c"9"), Lookup { family: Family::V4, ..NUMERIC }, &["127.0.0.1:9"]),
            (None, Some(c"9"), Lookup { passive: true, numeric: false, family: Family::V6 }, &["[::]:9"]),
        ];
        for (node, service, lookup, expected) in table {
            let found: Vec<String> =
                resolve(*node, *service, *lookup).iter().map(ToString::to_string).collect();
            assert_eq!(&found, expected, "{node:?} {service:?} {lookup:?}");
        }
    }

    #[test]
    fn formats() {
        assert_eq!(Family::of_format(sys::FI_SOCKADDR), Some(Family::Any));
        assert_eq!(Family::of_format(sys::FI_SOCKADDR_IP), Some(Family::Any));
        assert_eq!(Family::of_format(sys::FI_SOCKADDR_IB), None);
        assert_eq!(format_of("[::1]:1".parse().expect("an address")), sys::FI_SOCKADDR_IN6);
        assert_eq!(text("10.0.0.1:80".parse().expect("an address")), "fi_sockaddr_in://10.0.0.1:80");
        assert_eq!(text("[::1]:80".parse().expect("an address")), "fi_sockaddr_in6://[::1]:80");
    }
}
