//! Single rules, on two contexts that are driven by hand: what a packet asks for, what an acknowledgement means, when something is due.

use core::time::Duration;

use rdgram_wire::{Ack, Flags, Llp, Psn};

use super::harness::*;
use crate::cc::CongestionControl;
use crate::config::ACK_DELAY;
use crate::{
    AckNeed, Class, Config, Context, Credit, Instant, Local, Moment, PeerFault, Retransmission, Verdict,
};

const RTT: Duration = Duration::from_micros(100);

/// A sender, established, and what its peer would say.
struct Pair {
    now: Instant,
    rto_floor: Duration,
    sender: Context<u32>,
    receiver: Context<u32>,
}

impl Pair {
    fn new(config: Config) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let sender = Context::new(&config, local(0, 100), now);
        let mut pair =
            Self { now, rto_floor: MS, sender, receiver: Context::new(&config, local(1, 200), now) };
        let first = pair.send(0);
        pair.now = pair.now + RTT;
        pair.deliver(&first);
        pair.answer(ENOUGH);
        pair
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, rto_floor: self.rto_floor }
    }

    fn send(&mut self, token: u32) -> Llp {
        self.sender.send(self.at(), token, 1000, Class::Data, false)
    }

    fn send_many(&mut self, count: u32) -> Vec<Llp> {
        (0..count).map(|token| self.send(token)).collect()
    }

    fn deliver(&mut self, llp: &Llp) -> Verdict {
        let syn = self.sender.syn();
        let syn = llp.flags.contains(Flags::SYN).then_some(&syn);
        self.receiver.on_packet(self.at(), llp, syn, false)
    }

    /// The receiver acknowledges what it has, and the sender hears at once. Returns the packet.
    fn answer(&mut self, credit: Credit) -> (Llp, Ack) {
        self.receiver.set_credit(credit);
        let (llp, ack) = self.receiver.ack(self.at());
        self.hear(&llp, &ack);
        (llp, ack)
    }

    fn hear(&mut self, llp: &Llp, ack: &Ack) {
        let syn = self.receiver.syn();
        let syn = llp.flags.contains(Flags::SYN).then_some(&syn);
        assert_eq!(self.sender.on_packet(self.at(), llp, syn, false), Verdict::NotData);
        self.sender.on_ack(self.at(), llp, ack);
    }

    fn again(&mut self) -> Option<Retransmission<u32>> {
        self.sender.poll_retransmit(self.at())
    }

    /// The sender asks whether its peer is there.
    fn asks(&mut self) -> bool {
        self.sender.poll_probe(self.at()).is_some()
    }

    fn after(&mut self, time: Duration) {
        self.now = self.now + time;
        self.sender.on_timeout(self.at());
    }
}

#[test]
fn three_later_arrivals_are_a_loss_at_once_and_two_are_not() {
    let mut pair = Pair::new(Config::default());
    let packets = pair.send_many(4);
    pair.now = pair.now + RTT;
    pair.deliver(&packets[1]);
    pair.deliver(&packets[2]);
    pair.answer(ENOUGH);
    assert_eq!(pair.again(), None);
    pair.deliver(&packets[3]);
    pair.answer(ENOUGH);
    let again = pair.again().expect("a retransmission");
    assert_eq!((again.llp.psn, again.token), (packets[0].psn, 0));
    assert!(again.llp.flags.contains(Flags::RETX | Flags::AR) && !again.fragment);
    assert_ne!(again.llp.tx_number, packets[0].tx_number);
    assert_eq!(pair.again(), None);
}

#[test]
fn a_probe_asks_for_what_nothing_in_flight_has_asked_for() {
    let mut pair = Pair::new(Config::default());
    pair.send(1);
    assert!(pair.sender.demand_ack(pair.at()));
    let (probe, size) = pair.sender.poll_probe(pair.at()).expect("a probe");
    assert_eq!(usize::from(size), Llp::LENGTH);
    assert!(!pair.sender.demand_ack(pair.at()), "it was asked for");
    assert_eq!(pair.receiver.on_packet(pair.at(), &probe, None, false), Verdict::NotData);
    pair.send(1);
    assert!(pair.sender.demand_ack(pair.at()), "not what was sent since");
    let last = pair.sender.send(pair.at(), 0, 100, Class::Data, true);
    assert!(last.flags.contains(Flags::AR));
    assert!(!pair.sender.demand_ack(pair.at()), "it asks itself");
    pair.send(1);
    pair.sender.note_request();
    assert!(!pair.sender.demand_ack(pair.at()), "its answer will tell");
}

