//! Two contexts against one another over a network that does what a test says, in virtual time. Must never depend on real time or on randomness that a seed does not fix.

mod checklist;
mod death;
mod harness;
mod lossy;
mod path;
#[cfg(feature = "planted")]
mod planted;
mod questions;
mod refusals;
mod rules;
mod windows;
