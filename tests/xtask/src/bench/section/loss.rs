//! Messages of 1 MiB over a link that loses datagrams, or whole trains of them.
//! A run with loss counts only when the kernel says that packets were really dropped.

use anyhow::{Result, bail};

use super::{MIB, Sites, TWO, keep_mib, mib_run};
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Session};
use crate::bench::site::{Lost, Site};
use crate::mpi::RDGRAM;
use crate::netns;

/// The link that the targets are about.
const MTU: u16 = 1500;

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    if sites.hosts.is_empty() {
        let what = "no two hosts can be made here".to_owned();
        session.report_trouble(&sites.loopback, RDGRAM, what, true);
        return Ok(());
    }
    let contender = session.rdgram();
    for lost in [Lost::Datagrams, Lost::Trains] {
        for per_mille in session.plan.losses.clone() {
            let site = Site::lossy(MTU, lost, per_mille);
            session.attempt(&site, RDGRAM, round, |session| measure(session, &site, &contender));
        }
    }
    Ok(())
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let output = session.mpi(site, contender, &mib_run(session)?)?;
    let dropped = netns::dropped(&output);
    if site.is_lossy() && dropped == 0 {
        bail!("no packet was dropped: the run proves nothing");
    }
    let detail = keep_mib(session, site, contender, &output)?;
    session.keep(site, &contender.label, Metric::LostOnPurpose, MIB, TWO, dropped as f64);
    Ok(format!("{detail}, {dropped} packets lost"))
}
