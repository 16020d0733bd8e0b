//! Each rule that a header can break, broken once, in a packet that is otherwise good: refused, with the error that names the field.

use rdgram_wire::{Ack, Bundle, Llp, Malformed, Packet, Reset, ResetReason, Segment, Syn};

use crate::datagram::fix_length;
use crate::golden::{first_packet, hex};

const SEND: &str = "4143 00000000 00000000 00000001 00000000";
const EXTENDED: &str = "014c 00000000 00000000 00000001 00000000 00 00 0000 00000001 0000000000000005";
const WRITE: &str = "814e 00000002 0000000000000007 00 00 0000 00000001 0000000100000002 0000000000000005";

/// Asserts that `good` is accepted and, with `bytes` at `at`, refused as `fault`.
fn refused<T>(
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    good: &[u8],
    at: usize,
    bytes: &str,
    fault: Malformed,
) {
    if let Err(fault) = decode(good) {
        panic!("the good bytes are refused: {fault}");
    }
    let mut bad = good.to_vec();
    let bytes = hex(bytes);
    bad[at..at + bytes.len()].copy_from_slice(&bytes);
    assert_eq!(decode(&bad).err(), Some(fault), "{bytes:02x?} at {at}");
}

fn packet(bytes: &[u8]) -> Result<(), Malformed> {
    Packet::decode(bytes).map(|_| ())
}

fn bundle(bytes: &[u8]) -> Result<(), Malformed> {
    Bundle::decode(bytes).map(|_| ())
}

#[test]
fn llp_header() {
    let refused = |at, bytes: &str, fault| refused(packet, &first_packet(), at, bytes, fault);
    refused(0, "01", Malformed::Version(0));
    refused(0, "21", Malformed::Version(2));
    refused(0, "10", Malformed::Kind(0));
    refused(0, "18", Malformed::Kind(8));
    refused(0, "1f", Malformed::Kind(15));
    refused(2, "007b", Malformed::Length { stated: 123, received: 124 });
    refused(2, "007d", Malformed::Length { stated: 125, received: 124 });
    refused(8, "0001", Malformed::EndpointIndex { field: "source endpoint index", index: 1 });
    refused(10, "0100", Malformed::EndpointIndex { field: "destination endpoint index", index: 256 });
    refused(1, "00", Malformed::DestinationContext);
}

#[test]
fn a_reset_needs_no_context_and_no_version_of_ours() {
    for first in ["13", "03", "23", "f3"] {
        let reset = hex(&format!(
            "{first} 00 003c {} 00000001 00000002 0000000000000003 00000002",
            "00".repeat(Llp::LENGTH - 4)
        ));
        let packet = Packet::decode(&reset).unwrap_or_else(|fault| panic!("{first}: {fault}"));
        assert_eq!(packet.llp.dst_ctx, 0);
    }
}

#[test]
fn only_a_syn_of_another_version_is_owed_a_reset() {
    let mut foreign = first_packet();
    foreign[32..36].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(Reset::of_version(&foreign, 7), None, "our own version");
    foreign[0] = 0x21;
    let reset = Reset::of_version(&foreign, 7).expect("another version, with SYN");
    assert_eq!((reset.psn.0, reset.cookie, reset.incarnation), (9, 0x0102_0304, 7));
    assert_eq!(reset.reason, ResetReason::Version);
    assert_eq!(Reset::of_version(&foreign[..39], 7), None, "cut");
    foreign[0] = 0x23;
    assert_eq!(Reset::of_version(&foreign, 7), None, "a RESET");
    foreign[0] = 0x21;
    foreign[1] = 0;
    assert_eq!(Reset::of_version(&foreign, 7), None, "no SYN");
}

#[test]
fn every_cut_is_refused() {
    let whole = first_packet();
    for length in 0..whole.len() {
        let mut cut = whole[..length].to_vec();
        let unfixed = packet(&cut);
        fix_length(&mut cut);
        // Cutting the payload of a Send leaves a shorter Send.
        let expected = match length {
            122.. => None,
            0..40 => Some(Malformed::Short { header: "LLP header", need: 40, have: length }),
            40..104 => Some(Malformed::Short { header: "SYN extension", need: 64, have: length - 40 }),
            104..106 => Some(Malformed::Short { header: "DDP control word", need: 2, have: length - 104 }),
            _ => Some(Malformed::Short { header: "DDP untagged header", need: 18, have: length - 104 }),
        };
        assert_eq!(Packet::decode(&cut).err(), expected, "{length} bytes");
        assert!(unfixed.is_err(), "{length} bytes of {}", whole.len());
    }
}

