//! The engine's way to endpoints of this host, over `rdgram-shm`.
//!
//! Translates, and decides two things: who may be on this host at all (whoever has one of its addresses), and what is said when memory cannot be shared.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rdgram_engine::{
    Arrival, ForeignPiece, IOV_LIMIT, Instant, LocalEvent, LocalRoute, LocalStats, Loss, Neighbour, Parcel,
    PullError, Put, UserSlice,
};
use rdgram_shm::{Event, Item, Local, Options, Payload, Piece, PieceMut, Pull, Reason, Unmet};

use crate::{clock, interfaces};

pub use rdgram_shm::Dma;

/// Longest message that is put rather than pulled by a neighbour that can pull, bytes: two copies through memory that both have at hand cost
/// less than a system call, an announcement and its answer. How long that is depends on what the system call costs, which is measured for each
/// neighbour: see [`pull_from`]. The figures are those of decision 0018, as the next one; there are no other such limits.
const PULL_FROM: RangeInclusive<usize> = 5 << 10..=16 << 10;
/// The same while other messages to this neighbour are under way, never less: then one side copies in while the other copies out, and two copies take the time of one.
const PULL_STREAM_FROM: usize = *PULL_FROM.end();
/// Pulls to see how long one takes: the first ones find everything cold.
const TRIALS: usize = 8;
/// With so short a system call the least of [`PULL_FROM`] is right, ns.
const PULL_QUICK: usize = 400;
/// Bytes for which the second copy takes the time that a pull takes beyond [`PULL_QUICK`], per ns of it.
const PUT_FOR_NS: usize = 4;

/// So long the number of a process that was seen alive is not another's: the system hands out numbers in turn, 32,768 of them and more, and makes
/// a few hundred thousand processes a second at the very most.
const NUMBER_KEPT: Duration = Duration::from_millis(20);

/// Told why a neighbour has to be reached by datagrams, and whether the user can do something about it.
pub type Report = fn(remedy: bool, text: &str);

/// An endpoint's way to its neighbours.
#[derive(Debug)]
pub(crate) struct HostLocal {
    local: Local,
    /// Addresses of this host, once somebody is to be met.
    addresses: Option<Vec<IpAddr>>,
    dma: Dma,
    report: Report,
    /// Of each neighbour the length up to which a single message is put.
    pull_from: Vec<usize>,
    /// When all neighbours' processes were looked at last.
    looked_at: Instant,
    /// Neighbours that left while something of theirs was read.
    torn: Vec<Neighbour>,
    /// Room for the pieces of a copy.
    pieces: Vec<PieceMut>,
}

// SAFETY: the pieces are made during a call and stale between calls; the rest is `Send`.
unsafe impl Send for HostLocal {}

impl HostLocal {
    /// Announces an endpoint to its host.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(name: SocketAddr, incarnation: u64, dma: Dma, report: Report) -> io::Result<Self> {
        let local = Local::open(name, incarnation, &Options { dma, ..Options::default() })?;
        let looked_at = Instant::ZERO;
        Ok(Self {
            local,
            addresses: None,
            dma,
            report,
            pull_from: Vec::new(),
            looked_at,
            torn: Vec::new(),
            pieces: Vec::new(),
        })
    }
}

impl HostLocal {
    /// Whether this host has the address. What addresses it has is read once.
    fn is_of_this_host(&mut self, address: IpAddr) -> io::Result<bool> {
        if self.addresses.is_none() {
            let interfaces = interfaces::list()?;
            self.addresses = Some(interfaces.into_iter().map(|interface| interface.address).collect());
        }
        Ok(self.addresses.as_ref().is_some_and(|addresses| addresses.contains(&address)))
    }

    /// Measures what a pull from this neighbour costs.
    fn note_pull_from(&mut self, neighbour: rdgram_shm::Neighbour) {
        if self.pull_from.len() <= neighbour.index() {
            self.pull_from.resize(neighbour.index() + 1, *PULL_FROM.start());
        }
        let mut shortest = Duration::MAX;
        for _ in 0..TRIALS {
            let start = clock::now();
            if !self.local.try_pull(neighbour) {
                // Whoever had the number before is not meant.
                shortest = Duration::ZERO;
                break;
            }
            shortest = shortest.min(clock::now().saturating_duration_since(start));
        }
        self.pull_from[neighbour.index()] = pull_from(shortest);
    }

    /// Puts an item whose payload is in these pieces.
    #[inline]
    fn put_pieces(&mut self, to: Neighbour, parcel: &Parcel<'_>, pieces: &[Piece]) -> Put {
        // SAFETY: slices of an operation that has not completed (the promise of `UserSlice::new`), or of a live block.
        match unsafe { self.local.put(theirs(to), parcel.kind, parcel.header, pieces) } {
            rdgram_shm::Put::Done => Put::Done,
            rdgram_shm::Put::DoneWake => Put::Ring,
            rdgram_shm::Put::Full => Put::Full,
            rdgram_shm::Put::Gone => Put::Gone,
        }
    }
}

