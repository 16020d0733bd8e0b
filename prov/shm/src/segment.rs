//! Segments in memory: ours, which we make, and those of neighbours, which we map.
//!
//! Everything in them is written by several processes at once, so that it is reached by atomic accesses and raw
//! copies only: no reference to plain bytes of a segment is ever made, and nothing read from one is believed here.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rdgram_sync::fifo::Slots;

use crate::layout::{self, Anchor, Geometry, MAGIC, ROOM_WORDS, SLOT_FIELDS, SLOT_SIZE, VERSION};

/// A mapped segment, and its geometry as it was validated: never read from the memory again.
#[derive(Debug)]
pub(crate) struct Segment {
    base: NonNull<u8>,
    geometry: Geometry,
    /// The process that mapped it. A forked child has no such mapping, and may have another in its place.
    mapped_by: u32,
}

// SAFETY: the memory belongs to the mapping, which any thread may use; all accesses are atomic or raw copies whose
// callers keep them apart.
unsafe impl Send for Segment {}
// SAFETY: as above; a shared reference gives out atomics only.
unsafe impl Sync for Segment {}

/// What a segment is about, beside its geometry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) incarnation: u64,
    pub(crate) capabilities: u32,
}

impl Segment {
    /// Makes a segment: all of its memory is there before anybody touches it, so that a full file system is an error here and never SIGBUS later.
    pub(crate) fn create(geometry: Geometry, identity: Identity) -> io::Result<(Self, OwnedFd)> {
        let total = geometry.total();
        let fd = new_memory()?;
        allocate(fd.as_fd(), total)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: takes no pointer.
        let sealed = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        check(sealed)?;
        let segment = Self::map(fd.as_fd(), geometry)?;
        segment.write_anchor(identity);
        Ok((segment, fd))
    }

    /// Maps a neighbour's segment, which must be what its owner said, and unable to shrink under us.
    pub(crate) fn attach(fd: BorrowedFd<'_>, geometry: Geometry, identity: Identity) -> Result<Self, Unfit> {
        // SAFETY: takes no pointer.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
            return Err(Unfit::Content);
        }
        // SAFETY: a `stat` is plain data, for which zero is a valid value.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: `stat` is live and of the type that the call fills.
        let result = unsafe { libc::fstat(fd.as_raw_fd(), ptr::from_mut(&mut stat)) };
        check(result).map_err(Unfit::System)?;
        if usize::try_from(stat.st_size).map_or(true, |size| size < geometry.total()) {
            return Err(Unfit::Content);
        }
        let segment = Self::map(fd, geometry).map_err(Unfit::System)?;
        if segment.is_anchored(identity) { Ok(segment) } else { Err(Unfit::Content) }
    }

    fn map(fd: BorrowedFd<'_>, geometry: Geometry) -> io::Result<Self> {
        let total = geometry.total();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; the descriptor is open during the call.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), total, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        let base = if base == libc::MAP_FAILED { None } else { NonNull::new(base.cast()) };
        let base = base.ok_or_else(io::Error::last_os_error)?;
        let segment = Self { base, geometry, mapped_by: std::process::id() };
        // A child that inherited the mapping could write into it under our name.
        // SAFETY: the range is the mapping just made.
        let result = unsafe { libc::madvise(base.as_ptr().cast(), total, libc::MADV_DONTFORK) };
        check(result)?;
        Ok(segment)
    }

    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Writes the anchor record, the magic last: who reads that reads the rest.
    fn write_anchor(&self, identity: Identity) {
        let total = self.geometry.total() as u64;
        let numbers: [(usize, u32); 7] = [
            (core::mem::offset_of!(Anchor, version), VERSION),
            (core::mem::offset_of!(Anchor, pid), self.mapped_by),
            (core::mem::offset_of!(Anchor, slots), self.geometry.slots()),
            (core::mem::offset_of!(Anchor, slot_size), SLOT_SIZE),
            (core::mem::offset_of!(Anchor, buffers), self.geometry.buffers()),
            (core::mem::offset_of!(Anchor, buffer_size), self.geometry.buffer_size()),
            (core::mem::offset_of!(Anchor, capabilities), identity.capabilities),
        ];
        for (offset, number) in numbers {
            self.u32_at(offset).store(number, Ordering::Relaxed);
        }
        self.u64_at(core::mem::offset_of!(Anchor, incarnation))
            .store(identity.incarnation, Ordering::Relaxed);
        self.u64_at(core::mem::offset_of!(Anchor, total)).store(total, Ordering::Relaxed);
        self.u64_at(core::mem::offset_of!(Anchor, magic)).store(MAGIC, Ordering::Release);
    }

    /// The anchor record says the same as the owner did in its message.
    fn is_anchored(&self, identity: Identity) -> bool {
        let u32_at = |offset| self.u32_at(offset).load(Ordering::Relaxed);
        let u64_at = |offset| self.u64_at(offset).load(Ordering::Relaxed);
        // Acquire pairs with the Release of `write_anchor`.
        self.u64_at(core::mem::offset_of!(Anchor, magic)).load(Ordering::Acquire) == MAGIC
            && u32_at(core::mem::offset_of!(Anchor, version)) == VERSION
            && u32_at(core::mem::offset_of!(Anchor, slots)) == self.geometry.slots()
            && u32_at(core::mem::offset_of!(Anchor, slot_size)) == SLOT_SIZE
            && u32_at(core::mem::offset_of!(Anchor, buffers)) == self.geometry.buffers()
            && u32_at(core::mem::offset_of!(Anchor, buffer_size)) == self.geometry.buffer_size()
            && u32_at(core::mem::offset_of!(Anchor, capabilities)) == identity.capabilities
            && u64_at(core::mem::offset_of!(Anchor, incarnation)) == identity.incarnation
            && u64_at(core::mem::offset_of!(Anchor, total)) == self.geometry.total() as u64
    }

    /// The word of a neighbour of the owner.
    #[inline]
    pub(crate) fn word(&self, number: u16) -> &AtomicU32 {
        self.u32_at(Geometry::word(number))
    }

    /// A word of the anchor record.
    #[inline]
    pub(crate) fn flag(&self, offset: usize) -> &AtomicU32 {
        self.u32_at(offset)
    }

    /// Says to whoever looks that the owner has closed.
    pub(crate) fn mark_closed(&self) {
        self.u32_at(layout::CLOSED).store(1, Ordering::Release);
    }

    /// The state of a buffer of the owner.
    #[inline]
    pub(crate) fn buffer_state(&self, index: u16) -> &AtomicU32 {
        assert!(u32::from(index) < self.geometry.buffers(), "a buffer of this segment");
        self.u32_at(self.geometry.buffer_state(index as usize))
    }

    /// The memory of a buffer: its size is that of the geometry.
    #[inline]
    pub(crate) fn buffer(&self, index: u16) -> NonNull<u8> {
        assert!(u32::from(index) < self.geometry.buffers(), "a buffer of this segment");
        // SAFETY: buffers lie inside the mapping, which is of the geometry's total size.
        unsafe { self.base.add(self.geometry.buffer(index as usize)) }
    }

    /// The words of a slot behind its state: the fields, then header and payload.
    #[inline]
    pub(crate) fn slot_word(&self, slot: usize, word: usize) -> &AtomicU64 {
        assert!(word < 1 + ROOM_WORDS, "a word of a slot");
        self.u64_at(self.slot_offset(slot) + SLOT_FIELDS + word * size_of::<u64>())
    }

    #[inline]
    fn slot_offset(&self, slot: usize) -> usize {
        assert!((slot as u64) < self.geometry.ring().slots(), "a slot of this segment");
        self.geometry.slot(slot)
    }

    #[inline]
    fn u32_at(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset % 4 == 0 && offset + 4 <= self.geometry.total());
        // SAFETY: callers take the offset from the layout, so that it lies inside the mapping.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: mapped as long as `self` lives, aligned because the layout is, and reached atomically only.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    #[inline]
    fn u64_at(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset + 8 <= self.geometry.total());
        // SAFETY: callers take the offset from the layout, so that it lies inside the mapping.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: mapped as long as `self` lives, aligned because the layout is, and reached atomically only.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }
}

