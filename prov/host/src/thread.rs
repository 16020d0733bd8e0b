//! A thread of the provider's own: named, with a small stack, deaf to signals, and joined within a limit.
//!
//! Never decides what the thread does, nor when it ends.

use core::convert::Infallible;
use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};

/// Enough for the deepest call and for the words of a panic; the kernel gives pages only as they are touched. Libraries with thread-local storage of
/// their own take it out of the same memory.
const STACK_BYTES: usize = 256 << 10;

/// A running thread. Dropping this lets it run on.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when the thread's work has returned or panicked.
    ended: Receiver<Infallible>,
}

impl Thread {
    /// Starts a thread that does `work`. It takes no signal of others: those are the application's.
    ///
    /// # Errors
    /// The system has no thread left for this user.
    pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let handle = with_signals_blocked(|| {
            Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let _alive = alive;
                work();
            })
        })?;
        Ok(Self { handle, ended })
    }

    /// Waits until the thread has ended, but not longer than `limit`; true when it has. Whoever calls this has told it to end.
    pub fn join(self, limit: Duration) -> bool {
        match self.ended.recv_timeout(limit) {
            // What is left of it is the return to the C library.
            Err(RecvTimeoutError::Disconnected) => {
                // A panic was reported where it happened.
                let _panicked = self.handle.join();
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Forgets a thread that exists in the parent process only: there is nothing to join, and nothing to give back.
    pub fn forget(self) {
        core::mem::forget(self);
    }
}

/// Signals that say something of the thread's own instruction. The kernel ends a process that blocks one, past any handler: an application that watches its pages by
/// `mprotect`, or a reporter of crashes, gets them from this thread too.
const OF_THE_INSTRUCTION: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// A new thread inherits the mask of the one that makes it, so it never runs with signals open.
fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    for signal in OF_THE_INSTRUCTION {
        // SAFETY: the set was filled above, and the number is a signal's.
        unsafe { libc::sigdelset(all.as_mut_ptr(), signal) };
    }
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a filled set, and a place for the old one.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let result = work();
    if blocked == 0 {
        // SAFETY: the set that was stored above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
    result
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The signals that a thread of this process blocks, as the kernel prints them.
    fn blocked(task: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{task}/status")).expect("this is Linux");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("every task has one");
        u64::from_str_radix(mask.trim(), 16).expect("hexadecimal")
    }

    #[test]
    fn it_takes_no_signal_and_its_maker_still_does() {
        let before = blocked("thread-self");
        let (tell, hear) = mpsc::channel();
        let thread = Thread::spawn("rdgram-test", move || {
            let name = std::thread::current().name().map(str::to_owned);
            tell.send((blocked("thread-self"), name)).expect("is heard");
        })
        .expect("starts");
        let (mask, name) = hear.recv().expect("is told");
        // Kill and stop cannot be blocked; the C library keeps two for itself.
        let unblockable = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1) | 1 << 31 | 1 << 32;
        let open = OF_THE_INSTRUCTION.iter().fold(0_u64, |open, signal| open | 1 << (signal - 1));
        assert_eq!((mask | unblockable, mask & open), (!open, 0));
        assert_eq!(name.as_deref(), Some("rdgram-test"));
        assert_eq!(blocked("thread-self"), before);
        assert!(thread.join(Duration::from_secs(60)));
    }

    #[test]
    fn joining_is_bounded_and_a_panic_ends_it() {
        let (tell, hear) = mpsc::channel::<()>();
        let waiting = Thread::spawn("rdgram-test", move || {
            let _nobody_left = hear.recv();
        })
        .expect("starts");
        assert!(!waiting.join(Duration::from_millis(1)));
        drop(tell);
        let panicking = Thread::spawn("rdgram-test", || panic!("a test's panic")).expect("starts");
        assert!(panicking.join(Duration::from_secs(60)));
    }
}
