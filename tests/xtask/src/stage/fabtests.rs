//! fabtests, libfabric's own suite, in the directory that `FABTESTS_BIN` names: every case of `runfabtests.sh -t all` but those in `tests/fabtests/exclude`.
//! A case that was not run counts only with a reason in `tests/fabtests/reasons`; a reason for a case that can run is an error too.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::command::{Finished, Job};
use crate::layout::Layout;
use crate::mpi::{Place, Provider};
use crate::netns::Link;
use crate::packages;
use crate::tally::{Tally, skip};

/// The directory of fabtests' programs.
const BIN: &str = "FABTESTS_BIN";
/// The sets to run instead of all: "unit,functional".
const SETS: &str = "FABTESTS_SETS";
/// Seconds for one program: the longest ones send every size both ways and check each byte, on a machine that may do other things at the same time.
const CASE_SECONDS: &str = "600";
/// For everything.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// In the output of a unit test, before the words that say why one of its checks was not made.
const SKIPPED_CHECK: &str = "...skipped because:";

/// How a case ended, in the words of the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail,
    NotRun,
    Excluded,
}

/// One case, with everything it printed.
#[derive(Debug)]
struct Case {
    name: String,
    outcome: Outcome,
    output: String,
}

/// Run the suite and judge every case.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let mut cases = Vec::new();
    let layout = context.layout;
    let ran = tally.check("fabtests: the run itself", || {
        let bin = programs()?;
        packages::require_or_skip(layout, &[packages::IPROUTE])?;
        let provider = context.provider()?;
        cases = read_cases(&suite(layout, &provider, &bin)?, &provider.name)?;
        Ok(counts(&cases))
    });
    if !ran {
        return;
    }
    let mut reasons = None;
    tally.check("fabtests: the reasons", || {
        reasons = Some(read_reasons(&read(layout, "reasons")?)?);
        Ok(String::new())
    });
    let Some(reasons) = reasons else { return };
    for case in &cases {
        tally.check(&format!("fabtests/{}", case.name), || judge(case, &reasons));
        for check in skipped_checks(case) {
            tally.check(&format!("fabtests/{check}"), || excuse(&check, &reasons));
        }
    }
}

fn programs() -> Result<PathBuf> {
    let Some(bin) = env::var_os(BIN).map(PathBuf::from) else {
        return Err(skip(format!("{BIN} does not name the directory of fabtests' programs")));
    };
    if !bin.join("runfabtests.sh").is_file() {
        bail!("{BIN}: there is no runfabtests.sh in {}", bin.display());
    }
    Ok(bin)
}

