//! The engine of rdgram: endpoints, matching, operations, completion queues, counters, address vectors, memory regions and progress.
//!
//! No system call, no clock, no libfabric type: the world is the [`Datapath`] given to each endpoint. `prov/host` makes it of sockets, `tests/sim` of a seeded network.

mod acks;
mod alike;
mod atomic;
mod atomic_op;
mod av;
mod bundle;
mod cold;
mod count_line;
mod cq;
mod credit;
mod datapath;
mod direct;
mod domain;
mod endpoint;
mod entries;
mod failure;
mod grants;
mod link;
mod local;
mod long_double;
mod matching;
mod mem;
mod message;
mod mr;
mod notices;
mod packet;
mod peer;
mod plan;
mod pool;
mod progress;
mod receive;
mod remnants;
mod rma;
mod slab;
mod submit;
#[cfg(feature = "trace")]
mod trace;
mod train;
mod transmit;
mod types;
mod underway;
mod watch;

pub use atomic_op::{AtomicOp, Datatype, atomic_is_defined};
pub use datapath::*;
pub use domain::{Access, Busy, Domain, DuplicateKey, FailurePending, Region};
pub use local::*;
pub use mem::UserSlice;
pub use plan::{Plan, Scattered};
#[cfg(feature = "trace")]
pub use trace::TraceEvent;
pub use types::*;

pub use rdgram_proto::Instant;
