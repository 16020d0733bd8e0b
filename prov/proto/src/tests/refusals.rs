//! The refusal rule, end to end: the harness asserts that nothing refused is confirmed before its refusal came.

use core::time::Duration;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_confirmation_waits_for_a_refusal_that_is_late() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].refuse = 10_000;
    let mut once = true;
    world.fate = Box::new(move |packet, _| match packet.body {
        Body::Data(Content::Refusal { .. }) if core::mem::take(&mut once) => Fate::Delay(MS / 10),
        _ => Fate::Deliver,
    });
    world.post(0, 3, 100);
    world.run_for(DELAY * 2 + Duration::from_micros(5));
    assert_eq!(world.hosts[0].context.unacknowledged(), 0, "acknowledged");
    assert_eq!(world.hosts[0].acked.len(), 1, "and not confirmed");
    assert!(!world.hosts[0].context.is_idle());
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
}

#[test]
fn refusals_under_loss_duplication_and_disorder_across_the_wrap_of_their_count() {
    for (seed, messages) in [(0, 90_000), (1, 10_000), (2, 10_000)] {
        let mut world = World::new(seed);
        world.hosts[1].refuse = 8000;
        world.hosts[0].refuse = 500;
        world.fate = Box::new(|_, random| match random.below(100) {
            0..2 => Fate::Drop,
            2..5 => Fate::Twice(DELAY * 4),
            5..25 => Fate::Delay(DELAY * 3),
            _ => Fate::Deliver,
        });
        // 0.8 x 90,000 is more than 2^16.
        world.post(0, messages, 600);
        world.post(1, 3_000, 600);
        assert!(world.run_until(World::is_quiet, SECOND * 60), "{:?}", world.describe());
        world.assert_complete();
    }
}

#[test]
fn refusals_that_never_come_bound_what_is_sent() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].refuse = 10_000;
    world.hosts[1].hold_refusals = true;
    world.post(0, 20_000, 100);
    world.run_for(SECOND * 2);
    assert_eq!(world.hosts[0].acked.len(), 1);
    let accepted = world.hosts[1].accepted.len();
    assert!((4 * 1024..=5 * 1024 + 2).contains(&accepted), "{accepted}");
    world.hosts[1].release_refusals();
    // What was held is not noticed by itself: the harness wakes with the next message.
    world.post(1, 1, 100);
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    world.assert_complete();
}
