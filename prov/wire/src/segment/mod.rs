//! DDP segments (protocol.md, section 7): one value for every message of RDMAP, with its headers. Must never touch payload bytes.

mod atomic;
mod control;
mod ddp;
pub(crate) mod opcode;
mod read;
mod request;
mod send;
mod terminate;
mod write;

use atomic::{AtomicRequest, AtomicResponse};
use ddp::{ControlWord, Tagged, Untagged};
use read::ReadRequest;
use request::{ExtendedAtomic, ExtendedRead, Request};
use send::Extension;
use terminate::Terminate;
use write::WriteExtension;

pub use atomic::AtomicOpcode;
pub use control::Control;
pub use send::Start;

use crate::Malformed;
use crate::bytes::put;

/// The headers of one DDP segment, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A whole message in one segment, without tag or data. Payload follows.
    Send {
        /// Counts the messages of the context from 1.
        msn: u32,
    },
    /// A message, or the part of it at `offset`. Payload follows, but not in a rendezvous start.
    ExtendedSend {
        /// Counts the messages of the context from 1.
        msn: u32,
        /// Where the payload lies in the message.
        offset: u32,
        /// Whether the DDP message ends here: the payload ends at `total`, or the start is a rendezvous.
        last: bool,
        /// The sender's name for the operation.
        message_id: u32,
        /// Bytes of the message.
        total: u64,
        /// The envelope; there if and only if `offset` is 0.
        start: Option<Start>,
    },
    /// Payload for memory that the receiver named.
    Write {
        /// The memory.
        stag: u32,
        /// Where in it.
        offset: u64,
        /// Whether the DDP message ends here.
        last: bool,
    },
    /// Asks for memory of the receiver.
    ReadRequest {
        /// Counts the messages of the queue from 1.
        msn: u32,
        /// Where the requester wants it.
        sink_stag: u32,
        /// Where in that.
        sink_offset: u64,
        /// Bytes wanted.
        length: u32,
        /// The memory wanted.
        source_stag: u32,
        /// Where in that.
        source_offset: u64,
    },
    /// Payload that a Read Request asked for.
    ReadResponse {
        /// The sink of the request.
        stag: u32,
        /// Where in it.
        offset: u64,
        /// Whether the DDP message ends here.
        last: bool,
    },
    /// Eight bytes for the receiver's completion.
    Immediate {
        /// Counts the messages of the context from 1.
        msn: u32,
        /// Whether the receiver is to be woken.
        solicited: bool,
        /// The bytes.
        data: [u8; 8],
    },
    /// Changes 64 bits of the receiver's memory and asks for what they were.
    AtomicRequest {
        /// Counts the messages of the queue from 1.
        msn: u32,
        /// What to do.
        opcode: AtomicOpcode,
        /// The requester's name for the operation.
        request: u32,
        /// The memory.
        stag: u32,
        /// Where in it.
        offset: u64,
        /// Add or swap data.
        operand: u64,
        /// Add or swap mask.
        mask: u64,
        /// Compare data.
        compare: u64,
        /// Compare mask.
        compare_mask: u64,
    },
    /// What the 64 bits were.
    AtomicResponse {
        /// Counts the messages of the queue from 1.
        msn: u32,
        /// The requester's name for the operation.
        request: u32,
        /// The bits.
        value: u64,
    },
    /// An error of a stream, as RFC 5040 reports it.
    Terminate {
        /// Counts the messages of the queue from 1.
        msn: u32,
        /// Which layer found it: 0 RDMAP, 1 DDP, 2 LLP. Four bits.
        layer: u8,
        /// The type of error in that layer. Four bits.
        etype: u8,
        /// The error.
        code: u8,
    },
    /// Payload for memory that the sender has the key of: a part of an operation.
    ExtendedWrite {
        /// Where in the region.
        offset: u64,
        /// Whether this is the operation's last segment.
        last: bool,
        /// The sender's name for the operation.
        message_id: u32,
        /// The region.
        key: u64,
        /// Bytes of the operation.
        total: u64,
        /// Remote CQ data.
        data: Option<u64>,
        /// Whether the target wants to count the operation.
        report: bool,
    },
    /// Asks for memory that the requester has the key of. Its sequence number is not used and 0.
    ExtendedRead {
        /// The requester's name for the operation.
        message_id: u32,
        /// Where the requester wants it.
        sink_stag: u32,
        /// Where in that.
        sink_offset: u64,
        /// Another request of the same operation follows: the target does not count this one.
        part: bool,
        /// The region.
        key: u64,
        /// Where in the region.
        offset: u64,
        /// Bytes wanted.
        length: u64,
    },
    /// Changes memory that the requester has the key of. Operands follow as payload, then comparands.
    ExtendedAtomic {
        /// Counts with the messages of the context.
        msn: u32,
        /// What to do: a value of libfabric's `enum fi_op`, not judged here.
        operation: u8,
        /// What to do it with: a value of libfabric's `enum fi_datatype`, not judged here.
        datatype: u8,
        /// Whether the old values are wanted.
        fetch: bool,
        /// Whether comparands follow the operands.
        compare: bool,
        /// The requester's name for the operation.
        message_id: u32,
        /// Where the requester wants the old values.
        sink_stag: u32,
        /// Elements of the datatype.
        count: u32,
        /// The region.
        key: u64,
        /// Where in the region.
        offset: u64,
    },
    /// A control message. Its sequence number is not used and 0.
    Control(Control),
}

