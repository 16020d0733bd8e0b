//! Neighbours that lie, die or come from elsewhere: what they write into our memory and what they say to us.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use rdgram_sync::fifo::{self, Owner, Slots};

use crate::hello::{self, Hello, MESSAGE_MAX, Message};
use crate::layout::{Fields, Geometry, INLINE, ROOM};
use crate::life::Process;
use crate::neighbour::{Link, Phase, sign};
use crate::put::KIND_UP;
use crate::segment::{Identity, Segment};
use crate::{
    Dma, Event, Local, Neighbour, NoPull, Options, Piece, PieceMut, Pull, Put, Reason, Refusal, socket,
};

fn options() -> Options {
    Options { slots: 8, buffers: 2, buffer_size: 1024, dma: Dma::Auto }
}

fn name() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(30_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, a, b, c], NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// One that is lied to, and two neighbours of it; all have incarnation 1.
struct Three {
    victim: Local,
    liar: Local,
    honest: Local,
    /// Of the liar and the honest one, to the victim.
    numbers: [Neighbour; 2],
}

impl Three {
    fn meet() -> Self {
        let names = [name(), name(), name()];
        let [mut victim, mut liar, mut honest] =
            names.map(|name| Local::open(name, 1, &options()).expect("opens"));
        let mut numbers = [Neighbour(0); 2];
        for (at, other) in [&mut liar, &mut honest].into_iter().enumerate() {
            other.meet(names[0], 1).expect("begins");
            numbers[at] = victim.meet(names[at + 1], 1).expect("begins");
            for _ in 0..4 {
                while victim.poll().is_some() {}
                while other.poll().is_some() {}
                other.take(1, &mut |_| {});
            }
        }
        Self { victim, liar, honest, numbers }
    }

    /// The liar's way into the victim's memory.
    fn link(&self) -> &Link {
        self.liar.entries[0].link().expect("up")
    }

    /// Writes an item with these fields into the victim's FIFO, signed as `owner`.
    fn forge(&self, owner: Owner, fields: u64) {
        let link = self.link();
        let claim = fifo::claim(&link.segment, link.segment.geometry().ring(), owner).expect("room");
        link.segment.slot_word(claim.index(), 0).store(fields, Ordering::Relaxed);
        fifo::publish(&link.segment, claim).expect("published");
    }

    /// The victim takes nothing of the liar's, blames it alone, and goes on with the honest one over several laps.
    fn check_blame(&mut self, blamed: Option<Neighbour>) {
        self.check_the_honest_one();
        assert_eq!(self.victim.next_corrupt(), blamed);
        assert_eq!(self.victim.next_corrupt(), None);
        assert_eq!(self.victim.stats().corrupt, 1);
    }

    fn put_honestly(&mut self, round: u8) -> Put {
        // SAFETY: a piece of a live slice.
        unsafe { self.honest.put(Neighbour(0), 5, &[round], &[Piece::new(&[round; 100])]) }
    }

    fn check_the_honest_one(&mut self) {
        for round in 0..20_u8 {
            if self.put_honestly(round) == Put::Full {
                // A wrecked slot is healed when the consumer comes to it.
                assert_eq!(self.victim.take(1, &mut |_| panic!("nothing was put")), 0);
                assert_eq!(self.put_honestly(round), Put::Done, "round {round}");
            }
            let mut seen = Vec::new();
            while self.victim.has_items() {
                self.victim.take(8, &mut |item| seen.push((item.from, item.kind, item.header.to_vec())));
            }
            assert_eq!(seen, [(self.numbers[1], 5, vec![round])]);
        }
    }
}

fn inline(header: u8, payload: u16) -> Fields {
    Fields { kind: 1, header, payload, buffer: INLINE, sequence: 0 }
}

