//! The classic checklist of a reliable transport, one scripted case each.

use core::time::Duration;

use rdgram_wire::{Ack, Flags, Kind, Llp, Psn};

use super::harness::*;
use crate::config::ACK_DELAY;
use crate::{AckNeed, Class, Config, Credit, Event, PeerFault, Verdict};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_first_packet_carries_data_and_the_answer_establishes() {
    let mut world = World::new(1);
    world.post(0, 1, 100);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert!(world.hosts[0].has(Event::Established));
    assert!(!world.hosts[0].context.needs_syn());
    assert!(world.hosts[1].context.needs_syn(), "nothing named our context yet");
    assert_eq!(world.carried, [1, 1], "one packet, one acknowledgement");
    assert_eq!(world.hosts[0].context.peer_incarnation(), Some(1001));
    assert_eq!(world.now.as_nanos() / 1000, 51, "no round trip but its own");
}

#[test]
fn at_most_eight_packets_before_the_first_answer() {
    let mut world = World::new(1);
    world.fate = drop_first(u32::MAX, |packet| packet.to == 0);
    world.post(0, 100, 1000);
    world.post_control(0, 10);
    world.run_for(SECOND);
    assert_eq!(world.hosts[1].accepted.len(), 8);
    assert_eq!(world.hosts[0].context.unacknowledged(), 8);
    world.fate = Box::new(|_, _| Fate::Deliver);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
}

#[test]
fn crossing_first_packets_make_one_context() {
    let mut world = World::new(1);
    world.post(0, 20, 500);
    world.post(1, 20, 500);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    for host in &world.hosts {
        assert_eq!(host.events, [Event::Established]);
        assert_eq!(host.context.counters().retransmitted, 0);
    }
}

#[test]
fn lost_first_packet() {
    let mut world = World::new(1);
    world.fate = drop_first(1, |packet| packet.is_message(0));
    world.post(0, 1, 100);
    assert!(world.run_until(World::is_quiet, MS * 20), "one initial timeout repairs it");
    world.assert_complete();
    assert_eq!(world.hosts[0].context.counters().retransmitted, 1);
}

#[test]
fn lost_first_of_many_is_repaired_by_those_behind_it() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(1, |packet| packet.is_message(1));
    world.post(0, 50, 1000);
    let start = world.now;
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!(
        (counters.retransmitted, counters.lost, counters.timeouts, counters.tail_probes),
        (1, 1, 0, 0)
    );
    assert!(world.now.saturating_duration_since(start) < DELAY * 10, "two round trips");
}

#[test]
fn lost_last_packet_is_found_by_the_tail_probe() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(1, |packet| packet.is_message(50));
    world.post(0, 50, 1000);
    let start = world.now;
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!((counters.tail_probes, counters.timeouts), (1, 0));
    assert!(world.now.saturating_duration_since(start) < MS / 2);
}

#[test]
fn lost_last_packet_and_its_probe_need_the_timeout() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(2, |packet| packet.is_message(50));
    world.post(0, 50, 1000);
    assert!(world.run_until(World::is_quiet, MS * 3));
    world.assert_complete();
    assert_eq!(world.hosts[0].context.counters().timeouts, 1);
}

#[test]
fn a_whole_flight_is_lost_and_one_probe_finds_out() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(40, Packet::is_data);
    world.post(0, 40, 1000);
    assert!(world.run_until(World::is_quiet, MS * 2));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!((counters.tail_probes, counters.timeouts, counters.lost), (1, 0, 39));
    assert_eq!(counters.retransmitted, 40, "each packet once");
}

#[test]
fn all_acknowledgements_lost_for_a_while() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(30, |packet| packet.to == 0);
    world.post(0, 2000, 1000);
    assert!(world.run_until(World::is_quiet, SECOND * 60));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!(counters.lost, 0, "nothing was lost, so nothing may be declared so");
    assert!(counters.retransmitted < 40, "{counters}");
}

