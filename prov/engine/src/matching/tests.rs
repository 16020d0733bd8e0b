use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::Index;

use super::line::{FEW_MAX, MANY_MIN};
use super::*;

thread_local! {
    /// What the searches of this test have cost.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// The steps that something takes.
fn steps_of<R>(what: impl FnOnce() -> R) -> (usize, R) {
    let before = STEPS.get();
    let result = what();
    (STEPS.get() - before, result)
}

/// What libfabric demands, as slowly and plainly as possible.
#[derive(Default)]
struct Reference {
    posted: Vec<(u32, Option<PeerId>, TagMatch)>,
    unexpected: Vec<(u32, PeerId, u64)>,
}

impl Reference {
    fn look(&self, source: Option<PeerId>, tag: TagMatch) -> Option<usize> {
        self.unexpected
            .iter()
            .position(|m| source.is_none_or(|s| s == m.1) && (m.2 ^ tag.tag) & !tag.ignore == 0)
    }

    fn post(&mut self, id: u32, source: Option<PeerId>, tag: TagMatch) -> Option<u32> {
        if let Some(index) = self.look(source, tag) {
            return Some(self.unexpected.remove(index).0);
        }
        self.posted.push((id, source, tag));
        None
    }

    fn arrive(&mut self, id: u32, source: PeerId, tag: u64) -> Option<u32> {
        let hit = self
            .posted
            .iter()
            .position(|p| p.1.is_none_or(|s| s == source) && (tag ^ p.2.tag) & !p.2.ignore == 0);
        if let Some(index) = hit {
            return Some(self.posted.remove(index).0);
        }
        self.unexpected.push((id, source, tag));
        None
    }
}

/// A queue and its reference, which go the same way.
#[derive(Default)]
struct Pair {
    queue: MatchQueue,
    reference: Reference,
    ids: u32,
}

impl Pair {
    fn id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    fn post(&mut self, source: Option<PeerId>, tag: TagMatch) -> Result<(), TestCaseError> {
        let id = self.id();
        let hit = self.queue.find_unexpected(source, tag);
        match hit {
            Some(message) => prop_assert!(self.queue.remove_unexpected(message.key)),
            None => self.queue.push_posted(Posted { key: Key::from_wire(id), source, tag }),
        }
        let wanted = self.reference.post(id, source, tag);
        prop_assert_eq!(hit.map(|m| m.key), wanted.map(Key::from_wire));
        Ok(())
    }

    fn arrive(&mut self, source: PeerId, tag: u64) -> Result<(), TestCaseError> {
        let id = self.id();
        let hit = self.queue.find_posted(source, tag);
        match hit {
            Some(posted) => prop_assert!(self.queue.remove_posted(posted.key)),
            None => self.queue.push_unexpected(Unexpected { key: Key::from_wire(id), source, tag }),
        }
        let wanted = self.reference.arrive(id, source, tag);
        prop_assert_eq!(hit.map(|p| p.key), wanted.map(Key::from_wire));
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Post { source, tag } => self.post(source, tag)?,
            Step::Arrive { source, tag } => self.arrive(source, tag)?,
            Step::PostMany { source, tag, count } => {
                for number in 0..count {
                    self.post(source, TagMatch { tag: tag.tag + number, ..tag })?;
                }
            }
            Step::ArriveMany { source, tag, count } => {
                for number in 0..count {
                    self.arrive(source, tag + number)?;
                }
            }
            Step::Peek { source, tag } => {
                let hit = self.queue.find_unexpected(source, tag).map(|message| message.key);
                let wanted = self.reference.look(source, tag).map(|at| self.reference.unexpected[at].0);
                prop_assert_eq!(hit, wanted.map(Key::from_wire));
            }
            Step::Receive { which, count, sourced, ignore } => {
                for _ in 0..count.min(self.reference.unexpected.len()) {
                    let (_, source, tag) = *which.get(&self.reference.unexpected);
                    self.post(sourced.then_some(source), TagMatch { tag, ignore })?;
                }
            }
            Step::Meet { which, count } => {
                for _ in 0..count.min(self.reference.posted.len()) {
                    let (_, source, tag) = *which.get(&self.reference.posted);
                    self.arrive(source.unwrap_or(PeerId(1)), tag.tag)?;
                }
            }
            Step::Cancel { which, count } => {
                for _ in 0..count.min(self.reference.posted.len()) {
                    let victim = self.reference.posted.remove(which.index(self.reference.posted.len())).0;
                    prop_assert!(self.queue.remove_posted(Key::from_wire(victim)));
                    prop_assert!(!self.queue.remove_posted(Key::from_wire(victim)));
                }
            }
            Step::Drop { which, count } => {
                for _ in 0..count.min(self.reference.unexpected.len()) {
                    let at = which.index(self.reference.unexpected.len());
                    let victim = self.reference.unexpected.remove(at).0;
                    prop_assert!(self.queue.remove_unexpected(Key::from_wire(victim)));
                    prop_assert!(!self.queue.remove_unexpected(Key::from_wire(victim)));
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let posted = self.queue.posted().map(|posted| posted.key.to_wire());
        prop_assert!(posted.eq(self.reference.posted.iter().map(|posted| posted.0)));
        let unexpected = self.queue.unexpected.iter().map(|message| message.key.to_wire());
        prop_assert!(unexpected.eq(self.reference.unexpected.iter().map(|message| message.0)));
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Post {
        source: Option<PeerId>,
        tag: TagMatch,
    },
    Arrive {
        source: PeerId,
        tag: u64,
    },
    PostMany {
        source: Option<PeerId>,
        tag: TagMatch,
        count: u64,
    },
    ArriveMany {
        source: PeerId,
        tag: u64,
        count: u64,
    },
    Peek {
        source: Option<PeerId>,
        tag: TagMatch,
    },
    /// Receives made for messages that are there.
    Receive {
        which: Index,
        count: usize,
        sourced: bool,
        ignore: u64,
    },
    /// Messages made for receives that are there.
    Meet {
        which: Index,
        count: usize,
    },
    Cancel {
        which: Index,
        count: usize,
    },
    Drop {
        which: Index,
        count: usize,
    },
}

/// Kinds of receives, more than an index takes.
fn ignore() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(0u64),
        4 => Just(0x7000_0000_0000_0000),
        2 => Just(3),
        1 => Just(u64::MAX),
        1 => (0..8u32).prop_map(|bit| 1 << bit),
    ]
}

fn receive(tags: u64) -> impl Strategy<Value = (Option<PeerId>, TagMatch)> {
    let source = prop::option::of((0u32..3).prop_map(PeerId));
    (source, 0..tags, ignore()).prop_map(|(source, tag, ignore)| (source, TagMatch { tag, ignore }))
}

fn message(tags: u64) -> impl Strategy<Value = (PeerId, u64)> {
    ((0u32..3).prop_map(PeerId), 0..tags)
}

fn step() -> impl Strategy<Value = Step> {
    let many = || 1..2 * FEW_MAX;
    let which = any::<Index>;
    prop_oneof![
        receive(4).prop_map(|(source, tag)| Step::Post { source, tag }),
        message(4).prop_map(|(source, tag)| Step::Arrive { source, tag }),
        receive(256).prop_map(|(source, tag)| Step::Peek { source, tag }),
        (receive(256), many()).prop_map(|((source, tag), count)| Step::PostMany {
            source,
            tag,
            count: count as u64
        }),
        (message(256), many()).prop_map(|((source, tag), count)| Step::ArriveMany {
            source,
            tag,
            count: count as u64
        }),
        (which(), many(), any::<bool>(), ignore())
            .prop_map(|(which, count, sourced, ignore)| Step::Receive { which, count, sourced, ignore }),
        (which(), many()).prop_map(|(which, count)| Step::Meet { which, count }),
        (which(), many()).prop_map(|(which, count)| Step::Cancel { which, count }),
        (which(), many()).prop_map(|(which, count)| Step::Drop { which, count }),
    ]
}

proptest! {
    #[test]
    fn matches_as_the_reference_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.take(step)?;
            pair.check()?;
        }
    }
}

