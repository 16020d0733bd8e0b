//! The C face of rdgram: libfabric's objects, operations tables and attributes over the engine.
//!
//! Responsible for everything that names a libfabric type: casts from fids, ops tables, flags, errno, completion formats, `fi_info`, parameters, logging.
//! Must never touch a packet, hold protocol state, or let a panic cross into C.
//!
//! | file | what |
//! |---|---|
//! | `fid`, `cptr`, `guard` | the only casts from fids, the only raw C pointers, the wall against panics |
//! | `errno`, `flags` | the one mapping of errors, the one mapping of flags |
//! | `provider`, `info`, `address`, `fabric`, `eq`, `param`, `log` | what a process has one of, and what needs no domain |
//! | `domain`, `cq`, `cntr`, `poll`, `av`, `mr`, `ep`, `cm` | the objects of a domain |
//! | `msg`, `tagged`, `transfer` | the data path |
//! | `wait`, `idle`, `progress`, `exit` | who wakes whom; reads in vain; the thread of FI_PROGRESS_AUTO; the end of the process |
//! | `notice` | what the user is told of endpoints on stderr |
//! | `tostr` | objects in words |
//! | `stubs` | every slot of what is not offered |

mod address;
mod atomic;
mod av;
mod cm;
mod cntr;
mod cptr;
mod cq;
mod domain;
mod ep;
mod eq;
mod errno;
mod exit;
mod fabric;
mod fid;
mod flags;
mod guard;
mod idle;
mod info;
mod log;
#[cfg(test)]
mod manual;
mod mr;
mod msg;
mod notice;
mod param;
mod poll;
mod progress;
mod provider;
mod rma;
mod stubs;
mod tagged;
mod tostr;
mod transfer;
mod wait;

pub use provider::*;