impl Slots for Segment {
    #[inline]
    fn state(&self, index: usize) -> &AtomicU64 {
        self.u64_at(self.slot_offset(index))
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        self.u64_at(layout::TAIL)
    }

    #[inline]
    fn sleeping(&self) -> &AtomicU32 {
        self.u32_at(layout::SLEEPING)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.mapped_by == std::process::id() {
            // SAFETY: the mapping was made by this process, of this size, and nothing borrowed from `self` is left.
            let _ = unsafe { libc::munmap(self.base.as_ptr().cast(), self.geometry.total()) };
        }
    }
}

/// Why a neighbour's segment cannot be used.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It is not what its owner said, or may shrink.
    Content,
    /// The system could not map it.
    System(io::Error),
}

fn new_memory() -> io::Result<OwnedFd> {
    // `linux/memfd.h`: never executable, and sealed so. Since Linux 6.3; some systems insist on it.
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let name = c"rdgram".as_ptr();
    // SAFETY: the name is a C string, read during the call only.
    let mut fd = unsafe { libc::memfd_create(name, flags | MFD_NOEXEC_SEAL) };
    if fd < 0 && errno() == libc::EINVAL {
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name, flags) };
    }
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the file its size and its memory.
fn allocate(fd: BorrowedFd<'_>, total: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live and of the type that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, ptr::from_mut(&mut limit)) };
    check(result)?;
    if limit.rlim_cur != libc::RLIM_INFINITY && (total as u64) > limit.rlim_cur {
        // Asked beforehand: the kernel would send SIGXFSZ, which ends the process.
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let length = libc::off_t::try_from(total).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: takes no pointer.
        let result = unsafe { libc::fallocate(fd.as_raw_fd(), 0, 0, length) };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The error of the system call that just failed.
pub(crate) fn errno() -> libc::c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
