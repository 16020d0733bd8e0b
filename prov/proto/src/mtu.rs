//! Path MTU of a context (protocol.md, section 6; RFC 8899): the largest datagram to build now, and the search for a larger one. Sizes are
//! UDP payloads. Must never take a missing answer to a probe for congestion, or for anything while the peer says nothing at all.

use core::time::Duration;

use rdgram_wire::Syn;

use crate::config::Config;
use crate::time::Instant;

/// Bytes of IP and UDP headers.
const OVERHEAD_V4: u16 = 28;
const OVERHEAD_V6: u16 = 48;
/// IP packets that every path carries as far as one has to care: RFC 791 and RFC 8200; and the floor when reports are missing (RFC 8899, BASE_PLPMTU).
const LEAST_V4: u16 = 576;
const LEAST: u16 = 1280;
/// Where segments start.
const START: u16 = 1500;
/// Steps above it that are tried before the route's own MTU: jumbo frames, then two powers for loopback and the like.
const STEPS: [u16; 3] = [9000, 16_384, 32_768];
/// Probes of one size before it is given up.
const TRIES: u8 = 3;
/// Spacing of the probes of one size: first, second, third.
const SPACING: [Duration; TRIES as usize] =
    [Duration::from_millis(30), Duration::from_millis(200), Duration::from_secs(1)];
/// Time until a size that failed is tried again (RFC 8899, PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// A probe that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Probe {
    number: u32,
    size: u16,
    sent: Instant,
    deadline: Instant,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Segments may be this large now.
    Grew(u16),
    /// Nothing changes.
    Nothing,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathMtu {
    overhead: u16,
    current: u16,
    /// Never search above: the route, both sides' limits.
    limit: u16,
    /// Neither above this, which failed or was reported, before `ceiling_end`.
    ceiling: u16,
    ceiling_end: Instant,
    least: u16,
    searching: bool,
    /// The current size is in doubt: probe it, not a larger one.
    in_doubt: bool,
    /// The peer spoke since the doubt.
    answers: bool,
    tries: u8,
    last_number: u32,
    probe: Option<Probe>,
    /// When the next probe may be sent.
    not_before: Instant,
}

/// What is known of the path, while no probe is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    ceiling_end: Instant,
    not_before: Instant,
    last_number: u32,
    current: u16,
    limit: u16,
    ceiling: u16,
    least: u16,
    tries: u8,
    in_doubt: bool,
    answers: bool,
}

impl PathMtu {
    pub(crate) fn new(config: &Config, route_mtu: u16, ipv6: bool) -> Self {
        let overhead = if ipv6 { OVERHEAD_V6 } else { OVERHEAD_V4 };
        // Below the protocol's least no record could name it, and no header would fit.
        let limit = route_mtu.saturating_sub(overhead).min(config.segment_max).max(Syn::SEGMENT_MIN);
        let start = (START - overhead).min(limit);
        let least = if ipv6 { LEAST } else { LEAST_V4 } - overhead;
        Self {
            overhead,
            current: start,
            limit,
            ceiling: limit,
            ceiling_end: Instant::ZERO,
            least: least.min(start),
            searching: config.probe_mtu,
            in_doubt: false,
            answers: false,
            tries: 0,
            last_number: 0,
            probe: None,
            not_before: Instant::ZERO,
        }
    }

    /// What is known, when no probe is on its way.
    pub(crate) fn rest(&self) -> Option<Rest> {
        self.probe.is_none().then_some(Rest {
            ceiling_end: self.ceiling_end,
            not_before: self.not_before,
            last_number: self.last_number,
            current: self.current,
            limit: self.limit,
            ceiling: self.ceiling,
            least: self.least,
            tries: self.tries,
            in_doubt: self.in_doubt,
            answers: self.answers,
        })
    }

    /// Goes on from there: this one is new, for the same route.
    pub(crate) fn resume(&mut self, rest: Rest) {
        *self = Self {
            overhead: self.overhead,
            current: rest.current,
            limit: rest.limit,
            ceiling: rest.ceiling,
            ceiling_end: rest.ceiling_end,
            least: rest.least,
            searching: self.searching,
            in_doubt: rest.in_doubt,
            answers: rest.answers,
            tries: rest.tries,
            last_number: rest.last_number,
            probe: None,
            not_before: rest.not_before,
        };
    }

    /// The largest datagram to build now.
    pub(crate) const fn segment(&self) -> u16 {
        self.current
    }

    /// The peer's record came: it accepts datagrams up to this.
    pub(crate) fn on_peer(&mut self, segment_max: u16) {
        self.limit = self.limit.min(segment_max);
        self.current = self.current.min(segment_max);
        self.least = self.least.min(self.current);
    }

    /// The peer spoke.
    pub(crate) fn on_heard(&mut self) {
        self.answers = true;
    }

