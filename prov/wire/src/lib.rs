//! The rdgram wire protocol as values: every header of `prov/docs/protocol.md` with its layout, encoder, decoder and printer.
//!
//! Responsible for turning bytes into checked values, once, at the edge, and back. Must never allocate, keep state, read a clock, or decide
//! anything that needs more than the packet at hand: windows, cookies and memory bounds belong to the layers above.
#![no_std]
#![forbid(unsafe_code)]

mod ack;
mod bundle;
mod bytes;
mod llp;
mod malformed;
mod packet;
mod print;
mod psn;
mod reset;
mod segment;
mod syn;

pub use ack::{Ack, SACK_WORDS, WINDOW};
pub use bundle::Bundle;
pub use llp::{Flags, Kind, Llp, VERSION};
pub use malformed::Malformed;
pub use packet::{Body, Packet};
pub use psn::Psn;
pub use reset::{Reset, ResetReason};
pub use segment::{AtomicOpcode, Control, Segment, Start};
pub use syn::Syn;
