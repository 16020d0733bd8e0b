//! Event queues: what happened to control operations, and events of the application's own.
//!
//! Responsible for order, for error entries that block reads until they are read, and for a descriptor that is readable exactly while something is queued. The
//! queue grows: an event is never dropped. Must never make progress: nothing that is reported here needs any.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdgram_engine::{Instant, Wake};
use rdgram_host::wait::WaitSet;
use rdgram_host::{clock, fork};
use rdgram_sys as sys;

use crate::errno::{Errno, Result, to_c, to_c_size};
use crate::fid::{self, Face, Object};
use crate::guard::entry;
use crate::log::{Level, Subsystem, log};
use crate::{cptr, cq, stubs};

/// What `fi_eq_attr.flags` may contain.
const FLAGS_KNOWN: u64 = sys::FI_WRITE | sys::FI_AFFINITY | sys::FI_PEER;
/// Events the application may leave in a queue; then it is told to read first. Our own are always accepted.
const ENTRIES_MAX: usize = 1 << 20;
/// Largest event the application may write, bytes.
const EVENT_MAX: usize = 1 << 16;

/// Bytes of `fi_eq_err_entry` for applications of API versions before 1.5, which have no `err_data_size`.
const ERROR_LENGTH_1_0: usize = core::mem::offset_of!(sys::fi_eq_err_entry, err_data_size);

/// `fid_eq`.
#[repr(C)]
pub(crate) struct EventQueue {
    face: Face<sys::fid_eq>,
    events: Arc<Events>,
    api_version: u32,
    wait_object: sys::fi_wait_obj,
    _fabric: Arc<()>,
}

// SAFETY: `repr(C)`, and `Face<fid_eq>` is the first field.
unsafe impl Object for EventQueue {
    type Fid = sys::fid_eq;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_EQ);
}

/// The events of a queue, held by an object that reports to it: the queue stays open as long.
#[derive(Clone, Debug)]
pub(crate) struct EventSink(Arc<Events>);

impl EventSink {
    /// FI_AV_COMPLETE: an asynchronous insertion is done, with this many addresses.
    pub(crate) fn av_complete(&self, av: *mut sys::fid, context: *mut c_void, inserted: usize) {
        self.0.report(sys::FI_AV_COMPLETE, av, context, wide(inserted));
    }

