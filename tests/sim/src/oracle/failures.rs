//! Whether an operation may have failed, and as it did: with its peer, or by itself.

use rdgram_engine::{Cause, CompletionFlags, Failure, OpFlags};

use super::{Oracle, Reader, check_contents, pending, report_of};
use crate::buffer::Buffer;
use crate::model::{Model, Op, OpId, Outcome, Stage, Wanted};

impl Oracle {
    pub(super) fn judge_failure(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        failure: &Failure,
    ) -> Result<(), String> {
        if let Op::Remote(_) = &model.ops[op] {
            return self.remote_failure(model, op, failure);
        }
        if !Self::is_of_peer(failure.cause) {
            return self.failed_itself(model, reader, op, failure);
        }
        let certain = model.message(op).is_some_and(|message| message.certain);
        if !self.restarts || certain {
            return Err(format!("failed with {:?}, and its peer is alive", failure.cause));
        }
        self.failed_with_peer(model, op, failure)
    }

    fn failed_with_peer(&mut self, model: &mut Model, op: OpId, failure: &Failure) -> Result<(), String> {
        match &mut model.ops[op] {
            Op::Send(message) => {
                pending(message.outcome)?;
                message.outcome = Outcome::Failed(failure.cause);
                let buffer = message.buffer.take();
                let (life, to, epoch) = (message.life, message.to, message.epoch);
                if message.flags.contains(OpFlags::COMPLETION) && model.lives[life].node != to {
                    model.fences.end(life, to, epoch, false)?;
                }
                self.retire(buffer)
            }
            Op::Receive(receive) if !receive.multi => {
                pending(receive.outcome)?;
                receive.outcome = Outcome::Failed(failure.cause);
                let buffer = receive.buffer.take();
                self.retire(buffer)
            }
            Op::Receive(receive) => {
                pending(receive.outcome)?;
                if failure.completion.flags.contains(CompletionFlags::MULTI_RECV) {
                    return self.release_multi(model, op, Outcome::Failed(failure.cause));
                }
                Ok(())
            }
            Op::Peek(peek) => {
                let Stage::Claiming(buffer) = core::mem::replace(&mut peek.stage, Stage::Ended) else {
                    return Err("a peek failed with its peer".into());
                };
                self.retire(buffer)
            }
            Op::Remote(_) => unreachable!("judged by the caller"),
        }
    }

    fn failed_itself(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        failure: &Failure,
    ) -> Result<(), String> {
        match (&mut model.ops[op], failure.cause) {
            (Op::Receive(receive), Cause::Canceled) if receive.canceled.is_some() => {
                pending(receive.outcome)?;
                if receive.multi {
                    return self.release_multi(model, op, Outcome::Failed(Cause::Canceled));
                }
                receive.outcome = Outcome::Failed(Cause::Canceled);
                let buffer = receive.buffer.take();
                if buffer.as_ref().is_some_and(|buffer| !buffer.is_untouched_outside(0..0)) {
                    return Err("a cancelled receive's buffer was written".into());
                }
                self.retire(buffer)
            }
            (Op::Receive(receive), Cause::Truncated) => {
                pending(receive.outcome)?;
                let multi = receive.multi;
                if !multi {
                    receive.outcome = Outcome::Failed(Cause::Truncated);
                }
                self.truncated(model, reader, op, failure, multi)
            }
            (Op::Peek(peek), Cause::Truncated) => {
                let Stage::Claiming(Some(buffer)) = core::mem::replace(&mut peek.stage, Stage::Ended) else {
                    return Err("a peek was truncated".into());
                };
                let wanted = peek.wanted;
                self.truncated_into(model, reader, op, failure, wanted, &buffer)?;
                self.retire(Some(buffer))
            }
            (Op::Peek(peek), Cause::NoMessage) => match core::mem::replace(&mut peek.stage, Stage::Ended) {
                Stage::Waiting => Ok(()),
                stage => Err(format!("no message, after {stage:?}")),
            },
            (_, cause) => Err(format!("failed with {cause:?} for no reason")),
        }
    }

    /// A peer's end causes such failures.
    pub(crate) fn is_of_peer(cause: Cause) -> bool {
        matches!(cause, Cause::Refused | Cause::Closed | Cause::Restarted | Cause::Unreachable)
    }

    fn truncated(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        failure: &Failure,
        multi: bool,
    ) -> Result<(), String> {
        let Op::Receive(receive) = &mut model.ops[op] else { unreachable!("checked by the caller") };
        let wanted = receive.wanted;
        let buffer = receive.buffer.take().ok_or("the buffer is gone")?;
        if multi && receive.filled.iter().any(|(from, to)| from < to) {
            return Err("a message was cut although it was not the first of its multi-receive buffer".into());
        }
        self.truncated_into(model, reader, op, failure, wanted, &buffer)?;
        if multi && !failure.completion.flags.contains(CompletionFlags::MULTI_RECV) {
            self.put_back(model, op, buffer);
            return Ok(());
        }
        if let Op::Receive(receive) = &mut model.ops[op] {
            receive.outcome = Outcome::Failed(Cause::Truncated);
        }
        self.retire(Some(buffer))
    }

    fn truncated_into(
        &mut self,
        model: &mut Model,
        reader: Reader,
        op: OpId,
        failure: &Failure,
        wanted: Wanted,
        buffer: &Buffer,
    ) -> Result<(), String> {
        let placed = failure.completion.length;
        if placed != buffer.capacity() || failure.overflow == 0 {
            return Err(format!(
                "truncated to {placed} of {}, {} too many",
                buffer.capacity(),
                failure.overflow
            ));
        }
        let report = report_of(&failure.completion, reader, wanted, placed + failure.overflow)?;
        let message = self.take(model, reader, op, &report, Some((buffer, 0..placed)))?;
        check_contents(buffer, 0..placed, message)?;
        if buffer.gaps_are_intact() { Ok(()) } else { Err("bytes outside the buffer were written".into()) }
    }
}
