//! The values that pass between the engine and its face: operations in, completions out. The vocabulary is libfabric's; the types are ours.

use core::fmt;
use core::net::SocketAddr;

use bitflags::bitflags;

use crate::atomic_op::{AtomicOp, Datatype};
use crate::mem::UserSlice;

/// Index of an address in an address vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiAddr(pub u64);

impl FiAddr {
    /// No particular address (`FI_ADDR_UNSPEC`).
    pub const UNSPEC: Self = Self(u64::MAX);
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) u32);
    )*};
}

ids! {
    /// An endpoint of a domain.
    EpId;
    /// A completion queue of a domain.
    CqId;
    /// A counter of a domain.
    CntrId;
    /// An address vector of a domain.
    AvId;
    /// A memory region of a domain.
    MrId;
}

bitflags! {
    /// What an operation asks for beyond its arguments.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OpFlags: u32 {
        /// Write a completion (the caller resolved selective completion and op_flags already).
        const COMPLETION = 1 << 0;
        /// The buffer is the caller's again on return: copy it.
        const INJECT = 1 << 1;
        /// Complete as soon as the buffer may be reused.
        const INJECT_COMPLETE = 1 << 2;
        /// Complete when the peer's endpoint has it.
        const TRANSMIT_COMPLETE = 1 << 3;
        /// Complete when it is placed at the peer.
        const DELIVERY_COMPLETE = 1 << 4;
        /// Complete when it is matched at the peer.
        const MATCH_COMPLETE = 1 << 5;
        /// More operations follow at once: do not send yet.
        const MORE = 1 << 6;
        /// Receive many messages into this buffer.
        const MULTI_RECV = 1 << 7;
        /// Earlier operations to the same peer complete first.
        const FENCE = 1 << 8;
    }
}

bitflags! {
    /// What a completion is of.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct CompletionFlags: u32 {
        /// A send.
        const SEND = 1 << 0;
        /// A receive.
        const RECV = 1 << 1;
        /// Of a message.
        const MSG = 1 << 2;
        /// Of a tagged message.
        const TAGGED = 1 << 3;
        /// Of a one-sided operation.
        const RMA = 1 << 4;
        /// Of an atomic operation.
        const ATOMIC = 1 << 5;
        /// A read.
        const READ = 1 << 6;
        /// A write.
        const WRITE = 1 << 7;
        /// By the peer: a read.
        const REMOTE_READ = 1 << 8;
        /// By the peer: a write.
        const REMOTE_WRITE = 1 << 9;
        /// `data` is valid.
        const REMOTE_CQ_DATA = 1 << 10;
        /// The multi-receive buffer is released.
        const MULTI_RECV = 1 << 11;
        /// The message is claimed (`FI_PEEK` with `FI_CLAIM`).
        const CLAIM = 1 << 12;
    }
}

/// A completion, whatever format its queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The context of the operation, exactly as given.
    pub context: usize,
    /// What completed.
    pub flags: CompletionFlags,
    /// Bytes received.
    pub length: usize,
    /// Where a multi-receive message begins, else the buffer, else 0.
    pub buffer: usize,
    /// Remote CQ data.
    pub data: u64,
    /// The message's tag.
    pub tag: u64,
    /// Who sent it: `FiAddr::UNSPEC` when not in the address vector.
    pub source: FiAddr,
}

impl Default for Completion {
    fn default() -> Self {
        Self {
            context: 0,
            flags: CompletionFlags::empty(),
            length: 0,
            buffer: 0,
            data: 0,
            tag: 0,
            source: FiAddr::UNSPEC,
        }
    }
}

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// As in a completion; `length` is what was placed, and `source` is the peer also where we are the source.
    pub completion: Completion,
    /// Bytes that did not fit.
    pub overflow: usize,
    /// Why.
    pub cause: Cause,
}

