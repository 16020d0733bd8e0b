//! `cargo xtask app`: real applications over rdgram and over the provider of libfabric that they would take without
//! it; both have to give the same answer. A run that took another provider, or another route, is no result.

mod fourier;
mod hdf5;
mod hpcc;
mod lammps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Launch, Mpi, Place, Provider, RDGRAM, Route};
use crate::netns::{self, Link};
use crate::tally::Tally;

/// The longest run took 20 s on two busy processors.
const LIMIT: Duration = Duration::from_secs(300);
/// More than CI has processors.
const SHORT_RANKS: u32 = 4;
/// Begins a line with a value that has to be the same over both providers.
const ANSWER: &str = "answer: ";
/// Begins the line that says how long what is timed took.
const SECONDS: &str = "seconds: ";

/// Options of `cargo xtask app`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The applications; `all` for all of them.
    names: Vec<String>,
    /// List the applications.
    #[arg(long)]
    list: bool,
    /// Where the ranks run; may be given several times. Two hosts are network namespaces and need root.
    #[arg(long, default_value = "one")]
    hosts: Vec<Hosts>,
    /// Number of ranks.
    #[arg(short = 'n', long, default_value_t = 4)]
    ranks: u32,
}

/// Where the ranks run, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hosts {
    /// All on this host, where they share memory.
    One,
    /// All on this host, by datagrams alone.
    Datagrams,
    /// On two network namespaces, those of each sharing memory.
    Two,
    /// The same, and 1 % of the datagrams is lost.
    Lossy,
}

/// An application.
#[derive(Debug)]
struct App {
    name: &'static str,
    about: &'static str,
    /// The MPI that it was built for.
    mpi: &'static str,
    /// The provider of that MPI's libfabric that it is compared with.
    peer: &'static str,
    /// Installs it; returns the program.
    prepare: fn(&Layout) -> Result<PathBuf>,
    /// Adds what the program is told.
    tell: fn(Job, &Inputs<'_>) -> Result<Job>,
    /// Reads the answer of a run that ended well; what the application itself finds wrong is an error.
    answer: fn(&Inputs<'_>, &str) -> Result<Answer>,
}

/// What an application is told for a run.
#[derive(Debug)]
struct Inputs<'a> {
    /// What belongs to the project's sources: `mpi-tests/apps`.
    sources: PathBuf,
    /// An empty directory, in which it runs.
    dir: &'a Path,
    ranks: u32,
}

/// What a run gave.
#[derive(Debug, PartialEq)]
struct Answer {
    /// Lines that have to be the same, to the last digit, over any provider: the ranks do the same arithmetic in
    /// the same order, and the lines tell their results exactly.
    lines: Vec<String>,
    /// The application's own clock, where it shows how fast ranks talk.
    seconds: f64,
}

/// A run's answer and how long the whole of it took.
#[derive(Debug)]
struct Run {
    answer: Answer,
    whole: Duration,
    /// What proves that the wanted path was taken.
    path: String,
}

const APPS: [&App; 4] = [&lammps::APP, &fourier::APP, &hpcc::APP, &hdf5::APP];

/// Run those that the options name.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    if options.list {
        for app in APPS {
            println!("{:<8} {} ({})", app.name, app.about, app.mpi);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let apps = chosen(&options.names)?;
    if options.hosts.iter().any(|hosts| hosts.link().is_some()) {
        netns::available(layout)?;
    }
    let rdgram = Provider::prepare(layout, RDGRAM)?;
    let mut tally = Tally::default();
    for app in apps {
        println!("== {}: {}", app.name, app.about);
        let bench = Bench::prepare(layout, app, &rdgram)?;
        let mut theirs = Vec::new();
        for hosts in &options.hosts {
            tally.check(&format!("{}, {} ranks, {}", app.name, options.ranks, hosts.text()), || {
                bench.compare(&mut theirs, *hosts, options.ranks)
            });
        }
    }
    println!("{tally}");
    Ok(if tally.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One application on one host, as a check: the one that is installed and run soonest.
pub(crate) fn short(layout: &Layout, rdgram: &Provider) -> Result<String> {
    Bench::prepare(layout, &lammps::APP, rdgram)?.compare(&mut Vec::new(), Hosts::One, SHORT_RANKS)
}

fn chosen(names: &[String]) -> Result<Vec<&'static App>> {
    if names.is_empty() {
        bail!("no application named: see `cargo xtask app --list`");
    }
    if names.iter().any(|name| name == "all") {
        return Ok(APPS.to_vec());
    }
    let of = |name: &String| {
        APPS.into_iter()
            .find(|app| app.name == name)
            .with_context(|| format!("no application is named {name}: see `cargo xtask app --list`"))
    };
    names.iter().map(of).collect()
}

impl Hosts {
    /// What joins the hosts, if there are two.
    fn link(self) -> Option<Link> {
        match self {
            Self::One | Self::Datagrams => None,
            Self::Two => Some(Link::CLEAN),
            Self::Lossy => Some(Link::LOSSY),
        }
    }

    /// Where the peer runs for comparison. Only UDP is lost, and one that speaks TCP would be slowed all the same, by a
    /// link that leaves it no trains.
    fn of_peer(self) -> Self {
        match self {
            Self::One | Self::Datagrams => Self::One,
            Self::Two | Self::Lossy => Self::Two,
        }
    }

    /// How ranks of one host talk over rdgram.
    fn route(self) -> &'static Route {
        if self == Self::Datagrams { &Route::DATAGRAMS } else { &Route::MEMORY }
    }

    fn text(self) -> &'static str {
        match self {
            Self::One => "one host",
            Self::Datagrams => "one host, by datagrams",
            Self::Two => "two hosts",
            Self::Lossy => "two hosts, 1 % of datagrams lost",
        }
    }
}

