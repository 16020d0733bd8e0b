//! Taking items out of our FIFO.
//!
//! No system call, no allocation. What stands in a slot is copied before it is looked at, so that it cannot change after it was checked.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use rdgram_sync::fifo::{Consumer, Look, Owner, Taken};

use crate::buffers::Loan;
use crate::exchange::{Event, Reason};
use crate::layout::{Fields, INLINE, ROOM, ROOM_WORDS};
use crate::neighbour::{Entry, Link, Phase, number_of};
use crate::put::KIND_UP;
use crate::segment::Segment;
use crate::{Local, Neighbour};

/// An item out of our FIFO.
#[derive(Debug)]
pub struct Item<'a> {
    /// Who put it.
    pub from: Neighbour,
    /// What it is, as the neighbour says.
    pub kind: u8,
    /// Its header: a copy that nobody else can change.
    pub header: &'a [u8],
    /// Its payload.
    pub payload: Payload<'a>,
}

/// Where the payload of an item is.
#[derive(Debug)]
pub enum Payload<'a> {
    /// It came along: a copy that nobody else can change.
    Inline(&'a [u8]),
    /// In a buffer of the neighbour's.
    Foreign(Foreign<'a>),
}

impl Payload<'_> {
    /// Its bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Foreign(foreign) => foreign.length,
        }
    }

    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory of a neighbour, which may change under us: to copy from, never to look at in place.
pub struct Foreign<'a> {
    address: NonNull<u8>,
    length: usize,
    loan: Loan<'a>,
    memory: PhantomData<&'a Segment>,
}

impl Foreign<'_> {
    /// Its beginning: valid for reads of [`length`](Self::length) bytes during the call of the sink.
    pub fn address(&self) -> *const u8 {
        self.address.as_ptr()
    }

    /// Its bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What was copied until now is what the neighbour put there. It is not only when the neighbour took it back, because it has left us.
    pub fn is_intact(&self) -> bool {
        self.loan.is_intact()
    }
}

impl fmt::Debug for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").field("length", &self.length).finish_non_exhaustive()
    }
}

/// What an item was found to be.
enum Verdict {
    /// The sink has seen it.
    Seen,
    /// The exchange's.
    Up,
    /// Nobody's, any more.
    Dropped,
    Corrupt,
}

impl Local {
    /// Takes up to `max` items and gives them to `sink`: those of one neighbour in the order in which it put them. How many
    /// the sink has seen. When the sink returns, the memory of the payload goes back to its owner.
    #[inline]
    pub fn take(&mut self, max: usize, sink: &mut dyn FnMut(Item<'_>)) -> usize {
        let mut seen = 0;
        // What is not for the sink counts too: whoever puts nonsense faster than it is taken must not keep us here.
        for _ in 0..max {
            let Some(own) = &mut self.own else { return 0 };
            match own.consumer.next(&own.segment) {
                Look::Item(taken) => {
                    let owner = taken.owner();
                    let fields = read(&own.segment, &taken, &mut self.scratch);
                    own.consumer.release(&own.segment, taken);
                    match judge(&self.entries, owner, fields, &self.scratch, sink) {
                        Verdict::Seen => seen += 1,
                        Verdict::Up => self.note_up(owner),
                        Verdict::Dropped => {}
                        Verdict::Corrupt => self.note_corrupt(Some(owner)),
                    }
                }
                Look::Corrupt(owner) => self.note_corrupt(owner),
                Look::Nothing => {
                    self.note_nothing();
                    break;
                }
            }
        }
        self.stats.items_taken += seen as u64;
        seen
    }

    /// The next neighbour that put something invalid. Nothing is taken from it any more: leave it.
    pub fn next_corrupt(&mut self) -> Option<Neighbour> {
        self.corrupt.pop_front()
    }

    /// There may be items to take. A look at one cache line.
    #[inline]
    pub fn has_items(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.consumer.has_items(&own.segment))
    }

    /// Announces that this side is about to sleep: who puts an item from now on wakes it. False, and nothing is announced, when
    /// there is something to take already. Call [`awake`](Self::awake) after sleeping.
    pub fn sleep(&mut self) -> bool {
        self.own.as_ref().is_none_or(|own| own.consumer.sleep(&own.segment))
    }

    /// This side looks by itself again.
    pub fn awake(&mut self) {
        if let Some(own) = &self.own {
            Consumer::awake(&own.segment);
        }
    }

    /// The FIFO was found empty: what dead neighbours have claimed is freed, and a word that is still missing from who hung up will not come.
    #[inline]
    fn note_nothing(&mut self) {
        let Some(own) = &mut self.own else { return };
        if own.consumer.has_holes() {
            let entries = &self.entries;
            own.consumer.abandon(&own.segment, |owner| {
                entry_of(entries, owner).is_none_or(|entry| entry.owner == owner && entry.is_gone())
            });
        }
        if !self.meeting.is_empty() {
            self.note_missing_words();
        }
    }

