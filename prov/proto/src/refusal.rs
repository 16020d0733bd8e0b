//! When an acknowledgement means success (protocol.md, section 5): only when every refusal that it counts has arrived itself.
//! Must never confirm a token while a refusal that may concern it is on its way, and never lose or repeat one.

use std::boxed::Box;
use std::collections::VecDeque;

use crate::planted::{Defect, planted};

/// Refusals that may arrive ahead of a missing one: a refusal occupies a PSN, so the window bounds them.
const AHEAD_MAX: u16 = 1024;
const WORDS: usize = AHEAD_MAX as usize / 64;

/// The peer's refusals, and the tokens whose acknowledgement waits for one.
#[derive(Debug)]
pub(crate) struct Refusals<T> {
    /// All refusals up to this one have arrived.
    arrived: u64,
    /// Refusals beyond `arrived` that have: bit `i` of the ring is index `i` modulo 1,024. Most contexts never need it.
    ahead: Option<Box<[u64; WORDS]>>,
    /// The highest count that an acknowledgement carried.
    counted: u64,
    /// Acknowledged, but a refusal is missing: the count it waits for.
    waiting: VecDeque<(u64, T)>,
}

/// The counts, while nothing waits: the bits that travel say all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    arrived: u16,
    counted_ahead: u16,
}

impl<T: Copy> Refusals<T> {
    pub(crate) const fn new() -> Self {
        Self { arrived: 0, ahead: None, counted: 0, waiting: VecDeque::new() }
    }

    /// The full count that an acknowledgement's 16 bits mean. The nearest to what is known: acknowledgements older than a window are not
    /// looked at, and within a window the count cannot have gone half around.
    pub(crate) fn expand(&mut self, count: u16) -> u64 {
        let known = self.counted.max(self.arrived);
        let ahead = count.wrapping_sub(low(known));
        let full = if ahead < 1 << 15 {
            known + u64::from(ahead)
        } else {
            known.saturating_sub(u64::from(ahead.wrapping_neg()))
        };
        self.counted = self.counted.max(full);
        full
    }

    /// An acknowledgement that counts `refusals` covers `token`: true when that confirms it, else it is kept until it is.
    pub(crate) fn acknowledged(&mut self, token: T, refusals: u64) -> bool {
        if refusals <= self.arrived || planted(Defect::RefusalIgnored) {
            return true;
        }
        self.waiting.push_back((refusals, token));
        false
    }

    /// Refusal `index` arrived. False when it cannot be: too far ahead of what has arrived.
    pub(crate) fn arrived(&mut self, index: u16) -> bool {
        let ahead = index.wrapping_sub(low(self.arrived));
        if ahead == 0 || ahead >= 1 << 15 {
            return true;
        }
        if ahead > AHEAD_MAX {
            return false;
        }
        if ahead > 1 {
            let ring = self.ahead.get_or_insert_with(|| Box::new([0; WORDS]));
            ring[usize::from(index % AHEAD_MAX) / 64] |= 1 << (index % 64);
            return true;
        }
        self.arrived += 1;
        if let Some(ring) = &mut self.ahead {
            while take(ring, low(self.arrived + 1)) {
                self.arrived += 1;
            }
        }
        true
    }

    /// The next token that became confirmed.
    pub(crate) fn confirmed(&mut self) -> Option<T> {
        // In the order of acknowledgement: a smaller count behind a larger one waits for it, which only costs time.
        let &(refusals, token) = self.waiting.front()?;
        if refusals > self.arrived {
            return None;
        }
        self.waiting.pop_front();
        Some(token)
    }

    /// Tokens acknowledged and not confirmed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets the tokens that wait.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Tokens that fit without an allocation.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.waiting.capacity()
    }

    /// The counts, when no token and no refusal waits for another refusal.
    pub(crate) fn rest(&self) -> Option<Rest> {
        let ahead = self.ahead.as_ref().is_some_and(|ring| ring.iter().any(|word| *word != 0));
        let counted_ahead = u16::try_from(self.counted.saturating_sub(self.arrived)).ok()?;
        (self.waiting.is_empty() && !ahead).then_some(Rest { arrived: low(self.arrived), counted_ahead })
    }

    /// Goes on from these counts, in the memory of one where nothing waits.
    pub(crate) fn resume(&mut self, rest: Rest) {
        self.arrived = rest.arrived.into();
        self.counted = self.arrived + u64::from(rest.counted_ahead);
        self.waiting.clear();
    }
}

/// The 16 bits of a count that travel.
const fn low(count: u64) -> u16 {
    (count & 0xFFFF) as u16
}

