//! What kills a context and what does not.

use core::time::Duration;

use rdgram_wire::{Psn, Reset, ResetReason};

use super::harness::*;
use crate::config::ACK_DELAY;
use crate::{
    Class, Config, Context, Death, Event, Incarnation, Instant, Local, Moment, PeerFault, Verdict, supersedes,
};

const SECOND: Duration = Duration::from_secs(1);

fn assert_dead(world: &mut World, side: usize, death: Death) {
    let host = &mut world.hosts[side];
    assert_eq!(host.context.is_dead(), Some(death));
    assert_eq!(host.events.iter().filter(|event| matches!(event, Event::Dead(_))).count(), 1);
    assert!(host.has(Event::Dead(death)));
    assert_eq!(host.context.next_timeout(), None);
    assert!(!host.context.can_send(Class::Control, 0));
    assert_eq!(host.context.unacknowledged(), 0);
}

#[test]
fn a_closed_port_is_believed_when_confirmed() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].port_closed = true;
    world.post(0, 100, 1000);
    world.run_for(MS * 20);
    assert_eq!(world.hosts[0].context.is_dead(), None, "a burst of reports says one thing once");
    world.run_for(MS * 200);
    assert_dead(&mut world, 0, Death::Refused);
}

#[test]
fn a_report_with_nothing_outstanding_is_confirmed_by_a_probe() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].port_closed = true;
    let at = world.at();
    world.hosts[0].context.on_unreachable(at, false);
    world.run_for(MS * 200);
    assert_dead(&mut world, 0, Death::Refused);
}

#[test]
fn one_report_and_then_life() {
    let mut world = World::new(1);
    world.establish();
    for _ in 0..20 {
        let at = world.at();
        world.hosts[0].context.on_unreachable(at, false);
        world.run_for(MS * 500);
    }
    world.post(0, 10, 100);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
}

#[test]
fn a_peer_that_is_not_there_yet_is_waited_for() {
    let mut world = World::new(1);
    world.hosts[1].port_closed = true;
    world.post(0, 20, 100);
    world.run_for(MS * 2900);
    assert_eq!(world.hosts[0].context.is_dead(), None);
    world.hosts[1].port_closed = false;
    assert!(world.run_until(World::is_quiet, SECOND * 2));
    world.assert_complete();
}

#[test]
fn a_peer_that_never_comes_is_given_up_after_the_grace() {
    let mut world = World::new(1);
    world.hosts[1].port_closed = true;
    world.post(0, 20, 100);
    world.run_for(SECOND * 6);
    assert_dead(&mut world, 0, Death::Refused);
}

#[test]
fn an_unreachable_host_has_to_stay_so() {
    let mut world = World::new(1);
    world.establish();
    for i in 0..3 {
        let at = world.at();
        world.hosts[0].context.on_unreachable(at, true);
        assert_eq!(world.hosts[0].context.is_dead(), None, "report {i}");
        world.run_for(SECOND * 2);
    }
    // Minutes later is another incident.
    world.run_for(SECOND * 100);
    for _ in 0..3 {
        let at = world.at();
        world.hosts[0].context.on_unreachable(at, true);
        world.run_for(SECOND * 2);
    }
    assert_eq!(world.hosts[0].context.is_dead(), None);
    let at = world.at();
    world.hosts[0].context.on_unreachable(at, true);
    world.run_for(MS);
    assert_dead(&mut world, 0, Death::Unreachable);
}

#[test]
fn a_host_that_was_heard_between_reports_is_reachable() {
    let mut world = World::new(1);
    world.establish();
    for _ in 0..20 {
        let at = world.at();
        world.hosts[0].context.on_unreachable(at, true);
        world.post(0, 1, 100);
        world.run_for(SECOND);
    }
    world.assert_complete();
}

#[test]
fn answers_between_silences_begin_the_count_anew() {
    let mut world = World::new(1);
    world.establish();
    for _ in 0..4 {
        world.hosts[1].asleep_until = world.now + SECOND * 600;
        world.post(0, 1, 100);
        world.run_for(SECOND * 610);
    }
    world.assert_complete();
}

#[test]
fn silence_ends_at_the_peer_timeout_only() {
    let mut world = World::new(1);
    world.establish();
    world.fate = Box::new(|_, _| Fate::Drop);
    world.post(0, 5, 1000);
    world.run_for(SECOND * 890);
    assert_eq!(world.hosts[0].context.is_dead(), None);
    world.run_for(SECOND * 30);
    assert_dead(&mut world, 0, Death::TimedOut);
    let at = world.at();
    assert!(world.hosts[0].context.poll_retransmit(at).is_none());
}

