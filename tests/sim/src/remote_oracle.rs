//! Judges one-sided operations: what their completions promise when they are read, and what the memory of every region holds when all is over.

use std::collections::BTreeSet;

use rdgram_engine::{AtomicOp, Cause, Completion, CompletionFlags, Datatype, Failure, OpFlags};

use crate::arithmetic::same;
use crate::buffer::Buffer;
use crate::model::{LifeId, Model, OpId, Outcome};
use crate::oracle::{Oracle, Reader, pending};
use crate::region::{Numbers, Region, WORDS, judge};
use crate::remote::{Action, Atomic, Fate, Remote, Spot};

/// The datatype that everybody counts with in a word.
pub fn counting_type(word: usize) -> Datatype {
    [Datatype::Uint64, Datatype::Double][word % 2]
}

impl Oracle {
    /// An operation has completed.
    pub(crate) fn remote_success(
        &mut self,
        model: &mut Model,
        op: OpId,
        completion: &Completion,
    ) -> Result<(), String> {
        let now = model.tick();
        let Some(remote) = model.remote_mut(op) else { unreachable!("checked by the caller") };
        pending(remote.outcome)?;
        let expected = match &remote.action {
            Action::Write { .. } => CompletionFlags::RMA | CompletionFlags::WRITE,
            Action::Read => CompletionFlags::RMA | CompletionFlags::READ,
            Action::Atomic(atomic) if atomic.fetch => CompletionFlags::ATOMIC | CompletionFlags::READ,
            Action::Atomic(_) => CompletionFlags::ATOMIC | CompletionFlags::WRITE,
        };
        if completion.flags != expected {
            return Err(format!("flags {:?} instead of {expected:?}", completion.flags));
        }
        if !remote.flags.contains(OpFlags::COMPLETION) {
            return Err("a completion that was not asked for".into());
        }
        remote.outcome = Outcome::Done;
        remote.ended = Some(now);
        let buffer = remote.buffer.take();
        if remote.is_early() {
            return self.retire(buffer);
        }
        let (life, to, epoch, submitted_at) = (remote.life, remote.to, remote.epoch, remote.submitted_at);
        if model.lives[life].node != to {
            model.fences.end(life, to, epoch, true)?;
            model.meet(life, to, submitted_at);
        }
        judge_done(model, op, buffer.as_ref())?;
        if let (Some(buffer), Some(remote)) = (&buffer, model.remote_mut(op)) {
            let length = remote.length;
            if let Some(atomic) = remote.atomic_mut() {
                atomic.fetched = Some(buffer.gather(0..length));
            }
        }
        judge_fetched(model, op)?;
        self.retire(buffer)
    }

    /// An operation has failed.
    pub(crate) fn remote_failure(
        &mut self,
        model: &mut Model,
        op: OpId,
        failure: &Failure,
    ) -> Result<(), String> {
        let now = model.tick();
        let Some(remote) = model.remote(op) else { unreachable!("checked by the caller") };
        pending(remote.outcome)?;
        let refused = matches!(failure.cause, Cause::BadKey | Cause::AccessDenied | Cause::OutOfRange);
        if refused {
            let possible: Vec<Cause> =
                remote.pieces.iter().flat_map(|piece| model.prospects(remote, piece).causes).collect();
            if !possible.contains(&failure.cause) {
                return Err(format!("refused with {:?}: possible is only {possible:?}", failure.cause));
            }
        } else if !(Self::is_of_peer(failure.cause) && self.restarts && !remote.certain) {
            return Err(format!("failed with {:?} for no reason", failure.cause));
        }
        let (life, to, epoch) = (remote.life, remote.to, remote.epoch);
        if model.lives[life].node != to && remote.is_awaited() {
            model.fences.end(life, to, epoch, false)?;
        }
        let Some(remote) = model.remote_mut(op) else { unreachable!("found above") };
        remote.outcome = Outcome::Failed(failure.cause);
        remote.ended = Some(now);
        let buffer = remote.buffer.take();
        let lost = remote.atomic().is_some();
        for region in remote.regions.clone().into_iter().filter(|_| lost) {
            let initiator = model.lives[life].node;
            model.regions[region].lanes[initiator].unknown = true;
        }
        self.retire(buffer)
    }

