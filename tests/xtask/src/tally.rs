//! Counts what passed, failed and was skipped, and prints each as it ends.
//! A skip is never a pass: it has its own count and always a reason.

use std::fmt;
use std::time::Instant;

use anyhow::{Error, Result};

/// Returned by a check that cannot run here; carried as an error so that `?` ends the check.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// An error that ends a check as skipped.
pub(crate) fn skip(reason: impl Into<String>) -> Error {
    Error::new(Skip(reason.into()))
}

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    skipped: Vec<String>,
    failed: Vec<String>,
}

impl Tally {
    /// Run one check and print how it ended. `Ok` carries what to say beside "ok".
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String>) -> bool {
        let start = Instant::now();
        let result = check();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(detail) => {
                self.passed += 1;
                println!("  ok      {name} ({seconds:.1} s) {detail}");
                true
            }
            Err(error) => {
                if let Some(Skip(reason)) = error.downcast_ref() {
                    println!("  SKIPPED {name}: {reason}");
                    self.skipped.push(format!("{name}: {reason}"));
                } else {
                    println!("  FAILED  {name} ({seconds:.1} s): {error:#}");
                    self.failed.push(name.to_owned());
                }
                false
            }
        }
    }

    /// Did nothing fail?
    pub(crate) fn clean(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.skipped {
            writeln!(f, "skipped: {reason}")?;
        }
        for name in &self.failed {
            writeln!(f, "failed: {name}")?;
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}
