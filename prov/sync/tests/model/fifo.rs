//! Every interleaving of small programs over the shared ring; and the same programs with a mistake planted, which must
//! be found.

use core::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Arc, Notify};
use loom::thread;
use rdgram_sync::fifo::{self, Consumer, Look, Mistake, Owner, Ring, Slots};

/// No mistake, and one after the other.
const PLANTS: [Option<Mistake>; 8] = [
    None,
    Some(Mistake::PublicationUnordered),
    Some(Mistake::ReleaseUnordered),
    Some(Mistake::WakeUnordered),
    Some(Mistake::SleepUnchecked),
    Some(Mistake::LapIgnored),
    Some(Mistake::HoleForgotten),
    Some(Mistake::HoleFreedBlindly),
];

const NONE: usize = 0;
const PUBLICATION_UNORDERED: usize = 1;
const RELEASE_UNORDERED: usize = 2;
const WAKE_UNORDERED: usize = 3;
const SLEEP_UNCHECKED: usize = 4;
const LAP_IGNORED: usize = 5;
const HOLE_FORGOTTEN: usize = 6;
const HOLE_FREED_BLINDLY: usize = 7;

/// A ring whose slots hold one number each, of which the checker sees every unordered access.
struct Shared<const PLANT: usize> {
    ring: Ring,
    states: Vec<AtomicU64>,
    numbers: Vec<UnsafeCell<u32>>,
    tail: AtomicU64,
    sleeping: AtomicU32,
}

impl<const PLANT: usize> Slots for Shared<PLANT> {
    const MISTAKE: Option<Mistake> = PLANTS[PLANT];

    fn state(&self, index: usize) -> &AtomicU64 {
        &self.states[index]
    }

    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    fn sleeping(&self) -> &AtomicU32 {
        &self.sleeping
    }
}

impl<const PLANT: usize> Shared<PLANT> {
    fn new(slots: u32) -> Arc<Self> {
        Arc::new(Self {
            ring: Ring::new(slots).expect("a power of two"),
            states: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            numbers: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            tail: AtomicU64::new(0),
            sleeping: AtomicU32::new(0),
        })
    }

    /// Puts one number; what the publication said, or `None` when the ring was full.
    fn try_put(&self, owner: u32, number: u32) -> Option<Option<bool>> {
        let claim = fifo::claim(self, self.ring, Owner::new(owner))?;
        // SAFETY: the slot is claimed; the checker verifies just that.
        self.numbers[claim.index()].with_mut(|place| unsafe { *place = number });
        Some(fifo::publish(self, claim))
    }

    /// Puts one number, waiting for room.
    fn put(&self, owner: u32, number: u32) -> Option<bool> {
        loop {
            match self.try_put(owner, number) {
                Some(published) => return published,
                None => thread::yield_now(),
            }
        }
    }

