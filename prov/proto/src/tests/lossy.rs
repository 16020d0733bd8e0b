//! Seeded networks that do everything at once. The oracles are the harness's.

use core::time::Duration;

use super::harness::*;
use crate::{Config, Credit, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Loss, duplication and reordering at rates that the seed chooses, in bursts, in both directions.
pub(super) fn network(seed: u64) -> Network {
    let mut rates = Random(seed ^ 0xFA7E);
    let (loss, burst, twice, late) =
        (rates.below(1000), rates.below(30), rates.below(800), rates.below(4000));
    let spread = 1 + rates.below(200);
    let mut dropping_until = Instant::ZERO;
    Box::new(move |packet, random| {
        if packet.sent < dropping_until {
            return Fate::Drop;
        }
        if random.chance(burst) {
            dropping_until = packet.sent + Duration::from_micros(random.below(3000));
        }
        let delay = Duration::from_micros(random.below(spread));
        if random.chance(loss) {
            Fate::Drop
        } else if random.chance(twice) {
            Fate::Twice(delay)
        } else if random.chance(late) {
            Fate::Delay(delay)
        } else if random.chance(50) {
            Fate::Mark
        } else {
            Fate::Deliver
        }
    })
}

#[test]
fn everything_arrives_once_over_any_network() {
    for seed in 0..150 {
        let mut choice = Random(seed);
        let window = [4, 16, 100, 1024][usize::try_from(choice.below(4)).expect("small")];
        let config = Config { window, control_reserve: window / 8, ..Config::default() };
        let near_wrap =
            |choice: &mut Random| 0u32.wrapping_sub(u32::try_from(choice.below(3000)).expect("small"));
        let route_mtu = if choice.chance(5000) { 9000 } else { 1500 };
        let (mut a, mut b) = (local(0, near_wrap(&mut choice)), local(1, near_wrap(&mut choice)));
        a.credit = Credit { packets: u16::try_from(choice.below(300)).expect("small"), bytes: 1 << 20 };
        b.credit = Credit { packets: 1024, bytes: u32::try_from(choice.below(1 << 18)).expect("small") };
        (a.route_mtu, b.route_mtu) = (route_mtu, route_mtu);
        let mut world = World::with(seed, config, a, b);
        world.hosts[0].again = choice.below(500);
        world.hosts[1].refuse = choice.below(2000);
        world.hosts[1].request_ack = choice.chance(5000);
        world.fate = network(seed);
        for _ in 0..10 {
            world.post(0, choice.below(200), 0);
            world.post(1, choice.below(200), 200);
            report(&mut world, &mut choice);
            world.post_control(1, choice.below(20));
            world.run_for(Duration::from_micros(choice.below(5000)));
            let away = world.now + Duration::from_micros(choice.below(20_000));
            let side = usize::from(choice.chance(5000));
            world.hosts[side].asleep_until = away;
        }
        assert!(world.run_until(World::is_quiet, SECOND * 300), "seed {seed}: {:?}", world.describe());
        world.assert_complete();
    }
}

/// What routers say, true or not.
fn report(world: &mut World, choice: &mut Random) {
    let at = world.at();
    let context = &mut world.hosts[usize::from(choice.chance(5000))].context;
    match choice.below(10) {
        0 => context.on_too_big(at, Some(u16::try_from(choice.below(2000)).expect("small"))),
        1 => context.on_too_big(at, None),
        2 => context.on_unreachable(at, true),
        3 if context.peer().is_some() => context.on_unreachable(at, false),
        _ => {}
    }
}

#[test]
fn a_partition_heals() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.post(0, 3000, 1400);
        world.post(1, 3000, 1400);
        world.run_for(MS);
        world.fate = Box::new(|_, _| Fate::Drop);
        world.run_for(SECOND * 30);
        world.fate = network(seed);
        assert!(world.run_until(World::is_quiet, SECOND * 60), "seed {seed}: {:?}", world.describe());
        world.assert_complete();
    }
}

#[test]
fn steady_state_allocates_nothing() {
    let mut world = World::new(5);
    world.fate = Box::new(|_, random| if random.chance(200) { Fate::Drop } else { Fate::Deliver });
    world.post(0, 50_000, 1400);
    world.post(1, 50_000, 1400);
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    let before = [0, 1].map(|side| world.hosts[side].context.capacities());
    assert!(before[0][0] <= 1024, "the window bounds it: {before:?}");
    world.post(0, 50_000, 1400);
    world.post(1, 50_000, 1400);
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    assert_eq!([0, 1].map(|side| world.hosts[side].context.capacities()), before);
    for host in &mut world.hosts {
        host.context.release_memory();
        assert_eq!(host.context.capacities(), [0; 3], "an idle context holds nothing");
    }
    world.post(0, 100, 1400);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
}
