//! Runs external commands: output into a log file, a time limit for each, nothing left running after it.
//! Nothing in this tool may start a process other than through a [`Job`].

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::layout::Layout;
use crate::stacks;

/// Set in the environment of every process of a job: process launchers make sessions of their own, and a
/// process group alone would miss their children.
const MARK: &str = "RDGRAM_XTASK_JOB";
/// Between asking the processes of a job to end and ending them.
const GRACE: Duration = Duration::from_secs(10);
/// How often the progress line is redrawn.
const REDRAW: Duration = Duration::from_millis(250);
/// Without a terminal a long command says this often that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How many lines of a failed command are shown.
const TAIL_LINES: usize = 40;

static JOBS: AtomicU32 = AtomicU32::new(0);

/// Set by a signal that asks this tool to end.
static ASKED_TO_END: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGINT, SIGTERM and SIGHUP end the processes that this tool waits for, and then itself.
pub(crate) fn end_jobs_on_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ASKED_TO_END))
            .with_context(|| format!("cannot handle signal {signal}"))?;
    }
    Ok(())
}

/// Whether such a signal came since this was asked last.
pub(crate) fn asked_to_end() -> bool {
    ASKED_TO_END.swap(false, Ordering::Relaxed)
}

/// One external command with a time limit.
#[derive(Debug)]
pub(crate) struct Job {
    label: String,
    command: Command,
    mark: String,
    log: PathBuf,
    limit: Duration,
    stall: Option<Duration>,
    quiet: bool,
}

/// Why a job was ended before its own end.
#[derive(Debug, Clone, Copy)]
enum Hang {
    /// It took longer than this.
    Limit(Duration),
    /// It printed nothing for so long.
    Stall(Duration),
    /// This tool was asked to end.
    Signal,
}

