//! The primitives under the locks and rings: the real ones, or those of the model checker.
//!
//! Nothing but re-exports: what is written against this file behaves the same in both builds.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex};

/// What keeps a store before a later load against a thread that makes this one pass a barrier (`membarrier(2)`): nothing but the compiler has to be told.
#[cfg(not(loom))]
#[inline]
pub(crate) fn light_barrier() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// The model checker has no such barrier for others: each side has its own.
#[cfg(loom)]
pub(crate) fn light_barrier() {
    fence(core::sync::atomic::Ordering::SeqCst);
}

/// Waits a little: `spins` times with the processor, then without.
#[cfg(not(loom))]
pub(crate) fn pause(looks: u32, spins: u32) {
    /// From then on it sleeps: a real-time thread that yields lets none of lower priority run, which may be the one that it waits for.
    const YIELDS: u32 = 1_000;
    if looks < spins {
        core::hint::spin_loop();
    } else if looks < spins + YIELDS {
        std::thread::yield_now();
    } else {
        std::thread::park_timeout(core::time::Duration::from_micros(50));
    }
}

#[cfg(loom)]
pub(crate) fn pause(_looks: u32, _spins: u32) {
    loom::thread::yield_now();
}