#[test]
fn syn_extension() {
    let good = first_packet()[40..104].to_vec();
    let refused = |at, bytes: &str, fault| refused(Syn::decode, &good, at, bytes, fault);
    refused(0, "003f", Malformed::SynLength(63));
    refused(0, "0041", Malformed::SynLength(65));
    refused(0, "0000", Malformed::SynLength(0));
    refused(2, "0203", Malformed::SynVersions { min: 2, max: 3 });
    refused(2, "0000", Malformed::SynVersions { min: 0, max: 0 });
    refused(2, "0100", Malformed::SynVersions { min: 1, max: 0 });
    refused(4, "00000000", Malformed::SynContext);
    refused(24, "00ff", Malformed::SynSegment(255));
    refused(36, "0005", Malformed::SynFamily(5));
    refused(56, "00000000", Malformed::SynCookie);
}

#[test]
fn ack_body() {
    let full = hex(&format!("00000001 00000002 0010 0000 {}", "7fffffffffffffff".repeat(16)));
    refused(Ack::decode, &full, 8, "0011", Malformed::SackWords(17));
    refused(Ack::decode, &full, 8, "ffff", Malformed::SackWords(u16::MAX));
    refused(Ack::decode, &full, 8, "000f", Malformed::Trailing { header: "ACK body", extra: 8 });
    refused(Ack::decode, &full, 12 + 120, "80", Malformed::SackBit);
    let cut = Malformed::Short { header: "ACK body", need: 140, have: 139 };
    assert_eq!(Ack::decode(&full[..139]), Err(cut));
    let cut = Malformed::Short { header: "ACK body", need: 12, have: 11 };
    assert_eq!(Ack::decode(&full[..11]), Err(cut));

    let header = "12 20 0034 00000001";
    let bytes = hex(&format!("{header} {} 00000001 00000002 0000 0000", "00".repeat(32)));
    refused(packet, &bytes, 1, "00", Malformed::AckFlags);
}

#[test]
fn bundle_body() {
    let item = format!("0012 {SEND}");
    let good = hex(&item);
    assert!(Bundle::decode(&good).is_ok() && Bundle::decode(&good.repeat(2)).is_ok());
    let empty = Malformed::BundleItem { left: 20 };
    refused(bundle, &good, 0, "0000", empty);
    refused(bundle, &good, 0, "0013", empty);
    // What is left is shorter than a length field.
    refused(bundle, &good, 0, "0011", Malformed::BundleItem { left: 1 });
    assert_eq!(Bundle::decode(&[]), Err(Malformed::BundleItem { left: 0 }));
    let most = good.repeat(24);
    assert!(Bundle::decode(&most).is_ok());
    assert_eq!(bundle(&[most, good.clone()].concat()), Err(Malformed::BundleItems));
    // An item is read by itself: a malformed one leaves the others alone.
    let mixed = [hex("0002 0000"), good].concat();
    let read: Vec<bool> =
        Bundle::decode(&mixed).expect("framed well").items().map(|item| item.is_ok()).collect();
    assert_eq!(read, [false, true]);

    let bytes = hex(&format!("17 28 003c 00000001 {} {item}", "00".repeat(32)));
    assert!(packet(&bytes).is_ok());
    refused(packet, &bytes, 1, "20", Malformed::BundleFlags);
}

#[test]
fn reset_body() {
    let good = hex("00000001 00000002 0000000000000003 00000001");
    refused(Reset::decode, &good, 16, "00000000", Malformed::ResetReason(0));
    refused(Reset::decode, &good, 16, "01000001", Malformed::ResetReason(0x0100_0001));
    let cut = Malformed::Short { header: "RESET body", need: 20, have: 19 };
    assert_eq!(Reset::decode(&good[..19]), Err(cut));
    let longer = [good, vec![0]].concat();
    assert_eq!(Reset::decode(&longer), Err(Malformed::Trailing { header: "RESET body", extra: 1 }));
}

#[test]
fn bodies_that_are_empty() {
    for (kind, header) in [("14", "CLOSE body"), ("16", "PROBE_ACK body")] {
        let bytes = hex(&format!("{kind} 00 0029 00000001 {} 00", "00".repeat(32)));
        assert_eq!(Packet::decode(&bytes), Err(Malformed::Trailing { header, extra: 1 }));
    }
}

