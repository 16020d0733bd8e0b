//! What can be wrong with a datagram by itself. Each error names the field, so that a counter or a log line is a diagnosis.
//! Must never carry more than a few integers: it is made for packets of a hostile peer, as fast as they come.

use core::{error, fmt};

use crate::segment::opcode;

/// Why a datagram is not a packet of this protocol. All of these are the sender's fault: count and drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end before the header does.
    Short {
        /// The header that was cut.
        header: &'static str,
        /// Its length in bytes.
        need: usize,
        /// Bytes left for it.
        have: usize,
    },
    /// Bytes follow a body that has a fixed length.
    Trailing {
        /// The body.
        header: &'static str,
        /// Bytes too many.
        extra: usize,
    },
    /// LLP header: a version that is not spoken here.
    Version(u8),
    /// LLP header: a kind that is not defined.
    Kind(u8),
    /// LLP header: the length field differs from the bytes received.
    Length {
        /// The length field.
        stated: u16,
        /// Bytes received.
        received: usize,
    },
    /// LLP header: destination context 0 without SYN, in another kind than RESET.
    DestinationContext,
    /// LLP header: an endpoint index other than 0.
    EndpointIndex {
        /// The field.
        field: &'static str,
        /// Its value.
        index: u16,
    },
    /// LLP header: an ACK whose cumulative acknowledgement is not declared valid.
    AckFlags,
    /// LLP header: a BUNDLE whose integrity field does not cover all of it.
    BundleFlags,
    /// BUNDLE body: an item without bytes, or one that does not end inside of it.
    BundleItem {
        /// Bytes from the item's length field on.
        left: usize,
    },
    /// BUNDLE body: more items than may share a datagram.
    BundleItems,
    /// SYN extension: its own length field is below that of version 1 or beyond the datagram.
    SynLength(u16),
    /// SYN extension: the range of versions does not hold the version the packet is written in.
    SynVersions {
        /// Lowest version spoken.
        min: u8,
        /// Highest version spoken.
        max: u8,
    },
    /// SYN extension: context id 0.
    SynContext,
    /// SYN extension: the largest datagram accepted is too small for the headers.
    SynSegment(u16),
    /// SYN extension: an address family other than 4 and 6.
    SynFamily(u16),
    /// SYN extension: the issued cookie is 0, which stands for none.
    SynCookie,
    /// ACK body: more bitmap words than the window has.
    SackWords(u16),
    /// ACK body: the bit after the window is set.
    SackBit,
    /// RESET body: a reason that is not defined.
    ResetReason(u32),
    /// DDP control word: a version other than 1.
    DdpVersion(u8),
    /// RDMAP control word: a version other than 1.
    RdmapVersion(u8),
    /// RDMAP control word: an opcode that is not defined or not implemented.
    Opcode(u8),
    /// DDP control word: the T bit does not fit the opcode.
    Model {
        /// The opcode.
        opcode: u8,
        /// The T bit.
        tagged: bool,
    },
    /// DDP header: a queue number that is not the opcode's.
    Queue {
        /// The opcode.
        opcode: u8,
        /// The queue number.
        queue: u32,
    },
    /// DDP header: the L bit does not fit: clear in a message of one segment, or not agreeing with the end of the message.
    Last {
        /// The opcode.
        opcode: u8,
        /// The L bit.
        last: bool,
    },
    /// DDP header: a message offset in a message of one segment.
    MessageOffset {
        /// The opcode.
        opcode: u8,
        /// The offset.
        offset: u32,
    },
    /// DDP header: tagged offset plus payload wraps.
    TaggedOffset {
        /// The tagged offset.
        offset: u64,
        /// Bytes of payload.
        payload: usize,
    },
    /// Send extension: flags that are not defined, or flags of a start in another segment.
    SendFlags(u8),
    /// Send extension: the payload ends beyond the total length of the message.
    SendTotal {
        /// The message offset.
        offset: u32,
        /// Bytes of payload.
        payload: usize,
        /// The total length.
        total: u64,
    },
    /// Send extension: payload in a rendezvous start, or none in a segment that must have some.
    SendPayload {
        /// Bytes of payload.
        payload: usize,
    },
    /// Write extension: the STag is not the low half of the key.
    WriteStag {
        /// The STag.
        stag: u32,
        /// The key.
        key: u64,
    },
    /// Write extension: the payload is longer than the operation, or empty in one that is not.
    WriteTotal {
        /// Bytes of payload.
        payload: usize,
        /// The total length.
        total: u64,
    },
    /// Extended Request: a type that is not defined.
    RequestType(u8),
    /// Atomic request: an atomic opcode that is not defined.
    AtomicOpcode(u8),
    /// Control message: a type that is not defined.
    ControlType(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { header, need, have } => {
                write!(out, "{header}: {have} bytes where {need} are needed")
            }
            Self::Trailing { header, extra } => write!(out, "{header}: {extra} bytes too many"),
            Self::Version(version) => write!(out, "LLP version: {version} is not spoken here"),
            Self::Kind(kind) => write!(out, "LLP kind: {kind} is not defined"),
            Self::Length { stated, received } => {
                write!(out, "LLP length: {stated} stated, {received} received")
            }
            Self::DestinationContext => write!(out, "LLP destination context id: 0 without SYN"),
            Self::EndpointIndex { field, index } => write!(out, "LLP {field}: {index} instead of 0"),
            Self::AckFlags => write!(out, "LLP flags: ACK without ACKED"),
            Self::BundleFlags => write!(out, "LLP flags: BUNDLE without FULL"),
            Self::BundleItems => write!(out, "BUNDLE body: too many items"),
            Self::BundleItem { left } => {
                write!(out, "BUNDLE body: an item of {left} bytes at most that is empty or longer")
            }
            Self::SynLength(length) => write!(out, "SYN length: {length} does not fit"),
            Self::SynVersions { min, max } => {
                write!(out, "SYN versions: {min} to {max} do not hold the packet's own")
            }
            Self::SynContext => write!(out, "SYN context id: 0"),
            Self::SynSegment(size) => write!(out, "SYN largest datagram: {size} is too small"),
            Self::SynFamily(family) => write!(out, "SYN address family: {family} is neither 4 nor 6"),
            Self::SynCookie => write!(out, "SYN issued cookie: 0"),
            Self::SackWords(words) => write!(out, "ACK bitmap words: {words} exceed the window"),
            Self::SackBit => write!(out, "ACK bitmap: a bit beyond the window"),
            Self::ResetReason(reason) => write!(out, "RESET reason: {reason} is not defined"),
            Self::DdpVersion(version) => write!(out, "DDP version: {version} instead of 1"),
            Self::RdmapVersion(version) => write!(out, "RDMAP version: {version} instead of 1"),
            Self::Opcode(code) => write!(out, "RDMAP opcode: {} is not implemented", opcode::name(code)),
            Self::Model { opcode: code, tagged } => {
                let model = if tagged { "set" } else { "clear" };
                write!(out, "DDP T bit: {model} in {}", opcode::name(code))
            }
            Self::Queue { opcode: code, queue } => {
                write!(out, "DDP queue number: {queue} in {}", opcode::name(code))
            }
            Self::Last { opcode: code, last } => {
                let bit = if last { "set" } else { "clear" };
                write!(out, "DDP L bit: {bit} in {}", opcode::name(code))
            }
            Self::MessageOffset { opcode: code, offset } => {
                write!(out, "DDP message offset: {offset} in {}", opcode::name(code))
            }
            Self::TaggedOffset { offset, payload } => {
                write!(out, "DDP tagged offset: {offset:#x} plus {payload} bytes wraps")
            }
            Self::SendFlags(flags) => write!(out, "send extension flags: {flags:#04x}"),
            Self::SendTotal { offset, payload, total } => {
                write!(out, "send extension total: {payload} bytes at {offset} of {total}")
            }
            Self::SendPayload { payload } => {
                write!(out, "send extension: {payload} bytes of payload")
            }
            Self::WriteStag { stag, key } => {
                write!(out, "write extension key: {key:#x} with STag {stag:#x}")
            }
            Self::WriteTotal { payload, total } => {
                write!(out, "write extension total: {payload} bytes of {total}")
            }
            Self::RequestType(code) => write!(out, "extended request type: {code} is not defined"),
            Self::AtomicOpcode(code) => write!(out, "atomic opcode: {code} is not defined"),
            Self::ControlType(code) => write!(out, "control message type: {code} is not defined"),
        }
    }
}

impl error::Error for Malformed {}
