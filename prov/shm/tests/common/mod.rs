//! What the tests share: sides that meet, items that carry their own check.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unreachable_pub, reason = "a module of each test program")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use rdgram_shm::{Dma, Event, Item, Local, Neighbour, Options, Payload, Piece, Put};

/// Sizes at which everything is soon full.
pub fn small() -> Options {
    Options { slots: 4, buffers: 2, buffer_size: 1024, dma: Dma::Auto }
}

/// A name that no other test has. Nobody is bound to it: only the names matter.
pub fn name() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, a, b, c], NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// An endpoint that is to meet one other.
pub struct Side {
    pub local: Local,
    pub name: SocketAddr,
    pub incarnation: u64,
    pub neighbour: Option<Neighbour>,
    pub is_up: bool,
}

impl Side {
    pub fn open(options: &Options) -> Self {
        Self::open_as(name(), 100, options)
    }

    pub fn open_as(name: SocketAddr, incarnation: u64, options: &Options) -> Self {
        let local = Local::open(name, incarnation, options).expect("opens");
        Self { local, name, incarnation, neighbour: None, is_up: false }
    }

    pub fn begin(&mut self, other: &Self) {
        self.begin_with(other.name, other.incarnation);
    }

    pub fn begin_with(&mut self, name: SocketAddr, incarnation: u64) {
        self.neighbour = Some(self.local.meet(name, incarnation).expect("begins"));
    }

    pub fn to(&self) -> Neighbour {
        self.neighbour.expect("begun")
    }

    /// Goes on with the exchange until nothing is told; what was.
    pub fn settle(&mut self) -> Vec<Event> {
        self.local.take(0, &mut |_| {});
        let mut events = Vec::new();
        while let Some(event) = self.local.poll() {
            self.is_up |= Some(event) == self.neighbour.map(Event::Up);
            events.push(event);
        }
        events
    }

    pub fn put(&mut self, kind: u8, header: &[u8], payload: &[u8]) -> Put {
        let to = self.to();
        // SAFETY: a piece of a live slice.
        unsafe { self.local.put(to, kind, header, &[Piece::new(payload)]) }
    }
}

/// Lets both go on until they are up.
pub fn meet(a: &mut Side, b: &mut Side) {
    for _ in 0..10 {
        for side in [&mut *a, &mut *b] {
            side.local.take(1, &mut |_| panic!("nothing was put"));
            side.settle();
        }
    }
    assert!(a.is_up && b.is_up, "{} {}", a.is_up, b.is_up);
}

/// Two sides that have met.
pub fn pair(options: &Options) -> (Side, Side) {
    let (mut a, mut b) = (Side::open(options), Side::open(options));
    a.begin(&b);
    b.begin(&a);
    meet(&mut a, &mut b);
    (a, b)
}

/// Bytes of a payload, wherever they are.
pub fn bytes_of(payload: &Payload<'_>) -> Vec<u8> {
    match payload {
        Payload::Inline(bytes) => bytes.to_vec(),
        Payload::Foreign(foreign) => {
            let mut bytes = vec![0; foreign.length()];
            // SAFETY: valid during the call of the sink, and not changed by a test meanwhile.
            unsafe { foreign.address().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
            assert!(foreign.is_intact());
            bytes
        }
    }
}

/// Kind, header and payload.
pub type Owned = (u8, Vec<u8>, Vec<u8>);

pub fn owned(item: &Item<'_>) -> Owned {
    (item.kind, item.header.to_vec(), bytes_of(&item.payload))
}

/// Everything that is there.
pub fn taken(local: &mut Local) -> Vec<Owned> {
    let mut items = Vec::new();
    local.take(usize::MAX, &mut |item| items.push(owned(&item)));
    items
}
