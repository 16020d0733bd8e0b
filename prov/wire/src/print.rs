//! The pretty printer: a packet in one line, for logs and failing tests. Must print every packet, and never fail or break a line.

use core::fmt::{self, Display, Formatter};

use crate::{Ack, Body, Bundle, Control, Flags, Kind, Llp, Packet, Reset, Segment, Start, Syn};

impl Display for Packet<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.llp.fmt(out)?;
        if let Some(syn) = &self.syn {
            write!(out, " {syn}")?;
        }
        match &self.body {
            Body::Data { segment, payload } => write!(out, " | {segment} payload {}", payload.len()),
            Body::Bundle(bundle) => bundle.fmt(out),
            Body::Ack(ack) => write!(out, " | {ack}"),
            Body::Reset(reset) => write!(out, " | {reset}"),
            Body::Close | Body::Probe | Body::ProbeAck => Ok(()),
        }
    }
}

impl Display for Bundle<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for item in self.items() {
            match item {
                Ok((segment, payload)) => write!(out, " | {segment} payload {}", payload.len())?,
                Err(fault) => write!(out, " | malformed: {fault}")?,
            }
        }
        Ok(())
    }
}

impl Display for Kind {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Data => "DATA",
            Self::Ack => "ACK",
            Self::Reset => "RESET",
            Self::Close => "CLOSE",
            Self::Probe => "PROBE",
            Self::ProbeAck => "PROBE_ACK",
            Self::Bundle => "BUNDLE",
        })
    }
}

impl Display for Llp {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} ctx {:#x} psn {}", self.kind, self.length, self.dst_ctx, self.psn)?;
        for (flag, name) in
            [(Flags::AR, " AR"), (Flags::RETX, " RETX"), (Flags::FULL, " FULL"), (Flags::SYN, " SYN")]
        {
            if self.flags.contains(flag) {
                out.write_str(name)?;
            }
        }
        write!(out, " path {} tx {}", self.path, self.tx_number)?;
        if self.flags.contains(Flags::ACKED) {
            write!(
                out,
                " ack {} refusals {} credit {}",
                self.cumulative, self.refusals, self.credit_packets
            )?;
        }
        if self.flags.contains(Flags::ECHO) {
            write!(out, " echo {} after {} us", self.echo_tx, self.echo_delay_us)?;
        }
        write!(out, " cookie {:#x} crc {:#010x}", self.cookie, self.integrity)
    }
}

impl Display for Syn {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "[{} v{}-{}", self.name, self.version_min, self.version_max)?;
        write!(out, " ctx {:#x} incarnation {:#x}", self.ctx, self.incarnation)?;
        write!(out, " psn {} features {:#x}", self.initial_psn, self.features)?;
        write!(out, " segment {} staging {}", self.segment_max, self.staging_max)?;
        write!(out, " credit {}/{}", self.credit_packets, self.credit_bytes)?;
        write!(out, " cookie {:#x}]", self.cookie)
    }
}

impl Display for Ack {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "credit {} bytes ce {}", self.credit_bytes, self.ce_count)?;
        out.write_str(" sack")?;
        let mut from = 0;
        while let Some((first, last)) = self.run(from) {
            // Relative to the cumulative acknowledgement, like the bitmap itself.
            write!(out, " +{}", first + 1)?;
            if last != first {
                write!(out, "..{}", last + 1)?;
            }
            from = last + 1;
        }
        if from == 0 { out.write_str(" none") } else { Ok(()) }
    }
}

impl Ack {
    /// The first and last bit of the next run of set bits, from `from` on.
    fn run(&self, from: u32) -> Option<(u32, u32)> {
        let first = (from..crate::WINDOW).find(|&bit| self.is_set(bit))?;
        let mut last = first;
        while self.is_set(last + 1) {
            last += 1;
        }
        Some((first, last))
    }
}

impl Display for Reset {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} of psn {} cookie {:#x}", self.reason, self.psn, self.cookie)?;
        write!(out, " by incarnation {:#x}", self.incarnation)
    }
}

