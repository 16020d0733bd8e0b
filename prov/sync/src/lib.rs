//! Locks chosen by type, the poison latch, counters and the order of a shared ring: the only raw atomics of the provider.
//!
//! Knows no packet, no endpoint and no clock, and makes no system call of its own (parking is the standard
//! library's). Every other crate takes its locking from here, so that one place can be model-checked: with
//! `RUSTFLAGS="--cfg loom" cargo test -p rdgram-sync --test model --release`.
#![allow(unexpected_cfgs, reason = "cfg(loom) is set by the model checker's builds and known to no manifest")]

mod biased;
pub mod fifo;
mod guarded;
mod latch;
mod mutual;
mod number;
mod shim;

pub use biased::Biased;
pub use guarded::{Guard, Guarded, Serialize, Visit};
pub use latch::Latch;
pub use mutual::Mutual;
pub use number::{Generation, Ratchet};