/// Why an operation failed. One mapping to errno exists, in `capi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The message was longer than the buffer (FI_ETRUNC).
    Truncated,
    /// Cancelled (FI_ECANCELED).
    Canceled,
    /// A peek found nothing (FI_ENOMSG).
    NoMessage,
    /// Nobody answers at the peer's port, and that was confirmed (FI_ECONNREFUSED).
    Refused,
    /// The peer's host cannot be reached (FI_EHOSTUNREACH).
    Unreachable,
    /// The peer closed its endpoint (FI_ESHUTDOWN).
    Closed,
    /// The peer was restarted: another incarnation has its address (FI_ECONNRESET).
    Restarted,
    /// The peer was silent for longer than the peer timeout (FI_ETIMEDOUT).
    TimedOut,
    /// The peer speaks another version (FI_EPROTONOSUPPORT).
    Version,
    /// This endpoint was closed first (FI_ECANCELED).
    EndpointClosed,
    /// The memory ceiling was reached (FI_ENOMEM).
    NoMemory,
    /// The address is not in the address vector (FI_EADDRNOTAVAIL).
    NoAddress,
    /// The target knows no region by that key (FI_ENOKEY).
    BadKey,
    /// The target's region does not permit the access (FI_EACCES).
    AccessDenied,
    /// Outside of the target's region (FI_EACCES).
    OutOfRange,
    /// The target does not support the operation (FI_EOPNOTSUPP).
    NotSupported,
    /// The peer put something into shared memory that no honest peer does (FI_EIO).
    Corrupt,
}

/// What the user of an endpoint should be told although no operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The endpoint's name.
    pub local: SocketAddr,
    /// What it is.
    pub kind: NoticeKind,
}

/// See [`Notice`]. Each is given once for an endpoint and peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// An operation waits for a peer that was asked for ten seconds and said nothing. It may compute.
    Silent {
        /// The peer's name.
        peer: SocketAddr,
        /// The peer was heard before, so that packets do pass.
        heard: bool,
    },
    /// Packets of another version of the protocol come from there.
    OtherVersion {
        /// Where they come from.
        source: SocketAddr,
    },
    /// Operations are not accepted because the endpoint's memory has reached its ceiling.
    MemoryFull {
        /// The ceiling, bytes.
        ceiling: usize,
    },
}

/// Why an operation was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Try again after progress (-FI_EAGAIN).
    Again,
    /// The destination is not in the address vector (-FI_EINVAL).
    BadAddress,
    /// Too large: for a message, for injection, or too many slices (-FI_EMSGSIZE or -FI_EINVAL).
    TooLong,
    /// The endpoint is not enabled, or is closed (-FI_EOPBADSTATE).
    BadState,
    /// The memory ceiling was reached (-FI_ENOMEM).
    NoMemory,
    /// Nothing matches what was named: cancel, claim (-FI_ENOENT).
    NotFound,
    /// Needed object is not bound (-FI_ENOCQ, -FI_ENOAV).
    NotBound,
}

/// The key of a receive: what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// From whom; `FiAddr::UNSPEC` for anybody.
    pub source: FiAddr,
    /// Tag and ignore bits for tagged messages, `None` for untagged ones.
    pub tag: Option<TagMatch>,
}

/// A tag to match: bits set in `ignore` do not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagMatch {
    /// The tag.
    pub tag: u64,
    /// The bits of it that do not matter.
    pub ignore: u64,
}

impl TagMatch {
    /// Whether a message of tag `tag` matches.
    pub fn accepts(&self, tag: u64) -> bool {
        (self.tag ^ tag) & !self.ignore == 0
    }
}

/// A send.
#[derive(Clone, Copy, Debug)]
pub struct SendOp<'a> {
    /// To whom.
    pub destination: FiAddr,
    /// The message.
    pub slices: &'a [UserSlice],
    /// Its tag, `None` for an untagged message.
    pub tag: Option<u64>,
    /// Remote CQ data.
    pub data: Option<u64>,
    /// Reported with the completion.
    pub context: usize,
    /// The rest.
    pub flags: OpFlags,
}

/// A receive.
#[derive(Clone, Copy, Debug)]
pub struct RecvOp<'a> {
    /// What it matches.
    pub matching: Match,
    /// Where to.
    pub slices: &'a [UserSlice],
    /// Reported with the completion.
    pub context: usize,
    /// COMPLETION and MULTI_RECV count.
    pub flags: OpFlags,
}

/// What a peek does with the message it finds (`fi_tagged(3)`, FI_PEEK, FI_CLAIM, FI_DISCARD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Report it.
    Look,
    /// Report it and keep it for the receive that claims it with the same context.
    Claim,
    /// Report it and drop it.
    Discard,
}

