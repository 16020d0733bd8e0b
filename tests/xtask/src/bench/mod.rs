//! `cargo xtask bench`: rdgram, libfabric's other providers and the bare floors, measured in turns in one run,
//! and the ratios between them beside the project's targets. What is measured is told in tests/bench/README.md.
//! Only ratios within one run mean anything; figures of different runs must never be compared here.

mod charts;
mod host;
mod lines;
mod plan;
mod programs;
mod report;
mod section;
mod session;
mod site;
pub(crate) mod statistics;
mod table;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::host::{Host, Moment};
use self::plan::Plan;
use self::programs::Programs;
use self::report::Report;
use self::section::{SECTIONS, Section, Sites};
use self::session::{Session, results_dir};
use self::site::{ONE_HOST, Site};
use crate::layout::Layout;
use crate::mpi::{MPICH, Mpi, Provider, RDGRAM};
use crate::{netns, packages};

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The main rows, within three minutes.
    #[arg(long)]
    short: bool,
    /// Try the machinery: the least of everything, on this host only. The figures mean nothing.
    #[arg(long, conflicts_with = "short")]
    smoke: bool,
    /// Only these sections; all without any. `--list` names them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// List the sections.
    #[arg(long)]
    list: bool,
    /// How often everything is measured, instead of the form's own number.
    #[arg(long)]
    rounds: Option<usize>,
    /// Draw charts into this directory.
    #[arg(long)]
    charts: Option<PathBuf>,
    /// Write the results there instead of into the build directory.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure nothing: print and draw the results of an earlier run.
    #[arg(long, conflicts_with_all = ["short", "smoke", "only", "rounds", "json"])]
    from: Option<PathBuf>,
}

