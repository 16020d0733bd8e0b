//! The harness: two hosts that drive a context each as the engine does, the network between them, and the oracles that hold always:
//! a message is accepted once, with the content it was sent with; it is reported acknowledged once, after it was accepted, and, if it was refused, after the refusal arrived.

use core::hash::{Hash as _, Hasher as _};
use core::time::Duration;
use std::boxed::Box;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::DefaultHasher;
use std::vec::Vec;

use rdgram_wire::{Ack, Flags, Kind, Llp, Psn, Syn};

use crate::{AckNeed, Class, Config, Context, Credit, Event, Instant, Local, Moment, Verdict};

/// What a DATA packet carries, and what it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Content {
    /// A message of its own, by number.
    Message(u64),
    /// The refusal of a message.
    Refusal { message: u64, index: u16 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Data(Content),
    Ack(Ack),
    Close,
    Probe,
    ProbeAck,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) to: usize,
    pub(super) llp: Llp,
    pub(super) syn: Option<Syn>,
    pub(super) body: Body,
    pub(super) bytes: usize,
    pub(super) fragment: bool,
    pub(super) marked: bool,
    pub(super) sent: Instant,
}

impl Packet {
    pub(super) fn is_data(&self) -> bool {
        matches!(self.body, Body::Data(_))
    }

    pub(super) fn is_message(&self, number: u64) -> bool {
        matches!(self.body, Body::Data(Content::Message(message)) if message == number)
    }
}

/// What the network does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Deliver,
    Drop,
    Delay(Duration),
    Twice(Duration),
    /// Delivered with a Congestion Experienced mark.
    Mark,
}

/// Decides over every packet.
pub(super) type Network = Box<dyn FnMut(&Packet, &mut Random) -> Fate>;

/// A generator that a seed fixes (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, in_ten_thousand: u64) -> bool {
        self.below(10_000) < in_ten_thousand
    }
}

/// One side.
pub(super) struct Host {
    pub(super) context: Context<Content>,
    data: VecDeque<(Content, u16)>,
    control: VecDeque<(Content, u16)>,
    next_message: u64,
    pub(super) accepted: HashSet<Content>,
    pub(super) acked: HashSet<Content>,
    pub(super) events: Vec<Event<Content>>,
    /// Messages this side refused; those whose refusal came back to the sender.
    refused: HashSet<u64>,
    refusals_seen: HashSet<u64>,
    /// The content of each PSN received.
    contents: HashMap<u32, Content>,
    inbox: VecDeque<Packet>,
    /// A packet that finds this many is dropped, as a socket does.
    pub(super) inbox_limit: usize,
    pub(super) asleep_until: Instant,
    /// Refuse this share of messages, in ten thousand.
    pub(super) refuse: u64,
    /// Refusals are counted and not sent.
    pub(super) hold_refusals: bool,
    held: Vec<Content>,
    /// The datapath takes nothing this often, in ten thousand.
    pub(super) again: u64,
    took_nothing: bool,
    /// Nobody listens on this port: reports go back.
    pub(super) port_closed: bool,
    pub(super) credit: Credit,
    /// Ask for an acknowledgement of every message.
    pub(super) request_ack: bool,
}

/// The two sides and what is between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) hosts: [Host; 2],
    config: Config,
    pub(super) delay: Duration,
    wire: BTreeMap<(Instant, u64), Packet>,
    reports: BTreeMap<(Instant, u64), usize>,
    order: u64,
    steps: u64,
    pub(super) random: Random,
    pub(super) fate: Network,
    /// Packets sent so far, by receiver.
    pub(super) carried: [u64; 2],
    pub(super) rto_floor: Duration,
    /// Contexts that are at rest go cold and come back, now and then.
    pub(super) freezing: Option<Random>,
    /// How often one did.
    pub(super) frozen: u64,
    /// Of every packet sent: equal for equal runs.
    digest: DefaultHasher,
}

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const DELAY: Duration = Duration::from_micros(25);
pub(super) const ENOUGH: Credit = Credit { packets: 1024, bytes: 64 << 20 };

pub(super) fn local(side: u32, initial_psn: u32) -> Local {
    Local {
        ctx: 0x100 + side,
        cookie: 0xC00C_1E00 + side,
        incarnation: 1_000 + u64::from(side),
        initial_psn: Psn(initial_psn),
        name: std::format!("10.0.0.{}:4000", side + 1).parse().expect("an address"),
        credit: ENOUGH,
        route_mtu: 1500,
        ipv6: false,
    }
}

