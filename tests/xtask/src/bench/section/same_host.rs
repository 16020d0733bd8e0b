//! Ranks of one host that share memory: beside libfabric's own provider for that, MPICH's own way, and what two
//! processes can do at best.

use anyhow::{Context as _, Result, ensure};
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZero;
use std::thread;

use super::point_to_point::{ITERATIONS, pingpong_by_size};
use super::{MEMCPY, Sites, TCP, TWO, column, imb_run, imb_table, sizes_file};
use crate::bench::lines;
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;
use crate::mpi::RDGRAM;
use crate::packages;

/// libfabric's provider over shared memory.
pub(crate) const SHM: &str = "shm";
/// This project's provider where no process may read another one's memory.
const RDGRAM_MEMCPY: &str = "rdgram, memcpy";
/// MPICH where it is not told to leave the host's ranks to libfabric.
pub(crate) const MPICH_OWN: &str = "MPICH's own";
/// The floor of latency.
pub(crate) const SHARED_FLAG: &str = "shared flag";
/// The floor of bandwidth for what is copied once between processes.
pub(crate) const PROCESS_VM: &str = "process_vm_readv";

const SMALL_BYTES: u64 = 8;
/// Enough that meeting each other takes no noticeable part of the time; between hosts there is no such thing.
const LOCAL_ITERATIONS: &str = "20000";
const REMOTE_ITERATIONS: &str = "5000";
const FI_PINGPONG: &str = "fi_pingpong";
/// Counters that show that two ranks shared memory.
const LINKED: [&str; 2] = ["links", "local_put"];

/// Columns of IMB's tables: of Uniband, of collective operations.
const MESSAGES: usize = 1;
const AVERAGE: usize = 2;
const COLLECTIVES: [(&str, Metric); 2] =
    [("Allreduce", Metric::AllreduceUs), ("Alltoall", Metric::AlltoallUs)];

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let site = &sites.one_host;
    session.attempt(site, SHARED_FLAG, round, |session| floors(session, site));
    for contender in &contenders(session, round)? {
        session.attempt(site, &contender.label, round, |session| measure(session, site, contender));
    }
    fabric(session, sites, round)
}

/// In turns: all of them, or those that targets are about.
fn contenders(session: &Session<'_>, round: usize) -> Result<Vec<Contender>> {
    // The counters are the proof that memory was shared; they are printed at the end.
    let stats = ("FI_RDGRAM_STATS", "1");
    let mut all = vec![session.rdgram_with(RDGRAM, &[stats]), session.other_with(SHM, SHM, &[])?];
    if round < session.plan.others_rounds {
        all.push(session.rdgram_with(RDGRAM_MEMCPY, &[stats, ("FI_RDGRAM_DMA", "memcpy")]));
        // Some provider it must have, and uses it for nothing.
        all.push(session.other_with(MPICH_OWN, TCP, &[("MPIR_CVAR_NOLOCAL", "0")])?);
    }
    Ok(all)
}

