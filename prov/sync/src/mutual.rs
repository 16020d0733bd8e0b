//! Mutual exclusion for `FI_THREAD_SAFE`: one compare-and-swap when uncontended, parking when not, no starvation.
//!
//! Never touches the parking lot on the uncontended path.

use core::fmt;
use core::sync::atomic::Ordering;

use crate::Serialize;
use crate::shim::{AtomicU32, Condvar, Mutex};

/// Nobody is inside.
const FREE: u32 = 0;
/// One thread is inside and nobody is parked, as far as anyone knows.
const HELD: u32 = 1;
/// One thread is inside and there may be parked threads: `leave` must look.
const CONTENDED: u32 = 2;

/// Looks at the lock before parking. The sections inside are shorter than a sleep and a wake-up; but with few
/// cores the holder may not be running at all, so this stays well under a microsecond.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// Wake-ups in vain (another thread took the free lock first) before `leave` hands the lock to a parked thread
/// directly. A thread that polls in a tight loop would otherwise win nearly every time.
const BARGES_MAX: u32 = if cfg!(loom) { 1 } else { 4 };

/// What parked threads wait for.
#[derive(Default)]
struct Parking {
    /// Threads in the condition variable's queue, or about to be.
    parked: u32,
    /// Releases since a parked thread last got in.
    barges: u32,
    /// The lock was handed over, still `CONTENDED`: the first thread to see this has it.
    handed: bool,
}

/// A mutual-exclusion lock that never starves a thread.
pub struct Mutual {
    state: AtomicU32,
    parking: Mutex<Parking>,
    wake: Condvar,
}

impl Default for Mutual {
    fn default() -> Self {
        Self { state: AtomicU32::new(FREE), parking: Mutex::new(Parking::default()), wake: Condvar::new() }
    }
}

impl fmt::Debug for Mutual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutual").finish_non_exhaustive()
    }
}

// SAFETY: a thread gets in by changing FREE to something else, or by taking `handed` under the parking mutex, which
// one leaving thread set instead of writing FREE. So one at a time. The Acquire of the former pairs with the
// Release in `leave`; the latter is ordered by the parking mutex, which the leaving thread locked last.
unsafe impl Serialize for Mutual {
    #[inline]
    fn enter(&self) {
        if !self.try_enter() {
            self.enter_contended();
        }
    }

    #[inline]
    fn try_enter(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn leave(&self) {
        if self.state.compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.leave_contended();
        }
    }
}

impl Mutual {
    #[cold]
    fn enter_contended(&self) {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.state.load(Ordering::Relaxed) == FREE && self.try_enter() {
                return;
            }
        }
        let mut parking = lock(&self.parking);
        parking.parked += 1;
        loop {
            // CONTENDED is written under the mutex that `leave_contended` takes: a thread that leaves after this
            // line either finds FREE taken by us, or waits for the mutex until we are in the queue.
            if parking.handed {
                parking.handed = false;
                break;
            }
            if self.state.swap(CONTENDED, Ordering::Acquire) == FREE {
                break;
            }
            parking = match self.wake.wait(parking) {
                Ok(parking) => parking,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        // The state stays CONTENDED even when nobody else is parked: that costs one look at leaving.
        parking.parked -= 1;
        parking.barges = 0;
    }

    #[cold]
    fn leave_contended(&self) {
        let mut parking = lock(&self.parking);
        if parking.parked == 0 {
            self.state.store(FREE, Ordering::Release);
            return;
        }
        parking.barges += 1;
        if parking.barges > BARGES_MAX {
            parking.handed = true;
        } else {
            self.state.store(FREE, Ordering::Release);
        }
        drop(parking);
        self.wake.notify_one();
    }
}

/// Locks the parking lot. No code that can panic runs while it is locked, so poison says nothing.
fn lock(parking: &Mutex<Parking>) -> ParkingGuard<'_> {
    match parking.lock() {
        Ok(parking) => parking,
        Err(poisoned) => poisoned.into_inner(),
    }
}

#[cfg(loom)]
type ParkingGuard<'a> = loom::sync::MutexGuard<'a, Parking>;
#[cfg(not(loom))]
type ParkingGuard<'a> = std::sync::MutexGuard<'a, Parking>;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::Guarded;

    #[test]
    fn eight_threads_count_right() {
        const EACH: u64 = 20_000;
        // SAFETY: a mutual lock asks for no promise.
        let count = unsafe { Guarded::<Mutual, u64>::new(0) };
        thread::scope(|scope| {
            for index in 0..8 {
                let count = &count;
                scope.spawn(move || {
                    for turn in 0..EACH {
                        // A few non-waiting tries among the waits, and a loss-prone read-modify-write inside.
                        let mut inside = match count.try_enter() {
                            Some(inside) if (turn + index) % 3 == 0 => inside,
                            other => {
                                drop(other);
                                count.enter()
                            }
                        };
                        let seen = *inside;
                        if turn % 64 == 0 {
                            thread::yield_now();
                        }
                        *inside = seen + 1;
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 8 * EACH);
    }

    #[test]
    fn nothing_is_left_of_a_quarrel() {
        let mutual = Mutual::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        mutual.enter();
                        thread::yield_now();
                        mutual.leave();
                    }
                });
            }
        });
        assert!(mutual.try_enter());
        mutual.leave();
        let parking = lock(&mutual.parking);
        assert_eq!((parking.parked, parking.handed), (0, false));
    }

    #[test]
    fn a_parked_thread_that_wakes_in_vain_is_given_the_lock() {
        let mutual = Mutual::default();
        // As a parked thread leaves it, that always wakes too late.
        lock(&mutual.parking).parked = 1;
        for _ in 0..BARGES_MAX {
            assert!(mutual.try_enter(), "somebody else is faster");
            mutual.state.store(CONTENDED, Ordering::Relaxed);
            mutual.leave();
        }
        assert!(mutual.try_enter());
        mutual.state.store(CONTENDED, Ordering::Relaxed);
        mutual.leave();
        assert!(!mutual.try_enter(), "nobody gets in before the parked one");
        // Which this thread now is.
        lock(&mutual.parking).parked = 0;
        mutual.enter();
        assert!(!mutual.try_enter());
        mutual.leave();
        assert!(mutual.try_enter());
    }

    #[test]
    fn a_polling_thread_does_not_starve_another() {
        // SAFETY: a mutual lock asks for no promise.
        let done = unsafe { Guarded::<Mutual, bool>::new(false) };
        thread::scope(|scope| {
            let first = done.enter();
            scope.spawn(|| *done.enter() = true);
            drop(first);
            // Leaves the lock for an instant only; ends when the other got its turn, or never.
            while !*done.enter() {}
        });
        assert!(done.into_inner());
    }
}