/// An application that is installed, and what it is run with.
#[derive(Debug)]
struct Bench<'a> {
    layout: &'a Layout,
    app: &'static App,
    mpi: Mpi,
    program: PathBuf,
    rdgram: &'a Provider,
    peer: Provider,
}

impl<'a> Bench<'a> {
    fn prepare(layout: &'a Layout, app: &'static App, rdgram: &'a Provider) -> Result<Self> {
        let mpi = Mpi::prepare(layout, app.mpi)?;
        let program = (app.prepare)(layout)?;
        Ok(Self { layout, app, mpi, program, rdgram, peer: Provider::builtin(app.peer) })
    }

    /// Over both providers; `known` has the runs of the peer that there were already.
    fn compare(&self, known: &mut Vec<(Hosts, Run)>, hosts: Hosts, ranks: u32) -> Result<String> {
        let plain = hosts.of_peer();
        if known.iter().all(|(of, _)| *of != plain) {
            let run = self.once(&self.peer, plain, ranks);
            known.push((plain, run.with_context(|| format!("over {}", self.app.peer))?));
        }
        let theirs = known.iter().find(|(of, _)| *of == plain).map(|(_, run)| run);
        let theirs = theirs.context("the peer was not run")?;
        let ours = self.once(self.rdgram, hosts, ranks).context("over rdgram")?;
        let values = same(&ours.answer.lines, &theirs.answer.lines)
            .with_context(|| format!("rdgram and {} give different answers", self.app.peer))?;
        Ok(format!(
            "{values} values equal; {:.2} s over rdgram, {:.2} s over {} (whole runs {:.1} and {:.1} s){}",
            ours.answer.seconds,
            theirs.answer.seconds,
            self.app.peer,
            ours.whole.as_secs_f64(),
            theirs.whole.as_secs_f64(),
            ours.path,
        ))
    }

