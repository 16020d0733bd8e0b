//! Takes the stacks of MPI ranks that hang, with gdb, before they are ended.
//! It must never fail a run: what it cannot take it says in the file it writes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::packages;

/// One of these is in the environment of every rank and not in that of the launchers.
const RANK_VARIABLES: [&str; 3] = ["PMI_RANK=", "OMPI_COMM_WORLD_RANK=", "PMIX_RANK="];
/// gdb itself may hang in a process that is being ended.
const SECONDS: &str = "30";

/// Write the stacks of those of `pids` that are ranks to `file`.
pub(crate) fn save(pids: &[u32], file: &Path) {
    let mut text = String::new();
    let ranks: Vec<(u32, String)> = pids.iter().filter_map(|pid| Some((*pid, rank_of(*pid)?))).collect();
    if ranks.is_empty() {
        return;
    }
    for (pid, rank) in ranks {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "==== {rank}, process {pid}\n{}", stack(pid));
    }
    if let Err(error) = fs::write(file, text) {
        eprintln!("    cannot write {}: {error}", file.display());
    }
}

/// Says where the stacks are, if any were taken.
pub(crate) fn mention(file: &Path) -> String {
    if file.is_file() { format!(" (the ranks' stacks: {})", file.display()) } else { String::new() }
}

fn rank_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let variable = String::from_utf8_lossy(variable);
        RANK_VARIABLES.iter().any(|name| variable.starts_with(name)).then(|| variable.into_owned())
    })
}

fn stack(pid: u32) -> String {
    if !packages::program_exists("gdb") {
        return "gdb is not installed: no stack".to_owned();
    }
    let output = Command::new("timeout")
        .args([SECONDS, "gdb", "-nx", "-batch", "-ex", "thread apply all backtrace 30", "-p"])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("gdb cannot be run: {error}"),
    }
}
