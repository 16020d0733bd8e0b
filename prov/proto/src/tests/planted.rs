//! The planted defects of this crate: the harness has to find each one, in few seeds. A harness that does not would find no real one either.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use super::harness::*;
use super::lossy;
use crate::{Config, Credit, Defect, Incarnation, plant, supersedes};

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: u64 = 30;

/// A network and a load of everything; panics when an oracle objects.
fn run(seed: u64) {
    let wrap_soon = 0u32.wrapping_sub(300);
    let mut second = local(1, wrap_soon);
    second.credit = Credit { packets: 60, bytes: 60_000 };
    let mut world = World::with(seed, Config::default(), local(0, wrap_soon), second);
    world.hosts[1].refuse = 500;
    world.fate = lossy::network(seed);
    for _ in 0..20 {
        world.post(0, 50, 1400);
        world.post(1, 50, 200);
        assert!(world.run_until(World::is_quiet, SECOND * 60), "it hangs");
        world.post(0, 1, 1400);
        assert!(world.run_until(World::is_quiet, SECOND * 60), "it hangs");
    }
    world.assert_complete();
}

/// The seed that found it.
fn found_after(defect: Option<Defect>) -> Option<u64> {
    plant(defect);
    let found = (0..SEEDS).find(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err());
    plant(None);
    found
}

#[test]
fn without_a_defect_nothing_is_found() {
    assert_eq!(found_after(None), None);
}

#[test]
fn every_defect_of_this_crate_is_found() {
    let here = [
        Defect::DedupOff,
        Defect::WrongSackBase,
        Defect::UnackedTail,
        Defect::LostCredit,
        Defect::RefusalIgnored,
        Defect::RetransmitWrongToken,
        Defect::CumulativeOverGap,
        Defect::WindowWrap,
        Defect::SackIsCumulative,
    ];
    let found: Vec<_> = here.into_iter().map(|defect| (defect, found_after(Some(defect)))).collect();
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "{found:?}");
}

#[test]
fn the_ghost_is_in_the_comparison() {
    plant(Some(Defect::GhostIncarnation));
    assert_eq!(supersedes(Some(7), 6), Incarnation::Newer);
    plant(None);
    assert_eq!(supersedes(Some(7), 6), Incarnation::Older);
}

#[test]
fn all_lists_each_defect_once() {
    let distinct: std::collections::HashSet<_> = Defect::ALL.into_iter().collect();
    assert_eq!(distinct.len(), Defect::ALL.len());
}
