//! The SYN extension (protocol.md, section 3): who the sender is and what holds towards it. Must never negotiate: it only carries the record.
//!
//! ```text
//!      0  u16 length of this extension
//!      2  u8  lowest version spoken       3  u8  highest version spoken
//!      4  u32 context id                  8  u64 incarnation
//!     16  u32 initial PSN                20  u32 features
//!     24  u16 largest datagram accepted  26  u16 credit, packets
//!     28  u32 credit, bytes              32  u32 staging limit
//!     36  u16 address family (4, 6)      38  u16 port
//!     40  16 bytes address
//!     56  u32 issued cookie              60  u32 IPv6 scope id
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::bytes::{put, room, u16_at, u32_at, u64_at};
use crate::{Malformed, Psn, VERSION};

mod field {
    pub(super) const LENGTH: usize = 0;
    pub(super) const VERSION_MIN: usize = 2;
    pub(super) const VERSION_MAX: usize = 3;
    pub(super) const CTX: usize = 4;
    pub(super) const INCARNATION: usize = 8;
    pub(super) const INITIAL_PSN: usize = 16;
    pub(super) const FEATURES: usize = 20;
    pub(super) const SEGMENT_MAX: usize = 24;
    pub(super) const CREDIT_PACKETS: usize = 26;
    pub(super) const CREDIT_BYTES: usize = 28;
    pub(super) const STAGING_MAX: usize = 32;
    pub(super) const FAMILY: usize = 36;
    pub(super) const PORT: usize = 38;
    pub(super) const ADDRESS: usize = 40;
    pub(super) const COOKIE: usize = 56;
    pub(super) const SCOPE: usize = 60;
    pub(super) const END: usize = 64;
}

const _: () = assert!(Syn::LENGTH == field::END);

/// The negotiation record of a sender, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Lowest protocol version spoken.
    pub version_min: u8,
    /// Highest protocol version spoken.
    pub version_max: u8,
    /// The sender's number for the context, never 0.
    pub ctx: u32,
    /// Orders the lives of a name: the newest wins.
    pub incarnation: u64,
    /// The PSN of the sender's first DATA.
    pub initial_psn: Psn,
    /// What the sender understands beside the rest: [`Syn::BUNDLES`], [`Syn::GRANTS`]. Unknown bits are ignored.
    pub features: u32,
    /// The largest datagram the sender accepts, in bytes of UDP payload.
    pub segment_max: u16,
    /// Packets the receiver may have in flight at first.
    pub credit_packets: u16,
    /// Payload-carrying bytes the receiver may have in flight at first.
    pub credit_bytes: u32,
    /// The largest eager message the sender accepts, in bytes.
    pub staging_max: u32,
    /// The sender's name. The flow label of an IPv6 name is not carried.
    pub name: SocketAddr,
    /// What the receiver must put into the cookie field from now on, never 0.
    pub cookie: u32,
}

impl Syn {
    /// Feature: BUNDLE is understood.
    pub const BUNDLES: u32 = 1;
    /// Feature: GRANT is understood.
    pub const GRANTS: u32 = 2;
    /// Bytes of the extension as version 1 writes it.
    pub const LENGTH: usize = Self::LENGTH_FIELD as usize;
    const LENGTH_FIELD: u16 = 64;
    /// The smallest `segment_max`: every header of the protocol and some payload.
    pub const SEGMENT_MIN: u16 = 256;

    /// Writes the extension and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than [`Syn::LENGTH`].
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        put(out, field::LENGTH, Self::LENGTH_FIELD.to_be_bytes());
        out[field::VERSION_MIN] = self.version_min;
        out[field::VERSION_MAX] = self.version_max;
        put(out, field::CTX, self.ctx.to_be_bytes());
        put(out, field::INCARNATION, self.incarnation.to_be_bytes());
        put(out, field::INITIAL_PSN, self.initial_psn.0.to_be_bytes());
        put(out, field::FEATURES, self.features.to_be_bytes());
        put(out, field::SEGMENT_MAX, self.segment_max.to_be_bytes());
        put(out, field::CREDIT_PACKETS, self.credit_packets.to_be_bytes());
        put(out, field::CREDIT_BYTES, self.credit_bytes.to_be_bytes());
        put(out, field::STAGING_MAX, self.staging_max.to_be_bytes());
        let (family, address, scope) = match self.name {
            SocketAddr::V4(name) => {
                let mut address = [0; 16];
                put(&mut address, 0, name.ip().octets());
                (4u16, address, 0)
            }
            SocketAddr::V6(name) => (6, name.ip().octets(), name.scope_id()),
        };
        put(out, field::FAMILY, family.to_be_bytes());
        put(out, field::PORT, self.name.port().to_be_bytes());
        put(out, field::ADDRESS, address);
        put(out, field::COOKIE, self.cookie.to_be_bytes());
        put(out, field::SCOPE, scope.to_be_bytes());
        Self::LENGTH
    }

    /// Reads the extension; also returns the bytes it takes, which is more than [`Syn::LENGTH`] when a later version wrote it.
    ///
    /// # Errors
    /// `Short` and those that begin with `Syn`.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: "SYN extension", need: Self::LENGTH, have: bytes.len() });
        };
        let length = usize::from(u16_at(head, field::LENGTH));
        if length < Self::LENGTH || length > bytes.len() {
            return Err(Malformed::SynLength(u16_at(head, field::LENGTH)));
        }
        let syn = Self {
            version_min: head[field::VERSION_MIN],
            version_max: head[field::VERSION_MAX],
            ctx: u32_at(head, field::CTX),
            incarnation: u64_at(head, field::INCARNATION),
            initial_psn: Psn(u32_at(head, field::INITIAL_PSN)),
            features: u32_at(head, field::FEATURES),
            segment_max: u16_at(head, field::SEGMENT_MAX),
            credit_packets: u16_at(head, field::CREDIT_PACKETS),
            credit_bytes: u32_at(head, field::CREDIT_BYTES),
            staging_max: u32_at(head, field::STAGING_MAX),
            name: Self::name(head)?,
            cookie: u32_at(head, field::COOKIE),
        };
        syn.check()?;
        Ok((syn, length))
    }

    fn name(head: &[u8; Self::LENGTH]) -> Result<SocketAddr, Malformed> {
        let port = u16_at(head, field::PORT);
        match u16_at(head, field::FAMILY) {
            4 => {
                let ip = Ipv4Addr::from_bits(u32_at(head, field::ADDRESS));
                Ok(SocketAddr::new(IpAddr::V4(ip), port))
            }
            6 => {
                let high = u128::from(u64_at(head, field::ADDRESS));
                let low = u128::from(u64_at(head, field::ADDRESS + 8));
                let ip = Ipv6Addr::from_bits(high << 64 | low);
                Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, u32_at(head, field::SCOPE))))
            }
            family => Err(Malformed::SynFamily(family)),
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        if !(self.version_min..=self.version_max).contains(&VERSION) {
            return Err(Malformed::SynVersions { min: self.version_min, max: self.version_max });
        }
        if self.ctx == 0 {
            return Err(Malformed::SynContext);
        }
        if self.segment_max < Self::SEGMENT_MIN {
            return Err(Malformed::SynSegment(self.segment_max));
        }
        if self.cookie == 0 {
            return Err(Malformed::SynCookie);
        }
        Ok(())
    }
}
