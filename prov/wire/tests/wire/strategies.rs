//! Generated values: every header, with the edges of its integers drawn often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use proptest::prelude::*;
use rdgram_wire::{
    Ack, AtomicOpcode, Control, Flags, Kind, Llp, Psn, Reset, ResetReason, SACK_WORDS, Segment, Start, Syn,
};

use crate::datagram::{Datagram, OwnedBody};

pub(crate) fn u16s() -> impl Strategy<Value = u16> {
    prop_oneof![4 => any::<u16>(), 1 => Just(0), 1 => Just(1), 1 => Just(u16::MAX)]
}

pub(crate) fn u32s() -> impl Strategy<Value = u32> {
    prop_oneof![4 => any::<u32>(), 1 => Just(0), 1 => Just(1), 1 => Just(1 << 31), 1 => Just(u32::MAX)]
}

pub(crate) fn u64s() -> impl Strategy<Value = u64> {
    prop_oneof![4 => any::<u64>(), 1 => Just(0), 1 => Just(1), 1 => Just(1 << 32), 1 => Just(u64::MAX)]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Data),
        Just(Kind::Ack),
        Just(Kind::Reset),
        Just(Kind::Close),
        Just(Kind::Probe),
        Just(Kind::ProbeAck),
        Just(Kind::Bundle)
    ]
}

prop_compose! {
    /// A header that stands by itself: without a context it has SYN, or is a RESET.
    pub(crate) fn llps()(
        kind in kinds(),
        flags in any::<u8>().prop_map(Flags::from_bits_truncate),
        (length, path, tx_number, echo_tx) in (u16s(), u16s(), u16s(), u16s()),
        (echo_delay_us, refusals, credit_packets) in (u16s(), u16s(), u16s()),
        (dst_ctx, psn, cumulative, cookie, integrity) in (u32s(), u32s(), u32s(), u32s(), u32s()),
    ) -> Llp {
        let known = flags.contains(Flags::SYN) || kind == Kind::Reset;
        Llp {
            kind, flags, length, path, tx_number, echo_tx, echo_delay_us, refusals, credit_packets, cookie, integrity,
            dst_ctx: if known { dst_ctx } else { dst_ctx.max(1) },
            src_ep: 0,
            dst_ep: 0,
            psn: Psn(psn),
            cumulative: Psn(cumulative),
        }
    }
}

pub(crate) fn names() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<u32>(), u16s())
            .prop_map(|(ip, port)| SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(ip)), port)),
        (any::<u128>(), u16s(), u32s()).prop_map(|(ip, port, scope)| SocketAddrV6::new(
            Ipv6Addr::from_bits(ip),
            port,
            0,
            scope
        )
        .into()),
    ]
}

prop_compose! {
    pub(crate) fn syns()(
        version_min in 0u8..=1,
        version_max in 1u8..,
        (ctx, initial_psn, features, cookie) in (u32s(), u32s(), u32s(), u32s()),
        (credit_bytes, staging_max, incarnation) in (u32s(), u32s(), u64s()),
        (segment_max, credit_packets, name) in (u16s(), u16s(), names()),
    ) -> Syn {
        Syn {
            version_min, version_max, incarnation, features, credit_packets, credit_bytes, staging_max, name,
            ctx: ctx.max(1),
            initial_psn: Psn(initial_psn),
            segment_max: segment_max.max(Syn::SEGMENT_MIN),
            cookie: cookie.max(1),
        }
    }
}

prop_compose! {
    /// Bitmaps with `words` right: sparse, dense and empty ones.
    pub(crate) fn acks()(
        (credit_bytes, ce_count) in (u32s(), u32s()),
        used in 0..=SACK_WORDS,
        words in prop::array::uniform16(u64s()),
    ) -> Ack {
        let mut sack = [0; SACK_WORDS];
        sack[..used].copy_from_slice(&words[..used]);
        sack[SACK_WORDS - 1] &= u64::MAX >> 1;
        let words = sack.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        Ack { credit_bytes, ce_count, words: u16::try_from(words).expect("at most 16"), sack }
    }
}

