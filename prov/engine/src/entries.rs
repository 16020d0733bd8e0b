//! Operation entries: a send, a posted receive, a message that is arriving; and what the transport keeps for each packet in flight.

use rdgram_proto::{Defect, planted};
use rdgram_wire::Control;

use crate::endpoint::Bindings;
use crate::grants::Grant;
use crate::local::ForeignPiece;
use crate::matching::PeerId;
use crate::mem::UserSlice;
use crate::slab::Key;
use crate::types::{Cause, Completion, CompletionFlags, CounterEvents, MrId, OpFlags, RemoteSlice, TagMatch};
use crate::underway::Class;

/// Where a send stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TxStage {
    /// Not in use.
    #[default]
    Free,
    /// Payload goes out at once, start first.
    Eager,
    /// Only the start goes out (RENDEZVOUS); the payload waits for CTS.
    Announced,
    /// The receiver kept the envelope only; the payload waits for CTS.
    Parked,
    /// CTS came: payload goes out as RDMA Write.
    Granted,
    /// To ourselves, and not matched yet.
    Local,
    /// An RMA write: payload goes out at once, every packet with its place at the target.
    Writing,
    /// An RMA read or an atomic: the request goes out, the answer ends it.
    Requesting,
    /// At the target of a read or a fetching atomic: the answer goes out.
    Responding,
    /// Its endpoint closes: only the start goes out, because later messages are matched after it.
    Abandoned,
    /// The target refused it: it ends when nothing of it is in flight any more.
    Refused(Cause),
    /// A refused write of which the target may have noted a part: it ends when the target has heard that no more comes.
    Voiding(Cause),
    /// An answer whose memory is gone: what is in flight of it goes out as NOP, and nothing else.
    Withdrawn,
}

/// What an operation is, for its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TxKind {
    #[default]
    Send,
    Write,
    Read,
    /// An atomic; `fetch` when old values come back.
    Atomic {
        fetch: bool,
    },
    /// An answer to a peer: nobody here is told of it.
    Response,
}

/// What an atomic asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AtomicCode {
    pub(crate) operation: u8,
    pub(crate) datatype: u8,
    pub(crate) compare: bool,
    pub(crate) count: u32,
}

/// A send.
#[derive(Debug, Default)]
pub(crate) struct TxEntry {
    pub(crate) peer: PeerId,
    pub(crate) kind: TxKind,
    pub(crate) stage: TxStage,
    pub(crate) flags: OpFlags,
    pub(crate) context: usize,
    /// The message: the application's memory, or `block`.
    pub(crate) slices: Vec<UserSlice>,
    /// Where an answer goes: the application's memory.
    pub(crate) sink: Vec<UserSlice>,
    /// The target's memory of an RMA operation or an atomic, in order.
    pub(crate) remote: Vec<RemoteSlice>,
    pub(crate) atomic: AtomicCode,
    /// Bytes of the answer that came.
    pub(crate) received: u64,
    /// End of the furthest byte of the answer that was placed.
    pub(crate) placed_end: u64,
    /// The answer is complete.
    pub(crate) answered: bool,
    /// The region that a response reads.
    pub(crate) region: Option<MrId>,
    /// A response whose end is the end of a read that somebody counts.
    pub(crate) counted: bool,
    /// Injected bytes, the operands of an atomic, or the old values of one.
    pub(crate) block: Option<Box<[u8]>>,
    pub(crate) length: u64,
    pub(crate) tag: Option<u64>,
    pub(crate) data: Option<u64>,
    pub(crate) msn: u32,
    /// The start carries RENDEZVOUS. Fixed for life: a PSN's content never changes.
    pub(crate) rendezvous: bool,
    /// A write of several packets.
    pub(crate) parted: bool,
    /// The target is told that nothing more comes of it.
    pub(crate) voided: bool,
    /// The start was sent.
    pub(crate) started: bool,
    /// Payload bytes sent at this stage.
    pub(crate) sent: u64,
    /// After CTS: bytes to send, and to which STag. For a response: where its answer begins in the sink, and the sink's STag.
    pub(crate) granted: u64,
    pub(crate) stag: u32,
    /// After CTS or GRANT: bytes that may be sent by now.
    pub(crate) allowed: u64,
    /// Packets that are not acknowledged.
    pub(crate) in_flight: u32,
    /// Its place in the line of those to be counted, when it has one.
    pub(crate) turn: Option<u32>,
    /// The completion was written already (FI_INJECT_COMPLETE).
    pub(crate) reported: bool,
    /// It goes through memory, and its target says when all of it has been placed: a write, what was granted, or a send that completes by delivery.
    pub(crate) answers: bool,
}

