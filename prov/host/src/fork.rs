//! Telling a forked child from its parent, without a system call each time.
//!
//! Installs nothing that runs at a fork: the kernel zeroes one page in the child (MADV_WIPEONFORK).

use core::ptr::{self, NonNull};
use std::sync::OnceLock;

use rdgram_sync::Generation;

/// A number that is the same as long as this process lives, and another one in each forked child. Objects keep the
/// one they were made in, and belong to another process when it differs from this.
pub fn generation() -> u64 {
    static GENERATION: Generation = Generation::new();
    match word() {
        // SAFETY: the word is the start of a page that is mapped for good, readable and writable (the page's
        // alignment is the word's), which nothing else knows; the kernel zeroes it in a child that has one thread.
        Some(word) => unsafe { GENERATION.current(word.0) },
        None => u64::from(std::process::id()),
    }
}

/// The first word of the page.
#[derive(Clone, Copy)]
struct Word(NonNull<u64>);

// SAFETY: the address of a mapping that is never undone; access is atomic.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

/// A word on a page of its own that is zero after a fork; `None` where the system cannot do that (user-mode kernels
/// and emulators).
fn word() -> Option<Word> {
    static WORD: OnceLock<Option<Word>> = OnceLock::new();
    *WORD.get_or_init(map_word)
}

fn map_word() -> Option<Word> {
    // SAFETY: takes and keeps no pointer.
    let size = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let page = unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the page was just mapped, and holds nothing yet.
    let wiped = unsafe { libc::madvise(page, size, libc::MADV_WIPEONFORK) };
    if wiped != 0 {
        // SAFETY: the page was just mapped, and nobody knows it.
        unsafe { libc::munmap(page, size) };
        return None;
    }
    NonNull::new(page.cast()).map(Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forks; the child's exit status is what `child` returns. The child may only read and exit, because other
    /// threads of the test may have held any lock.
    fn in_child(child: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child makes no call but what this test passes (atomics, mmap'd memory) and `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let status = i32::from(!child());
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: `status` is live; `pid` is our child.
        let waited = unsafe { libc::waitpid(pid, ptr::from_mut(&mut status), 0) };
        assert_eq!(waited, pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    #[test]
    fn a_child_is_another_generation() {
        let parent = generation();
        assert_eq!(generation(), parent);
        assert!(in_child(|| {
            let child = generation();
            child != parent
                && child == generation()
                && in_child(|| generation() != child && generation() != parent)
        }));
        assert_eq!(generation(), parent, "the parent is unchanged");
    }
}
