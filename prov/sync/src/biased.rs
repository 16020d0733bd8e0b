//! The flavour for an application that keeps its own threads apart: its calls cost two plain stores and a look, and a thread of ours may come in while it is away.
//!
//! The asymmetric form of Dekker's exclusion: each side says that it comes, then looks whether the other one does. The barrier between the two, which both need, is left to
//! the visitor alone, who comes seldom: it makes every other thread of the process pass one (`membarrier(2)`).

use core::fmt;
use core::sync::atomic::Ordering;

use crate::Serialize;
use crate::shim::{AtomicU32, light_barrier, pause};

/// Looks at a visitor's going before the processor is given away: what a visitor does takes microseconds, but it may have lost its processor.
const SPINS: u32 = 64;

/// `FI_THREAD_DOMAIN`: the application serialises all calls that reach one domain.
pub struct Biased {
    /// Counts enters and leaves of the application: odd while it is inside.
    turns: AtomicU32,
    /// Counts the begins and ends of visits: odd while a visitor is inside, or looks whether it may come in.
    visits: AtomicU32,
}

impl Default for Biased {
    fn default() -> Self {
        Self { turns: AtomicU32::new(0), visits: AtomicU32::new(0) }
    }
}

impl fmt::Debug for Biased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Biased").finish_non_exhaustive()
    }
}

// SAFETY: that the application's calls come one at a time is the promise of whoever made this (the unsafe `Guarded::new`). Of the application and a visitor, the one
// whose store came later in the order that the barriers make sees the other's, and gives way. What either did inside is seen by the next: the Acquire of `visits` in `enter` pairs
// with the Release in `end_visit`, that of `turns` in `visit` with the Release in `leave`.
unsafe impl Serialize for Biased {
    #[inline]
    fn enter(&self) {
        if let Err(visit) = self.come() {
            self.await_end_of(visit);
        }
    }

    #[inline]
    fn try_enter(&self) -> bool {
        let turn = self.turns.load(Ordering::Relaxed);
        if turn % 2 != 0 {
            return false;
        }
        let alone = self.come().is_ok();
        if !alone {
            self.turns.store(turn, Ordering::Release);
        }
        alone
    }

    #[inline]
    fn leave(&self) {
        // Nobody else writes it.
        let turn = self.turns.load(Ordering::Relaxed);
        // Even, whatever was: a call that was left by a jump, or two that met against the promise, must not make "inside" of "outside" for good.
        self.turns.store((turn | 1).wrapping_add(1), Ordering::Release);
    }

    fn turns(&self) -> Option<u32> {
        Some(self.turns.load(Ordering::Relaxed))
    }

    fn visit(&self, heavy_barrier: impl FnOnce() -> bool) -> bool {
        let visits = self.visits.load(Ordering::Relaxed);
        // Of several visitors one.
        if visits % 2 != 0
            || self
                .visits
                .compare_exchange(visits, visits.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        if heavy_barrier() && self.turns.load(Ordering::Acquire) % 2 == 0 {
            return true;
        }
        self.end_visit();
        false
    }

    fn end_visit(&self) {
        // Nobody else writes it meanwhile. Release also when the visitor was refused: who reads this must see what the visit before it did.
        let visit = self.visits.load(Ordering::Relaxed);
        self.visits.store(visit.wrapping_add(1), Ordering::Release);
    }
}

impl Biased {
    /// The application comes. The number of the visit when a visitor is there, or may be.
    #[inline]
    fn come(&self) -> Result<(), u32> {
        let turn = self.turns.load(Ordering::Relaxed);
        debug_assert!(
            turn % 2 == 0,
            "FI_THREAD_DOMAIN: two calls are inside one domain at once; the application must serialise them or open the domain with FI_THREAD_SAFE"
        );
        self.turns.store(turn | 1, Ordering::Relaxed);
        light_barrier();
        let visits = self.visits.load(Ordering::Acquire);
        if visits % 2 == 0 { Ok(()) } else { Err(visits) }
    }

