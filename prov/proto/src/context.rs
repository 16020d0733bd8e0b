//! One peer as seen by one endpoint: the state of a context, what is known about both sides, and the header every packet of it begins with.
//! What happens to the state is beside: `receive`, `send`, `loss`, `timer`. Must never see a payload byte, a socket or a clock.

mod cold;
mod loss;
mod receive;
mod route;
mod send;
mod timer;
mod values;

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::string::String;

use rdgram_wire::{Flags, Kind, Llp, Syn, VERSION};

use crate::cc::{CongestionControl, TolerantAimd};
use crate::config::{Config, Credit, Local, Remote};
use crate::liveness::Liveness;
use crate::mtu::PathMtu;
use crate::refusal::Refusals;
use crate::rtt::Rtt;
use crate::rx::RxWindow;
use crate::time::Instant;
use crate::tx::TxWindow;

pub use cold::Cold;
pub use values::{
    AckNeed, Counters, Death, Event, Incarnation, PeerFault, Retransmission, Verdict, supersedes,
};

/// The newest DATA transmission of the peer.
#[derive(Clone, Copy, Debug)]
struct Echo {
    tx_number: u16,
    received: Instant,
}

/// A PROBE: its own number, and that of its transmission.
#[derive(Clone, Copy, Debug)]
struct ProbeSent {
    number: u32,
    tx: u64,
}

/// The transport to one peer: exactly-once delivery of packets whose content the engine knows by a token `T`. See the crate for the order of calls.
pub struct Context<T, C = TolerantAimd> {
    config: Config,
    local: Local,
    peer: Option<Remote>,
    /// A packet came that names this context and carries its cookie: the peer knows us.
    established: bool,
    dead: Option<Death>,
    /// RESETs of a peer never heard that say it speaks another version.
    version_refusals: u8,
    events: VecDeque<Event<T>>,
    counters: Counters,

    tx: TxWindow<T>,
    congestion: C,
    /// What the peer allows.
    credit: Credit,
    /// Until when, if it is not the standing credit.
    credit_until: Option<Instant>,
    refusals: Refusals<T>,
    mtu: PathMtu,
    liveness: Liveness,
    /// The number of the next transmission, in full. There is one path in this version.
    next_tx: u64,
    /// The last transmission that makes the peer acknowledge soon: a packet with AR, a request, which is answered, or a bare PROBE.
    asked_tx: u64,
    rtt: Rtt,
    /// The three newest transmissions known to have arrived, newest first.
    arrived: [u64; 3],
    /// What the peer counted as Congestion Experienced.
    ce_reported: u32,

    /// The floor of timeouts as last heard.
    rto_floor: Duration,
    /// Where the retransmission timeout counts from.
    rto_base: Instant,
    /// Where the tail probe's delay counts from.
    tail_base: Instant,
    /// When packets in flight have to be judged again.
    loss_timer: Option<Instant>,
    /// Timeouts in a row, and those since an acknowledgement brought anything.
    backoff: u32,
    fruitless: u32,
    /// The tail was probed since the last progress.
    tail_probed: bool,
    /// The last probe of this silence was answered: the peer is not away, and what it does not acknowledge was lost.
    answered: bool,
    /// Timeouts went on until the last progress: losses found now are persistent congestion.
    persistent: bool,
    /// The oldest packet is to be sent once, whatever the windows say.
    probe_due: bool,
    /// A bare probe is to be sent: to see whether the peer still has this context, as nothing else is outstanding that would, or to ask for acknowledgements.
    confirm_due: Option<Instant>,
    /// The last probe sent.
    probe_sent: Option<ProbeSent>,

    rx: Option<RxWindow>,
    echo: Option<Echo>,
    ack_need: AckNeed,
    /// When the first packet came that is not acknowledged.
    ack_owed_since: Instant,
    /// An acknowledgement body is owed, a header does not do.
    body_owed: bool,
    /// Packets accepted since the last acknowledgement.
    unacknowledged: u32,
    ce_received: u32,
    /// RNR messages issued, modulo 2^16.
    refused: u16,
    /// What the peer is allowed, and what it was told last.
    offer: Credit,
    advertised: Credit,
    /// Packets accepted since the offer was made.
    accepted: u16,
    /// The peer's last bare PROBE, and its last padded one.
    probes_to_answer: [Option<u32>; 2],
}