/// The most that follows a DDP header.
const EXTENSION_MAX: usize = AtomicRequest::LENGTH;
const IMMEDIATE_LENGTH: usize = 8;

const _: () = assert!(EXTENSION_MAX >= Extension::LENGTH_MAX);
const _: () = assert!(EXTENSION_MAX >= ReadRequest::LENGTH);
const _: () = assert!(EXTENSION_MAX >= Control::CTS_LENGTH);
const _: () = assert!(EXTENSION_MAX >= ExtendedRead::LENGTH);
const _: () = assert!(EXTENSION_MAX >= ExtendedAtomic::LENGTH);
const _: () = assert!(Segment::HEADER_MAX >= Tagged::LENGTH + WriteExtension::LENGTH_MAX);

impl Segment {
    /// Bytes of the longest headers.
    pub const HEADER_MAX: usize = Untagged::LENGTH + EXTENSION_MAX;
    /// Bytes of the headers of a Write or a Read Response.
    pub const TAGGED_LENGTH: usize = Tagged::LENGTH;

    /// Bytes that [`Segment::encode`] writes.
    #[inline]
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        let extension = match self {
            Self::Write { .. } | Self::ReadResponse { .. } => return Tagged::LENGTH,
            Self::ExtendedWrite { data, .. } => {
                return Tagged::LENGTH + WriteExtension::encoded_length(*data);
            }
            Self::Send { .. } => 0,
            Self::ExtendedSend { start, .. } => Extension::encoded_length(start.as_ref()),
            Self::ReadRequest { .. } => ReadRequest::LENGTH,
            Self::Immediate { .. } => IMMEDIATE_LENGTH,
            Self::AtomicRequest { .. } => AtomicRequest::LENGTH,
            Self::AtomicResponse { .. } => AtomicResponse::LENGTH,
            Self::Terminate { .. } => Terminate::LENGTH,
            Self::ExtendedRead { .. } => ExtendedRead::LENGTH,
            Self::ExtendedAtomic { .. } => ExtendedAtomic::LENGTH,
            Self::Control(control) => control.encoded_length(),
        };
        Untagged::LENGTH + extension
    }

    /// Writes the headers and returns their length; the payload follows there.
    ///
    /// # Panics
    /// When `out` is shorter than [`Segment::encoded_length`].
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> usize {
        match *self {
            Self::Send { msn } => Untagged::whole(msn).encode(opcode::SEND, true, out),
            Self::ExtendedSend { msn, offset, last, message_id, total, start } => {
                debug_assert_eq!(start.is_some(), offset == 0, "the start is the segment at offset 0");
                let at = Untagged { msn, offset }.encode(opcode::EXTENDED_SEND, last, out);
                at + Extension { message_id, total, start }.encode(&mut out[at..])
            }
            Self::Write { stag, offset, last } => Tagged { stag, offset }.encode(opcode::WRITE, last, out),
            Self::ReadResponse { stag, offset, last } => {
                Tagged { stag, offset }.encode(opcode::READ_RESPONSE, last, out)
            }
            Self::ExtendedWrite { offset, last, message_id, key, total, data, report } => {
                let header = Tagged { stag: WriteExtension::stag(key), offset };
                let at = header.encode(opcode::EXTENDED_WRITE, last, out);
                at + WriteExtension { message_id, key, total, data, report }.encode(&mut out[at..])
            }
            _ => self.encode_whole(out),
        }
    }

    /// Turns encoded headers into those of the segment `by` bytes further on in the same memory or message. Neither may be the last one, nor the start of a message.
    ///
    /// # Panics
    /// When `out` is shorter than the headers.
    #[inline]
    pub fn advance(out: &mut [u8], by: u16) {
        if ControlWord::is_tagged(out) {
            Tagged::advance(out, by.into());
        } else {
            Untagged::advance(out, by.into());
        }
    }

    /// The messages of one segment that are not on the fast path.
    fn encode_whole(&self, out: &mut [u8]) -> usize {
        let (code, msn) = self.untagged();
        let at = Untagged::whole(msn).encode(code, true, out);
        let rest = &mut out[at..];
        let extension = match *self {
            Self::ReadRequest { sink_stag, sink_offset, length, source_stag, source_offset, .. } => {
                ReadRequest { sink_stag, sink_offset, length, source_stag, source_offset }.encode(rest)
            }
            Self::Immediate { data, .. } => {
                put(rest, 0, data);
                IMMEDIATE_LENGTH
            }
            Self::AtomicRequest {
                opcode,
                request,
                stag,
                offset,
                operand,
                mask,
                compare,
                compare_mask,
                ..
            } => AtomicRequest { opcode, request, stag, offset, operand, mask, compare, compare_mask }
                .encode(rest),
            Self::AtomicResponse { request, value, .. } => AtomicResponse { request, value }.encode(rest),
            Self::Terminate { layer, etype, code, .. } => Terminate { layer, etype, code }.encode(rest),
            Self::ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length } => {
                ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length }.encode(rest)
            }
            Self::ExtendedAtomic {
                operation,
                datatype,
                fetch,
                compare,
                message_id,
                sink_stag,
                count,
                key,
                offset,
                ..
            } => ExtendedAtomic {
                operation,
                datatype,
                fetch,
                compare,
                message_id,
                sink_stag,
                count,
                key,
                offset,
            }
            .encode(rest),
            Self::Control(control) => control.encode(rest),
            Self::Send { .. }
            | Self::ExtendedSend { .. }
            | Self::Write { .. }
            | Self::ExtendedWrite { .. }
            | Self::ReadResponse { .. } => 0,
        };
        at + extension
    }

    /// Reads the headers of a segment that is `bytes`; also returns their length. What follows is payload.
    ///
    /// # Errors
    /// All that name DDP, RDMAP or one of its messages.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        Self::decode_then(bytes, 0, |segment, headers| (segment, headers))
    }

    /// Reads the headers of a segment whose payload, `payload` bytes, is somewhere else. Nothing but headers may be in `headers`.
    ///
    /// # Errors
    /// As [`Segment::decode`].
    #[inline]
    pub fn decode_apart(headers: &[u8], payload: usize) -> Result<Self, Malformed> {
        let (segment, length) = Self::decode_then(headers, payload, |segment, length| (segment, length))?;
        if length != headers.len() {
            return Err(Malformed::Trailing {
                header: "headers of a segment",
                extra: headers.len() - length,
            });
        }
        Ok(segment)
    }

    /// [`Segment::decode`] with payload that does not follow, and with what becomes of the result: done where each variant is made, it is written to its place and not moved there.
    #[inline(always)]
    pub(crate) fn decode_then<T>(
        bytes: &[u8],
        apart: usize,
        then: impl FnOnce(Self, usize) -> T,
    ) -> Result<T, Malformed> {
        let control = ControlWord::decode(bytes)?;
        let code = control.opcode;
        let queue = opcode::queue(code);
        if control.tagged != queue.is_none() || !opcode::is_implemented(code) {
            return Err(opcode_fault(control));
        }
        let Some(queue) = queue else {
            let header = Tagged::decode(bytes)?;
            let Tagged { stag, offset } = header;
            let last = control.last;
            let rest = &bytes[Tagged::LENGTH..];
            if code == opcode::EXTENDED_WRITE {
                let (extension, length) = WriteExtension::decode(rest, apart, stag, last)?;
                header.check(rest.len() - length + apart)?;
                let WriteExtension { message_id, key, total, data, report } = extension;
                let segment = Self::ExtendedWrite { offset, last, message_id, key, total, data, report };
                return Ok(then(segment, Tagged::LENGTH + length));
            }
            header.check(rest.len() + apart)?;
            return Ok(match code {
                opcode::WRITE => then(Self::Write { stag, offset, last }, Tagged::LENGTH),
                _ => then(Self::ReadResponse { stag, offset, last }, Tagged::LENGTH),
            });
        };
        let Untagged { msn, offset } = Untagged::decode(bytes, code, queue)?;
        let rest = &bytes[Untagged::LENGTH..];
        if code == opcode::EXTENDED_SEND {
            let last = control.last;
            let (Extension { message_id, total, start }, length) =
                Extension::decode(rest, apart, offset, last)?;
            let segment = Self::ExtendedSend { msn, offset, last, message_id, total, start };
            return Ok(then(segment, Untagged::LENGTH + length));
        }
        if !control.last {
            return Err(Malformed::Last { opcode: code, last: false });
        }
        if offset != 0 {
            return Err(Malformed::MessageOffset { opcode: code, offset });
        }
        if code == opcode::SEND {
            return Ok(then(Self::Send { msn }, Untagged::LENGTH));
        }
        let (segment, headers) = Self::decode_whole(code, msn, rest)?;
        Ok(then(segment, headers))
    }

    /// The messages of one segment that are not on the fast path.
    fn decode_whole(code: u8, msn: u32, rest: &[u8]) -> Result<(Self, usize), Malformed> {
        let segment = match code {
            opcode::READ_REQUEST => {
                let ReadRequest { sink_stag, sink_offset, length, source_stag, source_offset } =
                    ReadRequest::decode(rest)?;
                Self::ReadRequest { msn, sink_stag, sink_offset, length, source_stag, source_offset }
            }
            opcode::TERMINATE => {
                let Terminate { layer, etype, code } = Terminate::decode(rest)?;
                Self::Terminate { msn, layer, etype, code }
            }
            opcode::IMMEDIATE | opcode::IMMEDIATE_SE => {
                let data = *fixed::<IMMEDIATE_LENGTH>("Immediate Data", rest)?;
                Self::Immediate { msn, solicited: code == opcode::IMMEDIATE_SE, data }
            }
            opcode::ATOMIC_REQUEST => {
                let AtomicRequest { opcode, request, stag, offset, operand, mask, compare, compare_mask } =
                    AtomicRequest::decode(rest)?;
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
                }
            }
            opcode::ATOMIC_RESPONSE => {
                let AtomicResponse { request, value } = AtomicResponse::decode(rest)?;
                Self::AtomicResponse { msn, request, value }
            }
            opcode::EXTENDED_REQUEST => Self::request(msn, Request::decode(rest)?),
            opcode::CONTROL => Self::Control(Control::decode(rest)?),
            code => return Err(Malformed::Opcode(code)),
        };
        Ok((segment, segment.encoded_length()))
    }

    fn request(msn: u32, request: Request) -> Self {
        match request {
            Request::Read(ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length }) => {
                Self::ExtendedRead { message_id, sink_stag, sink_offset, part, key, offset, length }
            }
            Request::Atomic(ExtendedAtomic {
                operation,
                datatype,
                fetch,
                compare,
                message_id,
                sink_stag,
                count,
                key,
                offset,
            }) => Self::ExtendedAtomic {
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
            },
        }
    }

    /// Opcode and message sequence number of an untagged message.
    fn untagged(&self) -> (u8, u32) {
        match *self {
            Self::Send { msn } => (opcode::SEND, msn),
            Self::ExtendedSend { msn, .. } => (opcode::EXTENDED_SEND, msn),
            Self::ReadRequest { msn, .. } => (opcode::READ_REQUEST, msn),
            Self::Immediate { msn, solicited: false, .. } => (opcode::IMMEDIATE, msn),
            Self::Immediate { msn, solicited: true, .. } => (opcode::IMMEDIATE_SE, msn),
            Self::AtomicRequest { msn, .. } => (opcode::ATOMIC_REQUEST, msn),
            Self::AtomicResponse { msn, .. } => (opcode::ATOMIC_RESPONSE, msn),
            Self::Terminate { msn, .. } => (opcode::TERMINATE, msn),
            Self::Control(_) => (opcode::CONTROL, 0),
            Self::ExtendedRead { .. } => (opcode::EXTENDED_REQUEST, 0),
            Self::ExtendedAtomic { msn, .. } => (opcode::EXTENDED_REQUEST, msn),
            Self::ExtendedWrite { .. } => (opcode::EXTENDED_WRITE, 0),
            Self::Write { .. } => (opcode::WRITE, 0),
            Self::ReadResponse { .. } => (opcode::READ_RESPONSE, 0),
        }
    }
}

#[cold]
fn opcode_fault(control: ControlWord) -> Malformed {
    if opcode::is_implemented(control.opcode) {
        Malformed::Model { opcode: control.opcode, tagged: control.tagged }
    } else {
        Malformed::Opcode(control.opcode)
    }
}

/// A header that fills `bytes`, with nothing after it.
#[inline]
fn fixed<'a, const N: usize>(header: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; N], Malformed> {
    match bytes.split_first_chunk::<N>() {
        None => Err(Malformed::Short { header, need: N, have: bytes.len() }),
        Some((head, [])) => Ok(head),
        Some((_, rest)) => Err(Malformed::Trailing { header, extra: rest.len() }),
    }
}
