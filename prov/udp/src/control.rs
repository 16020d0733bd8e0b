//! Ancillary data (`cmsg(3)`): one message written, any number read.
//!
//! Works on initialised bytes only, so that reading what the kernel left is safe code.

/// Room for what a received datagram carries: four messages of at most 24 bytes, or one `sock_extended_err` with
/// the offender's address and a traffic class.
pub(crate) const CONTROL_MAX: usize = 192;

/// A buffer for ancillary data, aligned as the kernel writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_MAX]);

impl Control {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self([0; CONTROL_MAX])
    }

    /// The messages in the first `length` bytes.
    pub(crate) fn messages(&self, length: usize) -> Messages<'_> {
        Messages { rest: &self.0[..length.min(CONTROL_MAX)] }
    }
}

/// The one message we send: the segment size of a train.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct SegmentSize {
    header: libc::cmsghdr,
    size: u16,
}

impl core::fmt::Debug for SegmentSize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SegmentSize").field(&self.size).finish()
    }
}

/// What `CMSG_ALIGN` rounds to.
const ALIGNMENT: usize = size_of::<usize>();

const _: () = assert!(
    core::mem::offset_of!(SegmentSize, size) == size_of::<libc::cmsghdr>()
        && align_of::<SegmentSize>() >= ALIGNMENT,
    "the payload follows the header at once, as CMSG_DATA says"
);

impl SegmentSize {
    /// Datagrams of `size` bytes each.
    pub(crate) const fn new(size: u16) -> Self {
        Self {
            header: libc::cmsghdr {
                cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            size,
        }
    }
}

/// One message of ancillary data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// `SOL_*`, `IPPROTO_*`.
    pub(crate) level: libc::c_int,
    /// Its type within the level.
    pub(crate) kind: libc::c_int,
    /// Its bytes.
    pub(crate) data: &'a [u8],
}

impl Message<'_> {
    /// The 32-bit number at `offset`, 0 when the message is shorter.
    pub(crate) fn word(&self, offset: usize) -> u32 {
        match self.data.get(offset..offset + 4) {
            Some(bytes) => u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            None => 0,
        }
    }

    /// The byte at `offset`, 0 when the message is shorter.
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.data.get(offset).copied().unwrap_or(0)
    }
}

/// Iterates over ancillary data.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let (length, rest) = self.rest.split_first_chunk::<{ size_of::<usize>() }>()?;
        let length = usize::from_ne_bytes(*length);
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let message = Message {
            level: libc::c_int::from_ne_bytes(*level),
            kind: libc::c_int::from_ne_bytes(*kind),
            data: self.rest.get(HEADER..length)?,
        };
        self.rest = self.rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or(&[]);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(control: &mut Control, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let length = 16 + data.len();
        control.0[at..at + 8].copy_from_slice(&length.to_ne_bytes());
        control.0[at + 8..at + 12].copy_from_slice(&level.to_ne_bytes());
        control.0[at + 12..at + 16].copy_from_slice(&kind.to_ne_bytes());
        control.0[at + 16..at + length].copy_from_slice(data);
        at + length.next_multiple_of(8)
    }

    #[test]
    fn messages_are_found_in_order() {
        let mut control = Control::new();
        let end = push(&mut control, 0, 17, 104, &1400_u32.to_ne_bytes());
        let end = push(&mut control, end, 0, 1, &[3]);
        let found: Vec<_> = control.messages(end).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].level, found[0].kind, found[0].word(0)), (17, 104, 1400));
        assert_eq!((found[1].level, found[1].kind, found[1].byte(0), found[1].word(0)), (0, 1, 3, 0));
    }

    #[test]
    fn a_length_beyond_the_end_stops_the_walk() {
        let mut control = Control::new();
        push(&mut control, 0, 17, 104, &[0; 64]);
        assert_eq!(control.messages(32).count(), 0);
        control.0[..8].copy_from_slice(&3_usize.to_ne_bytes());
        assert_eq!(control.messages(CONTROL_MAX).count(), 0);
    }
}