pub(crate) fn resets() -> impl Strategy<Value = Reset> {
    let reasons = prop_oneof![Just(ResetReason::UnknownContext), Just(ResetReason::Version)];
    (u32s(), u32s(), u64s(), reasons).prop_map(|(psn, cookie, incarnation, reason)| Reset {
        psn: Psn(psn),
        cookie,
        incarnation,
        reason,
    })
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(Vec::new()), 4 => prop::collection::vec(any::<u8>(), 0..100)]
}

fn starts() -> impl Strategy<Value = Start> {
    (any::<bool>(), prop::option::of(u64s()), prop::option::of(u64s()))
        .prop_map(|(rendezvous, tag, data)| Start { rendezvous, tag, data })
}

prop_compose! {
    /// An extended send with its payload, of a message that fits: whole, first, middle, last, empty, rendezvous.
    fn extended_sends()(
        (msn, message_id, total) in (u32s(), u32s(), u64s()),
        start in starts(),
        offset in prop_oneof![Just(0), u32s()],
        payload in payloads(),
        more in prop_oneof![Just(0), 1u64.., 1u64..100],
    ) -> (Segment, Vec<u8>) {
        if offset == 0 && start.rendezvous {
            let segment = Segment::ExtendedSend { msn, offset, last: true, message_id, total, start: Some(start) };
            return (segment, Vec::new());
        }
        let more = if payload.is_empty() { 0 } else { more };
        // Only an empty message has a segment without payload.
        let offset = if payload.is_empty() { 0 } else { offset };
        let total = (u64::from(offset) + payload.len() as u64).saturating_add(more);
        let start = (offset == 0).then_some(Start { rendezvous: false, ..start });
        let last = u64::from(offset) + payload.len() as u64 == total;
        (Segment::ExtendedSend { msn, offset, last, message_id, total, start }, payload)
    }
}

prop_compose! {
    fn tagged()(
        response in any::<bool>(), stag in u32s(), offset in u64s(), last in any::<bool>(), payload in payloads(),
    ) -> (Segment, Vec<u8>) {
        let offset = offset.min(u64::MAX - payload.len() as u64);
        let segment = if response {
            Segment::ReadResponse { stag, offset, last }
        } else {
            Segment::Write { stag, offset, last }
        };
        (segment, payload)
    }
}

prop_compose! {
    /// An extended write with its payload: whole, part, last, empty.
    fn extended_writes()(
        (message_id, key, offset) in (u32s(), u64s(), u64s()),
        (data, report, last) in (prop::option::of(u64s()), any::<bool>(), any::<bool>()),
        payload in payloads(),
        more in prop_oneof![Just(0), 1u64.., 1u64..100],
    ) -> (Segment, Vec<u8>) {
        let length = payload.len() as u64;
        // Only an empty operation has a segment without payload.
        let total = if length == 0 { 0 } else { length.saturating_add(more) };
        let last = last || total == length;
        let offset = offset.min(u64::MAX - length);
        (Segment::ExtendedWrite { offset, last, message_id, key, total, data, report }, payload)
    }
}

prop_compose! {
    fn extended_atomics()(
        (msn, message_id, sink_stag, count) in (u32s(), u32s(), u32s(), u32s()),
        (operation, datatype, fetch, compare) in (any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()),
        (key, offset) in (u64s(), u64s()),
    ) -> Segment {
        Segment::ExtendedAtomic {
            msn, operation, datatype, fetch, compare, message_id, sink_stag, count, key, offset,
        }
    }
}

fn extended_reads() -> impl Strategy<Value = Segment> {
    (u32s(), u32s(), u64s(), any::<bool>(), u64s(), u64s(), u64s()).prop_map(
        |(message_id, sink_stag, sink_offset, part, key, offset, length)| Segment::ExtendedRead {
            message_id,
            sink_stag,
            sink_offset,
            part,
            key,
            offset,
            length,
        },
    )
}

fn reads() -> impl Strategy<Value = Segment> {
    (u32s(), u32s(), u64s(), u32s(), u32s(), u64s()).prop_map(
        |(msn, sink_stag, sink_offset, length, source_stag, source_offset)| Segment::ReadRequest {
            msn,
            sink_stag,
            sink_offset,
            length,
            source_stag,
            source_offset,
        },
    )
}

