//! The messages of the exchange: what two endpoints tell each other before they share memory.
//!
//! Bytes become values here, once, and only as a whole. Numbers are in the host's own order: both ends are on it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::layout::{Geometry, MAGIC, NEIGHBOURS_MAX, SLOT_SIZE, VERSION};

/// Bytes of the longest message; also what is offered to receive one.
pub(crate) const MESSAGE_MAX: usize = 160;

const HELLO: u32 = 1;
const REFUSAL: u32 = 2;

/// Why the other end of a connection would not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has another version of the layout.
    Version,
    /// It belongs to another user.
    User,
    /// It knows us, or itself, under another incarnation.
    Incarnation,
    /// It has too many offers to answer, or too many neighbours.
    Busy,
    /// It could not use our segment.
    Segment,
    /// It has closed.
    Closed,
}

const REFUSALS: [Refusal; 6] =
    [Refusal::Version, Refusal::User, Refusal::Incarnation, Refusal::Busy, Refusal::Segment, Refusal::Closed];

/// What both ends say, with the descriptor of their segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Who speaks.
    pub(crate) name: SocketAddr,
    pub(crate) incarnation: u64,
    /// The incarnation of the one spoken to, as the speaker knows it.
    pub(crate) your_incarnation: u64,
    /// The number that the speaker gives the one spoken to, and the value of its open word.
    pub(crate) number: u16,
    pub(crate) generation: u32,
    /// The speaker's segment.
    pub(crate) geometry: Geometry,
    pub(crate) capabilities: u32,
    /// Where in the speaker's memory `probe_value` can be read, to see whether reading works; 0: nowhere.
    pub(crate) probe_address: u64,
    pub(crate) probe_value: u64,
}

/// A message, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Hello(Hello),
    Refusal(Refusal),
    /// Of another version.
    OtherVersion,
    /// Nothing that any version says.
    Invalid,
}

/// A message to send.
#[derive(Debug)]
pub(crate) struct Bytes {
    bytes: [u8; MESSAGE_MAX],
    length: usize,
}

