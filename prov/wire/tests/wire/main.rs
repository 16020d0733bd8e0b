//! Tests of the wire format through its public face: vectors written by hand from `prov/docs/protocol.md`, and properties over generated packets.

mod datagram;
mod golden;
mod hostile;
mod print;
mod psn;
mod refusals;
mod round_trip;
mod strategies;
