//! What the applications do to each other's memory: draws one-sided operations and submits them.

use core::ops::Range;

use rdgram_engine::{
    Access, AtomicArgs, AtomicOp, Datatype, OpFlags, RemoteSlice, RmaKind, RmaOp, SubmitError,
    atomic_is_defined,
};

use crate::arithmetic::apply;
use crate::buffer::Buffer;
use crate::model::{LifeId, Model, Op, OpId, Outcome, context_of};
use crate::region::{GAP, Layout, Numbers, Piece, Region, WORDS};
use crate::region_workload::BOTH;
use crate::remote::{Action, Atomic, Remote, Spot};
use crate::remote_oracle::counting_type;
use crate::world::World;

/// One-sided operations of a node that have not ended, at most.
const REMOTES_MAX: usize = 64;

/// An operation on its way to being submitted.
struct Draft {
    to: usize,
    action: Action,
    pieces: Vec<Piece>,
    flags: OpFlags,
}

impl World {
    /// One operation on somebody's memory.
    pub(crate) fn do_remote(&mut self, node: usize) -> Result<(), String> {
        if self.remotes_pending[node] >= REMOTES_MAX {
            return Ok(());
        }
        let known: Vec<usize> =
            (0..self.nodes.len()).filter(|peer| self.nodes[node].peers[*peer].is_some()).collect();
        let to = if self.rng.chance(100_000) { node } else { self.rng.pick(&known) };
        let regions: Vec<usize> = self.model.open_regions(to).map(|(index, _)| index).collect();
        if regions.is_empty() {
            return Ok(());
        }
        let region = self.rng.pick(&regions);
        let access = self.model.regions[region].access;
        let draft = match self.rng.weighted(&[40, 30, 20, 10]) {
            0 if access.contains(Access::REMOTE_WRITE) => self.draft_write(node, region),
            1 if access.contains(Access::REMOTE_READ) => self.draft_read(node, region),
            2 if access == BOTH => return self.do_atomics(node, region),
            _ => self.draft_refused(node, region),
        };
        match draft.action {
            Action::Atomic(_) => self.submit_atomic(node, draft),
            _ => self.submit_rma(node, draft),
        }
    }

    /// Atomics in a row, so that some of them are under way together.
    fn do_atomics(&mut self, node: usize, region: usize) -> Result<(), String> {
        for _ in 0..self.rng.size(1..=5) {
            let draft = self.draft_atomic(node, region);
            self.submit_atomic(node, draft)?;
        }
        Ok(())
    }

    fn draft_write(&mut self, node: usize, region: usize) -> Draft {
        let (mut flags, injected) = self.send_flags();
        let length = self.length(node);
        let length = if injected { length.min(self.profile.configs[node].inject_max) } else { length };
        if injected && flags.contains(OpFlags::COMPLETION) && self.rng.chance(500_000) {
            flags |= OpFlags::INJECT_COMPLETE;
        }
        let lane = self.model.regions[region].layout.lane(node);
        let mut pieces = self.pieces(region, &lane, length);
        if !injected {
            self.elsewhere(&mut pieces, node, region, Access::REMOTE_WRITE);
        }
        let data = self.rng.chance(350_000);
        Draft { to: self.model.regions[region].node, action: Action::Write { data }, pieces, flags }
    }

    fn draft_read(&mut self, node: usize, region: usize) -> Draft {
        let (flags, injected) = self.send_flags();
        let flags = if injected { OpFlags::COMPLETION } else { flags };
        let length = self.length(node);
        let layout = self.model.regions[region].layout;
        let zone = if self.rng.chance(500_000) {
            layout.fixed()
        } else {
            layout.lane(self.rng.index(self.nodes.len()))
        };
        let mut pieces = self.pieces(region, &zone, length);
        self.elsewhere(&mut pieces, node, region, Access::REMOTE_READ);
        Draft { to: self.model.regions[region].node, action: Action::Read, pieces, flags }
    }

