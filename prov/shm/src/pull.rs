//! Reading a neighbour's memory directly: `process_vm_readv`, one copy instead of two.
//!
//! Whether it works is found out by trying, once per neighbour: nothing else knows of containers, Yama and seccomp. Never reads on behalf of a neighbour that has revoked its word, and says so when it did so meanwhile.

use std::sync::Once;

use crate::hello::Hello;
use crate::layout::CAPABILITY_CMA;
use crate::life::Process;
use crate::neighbour::Phase;
use crate::segment::errno;
use crate::{Dma, Local, Neighbour, PieceMut};

/// Why a pull did not succeed. What was read until then is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The neighbour has left us: its memory may have changed meanwhile.
    Revoked,
    /// Its process has ended.
    Dead,
    /// The system refused; the errno. `EFAULT`: one of the two has no such memory.
    Denied(i32),
}

/// Why a neighbour's memory cannot be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPull {
    /// Switched off, here or there.
    Off,
    /// Its process cannot be seen from here.
    Unseen,
    /// The system refused the trial; the errno.
    Denied(i32),
    /// The trial read something else than what is there.
    Different,
}

/// Something for neighbours to read, to see whether they can.
#[derive(Debug)]
pub(crate) struct Probe {
    value: u64,
    allowed: bool,
}

impl Probe {
    pub(crate) fn new(dma: Dma) -> Box<Self> {
        let mut probe = Box::new(Self { value: 0, allowed: dma != Dma::Memcpy });
        let value = core::ptr::from_mut(&mut probe.value).cast();
        // SAFETY: the value is live and as long as said.
        if unsafe { libc::getrandom(value, size_of::<u64>(), libc::GRND_NONBLOCK) } < 0 {
            // Any value does that is not found at the same place of another process.
            probe.value = probe.address().rotate_left(32) ^ u64::from(std::process::id());
        }
        probe
    }

    /// Where the value is, in this process; 0 when nobody shall look.
    pub(crate) fn address(&self) -> u64 {
        if self.allowed { core::ptr::from_ref(&self.value).addr() as u64 } else { 0 }
    }

    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    /// Lets other processes of this user read this one's memory where Yama restricts that to parents: once per process, and only
    /// where it is needed.
    pub(crate) fn allow(&self) {
        static ONCE: Once = Once::new();
        if self.allowed {
            ONCE.call_once(|| {
                let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
                if scope.is_ok_and(|scope| scope.trim() == "1") {
                    // SAFETY: takes no pointer. If it is refused, neighbours will find out by trying.
                    let _ = unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
                }
            });
        }
    }
}

/// A neighbour's value that is read to see whether that works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    address: u64,
    value: u64,
}

impl Offered {
    /// What the neighbour has to be read, unless one side does not want that.
    pub(crate) fn new(dma: Dma, hello: &Hello) -> Result<Self, NoPull> {
        let wanted = dma != Dma::Memcpy && hello.capabilities & CAPABILITY_CMA != 0;
        let offered = Self { address: hello.probe_address, value: hello.probe_value };
        if wanted && offered.address != 0 { Ok(offered) } else { Err(NoPull::Off) }
    }

    /// Reads it.
    pub(crate) fn try_on(self, process: &Process) -> Result<Self, NoPull> {
        let pid = process.pid().ok_or(NoPull::Unseen)?;
        let mut value = 0_u64;
        let length = size_of::<u64>();
        let to = [libc::iovec { iov_base: core::ptr::from_mut(&mut value).cast(), iov_len: length }];
        let from = [remote_piece(self.address, length)];
        // SAFETY: the value is live and as long as said.
        match unsafe { read(pid, &to, &from) } {
            Ok(bytes) if bytes == length && value == self.value => Ok(self),
            Ok(_) => Err(NoPull::Different),
            Err(errno) => Err(NoPull::Denied(errno)),
        }
    }
}

#[cfg(test)]
impl Probe {
    /// From now on another value is there than was said.
    pub(crate) fn falsify(&mut self) {
        self.value = !self.value;
    }
}

/// Pieces of one system call, on either side (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;

/// Room for the pieces of a call.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    to: Vec<libc::iovec>,
    from: Vec<libc::iovec>,
}

// SAFETY: the pointers are made during a call and stale between calls.
unsafe impl Send for Vectors {}
// SAFETY: nothing is reachable through a shared reference.
unsafe impl Sync for Vectors {}

impl Local {
    /// [`pull`](Self::pull) works with this neighbour.
    #[inline]
    pub fn can_pull(&self, from: Neighbour) -> bool {
        let link = self.entries.get(from.index()).and_then(|entry| entry.link());
        link.is_some_and(|link| link.pulls.is_ok())
    }

    /// Why [`pull`](Self::pull) does not work with this neighbour, which is up.
    pub fn no_pull(&self, from: Neighbour) -> Option<NoPull> {
        self.entries.get(from.index())?.link()?.pulls.err()
    }

    /// Pulls 8 bytes of the neighbour's that are for that, once more after the trial when it was met: to see how long it takes. Whether it worked.
    pub fn try_pull(&self, from: Neighbour) -> bool {
        let entry = self.entries.get(from.index());
        let offered = entry.and_then(|entry| entry.link()?.pulls.ok()?.try_on(&entry.process).ok());
        offered.is_some()
    }

