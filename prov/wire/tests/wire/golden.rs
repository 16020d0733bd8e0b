//! Vectors written by hand from `prov/docs/protocol.md`: they hold the layouts in place when encoder and decoder change together.

use std::net::{SocketAddr, SocketAddrV6};

use rdgram_wire::{
    Ack, AtomicOpcode, Body, Control, Flags, Kind, Llp, Packet, Psn, Reset, ResetReason, Segment, Start, Syn,
};

/// Bytes from hexadecimal digits; anything else separates.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|char| char.to_digit(16)).collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {text}");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
}

/// Both directions: the value is written as these bytes and they are read as the value, payload aside.
fn check_segment(segment: Segment, headers: &str, payload: &str) {
    let mut bytes = vec![0; segment.encoded_length()];
    segment.encode(&mut bytes);
    assert_eq!(bytes, hex(headers), "{segment}");
    let headers = bytes.len();
    bytes.extend(hex(payload));
    assert_eq!(Segment::decode(&bytes), Ok((segment, headers)));
}

fn llp() -> Llp {
    Llp {
        kind: Kind::Data,
        flags: Flags::AR | Flags::ECHO | Flags::ACKED,
        length: 0x0203,
        dst_ctx: 0x0405_0607,
        src_ep: 0,
        dst_ep: 0,
        psn: Psn(0x0809_0a0b),
        path: 0x0c0d,
        tx_number: 0x0e0f,
        cumulative: Psn(0x1011_1213),
        echo_tx: 0x1415,
        echo_delay_us: 0x1617,
        refusals: 0x1819,
        credit_packets: 0x1a1b,
        cookie: 0x1c1d_1e1f,
        integrity: 0x2021_2223,
    }
}

const LLP: &str =
    "11 32 0203 04050607 0000 0000 08090a0b 0c0d 0e0f 10111213 1415 1617 1819 1a1b 1c1d1e1f 20212223";

#[test]
fn llp_header() {
    let mut bytes = [0xFF; Llp::LENGTH];
    assert_eq!(llp().encode(&mut bytes), 40);
    assert_eq!(bytes[..], hex(LLP));
    assert_eq!(Llp::decode(&bytes), Ok(llp()));
    assert_eq!(bytes[Llp::LENGTH_OFFSET..][..2], [0x02, 0x03]);
    assert_eq!(bytes[Llp::INTEGRITY_OFFSET..][..4], [0x20, 0x21, 0x22, 0x23]);
}

#[test]
fn kinds_and_flags() {
    let kinds = [Kind::Data, Kind::Ack, Kind::Reset, Kind::Close, Kind::Probe, Kind::ProbeAck];
    for (number, kind) in (1..).zip(kinds) {
        let mut bytes = [0; Llp::LENGTH];
        Llp::new(kind).encode(&mut bytes);
        assert_eq!(bytes[0], 0x10 | number, "{kind}");
        assert_eq!(bytes[1..], [0; 39], "{kind}");
    }
    let flags = [Flags::SYN, Flags::AR, Flags::RETX, Flags::FULL, Flags::ECHO, Flags::ACKED];
    assert_eq!(flags.map(|flag| flag.bits()), [0x01, 0x02, 0x04, 0x08, 0x10, 0x20]);
}

fn syn(name: SocketAddr) -> Syn {
    Syn {
        version_min: 1,
        version_max: 3,
        ctx: 0x0405_0607,
        incarnation: 0x0809_0a0b_0c0d_0e0f,
        initial_psn: Psn(0x1011_1213),
        features: 0x1415_1617,
        segment_max: 0x1819,
        credit_packets: 0x1a1b,
        credit_bytes: 0x1c1d_1e1f,
        staging_max: 0x2021_2223,
        name,
        cookie: 0x3839_3a3b,
    }
}

const SYN_V4: &str = "0040 01 03 04050607 08090a0b0c0d0e0f 10111213 14151617 1819 1a1b 1c1d1e1f 20212223
    0004 2627 c0000207 00000000 00000000 00000000 38393a3b 00000000";