/// Measure, print, write and draw.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    if options.list {
        for section in SECTIONS {
            println!("{:<12} {}", section.name, section.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = match &options.from {
        Some(path) => read(path)?,
        None => measure(layout, options)?,
    };
    print!("{}", table::render(&report));
    print_notes(&report);
    if options.from.is_none() {
        write(layout, options, &report)?;
    }
    if let Some(dir) = &options.charts {
        for file in charts::draw(&report, dir)? {
            println!("drawn: {}", file.display());
        }
    }
    Ok(if is_complete(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Peers may fail; what this project's provider or a floor could not do is a failure of the bench.
fn is_complete(report: &Report) -> bool {
    let foreign = [crate::mpi::PEER, section::TCP, section::RXD, section::SHM, section::MPICH_OWN];
    report.troubles.iter().all(|trouble| {
        // The subject may go on with the number of ranks or peers.
        let name = trouble.subject.split(',').next().unwrap_or_default();
        trouble.left_out || foreign.contains(&name)
    })
}

/// Try the machinery: a few sections of the smallest form.
pub(crate) fn smoke(layout: &Layout) -> Result<String> {
    const SECTIONS: [&str; 4] = ["latency", "peers", "cost", "same-host"];
    let report = measure_with(layout, Plan::smoke(), &SECTIONS.map(str::to_owned))?;
    if !is_complete(&report) {
        let told = report.troubles.iter().map(|trouble| format!("{}: {}", trouble.subject, trouble.what));
        bail!("{}", told.collect::<Vec<_>>().join("; "));
    }
    Ok(format!("{} figures, {} troubles of peers", report.results.len(), report.troubles.len()))
}

fn measure(layout: &Layout, options: &Options) -> Result<Report> {
    let mut plan = match (options.short, options.smoke) {
        (true, _) => Plan::short(),
        (_, true) => Plan::smoke(),
        _ => Plan::full(),
    };
    if let Some(rounds) = options.rounds {
        plan.rounds = rounds.max(1);
    }
    measure_with(layout, plan, &options.only)
}

fn measure_with(layout: &Layout, plan: Plan, only: &[String]) -> Result<Report> {
    let sections = chosen(only)?;
    let needs = [packages::GCC, packages::LIBC_HEADERS, packages::VENV, packages::LIBFABRIC_DEV];
    packages::require(layout, &needs)?;
    println!("building the provider and the programs");
    let rdgram = Provider::prepare(layout, RDGRAM)?;
    let mpi = Mpi::prepare(layout, MPICH)?;
    let programs = Programs::compile(layout, &mpi)?;
    let mut host = Host::look(layout);
    let sites = sites(layout, &plan, &mut host);
    let mut session = Session::new(layout, mpi, programs, plan, rdgram);
    // Everything is measured once before anything is measured again: the short form's time may be over, and
    // a machine that is busy for a minute spoils one sample of many figures, not all samples of one.
    for round in 0..session.plan.rounds {
        for section in &sections {
            println!("== {}, round {}: {}", section.name, round + 1, section.about);
            session.begin(section.name);
            (section.run)(&mut session, &sites, round)
                .with_context(|| format!("section {}", section.name))?;
        }
    }
    session.moments.push(Moment::watch("the end"));
    let mut report = Report {
        host,
        moments: session.moments,
        short: session.plan.short,
        rounds: session.plan.rounds,
        seconds: session.start.elapsed().as_secs_f64(),
        results: Report::measured(session.samples),
        troubles: session.troubles,
        counters: session.counters,
        judged: Vec::new(),
    };
    report.judged = targets::judge(&report);
    Ok(report)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Section>> {
    if let Some(unknown) = names.iter().find(|name| SECTIONS.iter().all(|section| section.name != **name)) {
        bail!("no section is named {unknown}: see `cargo xtask bench --list`");
    }
    Ok(SECTIONS
        .iter()
        .filter(|section| names.is_empty() || names.iter().any(|name| name == section.name))
        .collect())
}

/// Without root there is only the loopback, and the targets between hosts stay unmeasured.
fn sites(layout: &Layout, plan: &Plan, host: &mut Host) -> Sites {
    let mut hosts = Vec::new();
    if !plan.mtus.is_empty() {
        match netns::available(layout) {
            Ok(()) => hosts = plan.mtus.iter().map(|mtu| Site::hosts(*mtu)).collect(),
            Err(error) => println!("  no two hosts here: {error:#}"),
        }
    }
    host.mtu.extend(hosts.iter().zip(&plan.mtus).map(|(site, mtu)| (site.name.clone(), u64::from(*mtu))));
    Sites { loopback: Site::loopback(), one_host: Site::named(ONE_HOST), hosts }
}

fn print_notes(report: &Report) {
    println!();
    for trouble in &report.troubles {
        let how = if trouble.left_out { "left out" } else { "failed" };
        println!("{how}: {} · {} · {}: {}", trouble.section, trouble.place, trouble.subject, trouble.what);
    }
    for moment in report.moments.iter().filter(|moment| !moment.is_quiet()) {
        println!(
            "warning: before {} the machine was {:.0} % busy with other things (load {:?}): figures mean little",
            moment.before, moment.busy_percent, moment.load
        );
    }
    let host = &report.host;
    let versions: Vec<String> =
        host.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!(
        "{}, {} cores, Linux {}, {}; {} rounds, {:.0} s",
        host.processor,
        host.cores,
        host.kernel,
        versions.join(", "),
        report.rounds,
        report.seconds
    );
}

fn write(layout: &Layout, options: &Options, report: &Report) -> Result<()> {
    let path = match &options.json {
        Some(path) => path.clone(),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
            results_dir(layout).join(format!("bench-{}.json", now.as_secs()))
        }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let text = serde_json::to_string_pretty(report).context("cannot write the results as JSON")?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// Targets may have changed since: they are judged anew.
fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} holds no results of this bench", path.display()))?;
    report.judged = targets::judge(&report);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Trouble;

    #[test]
    fn an_unknown_section_is_refused() {
        assert!(chosen(&["latency".to_owned(), "speed".to_owned()]).is_err());
        assert_eq!(chosen(&["loss".to_owned()]).map(|sections| sections.len()).ok(), Some(1));
        assert_eq!(chosen(&[]).map(|sections| sections.len()).ok(), Some(SECTIONS.len()));
    }

    #[test]
    fn only_foreign_failures_are_forgiven() {
        let mut report = report::tests::with("latency", &[]);
        let mut with = |subject: &str, left_out| {
            report.troubles = vec![Trouble {
                section: "collectives".to_owned(),
                place: "loopback".to_owned(),
                subject: subject.to_owned(),
                what: String::new(),
                left_out,
            }];
            is_complete(&report)
        };
        assert!(with("udp;ofi_rxd, 8 ranks", false));
        assert!(!with("rdgram, 8 ranks", false));
        assert!(!with("raw UDP", false));
        assert!(with("rdgram", true));
    }
}
