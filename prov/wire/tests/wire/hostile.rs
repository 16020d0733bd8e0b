//! Bytes that nobody meant: whatever arrives, decoding ends in a value or an error, and a value is exactly what the bytes say.

use proptest::prelude::*;
use rdgram_wire::{Flags, Kind, Llp, Packet, Segment, Syn};

use crate::datagram::{Datagram, fix_length};
use crate::golden::{first_packet, hex};
use crate::strategies::datagrams;

/// Zeroes or removes what a receiver ignores, by the places that protocol.md names: the only freedom an accepted packet has.
fn canonical(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // A RESET is read in every version and written in ours.
    bytes[0] = 0x10 | bytes[0] & 0x0F;
    bytes[1] &= 0x3F;
    let mut body = Llp::LENGTH;
    if bytes[1] & Flags::SYN.bits() != 0 {
        let length = usize::from(u16::from_be_bytes([bytes[40], bytes[41]]));
        bytes.drain(Llp::LENGTH + Syn::LENGTH..Llp::LENGTH + length);
        bytes[40..42].copy_from_slice(&64u16.to_be_bytes());
        if bytes[77] == 4 {
            bytes[84..96].fill(0);
            bytes[100..104].fill(0);
        }
        body += Syn::LENGTH;
    }
    match bytes[0] & 0x0F {
        1 => canonical_segment(&mut bytes[body..]),
        2 => {
            bytes[body + 10..body + 12].fill(0);
            while bytes.len() > body + 12 && bytes[bytes.len() - 8..] == [0; 8] {
                bytes.truncate(bytes.len() - 8);
                bytes[body + 9] -= 1;
            }
        }
        5 => bytes[body..].fill(0),
        7 => canonical_bundle(&mut bytes, body),
        _ => {}
    }
    fix_length(&mut bytes);
    bytes
}

/// Items that are malformed are left out.
fn canonical_bundle(bytes: &mut Vec<u8>, body: usize) {
    let mut rest = bytes.split_off(body);
    while !rest.is_empty() {
        let after = rest.split_off(2 + usize::from(u16::from_be_bytes([rest[0], rest[1]])));
        if Segment::decode(&rest[2..]).is_ok() {
            canonical_segment(&mut rest[2..]);
            bytes.extend_from_slice(&rest);
        }
        rest = after;
    }
}

fn canonical_segment(bytes: &mut [u8]) {
    bytes[0] &= 0xC3;
    bytes[1] &= 0xCF;
    let opcode = bytes[1] & 0x0F;
    if bytes[0] & 0x80 != 0 {
        if opcode == 0xE {
            bytes[14] &= 0x03;
            bytes[15..18].fill(0);
        }
        return;
    }
    bytes[2..6].fill(0);
    match opcode {
        // Header control and what it announces are not kept, but the payload stays.
        0x7 => bytes[20..22].fill(0),
        0xA => {
            bytes[18..21].fill(0);
            bytes[21] &= 0x0F;
        }
        0xC => bytes[19..22].fill(0),
        0xD => {
            bytes[10..14].fill(0);
            let rnr = bytes[18] == 2;
            bytes[19..22].fill(0);
            if rnr {
                bytes[28..30].fill(0);
            }
        }
        0xF if bytes[18] == 1 => {
            bytes[10..14].fill(0);
            bytes[19] &= 0x01;
            bytes[20..22].fill(0);
            bytes[30..34].fill(0);
        }
        0xF => bytes[21] &= 0x03,
        _ => {}
    }
}

/// What must hold for any bytes. Says whether they were accepted.
fn check(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let packet = match Packet::decode(bytes) {
        Ok(packet) => packet,
        Err(fault) => {
            let text = fault.to_string();
            prop_assert!(!text.is_empty() && !text.contains('\n'), "{}", text);
            return Ok(false);
        }
    };
    let line = packet.to_string();
    prop_assert!(!line.is_empty() && line.chars().all(|char| !char.is_control()), "{}", line);
    prop_assert!(packet.headers >= Llp::LENGTH && packet.headers <= bytes.len());
    prop_assert_eq!(usize::from(packet.llp.length), bytes.len());
    let again = Datagram::from(&packet).encode();
    prop_assert_eq!(again, canonical(bytes), "{}", line);
    Ok(true)
}

/// Makes the LLP header pass, so that chance reaches what lies behind it.
fn with_good_header(mut bytes: Vec<u8>, kind: u8) -> Vec<u8> {
    if bytes.len() >= Llp::LENGTH {
        bytes[0] = 0x10 | kind;
        bytes[4] |= 1;
        bytes[8..12].fill(0);
        if kind == Kind::Ack as u8 {
            bytes[1] |= Flags::ACKED.bits();
        }
    }
    fix_length(&mut bytes);
    bytes
}