#[test]
fn a_stale_acknowledgement_after_a_newer_one_changes_nothing() {
    let mut world = World::new(1);
    world.establish();
    // Every third packet towards the sender arrives much later than those behind it.
    let mut count = 0;
    world.fate = Box::new(move |packet, _| {
        count += u32::from(packet.to == 0);
        if packet.to == 0 && count % 3 == 0 { Fate::Delay(MS) } else { Fate::Deliver }
    });
    world.post(0, 3000, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert_eq!(world.hosts[0].context.counters().lost, 0);
}

#[test]
fn old_and_foreign_acknowledgements_are_harmless() {
    let mut world = World::new(1);
    world.establish();
    let old = acknowledgement(&world, 0);
    world.post(0, 10, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.post(0, 10, 1000);
    world.hosts[1].asleep_until = world.now + SECOND;
    world.run_for(DELAY);
    let before = world.hosts[0].context.unacknowledged();
    assert_eq!(before, 10);
    let at = world.at();
    let mut body = Ack { credit_bytes: 0, ce_count: 0, words: 0, sack: [0; 16] };
    let context = &mut world.hosts[0].context;
    assert_eq!(context.on_packet(at, &old, None, false), Verdict::NotData);
    context.on_ack(at, &old, &body);
    // The future, and a bitmap over PSNs that were never sent.
    let mut future = old;
    future.cumulative = old.cumulative.add(21);
    assert_eq!(context.on_packet(at, &future, None, false), Verdict::Drop(PeerFault::Acknowledgement));
    let mut beyond = old;
    beyond.cumulative = old.cumulative.add(10);
    (body.words, body.sack) = (16, [u64::MAX << 20; 16]);
    body.credit_bytes = 1 << 20;
    assert_eq!(context.on_packet(at, &beyond, None, false), Verdict::NotData);
    body.sack[0] = !((1 << 20) - 1);
    context.on_ack(at, &beyond, &body);
    assert_eq!(context.unacknowledged(), before);
    assert!(world.run_until(World::is_quiet, SECOND * 5));
    world.assert_complete();
}

/// The header of an ACK to `side` with what its peer has accepted now.
fn acknowledgement(world: &World, side: usize) -> Llp {
    let (ours, peer) = (&world.hosts[side].context, &world.hosts[1 - side]);
    let sent = u32::try_from(world.hosts[1 - side].accepted.len()).expect("a few");
    let mut llp = Llp { kind: Kind::Ack, ..Llp::default() };
    llp.flags = Flags::ACKED;
    llp.dst_ctx = ours.local().ctx;
    llp.cookie = ours.local().cookie;
    llp.cumulative = ours.local().initial_psn.add(sent);
    llp.credit_packets = peer.credit.packets;
    llp
}

#[test]
fn the_window_wraps_at_two_to_the_thirty_two() {
    let mut world = World::with(3, Config::default(), local(0, u32::MAX - 700), local(1, u32::MAX));
    world.fate = Box::new(|_, random| match random.below(100) {
        0..3 => Fate::Drop,
        3..6 => Fate::Twice(DELAY * 3),
        6..20 => Fate::Delay(DELAY * 2),
        _ => Fate::Deliver,
    });
    world.post(0, 5000, 1200);
    world.post(1, 5000, 1200);
    assert!(world.run_until(World::is_quiet, SECOND * 10));
    world.assert_complete();
}

#[test]
fn duplicates_are_dropped_and_acknowledged_again() {
    let mut world = World::new(1);
    world.fate = Box::new(|_, _| Fate::Twice(DELAY));
    world.post(0, 500, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert!(world.hosts[1].context.counters().duplicates >= 490);
}

#[test]
fn a_duplicate_asks_for_an_acknowledgement_at_once() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(1, |packet| packet.to == 0);
    world.post(0, 1, 1000);
    // The acknowledgement is lost; the probe is a duplicate, answered in the same call.
    assert!(world.run_until(World::is_quiet, MS));
    world.assert_complete();
    let counters = world.hosts[1].context.counters();
    assert_eq!((counters.received, counters.duplicates), (2, 1));
}

#[test]
fn a_peer_silent_for_minutes_and_back() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND * 300;
    world.hosts[1].inbox_limit = 150;
    world.post(0, 10_000, 1400);
    world.run_for(SECOND * 299);
    let counters = world.hosts[0].context.counters();
    assert!(counters.retransmitted < 320, "one packet per timeout: {counters}");
    assert!(world.hosts[0].context.is_dead().is_none());
    assert!(world.run_until(World::is_quiet, SECOND * 5), "{:?}", world.describe());
    world.assert_complete();
}

#[test]
fn both_sides_away_for_an_hour_is_nobodys_silence() {
    let mut world = World::new(1);
    world.establish();
    world.fate = drop_first(u32::MAX, |_| true);
    world.post(0, 5, 1400);
    world.run_for(MS * 10);
    let away = world.now + SECOND * 3600;
    for host in &mut world.hosts {
        host.asleep_until = away;
    }
    world.run_for(SECOND * 3600);
    world.fate = Box::new(|_, _| Fate::Deliver);
    assert!(world.run_until(World::is_quiet, SECOND * 5));
    world.assert_complete();
}

#[test]
fn answers_carry_the_acknowledgement() {
    let mut world = World::new(1);
    world.establish();
    let before = world.hosts.each_ref().map(|host| host.context.counters().acks_sent);
    for i in 0..10 {
        let side = i % 2;
        world.post(side, 1, 100);
        let there = world.hosts[1 - side].accepted.len() + 1;
        assert!(world.run_until(|world| world.hosts[1 - side].accepted.len() == there, MS));
    }
    // Each message of one side acknowledges the other's: the last one only is acknowledged apart.
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    let after = world.hosts.each_ref().map(|host| host.context.counters().acks_sent);
    assert_eq!((after[0] - before[0], after[1] - before[1]), (1, 0));
}

#[test]
fn what_makes_an_acknowledgement_due() {
    let config = Config { ack_every: 4, ..Config::default() };
    let mut world = World::with(1, config, local(0, 1000), local(1, 2000));
    world.establish();
    let at = world.at();
    let psn = Psn(1001);
    let mut llp = acknowledgement(&world, 1);
    llp.kind = Kind::Data;
    llp.tx_number = 100;
    let context = &mut world.hosts[1].context;
    let mut data = |context: &mut crate::Context<Content>, ahead: u32, flags: Flags| {
        llp.psn = psn.add(ahead);
        llp.tx_number += 1;
        llp.flags = Flags::ACKED | flags;
        let verdict = context.on_packet(at, &llp, None, false);
        (verdict, context.ack_need())
    };
    let ack = |context: &mut crate::Context<Content>| context.ack(at).1;
    assert_eq!(context.ack_need(), AckNeed::No);
    assert_eq!(data(context, 0, Flags::empty()), (Verdict::Accept, AckNeed::Later));
    assert_eq!(context.ack_due(), Some(at.now + ACK_DELAY));
    assert_eq!(ack(context).words, 0);
    assert_eq!(context.ack_need(), AckNeed::No);
    assert_eq!(data(context, 1, Flags::AR), (Verdict::Accept, AckNeed::Now));
    ack(context);
    assert_eq!(data(context, 1, Flags::empty()), (Verdict::Duplicate, AckNeed::Now));
    ack(context);
    for (ahead, need) in [(2, AckNeed::Later), (3, AckNeed::Later), (4, AckNeed::Later), (5, AckNeed::Now)] {
        assert_eq!(data(context, ahead, Flags::empty()), (Verdict::Accept, need));
    }
    ack(context);
    assert_eq!(data(context, 8, Flags::empty()), (Verdict::Accept, AckNeed::Now), "a gap opens");
    let body = ack(context);
    assert_eq!((body.words, body.sack[0]), (1, 0b10));
    assert_eq!(data(context, 6, Flags::empty()), (Verdict::Accept, AckNeed::Now), "it shrinks");
    let sent = context.send(at, Content::Message(99), 100, Class::Data, false);
    assert_eq!(sent.cumulative, psn.add(7));
    assert_eq!(context.ack_need(), AckNeed::Now, "a header cannot say what is beyond the gap");
    ack(context);
    assert_eq!(data(context, 7, Flags::empty()), (Verdict::Accept, AckNeed::Now), "it closes");
    let sent = context.send(at, Content::Message(98), 100, Class::Data, false);
    assert_eq!((sent.cumulative, context.ack_need()), (psn.add(9), AckNeed::No), "a header says it all");
    assert_eq!(data(context, 9 + 1024, Flags::empty()).0, Verdict::Drop(PeerFault::Window));
}

#[test]
fn no_credit_still_lets_one_packet_at_a_time_through_and_reopening_lets_all() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].credit = Credit { packets: 0, bytes: 0 };
    world.hosts[1].context.set_credit(Credit { packets: 0, bytes: 0 });
    world.post(0, 1, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.post(0, 500, 1000);
    for _ in 0..100 {
        world.run_for(DELAY / 4);
        assert!(world.hosts[0].context.in_flight() <= 1);
    }
    let accepted = world.hosts[1].accepted.len();
    assert!(accepted > 10, "it never stops");
    world.hosts[1].credit = ENOUGH;
    world.hosts[1].context.set_credit(ENOUGH);
    assert_eq!(world.hosts[1].context.ack_need(), AckNeed::Idle);
    let start = world.now;
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert!(world.now.saturating_duration_since(start) < DELAY * 2 * 20, "windows, not single packets");
}

