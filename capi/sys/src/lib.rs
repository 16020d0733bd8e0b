//! libfabric's types and constants as Rust sees them: no function, no behaviour, nothing linked.
//!
//! - `bindings.rs`: generated from the headers of libfabric 1.17, the oldest version supported.
//! - [`constants`]: what the generator cannot express, and values that later versions added.
//! - [`abi`]: the structures and tables as later versions (up to the unreleased 2.7) extended them.
//!
//! Names are libfabric's own. This crate never links to libfabric: everything a provider needs of it is reached
//! through function pointers resolved at run time.

#[allow(
    missing_docs,
    missing_debug_implementations,
    non_camel_case_types,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    clippy::ptr_as_ptr,
    reason = "generated text keeps the names and the shape of the C headers"
)]
#[rustfmt::skip]
mod bindings;

pub mod abi;
pub mod constants;

pub use bindings::*;
pub use constants::*;
