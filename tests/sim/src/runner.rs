//! Runs seeds, many at a time, and turns what goes wrong (a judgement or a panic) into a report that begins with the command that reproduces it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rdgram_proto::Defect;

use crate::world::{Options, Summary, World};

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// What went wrong, with all that helps to find out why.
    pub report: String,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// How each is run.
    pub options: Options,
    /// The defect planted in all of them. Needs the feature `planted`.
    pub defect: Option<Defect>,
    /// Seeds at a time.
    pub threads: usize,
}

impl Plan {
    /// So many seeds without a defect, on all processors.
    pub fn new(first: u64, seeds: u64) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { first, seeds, options: Options::default(), defect: None, threads }
    }
}

/// What many runs did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs that went well.
    pub runs: u64,
    /// Operations accepted.
    pub operations: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams lost, damaged, dropped or duplicated.
    pub troubled: u64,
    /// Virtual time, seconds.
    pub seconds: u64,
    /// Fewest operations, endpoints and kinds of fault of a run.
    pub least: Option<(usize, usize, usize)>,
    /// Sum of the engine's counters.
    pub stats: Vec<(&'static str, u64)>,
}

/// Runs one seed.
pub fn run_seed(seed: u64, options: Options, defect: Option<Defect>) -> Result<Summary, Failed> {
    plant(defect);
    let outcome =
        catch_unwind(AssertUnwindSafe(|| World::new(seed, options).and_then(|mut world| world.run())));
    plant(None);
    let fault = match outcome {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(fault)) => fault,
        Err(panic) => format!("seed {seed}: panic: {}", message_of(panic.as_ref())),
    };
    Err(Failed { seed, report: format!("{}\n{fault}", reproduce(seed, options, defect)) })
}

#[cfg(feature = "planted")]
fn plant(defect: Option<Defect>) {
    rdgram_proto::plant(defect);
}

#[cfg(not(feature = "planted"))]
fn plant(defect: Option<Defect>) {
    assert!(defect.is_none(), "defects need the feature `planted`");
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// The command that repeats a run.
fn reproduce(seed: u64, options: Options, defect: Option<Defect>) -> String {
    let mut command = "cargo run --profile test -p rdgram-sim".to_owned();
    if defect.is_some() {
        command += " --features planted";
    }
    command += &format!(" -- --seed {seed}");
    if options.operations != Options::default().operations {
        command += &format!(" --operations {}", options.operations);
    }
    if let Some(defect) = defect {
        command += &format!(" --planted {defect:?}");
    }
    command
}

/// Runs the plan's seeds; `finished` is told each. Stops at the first seed that fails: of those, the smallest that was run is returned.
pub fn run(plan: Plan, finished: impl Fn(u64, &Summary) + Sync) -> Result<Tally, Failed> {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tally, failed) = (Mutex::new(Tally::default()), Mutex::new(None::<Failed>));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= plan.seeds {
                return;
            }
            let seed = plan.first + index;
            match run_seed(seed, plan.options, plan.defect) {
                Ok(summary) => {
                    finished(seed, &summary);
                    tally.lock().expect("no panic holds it").add(&summary);
                }
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut first = failed.lock().expect("no panic holds it");
                    if first.as_ref().is_none_or(|other| failure.seed < other.seed) {
                        *first = Some(failure);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(work);
        }
    });
    match failed.into_inner().expect("no panic holds it") {
        Some(failure) => Err(failure),
        None => Ok(tally.into_inner().expect("no panic holds it")),
    }
}

impl Tally {
    fn add(&mut self, summary: &Summary) {
        self.runs += 1;
        self.operations += summary.operations as u64;
        self.datagrams += summary.net.sent;
        let net = summary.net;
        self.troubled += net.lost
            + net.duplicated
            + net.damaged
            + net.too_big
            + net.partitioned
            + net.overflowed
            + net.unreachable;
        self.seconds += summary.elapsed / crate::world::SECOND;
        let these = (summary.operations, summary.nodes, summary.faults);
        self.least = Some(
            self.least
                .map_or(these, |least| (least.0.min(these.0), least.1.min(these.1), least.2.min(these.2))),
        );
        for (index, (name, value)) in summary.stats.iter().enumerate() {
            match self.stats.get_mut(index) {
                Some((_, total)) => *total += value,
                None => self.stats.push((name, *value)),
            }
        }
    }
}