#[test]
fn memory_is_not_read_in_the_name_of_a_process_that_has_ended() {
    let mut three = Three::meet();
    let from = three.numbers[0];
    let there = [7_u8; 64];
    let remote = [(there.as_ptr().expose_provenance() as u64, there.len() as u64)];
    let pull = |victim: &mut Local, is_sure: bool| {
        let mut into = [0; 64];
        let piece = [PieceMut::new(&mut into)];
        // SAFETY: a piece of a live array.
        unsafe { victim.pull(from, &remote, &piece, || is_sure) }
    };
    assert_eq!(pull(&mut three.victim, false), Ok(()));
    // It has ended, and its number is that of a process which can be read.
    let mut ended = std::process::Command::new("true").spawn().expect("runs");
    let process = &mut three.victim.entries[from.index()].process;
    *process = Process::watch(i32::try_from(ended.id()).expect("a process number"));
    process.give_number_to(std::process::id());
    ended.wait().expect("ends");
    assert_eq!(pull(&mut three.victim, false), Err(Pull::Dead));
    // Whoever is sure does not ask.
    assert_eq!(pull(&mut three.victim, true), Ok(()));
}

#[test]
fn impossible_fields_cost_their_owner_its_route() {
    let buffer = |buffer, payload| Fields { kind: 1, header: 4, payload, buffer, sequence: 1 };
    let room = u16::try_from(ROOM).expect("small");
    let forged = [
        inline(u8::MAX, 0),
        inline(8, room),
        inline(0, u16::MAX),
        // No such buffer; longer than a buffer; a buffer that is not in use.
        buffer(2, 10),
        buffer(0, 1025),
        buffer(0, 10),
        Fields { kind: KIND_UP, ..inline(0, 0) },
    ];
    for fields in forged {
        let mut three = Three::meet();
        three.forge(three.link().owner, fields.to_word());
        three.check_blame(Some(three.numbers[0]));
        // Nothing is taken from it any more, not even what is right.
        three.forge(three.link().owner, inline(0, 0).to_word());
        three.check_the_honest_one();
    }
}

#[test]
fn an_owner_that_does_not_exist_is_counted_only() {
    let mut three = Three::meet();
    three.forge(sign(1000, 1), inline(0, 0).to_word());
    three.check_blame(None);
}

#[test]
fn wrecked_states_hold_up_nobody() {
    let owner = u64::from(Three::meet().link().owner.number());
    let lap = 1_u64 << 32;
    let published = owner << 2 | 2;
    let states = [u64::MAX, 3, lap, lap | 1, (5 * lap) | 2, owner << 2 | 3, (5 * lap) | published];
    for state in states {
        // Wherever the cursor is, and whether or not the tail has passed.
        for ahead in 0..3 {
            let mut three = Three::meet();
            three.check_the_honest_one();
            let tail = three.link().segment.tail().load(Ordering::Relaxed);
            let index = usize::try_from((tail + ahead) % 8).expect("small");
            three.link().segment.state(index).store(state | (tail / 8) << 33, Ordering::Relaxed);
            three.check_the_honest_one();
            assert!(three.victim.stats().corrupt <= 2);
            while let Some(blamed) = three.victim.next_corrupt() {
                assert_ne!(blamed, three.numbers[1]);
            }
        }
    }
}

#[test]
fn a_claim_that_is_not_published_holds_up_nobody_for_a_lap() {
    let mut three = Three::meet();
    let claim = {
        let link = three.link();
        fifo::claim(&link.segment, link.segment.geometry().ring(), link.owner).expect("room")
    };
    for round in 0..7_u8 {
        // SAFETY: no pieces.
        assert_eq!(unsafe { three.honest.put(Neighbour(0), 2, &[round], &[]) }, Put::Done);
        assert_eq!(three.victim.take(8, &mut |_| {}), 1);
    }
    // SAFETY: no pieces.
    assert_eq!(unsafe { three.honest.put(Neighbour(0), 2, b"", &[]) }, Put::Full);
    assert!(!three.victim.has_items());
    assert!(three.victim.sleep());
    // It is filled at last.
    three.link().segment.slot_word(claim.index(), 0).store(inline(0, 0).to_word(), Ordering::Relaxed);
    assert_eq!(fifo::publish(&three.link().segment, claim), Some(true));
    three.victim.awake();
    assert!(three.victim.has_items());
    assert_eq!(three.victim.take(8, &mut |item| assert_eq!(item.kind, 1)), 1);
    three.check_the_honest_one();
    assert_eq!(three.victim.stats().corrupt, 0);
}