#[test]
fn a_reopened_window_whose_notice_is_lost_is_found_all_the_same() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].credit = Credit { packets: 0, bytes: 0 };
    world.hosts[1].context.set_credit(Credit { packets: 0, bytes: 0 });
    world.post(0, 1, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.hosts[1].credit = ENOUGH;
    world.hosts[1].context.set_credit(ENOUGH);
    world.fate = drop_first(1, |packet| packet.to == 0);
    world.post(0, 300, 1000);
    assert!(world.run_until(World::is_quiet, MS * 5));
    world.assert_complete();
}

#[test]
fn credits_bound_what_is_in_flight() {
    let credit = Credit { packets: 20, bytes: 10_000 };
    let mut first = local(0, 1);
    first.credit = credit;
    let mut world = World::with(1, Config::default(), local(1, 1), first);
    world.post(0, 2000, 1000);
    let bounded = |world: &World| {
        let context = &world.hosts[0].context;
        assert!(context.in_flight() <= 10 || context.peer().is_none(), "{context:?}");
        world.is_quiet()
    };
    assert!(world.run_until(bounded, SECOND));
    world.assert_complete();
}

#[test]
fn control_passes_a_window_full_of_data() {
    let mut world = World::new(1);
    world.establish();
    world.hosts[1].asleep_until = world.now + SECOND;
    world.post(0, 2000, 100);
    world.run_for(MS);
    let data = world.hosts[0].context.unacknowledged();
    assert!(!world.hosts[0].context.can_send(Class::Data, 100));
    world.post_control(0, 2000);
    world.run_for(MS);
    assert_eq!(world.hosts[0].context.unacknowledged(), 1024);
    assert!(data <= 1024 - 64);
    assert!(world.run_until(World::is_quiet, SECOND * 3));
    world.assert_complete();
}

