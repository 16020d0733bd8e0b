//! Seeded networks that do everything at once. The oracles are the harness's.

use core::time::Duration;

use super::harness::*;
use crate::{Class, Config, Credit, Instant, Local, Moment, Verdict};

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

/// A job over a network that the seed chooses, with pauses in which everything comes to rest.
fn run(seed: u64, freezing: bool) -> World {
    let mut choice = Random(seed);
    let window = [4, 16, 100, 1024][usize::try_from(choice.below(4)).expect("small")];
    let credit_lifetime = Duration::from_millis([0, 50][usize::from(choice.chance(5000))]);
    let config = Config { window, control_reserve: window / 8, credit_lifetime, ..Config::default() };
    let near_wrap =
        |choice: &mut Random| 0u32.wrapping_sub(u32::try_from(choice.below(3000)).expect("small"));
    let route_mtu = if choice.chance(5000) { 9000 } else { 1500 };
    let (mut a, mut b) = (local(0, near_wrap(&mut choice)), local(1, near_wrap(&mut choice)));
    a.credit = Credit { packets: u16::try_from(choice.below(300)).expect("small"), bytes: 1 << 20 };
    b.credit = Credit { packets: 1024, bytes: u32::try_from(choice.below(1 << 18)).expect("small") };
    (a.route_mtu, b.route_mtu) = (route_mtu, route_mtu);
    let mut world = World::with(seed, config, a, b);
    world.freezing = freezing.then_some(Random(seed ^ 0xC01D));
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
        if choice.chance(3000) {
            world.run_until(World::is_quiet, SECOND * 10);
            world.run_for(Duration::from_millis(choice.below(3000)));
        }
    }
    assert!(world.run_until(World::is_quiet, SECOND * 300), "seed {seed}: {:?}", world.describe());
    world.assert_complete();
    world
}

#[test]
fn everything_arrives_once_over_any_network() {
    for seed in 0..150 {
        run(seed, false);
    }
}

#[test]
fn a_context_that_was_cold_does_what_it_would_have_done() {
    let mut frozen = 0;
    for seed in 0..150 {
        let (warm, cold) = (run(seed, false), run(seed, true));
        assert_eq!(cold.digest(), warm.digest(), "seed {seed}: {:?}", cold.describe());
        assert_eq!(cold.now, warm.now);
        frozen += cold.frozen;
    }
    assert!(frozen > 1_000, "contexts went cold {frozen} times");
}

#[test]
fn what_is_under_way_keeps_a_context_warm() {
    let mut world = World::new(3);
    let now = world.now + SECOND;
    assert!(world.hosts[0].context.freeze(now).is_none(), "nobody was heard");
    world.establish();
    assert!(world.hosts.iter_mut().all(|host| host.context.freeze(now).is_some()));
    let at = world.at();
    world.hosts[0].context.send(at, Content::Message(7), 100, Class::Data, false);
    assert!(world.hosts[0].context.freeze(now).is_none(), "a packet is in flight");
    for report in [false, true] {
        let mut world = World::new(3);
        world.establish();
        let at = world.at();
        world.hosts[0].context.on_unreachable(at, report);
        assert!(world.hosts[0].context.freeze(now).is_none(), "the peer is in doubt");
    }
    let mut world = World::new(3);
    world.establish();
    world.hosts[0].context.set_credit(Credit { packets: 0, bytes: 0 });
    assert!(world.hosts[0].context.freeze(now).is_none(), "the peer is to be told");
    let at = Moment { now: world.now + SECOND * 10, rto_floor: MS };
    let context = &mut world.hosts[1].context;
    context.ask(at);
    assert!(context.poll_probe(at).is_some() && context.freeze(at.now).is_none(), "the peer was asked");
}

#[test]
fn a_duplicate_is_answered_before_a_context_is_cold() {
    let mut world = World::new(3);
    world.establish();
    let at = world.at();
    let [a, b] = &mut world.hosts;
    let packet = a.context.send(at, Content::Message(7), 100, Class::Data, false);
    for verdict in [Verdict::Accept, Verdict::Duplicate] {
        assert_eq!(b.context.on_packet(at, &packet, None, false), verdict);
        assert!(b.context.freeze(at.now).is_none());
        b.context.ack(at);
        let cold = b.context.freeze(at.now + SECOND).expect("it is answered");
        b.context.thaw(&cold);
    }
}

#[test]
fn a_context_is_warm_until_what_was_allowed_beyond_the_standing_credit_is_void() {
    let more = Credit { packets: 100, bytes: 100_000 };
    let standing = Credit { packets: 4, bytes: 4_000 };
    let mut world = World::with(3, Config::default(), Local { credit: standing, ..local(0, 1) }, local(1, 1));
    world.establish();
    let at = world.at();
    let [a, b] = &mut world.hosts;
    let packet = b.context.send(at, Content::Message(7), 100, Class::Data, false);
    assert_eq!(a.context.on_packet(at, &packet, None, false), Verdict::Accept);
    a.context.set_credit(more);
    let (header, body) = a.context.ack(at);
    assert_eq!(b.context.on_packet(at, &header, None, false), Verdict::NotData);
    b.context.on_ack(at, &header, &body);
    while b.context.poll_event().is_some() {}
    let lifetime = Config::default().credit_lifetime;
    for (after, rests) in [(Duration::ZERO, false), (lifetime, false), (lifetime + MS, true)] {
        for side in [&mut a.context, &mut b.context] {
            assert_eq!(side.freeze(at.now + after).is_some(), rests, "{after:?}: {side:?}");
        }
    }
    let later = Moment { now: at.now + lifetime + MS, ..at };
    let cold = a.context.freeze(later.now).expect("as above");
    a.context.thaw(&cold);
    let packet = a.context.send(later, Content::Message(8), 100, Class::Data, false);
    assert_eq!(packet.credit_packets, standing.packets);
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
    let later = world.now + SECOND;
    for host in &mut world.hosts {
        let cold = host.context.freeze(later).expect("all is said");
        host.context.thaw(&cold);
    }
    world.post(0, 50_000, 1400);
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    world.assert_complete();
    assert_eq!([0, 1].map(|side| world.hosts[side].context.capacities()), before, "its memory serves again");
}
