//! Path MTU and congestion, end to end.

use core::time::Duration;

use super::harness::*;
use crate::cc::CongestionControl;
use crate::{Config, Event, Local};

const SECOND: Duration = Duration::from_secs(1);

fn world_of(route_mtu: u16, path_mtu: usize) -> World {
    let with_mtu = |local: Local| Local { route_mtu, ..local };
    let mut world = World::with(1, Config::default(), with_mtu(local(0, 1)), with_mtu(local(1, 1)));
    world.fate = path_of(path_mtu);
    world
}

fn path_of(mtu: usize) -> Network {
    Box::new(
        move |packet, _| if packet.bytes + 28 > mtu && !packet.fragment { Fate::Drop } else { Fate::Deliver },
    )
}

#[test]
fn jumbo_frames_are_found_at_once() {
    let mut world = world_of(9000, 9000);
    assert_eq!(world.hosts[0].context.segment(), 1472);
    world.post(0, 100, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert!(world.hosts[0].has(Event::SegmentGrew(8972)));
    assert_eq!(world.hosts[0].context.segment(), 8972);
    world.post(0, 100, 0);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert_eq!(world.hosts[0].context.counters().retransmitted, 0);
}

#[test]
fn loopback_is_climbed_in_steps() {
    let mut world = world_of(u16::MAX, 1 << 20);
    for _ in 0..10 {
        world.post(0, 10, 1000);
        world.run_for(MS);
    }
    let grew = |segment| Event::SegmentGrew(segment);
    let steps = [grew(8972), grew(16_356), grew(32_740), grew(65_507)];
    assert_eq!(world.hosts[0].events[1..], steps);
}

#[test]
fn both_sides_limits_bound_the_search() {
    let mut world = world_of(9000, 9000);
    let small = Config { segment_max: 4000, ..Config::default() };
    let other = World::with(1, small, local(0, 1), Local { route_mtu: 9000, ..local(1, 1) });
    world.hosts[1] = other.hosts.into_iter().nth(1).expect("two hosts");
    world.post(0, 100, 1000);
    world.run_for(SECOND);
    assert_eq!(world.hosts[0].context.segment(), 4000);
}

#[test]
fn a_path_narrower_than_its_route_costs_probes_and_nothing_else() {
    let mut world = world_of(9000, 1500);
    for _ in 0..300 {
        world.post(0, 10, 0);
        world.post(1, 1, 100);
        world.run_for(MS * 10);
    }
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    let context = &world.hosts[0].context;
    assert_eq!(context.segment(), 1472);
    let counters = context.counters();
    assert_eq!((counters.lost, counters.retransmitted), (0, 0));
    assert_eq!(counters.probes, 3);
    assert!(context.congestion().window() >= 64);
}

#[test]
fn a_silent_peer_fails_no_size() {
    let mut world = world_of(9000, 9000);
    world.post(0, 1, 1000);
    assert!(world.run_until(|world| !world.hosts[0].acked.is_empty(), MS));
    world.hosts[1].asleep_until = world.now + SECOND * 10;
    world.hosts[1].inbox_limit = 0;
    world.post(0, 20, 1000);
    world.run_for(SECOND * 10);
    assert_eq!(world.hosts[0].context.segment(), 1472);
    assert!(world.hosts[0].context.counters().probes >= 2);
    world.hosts[1].inbox_limit = usize::MAX;
    world.run_for(SECOND * 2);
    world.post(0, 20, 1000);
    world.run_for(MS * 100);
    world.assert_complete();
    assert_eq!(world.hosts[0].context.segment(), 8972);
}

#[test]
fn a_path_in_doubt_is_probed_when_the_peer_speaks() {
    let mut world = world_of(1500, 1500);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND * 30;
    world.post(0, 20, 0);
    world.run_for(SECOND * 29);
    let before = world.hosts[0].context.counters();
    assert_eq!(before.probes, before.timeouts, "a silent one answers no size: the timeouts' probes are all");
    world.run_for(SECOND * 2);
    world.assert_complete();
    let after = world.hosts[0].context.counters();
    assert_eq!(after.probes - before.probes, after.timeouts - before.timeouts + 1);
    assert_eq!(world.hosts[0].context.segment(), 1472);
}

#[test]
fn a_path_that_narrows_silently_is_found_out() {
    let mut world = world_of(9000, 9000);
    world.post(0, 100, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    assert_eq!(world.hosts[0].context.segment(), 8972);
    world.fate = path_of(1500);
    world.post(0, 50, 0);
    // The large packets of the time before get through in fragments.
    assert!(world.run_until(World::is_quiet, SECOND * 60), "{:?}", world.describe());
    world.assert_complete();
    for _ in 0..200 {
        world.post(0, 10, 0);
        world.post(1, 1, 100);
        world.run_for(MS * 20);
    }
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    world.assert_complete();
    assert_eq!(world.hosts[0].context.segment(), 1472, "down to the least, and up to what fits");
}

#[test]
fn a_first_flight_into_a_black_hole_arrives_in_fragments() {
    let mut world = world_of(1500, 1400);
    world.post(0, 8, 0);
    assert!(world.run_until(World::is_quiet, SECOND * 20), "{:?}", world.describe());
    world.assert_complete();
    for _ in 0..100 {
        world.post(0, 5, 0);
        world.post(1, 1, 100);
        world.run_for(MS * 50);
    }
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    world.assert_complete();
    assert_eq!(world.hosts[0].context.segment(), 1252);
}

#[test]
fn too_big_shrinks_and_what_is_out_goes_in_fragments() {
    let mut world = world_of(9000, 9000);
    world.post(0, 100, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.fate = path_of(1400);
    world.post(0, 30, 0);
    world.run_for(DELAY);
    let at = world.at();
    world.hosts[0].context.on_too_big(at, Some(1400));
    assert_eq!(world.hosts[0].context.segment(), 1372);
    assert!(world.run_until(World::is_quiet, MS * 5));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!(counters.lost, 0, "the network is not to blame: {counters}");
    world.post(0, 30, 0);
    assert!(world.run_until(World::is_quiet, MS * 5));
    world.assert_complete();
    // Ten minutes later the path is asked again.
    world.fate = path_of(9000);
    world.run_for(SECOND * 601);
    world.post(0, 30, 0);
    world.run_for(MS * 5);
    assert_eq!(world.hosts[0].context.segment(), 8972);
}

#[test]
fn too_big_of_a_probe_costs_no_segment() {
    let mut world = world_of(9000, 1500);
    world.post(0, 30, 1000);
    world.run_for(MS);
    let at = world.at();
    world.hosts[0].context.on_too_big(at, Some(1500));
    assert_eq!(world.hosts[0].context.segment(), 1472);
    world.post(0, 30, 0);
    world.run_for(SECOND);
    world.assert_complete();
    assert_eq!(world.hosts[0].context.counters().probes, 1);
}

#[test]
fn random_loss_of_one_percent_keeps_the_window() {
    for seed in 0..2 {
        let mut world = World::new(seed);
        world.establish();
        world.fate = Box::new(|_, random| if random.chance(100) { Fate::Drop } else { Fate::Deliver });
        world.post(0, 200_000, 1400);
        let (mut sum, mut count) = (0u64, 0u64);
        let done = |world: &World| {
            let window = world.hosts[0].context.congestion().window();
            // After the climb from 64.
            if world.hosts[0].acked.len() > 20_000 {
                sum += u64::from(window);
                count += 1;
            }
            world.is_quiet()
        };
        assert!(world.run_until(done, SECOND * 60));
        world.assert_complete();
        let mean = sum / count;
        assert!(mean >= 820, "seed {seed}: mean window {mean} of 1,024");
        let counters = world.hosts[0].context.counters();
        assert!(counters.timeouts <= 4, "{counters}");
        assert!(counters.spurious * 50 <= counters.lost.max(50), "{counters}");
    }
}

#[test]
fn a_bottleneck_is_filled_without_collapse() {
    // One packet per microsecond, 100 packets of buffer, 50 us of round trip: 150 packets fit.
    let service = Duration::from_micros(1);
    let mut world = World::new(1);
    world.establish();
    let mut free = world.now;
    world.fate = Box::new(move |packet, _| {
        if packet.to == 0 {
            return Fate::Deliver;
        }
        free = free.max(packet.sent);
        let backlog = free.saturating_duration_since(packet.sent);
        if backlog > service * 100 {
            return Fate::Drop;
        }
        free = free + service;
        Fate::Delay(backlog + service)
    });
    world.post(0, 100_000, 1400);
    let start = world.now;
    assert!(world.run_until(World::is_quiet, SECOND * 10));
    world.assert_complete();
    let took = world.now.saturating_duration_since(start);
    let counters = world.hosts[0].context.counters();
    assert!(took < service * 100_000 * 10 / 8, "{took:?} {counters}");
    assert!(counters.retransmitted < 5_000, "{counters}");
}

#[test]
fn marks_of_congestion_cut_once_per_round_trip() {
    let mut world = World::new(1);
    world.establish();
    world.post(0, 20_000, 1400);
    assert!(world.run_until(|world| world.hosts[0].acked.len() > 5000, SECOND));
    let before = world.hosts[0].context.congestion().window();
    world.fate = Box::new(|packet, _| if packet.to == 1 { Fate::Mark } else { Fate::Deliver });
    // Every packet is marked for one round trip, from its beginning to its end.
    world.run_for(DELAY * 2);
    world.fate = Box::new(|_, _| Fate::Deliver);
    world.run_for(DELAY * 2);
    let after = world.hosts[0].context.congestion().window();
    assert!(after < before && after >= before * 4 / 10, "{before} to {after}");
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert!(world.hosts[1].context.counters().ce_received > 0);
}
