//! Congestion control: how many packets may be in flight. Must never count a packet, know a PSN or decide what is lost: it is told.
//!
//! # Why this algorithm
//!
//! The networks meant (Ethernet clusters, cloud VMs) lose packets for two reasons: queues that overflow, which lose many at once, and
//! noise (a policer, a small receive buffer elsewhere, a bad cable), which loses few and always. Halving for each loss, as Reno does, keeps
//! `1.2 / sqrt(p)` packets in flight: 12 at 1 % loss, whatever the path could carry. So [`TolerantAimd`] asks *how many* were lost:
//!
//! - Up to 2 % of the packets is noise and costs nothing. A round trip of few packets cannot tell 1 % from 3 %, so a round is
//!   judged with three standard deviations of tolerance (64 packets: more than 5 lost), and a sample of 2,048 packets across rounds by the
//!   bare 2 %: the first reacts to an overflow within the round trip, the second to a moderate loss that goes on.
//! - Beyond that the window is multiplied by 0.7 (RFC 9438's beta), at most once per round trip: losses of packets sent before the cut say nothing about the window after it.
//! - A Congestion Experienced mark is a queue speaking: it counts as a cut, once per round trip (RFC 3168, section 6.1.2).
//! - Persistent timeouts after which packets turn out lost (RFC 9002, section 7.6) go to the minimum, and come back by slow start to half the previous window. Timeouts alone
//!   change nothing: a peer that computes is silent, and silence sends one packet per timeout anyway.
//! - A cut whose losses turn out not to be losses is undone.
//! - The window starts at 64 packets, not 10: what overwhelms a receiver is bounded by its credit, and 64 packets of 1,500 bytes are one
//!   segmentation train. It grows only while it limits the sender.

use core::fmt;

/// The losses that are noise: one in this many.
const NOISE_SHARE: u32 = 50;
/// Packets across rounds that are judged by the bare share.
const SAMPLE: u32 = 2048;
/// Packets of the first window.
const INITIAL: u32 = 64;
/// Packets of the smallest window.
const MINIMUM: u32 = 4;

/// Decides how many packets may be in flight. Transmission numbers (`tx`, `next_tx`) tell rounds apart: the first transmission acknowledged that was made after a point ends the round trip that began there.
pub trait CongestionControl {
    /// What it goes by while nothing is in flight.
    type Rest: Copy + fmt::Debug;
    /// What to go on from when something is in flight again. Nothing is now, and `next_tx` is the next transmission.
    fn rest(&self, next_tx: u64) -> Self::Rest;
    /// Goes on from there, within its own limit.
    fn resume(&mut self, rest: Self::Rest, next_tx: u64);
    /// Packets that may be in flight.
    fn window(&self) -> u32;
    /// A packet was sent, and `in_flight` are now.
    fn on_sent(&mut self, in_flight: u32);
    /// `packets` were acknowledged; `newest_tx` is the newest transmission known to have arrived, `next_tx` the next to be made.
    fn on_ack(&mut self, packets: u32, newest_tx: u64, next_tx: u64);
    /// The transmission `tx` is lost.
    fn on_loss(&mut self, tx: u64, next_tx: u64);
    /// `packets` that were declared lost had arrived.
    fn on_spurious(&mut self, packets: u32);
    /// Timeouts went on, and now packets turn out lost.
    fn on_timeout(&mut self, next_tx: u64);
    /// The peer counted new Congestion Experienced marks, on packets up to the transmission `newest_tx`.
    fn on_ecn(&mut self, newest_tx: u64, next_tx: u64);
}

/// Packets and how many of them were lost.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets: u32,
    lost: u32,
}

impl Tally {
    const fn is_more_than_noise(self) -> bool {
        self.lost > self.packets / NOISE_SHARE
    }

    /// The same with three standard deviations of tolerance, over at least `packets`.
    const fn is_beyond_chance(self, packets: u32) -> bool {
        let packets = if self.packets > packets { self.packets } else { packets };
        self.lost > packets / NOISE_SHARE + (packets * 9 / NOISE_SHARE).isqrt() + 1
    }
}

