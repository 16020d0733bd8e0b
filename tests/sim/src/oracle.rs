//! Judges each completion when it is read: belongs to an operation that was waiting for it, exactly once; names a message that was sent, was wanted and was not received
//! before; the memory holds that message's bytes and nothing else. Order over the whole run is judged by `matching`.

mod failures;

use core::ops::Range;
use std::collections::{HashMap, VecDeque};

use rdgram_engine::{Cause, Completion, CompletionFlags, Failure, OpFlags, Peek};

use crate::buffer::{Buffer, NAMED_LENGTH, named, pattern};
use crate::model::{LifeId, Model, Op, OpId, Outcome, Report, Stage, TAG_BITS, Taken, Wanted, op_of};

/// Bytes of ended operations' buffers kept to see whether anyone still writes there.
const QUARANTINE_BYTES: usize = 8 << 20;

/// What the reader of a completion knows beside it.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// The node that read it.
    pub node: usize,
    /// Its life.
    pub life: usize,
    /// The node that the completion names as the source, if it names one.
    pub source: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    quarantine: VecDeque<Buffer>,
    quarantined: usize,
    /// Something was restarted: operations with other ends may fail.
    pub restarts: bool,
    /// Completions read.
    pub completions: u64,
    /// Receives of each life that have ended, in success and in failure, as counters count them.
    pub received: HashMap<LifeId, (u64, u64)>,
    /// The message that the completion judged last was about, when it received one.
    pub last_taken: Option<OpId>,
    /// The newest untagged message in a multi-receive buffer: by receiver and sender.
    newest_in_multi: HashMap<(LifeId, LifeId), OpId>,
}

impl Oracle {
    /// Judges a success.
    pub fn success(
        &mut self,
        model: &mut Model,
        reader: Reader,
        completion: &Completion,
    ) -> Result<(), String> {
        self.completions += 1;
        self.last_taken = None;
        if completion.flags.contains(CompletionFlags::REMOTE_WRITE) {
            return self.remote_data(model, reader, completion);
        }
        let op = owner(model, reader, completion.context)?;
        if ends_receive(&model.ops[op], completion.flags, None) {
            self.received.entry(reader.life).or_default().0 += 1;
        }
        self.judge_success(model, reader, op, completion).map_err(|fault| describe(model, op, &fault))
    }

    /// Judges a failure.
    pub fn failure(&mut self, model: &mut Model, reader: Reader, failure: &Failure) -> Result<(), String> {
        self.completions += 1;
        self.last_taken = None;
        let op = owner(model, reader, failure.completion.context)?;
        if ends_receive(&model.ops[op], failure.completion.flags, Some(failure.cause)) {
            self.received.entry(reader.life).or_default().1 += 1;
        }
        self.judge_failure(model, reader, op, failure).map_err(|fault| describe(model, op, &fault))
    }

    /// Ends a buffer's operation: from now on nobody may read or write it.
    pub fn retire(&mut self, buffer: Option<Buffer>) -> Result<(), String> {
        let Some(mut buffer) = buffer else { return Ok(()) };
        if !buffer.gaps_are_intact() {
            return Err("bytes outside the buffer were written".into());
        }
        buffer.poison();
        self.quarantined += buffer.capacity();
        self.quarantine.push_back(buffer);
        while self.quarantined > QUARANTINE_BYTES {
            self.release_oldest()?;
        }
        Ok(())
    }

    /// Looks a last time at every buffer that is still kept.
    pub fn finish(&mut self) -> Result<(), String> {
        while !self.quarantine.is_empty() {
            self.release_oldest()?;
        }
        Ok(())
    }

    fn release_oldest(&mut self) -> Result<(), String> {
        let Some(buffer) = self.quarantine.pop_front() else { return Ok(()) };
        self.quarantined -= buffer.capacity();
        if buffer.is_poisoned() {
            Ok(())
        } else {
            Err("a buffer was written after its operation had ended".into())
        }
    }

    fn judge_success(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        completion: &Completion,
    ) -> Result<(), String> {
        match &model.ops[op] {
            Op::Send(_) => self.sent(model, op, completion),
            Op::Receive(receive) if receive.multi => self.received_into_multi(model, reader, op, completion),
            Op::Receive(_) => self.received(model, reader, op, completion),
            Op::Peek(_) => self.peeked(model, reader, op, completion),
            Op::Remote(_) => self.remote_success(model, op, completion),
        }
    }