    /// So many bytes of a zone (or as many as there are), in one or several pieces of it that do not overlap, in any order.
    fn pieces(&mut self, region: usize, zone: &Range<usize>, length: usize) -> Vec<Piece> {
        let length = length.min(zone.len());
        let count = if self.rng.chance(250_000) { self.rng.size(2..=5).min(length.max(1)) } else { 1 };
        let mut cuts: Vec<usize> = (1..count).map(|_| self.rng.size(1..=length - 1)).collect();
        let slack = zone.len() - length;
        let mut gaps: Vec<usize> = (0..count).map(|_| self.rng.index(slack + 1)).collect();
        gaps.sort_unstable();
        cuts.push(0);
        cuts.push(length);
        cuts.sort_unstable();
        let (key, base) = (self.model.regions[region].key, self.model.regions[region].base);
        let mut pieces: Vec<Piece> = (0..cuts.len() - 1)
            .zip(gaps)
            .map(|(index, gap)| Piece {
                key,
                offset: base + (zone.start + gap + cuts[index]) as u64,
                length: cuts[index + 1] - cuts[index],
            })
            .filter(|piece| piece.length > 0 || length == 0)
            .collect();
        if pieces.len() > 1 && self.rng.chance(500_000) {
            let last = pieces.len() - 1;
            pieces.swap(0, last);
        }
        pieces
    }

    /// Adds a piece of another region of the same target, now and then.
    fn elsewhere(&mut self, pieces: &mut Vec<Piece>, node: usize, region: usize, access: Access) {
        if pieces[0].length == 0 || !self.rng.chance(60_000) {
            return;
        }
        let to = self.model.regions[region].node;
        let other = self
            .model
            .open_regions(to)
            .find(|(index, other)| *index != region && other.access.contains(access));
        let Some((other, lane)) = other.map(|(index, other)| (index, other.layout.lane(node))) else {
            return;
        };
        let length = self.rng.size(1..=2_000);
        pieces.extend(self.pieces(other, &lane, length));
    }

    fn draft_atomic(&mut self, node: usize, region: usize) -> Draft {
        let flags = self.atomic_flags();
        let (to, key, base) = {
            let region = &self.model.regions[region];
            (region.node, region.key, region.base)
        };
        let layout = self.model.regions[region].layout;
        let (atomic, range) = match self.rng.weighted(&[60, 25, 15]) {
            0 => self.draw_numbers(node, &layout),
            1 => {
                let word = self.rng.index(WORDS);
                (self.draw_count(word), layout.counter(word))
            }
            _ => {
                let word = self.rng.index(WORDS);
                (self.draw_exchange(region, word), layout.exchange(word))
            }
        };
        let length = if let Spot::Lane(..) = atomic.spot { range.len() } else { 8 };
        let pieces = vec![Piece { key, offset: base + range.start as u64, length }];
        Draft { to, action: Action::Atomic(atomic), pieces, flags }
    }

    fn atomic_flags(&mut self) -> OpFlags {
        let (mut flags, _) = self.send_flags();
        if flags.contains(OpFlags::COMPLETION | OpFlags::INJECT) && self.rng.chance(500_000) {
            flags |= OpFlags::INJECT_COMPLETE;
        }
        flags
    }

    /// Any operation on the initiator's own numbers.
    fn draw_numbers(&mut self, node: usize, layout: &Layout) -> (Atomic, Range<usize>) {
        let numbers =
            [Numbers::Integers, Numbers::Singles, Numbers::Doubles][self.rng.weighted(&[60, 20, 20])];
        let of_these = |datatype: &Datatype| match datatype {
            Datatype::Float | Datatype::FloatComplex => numbers == Numbers::Singles,
            Datatype::Double | Datatype::DoubleComplex => numbers == Numbers::Doubles,
            // Rust has no such numbers to judge them by: the engine's own tests do.
            Datatype::LongDouble | Datatype::LongDoubleComplex => false,
            _ => numbers == Numbers::Integers,
        };
        let datatypes: Vec<Datatype> = Datatype::ALL.into_iter().filter(of_these).collect();
        let datatype = self.rng.pick(&datatypes);
        let operations: Vec<AtomicOp> =
            AtomicOp::ALL.into_iter().filter(|operation| atomic_is_defined(*operation, datatype)).collect();
        let operation = self.rng.pick(&operations);
        let lane = layout.numbers(node, numbers);
        let most = lane.len() / datatype.size();
        let count = match self.rng.weighted(&[50, 40, 10]) {
            0 => 1,
            1 => self.rng.size(1..=most.min(8)),
            _ => most,
        };
        // Mostly where others have been: only what overlaps shows an order.
        let places = most - count + 1;
        let near = if self.rng.chance(750_000) { places.min(4) } else { places };
        let at = self.rng.index(near) * datatype.size();
        let bytes = count * datatype.size();
        let fetch = operation == AtomicOp::Read || operation.compares() || self.rng.chance(500_000);
        let operand = if operation == AtomicOp::Read { Vec::new() } else { self.values(datatype, count) };
        let compare = if operation.compares() { self.values(datatype, count) } else { Vec::new() };
        let spot = Spot::Lane(numbers, at);
        let atomic =
            Atomic { operation, datatype, operand, compare, fetch, spot, expected: None, fetched: None };
        (atomic, lane.start + at..lane.start + at + bytes)
    }

