//! A ring with many producers and one consumer, in memory that processes share and any of them may leave half-way.
//!
//! Only the order of things is decided here, by one state word per slot: the bytes of a slot are the caller's, to be
//! written between [`claim`] and [`publish`], and read between [`Consumer::next`] and [`Consumer::release`]. Nobody
//! ever waits for another: a producer that stops between claim and publication leaves a *hole*, which the consumer
//! passes by and comes back to. Never trusts a word: whatever a slot says is compared with what it may say.
//!
//! A position counts slots from the beginning and never returns; position `t` is slot `t % n` in lap `t / n`.
//! The state word of a slot:
//!
//! ```text
//!  63            32 31                   2 1     0
//! +----------------+----------------------+-------+
//! |      lap       |   owner (0 if free)  | phase |
//! +----------------+----------------------+-------+
//! ```
//!
//! `FREE(lap)` → `CLAIMED(lap, owner)` by a producer's compare-and-swap, which both takes the slot and says by whom,
//! → `PUBLISHED(lap, owner)` by the same producer → `FREE(lap + 1)` by the consumer. All zeros is a ring at rest.

use core::sync::atomic::Ordering;

use crate::shim::{AtomicU32, AtomicU64, fence};

const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const PUBLISHED: u64 = 2;
const PHASE: u64 = 3;

/// Slots that one call of [`claim`] finds taken by others before it gives up. Each was claimed while we looked, or
/// the tail lags behind because somebody wrecked it.
const TAKEN_MAX: u32 = if cfg!(loom) { 4 } else { 1024 };

/// Where the words of a ring are.
pub trait Slots {
    /// A mistake that a model plants to show that it would be found. None, but in models.
    #[doc(hidden)]
    const MISTAKE: Option<Mistake> = None;

    /// The state of slot `index`, below the number of slots.
    fn state(&self, index: usize) -> &AtomicU64;

    /// A position below which every one was claimed.
    fn tail(&self) -> &AtomicU64;

    /// Not 0 while the consumer sleeps, or is about to.
    fn sleeping(&self) -> &AtomicU32;
}

/// What the models plant.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The publication does not carry the bytes with it.
    PublicationUnordered,
    /// The slot is given back before its bytes were read.
    ReleaseUnordered,
    /// A producer looks at `sleeping` before its publication is visible.
    WakeUnordered,
    /// The consumer sleeps without a second look.
    SleepUnchecked,
    /// A slot of an earlier lap is taken for a free one.
    LapIgnored,
    /// An item is taken though its producer's hole comes first.
    HoleForgotten,
    /// A dead producer's hole is freed without asking whether it was published at last.
    HoleFreedBlindly,
}

/// Who claims: any number below 2^30 that the parties agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    /// Bits of its number.
    pub const BITS: u32 = 30;

    /// The owner with this number; bits above the 30th are dropped.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number & ((1 << Self::BITS) - 1))
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The size of a ring: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    shift: u32,
}

impl Ring {
    /// A ring of `slots` slots, when that is a power of two.
    pub const fn new(slots: u32) -> Option<Self> {
        if slots.is_power_of_two() { Some(Self { shift: slots.trailing_zeros() }) } else { None }
    }

    /// Its slots.
    #[inline]
    pub const fn slots(self) -> u64 {
        1 << self.shift
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "below the number of slots, which was an u32")]
    const fn index(self, position: u64) -> usize {
        (position & (self.slots() - 1)) as usize
    }

    /// The lap as a state word bears it: shifted to its place, modulo 2^32.
    #[inline]
    const fn lap(self, position: u64) -> u64 {
        (position >> self.shift) << 32
    }
}

#[inline]
const fn word(lap: u64, owner: Owner, phase: u64) -> u64 {
    lap | (owner.0 as u64) << 2 | phase
}

/// The state in which the slot of a position waits for the next lap.
#[inline]
const fn next_free(lap: u64) -> u64 {
    lap.wrapping_add(1 << 32) | FREE
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "just the low half")]
const fn owner_of(state: u64) -> Owner {
    Owner((state as u32) >> 2)
}

/// A slot that a producer took and has to publish.
#[derive(Debug)]
#[must_use = "a claim that is not published is a hole"]
pub struct Claim {
    index: usize,
    claimed: u64,
    position: u64,
}

