//! The transport context of rdgram as a value: windows, acknowledgements, loss detection, RTT, congestion control, credits, path MTU, death of peers.
//!
//! Sans-IO: no clock, no socket, and no payload byte ever enters. The engine drives a [`Context`] per peer in this order:
//!
//! 1. for each packet received: [`Context::on_packet`], then by its verdict the kind-specific `on_*`, then [`Context::poll_event`] until empty;
//! 2. [`Context::on_timeout`] when [`Context::next_timeout`] has passed;
//! 3. while it has something to say: [`Context::poll_retransmit`], [`Context::poll_probe`], [`Context::send`] for as long as [`Context::can_send`];
//! 4. [`Context::ack_need`] says whether an acknowledgement is due that nothing in 3 carried: [`Context::ack`].
//!
//! A whole batch of received packets goes through 1 before 3: losses are judged once per batch, when everything that arrived is known.
#![forbid(unsafe_code)]

pub mod cc;
mod config;
mod context;
mod liveness;
mod mtu;
mod planted;
mod refusal;
mod rtt;
mod rx;
#[cfg(test)]
mod tests;
mod time;
mod tx;

#[cfg(feature = "planted")]
pub use planted::plant;

pub use config::{Class, Config, Credit, FIRST_STAGING, Local, Remote};
pub use context::{
    AckNeed, Cold, Context, Counters, Death, Event, Incarnation, PeerFault, Retransmission, Verdict,
    supersedes,
};
pub use planted::{Defect, planted};
pub use time::{Instant, Moment, PollGap};
