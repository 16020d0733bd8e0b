//! Neighbours in processes of their own: killed at any moment, forked, or without room for a segment.

mod common;

use std::net::SocketAddr;
use std::process::{Child, Command};

use common::{Side, bytes_of, name, pair, small, taken};
use rdgram_shm::{Dma, Event, Item, Local, Neighbour, Options, Piece, PieceMut, Pull, Put, Unmet};

/// Whether this process is a child of a test, and for what.
const ROLE: &str = "RDGRAM_SHM_ROLE";

/// Looks in vain after which a test has hung: each gives way to others, so it is many seconds.
const PATIENCE: u64 = 20_000_000;

/// A name larger than those of all children: they connect to it.
fn parent_name() -> SocketAddr {
    let [_, _, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 255, b, c], name().port()))
}

/// This test program again, as a child with a role.
fn spawn(role: &str, parent: &Side) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role} {} {}", parent.name, parent.incarnation))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts")
}

/// What the children do; no test of its own.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<_> = role.split(' ').collect();
    let parent = (words[1].parse().expect("a name"), words[2].parse().expect("an incarnation"));
    match words[0] {
        "produce" => produce(parent),
        "offer-memory" => offer_memory(parent),
        "no-room" => meet_without_room(parent),
        other => panic!("no role: {other}"),
    }
}

