//! The C programs of `tests/capi`: compiled against the system's libfabric, run against the built library.
//! A program that ends with status 77 could not run here and says why; that is never a pass.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::command::{Job, tail};
use crate::layout::Layout;
use crate::mpi::{Place, Provider};
use crate::packages;
use crate::tally::{Tally, skip};

/// What a program returns when it could not run, by the convention of Automake.
const STATUS_SKIPPED: i32 = 77;
/// A program ends itself earlier, saying what it waited for; this is for those that cannot even do that.
const LIMIT: Duration = Duration::from_secs(120);

/// Compile and run every program.
pub(super) fn run(context: &mut Context<'_>, tally: &mut Tally) {
    let layout = context.layout;
    let mut prepared = None;
    tally.check("library and compiler for the C programs", || {
        packages::require_or_skip(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::LIBFABRIC_DEV])?;
        prepared = Some((context.provider()?, sources(layout)?));
        Ok(String::new())
    });
    let Some((provider, sources)) = prepared else { return };
    for source in sources {
        let name = source.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let mut compiled = None;
        tally.check(&format!("capi/{name}"), || {
            let program = compile(layout, &source, &name)?;
            compiled = Some(program.clone());
            execute(layout, &provider, &program, &name, &[])
        });
        let Some(program) = compiled.filter(|_| has_two_routes(&source, &name)) else { continue };
        tally.check(&format!("capi/{name}, by datagrams"), || {
            execute(layout, &provider, &program, &name, &[("FI_RDGRAM_LOCAL".into(), "off".into())])
        });
    }
}

/// Two processes of one host talk in it, which share memory unless they are kept from it. Those named `local_` are about just that.
fn has_two_routes(source: &Path, name: &str) -> bool {
    let text = fs::read_to_string(source).unwrap_or_default();
    text.contains("start_peer(") && !text.contains("FI_RDGRAM_LOCAL") && !name.starts_with("local_")
}

/// Every program is one file; what they share is the header `harness.h`.
fn sources(layout: &Layout) -> Result<Vec<PathBuf>> {
    let dir = layout.root.join("tests/capi");
    let mut sources: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    if sources.is_empty() {
        bail!("no C programs in {}", dir.display());
    }
    Ok(sources)
}

/// One program.
pub(super) fn compile(layout: &Layout, source: &Path, name: &str) -> Result<PathBuf> {
    let dir = layout.program_dir("capi");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let program = dir.join(name);
    Job::new(layout, format!("gcc {name}.c"), "gcc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .args(["-lfabric", "-ldl"])
        .check()?;
    Ok(program)
}

fn execute(
    layout: &Layout,
    provider: &Provider,
    program: &Path,
    name: &str,
    settings: &[(String, OsString)],
) -> Result<String> {
    let end = Job::new(layout, format!("capi/{name}"), program)
        .envs(&provider.environment(Place::Loopback))
        .env("RDGRAM_TEST_PROVIDER", &provider.name)
        .envs(settings)
        .limit(LIMIT)
        .run()?;
    let last = end.output.lines().last().unwrap_or_default().trim().to_owned();
    if end.code() == Some(STATUS_SKIPPED) {
        return Err(skip(last));
    }
    if !end.success() {
        bail!("{}", end.into_result().map_or_else(|error| format!("{error:#}"), |output| tail(&output)));
    }
    Ok(last)
}
