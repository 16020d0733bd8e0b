//! Whether the processes of neighbours live: a pidfd each, all of them polled in one system call.
//!
//! Knows no FIFO. Of a process that cannot be seen from here (another process namespace) the connection is kept over which it was met: it hangs up when the
//! process ends. A child that it forked may keep that open; then it is not called dead.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::neighbour::{Entry, Phase};
use crate::{Local, Neighbour};

/// A neighbour's process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pid: i32,
    watch: Option<OwnedFd>,
    /// Of one that cannot see us or that we cannot see.
    connection: Option<OwnedFd>,
    dead: bool,
}

impl Process {
    /// The process with this number, watched if it can be.
    pub(crate) fn watch(pid: i32) -> Self {
        let watch = if pid > 0 { open(pid) } else { None };
        Self { pid, watch, connection: None, dead: false }
    }

    /// Keeps the connection with it, unless both are in one namespace. Not just because it cannot be watched: then the other side, which can, drops its end.
    pub(crate) fn keep(&mut self, connection: OwnedFd) {
        if self.pid <= 0 || (self.watch.is_some() && !is_in_our_namespace(self.pid)) {
            self.connection = Some(connection);
        }
    }

    /// Its number, when it is certain to be its still: as long as it is watched and lives.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.watch.as_ref().map(|_| self.pid)
    }

    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Looks now. A system call.
    pub(crate) fn lives(&self) -> bool {
        !self.dead
            && self.watch.as_ref().is_none_or(|watch| {
                let mut watched = [pollfd(watch, libc::POLLIN)];
                poll(&mut watched);
                watched[0].revents & libc::POLLIN == 0
            })
    }
}

#[cfg(test)]
impl Process {
    /// One that has ended.
    pub(crate) fn died() -> Self {
        Self { dead: true, ..Self::default() }
    }

    /// This one, whose number another process has by now.
    pub(crate) fn give_number_to(&mut self, pid: u32) {
        self.pid = i32::try_from(pid).expect("a process number");
    }
}

impl Local {
    /// A neighbour whose process has ended since the last call, each once. System calls: every 10 ms or so while waiting
    /// for a neighbour is often enough. What it published before is still there to be taken.
    pub fn dead(&mut self) -> Option<Neighbour> {
        if self.deaths.is_empty() {
            self.look_for_deaths();
        }
        self.deaths.pop()
    }

    fn look_for_deaths(&mut self) {
        self.watched.clear();
        self.watched_numbers.clear();
        for (number, entry) in (0..).zip(&self.entries) {
            let end = match (&entry.process.watch, &entry.process.connection) {
                (Some(watch), _) => pollfd(watch, libc::POLLIN),
                // Whatever it says there now is not listened to.
                (None, Some(connection)) => pollfd(connection, 0),
                (None, None) => continue,
            };
            if is_of_interest(entry) {
                self.watched.push(end);
                self.watched_numbers.push(number);
            }
        }
        if self.watched.is_empty() {
            return;
        }
        poll(&mut self.watched);
        for (watched, &number) in self.watched.iter().zip(&self.watched_numbers) {
            if watched.revents & (libc::POLLIN | libc::POLLHUP) == 0 {
                continue;
            }
            let entry = &mut self.entries[number as usize];
            entry.process = Process { pid: entry.process.pid, dead: true, ..Process::default() };
            if matches!(entry.phase, Phase::Up(_)) {
                self.deaths.push(Neighbour(number));
            }
        }
    }
}

/// While two meet, a hang-up says the same.
fn is_of_interest(entry: &Entry) -> bool {
    matches!(entry.phase, Phase::Up(_) | Phase::Left)
}

fn pollfd(watch: &OwnedFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd: watch.as_raw_fd(), events, revents: 0 }
}

/// A process that we see may not see us: it is in a namespace inside of ours. In doubt it is.
fn is_in_our_namespace(pid: i32) -> bool {
    let ours = std::fs::read_link("/proc/self/ns/pid");
    let its = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    matches!((ours, its), (Ok(ours), Ok(its)) if ours == its)
}

/// Looks at once. What cannot be looked at has no news.
fn poll(watched: &mut [libc::pollfd]) {
    // SAFETY: the slice is live and of the length given.
    let _ = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, 0) };
}

/// `pidfd_open`, since Linux 5.3.
fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: takes no pointer. Descriptors of processes are close-on-exec by themselves.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the call succeeded, so `fd` is open and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