    /// A target was told of a write by its remote CQ data.
    pub(crate) fn remote_data(
        &mut self,
        model: &mut Model,
        reader: Reader,
        completion: &Completion,
    ) -> Result<(), String> {
        let flags = CompletionFlags::RMA | CompletionFlags::REMOTE_WRITE | CompletionFlags::REMOTE_CQ_DATA;
        let op = OpId::try_from(completion.data).map_err(|_| "remote CQ data of nothing")?;
        let Some(remote) = model.remote(op) else {
            return Err(format!("remote CQ data of {op}, which is no write"));
        };
        let origin = model.lives[remote.life].node;
        let fits = completion.flags == flags
            && completion.context == 0
            && matches!(remote.action, Action::Write { data: true })
            && remote.to == reader.node
            && remote.length == completion.length
            && reader.source.is_none_or(|source| source == origin)
            && !remote.reported.contains(&reader.life);
        if !fits {
            return Err(format!("{completion:?} to {reader:?} is not of {remote:?}"));
        }
        placed(model, op, remote)?;
        if let Some(remote) = model.remote_mut(op) {
            remote.reported.push(reader.life);
        }
        Ok(())
    }
}

/// A success had to be possible, and its bytes are where they belong.
fn judge_done(model: &Model, op: OpId, buffer: Option<&Buffer>) -> Result<(), String> {
    let Some(remote) = model.remote(op) else { unreachable!("a one-sided operation") };
    if let Some(piece) = remote.pieces.iter().find(|piece| !model.prospects(remote, piece).success) {
        return Err(format!("succeeded although {piece:?} had to be refused"));
    }
    match (&remote.action, buffer) {
        (Action::Write { .. }, _) => placed(model, op, remote),
        (Action::Read, Some(buffer)) => judge_read(model, remote, buffer),
        (Action::Atomic(_), Some(buffer)) if !buffer.is_untouched_outside(0..remote.length) => {
            Err("bytes outside the result were written".into())
        }
        _ => Ok(()),
    }
}

/// All bytes of a write are in its regions, or newer ones are.
fn placed(model: &Model, op: OpId, remote: &Remote) -> Result<(), String> {
    if model.is_ambiguous(remote) {
        return Ok(());
    }
    for region in &remote.regions {
        let this = &model.regions[*region];
        let Some(memory) = &this.buffer else { continue };
        let strokes = model.strokes(*region, |other, _| other == op);
        for stroke in strokes.iter().filter(|stroke| stroke.op == op) {
            let found = memory.gather(stroke.range.clone());
            judge(&found, stroke.range.start, &strokes, |at| this.initial(at))?;
        }
    }
    Ok(())
}

/// Each piece that was read is what one of the regions it may have come from can have held.
fn judge_read(model: &Model, remote: &Remote, buffer: &Buffer) -> Result<(), String> {
    if !buffer.gaps_are_intact() {
        return Err("bytes outside the buffer were written".into());
    }
    let mut from = 0;
    for piece in &remote.pieces {
        let found = buffer.gather(from..from + piece.length);
        from += piece.length;
        let mut verdict = Err("read from nowhere".to_owned());
        for (index, region) in model.regions.iter().enumerate() {
            let alive = region.closed.is_none_or(|closed| closed > remote.submitted);
            if region.node != remote.to || region.key != piece.key || !alive || verdict.is_ok() {
                continue;
            }
            let Ok(start) = region.resolve(piece, remote.access()) else { continue };
            let strokes = model.strokes(index, |_, write| {
                let before = write.ended.is_some_and(|ended| ended < remote.submitted);
                before && model.fate(write, false) == Fate::Certain
            });
            verdict = judge(&found, start, &strokes, |at| region.initial(at));
        }
        verdict?;
    }
    Ok(())
}

/// Old values are those that the initiator's earlier atomics left, wherever nobody else has any executed.
fn judge_fetched(model: &Model, op: OpId) -> Result<(), String> {
    let Some(remote) = model.remote(op) else { unreachable!("a one-sided operation") };
    let Some(atomic) = remote.atomic() else { return Ok(()) };
    let (Spot::Lane(..), [region]) = (atomic.spot, &remote.regions[..]) else { return Ok(()) };
    let region = &model.regions[*region];
    let initiator = model.lives[remote.life].node;
    if region.lanes[initiator].unknown || !lane_is_known(model, region, initiator, op) {
        return Ok(());
    }
    let (Some(expected), Some(fetched)) = (&atomic.expected, &atomic.fetched) else { return Ok(()) };
    if same(atomic.datatype, expected, fetched) {
        Ok(())
    } else {
        Err(format!("fetched {fetched:x?} instead of {expected:x?}"))
    }
}

/// Whether everything that an initiator had executed in its lane before `op` is sure to have been.
fn lane_is_known(model: &Model, region: &Region, initiator: usize, op: OpId) -> bool {
    region.touched_by.iter().take_while(|other| **other < op).all(|other| {
        let Some(remote) = model.remote(*other).filter(|remote| remote.atomic().is_some()) else {
            return true;
        };
        model.lives[remote.life].node != initiator
            || (remote.regions.len() == 1 && (remote.certain || remote.outcome == Outcome::Done))
    })
}

