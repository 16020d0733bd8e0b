//! What the host knows about the way to an address: asked of the kernel with a socket that sends nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::socket::Socket;

/// The route to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address that datagrams to the destination come from, when the socket is bound to none.
    pub source: IpAddr,
    /// Largest IP packet that may be sent without fragmenting it; 65,535 when the interface takes more.
    pub mtu: u16,
}

/// Port 9 discards (RFC 863). Any will do, but for 0, which cannot be connected to.
const ANY_PORT: u16 = 9;

pub(crate) fn look_up(mut destination: SocketAddr) -> io::Result<Route> {
    if destination.port() == 0 {
        destination.set_port(ANY_PORT);
    }
    let socket = Socket::throwaway(destination)?;
    socket.connect(destination)?;
    let mtu = match destination {
        SocketAddr::V4(_) => socket.get(libc::IPPROTO_IP, libc::IP_MTU)?,
        SocketAddr::V6(_) => socket.get(libc::IPPROTO_IPV6, libc::IPV6_MTU)?,
    };
    Ok(Route { source: socket.name()?.ip(), mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
}