impl Host {
    fn new(config: &Config, local: Local) -> Self {
        Self {
            context: Context::new(config, local, Instant::ZERO),
            data: VecDeque::new(),
            control: VecDeque::new(),
            next_message: 0,
            accepted: HashSet::new(),
            acked: HashSet::new(),
            events: Vec::new(),
            refused: HashSet::new(),
            refusals_seen: HashSet::new(),
            contents: HashMap::new(),
            inbox: VecDeque::new(),
            inbox_limit: usize::MAX,
            asleep_until: Instant::ZERO,
            refuse: 0,
            hold_refusals: false,
            held: Vec::new(),
            again: 0,
            took_nothing: false,
            port_closed: false,
            credit: local.credit,
            request_ack: false,
        }
    }

    pub(super) fn has(&self, event: Event<Content>) -> bool {
        self.events.contains(&event)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.data.is_empty() && self.control.is_empty() && self.context.is_idle()
    }

    pub(super) fn release_refusals(&mut self) {
        self.hold_refusals = false;
        self.control.extend(self.held.drain(..).map(|refusal| (refusal, 100)));
    }

    fn queue_of(&mut self, class: Class) -> &mut VecDeque<(Content, u16)> {
        match class {
            Class::Data => &mut self.data,
            Class::Control => &mut self.control,
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, Config::default(), local(0, 1000), local(1, 2000))
    }

    pub(super) fn with(seed: u64, config: Config, first: Local, second: Local) -> Self {
        Self {
            now: Instant::ZERO,
            hosts: [Host::new(&config, first), Host::new(&config, second)],
            config,
            delay: DELAY,
            wire: BTreeMap::new(),
            reports: BTreeMap::new(),
            order: 0,
            steps: 0,
            random: Random(seed),
            fate: Box::new(|_, _| Fate::Deliver),
            carried: [0; 2],
            rto_floor: MS,
            freezing: None,
            frozen: 0,
            digest: DefaultHasher::new(),
        }
    }

    pub(super) fn at(&self) -> Moment {
        Moment { now: self.now, rto_floor: self.rto_floor }
    }

    /// Queues `count` messages at `side`.
    pub(super) fn post(&mut self, side: usize, count: u64, bytes: u16) {
        let host = &mut self.hosts[side];
        for _ in 0..count {
            let bytes =
                if bytes == 0 { u16::try_from(host.context.segment()).expect("a segment") } else { bytes };
            host.data.push_back((Content::Message(host.next_message), bytes));
            host.next_message += 1;
        }
    }

    pub(super) fn post_control(&mut self, side: usize, count: u64) {
        let host = &mut self.hosts[side];
        for _ in 0..count {
            host.control.push_back((Content::Message(host.next_message), 100));
            host.next_message += 1;
        }
    }

    /// Both sides know one another, nothing is under way.
    pub(super) fn establish(&mut self) {
        self.post(0, 1, 100);
        self.post(1, 1, 100);
        assert!(self.run_until(|world| world.is_quiet(), MS * 1000), "{:?}", self.describe());
        assert!(self.hosts.iter().all(|host| !host.context.needs_syn()));
    }