    fn sent(&mut self, model: &mut Model, op: OpId, completion: &Completion) -> Result<(), String> {
        let Some(message) = model.message_mut(op) else { unreachable!("checked by the caller") };
        pending(message.outcome)?;
        expect_flags(completion.flags, CompletionFlags::SEND, message.tag.is_some())?;
        if !message.flags.contains(OpFlags::COMPLETION) {
            return Err("a completion that was not asked for".into());
        }
        message.outcome = Outcome::Done;
        let buffer = message.buffer.take();
        let (life, to, submitted, epoch) = (message.life, message.to, message.submitted, message.epoch);
        let acknowledged = !message.flags.intersects(OpFlags::INJECT | OpFlags::INJECT_COMPLETE);
        if model.lives[life].node != to {
            model.fences.end(life, to, epoch, true)?;
        }
        if acknowledged {
            model.meet(life, to, submitted);
        }
        let Some(message) = model.message(op) else { unreachable!("checked by the caller") };
        if message.flags.contains(OpFlags::MATCH_COMPLETE) {
            was_wanted(model, op)?;
        }
        self.retire(buffer)
    }

    fn received(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        completion: &Completion,
    ) -> Result<(), String> {
        let Op::Receive(receive) = &mut model.ops[op] else { unreachable!("checked by the caller") };
        pending(receive.outcome)?;
        receive.outcome = Outcome::Done;
        let wanted = receive.wanted;
        let buffer = receive.buffer.take().ok_or("the buffer is gone")?;
        if completion.length > buffer.capacity() {
            return Err(format!("{} bytes in a buffer of {}", completion.length, buffer.capacity()));
        }
        let report = report_of(completion, reader, wanted, completion.length)?;
        let message = self.take(model, reader, op, &report, Some((&buffer, 0..completion.length)))?;
        check_contents(&buffer, 0..completion.length, message)?;
        if !buffer.is_untouched_outside(0..completion.length) {
            return Err("bytes beyond the message were written".into());
        }
        self.retire(Some(buffer))
    }

    fn received_into_multi(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        completion: &Completion,
    ) -> Result<(), String> {
        let Op::Receive(receive) = &mut model.ops[op] else { unreachable!("checked by the caller") };
        pending(receive.outcome)?;
        let wanted = receive.wanted;
        let released = completion.flags.contains(CompletionFlags::MULTI_RECV);
        // A release of its own carries nothing but the flag.
        if completion.flags.contains(CompletionFlags::RECV) && !(released && completion.buffer == 0) {
            let buffer = receive.buffer.take().ok_or("the buffer is gone")?;
            let start =
                buffer.offset_of(completion.buffer).ok_or("a message outside the multi-receive buffer")?;
            let range = start..start + completion.length;
            if range.end > buffer.capacity() {
                return Err("a message beyond the end of the multi-receive buffer".into());
            }
            if receive.filled.iter().any(|(from, to)| *from < range.end && range.start < *to) {
                return Err(format!("{range:?} of a multi-receive buffer was used twice"));
            }
            receive.filled.push((range.start, range.end));
            let report = report_of(completion, reader, wanted, completion.length)?;
            let message = self.take(model, reader, op, &report, Some((&buffer, range.clone())))?;
            check_contents(&buffer, range, message)?;
            self.put_back(model, op, buffer);
            if wanted.tag.is_none() && self.last_taken.is_some() {
                self.in_order_of_sender(reader.life, model.life_of(message), message)?;
            }
        }
        if released { self.release_multi(model, op, Outcome::Done) } else { Ok(()) }
    }

    /// Messages of one sender in multi-receive buffers complete in the order sent.
    fn in_order_of_sender(&mut self, receiver: LifeId, sender: LifeId, message: OpId) -> Result<(), String> {
        match self.newest_in_multi.insert((receiver, sender), message) {
            Some(newer) if newer > message => Err(format!(
                "message {message} in a multi-receive buffer completed after {newer}, sent later"
            )),
            _ => Ok(()),
        }
    }

    fn put_back(&mut self, model: &mut Model, op: OpId, buffer: Buffer) {
        if let Op::Receive(receive) = &mut model.ops[op] {
            receive.buffer = Some(buffer);
        }
    }

    /// A multi-receive buffer is the application's again.
    fn release_multi(&mut self, model: &mut Model, op: OpId, outcome: Outcome) -> Result<(), String> {
        let Op::Receive(receive) = &mut model.ops[op] else { unreachable!("checked by the caller") };
        receive.outcome = outcome;
        let buffer = receive.buffer.take();
        self.retire(buffer)
    }

