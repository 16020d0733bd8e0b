//! Big-endian integers at fixed places. Callers hold an array of the header's length, so that the bounds are known when this is inlined.
//! Must never be given a place that a peer chose.

/// The integer in two bytes at `at`.
#[inline(always)]
pub(crate) const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The integer in four bytes at `at`.
#[inline(always)]
pub(crate) const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The integer in eight bytes at `at`.
#[inline(always)]
pub(crate) const fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes([
        bytes[at],
        bytes[at + 1],
        bytes[at + 2],
        bytes[at + 3],
        bytes[at + 4],
        bytes[at + 5],
        bytes[at + 6],
        bytes[at + 7],
    ])
}

/// Writes `value` (an integer's `to_be_bytes`) at `at`.
#[inline(always)]
pub(crate) fn put<const N: usize>(out: &mut [u8], at: usize, value: [u8; N]) {
    out[at..at + N].copy_from_slice(&value);
}

/// The first `N` bytes of a caller's buffer.
///
/// # Panics
/// When the buffer is shorter: encoders are called with buffers of at least `encoded_length`.
#[inline(always)]
pub(crate) fn room<const N: usize>(out: &mut [u8]) -> &mut [u8; N] {
    let have = out.len();
    let Some(room) = out.first_chunk_mut::<N>() else { panic!("buffer of {have} bytes for a header of {N}") };
    room
}