#[test]
fn forged_resets_are_not_believed_and_a_real_one_is() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND;
    world.post(0, 3, 1000);
    world.run_for(MS);
    let at = world.at();
    let (psn, cookie) = (local(0, 1000).initial_psn.add(2), local(1, 0).cookie);
    let real = Reset { psn, cookie, incarnation: 5000, reason: ResetReason::UnknownContext };
    let host = &mut world.hosts[0];
    host.context.on_reset(at, &Reset { cookie: cookie + 1, ..real });
    host.context.on_reset(at, &Reset { cookie: 0, ..real });
    host.context.on_reset(at, &Reset { psn: psn.add(10), ..real });
    host.context.on_reset(at, &Reset { psn: local(0, 1000).initial_psn, ..real });
    assert_eq!(host.context.is_dead(), None);
    assert_eq!(host.context.counters().faults, 4);
    host.context.on_reset(at, &real);
    world.run_for(MS);
    assert_dead(&mut world, 0, Death::Restarted);
}

#[test]
fn a_version_reset_answers_the_first_packets() {
    let mut world = World::new(1);
    world.fate = Box::new(|_, _| Fate::Drop);
    world.post(0, 1, 100);
    world.run_for(MS);
    let psn = local(0, 1000).initial_psn;
    let at = world.at();
    let reset = Reset { psn, cookie: 0, incarnation: 1, reason: ResetReason::Version };
    for _ in 0..3 {
        assert_eq!(world.hosts[0].context.is_dead(), None, "one may answer a damaged packet");
        world.hosts[0].context.on_reset(at, &reset);
    }
    world.run_for(MS);
    assert_dead(&mut world, 0, Death::Version);
}

#[test]
fn a_peer_that_was_heard_speaks_our_version() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND;
    world.post(0, 3, 1000);
    world.run_for(MS);
    let at = world.at();
    let (psn, cookie) = (local(0, 1000).initial_psn.add(2), local(1, 0).cookie);
    for _ in 0..10 {
        let reset = Reset { psn, cookie, incarnation: 1001, reason: ResetReason::Version };
        world.hosts[0].context.on_reset(at, &reset);
    }
    assert!(world.run_until(World::is_quiet, SECOND * 3));
    world.assert_complete();
}

#[test]
fn a_record_without_our_version_ends_it() {
    let mut world = World::new(1);
    let mut theirs = World::new(2).hosts[1].context.syn();
    (theirs.version_min, theirs.version_max) = (2, 3);
    let at = world.at();
    let llp =
        rdgram_wire::Llp { flags: rdgram_wire::Flags::SYN, psn: theirs.initial_psn, ..Default::default() };
    let verdict = world.hosts[0].context.on_packet(at, &llp, Some(&theirs), false);
    assert_eq!(verdict, Verdict::Drop(PeerFault::Version));
    assert_eq!(world.hosts[0].context.is_dead(), Some(Death::Version));
}

#[test]
fn close_delivers_what_its_header_acknowledges() {
    let mut world = World::new(1);
    world.establish();
    // The acknowledgement itself is lost, the notice behind it is not.
    world.fate = drop_first(1, |packet| packet.to == 0);
    world.post(0, 3, 1000);
    world.run_for(ACK_DELAY + DELAY * 2);
    world.close(1);
    world.run_for(DELAY * 2);
    assert_eq!(world.hosts[0].acked.len(), 4);
    assert_dead(&mut world, 0, Death::Closed);
}

#[test]
fn another_incarnation_is_none_of_this_contexts() {
    let mut world = World::new(1);
    world.establish();
    let at = world.at();
    let mut record = world.hosts[1].context.syn();
    let mut llp = rdgram_wire::Llp { flags: rdgram_wire::Flags::SYN, ..Default::default() };
    (llp.dst_ctx, llp.cookie, llp.psn) = (0x100, local(0, 0).cookie, record.initial_psn.add(1));
    let context = &mut world.hosts[0].context;
    for incarnation in [record.incarnation - 1, record.incarnation + 1] {
        record.incarnation = incarnation;
        assert_eq!(context.on_packet(at, &llp, Some(&record), false), Verdict::Drop(PeerFault::Stale));
    }
    llp.cookie = 0;
    llp.dst_ctx = 0;
    record.incarnation -= 1;
    assert_eq!(context.next_timeout(), None, "no probe for an old packet");
    let late = context.on_packet(at, &llp, Some(&record), false);
    assert_eq!(late, Verdict::Drop(PeerFault::Cookie), "it has shown our cookie before");
    assert_eq!(supersedes(None, 7), Incarnation::Newer);
    assert_eq!(supersedes(Some(7), 7), Incarnation::Same);
    assert_eq!(supersedes(Some(7), 8), Incarnation::Newer);
    assert_eq!(supersedes(Some(7), 6), Incarnation::Older);
    context.on_superseded();
    world.run_for(MS);
    assert_dead(&mut world, 0, Death::Restarted);
}

#[test]
fn the_grace_is_the_configured_one() {
    let config = Config { connect_grace: Duration::ZERO, ..Config::default() };
    let mut world = World::with(1, config, local(0, 1), local(1, 1));
    world.hosts[1].port_closed = true;
    world.post(0, 1, 100);
    world.run_for(MS * 300);
    assert_dead(&mut world, 0, Death::Refused);
}