    /// In a directory of its own, which is gone afterwards.
    fn once(&self, provider: &Provider, hosts: Hosts, ranks: u32) -> Result<Run> {
        let dir = self.layout.run_dir().join(format!("app-{}-{}", self.app.name, std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let run = self.inside(&dir, provider, hosts, ranks);
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        run
    }

    fn inside(&self, dir: &Path, provider: &Provider, hosts: Hosts, ranks: u32) -> Result<Run> {
        let launch = Launch {
            mpi: &self.mpi,
            provider,
            place: hosts.link().map_or(Place::Loopback, Place::Hosts),
            ranks,
            program: &self.program,
            limit: LIMIT,
            // Only rdgram has routes to choose, and reports them.
            route: provider.is_rdgram().then_some(hosts.route()),
            launcher: &[],
        };
        let label = format!("{} over {} {}", self.app.name, provider.name, hosts.text());
        let job = launch.job(self.layout, label)?;
        let inputs = Inputs { sources: self.layout.root.join("mpi-tests/apps"), dir, ranks };
        // Where ranks have threads as well, their number would depend on the machine.
        let job = job.dir(dir).env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1");
        let job = (self.app.tell)(job, &inputs)?;
        let begin = Instant::now();
        let output = job.check()?;
        let whole = begin.elapsed();
        launch.proof(&output)?;
        let path = if provider.is_rdgram() { path(&output, hosts, ranks)? } else { String::new() };
        Ok(Run { answer: (self.app.answer)(&inputs, &output)?, whole, path })
    }
}

/// How the ranks talked: by the wanted route where any two were on one host, and over a link that really lost something.
fn path(output: &str, hosts: Hosts, ranks: u32) -> Result<String> {
    let mut path = String::new();
    if hosts.link().is_none() || ranks > 2 {
        path.push_str(&format!("; {} through memory", hosts.route().judge(output)?));
    }
    if hosts == Hosts::Lossy {
        let dropped = netns::dropped(output);
        if dropped == 0 {
            bail!("no packet was dropped: the run proves nothing");
        }
        path.push_str(&format!("; {dropped} packets dropped"));
    }
    Ok(path)
}

/// Are they equal, and is there anything to compare? Says how many.
fn same(ours: &[String], theirs: &[String]) -> Result<usize> {
    if let Some((our, their)) = ours.iter().zip(theirs).find(|(our, their)| our != their) {
        bail!("\"{our}\" is \"{their}\" there");
    }
    if ours.len() != theirs.len() || ours.is_empty() {
        bail!("{} values, and {} there", ours.len(), theirs.len());
    }
    Ok(ours.len())
}

/// The answer of one of our own programs, which print it; how many values it has to have.
fn printed(output: &str, values: usize) -> Result<Answer> {
    let lines: Vec<String> =
        output.lines().filter_map(|line| line.strip_prefix(ANSWER)).map(str::to_owned).collect();
    if lines.len() != values {
        bail!("the program printed {} values instead of {values}", lines.len());
    }
    let seconds = output.lines().find_map(|line| line.strip_prefix(SECONDS)?.parse().ok());
    Ok(Answer { lines, seconds: seconds.context("the program did not say how long it took")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_digit_is_a_difference_and_so_is_a_missing_value() {
        assert_eq!(same(&lines("a 1\nb 2"), &lines("a 1\nb 2")).ok(), Some(2));
        assert!(same(&lines("a 1\nb 2"), &lines("a 1\nb 3")).is_err());
        assert!(same(&lines("a 1\nb 2"), &lines("a 1")).is_err());
        assert!(same(&[], &[]).is_err());
    }

    #[test]
    fn a_program_that_stopped_halfway_has_no_answer() {
        let output =
            "libfabric provider: rdgram - lo\nanswer: energy 0.125\nanswer: digest ab\nseconds: 1.5\n";
        let answer = Answer { lines: lines("energy 0.125\ndigest ab"), seconds: 1.5 };
        assert_eq!(printed(output, 2).ok(), Some(answer));
        assert!(printed(output, 3).is_err());
        assert!(printed("answer: energy 0.125\n", 1).is_err());
    }
}
