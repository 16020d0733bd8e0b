//! The manual (`prov/docs/fi_rdgram.7.md`) against the code: variables with what they take and their defaults, counters, causes of errors, and the lines it
//! quotes. Must never judge its words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rdgram_engine::{LocalStats, Stats};

use crate::errno::cause_text;
use crate::notice::DROPPED_COUNTER;
use crate::param::described;

const MANUAL: &str = include_str!("../../../prov/docs/fi_rdgram.7.md");

/// What stands in quoted lines for what is filled in.
const FILLED_IN: [&str; 19] = [
    "ACCEPTED", "ADDRESS", "BYTES", "CAUSE", "COUNT", "DEFAULT", "FIRST", "LAST", "LIST", "LOCAL", "NAME",
    "NUMBER", "PEER", "PEERS", "REASON", "SECONDS", "VALUE", "VARIABLE", "WANTED",
];

/// The text of a section, from its heading to the next of its level.
fn section(name: &str) -> &'static str {
    let heading = format!("\n# {name}\n");
    let (_, rest) = MANUAL.split_once(&heading).unwrap_or_else(|| panic!("no section {name}"));
    rest.split_once("\n# ").map_or(rest, |(text, _)| text)
}

/// What is defined in a section: the lines before those that begin with a colon.
fn terms(section: &'static str) -> Vec<&'static str> {
    let lines: Vec<&str> = section.lines().collect();
    lines.windows(2).filter(|pair| pair[1].starts_with(": ")).map(|pair| pair[0]).collect()
}

/// The words of a term that are set off, `*so*`.
fn names(term: &'static str) -> impl Iterator<Item = &'static str> {
    term.split('*').skip(1).step_by(2)
}

/// Every `FI_RDGRAM_...` in a text, but for prefixes such as that in this sentence.
fn variables(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("FI_RDGRAM_");
    let named = starts.map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    named.filter(|name| !name.ends_with('_')).collect()
}

/// All sources of the provider, with their string literals on one line.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut dirs: Vec<PathBuf> = [
        "capi/ops",
        "capi/plugin",
        "prov/wire",
        "prov/proto",
        "prov/sync",
        "prov/shm",
        "prov/udp",
        "prov/engine",
        "prov/host",
    ]
    .iter()
    .map(|dir| root.join(dir).join("src"))
    .collect();
    let mut sources = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("the sources are there") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != "manual.rs") {
                let text = fs::read_to_string(&path).expect("it can be read");
                sources.push((path, joined(&text)));
            }
        }
    }
    sources
}

/// A backslash at the end of a line takes the line's end and the next one's indentation out of a literal.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start()).replace("\\\"", "\"")
}

#[test]
fn every_variable_is_in_the_manual_with_what_it_takes_and_its_default() {
    let defined: BTreeSet<&str> = terms(section("RUNTIME PARAMETERS")).into_iter().collect();
    let read: BTreeSet<String> = described()
        .map(|(variable, accepts, default)| format!("*{variable}* ({accepts}; default: {default})"))
        .collect();
    assert_eq!(defined, read.iter().map(String::as_str).collect());
}

#[test]
fn the_manual_names_no_other_variable() {
    let read: BTreeSet<String> = described().map(|(variable, ..)| variable).collect();
    assert_eq!(variables(MANUAL), read);
}

#[test]
fn the_environment_is_read_in_one_place() {
    let reads = |text: &str| text.matches("env::var").count() + text.matches("getenv").count();
    let readers: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| reads(text) > 0)
        .map(|(path, text)| format!("{} {}", path.file_name().unwrap_or_default().display(), reads(text)))
        .collect();
    assert_eq!(readers, ["param.rs 1"], "the manual's variables are those of the table there");
}

#[test]
fn every_counter_is_in_the_manual_and_no_other() {
    let rows = Stats::default().rows().into_iter().chain(LocalStats::default().rows());
    let counted: BTreeSet<&str> = rows.map(|(name, _)| name).chain([DROPPED_COUNTER]).collect();
    let explained: Vec<&str> = terms(section("COUNTERS")).into_iter().flat_map(names).collect();
    assert_eq!(explained.iter().copied().collect::<BTreeSet<_>>(), counted);
    assert_eq!(explained.len(), counted.len(), "one is explained twice");
}

#[test]
fn every_cause_of_an_error_is_in_the_manual() {
    let unknown = cause_text(-1);
    let causes: Vec<String> = (1..)
        .map_while(|number| {
            let text = Some(cause_text(number)).filter(|text| *text != unknown)?;
            Some(format!("*{number}*\n: {}", text.to_string_lossy()))
        })
        .collect();
    assert!(causes.len() > 10);
    let explained = terms(section("ERRORS"));
    assert_eq!(explained.len(), causes.len());
    for cause in causes {
        assert!(section("ERRORS").contains(&cause), "{cause}");
    }
}

#[test]
fn lines_that_the_manual_quotes_are_in_the_code() {
    let sources = sources();
    let said = |part: &str| sources.iter().any(|(_, text)| text.contains(part));
    let mut fragments = 0;
    for line in quoted() {
        for fragment in between(&line) {
            fragments += 1;
            // What several lines end in is a literal of its own.
            let in_two = fragment.split_once(" (").is_some_and(|(one, other)| said(one) && said(other));
            assert!(said(fragment) || in_two, "nothing in the code says {fragment:?}, as in: {line}");
        }
    }
    assert!(fragments > 40, "{fragments}");
}

/// The messages in the manual's examples, each in one line, without what the log puts before it.
fn quoted() -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in MANUAL.lines().filter(|line| line.starts_with("    ")) {
        let text = line.trim();
        match (text.strip_prefix("rdgram: "), lines.last_mut()) {
            (Some(message), _) => lines.push(message.to_owned()),
            (None, Some(last)) if line.starts_with("        ") => *last = format!("{last} {text}"),
            _ if text.starts_with("socket receive buffer") => lines.push(text.to_owned()),
            _ => {}
        }
    }
    lines
}

/// What stands between the words that are filled in.
fn between(line: &str) -> Vec<&str> {
    let mut parts = vec![line];
    for word in FILLED_IN {
        parts = parts.into_iter().flat_map(|part| split_at_word(part, word)).collect();
    }
    // A text of another file begins behind a colon.
    let parts = parts.into_iter().map(|part| part.trim_start_matches([':', ' ']));
    parts.filter(|part| part.len() > 2).collect()
}

fn split_at_word<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = text
        .match_indices(word)
        .find(|(at, _)| !text[..*at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part));
    let Some((at, _)) = found else { return vec![text] };
    let mut parts = vec![&text[..at]];
    parts.extend(split_at_word(&text[at + word.len()..], word));
    parts
}

#[test]
fn quoted_lines_are_split_where_something_is_filled_in() {
    assert_eq!(between("LOCAL lost COUNT datagrams, not LOCALLY"), ["lost ", "datagrams, not LOCALLY"]);
    assert_eq!(joined("\"a \\\n      b\""), "\"a b\"");
    assert_eq!(
        variables("FI_RDGRAM_X=1, FI_RDGRAM_*, FI_RDGRAM_A_B"),
        ["FI_RDGRAM_A_B", "FI_RDGRAM_X"].map(String::from).into()
    );
}