#[test]
fn control_word() {
    let refused = |at, bytes: &str, fault| refused(Segment::decode, &hex(SEND), at, bytes, fault);
    refused(0, "4043", Malformed::DdpVersion(0));
    refused(0, "4243", Malformed::DdpVersion(2));
    refused(0, "4103", Malformed::RdmapVersion(0));
    refused(0, "4183", Malformed::RdmapVersion(2));
    for code in [4, 5, 6] {
        refused(0, &format!("414{code:x}"), Malformed::Opcode(code));
        refused(0, &format!("c14{code:x}"), Malformed::Opcode(code));
    }
    for opcode in [1, 3, 7, 8, 9, 10, 11, 12, 13, 15] {
        refused(0, &format!("c14{opcode:x}"), Malformed::Model { opcode, tagged: true });
    }
    for opcode in [0, 2, 14] {
        refused(0, &format!("414{opcode:x}"), Malformed::Model { opcode, tagged: false });
    }
}

#[test]
fn untagged_header() {
    let refused = |at, bytes: &str, fault| refused(Segment::decode, &hex(SEND), at, bytes, fault);
    refused(6, "00000001", Malformed::Queue { opcode: 3, queue: 1 });
    refused(6, "01000000", Malformed::Queue { opcode: 3, queue: 1 << 24 });
    refused(0, "0143", Malformed::Last { opcode: 3, last: false });
    refused(14, "00000001", Malformed::MessageOffset { opcode: 3, offset: 1 });
}

#[test]
fn queues_are_those_of_the_opcodes() {
    let queues =
        [(0x1, 1), (0x3, 0), (0x7, 2), (0x8, 0), (0x9, 0), (0xA, 1), (0xB, 3), (0xC, 0), (0xD, 4), (0xF, 1)];
    for (opcode, right) in queues {
        for queue in 0..6u32 {
            let bytes = hex(&format!("414{opcode:x} 00000000 {queue:08x} 00000001 00000000"));
            let fault = Segment::decode(&bytes).err();
            let refused = fault == Some(Malformed::Queue { opcode, queue });
            assert_eq!(refused, queue != right, "opcode {opcode:#x}, queue {queue}: {fault:?}");
        }
    }
}

#[test]
fn tagged_header() {
    let write = hex("8140 00000001 fffffffffffffffd abcd");
    let fault = Malformed::TaggedOffset { offset: u64::MAX - 1, payload: 2 };
    refused(Segment::decode, &write, 6, "fffffffffffffffe", fault);
    let cut = Malformed::Short { header: "DDP tagged header", need: 14, have: 13 };
    assert_eq!(Segment::decode(&write[..13]), Err(cut));
}

#[test]
fn bodies_of_fixed_length() {
    let bodies = [
        ("4141", 1, 28, "RDMA Read Request"),
        ("4148", 0, 8, "Immediate Data"),
        ("4149", 0, 8, "Immediate Data"),
        ("414a", 1, 52, "Atomic Request"),
        ("414b", 3, 12, "Atomic Response"),
    ];
    for (control, queue, length, header) in bodies {
        let bytes = |length: usize| {
            hex(&format!("{control} 00000000 {queue:08x} 00000001 00000000 {}", "00".repeat(length)))
        };
        assert!(Segment::decode(&bytes(length)).is_ok(), "{header}");
        let cut = Malformed::Short { header, need: length, have: length - 1 };
        assert_eq!(Segment::decode(&bytes(length - 1)), Err(cut));
        let longer = Malformed::Trailing { header, extra: 1 };
        assert_eq!(Segment::decode(&bytes(length + 1)), Err(longer));
    }
    let terminate = hex("4147 00000000 00000002 00000001 00000000 010000");
    let cut = Malformed::Short { header: "Terminate", need: 4, have: 3 };
    assert_eq!(Segment::decode(&terminate), Err(cut));
}

