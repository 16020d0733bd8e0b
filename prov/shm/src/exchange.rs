//! How two endpoints meet: a connection on which they tell each other who they are and hand over their segments.
//!
//! Of two, the one with the smaller name connects; so there is one connection however they come to it. It says hello; the other maps its segment and answers;
//! it maps the answer's, puts "I have mapped yours" into the FIFO there, and hangs up. Nothing waits: [`Local::poll`] goes on with whatever can go on.
//! Every meeting ends, by being up, by a reason why not, or by [`Local::leave`].

use core::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rdgram_sync::fifo::Consumer;

use crate::buffers::Buffers;
use crate::hello::{self, Hello, MESSAGE_MAX, Message, Refusal};
use crate::layout::{CAPABILITY_CMA, NEIGHBOURS_MAX};
use crate::life::Process;
use crate::neighbour::{Entry, Link, Neighbour, Phase, sign};
use crate::pull::Offered;
use crate::put::{Put, put_up};
use crate::segment::{Identity, Segment, Unfit};
use crate::{Dma, Local, Own, socket};

/// Connections to us that may wait to be answered; more are refused.
const OFFERS_MAX: usize = 64;

/// Connections of ours at a time: others wait, so that a large job does not run out of descriptors.
const GREETED_MAX: usize = 256;

/// What the exchange has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// From now on items can be put there. What it has put may have been taken already.
    Up(Neighbour),
    /// It cannot be met. Its number is free from now on.
    NotHere(Neighbour, Reason),
    /// Somebody wants to meet us of whom we were not told: told once per offer, which waits until [`Local::meet`] names it.
    Stranger {
        /// Its name, as it says.
        name: SocketAddr,
        /// Its incarnation.
        incarnation: u64,
    },
}

impl Event {
    pub(crate) fn neighbour(&self) -> Option<Neighbour> {
        match *self {
            Self::Up(neighbour) | Self::NotHere(neighbour, _) => Some(neighbour),
            Self::Stranger { .. } => None,
        }
    }
}

/// Why a neighbour cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody listens under its name: it is not on this host, or in another network namespace.
    NoListener,
    /// It belongs to the user with this id, who is not ours.
    OtherUser(u32),
    /// It refused.
    Refused(Refusal),
    /// It hung up half-way.
    HungUp,
    /// It has another version of the layout.
    OtherVersion,
    /// Under its name there is another, or it in another incarnation.
    OtherIncarnation,
    /// It said something that cannot be.
    Invalid,
    /// Its segment is not what it said.
    Segment,
    /// The system refused something; the errno.
    System(i32),
}

/// Why a meeting cannot begin.
#[derive(Debug)]
pub enum Unmet {
    /// This side has closed.
    Closed,
    /// It is our own name.
    Own,
    /// All numbers are taken.
    TooMany,
    /// There is no memory for our segment, or no descriptor.
    Segment(io::Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoListener => {
                f.write_str("nobody listens for it there (another network namespace, or it does not share)")
            }
            Self::OtherUser(uid) => write!(f, "it belongs to user {uid}"),
            Self::Refused(refusal) => write!(f, "it refuses ({refusal:?})"),
            Self::HungUp => f.write_str("it hung up"),
            Self::OtherVersion => f.write_str("it is of another version"),
            Self::OtherIncarnation => f.write_str("it was started anew"),
            Self::Invalid => f.write_str("it does not keep to the protocol"),
            Self::Segment => f.write_str("its memory is not what it said"),
            Self::System(errno) => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("this endpoint closes"),
            Self::Own => f.write_str("it has the name of this endpoint"),
            Self::TooMany => write!(f, "there are {NEIGHBOURS_MAX} neighbours already"),
            Self::Segment(error) => write!(f, "memory for it: {error}"),
        }
    }
}

/// A connection to us that is not answered yet.
#[derive(Debug)]
pub(crate) struct Offer {
    socket: OwnedFd,
    process: Process,
    /// What it said, and its segment.
    hello: Option<(Hello, OwnedFd)>,
    /// It was told as a stranger.
    told: bool,
}

/// What is to be done with an offer.
enum Fate {
    Waits,
    Refused(Refusal),
    Dropped,
    /// By the neighbour with this number.
    Answered(u16),
}

impl Local {
    /// Begins to meet the endpoint of that name and incarnation; [`poll`](Self::poll) tells how it ends. The same neighbour when it was begun before.
    ///
    /// # Errors
    /// See [`Unmet`].
    pub fn meet(&mut self, name: SocketAddr, incarnation: u64) -> Result<Neighbour, Unmet> {
        if self.closed {
            return Err(Unmet::Closed);
        }
        let weight = order(name).cmp(&order(self.name));
        if weight.is_eq() {
            return Err(Unmet::Own);
        }
        let is_met = |entry: &Entry| {
            order(entry.name) == order(name)
                && entry.incarnation == incarnation
                && !matches!(entry.phase, Phase::Left | Phase::NotHere)
        };
        if let Some(number) = self.number_where(is_met) {
            return Ok(Neighbour(number));
        }
        let phase = if weight.is_gt() { Phase::Connecting } else { Phase::Expecting };
        let number = self.assign(name, incarnation, phase)?;
        if weight.is_gt() {
            self.meeting.push(number);
        }
        Ok(Neighbour(number))
    }