/// Messages, or receives, of the tests that count.
const MANY: u32 = 100_000;
/// Steps that one match may cost on average, its share of an index among them.
const STEPS_EACH: usize = 12;
/// Steps that the dearest match may cost, but for the one that an index is made for: a search and a removal, both to the end of an array that was just a list.
const STEPS_MAX: usize = 2 * MANY_MIN + 4;
const SOURCE: PeerId = PeerId(7);
/// Bits that an MPI library keeps for itself in every tag.
const PROTOCOL: u64 = 0x7000_0000_0000_0000;

/// Receives of every kind that can tell messages with different tags apart.
fn kinds() -> [(Option<PeerId>, u64); 4] {
    [(Some(SOURCE), 0), (Some(SOURCE), PROTOCOL), (None, 0), (None, PROTOCOL)]
}

/// Checks what the matches cost; the first one may have made an index.
fn assert_bounded(costs: &[usize]) {
    let all: usize = costs.iter().sum();
    assert!(all <= STEPS_EACH * costs.len(), "{all} steps for {} matches", costs.len());
    let dearest = costs[1..].iter().max().unwrap();
    assert!(*dearest <= STEPS_MAX, "{dearest} steps for one match");
}

#[test]
fn many_unexpected_messages_are_taken_last_first() {
    for (source, ignore) in kinds() {
        let mut queue = MatchQueue::default();
        for number in 0..MANY {
            let tag = u64::from(number) | 0x1000_0000_0000_0000;
            queue.push_unexpected(Unexpected { key: Key::from_wire(number), source: SOURCE, tag });
        }
        let costs: Vec<usize> = (0..MANY)
            .rev()
            .map(|number| {
                let tag = u64::from(number) | 0x1000_0000_0000_0000;
                let (steps, ()) = steps_of(|| {
                    let found = queue.find_unexpected(source, TagMatch { tag, ignore }).unwrap();
                    assert_eq!(found.key, Key::from_wire(number));
                    assert!(queue.remove_unexpected(found.key));
                });
                steps
            })
            .collect();
        assert_bounded(&costs);
    }
}

