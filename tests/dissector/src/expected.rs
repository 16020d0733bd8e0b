//! What the dissector has to show of a datagram: the wire crate's values under the dissector's names. The only place that knows both.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rdgram_wire::{Ack, Body, Control, Flags, Llp, Packet, Reset, Segment, Start, Syn, WINDOW};

/// Fields in order of appearance, each with its values in order.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// By the dissector's names.
    pub(crate) fields: BTreeMap<&'static str, Vec<String>>,
    /// Items of bundles that are malformed.
    pub(crate) malformed_items: usize,
}

impl Expected {
    fn put(&mut self, name: &'static str, value: impl Into<u64>) {
        self.text(name, value.into().to_string());
    }

    fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.entry(name).or_default().push(value.into());
    }

    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    /// One datagram more.
    pub(crate) fn add(&mut self, bytes: &[u8], packet: &Packet<'_>) {
        self.llp(bytes, &packet.llp);
        self.put("rdgram.integrity.status", u8::from(integrity_is_right(bytes, packet)));
        if let Some(syn) = &packet.syn {
            self.syn(syn);
        }
        match &packet.body {
            Body::Data { segment, payload } => self.segment(segment, payload),
            Body::Bundle(bundle) => {
                let body = &bytes[Llp::LENGTH + packet.syn.map_or(0, |_| syn_length(bytes))..];
                self.lengths(body);
                self.put("rdgram.bundle.items", bundle.items().count() as u64);
                for item in bundle.items() {
                    match item {
                        Ok((segment, payload)) => self.segment(&segment, payload),
                        Err(_) => self.malformed_items += 1,
                    }
                }
            }
            Body::Ack(ack) => self.ack(ack),
            Body::Reset(reset) => self.reset(reset),
            Body::Close | Body::Probe | Body::ProbeAck => {}
        }
    }

    fn lengths(&mut self, mut items: &[u8]) {
        while let Some((frame, rest)) = items.split_first_chunk() {
            let length = u16::from_be_bytes(*frame);
            self.put("rdgram.item_length", length);
            items = &rest[usize::from(length)..];
        }
    }

    fn llp(&mut self, bytes: &[u8], llp: &Llp) {
        self.put("rdgram.version", bytes[0] >> 4);
        self.put("rdgram.kind", llp.kind as u8);
        // What is not defined is shown all the same.
        self.put("rdgram.flags", bytes[1]);
        for (name, flag) in [
            ("rdgram.flags.syn", Flags::SYN),
            ("rdgram.flags.ar", Flags::AR),
            ("rdgram.flags.retx", Flags::RETX),
            ("rdgram.flags.full", Flags::FULL),
            ("rdgram.flags.echo", Flags::ECHO),
            ("rdgram.flags.acked", Flags::ACKED),
        ] {
            self.put(name, llp.flags.contains(flag));
        }
        self.put("rdgram.length", llp.length);
        self.put("rdgram.ctx", llp.dst_ctx);
        self.put("rdgram.src_ep", llp.src_ep);
        self.put("rdgram.dst_ep", llp.dst_ep);
        self.put("rdgram.psn", llp.psn.0);
        self.put("rdgram.path", llp.path);
        self.put("rdgram.tx", llp.tx_number);
        self.put("rdgram.ack", llp.cumulative.0);
        self.put("rdgram.echo", llp.echo_tx);
        self.put("rdgram.echo_delay", llp.echo_delay_us);
        self.put("rdgram.refusals", llp.refusals);
        self.put("rdgram.credit", llp.credit_packets);
        self.put("rdgram.cookie", llp.cookie);
        self.put("rdgram.integrity", llp.integrity);
    }

    fn syn(&mut self, syn: &Syn) {
        self.put("rdgram.syn.version_min", syn.version_min);
        self.put("rdgram.syn.version_max", syn.version_max);
        self.put("rdgram.syn.ctx", syn.ctx);
        self.put("rdgram.syn.incarnation", syn.incarnation);
        self.put("rdgram.syn.psn", syn.initial_psn.0);
        self.put("rdgram.syn.features", syn.features);
        self.put("rdgram.syn.features.bundle", syn.features & Syn::BUNDLES != 0);
        self.put("rdgram.syn.features.grant", syn.features & Syn::GRANTS != 0);
        self.put("rdgram.syn.segment", syn.segment_max);
        self.put("rdgram.syn.credit_packets", syn.credit_packets);
        self.put("rdgram.syn.credit_bytes", syn.credit_bytes);
        self.put("rdgram.syn.staging", syn.staging_max);
        self.put("rdgram.syn.port", syn.name.port());
        self.put("rdgram.syn.cookie", syn.cookie);
        match syn.name {
            SocketAddr::V4(name) => {
                self.put("rdgram.syn.family", 4u8);
                self.text("rdgram.syn.ipv4", name.ip().to_string());
            }
            SocketAddr::V6(name) => {
                self.put("rdgram.syn.family", 6u8);
                self.text("rdgram.syn.ipv6", name.ip().to_string());
            }
        }
    }

    fn ack(&mut self, ack: &Ack) {
        self.put("rdgram.sack.credit_bytes", ack.credit_bytes);
        self.put("rdgram.sack.ce", ack.ce_count);
        self.put("rdgram.sack.words", ack.words);
        for word in &ack.sack[..usize::from(ack.words)] {
            self.put("rdgram.sack.bitmap", *word);
        }
        let set: Vec<u32> = (0..WINDOW).filter(|&bit| ack.is_set(bit)).collect();
        let runs: Vec<String> = set
            .chunk_by(|one, next| one + 1 == *next)
            .map(|run| match (run.first(), run.last()) {
                (Some(first), Some(last)) if first != last => format!("+{}..{}", first + 1, last + 1),
                (first, _) => format!("+{}", first.map_or(0, |first| first + 1)),
            })
            .collect();
        self.text("rdgram.sack.accepted", if runs.is_empty() { "none".to_owned() } else { runs.join(" ") });
    }

    fn reset(&mut self, reset: &Reset) {
        self.put("rdgram.reset.psn", reset.psn.0);
        self.put("rdgram.reset.cookie", reset.cookie);
        self.put("rdgram.reset.incarnation", reset.incarnation);
        self.put("rdgram.reset.reason", reset.reason as u32);
    }

    fn tagged(&mut self, opcode: u8, stag: u32, offset: u64, last: bool) {
        self.ddp(opcode, true, last);
        self.put("rdgram.ddp.stag", stag);
        self.put("rdgram.ddp.offset", offset);
    }

    fn untagged(&mut self, opcode: u8, queue: u8, msn: u32, offset: u32, last: bool) {
        self.ddp(opcode, false, last);
        self.put("rdgram.ddp.queue", queue);
        self.put("rdgram.ddp.msn", msn);
        self.put("rdgram.ddp.message_offset", offset);
    }

    fn ddp(&mut self, opcode: u8, tagged: bool, last: bool) {
        self.put("rdgram.opcode", opcode);
        self.put("rdgram.ddp.version", 1u8);
        self.put("rdgram.rdmap.version", 1u8);
        self.put("rdgram.ddp.tagged", tagged);
        self.put("rdgram.ddp.last", last);
    }

    fn segment(&mut self, segment: &Segment, payload: &[u8]) {
        let mut may_have_payload = true;
        match *segment {
            Segment::Send { msn } => self.untagged(0x3, 0, msn, 0, true),
            Segment::ExtendedSend { msn, offset, last, message_id, total, start } => {
                self.untagged(0xC, 0, msn, offset, last);
                self.put("rdgram.message_id", message_id);
                self.put("rdgram.total", total);
                self.start(start.unwrap_or_default());
            }
            Segment::Write { stag, offset, last } => self.tagged(0x0, stag, offset, last),
            Segment::ReadResponse { stag, offset, last } => self.tagged(0x2, stag, offset, last),
            Segment::Terminate { msn, layer, etype, code } => {
                self.untagged(0x7, 2, msn, 0, true);
                self.put("rdgram.rdmap.terminate.layer", layer);
                self.put("rdgram.rdmap.terminate.type", etype);
                self.put("rdgram.rdmap.terminate.code", code);
            }
            Segment::ExtendedWrite { offset, last, message_id, key, total, data, report } => {
                self.tagged(0xE, (key & 0xFFFF_FFFF) as u32, offset, last);
                self.put("rdgram.write.flags.data", data.is_some());
                self.put("rdgram.write.flags.report", report);
                self.put("rdgram.message_id", message_id);
                self.put("rdgram.key", key);
                self.put("rdgram.total", total);
                if let Some(data) = data {
                    self.put("rdgram.data", data);
                }
            }
            Segment::ExtendedAtomic { .. } => self.extended_atomic(segment),
            _ => {
                may_have_payload = false;
                self.whole(segment);
            }
        }
        if may_have_payload {
            self.put("rdgram.payload.length", payload.len() as u64);
            if !payload.is_empty() {
                let bytes: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                self.text("rdgram.payload", bytes);
            }
        }
    }

    fn start(&mut self, start: Start) {
        let flags = [start.tag.is_some(), start.data.is_some(), start.rendezvous];
        let value = flags.iter().enumerate().map(|(bit, &set)| u8::from(set) << bit).sum::<u8>();
        self.put("rdgram.send.flags", value);
        self.put("rdgram.send.flags.tag", flags[0]);
        self.put("rdgram.send.flags.data", flags[1]);
        self.put("rdgram.send.flags.rendezvous", flags[2]);
        if let Some(tag) = start.tag {
            self.put("rdgram.tag", tag);
        }
        if let Some(data) = start.data {
            self.put("rdgram.data", data);
        }
    }

    fn extended_atomic(&mut self, segment: &Segment) {
        let Segment::ExtendedAtomic {
            msn,
            operation,
            datatype,
            fetch,
            compare,
            message_id,
            sink_stag,
            count,
            key,
            offset,
        } = *segment
        else {
            return;
        };
        self.untagged(0xF, 1, msn, 0, true);
        self.put("rdgram.request.type", 2u8);
        self.put("rdgram.atomic.operation", operation);
        self.put("rdgram.atomic.datatype", datatype);
        self.put("rdgram.atomic.flags.fetch", fetch);
        self.put("rdgram.atomic.flags.compare", compare);
        self.put("rdgram.message_id", message_id);
        self.put("rdgram.sink_stag", sink_stag);
        self.put("rdgram.atomic.count", count);
        self.put("rdgram.key", key);
        self.put("rdgram.region_offset", offset);
    }

    /// Messages that nothing follows.
    fn whole(&mut self, segment: &Segment) {
        match *segment {
            Segment::ReadRequest { msn, sink_stag, sink_offset, length, source_stag, source_offset } => {
                self.untagged(0x1, 1, msn, 0, true);
                self.put("rdgram.sink_stag", sink_stag);
                self.put("rdgram.sink_offset", sink_offset);
                self.put("rdgram.rdmap.read.size", length);
                self.put("rdgram.rdmap.read.source_stag", source_stag);
                self.put("rdgram.rdmap.read.source_offset", source_offset);
            }
            Segment::Immediate { msn, solicited, data } => {
                self.untagged(if solicited { 0x9 } else { 0x8 }, 0, msn, 0, true);
                let bytes: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
                self.text("rdgram.rdmap.immediate", bytes);
            }
            Segment::AtomicRequest { .. } => self.atomic_request(segment),
            Segment::AtomicResponse { msn, request, value } => {
                self.untagged(0xB, 3, msn, 0, true);
                self.put("rdgram.rdmap.atomic.request", request);
                self.put("rdgram.rdmap.atomic.value", value);
            }
            Segment::ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length } => {
                self.untagged(0xF, 1, 0, 0, true);
                self.put("rdgram.request.type", 1u8);
                self.put("rdgram.read.flags.part", part);
                self.put("rdgram.message_id", message_id);
                self.put("rdgram.sink_stag", sink_stag);
                self.put("rdgram.sink_offset", sink_offset);
                self.put("rdgram.key", key);
                self.put("rdgram.region_offset", offset);
                self.put("rdgram.read.length", length);
            }
            Segment::Control(control) => {
                self.untagged(0xD, 4, 0, 0, true);
                self.control(control);
            }
            _ => {}
        }
    }

    fn atomic_request(&mut self, segment: &Segment) {
        let Segment::AtomicRequest {
            msn,
            opcode,
            request,
            stag,
            offset,
            operand,
            mask,
            compare,
            compare_mask,
        } = *segment
        else {
            return;
        };
        self.untagged(0xA, 1, msn, 0, true);
        self.put("rdgram.rdmap.atomic.opcode", opcode as u32);
        self.put("rdgram.rdmap.atomic.request", request);
        self.put("rdgram.rdmap.atomic.stag", stag);
        self.put("rdgram.rdmap.atomic.offset", offset);
        self.put("rdgram.rdmap.atomic.operand", operand);
        self.put("rdgram.rdmap.atomic.mask", mask);
        self.put("rdgram.rdmap.atomic.compare", compare);
        self.put("rdgram.rdmap.atomic.compare_mask", compare_mask);
    }

    fn control(&mut self, control: Control) {
        let (kind, id) = match control {
            Control::Cts { message_id, .. } => (1u8, Some(message_id)),
            Control::Rnr { message_id, .. } => (2, Some(message_id)),
            Control::Nop => (3, None),
            Control::Nack { message_id, .. } => (4, Some(message_id)),
            Control::Done { message_id } => (5, Some(message_id)),
            Control::Void { message_id } => (6, Some(message_id)),
            Control::Grant { message_id, .. } => (7, Some(message_id)),
        };
        self.put("rdgram.control.type", kind);
        if let Some(id) = id {
            self.put("rdgram.message_id", id);
        }
        match control {
            Control::Cts { stag, length, .. } | Control::Grant { stag, length, .. } => {
                self.put("rdgram.control.stag", stag);
                self.put("rdgram.control.length", length);
            }
            Control::Rnr { index, .. } | Control::Nack { index, .. } => {
                self.put("rdgram.control.index", index);
            }
            _ => {}
        }
        match control {
            Control::Grant { granted, .. } => self.put("rdgram.control.granted", granted),
            Control::Nack { code, .. } => self.put("rdgram.control.code", code),
            _ => {}
        }
    }
}

/// Fields that hold what a receiver ignores, and what is shown of a train rather than of a datagram: the wire crate has no value for them.
pub(crate) const WITHOUT_VALUE: &[&str] = &[
    "rdgram.syn.length",
    "rdgram.syn.scope",
    "rdgram.ddp.invalidate",
    "rdgram.write.flags",
    "rdgram.read.flags",
    "rdgram.atomic.flags",
    "rdgram.train.datagrams",
];

fn syn_length(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[Llp::LENGTH], bytes[Llp::LENGTH + 1]]))
}

fn integrity_is_right(bytes: &[u8], packet: &Packet<'_>) -> bool {
    let covered = if packet.llp.flags.contains(Flags::FULL) { bytes } else { &bytes[..packet.headers] };
    integrity(covered) == packet.llp.integrity
}

/// The integrity field over these bytes.
pub(crate) fn integrity(covered: &[u8]) -> u32 {
    let place = Llp::INTEGRITY_OFFSET;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&covered[..place]), &[0; 4]);
    crc32c::crc32c_append(crc, &covered[place + 4..])
}
