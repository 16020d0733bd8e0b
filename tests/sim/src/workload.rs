//! What the applications do: draws the next operation of a node and submits it.

use rdgram_engine::{FiAddr, Match, OpFlags, Peek, RecvOp, SendOp, SubmitError, TagMatch};

use crate::buffer::Buffer;
use crate::model::{Message, Op, OpId, Outcome, PeekRecord, Receive, Stage, TAG_BITS, Wanted, context_of};
use crate::node::State;
use crate::world::World;

/// Sends of a node that have not ended, at most.
const SENDS_MAX: usize = 96;
/// Messages on their way to a node, at most.
const INBOUND_MAX: usize = 128;
/// Receives posted at a node, at most.
const POSTED_MAX: usize = 96;
/// Longest message.
pub(crate) const LENGTH_MAX: usize = 1 << 20;
/// Number of small tags: few, so that many messages have equal ones.
const TAGS: u64 = 6;
/// Ignores a message's name in its tag.
const NAME_IGNORED: u64 = !((1 << TAG_BITS) - 1);

impl World {
    /// The application of a node during the workload: a few operations. False when it had nothing to do.
    pub(crate) fn work(&mut self, node: usize) -> Result<bool, String> {
        let burst = match self.rng.weighted(&[30, 50, 20]) {
            0 => 0,
            1 => self.rng.size(1..=3),
            _ => self.rng.size(4..=24),
        };
        let before = self.accepted;
        for _ in 0..burst {
            if self.accepted >= self.profile.operations {
                break;
            }
            match self.rng.weighted(&[30, 26, 2, 6, 4, 2, 28, 2]) {
                0 => self.do_send(node)?,
                1 => self.do_receive(node)?,
                2 => self.do_receive_multi(node)?,
                3 => self.do_peek(node)?,
                4 => self.do_claimed(node)?,
                5 => self.do_cancel(node)?,
                6 => self.do_remote(node)?,
                _ => self.do_region(node)?,
            }
        }
        Ok(self.accepted > before)
    }

    fn pending_sends(&self, node: usize) -> usize {
        self.sends_pending[node]
    }

    fn do_send(&mut self, node: usize) -> Result<(), String> {
        let known: Vec<usize> =
            (0..self.nodes.len()).filter(|peer| self.nodes[node].peers[*peer].is_some()).collect();
        let to = if self.rng.chance(60_000) { node } else { self.rng.pick(&known) };
        let inbound = self.model.inbound[to].iter().map(Vec::len).sum::<usize>();
        if self.pending_sends(node) >= SENDS_MAX || inbound >= INBOUND_MAX {
            return Ok(());
        }
        let (mut flags, injected) = self.send_flags();
        match self.rng.weighted(&[88, 8, 4]) {
            0 => {}
            1 if !injected => flags |= OpFlags::MATCH_COMPLETE,
            _ => flags |= OpFlags::FENCE,
        }
        let length = if injected {
            let most = self.profile.configs[node].inject_max;
            self.length(node).min(most)
        } else {
            self.length(node)
        };
        self.send(node, to, length, flags)
    }

    /// Many small messages in a row to one peer, more than a window of packets would hold if each had its own.
    pub(crate) fn burst(&mut self, node: usize, to: usize, count: usize) -> Result<(), String> {
        if self.nodes[node].state != State::Up || self.nodes[node].peers[to].is_none() {
            return Ok(());
        }
        for _ in 0..count {
            let (flags, _) = self.send_flags();
            let length = self.rng.size(0..=64);
            self.send(node, to, length, flags)?;
        }
        Ok(())
    }

