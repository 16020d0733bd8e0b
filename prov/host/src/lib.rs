//! The real world behind the engine's traits: sockets, the clock, interfaces, waiting, forks.
//!
//! Everything that asks the operating system and is not a socket call is here. Knows no header and no operation.
//!
//! - `datapath`: the engine's datapath over UDP
//! - [`clock`]: the only clock reads of the provider
//! - [`interfaces`]: which addresses this host has, which of them to use, and the routes from them
//! - `local`: the engine's way to endpoints of this host through memory
//! - [`wait`]: blocking until a datagram, a timer or another thread wakes
//! - [`runqueue`]: how long a thread waited for a processor
//! - [`fork`]: telling a forked child from its parent
//! - [`thread`]: a thread of the provider's own

pub mod clock;
mod datapath;
pub mod fork;
pub mod interfaces;
mod local;
pub mod membarrier;
pub mod runqueue;
pub mod thread;
pub mod wait;

pub use datapath::HostDatapath;
pub use local::{Dma, Report};
pub use rdgram_udp::Options as SocketOptions;
