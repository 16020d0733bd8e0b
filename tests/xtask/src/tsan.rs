//! `cargo xtask tsan`: the C programs with many threads under ThreadSanitizer, with the provider and the standard library built for it.
//! Not a part of `cargo xtask test`: it takes a nightly compiler with the sources of the standard library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::{Job, tail};
use crate::layout::Layout;
use crate::mpi::{Place, Provider};
use crate::tally::Tally;
use crate::{packages, plugin};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Programs of `tests/capi` in which threads share what the provider has.
const PROGRAMS: [&str; 2] = ["threads", "threads_many"];
/// What ThreadSanitizer makes a program return that it has reported something of.
const FOUND: i32 = 66;
/// A program is ten times slower than without it.
const LIMIT: Duration = Duration::from_secs(600);
/// Threads may do what `FI_THREAD_DOMAIN` forbids them: then there are races, and they have to be seen.
const CONTROL: &str = "-DTHREADING=FI_THREAD_DOMAIN";

/// Build, run, and say what was found.
pub(crate) fn run(layout: &Layout) -> Result<ExitCode> {
    packages::require(layout, &[packages::GCC, packages::LIBC_HEADERS, packages::LIBFABRIC_DEV])?;
    let mut tally = Tally::default();
    let mut built = None;
    tally.check("the provider for ThreadSanitizer", || {
        built = Some(build(layout)?);
        Ok(String::new())
    });
    if let Some(provider) = built {
        tally.check("races are seen where there are some", || {
            let program = compile(layout, "threads_many", &[CONTROL])?;
            match execute(layout, &provider, &program, "threads_many, unlocked")? {
                (Some(FOUND), _) => Ok(String::new()),
                (code, output) => bail!("it ended with {code:?}\n{}", tail(&output)),
            }
        });
        for name in PROGRAMS {
            tally.check(&format!("capi/{name}"), || {
                let program = compile(layout, name, &[])?;
                match execute(layout, &provider, &program, name)? {
                    (Some(0), _) => Ok(String::new()),
                    (code, output) => bail!("it ended with {code:?}\n{}", tail(&output)),
                }
            });
        }
    }
    println!("{tally}");
    Ok(if tally.clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(layout: &Layout) -> Result<Provider> {
    let target = layout.target.join("tsan");
    Job::new(layout, "cargo +nightly build for ThreadSanitizer", "cargo")
        .args(["+nightly", "build", "--release", "-Zbuild-std", "--target", TARGET, "--package", "rdgram-fi"])
        .env("RUSTFLAGS", "-Zsanitizer=thread")
        .env("CARGO_TARGET_DIR", &target)
        .limit(Duration::from_secs(1800))
        .check()
        .context("it takes: rustup toolchain install nightly --component rust-src")?;
    let dir = plugin::install(&target.join(TARGET).join("release"), target.join("rdgram"))?;
    Ok(Provider::built(dir))
}

/// The program brings ThreadSanitizer along, for the provider too: hence the exported symbols.
fn compile(layout: &Layout, name: &str, definitions: &[&str]) -> Result<PathBuf> {
    let dir = layout.program_dir("tsan");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let (sources, program) = (layout.root.join("tests/capi"), dir.join(name));
    Job::new(layout, format!("gcc -fsanitize=thread {name}.c"), "gcc")
        .args(["-std=gnu11", "-O1", "-g", "-fsanitize=thread", "-rdynamic", "-pthread"])
        .args(definitions)
        .arg("-o")
        .arg(&program)
        .arg(sources.join(format!("{name}.c")))
        .arg(sources.join("tsan/runtime.c"))
        .args(["-lfabric", "-ldl"])
        .check()?;
    Ok(program)
}

/// Its status and what it printed. Its memory is where ThreadSanitizer expects it, which random addresses are not on every kernel.
fn execute(
    layout: &Layout,
    provider: &Provider,
    program: &Path,
    name: &str,
) -> Result<(Option<i32>, String)> {
    let end = Job::new(layout, format!("tsan/{name}"), "setarch")
        .arg("-R")
        .arg(program)
        .envs(&provider.environment(Place::Loopback))
        .env("TSAN_OPTIONS", format!("halt_on_error=1 history_size=4 exitcode={FOUND}"))
        .limit(LIMIT)
        .run()?;
    Ok((end.code(), end.output))
}