    fn send(&mut self, node: usize, to: usize, length: usize, flags: OpFlags) -> Result<(), String> {
        let injected = flags.contains(OpFlags::INJECT);
        let op = self.model.ops.len();
        let (tag, data) = self.envelope(op, length);
        let pieces = if self.rng.chance(300_000) { self.rng.size(2..=8) } else { 1 };
        let mut buffer = Buffer::new(length, pieces, &mut self.rng);
        buffer.fill(op as u64);
        let certain = self.is_certain(node, to);
        let destination = self.nodes[node].peers[to].ok_or("a peer that was not inserted")?;
        let slices = buffer.slices();
        let send = SendOp { destination, slices: &slices, tag, data, context: context_of(op), flags };
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = process.domain.send(process.ep, &send);
        self.note(|| {
            format!("node {node} sends {op} to {to}: {length} bytes, {tag:x?} {data:?} {flags:?}: {result:?}")
        });
        match result {
            Ok(()) => {}
            Err(SubmitError::Again) => return self.oracle.retire(Some(buffer)),
            Err(error) => {
                return Err(format!("node {node}: send of {length} bytes to {to} refused: {error:?}"));
            }
        }
        // What was injected is the application's again at once.
        let buffer = if injected {
            self.oracle.retire(Some(buffer))?;
            None
        } else {
            Some(buffer)
        };
        self.sends_pending[node] += usize::from(flags.contains(OpFlags::COMPLETION));
        self.accepted += 1;
        let life = self.nodes[node].life;
        let (fenced, awaited) = (flags.contains(OpFlags::FENCE), flags.contains(OpFlags::COMPLETION));
        let epoch = if to == node { 0 } else { self.model.fences.submit(life, to, fenced, awaited) };
        self.model.add_message(Message {
            life,
            to,
            tag,
            data,
            length,
            flags,
            buffer,
            certain,
            outcome: Outcome::Pending,
            taken: None,
            submitted: self.now(),
            epoch,
        });
        Ok(())
    }

    /// Nothing that happened before can end this message's context: neither has its receiver been restarted without the sender having heard of it, nor is it gone.
    pub(crate) fn is_certain(&self, node: usize, to: usize) -> bool {
        let (sender, receiver) = (self.nodes[node].life, self.nodes[to].life);
        let restarted = self.model.lives[..receiver].iter().any(|life| life.node == to);
        self.nodes[to].state == State::Up
            && (node == to || !restarted || self.model.met.contains(&(sender, receiver)))
    }

    /// Flags of every kind of operation: injected or not, with which completion.
    pub(crate) fn send_flags(&mut self) -> (OpFlags, bool) {
        let mut flags = OpFlags::COMPLETION;
        let injected = match self.rng.weighted(&[15, 5, 10, 35, 10, 12, 13]) {
            0 => {
                flags = OpFlags::INJECT;
                true
            }
            1 => {
                flags |= OpFlags::INJECT;
                true
            }
            choice => {
                match choice {
                    2 => flags = OpFlags::empty(),
                    4 => flags |= OpFlags::INJECT_COMPLETE,
                    5 => flags |= OpFlags::TRANSMIT_COMPLETE,
                    6 => flags |= OpFlags::DELIVERY_COMPLETE,
                    _ => {}
                }
                false
            }
        };
        if self.rng.chance(100_000) {
            flags |= OpFlags::MORE;
        }
        (flags, injected)
    }

    /// Tag and remote CQ data. Unless the seed allows otherwise, one of them names the message; else its contents may.
    fn envelope(&mut self, op: OpId, length: usize) -> (Option<u64>, Option<u64>) {
        let mut tag = (!self.rng.chance(350_000)).then(|| self.rng.below(TAGS));
        let mut data = self.rng.chance(250_000).then_some(op as u64);
        let named_by_contents =
            self.profile.anonymous && (length >= crate::buffer::NAMED_LENGTH || self.rng.chance(100_000));
        if data.is_none() && (!named_by_contents || self.rng.chance(300_000)) {
            match &mut tag {
                Some(tag) => *tag |= (op as u64 + 1) << TAG_BITS,
                None if !named_by_contents => data = Some(op as u64),
                None => {}
            }
        }
        (tag, data)
    }