/// What a cut has to be undone with, and when.
#[derive(Clone, Copy, Debug)]
struct Cut {
    window: u32,
    threshold: u32,
    /// Losses that have to turn out spurious before the cut was wrong.
    spurious_needed: u32,
}

/// As [`Cut`], at rest.
#[derive(Clone, Copy, Debug)]
struct CutRest {
    window: u16,
    threshold: u16,
    spurious_needed: u16,
}

/// [`TolerantAimd`] at rest: packets in 16 bits, transmissions by how far they are behind the next one.
#[derive(Clone, Copy, Debug)]
pub struct AimdRest {
    window: u16,
    threshold: u16,
    acked: u16,
    /// Packets and losses.
    round: [u16; 2],
    sample: [u16; 2],
    round_end_behind: u16,
    recovery_end_behind: u16,
    cut: Option<CutRest>,
    limited: [bool; 2],
}

/// The implementation: see the module.
#[derive(Clone, Copy, Debug)]
pub struct TolerantAimd {
    window: u32,
    /// Slow start below it, additive increase from it on.
    threshold: u32,
    limit: u32,
    /// Acknowledged packets towards the next additive increase.
    acked: u32,
    round: Tally,
    sample: Tally,
    /// The transmission whose acknowledgement ends the round.
    round_end: u64,
    /// Losses and marks of transmissions before this one belong to the last cut.
    recovery_end: u64,
    cut: Option<Cut>,
    /// The window limited the sender in this round, in the one before.
    limited: [bool; 2],
}

impl TolerantAimd {
    /// A window that starts at 64 packets and never exceeds `limit`.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.clamp(MINIMUM, u16::MAX.into());
        Self {
            window: INITIAL.min(limit),
            threshold: limit,
            limit,
            acked: 0,
            round: Tally::default(),
            sample: Tally::default(),
            round_end: 0,
            recovery_end: 0,
            cut: None,
            limited: [false; 2],
        }
    }

    fn begin_round(&mut self, next_tx: u64) {
        self.round_end = next_tx;
        self.round = Tally::default();
        self.limited = [false, self.limited[0]];
    }

    /// At the end of a round: the loss across rounds.
    fn judge_sample(&mut self, next_tx: u64) {
        if self.sample.packets >= SAMPLE {
            let sample = core::mem::take(&mut self.sample);
            if sample.is_more_than_noise() {
                self.cut_by_beta(next_tx, sample.lost / 2 + 1);
            }
        }
    }

    fn cut_to(&mut self, window: u32, threshold: u32, next_tx: u64, spurious_needed: u32) {
        self.cut = Some(Cut { window: self.window, threshold: self.threshold, spurious_needed });
        self.window = window.max(MINIMUM).min(self.limit);
        self.threshold = threshold.max(MINIMUM).min(self.limit);
        self.acked = 0;
        self.recovery_end = next_tx;
        self.sample = Tally::default();
        self.begin_round(next_tx);
    }

    fn cut_by_beta(&mut self, next_tx: u64, spurious_needed: u32) {
        let window = self.window * 7 / 10;
        self.cut_to(window, window, next_tx, spurious_needed);
    }
}

/// A number of packets in 16 bits. Windows always fit, and more packets than that are no different.
fn narrow(packets: u32) -> u16 {
    u16::try_from(packets).unwrap_or(u16::MAX)
}

impl CongestionControl for TolerantAimd {
    type Rest = AimdRest;

    fn rest(&self, next_tx: u64) -> AimdRest {
        let tally = |tally: Tally| [narrow(tally.packets), narrow(tally.lost)];
        // What is further behind than a few windows is over.
        let behind = |tx: u64| u16::try_from(next_tx.saturating_sub(tx)).unwrap_or(u16::MAX);
        AimdRest {
            window: narrow(self.window),
            threshold: narrow(self.threshold),
            acked: narrow(self.acked),
            round: tally(self.round),
            sample: tally(self.sample),
            round_end_behind: behind(self.round_end),
            recovery_end_behind: behind(self.recovery_end),
            cut: self.cut.map(|cut| CutRest {
                window: narrow(cut.window),
                threshold: narrow(cut.threshold),
                spurious_needed: narrow(cut.spurious_needed),
            }),
            limited: self.limited,
        }
    }