/// The length of a single message up to which it is put, when the shortest pull takes so long.
#[inline]
fn pull_from(shortest: Duration) -> usize {
    let slow = usize::try_from(shortest.as_nanos()).unwrap_or(usize::MAX).saturating_sub(PULL_QUICK);
    slow.saturating_mul(PUT_FOR_NS).saturating_add(*PULL_FROM.start()).min(*PULL_FROM.end())
}

fn ours(neighbour: rdgram_shm::Neighbour) -> Neighbour {
    Neighbour(neighbour.number())
}

fn theirs(neighbour: Neighbour) -> rdgram_shm::Neighbour {
    rdgram_shm::Neighbour::numbered(neighbour.0)
}

impl LocalRoute for HostLocal {
    fn meet(&mut self, name: SocketAddr, incarnation: u64) -> Option<Neighbour> {
        match self.is_of_this_host(name.ip()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                let text = format!(
                    "no shared memory with {name}, whose host is not known: {error}; datagrams are used instead"
                );
                (self.report)(true, &text);
                return None;
            }
        }
        match self.local.meet(name, incarnation) {
            Ok(neighbour) => Some(ours(neighbour)),
            Err(unmet) => {
                let remedy = matches!(unmet, Unmet::Segment(_) | Unmet::TooMany);
                (self.report)(
                    remedy,
                    &format!("no shared memory with {name}: {unmet}; datagrams are used instead"),
                );
                None
            }
        }
    }

    fn poll(&mut self) -> Option<LocalEvent> {
        Some(match self.local.poll()? {
            Event::Up(neighbour) => {
                self.note_pull_from(neighbour);
                if let (true, Some(why)) = (self.dma == Dma::Cma, self.local.no_pull(neighbour)) {
                    let text = format!(
                        "a peer's memory cannot be read ({why:?}), although FI_RDGRAM_DMA=cma: long messages are copied twice"
                    );
                    (self.report)(true, &text);
                }
                LocalEvent::Up(ours(neighbour))
            }
            Event::NotHere(neighbour, reason) => {
                let remedy =
                    matches!(reason, Reason::OtherUser(_) | Reason::OtherVersion | Reason::System(_));
                let text = format!(
                    "no shared memory with a peer on this host: {reason}; datagrams are used instead"
                );
                (self.report)(remedy, &text);
                LocalEvent::Absent(ours(neighbour))
            }
            Event::Stranger { name, incarnation } => LocalEvent::Stranger { name, incarnation },
        })
    }

    fn is_meeting(&self) -> bool {
        self.local.is_meeting()
    }

    fn poll_loss(&mut self) -> Option<Loss> {
        if let Some(neighbour) = self.torn.pop() {
            return Some(Loss::Corrupt(neighbour));
        }
        if let Some(neighbour) = self.local.next_corrupt() {
            return Some(Loss::Corrupt(ours(neighbour)));
        }
        let now = clock::now();
        let dead = self.local.dead();
        if dead.is_none() {
            self.looked_at = now;
        }
        dead.map(|neighbour| Loss::Died(ours(neighbour)))
    }

    fn piece_max(&self) -> usize {
        self.local.buffer_size()
    }

    fn waiting_max(&self) -> usize {
        self.local.waiting_max()
    }

    fn eager_max(&self, to: Neighbour, streaming: bool) -> usize {
        // It reads our memory as we read its: the same user, most often the same limits. When it cannot, it says so by asking for the bytes.
        if !self.local.can_pull(theirs(to)) {
            return usize::MAX;
        }
        let alone = self.pull_from.get(usize::from(to.0)).copied().unwrap_or(*PULL_FROM.start());
        if streaming { PULL_STREAM_FROM } else { alone }
    }

    #[inline]
    fn put(&mut self, to: Neighbour, parcel: &Parcel<'_>) -> Put {
        if let [slice] = parcel.payload {
            let part = slice.part(parcel.offset, parcel.length);
            return self.put_pieces(to, parcel, &[Piece { address: part.address(), length: part.len() }]);
        }
        let mut pieces = [Piece { address: core::ptr::null(), length: 0 }; IOV_LIMIT];
        let (mut offset, mut left, mut count) = (parcel.offset, parcel.length, 0);
        for slice in parcel.payload {
            let part = slice.part(offset, left);
            offset = offset.saturating_sub(slice.len());
            if !part.is_empty() {
                pieces[count] = Piece { address: part.address(), length: part.len() };
                count += 1;
                left -= part.len();
            }
        }
        self.put_pieces(to, parcel, &pieces[..count])
    }

    #[inline]
    fn take(&mut self, most: usize, sink: &mut dyn FnMut(Arrival<'_>)) -> usize {
        let torn = &mut self.torn;
        self.local.take(most, &mut |item: Item<'_>| {
            let (address, length) = match &item.payload {
                Payload::Inline(bytes) => (bytes.as_ptr(), bytes.len()),
                Payload::Foreign(foreign) => (foreign.address(), foreign.length()),
            };
            // SAFETY: valid for reads during the call, and an arrival's payload is only copied from.
            let payload = unsafe { UserSlice::new(address.cast_mut(), length) };
            sink(Arrival { from: ours(item.from), kind: item.kind, header: item.header, payload });
            // It left while its bytes were copied, and they may be others' by now: nothing of it is to be believed.
            if matches!(&item.payload, Payload::Foreign(foreign) if !foreign.is_intact()) {
                torn.push(ours(item.from));
            }
        })
    }

    #[inline]
    fn has_items(&self) -> bool {
        self.local.has_items()
    }

    fn set_welcome(&mut self, welcome: bool) {
        self.local.set_welcome(welcome);
    }

    #[inline]
    fn is_welcome(&self, to: Neighbour) -> bool {
        self.local.is_welcome(theirs(to))
    }

    fn pull(
        &mut self,
        from: Neighbour,
        remote: &[ForeignPiece],
        into: &[UserSlice],
    ) -> Result<(), PullError> {
        self.pieces.clear();
        let pieces = into.iter().map(|slice| PieceMut { address: slice.address(), length: slice.len() });
        self.pieces.extend(pieces);
        let looked_at = self.looked_at;
        let is_sure = || clock::now().saturating_duration_since(looked_at) < NUMBER_KEPT;
        // SAFETY: slices of a posted receive that has not completed (the promise of `UserSlice::new`).
        let pulled = unsafe { self.local.pull(theirs(from), remote, &self.pieces, is_sure) };
        pulled.map_err(|error| match error {
            Pull::Revoked | Pull::Denied(_) => PullError::Refused,
            Pull::Dead => PullError::Dead,
        })
    }

    fn sleep(&mut self) -> bool {
        self.local.sleep()
    }

    fn awake(&mut self) {
        self.local.awake();
    }

    fn forbid_pulls(&mut self) {
        self.local.forbid_pulls();
    }

    fn leave(&mut self, neighbour: Neighbour) {
        self.local.leave(theirs(neighbour));
    }

    fn stats(&self) -> LocalStats {
        let stats = self.local.stats();
        LocalStats {
            put: stats.items_put,
            taken: stats.items_taken,
            copied_bytes: stats.bytes_memcpy,
            pulled_bytes: stats.bytes_cma,
            full: stats.full,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// Two endpoints that have met, and the second one's number at the first. Their ports stay taken as long as the sockets live.
    fn met(dma: Dma) -> ([HostLocal; 2], Neighbour, [UdpSocket; 2]) {
        let sockets = [1, 2].map(|_| UdpSocket::bind("127.0.0.1:0").expect("binds"));
        let names = [0, 1].map(|number: usize| sockets[number].local_addr().expect("is bound"));
        let mut routes = [0, 1].map(|number: usize| {
            HostLocal::open(names[number], number as u64 + 1, dma, |_, text| panic!("{text}")).expect("opens")
        });
        let number = routes[0].meet(names[1], 2).expect("of this host");
        routes[1].meet(names[0], 1).expect("of this host");
        let mut up = [false; 2];
        for _ in 0..10 {
            for (route, up) in routes.iter_mut().zip(&mut up) {
                route.take(1, &mut |_| panic!("nothing was put"));
                *up |= matches!(route.poll(), Some(LocalEvent::Up(_)));
            }
        }
        assert_eq!(up, [true; 2]);
        (routes, number, sockets)
    }

    #[test]
    fn a_message_alone_is_put_up_to_what_was_measured_of_its_neighbour() {
        let ([mut route, _other], neighbour, _sockets) = met(Dma::Auto);
        assert!(route.local.can_pull(theirs(neighbour)), "one process may read its own memory");
        assert!(PULL_FROM.contains(&route.eager_max(neighbour, false)));
        for limit in [6000, 9000] {
            route.pull_from[usize::from(neighbour.0)] = limit;
            assert_eq!(route.eager_max(neighbour, false), limit);
            assert_eq!(route.eager_max(neighbour, true), PULL_STREAM_FROM, "others are under way");
        }
        let ([route, _other], neighbour, _sockets) = met(Dma::Memcpy);
        assert_eq!(route.eager_max(neighbour, false), usize::MAX, "nothing can be pulled");
    }

    #[test]
    fn the_dearer_a_pull_the_longer_the_messages_that_are_put() {
        let from = |nanos| pull_from(Duration::from_nanos(nanos));
        assert_eq!([from(0), from(400), from(900)], [5 << 10, 5 << 10, (5 << 10) + 2000]);
        assert_eq!([from(1_000_000), pull_from(Duration::MAX)], [16 << 10; 2]);
    }
}