    /// Lengths cluster where the engine changes its ways.
    pub(crate) fn length(&mut self, node: usize) -> usize {
        let config = &self.profile.configs[node];
        let (inject, eager, staging) =
            (config.inject_max, config.eager_max, config.transport.staging_max as usize);
        let near = |rng: &mut crate::rng::Rng, edge: usize| (edge + rng.size(0..=4)).saturating_sub(2);
        match self.rng.weighted(&[8, 30, 6, 12, 20, 8, 5, 8, 1]) {
            0 => 0,
            1 => self.rng.size(1..=64),
            2 => near(&mut self.rng, inject),
            3 => {
                let segments = self.rng.size(1..=4);
                // Between the payload of a segment with every extension and that of the barest datagram.
                self.rng.size(segments * 1_270..=segments * 1_472)
            }
            4 => self.rng.size(64..=4_096),
            5 => near(&mut self.rng, eager),
            6 => near(&mut self.rng, staging),
            7 => usize::try_from(self.rng.magnitude(4_096..=65_536)).expect("small"),
            _ => usize::try_from(self.rng.magnitude(65_536..=LENGTH_MAX as u64)).expect("small"),
        }
    }

    /// What to ask for: mostly something that fits a message on its way, at times anything.
    fn wanted(&mut self, node: usize, tagged: bool) -> (Wanted, Option<usize>) {
        let inbound = &self.model.inbound[node][usize::from(tagged)];
        let target = if inbound.is_empty() || self.rng.chance(200_000) {
            None
        } else {
            let near_front = self.rng.index(inbound.len().min(8));
            let any = self.rng.index(inbound.len());
            let index = if self.rng.chance(700_000) { near_front } else { any };
            self.model
                .message(inbound[index])
                .map(|message| (message.tag, message.length, self.model.origin(message)))
        };
        let source = match target {
            Some((_, _, origin)) if self.rng.chance(500_000) => Some(origin),
            Some(_) => None,
            None => self.rng.chance(400_000).then(|| self.rng.index(self.nodes.len())),
        };
        // A directed receive needs the source in the address vector.
        let source = source.filter(|source| self.nodes[node].peers[*source].is_some());
        let tag = tagged.then(|| {
            let tag = target.and_then(|(tag, _, _)| tag).unwrap_or_else(|| self.rng.below(TAGS));
            let ignore = match self.rng.weighted(&[35, 35, 15, 15]) {
                0 => 0,
                1 => NAME_IGNORED,
                2 => NAME_IGNORED | 1,
                _ => u64::MAX,
            };
            TagMatch { tag: tag ^ (self.rng.bits() & ignore), ignore }
        });
        (Wanted { source, tag }, target.map(|(_, length, _)| length))
    }

    fn capacity(&mut self, node: usize, expected: Option<usize>) -> usize {
        let guess = expected.unwrap_or_else(|| self.length(node).max(64));
        match self.rng.weighted(&[50, 25, 15, 10]) {
            0 => guess,
            1 => guess + self.rng.size(1..=100),
            2 => guess * 2 + 4_096,
            _ => self.rng.index(guess + 1),
        }
    }