    /// Values of a datatype: few different ones, so that comparisons meet equals, and any bits where bits are all that counts.
    fn values(&mut self, datatype: Datatype, count: usize) -> Vec<u8> {
        let wild = self.rng.chance(400_000);
        let mut bytes = Vec::with_capacity(count * datatype.size());
        for _ in 0..count {
            let small = self.rng.pick(&[-2.0_f64, -1.0, 0.0, 0.0, 0.5, 1.0, 1.0, 3.0]);
            #[allow(clippy::cast_possible_truncation, reason = "exact in both")]
            let single = (small as f32).to_le_bytes();
            match datatype {
                Datatype::Float => bytes.extend(single),
                Datatype::Double => bytes.extend(small.to_le_bytes()),
                Datatype::FloatComplex => bytes.extend([single, single].concat()),
                Datatype::DoubleComplex => {
                    bytes.extend([small.to_le_bytes(), 1.0_f64.to_le_bytes()].concat())
                }
                _ if wild => {
                    let word = [self.rng.bits().to_le_bytes(), self.rng.bits().to_le_bytes()].concat();
                    bytes.extend(&word[..datatype.size()]);
                }
                _ => {
                    let small = self.rng.pick(&[0_i8, 0, 1, 2, -1]);
                    bytes.extend(&i128::from(small).to_le_bytes()[..datatype.size()]);
                }
            }
        }
        bytes
    }

    fn draw_count(&mut self, word: usize) -> Atomic {
        let datatype = counting_type(word);
        let operand =
            if datatype == Datatype::Double { 1.0_f64.to_le_bytes() } else { 1_u64.to_le_bytes() }.to_vec();
        Atomic {
            operation: AtomicOp::Sum,
            datatype,
            operand,
            compare: Vec::new(),
            fetch: self.rng.chance(700_000),
            spot: Spot::Counter(word),
            expected: None,
            fetched: None,
        }
    }

    /// Puts a value that nobody else puts there, unconditionally or for one that may be there.
    fn draw_exchange(&mut self, region: usize, word: usize) -> Atomic {
        let name = self.model.ops.len() as u64 + 1;
        let spot = Spot::Exchange(word);
        let others = self.model.regions[region].touched_by.iter().rev().take(40);
        let at_word =
            others.filter_map(|op| self.model.remote(*op)?.atomic()).find(|atomic| atomic.spot == spot);
        let guess = at_word.map_or_else(|| vec![0; 8], |atomic| atomic.operand.clone());
        let compares = self.rng.chance(600_000);
        Atomic {
            operation: if compares { AtomicOp::Cswap } else { AtomicOp::Write },
            datatype: Datatype::Uint64,
            operand: name.to_le_bytes().to_vec(),
            compare: if compares { guess } else { Vec::new() },
            fetch: true,
            spot,
            expected: None,
            fetched: None,
        }
    }

    /// An operation that names what is not there, or not permitted.
    fn draft_refused(&mut self, node: usize, index: usize) -> Draft {
        let (flags, injected) = self.send_flags();
        let flags = if injected { OpFlags::COMPLETION } else { flags };
        let Region { key, base, layout, node: to, .. } = self.model.regions[index];
        let size = layout.size() as u64;
        let near = [1, 8, 100, 4_000][self.rng.index(4)];
        // Beyond the last gap, which shows what is written all the same; or where nobody's key leads.
        let (key, offset, length) = match self.rng.weighted(&[20, 20, 15, 10, 35]) {
            0 => (key, base + size - near.min(GAP as u64 - 1), usize::try_from(near).unwrap_or(1) + 1),
            1 => (key, base + size - GAP as u64, GAP + self.rng.pick(&[1, 8, 2_000])),
            2 => (key, base.wrapping_sub(near), 8),
            3 => (key, u64::MAX - self.rng.below(8), self.rng.pick(&[8, 3_000])),
            _ => (key ^ self.rng.pick(&[1 << 32, 1, u64::MAX]), base + layout.lane(node).start as u64, 64),
        };
        let length = length.max(8);
        let mut pieces = vec![Piece { key, offset, length }];
        let action = match self.rng.index(3) {
            0 => Action::Write { data: self.rng.chance(500_000) },
            1 => Action::Read,
            _ => {
                pieces[0] =
                    Piece { key, offset: offset.max(offset.wrapping_add(length as u64 - 8)), length: 8 };
                let (operation, datatype) = (AtomicOp::Sum, Datatype::Uint8);
                let operand = vec![1; 8];
                let fetch = self.rng.chance(500_000);
                let (compare, spot) = (Vec::new(), Spot::Nowhere);
                Action::Atomic(Atomic {
                    operation,
                    datatype,
                    operand,
                    compare,
                    fetch,
                    spot,
                    expected: None,
                    fetched: None,
                })
            }
        };
        let draft = Draft { to, action, pieces, flags };
        self.refusable(node, index, draft)
    }

