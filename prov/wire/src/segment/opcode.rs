//! The opcodes of RFC 5040 and RFC 7306, and rdgram's four. Must never give one of the standard's another meaning.

pub(crate) const WRITE: u8 = 0x0;
pub(crate) const READ_REQUEST: u8 = 0x1;
pub(crate) const READ_RESPONSE: u8 = 0x2;
pub(crate) const SEND: u8 = 0x3;
pub(crate) const TERMINATE: u8 = 0x7;
pub(crate) const IMMEDIATE: u8 = 0x8;
pub(crate) const IMMEDIATE_SE: u8 = 0x9;
pub(crate) const ATOMIC_REQUEST: u8 = 0xA;
pub(crate) const ATOMIC_RESPONSE: u8 = 0xB;
pub(crate) const EXTENDED_SEND: u8 = 0xC;
pub(crate) const CONTROL: u8 = 0xD;
pub(crate) const EXTENDED_WRITE: u8 = 0xE;
pub(crate) const EXTENDED_REQUEST: u8 = 0xF;

/// What an opcode is called in a diagnosis, those included that are not implemented.
pub(crate) const fn name(opcode: u8) -> &'static str {
    match opcode & 0xF {
        WRITE => "RDMA Write",
        READ_REQUEST => "RDMA Read Request",
        READ_RESPONSE => "RDMA Read Response",
        SEND => "Send",
        0x4 => "Send with Invalidate",
        0x5 => "Send with Solicited Event",
        0x6 => "Send with Solicited Event and Invalidate",
        TERMINATE => "Terminate",
        IMMEDIATE => "Immediate Data",
        IMMEDIATE_SE => "Immediate Data with Solicited Event",
        ATOMIC_REQUEST => "Atomic Request",
        ATOMIC_RESPONSE => "Atomic Response",
        EXTENDED_SEND => "Extended Send",
        CONTROL => "Control",
        EXTENDED_WRITE => "Extended Write",
        _ => "Extended Request",
    }
}

/// Whether messages of this opcode use the tagged buffer model, and otherwise their queue.
#[inline]
pub(crate) const fn queue(opcode: u8) -> Option<u32> {
    match opcode {
        WRITE | READ_RESPONSE | EXTENDED_WRITE => None,
        READ_REQUEST | ATOMIC_REQUEST | EXTENDED_REQUEST => Some(1),
        TERMINATE => Some(2),
        ATOMIC_RESPONSE => Some(3),
        CONTROL => Some(4),
        _ => Some(0),
    }
}

/// Whether this crate has a value for the opcode.
#[inline]
pub(crate) const fn is_implemented(opcode: u8) -> bool {
    !matches!(opcode, 0x4..=0x6)
}
