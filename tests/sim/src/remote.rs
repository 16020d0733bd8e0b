//! One-sided operations as the applications know them: a record each, and what follows from the records about regions. Plain data and look-ups; the judgement is in `remote_oracle`.

use rdgram_engine::{Access, AtomicOp, Cause, Datatype, OpFlags};

use crate::buffer::Buffer;
use crate::model::{LifeId, Model, OpId, Order, Outcome};
use crate::net::Nanos;
use crate::region::{Numbers, Piece, Stroke};

/// Where an atomic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The initiator's own lane, at this offset of it.
    Lane(Numbers, usize),
    /// A word that everybody adds to.
    Counter(usize),
    /// A word that everybody exchanges.
    Exchange(usize),
    /// Where it must be refused.
    Nowhere,
}

/// An atomic.
#[derive(Clone, Debug)]
pub struct Atomic {
    /// What it computes.
    pub operation: AtomicOp,
    /// On what.
    pub datatype: Datatype,
    /// Its operands.
    pub operand: Vec<u8>,
    /// Its comparands.
    pub compare: Vec<u8>,
    /// Old values come back.
    pub fetch: bool,
    /// Where it goes.
    pub spot: Spot,
    /// The old values that it has to fetch, if that is determined.
    pub expected: Option<Vec<u8>>,
    /// The old values that it fetched.
    pub fetched: Option<Vec<u8>>,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Action {
    /// A write, with remote CQ data that is its name.
    Write {
        /// Whether it has any.
        data: bool,
    },
    /// A read.
    Read,
    /// An atomic.
    Atomic(Atomic),
}

impl Action {
    /// Counters of the target count it as a read.
    pub fn reads(&self) -> bool {
        match self {
            Self::Write { .. } => false,
            Self::Read => true,
            Self::Atomic(atomic) => atomic.fetch,
        }
    }
}

/// A one-sided operation.
#[derive(Debug)]
pub struct Remote {
    /// The initiator.
    pub life: LifeId,
    /// The target.
    pub to: usize,
    /// What it does.
    pub action: Action,
    /// The target's memory, as named.
    pub pieces: Vec<Piece>,
    /// Bytes.
    pub length: usize,
    /// As submitted.
    pub flags: OpFlags,
    /// Source, sink or old values, until it has ended.
    pub buffer: Option<Buffer>,
    /// It must end as if nothing was restarted: neither initiator nor target has gone away.
    pub certain: bool,
    /// Its end.
    pub outcome: Outcome,
    /// When it was submitted.
    pub submitted: Order,
    /// The same in virtual time.
    pub submitted_at: Nanos,
    /// When its end was read.
    pub ended: Option<Order>,
    /// Regions that it may have touched.
    pub regions: Vec<usize>,
    /// One of them was opened while it was under way.
    pub astray: bool,
    /// Lives of the target that reported its remote CQ data.
    pub reported: Vec<LifeId>,
    /// How many fences to the same peer came before it or with it.
    pub epoch: usize,
}

/// Whether something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It did, once, in the region that it named.
    Certain,
    /// Perhaps, wholly or in part.
    Unknown,
}

impl Remote {
    /// Its completion says only that the buffer may be used again.
    pub fn is_early(&self) -> bool {
        let copied = match &self.action {
            Action::Write { .. } => self.flags.contains(OpFlags::INJECT) && self.length > 0,
            Action::Read => false,
            Action::Atomic(atomic) => !atomic.fetch,
        };
        copied && self.flags.contains(OpFlags::INJECT_COMPLETE | OpFlags::COMPLETION)
    }

    /// An end that means more than that will be heard of.
    pub fn is_awaited(&self) -> bool {
        self.flags.contains(OpFlags::COMPLETION) && !self.is_early()
    }

    /// It may still act on its target.
    pub fn is_open(&self) -> bool {
        self.outcome == Outcome::Pending || (self.outcome == Outcome::Done && self.is_early())
    }

    /// What the target's region must permit.
    pub fn access(&self) -> Access {
        match &self.action {
            Action::Write { .. } => Access::REMOTE_WRITE,
            Action::Read => Access::REMOTE_READ,
            Action::Atomic(atomic) => {
                let read = if atomic.fetch { Access::REMOTE_READ } else { Access::empty() };
                let write =
                    if atomic.operation == AtomicOp::Read { Access::empty() } else { Access::REMOTE_WRITE };
                read | write
            }
        }
    }

