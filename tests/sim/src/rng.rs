//! Seeded random numbers: the only source of chance in the simulator. The sequence of a seed is the same on every machine.

use core::ops::RangeInclusive;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::RngCore as _;

/// A probability in millionths: exact, and printable without rounding.
pub type Ppm = u32;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(Pcg64Mcg);

impl Rng {
    /// The stream `stream` of `seed`: streams of one seed are independent, so that drawing more in one place changes nothing in another.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Pcg64Mcg::new((u128::from(mix(seed)) << 64) | u128::from(mix(stream ^ 0x5157_a2e4_9c1f_6b03))))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which must not be 0. The bias of the remainder is far below what any test here could notice.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// An index below `bound`, which must not be 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }

    /// A number of the range.
    pub fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// A size of the range.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.index(range.end() - range.start() + 1)
    }

    /// A number of the range whose order of magnitude is uniform: as many draws between 10 and 100 as between 100 and 1,000. `start` must not be 0.
    pub fn magnitude(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        let octaves = u64::from(low.leading_zeros() - high.leading_zeros());
        let base = low << self.below(octaves + 1);
        self.range(base..=base.saturating_mul(2).min(high).max(base)).min(high)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: Ppm) -> bool {
        probability > 0 && self.below(1_000_000) < u64::from(probability)
    }

    /// One of the choices, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// An index, each with its weight. The weights must not all be 0.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut left = self.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        for (index, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

/// A bijection of 64-bit numbers whose output looks random (the finalizer of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_fixed() {
        let mut rng = Rng::new(1, 2);
        let first: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
        let mut again = Rng::new(1, 2);
        assert_eq!(first, (0..3).map(|_| again.bits()).collect::<Vec<_>>());
        assert_ne!(first[0], Rng::new(1, 3).bits());
        assert_ne!(first[0], Rng::new(2, 2).bits());
    }

    #[test]
    fn draws_stay_in_their_ranges() {
        let mut rng = Rng::new(7, 7);
        for _ in 0..10_000 {
            assert!((3..=5).contains(&rng.range(3..=5)));
            assert!((10..=100_000).contains(&rng.magnitude(10..=100_000)));
            assert!(!rng.chance(0));
            assert!(rng.chance(1_000_000));
            assert_ne!(rng.weighted(&[1, 0, 3]), 1);
        }
    }
}