    /// Takes one number with its owner, if there is one.
    fn take(&self, consumer: &mut Consumer) -> Option<(u32, u32)> {
        match consumer.next(self) {
            Look::Nothing => None,
            Look::Corrupt(owner) => panic!("corrupt: {owner:?}"),
            Look::Item(taken) => {
                // SAFETY: the item is in hand; the checker verifies just that.
                let number = self.numbers[taken.index()].with(|place| unsafe { *place });
                let owner = taken.owner().number();
                consumer.release(self, taken);
                Some((owner, number))
            }
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// `producers` put `each` numbers, counting up, into `slots` slots. All of them arrive, each producer's in order.
fn all_arrive_in_order<const PLANT: usize>(slots: u32, producers: u32, each: u32) {
    check(move || {
        let shared = Shared::<PLANT>::new(slots);
        let threads: Vec<_> = (0..producers)
            .map(|owner| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for number in 1..=each {
                        assert_eq!(shared.put(owner, number), Some(false));
                    }
                })
            })
            .collect();
        let mut consumer = Consumer::new(shared.ring);
        let mut last = vec![0; producers as usize];
        let mut left = producers * each;
        while left > 0 {
            let Some((owner, number)) = shared.take(&mut consumer) else {
                thread::yield_now();
                continue;
            };
            last[owner as usize] += 1;
            assert_eq!(number, last[owner as usize], "in order");
            left -= 1;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(shared.take(&mut consumer), None);
        assert!(!consumer.has_items(&*shared) && !consumer.has_holes());
    });
}

#[test]
fn two_producers_publish_and_one_consumer_takes() {
    all_arrive_in_order::<NONE>(4, 2, 2);
}

#[test]
fn the_ring_wraps_and_fills() {
    all_arrive_in_order::<NONE>(2, 1, 4);
}

/// Two producers meet in a ring that has no room for both. What found room arrives, and what was refused was refused by a full ring.
#[test]
fn two_producers_fill_a_ring_of_two() {
    check(|| {
        let shared = Shared::<NONE>::new(2);
        let threads: Vec<_> = (0..2)
            .map(|owner| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    (1..=2).filter(|&number| shared.try_put(owner, number).is_some()).count()
                })
            })
            .collect();
        let mut consumer = Consumer::new(shared.ring);
        let mut taken: Vec<_> = (0..2).filter_map(|_| shared.take(&mut consumer)).collect();
        let put: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(put.iter().sum::<usize>() >= 2, "there was room for two");
        taken.extend(core::iter::from_fn(|| shared.take(&mut consumer)));
        for owner in 0..2 {
            let numbers: Vec<_> = taken.iter().filter(|item| item.0 == owner).map(|item| item.1).collect();
            assert_eq!(numbers.len(), put[owner as usize]);
            assert!(numbers.is_sorted(), "in order");
        }
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_unordered_publication_is_found() {
    all_arrive_in_order::<PUBLICATION_UNORDERED>(4, 1, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_unordered_release_is_found() {
    all_arrive_in_order::<RELEASE_UNORDERED>(2, 1, 4);
}

#[test]
#[should_panic]
fn an_ignored_lap_is_found() {
    all_arrive_in_order::<LAP_IGNORED>(2, 1, 4);
}

#[test]
#[should_panic(expected = "in order")]
fn a_forgotten_hole_is_found() {
    all_arrive_in_order::<HOLE_FORGOTTEN>(4, 1, 2);
}

/// A producer dies with a claim. Another's items pass it by, its slot comes back, and the ring is whole.
#[test]
fn a_dead_claimant_holds_up_nobody() {
    check(|| {
        let shared = Shared::<NONE>::new(2);
        let dies = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || drop(fifo::claim(&*shared, shared.ring, Owner::new(7))))
        };
        let lives = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.try_put(1, 1))
        };
        let mut consumer = Consumer::new(shared.ring);
        let early = shared.take(&mut consumer);
        dies.join().unwrap();
        assert_eq!(lives.join().unwrap(), Some(Some(false)));
        let late = shared.take(&mut consumer);
        assert_eq!(early.or(late), Some((1, 1)));
        assert_eq!(shared.take(&mut consumer), None);
        consumer.abandon(&*shared, |owner| owner == Owner::new(7));
        assert!(!consumer.has_holes());
        for number in 0..3 {
            assert_eq!(shared.try_put(1, number), Some(Some(false)));
            assert_eq!(shared.take(&mut consumer), Some((1, number)));
        }
    });
}

/// A producer is called dead while it publishes: either its item arrives, or it is told that it did not.
fn what_was_published_arrives<const PLANT: usize>() {
    check(|| {
        let shared = Shared::<PLANT>::new(2);
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.try_put(7, 1))
        };
        let mut consumer = Consumer::new(shared.ring);
        let early = shared.take(&mut consumer);
        consumer.abandon(&*shared, |_| true);
        let published = thread.join().unwrap().expect("there was room");
        let arrived = early.or_else(|| shared.take(&mut consumer)).is_some();
        assert_eq!(arrived, published.is_some(), "published and arrived");
    });
}

#[test]
fn a_claimant_called_dead_loses_nothing_unknowingly() {
    what_was_published_arrives::<NONE>();
}

#[test]
#[should_panic]
fn a_blindly_freed_hole_is_found() {
    what_was_published_arrives::<HOLE_FREED_BLINDLY>();
}

/// A consumer that found nothing sleeps, and two producers wake it. A lost wake-up is a deadlock, which the checker reports.
fn sleepers_are_woken<const PLANT: usize>(producers: u32) {
    check(move || {
        let shared = Shared::<PLANT>::new(4);
        let bell = Arc::new(Notify::new());
        let threads: Vec<_> = (0..producers)
            .map(|owner| {
                let (shared, bell) = (Arc::clone(&shared), Arc::clone(&bell));
                thread::spawn(move || {
                    if shared.put(owner, 1) == Some(true) {
                        bell.notify();
                    }
                })
            })
            .collect();
        let mut consumer = Consumer::new(shared.ring);
        let mut left = producers;
        while left > 0 {
            if shared.take(&mut consumer).is_some() {
                left -= 1;
            } else if consumer.sleep(&*shared) {
                bell.wait();
                Consumer::awake(&*shared);
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(shared.sleeping.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn no_wake_up_is_lost() {
    sleepers_are_woken::<NONE>(1);
    sleepers_are_woken::<NONE>(2);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_up_before_the_publication_is_found() {
    sleepers_are_woken::<WAKE_UNORDERED>(1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleep_without_a_second_look_is_found() {
    sleepers_are_woken::<SLEEP_UNCHECKED>(1);
}