    /// The address at this place of an asynchronous insertion was not inserted.
    pub(crate) fn av_error(&self, av: *mut sys::fid, context: *mut c_void, index: usize, errno: Errno) {
        self.0.fail(Failure {
            object: av.expose_provenance(),
            context: context.expose_provenance(),
            data: wide(index),
            errno,
        });
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The events themselves.
#[derive(Debug)]
struct Events {
    queue: Mutex<VecDeque<Event>>,
    wait: Option<Wait>,
    generation: u64,
}

/// What a descriptor is made of.
struct Wait {
    set: WaitSet,
    waker: Arc<dyn Wake>,
}

impl core::fmt::Debug for Wait {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Wait").field("set", &self.set).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Event {
    Plain { number: u32, entry: Box<[u8]> },
    Error(Failure),
}

/// An error event.
#[derive(Debug)]
struct Failure {
    /// The object it is about, by address: never looked behind.
    object: usize,
    /// That operation's context.
    context: usize,
    /// What the operation says more, such as an index.
    data: u64,
    errno: Errno,
}

impl Events {
    fn new(wait_object: sys::fi_wait_obj) -> Result<Self> {
        let wait = if wait_object == sys::FI_WAIT_NONE {
            None
        } else {
            let set = WaitSet::new().map_err(|error| Errno::from_os(&error))?;
            Some(Wait { waker: set.waker(), set })
        };
        Ok(Self { queue: Mutex::new(VecDeque::new()), wait, generation: fork::generation() })
    }

    /// Reports that an operation on an object is done.
    fn report(&self, number: u32, object: *mut sys::fid, context: *mut c_void, data: u64) {
        let mut entry = Vec::with_capacity(size_of::<sys::fi_eq_entry>());
        entry.extend_from_slice(&object.expose_provenance().to_ne_bytes());
        entry.extend_from_slice(&context.expose_provenance().to_ne_bytes());
        entry.extend_from_slice(&data.to_ne_bytes());
        self.push(&mut self.lock(), Event::Plain { number, entry: entry.into() });
    }

    /// Reports that an operation on an object failed.
    fn fail(&self, failure: Failure) {
        log(
            Level::Info,
            Subsystem::Eq,
            c"fail",
            format_args!("an operation failed with error {}", failure.errno.number()),
        );
        self.push(&mut self.lock(), Event::Error(failure));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &mut VecDeque<Event>, event: Event) {
        queue.push_back(event);
        if let (1, Some(wait)) = (queue.len(), &self.wait) {
            wait.waker.wake();
        }
    }

    fn pop(&self, queue: &mut VecDeque<Event>) {
        queue.pop_front();
        if let (true, Some(wait)) = (queue.is_empty(), &self.wait) {
            wait.set.clear();
        }
    }

    fn write(&self, number: u32, entry: &[u8]) -> Result<usize> {
        let mut queue = self.lock();
        if queue.len() >= ENTRIES_MAX {
            return Err(Errno::AGAIN);
        }
        self.push(&mut queue, Event::Plain { number, entry: entry.into() });
        Ok(entry.len())
    }

    /// The oldest event into `buffer`; removed unless only looked at.
    fn read(&self, buffer: &mut [u8], peek: bool) -> Result<(u32, usize)> {
        let mut queue = self.lock();
        let (number, length) = match queue.front() {
            None => return Err(Errno::AGAIN),
            Some(Event::Error(_)) => return Err(Errno::AVAIL),
            Some(Event::Plain { number, entry }) => {
                let room = buffer.get_mut(..entry.len()).ok_or(Errno::TOOSMALL)?;
                room.copy_from_slice(entry);
                (*number, entry.len())
            }
        };
        if !peek {
            self.pop(&mut queue);
        }
        Ok((number, length))
    }

    /// Blocks until there is an event, an error, or the time is over.
    fn read_within(&self, buffer: &mut [u8], peek: bool, timeout_ms: c_int) -> Result<(u32, usize)> {
        let wait = self.wait.as_ref().ok_or(Errno::NOSYS)?;
        let patience = u64::try_from(timeout_ms).ok();
        let end: Option<Instant> = patience.map(|ms| clock::now() + Duration::from_millis(ms));
        loop {
            let outcome = self.read(buffer, peek);
            if outcome != Err(Errno::AGAIN) {
                return outcome;
            }
            let left = end.map(|end| end.saturating_duration_since(clock::now()));
            if left == Some(Duration::ZERO) {
                return Err(Errno::AGAIN);
            }
            // Whether readable, timed out or interrupted, the next round tells.
            wait.set.block(left).map_err(|error| Errno::from_os(&error))?;
        }
    }
}

static FID_OPS: sys::fi_ops = sys::fi_ops { close: Some(close), control: Some(control), ..stubs::FID };

static EQ_OPS: sys::fi_ops_eq = sys::fi_ops_eq {
    size: size_of::<sys::fi_ops_eq>(),
    read: Some(read),
    readerr: Some(readerr),
    write: Some(write),
    sread: Some(sread),
    strerror: Some(strerror),
};

/// `fi_eq_open` on a fabric, which the queue keeps open.
///
/// # Safety
/// The pointers are those of the `fi_ops_fabric.eq_open` call.
pub(crate) unsafe fn open(
    fabric: Arc<()>,
    api_version: u32,
    attr: *mut sys::fi_eq_attr,
    queue: *mut *mut sys::fid_eq,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the caller promises it.
    let attr = unsafe { cptr::required(attr.cast_const()) };
    to_c(attr.and_then(|attr| {
        if queue.is_null() {
            return Err(Errno::INVAL);
        }
        let wait_object = wait_object(attr)?;
        let face =
            sys::fid_eq { fid: fid::head(EventQueue::CLASS, context, &FID_OPS), ops: fid::table(&EQ_OPS) };
        let object = Box::new(EventQueue {
            face: Face::new(face),
            events: Arc::new(Events::new(wait_object)?),
            api_version,
            wait_object,
            _fabric: fabric,
        });
        // SAFETY: not null, and the caller promises the rest.
        unsafe { cptr::give(queue, fid::publish(object)) };
        Ok(())
    }))
}

/// The wait object of a new queue.
fn wait_object(attr: &sys::fi_eq_attr) -> Result<sys::fi_wait_obj> {
    if attr.flags & !FLAGS_KNOWN != 0 {
        return Err(Errno::INVAL);
    }
    cq::wait_object(attr.wait_obj)
}

/// Where an object reports to that is bound to a queue.
///
/// # Safety
/// `queue` is null or a live fid.
pub(crate) unsafe fn sink(queue: *mut sys::fid) -> Result<EventSink> {
    if queue.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, hence live.
    if unsafe { fid::class(queue) } != EventQueue::CLASS {
        return Err(Errno::INVAL);
    }
    // SAFETY: the class says that it is an event queue.
    let queue = unsafe { fid::object::<EventQueue>(queue.cast()) };
    queue.events()?;
    Ok(EventSink(Arc::clone(&queue.events)))
}

/// `fi_trywait`: refused while something is queued.
///
/// # Safety
/// `queue` is a live fid of an event queue of ours.
pub(crate) unsafe fn trywait(queue: *mut sys::fid) -> Result {
    // SAFETY: the caller promises it.
    let queue = unsafe { fid::object::<EventQueue>(queue.cast()) };
    let events = queue.events()?;
    if events.wait.is_none() {
        return Err(Errno::INVAL);
    }
    if events.lock().is_empty() { Ok(()) } else { Err(Errno::AGAIN) }
}

impl EventQueue {
    /// The events, unless the process was forked since the queue was opened: then they are the parent's, and so is the descriptor.
    fn events(&self) -> Result<&Events> {
        if fork::generation() == self.events.generation { Ok(&self.events) } else { Err(Errno::OTHER) }
    }

    /// The oldest entry, when it is an error entry; removed unless only looked at. No error here has data of its own beyond its numbers.
    fn read_error(&self, peek: bool) -> Result<sys::fi_eq_err_entry> {
        let events = self.events()?;
        let mut queue = events.lock();
        let Some(Event::Error(failure)) = queue.front() else { return Err(Errno::AGAIN) };
        let entry = sys::fi_eq_err_entry {
            fid: core::ptr::with_exposed_provenance_mut(failure.object),
            context: core::ptr::with_exposed_provenance_mut(failure.context),
            data: failure.data,
            err: failure.errno.number(),
            prov_errno: failure.errno.number(),
            err_data: core::ptr::null_mut(),
            err_data_size: 0,
        };
        if !peek {
            events.pop(&mut queue);
        }
        Ok(entry)
    }
}

/// The queue behind the fid of a call through [`EQ_OPS`].
///
/// # Safety
/// `queue` is the fid of the call.
unsafe fn called<'a>(queue: *mut sys::fid_eq) -> &'a EventQueue {
    // SAFETY: libfabric calls the table of a queue with that queue.
    unsafe { fid::object::<EventQueue>(queue) }
}

/// `fi_close`: `-FI_EBUSY` while an object reports to the queue.
unsafe extern "C" fn close(queue: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: libfabric calls the table of a queue with that queue.
        let object = unsafe { called(queue.cast()) };
        if Arc::strong_count(&object.events) > 1 {
            return Errno::BUSY.negative();
        }
        // SAFETY: closing is exclusive, and nobody else holds the events.
        drop(unsafe { fid::reclaim::<EventQueue>(queue.cast()) });
        0
    })
}

