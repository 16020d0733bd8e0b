//! Which message meets which receive: two queues, posted receives and unexpected messages, each in order of arrival.
//!
//! Tagged and untagged traffic never meet, so each kind has its own pair of queues. What decides a match is kept in the queue itself, so that a search touches one array.
//! This file sees no buffer and no packet.

use std::collections::VecDeque;

use rdgram_proto::{Defect, planted};

use crate::slab::Key;
use crate::types::TagMatch;

/// A peer of an endpoint: index into its peer table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(crate) u32);

/// A posted receive, as far as matching is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    pub(crate) key: Key,
    /// From whom, `None` for anybody.
    pub(crate) source: Option<PeerId>,
    pub(crate) tag: TagMatch,
}

/// An unexpected message, as far as matching is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    pub(crate) key: Key,
    pub(crate) source: PeerId,
    pub(crate) tag: u64,
}

impl Posted {
    fn accepts(&self, source: PeerId, tag: u64) -> bool {
        self.tag.accepts(tag) && self.source.is_none_or(|wanted| wanted == source)
    }
}

/// The two queues of one kind of traffic. For untagged messages every tag is 0 and nothing is ignored.
#[derive(Debug, Default)]
pub(crate) struct MatchQueue {
    posted: VecDeque<Posted>,
    unexpected: VecDeque<Unexpected>,
}

impl MatchQueue {
    /// The oldest posted receive that accepts a message. It stays in the queue.
    pub(crate) fn find_posted(&self, source: PeerId, tag: u64) -> Option<Posted> {
        self.posted.iter().find(|posted| posted.accepts(source, tag)).copied()
    }

    /// The oldest unexpected message that a receive accepts. It stays in the queue.
    pub(crate) fn find_unexpected(&self, source: Option<PeerId>, tag: TagMatch) -> Option<Unexpected> {
        self.unexpected
            .iter()
            .find(|message| tag.accepts(message.tag) && source.is_none_or(|wanted| wanted == message.source))
            .copied()
    }

    pub(crate) fn push_posted(&mut self, posted: Posted) {
        self.posted.push_back(posted);
    }

    pub(crate) fn push_unexpected(&mut self, message: Unexpected) {
        self.unexpected.push_back(message);
        if planted(Defect::MatchOutOfOrder) {
            let last = self.unexpected.len() - 1;
            self.unexpected.swap(last, last.saturating_sub(1));
        }
    }

    /// Puts an unexpected message before all others: a defect that is planted.
    pub(crate) fn push_unexpected_first(&mut self, message: Unexpected) {
        self.unexpected.push_front(message);
    }

    /// Takes a posted receive out. False when it is not there.
    pub(crate) fn remove_posted(&mut self, key: Key) -> bool {
        let found = self.posted.iter().position(|posted| posted.key == key);
        found.and_then(|index| self.posted.remove(index)).is_some()
    }

    /// Takes an unexpected message out. False when it is not there.
    pub(crate) fn remove_unexpected(&mut self, key: Key) -> bool {
        let found = self.unexpected.iter().position(|message| message.key == key);
        found.and_then(|index| self.unexpected.remove(index)).is_some()
    }

    /// All posted receives, oldest first.
    pub(crate) fn posted(&self) -> impl Iterator<Item = &Posted> {
        self.posted.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What libfabric demands, as slowly and plainly as possible.
    #[derive(Default)]
    struct Reference {
        posted: Vec<(u32, Option<PeerId>, TagMatch)>,
        unexpected: Vec<(u32, PeerId, u64)>,
    }

    impl Reference {
        fn post(&mut self, id: u32, source: Option<PeerId>, tag: TagMatch) -> Option<u32> {
            let hit = self
                .unexpected
                .iter()
                .position(|m| source.is_none_or(|s| s == m.1) && (m.2 ^ tag.tag) & !tag.ignore == 0);
            if let Some(index) = hit {
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

    #[derive(Clone, Debug)]
    enum Step {
        Post { source: Option<u32>, tag: u64, ignore: u64 },
        Arrive { source: u32, tag: u64 },
        Cancel(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (prop::option::of(0u32..3), 0u64..4, prop_oneof![Just(0u64), Just(1), Just(3), Just(u64::MAX)])
                .prop_map(|(source, tag, ignore)| Step::Post { source, tag, ignore }),
            (0u32..3, 0u64..4).prop_map(|(source, tag)| Step::Arrive { source, tag }),
            any::<prop::sample::Index>().prop_map(Step::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn matches_as_the_reference_does(steps in prop::collection::vec(step(), 1..200)) {
            let mut queue = MatchQueue::default();
            let mut reference = Reference::default();
            for (number, step) in steps.into_iter().enumerate() {
                let id = u32::try_from(number).unwrap();
                let key = Key::from_wire(id);
                match step {
                    Step::Post { source, tag, ignore } => {
                        let (source, tag) = (source.map(PeerId), TagMatch { tag, ignore });
                        let hit = queue.find_unexpected(source, tag);
                        match hit {
                            Some(message) => prop_assert!(queue.remove_unexpected(message.key)),
                            None => queue.push_posted(Posted { key, source, tag }),
                        }
                        prop_assert_eq!(hit.map(|m| m.key), reference.post(id, source, tag).map(Key::from_wire));
                    }
                    Step::Arrive { source, tag } => {
                        let source = PeerId(source);
                        let hit = queue.find_posted(source, tag);
                        match hit {
                            Some(posted) => prop_assert!(queue.remove_posted(posted.key)),
                            None => queue.push_unexpected(Unexpected { key, source, tag }),
                        }
                        prop_assert_eq!(hit.map(|p| p.key), reference.arrive(id, source, tag).map(Key::from_wire));
                    }
                    Step::Cancel(index) => {
                        if !reference.posted.is_empty() {
                            let victim = reference.posted.remove(index.index(reference.posted.len())).0;
                            prop_assert!(queue.remove_posted(Key::from_wire(victim)));
                            prop_assert!(!queue.remove_posted(Key::from_wire(victim)));
                        }
                    }
                }
                prop_assert_eq!(queue.posted().count(), reference.posted.len());
                prop_assert_eq!(queue.unexpected.len(), reference.unexpected.len());
            }
        }
    }
}
