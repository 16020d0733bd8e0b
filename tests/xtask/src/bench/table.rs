//! Prints a report: the medians of every section and place, then the targets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::report::{Metric, Report};
use super::section::SECTIONS;
use super::targets::Verdict;

/// Sizes that are printed of those measured; all are in the JSON.
const NOTABLE: [u64; 11] =
    [0, 8, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 64 << 20];
/// The width of a column of figures.
const WIDTH: usize = 13;

/// The whole report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        for place in report.places(section.name) {
            medians(&mut text, report, section.name, place);
        }
    }
    text += &targets(report);
    text
}

/// A row for every metric and size, a column for every subject.
fn medians(text: &mut String, report: &Report, section: &str, place: &str) {
    let mut rows: BTreeMap<(Metric, u64, u32), BTreeMap<&str, f64>> = BTreeMap::new();
    let mut subjects = BTreeSet::new();
    for result in
        report.results.iter().filter(|result| result.key.section == section && result.key.place == place)
    {
        let key = &result.key;
        let is_stream = matches!(key.metric, Metric::StreamMbS | Metric::StreamLost | Metric::CpuSPerGb);
        if is_stream || NOTABLE.contains(&key.bytes) {
            subjects.insert(key.subject.as_str());
            rows.entry((key.metric, key.bytes, key.parties)).or_default().insert(&key.subject, result.median);
        }
    }
    line(text, &format!("\n{section} · {place}"));
    let heads: String = subjects.iter().map(|subject| format!("  {subject:>WIDTH$}")).collect();
    line(text, &format!("{:<24} {:>9} {:>7}{heads}", "", "bytes", "parties"));
    for ((metric, bytes, parties), values) in rows {
        let cells: String =
            subjects.iter().map(|subject| cell(values.get(subject), subject.chars().count())).collect();
        line(text, &format!("{metric:<24} {bytes:>9} {parties:>7}{cells}"));
    }
}

fn cell(value: Option<&f64>, head: usize) -> String {
    let text = value.map_or_else(|| "-".to_owned(), |value| figure(*value));
    format!("  {text:>width$}", width = WIDTH.max(head))
}

/// Three or more digits that mean something, without an exponent.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn targets(report: &Report) -> String {
    let mut text = String::new();
    line(&mut text, "\ntargets (medians of this run)");
    line(&mut text, &format!("{:<62} {:>10}  {:>8}  verdict", "", "measured", "target"));
    for judged in &report.judged {
        let value = judged.value.map_or_else(|| "-".to_owned(), figure);
        line(&mut text, &format!("{:<62} {value:>10}  {:>8}  {}", judged.what, judged.bound, judged.verdict));
    }
    let count = |verdict| report.judged.iter().filter(|judged| judged.verdict == verdict).count();
    let (ok, short, not) = (count(Verdict::Ok), count(Verdict::Short), count(Verdict::NotMeasured));
    line(&mut text, &format!("{ok} ok, {short} short, {not} not measured"));
    text
}

fn line(text: &mut String, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::with;
    use crate::bench::site::LOOPBACK;
    use crate::bench::targets;

    #[test]
    fn figures_keep_their_digits() {
        assert_eq!(figure(7960.4), "7960");
        assert_eq!(figure(44.44), "44.4");
        assert_eq!(figure(2.239), "2.24");
        assert_eq!(figure(0.0123), "0.0123");
        assert_eq!(figure(0.0), "0.00");
    }

    #[test]
    fn every_subject_has_its_column_and_gaps_are_shown() {
        let mut report = with(
            "latency",
            &[
                (LOOPBACK, "rdgram", Metric::HalfRoundTripUs, 8, 2, 2.5),
                (LOOPBACK, "tcp", Metric::HalfRoundTripUs, 8, 2, 5.0),
                (LOOPBACK, "tcp", Metric::UnibandMsgS, 8, 2, 400_000.0),
            ],
        );
        report.judged = targets::judge(&report);
        let text = render(&report);
        let row = |start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        let words = row("half round trip, µs").unwrap_or_default();
        assert!(words.ends_with("2.50           5.00"), "{words}");
        let words = row("Uniband, messages/s").unwrap_or_default();
        assert!(words.ends_with("-         400000"), "{words}");
        let words = row("loopback, datagrams: 8 B half round trip / tcp").unwrap_or_default();
        assert!(words.contains("0.50") && words.ends_with("ok"), "{words}");
    }
}
