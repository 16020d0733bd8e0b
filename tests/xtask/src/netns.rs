//! Two hosts on one machine: runs commands between the network namespaces that `tests/net/hosts.sh` makes.
//! The script does the work and cleans up; this file only calls it.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use crate::command::{self, Job};
use crate::layout::Layout;
use crate::packages;
use crate::tally::skip;

/// How often a script in the foreground is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Options of `cargo xtask netns`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the hosts.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make the hosts, run a command among them, take them down again.
    Run {
        #[command(flatten)]
        link: Link,
        /// The command; it finds the hosts in RDGRAM_NET_*, see tests/net/hosts.sh.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Take down what runs that were killed have left.
    Clean,
}

/// The link between the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct Link {
    /// Largest IP packet.
    #[arg(long, default_value_t = 1500)]
    pub(crate) mtu: u16,
    /// Of a thousand UDP packets so many are dropped at random on arrival.
    #[arg(long, default_value_t = 0)]
    pub(crate) loss_per_mille: u16,
    /// Segment on the sending host: without it a whole train of datagrams is one packet, and is lost as one.
    #[arg(long)]
    pub(crate) split_trains: bool,
}

impl Link {
    /// Ethernet's packets, and nothing lost.
    pub(crate) const CLEAN: Self = Self { mtu: 1500, loss_per_mille: 0, split_trains: false };
    /// The same, and of a hundred datagrams one is lost.
    pub(crate) const LOSSY: Self = Self { mtu: 1500, loss_per_mille: 10, split_trains: true };

    /// The arguments of `hosts.sh run`, up to the command.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["run".into(), "--mtu".into(), self.mtu.to_string().into()];
        if self.loss_per_mille > 0 {
            arguments.extend(["--loss-per-mille".into(), self.loss_per_mille.to_string().into()]);
        }
        if self.split_trains {
            arguments.push("--split-trains".into());
        }
        arguments.push("--".into());
        arguments
    }
}

/// The script as the beginning of a job; the command among the hosts is to follow as arguments.
pub(crate) fn job(layout: &Layout, label: impl Into<String>, link: &Link) -> Job {
    Job::new(layout, label, layout.root.join("tests/net/hosts.sh")).args(link.arguments())
}

/// The same in the foreground, for a command that says itself how it is with it.
pub(crate) fn command(layout: &Layout, link: &Link) -> Command {
    let mut script = Command::new(layout.root.join("tests/net/hosts.sh"));
    script.args(link.arguments());
    script
}

/// Can hosts be made here? Skips the check if not.
pub(crate) fn available(layout: &Layout) -> Result<()> {
    if !packages::is_root() {
        return Err(skip("network namespaces need root"));
    }
    packages::require_or_skip(layout, &[packages::IPROUTE, packages::NFTABLES])?;
    let end = job(layout, "probe namespaces", &Link { mtu: 1500, loss_per_mille: 1, split_trains: true })
        .arg("true")
        .limit(Duration::from_secs(30))
        .run()?;
    if !end.success() {
        let last = end.output.lines().last().unwrap_or_default().to_owned();
        return Err(skip(format!("this system cannot make them: {last}")));
    }
    Ok(())
}

/// Datagrams that the loss rule has dropped, as the script reports at its end.
pub(crate) fn dropped(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| {
            line.strip_prefix("hosts.sh: dropped ")?.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Packets that the host which received fewer has received, of all kinds, as the script reports at its end.
pub(crate) fn received(output: &str) -> u64 {
    let counts = output.lines().filter_map(|line| {
        line.strip_prefix("hosts.sh: received ")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    counts.min().unwrap_or_default()
}

/// Hosts that stay while this value lives, for very many runs.
#[derive(Debug)]
pub(crate) struct Hosts {
    script: Child,
    /// The hosts are taken down when this is closed, also by our own end.
    standing: Option<ChildStdin>,
    variables: Vec<(String, OsString)>,
    bridge: OsString,
}

/// The script's command: says what it finds, and stays. Bash gives a background child no standard input.
const STAY: &str = r#"exec 3<&0; exec "$0" run -- sh -c 'env; echo; exec cat <&3'"#;

impl Hosts {
    /// Make them.
    pub(crate) fn stand(layout: &Layout) -> Result<Self> {
        let mut script = Command::new("bash")
            .args(["-c", STAY])
            .arg(layout.root.join("tests/net/hosts.sh"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run tests/net/hosts.sh")?;
        let standing = script.stdin.take();
        let mut hosts = Self { script, standing, variables: Vec::new(), bridge: OsString::new() };
        let said = hosts.script.stdout.take().context("the script has no output")?;
        for line in BufReader::new(said).lines() {
            let line = line.context("cannot read what the script says")?;
            let Some((name, value)) = line.split_once('=') else { break };
            if name == "RDGRAM_NET" {
                hosts.bridge = value.into();
            }
            if name.starts_with("RDGRAM_NET_") || name.starts_with("HYDRA_") || name == "PATH" {
                hosts.variables.push((name.to_owned(), value.into()));
            }
        }
        if hosts.bridge.is_empty() {
            bail!("tests/net/hosts.sh made no hosts");
        }
        Ok(hosts)
    }

    /// The beginning of a job between them; the command is to follow as arguments.
    pub(crate) fn job(&self, layout: &Layout, label: impl Into<String>) -> Job {
        Job::new(layout, label, "ip").envs(&self.variables).args(["netns", "exec"]).arg(&self.bridge)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.standing = None;
        // There is nobody to tell; the next `netns clean` would find what is left.
        let _ = self.script.wait();
    }
}

/// Call the script in the foreground.
pub(crate) fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    packages::require(layout, &[packages::IPROUTE, packages::NFTABLES])?;
    let mut script = match &options.action {
        Action::Run { link, .. } => command(layout, link),
        Action::Clean => Command::new(layout.root.join("tests/net/hosts.sh")),
    };
    match &options.action {
        Action::Run { command, .. } => script.args(command),
        Action::Clean => script.arg("clean"),
    };
    foreground(&mut script)
}

/// Runs the script to its end, which a signal that asks this tool to end brings about.
pub(crate) fn foreground(script: &mut Command) -> Result<ExitCode> {
    let mut child = script.spawn().context("cannot run tests/net/hosts.sh")?;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for tests/net/hosts.sh")? {
            break status;
        }
        if command::asked_to_end() {
            command::signal("-TERM", &[child.id()]);
        }
        thread::sleep(LOOK_EVERY);
    };
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(code) => bail!("hosts.sh ended with status {code}"),
        None => bail!("hosts.sh was ended by a signal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_that_received_less_counts() {
        assert_eq!(received("hosts.sh: received 12 on a\nnoise\nhosts.sh: received 3 on b\n"), 3);
        assert_eq!(received("hosts.sh: dropped 12 on a\n"), 0);
    }

    #[test]
    fn drops_of_both_hosts_are_added() {
        let output = "hosts.sh: dropped 12 on a\nnoise\nhosts.sh: dropped 30 on b\n";
        assert_eq!(dropped(output), 42);
        assert_eq!(dropped("hosts.sh: dropped nothing\n"), 0);
    }
}