#[test]
fn a_timeout_allows_for_an_acknowledgement_that_waits() {
    const LONG: Duration = Duration::from_millis(2);
    let mut pair = Pair::new(Config::default());
    for _ in 0..100 {
        let packet = pair.send(1);
        pair.now = pair.now + LONG;
        pair.deliver(&packet);
        pair.answer(ENOUGH);
    }
    let sent = pair.now;
    pair.send(1);
    let timeout = pair.sender.next_timeout().expect("a timer").saturating_duration_since(sent);
    assert!(timeout >= LONG + ACK_DELAY && timeout < LONG * 2, "{timeout:?}");
}

#[test]
fn a_bare_probe_and_a_padded_one_are_both_answered() {
    let mut pair = Pair::new(Config::default());
    let bare = Llp { psn: Psn(7), ..pair.answer(ENOUGH).0 };
    pair.receiver.on_probe(&bare, Llp::LENGTH);
    pair.receiver.on_probe(&Llp { psn: Psn(8), ..bare }, 1472);
    pair.receiver.on_probe(&Llp { psn: Psn(9), ..bare }, Llp::LENGTH);
    let mut answers = Vec::new();
    while let Some(answer) = pair.receiver.poll_probe_ack(pair.at()) {
        answers.push(answer.psn.0);
    }
    assert_eq!(answers, [9, 8]);
}

#[test]
fn one_later_arrival_is_a_loss_after_nine_eighths_of_the_round_trip() {
    let mut pair = Pair::new(Config::default());
    let packets = pair.send_many(2);
    let sent = pair.now;
    pair.now = pair.now + RTT;
    pair.deliver(&packets[1]);
    pair.answer(ENOUGH);
    assert_eq!(pair.again(), None);
    assert_eq!(pair.sender.next_timeout(), Some(sent + RTT + RTT / 8));
    pair.now = sent + RTT + RTT / 8 - Duration::from_nanos(1);
    assert_eq!(pair.again(), None);
    pair.after(Duration::from_nanos(1));
    assert_eq!(pair.again().map(|again| again.llp.psn), Some(packets[0].psn));
}

#[test]
fn what_the_rest_of_a_batch_acknowledges_is_not_lost() {
    let mut pair = Pair::new(Config::default());
    let packets = pair.send_many(5);
    pair.now = pair.now + RTT * 3;
    for packet in &packets[1..] {
        pair.deliver(packet);
        pair.answer(ENOUGH);
    }
    pair.deliver(&packets[0]);
    pair.answer(ENOUGH);
    assert_eq!(pair.again(), None);
    assert_eq!(pair.sender.counters().lost, 0);
    assert_eq!(pair.sender.unacknowledged(), 0);
}

#[test]
fn the_peers_own_delay_is_no_round_trip() {
    let mut pair = Pair::new(Config::default());
    for _ in 0..100 {
        let packet = pair.send(1);
        pair.now = pair.now + RTT;
        pair.deliver(&packet);
        pair.now = pair.now + MS * 50;
        pair.answer(ENOUGH);
    }
    assert_eq!(pair.sender.smoothed_rtt(), Some(RTT));
    // At the field's maximum nothing is known.
    let packet = pair.send(1);
    pair.deliver(&packet);
    pair.now = pair.now + MS * 500;
    pair.answer(ENOUGH);
    assert_eq!(pair.sender.smoothed_rtt(), Some(RTT));
}