    /// When [`Self::on_timeout`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.probe.map(|probe| probe.deadline)
    }

    /// Whether [`Self::poll`] has a probe to send.
    pub(crate) fn wants_probe(&self, now: Instant) -> bool {
        self.probe.is_none() && self.size_wanted(now).is_some()
    }

    /// The probe to send now: its number and size.
    pub(crate) fn poll(&mut self, now: Instant, rtt: Duration) -> Option<(u32, u16)> {
        if self.probe.is_some() {
            return None;
        }
        let size = self.size_wanted(now)?;
        self.last_number = self.last_number.wrapping_add(1);
        let spacing = SPACING[usize::from(self.tries.min(TRIES - 1))].max(rtt * 3);
        self.probe = Some(Probe { number: self.last_number, size, sent: now, deadline: now + spacing });
        Some((self.last_number, size))
    }

    /// A probe of a size of its own was asked for, to see whether the peer is there: only its number is needed.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    /// The number of the last probe, once there was one.
    pub(crate) const fn last_number(&self) -> Option<u32> {
        if self.last_number == 0 { None } else { Some(self.last_number) }
    }

    /// The peer answered the probe `number`.
    pub(crate) fn on_answer(&mut self, number: u32) -> Answer {
        let Some(probe) = self.probe.filter(|probe| probe.number == number) else { return Answer::Nothing };
        self.probe = None;
        self.tries = 0;
        self.in_doubt = false;
        if probe.size <= self.current || probe.size > self.limit {
            return Answer::Nothing;
        }
        self.current = probe.size;
        Answer::Grew(probe.size)
    }

    /// The deadline of a probe may have passed. `heard` is when the peer was last heard from.
    pub(crate) fn on_timeout(&mut self, now: Instant, heard: Option<Instant>) {
        let Some(probe) = self.probe.filter(|probe| probe.deadline <= now) else { return };
        self.probe = None;
        if heard.is_none_or(|heard| heard <= probe.sent) {
            // A silent peer answers nothing of any size. Ask again when it speaks.
            self.not_before = now + SPACING[2];
            return;
        }
        self.tries += 1;
        if self.tries < TRIES {
            return;
        }
        self.tries = 0;
        let mut fits = self.current;
        if self.in_doubt {
            self.in_doubt = false;
            // What is known not to fit is the current size. The search begins at the bottom again, up to the step below that.
            self.current = self.current.min((LEAST - self.overhead).max(self.least));
            fits = self.steps().filter(|step| *step < fits).last().unwrap_or(self.current);
        }
        self.bound(now, fits);
    }

    /// The path or the interface says that a datagram was too large; `mtu` is what it says fits, of an IP packet. True when segments shrank.
    pub(crate) fn on_too_big(&mut self, now: Instant, mtu: Option<u16>) -> bool {
        let before = self.current;
        let fits = match mtu {
            Some(mtu) => mtu.saturating_sub(self.overhead),
            None if self.probe.is_some_and(|probe| probe.size > self.current) => self.current,
            None => [START, LEAST]
                .map(|size| size - self.overhead)
                .into_iter()
                .find(|size| *size < before)
                .unwrap_or(0),
        };
        let fits = fits.max(self.least);
        self.bound(now, fits);
        if self.probe.is_some_and(|probe| probe.size > fits) {
            self.probe = None;
            self.tries = 0;
        }
        self.current = before.min(fits);
        self.current < before
    }

    /// A packet of `bytes` finds no answer: is it the path? The current size is probed as soon as the peer speaks: a silent one says nothing of any size.
    pub(crate) fn doubt(&mut self, bytes: u16) {
        if bytes > LEAST - self.overhead && bytes <= self.current && !self.in_doubt {
            self.in_doubt = true;
            self.answers = false;
            self.tries = 0;
            self.probe = None;
            self.not_before = Instant::ZERO;
        }
    }

    /// Whether a datagram of `bytes` that was sent already has to be sent again with DF clear.
    pub(crate) const fn fragments(&self, bytes: u16) -> bool {
        bytes > self.current || (self.in_doubt && bytes > LEAST - self.overhead)
    }

    /// Nothing above `size` is tried for a long time.
    fn bound(&mut self, now: Instant, size: u16) {
        self.ceiling = size;
        self.ceiling_end = now + RAISE_AFTER;
    }

    /// The sizes that the search stops at, but for its ceiling.
    fn steps(&self) -> impl Iterator<Item = u16> {
        let overhead = self.overhead;
        [START].into_iter().chain(STEPS).map(move |step| step - overhead)
    }

    /// The next size to probe, if it is time.
    fn size_wanted(&self, now: Instant) -> Option<u16> {
        if now < self.not_before {
            return None;
        }
        if self.in_doubt {
            return self.answers.then_some(self.current);
        }
        if !self.searching {
            return None;
        }
        let ceiling = if now < self.ceiling_end { self.ceiling.min(self.limit) } else { self.limit };
        if self.current >= ceiling {
            return None;
        }
        let next = self.steps().find(|step| *step > self.current).unwrap_or(ceiling).min(ceiling);
        Some(next)
    }
}