fn read(layout: &Layout, name: &str) -> Result<String> {
    let path = layout.root.join("tests/fabtests").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs `runfabtests.sh`. That cases failed is in its output; that it could not run at all is an error.
fn suite(layout: &Layout, provider: &Provider, bin: &PathBuf) -> Result<Finished> {
    let dir = layout.root.join("tests/fabtests");
    let sets = env::var_os(SETS).unwrap_or_else(|| "all".into());
    Job::new(layout, "fabtests", dir.join("run.sh"))
        .arg(bin)
        .args(["-vvv", "-T", CASE_SECONDS, "-t"])
        .arg(sets)
        .arg("-f")
        .arg(dir.join("exclude"))
        .arg("-u")
        .arg(dir.join("rdm.test"))
        .arg(&provider.name)
        .envs(&provider.environment(Place::Hosts(Link::CLEAN)))
        // Libraries of other providers, loaded with libfabric, would install handlers for the signals that sighandler_test sends.
        .env("IPATH_NO_BACKTRACE", "1")
        .env("HFI_NO_BACKTRACE", "1")
        .limit(LIMIT)
        .run()
}

/// The cases in the output of the runner, which has to agree with its own totals: a run that broke off in the middle is no run.
fn read_cases(end: &Finished, provider: &str) -> Result<Vec<Case>> {
    let cases = parse(&end.output, provider)?;
    let counted = |outcomes: &[Outcome]| cases.iter().filter(|case| outcomes.contains(&case.outcome)).count();
    let totals = [
        ("# Total Pass", counted(&[Outcome::Pass])),
        ("# Total Notrun/Excluded", counted(&[Outcome::NotRun, Outcome::Excluded])),
        ("# Total Fail", counted(&[Outcome::Fail])),
    ];
    for (words, counted) in totals {
        let line = end.output.lines().find_map(|line| line.strip_prefix(words));
        let total = line.and_then(|number| number.trim().parse::<usize>().ok());
        if total != Some(counted) {
            bail!(
                "\"{words}\" of the runner is {total:?}, its output has {counted}; see {}",
                end.log().display()
            );
        }
    }
    Ok(cases)
}

/// The list that `runfabtests.sh -v` prints: a case begins with "- name:"; what it printed is indented further.
fn parse(output: &str, provider: &str) -> Result<Vec<Case>> {
    let suffix = format!(" -p \"{provider}\"");
    let mut cases: Vec<Case> = Vec::new();
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("- name:") {
            let name = name.trim().trim_end_matches(&suffix).to_owned();
            // Until the result is read: a case without one has not ended.
            cases.push(Case { name, outcome: Outcome::Fail, output: String::new() });
        } else if let Some(case) = cases.last_mut() {
            if let Some(result) = line.strip_prefix("  result:") {
                case.outcome = outcome(result.trim())?;
            }
            case.output.push_str(line);
            case.output.push('\n');
        }
    }
    if cases.is_empty() {
        bail!("the runner printed no case:\n{output}");
    }
    Ok(cases)
}

/// "Pass", or "Pass [3/4]" of fi_ubertest.
fn outcome(words: &str) -> Result<Outcome> {
    match words.split_whitespace().next() {
        Some("Pass") => Ok(Outcome::Pass),
        Some("Fail") => Ok(Outcome::Fail),
        Some("Notrun") => Ok(Outcome::NotRun),
        Some("Excluded") => Ok(Outcome::Excluded),
        _ => bail!("the runner says {words:?} of a case"),
    }
}

fn counts(cases: &[Case]) -> String {
    let of = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    format!(
        "{} pass, {} not run, {} excluded, {} fail",
        of(Outcome::Pass),
        of(Outcome::NotRun),
        of(Outcome::Excluded),
        of(Outcome::Fail)
    )
}

/// Reasons by case: a line "reason: ..." and below it the cases it holds for, one a line.
fn read_reasons(text: &str) -> Result<HashMap<String, String>> {
    let mut reasons = HashMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(reason) = line.strip_prefix("reason:") {
            current = Some(reason.trim().to_owned());
            continue;
        }
        let Some(reason) = &current else { bail!("{line:?} stands before the first reason") };
        if reason.is_empty() || reasons.insert(line.to_owned(), reason.clone()).is_some() {
            bail!("{line:?} has no reason, or two");
        }
    }
    Ok(reasons)
}

fn judge(case: &Case, reasons: &HashMap<String, String>) -> Result<String> {
    match case.outcome {
        Outcome::Fail => bail!("{}", case.output),
        Outcome::NotRun | Outcome::Excluded => excuse(&case.name, reasons),
        Outcome::Pass if reasons.contains_key(&case.name) => {
            bail!("it passes, and tests/fabtests/reasons says why it cannot be run")
        }
        Outcome::Pass => combinations(case),
    }
}

/// What was not run is skipped with its reason, and fails without one.
fn excuse(name: &str, reasons: &HashMap<String, String>) -> Result<String> {
    match reasons.get(name) {
        Some(reason) => Err(skip(reason.clone())),
        None => bail!("not run, and tests/fabtests/reasons says nothing of it"),
    }
}