/// One change to a packet.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { at: prop::sample::Index, bit: u8 },
    Set { at: prop::sample::Index, byte: u8 },
    Integer { at: prop::sample::Index, bytes: [u8; 4] },
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Remove { at: prop::sample::Index, count: usize },
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let edges = prop_oneof![Just([0; 4]), Just([0xFF; 4]), Just([0, 0, 0, 1]), any::<[u8; 4]>()];
    prop_oneof![
        6 => (at(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set { at, byte }),
        2 => (at(), edges).prop_map(|(at, bytes)| Mutation::Integer { at, bytes }),
        1 => at().prop_map(Mutation::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Mutation::Append),
        1 => (at(), 1usize..9).prop_map(|(at, count)| Mutation::Remove { at, count }),
    ]
}

impl Mutation {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip { at, bit } => bytes[at.index(length)] ^= 1 << bit,
            Self::Set { at, byte } => bytes[at.index(length)] = byte,
            Self::Integer { at, bytes: value } => {
                let at = at.index(length);
                for (byte, value) in bytes[at..].iter_mut().zip(value) {
                    *byte = value;
                }
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Append(more) => bytes.extend(more),
            Self::Remove { at, count } => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30_000) })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
        let _ = Segment::decode(&bytes);
    }

    #[test]
    fn any_body(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..9, syn in any::<bool>()) {
        let mut bytes = with_good_header(bytes, kind);
        if let Some(flags) = bytes.get_mut(1) {
            *flags = *flags & !1 | u8::from(syn);
        }
        check(&bytes)?;
    }

    #[test]
    fn any_segment_of_every_opcode(
        opcode in 0u8..16, reserved in any::<[u8; 2]>(), tail in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        // Versions and model right, so that the headers of every message are read.
        let tagged = if matches!(opcode, 0 | 2 | 0xE) { 0x80 } else { 0 };
        let control = [reserved[0] & 0x7C | tagged | 1, reserved[1] & 0x30 | 0x40 | opcode];
        let mut bytes = [&[0; Llp::LENGTH][..], &control, &tail].concat();
        bytes = with_good_header(bytes, Kind::Data as u8);
        if let Some(queue) = bytes.get_mut(46..50) {
            let right: u32 = match opcode { 0x1 | 0xA | 0xF => 1, 0x7 => 2, 0xB => 3, 0xD => 4, _ => 0 };
            if tagged == 0 { queue.copy_from_slice(&right.to_be_bytes()); }
        }
        match opcode {
            // The STag is that of the key.
            0xE if bytes.len() >= 70 => bytes.copy_within(66..70, 42),
            // Of the types that there are, and one more; message offset 0.
            0xD | 0xF if bytes.len() > 58 => {
                bytes[54..58].fill(0);
                bytes[58] %= 7;
            }
            _ => {}
        }
        check(&bytes)?;
    }

    #[test]
    fn changed_packets(
        datagram in datagrams(), changes in prop::collection::vec(mutations(), 1..4), fixed in any::<bool>(),
    ) {
        let mut bytes = datagram.encode();
        for change in changes {
            change.apply(&mut bytes);
        }
        if fixed {
            fix_length(&mut bytes);
        }
        check(&bytes)?;
    }

    #[test]
    fn spliced_packets(one in datagrams(), other in datagrams(), at in any::<prop::sample::Index>()) {
        let (one, other) = (one.encode(), other.encode());
        let cut = at.index(one.len().min(other.len()));
        let mut bytes = [&one[..cut], &other[cut..]].concat();
        fix_length(&mut bytes);
        check(&bytes)?;
    }
}

/// Every first two bytes: version, kind and flags.
#[test]
fn every_beginning() {
    let mut accepted = 0;
    for first in 0..=u8::MAX {
        for flags in 0..=u8::MAX {
            let mut bytes = first_packet();
            bytes[..2].copy_from_slice(&[first, flags]);
            accepted += usize::from(check(&bytes).expect("holds for any bytes"));
        }
    }
    // DATA and PROBE with SYN, and PROBE without have a body that fits, but the context is 0 without SYN.
    assert_eq!(accepted, 2 * 128);
}

/// Every control word before a body that fits several opcodes.
#[test]
fn every_control_word() {
    let mut accepted = 0;
    for word in 0..=u16::MAX {
        let llp = "11 00 0000 00000001";
        let bytes = hex(&format!("{llp} {} {word:04x} {}", "00".repeat(32), "00".repeat(28)));
        let mut bytes = [&bytes[..40], &bytes[40..]].concat();
        fix_length(&mut bytes);
        accepted += usize::from(check(&bytes).expect("holds for any bytes"));
    }
    // Six reserved bits (64 words) each: Write and Read Response with either L. Untagged ones of queue 0 with L: Send, and no Immediate Data of
    // 12 bytes. An Extended Send needs 16 bytes, the extension of an Extended Write 24.
    assert_eq!(accepted, 64 * (2 + 2 + 1));
}

/// Every change of one byte of a packet with all headers.
#[test]
fn every_byte_of_a_packet() {
    let packet = first_packet();
    for at in 0..packet.len() {
        for byte in 0..=u8::MAX {
            let mut bytes = packet.clone();
            bytes[at] = byte;
            check(&bytes).unwrap_or_else(|fault| panic!("{byte:#x} at {at}: {fault}"));
        }
    }
}
