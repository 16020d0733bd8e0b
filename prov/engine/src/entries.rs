//! Operation entries: a send, a posted receive, a message that is arriving; and what the transport keeps for each packet in flight.

use rdgram_proto::{Defect, planted};
use rdgram_wire::Control;

use crate::matching::PeerId;
use crate::mem::UserSlice;
use crate::slab::Key;
use crate::types::{Cause, Completion, CompletionFlags, OpFlags, TagMatch};

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
}

/// A send.
#[derive(Debug, Default)]
pub(crate) struct TxEntry {
    pub(crate) peer: PeerId,
    pub(crate) stage: TxStage,
    pub(crate) flags: OpFlags,
    pub(crate) context: usize,
    /// The message: the application's memory, or `block`.
    pub(crate) slices: Vec<UserSlice>,
    /// Injected bytes.
    pub(crate) block: Option<Box<[u8]>>,
    pub(crate) length: u64,
    pub(crate) tag: Option<u64>,
    pub(crate) data: Option<u64>,
    pub(crate) msn: u32,
    /// The start carries RENDEZVOUS. Fixed for life: a PSN's content never changes.
    pub(crate) rendezvous: bool,
    /// The start was sent.
    pub(crate) started: bool,
    /// Payload bytes sent at this stage.
    pub(crate) sent: u64,
    /// After CTS: bytes to send, and to which STag.
    pub(crate) granted: u64,
    pub(crate) stag: u32,
    /// Packets that are not acknowledged.
    pub(crate) in_flight: u32,
    /// The completion was written already (FI_INJECT_COMPLETE).
    pub(crate) reported: bool,
}

impl TxEntry {
    /// Everything that this stage sends was sent.
    pub(crate) fn all_sent(&self) -> bool {
        match self.stage {
            TxStage::Eager => self.started && self.sent == self.length,
            TxStage::Announced => self.started,
            TxStage::Granted => self.sent == self.granted,
            TxStage::Parked | TxStage::Local | TxStage::Free => true,
        }
    }

    /// Nothing more will be sent, and all was acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight == 0 && matches!(self.stage, TxStage::Eager | TxStage::Granted) && self.all_sent()
    }

    /// What its completion says.
    pub(crate) fn completion(&self) -> Completion {
        let kind = if self.tag.is_some() { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
        Completion { context: self.context, flags: CompletionFlags::SEND | kind, ..Completion::default() }
    }

    /// Somebody waits for the acknowledgement of this operation.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.flags.contains(OpFlags::INJECT) || (self.flags.contains(OpFlags::COMPLETION) && !self.reported)
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
    /// A control message.
    Control(Control),
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
    /// Eager payload that came before the match.
    pub(crate) staging: Option<Box<[u8]>>,
    pub(crate) target: Option<Target>,
    /// For a message to ourselves whose payload is still with its send.
    pub(crate) local: Option<Key>,
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
        *self = Self::default();
    }
}
