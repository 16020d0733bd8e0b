//! Flags: the one mapping between libfabric's 64-bit flags and the engine's.
//!
//! Responsible for rejecting what is not known. A flag that is not listed here is refused, never ignored: a provider that ignores a flag lies about what it did.

use rdgram_engine::{Access, CompletionFlags, CounterEvents, OpFlags, Orders, Peek};
use rdgram_sys as sys;

use crate::errno::{Errno, Result};

/// When an operation may be reported: the completion levels of `fi_cq(3)`, weakest first.
const LEVELS: [(u64, OpFlags); 4] = [
    (sys::FI_INJECT_COMPLETE, OpFlags::INJECT_COMPLETE),
    (sys::FI_TRANSMIT_COMPLETE, OpFlags::TRANSMIT_COMPLETE),
    (sys::FI_DELIVERY_COMPLETE, OpFlags::DELIVERY_COMPLETE),
    (sys::FI_MATCH_COMPLETE, OpFlags::MATCH_COMPLETE),
];

/// The other transmit flags that the engine is told of.
const SEND_HINTS: [(u64, OpFlags); 3] =
    [(sys::FI_INJECT, OpFlags::INJECT), (sys::FI_MORE, OpFlags::MORE), (sys::FI_FENCE, OpFlags::FENCE)];

/// What a send may carry. FI_PRIORITY is a hint of old headers without effect.
const SEND_KNOWN: u64 = sys::FI_INJECT_COMPLETE
    | sys::FI_TRANSMIT_COMPLETE
    | sys::FI_DELIVERY_COMPLETE
    | sys::FI_MATCH_COMPLETE
    | sys::FI_INJECT
    | sys::FI_MORE
    | sys::FI_FENCE
    | sys::FI_COMPLETION
    | sys::FI_REMOTE_CQ_DATA
    | sys::FI_PRIORITY;

/// What a read may carry: it brings bytes, so there is nothing to inject and nobody at the target to tell.
const READ_KNOWN: u64 = SEND_KNOWN & !(sys::FI_INJECT | sys::FI_REMOTE_CQ_DATA);

/// What an atomic may carry.
const ATOMIC_KNOWN: u64 = SEND_KNOWN & !sys::FI_REMOTE_CQ_DATA;

/// What a receive of untagged messages may carry.
const RECV_KNOWN: u64 = sys::FI_COMPLETION | sys::FI_MORE | sys::FI_MULTI_RECV;

/// What a receive of tagged messages may carry.
const TAGGED_RECV_KNOWN: u64 =
    sys::FI_COMPLETION | sys::FI_MORE | sys::FI_PEEK | sys::FI_CLAIM | sys::FI_DISCARD;

/// What `tx_attr.op_flags` may hold.
pub(crate) const TX_OP_FLAGS: u64 = SEND_KNOWN & !(sys::FI_REMOTE_CQ_DATA | sys::FI_FENCE);

/// What `rx_attr.op_flags` may hold.
pub(crate) const RX_OP_FLAGS: u64 = RECV_KNOWN;

/// Whether and when one direction of an endpoint writes completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reporting {
    /// A completion queue is bound.
    pub bound: bool,
    /// It was bound with FI_SELECTIVE_COMPLETION: only operations with FI_COMPLETION are reported.
    pub selective: bool,
}

impl Reporting {
    /// COMPLETION, when an operation with these flags is reported.
    fn completion(self, flags: u64) -> OpFlags {
        if self.bound && (!self.selective || flags & sys::FI_COMPLETION != 0) {
            OpFlags::COMPLETION
        } else {
            OpFlags::empty()
        }
    }
}

/// The flags of a send or a write, from `fi_sendmsg` and its kin or from `op_flags`.
#[inline]
pub(crate) fn send(flags: u64, reporting: Reporting) -> Result<OpFlags> {
    transmit(flags, SEND_KNOWN, reporting)
}

/// The flags of `fi_readmsg`, and of `fi_fetch_atomicmsg` and its kin: what fetches old values is a read.
#[inline]
pub(crate) fn read(flags: u64, reporting: Reporting) -> Result<OpFlags> {
    transmit(flags, READ_KNOWN, reporting)
}

/// The flags of `fi_atomicmsg`.
#[inline]
pub(crate) fn atomic(flags: u64, reporting: Reporting) -> Result<OpFlags> {
    transmit(flags, ATOMIC_KNOWN, reporting)
}

#[inline]
fn transmit(flags: u64, known: u64, reporting: Reporting) -> Result<OpFlags> {
    if flags & !known != 0 {
        return Err(Errno::BADFLAGS);
    }
    let mut result = reporting.completion(flags);
    for (theirs, ours) in LEVELS.into_iter().chain(SEND_HINTS) {
        result.set(ours, flags & theirs != 0);
    }
    Ok(result)
}

