//! Regions of the simulated processes: how each is laid out, which operations may have touched it, and what its bytes may therefore be.
//!
//! A region has a part that nobody writes, a lane for the writes of each initiator, lanes and words for atomics, and gaps that nobody may touch. Nothing here asks the engine.

use core::ops::Range;

use rdgram_engine::{Access, Cause, CntrId, MrId};

use crate::buffer::{Buffer, GUARD, pattern};
use crate::model::{LifeId, OpId, Order};
use crate::rng::{Rng, mix};

/// Regions of a process at one time, at most.
pub const SLOTS: usize = 3;
/// Bytes between the parts of a region.
pub const GAP: usize = 16;
/// Bytes of a lane of integers, which is as much as an atomic may have.
const INTEGERS: usize = rdgram_engine::ATOMIC_MAX;
/// Bytes of a lane of floating-point numbers of one width.
const FLOATS: usize = 256;
/// Words that everybody counts in, and words that everybody exchanges.
pub const WORDS: usize = 2;
/// Bytes of such a word: room for the largest datatype.
pub const WORD: usize = 16;

/// Which numbers a lane of atomics holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Integers of any width.
    Integers,
    /// `float` and its complex numbers.
    Singles,
    /// `double` and its complex numbers.
    Doubles,
}

/// Where the parts of a region are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    nodes: usize,
    fixed: usize,
    lane: usize,
}

impl Layout {
    /// The layout of the `slot`-th region of a process in a job of so many nodes: the first has room for long operations.
    pub fn of(nodes: usize, slot: usize) -> Self {
        let (fixed, lane) = if slot == 0 { (96 << 10, 64 << 10) } else { (12 << 10, 6 << 10) };
        Self { nodes, fixed, lane }
    }

    /// What nobody writes.
    pub fn fixed(&self) -> Range<usize> {
        0..self.fixed
    }

    /// Where `initiator` alone writes.
    pub fn lane(&self, initiator: usize) -> Range<usize> {
        let start = self.fixed + GAP + initiator * (self.lane + GAP);
        start..start + self.lane
    }

    /// Where `initiator` alone has atomics executed.
    pub fn numbers(&self, initiator: usize, numbers: Numbers) -> Range<usize> {
        let size = INTEGERS + 2 * FLOATS + GAP;
        let start = self.lane(self.nodes).start + initiator * size;
        match numbers {
            Numbers::Integers => start..start + INTEGERS,
            Numbers::Singles => start + INTEGERS..start + INTEGERS + FLOATS,
            Numbers::Doubles => start + INTEGERS + FLOATS..start + INTEGERS + 2 * FLOATS,
        }
    }

    /// A word that everybody adds 1 to.
    pub fn counter(&self, index: usize) -> Range<usize> {
        let start = self.numbers(self.nodes, Numbers::Integers).start + index * WORD;
        start..start + WORD
    }

    /// A word that everybody exchanges.
    pub fn exchange(&self, index: usize) -> Range<usize> {
        let start = self.counter(WORDS).start + index * WORD;
        start..start + WORD
    }

    /// All that atomics change.
    fn atomics(&self) -> Range<usize> {
        self.numbers(0, Numbers::Integers).start..self.exchange(WORDS).start
    }

    /// Bytes of the whole.
    pub fn size(&self) -> usize {
        self.exchange(WORDS).start + GAP
    }
}

/// What an initiator's lane of atomics has to hold, as far as that is determined.
#[derive(Clone, Debug)]
pub struct NumberLane {
    /// Its bytes once everything submitted was executed.
    pub bytes: Vec<u8>,
    /// Something may or may not have been executed: nothing more is known.
    pub unknown: bool,
}

/// A piece of a target's memory as an operation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The key.
    pub key: u64,
    /// Where in the region, or the address there.
    pub offset: u64,
    /// Bytes.
    pub length: usize,
}