#[test]
fn a_retransmission_gives_a_sample_only_if_it_was_meant() {
    let mut pair = Pair::new(Config::default());
    let packet = pair.send(1);
    // It is late; the timeout sends it again, and then the first one arrives.
    pair.after(MS * 5);
    let again = pair.again().expect("a probe");
    pair.deliver(&packet);
    let (llp, _) = pair.answer(ENOUGH);
    assert_eq!(llp.echo_tx, packet.tx_number);
    assert_eq!(pair.sender.smoothed_rtt(), Some(RTT), "whose round trip would it be?");
    assert_eq!(pair.deliver(&again.llp), Verdict::Duplicate);
    let packet = pair.send(2);
    pair.after(MS * 5);
    let again = pair.again().expect("a probe");
    pair.now = pair.now + RTT * 9;
    pair.deliver(&again.llp);
    pair.answer(ENOUGH);
    assert_eq!(pair.deliver(&packet), Verdict::Duplicate);
    assert_eq!(pair.sender.smoothed_rtt(), Some(RTT * 2), "an eighth of eight more");
}

#[test]
fn packets_and_bytes_of_credit_bind_each_alone() {
    for (credit, room) in [
        (Credit { packets: 7, bytes: u32::MAX }, 7),
        (Credit { packets: 1024, bytes: 5999 }, 5),
        (Credit { packets: 1024, bytes: u32::MAX }, 64),
    ] {
        let mut pair = Pair::new(Config::default());
        let packet = pair.send(1);
        pair.deliver(&packet);
        pair.answer(credit);
        let mut sent = Vec::new();
        while pair.sender.can_send(Class::Data, 1000) {
            sent.push(pair.send(2));
        }
        assert_eq!(sent.len(), room, "{credit:?}");
        let (closing, open) = sent.split_last().expect("some");
        assert!(closing.flags.contains(Flags::AR), "the packet that closes the window");
        assert!(!open[0].flags.contains(Flags::AR));
        assert!(pair.sender.can_send(Class::Control, 1000), "control needs no credit");
    }
}

#[test]
fn a_packet_alike_is_a_packet_sent() {
    for credit in [Credit { packets: 7, bytes: u32::MAX }, Credit { packets: 1024, bytes: 5999 }, ENOUGH] {
        let [mut alike, mut apart] = [(); 2].map(|()| {
            let mut pair = Pair::new(Config::default());
            let packet = pair.send(1);
            pair.deliver(&packet);
            pair.answer(credit);
            pair
        });
        let mut llp = alike.send(2);
        assert_eq!(llp, apart.send(2));
        let at = alike.at();
        while alike.sender.send_alike(at, 2, 1000, &mut llp) {
            assert_eq!(llp, apart.send(2));
        }
        assert!(!apart.sender.can_send(Class::Data, 1000), "as many");
        assert_eq!(alike.sender.next_timeout(), apart.sender.next_timeout());
        assert!(alike.again().is_none() && apart.again().is_none());
    }
}

/// How many packets of data may go now.
fn room(pair: &mut Pair) -> usize {
    assert!(pair.again().is_none());
    let mut sent = 0;
    while pair.sender.can_send(Class::Data, 1000) {
        pair.send(1);
        sent += 1;
    }
    sent
}

/// A pair in which both allow three packets at any time.
fn with_little_standing() -> Pair {
    let standing = Credit { packets: 3, bytes: 3000 };
    let mut pair = Pair::new(Config::default());
    let local = |side| Local { credit: standing, ..local(side, 300) };
    pair.sender = Context::new(&Config::default(), local(0), pair.now);
    pair.receiver = Context::new(&Config::default(), local(1), pair.now);
    let first = pair.send(0);
    pair.deliver(&first);
    pair.answer(standing);
    pair
}

#[test]
fn more_than_the_standing_credit_holds_for_a_while_only() {
    let more = Credit { packets: 40, bytes: 40_000 };
    let lifetime = Config::default().credit_lifetime;
    for (after, expected) in [(Duration::ZERO, 40), (lifetime, 40), (lifetime + MS, 3)] {
        let mut pair = with_little_standing();
        pair.answer(more);
        pair.after(after);
        assert_eq!(room(&mut pair), expected, "{after:?} later");
    }
}

#[test]
fn a_peer_that_sends_nothing_is_not_told_anew_that_it_may_send_much() {
    let mut pair = with_little_standing();
    pair.answer(Credit { packets: 40, bytes: 40_000 });
    let lifetime = Config::default().credit_lifetime;
    for (after, told) in [(lifetime, 40), (MS, 3)] {
        pair.now = pair.now + after;
        let at = pair.at();
        let llp = pair.receiver.send(at, 1, 100, Class::Data, false);
        assert_eq!(llp.credit_packets, told, "{after:?} later");
    }
}

