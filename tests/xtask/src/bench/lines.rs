//! Reads what the programs print: the bench's own lines, fi_pingpong's table, the provider's counters.
//! A number that cannot be read is an error, never a zero.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// How every result of the programs in `tests/bench` begins.
const MARK: &str = "bench: ";
/// How every counter begins that the provider prints for `FI_RDGRAM_STATS=1`.
const COUNTER_MARK: &str = "rdgram: ";

/// One result: `bench: NAME key=value key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    /// A field as it is printed.
    pub(crate) fn text(&self, field: &str) -> Result<&str> {
        let value = self.fields.get(field);
        value.map(String::as_str).with_context(|| format!("the line of {} has no {field}", self.name))
    }

    /// A field that is a number.
    pub(crate) fn number(&self, field: &str) -> Result<f64> {
        let text = self.text(field)?;
        let number: f64 = text.parse().with_context(|| format!("{field}={text} is no number"))?;
        // A rate over no time, for instance.
        anyhow::ensure!(number.is_finite(), "{field}={text} is no measurement");
        Ok(number)
    }

    /// A field that is a count.
    pub(crate) fn count(&self, field: &str) -> Result<u64> {
        let text = self.text(field)?;
        text.parse().with_context(|| format!("{field}={text} is no count"))
    }
}

/// The results named `name` in a program's output.
pub(crate) fn named(output: &str, name: &str) -> Vec<Line> {
    let lines = output.lines().filter_map(|line| parse(line.trim()));
    lines.filter(|line| line.name == name).collect()
}

/// As [`named`], where there is to be at least one.
pub(crate) fn required(output: &str, name: &str) -> Result<Vec<Line>> {
    let lines = named(output, name);
    anyhow::ensure!(!lines.is_empty(), "the program printed no result named {name}");
    Ok(lines)
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.strip_prefix(MARK)?.split_whitespace();
    let name = words.next()?.to_owned();
    let fields =
        words.map(|word| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    Some(Line { name, fields: fields.collect::<Option<_>>()? })
}

/// The time of one transfer in fi_pingpong's table for a run with a single size, in microseconds.
pub(crate) fn fi_pingpong_us(output: &str) -> Result<f64> {
    const COLUMNS: usize = 8;
    const TIME: usize = 6;
    let row = output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| {
        words.len() == COLUMNS
            && words.first().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()))
    });
    let row = row.context("fi_pingpong printed no results")?;
    row.get(TIME).and_then(|word| word.parse().ok()).context("fi_pingpong's row has no time")
}

/// The provider's counters by name, added over all endpoints.
pub(crate) fn counters(output: &str) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for line in output.lines() {
        let Some(rest) = line.trim().strip_prefix(COUNTER_MARK) else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        if let [_endpoint, name, value] = words[..] {
            if let Ok(value) = value.parse::<u64>() {
                *counters.entry(name.to_owned()).or_default() += value;
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_its_fields() -> Result<()> {
        let output = "noise\nbench: stream segment=1472 mb_s=7960.5\nbench: pingpong us=2.24\n";
        let lines = required(output, "stream")?;
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].count("segment")?, 1472);
        assert_eq!(lines[0].number("mb_s")?.to_bits(), 7960.5f64.to_bits());
        assert!(lines[0].number("us").is_err());
        Ok(())
    }

    #[test]
    fn what_is_no_number_is_refused() -> Result<()> {
        let line = &required("bench: stream mb_s=inf lost=-1 train=x", "stream")?[0];
        assert!(line.number("mb_s").is_err());
        assert!(line.count("lost").is_err());
        assert!(line.number("train").is_err());
        Ok(())
    }

    #[test]
    fn a_program_without_results_is_an_error() {
        assert!(required("bench: stream broken", "stream").is_err());
        assert!(required("", "stream").is_err());
    }

    #[test]
    fn the_time_of_fi_pingpong() {
        let output = "bytes   #sent   #ack     total       time     MB/sec    usec/xfer   Mxfers/sec\n\
                      8       500     =500     7.8k        0.00s      1.79       4.48       0.22\n";
        assert_eq!(fi_pingpong_us(output).ok(), Some(4.48));
        assert!(fi_pingpong_us("bytes   #sent\n").is_err());
    }

    #[test]
    fn counters_of_both_ranks_are_added() {
        let output = "rdgram: 127.0.0.1:5 tx_messages 3\nrdgram: 127.0.0.1:6 tx_messages 4\n\
                      rdgram: no answer from 127.0.0.1:6 for 10 s\n";
        assert_eq!(counters(output), BTreeMap::from([("tx_messages".to_owned(), 7)]));
    }
}