    /// In a region without the right the place matters no more; and a bad piece may stand behind a good one.
    fn refusable(&mut self, node: usize, index: usize, mut draft: Draft) -> Draft {
        let Region { key, base, layout, access, .. } = self.model.regions[index];
        let needed = if draft.action.reads() { Access::REMOTE_READ } else { Access::REMOTE_WRITE };
        let denied = !access.contains(needed) && self.rng.chance(600_000);
        if denied {
            let offset = base + layout.lane(node).start as u64;
            draft.pieces[0] = Piece { key, offset, ..draft.pieces[0] };
        }
        let named_elsewhere = draft.pieces[0].key != key;
        match &mut draft.action {
            // Where it is counted, should the key come to be another region's.
            Action::Atomic(atomic) if denied || named_elsewhere => {
                let fetch = atomic.fetch;
                draft.pieces[0] =
                    Piece { offset: base + layout.counter(0).start as u64, length: 8, ..draft.pieces[0] };
                *atomic = Atomic { fetch, ..self.draw_count(0) };
            }
            Action::Write { .. } | Action::Read if !denied && self.rng.chance(250_000) => {
                let mut pieces = self.pieces(index, &layout.lane(node), 500);
                pieces.append(&mut draft.pieces);
                draft.pieces = pieces;
            }
            _ => {}
        }
        draft
    }

    fn submit_rma(&mut self, node: usize, mut draft: Draft) -> Result<(), String> {
        let op = self.model.ops.len();
        self.fence_now_and_then(&mut draft);
        let length = draft.pieces.iter().map(|piece| piece.length).sum();
        let cuts = if self.rng.chance(300_000) { self.rng.size(2..=8) } else { 1 };
        let mut buffer = Buffer::new(length, cuts, &mut self.rng);
        let write = matches!(draft.action, Action::Write { .. });
        // Writes are ordered by nothing but fences.
        if write && overlaps_open_write(&self.model, self.nodes[node].life, &draft.pieces) {
            draft.flags |= OpFlags::FENCE;
        }
        if write {
            buffer.fill(op as u64);
        }
        let data = matches!(draft.action, Action::Write { data: true }).then_some(op as u64);
        let (slices, remote) = (buffer.slices(), remote_slices(&draft.pieces));
        let rma = RmaOp {
            kind: if write { RmaKind::Write } else { RmaKind::Read },
            destination: self.nodes[node].peers[draft.to].ok_or("a peer that was not inserted")?,
            slices: &slices,
            remote: &remote,
            data,
            context: context_of(op),
            flags: draft.flags,
        };
        let submission = self.record(node, &draft, length);
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let result = process.domain.rma(process.ep, &rma);
        let buffer = if draft.flags.contains(OpFlags::INJECT) {
            self.oracle.retire(Some(buffer))?;
            None
        } else {
            Some(buffer)
        };
        self.accept(node, op, result, buffer, submission)
    }

    fn submit_atomic(&mut self, node: usize, mut draft: Draft) -> Result<(), String> {
        let op = self.model.ops.len();
        self.fence_now_and_then(&mut draft);
        let Action::Atomic(atomic) = draft.action.clone() else { return Ok(()) };
        let length = draft.pieces[0].length;
        let lend = |contents: &[u8], rng: &mut crate::rng::Rng| {
            let mut buffer = Buffer::new(contents.len(), if rng.chance(200_000) { 3 } else { 1 }, rng);
            buffer.put(0, contents);
            buffer
        };
        let (operand, compare) = (lend(&atomic.operand, &mut self.rng), lend(&atomic.compare, &mut self.rng));
        let cuts = if self.rng.chance(200_000) { 3 } else { 1 };
        let result = atomic.fetch.then(|| Buffer::new(length, cuts, &mut self.rng));
        let sink = result.as_ref().map(Buffer::slices);
        let args = AtomicArgs {
            destination: self.nodes[node].peers[draft.to].ok_or("a peer that was not inserted")?,
            operation: atomic.operation,
            datatype: atomic.datatype,
            operands: &operand.slices(),
            compare: &compare.slices(),
            result: sink.as_deref(),
            remote: remote_slices(&draft.pieces)[0],
            context: context_of(op),
            flags: draft.flags,
        };
        let submission = self.record(node, &draft, length);
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        let outcome = process.domain.atomic(process.ep, &args);
        // The request holds copies of its operands.
        self.oracle.retire(Some(operand))?;
        self.oracle.retire(Some(compare))?;
        self.accept(node, op, outcome, result, submission)
    }

