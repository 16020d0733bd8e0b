//! MPI between two hosts (network namespaces): a clean link, single datagrams lost, whole trains lost.
//! A run with loss counts only when the kernel says that packets were really dropped.

use anyhow::{Result, bail};

use super::Context;
use super::mpi::{Bench, compile_verify, imb_arguments, judge_imb, judge_verify, prepare};
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::Place;
use crate::netns::{self, Link};
use crate::tally::Tally;

const RANKS: u32 = 2;
/// Under loss a run may take a while; a hang is what the limit is for.
const LIMIT_SECONDS: u64 = 300;

/// The three links.
const LINKS: [(&str, Link); 3] = [
    ("clean", Link { mtu: 1500, loss_per_mille: 0, split_trains: false }),
    ("1 % of datagrams lost", Link { mtu: 1500, loss_per_mille: 10, split_trains: true }),
    ("1 % of trains lost", Link { mtu: 1500, loss_per_mille: 10, split_trains: false }),
];

/// Verification and a benchmark over each link.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    if !tally.check("two network namespaces", || netns::available(layout).map(|()| String::new())) {
        return;
    }
    let Some(bench) = prepare(context, tally) else { return };
    let mut program = None;
    tally.check("compile mpi-tests/verify", || {
        program = Some(compile_verify(layout, &bench.mpi)?);
        Ok(String::new())
    });
    let Some(verify) = program else { return };
    for (name, link) in &LINKS {
        tally.check(&format!("verify between hosts, {name}"), || {
            let launch = bench.launch(Place::Hosts, RANKS, &verify, LIMIT_SECONDS);
            let job = launch.wrapped(netns::job(layout, format!("verify between hosts {name}"), link));
            judge(&bench, link, job, judge_verify)
        });
        tally.check(&format!("IMB PingPong between hosts, {name}"), || imb(layout, &bench, name, link));
    }
}

fn imb(layout: &Layout, bench: &Bench, name: &str, link: &Link) -> Result<String> {
    let launch = bench.launch(Place::Hosts, RANKS, &bench.mpi.imb, LIMIT_SECONDS);
    let job = launch.wrapped(netns::job(layout, format!("IMB between hosts {name}"), link));
    judge(bench, link, job.args(imb_arguments("PingPong", RANKS)), |bench, output| {
        judge_imb(bench, output, "PingPong")
    })
}

fn judge(
    bench: &Bench,
    link: &Link,
    job: Job,
    verdict: impl FnOnce(&Bench, &str) -> Result<String>,
) -> Result<String> {
    let output = job.check()?;
    let verdict = verdict(bench, &output)?;
    if link.loss_per_mille == 0 {
        return Ok(verdict);
    }
    let dropped = netns::dropped(&output);
    // Only UDP is dropped: a peer provider over TCP sees no loss.
    if dropped == 0 && bench.provider.is_rdgram() {
        bail!("no packet was dropped: the run proves nothing");
    }
    Ok(format!("{verdict}, {dropped} packets dropped"))
}
