//! A memory barrier that all other threads of this process pass: for who comes seldom, so that those who come often need none.

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED` and its registration (`membarrier(2)`, Linux 4.14).
const EXPEDITED: libc::c_long = 1 << 3;
const REGISTER_EXPEDITED: libc::c_long = 1 << 4;

/// Every other thread of this process that runs passes a full memory barrier before this returns; those that do not run pass one when they do. False when the system
/// refuses: an old kernel has no such call, a seccomp filter may forbid it, also later. A process that was forked, or restored from a checkpoint, has to register anew.
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
        for _ in 0..3 {
            assert!(barrier(), "Linux has had it since 4.14");
        }
    }
}