/// Meets the parent.
fn met((name, incarnation): (SocketAddr, u64), options: &Options) -> Side {
    let mut side = Side::open_as(common::name(), 7, options);
    side.begin_with(name, incarnation);
    while !side.is_up {
        side.settle();
        std::thread::yield_now();
    }
    side
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Puts numbered items of all lengths until killed, or left.
fn produce(parent: (SocketAddr, u64)) {
    let mut side = met(parent, &Options { buffers: 4, buffer_size: 2048, ..small() });
    let bytes: Vec<u8> = (0..=250).cycle().take(2048).collect();
    for number in 0_u64.. {
        let length = usize::try_from(number * 37 % 2000).expect("small");
        // Mostly short ones, whose slots are half-filled more often.
        let length = if number % 4 == 0 { length } else { length % 200 };
        let payload = &bytes[length % 48..][..length];
        let mut header = [0; 16];
        header[..8].copy_from_slice(&number.to_ne_bytes());
        header[8..].copy_from_slice(&sum(payload).to_ne_bytes());
        loop {
            // SAFETY: a piece of a live slice.
            match unsafe { side.local.put(side.to(), 1, &header, &[Piece::new(payload)]) } {
                Put::Done | Put::DoneWake => break,
                Put::Full => std::thread::yield_now(),
                Put::Gone => return,
            }
        }
    }
}

/// Checks that an item is whole; its number.
fn check(item: &Item<'_>) -> u64 {
    let word = |at: usize| u64::from_ne_bytes(item.header[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(item.header.len(), 16);
    assert_eq!(sum(&bytes_of(&item.payload)), word(8), "torn");
    word(0)
}

/// The parent of producers: who is there, and how many of its items came.
struct Consumer {
    side: Side,
    up: Vec<(Neighbour, u64)>,
}

impl Consumer {
    fn open() -> Self {
        let options = Options { slots: 64, ..small() };
        Self { side: Side::open_as(parent_name(), 99, &options), up: Vec::new() }
    }

    /// Looks once. What is taken is in order, whole, and of a neighbour that is there.
    fn look(&mut self) {
        while let Some(event) = self.side.local.poll() {
            match event {
                Event::Stranger { name, incarnation } => {
                    let neighbour = self.side.local.meet(name, incarnation).expect("begins");
                    self.up.push((neighbour, 0));
                }
                Event::Up(_) => {}
                Event::NotHere(..) => panic!("{event:?}"),
            }
        }
        let up = &mut self.up;
        self.side.local.take(16, &mut |item| {
            let (_, next) = up.iter_mut().find(|(neighbour, _)| *neighbour == item.from).expect("known");
            assert_eq!(check(&item), *next);
            *next += 1;
        });
        std::thread::yield_now();
    }

    /// Looks until it is so.
    fn look_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE {
            if is_so(self) {
                return;
            }
            self.look();
        }
        panic!("hung: {:?} {:?}", self.up, self.side.local);
    }
}

#[test]
fn producers_killed_at_any_moment_hold_up_nobody() {
    let mut consumer = Consumer::open();
    let mut steady = spawn("produce", &consumer.side);
    consumer.look_until(|consumer| consumer.up.len() == 1);
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..300 {
        let mut victim = spawn("produce", &consumer.side);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let enough = 1 + random % 400;
        consumer.look_until(|consumer| consumer.up.get(1).is_some_and(|&(_, count)| count >= enough));
        victim.kill().expect("killed");
        let mut dead = None;
        consumer.look_until(|consumer| {
            dead = consumer.side.local.dead();
            dead.is_some()
        });
        assert_eq!(dead, Some(consumer.up[1].0));
        victim.wait().expect("dead");
        // What it published before is there still, and the steady one goes on for more than a lap.
        let count = consumer.up[0].1;
        consumer.look_until(|consumer| consumer.up[0].1 > count + 200);
        let (neighbour, _) = consumer.up.pop().expect("the victim");
        consumer.side.local.leave(neighbour);
    }
    assert_eq!(consumer.side.local.next_corrupt(), None);
    assert_eq!(consumer.side.local.stats().corrupt, 0);
    consumer.side.local.close();
    assert!(steady.wait().expect("ends by itself").success());
}

/// Sends the address of some memory, and stays.
fn offer_memory(parent: (SocketAddr, u64)) {
    let mut side = met(parent, &small());
    let memory = vec![0x5a_u8; 1 << 20];
    assert_eq!(side.put(1, &(memory.as_ptr().addr() as u64).to_ne_bytes(), b""), Put::Done);
    loop {
        std::thread::yield_now();
    }
}

#[test]
fn memory_of_another_process_is_read_until_it_dies() {
    let mut side = Side::open_as(parent_name(), 99, &small());
    let mut child = spawn("offer-memory", &side);
    let mut address = None;
    for _ in 0..PATIENCE {
        for event in side.settle() {
            if let Event::Stranger { name, incarnation } = event {
                side.begin_with(name, incarnation);
            }
        }
        side.local.take(1, &mut |item| {
            address = Some(u64::from_ne_bytes(item.header.try_into().expect("an address")));
        });
        if address.is_some() {
            break;
        }
        std::thread::yield_now();
    }
    let (from, address) = (side.to(), address.expect("it is there"));
    assert_eq!(side.local.no_pull(from), None);
    let mut into = vec![0; 1 << 20];
    let mut pull = |side: &mut Side| {
        let piece = [PieceMut::new(&mut into)];
        // SAFETY: a piece of a live vector.
        unsafe { side.local.pull(from, &[(address, 1 << 20)], &piece, || false) }
    };
    assert_eq!(pull(&mut side), Ok(()));
    assert_eq!(side.local.dead(), None);
    child.kill().expect("killed");
    child.wait().expect("dead");
    assert_eq!(pull(&mut side), Err(Pull::Dead));
    assert_eq!(side.local.dead(), Some(from));
    assert_eq!(side.local.dead(), None, "told once");
    assert_eq!(side.put(1, b"", b""), Put::Gone);
    assert_eq!(pull(&mut side), Err(Pull::Dead));
    assert!(into.iter().all(|&byte| byte == 0x5a));
}

/// May not write files of any size.
fn meet_without_room((name, incarnation): (SocketAddr, u64)) {
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: the limit is live during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    let mut local = Local::open(common::name(), 1, &small()).expect("takes no memory yet");
    let Err(Unmet::Segment(error)) = local.meet(name, incarnation) else { panic!("there was room") };
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    assert_eq!(local.memory(), 0);
}

#[test]
fn without_room_for_a_segment_there_is_an_error_and_no_signal() {
    let side = Side::open_as(parent_name(), 99, &Options { dma: Dma::Memcpy, ..small() });
    assert!(spawn("no-room", &side).wait().expect("ends").success());
}

#[test]
fn a_forked_child_that_drops_disturbs_nobody() {
    let (mut a, mut b) = pair(&small());
    assert_eq!(a.put(1, b"before", &[1; 500]), Put::Done);
    // SAFETY: the child only drops what it inherited, and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        drop((a, b));
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let mut status = -1;
    // SAFETY: the status is live during the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(a.put(2, b"after", b""), Put::Done);
    assert_eq!(taken(&mut b.local).len(), 2);
    assert_eq!(b.put(3, b"", b""), Put::Done);
    assert_eq!(taken(&mut a.local).len(), 1);
}