    /// Equal for runs in which the same packets were sent at the same times.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.hosts.iter().all(Host::is_quiet) && self.wire.is_empty()
    }

    /// Everything posted was accepted and is known to be; nothing else was.
    pub(super) fn assert_complete(&self) {
        assert!(self.is_quiet(), "{:?}", self.describe());
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (&self.hosts[sender], &self.hosts[receiver]);
            assert_eq!(sender.acked, receiver.accepted);
            let messages = receiver.accepted.iter().filter(|content| matches!(content, Content::Message(_)));
            assert_eq!(messages.count() as u64, sender.next_message);
        }
    }

    pub(super) fn describe(&self) -> [String; 2] {
        [0, 1].map(|side| self.hosts[side].context.describe())
    }

    /// Runs until `done` or for `limit`. True when done.
    pub(super) fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool, limit: Duration) -> bool {
        let end = self.now + limit;
        self.step();
        while !done(self) {
            let Some(next) = self.next_event().filter(|next| *next <= end) else {
                self.now = end;
                self.step();
                return done(self);
            };
            self.now = self.now.max(next);
            self.step();
        }
        true
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(|_| false, time);
    }

    fn next_event(&self) -> Option<Instant> {
        let wire = self.wire.keys().next().map(|key| key.0);
        let report = self.reports.keys().next().map(|key| key.0);
        let hosts = self.hosts.iter().filter_map(|host| {
            let context = &host.context;
            let mut next = context.next_timeout().into_iter().chain(context.ack_due()).min();
            if !host.inbox.is_empty() || context.ack_need() > AckNeed::Later || host.took_nothing {
                // Work that the last step left, or that waits for the host to wake.
                next = Some(self.now + Duration::from_micros(1))
                    .min(next.or(Some(Instant::from_nanos(u64::MAX))));
            }
            next.map(|next| next.max(host.asleep_until))
        });
        hosts.chain(wire).chain(report).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let packet = entry.remove();
            let host = &mut self.hosts[packet.to];
            if host.port_closed {
                self.order += 1;
                self.reports.insert((self.now + self.delay, self.order), 1 - packet.to);
            } else if host.inbox.len() < host.inbox_limit {
                host.inbox.push_back(packet);
            }
        }
        while let Some(entry) = self.reports.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let side = entry.remove();
            let at = self.at();
            self.hosts[side].context.on_unreachable(at, false);
        }
        for side in 0..2 {
            if self.hosts[side].asleep_until <= self.now && !self.hosts[side].port_closed {
                self.progress(side);
            }
        }
    }

    /// One progress call of the engine.
    fn progress(&mut self, side: usize) {
        let at = self.at();
        let received = self.hosts[side].inbox.len();
        while let Some(packet) = self.hosts[side].inbox.pop_front() {
            self.receive(side, &packet);
            self.take_events(side);
        }
        let context = &mut self.hosts[side].context;
        if context.next_timeout().is_some_and(|timeout| timeout <= at.now) {
            context.on_timeout(at);
            self.take_events(side);
        }
        self.transmit(side);
        let context = &mut self.hosts[side].context;
        if context.ack_due().is_some_and(|due| due <= at.now) {
            context.hurry_ack();
        }
        let need = context.ack_need();
        if need == AckNeed::Now || (need == AckNeed::Idle && received == 0) {
            context.set_credit(self.hosts[side].credit);
            let (llp, ack) = context.ack(at);
            self.carry(side, llp, Body::Ack(ack), 64, false);
        }
        self.take_events(side);
        self.freeze(side);
        self.steps += 1;
        if self.steps % 16 == 0 {
            self.hosts[side].context.assert_consistent();
        }
    }

    /// The context goes cold, if it rests, and comes back at once: in its own memory, or in that of a new one.
    fn freeze(&mut self, side: usize) {
        let Some(choice) = &mut self.freezing else { return };
        if !choice.chance(3000) {
            return;
        }
        let context = &mut self.hosts[side].context;
        let Some(cold) = context.freeze(self.now) else { return };
        self.frozen += 1;
        if choice.chance(5000) {
            let other = Local { ctx: 7, cookie: 7, route_mtu: 576, ipv6: true, ..*context.local() };
            *context = Context::new(&self.config, other, self.now);
        }
        context.thaw(&cold);
    }

    fn transmit(&mut self, side: usize) {
        let at = self.at();
        self.hosts[side].took_nothing = false;
        while let Some(again) = self.hosts[side].context.poll_retransmit(at) {
            if self.take_nothing(side, again.llp.psn) {
                return;
            }
            self.carry_data(side, again.llp, again.token, again.fragment);
        }
        while let Some((llp, size)) = self.hosts[side].context.poll_probe(at) {
            self.carry(side, llp, Body::Probe, size.into(), false);
        }
        while let Some(llp) = self.hosts[side].context.poll_probe_ack(at) {
            self.carry(side, llp, Body::ProbeAck, 40, false);
        }
        for class in [Class::Control, Class::Data] {
            while let Some(&(content, bytes)) = self.hosts[side].queue_of(class).front() {
                let host = &mut self.hosts[side];
                if !host.context.can_send(class, bytes.into()) {
                    break;
                }
                host.queue_of(class).pop_front();
                let llp = host.context.send(at, content, bytes, class, host.request_ack);
                if self.take_nothing(side, llp.psn) {
                    return;
                }
                self.carry_data(side, llp, content, false);
            }
        }
    }

    fn take_nothing(&mut self, side: usize, psn: Psn) -> bool {
        let again = self.random.chance(self.hosts[side].again);
        self.hosts[side].took_nothing = again;
        if again {
            self.hosts[side].context.unsent(psn);
        }
        again
    }

    fn carry_data(&mut self, side: usize, llp: Llp, content: Content, fragment: bool) {
        let bytes = match content {
            // What the context was told: the harness does not shrink the packet when SYN goes.
            Content::Message(_) => self.hosts[side].context.bytes_of(llp.psn).unwrap_or(100),
            Content::Refusal { .. } => 100,
        };
        self.carry(side, llp, Body::Data(content), bytes.into(), fragment);
    }

    fn carry(&mut self, side: usize, llp: Llp, body: Body, bytes: usize, fragment: bool) {
        assert!(self.hosts[side].context.is_dead().is_none(), "the dead do not send");
        let syn = llp.flags.contains(Flags::SYN).then(|| self.hosts[side].context.syn());
        let to = 1 - side;
        let packet = Packet { to, llp, syn, body, bytes, fragment, marked: false, sent: self.now };
        self.carried[to] += 1;
        std::format!("{packet:?}").hash(&mut self.digest);
        let delay = self.delay;
        match (self.fate)(&packet, &mut self.random) {
            Fate::Deliver => self.arrive(packet, delay),
            Fate::Drop => {}
            Fate::Delay(more) => self.arrive(packet, delay + more),
            Fate::Twice(more) => {
                self.arrive(packet, delay);
                self.arrive(packet, delay + more);
            }
            Fate::Mark => self.arrive(Packet { marked: true, ..packet }, delay),
        }
    }

    /// Puts a packet on the wire, whoever made it.
    pub(super) fn arrive(&mut self, packet: Packet, delay: Duration) {
        self.order += 1;
        self.wire.insert((self.now + delay, self.order), packet);
    }

    fn receive(&mut self, side: usize, packet: &Packet) {
        let at = self.at();
        let host = &mut self.hosts[side];
        match host.context.on_packet(at, &packet.llp, packet.syn.as_ref(), packet.marked) {
            Verdict::Accept => {
                let Body::Data(content) = packet.body else { panic!("accepted {packet:?}") };
                assert!(host.accepted.insert(content), "accepted twice: {content:?}");
                assert_eq!(host.contents.insert(packet.llp.psn.0, content), None);
                self.accept(side, content);
            }
            Verdict::Duplicate => {
                let Body::Data(content) = packet.body else { panic!("a duplicate {packet:?}") };
                assert_eq!(host.contents.get(&packet.llp.psn.0), Some(&content), "a PSN changed its content");
            }
            Verdict::NotData => match packet.body {
                Body::Data(_) => panic!("not data: {packet:?}"),
                Body::Ack(ack) => host.context.on_ack(at, &packet.llp, &ack),
                Body::Close => host.context.on_close(at),
                Body::Probe => host.context.on_probe(&packet.llp, packet.bytes),
                Body::ProbeAck => host.context.on_probe_ack(at, &packet.llp),
            },
            Verdict::Drop(_) => {}
        }
    }

    fn accept(&mut self, side: usize, content: Content) {
        let refuse = self.random.chance(self.hosts[side].refuse);
        let host = &mut self.hosts[side];
        match content {
            Content::Message(message) if refuse => {
                host.refused.insert(message);
                let index = host.context.note_refusal();
                host.held.push(Content::Refusal { message, index });
                if !host.hold_refusals {
                    host.release_refusals();
                }
            }
            Content::Message(_) => {}
            Content::Refusal { message, index } => {
                host.refusals_seen.insert(message);
                host.context.on_rnr(index);
            }
        }
    }

    fn take_events(&mut self, side: usize) {
        while let Some(event) = self.hosts[side].context.poll_event() {
            let (host, peer) = match &mut self.hosts {
                [host, peer] if side == 0 => (host, peer),
                [peer, host] => (host, peer),
            };
            if let Event::Acked(content) = event {
                assert!(host.acked.insert(content), "acknowledged twice: {content:?}");
                assert!(peer.accepted.contains(&content), "acknowledged and not accepted: {content:?}");
                if let Content::Message(message) = content {
                    let known = !peer.refused.contains(&message) || host.refusals_seen.contains(&message);
                    assert!(known, "{content:?} confirmed before its refusal came");
                }
            } else {
                host.events.push(event);
            }
        }
    }

    /// Side `side` closes and says so.
    pub(super) fn close(&mut self, side: usize) {
        let at = self.at();
        let llp = self.hosts[side].context.close(at).expect("a notice");
        assert_eq!(llp.kind, Kind::Close);
        self.carry(side, llp, Body::Close, 40, false);
    }
}

/// Drops the packets that a predicate picks, `count` of them.
pub(super) fn drop_first(mut count: u32, pick: impl Fn(&Packet) -> bool + 'static) -> Network {
    Box::new(move |packet, _| {
        if count > 0 && pick(packet) {
            count -= 1;
            return Fate::Drop;
        }
        Fate::Deliver
    })
}