    /// Goes on with all meetings, as far as that is possible without waiting, and tells what came of it; `None` when there is nothing more to tell.
    /// A few system calls: call it when [`listener`](Self::listener) is readable, and now and then while [`is_meeting`](Self::is_meeting).
    /// The word of a neighbour that it has mapped our segment comes through [`take`](Self::take).
    pub fn poll(&mut self) -> Option<Event> {
        if self.events.is_empty() && !self.closed {
            self.accept();
            self.read_offers();
            self.advance();
        }
        let event = self.events.pop_front()?;
        if let Event::NotHere(neighbour, _) = event {
            self.leave(neighbour);
        }
        Some(event)
    }

    /// A meeting is under way, or an offer not read yet: poll again soon.
    pub fn is_meeting(&self) -> bool {
        !self.meeting.is_empty()
            || !self.events.is_empty()
            || self.offers.iter().any(|offer| offer.hello.is_none())
    }

    /// Refuses all offers, and whoever comes later.
    pub(crate) fn stop_listening(&mut self) {
        while let Ok(socket) = socket::accept(self.listener.as_fd()) {
            refuse(&socket, Refusal::Closed);
        }
        socket::shut_down(self.listener.as_fd());
        for offer in self.offers.drain(..) {
            refuse(&offer.socket, Refusal::Closed);
        }
    }

    /// A neighbour that cannot be met: it keeps its number until that is told.
    pub(crate) fn end_meeting(&mut self, number: u16, reason: Reason) {
        self.entries[number as usize].phase = Phase::NotHere;
        self.meeting.retain(|&meeting| meeting != number);
        self.events.push_back(Event::NotHere(Neighbour(number), reason));
    }

    fn number_where(&self, mut is_it: impl FnMut(&Entry) -> bool) -> Option<u16> {
        (0..).zip(&self.entries).find_map(|(number, entry)| is_it(entry).then_some(number))
    }

    /// Gives a neighbour a number, and opens its word.
    fn assign(&mut self, name: SocketAddr, incarnation: u64, phase: Phase) -> Result<u16, Unmet> {
        if self.own.is_none() {
            self.own = Some(Box::new(self.make_own().map_err(Unmet::Segment)?));
        }
        let Some(own) = &self.own else { return Err(Unmet::Closed) };
        // A number whose former neighbour has claims left is not given away: whose they are would not be known any more.
        let free = self.number_where(|entry| {
            matches!(entry.phase, Phase::Left) && !own.consumer.is_claimed_by(&own.segment, entry.owner)
        });
        let number = match free.or_else(|| u16::try_from(self.entries.len()).ok()) {
            Some(number) if usize::from(number) < NEIGHBOURS_MAX => number,
            _ => return Err(Unmet::TooMany),
        };
        let former = self.entries.get(number as usize).map_or(0, |entry| entry.generation);
        let generation = former.wrapping_add(1);
        own.segment.word(number).store(generation, core::sync::atomic::Ordering::Release);
        let entry = Entry {
            name,
            incarnation,
            generation,
            owner: sign(number, generation),
            phase,
            process: Process::default(),
            corrupt: false,
        };
        match self.entries.get_mut(number as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        Ok(number)
    }

    fn make_own(&self) -> io::Result<Own> {
        let (segment, fd) = Segment::create(self.geometry, self.identity())?;
        self.probe.allow();
        Ok(Own {
            segment,
            fd,
            consumer: Consumer::new(self.geometry.ring()),
            buffers: Buffers::new(self.geometry.buffers()),
        })
    }

    fn identity(&self) -> Identity {
        let capabilities = if self.dma == Dma::Memcpy { 0 } else { CAPABILITY_CMA };
        Identity { incarnation: self.incarnation, capabilities }
    }

    /// What we say to a neighbour.
    fn hello_to(&self, entry: &Entry, number: u16) -> Hello {
        Hello {
            name: self.name,
            incarnation: self.incarnation,
            your_incarnation: entry.incarnation,
            number,
            generation: entry.generation,
            geometry: self.geometry,
            capabilities: self.identity().capabilities,
            probe_address: self.probe.address(),
            probe_value: self.probe.value(),
        }
    }

    /// Says it, with our segment.
    fn greet(&self, number: u16, socket: &OwnedFd) -> Result<(), Reason> {
        let Some(own) = &self.own else { return Err(Reason::Invalid) };
        let hello = self.hello_to(&self.entries[number as usize], number);
        socket::send(socket.as_fd(), hello.encode().as_slice(), Some(own.fd.as_fd())).map_err(system)
    }

    /// Maps the segment of the one that said hello.
    fn attach(&self, hello: &Hello, fd: BorrowedFd<'_>, process: &Process) -> Result<Link, Reason> {
        let identity = Identity { incarnation: hello.incarnation, capabilities: hello.capabilities };
        let segment = Segment::attach(fd, hello.geometry, identity).map_err(|unfit| match unfit {
            Unfit::Content => Reason::Segment,
            Unfit::System(error) => system(error),
        })?;
        let pulls = Offered::new(self.dma, hello).and_then(|offered| offered.try_on(process));
        Ok(Link::new(segment, hello, pulls))
    }
}

/// Offers to us.
impl Local {
    /// Takes in the connections that wait.
    fn accept(&mut self) {
        // Errors leave the connection where it is, except those that tell of one that is gone.
        while let Ok(socket) = socket::accept(self.listener.as_fd()) {
            let Ok(credentials) = socket::credentials(socket.as_fd()) else { continue };
            if credentials.uid != own_uid() {
                refuse(&socket, Refusal::User);
            } else if self.offers.len() >= OFFERS_MAX {
                refuse(&socket, Refusal::Busy);
            } else {
                let process = Process::watch(credentials.pid);
                self.offers.push(Offer { socket, process, hello: None, told: false });
            }
        }
    }

