//! libfabric's own tools against the library: `fi_info`, and `fi_pingpong` with its data verification.
//! A ping-pong counts only when both sides ended well and the client printed its table.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::command::Job;
use crate::layout::Layout;
use crate::mpi::{Place, Provider};
use crate::packages;
use crate::tally::Tally;

/// Round trips per size.
const ITERATIONS: &str = "50";

/// fi_info, then fi_pingpong in both modes.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let mut provider = None;
    tally.check("library for libfabric's tools", || {
        packages::require_or_skip(layout, &[packages::LIBFABRIC_BIN])?;
        provider = Some(context.provider()?);
        Ok(String::new())
    });
    let Some(provider) = provider else { return };
    tally.check("fi_info", || fi_info(layout, &provider));
    for mode in ["msg", "tagged"] {
        tally.check(&format!("fi_pingpong rdm {mode}, all sizes, verified"), || {
            pingpong(layout, &provider, mode)
        });
    }
}

fn fi_info(layout: &Layout, provider: &Provider) -> Result<String> {
    let output = Job::new(layout, "fi_info", "fi_info")
        .args(["-p", &provider.name, "-t", "FI_EP_RDM"])
        .envs(&provider.environment(Place::Loopback))
        .limit(Duration::from_secs(30))
        .check()?;
    let wanted = format!("provider: {}", provider.name);
    if !output.lines().any(|line| line.trim() == wanted) {
        bail!("fi_info does not list {}:\n{output}", provider.name);
    }
    Ok(String::new())
}

fn pingpong(layout: &Layout, provider: &Provider, mode: &str) -> Result<String> {
    let port = free_port()?.to_string();
    let output = Job::new(layout, format!("fi_pingpong {mode}"), layout.root.join("tests/capi/pingpong.sh"))
        .args([&provider.name, mode, ITERATIONS, &port])
        .envs(&provider.environment(Place::Loopback))
        .limit(Duration::from_secs(180))
        .check()?;
    let sizes = output.lines().filter(|line| is_row(line)).count();
    if sizes == 0 {
        bail!("fi_pingpong printed no results:\n{output}");
    }
    Ok(format!("{sizes} sizes"))
}

/// A row of its table: a size, the number sent, the number acknowledged with "=".
fn is_row(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let size = words.next().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    size && line.contains('=')
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?;
    Ok(listener.local_addr()?.port())
}