/// Judges the whole run, when nothing moves any more.
pub fn judge_all(model: &Model) -> Result<(), String> {
    for (index, region) in model.regions.iter().enumerate() {
        let verdict = judge_region(model, index, region, true);
        verdict.map_err(|fault| {
            format!("region {index} of node {}, key {:#x}: {fault}", region.node, region.key)
        })?;
    }
    for (op, remote) in model.remotes() {
        judge_end(model, op, remote).map_err(|fault| format!("operation {op}: {fault}\n  {remote:?}"))?;
    }
    Ok(())
}

/// What is asked of an operation at the very end.
fn judge_end(model: &Model, op: OpId, remote: &Remote) -> Result<(), String> {
    if model.fate(remote, true) != Fate::Certain || !remote.certain {
        return Ok(());
    }
    if let (Action::Write { data: true }, 0) = (&remote.action, remote.reported.len()) {
        return Err("its remote CQ data never came".into());
    }
    // A read that asked for no completion has ended all the same.
    if remote.outcome == Outcome::Pending { judge_done(model, op, remote.buffer.as_ref()) } else { Ok(()) }
}

/// The memory of a region that is still open, and the words of any. Before the end of the run what was not heard of may still come.
pub fn judge_region(model: &Model, index: usize, region: &Region, at_the_end: bool) -> Result<(), String> {
    let memory = region.buffer.as_ref().filter(|_| at_the_end);
    for word in 0..WORDS {
        judge_counter(model, region, word, memory)?;
        judge_exchange(model, region, word, memory)?;
    }
    let strokes = model.strokes(index, |_, remote| model.fate(remote, at_the_end) == Fate::Certain);
    region.judge_bytes(&strokes)?;
    let Some(memory) = memory else { return Ok(()) };
    for (initiator, lane) in region.lanes.iter().enumerate() {
        let certain = region.touched_by.iter().all(|op| {
            let Some(remote) = model.remote(*op).filter(|remote| remote.atomic().is_some()) else {
                return true;
            };
            model.lives[remote.life].node != initiator || model.fate(remote, true) == Fate::Certain
        });
        if lane.unknown || !certain {
            continue;
        }
        let parts = [
            (Numbers::Integers, Datatype::Uint8),
            (Numbers::Singles, Datatype::Float),
            (Numbers::Doubles, Datatype::Double),
        ];
        let start = region.layout.numbers(initiator, Numbers::Integers).start;
        for (numbers, datatype) in parts {
            let range = region.layout.numbers(initiator, numbers);
            let expected = &lane.bytes[range.start - start..range.end - start];
            let found = memory.gather(range);
            if !same(datatype, expected, &found) {
                return Err(format!(
                    "{numbers:?} of initiator {initiator} are {found:x?} instead of {expected:x?}"
                ));
            }
        }
    }
    Ok(())
}

/// The atomics that went to a word.
fn atomics_at<'a>(
    model: &'a Model,
    region: &'a Region,
    spot: Spot,
) -> impl Iterator<Item = (&'a Remote, &'a Atomic)> {
    let remotes = region.touched_by.iter().filter_map(|op| model.remote(*op));
    remotes
        .filter_map(|remote| Some((remote, remote.atomic()?)))
        .filter(move |(_, atomic)| atomic.spot == spot)
}

fn count_of(datatype: Datatype, bytes: &[u8]) -> u64 {
    let word: [u8; 8] = bytes[..8].try_into().expect("a word of eight bytes");
    match datatype {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, kept exactly")]
        Datatype::Double => f64::from_le_bytes(word) as u64,
        _ => u64::from_le_bytes(word),
    }
}

/// Everybody adds 1: no old value is fetched twice, those of one initiator grow, and at the end all additions are there.
fn judge_counter(model: &Model, region: &Region, word: usize, memory: Option<&Buffer>) -> Result<(), String> {
    let datatype = counting_type(word);
    let (mut certain, mut unknown) = (0, 0);
    let mut seen = BTreeSet::new();
    let mut last: Vec<Option<u64>> = vec![None; model.lives.len()];
    for (remote, atomic) in atomics_at(model, region, Spot::Counter(word)) {
        match model.fate(remote, true) {
            Fate::Certain => certain += 1,
            Fate::Unknown => unknown += 1,
        }
        let Some(fetched) = atomic.fetched.as_ref().filter(|_| remote.regions.len() == 1) else { continue };
        let old = count_of(datatype, fetched);
        if !seen.insert(old) {
            return Err(format!("two atomics found the count {old} in word {word}"));
        }
        if last[remote.life].replace(old).is_some_and(|before| before > old) {
            return Err(format!(
                "an atomic that found {old} in word {word} was executed before an earlier one"
            ));
        }
    }
    let Some(memory) = memory else { return Ok(()) };
    let count = count_of(datatype, &memory.gather(region.layout.counter(word)));
    let newest = seen.last().copied();
    if (certain..=certain + unknown).contains(&count) && newest.is_none_or(|newest| newest < count) {
        Ok(())
    } else {
        Err(format!(
            "word {word} counts {count} of {certain} certain and {unknown} possible additions, and {newest:?} was fetched"
        ))
    }
}

