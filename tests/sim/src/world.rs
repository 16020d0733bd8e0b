//! The step loop: whoever acts next, acts. Opens and ends lives, carries out the plan, decides when the run is over and whether it went well.

use core::time::Duration;
use std::cell::RefCell;
use std::rc::Rc;

use rdgram_engine::{FailurePending, Instant, Sleep, TraceEvent};

use crate::faults::Faults;
use crate::local::{Memory, Sharing};
use crate::matching;
use crate::model::{Life, Model, Op, Outcome, Stage};
use crate::net::{Nanos, Net, NetCounters, nanos};
use crate::node::{Node, Process, State};
use crate::oracle::{Oracle, Reader};
use crate::profile::{Event, Profile};
use crate::reference::Reference;
use crate::remote_oracle;
use crate::rng::Rng;

/// Virtual time within which everything ends once the faults are over: a few backed-off timeouts of a second each, and the transfer of what is left at a small window.
const LIVENESS: Nanos = 300 * SECOND;
/// Virtual time that the workload may take with faults: many times the longest silence.
const WORK: Nanos = 7_200 * SECOND;
/// Virtual time after which nothing can be on its way any more.
const LATE: Nanos = 30 * SECOND;
/// How soon one that polls comes back, at most.
const POLL_MAX: Nanos = 200_000;
/// Datagrams that no run needs: more is a storm.
const STORM: u64 = 20_000_000;
/// One second of virtual time.
pub const SECOND: Nanos = 1_000_000_000;

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Print packets and operations on stderr.
    pub trace: bool,
    /// Operations to accept.
    pub operations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { trace: false, operations: 2_000 }
    }
}

/// What a run that went well did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Operations accepted.
    pub operations: usize,
    /// Completions read.
    pub completions: u64,
    /// Endpoints.
    pub nodes: usize,
    /// Kinds of fault.
    pub faults: usize,
    /// Virtual time.
    pub elapsed: Nanos,
    /// What the network did.
    pub net: NetCounters,
    /// Equal for equal runs.
    pub digest: u64,
    /// Sum of the endpoints' counters, by name.
    pub stats: Vec<(&'static str, u64)>,
}

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Operations are submitted, faults happen.
    Work,
    /// No more faults: everything has to end.
    Drain,
    /// Everything has ended: what is left is taken back, and the tables become empty.
    Settle,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(crate) net: Rc<RefCell<Net>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) model: Model,
    pub(crate) oracle: Oracle,
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) phase: Phase,
    pub(crate) accepted: usize,
    pub(crate) trace: bool,
    /// Sends of each node whose completion is awaited.
    pub(crate) sends_pending: Vec<usize>,
    /// One-sided operations of each node whose completion is awaited.
    pub(crate) remotes_pending: Vec<usize>,
    seed: u64,
    faults: Faults,
    sharing: Sharing,
    /// Nobody begins anything before this.
    paused_until: Nanos,
    next_event: usize,
    events: Vec<TraceEvent>,
    phase_began: Nanos,
    stats: Vec<(&'static str, u64)>,
}

impl World {
    /// The world of a seed, all nodes up.
    pub fn new(seed: u64, options: Options) -> Result<Self, String> {
        let faults = Faults::draw(&mut Rng::new(seed, 0));
        let profile = Profile::draw(&mut Rng::new(seed, 1), &faults, options.operations);
        let mut net = Net::new(Rng::new(seed, 2), faults.clone(), profile.latency);
        net.trace = options.trace;
        let addresses: Vec<_> = (0..profile.nodes).map(|node| profile.address(node)).collect();
        let sharing = Sharing::draw(&mut Rng::new(seed, 4), &addresses);
        net.memory = Memory::new(sharing.clone(), Rng::new(seed, 5));
        let profile_nodes = profile.nodes;
        let mut world = Self {
            net: Rc::new(RefCell::new(net)),
            nodes: (0..profile.nodes).map(|node| Node::new(profile.address(node), profile.nodes)).collect(),
            model: Model::new(profile.nodes),
            oracle: Oracle::default(),
            rng: Rng::new(seed, 3),
            profile,
            phase: Phase::Work,
            accepted: 0,
            trace: options.trace,
            sends_pending: vec![0; profile_nodes],
            remotes_pending: vec![0; profile_nodes],
            seed,
            faults,
            sharing,
            paused_until: 0,
            next_event: 0,
            events: Vec::new(),
            phase_began: 0,
            stats: Vec::new(),
        };
        for node in 0..world.nodes.len() {
            world.open(node)?;
        }
        Ok(world)
    }

