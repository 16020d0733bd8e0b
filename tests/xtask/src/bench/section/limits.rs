//! The socket buffers of an untouched system: what they cost, and whether anything is dropped.

use anyhow::Result;

use super::point_to_point::{BUFFER_BYTES, stream};
use super::{MIB, RAW_UDP, RAW_UDP_STOCK, RDGRAM_STOCK, STOCK_BUFFER, Sites, TWO, keep_mib, mib_run};
use crate::bench::lines;
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;

/// Of an incast.
pub(crate) const SENDERS: u32 = 64;
/// Messages that share datagrams, messages of several datagrams, and messages that are asked for.
pub(crate) const INCAST_BYTES: [u64; 3] = [8, 8192, 262_144];
/// Of the largest ones, so many times fewer are sent.
const LARGE_SHARE: u32 = 10;

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let stock = session
        .rdgram_with(RDGRAM_STOCK, &[("FI_RDGRAM_RCVBUF", STOCK_BUFFER), ("FI_RDGRAM_SNDBUF", STOCK_BUFFER)]);
    let contenders = [session.rdgram(), stock];
    // Targets are about the link between hosts alone.
    let here: Vec<&Site> = if session.plan.few { vec![sites.main()] } else { sites.first_two().collect() };
    for site in &here {
        for (subject, buffer) in [(RAW_UDP, BUFFER_BYTES), (RAW_UDP_STOCK, STOCK_BUFFER)] {
            session.attempt(site, subject, round, |session| {
                stream(session, site, buffer, subject).map(|rate| format!("stream {rate:.0} MB/s"))
            });
        }
        for contender in &contenders {
            session.attempt(site, &contender.label, round, |session| measure(session, site, contender));
        }
    }
    for contender in &contenders {
        for bytes in INCAST_BYTES {
            let subject = format!("{}, {SENDERS} to 1, {bytes} B", contender.label);
            let site = sites.main();
            session.attempt(site, &subject, round, |session| incast(session, site, contender, bytes));
        }
    }
    Ok(())
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let run = Run { count_drops: true, ..mib_run(session)? };
    let output = session.mpi(site, contender, &run)?;
    let detail = keep_mib(session, site, contender, &output)?;
    let mut drops = 0.0;
    for line in lines::required(&output, "udp")? {
        drops += line.number("receive_buffer_errors")?;
    }
    session.keep(site, &contender.label, Metric::Drops, MIB, TWO, drops);
    Ok(format!("{detail}, {drops} datagrams dropped"))
}

fn incast(session: &mut Session<'_>, site: &Site, contender: &Contender, bytes: u64) -> Result<String> {
    let [.., largest] = INCAST_BYTES;
    let share = if bytes == largest { LARGE_SHARE } else { 1 };
    let messages = (session.plan.incast_messages / share).max(1);
    let run = Run {
        program: &session.programs.incast,
        arguments: vec![SENDERS.to_string(), messages.to_string(), bytes.to_string()],
        ranks: 1,
        seconds: 60,
        count_drops: false,
    };
    let output = session.fabric(site, contender, &run)?;
    let mut detail = Vec::new();
    for line in lines::required(&output, "incast")? {
        let drops = line.number("receiver_drops")? + line.number("sender_drops")?;
        let rate = line.number("mb_s")?;
        session.keep(site, &contender.label, Metric::Drops, bytes, SENDERS, drops);
        session.keep(site, &contender.label, Metric::IncastMbS, bytes, SENDERS, rate);
        detail.push(format!("{rate:.1} MB/s, {drops} datagrams dropped"));
    }
    Ok(detail.join(", "))
}
