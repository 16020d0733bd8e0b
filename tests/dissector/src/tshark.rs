//! Runs tshark with the dissector, and reads the fields that it shows. Must never judge a value.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Expert information that says that a packet is malformed, whoever says so: the group's number in Wireshark.
const GROUP_MALFORMED: &str = "117440512";
/// What tshark says when the superuser starts it; the dissector works all the same.
const SUPERUSER: &str = "Running as user \"root\" and group \"root\". This could be dangerous.";

/// Fields beside the dissector's own.
const LUA_ERROR: &str = "_ws.lua.error";
const GROUP: &str = "_ws.expert.group";
const MESSAGE: &str = "_ws.expert.message";
const PROTOCOLS: &str = "frame.protocols";

/// tshark, the dissector and a place for configuration, of which there is none.
#[derive(Debug)]
pub(crate) struct Tshark {
    dissector: PathBuf,
    scratch: PathBuf,
}

/// What tshark shows of one captured packet.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The values of each field, in order, as numbers are written here: in decimals.
    pub(crate) fields: BTreeMap<String, Vec<String>>,
    /// Somebody says so many times that it is malformed.
    pub(crate) malformed: usize,
    /// The dissector saw it.
    pub(crate) recognised: bool,
}

impl Shown {
    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Tshark {
    /// What it needs is there.
    pub(crate) fn new(dissector: &Path, scratch: &Path) -> Result<Self> {
        let dissector =
            dissector.canonicalize().with_context(|| format!("no dissector {}", dissector.display()))?;
        Ok(Self { dissector, scratch: scratch.to_owned() })
    }

    /// Where files may be written for a while.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let mut script = std::ffi::OsString::from("lua_script:");
        script.push(&self.dissector);
        let output = Command::new("tshark")
            .args(arguments)
            .arg("-X")
            .arg(script)
            // Preferences and plug-ins of the user who tests are none of ours.
            .env("HOME", &self.scratch)
            .env("XDG_CONFIG_HOME", self.scratch.join("no-configuration"))
            .env("WIRESHARK_CONFIG_DIR", self.scratch.join("no-configuration"))
            .output()
            .context("cannot start tshark")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let complaint = errors.lines().find(|line| !line.trim().is_empty() && line.trim() != SUPERUSER);
        if let (false, _) | (_, Some(_)) = (output.status.success(), complaint) {
            bail!("tshark ended with {}: {errors}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The dissector's fields that hold a value.
    pub(crate) fn fields(&self) -> Result<BTreeSet<String>> {
        let output = self.run(&["-G", "fields"])?;
        let names = output.lines().filter_map(|line| {
            let mut columns = line.split('\t');
            let (sort, name, kind) = (columns.next()?, columns.nth(1)?, columns.next()?);
            (sort == "F" && name.starts_with("rdgram.") && kind != "FT_NONE").then(|| name.to_owned())
        });
        let names: BTreeSet<String> = names.collect();
        if names.is_empty() {
            bail!("tshark knows no field of the dissector: it was not loaded")
        }
        Ok(names)
    }

    /// Every packet of a capture: `fields` of it, with more options. A Lua error anywhere is an error.
    pub(crate) fn show(&self, capture: &Path, options: &[String], fields: &[&str]) -> Result<Vec<Shown>> {
        let mut arguments: Vec<String> =
            ["-n", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"].map(str::to_owned).into();
        arguments.extend(["-r".to_owned(), capture.display().to_string()]);
        // Whatever protocol the ports are known for, the bytes decide.
        arguments.extend(["-o".to_owned(), "udp.try_heuristic_first:TRUE".to_owned()]);
        arguments.extend_from_slice(options);
        let asked: Vec<&str> = [MESSAGE, LUA_ERROR, GROUP, PROTOCOLS].iter().chain(fields).copied().collect();
        for field in &asked {
            arguments.extend(["-e".to_owned(), (*field).to_owned()]);
        }
        let output = self.run(&arguments)?;
        output.lines().enumerate().map(|(number, line)| shown(number + 1, line, &asked)).collect()
    }
}

fn shown(number: usize, line: &str, asked: &[&str]) -> Result<Shown> {
    let mut shown = Shown::default();
    let mut message = "";
    for (&name, cell) in asked.iter().zip(line.split('\t')) {
        let values: Vec<&str> = cell.split(',').filter(|value| !value.is_empty()).collect();
        match name {
            LUA_ERROR if !values.is_empty() => bail!("packet {number}: Lua error: {message}"),
            MESSAGE => message = cell,
            GROUP => shown.malformed = values.iter().filter(|value| **value == GROUP_MALFORMED).count(),
            PROTOCOLS => shown.recognised = cell.split(':').any(|protocol| protocol == "rdgram"),
            _ => {
                let values = values.into_iter().map(normal).collect();
                shown.fields.insert(name.to_owned(), values);
            }
        }
    }
    Ok(shown)
}

/// A value as [`crate::expected`] writes it.
fn normal(text: &str) -> String {
    if let Some(number) = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        return number.to_string();
    }
    match (text, text.parse::<Ipv6Addr>()) {
        (_, Ok(address)) => address.to_string(),
        ("True", _) => "1".to_owned(),
        ("False", _) => "0".to_owned(),
        _ => text.to_owned(),
    }
}