const SYN_V6: &str = "0040 01 03 04050607 08090a0b0c0d0e0f 10111213 14151617 1819 1a1b 1c1d1e1f 20212223
    0006 2627 fe80000000000000 0123456789abcdef 38393a3b 3c3d3e3f";

#[test]
fn syn_extension() {
    let v4 = "192.0.2.7:9767".parse().expect("a name");
    let v6 = SocketAddrV6::new("fe80::123:4567:89ab:cdef".parse().expect("an address"), 9767, 0, 0x3c3d_3e3f);
    for (name, golden) in [(v4, SYN_V4), (v6.into(), SYN_V6)] {
        let mut bytes = [0xFF; Syn::LENGTH];
        assert_eq!(syn(name).encode(&mut bytes), 64);
        assert_eq!(bytes[..], hex(golden));
        assert_eq!(Syn::decode(&bytes), Ok((syn(name), 64)));
    }
}

#[test]
fn ack_body() {
    let mut ack = Ack { credit_bytes: 0x0102_0304, ce_count: 0x0506_0708, ..Ack::default() };
    let mut bytes = [0xFF; Ack::LENGTH_MAX];
    assert_eq!(ack.encode(&mut bytes), 12);
    assert_eq!(bytes[..12], hex("01020304 05060708 0000 0000"));
    // PSN cumulative + 1, + 4 and + 65: bits 0, 3 and 64.
    ack.sack[0] = 0b1001;
    ack.sack[1] = 1;
    ack.words = 2;
    assert_eq!(ack.encode(&mut bytes), 28);
    let golden = hex("01020304 05060708 0002 0000 0000000000000009 0000000000000001");
    assert_eq!(bytes[..28], golden);
    assert_eq!(Ack::decode(&golden), Ok(ack));
    assert!(ack.is_set(0) && ack.is_set(3) && ack.is_set(64) && !ack.is_set(1) && !ack.is_set(65));
    // Words without a bit at the end say nothing.
    let longer = hex("01020304 05060708 0003 0000 0000000000000009 0000000000000001 0000000000000000");
    assert_eq!(Ack::decode(&longer), Ok(ack));
}

#[test]
fn reset_body() {
    for (reason, number) in [(ResetReason::UnknownContext, "00000001"), (ResetReason::Version, "00000002")] {
        let reset =
            Reset { psn: Psn(0x0102_0304), cookie: 0x0506_0708, incarnation: 0x090a_0b0c_0d0e_0f10, reason };
        let mut bytes = [0xFF; Reset::LENGTH];
        assert_eq!(reset.encode(&mut bytes), 20);
        let golden = hex(&format!("01020304 05060708 090a0b0c0d0e0f10 {number}"));
        assert_eq!(bytes[..], golden);
        assert_eq!(Reset::decode(&golden), Ok(reset));
    }
}

#[test]
fn tagged() {
    let (stag, offset) = (0x0102_0304, 0x0506_0708_090a_0b0c);
    check_segment(Segment::Write { stag, offset, last: false }, "8140 01020304 05060708090a0b0c", "abcd");
    check_segment(Segment::Write { stag, offset, last: true }, "c140 01020304 05060708090a0b0c", "abcd");
    check_segment(Segment::ReadResponse { stag, offset, last: true }, "c142 01020304 05060708090a0b0c", "ab");
}

#[test]
fn send() {
    check_segment(Segment::Send { msn: 0x0102_0304 }, "4143 00000000 00000000 01020304 00000000", "abcdef");
}

