//! Memory of a neighbour, read directly.

mod common;

use common::{Side, meet, pair, small};
use rdgram_shm::{Dma, NoPull, Options, PieceMut, Pull};

/// Cuts memory at `address` into pieces whose lengths run through `lengths`.
fn cut(address: u64, total: usize, lengths: &[usize]) -> Vec<(u64, u64)> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for &length in lengths.iter().cycle() {
        let length = length.min(total - done);
        pieces.push((address + done as u64, length as u64));
        done += length;
        if done == total {
            return pieces;
        }
    }
    pieces
}

fn pull(
    side: &mut Side,
    from: &[u8],
    into: &mut [u8],
    remote: &[usize],
    local: &[usize],
) -> Result<(), Pull> {
    let remote = cut(from.as_ptr().addr() as u64, from.len(), remote);
    let base = into.as_mut_ptr();
    let into: Vec<_> = cut(0, into.len(), local)
        .into_iter()
        .map(|(at, length)| {
            let length = usize::try_from(length).expect("a length of memory");
            PieceMut { address: base.wrapping_add(usize::try_from(at).expect("an offset")), length }
        })
        .collect();
    let from = side.to();
    // SAFETY: pieces of `into`, which is borrowed exclusively.
    unsafe { side.local.pull(from, &remote, &into, || false) }
}

#[test]
fn any_number_of_pieces_is_read() {
    let (mut a, b) = pair(&small());
    assert!(a.local.can_pull(a.to()) && b.local.can_pull(b.to()), "{:?}", a.local.no_pull(a.to()));
    assert!(a.local.try_pull(a.to()));
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    for (remote, local) in [
        (&[100_000][..], &[100_000][..]),
        (&[7], &[100_000]),
        (&[100_000], &[7]),
        (&[13, 1, 64, 0], &[5, 0, 70]),
        (&[4096], &[1000]),
    ] {
        let mut into = vec![0; bytes.len()];
        assert_eq!(pull(&mut a, &bytes, &mut into, remote, local), Ok(()));
        assert!(into == bytes, "{remote:?} {local:?}");
    }
    assert_eq!(a.local.stats().bytes_cma, 500_000);
    // The shorter side decides.
    let mut into = [0; 10];
    assert_eq!(pull(&mut a, &bytes[..7], &mut into, &[3], &[4]), Ok(()));
    assert_eq!((&into[..7], &into[7..]), (&bytes[..7], &[0; 3][..]));
    assert_eq!(pull(&mut a, &[], &mut [], &[1], &[1]), Ok(()));
}

#[test]
fn memory_that_is_not_there_is_denied() {
    let (mut a, _b) = pair(&small());
    let from = a.to();
    let mut into = [0; 64];
    let piece = [PieceMut::new(&mut into)];
    // SAFETY: a piece of a live array.
    let pulled = unsafe { a.local.pull(from, &[(8, 64)], &piece, || false) };
    assert_eq!(pulled, Err(Pull::Denied(libc::EFAULT)));
}

#[test]
fn who_left_is_not_read() {
    let (mut a, mut b) = pair(&small());
    let bytes = [1; 64];
    let mut into = [0; 64];
    b.local.leave(b.to());
    assert_eq!(pull(&mut a, &bytes, &mut into, &[64], &[64]), Err(Pull::Revoked));
    a.local.leave(a.to());
    assert_eq!(pull(&mut a, &bytes, &mut into, &[64], &[64]), Err(Pull::Revoked));
    assert_eq!(into, [0; 64]);
}

#[test]
fn switched_off_at_either_end_it_is_refused() {
    let off = Options { dma: Dma::Memcpy, ..small() };
    for (ours, theirs) in [(&off, &small()), (&small(), &off)] {
        let (mut a, mut b) = (Side::open(ours), Side::open(theirs));
        a.begin(&b);
        b.begin(&a);
        meet(&mut a, &mut b);
        for side in [&mut a, &mut b] {
            assert!(!side.local.can_pull(side.to()) && !side.local.try_pull(side.to()));
            assert_eq!(side.local.no_pull(side.to()), Some(NoPull::Off));
            let mut into = [0; 8];
            assert_eq!(pull(side, &[1; 8], &mut into, &[8], &[8]), Err(Pull::Denied(libc::EPERM)));
        }
    }
}
