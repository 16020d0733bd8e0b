//! Same-host memory between the endpoints of rdgram: segments, the FIFOs and buffers in them, and reading a neighbour's
//! memory directly.
//!
//! An endpoint that has neighbours owns one *segment* of memory, which they map: they put *items* into its FIFO, and it
//! takes them out. Small items travel in a slot; larger ones in a buffer of the sender's segment that the item names;
//! the largest are pulled out of the sender's own memory. Whatever stands in shared memory is read once, checked, and only then used: a neighbour that
//! dies or lies half-way costs its own route and nobody else's. Nothing here blocks, and putting and taking make no system call and allocate nothing.
//!
//! Knows neither packets nor messages: a kind, a header and a payload go in, and come out. Bytes are not ordered against other routes.
//!
//! - `layout`: what is where in a segment, and all limits
//! - `segment`: making and mapping one
//! - `exchange`, `hello`, `socket`: how two endpoints meet
//! - `put`, `take`, `buffers`: items in and out; the order of slots is `rdgram_sync::fifo`
//! - `pull`: `process_vm_readv`
//! - `life`: whether neighbours live
//!
//! One [`Local`] is used by one thread at a time. A forked child may drop it, and do nothing else with it.

mod buffers;
mod exchange;
mod hello;
mod layout;
mod life;
mod neighbour;
mod pull;
mod put;
mod segment;
mod socket;
mod take;
mod terms;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use exchange::{Event, Reason, Unmet};
pub use hello::Refusal;
pub use layout::NEIGHBOURS_MAX;
pub use neighbour::Neighbour;
pub use pull::{NoPull, Pull};
pub use put::Put;
pub use take::{Foreign, Item, Payload};

use buffers::Buffers;
use exchange::Offer;
use layout::{Geometry, ROOM};
use neighbour::{Entry, Phase};
use pull::{Probe, Vectors};
use rdgram_sync::fifo::Consumer;
use segment::Segment;

/// The largest kind of an item; what is above is the exchange's.
pub const KIND_MAX: u8 = u8::MAX - 1;

/// How to open a [`Local`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Slots of the FIFO: a power of two, 2 to 65536.
    pub slots: u32,
    /// Buffers: 0 to 4096.
    pub buffers: u32,
    /// Bytes of a buffer: a multiple of 64, 64 to 64512.
    pub buffer_size: u32,
    /// How large payloads move.
    pub dma: Dma,
}

impl Default for Options {
    fn default() -> Self {
        Self { slots: 1024, buffers: 64, buffer_size: 16 << 10, dma: Dma::Auto }
    }
}

/// What moves large payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dma {
    /// Neighbours' memory is read directly where the system lets us, which is tried once for each; the process lets others read its own.
    Auto,
    /// Never: everything is copied through buffers.
    Memcpy,
    /// As `Auto`; [`Local::no_pull`] tells why it does not work, where it does not.
    Cma,
}

/// Memory to read.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its beginning; anything when the length is 0.
    pub address: *const u8,
    /// Its bytes.
    pub length: usize,
}

impl Piece {
    /// The bytes of a slice.
    pub const fn new(bytes: &[u8]) -> Self {
        Self { address: bytes.as_ptr(), length: bytes.len() }
    }
}

/// Memory to write.
#[derive(Clone, Copy, Debug)]
pub struct PieceMut {
    /// Its beginning; anything when the length is 0.
    pub address: *mut u8,
    /// Its bytes.
    pub length: usize,
}

impl PieceMut {
    /// The bytes of a slice.
    pub const fn new(bytes: &mut [u8]) -> Self {
        Self { address: bytes.as_mut_ptr(), length: bytes.len() }
    }
}

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Items put into neighbours' FIFOs.
    pub items_put: u64,
    /// Items taken out of ours.
    pub items_taken: u64,
    /// Bytes of payload copied into slots and buffers.
    pub bytes_memcpy: u64,
    /// Bytes pulled out of neighbours' memory.
    pub bytes_cma: u64,
    /// Puts that found no slot, or no buffer.
    pub full: u64,
    /// Items and states that no neighbour in its right mind puts.
    pub corrupt: u64,
}

/// What exists once there is a neighbour.
#[derive(Debug)]
struct Own {
    segment: Segment,
    /// To give to neighbours.
    fd: OwnedFd,
    consumer: Consumer,
    buffers: Buffers,
}