/// A piece of a target's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteSlice {
    /// The region's key.
    pub key: u64,
    /// Bytes from the region's beginning, or an address when the region is addressed virtually.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Which RMA operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmaKind {
    /// Local memory to the target's.
    Write,
    /// The target's memory to local memory.
    Read,
}

/// An RMA operation.
#[derive(Clone, Copy, Debug)]
pub struct RmaOp<'a> {
    /// Which way.
    pub kind: RmaKind,
    /// The target.
    pub destination: FiAddr,
    /// Local memory.
    pub slices: &'a [UserSlice],
    /// The target's memory: of the same length together.
    pub remote: &'a [RemoteSlice],
    /// Remote CQ data, for a write.
    pub data: Option<u64>,
    /// Reported with the completion.
    pub context: usize,
    /// The rest.
    pub flags: OpFlags,
}

/// An atomic operation.
#[derive(Clone, Copy, Debug)]
pub struct AtomicArgs<'a> {
    /// The target.
    pub destination: FiAddr,
    /// What to compute.
    pub operation: AtomicOp,
    /// On what.
    pub datatype: Datatype,
    /// Operands; ignored by a read.
    pub operands: &'a [UserSlice],
    /// Comparands, for the operations that compare.
    pub compare: &'a [UserSlice],
    /// Where old values go, for the forms that fetch.
    pub result: Option<&'a [UserSlice]>,
    /// The target's memory; its length is that of all elements.
    pub remote: RemoteSlice,
    /// Reported with the completion.
    pub context: usize,
    /// The rest.
    pub flags: OpFlags,
}

/// Which way a queue or counter is bound to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Transmit completions.
    Transmit,
    /// Receive completions.
    Receive,
}

bitflags! {
    /// What a counter bound to an endpoint counts (`fi_endpoint(3)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CounterEvents: u32 {
        /// Sends, tagged or not.
        const SEND = 1 << 0;
        /// Receives.
        const RECV = 1 << 1;
        /// RMA reads and fetching atomics.
        const READ = 1 << 2;
        /// RMA writes and other atomics.
        const WRITE = 1 << 3;
        /// Reads by peers.
        const REMOTE_READ = 1 << 4;
        /// Writes by peers.
        const REMOTE_WRITE = 1 << 5;
    }
}

bitflags! {
    /// Orders among operations from one endpoint to another that are kept beyond those that always hold (sends match, and atomics are executed, in the order issued).
    /// The later operation waits until the earlier one has completed. By the numbers of libfabric's FI_ORDER bits: three for the later operation, by the earlier one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Orders: u16 {
        /// Read after read.
        const RAR = 1 << 0;
        /// Read after write.
        const RAW = 1 << 1;
        /// Read after send.
        const RAS = 1 << 2;
        /// Write after read.
        const WAR = 1 << 3;
        /// Write after write.
        const WAW = 1 << 4;
        /// Write after send.
        const WAS = 1 << 5;
        /// Send after read.
        const SAR = 1 << 6;
        /// Send after write.
        const SAW = 1 << 7;
    }
}

/// Whether the datapath puts payload that can be predicted straight to its final address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// Where segments are so large that it pays.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever it is possible: for tests.
    Force,
}

/// How an endpoint is made.
#[derive(Clone, Debug)]
pub struct EpConfig {
    /// Orders that its operations keep at the cost of waiting.
    pub orders: Orders,
    /// Largest message that is sent eagerly, bytes.
    pub eager_max: usize,
    /// Largest injected message, bytes.
    pub inject_max: usize,
    /// Payload of unexpected messages kept at once, bytes.
    pub unexpected_pool: usize,
    /// Ceiling of all of an endpoint's memory, bytes: beyond it operations fail.
    pub memory_ceiling: usize,
    /// Bytes of long messages that are asked for and missing at a time: by default according to the receive buffer.
    pub grant_bytes: Option<u64>,
    /// A multi-receive buffer with less than this left is released, bytes.
    pub min_multi_recv: usize,
    /// The integrity field covers the payload too.
    pub full_integrity: bool,
    /// Small messages that wait in line share datagrams.
    pub bundles: bool,
    /// Sends of a burst are held back for that, until the next progress call at the latest. Not for an application that leaves progress to a thread.
    pub hold_bursts: bool,
    /// Whether the datapath puts payload straight to its final address.
    pub direct: Direct,
    /// What comes from a sender that is not in the address vector completes in [`Cause::NoAddress`], with the sender's name (FI_SOURCE_ERR).
    pub source_errors: bool,
    /// Transport parameters.
    pub transport: rdgram_proto::Config,
}

