//! The LLP header (protocol.md, section 2): what every packet begins with. Must never interpret a number against a context.
//!
//! ```text
//!     0                   1                   2                   3
//!     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!    +-------+-------+---------------+-------------------------------+
//!    |version| kind  |     flags     |            length             |  0
//!    +-------+-------+---------------+-------------------------------+
//!    |                    destination context id                     |  4
//!    +-------------------------------+-------------------------------+
//!    |     source endpoint index     |  destination endpoint index   |  8
//!    +-------------------------------+-------------------------------+
//!    |                              PSN                              | 12
//!    +-------------------------------+-------------------------------+
//!    |            path id            |      transmission number      | 16
//!    +-------------------------------+-------------------------------+
//!    |                  cumulative acknowledgement                   | 20
//!    +-------------------------------+-------------------------------+
//!    |  echoed transmission number   |        echo delay (us)        | 24
//!    +-------------------------------+-------------------------------+
//!    |         refusal count         |       credit (packets)        | 28
//!    +-------------------------------+-------------------------------+
//!    |                            cookie                             | 32
//!    +---------------------------------------------------------------+
//!    |                      integrity (CRC32C)                       | 36
//!    +---------------------------------------------------------------+
//! ```

use bitflags::bitflags;

use crate::bytes::{put, room, u16_at, u32_at};
use crate::{Malformed, Psn};

/// The version of the protocol that is written here.
pub const VERSION: u8 = 1;

mod field {
    pub(super) const VERSION_KIND: usize = 0;
    pub(super) const FLAGS: usize = 1;
    pub(super) const LENGTH: usize = 2;
    pub(super) const DST_CTX: usize = 4;
    pub(super) const SRC_EP: usize = 8;
    pub(super) const DST_EP: usize = 10;
    pub(super) const PSN: usize = 12;
    pub(super) const PATH: usize = 16;
    pub(super) const TX_NUMBER: usize = 18;
    pub(super) const CUMULATIVE: usize = 20;
    pub(super) const ECHO_TX: usize = 24;
    pub(super) const ECHO_DELAY: usize = 26;
    pub(super) const REFUSALS: usize = 28;
    pub(super) const CREDIT: usize = 30;
    pub(super) const COOKIE: usize = 32;
    pub(super) const INTEGRITY: usize = 36;
    pub(super) const END: usize = 40;
}

const _: () = assert!(Llp::LENGTH == field::END);

/// What a packet carries after its headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One DDP segment.
    #[default]
    Data = 1,
    /// An acknowledgement body.
    Ack = 2,
    /// A reset body.
    Reset = 3,
    /// Nothing: the sender's endpoint is gone.
    Close = 4,
    /// Padding up to the size probed.
    Probe = 5,
    /// Nothing: the probe of this number arrived whole.
    ProbeAck = 6,
    /// Several small DDP segments. Only to a peer whose record has the feature.
    Bundle = 7,
}

impl Kind {
    /// It has a PSN: it is accepted once, acknowledged, and sent again until it is.
    #[inline]
    #[must_use]
    pub const fn is_sequenced(self) -> bool {
        matches!(self, Self::Data | Self::Bundle)
    }

    #[inline]
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Data),
            2 => Some(Self::Ack),
            3 => Some(Self::Reset),
            4 => Some(Self::Close),
            5 => Some(Self::Probe),
            6 => Some(Self::ProbeAck),
            7 => Some(Self::Bundle),
            _ => None,
        }
    }
}

bitflags! {
    /// The flags of the LLP header.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Flags: u8 {
        /// A SYN extension follows the header.
        const SYN = 0x01;
        /// Acknowledge in the same progress call.
        const AR = 0x02;
        /// A retransmission.
        const RETX = 0x04;
        /// The integrity field covers the payload too.
        const FULL = 0x08;
        /// The echo fields are valid.
        const ECHO = 0x10;
        /// The cumulative acknowledgement, refusal count and credit are valid.
        const ACKED = 0x20;
    }
}

/// The LLP header as a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Llp {
    /// What follows the headers.
    pub kind: Kind,
    /// What is valid and what is asked for.
    pub flags: Flags,
    /// Bytes of the whole datagram, this header included.
    pub length: u16,
    /// The receiver's number for the context; 0: not known yet.
    pub dst_ctx: u32,
    /// The endpoint behind the sender's port. 0 in this version.
    pub src_ep: u16,
    /// The endpoint behind the receiver's port. 0 in this version.
    pub dst_ep: u16,
    /// Of DATA and BUNDLE; the probe's number in PROBE and PROBE_ACK.
    pub psn: Psn,
    /// The path this packet took.
    pub path: u16,
    /// Unique to this transmission on its path, modulo 2^16.
    pub tx_number: u16,
    /// The next PSN the sender expects.
    pub cumulative: Psn,
    /// The newest DATA transmission received on this path.
    pub echo_tx: u16,
    /// From its receipt to this packet, in microseconds, at most 65,535.
    pub echo_delay_us: u16,
    /// RNR messages issued in this context, modulo 2^16.
    pub refusals: u16,
    /// Packets beyond `cumulative` the peer may have in flight.
    pub credit_packets: u16,
    /// What the receiver issued in its SYN extension; 0: not known yet.
    pub cookie: u32,
    /// CRC32C of what `Flags::FULL` says, with this field zero.
    pub integrity: u32,
}

