//! One run of the bench: what is measured with, and what has been found so far.
//! A measurement that fails is recorded and the next one begins; nothing may stop the bench but its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::host::Moment;
use super::plan::Plan;
use super::programs::Programs;
use super::report::{Counters, Key, Metric, Trouble};
use super::site::Site;
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Launch, Mpi, Provider, RDGRAM};

/// A contender that failed this often at one place is not tried there again.
const PATIENCE: usize = 2;
/// What a measurement may take at least, even when the bench's time is almost up.
const LEAST: Duration = Duration::from_secs(5);

/// Something that is measured: a provider with settings.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// As reports call it.
    pub(crate) label: String,
    /// What it runs over.
    pub(crate) provider: Provider,
    /// Settings beyond the usual.
    pub(crate) environment: Vec<(String, OsString)>,
}

/// A program and how it is run.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Number of ranks.
    pub(crate) ranks: u32,
    /// How long it may take.
    pub(crate) seconds: u64,
    /// Are dropped datagrams counted meanwhile?
    pub(crate) count_drops: bool,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) mpi: Mpi,
    pub(crate) programs: Programs,
    pub(crate) plan: Plan,
    pub(crate) start: Instant,
    pub(crate) samples: BTreeMap<Key, Vec<f64>>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) counters: Vec<Counters>,
    pub(crate) moments: Vec<Moment>,
    /// The section that is being measured.
    section: &'static str,
    /// This project's own provider.
    rdgram: Provider,
    failures: BTreeMap<(&'static str, String, String), usize>,
    directories: u32,
    /// Has it been said that the section's end is left out?
    late: bool,
}

impl Contender {
    /// A provider as it is.
    pub(crate) fn plain(provider: Provider) -> Self {
        Self { label: provider.name.clone(), provider, environment: Vec::new() }
    }
}

impl<'a> Session<'a> {
    /// Nothing found yet.
    pub(crate) fn new(
        layout: &'a Layout,
        mpi: Mpi,
        programs: Programs,
        plan: Plan,
        rdgram: Provider,
    ) -> Self {
        Self {
            layout,
            mpi,
            programs,
            plan,
            start: Instant::now(),
            samples: BTreeMap::new(),
            troubles: Vec::new(),
            counters: Vec::new(),
            moments: Vec::new(),
            section: "",
            rdgram,
            failures: BTreeMap::new(),
            directories: 0,
            late: false,
        }
    }

    /// A section begins.
    pub(crate) fn begin(&mut self, section: &'static str) {
        self.section = section;
        self.late = false;
        let moment = Moment::watch(section);
        if !moment.is_quiet() {
            println!("  warning: the machine is {:.0} % busy with other things", moment.busy_percent);
        }
        self.moments.push(moment);
    }

    /// This project's provider, as it is.
    pub(crate) fn rdgram(&self) -> Contender {
        Contender::plain(self.rdgram.clone())
    }

    /// This project's provider with settings.
    pub(crate) fn rdgram_with(&self, label: &str, settings: &[(&str, &str)]) -> Contender {
        let environment = settings.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
        Contender {
            label: label.to_owned(),
            provider: self.rdgram.clone(),
            environment: environment.collect(),
        }
    }

    /// Another provider with settings.
    pub(crate) fn other_with(&self, label: &str, name: &str, settings: &[(&str, &str)]) -> Result<Contender> {
        let provider = Provider::prepare(self.layout, name)?;
        Ok(Contender { provider, ..self.rdgram_with(label, settings) })
    }

    /// These providers, in this order.
    pub(crate) fn contenders(&self, names: &[&str]) -> Result<Vec<Contender>> {
        let contender = |name: &&str| -> Result<Contender> {
            if *name == RDGRAM {
                return Ok(self.rdgram());
            }
            Provider::prepare(self.layout, name).map(Contender::plain)
        };
        names.iter().map(contender).collect()
    }

    /// Keep one sample.
    pub(crate) fn keep(
        &mut self,
        site: &Site,
        subject: &str,
        metric: Metric,
        bytes: u64,
        parties: u32,
        value: f64,
    ) {
        let (section, place) = (self.section.to_owned(), site.name.clone());
        let key = Key { section, place, subject: subject.to_owned(), metric, bytes, parties };
        self.samples.entry(key).or_default().push(value);
    }