impl Default for EpConfig {
    fn default() -> Self {
        Self {
            orders: Orders::empty(),
            eager_max: 64 << 10,
            inject_max: 4 << 10,
            unexpected_pool: 64 << 20,
            grant_bytes: None,
            memory_ceiling: 1 << 30,
            min_multi_recv: 64,
            full_integrity: false,
            bundles: true,
            hold_bursts: true,
            direct: Direct::Auto,
            source_errors: false,
            transport: rdgram_proto::Config::default(),
        }
    }
}

/// Most bytes of operands of one atomic operation: with as many comparands they fit the smallest segment.
pub const ATOMIC_MAX: usize = 512;

/// Most slices of one operation.
pub const IOV_LIMIT: usize = 32;

/// Counters of an endpoint, for `FI_RDGRAM_STATS` and tests. All count from enable.
/// `rx_placed_bytes` are those of granted messages and of answers to reads, `rx_direct_bytes` those among them that no copy was needed for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says what it counts")]
pub struct Stats {
    pub tx_datagrams: u64,
    pub tx_bytes: u64,
    pub tx_retransmitted: u64,
    pub tx_acks: u64,
    /// Parts of long messages that were asked for one after the other: GRANTs sent.
    pub tx_grants: u64,
    pub tx_messages: u64,
    pub tx_bundles: u64,
    pub tx_bundled_messages: u64,
    pub rx_datagrams: u64,
    pub rx_bytes: u64,
    /// Datagrams that differed from the one before only as the next of a train does.
    pub rx_alike: u64,
    pub rx_duplicates: u64,
    pub rx_malformed: u64,
    pub rx_integrity: u64,
    pub rx_stale: u64,
    /// Batches that told of datagrams the kernel had dropped because the socket's receive buffer was full.
    pub rx_overflows: u64,
    pub rx_messages: u64,
    pub unexpected_messages: u64,
    pub unexpected_bytes_max: u64,
    pub refused_messages: u64,
    pub peers_dead: u64,
    pub rx_placed_bytes: u64,
    pub rx_direct_bytes: u64,
    pub rx_plans: u64,
    pub rx_plans_wrong: u64,
    pub peers_thawed: u64,
    /// Peers that were reached through memory.
    pub links: u64,
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

impl Stats {
    /// Name and value of every counter, for printing.
    pub fn rows(&self) -> [(&'static str, u64); 27] {
        [
            ("tx_datagrams", self.tx_datagrams),
            ("tx_bytes", self.tx_bytes),
            ("tx_retransmitted", self.tx_retransmitted),
            ("tx_acks", self.tx_acks),
            ("tx_grants", self.tx_grants),
            ("tx_messages", self.tx_messages),
            ("tx_bundles", self.tx_bundles),
            ("tx_bundled_messages", self.tx_bundled_messages),
            ("rx_datagrams", self.rx_datagrams),
            ("rx_bytes", self.rx_bytes),
            ("rx_alike", self.rx_alike),
            ("rx_duplicates", self.rx_duplicates),
            ("rx_malformed", self.rx_malformed),
            ("rx_integrity", self.rx_integrity),
            ("rx_stale", self.rx_stale),
            ("rx_overflows", self.rx_overflows),
            ("rx_messages", self.rx_messages),
            ("unexpected_messages", self.unexpected_messages),
            ("unexpected_bytes_max", self.unexpected_bytes_max),
            ("refused_messages", self.refused_messages),
            ("peers_dead", self.peers_dead),
            ("rx_placed_bytes", self.rx_placed_bytes),
            ("rx_direct_bytes", self.rx_direct_bytes),
            ("rx_plans", self.rx_plans),
            ("rx_plans_wrong", self.rx_plans_wrong),
            ("peers_thawed", self.peers_thawed),
            ("links", self.links),
        ]
    }
}
