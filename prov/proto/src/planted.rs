//! Defects planted on purpose, for judging the simulator: it must find every one of them. Without the feature `planted` nothing here costs or changes anything.
//!
//! A defect is selected per thread, so that seeds with and without it run side by side.

/// A defect that can be planted, here or in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Duplicates are accepted as new.
    DedupOff,
    /// The SACK bitmap is off by one.
    WrongSackBase,
    /// Neither tail probe nor timeout fires when a single packet is in flight.
    UnackedTail,
    /// Bytes of a packet that was retransmitted stay counted as in flight.
    LostCredit,
    /// Older and newer incarnations of a peer are taken for the known one.
    GhostIncarnation,
    /// Operations complete by acknowledgement whatever the refusal count says.
    RefusalIgnored,
    /// A retransmission carries the operation of the next packet.
    RetransmitWrongToken,
    /// The cumulative acknowledgement goes up to the newest packet, over gaps.
    CumulativeOverGap,
    /// PSNs are compared as integers: wrong where they wrap.
    WindowWrap,
    /// A selective acknowledgement is taken for a cumulative one.
    SackIsCumulative,
    /// A context that was cold expects the peer's packets from the first on.
    ThawedAnew,
    /// Engine: a packet is acknowledged before its payload is placed.
    AckBeforePlacement,
    /// Engine: a message completes although a fragment is missing.
    CompleteBeforeLastFragment,
    /// Engine: message starts are matched as they arrive.
    MatchOutOfOrder,
    /// Engine: the grant for a refused message is not sent.
    LostRnrGrant,
    /// Engine: an operation completes twice.
    DoubleCompletion,
    /// Engine: staging memory is not given back.
    PoolLeak,
    /// Engine: messages to oneself overtake one another.
    SelfSendReorder,
    /// Engine: a long message is written over the end of the buffer.
    TruncateOverrun,
    /// Engine: a duplicate of an atomic is executed again.
    AtomicRepeated,
    /// Engine: atomics are executed as they arrive.
    AtomicOutOfOrder,
    /// Engine: a write is reported with its last packet, whatever is missing before it.
    WriteReportedAtLastPacket,
    /// Engine: answers go on after their region was closed.
    ClosedRegionRead,
    /// Engine: an item that found no room is taken for put.
    FullItemLost,
    /// Engine: a NACK does not count as a refusal.
    NackNotCounted,
    /// Engine: an access may reach one byte beyond its region.
    BoundsOffByOne,
    /// Engine: a fenced operation waits for nothing.
    FenceIgnored,
    /// Engine: the answer of an atomic is not sent again.
    AnswerLost,
    /// Engine: a write of several packets counts twice.
    CountedTwice,
    /// Engine: a read completes with the last packet of its answer, whatever is missing before it.
    ReadDoneAtLastPacket,
    /// Engine: a message id is taken for any operation that has the same entry.
    GenerationIgnored,
    /// Engine: messages in multi-receive buffers complete as they become whole.
    MultiRecvOutOfOrder,
    /// Engine: the acknowledgement of a bundle is taken for its first message alone.
    BundleHalfAcked,
    /// Engine: a bundle's last message is not placed.
    BundleTailLost,
    /// Engine: no more messages wait for an earlier one than the window has packets.
    AheadOfWindowDropped,
    /// Engine: a long message gets its first grant and no other.
    LostGrant,
    /// Engine: a grant that arrives late takes back what a later one gave.
    GrantShrinks,
    /// Engine: what is granted to a sender that ended stays counted.
    GrantLeak,
    /// Engine: what comes next is received over bytes that were placed already.
    DirectAfterPlaced,
    /// Engine: payload is taken for directly placed although it belongs elsewhere in its transfer.
    DirectUnchecked,
    /// Engine: whatever is as long as the packet before is taken for the next one of its train.
    AlikeUnchecked,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 41] = [
        Self::DedupOff,
        Self::WrongSackBase,
        Self::UnackedTail,
        Self::LostCredit,
        Self::GhostIncarnation,
        Self::RefusalIgnored,
        Self::RetransmitWrongToken,
        Self::CumulativeOverGap,
        Self::WindowWrap,
        Self::SackIsCumulative,
        Self::ThawedAnew,
        Self::AckBeforePlacement,
        Self::CompleteBeforeLastFragment,
        Self::MatchOutOfOrder,
        Self::LostRnrGrant,
        Self::DoubleCompletion,
        Self::PoolLeak,
        Self::SelfSendReorder,
        Self::TruncateOverrun,
        Self::AtomicRepeated,
        Self::AtomicOutOfOrder,
        Self::WriteReportedAtLastPacket,
        Self::ClosedRegionRead,
        Self::FullItemLost,
        Self::NackNotCounted,
        Self::BoundsOffByOne,
        Self::FenceIgnored,
        Self::AnswerLost,
        Self::CountedTwice,
        Self::ReadDoneAtLastPacket,
        Self::GenerationIgnored,
        Self::MultiRecvOutOfOrder,
        Self::BundleHalfAcked,
        Self::BundleTailLost,
        Self::AheadOfWindowDropped,
        Self::LostGrant,
        Self::GrantShrinks,
        Self::GrantLeak,
        Self::DirectAfterPlaced,
        Self::DirectUnchecked,
        Self::AlikeUnchecked,
    ];
}

#[cfg(feature = "planted")]
mod selection {
    use core::cell::Cell;

    use super::Defect;

    std::thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// Selects the defect of the calling thread, or none.
    pub fn plant(defect: Option<Defect>) {
        PLANTED.set(defect);
    }

    /// Whether `defect` is selected on this thread.
    #[inline]
    #[must_use]
    pub fn planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
    }
}

#[cfg(feature = "planted")]
pub use selection::{plant, planted};

/// Whether `defect` is planted: never, without the feature.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn planted(_defect: Defect) -> bool {
    false
}