    fn fence_now_and_then(&mut self, draft: &mut Draft) {
        if self.rng.chance(60_000) {
            draft.flags |= OpFlags::FENCE;
        }
    }

    /// What is known of an operation before it is submitted: it may end within the call.
    fn record(&mut self, node: usize, draft: &Draft, length: usize) -> Remote {
        let submitted = self.model.tick();
        let life = self.nodes[node].life;
        let mut remote = Remote {
            life,
            to: draft.to,
            action: draft.action.clone(),
            pieces: draft.pieces.clone(),
            length,
            flags: draft.flags,
            buffer: None,
            certain: self.is_certain(node, draft.to),
            outcome: Outcome::Pending,
            submitted,
            submitted_at: self.now(),
            ended: None,
            regions: Vec::new(),
            astray: false,
            reported: Vec::new(),
            epoch: 0,
        };
        for piece in &draft.pieces {
            let open = self.model.open_regions(draft.to);
            let found = open
                .filter(|(_, region)| {
                    region.key == piece.key && region.resolve(piece, remote.access()).is_ok()
                })
                .map(|(index, _)| index)
                .next();
            if let Some(index) = found.filter(|index| !remote.regions.contains(index)) {
                remote.regions.push(index);
            }
        }
        remote
    }

    /// Takes an accepted operation into the model.
    fn accept(
        &mut self,
        node: usize,
        op: OpId,
        result: Result<(), SubmitError>,
        buffer: Option<Buffer>,
        mut remote: Remote,
    ) -> Result<(), String> {
        self.note(|| {
            format!(
                "node {node} submits {op} to {}: {:?} {:?} {:?}: {result:?}",
                remote.to, remote.action, remote.pieces, remote.flags
            )
        });
        match result {
            Ok(()) => {}
            Err(SubmitError::Again) => return self.oracle.retire(buffer),
            Err(error) => return Err(format!("node {node}: {remote:?} refused: {error:?}")),
        }
        remote.buffer = buffer;
        remote.epoch = if remote.to == node {
            0
        } else {
            let fenced = remote.flags.contains(OpFlags::FENCE);
            self.model.fences.submit(remote.life, remote.to, fenced, remote.is_awaited())
        };
        self.remotes_pending[node] += usize::from(remote.flags.contains(OpFlags::COMPLETION));
        self.accepted += 1;
        for index in remote.regions.clone() {
            let region = &mut self.model.regions[index];
            region.touched_by.push(op);
            execute(region, node, &mut remote);
        }
        self.model.ops.push(Op::Remote(Box::new(remote)));
        Ok(())
    }
}

fn remote_slices(pieces: &[Piece]) -> Vec<RemoteSlice> {
    let slice =
        |piece: &Piece| RemoteSlice { key: piece.key, offset: piece.offset, length: piece.length as u64 };
    pieces.iter().map(slice).collect()
}

/// Lets an atomic act on what the initiator's lane has to hold.
fn execute(region: &mut Region, initiator: usize, remote: &mut Remote) {
    let certain = remote.certain;
    let length = remote.length;
    let Some(atomic) = remote.atomic_mut() else { return };
    let Spot::Lane(numbers, at) = atomic.spot else { return };
    let first = region.layout.numbers(initiator, Numbers::Integers).start;
    let start = region.layout.numbers(initiator, numbers).start - first + at;
    let lane = &mut region.lanes[initiator];
    lane.unknown |= !certain;
    let target = &mut lane.bytes[start..start + length];
    let old = apply(atomic.operation, atomic.datatype, target, &atomic.operand, &atomic.compare);
    atomic.expected = Some(old);
}

/// A write of this initiator to the same bytes may still be under way.
fn overlaps_open_write(model: &Model, life: LifeId, pieces: &[Piece]) -> bool {
    model.remotes().any(|(_, remote)| {
        let same = remote.life == life && remote.is_open() && matches!(remote.action, Action::Write { .. });
        same && remote.pieces.iter().any(|one| {
            pieces.iter().any(|other| {
                one.key == other.key
                    && one.offset < other.offset.saturating_add(other.length as u64)
                    && other.offset < one.offset.saturating_add(one.length as u64)
            })
        })
    })
}