prop_compose! {
    fn atomic_requests()(
        (msn, request, stag, offset) in (u32s(), u32s(), u32s(), u64s()),
        opcode in prop_oneof![Just(AtomicOpcode::FetchAdd), Just(AtomicOpcode::CmpSwap)],
        (operand, mask, compare, compare_mask) in (u64s(), u64s(), u64s(), u64s()),
    ) -> Segment {
        Segment::AtomicRequest { msn, opcode, request, stag, offset, operand, mask, compare, compare_mask }
    }
}

fn without_payload() -> impl Strategy<Value = Segment> {
    prop_oneof![
        reads().boxed(),
        atomic_requests().boxed(),
        (u32s(), any::<bool>(), any::<[u8; 8]>()).prop_map(|(msn, solicited, data)| Segment::Immediate {
            msn,
            solicited,
            data
        }),
        (u32s(), u32s(), u64s()).prop_map(|(msn, request, value)| Segment::AtomicResponse {
            msn,
            request,
            value
        }),
        (u32s(), u32s(), u64s()).prop_map(|(message_id, stag, length)| Segment::Control(Control::Cts {
            message_id,
            stag,
            length
        })),
        (u32s(), u16s()).prop_map(|(message_id, index)| Segment::Control(Control::Rnr { message_id, index })),
        Just(Segment::Control(Control::Nop)),
        (u32s(), u16s(), u16s()).prop_map(|(message_id, index, code)| Segment::Control(Control::Nack {
            message_id,
            index,
            code
        })),
        u32s().prop_map(|message_id| Segment::Control(Control::Done { message_id })),
        u32s().prop_map(|message_id| Segment::Control(Control::Void { message_id })),
        (u32s(), u32s(), u64s(), u64s()).prop_map(|(message_id, stag, length, granted)| {
            Segment::Control(Control::Grant { message_id, stag, length, granted })
        }),
        extended_reads().boxed(),
    ]
}

/// Every segment, with a payload that it may have.
pub(crate) fn segments() -> impl Strategy<Value = (Segment, Vec<u8>)> {
    prop_oneof![
        2 => (u32s(), payloads()).prop_map(|(msn, payload)| (Segment::Send { msn }, payload)),
        4 => extended_sends().boxed(),
        2 => tagged().boxed(),
        3 => extended_writes().boxed(),
        2 => (extended_atomics(), payloads()).boxed(),
        4 => without_payload().prop_map(|segment| (segment, Vec::new())).boxed(),
        1 => (u32s(), 0u8..16, 0u8..16, any::<u8>(), payloads()).prop_map(
            |(msn, layer, etype, code, payload)| (Segment::Terminate { msn, layer, etype, code }, payload)
        ),
    ]
}

fn bodies() -> impl Strategy<Value = OwnedBody> {
    prop_oneof![
        6 => segments().prop_map(|(segment, payload)| OwnedBody::Data { segment, payload }).boxed(),
        2 => prop::collection::vec(segments(), 1..5).prop_map(OwnedBody::Bundle).boxed(),
        2 => acks().prop_map(OwnedBody::Ack).boxed(),
        1 => resets().prop_map(OwnedBody::Reset).boxed(),
        1 => Just(OwnedBody::Close),
        1 => (0usize..200).prop_map(OwnedBody::Probe),
        1 => Just(OwnedBody::ProbeAck),
    ]
}

/// Every packet.
pub(crate) fn datagrams() -> impl Strategy<Value = Datagram> {
    (llps().boxed(), prop::option::of(syns().boxed()), bodies().boxed()).prop_map(|(mut llp, syn, body)| {
        if matches!(body, OwnedBody::Ack(_)) {
            llp.flags.insert(Flags::ACKED);
        }
        if matches!(body, OwnedBody::Bundle(_)) {
            llp.flags.insert(Flags::FULL);
        }
        if syn.is_none() && !matches!(body, OwnedBody::Reset(_)) {
            llp.dst_ctx = llp.dst_ctx.max(1);
        }
        Datagram { llp, syn, body }
    })
}