/// A region from its opening to its closing.
#[derive(Debug)]
pub struct Region {
    /// Whose it is.
    pub node: usize,
    /// Which of them.
    pub slot: usize,
    /// The life of the node that opened it.
    pub life: LifeId,
    /// Its key.
    pub key: u64,
    /// What peers may do.
    pub access: Access,
    /// What its first byte is called.
    pub base: u64,
    /// Its parts.
    pub layout: Layout,
    /// The memory, until it is closed.
    pub buffer: Option<Buffer>,
    /// When it was opened.
    pub opened: Order,
    /// When it was closed.
    pub closed: Option<Order>,
    /// Operations that may have touched it, in order of submission.
    pub touched_by: Vec<OpId>,
    /// What each initiator's atomics make.
    pub lanes: Vec<NumberLane>,
    /// The engine's name for it.
    pub mr: Option<MrId>,
    /// Counters of writes and of reads by peers.
    pub cntrs: Option<[CntrId; 2]>,
}

impl Region {
    /// The memory of a region with this key, as it is before anybody touched it.
    pub fn memory(layout: &Layout, key: u64, rng: &mut Rng) -> Buffer {
        let pieces = if rng.chance(250_000) { rng.size(2..=4) } else { 1 };
        let mut buffer = Buffer::new(layout.size(), pieces, rng);
        let fixed: Vec<u8> = layout.fixed().map(|at| fixed_byte(key, at)).collect();
        buffer.put(0, &fixed);
        buffer.put(layout.atomics().start, &vec![0; layout.atomics().len()]);
        buffer
    }

    /// What each initiator's atomics have made before there were any.
    pub fn fresh_lanes(nodes: usize) -> Vec<NumberLane> {
        vec![NumberLane { bytes: vec![0; INTEGERS + 2 * FLOATS], unknown: false }; nodes]
    }

    /// What an access with these rights finds: the offset in the region, or why it is refused. Written after protocol.md and fi_mr(3), not after the engine.
    pub fn resolve(&self, piece: &Piece, needed: Access) -> Result<usize, Cause> {
        if !self.access.contains(needed) {
            return Err(Cause::AccessDenied);
        }
        let size = self.layout.size() as u64;
        let start = piece.offset.checked_sub(self.base).ok_or(Cause::OutOfRange)?;
        let room = size.checked_sub(start).ok_or(Cause::OutOfRange)?;
        if piece.length as u64 > room {
            return Err(Cause::OutOfRange);
        }
        usize::try_from(start).map_err(|_| Cause::OutOfRange)
    }

    /// The part of a place that lies in the region, if peers may write it, and how much of the place is before that part.
    /// A place that was of an earlier region with the same key, whose memory this one has got, may reach beyond either end.
    pub fn part_inside(&self, piece: &Piece) -> Option<(Range<usize>, usize)> {
        if !self.access.contains(Access::REMOTE_WRITE) {
            return None;
        }
        let end = piece.offset.checked_add(piece.length as u64)?.min(self.base + self.layout.size() as u64);
        let start = piece.offset.max(self.base);
        let at = |address: u64| usize::try_from(address - self.base).ok();
        let range = at(start)?..at(end.max(start))?;
        let cut = usize::try_from(start - piece.offset).ok()?;
        (!range.is_empty()).then_some((range, cut))
    }

    /// What the byte at `at` held at first.
    pub fn initial(&self, at: usize) -> u8 {
        if self.layout.fixed().contains(&at) {
            fixed_byte(self.key, at)
        } else if self.layout.atomics().contains(&at) {
            0
        } else {
            GUARD
        }
    }

    /// Judges everything but what atomics change, after these writes (newest first).
    pub fn judge_bytes(&self, strokes: &[Stroke]) -> Result<(), String> {
        let Some(buffer) = &self.buffer else { return Ok(()) };
        if !buffer.gaps_are_intact() {
            return Err("bytes outside a region were written".into());
        }
        let atomics = self.layout.atomics();
        for range in [0..atomics.start, atomics.end..self.layout.size()] {
            let found = buffer.gather(range.clone());
            judge(&found, range.start, strokes, |at| self.initial(at))?;
        }
        Ok(())
    }
}

