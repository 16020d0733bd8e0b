//! What is written is read back, byte for byte and value for value.

use proptest::prelude::*;
use rdgram_wire::{Ack, Llp, Packet, Reset, Segment, Syn, WINDOW};

use crate::datagram::{Datagram, OwnedBody};
use crate::strategies::{acks, datagrams, llps, resets, segments, syns};

/// The bytes that `encode` writes, in a buffer of `size` whose other bytes must stay.
fn written(size: usize, encode: impl Fn(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0xA5; size + 3];
    let length = encode(&mut bytes);
    assert!(bytes[length..].iter().all(|&byte| byte == 0xA5), "wrote beyond the length it returned");
    bytes.truncate(length);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn llp(llp in llps()) {
        let bytes = written(Llp::LENGTH, |out| llp.encode(out));
        prop_assert_eq!(bytes.len(), Llp::LENGTH);
        prop_assert_eq!(Llp::decode(&bytes), Ok(llp));
    }

    #[test]
    fn syn(syn in syns(), later in 0u16..100) {
        let mut bytes = written(Syn::LENGTH, |out| syn.encode(out));
        prop_assert_eq!(Syn::decode(&bytes), Ok((syn, Syn::LENGTH)));
        // A later version appends fields: skipped, and all of them.
        let length = Syn::LENGTH + usize::from(later);
        bytes.resize(length, 0x5A);
        bytes[..2].copy_from_slice(&u16::try_from(length).expect("small").to_be_bytes());
        bytes.extend_from_slice(b"body");
        prop_assert_eq!(Syn::decode(&bytes), Ok((syn, length)));
    }

    #[test]
    fn ack(ack in acks()) {
        let bytes = written(Ack::LENGTH_MAX, |out| ack.encode(out));
        prop_assert_eq!(bytes.len(), ack.encoded_length());
        prop_assert_eq!(bytes.len(), Ack::HEADER_LENGTH + 8 * usize::from(ack.words));
        prop_assert_eq!(Ack::decode(&bytes), Ok(ack));
        // The stated count of words is not trusted when writing.
        let vague = Ack { words: 16, ..ack };
        prop_assert_eq!(written(Ack::LENGTH_MAX, |out| vague.encode(out)), bytes);
    }

    #[test]
    fn ack_bits(ack in acks()) {
        for bit in 0..WINDOW + 70 {
            let expected = ack.sack.get(bit as usize / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0);
            prop_assert_eq!(ack.is_set(bit), expected, "bit {}", bit);
        }
    }

    #[test]
    fn reset(reset in resets()) {
        let bytes = written(Reset::LENGTH, |out| reset.encode(out));
        prop_assert_eq!(Reset::decode(&bytes), Ok(reset));
    }

    #[test]
    fn segment((segment, payload) in segments()) {
        let mut bytes = written(Segment::HEADER_MAX, |out| segment.encode(out));
        let headers = bytes.len();
        prop_assert_eq!(headers, segment.encoded_length());
        prop_assert!(headers <= Segment::HEADER_MAX);
        bytes.extend_from_slice(&payload);
        prop_assert_eq!(Segment::decode(&bytes), Ok((segment, headers)));
    }

    #[test]
    fn next_of_a_train(llp in llps(), next in llps()) {
        let next = Llp { flags: next.flags, psn: next.psn, tx_number: next.tx_number, integrity: 0, ..llp };
        let mut bytes = written(Llp::LENGTH, |out| llp.encode(out));
        next.encode_next(&mut bytes);
        prop_assert_eq!(bytes, written(Llp::LENGTH, |out| next.encode(out)));
    }

    #[test]
    fn advanced((segment, _) in segments(), by in 1_u16..) {
        let mut bytes = written(Segment::HEADER_MAX, |out| segment.encode(out));
        let mut further = segment;
        match &mut further {
            Segment::Write { offset, .. } | Segment::ReadResponse { offset, .. } | Segment::ExtendedWrite { offset, .. } => {
                *offset = offset.wrapping_add(by.into());
            }
            Segment::ExtendedSend { offset, start: None, .. } => *offset = offset.wrapping_add(by.into()),
            _ => return Ok(()),
        }
        Segment::advance(&mut bytes, by);
        prop_assert_eq!(bytes, written(Segment::HEADER_MAX, |out| further.encode(out)));
    }

    #[test]
    fn packet(datagram in datagrams()) {
        let bytes = datagram.encode();
        let packet = Packet::decode(&bytes).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        prop_assert_eq!(packet.llp, datagram.header(bytes.len()));
        prop_assert_eq!(packet.syn, datagram.syn);
        let back = Datagram::from(&packet);
        prop_assert_eq!(&back.body, &datagram.body);
        prop_assert_eq!(back.encode(), &bytes[..]);
        let uncovered = match &datagram.body {
            OwnedBody::Data { payload, .. } => payload.len(),
            OwnedBody::Probe(padding) => *padding,
            _ => 0,
        };
        prop_assert_eq!(packet.headers, bytes.len() - uncovered);
    }

    #[test]
    fn buffers_of_exactly_the_length_do(datagram in datagrams()) {
        if let OwnedBody::Data { segment, .. } = datagram.body {
            prop_assert_eq!(segment.encode(&mut vec![0; segment.encoded_length()]), segment.encoded_length());
        }
        if let OwnedBody::Ack(ack) = datagram.body {
            prop_assert_eq!(ack.encode(&mut vec![0; ack.encoded_length()]), ack.encoded_length());
        }
    }
}