#[test]
fn extended_send() {
    let first = hex(&format!("{EXTENDED} abcd"));
    let refused_first = |at, bytes: &str, fault| refused(Segment::decode, &first, at, bytes, fault);
    refused_first(18, "08", Malformed::SendFlags(8));
    refused_first(18, "80", Malformed::SendFlags(0x80));
    refused_first(18, "01", Malformed::Short { header: "send extension", need: 8, have: 2 });
    refused_first(18, "04", Malformed::SendPayload { payload: 2 });
    refused_first(26, "0000000000000001", Malformed::SendTotal { offset: 0, payload: 2, total: 1 });
    refused_first(0, "41", Malformed::Last { opcode: 12, last: true });
    refused_first(26, "0000000000000002", Malformed::Last { opcode: 12, last: false });

    let second = hex(&format!("{} abcd", EXTENDED.replacen("00000001 00000000", "00000001 00000002", 1)));
    let refused_second = |at, bytes: &str, fault| refused(Segment::decode, &second, at, bytes, fault);
    for flags in ["01", "02", "04"] {
        let fault = Malformed::SendFlags(hex(flags)[0]);
        refused_second(18, flags, fault);
    }
    refused_second(14, "00000004", Malformed::SendTotal { offset: 4, payload: 2, total: 5 });
    refused_second(14, "ffffffff", Malformed::SendTotal { offset: u32::MAX, payload: 2, total: 5 });
    refused_second(14, "00000003", Malformed::Last { opcode: 12, last: false });

    assert_eq!(Segment::decode(&first[..34]), Err(Malformed::SendPayload { payload: 0 }));
    assert_eq!(Segment::decode(&second[..34]), Err(Malformed::SendPayload { payload: 0 }));
    let cut = Malformed::Short { header: "send extension", need: 16, have: 15 };
    assert_eq!(Segment::decode(&first[..33]), Err(cut));
}

#[test]
fn rendezvous_start_is_last() {
    let start = hex(&EXTENDED.replace("014c", "414c").replace("00 00 0000", "04 00 0000"));
    refused(Segment::decode, &start, 0, "014c", Malformed::Last { opcode: 12, last: false });
}

#[test]
fn atomic_opcodes() {
    let request = hex(&format!("414a 00000000 00000001 00000001 00000000 {}", "00".repeat(52)));
    for code in (0..16).filter(|code| ![0, 2].contains(code)) {
        refused(Segment::decode, &request, 18, &format!("fffffff{code:x}"), Malformed::AtomicOpcode(code));
    }
}

#[test]
fn control_messages() {
    let head = "414d 00000000 00000004 00000000 00000000";
    let rnr = hex(&format!("{head} 02 000000 00000001 0001 0000"));
    refused(Segment::decode, &rnr, 18, "00", Malformed::ControlType(0));
    refused(Segment::decode, &rnr, 18, "08", Malformed::ControlType(8));
    refused(Segment::decode, &rnr, 18, "ff", Malformed::ControlType(255));
    refused(Segment::decode, &rnr, 18, "03", Malformed::Trailing { header: "NOP", extra: 8 });
    refused(Segment::decode, &rnr, 18, "05", Malformed::Trailing { header: "DONE", extra: 4 });
    refused(Segment::decode, &rnr, 18, "01", Malformed::Short { header: "CTS", need: 20, have: 12 });
    let cts = hex(&format!("{head} 01 000000 00000001 00000002 0000000000000003"));
    refused(Segment::decode, &cts, 18, "02", Malformed::Trailing { header: "RNR", extra: 8 });
    refused(Segment::decode, &cts, 18, "04", Malformed::Trailing { header: "NACK", extra: 8 });
    let none = Malformed::Short { header: "control message", need: 4, have: 0 };
    assert_eq!(Segment::decode(&hex(head)), Err(none));
    for (code, length, header) in
        [(1, 20, "CTS"), (2, 12, "RNR"), (3, 4, "NOP"), (4, 12, "NACK"), (5, 8, "DONE")]
    {
        let bytes = hex(&format!("{head} {code:02x} {}", "00".repeat(length - 1)));
        assert!(Segment::decode(&bytes).is_ok(), "{header}");
        let cut = Malformed::Short { header, need: length, have: length - 1 };
        assert_eq!(Segment::decode(&bytes[..bytes.len() - 1]), Err(cut));
    }
}

