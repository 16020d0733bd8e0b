//! Allreduce, Alltoall and Barrier with as many ranks as cores, and with more.

use anyhow::Result;

use super::{Sites, column, contenders, imb_run, imb_table, sizes_file};
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Session};
use crate::bench::site::Site;

/// What is measured; the benchmarks print the average over all ranks in their third column.
const BENCHMARKS: [(&str, Metric); 3] =
    [("Allreduce", Metric::AllreduceUs), ("Alltoall", Metric::AlltoallUs), ("Barrier", Metric::BarrierUs)];
const AVERAGE: usize = 2;
/// Few sizes are enough; the short form measures the first.
const SIZES: [u64; 2] = [8, 65_536];

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let contenders = contenders(session, !session.plan.few)?;
    for site in sites.first_two() {
        for ranks in session.plan.ranks.clone() {
            for contender in &contenders {
                // A contender that hangs with 8 ranks may well do with 2.
                let subject = format!("{}, {ranks} ranks", contender.label);
                session.attempt(site, &subject, round, |session| measure(session, site, contender, ranks));
            }
        }
    }
    Ok(())
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender, ranks: u32) -> Result<String> {
    let seconds = (session.plan.imb_seconds * 2.0).to_string();
    let mut detail = Vec::new();
    let sizes = if session.plan.few { &SIZES[..1] } else { &SIZES[..] };
    for bytes in sizes {
        let file = sizes_file(session, &[*bytes])?;
        let mut arguments = vec!["-time", &seconds, "-iter", "2000", "-msglen", &file];
        arguments.extend(BENCHMARKS.iter().map(|(name, _)| *name));
        let output = session.mpi(site, contender, &imb_run(session, ranks, 60, &arguments))?;
        for (name, metric) in BENCHMARKS {
            for row in imb_table(&output, name)? {
                // A barrier has no size: measured once.
                let is_wanted = metric != Metric::BarrierUs || *bytes == SIZES[0];
                if is_wanted {
                    let time = column(&row, AVERAGE)?;
                    session.keep(site, &contender.label, metric, row.bytes, ranks, time);
                    detail.push(format!("{name} {} B {time:.1} µs", row.bytes));
                }
            }
        }
    }
    Ok(detail.join(", "))
}