    fn resume(&mut self, rest: AimdRest, next_tx: u64) {
        let tally = |[packets, lost]: [u16; 2]| Tally { packets: packets.into(), lost: lost.into() };
        *self = Self {
            window: rest.window.into(),
            threshold: rest.threshold.into(),
            limit: self.limit,
            acked: rest.acked.into(),
            round: tally(rest.round),
            sample: tally(rest.sample),
            round_end: next_tx.saturating_sub(rest.round_end_behind.into()),
            recovery_end: next_tx.saturating_sub(rest.recovery_end_behind.into()),
            cut: rest.cut.map(|cut| Cut {
                window: cut.window.into(),
                threshold: cut.threshold.into(),
                spurious_needed: cut.spurious_needed.into(),
            }),
            limited: rest.limited,
        };
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn on_sent(&mut self, in_flight: u32) {
        if in_flight >= self.window / 2 {
            self.limited[0] = true;
        }
    }

    fn on_ack(&mut self, packets: u32, newest_tx: u64, next_tx: u64) {
        self.round.packets += packets;
        self.sample.packets += packets;
        let recovering = newest_tx < self.recovery_end;
        if !recovering && (self.limited[0] || self.limited[1]) {
            if self.window < self.threshold {
                self.window = (self.window + packets).min(self.threshold);
            } else {
                self.acked += packets;
                if self.acked >= self.window {
                    self.acked -= self.window;
                    self.window = (self.window + 1).min(self.limit);
                }
            }
        }
        if newest_tx >= self.round_end {
            if self.round_end > self.recovery_end {
                // A whole round trip after the cut: what turns out spurious from now on was not its reason.
                self.cut = None;
            }
            self.begin_round(next_tx);
            self.judge_sample(next_tx);
        }
    }

    fn on_loss(&mut self, tx: u64, next_tx: u64) {
        if tx < self.recovery_end {
            if let Some(cut) = &mut self.cut {
                cut.spurious_needed = cut.spurious_needed.saturating_add(1);
            }
            return;
        }
        for tally in [&mut self.round, &mut self.sample] {
            tally.packets += 1;
            tally.lost += 1;
        }
        if self.round.is_beyond_chance(self.window) {
            self.cut_by_beta(next_tx, self.round.lost / 2 + 1);
        }
    }

    fn on_spurious(&mut self, packets: u32) {
        self.round.lost = self.round.lost.saturating_sub(packets);
        self.sample.lost = self.sample.lost.saturating_sub(packets);
        let Some(cut) = &mut self.cut else { return };
        cut.spurious_needed = cut.spurious_needed.saturating_sub(packets);
        if cut.spurious_needed == 0 {
            self.window = self.window.max(cut.window);
            self.threshold = self.threshold.max(cut.threshold);
            self.cut = None;
        }
    }

    fn on_timeout(&mut self, next_tx: u64) {
        self.cut_to(MINIMUM, self.window / 2, next_tx, 1);
    }

    fn on_ecn(&mut self, newest_tx: u64, next_tx: u64) {
        // Marks on packets sent before the last cut are that cut's.
        if newest_tx >= self.recovery_end {
            self.cut_by_beta(next_tx, u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One round trip of a full window of which `lost` are lost, and which `marked` says was marked.
    fn round(cc: &mut TolerantAimd, next_tx: &mut u64, lost: u32, marked: bool) {
        let first = *next_tx;
        let window = cc.window();
        *next_tx += u64::from(window);
        cc.on_sent(window);
        for i in 0..u64::from(lost) {
            cc.on_loss(first + i, *next_tx);
        }
        for i in u64::from(lost)..u64::from(window) {
            cc.on_ack(1, first + i, *next_tx);
            if marked {
                cc.on_ecn(first + i, *next_tx);
            }
        }
    }

    fn grown() -> (TolerantAimd, u64) {
        let (mut cc, mut next_tx) = (TolerantAimd::new(1024), 1);
        for _ in 0..4 {
            round(&mut cc, &mut next_tx, 0, false);
        }
        assert_eq!(cc.window(), 1024);
        (cc, next_tx)
    }

    #[test]
    fn slow_start_doubles_up_to_the_limit() {
        let (mut cc, mut next_tx) = (TolerantAimd::new(300), 1);
        let mut windows = Vec::new();
        for _ in 0..4 {
            windows.push(cc.window());
            round(&mut cc, &mut next_tx, 0, false);
        }
        assert_eq!(windows, [64, 128, 256, 300]);
    }

    #[test]
    fn two_percent_is_noise_in_every_round() {
        let (mut cc, mut next_tx) = grown();
        for _ in 0..1000 {
            round(&mut cc, &mut next_tx, 20, false);
        }
        assert_eq!(cc.window(), 1024);
    }

    #[test]
    fn three_percent_for_long_is_not() {
        let (mut cc, mut next_tx) = grown();
        for _ in 0..4 {
            round(&mut cc, &mut next_tx, 31, false);
        }
        assert!(cc.window() < 1024);
        let (mut small, mut next_tx) = (TolerantAimd::new(64), 1);
        let mut least = 64;
        for _ in 0..40 {
            round(&mut small, &mut next_tx, 3, false);
            least = least.min(small.window());
        }
        assert_eq!(least, 44, "a small window is judged over many rounds");
    }

    #[test]
    fn an_overflow_cuts_once_in_its_round_trip() {
        let (mut cc, mut next_tx) = grown();
        let (first, end) = (next_tx, next_tx + 1024);
        for i in 0..500 {
            cc.on_loss(first + i, end);
        }
        assert_eq!(cc.window(), 716);
        next_tx = end;
        round(&mut cc, &mut next_tx, 0, false);
        assert_eq!(cc.window(), 717, "and then by one");
        round(&mut cc, &mut next_tx, 100, false);
        assert_eq!(cc.window(), 501, "the next round trip is judged anew");
    }

    #[test]
    fn marks_cut_once_per_round_trip() {
        let (mut cc, mut next_tx) = grown();
        round(&mut cc, &mut next_tx, 0, true);
        assert_eq!(cc.window(), 716);
        round(&mut cc, &mut next_tx, 0, true);
        assert_eq!(cc.window(), 501);
    }

    #[test]
    fn persistent_timeouts_go_to_the_minimum_and_back_by_slow_start_to_half() {
        let (mut cc, mut next_tx) = grown();
        cc.on_timeout(next_tx);
        for i in 0..100 {
            cc.on_loss(next_tx - 100 + i, next_tx);
        }
        assert_eq!(cc.window(), 4);
        for _ in 0..7 {
            round(&mut cc, &mut next_tx, 0, false);
        }
        assert_eq!(cc.window(), 512);
        round(&mut cc, &mut next_tx, 0, false);
        assert_eq!(cc.window(), 513);
    }

    #[test]
    fn a_cut_for_nothing_is_undone_and_a_right_one_is_not() {
        let (mut cc, mut next_tx) = grown();
        let end = next_tx + 1024;
        for i in 0..100 {
            cc.on_loss(next_tx + i, end);
        }
        let mut right = cc;
        cc.on_spurious(100);
        assert_eq!(cc.window(), 1024);
        right.on_spurious(20);
        assert_eq!(right.window(), 716);
        next_tx = end;
        round(&mut right, &mut next_tx, 0, false);
        round(&mut right, &mut next_tx, 0, false);
        right.on_spurious(100);
        assert_eq!(right.window(), 718, "too late to be about that cut");
    }

    #[test]
    fn a_window_that_does_not_limit_does_not_grow() {
        let (mut cc, mut next_tx) = (TolerantAimd::new(1024), 1);
        for _ in 0..100 {
            cc.on_sent(10);
            next_tx += 10;
            cc.on_ack(10, next_tx - 1, next_tx);
        }
        assert_eq!(cc.window(), 64);
    }
}