#[test]
fn data_leaves_the_reserve_to_control() {
    let mut pair = Pair::new(Config { window: 40, control_reserve: 10, ..Config::default() });
    let mut data = 0;
    while pair.sender.can_send(Class::Data, 1000) {
        pair.send(1);
        data += 1;
    }
    let mut control = 0;
    while pair.sender.can_send(Class::Control, 1000) {
        let at = pair.at();
        pair.sender.send(at, 2, 1000, Class::Control, false);
        control += 1;
    }
    assert_eq!((data, control), (30, 10));
}

#[test]
fn a_changed_credit_is_worth_an_acknowledgement() {
    let told = Credit { packets: 100, bytes: 100_000 };
    let cases = [
        (Credit { packets: 101, ..told }, AckNeed::No, "a little more"),
        (Credit { packets: 10, ..told }, AckNeed::No, "less, with the next header"),
        (Credit { packets: 200, ..told }, AckNeed::Idle, "twice as much"),
        (Credit { bytes: 101_000, ..told }, AckNeed::No, "a few bytes"),
        (Credit { bytes: 10_000, ..told }, AckNeed::Idle, "fewer bytes, which no header tells"),
        (Credit { bytes: 300_000, ..told }, AckNeed::Idle, "more bytes"),
    ];
    for (credit, need, what) in cases {
        let mut pair = Pair::new(Config::default());
        pair.answer(told);
        pair.receiver.set_credit(credit);
        assert_eq!(pair.receiver.ack_need(), need, "{what}");
        let at = pair.at();
        let llp = pair.receiver.send(at, 1, 100, Class::Data, false);
        assert_eq!(llp.credit_packets, credit.packets);
        let owed = if credit.bytes.abs_diff(told.bytes) > 5000 { AckNeed::Idle } else { AckNeed::No };
        assert_eq!(pair.receiver.ack_need(), owed, "{what}: a header tells packets only");
    }
}

#[test]
fn marks_are_owed_a_body() {
    let mut pair = Pair::new(Config::default());
    let mut packet = pair.send(1);
    packet.flags |= Flags::AR;
    let at = pair.at();
    assert_eq!(pair.receiver.on_packet(at, &packet, None, true), Verdict::Accept);
    let at = pair.at();
    pair.receiver.send(at, 1, 100, Class::Data, false);
    assert_eq!(pair.receiver.ack_need(), AckNeed::Now, "a header does not count marks");
    let before = pair.sender.congestion().window();
    let (_, ack) = pair.answer(ENOUGH);
    assert_eq!(ack.ce_count, 1);
    assert!(pair.sender.congestion().window() < before);
    assert_eq!(pair.receiver.ack_need(), AckNeed::No);
}

#[test]
fn persistent_timeouts_and_then_losses_start_over() {
    let mut pair = Pair::new(Config::default());
    pair.send_many(40);
    for _ in 0..6 {
        pair.after(MS * 200);
        pair.again();
    }
    assert_eq!(pair.sender.congestion().window(), 64, "silence is not congestion");
    pair.after(MS * 1000);
    let (probe, size) = pair.sender.poll_probe(pair.at()).expect("a probe");
    assert!(usize::from(size) < 100, "which is small: {size}");
    pair.now = pair.now + RTT;
    assert_eq!(pair.receiver.on_packet(pair.at(), &probe, None, false), Verdict::NotData);
    pair.receiver.on_probe(&probe, size.into());
    let answer = pair.receiver.poll_probe_ack(pair.at()).expect("an answer");
    assert_eq!(pair.sender.on_packet(pair.at(), &answer, None, false), Verdict::NotData);
    pair.sender.on_probe_ack(pair.at(), &answer);
    assert!(pair.again().is_none(), "what tells more may be right behind");
    pair.after(RTT * 2);
    assert!(pair.again().is_some());
    assert_eq!(pair.sender.counters().lost, 40);
    assert_eq!(pair.sender.congestion().window(), 4);
}