#[test]
fn who_claims_twice_is_corrupt() {
    for publishes in [false, true] {
        let mut three = Three::meet();
        let link = three.link();
        let claim = || fifo::claim(&link.segment, link.segment.geometry().ring(), link.owner).expect("room");
        let (first, second) = (claim(), claim());
        if publishes {
            fifo::publish(&link.segment, second).expect("published");
        }
        assert_eq!(three.victim.take(8, &mut |_| panic!("nothing is right of it")), 0);
        assert_eq!(three.victim.next_corrupt(), Some(three.numbers[0]));
        // Its slots come back when it publishes or dies; so that the ring is whole again.
        fifo::publish(&three.link().segment, first).expect("published");
        three.victim.entries[three.numbers[0].index()].process = Process::died();
        three.victim.take(8, &mut |_| panic!("nothing is right of it"));
        three.check_the_honest_one();
    }
}

#[test]
fn holes_of_the_dead_are_freed() {
    let mut three = Three::meet();
    let number = three.numbers[0];
    let link = three.link();
    drop(fifo::claim(&link.segment, link.segment.geometry().ring(), link.owner).expect("room"));
    // Left, its number is not given to another while its claim is there: it lives and may publish yet.
    three.victim.leave(number);
    assert_eq!(three.victim.take(8, &mut |_| {}), 0);
    let next = three.victim.meet(name(), 1).expect("begins");
    assert_ne!(next, number);
    three.victim.entries[number.index()].process = Process::died();
    three.check_the_honest_one();
    assert_eq!(three.victim.meet(name(), 1).expect("begins"), number);
}

/// A listener or caller that speaks the exchange by hand.
struct ByHand {
    name: SocketAddr,
    segment: Segment,
    fd: OwnedFd,
}

impl ByHand {
    fn new(name: SocketAddr) -> Self {
        let geometry = Geometry::new(8, 2, 1024).expect("possible");
        let (segment, fd) =
            Segment::create(geometry, Identity { incarnation: 1, capabilities: 0 }).expect("memory");
        Self { name, segment, fd }
    }

    fn hello(&self) -> Hello {
        Hello {
            name: self.name,
            incarnation: 1,
            your_incarnation: 1,
            number: 0,
            generation: 1,
            geometry: self.segment.geometry(),
            capabilities: 0,
            probe_address: 0,
            probe_value: 0,
        }
    }
}

/// What `victim` tells of one that answers with these bytes and this segment.
fn told_of(bytes: &[u8], fd: &OwnedFd, by_hand: &ByHand, victim: &mut Local) -> Option<Event> {
    let listener = socket::listen(by_hand.name).expect("listens");
    let neighbour = victim.meet(by_hand.name, 1).expect("begins");
    assert_eq!(victim.poll(), None);
    let connection = socket::accept(listener.as_fd()).expect("connected");
    socket::send(connection.as_fd(), bytes, Some(fd.as_fd())).expect("sent");
    let told = victim.poll();
    if told == Some(Event::Up(neighbour)) {
        victim.leave(neighbour);
    }
    told
}

#[test]
fn answers_are_checked() {
    let mut victim = Local::open(name(), 1, &options()).expect("opens");
    let by_hand = ByHand::new(name());
    let mut told = |bytes: &[u8], fd: &OwnedFd| told_of(bytes, fd, &by_hand, &mut victim);
    let not_here = |reason| Some(Event::NotHere(Neighbour(0), reason));
    let hello = by_hand.hello();
    let good = hello.encode().as_slice().to_vec();
    assert_eq!(told(&good, &by_hand.fd), Some(Event::Up(Neighbour(0))));
    let mut other_version = good.clone();
    other_version[8] += 1;
    assert_eq!(told(&other_version, &by_hand.fd), not_here(Reason::OtherVersion));
    assert_eq!(told(&good[1..], &by_hand.fd), not_here(Reason::Invalid));
    assert_eq!(told(&good[..40], &by_hand.fd), not_here(Reason::Invalid));
    for hello in [
        Hello { incarnation: 2, ..hello },
        Hello { your_incarnation: 2, ..hello },
        Hello { name: SocketAddr::from(([127, 1, 1, 1], 1)), ..hello },
    ] {
        assert_eq!(told(hello.encode().as_slice(), &by_hand.fd), not_here(Reason::OtherIncarnation));
    }
    // The anchor record says otherwise, or the segment is smaller, or may become so.
    let larger = Hello { geometry: Geometry::new(16, 2, 1024).expect("possible"), ..hello };
    assert_eq!(told(larger.encode().as_slice(), &by_hand.fd), not_here(Reason::Segment));
    let huge = Hello { geometry: Geometry::new(1 << 16, 2, 1024).expect("possible"), ..hello };
    assert_eq!(told(huge.encode().as_slice(), &by_hand.fd), not_here(Reason::Segment));
    // SAFETY: the name is a C string, read during the call only.
    let unsealed =
        unsafe { libc::memfd_create(c"unsealed".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
    let unsealed = unsafe { OwnedFd::from_raw_fd(unsealed) };
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::ftruncate(unsealed.as_raw_fd(), 1 << 20) }, 0);
    assert_eq!(told(&good, &unsealed), not_here(Reason::Segment));
    assert_eq!(
        told(Refusal::Busy.encode().as_slice(), &by_hand.fd),
        not_here(Reason::Refused(Refusal::Busy))
    );
}