impl Hang {
    fn text(self) -> String {
        match self {
            Self::Limit(limit) => format!("was still running after {} s and was ended", limit.as_secs()),
            Self::Stall(stall) => format!("hung: it printed nothing for {} s and was ended", stall.as_secs()),
            Self::Signal => "was ended by a signal".to_owned(),
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Finished {
    label: String,
    log: PathBuf,
    status: Result<ExitStatus, Hang>,
    /// Everything it printed, both streams.
    pub(crate) output: String,
}

impl Job {
    /// A command named `label` in logs and messages; `program` is looked up in `PATH` unless it is a path.
    pub(crate) fn new(layout: &Layout, label: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let label = label.into();
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let file: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let mut command = Command::new(program);
        command.current_dir(&layout.root).env(MARK, &mark).stdin(Stdio::null());
        // Debian's libfabric brings libraries that would write a file beside the sources when a program crashes.
        command.env("IPATH_NO_BACKTRACE", "1").env("HFI_NO_BACKTRACE", "1");
        let log = layout.log_dir().join(format!("{number:03}-{file}.log"));
        Self { label, command, mark, log, limit: Duration::from_secs(300), stall: None, quiet: false }
    }

    /// Add one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Add arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Set a variable of the command's environment.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Set variables of the command's environment.
    pub(crate) fn envs(mut self, variables: &[(String, OsString)]) -> Self {
        for (name, value) in variables {
            self.command.env(name, value);
        }
        self
    }

    /// Run it in this directory instead of the workspace.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The command may run this long, then it is ended and counts as failed.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command hangs when it prints nothing for so long: it is ended and counts as failed.
    pub(crate) fn stall(mut self, stall: Duration) -> Self {
        self.stall = Some(stall);
        self
    }

    /// Show no progress for it.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Run to the end or to the limit. An error means that it could not be started.
    pub(crate) fn run(mut self) -> Result<Finished> {
        if let Some(dir) = self.log.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let log = File::create(&self.log).with_context(|| format!("cannot create {}", self.log.display()))?;
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .with_context(|| format!("cannot start {}", self.command.get_program().to_string_lossy()))?;
        let pid = child.id();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (open, closed) = mpsc::channel();
        stdout.into_iter().try_for_each(|stream| log_lines(stream, &log, open.clone()))?;
        stderr.into_iter().try_for_each(|stream| log_lines(stream, &log, open.clone()))?;
        drop(open);
        let (ended, end) = mpsc::channel();
        let waiter = thread::spawn(move || {
            // The receiver only goes away with the whole tool.
            let _ = ended.send(child.wait());
        });
        let status = self.wait(&end, self.limit, self.stall, !self.quiet)?;
        if let Err(hang) = status {
            let asked = matches!(hang, Hang::Signal);
            if !asked {
                stacks::save(&processes_of(pid, &self.mark), &self.log.with_extension("stacks"));
            }
            self.end(pid, &end)?;
            if asked {
                eprintln!("{} {}", self.label, hang.text());
                std::process::exit(1);
            }
        }
        if waiter.join().is_err() {
            bail!("the thread waiting for {} panicked", self.label);
        }
        // A process that outlives the job may keep them open.
        let _open_or_closed = closed.recv_timeout(GRACE);
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let output = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished { label: self.label, log: self.log, status, output })
    }

    /// Run it and return what it printed; failure and time-out are errors that carry the end of its output.
    pub(crate) fn check(self) -> Result<String> {
        self.run()?.into_result()
    }

    fn wait(
        &self,
        end: &mpsc::Receiver<std::io::Result<ExitStatus>>,
        limit: Duration,
        stall: Option<Duration>,
        show: bool,
    ) -> Result<Result<ExitStatus, Hang>> {
        let start = Instant::now();
        let bar = progress_line(show && std::io::stderr().is_terminal());
        let mut next_heartbeat = HEARTBEAT;
        let (mut printed, mut printed_at) = (0, start);
        loop {
            match end.recv_timeout(REDRAW) {
                Ok(status) => {
                    bar.finish_and_clear();
                    return Ok(Ok(status?));
                }
                Err(RecvTimeoutError::Disconnected) => bail!("lost track of {}", self.label),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Taken back, so that the end of the job is waited for.
            if asked_to_end() {
                bar.finish_and_clear();
                return Ok(Err(Hang::Signal));
            }
            let elapsed = start.elapsed();
            let length = fs::metadata(&self.log).map_or(0, |data| data.len());
            if length != printed {
                (printed, printed_at) = (length, Instant::now());
            }
            let stalled = stall.filter(|stall| printed_at.elapsed() >= *stall);
            if elapsed >= limit || stalled.is_some() {
                bar.finish_and_clear();
                return Ok(Err(stalled.map_or(Hang::Limit(limit), Hang::Stall)));
            }
            bar.set_message(format!("{} · {}", self.label, self.last_line()));
            if show && bar.is_hidden() && elapsed >= next_heartbeat {
                eprintln!("    {} · {} s · {}", self.label, elapsed.as_secs(), self.last_line());
                next_heartbeat += HEARTBEAT;
            }
        }
    }

    /// End every process of the job: politely first, because some of them clean up after themselves.
    fn end(&self, pid: u32, end: &mpsc::Receiver<std::io::Result<ExitStatus>>) -> Result<()> {
        let processes = processes_of(pid, &self.mark);
        let shared = shared_files_of(&processes);
        signal("-TERM", &processes);
        let ended = self.wait(end, GRACE, None, false)?.is_ok();
        signal("-KILL", &processes_of(pid, &self.mark));
        for file in shared {
            // Gone is what is wanted.
            let _ = fs::remove_file(file);
        }
        if !ended && self.wait(end, GRACE, None, false)?.is_err() {
            bail!("{} (pid {pid}) does not end", self.label);
        }
        Ok(())
    }

    fn last_line(&self) -> String {
        const LOOK_BACK: u64 = 512;
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |data| data.len());
            if file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BACK))).is_ok() {
                // A line that cannot be read is not shown; the log itself is what counts.
                let _ = file.read_to_end(&mut text);
            }
        }
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        line.trim().chars().take(80).collect()
    }
}

impl Finished {
    /// Did it end by itself, successfully?
    pub(crate) fn success(&self) -> bool {
        self.status.is_ok_and(|status| status.success())
    }

    /// The file that holds its output.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The status it ended with by itself.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.ok().and_then(|status| status.code())
    }

    /// What kept it from its own end, if it was ended.
    pub(crate) fn hung(&self) -> Option<String> {
        let hang = self.status.err()?;
        Some(format!("{}{}", hang.text(), stacks::mention(&self.log.with_extension("stacks"))))
    }

    /// Its output, or an error that says how it ended, with the end of its output.
    pub(crate) fn into_result(self) -> Result<String> {
        if self.success() {
            return Ok(self.output);
        }
        let how = match self.status {
            Ok(status) => format!("failed: {status}"),
            Err(_) => self.hung().unwrap_or_default(),
        };
        bail!("{} {how}; {}:\n{}", self.label, self.log.display(), tail(&self.output))
    }
}