    /// Make one measurement; what it returns is printed, and so is why it failed. `round` counts from 0.
    pub(crate) fn attempt(
        &mut self,
        site: &Site,
        subject: &str,
        round: usize,
        measure: impl FnOnce(&mut Self) -> Result<String>,
    ) {
        let place = (self.section, site.name.clone(), subject.to_owned());
        let failed = self.failures.get(&place).copied().unwrap_or(0);
        if failed >= PATIENCE {
            return;
        }
        if self.is_late() {
            if !self.late {
                let what = format!("from here on, in round {}: the short form's time was over", round + 1);
                self.report_trouble(site, subject, what, true);
                self.late = true;
            }
            return;
        }
        let start = Instant::now();
        let result = measure(self);
        let seconds = start.elapsed().as_secs_f64();
        print!("  {} · {subject} ({seconds:.1} s): ", site.name);
        match result {
            Ok(detail) => println!("{detail}"),
            Err(error) => {
                let what = format!("{error:#}");
                println!("FAILED: {what}");
                let first = what.lines().next().unwrap_or_default().to_owned();
                self.report_trouble(site, subject, format!("round {}: {first}", round + 1), false);
                self.failures.insert(place, failed + 1);
                if failed + 1 == PATIENCE {
                    println!("    not tried again here after {PATIENCE} failures");
                }
            }
        }
    }

    /// Record what cannot be measured.
    pub(crate) fn report_trouble(&mut self, site: &Site, subject: &str, what: String, left_out: bool) {
        self.troubles.push(Trouble {
            section: self.section.to_owned(),
            place: site.name.clone(),
            subject: subject.to_owned(),
            what,
            left_out,
        });
    }

    /// Run an MPI program and return its output, which proves what it ran over.
    pub(crate) fn mpi(&self, site: &Site, contender: &Contender, run: &Run<'_>) -> Result<String> {
        let launch = self.launch(site, contender, run);
        let output = self.start(&launch, site, contender, run)?;
        launch.proof(&output)?;
        Ok(output)
    }

    /// Run a floor: started as an MPI program is, without MPI. The first of its arguments is a directory in
    /// which its ranks meet.
    pub(crate) fn floor(&mut self, site: &Site, mut run: Run<'_>) -> Result<String> {
        let dir = self.fresh_directory()?;
        run.arguments.insert(0, dir.display().to_string());
        // It is launched as if over the provider, at which it does not look.
        let nobody = Contender { label: "no provider".to_owned(), ..self.rdgram() };
        let output = self.start(&self.launch(site, &nobody, &run), site, &nobody, &run);
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        output
    }

    /// Run a floor that is one program.
    pub(crate) fn lone_floor(&self, site: &Site, run: &Run<'_>) -> Result<String> {
        let label = label("no provider", site, run);
        site.job(self.layout, &label, run.program).args(&run.arguments).limit(self.limit(run.seconds)).check()
    }

    /// Run a program of libfabric.
    pub(crate) fn fabric(&self, site: &Site, contender: &Contender, run: &Run<'_>) -> Result<String> {
        let label = label(&contender.label, site, run);
        site.job(self.layout, &label, run.program)
            .args(&run.arguments)
            .envs(&self.programs.environment(&contender.provider, site.place()))
            .envs(&site.environment)
            .envs(&contender.environment)
            .limit(self.limit(run.seconds))
            .check()
    }

    fn launch<'b>(&'b self, site: &Site, contender: &'b Contender, run: &Run<'b>) -> Launch<'b> {
        Launch {
            mpi: &self.mpi,
            provider: &contender.provider,
            place: site.place(),
            ranks: run.ranks,
            program: run.program,
            limit: self.limit(run.seconds),
            route: None,
            launcher: &[],
        }
    }

    fn start(
        &self,
        launch: &Launch<'_>,
        site: &Site,
        contender: &Contender,
        run: &Run<'_>,
    ) -> Result<String> {
        let label = label(&contender.label, site, run);
        let wrapper: &Path = if run.count_drops { &self.programs.udp_drops } else { Path::new("env") };
        let job: Job = launch.wrapped(self.layout, site.job(self.layout, &label, wrapper))?;
        job.args(&run.arguments).envs(&site.environment).envs(&contender.environment).check()
    }

    fn is_late(&self) -> bool {
        self.plan.budget.is_some_and(|budget| self.start.elapsed() >= budget)
    }

    /// A peer that hangs must not take the time of what follows.
    fn limit(&self, seconds: u64) -> Duration {
        let limit = Duration::from_secs(seconds);
        let left = self.plan.budget.map(|budget| budget.saturating_sub(self.start.elapsed()).max(LEAST));
        left.map_or(limit, |left| limit.min(left))
    }

    fn fresh_directory(&mut self) -> Result<PathBuf> {
        self.directories += 1;
        let dir = results_dir(self.layout).join(format!("meet-{}-{}", std::process::id(), self.directories));
        if dir.exists() {
            bail!("{} is left from another run", dir.display());
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }
}

fn label(subject: &str, site: &Site, run: &Run<'_>) -> String {
    let name = run.program.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}, {subject}, {}", site.name)
}

/// Where results are written, and what the programs need meanwhile.
pub(crate) fn results_dir(layout: &Layout) -> PathBuf {
    layout.target.join("bench")
}