    /// Reads what offers say, and answers those of neighbours that we were told to meet.
    fn read_offers(&mut self) {
        let mut at = 0;
        while at < self.offers.len() {
            match self.weigh(at) {
                Fate::Waits => at += 1,
                Fate::Refused(refusal) => refuse(&self.offers.remove(at).socket, refusal),
                Fate::Dropped => drop(self.offers.remove(at)),
                Fate::Answered(number) => {
                    let offer = self.offers.remove(at);
                    self.answer(number, offer);
                }
            }
        }
    }

    /// What to do with an offer.
    fn weigh(&mut self, at: usize) -> Fate {
        let offer = &mut self.offers[at];
        match read(&offer.socket) {
            Heard::Nothing => {}
            Heard::Said(Message::Hello(hello), Some(fd)) if offer.hello.is_none() => {
                offer.hello = Some((hello, fd));
            }
            Heard::Said(Message::OtherVersion, _) => return Fate::Refused(Refusal::Version),
            Heard::HungUp | Heard::Said(..) | Heard::Failed(_) => return Fate::Dropped,
        }
        let Some((hello, _)) = offer.hello else { return Fate::Waits };
        if order(hello.name) >= order(self.name) {
            // It was for us to connect.
            return Fate::Dropped;
        }
        let is_named =
            |entry: &Entry| matches!(entry.phase, Phase::Expecting) && order(entry.name) == order(hello.name);
        let expected = self.number_where(is_named);
        let incarnation = expected.map(|number| self.entries[number as usize].incarnation);
        if hello.your_incarnation != self.incarnation
            || incarnation.is_some_and(|expected| hello.incarnation < expected)
        {
            return Fate::Refused(Refusal::Incarnation);
        }
        match self.number_where(|entry| is_named(entry) && entry.incarnation == hello.incarnation) {
            Some(number) => Fate::Answered(number),
            None => {
                let Hello { name, incarnation, .. } = hello;
                if !core::mem::replace(&mut self.offers[at].told, true) {
                    self.events.push_back(Event::Stranger { name, incarnation });
                }
                Fate::Waits
            }
        }
    }

    /// Maps the segment of the offer and hands over ours.
    fn answer(&mut self, number: u16, offer: Offer) {
        let Offer { socket, process, hello: Some((hello, fd)), .. } = offer else { return };
        let link = self.attach(&hello, fd.as_fd(), &process);
        self.entries[number as usize].process = process;
        match link.and_then(|link| self.greet(number, &socket).map(|()| link)) {
            Ok(link) => {
                self.entries[number as usize].phase = Phase::Answered(link, Some(socket));
                self.meeting.push(number);
            }
            Err(reason) => {
                refuse(&socket, Refusal::Segment);
                self.end_meeting(number, reason);
            }
        }
    }
}

/// Meetings of ours.
impl Local {
    /// Goes on with each.
    fn advance(&mut self) {
        let mut greeted = 0;
        let mut at = 0;
        while let Some(&number) = self.meeting.get(at) {
            let phase = core::mem::replace(&mut self.entries[number as usize].phase, Phase::NotHere);
            let next = match phase {
                Phase::Connecting if greeted >= GREETED_MAX => Ok(Phase::Connecting),
                Phase::Connecting => self.connect(number),
                Phase::Greeted(socket) => self.hear_answer(number, socket),
                Phase::Announcing(link, socket) => {
                    Ok(announce(link, socket, &mut self.entries[number as usize].process))
                }
                Phase::Answered(link, socket) => Ok(Phase::Answered(link, socket.filter(is_connected))),
                other => Ok(other),
            };
            match next {
                Ok(phase) => {
                    greeted += usize::from(matches!(phase, Phase::Greeted(_)));
                    self.entries[number as usize].phase = phase;
                    if self.entries[number as usize].is_meeting() {
                        at += 1;
                    } else {
                        self.meeting.remove(at);
                        self.events.push_back(Event::Up(Neighbour(number)));
                    }
                }
                Err(reason) => self.end_meeting(number, reason),
            }
        }
    }

