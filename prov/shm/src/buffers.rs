//! Our own buffers, for payload that does not fit into a slot: we fill them, neighbours read and free them.
//!
//! A buffer's state is `sequence << 1 | USED`. The sequence number grows with each use, so that a neighbour that comes late frees nothing that has another use by now. Which buffer has which use is kept here, privately; the shared states only ever say "freed".

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::VecDeque;

use crate::segment::Segment;

const USED: u32 = 1;

/// One of our buffers, in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) index: u16,
    /// Goes into the slot, beside the index.
    pub(crate) sequence: u16,
}

/// Who has which of our buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// A bit for each that is free.
    free: Vec<u64>,
    /// The used ones, oldest first.
    used: VecDeque<u16>,
    /// Of each buffer, the state that its present use began with, and the number of the neighbour it was filled for.
    uses: Vec<(u32, u16)>,
    /// How many each neighbour has, as far as is known: what it freed may not have been looked at.
    held: Vec<u16>,
}

impl Buffers {
    pub(crate) fn new(count: u32) -> Self {
        let count = count as usize;
        let mut free = vec![u64::MAX; count / 64];
        if count % 64 != 0 {
            free.push((1 << (count % 64)) - 1);
        }
        Self { free, used: VecDeque::with_capacity(count), uses: vec![(0, 0); count], held: Vec::new() }
    }

    /// A free buffer to fill for `neighbour`. The lowest, so that few buffers stay in the cache when few are needed. `None` also when it has three
    /// times as many as are free: one that reads nothing (it is stopped, it computes) leaves some to others, and one that is alone has most of them.
    pub(crate) fn take(&mut self, segment: &Segment, neighbour: u16) -> Option<Lent> {
        // The oldest was read first, most likely: one look frees what a steady stream needs.
        if self.used.front().is_some_and(|&oldest| self.is_freed(segment, oldest)) {
            self.used.pop_front().into_iter().for_each(|index| self.set_free(index));
        }
        if !self.has_one_for(neighbour) {
            self.sweep(|buffers, index| buffers.is_freed(segment, index));
            if !self.has_one_for(neighbour) {
                return None;
            }
        }
        let index = self.take_lowest()?;
        self.held[usize::from(neighbour)] += 1;
        let (word, holder) = &mut self.uses[index as usize];
        *word = (*word & !USED).wrapping_add(2) | USED;
        *holder = neighbour;
        // Relaxed: published with the slot that names it.
        segment.buffer_state(index).store(*word, Ordering::Relaxed);
        let sequence = sequence_of(*word);
        self.used.push_back(index);
        Some(Lent { index, sequence })
    }

    /// Takes back the buffer that was taken last, when no slot names it.
    pub(crate) fn give_back(&mut self, lent: Lent) {
        debug_assert_eq!(self.used.back(), Some(&lent.index), "the last one taken");
        self.used.pop_back();
        self.set_free(lent.index);
    }

    /// Takes back whatever `neighbour` has not read: it will not, or if so in vain.
    pub(crate) fn reclaim(&mut self, segment: &Segment, neighbour: u16) {
        self.sweep(|buffers, index| {
            let (word, holder) = buffers.uses[index as usize];
            if holder == neighbour {
                segment.buffer_state(index).store(word & !USED, Ordering::Relaxed);
            }
            holder == neighbour
        });
    }

    /// Frees the used buffers of which `is_free` is true.
    fn sweep(&mut self, is_free: impl Fn(&Self, u16) -> bool) {
        for _ in 0..self.used.len() {
            let Some(index) = self.used.pop_front() else { return };
            if is_free(self, index) {
                self.set_free(index);
            } else {
                self.used.push_back(index);
            }
        }
    }

    fn is_freed(&self, segment: &Segment, index: u16) -> bool {
        // Acquire pairs with the Release of `Loan::end`: it was read before it is filled again.
        segment.buffer_state(index).load(Ordering::Acquire) != self.uses[index as usize].0
    }

    /// Whether the neighbour may have one more.
    #[inline]
    fn has_one_for(&mut self, neighbour: u16) -> bool {
        let neighbour = usize::from(neighbour);
        if self.held.len() <= neighbour {
            self.held.resize(neighbour + 1, 0);
        }
        let free: u32 = self.free.iter().map(|bits| bits.count_ones()).sum();
        u32::from(self.held[neighbour]) < 3 * free
    }

    fn set_free(&mut self, index: u16) {
        self.held[usize::from(self.uses[index as usize].1)] -= 1;
        self.free[index as usize / 64] |= 1 << (index % 64);
    }