/// One endpoint's part in the shared memory of this host.
#[derive(Debug)]
pub struct Local {
    name: SocketAddr,
    incarnation: u64,
    geometry: Geometry,
    dma: Dma,
    listener: OwnedFd,
    closed: bool,
    own: Option<Box<Own>>,
    /// By number.
    entries: Vec<Entry>,
    /// Numbers of neighbours that are being met, except those that we wait for.
    meeting: Vec<u16>,
    /// Connections to us that are not answered yet.
    offers: Vec<Offer>,
    events: VecDeque<Event>,
    corrupt: VecDeque<Neighbour>,
    deaths: Vec<Neighbour>,
    watched: Vec<libc::pollfd>,
    watched_numbers: Vec<u16>,
    probe: Box<Probe>,
    vectors: Vectors,
    /// The item at hand: header and payload on their way into or out of a slot.
    scratch: [u8; ROOM],
    stats: Stats,
}

impl Local {
    /// Announces the endpoint of that name to its host: from now on others can find it. Memory is taken at the first
    /// [`meet`](Self::meet) only.
    ///
    /// # Errors
    /// `InvalidInput`: impossible sizes. `AddrInUse`: another process has this name. Else what the system says.
    pub fn open(name: SocketAddr, incarnation: u64, options: &Options) -> io::Result<Self> {
        let &Options { slots, buffers, buffer_size, dma } = options;
        let geometry = Geometry::new(slots, buffers, buffer_size).ok_or_else(|| {
            let text = format!("impossible: {slots} slots, {buffers} buffers of {buffer_size} bytes");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        Ok(Self {
            name,
            incarnation,
            geometry,
            dma,
            listener: socket::listen(name)?,
            closed: false,
            own: None,
            entries: Vec::new(),
            meeting: Vec::new(),
            offers: Vec::new(),
            events: VecDeque::new(),
            corrupt: VecDeque::new(),
            deaths: Vec::new(),
            watched: Vec::new(),
            watched_numbers: Vec::new(),
            probe: Probe::new(dma),
            vectors: Vectors::default(),
            scratch: [0; ROOM],
            stats: Stats::default(),
        })
    }

    /// Readable when somebody wants to meet us: then call [`poll`](Self::poll). Stays open, but silent, after [`close`](Self::close).
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Bytes of header and payload together that an item has room for in its slot.
    #[inline]
    pub const fn room(&self) -> usize {
        ROOM
    }

    /// Bytes of payload that an item can have, beside a header of up to [`room`](Self::room) bytes.
    #[inline]
    pub fn buffer_size(&self) -> usize {
        self.geometry.buffer_size() as usize
    }

    /// Bytes of payload that one neighbour can have put and we have not taken, if it has a segment like ours.
    pub fn waiting_max(&self) -> usize {
        self.geometry.slots() as usize * ROOM + self.geometry.buffers() as usize * self.buffer_size()
    }

    /// Ends it with a neighbour: it may not put any more nor read our memory, and its segment is unmapped. Its late items are dropped, and our buffers that it did not read come back.
    /// What we put into its FIFO before, it may still take, unless that was in buffers.
    pub fn leave(&mut self, neighbour: Neighbour) {
        let number = neighbour.0;
        let Some(entry) = self.entries.get_mut(neighbour.index()) else { return };
        if matches!(entry.phase, Phase::Left) {
            return;
        }
        entry.phase = Phase::Left;
        if let Some(own) = &mut self.own {
            // Revoked before the buffers come back: who finds its word open has not lost its buffers.
            entry.generation = entry.generation.wrapping_add(1);
            own.segment.word(number).store(entry.generation, core::sync::atomic::Ordering::SeqCst);
            own.buffers.reclaim(&own.segment, number);
        }
        self.meeting.retain(|&meeting| meeting != number);
        self.deaths.retain(|&dead| dead != neighbour);
        self.corrupt.retain(|&corrupt| corrupt != neighbour);
        self.events.retain(|event| event.neighbour() != Some(neighbour));
    }

    /// Ends it with all of them, and is not found any more. Dropping without this tells nobody, as behoves a forked child.
    pub fn close(&mut self) {
        for number in (0..).zip(&self.entries).map(|(number, _)| number).collect::<Vec<_>>() {
            self.leave(Neighbour(number));
        }
        self.events.clear();
        self.stop_listening();
        if let Some(own) = &self.own {
            own.segment.mark_closed();
        }
        self.closed = true;
    }

    /// Bytes of shared memory that are ours.
    pub fn memory(&self) -> usize {
        if self.own.is_some() { self.geometry.total() } else { 0 }
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod hostile;
