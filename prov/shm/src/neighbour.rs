//! What is known of each neighbour, by the number it has in our segment.
//!
//! Only state: how it changes is told by `exchange`, `life` and `take`.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rdgram_sync::fifo::Owner;

use crate::hello::Hello;
use crate::layout::NEIGHBOURS_MAX;
use crate::life::Process;
use crate::pull::{NoPull, Offered};
use crate::segment::Segment;

/// A neighbour of a [`Local`](crate::Local): its number there, below [`NEIGHBOURS_MAX`]. A number has one neighbour from
/// [`meet`](crate::Local::meet) to [`leave`](crate::Local::leave) or [`NotHere`](crate::Event::NotHere), then perhaps another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour(pub(crate) u16);

impl Neighbour {
    /// Its number, to index with.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The neighbour with this number.
    #[inline]
    pub const fn numbered(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Bits of the owner field that are a neighbour's number; the rest is the low part of its generation.
const NUMBER_BITS: u32 = NEIGHBOURS_MAX.trailing_zeros();

/// How a neighbour's claims are signed: late items of a number's former neighbour are told from those of the present one.
pub(crate) fn sign(number: u16, generation: u32) -> Owner {
    Owner::new(generation << NUMBER_BITS | u32::from(number))
}

/// The number in a signature.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "ten bits")]
pub(crate) fn number_of(owner: Owner) -> u16 {
    (owner.number() & ((1 << NUMBER_BITS) - 1)) as u16
}

/// The way to a neighbour whose segment is mapped.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) segment: Segment,
    /// Our number there, and the value that our word there has as long as we are counted.
    pub(crate) number: u16,
    pub(crate) generation: u32,
    /// How our claims there are signed.
    pub(crate) owner: Owner,
    /// What its memory was found readable with, or why that cannot be done.
    pub(crate) pulls: Result<Offered, NoPull>,
}

impl Link {
    pub(crate) fn new(segment: Segment, hello: &Hello, pulls: Result<Offered, NoPull>) -> Self {
        let (number, generation) = (hello.number, hello.generation);
        Self { segment, number, generation, owner: sign(number, generation), pulls }
    }

    /// The neighbour counts us as one.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        // Acquire: what is read from it afterwards is not older.
        self.segment.word(self.number).load(core::sync::atomic::Ordering::Acquire) == self.generation
    }
}

/// How far it is with a neighbour.
#[derive(Debug)]
pub(crate) enum Phase {
    /// We are to connect.
    Connecting,
    /// We connected and said hello.
    Greeted(OwnedFd),
    /// It is to connect.
    Expecting,
    /// It answered; our word that we have mapped its segment is still to be put there.
    Announcing(Link, OwnedFd),
    /// We answered; its word is still to come. Without a connection: it hung up, so the word is there or will never be.
    Answered(Link, Option<OwnedFd>),
    Up(Link),
    /// It is not here; to be told.
    NotHere,
    /// Nobody has this number.
    Left,
}

/// A number and who has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: SocketAddr,
    pub(crate) incarnation: u64,
    /// The value of its word in our segment: odd as long as it is open.
    pub(crate) generation: u32,
    /// How its claims are signed, also after it left.
    pub(crate) owner: Owner,
    pub(crate) phase: Phase,
    /// Kept after it left, for the sake of holes it may have left behind.
    pub(crate) process: Process,
    /// It put something invalid: nothing from it is taken any more.
    pub(crate) corrupt: bool,
}

impl Entry {
    /// The way to it, when it is up and not known to be dead.
    #[inline]
    pub(crate) fn link(&self) -> Option<&Link> {
        match &self.phase {
            Phase::Up(link) if !self.process.is_dead() => Some(link),
            _ => None,
        }
    }

    /// Something of the exchange is under way, so that it is worth to look again soon.
    pub(crate) fn is_meeting(&self) -> bool {
        matches!(
            self.phase,
            Phase::Connecting | Phase::Greeted(_) | Phase::Announcing(..) | Phase::Answered(..)
        )
    }

    /// It can never fill a hole of its any more. Of a process that we cannot see, leaving it is all the evidence.
    pub(crate) fn is_gone(&self) -> bool {
        self.process.is_dead() || (matches!(self.phase, Phase::Left) && !self.process.is_watched())
    }
}
