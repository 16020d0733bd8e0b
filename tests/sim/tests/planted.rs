//! Judges the simulator itself: each defect planted on purpose has to be found, and none may be found where there is none (that is `seeds`).
#![cfg(feature = "planted")]

use rdgram_proto::Defect;
use rdgram_sim::runner::{Plan, run};

/// Seeds within which each defect has to show.
const SEEDS: u64 = 500;

#[test]
fn every_defect_is_found() {
    // The panics of defects that assertions catch are the point here, not news.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    let mut table = String::new();
    for defect in Defect::ALL {
        match run(Plan { defect: Some(defect), ..Plan::new(0, SEEDS) }, |_, _| {}) {
            Err(failed) => {
                let what = failed.report.lines().nth(1).unwrap_or_default();
                table += &format!("{defect:?}: after {} seeds: {what}\n", failed.seed + 1);
            }
            Ok(_) => missed.push(defect),
        }
    }
    let _ = std::panic::take_hook();
    println!("{table}");
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}\n{table}");
}