/// Tests and clears the bit of `index`.
fn take(ring: &mut [u64; WORDS], index: u16) -> bool {
    let word = &mut ring[usize::from(index % AHEAD_MAX) / 64];
    let bit = 1 << (index % 64);
    let set = *word & bit != 0;
    *word &= !bit;
    set
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn drain(refusals: &mut Refusals<u32>) -> Vec<u32> {
        core::iter::from_fn(|| refusals.confirmed()).collect()
    }

    #[test]
    fn without_refusals_an_acknowledgement_is_success() {
        let mut refusals = Refusals::new();
        let count = refusals.expand(0);
        assert!(refusals.acknowledged(1, count));
    }

    #[test]
    fn every_order_of_three_refusals_confirms_exactly_when_all_are_there() {
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut refusals = Refusals::new();
            let count = refusals.expand(3);
            assert!(!refusals.acknowledged(7, count));
            for (i, index) in order.into_iter().enumerate() {
                assert!(refusals.arrived(index));
                assert!(refusals.arrived(index), "a duplicate changes nothing");
                assert_eq!(
                    drain(&mut refusals),
                    if i == 2 { vec![7] } else { vec![] },
                    "{order:?}, step {i}"
                );
            }
        }
    }

    #[test]
    fn an_old_count_confirms_what_it_covers_only() {
        let mut refusals = Refusals::new();
        let newer = refusals.expand(2);
        let older = refusals.expand(1);
        assert_eq!((newer, older), (2, 1));
        assert!(refusals.arrived(1));
        assert!(refusals.acknowledged(1, older));
        assert!(!refusals.acknowledged(2, newer));
    }

    #[test]
    fn counts_go_on_after_a_rest() {
        let mut refusals = Refusals::new();
        for index in 1..=70_000_u32 {
            assert!(refusals.arrived(low(index.into())));
        }
        assert_eq!(refusals.expand(low(70_002)), 70_002);
        let rest = refusals.rest().expect("nothing waits");
        refusals.resume(rest);
        let (old, new) = (refusals.expand(low(69_990)), refusals.expand(low(70_002)));
        assert!(refusals.acknowledged(1, old) && !refusals.acknowledged(2, new));
        assert!(refusals.rest().is_none(), "a token waits");
        assert!(refusals.arrived(low(70_002)) && drain(&mut refusals).is_empty());
        assert!(refusals.arrived(low(70_001)));
        assert_eq!(drain(&mut refusals), [2]);
    }

    #[test]
    fn a_count_ahead_of_what_arrived_is_known_after_a_rest() {
        let mut refusals = Refusals::<u32>::new();
        assert_eq!(refusals.expand(30_000), 30_000);
        let rest = refusals.rest().expect("nothing waits");
        refusals.resume(rest);
        assert_eq!(refusals.expand(40_000), 40_000);
    }

    #[test]
    fn a_refusal_from_nowhere_is_rejected() {
        let mut refusals = Refusals::<u32>::new();
        assert!(refusals.arrived(AHEAD_MAX));
        assert!(!refusals.arrived(AHEAD_MAX + 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Against full numbers and a set, across many wraps of the 16 bits.
        #[test]
        fn equals_full_counts(rounds in prop::collection::vec((1usize..900, any::<u64>(), 0usize..40), 1..200)) {
            let mut refusals = Refusals::new();
            let mut issued = 0u64;
            let mut token = 0;
            for (burst, shuffle, back) in rounds {
                let first = issued + 1;
                issued += burst as u64;
                let mut indices: Vec<u64> = (first..=issued).collect();
                let mut state = shuffle | 1;
                for i in (1..indices.len()).rev() {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    indices.swap(i, (state >> 33) as usize % (i + 1));
                }
                let mut waiting = Vec::new();
                for count in [issued - back.min(burst - 1) as u64, issued] {
                    let full = refusals.expand(low(count));
                    prop_assert_eq!(full, count);
                    prop_assert!(!refusals.acknowledged(token, full));
                    waiting.push((count, token));
                    token += 1;
                }
                let mut arrived = HashSet::new();
                let mut contiguous = first - 1;
                for index in indices {
                    prop_assert!(refusals.arrived(low(index)));
                    arrived.insert(index);
                    while arrived.contains(&(contiguous + 1)) {
                        contiguous += 1;
                    }
                    let expected: Vec<u32> = waiting.iter().filter(|w| w.0 <= contiguous).map(|w| w.1).collect();
                    waiting.retain(|w| w.0 > contiguous);
                    prop_assert_eq!(drain(&mut refusals), expected);
                }
                prop_assert_eq!(refusals.waiting(), 0);
            }
        }
    }
}
