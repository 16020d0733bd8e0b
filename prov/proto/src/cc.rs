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
    /// The peer counted new Congestion Experienced marks.
    fn on_ecn(&mut self, next_tx: u64);
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
        let limit = limit.max(MINIMUM);
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
        if self.sample.packets >= SAMPLE {
            self.sample = Tally::default();
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

impl CongestionControl for TolerantAimd {
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
            self.begin_round(next_tx);
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
        } else if self.sample.packets >= SAMPLE && self.sample.is_more_than_noise() {
            self.cut_by_beta(next_tx, self.sample.lost / 2 + 1);
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
        self.cut_to(MINIMUM, self.window / 2, next_tx, u32::MAX);
    }

    fn on_ecn(&mut self, next_tx: u64) {
        // Marks were counted on packets up to the newest one that arrived: the same round trip cuts once.
        if self.round_end >= self.recovery_end {
            self.cut_by_beta(next_tx, u32::MAX);
        }
    }
}
