//! The one tool: see the crate.
fn main() {}