#[test]
fn extended_write() {
    let good = hex(&format!("{WRITE} abcd"));
    let refused = |at, bytes: &str, fault| refused(Segment::decode, &good, at, bytes, fault);
    refused(2, "00000003", Malformed::WriteStag { stag: 3, key: 0x1_0000_0002 });
    refused(22, "0000000200000001", Malformed::WriteStag { stag: 2, key: 0x2_0000_0001 });
    refused(30, "0000000000000001", Malformed::WriteTotal { payload: 2, total: 1 });
    refused(30, "0000000000000000", Malformed::WriteTotal { payload: 2, total: 0 });
    // All of the operation in a segment that is not its last.
    refused(30, "0000000000000002", Malformed::Last { opcode: 14, last: false });
    refused(14, "01", Malformed::Short { header: "write extension", need: 32, have: 26 });
    // The payload wraps, the headers do not count.
    let fault = Malformed::TaggedOffset { offset: u64::MAX - 1, payload: 2 };
    refused(6, "fffffffffffffffe", fault);
    let mut highest = good.clone();
    highest[6..14].copy_from_slice(&(u64::MAX - 2).to_be_bytes());
    assert!(Segment::decode(&highest).is_ok());

    assert_eq!(Segment::decode(&good[..38]), Err(Malformed::WriteTotal { payload: 0, total: 5 }));
    let cut = Malformed::Short { header: "write extension", need: 24, have: 23 };
    assert_eq!(Segment::decode(&good[..37]), Err(cut));
    let with_data = hex(&format!("{} 0000000000000009", WRITE.replace("00 00 0000", "01 00 0000")));
    assert_eq!(Segment::decode(&with_data), Err(Malformed::WriteTotal { payload: 0, total: 5 }));
}

#[test]
fn an_empty_extended_write_is_one_segment() {
    let empty = hex(&WRITE.replace("814e", "c14e").replace("0000000000000005", "0000000000000000"));
    refused(Segment::decode, &empty, 0, "81", Malformed::Last { opcode: 14, last: false });
    refused(Segment::decode, &empty, 30, "0000000000000001", Malformed::WriteTotal { payload: 0, total: 1 });
}

#[test]
fn extended_requests() {
    let head = "414f 00000000 00000001 00000001 00000000";
    let read = hex(&format!("{head} 01 {}", "00".repeat(47)));
    let refused_read = |at, bytes: &str, fault| refused(Segment::decode, &read, at, bytes, fault);
    for code in [0, 3, 255] {
        refused_read(18, &format!("{code:02x}"), Malformed::RequestType(code));
    }
    refused_read(0, "01", Malformed::Last { opcode: 15, last: false });
    refused_read(14, "00000001", Malformed::MessageOffset { opcode: 15, offset: 1 });
    let cut = Malformed::Short { header: "READ", need: 48, have: 47 };
    assert_eq!(Segment::decode(&read[..read.len() - 1]), Err(cut));
    let longer = [read, vec![0]].concat();
    assert_eq!(Segment::decode(&longer), Err(Malformed::Trailing { header: "READ", extra: 1 }));

    let atomic = hex(&format!("{head} 02 {}", "00".repeat(31)));
    refused(Segment::decode, &atomic, 0, "01", Malformed::Last { opcode: 15, last: false });
    let cut = Malformed::Short { header: "ATOMIC", need: 32, have: 31 };
    assert_eq!(Segment::decode(&atomic[..atomic.len() - 1]), Err(cut));
    let none = Malformed::Short { header: "Extended Request", need: 32, have: 0 };
    assert_eq!(Segment::decode(&hex(head)), Err(none));
}

#[test]
fn errors_name_the_field() {
    let named = [
        (Malformed::Kind(9), "LLP kind: 9 is not defined"),
        (Malformed::Opcode(4), "RDMAP opcode: Send with Invalidate is not implemented"),
        (Malformed::Queue { opcode: 3, queue: 7 }, "DDP queue number: 7 in Send"),
        (Malformed::Last { opcode: 12, last: false }, "DDP L bit: clear in Extended Send"),
        (Malformed::SynLength(3), "SYN length: 3 does not fit"),
        (Malformed::Queue { opcode: 15, queue: 0 }, "DDP queue number: 0 in Extended Request"),
        (Malformed::Last { opcode: 14, last: false }, "DDP L bit: clear in Extended Write"),
        (Malformed::WriteStag { stag: 3, key: 0x20 }, "write extension key: 0x20 with STag 0x3"),
        (Malformed::WriteTotal { payload: 2, total: 1 }, "write extension total: 2 bytes of 1"),
        (Malformed::RequestType(7), "extended request type: 7 is not defined"),
        (Malformed::SendTotal { offset: 4, payload: 2, total: 5 }, "send extension total: 2 bytes at 4 of 5"),
    ];
    for (fault, text) in named {
        assert_eq!(fault.to_string(), text);
    }
}
