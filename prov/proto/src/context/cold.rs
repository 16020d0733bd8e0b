//! The cold form of a context in which nothing is under way: what both sides go by, in a fifth of the memory. The next packet, of either side, makes it a context again.
//! Must never give up what the peer, or a late packet, may still refer to.

use rdgram_wire::Psn;

use super::{AckNeed, Context, Counters, Echo};
use crate::cc::{CongestionControl, TolerantAimd};
use crate::config::{Local, Remote};
use crate::liveness::{self, Liveness};
use crate::mtu::{self, PathMtu};
use crate::planted::{Defect, planted};
use crate::refusal;
use crate::rtt::{self, Rtt};
use crate::rx::RxWindow;
use crate::time::Instant;

/// A context at rest: see [`Context::freeze`].
#[derive(Clone, Copy, Debug)]
pub struct Cold<C: CongestionControl = TolerantAimd> {
    peer: Remote,
    next_tx: u64,
    /// When the newest transmission of the peer came, if there was one.
    echo_received: Instant,
    rtt: rtt::Rest,
    refusals: refusal::Rest,
    liveness: liveness::Rest,
    mtu: mtu::Rest,
    congestion: C::Rest,
    /// How far the newest transmission known to have arrived is behind the next one. All older ones are acknowledged: they need not be told apart.
    arrived_behind: u32,
    // Our side. Name and incarnation are the endpoint's.
    ctx: u32,
    cookie: u32,
    initial_psn: Psn,
    tx_base: Psn,
    rx_next: Psn,
    ce_reported: u32,
    ce_received: u32,
    route_mtu: u16,
    refused: u16,
    echo_tx: u16,
    has_echo: bool,
    version_refusals: u8,
    established: bool,
    ipv6: bool,
}

impl<C: CongestionControl> Cold<C> {
    /// Our number for the context.
    pub const fn ctx(&self) -> u32 {
        self.ctx
    }
}

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// The cold form, when nothing is under way: nothing is unacknowledged, unconfirmed, owed or expected, no timer runs, and nothing is being found out about the
    /// path or the peer, and both sides are back at their standing credits. This context is a spare then, which keeps its queues' memory: for [`Self::thaw`] or to be dropped.
    ///
    /// A context that is thawed says and does what it would have done, except that its counters begin anew.
    pub fn freeze(&mut self, now: Instant) -> Option<Cold<C>> {
        self.expire_credit(now);
        self.withdraw_stale_offer(now);
        if !self.rests() {
            return None;
        }
        let rx = self.rx.as_ref().filter(|rx| !rx.has_gap())?;
        Some(Cold {
            peer: self.peer?,
            next_tx: self.next_tx,
            echo_received: self.echo.map_or(Instant::ZERO, |echo| echo.received),
            rtt: self.rtt.rest(),
            refusals: self.refusals.rest()?,
            liveness: self.liveness.rest()?,
            mtu: self.mtu.rest()?,
            congestion: self.congestion.rest(self.next_tx),
            arrived_behind: u32::try_from(self.next_tx - self.arrived[0]).unwrap_or(u32::MAX),
            ctx: self.local.ctx,
            cookie: self.local.cookie,
            initial_psn: self.local.initial_psn,
            tx_base: self.tx.base(),
            rx_next: if planted(Defect::ThawedAnew) { self.peer?.initial_psn } else { rx.cumulative() },
            ce_reported: self.ce_reported,
            ce_received: self.ce_received,
            route_mtu: self.local.route_mtu,
            refused: self.refused,
            echo_tx: self.echo.map_or(0, |echo| echo.tx_number),
            has_echo: self.echo.is_some(),
            version_refusals: self.version_refusals,
            established: self.established,
            ipv6: self.local.ipv6,
        })
    }

    /// Makes this context, a spare or a new one of the same endpoint, the one that was frozen.
    pub fn thaw(&mut self, cold: &Cold<C>) {
        debug_assert!(self.tx.outstanding() == 0 && self.events.is_empty(), "in use: {self:?}");
        let local = Local {
            ctx: cold.ctx,
            cookie: cold.cookie,
            initial_psn: cold.initial_psn,
            route_mtu: cold.route_mtu,
            ipv6: cold.ipv6,
            ..self.local
        };
        self.local = local;
        self.peer = Some(cold.peer);
        self.established = cold.established;
        self.dead = None;
        self.version_refusals = cold.version_refusals;
        self.counters = Counters::default();
        self.tx.reopen(cold.tx_base);
        self.congestion.resume(cold.congestion, cold.next_tx);
        self.credit = cold.peer.credit();
        self.credit_until = None;
        self.refusals.resume(cold.refusals);
        self.mtu = PathMtu::new(&self.config, local.route_mtu, local.ipv6);
        self.mtu.resume(cold.mtu);
        self.liveness = Liveness::resume(cold.liveness);
        self.next_tx = cold.next_tx;
        self.asked_tx = 0;
        self.rtt = Rtt::resume(cold.rtt);
        self.arrived = [cold.next_tx.saturating_sub(cold.arrived_behind.into()), 0, 0];
        self.ce_reported = cold.ce_reported;
        self.settle_timers();
        self.rx = Some(RxWindow::new(cold.rx_next));
        let echo = Echo { tx_number: cold.echo_tx, received: cold.echo_received };
        self.echo = cold.has_echo.then_some(echo);
        self.ack_need = AckNeed::No;
        self.ack_owed_since = Instant::ZERO;
        self.body_owed = false;
        self.unacknowledged = 0;
        self.ce_received = cold.ce_received;
        self.refused = cold.refused;
        self.offer = local.credit;
        self.advertised = local.credit;
        self.accepted = 0;
        self.probes_to_answer = [None; 2];
    }

    /// Nothing is under way: what [`Self::settle_timers`] sets, and what is empty in a new context, is so.
    fn rests(&self) -> bool {
        let timers = self.next_timeout().is_some() || self.probe_due || self.confirm_due.is_some();
        let silence = self.backoff != 0 || self.fruitless != 0 || self.tail_probed || self.persistent;
        let owed = self.ack_need != AckNeed::No
            || self.body_owed
            || self.unacknowledged != 0
            || self.probes_to_answer != [None; 2];
        let credit = self.credit_until.is_some()
            || self.offer != self.local.credit
            || self.advertised != self.local.credit;
        let busy = self.tx.outstanding() != 0 || !self.events.is_empty();
        self.dead.is_none() && !timers && !silence && !owed && !credit && !busy
    }

    /// No timer runs. Where they count from does not matter until a packet is sent.
    fn settle_timers(&mut self) {
        self.rto_floor = self.config.rto_min;
        self.rto_base = Instant::ZERO;
        self.tail_base = Instant::ZERO;
        self.loss_timer = None;
        self.backoff = 0;
        self.fruitless = 0;
        self.answered = false;
        self.probe_sent = None;
        self.tail_probed = false;
        self.persistent = false;
        self.probe_due = false;
        self.confirm_due = None;
    }
}