/// `fi_control`: FI_GETWAIT and FI_GETWAITOBJ.
unsafe extern "C" fn control(queue: *mut sys::fid, command: c_int, arg: *mut c_void) -> c_int {
    entry(|| {
        // SAFETY: libfabric calls the table of a queue with that queue.
        let object = unsafe { called(queue.cast()) };
        to_c(match fid::command(command) {
            sys::FI_GETWAITOBJ => {
                // SAFETY: the argument is of the type that the command names.
                unsafe { cptr::give(arg.cast::<sys::fi_wait_obj>(), object.wait_object) };
                Ok(())
            }
            // SAFETY: the argument is of the type that the command names.
            sys::FI_GETWAIT => unsafe { give_descriptor(object, arg) },
            _ => Err(Errno::NOSYS),
        })
    })
}

/// # Safety
/// `arg` is null, or what FI_GETWAIT takes for the queue's wait object.
unsafe fn give_descriptor(object: &EventQueue, arg: *mut c_void) -> Result {
    let descriptor: RawFd = object.events()?.wait.as_ref().ok_or(Errno::NODATA)?.set.fd();
    if arg.is_null() {
        return Err(Errno::INVAL);
    }
    match object.wait_object {
        sys::FI_WAIT_FD => {
            // SAFETY: not null, and the caller promises the rest.
            unsafe { cptr::give(arg.cast::<c_int>(), descriptor) };
            Ok(())
        }
        // SAFETY: not null, and the caller promises the rest.
        sys::FI_WAIT_POLLFD => unsafe { cq::give_pollfd(arg.cast(), descriptor) },
        _ => Err(Errno::NODATA),
    }
}