/// The levels, any of which may be named.
const ANY_LEVEL: OpFlags = OpFlags::INJECT_COMPLETE
    .union(OpFlags::TRANSMIT_COMPLETE)
    .union(OpFlags::DELIVERY_COMPLETE)
    .union(OpFlags::MATCH_COMPLETE);

/// Adds the level of a send of `length` bytes that named none: as soon as the buffer may be reused for what is small enough to be copied, else when
/// the peer's endpoint has it.
#[inline]
pub(crate) fn with_level(flags: OpFlags, length: usize, inject_max: usize) -> OpFlags {
    if length <= inject_max && !flags.intersects(ANY_LEVEL) {
        flags | OpFlags::INJECT_COMPLETE
    } else {
        with_target_level(flags)
    }
}

/// Adds the level of a one-sided operation that named none: the target may refuse it, so its completion waits for the target.
#[inline]
pub(crate) fn with_target_level(flags: OpFlags) -> OpFlags {
    if flags.intersects(ANY_LEVEL) { flags } else { flags | OpFlags::TRANSMIT_COMPLETE }
}

/// The flags of an untagged receive.
#[inline]
pub(crate) fn recv(flags: u64, reporting: Reporting) -> Result<OpFlags> {
    if flags & !RECV_KNOWN != 0 {
        return Err(Errno::BADFLAGS);
    }
    let mut result = reporting.completion(flags);
    result.set(OpFlags::MORE, flags & sys::FI_MORE != 0);
    result.set(OpFlags::MULTI_RECV, flags & sys::FI_MULTI_RECV != 0);
    Ok(result)
}

/// What a tagged receive call is really for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaggedRecv {
    /// Post a buffer.
    Post(OpFlags),
    /// Look for a message.
    Peek(Peek),
    /// Receive what a peek claimed.
    Claim,
    /// Drop what a peek claimed.
    Discard,
}

/// The flags of a tagged receive (`fi_tagged(3)`, "FI_PEEK", "FI_CLAIM", "FI_DISCARD").
#[inline]
pub(crate) fn tagged_recv(flags: u64, reporting: Reporting) -> Result<TaggedRecv> {
    if flags & !TAGGED_RECV_KNOWN != 0 {
        return Err(Errno::BADFLAGS);
    }
    let [peek, claim, discard] = [sys::FI_PEEK, sys::FI_CLAIM, sys::FI_DISCARD].map(|bit| flags & bit != 0);
    match (peek, claim, discard) {
        (false, false, false) => Ok(TaggedRecv::Post(recv(flags, reporting)?)),
        (true, false, false) => Ok(TaggedRecv::Peek(Peek::Look)),
        (true, true, false) => Ok(TaggedRecv::Peek(Peek::Claim)),
        (true, false, true) => Ok(TaggedRecv::Peek(Peek::Discard)),
        (false, true, false) => Ok(TaggedRecv::Claim),
        (false, true, true) => Ok(TaggedRecv::Discard),
        (false, false, true) | (true, true, true) => Err(Errno::BADFLAGS),
    }
}

/// Pairs of a completion's flags, ours by bit number.
const COMPLETION_BITS: [(CompletionFlags, u64); 13] = [
    (CompletionFlags::SEND, sys::FI_SEND),
    (CompletionFlags::RECV, sys::FI_RECV),
    (CompletionFlags::MSG, sys::FI_MSG),
    (CompletionFlags::TAGGED, sys::FI_TAGGED),
    (CompletionFlags::RMA, sys::FI_RMA),
    (CompletionFlags::ATOMIC, sys::FI_ATOMIC),
    (CompletionFlags::READ, sys::FI_READ),
    (CompletionFlags::WRITE, sys::FI_WRITE),
    (CompletionFlags::REMOTE_READ, sys::FI_REMOTE_READ),
    (CompletionFlags::REMOTE_WRITE, sys::FI_REMOTE_WRITE),
    (CompletionFlags::REMOTE_CQ_DATA, sys::FI_REMOTE_CQ_DATA),
    (CompletionFlags::MULTI_RECV, sys::FI_MULTI_RECV),
    (CompletionFlags::CLAIM, sys::FI_CLAIM),
];

/// Bits that each of the two tables below translates.
const HALF: u32 = 7;

/// The translation of every combination of seven of our bits, so that a completion costs two loads.
const fn half_table(shift: u32) -> [u64; 1 << HALF] {
    let mut table = [0; 1 << HALF];
    let mut combination = 0;
    while combination < table.len() {
        let mut bit = 0;
        while bit < COMPLETION_BITS.len() {
            let (ours, theirs) = COMPLETION_BITS[bit];
            if (combination as u64) << shift & ours.bits() as u64 != 0 {
                table[combination] |= theirs;
            }
            bit += 1;
        }
        combination += 1;
    }
    table
}