/// fi_ubertest says how many combinations of its configuration it ran: a pass of none is none.
fn combinations(case: &Case) -> Result<String> {
    if !case.name.starts_with("fi_ubertest") {
        return Ok(String::new());
    }
    let (_, client) = case.output.rsplit_once("client_stdout").unwrap_or_default();
    let count = |words: &str| {
        let mut numbers = client.lines().filter_map(|line| line.trim().strip_prefix(words));
        numbers.next().and_then(|number| number.trim_start_matches([' ', ':']).parse::<u64>().ok())
    };
    match (count("Success"), count("ENODATA"), count("Skipped")) {
        (Some(done @ 1..), Some(0), Some(without_meaning)) => {
            Ok(format!("{done} combinations, {without_meaning} without a meaning"))
        }
        _ => bail!("not every combination was run:\n{}", case.output),
    }
}

/// The checks inside of a unit test that were not made, as "fi_getinfo_test: getinfo_progress2".
fn skipped_checks(case: &Case) -> Vec<String> {
    let program = case.name.split_whitespace().next().unwrap_or_default();
    let lines = case.output.lines().filter(|line| line.contains(SKIPPED_CHECK));
    let mut checks: Vec<String> = lines
        .filter_map(|line| line.trim().strip_prefix("Running ")?.split_whitespace().next())
        .map(|check| format!("{program}: {check}"))
        .collect();
    // A program runs its checks once for each kind of object.
    checks.sort_unstable();
    checks.dedup();
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
- name:   fi_av_test -g 127.0.0.1 -e rdm -p \"rdgram\"
  timestamp: 20260101-000000+0000
  result: Pass
  time:   0
  server_stdout: |
    Running av_open_close [Test open]...PASS!
    Running av_null_fi_addr [Test AV insert]...skipped because: test not valid for AV type FI_AV_MAP
    Running av_null_fi_addr [Test AV insert]...skipped because: test not valid for AV type FI_AV_MAP
- name:   fi_msg -p \"rdgram\"
  result: Excluded
- name:   fi_ubertest
  result: Pass [3/4]
  client_stdout: |
    Success: 3
    Skipped: 0
    ENODATA: 1
server finished
- name:   fi_multinode -C msg -n 3 -p \"rdgram\"
  result: Notrun
";

    #[test]
    fn cases_are_read_with_their_results_and_skipped_checks() {
        let cases = parse(OUTPUT, "rdgram").expect("cases");
        let read: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.outcome)).collect();
        let expected = [
            ("fi_av_test -g 127.0.0.1 -e rdm", Outcome::Pass),
            ("fi_msg", Outcome::Excluded),
            ("fi_ubertest", Outcome::Pass),
            ("fi_multinode -C msg -n 3", Outcome::NotRun),
        ];
        assert_eq!(read, expected);
        assert_eq!(skipped_checks(&cases[0]), ["fi_av_test: av_null_fi_addr"]);
        assert!(combinations(&cases[2]).is_err(), "one combination was refused");
        assert!(parse("", "rdgram").is_err());
        assert!(outcome("Unknown").is_err());
        assert_eq!(
            parse("- name: x\n", "rdgram").expect("a case")[0].outcome,
            Outcome::Fail,
            "without a result"
        );
    }

    #[test]
    fn what_is_not_run_needs_a_reason_and_what_runs_must_have_none() {
        let reasons =
            read_reasons("# words\nreason: no such endpoints\nfi_msg\nfi_msg_epoll\n").expect("reasons");
        let verdict = |name: &str, outcome| {
            judge(&Case { name: name.to_owned(), outcome, output: String::new() }, &reasons)
        };
        let skipped = |result: Result<String>| result.is_err_and(|error| error.is::<crate::tally::Skip>());
        assert!(skipped(verdict("fi_msg", Outcome::Excluded)));
        assert!(skipped(verdict("fi_msg_epoll", Outcome::NotRun)));
        for failure in [verdict("fi_rdm", Outcome::NotRun), verdict("fi_msg", Outcome::Pass)] {
            assert!(failure.is_err_and(|error| !error.is::<crate::tally::Skip>()));
        }
        assert!(verdict("fi_rdm", Outcome::Pass).is_ok());
        assert!(verdict("fi_rdm", Outcome::Fail).is_err());
        assert!(read_reasons("fi_msg\n").is_err(), "no reason");
        assert!(read_reasons("reason: a\nfi_msg\nreason: b\nfi_msg\n").is_err(), "two reasons");
    }
}