    fn peeked(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        completion: &Completion,
    ) -> Result<(), String> {
        let Op::Peek(peek) = &mut model.ops[op] else { unreachable!("checked by the caller") };
        let (wanted, how) = (peek.wanted, peek.how);
        match core::mem::replace(&mut peek.stage, Stage::Ended) {
            Stage::Waiting => {
                let claimed = completion.flags.contains(CompletionFlags::CLAIM);
                if claimed != (how == Peek::Claim) {
                    return Err(format!("a peek to {how:?} has completed with {:?}", completion.flags));
                }
                if claimed {
                    peek.stage = Stage::Claimed(completion.length);
                }
                let report = report_of(completion, reader, wanted, completion.length)?;
                let saw = match how {
                    Peek::Look => find(model, reader, &report)?,
                    Peek::Discard => Some(self.take(model, reader, op, &report, None)?),
                    Peek::Claim => None,
                };
                if let Op::Peek(peek) = &mut model.ops[op] {
                    peek.saw = saw;
                }
                Ok(())
            }
            Stage::Claiming(Some(buffer)) => {
                let report = report_of(completion, reader, wanted, completion.length)?;
                let message = self.take(model, reader, op, &report, Some((&buffer, 0..completion.length)))?;
                check_contents(&buffer, 0..completion.length, message)?;
                if !buffer.is_untouched_outside(0..completion.length) {
                    return Err("bytes beyond the message were written".into());
                }
                self.retire(Some(buffer))
            }
            Stage::Claiming(None) => {
                let report = report_of(completion, reader, wanted, completion.length)?;
                self.take(model, reader, op, &report, None).map(drop)
            }
            stage @ (Stage::Claimed(_) | Stage::Ended) => {
                Err(format!("a second completion of a peek: {stage:?}"))
            }
        }
    }

    /// Finds the message that a receive was told of, and marks it received.
    fn take(
        &mut self,
        model: &mut Model,
        reader: Reader,
        by: OpId,
        report: &Report,
        place: Option<(&Buffer, Range<usize>)>,
    ) -> Result<OpId, String> {
        let offset = place.as_ref().map_or(0, |(_, range)| range.start);
        let report = &with_head(*report, place);
        let (op, exact) = match find(model, reader, report)? {
            Some(op) => (op, true),
            None => (make_room(model, reader, report, &mut Vec::new()).ok_or_else(|| unsent(report))?, false),
        };
        let (wanted, _) = model.taker(by);
        let wanted = *wanted;
        let origin = model.message(op).map(|message| model.origin(message)).ok_or("not a message")?;
        if !wanted.accepts(origin, report.tag) {
            return Err(format!("got message {op}, which it does not accept: {wanted:?}"));
        }
        let read = model.tick();
        self.last_taken = exact.then_some(op);
        let told = (!exact).then_some(*report);
        let Some(message) = model.message_mut(op) else { unreachable!("found above") };
        let before = message.taken.replace(Taken { by, offset, read, told });
        model.expect_no_longer(op);
        match before {
            None => Ok(op),
            // First contact costs no round trip, so what an endpoint took before it ended, unacknowledged, is sent to its successor again: another process.
            Some(other) if model.life_of(other.by) != reader.life => {
                give(model, op, other);
                Ok(op)
            }
            Some(other) => {
                let Some(report) = other.told.filter(|_| exact) else {
                    return Err(format!("message {op} was delivered twice: before, to {}", other.by));
                };
                // That one was only like it: it has to have been another.
                let instead =
                    make_room(model, reader, &report, &mut vec![op]).ok_or_else(|| unsent(&report))?;
                give(model, instead, other);
                Ok(op)
            }
        }
    }
}

/// Whether a completion is of a message received, or of a receive that failed: a multi-receive buffer that is only given back counts nowhere.
fn ends_receive(op: &Op, flags: CompletionFlags, failure: Option<Cause>) -> bool {
    match op {
        Op::Receive(_) if flags.contains(CompletionFlags::MULTI_RECV) => {
            failure.is_none_or(|cause| cause == Cause::Truncated) && flags.contains(CompletionFlags::RECV)
        }
        Op::Receive(_) => flags.contains(CompletionFlags::RECV),
        Op::Peek(peek) => matches!(peek.stage, Stage::Claiming(Some(_))),
        Op::Send(_) | Op::Remote(_) => false,
    }
}

/// What a completion says about a message.
fn report_of(
    completion: &Completion,
    reader: Reader,
    wanted: Wanted,
    length: usize,
) -> Result<Report, String> {
    expect_flags(completion.flags, CompletionFlags::RECV, wanted.tag.is_some())?;
    Ok(Report {
        tag: wanted.tag.map(|_| completion.tag),
        data: completion.flags.contains(CompletionFlags::REMOTE_CQ_DATA).then_some(completion.data),
        length,
        source: reader.source,
        head: [0; NAMED_LENGTH],
        head_length: 0,
    })
}

/// The report with what the memory shows of the message.
fn with_head(mut report: Report, place: Option<(&Buffer, Range<usize>)>) -> Report {
    if let Some((buffer, range)) = place {
        let head = buffer.gather(range.start..range.end.min(range.start + NAMED_LENGTH));
        report.head[..head.len()].copy_from_slice(&head);
        report.head_length = head.len();
    }
    report
}

