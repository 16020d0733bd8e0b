//! The command line of the simulator: repeats a seed, runs many, runs for ever, or hunts planted defects.

use std::process::ExitCode;

use clap::Parser;
use rdgram_proto::Defect;
use rdgram_sim::runner::{Plan, Tally, run, run_seed};
use rdgram_sim::world::Options;

/// Seeds of one round of the long mode.
const ROUND: u64 = 1_000;

/// Runs rdgram's engine over a seeded network and judges what it does.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Operations of each run.
    #[arg(long, default_value_t = Options::default().operations)]
    operations: usize,
    /// Print every packet and operation of the one seed.
    #[arg(long)]
    trace: bool,
    /// Go on with further seeds until one fails.
    #[arg(long)]
    long: bool,
    /// Plant this defect, or `all` of them one after the other: each has to be found. Needs the feature `planted`.
    #[arg(long)]
    planted: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.planted {
        Some(name) => hunt(&arguments, name),
        None => go(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("{report}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &Arguments) -> Options {
    Options { trace: arguments.trace, operations: arguments.operations }
}

fn plan(arguments: &Arguments) -> Plan {
    Plan { options: options(arguments), ..Plan::new(arguments.first, arguments.seeds) }
}

fn go(arguments: &Arguments) -> Result<(), String> {
    if let Some(seed) = arguments.seed {
        let summary = run_seed(seed, options(arguments), None).map_err(|failed| failed.report)?;
        println!("{summary:#?}");
        return Ok(());
    }
    let mut plan = plan(arguments);
    loop {
        if arguments.long {
            plan.seeds = ROUND;
        }
        let tally = run(plan, |_, _| {}).map_err(|failed| failed.report)?;
        print(plan.first, &tally);
        if !arguments.long {
            return Ok(());
        }
        plan.first += plan.seeds;
    }
}

fn print(first: u64, tally: &Tally) {
    println!(
        "seeds {first} to {}: {} operations, {} datagrams ({} in trouble), {} s of virtual time: all well",
        first + tally.runs - 1,
        tally.operations,
        tally.datagrams,
        tally.troubled,
        tally.seconds
    );
    for (name, value) in &tally.stats {
        println!("  {name} {value}");
    }
}

/// Plants defects; fails when one of them is not found.
fn hunt(arguments: &Arguments, name: &str) -> Result<(), String> {
    let defects: Vec<Defect> =
        Defect::ALL.into_iter().filter(|defect| name == "all" || format!("{defect:?}") == name).collect();
    if defects.is_empty() {
        return Err(format!("no defect is called {name}: there are {:?}", Defect::ALL));
    }
    if let (Some(seed), [defect]) = (arguments.seed, &defects[..]) {
        let failed = run_seed(seed, options(arguments), Some(*defect)).err();
        println!("{}", failed.map_or_else(|| "not found by this seed".into(), |failed| failed.report));
        return Ok(());
    }
    let mut missed = Vec::new();
    for defect in defects {
        match run(Plan { defect: Some(defect), ..plan(arguments) }, |_, _| {}) {
            Err(failed) => {
                let first_line = failed.report.lines().nth(1).unwrap_or_default();
                println!("{defect:?}: found after {} seeds: {first_line}", failed.seed - arguments.first + 1);
            }
            Ok(_) => {
                println!("{defect:?}: not found in {} seeds", arguments.seeds);
                missed.push(defect);
            }
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {missed:?}")) }
}