/// Everybody puts a value of its own: each value is found by one exchange at most, and is still there at the end if it was found by none.
fn judge_exchange(
    model: &Model,
    region: &Region,
    word: usize,
    memory: Option<&Buffer>,
) -> Result<(), String> {
    let value = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("a word"));
    let (mut put, mut found) = (BTreeSet::from([0]), BTreeSet::new());
    let (mut possible, mut unknown) = (BTreeSet::from([0]), false);
    for (remote, atomic) in atomics_at(model, region, Spot::Exchange(word)) {
        possible.insert(value(&atomic.operand));
        let Some(fetched) = atomic.fetched.as_ref().filter(|_| remote.regions.len() == 1) else {
            unknown = true;
            continue;
        };
        let old = value(fetched);
        if atomic.operation == AtomicOp::Cswap && old != value(&atomic.compare) {
            continue;
        }
        put.insert(value(&atomic.operand));
        if !found.insert(old) {
            return Err(format!("two exchanges found {old:#x} in exchange word {word}"));
        }
    }
    if let Some(strange) = found.difference(&possible).next() {
        return Err(format!("an exchange found {strange:#x} in word {word}, which nobody put there"));
    }
    let Some(memory) = memory else { return Ok(()) };
    let last = value(&memory.gather(region.layout.exchange(word)));
    let left: Vec<u64> = put.difference(&found).copied().collect();
    let fine = if unknown { possible.contains(&last) && !found.contains(&last) } else { left == [last] };
    if fine {
        Ok(())
    } else {
        Err(format!("exchange word {word} holds {last:#x}: {left:x?} were left there"))
    }
}

/// What counters have to show: so many, and perhaps so many more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    certain: u64,
    possible: u64,
}

impl Count {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Certain => self.certain += 1,
            Fate::Unknown => self.possible += 1,
        }
    }

    /// Compares it with a counter's value.
    pub fn check(&self, what: &str, value: u64) -> Result<(), String> {
        if (self.certain..=self.certain + self.possible).contains(&value) {
            Ok(())
        } else {
            Err(format!("{what}: counted {value}, not {} (and at most {} more)", self.certain, self.possible))
        }
    }
}

/// What a node's counters of peers' reads (or writes) have to show in its present life.
pub fn count_at_target(model: &Model, node: usize, reads: bool) -> Count {
    let mut count = Count::default();
    for (_, remote) in model.remotes().filter(|(_, remote)| remote.to == node && remote.reads() == reads) {
        if !remote.regions.is_empty() {
            // A target that closes the region does not wait to hear whether its last answers have come.
            let open = remote.regions.iter().all(|region| model.regions[*region].closed.is_none());
            let known = remote.certain && (open || !reads);
            count.add(if known { model.fate(remote, true) } else { Fate::Unknown });
        }
    }
    count
}

/// What a region's counters have to show: an operation counts where its last byte is.
pub fn count_at_region(model: &Model, index: usize, reads: bool) -> Count {
    let mut count = Count::default();
    let region = &model.regions[index];
    for op in &region.touched_by {
        let Some(remote) = model.remote(*op).filter(|remote| remote.reads() == reads) else { continue };
        if remote.pieces.last().is_some_and(|piece| piece.key == region.key) {
            count.add(model.fate(remote, true));
        }
    }
    count
}

/// Operations of a life, those of them that failed, and those of which nobody heard how they ended.
pub fn count_of_life(model: &Model, life: LifeId, reads: bool) -> (u64, Count) {
    let (mut accepted, mut failed) = (0, Count::default());
    for (_, remote) in model.remotes().filter(|(_, remote)| remote.life == life && remote.reads() == reads) {
        accepted += 1;
        match remote.outcome {
            Outcome::Failed(_) => failed.add(Fate::Certain),
            _ if remote.is_open() && model.fate(remote, true) == Fate::Unknown => failed.add(Fate::Unknown),
            _ => {}
        }
    }
    (accepted, failed)
}