    /// As [`Action::reads`].
    pub fn reads(&self) -> bool {
        self.action.reads()
    }

    /// The atomic, if it is one.
    pub fn atomic(&self) -> Option<&Atomic> {
        match &self.action {
            Action::Atomic(atomic) => Some(atomic),
            _ => None,
        }
    }

    /// As [`Self::atomic`].
    pub fn atomic_mut(&mut self) -> Option<&mut Atomic> {
        match &mut self.action {
            Action::Atomic(atomic) => Some(atomic),
            _ => None,
        }
    }
}

/// What may become of a piece.
#[derive(Debug, Default)]
pub struct Prospects {
    /// It can succeed.
    pub success: bool,
    /// Why it can be refused.
    pub causes: Vec<Cause>,
}

impl Model {
    /// What may have become of a piece of an operation between its submission and now: what each region of that key says, and whether there was always one.
    pub fn prospects(&self, remote: &Remote, piece: &Piece) -> Prospects {
        let mut prospects = Prospects::default();
        let write = matches!(remote.action, Action::Write { .. });
        if write && piece.offset.checked_add(piece.length as u64).is_none() {
            // No packet can name it: the initiator itself refuses.
            prospects.causes.push(Cause::OutOfRange);
            return prospects;
        }
        let mut always = false;
        for region in self.regions_for(remote.to, piece.key, remote.submitted) {
            always |= region.opened < remote.submitted && region.closed.is_none();
            match region.resolve(piece, remote.access()) {
                Ok(_) => prospects.success = true,
                Err(cause) => prospects.causes.push(cause),
            }
        }
        if !always {
            prospects.causes.push(Cause::BadKey);
        }
        prospects
    }

    /// The regions of a node with this key that were open at some time since then.
    pub fn regions_for(
        &self,
        node: usize,
        key: u64,
        since: Order,
    ) -> impl Iterator<Item = &crate::region::Region> {
        self.regions.iter().filter(move |region| {
            region.node == node && region.key == key && region.closed.is_none_or(|closed| closed > since)
        })
    }

    /// Whether an operation is known to have acted on its region. `at_the_end`: what was never heard of has succeeded, if nothing stood in its way.
    pub fn fate(&self, remote: &Remote, at_the_end: bool) -> Fate {
        if remote.regions.is_empty() || self.is_ambiguous(remote) {
            return Fate::Unknown;
        }
        let known = remote.outcome == Outcome::Done && !remote.is_early();
        let assumed = at_the_end
            && remote.certain
            && !remote.astray
            && matches!(remote.outcome, Outcome::Done | Outcome::Pending)
            && remote.regions.iter().all(|region| self.regions[*region].closed.is_none());
        if known || assumed { Fate::Certain } else { Fate::Unknown }
    }

    /// Two regions had the key that it names: either may have been meant.
    pub fn is_ambiguous(&self, remote: &Remote) -> bool {
        let keys = remote.regions.iter().map(|region| self.regions[*region].key);
        keys.clone().enumerate().any(|(index, key)| keys.clone().skip(index + 1).any(|other| other == key))
    }

    /// What the writes among `ops` (in order of submission) put into a region, newest first. `certain` says which are known to be there.
    pub fn strokes(&self, region: usize, certain: impl Fn(OpId, &Remote) -> bool) -> Vec<Stroke> {
        let mut strokes = Vec::new();
        let this = &self.regions[region];
        for op in this.touched_by.iter().rev().copied() {
            let Some(remote) = self.remote(op) else { continue };
            let Action::Write { .. } = remote.action else { continue };
            let certain = certain(op, remote);
            let mut from = 0;
            for piece in &remote.pieces {
                if piece.key == this.key {
                    if let Ok(start) = this.resolve(piece, Access::REMOTE_WRITE) {
                        strokes.push(Stroke { op, range: start..start + piece.length, from, certain });
                    } else if let Some((range, cut)) = this.part_inside(piece) {
                        // Refused, and yet what of its packets lies inside may have been placed (protocol.md, section 7).
                        strokes.push(Stroke { op, range, from: from + cut, certain: false });
                    }
                }
                from += piece.length;
            }
        }
        strokes
    }
}
