//! Memory shared by simulated endpoints of one host: queues with little room, copies out of each other's buffers, neighbours that end or refuse.
//!
//! What is put is never lost, doubled or overtaken, as in the real one. What goes wrong is that there is no room, that a copy is refused, that it takes long to meet, and that a neighbour ends.

use core::fmt;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use rdgram_engine::{
    Arrival, ForeignPiece, LocalEvent, LocalRoute, LocalStats, Loss, Neighbour, Parcel, PullError, Put,
    UserSlice,
};

use crate::rng::{Ppm, Rng};

/// How memory is shared in a run.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// The host of each address; others are alone on theirs.
    pub hosts: Vec<(SocketAddr, usize)>,
    /// Items that a queue holds.
    pub room: usize,
    /// Largest payload of an item.
    pub piece: usize,
    /// Longest message that a neighbour rather gets than pulls, if nothing else is under way to it.
    pub eager: usize,
    /// A copy out of a neighbour's memory is refused.
    pub refused: Ppm,
    /// There is no room for an item although the queue has some (for its payload, say).
    pub crowded: Ppm,
    /// The exchange has got nowhere when it is looked at.
    pub slow: Ppm,
}

impl Sharing {
    /// Nobody shares memory.
    pub fn none() -> Self {
        Self::default()
    }

    /// Draws who shares memory, of endpoints with these addresses.
    pub fn draw(rng: &mut Rng, addresses: &[SocketAddr]) -> Self {
        if rng.chance(400_000) {
            return Self::none();
        }
        let hosts = rng.size(1..=2);
        Self {
            hosts: addresses.iter().map(|address| (*address, rng.index(hosts))).collect(),
            room: rng.pick(&[1, 4, 64, 1_024]),
            piece: rng.pick(&[1 << 10, 4 << 10, 16 << 10]),
            eager: rng.pick(&[256, 4 << 10, 16 << 10, 64 << 10]),
            refused: rng.pick(&[0, 100_000, 1_000_000]),
            crowded: rng.pick(&[0, 50_000, 500_000]),
            slow: rng.pick(&[0, 500_000, 990_000]),
        }
    }

    fn host(&self, address: SocketAddr) -> Option<usize> {
        self.hosts.iter().find(|(other, _)| *other == address).map(|(_, host)| *host)
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hosts.is_empty() {
            return f.write_str("none");
        }
        let hosts: Vec<usize> = self.hosts.iter().map(|(_, host)| *host).collect();
        write!(
            f,
            "hosts {hosts:?}, {} items of {} bytes, eager to {}, {} ppm of pulls refused, {} ppm crowded, {} ppm slow",
            self.room, self.piece, self.eager, self.refused, self.crowded, self.slow
        )
    }
}

/// All memory that is shared.
#[derive(Debug)]
pub struct Memory {
    sharing: Sharing,
    rng: Rng,
    ends: Vec<End>,
}

/// One endpoint's part. Ends stay when they are dead: nobody gets their place.
#[derive(Debug)]
struct End {
    name: SocketAddr,
    incarnation: u64,
    alive: bool,
    asleep: bool,
    welcome: bool,
    pulls_forbidden: bool,
    queue: VecDeque<Item>,
    neighbours: Vec<Met>,
    stats: LocalStats,
    /// How often it looked at the exchange.
    looks: u64,
}

#[derive(Debug)]
struct Met {
    end: usize,
    up: bool,
    /// It left, or was left, or its end was reported.
    over: bool,
}

#[derive(Debug)]
struct Item {
    from: usize,
    kind: u8,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// All of [`Memory`], for the network and for every endpoint.
pub type SharedMemory = Arc<Mutex<Memory>>;

impl Memory {
    /// No endpoint yet.
    pub fn new(sharing: Sharing, rng: Rng) -> SharedMemory {
        Arc::new(Mutex::new(Self { sharing, rng, ends: Vec::new() }))
    }

    /// Whether a datagram rings: its receiver sleeps and has something in its queue. Nothing loses such a datagram within a host but a full receive buffer, which wakes as well.
    pub fn rings(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        let host = self.sharing.host(source);
        host.is_some()
            && host == self.sharing.host(destination)
            && self
                .ends
                .iter()
                .any(|end| end.alive && end.name == destination && end.asleep && !end.queue.is_empty())
    }

    /// Moves endpoints to other hosts, before any have met.
    pub fn set_hosts(&mut self, hosts: Vec<(SocketAddr, usize)>) {
        self.sharing.hosts = hosts;
    }

    /// The endpoint of one name no longer counts another as its neighbour.
    pub fn revoke(&mut self, name: SocketAddr, of: SocketAddr) {
        let other = self.ends.iter().position(|end| end.name == of);
        for end in self.ends.iter_mut().filter(|end| end.name == name) {
            end.neighbours.iter_mut().filter(|met| Some(met.end) == other).for_each(|met| met.over = true);
        }
    }

    /// How often the endpoint of that name looked at the exchange.
    pub fn looks(&self, name: SocketAddr) -> u64 {
        self.ends.iter().filter(|end| end.name == name).map(|end| end.looks).sum()
    }

