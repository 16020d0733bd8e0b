//! What is offered: capabilities, orders, flags and limits.
//!
//! Responsible for being the only place where they are stated. A line here is a promise that the data path keeps. Must never hold a rule of matching.

use rdgram_engine::IOV_LIMIT;
use rdgram_sys as sys;

/// A capability of this provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capability {
    /// Its bit.
    pub(crate) bit: u64,
    /// Given only when asked for (or when nothing was said); others may be given unasked.
    primary: bool,
    /// Appears in the attributes of the transmit side, the receive side, the domain.
    sides: Sides,
}

/// Where a capability appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sides {
    Transmit,
    Receive,
    Both,
    Domain,
}

const fn primary(bit: u64, sides: Sides) -> Capability {
    Capability { bit, primary: true, sides }
}

const fn secondary(bit: u64, sides: Sides) -> Capability {
    Capability { bit, primary: false, sides }
}

/// All capabilities. Only bits that mean the same in libfabric 1.17 and 2.x may stand here.
const CAPABILITIES: &[Capability] = &[
    primary(sys::FI_MSG, Sides::Both),
    primary(sys::FI_TAGGED, Sides::Both),
    primary(sys::FI_RMA, Sides::Both),
    primary(sys::FI_ATOMIC, Sides::Both),
    primary(sys::FI_READ, Sides::Transmit),
    primary(sys::FI_WRITE, Sides::Transmit),
    primary(sys::FI_SEND, Sides::Transmit),
    primary(sys::FI_REMOTE_READ, Sides::Receive),
    primary(sys::FI_REMOTE_WRITE, Sides::Receive),
    primary(sys::FI_RECV, Sides::Receive),
    primary(sys::FI_DIRECTED_RECV, Sides::Receive),
    secondary(sys::FI_FENCE, Sides::Transmit),
    secondary(sys::FI_MULTI_RECV, Sides::Receive),
    secondary(sys::FI_RMA_EVENT, Sides::Receive),
    secondary(sys::FI_SOURCE, Sides::Receive),
    secondary(sys::FI_SOURCE_ERR, Sides::Receive),
    secondary(sys::FI_LOCAL_COMM, Sides::Domain),
    secondary(sys::FI_REMOTE_COMM, Sides::Domain),
];

/// Capabilities of the one side that applications also write into the attributes of the other, and those of the domain: they are not looked at there.
const OTHER_SIDE_IN_TRANSMIT: u64 = sys::FI_REMOTE_READ
    | sys::FI_REMOTE_WRITE
    | sys::FI_RECV
    | sys::FI_DIRECTED_RECV
    | sys::FI_MULTI_RECV
    | sys::FI_SOURCE
    | sys::FI_RMA_EVENT
    | sys::FI_SOURCE_ERR
    | sys::FI_LOCAL_COMM
    | sys::FI_REMOTE_COMM;
const OTHER_SIDE_IN_RECEIVE: u64 = sys::FI_READ
    | sys::FI_WRITE
    | sys::FI_SEND
    | sys::FI_FENCE
    | sys::FI_MULTICAST
    | sys::FI_NAMED_RX_CTX
    | sys::FI_LOCAL_COMM
    | sys::FI_REMOTE_COMM;

fn collect(wanted: impl Fn(&Capability) -> bool) -> u64 {
    CAPABILITIES
        .iter()
        .filter(|capability| wanted(capability))
        .fold(0, |bits, capability| bits | capability.bit)
}

/// Every capability.
pub(crate) fn capabilities() -> u64 {
    collect(|_| true)
}

/// Those given only when asked for.
pub(crate) fn primary_capabilities() -> u64 {
    collect(|capability| capability.primary)
}

/// Those that appear in `tx_attr.caps`.
pub(crate) fn transmit_capabilities() -> u64 {
    collect(|capability| matches!(capability.sides, Sides::Transmit | Sides::Both))
}