impl TxEntry {
    /// Readies a released entry for its next operation: what it owns stays, for its capacity.
    pub(crate) fn blank(&mut self) {
        debug_assert!(self.slices.is_empty() && self.block.is_none(), "a released entry holds nothing");
        let (slices, sink, remote) = (
            core::mem::take(&mut self.slices),
            core::mem::take(&mut self.sink),
            core::mem::take(&mut self.remote),
        );
        *self = Self { slices, sink, remote, ..Self::default() };
    }

    /// Everything that this stage sends was sent.
    pub(crate) fn all_sent(&self) -> bool {
        match self.stage {
            TxStage::Eager => self.started && self.sent == self.length,
            TxStage::Announced | TxStage::Abandoned => self.started,
            TxStage::Voiding(_) => self.voided,
            TxStage::Granted => self.sent == self.granted,
            TxStage::Writing | TxStage::Responding => self.started && self.sent == self.length,
            // One request for each piece of the target's memory.
            TxStage::Requesting => self.started && self.sent == self.remote.len() as u64,
            TxStage::Parked | TxStage::Local | TxStage::Free | TxStage::Refused(_) | TxStage::Withdrawn => {
                true
            }
        }
    }

    /// It may not go on before more is granted.
    pub(crate) fn is_held(&self) -> bool {
        self.stage == TxStage::Granted && self.sent == self.allowed && self.allowed < self.granted
    }

    /// Nothing more will be sent, and all was acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        if self.in_flight > 0 {
            return false;
        }
        match self.stage {
            TxStage::Writing | TxStage::Eager | TxStage::Granted if self.answers => self.answered,
            TxStage::Eager
            | TxStage::Granted
            | TxStage::Writing
            | TxStage::Responding
            | TxStage::Abandoned
            | TxStage::Voiding(_) => self.all_sent(),
            TxStage::Requesting => self.answered,
            TxStage::Refused(_) | TxStage::Withdrawn => true,
            TxStage::Announced | TxStage::Parked | TxStage::Local | TxStage::Free => false,
        }
    }

    /// What its completion says.
    pub(crate) fn completion(&self) -> Completion {
        let kind = if self.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        let flags = match self.kind {
            TxKind::Send => CompletionFlags::SEND | kind,
            TxKind::Write => CompletionFlags::RMA | CompletionFlags::WRITE,
            TxKind::Read => CompletionFlags::RMA | CompletionFlags::READ,
            TxKind::Atomic { fetch: false } => CompletionFlags::ATOMIC | CompletionFlags::WRITE,
            TxKind::Atomic { fetch: true } => CompletionFlags::ATOMIC | CompletionFlags::READ,
            TxKind::Response => CompletionFlags::empty(),
        };
        Completion { context: self.context, flags, ..Completion::default() }
    }

    /// Which counters count it.
    pub(crate) fn events(&self) -> CounterEvents {
        match self.kind {
            TxKind::Send => CounterEvents::SEND,
            TxKind::Write | TxKind::Atomic { fetch: false } => CounterEvents::WRITE,
            TxKind::Read | TxKind::Atomic { fetch: true } => CounterEvents::READ,
            TxKind::Response => CounterEvents::empty(),
        }
    }

    /// What it is to the orders among operations.
    pub(crate) fn class(&self) -> Class {
        match self.kind {
            TxKind::Send => Class::SEND,
            TxKind::Write => Class::WRITE,
            TxKind::Read => Class::READ,
            TxKind::Atomic { fetch: false } => Class::WRITE,
            TxKind::Atomic { fetch: true } => Class::READ | Class::WRITE,
            TxKind::Response => Class::empty(),
        }
    }

    /// Somebody waits for the acknowledgement of this operation: for its completion, or its buffer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.flags.contains(OpFlags::INJECT) || (self.flags.contains(OpFlags::COMPLETION) && !self.reported)
    }

    /// Its acknowledgement is to be asked for: somebody waits for it, or may, because it is counted, or is in the line of those that are.
    pub(crate) fn asks(&self, bindings: &Bindings) -> bool {
        match self.kind {
            TxKind::Response => self.counted,
            _ => self.is_awaited() || self.turn.is_some() || bindings.counts(self.events()),
        }
    }
}

/// What makes a packet again. The transport keeps one for each PSN in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The start of a message with its first `length` bytes.
    Start { tx: Key, length: u16 },
    /// Bytes of an eager message.
    Fragment { tx: Key, offset: u32, length: u16 },
    /// Bytes of a granted message.
    Write { tx: Key, offset: u64, length: u16 },
    /// Bytes of an RMA write.
    RmaWrite { tx: Key, offset: u64, length: u16 },
    /// A read request for the `index`-th piece of the target's memory, or the request of an atomic.
    Request { tx: Key, index: u16 },
    /// Bytes of an answer.
    Response { tx: Key, offset: u64, length: u16 },
    /// The end of a refused write.
    Void { tx: Key },
    /// Messages that share the packet.
    Bundle { bundle: Key },
    /// A control message.
    Control(Control),
}