#[test]
fn extended_send() {
    let msn = 0x0102_0304;
    let message_id = 0x0506_0708;
    let whole = Segment::ExtendedSend {
        msn,
        offset: 0,
        last: true,
        message_id,
        total: 2,
        start: Some(Start { rendezvous: false, tag: Some(0x1112_1314_1516_1718), data: None }),
    };
    check_segment(
        whole,
        "414c 00000000 00000000 01020304 00000000 01 00 0000 05060708 0000000000000002 1112131415161718",
        "abcd",
    );
    let first = Segment::ExtendedSend {
        msn,
        offset: 0,
        last: false,
        message_id,
        total: 5,
        start: Some(Start { rendezvous: false, tag: Some(1), data: Some(0x2122_2324_2526_2728) }),
    };
    check_segment(
        first,
        "014c 00000000 00000000 01020304 00000000 03 00 0000 05060708 0000000000000005 0000000000000001 2122232425262728",
        "abcd",
    );
    let second = Segment::ExtendedSend { msn, offset: 2, last: true, message_id, total: 5, start: None };
    check_segment(
        second,
        "414c 00000000 00000000 01020304 00000002 00 00 0000 05060708 0000000000000005",
        "abcdef",
    );
    let rendezvous = Segment::ExtendedSend {
        msn,
        offset: 0,
        last: true,
        message_id,
        total: 1 << 40,
        start: Some(Start { rendezvous: true, tag: None, data: Some(3) }),
    };
    check_segment(
        rendezvous,
        "414c 00000000 00000000 01020304 00000000 06 00 0000 05060708 0000010000000000 0000000000000003",
        "",
    );
}

#[test]
fn read_request() {
    let segment = Segment::ReadRequest {
        msn: 5,
        sink_stag: 0x0102_0304,
        sink_offset: 0x0506_0708_090a_0b0c,
        length: 0x0d0e_0f10,
        source_stag: 0x1112_1314,
        source_offset: 0x1516_1718_191a_1b1c,
    };
    check_segment(
        segment,
        "4141 00000000 00000001 00000005 00000000 01020304 05060708090a0b0c 0d0e0f10 11121314 15161718191a1b1c",
        "",
    );
}

#[test]
fn immediate_data() {
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    check_segment(
        Segment::Immediate { msn: 5, solicited: false, data },
        "4148 00000000 00000000 00000005 00000000 0102030405060708",
        "",
    );
    check_segment(
        Segment::Immediate { msn: 5, solicited: true, data },
        "4149 00000000 00000000 00000005 00000000 0102030405060708",
        "",
    );
}

#[test]
fn atomics() {
    for (opcode, code) in [(AtomicOpcode::FetchAdd, "00000000"), (AtomicOpcode::CmpSwap, "00000002")] {
        let segment = Segment::AtomicRequest {
            msn: 5,
            opcode,
            request: 0x0102_0304,
            stag: 0x0506_0708,
            offset: 0x1112_1314_1516_1718,
            operand: 0x2122_2324_2526_2728,
            mask: 0x3132_3334_3536_3738,
            compare: 0x4142_4344_4546_4748,
            compare_mask: 0x5152_5354_5556_5758,
        };
        let golden = format!(
            "414a 00000000 00000001 00000005 00000000 {code} 01020304 05060708 1112131415161718 2122232425262728
             3132333435363738 4142434445464748 5152535455565758"
        );
        check_segment(segment, &golden, "");
    }
    check_segment(
        Segment::AtomicResponse { msn: 5, request: 0x0102_0304, value: 0x1112_1314_1516_1718 },
        "414b 00000000 00000003 00000005 00000000 01020304 1112131415161718",
        "",
    );
}

#[test]
fn terminate() {
    // Remote protection error, invalid STag, of layer RDMAP; then one of DDP whose report quotes headers.
    let segment = Segment::Terminate { msn: 1, layer: 0, etype: 1, code: 0 };
    check_segment(segment, "4147 00000000 00000002 00000001 00000000 0100 0000", "");
    let quoting = hex("4147 00000000 00000002 00000001 00000000 1203 c000 0020 0143");
    let segment = Segment::Terminate { msn: 1, layer: 1, etype: 2, code: 3 };
    assert_eq!(Segment::decode(&quoting), Ok((segment, 22)));
}