/// The application's buffer.
///
/// # Safety
/// `buffer` is null or valid for writing `length` bytes, and nobody else touches it during the call.
unsafe fn writable<'a>(buffer: *mut c_void, length: usize) -> Result<&'a mut [u8]> {
    if length == 0 {
        return Ok(&mut []);
    }
    if buffer.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, and the caller promises the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) })
}

/// Whether to look only; other flags are not known.
fn is_peek(flags: u64) -> Result<bool> {
    if flags & !sys::FI_PEEK != 0 { Err(Errno::BADFLAGS) } else { Ok(flags & sys::FI_PEEK != 0) }
}

/// `fi_eq_read`: the length of the event, `-FI_EAGAIN`, `-FI_EAVAIL` before an error entry, `-FI_ETOOSMALL`.
unsafe extern "C" fn read(
    queue: *mut sys::fid_eq,
    number: *mut u32,
    buffer: *mut c_void,
    length: usize,
    flags: u64,
) -> isize {
    // SAFETY: the application's arguments are passed on as they are.
    unsafe { read_with(queue, number, buffer, length, flags, Events::read) }
}

/// `fi_eq_sread`: as `fi_eq_read`, and waits; negative is forever.
unsafe extern "C" fn sread(
    queue: *mut sys::fid_eq,
    number: *mut u32,
    buffer: *mut c_void,
    length: usize,
    timeout_ms: c_int,
    flags: u64,
) -> isize {
    let wait = |events: &Events, buffer: &mut [u8], peek| events.read_within(buffer, peek, timeout_ms);
    // SAFETY: the application's arguments are passed on as they are.
    unsafe { read_with(queue, number, buffer, length, flags, wait) }
}

/// # Safety
/// The arguments are those of a call to read the queue.
unsafe fn read_with(
    queue: *mut sys::fid_eq,
    number: *mut u32,
    buffer: *mut c_void,
    length: usize,
    flags: u64,
    reader: impl FnOnce(&Events, &mut [u8], bool) -> Result<(u32, usize)>,
) -> isize {
    entry(|| {
        // SAFETY: the fid of the call.
        let events = unsafe { called(queue) }.events();
        // SAFETY: the application's buffer.
        let buffer = unsafe { writable(buffer, length) };
        let outcome = events.and_then(|events| reader(events, buffer?, is_peek(flags)?));
        to_c_size(outcome.map(|(event, length)| {
            // SAFETY: the application's place for the number.
            unsafe { cptr::give(number, event) };
            length
        }))
    })
}

