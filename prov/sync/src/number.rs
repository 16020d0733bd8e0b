//! Numbers that only grow: a ratchet, and a generation that something outside can end.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Turns readings of a coarse or stepping clock into strictly increasing numbers.
#[derive(Debug, Default)]
pub struct Ratchet {
    last: AtomicU64,
}

impl Ratchet {
    /// Starts below every number.
    pub const fn new() -> Self {
        Self { last: AtomicU64::new(0) }
    }

    /// `reading`, or the last number given out plus one when that is larger.
    pub fn next(&self, reading: u64) -> u64 {
        let step = |last: u64| reading.max(last.saturating_add(1));
        // Relaxed: only this number's own order matters.
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last)));
        step(last.unwrap_or_else(|unchanged| unchanged))
    }
}

/// A generation number in a word that something outside (the kernel, in a forked child) may set to zero, which
/// ends the generation.
#[derive(Debug, Default)]
pub struct Generation {
    begun: AtomicU64,
}

impl Generation {
    /// No generation has begun.
    pub const fn new() -> Self {
        Self { begun: AtomicU64::new(0) }
    }

    /// The generation in `word`; a zero there begins a new one. Never returns 0.
    ///
    /// # Safety
    /// `word` is aligned, valid for reads and writes as long as this call lasts, and is touched by nothing but
    /// this method and whatever zeroes it while no thread is inside.
    #[inline]
    pub unsafe fn current(&self, word: NonNull<u64>) -> u64 {
        // SAFETY: aligned, valid and accessed atomically only, as the caller promises.
        let word = unsafe { AtomicU64::from_ptr(word.as_ptr()) };
        match word.load(Ordering::Relaxed) {
            0 => self.begin(word),
            generation => generation,
        }
    }

    #[cold]
    fn begin(&self, word: &AtomicU64) -> u64 {
        let next = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        // Of several threads that find the zero at once, one decides.
        match word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(decided) => decided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratchet_follows_the_reading_but_never_stands_still() {
        let ratchet = Ratchet::new();
        assert_eq!(ratchet.next(100), 100);
        assert_eq!(ratchet.next(100), 101);
        assert_eq!(ratchet.next(50), 102);
        assert_eq!(ratchet.next(200), 200);
    }

    #[test]
    fn a_zeroed_word_begins_a_generation() {
        let generation = Generation::new();
        let mut word = 0_u64;
        let mut read = |wipe: bool| {
            if wipe {
                word = 0;
            }
            // SAFETY: the word lives on this stack frame and no other thread knows it.
            unsafe { generation.current(NonNull::from(&mut word)) }
        };
        let first = read(false);
        assert_ne!(first, 0);
        assert_eq!(read(false), first);
        let second = read(true);
        assert!(second > first);
        assert_eq!(read(false), second);
    }
}
