//! Order over a whole run, judged from completions alone, without a word from the engine: per source, no message overtakes another that the same receive would have
//! taken, and no receive is passed over by a message that it was the first to accept. (`reference` judges the engine's own record.)

use crate::model::{LifeId, Message, Model, Op, OpId, Order, Outcome};

/// Checks the whole run. Called when it is over.
pub fn judge(model: &Model) -> Result<(), String> {
    for receiver in 0..model.inbound.len() {
        for sender in 0..model.lives.len() {
            no_message_overtakes(model, sender, receiver)?;
        }
    }
    no_receive_is_passed_over(model)
}

/// Messages of one sender to one node entered matching in the order they were sent. So when a receive took one of them, every earlier one that it accepts had been taken
/// by something posted before.
fn no_message_overtakes(model: &Model, sender: LifeId, receiver: usize) -> Result<(), String> {
    let stream: Vec<(OpId, &Message)> = model
        .messages()
        .filter(|(_, message)| {
            message.life == sender && message.to == receiver && message.outcome != Outcome::Abandoned
        })
        .collect();
    for (index, (late_op, late)) in stream.iter().enumerate() {
        let Some(took_late) = late.taken.filter(|taken| taken.is_exact()) else { continue };
        let (wanted, posted) = model.taker(took_late.by);
        for (early_op, early) in &stream[..index] {
            if !wanted.accepts(model.lives[sender].node, early.tag) {
                continue;
            }
            let fine = match early.taken {
                Some(taken) if !taken.is_exact() => true,
                // An endpoint that ended may have matched it, and nobody read that any more.
                Some(taken) if model.life_of(taken.by) != model.life_of(took_late.by) => true,
                Some(taken) if taken.by == took_late.by => taken.offset <= took_late.offset,
                Some(taken) => model.taker(taken.by).1 < posted,
                None => !early.certain,
            };
            if !fine {
                return Err(format!(
                    "message {late_op} overtook message {early_op} of the same source: receive {} took it, accepts both, and the earlier one went to {:?}",
                    took_late.by,
                    early.taken.map(|taken| taken.by)
                ));
            }
        }
    }
    Ok(())
}

/// A receive that was posted, took nothing and was cancelled in the end: nothing that it accepts can have gone to a later one before that.
fn no_receive_is_passed_over(model: &Model) -> Result<(), String> {
    for (op, record) in model.ops.iter().enumerate() {
        let Op::Receive(receive) = record else { continue };
        let Some(canceled) = receive.canceled.filter(|_| !receive.multi) else { continue };
        let node = model.lives[receive.life].node;
        for (message_op, message) in model.messages() {
            if message.to != node || !receive.wanted.accepts(model.origin(message), message.tag) {
                continue;
            }
            let Some(taken) = message.taken.filter(|taken| taken.is_exact() && taken.read < canceled) else {
                continue;
            };
            let same_life = model.ops[taken.by].life() == receive.life;
            if same_life && taken_by_receive_posted_after(model, taken.by, receive.posted) {
                return Err(format!(
                    "message {message_op} went to receive {} although receive {op}, posted before, was waiting for it",
                    taken.by
                ));
            }
        }
    }
    Ok(())
}

/// Peeks see only what no posted receive took, so they prove nothing here.
fn taken_by_receive_posted_after(model: &Model, by: OpId, posted: Order) -> bool {
    matches!(&model.ops[by], Op::Receive(taker) if taker.posted > posted)
}

#[cfg(test)]
mod tests {
    use rdgram_engine::{OpFlags, TagMatch};

    use super::*;
    use crate::model::{Life, Receive, Taken, Wanted};

    const ANY: TagMatch = TagMatch { tag: 0, ignore: u64::MAX };

    fn model() -> Model {
        let mut model = Model::new(2);
        model.lives =
            vec![Life { node: 0, opened: 0, ended: false }, Life { node: 1, opened: 0, ended: false }];
        model
    }

    fn send(model: &mut Model, tag: u64) -> OpId {
        model.add_message(Message {
            life: 0,
            to: 1,
            tag: Some(tag),
            data: None,
            length: 8,
            flags: OpFlags::COMPLETION,
            buffer: None,
            certain: true,
            outcome: Outcome::Done,
            taken: None,
            submitted: 0,
            epoch: 0,
        })
    }

    fn post(model: &mut Model, tag: TagMatch) -> OpId {
        let posted = model.tick();
        model.ops.push(Op::Receive(Receive {
            life: 1,
            wanted: Wanted { source: None, tag: Some(tag) },
            buffer: None,
            capacity: 8,
            multi: false,
            filled: Vec::new(),
            posted,
            canceled: None,
            outcome: Outcome::Pending,
        }));
        model.ops.len() - 1
    }

    fn take(model: &mut Model, message: OpId, by: OpId) {
        let read = model.tick();
        model.message_mut(message).unwrap().taken = Some(Taken { by, offset: 0, read, told: None });
    }

    #[test]
    fn order_of_sending_is_order_of_matching() {
        let mut model = model();
        let (first, second) = (send(&mut model, 1), send(&mut model, 2));
        let (a, b) = (post(&mut model, ANY), post(&mut model, ANY));
        take(&mut model, second, a);
        assert!(judge(&model).is_err(), "the first message was left behind");
        take(&mut model, first, b);
        assert!(judge(&model).is_err(), "the first message went to the later receive");
    }

    #[test]
    fn completions_may_be_read_in_any_order() {
        let mut model = model();
        let (first, second) = (send(&mut model, 1), send(&mut model, 2));
        let (a, b) = (post(&mut model, ANY), post(&mut model, ANY));
        take(&mut model, second, b);
        take(&mut model, first, a);
        assert_eq!(judge(&model), Ok(()));
    }

    #[test]
    fn a_receive_that_does_not_accept_the_first_may_take_the_second() {
        let mut model = model();
        let (first, second) = (send(&mut model, 1), send(&mut model, 2));
        let (a, b) = (post(&mut model, TagMatch { tag: 2, ignore: 0 }), post(&mut model, ANY));
        take(&mut model, second, a);
        take(&mut model, first, b);
        assert_eq!(judge(&model), Ok(()));
    }

    #[test]
    fn a_waiting_receive_is_not_passed_over() {
        let mut model = model();
        let message = send(&mut model, 1);
        let (a, b) = (post(&mut model, ANY), post(&mut model, ANY));
        take(&mut model, message, b);
        assert_eq!(judge(&model), Ok(()), "nothing is known about the first receive yet");
        let canceled = model.tick();
        if let Op::Receive(receive) = &mut model.ops[a] {
            receive.canceled = Some(canceled);
        }
        assert!(judge(&model).is_err());
    }
}