/// `fi_eq_readerr`: the length of the entry, or `-FI_EAGAIN` when the oldest entry is no error.
unsafe extern "C" fn readerr(
    queue: *mut sys::fid_eq,
    buffer: *mut sys::fi_eq_err_entry,
    flags: u64,
) -> isize {
    entry(|| {
        // SAFETY: the fid of the call.
        let object = unsafe { called(queue) };
        if buffer.is_null() {
            return to_c_size(Err(Errno::INVAL));
        }
        let outcome = is_peek(flags).and_then(|peek| object.read_error(peek));
        to_c_size(outcome.map(|mut entry| {
            let is_old = object.api_version < sys::fi_version(1, 5);
            let length = if is_old { ERROR_LENGTH_1_0 } else { size_of::<sys::fi_eq_err_entry>() };
            if !is_old {
                // The application's own buffer stays: no data comes with our errors.
                // SAFETY: not null, and complete in this version.
                entry.err_data = unsafe { (*buffer).err_data };
            }
            let bytes = core::ptr::from_ref(&entry).cast::<u8>();
            // SAFETY: not null, and of this length in the version the application was written for.
            unsafe { core::ptr::copy_nonoverlapping(bytes, buffer.cast::<u8>(), length) };
            length
        }))
    })
}

/// `fi_eq_write`: the length written. The application's events need no descriptor and no particular form.
unsafe extern "C" fn write(
    queue: *mut sys::fid_eq,
    number: u32,
    buffer: *const c_void,
    length: usize,
    flags: u64,
) -> isize {
    entry(|| {
        // SAFETY: the fid of the call.
        let events = unsafe { called(queue) }.events();
        // SAFETY: the application's buffer.
        let entry = unsafe { cptr::array(buffer.cast::<u8>(), length.min(EVENT_MAX)) };
        to_c_size(events.and_then(|events| {
            if flags != 0 {
                return Err(Errno::BADFLAGS);
            }
            if length > EVENT_MAX {
                return Err(Errno::INVAL);
            }
            events.write(number, entry?)
        }))
    })
}

/// The words of an error number: those of libfabric's own are here, the system has the others.
fn text(number: c_int) -> &'static CStr {
    match number {
        sys::FI_EOTHER => c"unspecified error",
        sys::FI_ETOOSMALL => c"the buffer is too small",
        sys::FI_EOPBADSTATE => c"not permitted in this state",
        sys::FI_EAVAIL => c"an error is to be read first",
        sys::FI_EBADFLAGS => c"flags not supported",
        sys::FI_ENOEQ => c"no event queue is bound",
        sys::FI_ENOAV => c"no address vector is bound",
        _ => {
            // SAFETY: takes any number.
            let words = unsafe { libc::strerror(number) };
            if words.is_null() {
                return c"unknown error";
            }
            // SAFETY: a C string of the C library's: constant for known numbers, else this thread's until its next call.
            unsafe { CStr::from_ptr(words) }
        }
    }
}

/// `fi_eq_strerror`: into the buffer, when there is one, and as the result.
unsafe extern "C" fn strerror(
    _queue: *mut sys::fid_eq,
    number: c_int,
    _detail: *const c_void,
    buffer: *mut c_char,
    length: usize,
) -> *const c_char {
    entry(|| {
        let text = text(number);
        // SAFETY: the application's buffer of this length.
        unsafe { cptr::give_text(text.to_bytes(), buffer, length) };
        if buffer.is_null() || length == 0 { text.as_ptr() } else { buffer.cast_const() }
    })
}

#[cfg(test)]
mod tests;