impl Claim {
    /// The slot.
    #[inline]
    pub const fn index(&self) -> usize {
        self.index
    }
}

/// Takes the next slot for `owner`; `None` when the ring is full. Who claimed publishes before it claims again.
#[inline]
pub fn claim<S: Slots>(slots: &S, ring: Ring, owner: Owner) -> Option<Claim> {
    let tail = slots.tail();
    // Relaxed, here and below: the tail is a hint at where to begin, the state words decide. What a producer claimed
    // before is not free in that lap again, and it never reads an older tail than it read before: its positions only grow.
    let mut position = tail.load(Ordering::Relaxed);
    for _ in 0..TAKEN_MAX {
        let (index, lap) = (ring.index(position), ring.lap(position));
        let claimed = word(lap, owner, CLAIMED);
        let state = slots.state(index);
        // Acquire pairs with the Release of `Consumer::release`: the former bytes were read before ours are written.
        let mut attempt =
            state.compare_exchange(lap | FREE, claimed, Ordering::Acquire, Ordering::Relaxed).err();
        if S::MISTAKE == Some(Mistake::LapIgnored) {
            attempt = attempt.and_then(|seen| {
                state.compare_exchange(seen, claimed, Ordering::Acquire, Ordering::Relaxed).err()
            });
        }
        if attempt.is_some_and(|seen| is_earlier(seen, lap)) {
            return None;
        }
        if attempt.is_none() {
            return Some(Claim { index, claimed, position });
        }
        // Claimed by another that has not moved the tail yet, and may never do so.
        let next = match tail.compare_exchange(position, position + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => position + 1,
            Err(moved) => moved,
        };
        position = next;
    }
    None
}

/// A claim now would find a free slot, or others in its way.
#[inline]
pub fn has_room<S: Slots>(slots: &S, ring: Ring) -> bool {
    let position = slots.tail().load(Ordering::Relaxed);
    !is_earlier(slots.state(ring.index(position)).load(Ordering::Relaxed), ring.lap(position))
}

/// The state belongs to a lap before `lap`.
#[inline]
#[allow(clippy::cast_possible_wrap, reason = "a distance, modulo 2^32 laps")]
const fn is_earlier(state: u64, lap: u64) -> bool {
    ((state >> 32 << 32).wrapping_sub(lap) as i64) < 0
}

/// Makes the claimed slot visible. `Some(true)` when the consumer sleeps and must be woken; `None` when the slot is not ours
/// any more, because the consumer was told that we are dead.
#[inline]
pub fn publish<S: Slots>(slots: &S, claim: Claim) -> Option<bool> {
    let published = claim.claimed ^ (CLAIMED ^ PUBLISHED);
    let order = match S::MISTAKE {
        Some(Mistake::PublicationUnordered) => Ordering::Relaxed,
        // Release carries the bytes. Sequentially consistent for the sake of the look at `sleeping`, which must not come before:
        // either this sees the consumer's store there, or the consumer's second look sees this.
        _ => Ordering::SeqCst,
    };
    let state = slots.state(claim.index);
    state.compare_exchange(claim.claimed, published, order, Ordering::Relaxed).ok()?;
    // Only now: the consumer waits for the publication, and a line between the two would delay it. If another moved it, or
    // will, that is as good.
    let _ = slots.tail().compare_exchange(
        claim.position,
        claim.position + 1,
        Ordering::Relaxed,
        Ordering::Relaxed,
    );
    if cfg!(loom) && S::MISTAKE != Some(Mistake::WakeUnordered) {
        // The model checker knows sequential consistency of fences only.
        fence(Ordering::SeqCst);
    }
    Some(slots.sleeping().load(Ordering::SeqCst) != 0)
}

/// An item that the consumer has in hand: its bytes are the consumer's until it is released.
#[derive(Debug)]
#[must_use = "its slot is taken until it is released"]
pub struct Taken {
    index: usize,
    lap: u64,
    owner: Owner,
}

impl Taken {
    /// The slot.
    #[inline]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Who published it.
    #[inline]
    pub const fn owner(&self) -> Owner {
        self.owner
    }
}

