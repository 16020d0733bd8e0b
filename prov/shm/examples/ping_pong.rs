//! How long an item takes from one thread to another and back: `cargo run --release -p rdgram-shm --example ping_pong`.
//!
//! Two threads, each on a processor of its own, hand an item of 20 bytes of header and `length` bytes of payload back
//! and forth. Half a round trip is one put, one take, and the way of the cache lines. And alone: both ends in one thread, where
//! the way is none.

use std::net::SocketAddr;

use rdgram_shm::{Item, Local, Neighbour, Options, Payload, Piece, Put};

const ROUNDS: u32 = 1_000_000;

#[allow(clippy::disallowed_methods, reason = "a program that measures, not the provider")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Lets this thread run on one processor only.
fn pin(processor: usize) {
    // SAFETY: a set of processors is plain data, for which zero is a valid value.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the number is far below the size of the set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is live and of the size given.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(result, 0, "processor {processor}");
}

fn put(local: &mut Local, to: Neighbour, payload: &[u8]) {
    // SAFETY: a piece of a live slice.
    while unsafe { local.put(to, 1, &[7; 20], &[Piece::new(payload)]) } != Put::Done {}
}

/// Takes one item, and copies its payload out as a receiver does.
fn take(local: &mut Local, into: &mut [u8]) {
    let mut copy = |item: Item<'_>| match item.payload {
        Payload::Inline(bytes) => into[..bytes.len()].copy_from_slice(bytes),
        Payload::Foreign(foreign) => {
            let length = foreign.length().min(into.len());
            // SAFETY: valid during the call; the target is at least as long, and no part of a segment.
            unsafe { foreign.address().copy_to_nonoverlapping(into.as_mut_ptr(), length) };
        }
    };
    while local.take(1, &mut copy) == 0 {
        core::hint::spin_loop();
    }
}

fn main() {
    let names = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 99], port)));
    let [mut a, mut b] = names.map(|name| Local::open(name, 1, &Options::default()).expect("opens"));
    let to_b = a.meet(names[1], 1).expect("begins");
    let to_a = b.meet(names[0], 1).expect("begins");
    for _ in 0..4 {
        while a.poll().is_some() {}
        while b.poll().is_some() {}
        b.take(1, &mut |_| {});
    }
    pin(0);
    for length in [8, 200, 4096, 16384] {
        let payload = vec![1; length];
        let mut into = vec![0; length];
        let begun = now();
        for _ in 0..ROUNDS {
            put(&mut a, to_b, &payload);
            take(&mut b, &mut into);
        }
        let alone = begun.elapsed();
        let begun = now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(1);
                let mut into = vec![0; length];
                for _ in 0..ROUNDS {
                    take(&mut b, &mut into);
                    put(&mut b, to_a, &payload);
                }
            });
            for _ in 0..ROUNDS {
                put(&mut a, to_b, &payload);
                take(&mut a, &mut into);
            }
        });
        let there_and_back = begun.elapsed();
        println!(
            "{length:6} B: {:7.1} ns put + take alone, {:7.1} ns half a round trip",
            alone.as_secs_f64() * 1e9 / f64::from(ROUNDS),
            there_and_back.as_secs_f64() * 1e9 / f64::from(ROUNDS) / 2.0,
        );
    }
}