/// The commit that is checked out, and whether anything differs from it.
pub(crate) fn commit(layout: &Layout) -> String {
    let job = Job::new(layout, "git describe", "git").args(["describe", "--always", "--dirty"]).quiet();
    job.check().map(|output| output.trim().to_owned()).unwrap_or_default()
}

/// The end of a command's output, indented.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    | {line}\n")).collect()
}

fn progress_line(show: bool) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("    {spinner} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}

/// Writes what comes from one of a command's streams into the log, by whole lines: neither stream cuts the lines of the other. `open` lives as long as the stream.
fn log_lines(stream: impl Read + Send + 'static, log: &File, open: mpsc::Sender<()>) -> Result<()> {
    let mut log = log.try_clone()?;
    thread::spawn(move || {
        let _open = open;
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0)
            && log.write_all(&line).is_ok()
        {
            line.clear();
        }
    });
    Ok(())
}

/// The process `root`, its descendants, and whatever carries the job's mark.
fn processes_of(root: u32, mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let mut found: HashSet<u32> = HashSet::from([root]);
    let all = all_processes();
    for (pid, _) in &all {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes()) {
            found.insert(*pid);
        }
    }
    // Children follow their parents until nothing is added: the list is not ordered by age.
    loop {
        let before = found.len();
        for (pid, parent) in &all {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// Every process with its parent.
fn all_processes() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The command name stands in parentheses and may contain anything, also spaces.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Files of shared memory that these processes have mapped: MPI libraries leave theirs behind when they are ended.
fn shared_files_of(pids: &[u32]) -> HashSet<PathBuf> {
    let maps = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).ok());
    maps.flat_map(|maps| maps.lines().filter_map(shared_file).collect::<Vec<_>>()).collect()
}

/// Of a line of /proc/PID/maps.
fn shared_file(line: &str) -> Option<PathBuf> {
    let path = line.split_once("/dev/shm/").filter(|(_, name)| !name.ends_with(" (deleted)"))?.1;
    Some(Path::new("/dev/shm").join(path))
}

/// Sends a signal by its option of kill(1).
pub(crate) fn signal(which: &str, pids: &[u32]) {
    for pid in pids {
        // A process that has ended in the meantime is what is wanted.
        let _ = Command::new("kill")
            .args([which, "--", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A rank whose counters come on one stream while a row of another rank's table is half written to the other.
    #[test]
    fn a_line_of_one_stream_does_not_cut_one_of_the_other() {
        let path = std::env::temp_dir().join(format!("rdgram-xtask-lines-{}", std::process::id()));
        let log = File::create(&path).expect("creates");
        let (open, closed) = mpsc::channel();
        let [(mut row, one), (mut counters, other)] = [(); 2].map(|()| UnixStream::pair().expect("opens"));
        log_lines(one, &log, open.clone()).expect("starts");
        log_lines(other, &log, open).expect("starts");
        row.write_all(b"8 20 ").expect("writes");
        counters.write_all(b"rdgram stats\n").expect("writes");
        while log.metadata().expect("is there").len() == 0 {
            thread::yield_now();
        }
        row.write_all(b"1.5\nthe end").expect("writes");
        drop((row, counters));
        assert_eq!(closed.recv(), Err(mpsc::RecvError), "both have ended");
        let printed = fs::read_to_string(&path).expect("reads");
        fs::remove_file(&path).expect("removes");
        assert_eq!(printed, "rdgram stats\n8 20 1.5\nthe end");
    }

    #[test]
    fn files_of_shared_memory_that_have_a_name_are_found() {
        let line = "7f00-7f10 rw-s 00000000 00:17 12     /dev/shm/mpich_shm_1_0";
        assert_eq!(shared_file(line), Some(PathBuf::from("/dev/shm/mpich_shm_1_0")));
        assert_eq!(shared_file("7f00-7f10 rw-s 00000000 00:17 12     /dev/shm/gone (deleted)"), None);
        assert_eq!(shared_file("7f00-7f10 r-xp 00000000 08:01 12     /usr/lib/libc.so.6"), None);
    }
}
