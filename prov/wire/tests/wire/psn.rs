//! PSN arithmetic against integers that are too wide to wrap.

use proptest::prelude::*;
use rdgram_wire::Psn;

const HALF: u64 = 1 << 31;

/// The PSN of the `count`th packet of a context that began at 0.
fn psn(count: u64) -> Psn {
    Psn(u32::try_from(count % (1 << 32)).expect("below 2^32"))
}

/// Counts around the places where 32 bits wrap, and any.
fn counts() -> impl Strategy<Value = u64> {
    let around = |centre: u64| centre - 2000..centre + 2000;
    prop_oneof![0..u64::MAX / 4, around(1 << 32), around(1 << 31), around(5 << 31), 0u64..2000]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(50_000) })]

    #[test]
    fn steps_are_those_of_the_count(count in counts(), step in any::<u32>()) {
        prop_assert_eq!(psn(count).next(), psn(count + 1));
        prop_assert_eq!(psn(count).add(step), psn(count + u64::from(step)));
    }

    #[test]
    fn distance_is_that_of_the_counts(count in counts(), ahead in any::<u32>()) {
        prop_assert_eq!(psn(count + u64::from(ahead)).distance_from(psn(count)), ahead);
    }

    #[test]
    fn before_is_that_of_the_counts_within_half_the_circle(count in counts(), ahead in 1..HALF) {
        prop_assert!(psn(count).is_before(psn(count + ahead)));
        prop_assert!(!psn(count + ahead).is_before(psn(count)));
        prop_assert!(!psn(count).is_before(psn(count)));
    }
}

#[test]
fn opposite_numbers_are_not_before_each_other() {
    for start in [0, 1, 1 << 31, u32::MAX] {
        let (one, other) = (Psn(start), Psn(start).add(1 << 31));
        assert!(!one.is_before(other) && !other.is_before(one));
    }
}

#[test]
fn prints_as_its_number() {
    assert_eq!(Psn(u32::MAX).next().to_string(), "0");
    assert_eq!(format!("{:>4}", Psn(17)), "  17");
}