/// What the consumer found.
#[derive(Debug)]
pub enum Look {
    /// Nothing that could be taken now.
    Nothing,
    /// The next item.
    Item(Taken),
    /// A state that the protocol does not know, with the owner it names. What it was about is lost.
    Corrupt(Option<Owner>),
}

/// A slot that was claimed and not published when the consumer came by.
#[derive(Clone, Copy, Debug)]
struct Hole {
    position: u64,
    owner: Owner,
}

/// The consumer's place in the ring. Private to it: nothing in shared memory can move it.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    cursor: u64,
    holes: Vec<Hole>,
}

impl Consumer {
    /// At the beginning of a ring of zeros.
    pub fn new(ring: Ring) -> Self {
        Self { ring, cursor: 0, holes: Vec::with_capacity(16) }
    }

    /// The next item: of one owner in the order of its claims, of several in any.
    #[inline]
    pub fn next<S: Slots>(&mut self, slots: &S) -> Look {
        if let Some(found) = self.next_of_holes(slots) {
            return found;
        }
        loop {
            let position = self.cursor;
            let (index, lap) = (self.ring.index(position), self.ring.lap(position));
            // Acquire pairs with the publication: the bytes are there.
            let state = slots.state(index).load(Ordering::Acquire);
            if state == lap | FREE {
                return Look::Nothing;
            }
            let (owner, phase) = (owner_of(state), state & PHASE);
            if state >> 32 << 32 != lap || !matches!(phase, CLAIMED | PUBLISHED) {
                return self.wrecked(slots, state);
            }
            if let Some(found) = self.earlier_hole(slots, owner, phase) {
                return found;
            }
            self.cursor += 1;
            if phase == PUBLISHED {
                return Look::Item(Taken { index, lap, owner });
            }
            self.holes.push(Hole { position, owner });
        }
    }

    /// The holes come first: they are the oldest.
    #[inline]
    fn next_of_holes<S: Slots>(&mut self, slots: &S) -> Option<Look> {
        (0..self.holes.len()).find_map(|at| self.take_hole(slots, at))
    }

    /// What a hole became, unless it is one still.
    #[cold]
    fn take_hole<S: Slots>(&mut self, slots: &S, at: usize) -> Option<Look> {
        let Hole { position, owner } = self.holes[at];
        let (index, lap) = (self.ring.index(position), self.ring.lap(position));
        let state = slots.state(index).load(Ordering::Acquire);
        if state == word(lap, owner, CLAIMED) {
            return None;
        }
        self.holes.swap_remove(at);
        let taken = Taken { index, lap, owner };
        if state == word(lap, owner, PUBLISHED) {
            return Some(Look::Item(taken));
        }
        self.release(slots, taken);
        Some(Look::Corrupt(Some(owner)))
    }

    /// An owner publishes before it claims again: where it has a hole and a later slot, the hole was filled, even if that
    /// was not visible when the holes were looked at.
    #[inline]
    fn earlier_hole<S: Slots>(&mut self, slots: &S, owner: Owner, phase: u64) -> Option<Look> {
        if S::MISTAKE == Some(Mistake::HoleForgotten) {
            return None;
        }
        let at = self.holes.iter().position(|hole| hole.owner == owner)?;
        Some(self.take_hole(slots, at).unwrap_or_else(|| self.claimed_twice(slots, owner, phase)))
    }

    #[cold]
    fn claimed_twice<S: Slots>(&mut self, slots: &S, owner: Owner, phase: u64) -> Look {
        // The slot is passed by; when it holds an item, that is lost.
        let position = self.cursor;
        self.cursor += 1;
        if phase == CLAIMED {
            self.holes.push(Hole { position, owner });
        } else {
            let (index, lap) = (self.ring.index(position), self.ring.lap(position));
            self.release(slots, Taken { index, lap, owner });
        }
        Look::Corrupt(Some(owner))
    }

