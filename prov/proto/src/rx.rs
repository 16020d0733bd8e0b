//! The receive window (protocol.md, section 4): which PSNs of the peer were accepted. Must never accept a PSN twice or report one that was not accepted.

use rdgram_wire::{Psn, SACK_WORDS, WINDOW};

use crate::planted::{Defect, planted};

/// What a PSN is to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New. `gap`: it opens, closes or shrinks one, or there is one elsewhere: the sender wants to know.
    New { gap: bool },
    /// Accepted before.
    Duplicate,
    /// Not in the window.
    Outside,
}

/// Cumulative acknowledgement and a ring of bits, one per PSN of the window, that is never shifted: 1,024 divides 2^32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxWindow {
    next: Psn,
    /// One past the highest PSN accepted.
    end: Psn,
    /// Accepted PSNs beyond `next`.
    beyond: u32,
    ring: [u64; SACK_WORDS],
}

impl RxWindow {
    pub(crate) const fn new(initial: Psn) -> Self {
        Self { next: initial, end: initial, beyond: 0, ring: [0; SACK_WORDS] }
    }

    /// The next PSN expected: all before it were accepted.
    pub(crate) const fn cumulative(&self) -> Psn {
        self.next
    }

    /// Whether something beyond the cumulative acknowledgement was accepted.
    pub(crate) const fn has_gap(&self) -> bool {
        self.beyond != 0
    }

    /// Accepts `psn` if it is new and in the window.
    pub(crate) fn accept(&mut self, psn: Psn) -> Arrival {
        let before = if planted(Defect::WindowWrap) { psn.0 < self.next.0 } else { psn.is_before(self.next) };
        if before {
            return if planted(Defect::DedupOff) { Arrival::New { gap: false } } else { Arrival::Duplicate };
        }
        let ahead = psn.distance_from(self.next);
        if ahead >= WINDOW {
            return Arrival::Outside;
        }
        if ahead != 0 && self.bit(psn) {
            return if planted(Defect::DedupOff) { Arrival::New { gap: true } } else { Arrival::Duplicate };
        }
        let gap = self.beyond != 0 || ahead != 0;
        if self.end.distance_from(self.next) <= ahead {
            self.end = psn.next();
        }
        if ahead != 0 {
            let (word, bit) = Self::place(psn);
            self.ring[word] |= 1 << bit;
            self.beyond += 1;
            if planted(Defect::CumulativeOverGap) {
                self.skip_to(psn.next());
            }
        } else {
            self.next = psn.next();
            self.advance();
        }
        Arrival::New { gap }
    }

    /// The bitmap of section 4 and its used words.
    pub(crate) fn sack(&self) -> (u16, [u64; SACK_WORDS]) {
        let mut sack = [0; SACK_WORDS];
        let mut words = 0;
        if self.beyond == 0 {
            return (words, sack);
        }
        let first = if planted(Defect::WrongSackBase) { self.next } else { self.next.next() };
        // The bit behind the last one is that of `next` itself: never set, so that the last word needs no mask.
        let bits = self.end.distance_from(first);
        for (word, start) in sack.iter_mut().zip((0..bits).step_by(64)) {
            let (low, shift) = Self::place(first.add(start));
            *word = self.ring[low] >> shift;
            if shift != 0 {
                *word |= self.ring[(low + 1) % SACK_WORDS] << (64 - shift);
            }
            words += 1;
        }
        (words, sack)
    }

    /// Moves over what was accepted already, a word at a time.
    fn advance(&mut self) {
        while self.beyond != 0 {
            let (word, bit) = Self::place(self.next);
            let run = (self.ring[word] >> bit).trailing_ones().min(64 - bit);
            if run == 0 {
                return;
            }
            let mask = if run == 64 { u64::MAX } else { ((1 << run) - 1) << bit };
            self.ring[word] &= !mask;
            self.beyond -= run;
            self.next = self.next.add(run);
        }
    }