fn floors(session: &mut Session<'_>, site: &Site) -> Result<String> {
    let run = Run {
        program: &session.programs.floor_local,
        arguments: vec![session.plan.floor_seconds.to_string()],
        ranks: TWO,
        seconds: 60,
        count_drops: false,
    };
    let output = session.lone_floor(site, &run)?;
    let mut detail = Vec::new();
    for line in lines::required(&output, "flag")? {
        let time = line.number("us")?;
        session.keep(site, SHARED_FLAG, Metric::HalfRoundTripUs, SMALL_BYTES, TWO, time);
        detail.push(format!("{time:.2} µs"));
    }
    for (name, parties) in [(PROCESS_VM, TWO), (MEMCPY, 1)] {
        for line in lines::required(&output, name)? {
            let (bytes, rate) = (line.count("bytes")?, line.number("mb_s")?);
            session.keep(site, name, Metric::StreamMbS, bytes, parties, rate);
            if bytes == super::MIB {
                detail.push(format!("{name} of 1 MiB {rate:.0} MB/s"));
            }
        }
    }
    Ok(detail.join(", "))
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let sizes = session.plan.local_sizes.clone();
    let mut detail = pingpong_by_size(session, site, contender, &sizes)?;
    for ranks in session.plan.local_ranks.clone() {
        if contender.label == MPICH_OWN && ranks as usize > cores() {
            // Its ranks never give up a processor that another one waits for: a single operation takes time slices.
            let what = format!("{ranks} ranks, which are more than processors");
            session.report_trouble(site, MPICH_OWN, what, true);
            continue;
        }
        detail += &small(session, site, contender, ranks)?;
    }
    Ok(detail)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Messages of 8 B: their rate between two ranks, and collective operations.
fn small(session: &mut Session<'_>, site: &Site, contender: &Contender, ranks: u32) -> Result<String> {
    let seconds = (session.plan.imb_seconds * 2.0).to_string();
    let file = sizes_file(session, &[SMALL_BYTES])?;
    let mut arguments = vec!["-time", &seconds, "-iter", ITERATIONS, "-msglen", &file];
    arguments.extend((ranks == TWO).then_some("Uniband"));
    arguments.extend(COLLECTIVES.iter().map(|(name, _)| *name));
    let output = session.mpi(site, contender, &imb_run(session, ranks, 60, &arguments))?;
    prove_shared(contender, &output)?;
    let mut detail = String::new();
    if ranks == TWO {
        for row in imb_table(&output, "Uniband")? {
            let messages = column(&row, MESSAGES)?;
            session.keep(site, &contender.label, Metric::UnibandMsgS, row.bytes, ranks, messages);
            detail += &format!(", {:.2} M msg/s", messages / 1e6);
        }
    }
    for (name, metric) in COLLECTIVES {
        for row in imb_table(&output, name)?.iter().filter(|row| row.bytes == SMALL_BYTES) {
            let time = column(row, AVERAGE)?;
            session.keep(site, &contender.label, metric, row.bytes, ranks, time);
            detail += &format!(", {name} of {ranks} {time:.1} µs");
        }
    }
    Ok(detail)
}

/// Figures of datagrams under this heading would be a lie.
fn prove_shared(contender: &Contender, output: &str) -> Result<()> {
    if contender.provider.name != RDGRAM {
        return Ok(());
    }
    let counters = lines::counters(output);
    for name in LINKED {
        let count = counters.get(name).copied().unwrap_or_default();
        ensure!(count > 0, "the ranks shared no memory: the provider's counter {name} is 0");
    }
    Ok(())
}

/// libfabric's own ping-pong, without MPI: on one host, and between two.
fn fabric(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let local = (&sites.one_host, SHM, LOCAL_ITERATIONS);
    let remote = sites.hosts.first().map(|site| (site, TCP, REMOTE_ITERATIONS));
    for (site, other, iterations) in std::iter::once(local).chain(remote) {
        for contender in session.contenders(&[RDGRAM, other])? {
            let subject = format!("{}, {FI_PINGPONG}", contender.label);
            if !packages::program_exists(FI_PINGPONG) {
                if round == 0 {
                    let what = format!("{FI_PINGPONG} is not installed (Debian's libfabric-bin has it)");
                    session.report_trouble(site, &subject, what, true);
                }
                continue;
            }
            session
                .attempt(site, &subject, round, |session| fi_pingpong(session, site, &contender, iterations));
        }
    }
    Ok(())
}

fn fi_pingpong(
    session: &mut Session<'_>,
    site: &Site,
    contender: &Contender,
    iterations: &str,
) -> Result<String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?.local_addr()?.port();
    let run = Run {
        program: &session.programs.fi_pingpong,
        arguments: [&contender.provider.name, &SMALL_BYTES.to_string(), iterations, &port.to_string()]
            .map(ToString::to_string)
            .to_vec(),
        ranks: TWO,
        seconds: 30,
        count_drops: false,
    };
    let time = lines::fi_pingpong_us(&session.fabric(site, contender, &run)?)?;
    session.keep(site, &contender.label, Metric::FabricHalfRoundTripUs, SMALL_BYTES, TWO, time);
    Ok(format!("{time:.2} µs"))
}
