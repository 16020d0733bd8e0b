//! The values that a context takes and gives. Must never hold state.

use core::fmt;

use rdgram_wire::Llp;

use crate::planted::{Defect, planted};

/// Whether an acknowledgement is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckNeed {
    /// Nothing is owed.
    No,
    /// Once it has waited for 100 us (protocol.md, section 4): data that goes the other way may carry it.
    Later,
    /// At the latest in the next progress call that finds nothing to receive.
    Idle,
    /// In this progress call.
    Now,
}

/// What happened in a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The packet sent with this token was accepted, and no refusal that concerns it is missing. Exactly once per token.
    Acked(T),
    /// The context is dead: no further event comes, nothing is sent. Tokens not acknowledged are forgotten.
    Dead(Death),
    /// The peer knows this context: headers built from now on carry no SYN.
    Established,
    /// The record joined was of a context that the peer has given up, and never showed that it knows this one: it is forgotten, and with it all that was received.
    /// What was sent stands and is sent again. A late packet of that record must not join again: this is its incarnation and its cookie.
    Unjoined {
        /// The incarnation of the record.
        incarnation: u64,
        /// The cookie it issued.
        cookie: u32,
    },
    /// Datagrams may be this large now.
    SegmentGrew(u16),
}

/// Why a context is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Death {
    /// The peer's port is closed (ICMP port unreachable, confirmed).
    Refused,
    /// The peer's host stays unreachable.
    Unreachable,
    /// The peer said that it closes.
    Closed,
    /// The peer is another incarnation now.
    Restarted,
    /// The peer did not answer for the peer timeout.
    TimedOut,
    /// The peer speaks no version that we do.
    Version,
}

impl fmt::Display for Death {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Refused => "the peer's port is closed",
            Self::Unreachable => "the peer's host is unreachable",
            Self::Closed => "the peer closed",
            Self::Restarted => "the peer was restarted",
            Self::TimedOut => "the peer does not answer",
            Self::Version => "the peer speaks another version of the protocol",
        })
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// New DATA: place it now, before anything else.
    Accept,
    /// DATA accepted before: drop it.
    Duplicate,
    /// Not DATA. The header is processed; go on with the body.
    NotData,
    /// Drop it and count the peer's fault.
    Drop(PeerFault),
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerFault {
    /// The cookie is not ours.
    Cookie,
    /// It does not name this context.
    Context,
    /// The PSN is outside the window.
    Window,
    /// Of another incarnation, or of another context, than the one that is known.
    Stale,
    /// The versions spoken do not include ours.
    Version,
    /// It acknowledges what was never sent.
    Acknowledgement,
    /// The context is dead.
    Dead,
}

impl fmt::Display for PeerFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cookie => "wrong cookie",
            Self::Context => "wrong context",
            Self::Window => "PSN outside the window",
            Self::Stale => "another incarnation",
            Self::Version => "another version",
            Self::Acknowledgement => "acknowledges what was never sent",
            Self::Dead => "the context is dead",
        })
    }
}

/// A packet to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission<T> {
    /// Its header, complete but for length and integrity.
    pub llp: Llp,
    /// What it was sent with.
    pub token: T,
    /// It is too large for the path: send it with DF clear.
    pub fragment: bool,
}

/// How an incarnation compares with the one known for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incarnation {
    /// It joins the context there is.
    Same,
    /// It replaces the context there is, or is the first.
    Newer,
    /// Drop it.
    Older,
}

/// Compares the incarnation seen in a packet with the one known for its name (protocol.md, section 3).
#[must_use]
pub fn supersedes(known: Option<u64>, seen: u64) -> Incarnation {
    match known {
        Some(known) if known == seen => Incarnation::Same,
        Some(_) if planted(Defect::GhostIncarnation) => Incarnation::Newer,
        Some(known) if seen < known => Incarnation::Older,
        _ => Incarnation::Newer,
    }
}

/// What a context counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// DATA packets, each once.
    pub sent: u64,
    /// Further transmissions of them.
    pub retransmitted: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Of those, or of retransmissions, the needless ones.
    pub spurious: u64,
    /// Tail probes.
    pub tail_probes: u64,
    /// Expired retransmission timeouts.
    pub timeouts: u64,
    /// DATA packets accepted.
    pub received: u64,
    /// DATA packets accepted before.
    pub duplicates: u64,
    /// Packets dropped by the peer's fault.
    pub faults: u64,
    /// ACK packets.
    pub acks_sent: u64,
    /// DATA packets that arrived marked Congestion Experienced.
    pub ce_received: u64,
    /// Probes of the path.
    pub probes: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "sent {} resent {} lost {} spurious {} tail probes {} timeouts {} received {} duplicates {} faults {} acks {} ce {} probes {}",
            self.sent,
            self.retransmitted,
            self.lost,
            self.spurious,
            self.tail_probes,
            self.timeouts,
            self.received,
            self.duplicates,
            self.faults,
            self.acks_sent,
            self.ce_received,
            self.probes,
        )
    }
}
