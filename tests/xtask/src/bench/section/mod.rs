//! The sections of the bench: each measures one subject, all contenders taking turns round by round.
//! A section decides what is run and what is kept; it judges nothing.

mod collectives;
mod cost;
mod limits;
mod loss;
mod peers;
mod point_to_point;
mod same_host;

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::report::Metric;
use super::session::{Contender, Run, Session, results_dir};
use super::site::Site;
use crate::mpi::{PEER, RDGRAM};
use crate::suite::table::{self, Row};

/// The provider that most targets compare with.
pub(crate) const TCP: &str = "tcp";
/// The other provider over UDP; it hangs at times.
pub(crate) const RXD: &str = "udp;ofi_rxd";
/// Reports call the raw sockets so.
pub(crate) const RAW_UDP: &str = "raw UDP";
/// As [`RAW_UDP`], with the address given at every send.
pub(crate) const RAW_UDP_UNCONNECTED: &str = "raw UDP, unconnected";
/// As [`RAW_UDP`], one datagram per send.
pub(crate) const RAW_UDP_SINGLE: &str = "raw UDP, single datagrams";
/// As [`RAW_UDP`], with the socket buffers of an untouched system.
pub(crate) const RAW_UDP_STOCK: &str = "raw UDP, stock buffers";
/// This project's provider with such socket buffers.
pub(crate) const RDGRAM_STOCK: &str = "rdgram, stock buffers";
/// Copying within one process.
pub(crate) const MEMCPY: &str = "memcpy";
/// The name of the place where that is measured.
pub(crate) const MEMORY: &str = "memory";

pub(crate) use limits::{INCAST_BYTES, SENDERS};
pub(crate) use same_host::{MPICH_OWN, PROCESS_VM, SHARED_FLAG, SHM};

const MIB: u64 = 1 << 20;
/// Ranks of everything but collective operations.
const TWO: u32 = 2;
/// `net.core.rmem_max` of an untouched system.
const STOCK_BUFFER: &str = "212992";

/// A subject to measure.
#[derive(Debug)]
pub(crate) struct Section {
    /// As it is named on the command line.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// Measure it once; rounds are counted from 0.
    pub(crate) run: fn(&mut Session<'_>, &Sites, usize) -> Result<()>,
}

/// The sites that exist here.
#[derive(Debug)]
pub(crate) struct Sites {
    /// This host, by datagrams.
    pub(crate) loopback: Site,
    /// This host, by whatever is fastest.
    pub(crate) one_host: Site,
    /// Two hosts with a clean link, for each MTU; none where namespaces cannot be made.
    pub(crate) hosts: Vec<Site>,
}

/// All of them; the short form leaves out what comes last when its time is up.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        name: "latency",
        about: "latency, bandwidth and message rate of two ranks, and the floors",
        run: point_to_point::run,
    },
    Section {
        name: "loss",
        about: "1 MiB messages under loss, of datagrams and of whole trains",
        run: loss::run,
    },
    Section { name: "peers", about: "memory, descriptors and first contact of many peers", run: peers::run },
    Section { name: "limits", about: "socket buffers of an untouched system, and incast", run: limits::run },
    Section { name: "collectives", about: "Allreduce, Alltoall, Barrier", run: collectives::run },
    Section { name: "cost", about: "processor time per GB and per million messages", run: cost::run },
    Section {
        name: "same-host",
        about: "two and four ranks that share memory, beside shm, MPICH's own way and the floors",
        run: same_host::run,
    },
];

impl Sites {
    fn all(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.loopback).chain(&self.hosts)
    }

    /// Where one link is enough: the first two hosts, or this one.
    fn main(&self) -> &Site {
        self.hosts.first().unwrap_or(&self.loopback)
    }

    /// This host and the first two.
    fn first_two(&self) -> impl Iterator<Item = &Site> {
        self.all().take(2)
    }
}

/// Everybody, or only those that most targets are about.
fn contenders(session: &Session<'_>, all: bool) -> Result<Vec<Contender>> {
    session.contenders(if all { &[RDGRAM, TCP, PEER, RXD] } else { &[RDGRAM, TCP] })
}

/// A run of IMB-MPI1.
fn imb_run<'a>(session: &'a Session<'_>, ranks: u32, seconds: u64, arguments: &[&str]) -> Run<'a> {
    let mut all = vec!["-npmin".to_owned(), ranks.to_string()];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Run { program: &session.programs.imb, arguments: all, ranks, seconds, count_drops: false }
}

/// A file for `-msglen`. Unlike `-msglog` it does not add the size 0, for which IMB may use up its time.
fn sizes_file(session: &Session<'_>, sizes: &[u64]) -> Result<String> {
    let dir = results_dir(session.layout);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let names: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let path = match names.len() {
        0..=8 => dir.join(format!("sizes-{}.txt", names.join("-"))),
        count => dir.join(format!("sizes-{count}.txt")),
    };
    fs::write(&path, names.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// A run of messages of 1 MiB, back and forth and in one direction, long enough to be the figure that others
/// are judged by.
fn mib_run<'a>(session: &'a Session<'_>) -> Result<Run<'a>> {
    let seconds = (session.plan.imb_seconds * 3.0).to_string();
    let file = sizes_file(session, &[MIB])?;
    let arguments = ["-time", &seconds, "-iter", "2000,1000", "-msglen", &file, "PingPong", "Uniband"];
    Ok(imb_run(session, TWO, 60, &arguments))
}

/// Keep what such a run measured.
fn keep_mib(session: &mut Session<'_>, site: &Site, contender: &Contender, output: &str) -> Result<String> {
    let mut detail = Vec::new();
    for (name, metric, index) in [("PingPong", Metric::PingPongMbS, 1), ("Uniband", Metric::UnibandMbS, 0)] {
        for row in imb_table(output, name)? {
            let rate = column(&row, index)?;
            session.keep(site, &contender.label, metric, row.bytes, TWO, rate);
            detail.push(format!("{name} {rate:.0} MB/s"));
        }
    }
    Ok(detail.join(", "))
}

/// The table of a benchmark that came to its end.
fn imb_table(output: &str, benchmark: &str) -> Result<Vec<Row>> {
    if !output.contains(table::COMPLETED) {
        bail!("IMB did not come to its end");
    }
    let rows = table::tables(output).remove(benchmark).filter(|rows| !rows.is_empty());
    rows.with_context(|| match table::left_out(output) {
        0 => format!("IMB printed no table for {benchmark}"),
        _ => format!("IMB's own time was over before it had measured {benchmark}"),
    })
}

/// A column of a row.
fn column(row: &Row, index: usize) -> Result<f64> {
    row.columns.get(index).copied().context("a row of IMB's table is too short")
}
