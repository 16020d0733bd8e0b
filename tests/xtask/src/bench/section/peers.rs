//! What many peers cost: memory, descriptors, and the time of the first message to each.

use anyhow::Result;

use super::{Sites, contenders};
use crate::bench::lines;
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;

/// What the program prints, and what that is.
const FIELDS: [(&str, Metric); 5] = [
    ("unused_b", Metric::UnusedPeerB),
    ("idle_b", Metric::IdlePeerB),
    ("kernel_b", Metric::IdlePeerKernelB),
    ("descriptors", Metric::Descriptors),
    ("first_s", Metric::FirstMessagesS),
];

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    // Layers over other providers have no memory of their own to speak of: two are compared.
    let contenders = contenders(session, false)?;
    let site = sites.main();
    for peers in session.plan.peers.clone() {
        for contender in &contenders {
            attempt(session, site, contender, peers, round);
        }
    }
    for peers in session.plan.more_peers.clone() {
        let contender = session.rdgram();
        attempt(session, site, &contender, peers, round);
    }
    Ok(())
}

fn attempt(session: &mut Session<'_>, site: &Site, contender: &Contender, peers: u32, round: usize) {
    let subject = format!("{}, {peers} peers", contender.label);
    session.attempt(site, &subject, round, |session| measure(session, site, contender, peers));
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender, peers: u32) -> Result<String> {
    let run = Run {
        program: &session.programs.peers,
        arguments: vec![peers.to_string()],
        ranks: 1,
        seconds: 100,
        count_drops: false,
    };
    let output = session.fabric(site, contender, &run)?;
    let mut detail = Vec::new();
    for line in lines::required(&output, "peers")? {
        for (field, metric) in FIELDS {
            let value = line.number(field)?;
            session.keep(site, &contender.label, metric, 0, peers, value);
            detail.push(format!("{metric}: {value}"));
        }
    }
    Ok(detail.join(", "))
}
