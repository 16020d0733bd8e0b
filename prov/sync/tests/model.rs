//! Every interleaving of small programs over the locks and the shared ring, explored by the model checker.
#![allow(unexpected_cfgs, reason = "cfg(loom) is set by the model checker's builds and known to no manifest")]
#![cfg(loom)]

#[path = "model/fifo.rs"]
mod fifo;

use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;

use loom::sync::Arc;
use loom::sync::atomic::fence;
use loom::thread;
use rdgram_sync::{Biased, Guarded, Mutual};

/// `threads` threads (one of them the model's own) enter `turns` times each. A lost wake-up would be a deadlock,
/// which the checker reports; a broken exclusion or ordering is a race
/// on the checker's cell.
fn count(threads: usize, turns: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        // SAFETY: a mutual lock asks for no promise.
        let counter = Arc::new(unsafe { Guarded::<Mutual, _>::new(UnsafeCell::new(0)) });
        let work = move |counter: &Guarded<Mutual, UnsafeCell<usize>>| {
            for _ in 0..turns {
                let inside = counter.enter();
                // SAFETY: this thread has the turn; the checker verifies just that.
                inside.with_mut(|count| unsafe { *count += 1 });
            }
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || work(&counter))
            })
            .collect();
        work(&counter);
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: all other threads were joined.
        let total = counter.enter().with(|count| unsafe { *count });
        assert_eq!(total, threads * turns);
    });
}

#[test]
fn two_threads_never_miss_a_wake_up() {
    count(2, 3);
}

#[test]
fn three_threads_never_miss_a_wake_up() {
    count(3, 1);
}

/// A thread that gives way, as the progress thread does, beside two that wait for their turns: it never gets in with another, not even while the lock is
/// handed over, and what it takes and gives back wakes whoever parked meanwhile.
#[test]
fn who_gives_way_neither_breaks_in_nor_leaves_others_parked() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        // SAFETY: a mutual lock asks for no promise.
        let counter = Arc::new(unsafe { Guarded::<Mutual, _>::new(UnsafeCell::new(0)) });
        let others: Vec<_> = (0..2)
            .map(|_| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    let inside = counter.enter();
                    // SAFETY: this thread has the turn; the checker verifies just that.
                    inside.with_mut(|count| unsafe { *count += 1 });
                })
            })
            .collect();
        let mut turns = 0;
        for _ in 0..2 {
            if let Some(inside) = counter.try_enter() {
                // SAFETY: this thread has the turn; the checker verifies just that.
                inside.with_mut(|count| unsafe { *count += 1 });
                turns += 1;
            }
        }
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: all other threads were joined.
        let total = counter.enter().with(|count| unsafe { *count });
        assert_eq!(total, 2 + turns);
    });
}

/// The application's thread enters without a barrier of its own, a visitor comes and goes: never both inside, and each sees what the other one did.
#[test]
fn a_visitor_and_the_application_never_meet() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        // SAFETY: one thread enters, the other one only visits.
        let counter = Arc::new(unsafe { Guarded::<Biased, _>::new(UnsafeCell::new(0)) });
        let visitor = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                let mut visits = 0;
                for _ in 0..2 {
                    if let Some(inside) = counter.visit(|| {
                        fence(Ordering::SeqCst);
                        true
                    }) {
                        // SAFETY: this thread has the turn; the checker verifies just that.
                        inside.with_mut(|count| unsafe { *count += 1 });
                        visits += 1;
                    }
                }
                visits
            })
        };
        for _ in 0..2 {
            let inside = counter.enter();
            // SAFETY: as above.
            inside.with_mut(|count| unsafe { *count += 1 });
        }
        let visits = visitor.join().unwrap();
        // SAFETY: the other thread was joined.
        let total = counter.enter().with(|count| unsafe { *count });
        assert_eq!(total, 2 + visits);
    });
}
