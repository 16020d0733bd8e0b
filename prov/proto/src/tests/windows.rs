//! The transmit window against a naive model: a map of packets and two vectors.

use std::vec::Vec;

use proptest::prelude::*;
use rdgram_wire::Psn;

use crate::config::Class;
use crate::time::Instant;
use crate::tx::{State, TxWindow};

#[derive(Clone, Copy, Debug)]
enum Step {
    Push { bytes: u16, control: bool },
    Retransmit { at: u32 },
    Withdraw { at: u32, unsent: bool },
    Acknowledge { at: u32 },
    AcknowledgeUpTo { at: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u16>(), any::<bool>()).prop_map(|(bytes, control)| Step::Push { bytes, control }),
        2 => (0u32..80).prop_map(|at| Step::Retransmit { at }),
        2 => (0u32..80, any::<bool>()).prop_map(|(at, unsent)| Step::Withdraw { at, unsent }),
        3 => (0u32..80).prop_map(|at| Step::Acknowledge { at }),
        1 => (0u32..20).prop_map(|at| Step::AcknowledgeUpTo { at }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    psn: Psn,
    token: u64,
    bytes: u64,
    state: State,
}

/// Packets in PSN order, and the PSNs of the two lists in theirs.
struct Model {
    base: Psn,
    entries: Vec<Entry>,
    flight: Vec<Psn>,
    waiting: Vec<Psn>,
}

impl Model {
    fn entry(&mut self, psn: Psn) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.psn == psn)
    }

    fn unlist(&mut self, psn: Psn) {
        self.flight.retain(|other| *other != psn);
        self.waiting.retain(|other| *other != psn);
    }

    fn acknowledge(&mut self, psn: Psn) -> Option<u64> {
        let entry = self.entry(psn).filter(|entry| entry.state != State::Acked)?;
        entry.state = State::Acked;
        let token = entry.token;
        self.unlist(psn);
        while self.entries.first().is_some_and(|entry| entry.state == State::Acked) {
            self.base = self.entries.remove(0).psn.next();
        }
        Some(token)
    }
}

fn lists(window: &TxWindow<u64>) -> Vec<Psn> {
    let mut flight = Vec::new();
    let mut next = window.first_in_flight();
    while let Some(psn) = next {
        flight.push(psn);
        next = window.in_flight_after(psn);
    }
    flight
}

proptest! {
    #[test]
    fn equals_a_naive_model(start in prop_oneof![any::<u32>(), u32::MAX - 100..=u32::MAX], steps in prop::collection::vec(step(), 1..400)) {
        let mut window = TxWindow::new(Psn(start));
        let mut model = Model { base: Psn(start), entries: Vec::new(), flight: Vec::new(), waiting: Vec::new() };
        let mut tx = 0;
        for (token, step) in (0u64..).zip(steps) {
            tx += 1;
            match step {
                Step::Push { bytes, control } => {
                    let class = if control { Class::Control } else { Class::Data };
                    let psn = window.push(token, tx, Instant::ZERO, bytes, class, false);
                    let bytes = if control { 0 } else { bytes.into() };
                    model.entries.push(Entry { psn, token, bytes, state: State::InFlight });
                    model.flight.push(psn);
                }
                Step::Retransmit { at } => {
                    let psn = model.base.add(at);
                    let sent = window.retransmit(psn, tx, Instant::ZERO);
                    let expected = model.entry(psn).filter(|entry| entry.state != State::Acked);
                    prop_assert_eq!(sent.map(|slot| slot.token), expected.as_ref().map(|entry| entry.token));
                    if let Some(entry) = expected {
                        entry.state = State::InFlight;
                        model.unlist(psn);
                        model.flight.push(psn);
                    }
                }
                Step::Withdraw { at, unsent } => {
                    let psn = model.base.add(at);
                    let state = if unsent { State::Unsent } else { State::Lost };
                    let expected = model.entry(psn).filter(|entry| entry.state == State::InFlight);
                    prop_assert_eq!(window.withdraw(psn, state), expected.is_some());
                    if let Some(entry) = expected {
                        entry.state = state;
                        model.unlist(psn);
                        model.waiting.push(psn);
                    }
                }
                Step::Acknowledge { at } => {
                    let psn = model.base.add(at);
                    let taken = window.acknowledge(psn).map(|slot| slot.token);
                    window.advance();
                    prop_assert_eq!(taken, model.acknowledge(psn));
                }
                Step::AcknowledgeUpTo { at } => {
                    let base = model.base;
                    for i in 0..at {
                        let taken = window.acknowledge(base.add(i)).map(|slot| slot.token);
                        window.advance();
                        prop_assert_eq!(taken, model.acknowledge(base.add(i)));
                    }
                }
            }
            prop_assert_eq!(window.base(), model.base);
            prop_assert_eq!(window.outstanding() as usize, model.entries.len());
            prop_assert_eq!(lists(&window), model.flight.clone());
            prop_assert_eq!(window.first_waiting(), model.waiting.first().copied());
            prop_assert_eq!(window.waiting() as usize, model.waiting.len());
            let bytes: u64 = model.entries.iter().filter(|entry| entry.state == State::InFlight).map(|entry| entry.bytes).sum();
            prop_assert_eq!(window.data_bytes(), bytes);
            window.assert_consistent();
        }
    }
}
