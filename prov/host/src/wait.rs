//! Blocking: one pollable descriptor for sockets, a timer and wake-ups from other threads.
//!
//! Never reads a socket and never knows what it waits for: whoever blocks clears this, makes progress, looks again.

use core::fmt;
use core::ptr;
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rdgram_engine::{Sleep, Wake};

/// An epoll descriptor over any number of sockets, one timer and one event counter. Level-triggered: readable as long
/// as a socket has something, the timer has run out, or a wake-up was not cleared.
#[derive(Debug)]
pub struct WaitSet {
    epoll: OwnedFd,
    timer: OwnedFd,
    event: Arc<Event>,
}

impl WaitSet {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// No descriptor free.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: takes no pointer.
        let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: takes no pointer.
        let event = owned(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        let set = Self { epoll, timer, event: Arc::new(Event(event)) };
        set.add(set.timer.as_raw_fd())?;
        set.add(set.event.0.as_raw_fd())?;
        Ok(set)
    }

    /// Watches a socket for datagrams and for reports of the network.
    ///
    /// # Errors
    /// It is watched already, or no memory.
    pub fn add(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd)
    }

    /// Watches a socket no longer. Closing one does the same, unless a forked child holds it too.
    ///
    /// # Errors
    /// It was not watched.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd)
    }

    /// The descriptor to poll. Reading it means nothing.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Sets the timer: readable at once, after a while, or not by the timer. Replaces what was set before.
    pub fn arm(&self, sleep: Sleep) {
        self.set_timer(match sleep {
            Sleep::Not => Some(Duration::ZERO),
            Sleep::For(duration) => Some(duration),
            Sleep::Forever => None,
        });
    }

    /// Makes the descriptor readable from any thread, until cleared.
    pub fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.event) as Arc<dyn Wake>
    }

    /// Forgets wake-ups and the timer: then only what a socket still has makes the descriptor readable.
    pub fn clear(&self) {
        self.event.clear();
        self.set_timer(None);
    }

    /// Blocks until the descriptor is readable (true), or the time is over or a signal was handled (false). Call it
    /// with no lock held.
    ///
    /// # Errors
    /// What `ppoll` says.
    pub fn block(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait_for(self.fd(), timeout)
    }

    /// Blocks until there is a wake-up (true), or the time is over or a signal was handled (false): neither a socket nor the timer counts.
    ///
    /// # Errors
    /// What `ppoll` says.
    pub fn rest(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait_for(self.event.0.as_raw_fd(), timeout)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.unsigned_abs(), u64: 0 };
        // SAFETY: `event` is live; the kernel checks the descriptors.
        let result = unsafe { libc::epoll_ctl(self.fd(), operation, fd, ptr::from_mut(&mut event)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The timer runs out after this long, or not at all. Either way an earlier expiry is forgotten.
    fn set_timer(&self, after: Option<Duration>) {
        // Zero would disarm it.
        let value = timespec(after.map_or(Duration::ZERO, |after| after.max(Duration::from_nanos(1))));
        let timer = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: value };
        // SAFETY: `timer` is live, and nothing is asked to be written back.
        let result = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), 0, ptr::from_ref(&timer), ptr::null_mut())
        };
        debug_assert_eq!(result, 0, "the timer is ours and the value in range");
    }
}

/// An event counter: readable from the first wake-up until cleared.
struct Event(OwnedFd);

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.0.as_raw_fd()).finish()
    }
}

impl Event {
    fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight live bytes. A failure means that nothing was counted.
        unsafe { libc::read(self.0.as_raw_fd(), ptr::from_mut(&mut count).cast(), size_of::<u64>()) };
    }
}

impl Wake for Event {
    fn wake(&self) {
        let one = 1_u64;
        // SAFETY: eight live bytes. A failure means that the counter is full, so readable.
        unsafe { libc::write(self.0.as_raw_fd(), ptr::from_ref(&one).cast(), size_of::<u64>()) };
    }
}

fn wait_for(fd: RawFd, timeout: Option<Duration>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let timeout = timeout.map(timespec);
    let limit = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one live `pollfd`, a live time or null for none, and no signal mask.
    let ready = unsafe { libc::ppoll(ptr::from_mut(&mut poll), 1, limit, ptr::null()) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller got it from the kernel just now, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
    /// Long enough that running out of it is a failure, not a slow machine.
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

    fn ready(set: &WaitSet) -> bool {
        set.block(AT_ONCE).expect("polls")
    }

    #[test]
    fn wakes_by_waker_and_clears() {
        let set = WaitSet::new().expect("opens");
        assert!(!ready(&set));
        let waker = set.waker();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            assert!(set.block(PATIENCE).expect("polls"));
        });
        waker.wake();
        assert!(ready(&set), "stays readable until cleared");
        set.clear();
        assert!(!ready(&set), "one clear takes any number of wake-ups");
        waker.wake();
        assert!(ready(&set));
    }

    #[test]
    fn wakes_by_timer_and_clears() {
        let set = WaitSet::new().expect("opens");
        set.arm(Sleep::For(Duration::from_millis(1)));
        assert!(set.block(PATIENCE).expect("polls"));
        set.clear();
        assert!(!ready(&set));
        set.arm(Sleep::Not);
        assert!(set.block(PATIENCE).expect("polls"));
        set.arm(Sleep::Forever);
        assert!(!ready(&set), "arming anew forgets an expiry");
        set.arm(Sleep::For(Duration::from_secs(3600)));
        assert!(!ready(&set));
        set.arm(Sleep::For(Duration::MAX));
        assert!(!ready(&set));
    }

    #[test]
    fn wakes_by_datagram_until_it_is_read() {
        let set = WaitSet::new().expect("opens");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("is bound");
        set.add(socket.as_raw_fd()).expect("adds");
        assert!(!ready(&set));
        socket.send_to(b"x", address).expect("sends");
        assert!(set.block(PATIENCE).expect("polls"));
        set.clear();
        assert!(ready(&set), "the datagram is still there");
        socket.recv_from(&mut [0; 8]).expect("receives");
        assert!(!ready(&set));
        socket.send_to(b"x", address).expect("sends");
        set.remove(socket.as_raw_fd()).expect("removes");
        assert!(!ready(&set));
        assert!(set.remove(socket.as_raw_fd()).is_err(), "not watched any more");
    }

    #[test]
    fn rests_until_a_wake_up_whatever_the_sockets_have() {
        let set = WaitSet::new().expect("opens");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        set.add(socket.as_raw_fd()).expect("adds");
        socket.send_to(b"x", socket.local_addr().expect("is bound")).expect("sends");
        assert!(ready(&set));
        assert!(!set.rest(AT_ONCE).expect("polls"));
        set.arm(Sleep::Not);
        assert!(!set.rest(AT_ONCE).expect("polls"));
        set.waker().wake();
        assert!(set.rest(PATIENCE).expect("polls"));
    }

    #[test]
    fn gives_up_when_the_time_is_over() {
        let set = WaitSet::new().expect("opens");
        assert!(!set.block(Some(Duration::from_millis(1))).expect("polls"));
    }
}
