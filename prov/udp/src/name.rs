//! Socket addresses as the kernel lays them out.
//!
//! Knows IPv4 and IPv6 and nothing else; never keeps a flow label.

use core::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    /// What both begin with.
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// The length of the largest, to receive one.
pub(crate) const NAME_MAX: libc::socklen_t = length_of::<Name>();

/// A type's size as a `socklen_t`.
#[allow(clippy::cast_possible_truncation, reason = "a socket address is smaller than 128 bytes")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl Name {
    /// No address: to be overwritten by the kernel.
    pub(crate) const fn empty() -> Self {
        // The largest variant, so that every byte is initialised.
        Self {
            v6: libc::sockaddr_in6 {
                sin6_family: 0,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
                sin6_scope_id: 0,
            },
        }
    }

    /// Lays `address` out.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut name = Self::empty();
        match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: family_of(libc::AF_INET),
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                }
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: family_of(libc::AF_INET6),
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                }
            }
        }
        name
    }

    /// Bytes of it that count.
    pub(crate) fn length(&self) -> libc::socklen_t {
        match libc::c_int::from(self.family()) {
            libc::AF_INET => length_of::<libc::sockaddr_in>(),
            _ => length_of::<libc::sockaddr_in6>(),
        }
    }

    /// The address, unless it is of another family.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.family()) {
            libc::AF_INET => {
                // SAFETY: all bytes are initialised, and any value of them is a `sockaddr_in`.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: all bytes are initialised, and any value of them is a `sockaddr_in6`.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }

    fn family(&self) -> libc::sa_family_t {
        // SAFETY: all bytes are initialised, both variants begin with the family.
        unsafe { self.family }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "address families are small constants"
)]
const fn family_of(family: libc::c_int) -> libc::sa_family_t {
    family as libc::sa_family_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive() {
        for text in ["192.0.2.7:47000", "[2001:db8::17]:1", "[fe80::1%3]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().expect("a valid address");
            assert_eq!(Name::new(address).address(), Some(address), "{text}");
        }
        assert_eq!(Name::empty().address(), None);
    }
}
