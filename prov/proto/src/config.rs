//! What a context is told when it is made: the limits of the transport and the local side's identity. Every limit of this crate is here or next to its only user.

use core::net::SocketAddr;
use core::time::Duration;

use rdgram_wire::{Psn, Syn, WINDOW};

/// Limits of the transport, the same for every context of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// PSNs that may be sent and not acknowledged cumulatively: at most 1,024 (protocol.md, section 4).
    pub window: u32,
    /// Slots of the window that only [`Class::Control`] may use, so that replies never wait for data.
    pub control_reserve: u32,
    /// Packets in flight before the peer has shown that it knows this context: at most 8 (protocol.md, section 3).
    pub first_flight: u32,
    /// Floor of the retransmission timeout.
    pub rto_min: Duration,
    /// Roof of the retransmission timeout, backed off.
    pub rto_max: Duration,
    /// Floor of the tail probe's delay.
    pub tail_probe_min: Duration,
    /// Unreachable reports for a peer never heard from are not believed before this.
    pub connect_grace: Duration,
    /// Silence of the peer, while it was asked, that ends the context.
    pub peer_timeout: Duration,
    /// Largest datagram (UDP payload) that is ever sent or accepted.
    pub segment_max: u16,
    /// Look for a path MTU above 1,500.
    pub probe_mtu: bool,
    /// Largest eager message that is accepted.
    pub staging_max: u32,
    /// Packets received since the last acknowledgement that make one due at once. A sender that comes to a stop sooner asks sooner: a few trains.
    pub ack_every: u32,
    /// How long more than the standing credit holds after it was told (protocol.md, section 5).
    pub credit_lifetime: Duration,
}

/// How long an acknowledgement that nobody waits for waits for data that carries it, here and at any peer (protocol.md, section 4).
pub(crate) const ACK_DELAY: Duration = Duration::from_micros(100);

/// The staging limit of a peer whose record is not known yet (protocol.md, section 3).
pub const FIRST_STAGING: u32 = 16 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            window: WINDOW,
            control_reserve: 64,
            first_flight: 8,
            rto_min: Duration::from_millis(1),
            rto_max: Duration::from_secs(1),
            tail_probe_min: Duration::from_micros(200),
            connect_grace: Duration::from_secs(3),
            peer_timeout: Duration::from_secs(15 * 60),
            segment_max: 65_507,
            probe_mtu: true,
            staging_max: 64 * 1024,
            ack_every: 128,
            credit_lifetime: Duration::from_millis(50),
        }
    }
}

impl Config {
    /// The same with every limit where the protocol allows it to be.
    pub(crate) fn bounded(mut self) -> Self {
        self.window = self.window.clamp(2, WINDOW);
        self.control_reserve = self.control_reserve.min(self.window / 2);
        self.first_flight = self.first_flight.clamp(1, 8).min(self.window);
        self.rto_max = self.rto_max.max(self.rto_min);
        self.ack_every = self.ack_every.max(1);
        self
    }
}

/// What one side allows the other to have in flight: not yet acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Packets.
    pub packets: u16,
    /// Bytes of packets of [`Class::Data`].
    pub bytes: u32,
}

/// What this side is in a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our number for the context, never 0.
    pub ctx: u32,
    /// The cookie that the peer has to show, random, never 0.
    pub cookie: u32,
    /// The clock of this host when the endpoint was enabled.
    pub incarnation: u64,
    /// The PSN of the first packet, random.
    pub initial_psn: Psn,
    /// The endpoint's name.
    pub name: SocketAddr,
    /// The standing credit: what the peer may have in flight at first, and whenever it was told nothing else lately.
    pub credit: Credit,
    /// The MTU of the route to the peer: bytes of an IP packet.
    pub route_mtu: u16,
    /// The route is an IPv6 one.
    pub ipv6: bool,
}

/// What the peer said that it is in a context, as far as that is needed after the first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The clock of its host when its endpoint was enabled.
    pub incarnation: u64,
    /// Its number for the context.
    pub ctx: u32,
    /// The cookie that we have to show.
    pub cookie: u32,
    /// The PSN of its first packet.
    pub initial_psn: Psn,
    /// What it understands beside the rest: see [`Syn::features`].
    pub features: u32,
    /// Largest eager message that it accepts.
    pub staging_max: u32,
    /// Largest datagram that it accepts.
    pub segment_max: u16,
    /// Its standing credit: packets, and bytes of packets of [`Class::Data`].
    pub credit_packets: u16,
    /// See above.
    pub credit_bytes: u32,
}

impl Remote {
    /// The standing credit.
    pub(crate) const fn credit(&self) -> Credit {
        Credit { packets: self.credit_packets, bytes: self.credit_bytes }
    }
}

impl From<&Syn> for Remote {
    fn from(syn: &Syn) -> Self {
        Self {
            incarnation: syn.incarnation,
            ctx: syn.ctx,
            cookie: syn.cookie,
            initial_psn: syn.initial_psn,
            features: syn.features,
            staging_max: syn.staging_max,
            segment_max: syn.segment_max,
            credit_packets: syn.credit_packets,
            credit_bytes: syn.credit_bytes,
        }
    }
}

/// Who competes for the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Carries payload or starts a message: waits for window, congestion window and credits.
    Data,
    /// Control messages and responses: wait for the window only, and have slots of their own in it.
    Control,
}