    /// Waits for that visit alone: whoever comes after it finds the application inside and goes, so one that tries again and again keeps nobody waiting.
    #[cold]
    fn await_end_of(&self, visit: u32) {
        let mut looks = 0_u32;
        while self.visits.load(Ordering::Acquire) == visit {
            pause(looks, SPINS);
            looks = looks.saturating_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::sync::atomic::{AtomicBool, fence};
    use std::thread;

    use super::*;
    use crate::Guarded;

    fn fenced() -> bool {
        fence(Ordering::SeqCst);
        true
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "FI_THREAD_DOMAIN")]
    fn second_call_inside_is_detected() {
        let biased = Biased::default();
        biased.enter();
        biased.enter();
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn two_calls_at_once_do_not_turn_inside_and_outside_around() {
        let biased = Biased::default();
        biased.enter();
        biased.enter();
        biased.leave();
        biased.leave();
        biased.enter();
        assert!(!biased.visit(fenced), "the application is inside");
        biased.leave();
        assert!(biased.visit(fenced));
    }

    #[test]
    fn calls_in_turn_pass_and_are_counted() {
        let biased = Biased::default();
        for turn in 0..3 {
            assert_eq!(biased.turns(), Some(4 * turn));
            biased.enter();
            biased.leave();
            assert!(biased.try_enter());
            biased.leave();
        }
    }

    #[test]
    fn a_visitor_comes_in_only_while_the_application_is_away_which_then_waits() {
        let biased = Biased::default();
        biased.enter();
        assert!(!biased.visit(fenced) && !biased.try_enter());
        biased.leave();
        assert!(!biased.visit(|| false), "without a barrier nobody comes in");
        assert!(biased.visit(fenced));
        assert!(!biased.try_enter() && !biased.visit(fenced));
        let entered = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                biased.enter();
                entered.store(true, Ordering::Relaxed);
                biased.leave();
            });
            for _ in 0..1000 {
                thread::yield_now();
            }
            assert!(!entered.load(Ordering::Relaxed));
            biased.end_visit();
        });
        assert!(entered.load(Ordering::Relaxed));
    }

    #[test]
    fn a_visitor_that_comes_again_and_again_keeps_nobody_waiting() {
        let biased = Biased::default();
        assert!(biased.visit(fenced));
        // What `enter` does, in steps: the application comes during the first visit, and looks for its end during the second one.
        let seen = biased.come().expect_err("a visitor is inside");
        biased.end_visit();
        let refused = biased.visit(|| {
            biased.await_end_of(seen);
            true
        });
        assert!(!refused, "the application is inside");
        biased.leave();
    }

    /// By the kernel's barrier, as in earnest: exclusion, and what is seen of the other's work.
    #[test]
    fn application_and_visitor_count_right() {
        const EACH: u32 = 20_000;
        // SAFETY: one thread enters, the other one only visits.
        let count = unsafe { Guarded::<Biased, u32>::new(0) };
        let done = AtomicBool::new(false);
        let visits = thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                let mut visits = 0;
                while !done.load(Ordering::Relaxed) {
                    if let Some(mut inside) = count.visit(membarrier) {
                        *inside += 1;
                        visits += 1;
                    }
                }
                visits
            });
            for turn in 0..EACH {
                *count.enter() += 1;
                // A visitor needs a moment without a call.
                if turn % 64 == 0 {
                    thread::park_timeout(core::time::Duration::from_micros(100));
                }
            }
            done.store(true, Ordering::Relaxed);
            visitor.join().expect("no panic")
        });
        assert_ne!(visits, 0, "it never came in");
        assert_eq!(count.into_inner(), EACH + visits);
    }

    /// What the host's makes the kernel do.
    fn membarrier() -> bool {
        const PRIVATE_EXPEDITED: libc::c_long = 1 << 3;
        const REGISTER_PRIVATE_EXPEDITED: libc::c_long = 1 << 4;
        for command in [REGISTER_PRIVATE_EXPEDITED, PRIVATE_EXPEDITED] {
            // SAFETY: takes no pointer.
            let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
            assert_eq!(result, 0, "this kernel has no membarrier");
        }
        true
    }
}
