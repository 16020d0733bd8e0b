//! The printer: one line for every packet and every error.

use proptest::prelude::*;
use rdgram_wire::{Ack, Body, Control, Flags, Kind, Llp, Packet, Psn, Segment, Start};

use crate::strategies::datagrams;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

    #[test]
    fn every_packet_is_one_line_that_begins_with_its_kind(datagram in datagrams()) {
        let bytes = datagram.encode();
        let packet = Packet::decode(&bytes).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        let line = packet.to_string();
        prop_assert!(line.starts_with(&packet.llp.kind.to_string()), "{}", line);
        prop_assert!(line.chars().all(|char| char.is_ascii() && !char.is_control()), "{}", line);
    }
}

#[test]
fn data() {
    let mut llp = Llp::new(Kind::Data);
    llp.flags = Flags::AR | Flags::RETX | Flags::ACKED | Flags::ECHO;
    llp.length = 111;
    llp.dst_ctx = 0xabc;
    llp.psn = Psn(7);
    llp.tx_number = 9;
    llp.cumulative = Psn(5);
    llp.refusals = 1;
    llp.credit_packets = 512;
    llp.echo_tx = 8;
    llp.echo_delay_us = 33;
    llp.cookie = 0x77;
    let start = Some(Start { rendezvous: false, tag: Some(0x10), data: None });
    let segment = Segment::ExtendedSend { msn: 3, offset: 0, last: false, message_id: 4, total: 5000, start };
    let packet = Packet { llp, syn: None, body: Body::Data { segment, payload: &[0; 29] }, headers: 82 };
    assert_eq!(
        packet.to_string(),
        "DATA 111 ctx 0xabc psn 7 AR RETX path 0 tx 9 ack 5 refusals 1 credit 512 echo 8 after 33 us \
         cookie 0x77 crc 0x00000000 | send msn 3 id 4 at 0 of 5000 start tag 0x10 payload 29"
    );
}

#[test]
fn bitmaps_are_runs_after_the_cumulative_acknowledgement() {
    let mut ack = Ack::default();
    assert_eq!(ack.to_string(), "credit 0 bytes ce 0 sack none");
    ack.sack[0] = 0b1011;
    ack.sack[1] = 1 << 63;
    ack.sack[2] = 1;
    assert_eq!(ack.to_string(), "credit 0 bytes ce 0 sack +1..2 +4 +128..129");
    ack.sack = [u64::MAX; 16];
    assert_eq!(ack.to_string(), "credit 0 bytes ce 0 sack +1..1024");
}

#[test]
fn control() {
    let cts = Segment::Control(Control::Cts { message_id: 1, stag: 0x20, length: 3 });
    assert_eq!(cts.to_string(), "CTS id 1 stag 0x20 length 3");
    let rnr = Segment::Control(Control::Rnr { message_id: 1, index: 2 });
    assert_eq!(rnr.to_string(), "RNR id 1 index 2");
    assert_eq!(Segment::Control(Control::Nop).to_string(), "NOP");
    let nack = Segment::Control(Control::Nack { message_id: 1, index: 2, code: 3 });
    assert_eq!(nack.to_string(), "NACK id 1 index 2 code 3");
    assert_eq!(Segment::Control(Control::Done { message_id: 1 }).to_string(), "DONE id 1");
    assert_eq!(Segment::Control(Control::Void { message_id: 1 }).to_string(), "VOID id 1");
}

#[test]
fn operations_on_keys() {
    let write = |last, data, report| {
        Segment::ExtendedWrite { offset: 16, last, message_id: 1, key: 0x20, total: 3, data, report }
            .to_string()
    };
    assert_eq!(write(false, None, false), "write id 1 key 0x20 at 0x10 of 3");
    assert_eq!(write(true, Some(4), true), "write id 1 key 0x20 at 0x10 of 3 data 0x4 report last");
    let read = |part| {
        Segment::ExtendedRead {
            message_id: 1,
            sink_stag: 0x20,
            sink_offset: 0x30,
            part,
            key: 0x40,
            offset: 0x50,
            length: 6,
        }
        .to_string()
    };
    assert_eq!(read(false), "read id 1 of 6 from key 0x40 at 0x50 to stag 0x20 at 0x30");
    assert_eq!(read(true), "read id 1 of 6 from key 0x40 at 0x50 to stag 0x20 at 0x30 part");
    let atomic = |fetch, compare| {
        Segment::ExtendedAtomic {
            msn: 1,
            operation: 2,
            datatype: 7,
            fetch,
            compare,
            message_id: 3,
            sink_stag: 0x40,
            count: 5,
            key: 0x60,
            offset: 0x70,
        }
        .to_string()
    };
    assert_eq!(atomic(false, false), "atomic op 2 type 7 msn 1 id 3 count 5 key 0x60 at 0x70");
    assert_eq!(
        atomic(true, true),
        "atomic op 2 type 7 msn 1 id 3 count 5 key 0x60 at 0x70 compare fetch to stag 0x40"
    );
}