fn fixed_byte(key: u64, at: usize) -> u8 {
    mix(key ^ (at as u64 >> 3)).to_le_bytes()[at & 7]
}

/// Bytes that a write puts into a region.
#[derive(Clone, Debug)]
pub struct Stroke {
    /// The operation.
    pub op: OpId,
    /// Where in the region.
    pub range: Range<usize>,
    /// Where in the operation's contents the range begins.
    pub from: usize,
    /// It has been placed for certain: older bytes must not show any more.
    pub certain: bool,
}

/// Judges bytes found at `start` of a region: each is that of the newest write that is certain, or of a newer one that is not, or the first one ever.
pub fn judge(
    found: &[u8],
    start: usize,
    strokes: &[Stroke],
    initial: impl Fn(usize) -> u8,
) -> Result<(), String> {
    let mut explained = vec![false; found.len()];
    let mut contents = Vec::new();
    for stroke in strokes {
        let from = stroke.range.start.clamp(start, start + found.len());
        let to = stroke.range.end.clamp(start, start + found.len());
        if from == to {
            continue;
        }
        contents.resize(stroke.from + stroke.range.len(), 0);
        pattern(stroke.op as u64, &mut contents);
        for at in from..to {
            let expected = contents[stroke.from + at - stroke.range.start];
            let done = &mut explained[at - start];
            if *done || found[at - start] == expected {
                *done = true;
            } else if stroke.certain {
                return Err(format!(
                    "byte {at} of a region is {:#04x} instead of the {expected:#04x} that operation {} wrote",
                    found[at - start],
                    stroke.op
                ));
            }
        }
    }
    let bad = (0..found.len()).find(|at| !explained[*at] && found[*at] != initial(start + *at));
    match bad {
        None => Ok(()),
        Some(at) => Err(format!(
            "byte {} of a region is {:#04x}, which no operation can have put there ({:#04x} was there first)",
            start + at,
            found[at],
            initial(start + at)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stroke(op: OpId, range: Range<usize>, certain: bool) -> Stroke {
        Stroke { op, range, from: 0, certain }
    }

    fn contents(op: OpId, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        pattern(op as u64, &mut bytes);
        bytes
    }

    #[test]
    fn parts_do_not_overlap() {
        for nodes in 1..=5 {
            let layout = Layout::of(nodes, 1);
            let mut parts = vec![layout.fixed()];
            for node in 0..nodes {
                parts.push(layout.lane(node));
            }
            for node in 0..nodes {
                for numbers in [Numbers::Integers, Numbers::Singles, Numbers::Doubles] {
                    parts.push(layout.numbers(node, numbers));
                }
            }
            parts.extend((0..WORDS).map(|index| layout.counter(index)));
            parts.extend((0..WORDS).map(|index| layout.exchange(index)));
            assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start), "{parts:?}");
            assert!(parts.last().unwrap().end + GAP <= layout.size());
        }
    }

    #[test]
    fn the_newest_certain_write_shows() {
        let (old, new) = (contents(1, 10), contents(2, 10));
        let initial = |_| GUARD;
        let writes = [stroke(2, 5..15, true), stroke(1, 0..10, true)];
        let right = [&old[..5], &new[..], &[GUARD; 5]].concat();
        assert_eq!(judge(&right, 0, &writes, initial), Ok(()));
        let stale = [&old[..], &new[5..], &[GUARD; 5]].concat();
        assert!(judge(&stale, 0, &writes, initial).is_err());
        let open = [stroke(2, 5..15, false), stroke(1, 0..10, true)];
        assert_eq!(judge(&right, 0, &open, initial), Ok(()));
        assert_eq!(judge(&stale, 0, &open, initial), Ok(()));
        assert!(judge(&[GUARD; 20], 0, &open, initial).is_err(), "the first write is lost");
        let mut stray = right.clone();
        stray[17] = 0;
        assert!(judge(&stray, 0, &writes, initial).is_err());
        assert_eq!(judge(&right[7..12], 7, &writes, initial), Ok(()), "a part of it");
    }
}
