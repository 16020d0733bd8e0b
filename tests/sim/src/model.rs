//! What the applications asked for and what they were told: a record per operation. Plain data and look-ups; the judgement is in `oracle`, `remote_oracle` and `matching`.

use std::collections::BTreeSet;

use rdgram_engine::{Cause, OpFlags, Peek, TagMatch};

use crate::buffer::{Buffer, NAMED_LENGTH};
use crate::fences::Fences;
use crate::net::Nanos;
use crate::region::Region;
use crate::remote::Remote;

/// Index of an operation in the order of submission over the whole run.
pub type OpId = usize;
/// Index of a life: an endpoint from its opening to its end. A restarted endpoint is a new life of the same node.
pub type LifeId = usize;
/// Counts posts and completions read, over the whole run: what came before what.
pub type Order = u64;

/// The context that an operation is submitted with.
pub fn context_of(op: OpId) -> usize {
    op * 8 + 5
}

/// The operation of a context, if it can be one.
pub fn op_of(context: usize) -> Option<OpId> {
    (context % 8 == 5).then_some(context / 8)
}

/// A message's name in the upper bits of its tag, beside [`TAG_BITS`] of small, often equal tags.
pub const TAG_BITS: u32 = 16;

/// An endpoint from opening to end.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Which node.
    pub node: usize,
    /// When it was opened.
    pub opened: Nanos,
    /// It has ended, or begun to.
    pub ended: bool,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Pending,
    /// With success.
    Done,
    /// With an error.
    Failed(Cause),
    /// Its endpoint went away first: nothing more will be heard.
    Abandoned,
}

/// Who received a message.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The receive or peek.
    pub by: OpId,
    /// Where it begins in a multi-receive buffer, else 0.
    pub offset: usize,
    /// When the completion was read.
    pub read: Order,
    /// What was told of it, when that fits others too: then this may be another message than the one received. `None` when it was recognised.
    pub told: Option<Report>,
}

impl Taken {
    /// The message itself was recognised, not just one like it.
    pub fn is_exact(&self) -> bool {
        self.told.is_none()
    }
}

/// What a completion says about a message.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its tag.
    pub tag: Option<u64>,
    /// Its remote CQ data.
    pub data: Option<u64>,
    /// Its length, whether it fitted or not.
    pub length: usize,
    /// The node that is named as its source, if one is.
    pub source: Option<usize>,
    /// Its first bytes.
    pub head: [u8; NAMED_LENGTH],
    /// How many of them are known.
    pub head_length: usize,
}

/// A send. Its [`OpId`] is the name of the message.
#[derive(Debug)]
pub struct Message {
    /// The sender.
    pub life: LifeId,
    /// The receiving node.
    pub to: usize,
    /// Tag, `None` for an untagged message.
    pub tag: Option<u64>,
    /// Remote CQ data.
    pub data: Option<u64>,
    /// Bytes.
    pub length: usize,
    /// As submitted.
    pub flags: OpFlags,
    /// The memory, until the operation has ended.
    pub buffer: Option<Buffer>,
    /// It must arrive: neither its sender nor its receiver has gone away.
    pub certain: bool,
    /// The send's end.
    pub outcome: Outcome,
    /// The receive's end.
    pub taken: Option<Taken>,
    /// When it was submitted.
    pub submitted: Nanos,
    /// How many fences to the same peer came before it or with it.
    pub epoch: usize,
}

/// What a receive or a peek accepts.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// From which node, `None` for any.
    pub source: Option<usize>,
    /// With which tags, `None` for untagged messages.
    pub tag: Option<TagMatch>,
}

impl Wanted {
    /// Whether a message from `source` with `tag` is wanted.
    pub fn accepts(&self, source: usize, tag: Option<u64>) -> bool {
        let tag_fits = match (self.tag, tag) {
            (None, None) => true,
            (Some(wanted), Some(tag)) => wanted.accepts(tag),
            _ => false,
        };
        tag_fits && self.source.is_none_or(|wanted| wanted == source)
    }
}

/// A posted receive.
#[derive(Debug)]
pub struct Receive {
    /// The receiver.
    pub life: LifeId,
    /// What it accepts.
    pub wanted: Wanted,
    /// The memory, until the operation has ended.
    pub buffer: Option<Buffer>,
    /// Bytes of it.
    pub capacity: usize,
    /// Many messages go into it.
    pub multi: bool,
    /// Parts of a multi-receive buffer that hold messages.
    pub filled: Vec<(usize, usize)>,
    /// When it was posted.
    pub posted: Order,
    /// When its cancellation was read.
    pub canceled: Option<Order>,
    /// Its end.
    pub outcome: Outcome,
}

/// Where a peek stands.
#[derive(Debug)]
pub enum Stage {
    /// Not answered.
    Waiting,
    /// It claimed a message (its length is known) that is still to be received.
    Claimed(usize),
    /// The claimed message is being received into this buffer, or being dropped.
    Claiming(Option<Buffer>),
    /// Over.
    Ended,
}

/// A peek, and what follows from it.
#[derive(Debug)]
pub struct PeekRecord {
    /// The receiver.
    pub life: LifeId,
    /// What it looks for.
    pub wanted: Wanted,
    /// What is done with what it finds.
    pub how: Peek,
    /// When it was made.
    pub posted: Order,
    /// How far it got.
    pub stage: Stage,
    /// The message it saw, when that was recognised.
    pub saw: Option<OpId>,
}

/// An operation.
#[derive(Debug)]
pub enum Op {
    /// A send.
    Send(Message),
    /// A receive.
    Receive(Receive),
    /// A peek.
    Peek(PeekRecord),
    /// A one-sided operation.
    Remote(Box<Remote>),
}