#[test]
fn many_posted_receives_are_matched_last_first() {
    // Of one kind, and of all kinds among each other.
    for mixed in [0..1, 1..2, 2..3, 3..4, 0..4] {
        let mut queue = MatchQueue::default();
        for number in 0..MANY {
            let (source, ignore) = kinds()[mixed.clone()][number as usize % mixed.len()];
            let tag = TagMatch { tag: u64::from(number), ignore };
            queue.push_posted(Posted { key: Key::from_wire(number), source, tag });
        }
        let costs: Vec<usize> = (0..MANY)
            .rev()
            .map(|number| {
                let (steps, ()) = steps_of(|| {
                    let found = queue.find_posted(SOURCE, u64::from(number)).unwrap();
                    assert_eq!(found.key, Key::from_wire(number));
                    assert!(queue.remove_posted(found.key));
                });
                steps
            })
            .collect();
        assert_bounded(&costs);
    }
}

#[test]
fn what_is_not_there_is_not_searched_for_long() {
    let mut queue = MatchQueue::default();
    for number in 0..MANY {
        queue.push_unexpected(Unexpected { key: Key::from_wire(number), source: SOURCE, tag: 1 });
        let tag = TagMatch { tag: 1, ignore: 0 };
        queue.push_posted(Posted { key: Key::from_wire(number), source: Some(SOURCE), tag });
    }
    let mut miss = |source: Option<PeerId>, tag: u64| {
        steps_of(|| {
            assert_eq!(queue.find_unexpected(source, TagMatch { tag, ignore: 0 }), None);
            assert_eq!(queue.find_posted(source.unwrap_or(SOURCE), tag), None);
        })
        .0
    };
    let costs: Vec<usize> =
        (0..1000).map(|number| miss((number % 2 == 0).then_some(SOURCE), 2 + number)).collect();
    assert!(costs[2..].iter().all(|steps| *steps <= 4), "{costs:?}");
}

