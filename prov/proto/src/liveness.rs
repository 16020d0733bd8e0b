//! Is the peer dead? (DESIGN: silence is not death.) Collects evidence and says when it suffices. Must never take one report, or the
//! silence of a peer that was not asked, for a proof.

use core::time::Duration;

use crate::time::Instant;

/// Time between the first report of a closed port and the probe that confirms it: reports of the same burst of packets say one thing once.
const CONFIRM_AFTER: Duration = Duration::from_millis(50);
/// How long reports of an unreachable host have to go on.
const HOST_PERSISTS: Duration = Duration::from_secs(5);
/// How many reports that takes at least.
const HOST_REPORTS: u32 = 3;
/// Time between two questions to a peer that something is awaited of. A killed process is noticed after about this long; many may wait for one that computes, and must not fill its socket.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Reports further apart than this are different incidents. Linux reports a failed neighbour about every three seconds.
const HOST_GAP: Duration = Duration::from_secs(10);

/// A port was reported closed and nothing was heard since.
#[derive(Clone, Copy, Debug)]
struct PortReport {
    first: Instant,
    /// Something was sent after `CONFIRM_AFTER`: the next report is about that.
    probed: bool,
}

/// The host was reported unreachable and nothing was heard since.
#[derive(Clone, Copy, Debug)]
struct HostReports {
    first: Instant,
    last: Instant,
    count: u32,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    believed_from: Instant,
    heard: Option<Instant>,
    /// When it was asked whether it lives, apart from what is in flight.
    asked: Option<Instant>,
    port: Option<PortReport>,
    host: Option<HostReports>,
    /// Timeouts that the peer let pass in a row, added up. Not the time since it was heard: a process that was itself away has not asked.
    silence: Duration,
    /// Questions that it let pass in a row, likewise. They prove nothing: who has nothing to acknowledge may be computing for hours.
    unanswered: Duration,
}

/// What is known of a peer that was heard and that nothing speaks against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    heard: Instant,
}

impl Liveness {
    pub(crate) fn new(now: Instant, connect_grace: Duration) -> Self {
        Self {
            believed_from: now + connect_grace,
            heard: None,
            asked: None,
            port: None,
            host: None,
            silence: Duration::ZERO,
            unanswered: Duration::ZERO,
        }
    }

    /// The peer was heard in an earlier context: that its port is closed means that it has ended, not that it is yet to come.
    pub(crate) fn forgo_grace(&mut self, now: Instant) {
        self.believed_from = now;
    }

    /// What is known, when the peer was heard and nothing speaks against it: no report, no silence, no question without an answer.
    pub(crate) fn rest(&self) -> Option<Rest> {
        let doubt = self.port.is_some() || self.host.is_some() || self.silence() != Duration::ZERO;
        let heard = self.heard.filter(|_| !doubt && self.asked <= self.heard)?;
        Some(Rest { heard })
    }

    /// Goes on from there. A peer that was heard has no grace any more.
    pub(crate) fn resume(rest: Rest) -> Self {
        Self { heard: Some(rest.heard), ..Self::new(rest.heard, Duration::ZERO) }
    }

    /// When the peer was last heard from.
    pub(crate) const fn last_heard(&self) -> Option<Instant> {
        self.heard
    }

    /// A packet of the peer arrived that is really its.
    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.port = None;
        self.host = None;
        self.silence = Duration::ZERO;
        self.unanswered = Duration::ZERO;
    }

    /// A timeout of this length passed without an answer. Returns the silence so far.
    pub(crate) fn on_silence(&mut self, timeout: Duration) -> Duration {
        self.silence += timeout;
        self.silence
    }

    /// Timeouts and questions that the peer let pass in a row, added up.
    pub(crate) fn silence(&self) -> Duration {
        self.silence + self.unanswered
    }

    /// Something is awaited of the peer, and nothing in flight asks for it: whether to ask now.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        if self.asked.max(self.heard).is_some_and(|last| now < last + ASK_EVERY) {
            return false;
        }
        if self.asked > self.heard {
            self.unanswered += ASK_EVERY;
        }
        self.asked = Some(now);
        true
    }

    /// Something was sent that a living peer answers, or a closed port.
    pub(crate) fn on_transmit(&mut self, now: Instant) {
        if let Some(port) = &mut self.port {
            port.probed |= port.first + CONFIRM_AFTER <= now;
        }
    }

    /// The port was reported closed. True when that is proven.
    pub(crate) fn on_port_unreachable(&mut self, now: Instant) -> bool {
        if !self.is_believed(now) {
            return false;
        }
        self.port.get_or_insert(PortReport { first: now, probed: false }).probed
    }

    /// The host or network was reported unreachable. True when that persists.
    pub(crate) fn on_host_unreachable(&mut self, now: Instant) -> bool {
        if !self.is_believed(now) {
            return false;
        }
        let fresh = HostReports { first: now, last: now, count: 0 };
        let reports = self.host.get_or_insert(fresh);
        if now.saturating_duration_since(reports.last) > HOST_GAP {
            *reports = fresh;
        }
        reports.last = now;
        reports.count += 1;
        reports.count >= HOST_REPORTS && now.saturating_duration_since(reports.first) >= HOST_PERSISTS
    }

    /// When a confirming probe is due.
    pub(crate) fn confirm_at(&self) -> Option<Instant> {
        self.port.filter(|port| !port.probed).map(|port| port.first + CONFIRM_AFTER)
    }

    fn is_believed(&self, now: Instant) -> bool {
        self.heard.is_some() || now >= self.believed_from
    }
}