/// The message that a report names, by its data, its tag or its contents; `None` when it names none.
fn find(model: &Model, reader: Reader, report: &Report) -> Result<Option<OpId>, String> {
    let by_tag = report.tag.map(|tag| tag >> TAG_BITS).filter(|name| *name > 0).map(|name| name - 1);
    let by_contents = || named(&report.head[..report.head_length]);
    let Some(name) = report.data.or(by_tag).or_else(by_contents) else { return Ok(None) };
    let op = OpId::try_from(name).map_err(|_| "contents of no message")?;
    if fits(model, reader, report, op) {
        return Ok(Some(op));
    }
    let other = model.message(op).map(|m| (m.to, m.tag, m.data, m.length, model.origin(m)));
    Err(format!("{report:?} is not message {op}: {other:x?}"))
}

/// Whether a report may be about a message.
fn fits(model: &Model, reader: Reader, report: &Report, op: OpId) -> bool {
    let mut head = [0; NAMED_LENGTH];
    pattern(op as u64, &mut head);
    model.message(op).is_some_and(|message| {
        message.to == reader.node
            && message.tag == report.tag
            && message.data == report.data
            && message.length == report.length
            && report.source.is_none_or(|source| source == model.origin(message))
            && head[..report.head_length] == report.head[..report.head_length]
    })
}

/// A message that fits a report which names none, and is not taken: if need be, by giving others, whose reports name none either, different ones. `tried` are out of question.
fn make_room(model: &mut Model, reader: Reader, report: &Report, tried: &mut Vec<OpId>) -> Option<OpId> {
    let candidates: Vec<OpId> =
        model.messages().map(|(op, _)| op).filter(|op| fits(model, reader, report, *op)).collect();
    for op in candidates {
        if tried.contains(&op) {
            continue;
        }
        tried.push(op);
        let Some(other) = model.message(op)?.taken else { return Some(op) };
        let Some(told) = other.told else { continue };
        if let Some(instead) = make_room(model, reader, &told, tried) {
            give(model, instead, other);
            if let Some(message) = model.message_mut(op) {
                message.taken = None;
            }
            return Some(op);
        }
    }
    None
}

/// Notes who took a message after all.
fn give(model: &mut Model, op: OpId, taken: Taken) {
    if let Some(message) = model.message_mut(op) {
        message.taken = Some(taken);
    }
    model.expect_no_longer(op);
}

fn unsent(report: &Report) -> String {
    format!("a message that nobody sent, or once too often: {report:?}")
}

/// The operation that a completion belongs to.
fn owner(model: &Model, reader: Reader, context: usize) -> Result<OpId, String> {
    op_of(context)
        .filter(|op| model.ops.get(*op).is_some_and(|record| record.life() == reader.life))
        .ok_or_else(|| {
            format!(
                "node {} read a completion of context {context:#x}, which is none of its operations",
                reader.node
            )
        })
}

fn describe(model: &Model, op: OpId, fault: &str) -> String {
    format!("operation {op}: {fault}\n  {:?}", model.ops[op])
}

pub(crate) fn pending(outcome: Outcome) -> Result<(), String> {
    if outcome == Outcome::Pending { Ok(()) } else { Err(format!("completed again, after {outcome:?}")) }
}

fn expect_flags(flags: CompletionFlags, direction: CompletionFlags, tagged: bool) -> Result<(), String> {
    let expected = direction | if tagged { CompletionFlags::TAGGED } else { CompletionFlags::MSG };
    let beside = CompletionFlags::REMOTE_CQ_DATA | CompletionFlags::MULTI_RECV | CompletionFlags::CLAIM;
    if flags.difference(beside) == expected {
        Ok(())
    } else {
        Err(format!("flags {flags:?} instead of {expected:?}"))
    }
}

fn check_contents(buffer: &Buffer, range: Range<usize>, message: OpId) -> Result<(), String> {
    let mut expected = vec![0; range.len()];
    pattern(message as u64, &mut expected);
    let found = buffer.gather(range);
    match expected.iter().zip(&found).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!(
            "byte {at} of message {message} is {:#04x} instead of {:#04x}",
            found[at], expected[at]
        )),
    }
}

/// A send completes at match level only once something at the receiver wanted the message.
fn was_wanted(model: &Model, op: OpId) -> Result<(), String> {
    let Some(message) = model.message(op) else { unreachable!("a send") };
    let origin = model.origin(message);
    let wanted = model.ops.iter().any(|record| match record {
        Op::Send(_) | Op::Remote(_) => false,
        Op::Receive(receive) => {
            model.lives[receive.life].node == message.to && receive.wanted.accepts(origin, message.tag)
        }
        Op::Peek(peek) => {
            model.lives[peek.life].node == message.to && peek.wanted.accepts(origin, message.tag)
        }
    });
    if wanted { Ok(()) } else { Err("match completion of a message that nothing has asked for".into()) }
}