static LOW: [u64; 1 << HALF] = half_table(0);
static HIGH: [u64; 1 << HALF] = half_table(HALF);

/// The flags of a completion.
#[inline]
pub(crate) fn completion(flags: CompletionFlags) -> u64 {
    const MASK: u32 = (1 << HALF) - 1;
    LOW[(flags.bits() & MASK) as usize] | HIGH[(flags.bits() >> HALF & MASK) as usize]
}

/// What a counter is bound for.
pub(crate) fn counter_events(flags: u64) -> Result<CounterEvents> {
    const KNOWN: [(u64, CounterEvents); 6] = [
        (sys::FI_SEND, CounterEvents::SEND),
        (sys::FI_RECV, CounterEvents::RECV),
        (sys::FI_READ, CounterEvents::READ),
        (sys::FI_WRITE, CounterEvents::WRITE),
        (sys::FI_REMOTE_READ, CounterEvents::REMOTE_READ),
        (sys::FI_REMOTE_WRITE, CounterEvents::REMOTE_WRITE),
    ];
    let mut events = CounterEvents::empty();
    let mut rest = flags;
    for (theirs, ours) in KNOWN {
        events.set(ours, flags & theirs != 0);
        rest &= !theirs;
    }
    if rest == 0 { Ok(events) } else { Err(Errno::BADFLAGS) }
}

/// The orders of `fi_tx_attr.msg_order` that cost something. Those among RMA operations alone are kept as part of those among all.
pub(crate) fn orders(msg_order: u64) -> Orders {
    const AMONG_RMA: [(u64, Orders); 4] = [
        (sys::FI_ORDER_RMA_RAR, Orders::RAR),
        (sys::FI_ORDER_RMA_RAW, Orders::RAW),
        (sys::FI_ORDER_RMA_WAR, Orders::WAR),
        (sys::FI_ORDER_RMA_WAW, Orders::WAW),
    ];
    #[allow(clippy::cast_possible_truncation, reason = "the bits of the type are libfabric's lowest")]
    let among_all = Orders::from_bits_truncate(msg_order as u16);
    let among_rma = AMONG_RMA.into_iter().filter(|(bit, _)| msg_order & bit != 0);
    among_rma.fold(among_all, |orders, (_, order)| orders | order)
}

