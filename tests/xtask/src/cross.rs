//! Type-checks the workspace for aarch64, with whichever standard library for it can be had.
//! It must never install a second toolchain into the system: what it fetches stays in the build directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::Job;
use crate::layout::Layout;
use crate::packages::program_exists;
use crate::tally::skip;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Check for aarch64; skipped where no standard library for it can be had.
pub(crate) fn check(layout: &Layout) -> Result<String> {
    let job = Job::new(layout, "cargo check for aarch64", "cargo").limit(Duration::from_secs(1200));
    let job = job.args(["check", "--workspace", "--exclude", "xtask", "--target", TARGET]);
    if rustup_target(layout)? {
        job.check()?;
        return Ok("standard library from rustup".to_owned());
    }
    let Some(sysroot) = debian_sysroot(layout)? else {
        return Err(skip("neither rustup nor Debian's rustc-web offers a standard library for aarch64"));
    };
    job.env("RUSTC", sysroot.join("usr/bin/rustc"))
        .env("LD_LIBRARY_PATH", sysroot.join("usr/lib/x86_64-linux-gnu"))
        // Built by another compiler than the rest.
        .env("CARGO_TARGET_DIR", layout.target.join("aarch64-check"))
        .check()?;
    Ok("standard library from Debian's libstd-rust-web-dev:arm64".to_owned())
}

/// Does the compiler in use have the target, or can rustup add it?
fn rustup_target(layout: &Layout) -> Result<bool> {
    let sysroot = Job::new(layout, "rustc sysroot", "rustc").args(["--print", "sysroot"]).quiet().check()?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(true);
    }
    if !program_exists("rustup") {
        return Ok(false);
    }
    let add = Job::new(layout, "rustup target add", "rustup").args(["target", "add", TARGET]);
    Ok(add.limit(Duration::from_secs(180)).run()?.success())
}

/// Unpack Debian's compiler and both standard libraries into the build directory.
fn debian_sysroot(layout: &Layout) -> Result<Option<PathBuf>> {
    let base = layout.target.join("aarch64-sysroot");
    let sysroot = base.join("root");
    let done = base.join("complete");
    if done.exists() {
        return Ok(Some(sysroot));
    }
    if cfg!(not(target_arch = "x86_64")) || !program_exists("apt-get") || !program_exists("dpkg") {
        return Ok(None);
    }
    let lists = base.join("lists");
    let debs = base.join("debs");
    for dir in [&lists.join("partial"), &debs, &sysroot] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    // apt's own lists know the architectures of this system only, and are not ours to change.
    let apt = |label: &str, program: &str| {
        Job::new(layout, label, program)
            .args(["-o", "APT::Architectures=amd64,arm64", "-o"])
            .arg(format!("Dir::State::Lists={}", lists.display()))
            .dir(&debs)
            .limit(Duration::from_secs(600))
    };
    if !apt("apt-get update for aarch64", "apt-get").args(["-q", "update"]).run()?.success() {
        return Ok(None);
    }
    let mut wanted: Vec<String> =
        ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-dev:arm64"].map(str::to_owned).to_vec();
    for (package, prefix) in [("libstd-rust-web-dev", "libstd-rust-web-"), ("", "libllvm")] {
        let of = if package.is_empty() { wanted.last().map_or("", String::as_str) } else { package };
        let depends = apt("apt-cache depends", "apt-cache").args(["depends", of]).quiet().run()?;
        let Some(found) = dependency(&depends.output, prefix) else { return Ok(None) };
        wanted.push(found);
    }
    if !apt("apt-get download", "apt-get").args(["-q", "download"]).args(&wanted).run()?.success() {
        return Ok(None);
    }
    for entry in fs::read_dir(&debs)? {
        let unpack = Job::new(layout, "dpkg -x", "dpkg").arg("-x").arg(entry?.path()).arg(&sysroot).quiet();
        unpack.check()?;
    }
    fs::write(&done, wanted.join("\n"))?;
    Ok(Some(sysroot))
}

/// The first dependency in `apt-cache depends` whose name begins with `prefix`.
fn dependency(output: &str, prefix: &str) -> Option<String> {
    output.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: ")?;
        name.to_lowercase().starts_with(prefix).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::dependency;

    #[test]
    fn the_runtime_library_is_found_by_its_prefix() {
        let output = "libstd-rust-web-dev\n  Depends: libc6\n  Depends: libstd-rust-web-1.96\n";
        assert_eq!(dependency(output, "libstd-rust-web-").as_deref(), Some("libstd-rust-web-1.96"));
        assert_eq!(dependency(output, "libllvm"), None);
    }
}