    /// The faults of this run.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Result<Summary, String> {
        while !self.is_over()? {
            let now = self.advance();
            let order = self.rng.index(self.nodes.len());
            for index in 0..self.nodes.len() {
                let node = (index + order) % self.nodes.len();
                if self.nodes[node].wake_at <= now {
                    self.step(node).map_err(|fault| self.explain(&fault))?;
                }
            }
            self.happen().map_err(|fault| self.explain(&fault))?;
        }
        self.finish().map_err(|fault| self.explain(&fault))
    }

    fn finish(&mut self) -> Result<Summary, String> {
        for node in 0..self.nodes.len() {
            self.read_all(node)?;
        }
        matching::judge(&self.model)?;
        remote_oracle::judge_all(&self.model)?;
        for node in 0..self.nodes.len() {
            self.check_counters(node)?;
            self.check_remote_counters(node)?;
            self.close_regions(node)?;
            if let Some(process) = self.nodes[node].process.take() {
                add_stats(&mut self.stats, &process.domain.ep_stats(process.ep).rows());
                add_stats(&mut self.stats, &process.domain.ep_local_stats(process.ep).rows());
                process.close()?;
            }
        }
        self.oracle.finish()?;
        let net = self.net.borrow();
        Ok(Summary {
            operations: self.accepted,
            completions: self.oracle.completions,
            nodes: self.nodes.len(),
            faults: self.faults.kinds.len(),
            elapsed: net.now(),
            net: net.counters,
            digest: net.digest(),
            stats: self.stats.clone(),
        })
    }

    /// Moves the clock to the next time that anybody acts.
    fn advance(&mut self) -> Nanos {
        let mut net = self.net.borrow_mut();
        let wake = self.nodes.iter().map(|node| node.wake_at).min().unwrap_or(Nanos::MAX);
        let next = net.next_arrival().map_or(wake, |arrival| arrival.min(wake)).max(net.now());
        // Nothing at all to wait for: time passes all the same, so that what is stuck is found to be.
        let next = if next == Nanos::MAX { net.now() + SECOND } else { next };
        let (nodes, rng, pace) = (&mut self.nodes, &mut self.rng, self.profile.pace);
        net.advance(next, |address, at| {
            if let Some(node) = nodes.iter_mut().find(|node| node.address == address) {
                node.schedule(at + rng.below(pace));
            }
        });
        next
    }

    /// One step of a node: what its application asks for, progress, reading its queues; and when it acts next.
    fn step(&mut self, node: usize) -> Result<(), String> {
        let now = self.now();
        self.nodes[node].wake_at = Nanos::MAX;
        if now < self.nodes[node].silent_until {
            self.nodes[node].wake_at = self.nodes[node].silent_until;
            return Ok(());
        }
        match self.nodes[node].state {
            State::Down { until } if now >= until => self.open(node),
            State::Down { until } => {
                self.nodes[node].wake_at = until;
                Ok(())
            }
            State::Closing { until, gap } => self.close_step(node, now >= until, gap),
            State::Up => self.up_step(node, now),
        }
    }

    fn up_step(&mut self, node: usize, now: Nanos) -> Result<(), String> {
        let asked = match self.phase {
            Phase::Work if now >= self.paused_until => self.work(node)?,
            Phase::Work | Phase::Drain => self.drain(node)?,
            Phase::Settle => self.sweep(node)?,
        };
        let mut moved = false;
        for _ in 0..self.rng.size(1..=3) {
            let Some(process) = &mut self.nodes[node].process else { break };
            moved |= process.domain.progress();
        }
        self.judge_matching(node)?;
        let read_all = self.read(node, now)?;
        let more_work = self.phase == Phase::Work;
        let idle = &mut self.nodes[node].idle_steps;
        *idle = if asked { 0 } else { (*idle + 1).min(12) };
        // An application with nothing to ask for looks less and less often; the engine says when it wants to be called.
        let pause = (self.rng.below(self.profile.pace) + 1)
            << if more_work { self.nodes[node].idle_steps } else { 0 };
        // One that polls comes back soon, and says nothing of sleep.
        let polls = moved && self.rng.chance(500_000);
        let wish = match &mut self.nodes[node].process {
            Some(_) if polls => Some(Sleep::For(Duration::from_nanos(self.rng.below(POLL_MAX)))),
            Some(process) => Some(process.domain.sleep(Instant::from_nanos(now))),
            None => None,
        };
        let mut wake = match wish {
            Some(Sleep::Not) => now + self.rng.below(self.profile.pace) + 1,
            Some(Sleep::For(duration)) => now + nanos(duration).max(1),
            Some(Sleep::Forever) | None => Nanos::MAX,
        };
        if more_work || asked || moved || !read_all {
            wake = wake.min(now + pause);
        }
        if self.phase != Phase::Work {
            // At the end it looks now and then, for what has to be posted or swept up.
            wake = wake.min(now + SECOND / 50);
        }
        let readable =
            self.nodes[node].process.as_ref().is_some_and(|p| self.net.borrow().is_readable(p.port));
        if readable {
            wake = wake.min(now + pause);
        }
        self.nodes[node].schedule(wake);
        Ok(())
    }

    /// Lets the reference matcher follow what the engine's matcher did.
    fn judge_matching(&mut self, node: usize) -> Result<(), String> {
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        process.domain.take_trace(process.ep, &mut self.events);
        for event in self.events.drain(..) {
            this.reference.judge(&event)?;
        }
        this.reference.settle()
    }

    /// Reads the completion queues. False when something may be left.
    fn read(&mut self, node: usize, now: Nanos) -> Result<bool, String> {
        let slow = self.net.borrow().faults.slow_reader;
        if slow && now < self.nodes[node].read_at {
            return Ok(true);
        }
        let mut budget = if slow { self.rng.size(1..=16) } else { usize::MAX };
        if slow {
            self.nodes[node].read_at = now + self.rng.magnitude(1_000..=20_000_000);
        }
        let Some(process) = &self.nodes[node].process else { return Ok(true) };
        for cq in [process.tx_cq, process.rx_cq] {
            while budget > 0 && self.read_one(node, cq)? {
                budget -= 1;
            }
        }
        Ok(budget > 0)
    }

    /// Reads whatever is left, however slow the reader was before.
    fn read_all(&mut self, node: usize) -> Result<(), String> {
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        for cq in [process.tx_cq, process.rx_cq] {
            while self.read_one(node, cq)? {}
        }
        Ok(())
    }

    fn read_one(&mut self, node: usize, cq: rdgram_engine::CqId) -> Result<bool, String> {
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(false) };
        let life = this.life;
        match process.domain.cq_pop(cq) {
            Ok(None) => Ok(false),
            Ok(Some(completion)) => {
                let reader = Reader { node, life, source: this.node_of(completion.source) };
                self.note(|| format!("node {node} completes {completion:?}"));
                self.oracle.success(&mut self.model, reader, &completion)?;
                self.check_source(node, completion.source)?;
                self.after(node, completion.context);
                Ok(true)
            }
            Err(FailurePending) => {
                let failure =
                    process.domain.cq_pop_failure(cq).ok_or("a failure was announced and is not there")?;
                let reader = Reader { node, life, source: this.node_of(failure.completion.source) };
                self.note(|| format!("node {node} fails {failure:?}"));
                self.oracle.failure(&mut self.model, reader, &failure)?;
                self.after(node, failure.completion.context);
                Ok(true)
            }
        }
    }

    /// Opens a node's endpoint: a new life.
    fn open(&mut self, node: usize) -> Result<(), String> {
        let now = self.now();
        let config = self.profile.configs[node].clone();
        let rng = Rng::new(self.rng.bits(), 0);
        let this = &mut self.nodes[node];
        this.process = Some(Process::open(&self.net, this.address, config, rng)?);
        this.state = State::Up;
        this.life = self.model.lives.len();
        this.peers.fill(None);
        this.reference = Reference::default();
        this.wake_at = now;
        self.model.lives.push(Life { node, opened: now, ended: false });
        self.open_first_regions(node)?;
        let mut peers: Vec<usize> = (0..self.profile.nodes).collect();
        while !peers.is_empty() {
            let peer = peers.swap_remove(self.rng.index(peers.len()));
            if self.profile.knows[node][peer] {
                let address = self.profile.address(peer);
                self.nodes[node].insert(peer, address, now);
            }
        }
        Ok(())
    }

    /// Carries out what is due by now.
    fn happen(&mut self) -> Result<(), String> {
        while let Some((at, event)) = self.profile.events.get(self.next_event).copied() {
            if at > self.accepted {
                return Ok(());
            }
            self.next_event += 1;
            let now = self.now();
            self.note(|| format!("{event:?}"));
            match event {
                Event::Partition { from, to, duration } => {
                    let (from, to) = (self.nodes[from].address, self.nodes[to].address);
                    self.net.borrow_mut().partition(from, to, now + duration);
                }
                Event::Silence { node, duration } => {
                    self.nodes[node].silent_until = now + duration;
                    self.nodes[node].wake_at = now + duration;
                }
                Event::Restart { node, graceful, gap } => self.end(node, graceful, gap)?,
                Event::Pause { duration } => self.paused_until = now + duration,
                Event::Burst { from, to, count } => self.burst(from, to, count)?,
                Event::Insert { node, peer } => {
                    self.profile.knows[node][peer] = true;
                    let address = self.profile.address(peer);
                    self.nodes[node].insert(peer, address, now);
                }
            }
        }
        Ok(())
    }

    /// Ends a node's life, at once or properly.
    fn end(&mut self, node: usize, graceful: bool, gap: Nanos) -> Result<(), String> {
        if self.nodes[node].state != State::Up {
            return Ok(());
        }
        self.oracle.restarts = true;
        self.model.end_life(self.nodes[node].life);
        let now = self.now();
        let this = &mut self.nodes[node];
        this.posted.clear();
        this.claims.clear();
        self.sends_pending[node] = 0;
        self.remotes_pending[node] = 0;
        this.silent_until = 0;
        this.wake_at = now;
        if graceful {
            this.state = State::Closing { until: now + SECOND, gap };
            if let Some(process) = &mut this.process {
                process.domain.ep_shutdown(process.ep);
            }
            // From now on nobody may touch its memory, although its endpoint still answers.
            return self.close_regions(node);
        }
        this.process = None;
        this.state = State::Down { until: now + gap };
        self.abandon(node)
    }

    fn close_step(&mut self, node: usize, out_of_patience: bool, gap: Nanos) -> Result<(), String> {
        let now = self.now();
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        process.domain.progress();
        if process.domain.ep_lingers(process.ep) && !out_of_patience {
            this.wake_at = now + self.rng.below(self.profile.pace) + 1;
            return Ok(());
        }
        this.state = State::Down { until: now + gap };
        this.wake_at = now + gap;
        self.nodes[node].process.take().map_or(Ok(()), Process::close)?;
        self.abandon(node)
    }

    /// The engine of a node's last life is gone: its buffers are the application's again.
    fn abandon(&mut self, node: usize) -> Result<(), String> {
        let life = self.nodes[node].life;
        self.close_regions(node)?;
        for op in 0..self.model.ops.len() {
            if self.model.ops[op].life() != life {
                continue;
            }
            let buffer = match &mut self.model.ops[op] {
                Op::Send(message) => {
                    if message.outcome == Outcome::Pending {
                        message.outcome = Outcome::Abandoned;
                    }
                    message.buffer.take()
                }
                Op::Receive(receive) => {
                    if receive.outcome == Outcome::Pending {
                        receive.outcome = Outcome::Abandoned;
                    }
                    receive.buffer.take()
                }
                Op::Peek(peek) => match core::mem::replace(&mut peek.stage, Stage::Ended) {
                    Stage::Claiming(buffer) => buffer,
                    _ => None,
                },
                Op::Remote(remote) => {
                    if remote.outcome == Outcome::Pending {
                        remote.outcome = Outcome::Abandoned;
                    }
                    remote.buffer.take()
                }
            };
            self.oracle.retire(buffer)?;
        }
        Ok(())
    }

    /// Whether the run is over; moves it to its next phase; fails when it takes too long.
    fn is_over(&mut self) -> Result<bool, String> {
        let now = self.now();
        let patience = if self.phase == Phase::Work { WORK } else { LIVENESS };
        if now - self.phase_began > patience {
            let stuck = self.stuck();
            return Err(self.explain(&format!(
                "no end of phase {:?} in {patience} ns of virtual time\n{stuck}",
                self.phase
            )));
        }
        if self.net.borrow().counters.sent > STORM {
            return Err(self.explain("a storm of datagrams"));
        }
        let next = match self.phase {
            Phase::Work if self.accepted >= self.profile.operations => Phase::Drain,
            Phase::Drain if self.has_ended() => Phase::Settle,
            Phase::Settle => return Ok(self.is_quiet()),
            _ => return Ok(false),
        };
        self.phase = next;
        self.phase_began = now;
        self.note(|| format!("{next:?}"));
        self.net.borrow_mut().heal();
        for node in &mut self.nodes {
            node.silent_until = 0;
            node.wake_at = match node.state {
                State::Down { until } => until,
                _ => now,
            };
        }
        Ok(false)
    }

    fn is_quiet(&self) -> bool {
        self.net.borrow().is_idle()
            && self.nodes.iter().all(|node| {
                let process = node.process.as_ref();
                node.posted.is_empty() && process.is_some_and(|process| self.process_is_quiet(process))
            })
    }

    /// Every table is empty. But what a packet for its predecessor, received late, left in a restarted endpoint stays there: its sender has given
    /// that context up and says no more.
    fn process_is_quiet(&self, process: &Process) -> bool {
        let waited = self.now() - self.phase_began > LATE;
        process.domain.is_quiet()
            || (self.oracle.restarts
                && waited
                && process.domain.ep_describe(process.ep).iter().any(|(_, state)| state.contains(" joined ")))
    }

    pub(crate) fn now(&self) -> Nanos {
        self.net.borrow().now()
    }

    /// Prints what the applications do, when asked to.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>14} {}", self.now(), what());
        }
    }

    fn explain(&self, fault: &str) -> String {
        let mut text = format!(
            "seed {}: {fault}\n  at {:?} in phase {:?}, {} operations accepted, {} nodes\n  faults: {}\n  shared memory: {}",
            self.seed,
            Duration::from_nanos(self.now()),
            self.phase,
            self.accepted,
            self.nodes.len(),
            self.faults,
            self.sharing
        );
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(process) = &node.process else { continue };
            for (peer, state) in process.domain.ep_describe(process.ep) {
                text += &format!("\n  node {index} {} to {peer}: {state}", node.address);
            }
        }
        text
    }
}

fn add_stats(sum: &mut Vec<(&'static str, u64)>, rows: &[(&'static str, u64)]) {
    for (name, value) in rows {
        match sum.iter_mut().find(|(other, _)| other == name) {
            Some((_, total)) => *total += value,
            None => sum.push((name, *value)),
        }
    }
}