/// Those that appear in `rx_attr.caps`.
pub(crate) fn receive_capabilities() -> u64 {
    collect(|capability| matches!(capability.sides, Sides::Receive | Sides::Both))
}

/// Those that appear in `domain_attr.caps`.
pub(crate) fn domain_capabilities() -> u64 {
    collect(|capability| capability.sides == Sides::Domain)
}

/// Those that may stand in the hints' `tx_attr.caps`.
pub(crate) fn transmit_capabilities_accepted() -> u64 {
    transmit_capabilities() | OTHER_SIDE_IN_TRANSMIT
}

/// Those that may stand in the hints' `rx_attr.caps`.
pub(crate) fn receive_capabilities_accepted() -> u64 {
    receive_capabilities() | OTHER_SIDE_IN_RECEIVE
}

/// Orders that always hold: sends match, and atomics are executed, in the order issued.
pub(crate) const MESSAGE_ORDER: u64 = sys::FI_ORDER_SAS
    | sys::FI_ORDER_ATOMIC_RAR
    | sys::FI_ORDER_ATOMIC_RAW
    | sys::FI_ORDER_ATOMIC_WAR
    | sys::FI_ORDER_ATOMIC_WAW;

/// Orders that are kept for endpoints that ask for them, by waiting.
pub(crate) const MESSAGE_ORDER_ASKED: u64 = sys::FI_ORDER_RAR
    | sys::FI_ORDER_RAW
    | sys::FI_ORDER_RAS
    | sys::FI_ORDER_WAR
    | sys::FI_ORDER_WAW
    | sys::FI_ORDER_WAS
    | sys::FI_ORDER_SAR
    | sys::FI_ORDER_SAW
    | sys::FI_ORDER_RMA_RAR
    | sys::FI_ORDER_RMA_RAW
    | sys::FI_ORDER_RMA_WAR
    | sys::FI_ORDER_RMA_WAW;

/// Bytes of an operation that the orders hold for.
pub(crate) const ORDERED_MAX: usize = usize::MAX;

/// Default flags of transmit operations that may be asked for.
pub(crate) const TRANSMIT_FLAGS: u64 = sys::FI_INJECT
    | sys::FI_COMPLETION
    | sys::FI_INJECT_COMPLETE
    | sys::FI_TRANSMIT_COMPLETE
    | sys::FI_DELIVERY_COMPLETE
    | sys::FI_MATCH_COMPLETE;
/// Default flags of receive operations that may be asked for.
pub(crate) const RECEIVE_FLAGS: u64 = sys::FI_COMPLETION | sys::FI_MULTI_RECV;

/// The protocol on the wire, for applications that compare endpoints (`rdgram/fi_ext_rdgram.h`).
pub(crate) const PROTOCOL: u32 = sys::FI_PROV_SPECIFIC | 0x7264_6772;
/// Its version.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// Largest message, bytes: what one object can be.
pub(crate) const MESSAGE_MAX: usize = isize::MAX.unsigned_abs();
/// Largest injected message, bytes.
pub(crate) const INJECT_MAX: usize = 4096;
/// Outstanding operations of a context: a hint, the tables grow.
pub(crate) const CONTEXT_SIZE: usize = 4096;
/// Pieces of an operation's buffer, and of a memory region.
pub(crate) const PIECES_MAX: usize = IOV_LIMIT;
/// Pieces of remote memory of an RMA operation; an atomic has one.
pub(crate) const REMOTE_PIECES_MAX: usize = IOV_LIMIT;
/// Bytes of remote completion data.
pub(crate) const CQ_DATA_SIZE: usize = 8;
/// Bytes of a memory key.
pub(crate) const MR_KEY_SIZE: usize = 8;
/// Objects of each kind in a domain. Nothing is reserved for them.
pub(crate) const OBJECTS_MAX: usize = 1 << 16;
/// Transmit and receive contexts of an endpoint: no scalable endpoints.
pub(crate) const CONTEXTS_MAX: usize = 1;
