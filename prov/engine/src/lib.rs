//! The engine of rdgram: endpoints, matching, operations, completion queues, counters, address vectors, memory regions and progress.
//!
//! No system call, no clock, no libfabric type: the world is the [`Datapath`] given to each endpoint. `prov/host` makes it of sockets, `tests/sim` of a seeded network.

mod datapath;
mod domain;
mod mem;
mod types;

pub use datapath::*;
pub use domain::*;
pub use mem::UserSlice;
pub use types::*;

pub use rdgram_proto::Instant;