    /// Forgets the gap before `next`: only as a planted defect.
    fn skip_to(&mut self, next: Psn) {
        self.ring = [0; SACK_WORDS];
        self.beyond = 0;
        self.next = next;
    }

    fn bit(&self, psn: Psn) -> bool {
        let (word, bit) = Self::place(psn);
        self.ring[word] >> bit & 1 != 0
    }

    const fn place(psn: Psn) -> (usize, u32) {
        ((psn.0 / 64) as usize % SACK_WORDS, psn.0 % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec::Vec;

    use proptest::prelude::*;
    use rdgram_wire::Ack;

    use super::*;

    /// The specification, word for word: a set.
    struct Model {
        next: u32,
        accepted: HashSet<u32>,
    }

    impl Model {
        fn accept(&mut self, psn: u32) -> Arrival {
            let ahead = psn.wrapping_sub(self.next);
            if ahead >= 1 << 31 || self.accepted.contains(&psn) {
                return Arrival::Duplicate;
            }
            if ahead >= WINDOW {
                return Arrival::Outside;
            }
            let gap = ahead != 0 || self.accepted.iter().any(|psn| psn.wrapping_sub(self.next) < WINDOW);
            self.accepted.insert(psn);
            while self.accepted.contains(&self.next) {
                self.next = self.next.wrapping_add(1);
            }
            Arrival::New { gap }
        }
    }

    fn assert_same(window: &RxWindow, model: &Model) {
        assert_eq!(window.cumulative(), Psn(model.next));
        let (words, sack) = window.sack();
        let ack = Ack { credit_bytes: 0, ce_count: 0, words, sack };
        for i in 0..WINDOW - 1 {
            let psn = model.next.wrapping_add(1 + i);
            assert_eq!(ack.is_set(i), model.accepted.contains(&psn), "PSN {psn}, next {}", model.next);
        }
        assert_eq!(window.has_gap(), words != 0);
    }

    proptest! {
        #[test]
        fn equals_a_set(start in prop_oneof![any::<u32>(), u32::MAX - 2000..=u32::MAX],
                        steps in prop::collection::vec((0u32..1100, 1u32..80, any::<bool>()), 1..120)) {
            let mut window = RxWindow::new(Psn(start));
            let mut model = Model { next: start, accepted: HashSet::new() };
            for (offset, run, behind) in steps {
                // Runs around the window's beginning: before it, in it, beyond its end.
                let first = if behind { model.next.wrapping_sub(offset % 90) } else { model.next.wrapping_add(offset) };
                for psn in (0..run).map(|i| first.wrapping_add(i)) {
                    // Below the initial PSN nothing was ever accepted, and yet it is below the window.
                    prop_assert_eq!(window.accept(Psn(psn)), model.accept(psn));
                }
                assert_same(&window, &model);
            }
        }
    }

    #[test]
    fn a_full_window_backwards_across_the_wrap() {
        let start = u32::MAX - 500;
        let mut window = RxWindow::new(Psn(start));
        for i in (1..WINDOW).rev() {
            assert_eq!(window.accept(Psn(start).add(i)), Arrival::New { gap: true });
        }
        assert_eq!(window.accept(Psn(start).add(WINDOW)), Arrival::Outside);
        let (words, sack) = window.sack();
        assert_eq!(words, 16);
        assert_eq!(sack.iter().map(|word| word.count_ones()).sum::<u32>(), WINDOW - 1);
        assert_eq!(window.accept(Psn(start)), Arrival::New { gap: true });
        assert_eq!(window.cumulative(), Psn(start).add(WINDOW));
        assert_eq!(window.sack().0, 0);
    }

    #[test]
    fn in_order_arrival_never_needs_a_bitmap() {
        let mut window = RxWindow::new(Psn(7));
        let arrivals: Vec<_> = (0..5000).map(|i| window.accept(Psn(7 + i))).collect();
        assert!(arrivals.iter().all(|arrival| *arrival == Arrival::New { gap: false }));
        assert_eq!(window.sack(), (0, [0; SACK_WORDS]));
    }
}