    #[allow(clippy::cast_possible_truncation, reason = "made of an index")]
    fn take_lowest(&mut self) -> Option<u16> {
        let at = self.free.iter().position(|&bits| bits != 0)?;
        let bit = self.free[at].trailing_zeros();
        self.free[at] &= self.free[at] - 1;
        Some(at as u16 * 64 + bit as u16)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half, as slots bear it")]
fn sequence_of(word: u32) -> u16 {
    (word >> 1) as u16
}

/// A neighbour's buffer while we read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loan<'a> {
    state: &'a AtomicU32,
    word: u32,
}

impl<'a> Loan<'a> {
    /// The buffer is in the use that the slot told of. If it is not, its owner took it back, or lied.
    #[inline]
    pub(crate) fn begin(state: &'a AtomicU32, sequence: u16) -> Option<Self> {
        let word = state.load(Ordering::Acquire);
        (word & USED != 0 && sequence_of(word) == sequence).then_some(Self { state, word })
    }

    /// Its owner did not take it back so far: what was read is what was sent.
    #[inline]
    pub(crate) fn is_intact(self) -> bool {
        // What was read was read before this look.
        core::sync::atomic::fence(Ordering::Acquire);
        self.state.load(Ordering::Relaxed) == self.word
    }

    /// Frees it, unless its owner took it back.
    #[inline]
    pub(crate) fn end(self) {
        // Release pairs with the Acquire of `Buffers::is_freed`.
        let _ =
            self.state.compare_exchange(self.word, self.word & !USED, Ordering::Release, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Geometry;
    use crate::segment::Identity;

    fn segment(buffers: u32) -> Segment {
        let geometry = Geometry::new(2, buffers, 64).expect("possible");
        Segment::create(geometry, Identity { incarnation: 1, capabilities: 0 }).expect("memory").0
    }

    fn loan(segment: &Segment, lent: Lent) -> Option<Loan<'_>> {
        Loan::begin(segment.buffer_state(lent.index), lent.sequence)
    }

    #[test]
    fn the_lowest_free_buffer_is_taken_and_freed_ones_return() {
        let segment = segment(3);
        let mut buffers = Buffers::new(3);
        let lent: Vec<_> = (5..8).map(|to| buffers.take(&segment, to).expect("free")).collect();
        assert_eq!(lent.iter().map(|lent| lent.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(buffers.take(&segment, 5), None);
        // Freed out of order: the sweep finds it.
        loan(&segment, lent[1]).expect("lent").end();
        assert_eq!(buffers.take(&segment, 6).expect("freed").index, 1);
        loan(&segment, lent[0]).expect("lent").end();
        assert_eq!(buffers.take(&segment, 5).expect("freed").index, 0);
        assert_eq!(buffers.take(&segment, 5), None);
    }

    #[test]
    fn who_reads_nothing_leaves_some_to_others() {
        let segment = segment(64);
        let mut buffers = Buffers::new(64);
        let mut taken = |to| core::iter::from_fn(|| buffers.take(&segment, to)).collect::<Vec<_>>();
        let first = taken(1);
        assert_eq!([first.len(), taken(2).len(), taken(3).len()], [48, 12, 3]);
        first.iter().for_each(|lent| loan(&segment, *lent).expect("lent").end());
        assert_eq!([taken(2).len(), taken(1).len()], [34, 12], "of 49");
    }

    #[test]
    fn a_late_reader_frees_nothing() {
        let segment = segment(1);
        let mut buffers = Buffers::new(1);
        let lent = buffers.take(&segment, 5).expect("free");
        let late = loan(&segment, lent).expect("lent");
        assert!(late.is_intact());
        buffers.reclaim(&segment, 6);
        assert!(late.is_intact(), "another's");
        buffers.reclaim(&segment, 5);
        assert!(!late.is_intact());
        let again = buffers.take(&segment, 6).expect("reclaimed");
        assert_eq!(again.index, lent.index);
        late.end();
        assert_eq!(buffers.take(&segment, 6), None, "still in use");
        assert!(loan(&segment, lent).is_none(), "the former use is over");
        assert!(loan(&segment, again).is_some());
    }

    #[test]
    fn what_no_slot_names_is_given_back() {
        let segment = segment(70);
        let mut buffers = Buffers::new(70);
        for expected in 0..70 {
            assert_eq!(buffers.take(&segment, expected).expect("free").index, expected);
        }
        assert_eq!(buffers.take(&segment, 1), None);
        let mut buffers = Buffers::new(70);
        let lent = buffers.take(&segment, 1).expect("free");
        buffers.give_back(lent);
        assert_eq!(buffers.take(&segment, 1).expect("free").index, lent.index);
    }
}
