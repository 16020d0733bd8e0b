//! How a run is brought to its end: receives for what must still arrive, then sweeping up what was never certain to come.

use rdgram_engine::{OpFlags, Peek, TagMatch};

use crate::model::{Message, Op, OpId, Outcome, Receive, Stage, Wanted};
use crate::net::Nanos;
use crate::node::State;
use crate::workload::LENGTH_MAX;
use crate::world::{SECOND, World};

/// Time between two looks for left-over messages.
const SWEEP_INTERVAL: Nanos = SECOND / 20;

impl World {
    /// The application of a node once the faults are over: posts a receive for everything that must still arrive.
    pub(crate) fn drain(&mut self, node: usize) -> Result<bool, String> {
        while !self.nodes[node].claims.is_empty() {
            let before = self.nodes[node].claims.len();
            self.do_claimed(node)?;
            if self.nodes[node].claims.len() == before {
                break;
            }
        }
        let mut asked = false;
        for tagged in [false, true] {
            let wildcards =
                self.nodes[node].posted.iter().filter(|op| self.takes_anything(**op, tagged)).count();
            let needed = self.must_arrive(node, tagged);
            for _ in wildcards..needed {
                let tag = tagged.then_some(TagMatch { tag: 0, ignore: u64::MAX });
                self.post(node, Wanted { source: None, tag }, LENGTH_MAX, false)?;
                asked = true;
            }
        }
        Ok(asked)
    }

    fn takes_anything(&self, op: OpId, tagged: bool) -> bool {
        let Op::Receive(receive) = &self.model.ops[op] else { return false };
        let any_tag = receive.wanted.tag.is_none_or(|tag| tag.ignore == u64::MAX);
        receive.wanted.tag.is_some() == tagged
            && any_tag
            && receive.wanted.source.is_none()
            && !receive.multi
            && receive.capacity >= LENGTH_MAX
    }

    /// How many receives a node needs so that everything on its way, certain or not, finds one. Posted a few at a time.
    fn must_arrive(&self, node: usize, tagged: bool) -> usize {
        let certain = self.model.inbound[node][usize::from(tagged)].len();
        let waiting = if self.oracle.restarts {
            let waits = |message: &Message| {
                // Of one without completion nobody hears; but a fence may wait for it, and others for the fence.
                let heard = message.flags.contains(OpFlags::COMPLETION)
                    || self.model.fences.is_awaited_after(message.life, message.to, message.epoch);
                message.to == node
                    && message.tag.is_some() == tagged
                    && message.outcome == Outcome::Pending
                    && message.taken.is_none()
                    && heard
            };
            self.model.messages().filter(|(_, message)| waits(message)).count()
        } else {
            0
        };
        certain.max(waiting).min(16)
    }

    /// Whether everything that was asked for has come to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.model.inbound.iter().all(|kinds| kinds.iter().all(Vec::is_empty))
            && self.nodes.iter().all(|node| node.state == State::Up && node.claims.is_empty())
            && !self.model.ops.iter().any(|op| self.unfinished(op))
    }

    /// An operation whose end does not depend on what others will ask for.
    fn unfinished(&self, op: &Op) -> bool {
        match op {
            Op::Send(message) => {
                message.outcome == Outcome::Pending && message.flags.contains(OpFlags::COMPLETION)
            }
            Op::Receive(_) => false,
            Op::Peek(peek) => !matches!(peek.stage, Stage::Ended),
            Op::Remote(remote) => {
                remote.outcome == Outcome::Pending && remote.flags.contains(OpFlags::COMPLETION)
            }
        }
    }

    /// What has not come to its end, for the report of a run that does not.
    pub(crate) fn stuck(&self) -> String {
        let mut text = String::new();
        let mut lines = 0;
        for (index, op) in self.model.ops.iter().enumerate() {
            let awaited = self.model.inbound.iter().flatten().any(|list| list.contains(&index));
            if (self.unfinished(op) || awaited) && lines < 20 {
                lines += 1;
                text += &format!("  stuck: {index} {op:?}\n");
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let quiet = node.process.as_ref().map(|process| process.domain.is_quiet());
            text += &format!("  node {index}: {:?}, quiet {quiet:?}, posted {:?}\n", node.state, node.posted);
        }
        text
    }

    /// The application of a node at the very end: takes its receives back, and looks for messages that were never certain to come.
    pub(crate) fn sweep(&mut self, node: usize) -> Result<bool, String> {
        let now = self.now();
        let posted = self.nodes[node].posted.clone();
        let mut asked = false;
        for op in posted {
            let Op::Receive(Receive { canceled: None, .. }) = &self.model.ops[op] else { continue };
            self.cancel(node, op)?;
            asked = true;
        }
        let quiet = self.nodes[node].process.as_ref().is_some_and(|process| process.domain.is_quiet());
        if !quiet && self.oracle.restarts && now >= self.nodes[node].sweep_at {
            self.nodes[node].sweep_at = now + SWEEP_INTERVAL;
            for tag in [None, Some(TagMatch { tag: 0, ignore: u64::MAX })] {
                self.peek(node, Wanted { source: None, tag }, Peek::Discard)?;
            }
            asked = true;
        }
        Ok(asked)
    }
}