#[test]
fn an_index_that_nobody_searches_is_dropped() {
    let mut queue = MatchQueue::default();
    let push = |queue: &mut MatchQueue, number: u32| {
        let tag = u64::from(number);
        queue.push_unexpected(Unexpected { key: Key::from_wire(number), source: SOURCE, tag });
        let tag = TagMatch { tag, ignore: 0 };
        queue.push_posted(Posted { key: Key::from_wire(number), source: Some(SOURCE), tag });
    };
    for number in 0..1000 {
        push(&mut queue, number);
    }
    queue.find_unexpected(Some(SOURCE), TagMatch { tag: 999, ignore: 0 }).unwrap();
    queue.find_posted(SOURCE, 999).unwrap();
    assert!(steps_of(|| push(&mut queue, 1000)).0 > 0, "there is an index");
    let costs: Vec<usize> = (1001..2010).map(|number| steps_of(|| push(&mut queue, number)).0).collect();
    assert!(costs[..900].iter().all(|steps| *steps > 0), "not too soon");
    assert_eq!(costs.last(), Some(&0));
}

#[test]
fn kinds_of_receives_beyond_those_of_an_index_are_matched() {
    const COUNT: u32 = 300;
    let ignore = |number: u32| 1 << (32 + number % 20);
    let mut queue = MatchQueue::default();
    for number in 0..COUNT {
        let tag = TagMatch { tag: u64::from(number), ignore: ignore(number) };
        queue.push_posted(Posted { key: Key::from_wire(number), source: None, tag });
        queue.push_unexpected(Unexpected {
            key: Key::from_wire(number),
            source: SOURCE,
            tag: u64::from(number),
        });
    }
    // The first have indexes, then there are as many as there may be, and the others are walked for.
    for (number, kind) in (0..COUNT).map(|n| (n, n)).chain((0..COUNT).map(|n| (n, n + 10))) {
        let found = queue.find_posted(SOURCE, u64::from(number) | ignore(number));
        assert_eq!(found.map(|posted| posted.key), Some(Key::from_wire(number)));
        let tag = TagMatch { tag: u64::from(number), ignore: ignore(kind) };
        let found = queue.find_unexpected(None, tag);
        assert_eq!(found.map(|message| message.key), Some(Key::from_wire(number)));
    }
}

#[test]
fn kinds_of_receives_that_are_gone_are_not_looked_for() {
    let mut queue = MatchQueue::default();
    for round in 0..3 {
        for number in 0..1000 {
            let (source, ignore) = kinds()[if number < 500 { round } else { number as usize % 4 }];
            let tag = TagMatch { tag: u64::from(number), ignore };
            queue.push_posted(Posted { key: Key::from_wire(number), source, tag });
        }
        // The cheapest of several: an entry is compared in vain when a few bits of two hashes agree.
        let miss = |queue: &mut MatchQueue| {
            let cost = |tag| steps_of(|| assert_eq!(queue.find_posted(SOURCE, tag), None)).0;
            (1 << 20..(1 << 20) + 20).map(cost).min()
        };
        assert_eq!(miss(&mut queue), Some(4));
        for number in (500..1000).rev() {
            assert!(queue.remove_posted(Key::from_wire(number)));
        }
        assert_eq!(miss(&mut queue), Some(1));
        for number in (0..500).rev() {
            assert!(queue.remove_posted(Key::from_wire(number)));
        }
    }
}