impl<T: Copy> Context<T> {
    /// A context with the default congestion control. Nothing is sent by making it.
    #[must_use]
    pub fn new(config: &Config, local: Local, now: Instant) -> Self {
        let config = config.bounded();
        Self::with_congestion_control(&config, local, now, TolerantAimd::new(config.window))
    }
}

impl<T: Copy, C: CongestionControl> Context<T, C> {
    /// A context with the congestion control given.
    #[must_use]
    pub fn with_congestion_control(config: &Config, local: Local, now: Instant, congestion: C) -> Self {
        let config = config.bounded();
        Self {
            config,
            local,
            peer: None,
            established: false,
            dead: None,
            version_refusals: 0,
            events: VecDeque::new(),
            counters: Counters::default(),
            tx: TxWindow::new(local.initial_psn),
            congestion,
            credit: Self::first_credit(&config),
            credit_until: None,
            refusals: Refusals::new(),
            mtu: PathMtu::new(&config, local.route_mtu, local.ipv6),
            liveness: Liveness::new(now, config.connect_grace),
            next_tx: 1,
            asked_tx: 0,
            rtt: Rtt::default(),
            arrived: [0; 3],
            ce_reported: 0,
            rto_floor: config.rto_min,
            rto_base: now,
            tail_base: now,
            loss_timer: None,
            backoff: 0,
            fruitless: 0,
            tail_probed: false,
            answered: false,
            persistent: false,
            probe_due: false,
            confirm_due: None,
            probe_sent: None,
            rx: None,
            echo: None,
            ack_need: AckNeed::No,
            ack_owed_since: now,
            body_owed: false,
            unacknowledged: 0,
            ce_received: 0,
            refused: 0,
            offer: local.credit,
            advertised: local.credit,
            accepted: 0,
            probes_to_answer: [None; 2],
        }
    }

    /// The peer was heard in an earlier context: a closed port means that it has ended, not that it is yet to come ([`Config::connect_grace`]).
    pub fn forgo_grace(&mut self, now: Instant) {
        self.liveness.forgo_grace(now);
    }

    /// Our side.
    pub const fn local(&self) -> &Local {
        &self.local
    }

    /// The peer, once it is known.
    pub const fn peer(&self) -> Option<&Remote> {
        self.peer.as_ref()
    }

    /// The peer's incarnation, once it is known.
    pub fn peer_incarnation(&self) -> Option<u64> {
        self.peer.map(|peer| peer.incarnation)
    }

    /// Our record: what to put into packets whose header has [`Flags::SYN`].
    #[must_use]
    pub fn syn(&self) -> Syn {
        Syn {
            version_min: VERSION,
            version_max: VERSION,
            ctx: self.local.ctx,
            incarnation: self.local.incarnation,
            initial_psn: self.local.initial_psn,
            features: Syn::BUNDLES | Syn::GRANTS,
            segment_max: self.config.segment_max,
            credit_packets: self.local.credit.packets,
            credit_bytes: self.local.credit.bytes,
            staging_max: self.config.staging_max,
            name: self.local.name,
            cookie: self.local.cookie,
        }
    }

    /// Whether [`Self::poll_event`] has something to tell.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What happened. Call until `None` after everything that takes a [`Moment`](crate::Moment), and after [`Self::on_rnr`].
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Packets in flight: sent, neither acknowledged nor declared lost.
    pub const fn in_flight(&self) -> u32 {
        self.tx.in_flight()
    }

    /// Packets sent and not acknowledged, in flight or waiting for retransmission.
    pub const fn unacknowledged(&self) -> u32 {
        self.tx.in_flight() + self.tx.waiting()
    }

    /// Nothing is unacknowledged, unconfirmed, or owed to the peer.
    pub fn is_idle(&self) -> bool {
        self.tx.outstanding() == 0 && self.refusals.waiting() == 0 && self.ack_need == AckNeed::No
    }

    /// Why the context is dead, if it is.
    pub const fn is_dead(&self) -> Option<Death> {
        self.dead
    }