impl Bytes {
    fn new(kind: u32) -> Self {
        let mut message = Self { bytes: [0; MESSAGE_MAX], length: 0 };
        // The same in every version: so that versions can refuse each other with a clear word.
        message.push(&MAGIC.to_ne_bytes());
        message.push(&VERSION.to_ne_bytes());
        message.push(&kind.to_ne_bytes());
        message
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Refusal {
    pub(crate) fn encode(self) -> Bytes {
        let mut message = Bytes::new(REFUSAL);
        let code = REFUSALS.iter().position(|&refusal| refusal == self).unwrap_or_default();
        message.push(&(code as u64).to_ne_bytes());
        message
    }
}

impl Hello {
    pub(crate) fn encode(&self) -> Bytes {
        let mut message = Bytes::new(HELLO);
        let (family, ip, scope) = match self.name {
            SocketAddr::V4(v4) => (4_u16, v4.ip().to_ipv6_mapped().octets(), 0),
            SocketAddr::V6(v6) => (6, v6.ip().octets(), v6.scope_id()),
        };
        message.push(&ip);
        message.push(&family.to_ne_bytes());
        message.push(&self.name.port().to_ne_bytes());
        message.push(&scope.to_ne_bytes());
        message.push(&self.incarnation.to_ne_bytes());
        message.push(&self.your_incarnation.to_ne_bytes());
        message.push(&u32::from(self.number).to_ne_bytes());
        message.push(&self.generation.to_ne_bytes());
        message.push(&self.geometry.slots().to_ne_bytes());
        message.push(&SLOT_SIZE.to_ne_bytes());
        message.push(&self.geometry.buffers().to_ne_bytes());
        message.push(&self.geometry.buffer_size().to_ne_bytes());
        message.push(&(self.geometry.total() as u64).to_ne_bytes());
        message.push(&self.probe_address.to_ne_bytes());
        message.push(&self.probe_value.to_ne_bytes());
        message.push(&self.capabilities.to_ne_bytes());
        message
    }
}

/// Reads one field after the other; `None` beyond the end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

/// Understands a message.
pub(crate) fn decode(bytes: &[u8]) -> Message {
    let mut reader = Reader(bytes);
    let (magic, version, kind) = (reader.u64(), reader.u32(), reader.u32());
    if magic != Some(MAGIC) {
        return Message::Invalid;
    }
    if version != Some(VERSION) {
        return Message::OtherVersion;
    }
    let message = match kind {
        Some(HELLO) => decode_hello(&mut reader).map(Message::Hello),
        Some(REFUSAL) => decode_refusal(&mut reader).map(Message::Refusal),
        _ => None,
    };
    message.unwrap_or(Message::Invalid)
}

fn decode_refusal(reader: &mut Reader<'_>) -> Option<Refusal> {
    REFUSALS.get(usize::try_from(reader.u64()?).ok()?).copied()
}

fn decode_hello(reader: &mut Reader<'_>) -> Option<Hello> {
    let ip = Ipv6Addr::from(reader.take::<16>()?);
    let (family, port, scope) = (reader.u16()?, reader.u16()?, reader.u32()?);
    let name = match family {
        4 => SocketAddr::V4(SocketAddrV4::new(v4(ip)?, port)),
        6 => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
        _ => return None,
    };
    let (incarnation, your_incarnation) = (reader.u64()?, reader.u64()?);
    let number = u16::try_from(reader.u32()?).ok().filter(|&number| usize::from(number) < NEIGHBOURS_MAX)?;
    let generation = reader.u32().filter(|generation| generation % 2 == 1)?;
    let (slots, slot_size) = (reader.u32()?, reader.u32()?);
    let geometry = Geometry::new(slots, reader.u32()?, reader.u32()?)?;
    let total = reader.u64()?;
    if slot_size != SLOT_SIZE || total != geometry.total() as u64 {
        return None;
    }
    let (probe_address, probe_value) = (reader.u64()?, reader.u64()?);
    let capabilities = reader.u32()?;
    Some(Hello {
        name,
        incarnation,
        your_incarnation,
        number,
        generation,
        geometry,
        capabilities,
        probe_address,
        probe_value,
    })
}

fn v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    ip.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            name: SocketAddr::from(([127, 0, 0, 1], 4000)),
            incarnation: 7,
            your_incarnation: 8,
            number: 1023,
            generation: 5,
            geometry: Geometry::new(4, 2, 64).expect("possible"),
            capabilities: 1,
            probe_address: 0x7fff_0000,
            probe_value: 99,
        }
    }

    #[test]
    fn messages_survive_their_bytes() {
        let mut hello = hello();
        assert_eq!(decode(hello.encode().as_slice()), Message::Hello(hello));
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        hello.name = SocketAddr::V6(SocketAddrV6::new(link_local, 5, 0, 3));
        assert_eq!(decode(hello.encode().as_slice()), Message::Hello(hello));
        for refusal in REFUSALS {
            assert_eq!(decode(refusal.encode().as_slice()), Message::Refusal(refusal));
        }
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        let bytes = hello().encode();
        let mut other = bytes.as_slice().to_vec();
        other[8] ^= 3;
        assert_eq!(decode(&other), Message::OtherVersion);
        assert_eq!(decode(&other[..16]), Message::OtherVersion);
        other[0] ^= 1;
        assert_eq!(decode(&other), Message::Invalid);
        for length in 0..bytes.as_slice().len() {
            assert!(!matches!(decode(&bytes.as_slice()[..length]), Message::Hello(_)), "cut to {length}");
        }
    }

    #[test]
    fn a_hello_with_impossible_numbers_is_invalid() {
        let good = hello().encode();
        // The number, the generation (now even), slots, slot size, total.
        for (offset, value) in [(56, 0xff), (60, 4), (64, 3), (68, 9), (80, 1)] {
            let mut bytes = good.as_slice().to_vec();
            bytes[offset] = value;
            if offset == 56 {
                bytes[offset + 1] = 0xff;
            }
            assert_eq!(decode(&bytes), Message::Invalid, "byte {offset}");
        }
    }
}
