//! Messages of 1 MiB over a link that loses datagrams, or whole trains of them.
//! A run with loss counts only when the kernel says that packets were really dropped.

use anyhow::{Result, bail};

use super::{Sites, column, imb_run, imb_table};
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Session};
use crate::bench::site::{Lost, Site};
use crate::mpi::RDGRAM;
use crate::netns;

/// The link that the targets are about.
const MTU: u16 = 1500;
const RANKS: u32 = 2;
const LIMIT_SECONDS: u64 = 60;

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites) -> Result<()> {
    if sites.hosts.is_empty() {
        let what = "no two hosts can be made here".to_owned();
        session.report_trouble(&sites.loopback, RDGRAM, what, true);
        return Ok(());
    }
    let contender = session.rdgram();
    for round in 0..session.plan.rounds {
        for lost in [Lost::Datagrams, Lost::Trains] {
            for per_mille in session.plan.losses.clone() {
                let site = Site::lossy(MTU, lost, per_mille);
                session.attempt(&site, RDGRAM, round, |session| measure(session, &site, &contender));
            }
        }
    }
    Ok(())
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    // The clean figure beside which loss is judged must not be the noisiest.
    let seconds = (session.plan.imb_seconds * 3.0).to_string();
    let arguments = ["-time", &seconds, "-iter", "2000,1000", "-msglog", "20:20", "PingPong", "Uniband"];
    let output = session.mpi(site, contender, &imb_run(session, RANKS, LIMIT_SECONDS, &arguments))?;
    let dropped = netns::dropped(&output);
    if site.is_lossy() && dropped == 0 {
        bail!("no packet was dropped: the run proves nothing");
    }
    let mut detail = Vec::new();
    for (name, metric, index) in [("PingPong", Metric::PingPongMbS, 1), ("Uniband", Metric::UnibandMbS, 0)] {
        for row in imb_table(&output, name)?.into_iter().filter(|row| row.bytes > 0) {
            let rate = column(&row, index)?;
            session.keep(site, &contender.label, metric, row.bytes, RANKS, rate);
            detail.push(format!("{name} {rate:.0} MB/s"));
        }
    }
    session.keep(site, &contender.label, Metric::LostOnPurpose, 1 << 20, RANKS, dropped as f64);
    Ok(format!("{}, {dropped} packets lost", detail.join(", ")))
}
