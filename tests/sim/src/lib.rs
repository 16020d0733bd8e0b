//! The deterministic simulator of rdgram: real engine endpoints over a seeded network, driven by a seeded workload, judged by oracles.
//!
//! One seed is one run, in one thread, without a clock: the seed reproduces it to the packet. `net` is the network, `local` the memory that endpoints of one host share, `datapath` connects the engine to it, `faults` and
//! `profile` are drawn from the seed, `workload`, `remote_workload` and `region_workload` ask for operations, `ending` brings a run to its end, `oracle`, `remote_oracle`, `matching` and `reference` judge what comes back, `world` is
//! the loop, `runner` runs many seeds.

pub mod arithmetic;
pub mod buffer;
pub mod datapath;
mod ending;
pub mod faults;
pub mod fences;
pub mod local;
pub mod matching;
pub mod model;
pub mod net;
pub mod node;
pub mod oracle;
pub mod profile;
pub mod reference;
pub mod region;
mod region_workload;
pub mod remote;
pub mod remote_oracle;
mod remote_workload;
pub mod rng;
pub mod runner;
mod workload;
pub mod world;