impl Op {
    /// Whose it is.
    pub fn life(&self) -> LifeId {
        match self {
            Self::Send(message) => message.life,
            Self::Receive(receive) => receive.life,
            Self::Peek(peek) => peek.life,
            Self::Remote(remote) => remote.life,
        }
    }
}

/// Everything asked for and heard in a run.
#[derive(Debug, Default)]
pub struct Model {
    /// The operations, in order of submission.
    pub ops: Vec<Op>,
    /// The lives, in order of opening.
    pub lives: Vec<Life>,
    /// Messages that must still arrive, per node: untagged, tagged.
    pub inbound: Vec<[Vec<OpId>; 2]>,
    /// Pairs of lives that have met: the second acknowledged a message that the first sent after the second had been opened.
    pub met: BTreeSet<(LifeId, LifeId)>,
    /// The regions, in order of opening.
    pub regions: Vec<Region>,
    /// Fences, and what is awaited before each.
    pub fences: Fences,
    order: Order,
}

impl Model {
    /// An empty record of `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        Self { inbound: (0..nodes).map(|_| [Vec::new(), Vec::new()]).collect(), ..Self::default() }
    }

    /// The next point of the order of events.
    pub fn tick(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    /// The message of this name.
    pub fn message(&self, op: OpId) -> Option<&Message> {
        match self.ops.get(op) {
            Some(Op::Send(message)) => Some(message),
            _ => None,
        }
    }

    /// As [`Self::message`].
    pub fn message_mut(&mut self, op: OpId) -> Option<&mut Message> {
        match self.ops.get_mut(op) {
            Some(Op::Send(message)) => Some(message),
            _ => None,
        }
    }

    /// The node a message came from.
    pub fn origin(&self, message: &Message) -> usize {
        self.lives[message.life].node
    }

    /// What took a message: what it accepts, and when it was posted.
    pub fn taker(&self, op: OpId) -> (&Wanted, Order) {
        match &self.ops[op] {
            Op::Receive(receive) => (&receive.wanted, receive.posted),
            Op::Peek(peek) => (&peek.wanted, peek.posted),
            Op::Send(_) | Op::Remote(_) => unreachable!("it takes no message"),
        }
    }

    /// All messages, in order of submission.
    pub fn messages(&self) -> impl Iterator<Item = (OpId, &Message)> {
        self.ops.iter().enumerate().filter_map(|(op, record)| match record {
            Op::Send(message) => Some((op, message)),
            _ => None,
        })
    }

    /// Records a send.
    pub fn add_message(&mut self, message: Message) -> OpId {
        let op = self.ops.len();
        if message.certain {
            self.inbound[message.to][usize::from(message.tag.is_some())].push(op);
        }
        self.ops.push(Op::Send(message));
        op
    }

    /// The life that an operation belongs to.
    pub fn life_of(&self, op: OpId) -> LifeId {
        self.ops[op].life()
    }

    /// Something that `sender` submitted then was acknowledged. If that was since the receiver's present life began, only that life can have done so.
    pub fn meet(&mut self, sender: LifeId, to: usize, submitted: Nanos) {
        let Some(receiver) = self.lives.iter().rposition(|life| life.node == to) else { return };
        if submitted > self.lives[receiver].opened {
            self.met.insert((sender, receiver));
        }
    }

    /// The one-sided operation of this name.
    pub fn remote(&self, op: OpId) -> Option<&Remote> {
        match self.ops.get(op) {
            Some(Op::Remote(remote)) => Some(remote),
            _ => None,
        }
    }

    /// As [`Self::remote`].
    pub fn remote_mut(&mut self, op: OpId) -> Option<&mut Remote> {
        match self.ops.get_mut(op) {
            Some(Op::Remote(remote)) => Some(remote),
            _ => None,
        }
    }

    /// All one-sided operations, in order of submission.
    pub fn remotes(&self) -> impl Iterator<Item = (OpId, &Remote)> {
        self.ops.iter().enumerate().filter_map(|(op, record)| match record {
            Op::Remote(remote) => Some((op, &**remote)),
            _ => None,
        })
    }

    /// The open regions of a node.
    pub fn open_regions(&self, node: usize) -> impl Iterator<Item = (usize, &Region)> {
        let open = move |(_, region): &(usize, &Region)| region.node == node && region.closed.is_none();
        self.regions.iter().enumerate().filter(open)
    }

    /// A message need not arrive (any more).
    pub fn expect_no_longer(&mut self, op: OpId) {
        let Some(message) = self.message(op) else { return };
        let list = (message.to, usize::from(message.tag.is_some()));
        let list = &mut self.inbound[list.0][list.1];
        if let Some(index) = list.iter().position(|waiting| *waiting == op) {
            list.remove(index);
        }
    }

    /// A life ends: its operations are abandoned, and what was on its way from or to it may or may not arrive.
    pub fn end_life(&mut self, life: LifeId) {
        let node = self.lives[life].node;
        self.lives[life].ended = true;
        for kind in &mut self.inbound[node] {
            kind.clear();
        }
        let lives = &self.lives;
        for record in &mut self.ops {
            let (from, to, certain) = match record {
                Op::Send(message) => (message.life, message.to, &mut message.certain),
                Op::Remote(remote) => (remote.life, remote.to, &mut remote.certain),
                _ => continue,
            };
            if to == node || lives[from].node == node {
                *certain = false;
            }
        }
        for node in 0..self.inbound.len() {
            for kind in 0..2 {
                let mut list = core::mem::take(&mut self.inbound[node][kind]);
                list.retain(|op| {
                    self.message(*op).is_some_and(|message| message.certain && message.taken.is_none())
                });
                self.inbound[node][kind] = list;
            }
        }
    }
}
