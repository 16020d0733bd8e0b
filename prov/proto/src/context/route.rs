//! What the host says of the route, once it is asked: a context may be made before that is possible.

use super::Context;
use crate::mtu::PathMtu;

impl<T: Copy> Context<T> {
    /// Sets the route's MTU (IP packet). Before the first packet is sent: what was sent keeps its size.
    pub fn set_route_mtu(&mut self, route_mtu: u16) {
        self.local.route_mtu = route_mtu;
        self.mtu = PathMtu::new(&self.config, route_mtu, self.local.ipv6);
        if let Some(peer) = &self.peer {
            self.mtu.on_peer(peer.segment_max);
        }
    }
}
