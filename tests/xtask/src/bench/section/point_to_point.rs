//! Latency, bandwidth and message rate of two ranks, beside the floors: raw UDP, and copying memory.
//! Floors and contenders take turns in every round, so that what disturbs the machine meets all of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    MEMCPY, MEMORY, RAW_UDP, RAW_UDP_SINGLE, RAW_UDP_UNCONNECTED, Sites, column, contenders, imb_run,
    imb_table, sizes_file,
};
use crate::bench::lines;
use crate::bench::report::Metric;
use crate::bench::session::{Contender, Run, Session};
use crate::bench::site::Site;

/// The socket buffers that the stream asks for; the kernel gives what its limits allow.
pub(super) const BUFFER_BYTES: &str = "8388608";
/// IMB's repetitions at most, and megabytes at most: beyond 2^31 bytes it measures once.
pub(super) const ITERATIONS: &str = "20000,1000";
const RANKS: u32 = 2;
const HUGE_BYTES: u64 = 64 << 20;
/// Sizes of which the time to copy them is measured.
const COPIED: [usize; 3] = [1 << 20, 4 << 20, 64 << 20];

/// Measure.
pub(super) fn run(session: &mut Session<'_>, sites: &Sites, round: usize) -> Result<()> {
    let contenders = contenders(session, round < session.plan.others_rounds)?;
    let memory = Site::named(MEMORY);
    session.attempt(&memory, MEMCPY, round, |session| Ok(copy_memory(session, &memory)));
    for site in sites.all() {
        session.attempt(site, RAW_UDP, round, |session| floors(session, site));
        for contender in &contenders {
            session.attempt(site, &contender.label, round, |session| measure(session, site, contender));
        }
    }
    Ok(())
}

fn copy_memory(session: &mut Session<'_>, site: &Site) -> String {
    let limit = Duration::from_secs_f64(session.plan.floor_seconds);
    for bytes in COPIED {
        let source = vec![1u8; bytes];
        let mut target = vec![0u8; bytes];
        let (start, mut copies) = (Instant::now(), 0u32);
        while start.elapsed() < limit {
            black_box(&mut target).copy_from_slice(black_box(&source));
            copies += 1;
        }
        let rate = f64::from(copies) * bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        session.keep(site, MEMCPY, Metric::StreamMbS, bytes as u64, 1, rate);
    }
    String::new()
}

fn floors(session: &mut Session<'_>, site: &Site) -> Result<String> {
    let seconds = session.plan.floor_seconds;
    let program = session.programs.floor_pingpong.clone();
    let arguments = vec![seconds.to_string()];
    let run = Run { program: &program, arguments, ranks: RANKS, seconds: 60, count_drops: false };
    let output = session.floor(site, run)?;
    let mut best = f64::INFINITY;
    for line in lines::required(&output, "pingpong")? {
        let subject = if line.text("kind")? == "connected" { RAW_UDP } else { RAW_UDP_UNCONNECTED };
        let (bytes, time) = (line.count("bytes")?, line.number("us")?);
        session.keep(site, subject, Metric::HalfRoundTripUs, bytes, RANKS, time);
        if bytes == 8 {
            best = best.min(time);
        }
    }
    let rate = stream(session, site, BUFFER_BYTES, RAW_UDP)?;
    Ok(format!("8 B {best:.2} µs, stream {rate:.0} MB/s"))
}

/// The stream with these socket buffers, kept under this name. Returns the best rate.
pub(super) fn stream(session: &mut Session<'_>, site: &Site, buffer: &str, subject: &str) -> Result<f64> {
    let mut arguments = vec![session.plan.floor_seconds.to_string(), buffer.to_owned()];
    arguments.extend(site.segments().iter().map(u16::to_string));
    let program = session.programs.floor_stream.clone();
    let run = Run { program: &program, arguments, ranks: RANKS, seconds: 60, count_drops: false };
    let output = session.floor(site, run)?;
    let mut best = 0.0f64;
    for line in lines::required(&output, "stream")? {
        let single = line.count("train")? == 1;
        if single && subject != RAW_UDP {
            continue;
        }
        let subject = if single { RAW_UDP_SINGLE } else { subject };
        let segment = line.count("segment")?;
        for (metric, field) in
            [(Metric::StreamMbS, "mb_s"), (Metric::StreamLost, "lost"), (Metric::CpuSPerGb, "cpu_s_per_gb")]
        {
            session.keep(site, subject, metric, segment, RANKS, line.number(field)?);
        }
        best = best.max(line.number("mb_s")?);
    }
    Ok(best)
}