    fn connect(&mut self, number: u16) -> Result<Phase, Reason> {
        let socket = match socket::connect(self.entries[number as usize].name) {
            Ok(socket) => socket,
            Err(error) => {
                return match error.kind() {
                    // Too many wait there already.
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Phase::Connecting),
                    io::ErrorKind::ConnectionRefused => Err(Reason::NoListener),
                    _ => Err(system(error)),
                };
            }
        };
        let credentials = socket::credentials(socket.as_fd()).map_err(system)?;
        if credentials.uid != own_uid() {
            return Err(Reason::OtherUser(credentials.uid));
        }
        self.entries[number as usize].process = Process::watch(credentials.pid);
        self.greet(number, &socket)?;
        Ok(Phase::Greeted(socket))
    }

    fn hear_answer(&mut self, number: u16, socket: OwnedFd) -> Result<Phase, Reason> {
        let (hello, fd) = match read(&socket) {
            Heard::Nothing => return Ok(Phase::Greeted(socket)),
            Heard::HungUp => return Err(Reason::HungUp),
            Heard::Failed(error) => return Err(system(error)),
            Heard::Said(Message::Hello(hello), Some(fd)) => (hello, fd),
            Heard::Said(Message::Refusal(refusal), _) => return Err(Reason::Refused(refusal)),
            Heard::Said(Message::OtherVersion, _) => return Err(Reason::OtherVersion),
            Heard::Said(..) => return Err(Reason::Invalid),
        };
        let entry = &self.entries[number as usize];
        let is_it = order(hello.name) == order(entry.name) && hello.incarnation == entry.incarnation;
        if !is_it || hello.your_incarnation != self.incarnation {
            return Err(Reason::OtherIncarnation);
        }
        let link = self.attach(&hello, fd.as_fd(), &self.entries[number as usize].process)?;
        Ok(announce(link, socket, &mut self.entries[number as usize].process))
    }
}

/// Puts our word there; when its FIFO is full, later.
fn announce(link: Link, socket: OwnedFd, process: &mut Process) -> Phase {
    match put_up(&link) {
        Put::Full => Phase::Announcing(link, socket),
        // It may have left us again: then putting says so.
        Put::Done | Put::DoneWake | Put::Gone => {
            process.keep(socket);
            Phase::Up(link)
        }
    }
}

/// What came on a connection.
enum Heard {
    Nothing,
    HungUp,
    Said(Message, Option<OwnedFd>),
    Failed(io::Error),
}

fn read(socket: &OwnedFd) -> Heard {
    let mut bytes = [0; MESSAGE_MAX];
    let mut heard = socket::receive(socket.as_fd(), &mut bytes);
    if heard.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
        // It closed without having read all that we said; what it said before comes after this error.
        heard = socket::receive(socket.as_fd(), &mut bytes);
    }
    match heard {
        Ok((0, _)) => Heard::HungUp,
        Ok((length, fd)) => Heard::Said(hello::decode(&bytes[..length]), fd),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Heard::HungUp,
            _ => Heard::Failed(error),
        },
    }
}

/// The other end has neither hung up nor spoken out of turn.
fn is_connected(socket: &OwnedFd) -> bool {
    matches!(read(socket), Heard::Nothing)
}

/// Says why, before the connection is closed. If that does not get through, the hang-up does.
fn refuse(socket: &OwnedFd, refusal: Refusal) {
    let _ = socket::send(socket.as_fd(), refusal.encode().as_slice(), None);
}

/// By this, the smaller name connects.
fn order(name: SocketAddr) -> (std::net::IpAddr, u16, u32) {
    let scope = if let SocketAddr::V6(v6) = name { v6.scope_id() } else { 0 };
    (name.ip(), name.port(), scope)
}

fn own_uid() -> u32 {
    // SAFETY: takes no pointer and cannot fail.
    unsafe { libc::geteuid() }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn system(error: io::Error) -> Reason {
    match error.kind() {
        // It ended half-way: nothing that anybody could help.
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Reason::HungUp,
        _ => Reason::System(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}
