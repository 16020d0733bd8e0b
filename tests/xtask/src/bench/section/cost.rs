//! What messages cost the processors, and the provider's own counters of such a run.

use anyhow::{Result, bail};

use super::{Sites, contenders};
use crate::bench::lines;
use crate::bench::report::{Counters, Metric};
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;

const RANKS: u32 = 2;

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let contenders = contenders(session, !session.plan.few)?;
    for site in sites.all() {
        for contender in &contenders {
            session.attempt(site, &contender.label, round, |session| measure(session, site, contender));
        }
    }
    if round > 0 {
        return Ok(());
    }
    // The counters are had in one run of its own: what is measured is not to be disturbed by them.
    let counting = session.rdgram_with("rdgram, counting", &[("FI_RDGRAM_STATS", "1")]);
    for site in sites.all() {
        session.attempt(site, &counting.label, 0, |session| count(session, site, &counting));
    }
    Ok(())
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let output = session.mpi(site, contender, &transfer(session))?;
    let mut detail = Vec::new();
    for line in lines::required(&output, "transfer")? {
        let bytes = line.count("bytes")?;
        let messages = line.number("messages")?;
        let time = line.number("user_s")? + line.number("system_s")?;
        let (metric, cost) = if line.text("kind")? == "bandwidth" {
            (Metric::CpuSPerGb, time / (messages * bytes as f64 / 1e9))
        } else {
            (Metric::CpuSPerMillionMessages, time / (messages / 1e6))
        };
        session.keep(site, &contender.label, metric, bytes, RANKS, cost);
        detail.push(format!("{cost:.3} {metric}"));
    }
    Ok(detail.join(", "))
}

fn count(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let values = lines::counters(&session.mpi(site, contender, &transfer(session))?);
    if values.is_empty() {
        bail!("the provider printed no counters");
    }
    let detail = format!("{} counters", values.len());
    session.counters.push(Counters { place: site.name.clone(), values });
    Ok(detail)
}

fn transfer<'a>(session: &'a Session<'_>) -> Run<'a> {
    let arguments = vec![(session.plan.imb_seconds * 2.0).to_string()];
    Run { program: &session.programs.transfer, arguments, ranks: RANKS, seconds: 30, count_drops: false }
}
