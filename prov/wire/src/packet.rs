//! A whole datagram: LLP header, SYN extension when there is one, body. Must never accept what a header alone contradicts.

use crate::{Ack, Bundle, Flags, Kind, Llp, Malformed, Reset, Segment, Syn};

/// A datagram as a value; the payload stays where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The LLP header.
    pub llp: Llp,
    /// The sender's record, when the packet carries it.
    pub syn: Option<Syn>,
    /// What the kind says.
    pub body: Body<'a>,
    /// Bytes of the datagram, from its start, that a headers-only integrity field covers.
    pub headers: usize,
}

/// The body of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// One DDP segment.
    Data {
        /// Its headers.
        segment: Segment,
        /// What follows them.
        payload: &'a [u8],
    },
    /// Several DDP segments.
    Bundle(Bundle<'a>),
    /// What has arrived beyond the cumulative acknowledgement.
    Ack(Ack),
    /// A packet was not understood.
    Reset(Reset),
    /// The sender's endpoint is gone.
    Close,
    /// Padding.
    Probe,
    /// A probe arrived whole.
    ProbeAck,
}

impl<'a> Packet<'a> {
    /// Reads one datagram, as long as the network said it is. Integrity is not checked here.
    ///
    /// # Errors
    /// Any of [`Malformed`]: the datagram is to be counted and dropped.
    #[inline]
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let llp = Llp::decode(datagram)?;
        if usize::from(llp.length) != datagram.len() {
            return Err(Malformed::Length { stated: llp.length, received: datagram.len() });
        }
        let (syn, at) =
            if llp.flags.contains(Flags::SYN) { Self::syn(datagram)? } else { (None, Llp::LENGTH) };
        let rest = &datagram[at..];
        if llp.kind == Kind::Data {
            return Segment::decode_then(rest, 0, |segment, length| {
                let body = Body::Data { segment, payload: &rest[length..] };
                Self { llp, syn, body, headers: at + length }
            });
        }
        let body = Self::other(&llp, rest)?;
        let headers = if llp.kind == Kind::Probe { at } else { datagram.len() };
        Ok(Self { llp, syn, body, headers })
    }

    #[cold]
    fn syn(datagram: &[u8]) -> Result<(Option<Syn>, usize), Malformed> {
        let (syn, length) = Syn::decode(&datagram[Llp::LENGTH..])?;
        Ok((Some(syn), Llp::LENGTH + length))
    }

    /// The other kinds.
    fn other(llp: &Llp, rest: &'a [u8]) -> Result<Body<'a>, Malformed> {
        let empty = |header, body| {
            if rest.is_empty() { Ok(body) } else { Err(Malformed::Trailing { header, extra: rest.len() }) }
        };
        match llp.kind {
            // The bitmap counts from the cumulative acknowledgement.
            Kind::Ack if !llp.flags.contains(Flags::ACKED) => Err(Malformed::AckFlags),
            Kind::Ack => Ok(Body::Ack(Ack::decode(rest)?)),
            Kind::Reset => Ok(Body::Reset(Reset::decode(rest)?)),
            // Where an item begins is a header: nothing in it may be damaged.
            Kind::Bundle if !llp.flags.contains(Flags::FULL) => Err(Malformed::BundleFlags),
            Kind::Bundle => Ok(Body::Bundle(Bundle::decode(rest)?)),
            Kind::Close => empty("CLOSE body", Body::Close),
            Kind::ProbeAck => empty("PROBE_ACK body", Body::ProbeAck),
            Kind::Probe | Kind::Data => Ok(Body::Probe),
        }
    }
}