    #[cold]
    fn note_missing_words(&mut self) {
        let is_missing = |entry: &Entry| matches!(entry.phase, Phase::Answered(_, None));
        while let Some(at) =
            self.meeting.iter().position(|&number| is_missing(&self.entries[number as usize]))
        {
            self.end_meeting(self.meeting[at], Reason::HungUp);
        }
    }

    /// A neighbour that we answered has mapped our segment.
    #[cold]
    fn note_up(&mut self, owner: Owner) {
        let number = number_of(owner);
        let entry = &mut self.entries[number as usize];
        match core::mem::replace(&mut entry.phase, Phase::Left) {
            Phase::Answered(link, connection) => {
                if let Some(connection) = connection {
                    entry.process.keep(connection);
                }
                entry.phase = Phase::Up(link);
                self.meeting.retain(|&meeting| meeting != number);
                self.events.push_back(Event::Up(Neighbour(number)));
            }
            other => {
                entry.phase = other;
                self.note_corrupt(Some(owner));
            }
        }
    }

    /// Whoever put it loses its route; if nobody can be named, it is counted only.
    #[cold]
    fn note_corrupt(&mut self, owner: Option<Owner>) {
        self.stats.corrupt += 1;
        let Some(owner) = owner else { return };
        let number = number_of(owner);
        let Some(entry) = self.entries.get_mut(number as usize) else { return };
        let is_present = entry.owner == owner && !matches!(entry.phase, Phase::Left | Phase::NotHere);
        if is_present && !entry.corrupt {
            entry.corrupt = true;
            self.corrupt.push_back(Neighbour(number));
        }
    }
}

fn entry_of(entries: &[Entry], owner: Owner) -> Option<&Entry> {
    entries.get(number_of(owner) as usize)
}

/// Copies an item out of its slot, as many words as it says it has.
#[inline]
fn read(segment: &Segment, taken: &Taken, bytes: &mut [u8; ROOM]) -> Fields {
    // Relaxed: the look at the state came before, and has seen the publication.
    let load = |at| segment.slot_word(taken.index(), at).load(Ordering::Relaxed);
    let fields = Fields::from_word(load(0));
    let inline = if fields.buffer == INLINE { usize::from(fields.payload) } else { 0 };
    let words = (usize::from(fields.header) + inline).div_ceil(size_of::<u64>()).min(ROOM_WORDS);
    for (at, chunk) in (1..=words).zip(bytes.chunks_exact_mut(size_of::<u64>())) {
        chunk.copy_from_slice(&load(at).to_ne_bytes());
    }
    fields
}

/// Checks an item, and gives it to the sink when all is right.
#[inline]
fn judge(
    entries: &[Entry],
    owner: Owner,
    fields: Fields,
    bytes: &[u8; ROOM],
    sink: &mut dyn FnMut(Item<'_>),
) -> Verdict {
    let number = number_of(owner);
    let Some(entry) = entries.get(number as usize) else { return Verdict::Corrupt };
    if entry.owner != owner || entry.corrupt {
        return Verdict::Dropped;
    }
    let link = match &entry.phase {
        Phase::Up(link) => link,
        Phase::Left | Phase::NotHere => return Verdict::Dropped,
        Phase::Answered(..) if fields.kind == KIND_UP => return Verdict::Up,
        _ => return Verdict::Corrupt,
    };
    let Some((header, rest)) = bytes.split_at_checked(usize::from(fields.header)) else {
        return Verdict::Corrupt;
    };
    if fields.kind == KIND_UP {
        return Verdict::Corrupt;
    }
    let (from, kind, length) = (Neighbour(number), fields.kind, usize::from(fields.payload));
    if fields.buffer == INLINE {
        let Some(payload) = rest.get(..length) else { return Verdict::Corrupt };
        sink(Item { from, kind, header, payload: Payload::Inline(payload) });
        return Verdict::Seen;
    }
    let Some(foreign) = borrow(link, fields, length) else {
        // Taken back, because it left us; or a lie.
        return if link.is_open() { Verdict::Corrupt } else { Verdict::Dropped };
    };
    let loan = foreign.loan;
    sink(Item { from, kind, header, payload: Payload::Foreign(foreign) });
    loan.end();
    Verdict::Seen
}

/// The neighbour's buffer that an item names.
fn borrow(link: &Link, fields: Fields, length: usize) -> Option<Foreign<'_>> {
    let geometry = link.segment.geometry();
    if u32::from(fields.buffer) >= geometry.buffers() || length > geometry.buffer_size() as usize {
        return None;
    }
    let loan = Loan::begin(link.segment.buffer_state(fields.buffer), fields.sequence)?;
    Some(Foreign { address: link.segment.buffer(fields.buffer), length, loan, memory: PhantomData })
}