impl Llp {
    /// Bytes of the header.
    pub const LENGTH: usize = 40;
    /// Where the length field is, for who fills it in last.
    pub const LENGTH_OFFSET: usize = field::LENGTH;
    /// Where the integrity field is, for who fills it in last.
    pub const INTEGRITY_OFFSET: usize = field::INTEGRITY;

    /// A header with nothing but its kind.
    #[inline]
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Writes the header and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than [`Llp::LENGTH`].
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let out = room::<{ Self::LENGTH }>(out);
        out[field::VERSION_KIND] = VERSION << 4 | self.kind as u8;
        out[field::FLAGS] = self.flags.bits();
        put(out, field::LENGTH, self.length.to_be_bytes());
        put(out, field::DST_CTX, self.dst_ctx.to_be_bytes());
        put(out, field::SRC_EP, self.src_ep.to_be_bytes());
        put(out, field::DST_EP, self.dst_ep.to_be_bytes());
        put(out, field::PSN, self.psn.0.to_be_bytes());
        put(out, field::PATH, self.path.to_be_bytes());
        put(out, field::TX_NUMBER, self.tx_number.to_be_bytes());
        put(out, field::CUMULATIVE, self.cumulative.0.to_be_bytes());
        put(out, field::ECHO_TX, self.echo_tx.to_be_bytes());
        put(out, field::ECHO_DELAY, self.echo_delay_us.to_be_bytes());
        put(out, field::REFUSALS, self.refusals.to_be_bytes());
        put(out, field::CREDIT, self.credit_packets.to_be_bytes());
        put(out, field::COOKIE, self.cookie.to_be_bytes());
        put(out, field::INTEGRITY, self.integrity.to_be_bytes());
        Self::LENGTH
    }

    /// Rewrites, in a header that is encoded already, what tells one packet of a train from the next: flags, PSN, transmission number. The integrity field becomes 0.
    ///
    /// # Panics
    /// When `out` is shorter than [`Llp::LENGTH`].
    #[inline]
    pub fn encode_next(&self, out: &mut [u8]) {
        let out = room::<{ Self::LENGTH }>(out);
        out[field::FLAGS] = self.flags.bits();
        put(out, field::PSN, self.psn.0.to_be_bytes());
        put(out, field::TX_NUMBER, self.tx_number.to_be_bytes());
        put(out, field::INTEGRITY, [0; 4]);
    }

    /// Reads the header at the start of a datagram. Flags that are not defined are ignored; the length field is not compared (`Packet::decode` does).
    ///
    /// # Errors
    /// `Short`, `Version`, `Kind`, `EndpointIndex`, `DestinationContext`.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(head) = bytes.first_chunk::<{ Self::LENGTH }>() else {
            return Err(Malformed::Short { header: "LLP header", need: Self::LENGTH, have: bytes.len() });
        };
        let (version, kind) = (head[field::VERSION_KIND] >> 4, head[field::VERSION_KIND] & 0x0f);
        // A RESET is the same in every version: it is how an endpoint learns that its own is not spoken.
        if version != VERSION && kind != Kind::Reset as u8 {
            return Err(Malformed::Version(version));
        }
        let Some(kind) = Kind::from_bits(kind) else {
            return Err(Malformed::Kind(kind));
        };
        let llp = Self::read(head, kind);
        if llp.src_ep != 0 || llp.dst_ep != 0 {
            return Err(llp.endpoint_fault());
        }
        if llp.dst_ctx == 0 && !llp.flags.contains(Flags::SYN) && kind != Kind::Reset {
            return Err(Malformed::DestinationContext);
        }
        Ok(llp)
    }

    /// PSN and cookie of a datagram in another version that carries SYN: these stay in their places for ever (protocol.md, section 2).
    pub(crate) fn foreign(bytes: &[u8]) -> Option<(Psn, u32)> {
        let head = bytes.first_chunk::<{ Self::LENGTH }>()?;
        let (version, kind) = (head[field::VERSION_KIND] >> 4, head[field::VERSION_KIND] & 0x0f);
        let syn = Flags::from_bits_truncate(head[field::FLAGS]).contains(Flags::SYN);
        (version != VERSION && kind != Kind::Reset as u8 && syn)
            .then(|| (Psn(u32_at(head, field::PSN)), u32_at(head, field::COOKIE)))
    }

    #[inline]
    fn read(head: &[u8; Self::LENGTH], kind: Kind) -> Self {
        Self {
            kind,
            flags: Flags::from_bits_truncate(head[field::FLAGS]),
            length: u16_at(head, field::LENGTH),
            dst_ctx: u32_at(head, field::DST_CTX),
            src_ep: u16_at(head, field::SRC_EP),
            dst_ep: u16_at(head, field::DST_EP),
            psn: Psn(u32_at(head, field::PSN)),
            path: u16_at(head, field::PATH),
            tx_number: u16_at(head, field::TX_NUMBER),
            cumulative: Psn(u32_at(head, field::CUMULATIVE)),
            echo_tx: u16_at(head, field::ECHO_TX),
            echo_delay_us: u16_at(head, field::ECHO_DELAY),
            refusals: u16_at(head, field::REFUSALS),
            credit_packets: u16_at(head, field::CREDIT),
            cookie: u32_at(head, field::COOKIE),
            integrity: u32_at(head, field::INTEGRITY),
        }
    }

    #[cold]
    fn endpoint_fault(&self) -> Malformed {
        if self.dst_ep != 0 {
            Malformed::EndpointIndex { field: "destination endpoint index", index: self.dst_ep }
        } else {
            Malformed::EndpointIndex { field: "source endpoint index", index: self.src_ep }
        }
    }
}