    /// From now on nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.sharing.crowded = 0;
        self.sharing.slow = 0;
    }

    /// The way to others of an endpoint that has just been enabled.
    pub fn open(memory: &SharedMemory, name: SocketAddr, incarnation: u64) -> Option<Box<dyn LocalRoute>> {
        let mut this = lock(memory);
        this.sharing.host(name)?;
        this.ends.push(End {
            name,
            incarnation,
            alive: true,
            asleep: false,
            welcome: true,
            pulls_forbidden: false,
            queue: VecDeque::new(),
            neighbours: Vec::new(),
            stats: LocalStats::default(),
            looks: 0,
        });
        let end = this.ends.len() - 1;
        Some(Box::new(SimRoute { memory: Arc::clone(memory), end }))
    }

    /// The first of these endpoints puts something into the queue of the other that no honest one does.
    ///
    /// # Panics
    /// When one of them is not there.
    pub fn put_nonsense(&mut self, from: SocketAddr, to: SocketAddr, kind: u8, header: &[u8]) {
        let end = |name| self.ends.iter().position(|end| end.alive && end.name == name).expect("it is there");
        let (from, to) = (end(from), end(to));
        self.ends[to].queue.push_back(Item { from, kind, header: header.to_vec(), payload: Vec::new() });
    }

    /// Whether two ends have met each other.
    fn both_met(&self, one: usize, other: usize) -> bool {
        let met = |end: &End, whom: usize| end.neighbours.iter().any(|met| met.end == whom && !met.over);
        met(&self.ends[one], other) && met(&self.ends[other], one)
    }
}

fn lock(memory: &SharedMemory) -> MutexGuard<'_, Memory> {
    memory.lock().expect("one thread")
}

/// An endpoint's way to its neighbours.
struct SimRoute {
    memory: SharedMemory,
    end: usize,
}

impl fmt::Debug for SimRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRoute").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Drop for SimRoute {
    fn drop(&mut self) {
        let mut memory = lock(&self.memory);
        let end = &mut memory.ends[self.end];
        end.alive = false;
        end.queue.clear();
    }
}

impl SimRoute {
    fn other(&self, memory: &Memory, neighbour: Neighbour) -> usize {
        memory.ends[self.end].neighbours[usize::from(neighbour.0)].end
    }
}

fn number(index: usize) -> Neighbour {
    Neighbour(u16::try_from(index).expect("few ends"))
}

impl LocalRoute for SimRoute {
    fn meet(&mut self, name: SocketAddr, incarnation: u64) -> Option<Neighbour> {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        let host = memory.sharing.host(memory.ends[self.end].name);
        if memory.sharing.host(name) != host {
            return None;
        }
        let it = |end: &End| end.name == name && end.incarnation == incarnation && end.alive;
        let other = memory.ends.iter().position(it)?;
        let neighbours = &mut memory.ends[self.end].neighbours;
        if let Some(index) = neighbours.iter().position(|met| met.end == other && !met.over) {
            return Some(number(index));
        }
        neighbours.push(Met { end: other, up: false, over: false });
        Some(number(neighbours.len() - 1))
    }

    fn poll(&mut self) -> Option<LocalEvent> {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        memory.ends[self.end].looks += 1;
        if memory.rng.chance(memory.sharing.slow) {
            return None;
        }
        for index in 0..memory.ends[self.end].neighbours.len() {
            let met = &memory.ends[self.end].neighbours[index];
            let other = met.end;
            if met.up || met.over {
                continue;
            }
            if !memory.ends[other].alive {
                memory.ends[self.end].neighbours[index].over = true;
                return Some(LocalEvent::Absent(number(index)));
            }
            if memory.both_met(self.end, other) {
                memory.ends[self.end].neighbours[index].up = true;
                return Some(LocalEvent::Up(number(index)));
            }
        }
        let knows = |other: usize| memory.ends[self.end].neighbours.iter().any(|met| met.end == other);
        let wants = |(index, end): &(usize, &End)| {
            end.alive && end.neighbours.iter().any(|met| met.end == self.end && !met.over) && !knows(*index)
        };
        let strangers: Vec<usize> =
            memory.ends.iter().enumerate().filter(wants).map(|(index, _)| index).collect();
        // One that is not wanted here would be offered for ever.
        if strangers.is_empty() || memory.rng.chance(800_000) {
            return None;
        }
        let end = &memory.ends[strangers[memory.rng.index(strangers.len())]];
        Some(LocalEvent::Stranger { name: end.name, incarnation: end.incarnation })
    }

    fn is_meeting(&self) -> bool {
        let memory = lock(&self.memory);
        memory.ends[self.end].neighbours.iter().any(|met| !met.up && !met.over)
    }

    fn poll_loss(&mut self) -> Option<Loss> {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        for index in 0..memory.ends[self.end].neighbours.len() {
            let met = &memory.ends[self.end].neighbours[index];
            if met.up && !met.over && !memory.ends[met.end].alive {
                memory.ends[self.end].neighbours[index].over = true;
                return Some(Loss::Died(number(index)));
            }
        }
        None
    }