#[test]
fn control() {
    check_segment(
        Segment::Control(Control::Cts {
            message_id: 0x0102_0304,
            stag: 0x0506_0708,
            length: 0x1112_1314_1516_1718,
        }),
        "414d 00000000 00000004 00000000 00000000 01 000000 01020304 05060708 1112131415161718",
        "",
    );
    check_segment(
        Segment::Control(Control::Grant {
            message_id: 0x0102_0304,
            stag: 0x0506_0708,
            length: 0x1112_1314_1516_1718,
            granted: 0x2122_2324_2526_2728,
        }),
        "414d 00000000 00000004 00000000 00000000 07 000000 01020304 05060708 1112131415161718 2122232425262728",
        "",
    );
    check_segment(
        Segment::Control(Control::Rnr { message_id: 0x0102_0304, index: 0x0506 }),
        "414d 00000000 00000004 00000000 00000000 02 000000 01020304 0506 0000",
        "",
    );
    check_segment(Segment::Control(Control::Nop), "414d 00000000 00000004 00000000 00000000 03 000000", "");
    let codes = [
        (Control::NACK_UNKNOWN_KEY, "0001"),
        (Control::NACK_ACCESS, "0002"),
        (Control::NACK_RANGE, "0003"),
        (Control::NACK_UNSUPPORTED, "0004"),
        // Of a later version: read as it is.
        (0xfffe, "fffe"),
    ];
    for (code, number) in codes {
        check_segment(
            Segment::Control(Control::Nack { message_id: 0x0102_0304, index: 0x0506, code }),
            &format!("414d 00000000 00000004 00000000 00000000 04 000000 01020304 0506 {number}"),
            "",
        );
    }
    check_segment(
        Segment::Control(Control::Done { message_id: 0x0102_0304 }),
        "414d 00000000 00000004 00000000 00000000 05 000000 01020304",
        "",
    );
    check_segment(
        Segment::Control(Control::Void { message_id: 0x0102_0304 }),
        "414d 00000000 00000004 00000000 00000000 06 000000 01020304",
        "",
    );
}

#[test]
fn extended_write() {
    let part = Segment::ExtendedWrite {
        offset: 0x0506_0708_090a_0b0c,
        last: false,
        message_id: 0x0d0e_0f10,
        key: 0x1112_1314_0102_0304,
        total: 5,
        data: None,
        report: false,
    };
    check_segment(
        part,
        "814e 01020304 05060708090a0b0c 00 00 0000 0d0e0f10 1112131401020304 0000000000000005",
        "abcd",
    );
    let whole = Segment::ExtendedWrite {
        offset: 0,
        last: true,
        message_id: 0x0d0e_0f10,
        key: 0x1112_1314_0102_0304,
        total: 2,
        data: Some(0x2122_2324_2526_2728),
        report: true,
    };
    check_segment(
        whole,
        "c14e 01020304 0000000000000000 03 00 0000 0d0e0f10 1112131401020304 0000000000000002 2122232425262728",
        "abcd",
    );
    let empty = Segment::ExtendedWrite {
        offset: u64::MAX,
        last: true,
        message_id: 1,
        key: 2,
        total: 0,
        data: None,
        report: true,
    };
    check_segment(
        empty,
        "c14e 00000002 ffffffffffffffff 02 00 0000 00000001 0000000000000002 0000000000000000",
        "",
    );
}

#[test]
fn extended_requests() {
    for (part, flags) in [(false, "00"), (true, "01")] {
        let read = Segment::ExtendedRead {
            message_id: 0x0102_0304,
            sink_stag: 0x0506_0708,
            sink_offset: 0x1112_1314_1516_1718,
            part,
            key: 0x2122_2324_2526_2728,
            offset: 0x3132_3334_3536_3738,
            length: 0x4142_4344_4546_4748,
        };
        let golden = format!(
            "414f 00000000 00000001 00000000 00000000 01 {flags} 0000 01020304 05060708 00000000 1112131415161718
             2122232425262728 3132333435363738 4142434445464748"
        );
        check_segment(read, &golden, "");
    }
    for (fetch, compare, flags) in
        [(false, false, "00"), (true, false, "01"), (false, true, "02"), (true, true, "03")]
    {
        let atomic = Segment::ExtendedAtomic {
            msn: 0x5152_5354,
            operation: 0x61,
            datatype: 0x62,
            fetch,
            compare,
            message_id: 0x0102_0304,
            sink_stag: 0x0506_0708,
            count: 0x0d0e_0f10,
            key: 0x2122_2324_2526_2728,
            offset: 0x3132_3334_3536_3738,
        };
        let golden = format!(
            "414f 00000000 00000001 51525354 00000000 02 61 62 {flags} 01020304 05060708 0d0e0f10 2122232425262728
             3132333435363738"
        );
        check_segment(atomic, &golden, "abcdef");
    }
}

