//! Two processes of one host, beside libfabric's own shared memory.

use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, TcpListener};

use super::{Sites, TCP, column, imb_run, imb_table, sizes_file};
use crate::bench::lines;
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;
use crate::mpi::RDGRAM;

/// libfabric's provider over shared memory.
pub(crate) const SHM: &str = "shm";
const RANKS: u32 = 2;
const FABRIC_BYTES: u64 = 8;
const FABRIC_ITERATIONS: &str = "5000";

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let local = session.contenders(&[RDGRAM, SHM])?;
    let remote = session.contenders(&[RDGRAM, TCP])?;
    let site = &sites.loopback;
    for contender in &local {
        session.attempt(site, &contender.label, round, |session| {
            let fabric = fabric(session, site, contender)?;
            Ok(format!("{}, {fabric}", mpi(session, site, contender)?))
        });
    }
    for site in sites.hosts.iter().take(1) {
        for contender in &remote {
            session.attempt(site, &contender.label, round, |session| fabric(session, site, contender));
        }
    }
    Ok(())
}

fn mpi(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let seconds = session.plan.imb_seconds.to_string();
    let mut detail = Vec::new();
    for bytes in [8, 1 << 20] {
        let file = sizes_file(session, &[bytes])?;
        let arguments = ["-time", &seconds, "-iter", "20000,1000", "-msglen", &file, "PingPong"];
        let output = session.mpi(site, contender, &imb_run(session, RANKS, 30, &arguments))?;
        for row in imb_table(&output, "PingPong")? {
            let (time, rate) = (column(&row, 0)?, column(&row, 1)?);
            session.keep(site, &contender.label, Metric::HalfRoundTripUs, row.bytes, RANKS, time);
            session.keep(site, &contender.label, Metric::PingPongMbS, row.bytes, RANKS, rate);
            detail.push(format!("{} B {time:.2} µs", row.bytes));
        }
    }
    Ok(detail.join(", "))
}

fn fabric(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?.local_addr()?.port();
    let run = Run {
        program: &session.programs.fi_pingpong,
        arguments: [
            &contender.provider.name,
            &FABRIC_BYTES.to_string(),
            FABRIC_ITERATIONS,
            &port.to_string(),
        ]
        .map(ToString::to_string)
        .to_vec(),
        ranks: RANKS,
        seconds: 30,
        count_drops: false,
    };
    let time = lines::fi_pingpong_us(&session.fabric(site, contender, &run)?)?;
    session.keep(site, &contender.label, Metric::FabricHalfRoundTripUs, FABRIC_BYTES, RANKS, time);
    Ok(format!("fi_pingpong {time:.2} µs"))
}