    /// Reads the neighbour's memory, `remote` as (address, bytes), into ours: as many bytes as the shorter side has. The neighbour keeps
    /// that memory as it is until it is told, or leaves us. `is_sure` is asked afterwards: whether the last [look](Self::dead) at its
    /// process is so recent that its number cannot have become another's; else the process is looked at once more, a system call.
    ///
    /// # Errors
    /// See [`Pull`].
    ///
    /// # Safety
    /// The memory of `into` is valid for writes during the call, and nobody else uses it.
    pub unsafe fn pull(
        &mut self,
        from: Neighbour,
        remote: &[(u64, u64)],
        into: &[PieceMut],
        is_sure: impl FnOnce() -> bool,
    ) -> Result<(), Pull> {
        let Some(entry) = self.entries.get(from.index()) else { return Err(Pull::Revoked) };
        let Phase::Up(link) = &entry.phase else { return Err(Pull::Revoked) };
        let (Some(pid), Ok(_)) = (entry.process.pid(), link.pulls) else {
            return Err(if entry.process.is_dead() { Pull::Dead } else { Pull::Denied(libc::EPERM) });
        };
        if !link.permits_pulls() {
            return Err(Pull::Revoked);
        }
        // SAFETY: the caller's promise.
        let result = unsafe { self.vectors.read(pid, remote, into) };
        // The number is its own as long as it lives: if it still does, it was read and no other.
        if !is_sure() && !entry.process.lives() {
            return Err(Pull::Dead);
        }
        // Read before, looked at after: what a revoked word says about the bytes is known then.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        if !link.permits_pulls() {
            return Err(Pull::Revoked);
        }
        let bytes =
            result.map_err(|errno| if errno == libc::ESRCH { Pull::Dead } else { Pull::Denied(errno) })?;
        self.stats.bytes_cma += bytes;
        Ok(())
    }
}

impl Vectors {
    /// Reads until the shorter side is full; the bytes, or the errno.
    ///
    /// # Safety
    /// The memory of `into` is valid for writes, and nobody else uses it.
    unsafe fn read(&mut self, pid: i32, remote: &[(u64, u64)], into: &[PieceMut]) -> Result<u64, i32> {
        let mut sources = Place::new(remote.iter().map(|&(_, length)| length));
        let mut targets = Place::new(into.iter().map(|piece| piece.length as u64));
        let total = sources.total.min(targets.total);
        let mut done = 0;
        while done < total {
            self.from.clear();
            self.to.clear();
            let left = total - done;
            sources.pieces(left, |piece, skip, length| {
                self.from.push(remote_piece(remote[piece].0.wrapping_add(skip), length));
            });
            targets.pieces(left, |piece, skip, length| {
                let address = into[piece].address.wrapping_add(to_usize(skip));
                self.to.push(libc::iovec { iov_base: address.cast(), iov_len: length });
            });
            // SAFETY: parts of the pieces that the caller vouches for.
            let bytes = unsafe { read(pid, &self.to, &self.from) }?;
            if bytes == 0 {
                return Err(libc::EFAULT);
            }
            // Fewer than asked for: it goes on from there, or the next call tells why it does not.
            let bytes = bytes as u64;
            sources.advance(bytes);
            targets.advance(bytes);
            done += bytes;
        }
        Ok(total)
    }
}

/// How far a list of pieces has been worked off.
struct Place<L> {
    lengths: L,
    total: u64,
    /// Pieces that are done, and bytes of the next that are.
    piece: usize,
    skip: u64,
}

impl<L: Iterator<Item = u64> + Clone> Place<L> {
    fn new(lengths: L) -> Self {
        let total = lengths.clone().fold(0, u64::saturating_add);
        Self { lengths, total, piece: 0, skip: 0 }
    }

    /// The next pieces, as many as one call takes, `left` bytes at most: index, bytes to skip, length.
    fn pieces(&self, mut left: u64, mut push: impl FnMut(usize, u64, usize)) {
        let mut skip = self.skip;
        let mut room = PIECES_MAX;
        for (piece, length) in (self.piece..).zip(self.lengths.clone()) {
            if room == 0 || left == 0 {
                break;
            }
            let here = (length - skip).min(left);
            if here > 0 {
                push(piece, skip, to_usize(here));
                room -= 1;
            }
            left -= here;
            skip = 0;
        }
    }

    fn advance(&mut self, mut bytes: u64) {
        while bytes > 0 {
            let Some(length) = self.lengths.clone().next() else { return };
            let here = (length - self.skip).min(bytes);
            bytes -= here;
            self.skip += here;
            if self.skip < length {
                return;
            }
            self.lengths.next();
            self.piece += 1;
            self.skip = 0;
        }
    }
}

/// Lengths are those of memory; where one is not, the system will say so.
fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Memory of another process: never a pointer of ours.
fn remote_piece(address: u64, length: usize) -> libc::iovec {
    libc::iovec { iov_base: core::ptr::without_provenance_mut(to_usize(address)), iov_len: length }
}

/// One system call; the bytes read, or the errno.
///
/// # Safety
/// The memory of `to` is valid for writes, and nobody else uses it.
unsafe fn read(pid: i32, to: &[libc::iovec], from: &[libc::iovec]) -> Result<usize, i32> {
    let (to_count, from_count) = (to.len() as libc::c_ulong, from.len() as libc::c_ulong);
    // SAFETY: the vectors are live and of the lengths given; the caller vouches for the memory they name on this side, and
    // on the other side the system reads only.
    let bytes = unsafe { libc::process_vm_readv(pid, to.as_ptr(), to_count, from.as_ptr(), from_count, 0) };
    usize::try_from(bytes).map_err(|_| errno())
}
