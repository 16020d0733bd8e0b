//! How long the calling thread was ready to run while its processor did something else: the kernel's own measure of a crowded machine.
//!
//! Never judges what is long.

use core::time::Duration;
use std::fs::File;
use std::io::Read as _;

/// What the kernel counted for one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The thread: counts of different ones have nothing to do with each other.
    pub thread: i32,
    /// All the time that it has waited for a processor since it began.
    pub total: Duration,
    /// How often it was given one.
    pub turns: u64,
}

/// Of the calling thread; `None` where the system does not tell (a kernel without CONFIG_SCHED_INFO, no /proc). A few microseconds: not for every poll.
pub fn waited() -> Option<Waited> {
    let mut text = [0_u8; 64];
    let length = File::open("/proc/thread-self/schedstat").ok()?.read(&mut text).ok()?;
    let (total, turns) = parse(text.get(..length)?)?;
    // SAFETY: takes nothing and cannot fail.
    let thread = unsafe { libc::gettid() };
    Some(Waited { thread, total, turns })
}

/// Nanoseconds on a processor, nanoseconds waiting for one, turns (`Documentation/scheduler/sched-stats.rst`).
fn parse(text: &[u8]) -> Option<(Duration, u64)> {
    let mut numbers = core::str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    let waiting = numbers.next()?.parse().ok()?;
    let turns = numbers.next()?.parse().ok()?;
    Some((Duration::from_nanos(waiting), turns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_and_the_third_number_are_taken() {
        assert_eq!(parse(b"2437416 1500 11\n"), Some((Duration::from_nanos(1500), 11)));
        assert_eq!(parse(b"2437416\n"), None);
        assert_eq!(parse(b"2437416 1500\n"), None);
        assert_eq!(parse(b"0 -1 0\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn it_grows_and_belongs_to_the_thread() {
        let Some(first) = waited() else { return };
        let second = waited().expect("the system told a moment ago");
        assert!(second.thread == first.thread && second.total >= first.total && second.turns >= first.turns);
        let other = std::thread::spawn(waited).join().expect("no panic").expect("it told before");
        assert_ne!(other.thread, first.thread);
    }
}