#[test]
fn offers_are_checked() {
    let by_hand = ByHand::new(name());
    let mut victim = Local::open(name(), 1, &options()).expect("opens");
    victim.meet(by_hand.name, 1).expect("begins");
    let good = by_hand.hello().encode().as_slice().to_vec();
    let mut answer = |bytes: &[u8]| {
        let connection = socket::connect(victim.name).expect("connects");
        socket::send(connection.as_fd(), bytes, Some(by_hand.fd.as_fd())).expect("sent");
        assert_eq!(victim.poll(), None);
        let mut answer = [0; MESSAGE_MAX];
        match socket::receive(connection.as_fd(), &mut answer) {
            Ok((0, _)) => None,
            Ok((length, _)) => Some(hello::decode(&answer[..length])),
            Err(error) => panic!("{error}"),
        }
    };
    let mut other_version = good.clone();
    other_version[8] += 1;
    assert_eq!(answer(&other_version), Some(Message::Refusal(Refusal::Version)));
    let larger_name = Hello { name: SocketAddr::from(([127, 255, 255, 255], 9)), ..by_hand.hello() };
    assert_eq!(answer(larger_name.encode().as_slice()), None, "it was for us to connect");
    assert_eq!(answer(&good[1..]), None);
    let Some(Message::Hello(hello)) = answer(&good) else { panic!("it was good") };
    assert_eq!((hello.name, hello.number, hello.generation), (victim.name, 0, 1));
    assert!(matches!(victim.entries[0].phase, Phase::Answered(..)));
}

#[test]
fn more_offers_than_wait_are_refused() {
    let mut victim = Local::open(name(), 1, &options()).expect("opens");
    let connections: Vec<_> = (0..65).map(|_| socket::connect(victim.name).expect("connects")).collect();
    assert_eq!(victim.poll(), None);
    assert_eq!(victim.offers.len(), 64);
    let mut answer = [0; MESSAGE_MAX];
    let (length, _) = socket::receive(connections[64].as_fd(), &mut answer).expect("an answer");
    assert_eq!(hello::decode(&answer[..length]), Message::Refusal(Refusal::Busy));
    drop(connections);
    assert_eq!(victim.poll(), None);
    assert_eq!(victim.offers.len(), 0);
}

#[test]
fn a_probe_that_lies_is_noticed() {
    let names = [name(), name()];
    let [mut a, mut b] = names.map(|name| Local::open(name, 1, &options()).expect("opens"));
    let to_b = a.meet(names[1], 1).expect("begins");
    let to_a = b.meet(names[0], 1).expect("begins");
    assert_eq!(a.poll(), None);
    assert_eq!(b.poll(), None);
    // It has answered.
    b.probe.falsify();
    assert_eq!(a.poll(), Some(Event::Up(to_b)));
    b.take(1, &mut |_| {});
    assert_eq!(b.poll(), Some(Event::Up(to_a)));
    assert_eq!(a.no_pull(to_b), Some(NoPull::Different));
    assert!(!a.can_pull(to_b) && !a.try_pull(to_b));
    assert_eq!(b.no_pull(to_a), None);
}