    fn do_receive(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].posted.len() >= POSTED_MAX {
            return Ok(());
        }
        let tagged = self.rng.chance(650_000);
        let (wanted, expected) = self.wanted(node, tagged);
        let capacity = self.capacity(node, expected);
        self.post(node, wanted, capacity, false)
    }

    fn do_receive_multi(&mut self, node: usize) -> Result<(), String> {
        let posted = self.nodes[node].posted.iter();
        let open = posted
            .filter(|op| matches!(&self.model.ops[**op], Op::Receive(receive) if receive.multi))
            .count();
        if open >= 3 {
            return Ok(());
        }
        let tagged = self.rng.chance(150_000);
        let (mut wanted, _) = self.wanted(node, tagged);
        if self.rng.chance(700_000) {
            wanted.source = None;
        }
        let capacity = self.rng.pick(&[2_048, 8_192, 65_536, 262_144]);
        self.post(node, wanted, capacity, true)
    }

    /// Posts a receive.
    pub(crate) fn post(
        &mut self,
        node: usize,
        wanted: Wanted,
        capacity: usize,
        multi: bool,
    ) -> Result<(), String> {
        let op = self.model.ops.len();
        let pieces = if !multi && self.rng.chance(300_000) { self.rng.size(2..=8) } else { 1 };
        let buffer = Buffer::new(capacity, pieces, &mut self.rng);
        let slices = buffer.slices();
        let matching = self.matching(node, &wanted);
        let flags = if multi { OpFlags::COMPLETION | OpFlags::MULTI_RECV } else { OpFlags::COMPLETION };
        let receive = RecvOp { matching, slices: &slices, context: context_of(op), flags };
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = process.domain.recv(process.ep, &receive);
        self.note(|| {
            format!("node {node} receives {op}: {wanted:x?} into {capacity}, multi {multi}: {result:?}")
        });
        match result {
            Ok(()) => {}
            Err(SubmitError::Again) => return self.oracle.retire(Some(buffer)),
            Err(error) => return Err(format!("node {node}: receive refused: {error:?}")),
        }
        self.accepted += 1;
        self.nodes[node].posted.push(op);
        let posted = self.model.tick();
        self.model.ops.push(Op::Receive(Receive {
            life: self.nodes[node].life,
            wanted,
            buffer: Some(buffer),
            capacity,
            multi,
            filled: Vec::new(),
            posted,
            canceled: None,
            outcome: Outcome::Pending,
        }));
        Ok(())
    }

    fn matching(&self, node: usize, wanted: &Wanted) -> Match {
        let source =
            wanted.source.and_then(|source| self.nodes[node].peers[source]).unwrap_or(FiAddr::UNSPEC);
        Match { source, tag: wanted.tag }
    }

    fn do_peek(&mut self, node: usize) -> Result<(), String> {
        let tagged = self.rng.chance(900_000);
        let (wanted, _) = self.wanted(node, tagged);
        let how = [Peek::Look, Peek::Claim, Peek::Discard][self.rng.weighted(&[45, 35, 20])];
        self.peek(node, wanted, how)
    }

    pub(crate) fn peek(&mut self, node: usize, wanted: Wanted, how: Peek) -> Result<(), String> {
        let op = self.model.ops.len();
        let matching = self.matching(node, &wanted);
        let posted = self.model.tick();
        // Recorded first: a peek may complete within the call.
        self.model.ops.push(Op::Peek(PeekRecord {
            life: self.nodes[node].life,
            wanted,
            how,
            posted,
            stage: Stage::Waiting,
            saw: None,
        }));
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = process.domain.peek(process.ep, matching, how, context_of(op));
        self.note(|| format!("node {node} peeks {op}: {wanted:x?} to {how:?}: {result:?}"));
        match result {
            Ok(()) => self.accepted += 1,
            Err(SubmitError::Again) => {
                if let Op::Peek(peek) = &mut self.model.ops[op] {
                    peek.stage = Stage::Ended;
                }
            }
            Err(error) => return Err(format!("node {node}: peek refused: {error:?}")),
        }
        Ok(())
    }

    /// Receives or drops a message that was claimed.
    pub(crate) fn do_claimed(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].claims.is_empty() {
            return Ok(());
        }
        let index = self.rng.index(self.nodes[node].claims.len());
        let op = self.nodes[node].claims[index];
        let discard = self.rng.chance(250_000);
        let Op::Peek(PeekRecord { stage: Stage::Claimed(length), .. }) = self.model.ops[op] else {
            return Err(format!("peek {op} holds no claim"));
        };
        let capacity = self.capacity(node, Some(length));
        let buffer = (!discard).then(|| Buffer::new(capacity, 1, &mut self.rng));
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = match &buffer {
            Some(buffer) => process.domain.claim(process.ep, context_of(op), &buffer.slices()),
            None => process.domain.claim_discard(process.ep, context_of(op)),
        };
        self.note(|| format!("node {node} receives claimed {op}, discard {discard}: {result:?}"));
        match result {
            Ok(()) => {
                self.accepted += 1;
                self.nodes[node].claims.swap_remove(index);
                if let Op::Peek(peek) = &mut self.model.ops[op] {
                    peek.stage = Stage::Claiming(buffer);
                }
                Ok(())
            }
            Err(SubmitError::Again) => self.oracle.retire(buffer),
            // The message went with its sender.
            Err(SubmitError::NotFound) if self.oracle.restarts => {
                self.nodes[node].claims.swap_remove(index);
                if let Op::Peek(peek) = &mut self.model.ops[op] {
                    peek.stage = Stage::Ended;
                }
                self.oracle.retire(buffer)
            }
            Err(error) => Err(format!("node {node}: claim refused: {error:?}")),
        }
    }

    fn do_cancel(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].posted.is_empty() {
            return Ok(());
        }
        let index = self.rng.index(self.nodes[node].posted.len());
        let op = self.nodes[node].posted[index];
        self.cancel(node, op)
    }

    pub(crate) fn cancel(&mut self, node: usize, op: OpId) -> Result<(), String> {
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = process.domain.cancel(process.ep, context_of(op));
        self.note(|| format!("node {node} cancels {op}: {result:?}"));
        let canceled = self.model.tick();
        let Op::Receive(receive) = &mut self.model.ops[op] else { return Err(format!("{op} is no receive")) };
        match result {
            Ok(()) if receive.canceled.is_some() => Err(format!("receive {op} was cancelled twice")),
            Ok(()) => {
                receive.canceled = Some(canceled);
                self.accepted += 1;
                Ok(())
            }
            Err(SubmitError::NotFound) => Ok(()),
            Err(error) => Err(format!("node {node}: cancel refused: {error:?}")),
        }
    }

    /// After a completion was judged: what the node remembers of its own.
    pub(crate) fn after(&mut self, node: usize, context: usize) {
        let Some(op) = crate::model::op_of(context) else { return };
        match &self.model.ops[op] {
            Op::Send(message) if message.flags.contains(OpFlags::COMPLETION) => self.sends_pending[node] -= 1,
            Op::Receive(receive) if receive.outcome != Outcome::Pending => {
                self.nodes[node].posted.retain(|posted| *posted != op);
            }
            Op::Peek(PeekRecord { stage: Stage::Claimed(_), .. }) => self.nodes[node].claims.push(op),
            Op::Remote(remote) if remote.flags.contains(OpFlags::COMPLETION) => {
                self.remotes_pending[node] -= 1
            }
            Op::Send(_) | Op::Receive(_) | Op::Peek(_) | Op::Remote(_) => {}
        }
    }

    /// A source must be named as soon as it is in the address vector, and be the right one (the oracle compares it with the message).
    pub(crate) fn check_source(&self, node: usize, source: FiAddr) -> Result<(), String> {
        let Some(taken) = self.oracle.last_taken else { return Ok(()) };
        let message = self.model.message(taken).ok_or("not a message")?;
        let origin = self.model.origin(message);
        let this = &self.nodes[node];
        if source != FiAddr::UNSPEC && this.node_of(source).is_none() {
            return Err(format!("message {taken} comes from {source:?}, which is not in the address vector"));
        }
        let known = this.peers[origin].is_some() && this.inserted[origin] <= message.submitted;
        if source == FiAddr::UNSPEC && known {
            return Err(format!(
                "message {taken} comes from nobody, although its sender is in the address vector"
            ));
        }
        Ok(())
    }

    /// Compares a node's counters with what was accepted and read in its life.
    pub(crate) fn check_counters(&mut self, node: usize) -> Result<(), String> {
        let life = self.nodes[node].life;
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let counted = process.domain.cntr_value(process.receives);
        let received = self.oracle.received.get(&life).copied().unwrap_or_default();
        if counted != received {
            return Err(format!("node {node} counts {counted:?} receives and failed ones, of {received:?}"));
        }
        let (sent, failed) = process.domain.cntr_value(process.sends);
        let sends = self.model.messages().filter(|(_, message)| message.life == life).count();
        let failures = self
            .model
            .messages()
            .filter(|(_, message)| message.life == life && matches!(message.outcome, Outcome::Failed(_)))
            .count();
        let unheard = self.oracle.restarts;
        if sent + failed != sends as u64 || (failed != failures as u64 && !unheard) {
            return Err(format!(
                "node {node} counts {sent} sends and {failed} failed ones, of {sends} and {failures}"
            ));
        }
        Ok(())
    }
}
