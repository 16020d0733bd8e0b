//! Puts packets together and takes them apart, the way an endpoint does. Must never judge: the tests do.

use rdgram_wire::{Ack, Body, Bundle, Flags, Kind, Llp, Packet, Reset, Segment, Syn};

/// What is needed to write a datagram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Datagram {
    /// Kind, SYN flag and length are filled in from the rest.
    pub(crate) llp: Llp,
    pub(crate) syn: Option<Syn>,
    pub(crate) body: OwnedBody,
}

/// `Body` with its payload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnedBody {
    Data {
        segment: Segment,
        payload: Vec<u8>,
    },
    Bundle(Vec<(Segment, Vec<u8>)>),
    Ack(Ack),
    Reset(Reset),
    Close,
    /// Bytes of padding.
    Probe(usize),
    ProbeAck,
}

impl OwnedBody {
    fn kind(&self) -> Kind {
        match self {
            Self::Data { .. } => Kind::Data,
            Self::Bundle(_) => Kind::Bundle,
            Self::Ack(_) => Kind::Ack,
            Self::Reset(_) => Kind::Reset,
            Self::Close => Kind::Close,
            Self::Probe(_) => Kind::Probe,
            Self::ProbeAck => Kind::ProbeAck,
        }
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        match self {
            Self::Data { segment, payload } => append_segment(segment, payload, bytes),
            Self::Bundle(items) => {
                for (segment, payload) in items {
                    let mut frame = [0xEE; Bundle::FRAME];
                    let length =
                        u16::try_from(segment.encoded_length() + payload.len()).expect("items are short");
                    assert_eq!(Bundle::encode_frame(length, &mut frame), frame.len());
                    bytes.extend_from_slice(&frame);
                    append_segment(segment, payload, bytes);
                }
            }
            Self::Ack(ack) => {
                bytes.resize(at + Ack::LENGTH_MAX, 0xEE);
                let length = ack.encode(&mut bytes[at..]);
                assert_eq!(length, ack.encoded_length());
                bytes.truncate(at + length);
            }
            Self::Reset(reset) => {
                bytes.resize(at + Reset::LENGTH, 0xEE);
                assert_eq!(reset.encode(&mut bytes[at..]), Reset::LENGTH);
            }
            Self::Probe(padding) => bytes.resize(at + padding, 0),
            Self::Close | Self::ProbeAck => {}
        }
    }
}

fn append_segment(segment: &Segment, payload: &[u8], bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.resize(at + Segment::HEADER_MAX, 0xEE);
    let length = segment.encode(&mut bytes[at..]);
    assert_eq!(length, segment.encoded_length());
    bytes.truncate(at + length);
    bytes.extend_from_slice(payload);
}

impl Datagram {
    /// The LLP header as it goes out.
    pub(crate) fn header(&self, length: usize) -> Llp {
        let mut llp = self.llp;
        llp.kind = self.body.kind();
        llp.flags.set(Flags::SYN, self.syn.is_some());
        llp.length = u16::try_from(length).expect("generated datagrams are below 64 KiB");
        llp
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0xEE; Llp::LENGTH];
        if let Some(syn) = &self.syn {
            bytes.resize(Llp::LENGTH + Syn::LENGTH, 0xEE);
            assert_eq!(syn.encode(&mut bytes[Llp::LENGTH..]), Syn::LENGTH);
        }
        self.body.append_to(&mut bytes);
        let length = bytes.len();
        assert_eq!(self.header(length).encode(&mut bytes), Llp::LENGTH);
        bytes
    }
}

impl From<&Packet<'_>> for Datagram {
    fn from(packet: &Packet<'_>) -> Self {
        let body = match packet.body {
            Body::Data { segment, payload } => OwnedBody::Data { segment, payload: payload.to_vec() },
            // An item that is malformed is left out, as an endpoint does.
            Body::Bundle(bundle) => OwnedBody::Bundle(
                bundle.items().flatten().map(|(segment, payload)| (segment, payload.to_vec())).collect(),
            ),
            Body::Ack(ack) => OwnedBody::Ack(ack),
            Body::Reset(reset) => OwnedBody::Reset(reset),
            Body::Close => OwnedBody::Close,
            Body::Probe => OwnedBody::Probe(usize::from(packet.llp.length) - packet.headers),
            Body::ProbeAck => OwnedBody::ProbeAck,
        };
        Self { llp: packet.llp, syn: packet.syn, body }
    }
}

/// Corrects the length field after bytes were added or taken away.
pub(crate) fn fix_length(bytes: &mut [u8]) {
    let length = u16::try_from(bytes.len()).expect("below 64 KiB");
    if let Some(field) = bytes.get_mut(Llp::LENGTH_OFFSET..Llp::LENGTH_OFFSET + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