/// What a receiver ignores may hold anything.
#[test]
fn ignored_fields_of_the_extensions() {
    let write = "bd7e 00000002 0000000000000007 fc ff ffff 00000001 0000000100000002 0000000000000005 ab";
    let expected = Segment::ExtendedWrite {
        offset: 7,
        last: false,
        message_id: 1,
        key: 0x1_0000_0002,
        total: 5,
        data: None,
        report: false,
    };
    assert_eq!(Segment::decode(&hex(write)), Ok((expected, 38)));

    let read = hex(&format!(
        "7d7f ffffffff 00000001 ffffffff 00000000 01 feffff 00000001 00000002 ffffffff {}",
        "0000000000000003".repeat(4)
    ));
    let expected = Segment::ExtendedRead {
        message_id: 1,
        sink_stag: 2,
        sink_offset: 3,
        part: false,
        key: 3,
        offset: 3,
        length: 3,
    };
    assert_eq!(Segment::decode(&read), Ok((expected, 66)));

    let atomic = hex(&format!(
        "414f ffffffff 00000001 00000009 00000000 02 01 02 fd 00000001 00000002 00000003 {}",
        "0000000000000003".repeat(2)
    ));
    let expected = Segment::ExtendedAtomic {
        msn: 9,
        operation: 1,
        datatype: 2,
        fetch: true,
        compare: false,
        message_id: 1,
        sink_stag: 2,
        count: 3,
        key: 3,
        offset: 3,
    };
    assert_eq!(Segment::decode(&atomic), Ok((expected, 50)));
}

/// The first packet of a context: header, SYN and a message of two bytes.
pub(crate) fn first_packet() -> Vec<u8> {
    let llp =
        "11 01 007c 00000000 0000 0000 00000009 0000 0000 00000000 0000 0000 0000 0000 00000000 deadbeef";
    let send = "4143 00000000 00000000 00000001 00000000";
    hex(&format!("{llp} {SYN_V4} {send} cafe"))
}

#[test]
fn first_packet_of_a_context() {
    let bytes = first_packet();
    let mut llp = Llp::new(Kind::Data);
    llp.flags = Flags::SYN;
    llp.length = 124;
    llp.psn = Psn(9);
    llp.integrity = 0xdead_beef;
    let expected = Packet {
        llp,
        syn: Some(syn("192.0.2.7:9767".parse().expect("a name"))),
        body: Body::Data { segment: Segment::Send { msn: 1 }, payload: &[0xca, 0xfe] },
        headers: 122,
    };
    assert_eq!(Packet::decode(&bytes), Ok(expected));
}

#[test]
fn packets_without_payload() {
    let header = |kind: u8, flags: u8, length: u16| {
        hex(&format!(
            "1{kind:x} {flags:02x} {length:04x} 00000001 0000 0000 00000002 0000 0000 00000003 0000 0000 0000 0000 00000004 00000000"
        ))
    };
    let ack = [header(2, 0x20, 52), hex("00000001 00000000 0000 0000")].concat();
    assert!(matches!(Packet::decode(&ack), Ok(Packet { body: Body::Ack(_), headers: 52, .. })));
    let reset = [header(3, 0, 60), hex("00000001 00000002 0000000000000003 00000001")].concat();
    assert!(matches!(Packet::decode(&reset), Ok(Packet { body: Body::Reset(_), headers: 60, .. })));
    let close = header(4, 0, 40);
    assert!(matches!(Packet::decode(&close), Ok(Packet { body: Body::Close, headers: 40, .. })));
    let probe = [header(5, 0, 100), vec![7; 60]].concat();
    assert!(matches!(Packet::decode(&probe), Ok(Packet { body: Body::Probe, headers: 40, .. })));
    let probe_ack = header(6, 0, 40);
    assert!(matches!(Packet::decode(&probe_ack), Ok(Packet { body: Body::ProbeAck, headers: 40, .. })));
}