#[test]
fn what_the_datapath_did_not_take_is_given_again_without_blame() {
    let mut world = World::new(7);
    world.hosts[0].again = 3000;
    world.post(0, 2000, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    let counters = world.hosts[0].context.counters();
    assert_eq!((counters.lost, counters.retransmitted), (0, 0), "{counters}");
}

#[test]
fn a_late_packet_marked_lost_is_simply_acknowledged() {
    let mut world = World::new(1);
    world.establish();
    // Three round trips late: declared lost, sent again, and then both arrive.
    let mut once = true;
    world.fate = Box::new(move |packet, _| {
        let late = packet.is_message(5) && core::mem::take(&mut once);
        if late { Fate::Delay(DELAY * 6) } else { Fate::Deliver }
    });
    world.post(0, 100, 1000);
    assert!(world.run_until(World::is_quiet, SECOND));
    world.assert_complete();
    assert_eq!(world.hosts[1].context.counters().duplicates, 1);
}

#[test]
fn a_reordered_train_costs_no_window() {
    let mut world = World::new(1);
    world.establish();
    world.post(0, 20_000, 1000);
    let mut count = 0;
    world.fate = Box::new(move |packet, _| {
        count += u32::from(packet.to == 1);
        // Of each 64 packets 16 are overtaken by the rest.
        if packet.to == 1 && count % 64 < 16 { Fate::Delay(DELAY / 2) } else { Fate::Deliver }
    });
    let before = *world.hosts[0].context.congestion();
    assert!(world.run_until(World::is_quiet, SECOND * 10));
    world.assert_complete();
    let (after, context) = (world.hosts[0].context.congestion(), &world.hosts[0].context);
    use crate::cc::CongestionControl;
    assert!(after.window() >= before.window(), "{} {context:?}", after.window());
}
