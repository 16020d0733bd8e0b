//! `cargo xtask man`: the manual as a man page. Must never change a word of it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::command::Job;
use crate::layout::Layout;
use crate::packages::{self, GO_MD2MAN, GROFF};

const NAME: &str = "fi_rdgram.7";

/// Options of `cargo xtask man`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory that the page is written to.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Make the page and say where it is.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    packages::require(layout, &[GO_MD2MAN])?;
    let dir = options.output.clone().unwrap_or_else(|| layout.target.join("man"));
    let page = build(layout, dir)?;
    println!("man -l {}", page.display());
    Ok(ExitCode::SUCCESS)
}

/// Make the page, and have it typeset: a warning is an error.
pub(crate) fn check(layout: &Layout) -> Result<String> {
    packages::require_or_skip(layout, &[GO_MD2MAN, GROFF])?;
    let page = build(layout, layout.target.join("man"))?;
    // Typeset, but not printed: what it says are warnings.
    let job = Job::new(layout, "groff", "groff").args(["-ww", "-z", "-t", "-man", "-Tutf8"]).arg(&page);
    match job.check()?.lines().next() {
        Some(warning) => bail!("{warning}"),
        None => Ok(String::new()),
    }
}

fn build(layout: &Layout, dir: PathBuf) -> Result<PathBuf> {
    let source = layout.root.join("prov/docs").join(format!("{NAME}.md"));
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let prepared = dir.join(format!("{NAME}.md"));
    fs::write(&prepared, prepare(&text)?)?;
    let page = dir.join(NAME);
    Job::new(layout, "go-md2man", "go-md2man").arg("-in").arg(&prepared).arg("-out").arg(&page).check()?;
    fs::remove_file(&prepared)?;
    Ok(page)
}

/// libfabric's manual pages are made for its site, with a title in their front matter and links to one another: a page has a title line, and names.
fn prepare(text: &str) -> Result<String> {
    let front = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
    let Some((front, body)) = front else { bail!("the manual has no front matter") };
    let value = |key: &str| {
        let mut lines = front.lines();
        lines.find_map(|line| line.strip_prefix(key)).map(str::trim).with_context(|| format!("no {key}"))
    };
    let title = value("title:")?.split('(').next().unwrap_or_default();
    let mut page = format!("% {title} 7 \"\" \"rdgram\" \"{}\"\n", value("tagline:")?);
    for line in body.lines() {
        page.push_str(&without_link(line));
        page.push('\n');
    }
    Ok(page)
}

/// A line that begins with a link to another page: its name alone.
fn without_link(line: &str) -> String {
    let parts = line.strip_prefix("[`").and_then(|rest| {
        let (name, rest) = rest.split_once('`')?;
        let (section, rest) = rest.split_once("](")?;
        Some(format!("**{name}**{section}{}", rest.split_once(')')?.1))
    });
    parts.unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_becomes_a_title_and_links_become_names() {
        let text = "---\nlayout: page\ntitle: fi_x(7)\ntagline: A Manual\n---\n\n# NAME\n[`fabric`(7)](fabric.7.html),\n";
        let page = prepare(text).expect("it is well-formed");
        assert_eq!(page, "% fi_x 7 \"\" \"rdgram\" \"A Manual\"\n\n# NAME\n**fabric**(7),\n");
        assert!(prepare("# NAME\n").is_err());
    }
}