fn measure(session: &mut Session<'_>, site: &Site, contender: &Contender) -> Result<String> {
    let sizes = session.plan.latency_sizes.clone();
    let mut detail = pingpong_by_size(session, site, contender, &sizes)?;
    let seconds = session.plan.imb_seconds.to_string();
    if session.plan.huge {
        let arguments = ["-time", "2", "-iter", "10,2000", "-mem", "2", "-msglog", "26:26", "PingPong"];
        detail += &pingpong(session, site, contender, 40, &arguments)?.0;
    }
    let sizes = session.plan.rate_sizes.clone();
    let limit = limit_of(session, sizes.len());
    let file = sizes_file(session, &sizes)?;
    let arguments = ["-time", &seconds, "-iter", ITERATIONS, "-msglen", &file, "Uniband"];
    let output = session.mpi(site, contender, &imb_run(session, RANKS, limit, &arguments))?;
    let rows = imb_table(&output, "Uniband")?;
    detail += &note_missing(session, site, contender, sizes.len(), rows.len());
    for row in rows {
        let (rate, messages) = (column(&row, 0)?, column(&row, 1)?);
        session.keep(site, &contender.label, Metric::UnibandMbS, row.bytes, RANKS, rate);
        session.keep(site, &contender.label, Metric::UnibandMsgS, row.bytes, RANKS, messages);
        if row.bytes == 8 {
            detail += &format!(", {:.2} M msg/s", messages / 1e6);
        }
    }
    Ok(detail)
}

/// PingPong of these sizes: what it measured as text.
pub(super) fn pingpong_by_size(
    session: &mut Session<'_>,
    site: &Site,
    contender: &Contender,
    sizes: &[u64],
) -> Result<String> {
    let seconds = session.plan.imb_seconds.to_string();
    let limit = limit_of(session, sizes.len());
    let file = sizes_file(session, sizes)?;
    let arguments = ["-time", &seconds, "-iter", ITERATIONS, "-msglen", &file, "PingPong"];
    let (detail, measured) = pingpong(session, site, contender, limit, &arguments)?;
    Ok(detail + &note_missing(session, site, contender, sizes.len(), measured))
}

/// What it measured as text, and how many sizes.
pub(super) fn pingpong(
    session: &mut Session<'_>,
    site: &Site,
    contender: &Contender,
    limit: u64,
    arguments: &[&str],
) -> Result<(String, usize)> {
    let output = session.mpi(site, contender, &imb_run(session, RANKS, limit, arguments))?;
    let mut detail = String::new();
    let rows = imb_table(&output, "PingPong")?;
    let measured = rows.len();
    for row in rows {
        let (time, rate) = (column(&row, 0)?, column(&row, 1)?);
        // With a single large size IMB measures none as well, with too few repetitions to mean anything.
        if row.bytes == 0 && arguments.contains(&"-msglog") {
            continue;
        }
        session.keep(site, &contender.label, Metric::HalfRoundTripUs, row.bytes, RANKS, time);
        if row.bytes > 0 {
            session.keep(site, &contender.label, Metric::PingPongMbS, row.bytes, RANKS, rate);
        }
        match row.bytes {
            8 => detail = format!("8 B {time:.2} µs"),
            0x10_0000 => detail += &format!(", 1 MiB {rate:.0} MB/s"),
            HUGE_BYTES => detail += &format!(", 64 MiB {rate:.0} MB/s"),
            _ => {}
        }
    }
    Ok((detail, measured))
}

/// IMB leaves sizes out when its own time is over, as on a busy machine. What is missing is said.
pub(super) fn note_missing(
    session: &mut Session<'_>,
    site: &Site,
    contender: &Contender,
    sizes: usize,
    measured: usize,
) -> String {
    let missing = sizes.saturating_sub(measured);
    if missing == 0 {
        return String::new();
    }
    let what = format!("{missing} of {sizes} sizes, for which IMB had no time");
    session.report_trouble(site, &contender.label, what, true);
    format!(", {missing} of {sizes} sizes left out by IMB")
}

/// Time for every size and for the start; twice that and it hangs.
pub(super) fn limit_of(session: &Session<'_>, sizes: usize) -> u64 {
    let expected = session.plan.imb_seconds * sizes as f64 * 2.0;
    20 + Duration::from_secs_f64(expected * 2.0).as_secs()
}