impl Display for Segment {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { msn } => write!(out, "send msn {msn}"),
            Self::ExtendedSend { msn, offset, last, message_id, total, start } => {
                write!(out, "send msn {msn} id {message_id} at {offset} of {total}")?;
                if let Some(start) = start {
                    start.fmt(out)?;
                }
                write_last(*last, out)
            }
            Self::Write { stag, offset, last } => {
                write!(out, "write stag {stag:#x} at {offset:#x}")?;
                write_last(*last, out)
            }
            Self::ReadRequest { msn, sink_stag, sink_offset, length, source_stag, source_offset } => {
                write!(out, "read msn {msn} of {length} from stag {source_stag:#x} at {source_offset:#x}")?;
                write!(out, " to stag {sink_stag:#x} at {sink_offset:#x}")
            }
            Self::ReadResponse { stag, offset, last } => {
                write!(out, "read response stag {stag:#x} at {offset:#x}")?;
                write_last(*last, out)
            }
            Self::Immediate { msn, solicited, data } => {
                let solicited = if *solicited { " solicited" } else { "" };
                write!(out, "immediate msn {msn} data {:#018x}{solicited}", u64::from_be_bytes(*data))
            }
            Self::AtomicRequest {
                msn,
                opcode,
                request,
                stag,
                offset,
                operand,
                mask,
                compare,
                compare_mask,
            } => {
                write!(out, "atomic {opcode:?} msn {msn} request {request} stag {stag:#x} at {offset:#x}")?;
                write!(out, " operand {operand:#x}/{mask:#x} compare {compare:#x}/{compare_mask:#x}")
            }
            Self::AtomicResponse { msn, request, value } => {
                write!(out, "atomic response msn {msn} request {request} value {value:#x}")
            }
            Self::Terminate { msn, layer, etype, code } => {
                write!(out, "terminate msn {msn} layer {layer} type {etype} code {code:#04x}")
            }
            Self::Control(control) => control.fmt(out),
            Self::ExtendedWrite { offset, last, message_id, key, total, data, report } => {
                write!(out, "write id {message_id} key {key:#x} at {offset:#x} of {total}")?;
                write_data(*data, out)?;
                write_if(*report, " report", out)?;
                write_last(*last, out)
            }
            Self::ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length } => {
                write!(out, "read id {message_id} of {length} from key {key:#x} at {offset:#x}")?;
                write!(out, " to stag {sink_stag:#x} at {sink_offset:#x}")?;
                write_if(*part, " part", out)
            }
            Self::ExtendedAtomic {
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
            } => {
                write!(out, "atomic op {operation} type {datatype} msn {msn} id {message_id}")?;
                write!(out, " count {count} key {key:#x} at {offset:#x}")?;
                write_if(*compare, " compare", out)?;
                if *fetch { write!(out, " fetch to stag {sink_stag:#x}") } else { Ok(()) }
            }
        }
    }
}

fn write_if(set: bool, name: &str, out: &mut Formatter<'_>) -> fmt::Result {
    if set { out.write_str(name) } else { Ok(()) }
}

fn write_data(data: Option<u64>, out: &mut Formatter<'_>) -> fmt::Result {
    data.map_or(Ok(()), |data| write!(out, " data {data:#x}"))
}

fn write_last(last: bool, out: &mut Formatter<'_>) -> fmt::Result {
    write_if(last, " last", out)
}

impl Display for Start {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(if self.rendezvous { " rendezvous" } else { " start" })?;
        if let Some(tag) = self.tag {
            write!(out, " tag {tag:#x}")?;
        }
        write_data(self.data, out)
    }
}

impl Display for Control {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cts { message_id, stag, length } => {
                write!(out, "CTS id {message_id} stag {stag:#x} length {length}")
            }
            Self::Rnr { message_id, index } => write!(out, "RNR id {message_id} index {index}"),
            Self::Nop => out.write_str("NOP"),
            Self::Nack { message_id, index, code } => {
                write!(out, "NACK id {message_id} index {index} code {code}")
            }
            Self::Done { message_id } => write!(out, "DONE id {message_id}"),
            Self::Void { message_id } => write!(out, "VOID id {message_id}"),
            Self::Grant { message_id, stag, length, granted } => {
                write!(out, "GRANT id {message_id} stag {stag:#x} length {length} granted {granted}")
            }
        }
    }
}