/// What a region is registered for.
pub(crate) fn access(access: u64) -> Result<Access> {
    const KNOWN: [(u64, Access); 6] = [
        (sys::FI_SEND, Access::SEND),
        (sys::FI_RECV, Access::RECV),
        (sys::FI_READ, Access::READ),
        (sys::FI_WRITE, Access::WRITE),
        (sys::FI_REMOTE_READ, Access::REMOTE_READ),
        (sys::FI_REMOTE_WRITE, Access::REMOTE_WRITE),
    ];
    let mut result = Access::empty();
    let mut rest = access;
    for (theirs, ours) in KNOWN {
        result.set(ours, access & theirs != 0);
        rest &= !theirs;
    }
    if rest == 0 { Ok(result) } else { Err(Errno::INVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reporting = Reporting { bound: true, selective: false };
    const SELECTIVE: Reporting = Reporting { bound: true, selective: true };
    const NONE: Reporting = Reporting { bound: false, selective: false };

    #[test]
    fn completions_follow_the_binding() {
        assert_eq!(send(0, ALL), Ok(OpFlags::COMPLETION));
        assert_eq!(send(0, SELECTIVE), Ok(OpFlags::empty()));
        assert_eq!(send(sys::FI_COMPLETION, SELECTIVE), Ok(OpFlags::COMPLETION));
        assert_eq!(send(sys::FI_COMPLETION, NONE), Ok(OpFlags::empty()));
        assert_eq!(recv(sys::FI_MULTI_RECV, SELECTIVE), Ok(OpFlags::MULTI_RECV));
    }

    #[test]
    fn every_unknown_bit_is_refused() {
        for bit in (0..64).map(|shift| 1_u64 << shift) {
            assert_eq!(send(bit, NONE).is_err(), bit & SEND_KNOWN == 0, "send {bit:#x}");
            assert_eq!(read(bit, NONE).is_err(), bit & READ_KNOWN == 0, "read {bit:#x}");
            assert_eq!(atomic(bit, NONE).is_err(), bit & ATOMIC_KNOWN == 0, "atomic {bit:#x}");
            assert_eq!(recv(bit, NONE).is_err(), bit & RECV_KNOWN == 0, "recv {bit:#x}");
            // FI_DISCARD is known but says nothing alone.
            let tagged = bit & TAGGED_RECV_KNOWN != 0 && bit != sys::FI_DISCARD;
            assert_eq!(tagged_recv(bit, NONE).is_ok(), tagged, "tagged {bit:#x}");
        }
    }

    #[test]
    fn levels_default_by_size_and_are_kept_when_given() {
        assert_eq!(with_level(OpFlags::empty(), 8, 64), OpFlags::INJECT_COMPLETE);
        assert_eq!(with_level(OpFlags::empty(), 65, 64), OpFlags::TRANSMIT_COMPLETE);
        assert_eq!(with_level(OpFlags::DELIVERY_COMPLETE, 8, 64), OpFlags::DELIVERY_COMPLETE);
        assert_eq!(with_target_level(OpFlags::INJECT), OpFlags::INJECT | OpFlags::TRANSMIT_COMPLETE);
        assert_eq!(with_target_level(OpFlags::INJECT_COMPLETE), OpFlags::INJECT_COMPLETE);
        let both = send(sys::FI_MATCH_COMPLETE | sys::FI_DELIVERY_COMPLETE, NONE);
        assert_eq!(both, Ok(OpFlags::MATCH_COMPLETE | OpFlags::DELIVERY_COMPLETE));
    }

    #[test]
    fn peek_claim_and_discard_combine_as_documented() {
        let p = sys::FI_PEEK | sys::FI_COMPLETION;
        assert_eq!(tagged_recv(p, SELECTIVE), Ok(TaggedRecv::Peek(Peek::Look)));
        assert_eq!(tagged_recv(p | sys::FI_CLAIM, SELECTIVE), Ok(TaggedRecv::Peek(Peek::Claim)));
        assert_eq!(tagged_recv(p | sys::FI_DISCARD, SELECTIVE), Ok(TaggedRecv::Peek(Peek::Discard)));
        assert_eq!(tagged_recv(sys::FI_CLAIM, SELECTIVE), Ok(TaggedRecv::Claim));
        assert_eq!(tagged_recv(sys::FI_CLAIM | sys::FI_DISCARD, SELECTIVE), Ok(TaggedRecv::Discard));
        assert_eq!(tagged_recv(0, SELECTIVE), Ok(TaggedRecv::Post(OpFlags::empty())));
    }

    #[test]
    fn the_tables_translate_every_bit_of_a_completion() {
        for (ours, theirs) in COMPLETION_BITS {
            assert_eq!(completion(ours), theirs);
        }
        let tagged = CompletionFlags::RECV | CompletionFlags::TAGGED | CompletionFlags::REMOTE_CQ_DATA;
        assert_eq!(completion(tagged), sys::FI_RECV | sys::FI_TAGGED | sys::FI_REMOTE_CQ_DATA);
        assert_eq!(
            completion(CompletionFlags::all()).count_ones(),
            CompletionFlags::all().bits().count_ones()
        );
    }

    #[test]
    fn orders_that_always_hold_cost_nothing() {
        assert_eq!(orders(sys::FI_ORDER_SAS | sys::FI_ORDER_ATOMIC_WAW), Orders::empty());
        assert_eq!(orders(sys::FI_ORDER_SAW | sys::FI_ORDER_WAW), Orders::SAW | Orders::WAW);
        assert_eq!(orders(sys::FI_ORDER_RMA_RAW), Orders::RAW);
        let named = [
            (sys::FI_ORDER_RAR, Orders::RAR),
            (sys::FI_ORDER_RAW, Orders::RAW),
            (sys::FI_ORDER_RAS, Orders::RAS),
            (sys::FI_ORDER_WAR, Orders::WAR),
            (sys::FI_ORDER_WAW, Orders::WAW),
            (sys::FI_ORDER_WAS, Orders::WAS),
            (sys::FI_ORDER_SAR, Orders::SAR),
            (sys::FI_ORDER_SAW, Orders::SAW),
        ];
        for (theirs, ours) in named {
            assert_eq!(u64::from(ours.bits()), theirs);
        }
    }

    #[test]
    fn bindings_and_access_refuse_what_they_do_not_know() {
        assert_eq!(
            counter_events(sys::FI_READ | sys::FI_WRITE),
            Ok(CounterEvents::READ | CounterEvents::WRITE)
        );
        assert_eq!(counter_events(sys::FI_MORE), Err(Errno::BADFLAGS));
        assert_eq!(access(sys::FI_REMOTE_READ), Ok(Access::REMOTE_READ));
        assert_eq!(access(1 << 60), Err(Errno::INVAL));
    }
}