#[test]
fn timeouts_grow_and_send_one_packet_each() {
    let mut pair = Pair::new(Config::default());
    pair.send_many(20);
    let mut gaps = Vec::new();
    let mut last = pair.now;
    for timeout in 0..10 {
        let due = pair.sender.next_timeout().expect("a timer");
        gaps.push(due.saturating_duration_since(last).as_micros());
        last = due;
        pair.now = due;
        pair.after(Duration::ZERO);
        // The tail is probed by the oldest packet. Who does not answer that is asked, and not sent copies.
        assert_eq!(pair.again().map(|again| again.llp.psn), (timeout == 0).then_some(Psn(101)));
        assert_eq!(pair.again(), None);
        assert_eq!(pair.asks(), timeout != 0);
    }
    // The tail probe; then the timeout, from the send on; then four times as long each, up to one second.
    assert_eq!(gaps[..5], [300, 700, 4000, 16_000, 64_000]);
    assert_eq!(gaps[7..], [1_000_000; 3]);
}

#[test]
fn a_process_that_is_away_itself_probes_no_tail_sooner() {
    let mut pair = Pair::new(Config::default());
    pair.rto_floor = MS * 40;
    let sent = pair.now;
    pair.send(1);
    assert_eq!(pair.sender.next_timeout(), Some(sent + MS * 20), "half the floor");
}

#[test]
fn a_crowded_peer_is_asked_and_not_sent_copies() {
    let mut pair = Pair::new(Config::default());
    pair.answer(Credit { packets: 3, bytes: 30_000 });
    pair.send(1);
    pair.after(MS / 2);
    assert!(pair.again().is_none() && pair.asks());
    assert_eq!(pair.sender.counters().tail_probes, 1);
}

#[test]
fn an_answer_to_who_only_asked_for_acknowledgements_says_nothing_of_a_silence_to_come() {
    let mut pair = Pair::new(Config::default());
    pair.answer(Credit { packets: 3, bytes: 30_000 });
    for packet in pair.send_many(2) {
        pair.deliver(&packet);
    }
    assert!(pair.sender.demand_ack(pair.at()), "only the first, half of what may be in flight, asked");
    let (probe, size) = pair.sender.poll_probe(pair.at()).expect("a probe");
    pair.send(3);
    assert_eq!(pair.receiver.on_packet(pair.at(), &probe, None, false), Verdict::NotData);
    pair.receiver.on_probe(&probe, size.into());
    let answer = pair.receiver.poll_probe_ack(pair.at()).expect("an answer");
    assert_eq!(pair.sender.on_packet(pair.at(), &answer, None, false), Verdict::NotData);
    pair.sender.on_probe_ack(pair.at(), &answer);
    assert_eq!(pair.sender.unacknowledged(), 1);
    pair.after(MS / 2);
    assert!(pair.again().is_none() && pair.asks(), "it is asked, not sent a copy");
}

#[test]
fn packets_wait_no_longer_because_credit_is_to_be_told_too() {
    let mut pair = Pair::new(Config::default());
    pair.receiver.set_credit(Credit { bytes: ENOUGH.bytes / 2, ..ENOUGH });
    assert_eq!((pair.receiver.ack_need(), pair.receiver.ack_due()), (AckNeed::Idle, None));
    let packet = pair.send(1);
    pair.deliver(&packet);
    assert_eq!(pair.receiver.ack_need(), AckNeed::Idle);
    assert_eq!(pair.receiver.ack_due(), Some(pair.now + ACK_DELAY));
}

#[test]
fn after_an_answer_the_packet_itself_is_sent_again() {
    let mut pair = Pair::new(Config::default());
    pair.send(1);
    // Every packet is lost and every question answered: then questions alone would go on for ever.
    let mut copies = 0;
    for _ in 0..8 {
        let due = pair.sender.next_timeout().expect("a timer");
        pair.now = pair.now.max(due);
        pair.after(Duration::ZERO);
        copies += usize::from(pair.again().is_some());
        if let Some((probe, size)) = pair.sender.poll_probe(pair.at()) {
            assert_eq!(pair.receiver.on_packet(pair.at(), &probe, None, false), Verdict::NotData);
            pair.receiver.on_probe(&probe, size.into());
            let answer = pair.receiver.poll_probe_ack(pair.at()).expect("an answer");
            assert_eq!(pair.sender.on_packet(pair.at(), &answer, None, false), Verdict::NotData);
            pair.sender.on_probe_ack(pair.at(), &answer);
        }
    }
    assert!(copies >= 5, "{copies} copies");
}

