//! MPI between two hosts (network namespaces): a clean link, single datagrams lost, whole trains lost.
//! A run with loss counts only when the kernel says that packets were really dropped.

use std::path::Path;

use anyhow::{Result, bail};

use super::Context;
use super::mpi::{Bench, prepare};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Launch, Place, Route};
use crate::netns::{self, Link};
use crate::suite::{Setting, imb, verify};
use crate::tally::Tally;

const RANKS: u32 = 2;
/// Two on each host: both routes at once.
const RANKS_OF_BOTH_ROUTES: u32 = 4;
/// Under loss a run may take a while; a hang is what the limit is for.
const LIMIT_SECONDS: u64 = 300;

/// The three links.
const LINKS: [(&str, Link); 3] = [
    ("clean", Link::CLEAN),
    ("1 % of datagrams lost", Link::LOSSY),
    ("1 % of trains lost", Link { loss_per_mille: 10, ..Link::CLEAN }),
];

/// Verification and a benchmark over each link.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    if !tally.check("two network namespaces", || netns::available(layout).map(|()| String::new())) {
        return;
    }
    tally.check("the hosts are taken down though nobody reads the report", || unread(layout));
    let Some(bench) = prepare(context, tally) else { return };
    let mut program = None;
    tally.check("compile mpi-tests/verify", || {
        program = Some(verify::compile_verify(layout, &bench.mpi)?);
        Ok(String::new())
    });
    let Some(verify) = program else { return };
    let imb = bench.imb("IMB-MPI1");
    for (name, link) in &LINKS {
        tally.check(&format!("verify between hosts, {name}"), || {
            let launch = bench.launch(Place::Hosts(*link), RANKS, &verify, LIMIT_SECONDS);
            let job = launch.job(layout, format!("verify between hosts {name}"))?;
            judge(&launch, link, &job.check()?, verify::verdict)
        });
        tally.check(&format!("IMB PingPong between hosts, {name}"), || {
            let program = imb.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            ping_pong(layout, &bench, program, name, link)
        });
    }
    tally.check("IMB-MT between hosts, 2 threads to a rank", || {
        let place = Place::Hosts(Link::CLEAN);
        let setting = Setting { place, ..bench.setting(layout, RANKS, LIMIT_SECONDS) };
        imb::run(setting, &imb::THREADS, &imb::SHORT, &[])?.into_result()
    });
    if bench.provider.is_rdgram() {
        for (name, link) in &LINKS[..2] {
            tally.check(&format!("verify between hosts, two ranks on each, {name}"), || {
                both_routes(layout, &bench, &verify, name, link)
            });
        }
    }
}

/// A reader that leaves after the first line must not end the script before it has taken its hosts down.
fn unread(layout: &Layout) -> Result<String> {
    const UNREAD: &str = r#"set -o pipefail
        tests/net/hosts.sh run -- sh -c 'echo "$RDGRAM_NET"; sleep 1' | head -n 1"#;
    let output =
        Job::new(layout, "hosts with a report that nobody reads", "bash").args(["-c", UNREAD]).check()?;
    let Some(bridge) = output.lines().next().filter(|name| !name.is_empty()) else {
        bail!("the script does not say what it made: {output}")
    };
    let left = Job::new(layout, "namespaces", "ip").args(["netns", "list"]).check()?;
    if left.split_whitespace().any(|name| name == bridge) {
        bail!("{bridge} is left");
    }
    Ok(String::new())
}

/// The launcher goes round the hosts, so that every rank has one beside it.
fn both_routes(layout: &Layout, bench: &Bench, program: &Path, name: &str, link: &Link) -> Result<String> {
    let launch = bench.launch(Place::Hosts(*link), RANKS_OF_BOTH_ROUTES, program, LIMIT_SECONDS);
    let launch = Launch { route: Some(&Route::MEMORY), ..launch };
    let label = format!("verify between hosts {RANKS_OF_BOTH_ROUTES} ranks {name}");
    let output = launch.job(layout, label)?.check()?;
    let links = Route::MEMORY.judge(&output)?;
    Ok(format!("{}, {links}", judge(&launch, link, &output, verify::verdict)?))
}

fn ping_pong(layout: &Layout, bench: &Bench, program: &Path, name: &str, link: &Link) -> Result<String> {
    let launch = bench.launch(Place::Hosts(*link), RANKS, program, LIMIT_SECONDS);
    let job = launch.job(layout, format!("IMB between hosts {name}"))?;
    let output = imb::arguments(job, &["PingPong"], RANKS, &imb::SHORT).check()?;
    judge(&launch, link, &output, |output| Ok(imb::judge(&launch, output, "PingPong")?.to_string()))
}

fn judge(
    launch: &Launch<'_>,
    link: &Link,
    output: &str,
    verdict: impl FnOnce(&str) -> Result<String>,
) -> Result<String> {
    launch.proof(output)?;
    let verdict = verdict(output)?;
    if link.loss_per_mille == 0 {
        return Ok(verdict);
    }
    let dropped = netns::dropped(output);
    // Only UDP is dropped: a peer provider over TCP sees no loss.
    if dropped == 0 && launch.provider.is_rdgram() {
        bail!("no packet was dropped: the run proves nothing");
    }
    Ok(format!("{verdict}, {dropped} packets dropped"))
}
