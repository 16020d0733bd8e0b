//! Blocks for bytes that the provider must hold itself: injected messages, and the payload of unexpected ones.
//!
//! Blocks come in power-of-two sizes and are used again; a pool's limit bounds what is handed out at one time, not what lies free.

/// Smallest block, bytes.
const SMALLEST: usize = 64;
/// Size classes: 64 B to 4 MiB. Longer requests get a block of their own that is not kept.
const CLASSES: usize = 17;
/// Most bytes of free blocks of one size that a pool keeps when it shrinks.
const KEPT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    free: [Vec<Box<[u8]>>; CLASSES],
    handed_out: usize,
    handed_out_max: usize,
    limit: usize,
}

impl Pool {
    /// A pool that hands out at most `limit` bytes at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Self { free: Default::default(), handed_out: 0, handed_out_max: 0, limit }
    }

    /// A block of at least `length` bytes with arbitrary content, or `None` beyond the limit.
    pub(crate) fn take(&mut self, length: usize) -> Option<Box<[u8]>> {
        let class = class_of(length);
        let size = if class < CLASSES { SMALLEST << class } else { length };
        if self.handed_out + size > self.limit {
            return None;
        }
        self.handed_out += size;
        self.handed_out_max = self.handed_out_max.max(self.handed_out);
        let reused = self.free.get_mut(class).and_then(Vec::pop);
        Some(reused.unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }

    /// A block of at least `length` bytes, whatever the limit: for what must not fail any more.
    pub(crate) fn take_unlimited(&mut self, length: usize) -> Box<[u8]> {
        let limit = core::mem::replace(&mut self.limit, usize::MAX);
        let block = self.take(length);
        self.limit = limit;
        block.expect("no limit")
    }

    /// Takes a block back.
    pub(crate) fn put(&mut self, block: Box<[u8]>) {
        self.handed_out -= block.len();
        if let Some(class) = self.free.get_mut(class_of(block.len())) {
            class.push(block);
        }
    }

    /// Gives back the blocks of each size that lie free, unless they are few and small.
    pub(crate) fn shrink(&mut self) {
        for blocks in &mut self.free {
            if blocks.iter().map(|block| block.len()).sum::<usize>() > KEPT {
                *blocks = Vec::new();
            }
        }
    }

    /// Bytes handed out now.
    pub(crate) fn handed_out(&self) -> usize {
        self.handed_out
    }

    /// Most bytes ever handed out at one time.
    pub(crate) fn handed_out_max(&self) -> usize {
        self.handed_out_max
    }
}

fn class_of(length: usize) -> usize {
    let blocks = length.div_ceil(SMALLEST).max(1);
    blocks.next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_large_enough_and_counted() {
        let mut pool = Pool::new(1 << 20);
        for length in [0, 1, 64, 65, 1000, 1024, 1025, 16384] {
            let block = pool.take(length).unwrap();
            assert!(block.len() >= length.max(1) && block.len() <= (2 * length).max(64));
            assert_eq!(pool.handed_out(), block.len());
            pool.put(block);
            assert_eq!(pool.handed_out(), 0);
        }
        assert_eq!(pool.handed_out_max(), 16384);
    }

    #[test]
    fn the_limit_is_kept() {
        let mut pool = Pool::new(128);
        let first = pool.take(64).unwrap();
        let second = pool.take(10).unwrap();
        assert!(pool.take(1).is_none());
        pool.put(second);
        assert!(pool.take(65).is_none());
        let third = pool.take(1).unwrap();
        pool.put(first);
        pool.put(third);
        assert_eq!(pool.handed_out(), 0);
    }

    #[test]
    fn shrinking_keeps_what_is_in_use_and_few_small_blocks() {
        let mut pool = Pool::new(1 << 20);
        let blocks: Vec<_> = (0..200).map(|_| pool.take(64).unwrap()).collect();
        let long = pool.take(100_000).unwrap();
        for block in blocks {
            pool.put(block);
        }
        pool.shrink();
        assert_eq!((pool.free[0].len(), pool.handed_out()), (0, long.len()));
        let short = pool.take(10).unwrap();
        pool.put(long);
        pool.put(short);
        pool.shrink();
        assert_eq!(pool.free.iter().map(Vec::len).sum::<usize>(), 1);
    }

    #[test]
    fn longest_requests_are_exact() {
        let mut pool = Pool::new(1 << 30);
        let block = pool.take((4 << 20) + 1).unwrap();
        assert_eq!(block.len(), (4 << 20) + 1);
        pool.put(block);
        assert_eq!(pool.handed_out(), 0);
    }
}