    /// What was counted.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// One line of state, for diagnostics.
    #[must_use]
    pub fn describe(&self) -> String {
        std::format!("{self:?}")
    }

    /// A header with everything but the kind's own fields, length and integrity. Its acknowledgement counts as given, but for a PROBE's.
    fn header(&mut self, kind: Kind, now: Instant) -> Llp {
        let mut llp = Llp { kind, ..Llp::default() };
        if let Some(peer) = &self.peer {
            llp.dst_ctx = peer.ctx;
            llp.cookie = peer.cookie;
        }
        llp.flags.set(Flags::SYN, !self.established);
        self.withdraw_stale_offer(now);
        if let Some(rx) = &self.rx {
            llp.flags |= Flags::ACKED;
            llp.cumulative = rx.cumulative();
            llp.refusals = self.refused;
            llp.credit_packets = self.offer.packets;
            self.advertised.packets = self.offer.packets;
            // The path may not carry a PROBE.
            if !rx.has_gap() && kind != Kind::Probe {
                self.ack_need = if self.body_owed { self.ack_need.max(AckNeed::Idle) } else { AckNeed::No };
                if !self.body_owed {
                    self.unacknowledged = 0;
                }
            }
        }
        if let Some(echo) = self.echo {
            llp.flags |= Flags::ECHO;
            llp.echo_tx = echo.tx_number;
            let delay = now.saturating_duration_since(echo.received).as_micros();
            llp.echo_delay_us = u16::try_from(delay).unwrap_or(u16::MAX);
        }
        self.liveness.on_transmit(now);
        llp
    }

    /// What holds until the peer has said what it allows (protocol.md, section 3).
    fn first_credit(config: &Config) -> Credit {
        Credit { packets: u16::try_from(config.first_flight).unwrap_or(u16::MAX), bytes: u32::MAX }
    }

    /// Ends the context. What is unacknowledged is dropped: the engine fails its operations itself.
    fn die(&mut self, death: Death) {
        if self.dead.is_none() {
            self.dead = Some(death);
            self.tx.clear();
            self.refusals.clear();
            self.ack_need = AckNeed::No;
            self.events.push_back(Event::Dead(death));
        }
    }
}

impl<T: Copy, C: CongestionControl> fmt::Debug for Context<T, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.dead, self.established, self.peer.is_some()) {
            (Some(death), ..) => return write!(out, "{:#x} dead: {death}", self.local.ctx),
            (None, true, _) => "established",
            (None, false, true) => "joined",
            (None, false, false) => "new",
        };
        write!(out, "{:#x} {state}", self.local.ctx)?;
        if let Some(peer) = &self.peer {
            write!(out, " peer {:#x} incarnation {:#x}", peer.ctx, peer.incarnation)?;
        }
        write!(
            out,
            " tx {}..{} in flight {} ({} B) to resend {} unconfirmed {} cwnd {} credit {}/{} B",
            self.tx.base(),
            self.tx.next(),
            self.tx.in_flight(),
            self.tx.data_bytes(),
            self.tx.waiting(),
            self.refusals.waiting(),
            self.congestion.window(),
            self.credit.packets,
            self.credit.bytes,
        )?;
        if let Some(rx) = &self.rx {
            write!(out, " rx {}{}", rx.cumulative(), if rx.has_gap() { " with gaps" } else { "" })?;
        }
        let srtt = self.rtt.smoothed().unwrap_or_default();
        write!(out, " srtt {srtt:?} rto {:?} segment {} {}", self.rto(), self.mtu.segment(), self.counters)
    }
}

#[cfg(test)]
impl<T: Copy, C: CongestionControl> Context<T, C> {
    pub(crate) fn assert_consistent(&self) {
        self.tx.assert_consistent();
    }

    pub(crate) fn bytes_of(&self, psn: rdgram_wire::Psn) -> Option<u16> {
        self.tx.get(psn).map(|slot| slot.bytes)
    }

    pub(crate) fn congestion(&self) -> &C {
        &self.congestion
    }

    pub(crate) fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    pub(crate) fn capacities(&self) -> [usize; 3] {
        [self.tx.capacity(), self.events.capacity(), self.refusals.capacity()]
    }
}
