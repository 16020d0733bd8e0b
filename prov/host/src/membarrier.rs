//! A memory barrier that all other threads of this process pass: for who comes seldom, so that those who come often need none.

use rdgram_sync::Latch;

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED` and its registration (`membarrier(2)`, Linux 4.14).
const EXPEDITED: libc::c_long = 1 << 3;
const REGISTER_EXPEDITED: libc::c_long = 1 << 4;

/// Whether this process may call [`barrier`]: an old kernel, or a seccomp filter, may not have it. Nobody waits here for another thread: a forked child may not have it.
pub fn is_available() -> bool {
    static THERE: Latch = Latch::new();
    static ABSENT: Latch = Latch::new();
    if !(THERE.is_set() || ABSENT.is_set()) {
        let answer = if call(REGISTER_EXPEDITED) && call(EXPEDITED) { &THERE } else { &ABSENT };
        answer.set();
    }
    THERE.is_set()
}

/// Every other thread of this process that runs passes a full memory barrier before this returns; those that do not run pass one when they do. False when the system
/// refuses, which it may also later: a process that was restored from a checkpoint has to register anew, a seccomp filter may forbid it.
#[must_use]
pub fn barrier() -> bool {
    call(EXPEDITED) || (call(REGISTER_EXPEDITED) && call(EXPEDITED))
}

fn call(command: libc::c_long) -> bool {
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_and_can_be_called_again_and_again() {
        assert!(is_available(), "Linux has had it since 4.14");
        for _ in 0..3 {
            assert!(barrier());
        }
    }
}