#[test]
fn a_probe_that_was_not_taken_is_still_due() {
    let mut pair = Pair::new(Config::default());
    pair.send_many(8);
    // No credit for more than one in flight, so that only a probe may go.
    pair.receiver.set_credit(Credit { packets: 100, bytes: 0 });
    let (llp, ack) = pair.receiver.ack(pair.at());
    pair.hear(&llp, &ack);
    pair.after(MS);
    let probe = pair.again().expect("a probe");
    assert_eq!(pair.again(), None);
    pair.sender.unsent(probe.llp.psn);
    assert!(pair.sender.has_retransmission());
    let again = pair.again().expect("the same");
    assert_eq!(again.llp.psn, probe.llp.psn);
    assert!(again.llp.flags.contains(Flags::AR));
    assert!(!pair.sender.has_retransmission());
}

#[test]
fn what_never_left_is_no_retransmission() {
    let mut pair = Pair::new(Config::default());
    let packet = pair.send(1);
    pair.sender.unsent(packet.psn);
    pair.sender.unsent(packet.psn);
    pair.sender.unsent(packet.psn.add(5));
    let again = pair.again().expect("once more");
    assert!(!again.llp.flags.contains(Flags::RETX));
    assert_eq!(pair.sender.counters().retransmitted, 0);
    assert_eq!(pair.again(), None);
}

#[test]
fn a_packet_for_another_context_is_not_ours() {
    let mut pair = Pair::new(Config::default());
    let mut packet = pair.send(1);
    packet.dst_ctx += 1;
    assert_eq!(pair.deliver(&packet), Verdict::Drop(PeerFault::Context));
    packet.dst_ctx -= 1;
    packet.cookie ^= 1;
    assert_eq!(pair.deliver(&packet), Verdict::Drop(PeerFault::Cookie));
    packet.cookie ^= 1;
    assert_eq!(pair.deliver(&packet), Verdict::Accept);
}

#[test]
fn a_probe_larger_than_we_accept_is_not_answered() {
    let mut pair = Pair::new(Config { segment_max: 2000, ..Config::default() });
    let at = pair.at();
    let probe = Llp { psn: Psn(5), ..Llp::default() };
    pair.receiver.on_probe(&probe, 2001);
    assert_eq!(pair.receiver.poll_probe_ack(at), None);
    pair.receiver.on_probe(&probe, 2000);
    assert_eq!(pair.receiver.poll_probe_ack(at).map(|llp| llp.psn), Some(Psn(5)));
    assert_eq!(pair.receiver.poll_probe_ack(at), None);
}

#[test]
fn a_timeout_shorter_than_the_tail_probe_replaces_it() {
    let mut pair = Pair::new(Config::default());
    for token in 0..100 {
        let packet = pair.send(token);
        pair.now = pair.now + RTT * 6;
        pair.deliver(&packet);
        pair.answer(ENOUGH);
    }
    let mut last = pair.now;
    pair.send(7);
    for expected in [MS, MS * 4, MS * 16] {
        let due = pair.sender.next_timeout().expect("a timer");
        assert_eq!(due.saturating_duration_since(last), expected, "one packet per timeout");
        last = due;
        pair.now = due;
        pair.after(Duration::ZERO);
        assert!(pair.again().is_some() == (expected == MS), "the packet, and then questions");
        assert!(pair.asks() != (expected == MS));
    }
    assert_eq!(pair.sender.counters().tail_probes, 0);
}

#[test]
fn no_route_is_too_narrow_for_the_headers() {
    for route_mtu in [0, 20, 68, 300, 1500, u16::MAX] {
        for ipv6 in [false, true] {
            let local = Local { route_mtu, ipv6, ..local(0, 1) };
            let context: Context<u32> = Context::new(&Config::default(), local, Instant::ZERO);
            let overhead = if ipv6 { 48 } else { 28 };
            let fits = usize::from(route_mtu.clamp(256 + overhead, 1500) - overhead);
            assert_eq!(context.segment(), fits);
        }
    }
}