impl Token {
    /// The one operation that the packet belongs to.
    pub(crate) fn operation(&self) -> Option<Key> {
        match self {
            Self::Start { tx, .. }
            | Self::Fragment { tx, .. }
            | Self::Write { tx, .. }
            | Self::RmaWrite { tx, .. }
            | Self::Request { tx, .. }
            | Self::Response { tx, .. }
            | Self::Void { tx } => Some(*tx),
            Self::Bundle { .. } | Self::Control(_) => None,
        }
    }
}

/// A multi-receive buffer's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Multi {
    /// Bytes given to messages.
    pub(crate) consumed: usize,
    /// Messages being received into it.
    pub(crate) outstanding: u32,
    /// No longer posted: its last message reports that.
    pub(crate) released: bool,
    /// Released by cancellation, or by the end of the peer it was directed at.
    pub(crate) canceled: Option<Cause>,
}

/// A posted receive.
#[derive(Debug, Default)]
pub(crate) struct PostedEntry {
    pub(crate) slices: Vec<UserSlice>,
    pub(crate) capacity: usize,
    pub(crate) context: usize,
    pub(crate) flags: OpFlags,
    pub(crate) source: Option<PeerId>,
    /// `None` for untagged.
    pub(crate) tag: Option<TagMatch>,
    /// Only with FI_MULTI_RECV.
    pub(crate) multi: Option<Multi>,
}

/// Where a matched message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) posted: Key,
    /// First byte in the posted buffer.
    pub(crate) base: usize,
    /// Bytes there.
    pub(crate) room: usize,
}

/// Where an arriving message stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RxStage {
    /// Some of it is here, but it is not its turn to be matched.
    #[default]
    Early,
    /// In the unexpected queue.
    Unexpected,
    /// Taken by a peek with FI_CLAIM.
    Claimed { context: usize },
    /// Has a target.
    Matched,
}

/// An atomic as the target sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtomicRequest {
    pub(crate) code: AtomicCode,
    pub(crate) fetch: bool,
    pub(crate) sink_stag: u32,
    pub(crate) remote: RemoteSlice,
    /// Bytes of operands and comparands.
    pub(crate) operands: usize,
}

/// A message that is arriving.
#[derive(Debug, Default)]
pub(crate) struct RxEntry {
    pub(crate) peer: PeerId,
    pub(crate) stage: RxStage,
    pub(crate) msn: u32,
    /// The sender's name for it.
    pub(crate) message_id: u32,
    pub(crate) total: u64,
    pub(crate) tag: Option<u64>,
    pub(crate) data: Option<u64>,
    /// Its start is here.
    pub(crate) started: bool,
    /// The payload is at the sender: announced, or refused.
    pub(crate) remote: bool,
    /// Bytes received: of the eager payload, or after CTS of the granted one.
    pub(crate) received: u64,
    pub(crate) grant: Grant,
    /// End of the furthest byte of the granted payload that was placed.
    pub(crate) placed_end: u64,
    /// Eager payload that came before the match.
    pub(crate) staging: Option<Box<[u8]>>,
    pub(crate) target: Option<Target>,
    /// It is an atomic in line with the messages: what is to be done, with its operands in `staging`.
    pub(crate) atomic: Option<AtomicRequest>,
    /// For a message to ourselves whose payload is still with its send.
    pub(crate) local: Option<Key>,
    /// It came through memory: its payload cannot be refused any more.
    pub(crate) by_memory: bool,
    /// Its sender waits to be told that it is here.
    pub(crate) answer: bool,
    /// Where its payload lies in its sender's memory, when it can be copied from there.
    pub(crate) foreign: Vec<ForeignPiece>,
}

impl RxEntry {
    /// Bytes that the receiver wants of it.
    pub(crate) fn wanted(&self) -> u64 {
        self.target.map_or(self.total, |target| self.total.min(target.room as u64))
    }

    /// All payload that will come is here.
    pub(crate) fn is_whole(&self) -> bool {
        if planted(Defect::CompleteBeforeLastFragment)
            && self.total > 4096
            && self.received + 2000 > self.total
        {
            return self.started && !self.remote;
        }
        self.started
            && self.received == if self.remote { self.wanted() } else { self.total }
            && (!self.remote || self.target.is_some())
    }

    /// Readies a released entry for its next message.
    pub(crate) fn reset(&mut self) {
        debug_assert!(self.staging.is_none(), "a released entry holds no block");
        let mut foreign = core::mem::take(&mut self.foreign);
        foreign.clear();
        *self = Self { foreign, ..Self::default() };
    }
}