#[test]
fn a_context_that_the_peer_gave_up_is_given_up() {
    let mut world = World::new(1);
    world.establish();
    let at = world.at();
    // The peer lives, in the same incarnation, but declared us dead and begins again.
    let again = Local { ctx: 0x999, cookie: 0xABCD, initial_psn: Psn(77), ..local(1, 0) };
    let mut fresh: Context<Content> = Context::new(&Config::default(), again, at.now);
    let llp = fresh.send(at, Content::Message(9), 100, Class::Data, false);
    let context = &mut world.hosts[0].context;
    assert_eq!(context.poll_probe(at), None);
    let verdict = context.on_packet(at, &llp, Some(&fresh.syn()), false);
    assert_eq!(verdict, Verdict::Drop(PeerFault::Stale));
    assert_eq!(context.next_timeout(), Some(at.now));
    let (probe, size) = context.poll_probe(at).expect("a probe of the old context");
    assert_eq!((probe.dst_ctx, probe.cookie, size), (0x101, local(1, 0).cookie, 40));
    // A peer that still has it would answer; this one does not know it.
    let reason = ResetReason::UnknownContext;
    context.on_reset(at, &Reset { psn: probe.psn, cookie: probe.cookie, incarnation: 1001, reason });
    world.run_for(MS);
    assert_dead(&mut world, 0, Death::Restarted);
}

/// A restarted endpoint's context that joined a late packet for its predecessor, and what the peer is by now.
fn joined_too_late() -> (Moment, Context<Content>, Context<Content>, Psn) {
    let at = Moment { now: Instant::from_nanos(1), rto_floor: Duration::ZERO };
    let config = Config::default();
    let mut given_up: Context<Content> = Context::new(&config, local(1, 500), at.now);
    let late = given_up.send(at, Content::Message(9), 100, Class::Data, false);
    let now = Local { ctx: 0x777, cookie: 0xBEEF, initial_psn: Psn(9_000), ..local(1, 0) };
    let peer = Context::new(&config, now, at.now);
    let mut restarted: Context<Content> = Context::new(&config, local(0, 100), at.now);
    assert_eq!(restarted.on_packet(at, &late, Some(&given_up.syn()), false), Verdict::Accept);
    let sent = restarted.send(at, Content::Message(1), 100, Class::Data, true);
    assert_eq!((sent.dst_ctx, sent.cookie), (local(1, 0).ctx, local(1, 0).cookie));
    (at, restarted, peer, sent.psn)
}

fn assert_unjoined_and_alive(
    at: Moment,
    mut restarted: Context<Content>,
    mut peer: Context<Content>,
    psn: Psn,
) {
    let unjoined = Event::Unjoined { incarnation: local(1, 0).incarnation, cookie: local(1, 0).cookie };
    assert_eq!(restarted.poll_event(), Some(unjoined));
    assert_eq!((restarted.is_dead(), restarted.peer()), (None, None));
    let again = restarted.poll_retransmit(at).expect("what was sent stands");
    assert_eq!((again.llp.psn, again.llp.dst_ctx, again.llp.cookie), (psn, 0, 0));
    assert_eq!(peer.on_packet(at, &again.llp, Some(&restarted.syn()), false), Verdict::Accept);
    let answer = peer.send(at, Content::Message(2), 100, Class::Data, false);
    assert_eq!(restarted.on_packet(at, &answer, Some(&peer.syn()), false), Verdict::Accept);
    assert_eq!(restarted.poll_event(), Some(Event::Acked(Content::Message(1))));
}

#[test]
fn a_reset_unjoins_what_a_late_packet_joined() {
    let (at, mut restarted, peer, psn) = joined_too_late();
    let cookie = local(1, 0).cookie;
    restarted.on_reset(at, &Reset { psn, cookie, incarnation: 1001, reason: ResetReason::UnknownContext });
    assert_unjoined_and_alive(at, restarted, peer, psn);
}

#[test]
fn another_incarnation_than_the_one_joined_ends_the_context() {
    let (at, mut restarted, _, psn) = joined_too_late();
    let cookie = local(1, 0).cookie;
    restarted.on_reset(at, &Reset { psn, cookie, incarnation: 1002, reason: ResetReason::UnknownContext });
    assert_eq!(restarted.is_dead(), Some(Death::Restarted), "answers to the former one may be on their way");
}

#[test]
fn a_packet_that_names_us_unjoins_what_a_late_packet_joined() {
    let (at, mut restarted, mut peer, psn) = joined_too_late();
    let mut first = restarted.send(at, Content::Message(3), 100, Class::Data, false);
    // As the restarted endpoint's first packet was, before it had joined anything.
    (first.dst_ctx, first.cookie) = (0, 0);
    first.flags.remove(rdgram_wire::Flags::ACKED | rdgram_wire::Flags::ECHO);
    assert_eq!(peer.on_packet(at, &first, Some(&restarted.syn()), false), Verdict::Accept);
    let crossing = peer.send(at, Content::Message(4), 100, Class::Data, false);
    let verdict = restarted.on_packet(at, &crossing, Some(&peer.syn()), false);
    assert_eq!(verdict, Verdict::Drop(PeerFault::Stale));
    assert_unjoined_and_alive(at, restarted, peer, psn);
}