    fn piece_max(&self) -> usize {
        lock(&self.memory).sharing.piece
    }

    fn waiting_max(&self) -> usize {
        let memory = lock(&self.memory);
        memory.sharing.room * memory.sharing.piece
    }

    fn eager_max(&self, _to: Neighbour, streaming: bool) -> usize {
        let memory = lock(&self.memory);
        let sharing = &memory.sharing;
        // As in the real one, what fits into one piece is put while others are under way.
        if streaming { sharing.eager.max(sharing.piece) } else { sharing.eager }
    }

    fn put(&mut self, to: Neighbour, parcel: &Parcel<'_>) -> Put {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        let other = self.other(memory, to);
        let counts_us = |end: &End| end.neighbours.iter().any(|met| met.end == self.end && !met.over);
        if !memory.ends[other].alive || !counts_us(&memory.ends[other]) {
            return Put::Gone;
        }
        let crowded = memory.rng.chance(memory.sharing.crowded);
        if crowded || memory.ends[other].queue.len() >= memory.sharing.room {
            memory.ends[self.end].stats.full += 1;
            return Put::Full;
        }
        assert!(parcel.length <= memory.sharing.piece, "an item is larger than agreed");
        let mut bytes = Vec::new();
        for slice in parcel.payload {
            slice.append_to(&mut bytes);
        }
        let payload = bytes[parcel.offset..parcel.offset + parcel.length].to_vec();
        let header = parcel.header.to_vec();
        let stats = &mut memory.ends[self.end].stats;
        stats.put += 1;
        stats.copied_bytes += payload.len() as u64;
        let end = &mut memory.ends[other];
        end.queue.push_back(Item { from: self.end, kind: parcel.kind, header, payload });
        if end.asleep { Put::Ring } else { Put::Done }
    }

    fn take(&mut self, most: usize, sink: &mut dyn FnMut(Arrival<'_>)) -> usize {
        let mut taken = 0;
        while taken < most {
            let mut memory = lock(&self.memory);
            let Some(mut item) = memory.ends[self.end].queue.pop_front() else { break };
            let known = memory.ends[self.end].neighbours.iter().rposition(|met| met.end == item.from);
            memory.ends[self.end].stats.taken += 1;
            drop(memory);
            taken += 1;
            let Some(from) = known.map(number) else { continue };
            let (address, length) = (item.payload.as_mut_ptr(), item.payload.len());
            // SAFETY: the payload lives until the call is over, and nobody else has it.
            let payload = unsafe { UserSlice::new(address, length) };
            sink(Arrival { from, kind: item.kind, header: &item.header, payload });
        }
        taken
    }

    fn has_items(&self) -> bool {
        !lock(&self.memory).ends[self.end].queue.is_empty()
    }

    fn set_welcome(&mut self, welcome: bool) {
        lock(&self.memory).ends[self.end].welcome = welcome;
    }

    fn is_welcome(&self, to: Neighbour) -> bool {
        let memory = lock(&self.memory);
        memory.ends[self.other(&memory, to)].welcome
    }

    fn pull(
        &mut self,
        from: Neighbour,
        remote: &[ForeignPiece],
        into: &[UserSlice],
    ) -> Result<(), PullError> {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        let other = self.other(memory, from);
        if !memory.ends[other].alive {
            return Err(PullError::Dead);
        }
        if memory.ends[other].pulls_forbidden || memory.rng.chance(memory.sharing.refused) {
            return Err(PullError::Refused);
        }
        let mut bytes = Vec::new();
        for &(address, length) in remote {
            let address =
                core::ptr::with_exposed_provenance_mut(usize::try_from(address).expect("an address"));
            let length = usize::try_from(length).expect("a length");
            // SAFETY: the neighbour is a live endpoint of this process that has not taken its permission back: the operation's buffer is still lent to it.
            unsafe { UserSlice::new(address, length) }.append_to(&mut bytes);
        }
        memory.ends[self.end].stats.pulled_bytes += bytes.len() as u64;
        let mut rest = &bytes[..];
        for slice in into {
            let (first, after) = rest.split_at(slice.len());
            slice.write(first);
            rest = after;
        }
        assert!(rest.is_empty(), "as much is pulled as there is room for");
        Ok(())
    }

    fn sleep(&mut self) -> bool {
        let mut memory = lock(&self.memory);
        let end = &mut memory.ends[self.end];
        end.asleep = end.queue.is_empty();
        end.asleep
    }

    fn awake(&mut self) {
        lock(&self.memory).ends[self.end].asleep = false;
    }

    fn forbid_pulls(&mut self) {
        lock(&self.memory).ends[self.end].pulls_forbidden = true;
    }

    fn leave(&mut self, neighbour: Neighbour) {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        let other = self.other(memory, neighbour);
        memory.ends[self.end].neighbours[usize::from(neighbour.0)].over = true;
        // What it has put, or puts, is for nobody.
        memory.ends[self.end].queue.retain(|item| item.from != other);
    }

    fn stats(&self) -> LocalStats {
        lock(&self.memory).ends[self.end].stats
    }
}
