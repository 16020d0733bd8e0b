//! Placeholder of the first commits: being written.
