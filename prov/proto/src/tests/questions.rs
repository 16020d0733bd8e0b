//! Asking a peer that something is awaited of: what is noticed, how soon, and what must not be taken for anything.

use core::time::Duration;
use std::boxed::Box;

use super::harness::{DELAY, Fate, MS, World};
use crate::Death;

const SECOND: Duration = Duration::from_secs(1);

/// The first side awaits something of the second, which it asks for once a second, for so long or until the context is dead.
fn await_for(world: &mut World, seconds: u64) -> Option<Death> {
    for _ in 0..seconds {
        if world.hosts[0].context.is_dead().is_some() {
            break;
        }
        let at = world.at();
        world.hosts[0].context.ask(at);
        world.run_for(SECOND);
    }
    world.hosts[0].context.is_dead()
}

#[test]
fn nothing_is_asked_of_a_peer_that_nothing_is_awaited_of() {
    let mut world = World::new(1);
    world.establish();
    world.run_for(SECOND * 10);
    let carried = world.carried;
    assert!(world.hosts.iter().all(|host| host.context.next_timeout().is_none()));
    world.run_for(SECOND * 1000);
    assert_eq!(world.carried, carried);
}

#[test]
fn a_process_that_ended_is_noticed_by_asking() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].port_closed = true;
    assert_eq!(await_for(&mut world, 7), Some(Death::Refused));
}

#[test]
fn a_process_that_ended_long_after_it_was_heard_is_noticed_sooner() {
    let mut world = World::new(1);
    world.establish();
    world.run_for(SECOND * 100);
    world.hosts[1].port_closed = true;
    assert_eq!(await_for(&mut world, 1), Some(Death::Refused));
}

#[test]
fn a_peer_that_answers_is_asked_now_and_then() {
    let mut world = World::new(1);
    world.establish();
    let probes = world.hosts[0].context.counters().probes;
    assert_eq!(await_for(&mut world, 1000), None);
    assert!((150..=200).contains(&(world.hosts[0].context.counters().probes - probes)));
    assert_eq!(world.hosts[0].context.silence(), Duration::ZERO);
}

#[test]
fn a_peer_that_computes_for_ten_minutes_is_healthy() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND * 600;
    let carried = world.carried[1];
    assert_eq!(await_for(&mut world, 600), None);
    assert!(world.carried[1] - carried <= 120, "its socket holds what it is asked meanwhile");
    assert!(world.hosts[0].context.silence() >= SECOND * 590);
    world.run_for(MS);
    assert_eq!(world.hosts[0].context.silence(), Duration::ZERO);
    world.post(0, 1, 100);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
}

#[test]
fn questions_without_an_answer_prove_nothing() {
    let mut world = World::new(1);
    world.establish();
    world.fate = Box::new(|_, _| Fate::Drop);
    assert_eq!(await_for(&mut world, 2000), None);
    assert!(world.hosts[0].context.silence() >= SECOND * 1990, "it is noticed");
    // Nor do they count when something is in flight at last: the peer timeout begins then.
    world.post(0, 1, 100);
    world.run_for(SECOND * 600);
    assert_eq!(world.hosts[0].context.is_dead(), None);
    world.run_for(SECOND * 400);
    assert_eq!(world.hosts[0].context.is_dead(), Some(Death::TimedOut));
}

#[test]
fn time_in_which_nobody_asked_is_no_silence() {
    let mut world = World::new(1);
    world.establish();
    world.fate = Box::new(|_, _| Fate::Drop);
    for _ in 0..100 {
        let at = world.at();
        world.hosts[0].context.ask(at);
        world.run_for(SECOND * 600);
    }
    assert_eq!(world.hosts[0].context.is_dead(), None);
    assert!(world.hosts[0].context.silence() < SECOND * 600);
}

#[test]
fn what_is_in_flight_asks_already() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND * 60;
    let probes = world.hosts[0].context.counters().probes;
    world.post(0, 1, 100);
    world.run_for(DELAY);
    assert_eq!(await_for(&mut world, 59), None);
    let counters = world.hosts[0].context.counters();
    assert_eq!(counters.probes - probes, counters.timeouts, "the timeouts' probes are all");
    assert!(world.hosts[0].context.silence() <= SECOND * 60, "and is not counted twice");
}
