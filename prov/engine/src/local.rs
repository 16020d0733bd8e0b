//! What the engine asks of the memory that endpoints of one host share: queues of items, and copies out of a neighbour's memory.
//!
//! `prov/host` implements this over `rdgram-shm`, `tests/sim` over queues of its own. An item is never lost, doubled or overtaken by another of its sender:
//! the engine adds no number, no acknowledgement and no timer. What it cannot rely on is the sender: every byte of an item is hostile input.

use core::fmt;
use core::net::SocketAddr;

use crate::mem::UserSlice;

/// An endpoint of this host that memory is shared with: the route's name for it. Another one may have it after [`LocalRoute::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour(pub u16);

/// An item to put into a neighbour's queue: a header, and `length` bytes from `offset` of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// What it is: the engine's affair.
    pub kind: u8,
    /// At most [`HEADER_ROOM`] bytes.
    pub header: &'a [u8],
    /// Where its payload is.
    pub payload: &'a [UserSlice],
    /// Bytes of `payload` to leave out at its beginning.
    pub offset: usize,
    /// Bytes of payload, at most [`LocalRoute::piece_max`].
    pub length: usize,
}

/// Longest header of a [`Parcel`], bytes.
pub const HEADER_ROOM: usize = 96;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in the queue; the payload's memory is free again.
    Done,
    /// The same, and the neighbour sleeps: it has to be sent a datagram.
    Ring,
    /// There is no room. Try again at the next progress call.
    Full,
    /// The neighbour has left.
    Gone,
}

/// An item that a neighbour put into our queue.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who put it there.
    pub from: Neighbour,
    /// See [`Parcel::kind`].
    pub kind: u8,
    /// A private copy.
    pub header: &'a [u8],
    /// The payload. It may lie in the neighbour's memory and change at any time: it is copied from, once, and never looked at.
    pub payload: UserSlice,
}

/// A piece of a neighbour's memory: address and length there.
pub type ForeignPiece = (u64, u64);

/// Why memory could not be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullError {
    /// The system does not permit it, or the neighbour has taken its permission back: its memory has to be sent.
    Refused,
    /// The neighbour has died.
    Dead,
}

/// What happened on the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalEvent {
    /// Items may be put into the neighbour's queue from now on.
    Up(Neighbour),
    /// It cannot be reached through memory, or not any more without having died: datagrams remain.
    Absent(Neighbour),
    /// An endpoint wants to share memory that was not met here.
    Stranger {
        /// Its name.
        name: SocketAddr,
        /// Its incarnation.
        incarnation: u64,
    },
}

/// How a neighbour ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its process has ended.
    Died(Neighbour),
    /// It put something into our queue that no honest neighbour does.
    Corrupt(Neighbour),
}

/// What was done, for counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalStats {
    /// Items put into neighbours' queues.
    pub put: u64,
    /// Items taken from our own.
    pub taken: u64,
    /// Bytes of payload copied through shared memory, at the sender.
    pub copied_bytes: u64,
    /// Bytes copied out of neighbours' memory (CMA).
    pub pulled_bytes: u64,
    /// Items that found no room.
    pub full: u64,
}

impl LocalStats {
    /// Name and value of every counter, for printing.
    pub fn rows(&self) -> [(&'static str, u64); 5] {
        [
            ("local_put", self.put),
            ("local_taken", self.taken),
            ("local_copied_bytes", self.copied_bytes),
            ("local_pulled_bytes", self.pulled_bytes),
            ("local_full", self.full),
        ]
    }
}

/// See the module. Belongs to one endpoint.
pub trait LocalRoute: fmt::Debug + Send {
    /// Begins to share memory with that incarnation of an endpoint. `None` when it cannot be reached that way. Asked again it says the same.
    fn meet(&mut self, name: SocketAddr, incarnation: u64) -> Option<Neighbour>;

    /// What happened since the last call. Takes system calls: not for every progress call.
    fn poll(&mut self) -> Option<LocalEvent>;

    /// Something of the exchange is under way, so that [`Self::poll`] should be called soon.
    fn is_meeting(&self) -> bool;

    /// Neighbours that ended. Takes a system call.
    fn poll_loss(&mut self) -> Option<Loss>;

    /// Largest payload of an item, bytes.
    fn piece_max(&self) -> usize;

    /// Bytes of payload that a neighbour can have put and we have not taken, at most.
    fn waiting_max(&self) -> usize;

    /// Longer messages are better pulled by this neighbour than put, bytes; `streaming`: others to it are under way, so that both sides copy at once.
    fn eager_max(&self, to: Neighbour, streaming: bool) -> usize;

    /// Puts an item into the neighbour's queue.
    fn put(&mut self, to: Neighbour, parcel: &Parcel<'_>) -> Put;

    /// Hands out at most `most` items of our queue, those of each neighbour in order; returns how many.
    fn take(&mut self, most: usize, sink: &mut dyn FnMut(Arrival<'_>)) -> usize;

    /// Something is in our queue. A look at one cache line.
    fn has_items(&self) -> bool;

    /// Tells neighbours whether payload that nobody asked for may be put. Until said otherwise it may.
    fn set_welcome(&mut self, welcome: bool);

    /// Whether the neighbour takes payload that it did not ask for.
    fn is_welcome(&self, to: Neighbour) -> bool;

    /// Copies from the neighbour's memory into ours, all of it or an error.
    fn pull(&mut self, from: Neighbour, remote: &[ForeignPiece], into: &[UserSlice])
    -> Result<(), PullError>;

    /// This endpoint is about to sleep: who puts an item from now on has to ring. False when there is something already.
    fn sleep(&mut self) -> bool;

    /// It sleeps no longer.
    fn awake(&mut self);

    /// From now on no neighbour may pull: the memory of operations is about to become the application's. Items can still be put.
    fn forbid_pulls(&mut self);

    /// Ends it with one neighbour.
    fn leave(&mut self, neighbour: Neighbour);

    /// Counters.
    fn stats(&self) -> LocalStats;
}
