//! The normal run: many seeds, each a whole job over a network with its own faults. A failing seed prints the command that repeats it.

use std::collections::HashSet;
use std::sync::Mutex;

use rdgram_sim::faults::Faults;
use rdgram_sim::runner::{Plan, run, run_seed};
use rdgram_sim::world::Options;

/// Seeds of the normal run. `RDGRAM_SIM_SEEDS` asks for more, `RDGRAM_SIM_FIRST` for others.
const SEEDS: u64 = 500;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn every_seed_ends_well() {
    if let Ok(seed) = std::env::var("RDGRAM_SIM_SEED") {
        let seed = seed.parse().expect("RDGRAM_SIM_SEED is a number");
        run_seed(seed, Options::default(), None).unwrap_or_else(|failed| panic!("{}", failed.report));
        return;
    }
    let seeds = from_environment("RDGRAM_SIM_SEEDS", SEEDS);
    let digests = Mutex::new(HashSet::new());
    let plan = Plan::new(from_environment("RDGRAM_SIM_FIRST", 0), seeds);
    let tally = run(plan, |_, summary| {
        digests.lock().expect("no panic holds it").insert(summary.digest);
    })
    .unwrap_or_else(|failed| panic!("{}", failed.report));
    let (operations, nodes, kinds) = tally.least.expect("at least one seed");
    assert!(operations >= 2_000, "a run of {operations} operations");
    assert!(nodes >= 3, "a run of {nodes} endpoints");
    assert!(kinds >= Faults::KINDS_MIN, "a run of {kinds} kinds of fault");
    assert_eq!(tally.runs, seeds);
    assert_eq!(
        digests.into_inner().expect("no panic holds it").len() as u64,
        seeds,
        "two seeds made the same run"
    );
    assert!(tally.troubled > 0, "no datagram ever came to harm");
    let counted =
        |what: &str| tally.stats.iter().find(|(name, _)| *name == what).map_or(0, |(_, count)| *count);
    let thawed = counted("peers_thawed");
    for what in ["links", "local_copied_bytes", "local_pulled_bytes", "local_full"] {
        assert!(counted(what) >= seeds / 4, "{what} is {} in all", counted(what));
    }
    assert!(
        thawed >= seeds / 4 || seeds < 50,
        "peers went cold, and were talked to again, {thawed} times in all"
    );
    println!("{tally:#?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 1_003] {
        let run =
            || run_seed(seed, Options::default(), None).unwrap_or_else(|failed| panic!("{}", failed.report));
        assert_eq!(run(), run(), "seed {seed} is not deterministic");
    }
}
