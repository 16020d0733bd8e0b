//! The Wireshark dissector: real traffic is captured and dissected, packets of every kind are, and damaged ones are.
//! What the dissector shows is judged by `tests/dissector`; this file only captures and cleans up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Context, capi};
use crate::command::{Finished, Job};
use crate::layout::Layout;
use crate::mpi::{Place, Provider};
use crate::netns::{self, Link};
use crate::packages::{self, GCC, LIBC_HEADERS, LIBFABRIC_BIN, LIBFABRIC_DEV, TSHARK};
use crate::tally::{Tally, skip};

/// Run over the loopback interface of one host: one-sided operations, atomics and refusals; messages by every call; bursts, which become bundles.
const PROGRAMS: [&str; 5] = ["onesided", "messages", "bursts", "matching", "counters"];
const LIMIT: Duration = Duration::from_secs(180);

/// Real traffic, then packets that are made.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    if !tally.check("tshark", || packages::require_or_skip(layout, &[TSHARK]).map(|()| String::new())) {
        return;
    }
    tally.check("packets of every kind, dissected", || judge(layout, &["generated".into()]));
    tally.check("damaged packets, dissected", || judge(layout, &["hostile".into()]));
    tally.check("real traffic, captured and dissected", || {
        netns::available(layout)?;
        packages::require_or_skip(layout, &[GCC, LIBC_HEADERS, LIBFABRIC_DEV, LIBFABRIC_BIN])?;
        let provider = context.provider()?;
        if !provider.is_rdgram() {
            return Err(skip("the dissector knows rdgram's packets only"));
        }
        let capture = Capture::new(layout)?;
        let end = traffic(layout, &provider, &capture.0)?;
        let log = end.log().to_owned();
        end.into_result()?;
        judge(layout, &["traffic".into(), "--capture".into(), capture.0.clone(), "--log".into(), log])
    });
}

/// A capture file that is removed with its value.
struct Capture(PathBuf);

impl Capture {
    fn new(layout: &Layout) -> Result<Self> {
        let dir = layout.run_dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir.join(format!("capture-{}.pcapng", std::process::id()))))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It is not there when the capture did not begin.
        let _ = fs::remove_file(&self.0);
    }
}

fn traffic(layout: &Layout, provider: &Provider, capture: &Path) -> Result<Finished> {
    let sources = layout.root.join("tests/capi");
    let programs = PROGRAMS
        .into_iter()
        .map(|name| capi::compile(layout, &sources.join(format!("{name}.c")), name))
        .collect::<Result<Vec<PathBuf>>>()?;
    netns::job(layout, "capture of real traffic", &Link::CLEAN)
        .arg(layout.root.join("tests/net/capture.sh"))
        .arg(capture)
        .arg(&provider.name)
        .args(programs)
        .envs(&provider.environment(Place::Hosts(Link::CLEAN)))
        .env("RDGRAM_TEST_PROVIDER", &provider.name)
        .env("FI_RDGRAM_STATS", "1")
        .limit(LIMIT)
        .run()
}

fn judge(layout: &Layout, task: &[PathBuf]) -> Result<String> {
    let name = task.first().map(|name| name.display().to_string()).unwrap_or_default();
    let output = Job::new(layout, format!("dissector {name}"), "cargo")
        .args(["run", "--quiet", "--package", "rdgram-dissector", "--"])
        .arg("--dissector")
        .arg(layout.root.join("prov/docs/wireshark/rdgram.lua"))
        .arg("--scratch")
        .arg(layout.run_dir())
        .args(task)
        .env("CARGO_TERM_COLOR", "never")
        .limit(Duration::from_secs(600))
        .check()?;
    Ok(output.lines().last().unwrap_or_default().to_owned())
}