    /// The slot at the cursor is in no state of this lap.
    #[cold]
    fn wrecked<S: Slots>(&mut self, slots: &S, state: u64) -> Look {
        let position = self.cursor;
        // But it may be a hole since the last lap: nobody can have claimed beyond.
        if self.holes.iter().any(|hole| hole.position + self.ring.slots() == position) {
            return Look::Nothing;
        }
        // Passed by, so that whoever wrecked it holds up nobody; nobody shall wait for this position either.
        let (index, lap) = (self.ring.index(position), self.ring.lap(position));
        slots.state(index).store(next_free(lap), Ordering::Release);
        slots.tail().fetch_max(position + 1, Ordering::Relaxed);
        self.cursor += 1;
        Look::Corrupt((state & PHASE != FREE).then_some(owner_of(state)))
    }

    /// Gives the slot of an item back, after its bytes were read.
    #[inline]
    #[allow(clippy::needless_pass_by_value, reason = "nothing may be read from it afterwards")]
    pub fn release<S: Slots>(&self, slots: &S, taken: Taken) {
        let order = match S::MISTAKE {
            Some(Mistake::ReleaseUnordered) => Ordering::Relaxed,
            // Pairs with the Acquire of `claim`.
            _ => Ordering::Release,
        };
        slots.state(taken.index).store(next_free(taken.lap), order);
    }

    /// There are slots that were claimed and not published.
    #[inline]
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// That owner has claimed a slot, wherever in the ring, and not published it.
    pub fn is_claimed_by<S: Slots>(&self, slots: &S, owner: Owner) -> bool {
        (0..self.ring.slots()).any(|position| {
            let state = slots.state(self.ring.index(position)).load(Ordering::Relaxed);
            state & PHASE == CLAIMED && owner_of(state) == owner
        })
    }

    /// Frees the holes of owners of which `is_dead` is true; one that was published at last stays to be taken. Who is
    /// alive after all must not be called dead: it would write into another's slot.
    pub fn abandon<S: Slots>(&mut self, slots: &S, mut is_dead: impl FnMut(Owner) -> bool) {
        let ring = self.ring;
        self.holes.retain(|hole| {
            if !is_dead(hole.owner) {
                return true;
            }
            let (state, lap) = (slots.state(ring.index(hole.position)), ring.lap(hole.position));
            if S::MISTAKE == Some(Mistake::HoleFreedBlindly) {
                state.store(next_free(lap), Ordering::Release);
                return false;
            }
            let claimed = word(lap, hole.owner, CLAIMED);
            // Acquire and Release: whatever it had written comes before what the next owner writes.
            state.compare_exchange(claimed, next_free(lap), Ordering::AcqRel, Ordering::Relaxed).is_err()
        });
    }

    /// There is something to look at: one cache line is read, as long as there are no holes.
    #[inline]
    pub fn has_items<S: Slots>(&self, slots: &S) -> bool {
        let lap = self.ring.lap(self.cursor);
        let state = slots.state(self.ring.index(self.cursor)).load(Ordering::Relaxed);
        if self.holes.is_empty() { state != lap | FREE } else { self.has_items_or_filled_holes(slots, state) }
    }

    #[cold]
    fn has_items_or_filled_holes<S: Slots>(&self, slots: &S, at_cursor: u64) -> bool {
        let ring = self.ring;
        let filled = |hole: &Hole| {
            slots.state(ring.index(hole.position)).load(Ordering::Relaxed)
                != word(ring.lap(hole.position), hole.owner, CLAIMED)
        };
        let wrapped = |hole: &Hole| hole.position + ring.slots() == self.cursor;
        self.holes.iter().any(filled)
            || (at_cursor != ring.lap(self.cursor) | FREE && !self.holes.iter().any(wrapped))
    }

    /// Announces that the consumer sleeps: from now on a publication says that it must be woken. False, and nothing is
    /// announced, when there is something already.
    pub fn sleep<S: Slots>(&self, slots: &S) -> bool {
        slots.sleeping().store(1, Ordering::SeqCst);
        // Pairs with the publication, see there: the look below is not before the store above.
        fence(Ordering::SeqCst);
        if S::MISTAKE != Some(Mistake::SleepUnchecked) && self.has_items(slots) {
            Self::awake(slots);
            return false;
        }
        true
    }

    /// The consumer looks again by itself.
    pub fn awake<S: Slots>(slots: &S) {
        // Relaxed: a wake-up too many does no harm.
        slots.sleeping().store(0, Ordering::Relaxed);
    }
}
