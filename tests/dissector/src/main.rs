//! Judges the Wireshark dissector (`prov/docs/wireshark/rdgram.lua`): tshark and the wire crate read the same bytes, and have to say the same of them.
//!
//! Drives tshark, which has to be installed. Must never look at what the dissector's source says: only at what it shows.

mod capture;
mod counters;
// The values and the generators of the wire crate's own tests: every header, with the edges of its integers drawn often.
#[path = "../../../prov/wire/tests/wire/datagram.rs"]
mod datagram;
mod expected;
mod generated;
mod hostile;
#[path = "../../../prov/wire/tests/wire/strategies.rs"]
mod strategies;
mod traffic;
mod tshark;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::tshark::Tshark;

/// Compare what the Wireshark dissector shows with what the wire crate decodes.
#[derive(Debug, Parser)]
struct Cli {
    /// The dissector.
    #[arg(long)]
    dissector: PathBuf,
    /// A directory for files that are removed again.
    #[arg(long)]
    scratch: PathBuf,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A capture of the provider's traffic, and the counters that it printed meanwhile.
    Traffic {
        #[arg(long)]
        capture: PathBuf,
        /// What the programs printed, with FI_RDGRAM_STATS=1.
        #[arg(long)]
        log: PathBuf,
    },
    /// Packets of every kind, drawn at random.
    Generated {
        #[arg(long, default_value_t = 2000)]
        packets: usize,
    },
    /// Packets damaged in every way, captures that were cut, and traffic of others.
    Hostile {
        #[arg(long, default_value_t = 16_000)]
        packets: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<String> {
    let tshark = Tshark::new(&cli.dissector, &cli.scratch)?;
    match &cli.task {
        Task::Traffic { capture, log } => traffic::judge(&tshark, capture, log),
        Task::Generated { packets } => generated::judge(&tshark, *packets),
        Task::Hostile { packets, seed } => hostile::judge(&tshark, *packets, *seed),
    }
}
