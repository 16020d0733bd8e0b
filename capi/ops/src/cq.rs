//! Completion queues: opening, reading, waiting; formats are in `format`, error entries in `error`.
//!
//! Responsible for the bytes that completions become in the application's memory, and for when reading makes progress. The format is a type chosen when the
//! queue is opened. Must never complete anything itself.

mod error;
mod format;

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use rdgram_engine::CqId;
use rdgram_sync::{Latch, Serialize};
use rdgram_sys as sys;

use crate::address::Encoded;
use crate::domain::{CONTROL_TRYWAIT, Domain, Shared, State};
use crate::errno::{Errno, Result, to_c, to_c_size};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::wait::{Descriptor, Patience, Target, WaitKey, block_until};
use crate::{cptr, stubs};
use format::{Context, Data, Format, Msg, Output, Tagged, read_now};

/// Entries that a queue holds without growing, when the application does not say.
const SIZE_DEFAULT: usize = 1024;
/// Entries that are set aside at once at most, whatever the application says; a queue grows beyond.
const SIZE_MAX: usize = 1 << 16;

/// `fid_cq`.
#[repr(C)]
pub(crate) struct Cq<S: Serialize> {
    child: Child<sys::fid_cq>,
    shared: Arc<Shared<S>>,
    id: CqId,
    /// The wait object that was asked for, if any.
    wait: Option<sys::fi_wait_obj>,
    descriptor: Descriptor,
    /// Some endpoint bound to it reports who sent a message (FI_SOURCE).
    source: Latch,
    /// The last sender that was reported for having no address (FI_SOURCE_ERR): an application without a buffer of its own reads it here.
    stranger: Mutex<Encoded>,
    /// Held by each endpoint bound to it.
    users: Arc<()>,
}

// SAFETY: `repr(C)`, and `Child<fid_cq>` is the first field.
unsafe impl<S: Serialize> Object for Cq<S> {
    type Fid = sys::fid_cq;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_CQ);
}

impl<S: Serialize> Cq<S> {
    /// The engine's name of it.
    pub(crate) fn id(&self) -> CqId {
        self.id
    }

    /// Kept by an endpoint as long as it is bound.
    pub(crate) fn hold(&self) -> Arc<()> {
        Arc::clone(&self.users)
    }

    /// An endpoint with FI_SOURCE was bound.
    pub(crate) fn report_source(&self) {
        self.source.set();
    }

    /// Refuses blocking calls on a queue that was opened without a wait object.
    fn must_wait(&self) -> Result {
        if self.wait.is_some() { Ok(()) } else { Err(Errno::NOSYS) }
    }
}

/// The tables of a queue, for one flavour of lock and one format.
struct Tables<S, F>(PhantomData<(S, F)>);

impl<S: Serialize, F: Format> Tables<S, F> {
    const FID: &'static sys::fi_ops =
        &sys::fi_ops { close: Some(close::<S>), control: Some(control::<S>), ..stubs::FID };
    const CQ: &'static sys::abi::OpsCq = &sys::abi::OpsCq {
        base: sys::fi_ops_cq {
            size: size_of::<sys::abi::OpsCq>(),
            read: Some(read::<S, F>),
            readfrom: Some(readfrom::<S, F>),
            readerr: Some(error::readerr::<S>),
            sread: Some(sread::<S, F>),
            sreadfrom: Some(sreadfrom::<S, F>),
            signal: Some(signal::<S>),
            strerror: Some(error::strerror),
        },
        export_xpu: Some(stubs::refused),
    };

    fn face(context: *mut c_void) -> sys::fid_cq {
        sys::fid_cq { fid: fid::head(Cq::<S>::CLASS, context, Self::FID), ops: fid::table(&Self::CQ.base) }
    }
}

/// What of `fi_cq_attr` decides how a queue is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attributes {
    size: usize,
    format: sys::fi_cq_format,
    wait: sys::fi_wait_obj,
}

impl Attributes {
    fn read(attr: Option<&sys::fi_cq_attr>) -> Result<Self> {
        let Some(attr) = attr else {
            return Ok(Self {
                size: SIZE_DEFAULT,
                format: sys::FI_CQ_FORMAT_CONTEXT,
                wait: sys::FI_WAIT_NONE,
            });
        };
        if attr.flags & !sys::FI_AFFINITY != 0 {
            return Err(Errno::INVAL);
        }
        let format = match attr.format {
            sys::FI_CQ_FORMAT_UNSPEC => sys::FI_CQ_FORMAT_CONTEXT,
            known @ sys::FI_CQ_FORMAT_CONTEXT..=sys::FI_CQ_FORMAT_TAGGED => known,
            _ => return Err(Errno::INVAL),
        };
        let size = if attr.size == 0 { SIZE_DEFAULT } else { attr.size.min(SIZE_MAX) };
        Ok(Self { size, format, wait: wait_object(attr.wait_obj)? })
    }
}

/// The wait objects that exist here: none, or a descriptor (FI_WAIT_YIELD blocks on one too).
pub(crate) fn wait_object(object: sys::fi_wait_obj) -> Result<sys::fi_wait_obj> {
    match object {
        sys::FI_WAIT_NONE | sys::FI_WAIT_FD | sys::FI_WAIT_POLLFD | sys::FI_WAIT_YIELD => Ok(object),
        sys::FI_WAIT_UNSPEC => Ok(sys::FI_WAIT_FD),
        sys::FI_WAIT_SET => Err(Errno::NOSYS),
        _ => Err(Errno::INVAL),
    }
}

/// `fi_cq_open`.
pub(crate) unsafe extern "C" fn open<S: Serialize>(
    domain: *mut sys::fid_domain,
    attr: *mut sys::fi_cq_attr,
    cq: *mut *mut sys::fid_cq,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(domain) };
        // SAFETY: libfabric's caller gives a struct or nothing.
        let attributes = Attributes::read(unsafe { cptr::optional(attr.cast_const()) });
        to_c(attributes.and_then(|attributes| {
            let shared = domain.shared();
            let id = shared.with(|state| Ok(state.engine.cq_open(attributes.size)))?;
            let face = match attributes.format {
                sys::FI_CQ_FORMAT_MSG => Tables::<S, Msg>::face(context),
                sys::FI_CQ_FORMAT_DATA => Tables::<S, Data>::face(context),
                sys::FI_CQ_FORMAT_TAGGED => Tables::<S, Tagged>::face(context),
                _ => Tables::<S, Context>::face(context),
            };
            let queue = Cq {
                child: Child::new(face, shared),
                shared: Arc::clone(shared),
                id,
                wait: (attributes.wait != sys::FI_WAIT_NONE).then_some(attributes.wait),
                descriptor: Descriptor::default(),
                source: Latch::new(),
                stranger: Mutex::default(),
                users: Arc::new(()),
            };
            // SAFETY: libfabric's caller gives a place.
            unsafe { cptr::give(cq, fid::publish(Box::new(queue))) };
            Ok(())
        }))
    })
}

/// `fi_close` of a queue: refused while an endpoint is bound to it.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(fid.cast()) };
        // In a forked child, and after a panic, only memory is freed; what holds on to it there is never asked.
        if cq.shared.is_usable() {
            if Arc::strong_count(&cq.users) > 1 {
                return Errno::BUSY.negative();
            }
            let closed = cq.shared.with(|state| {
                state.engine.cq_close(cq.id).map_err(|_| Errno::BUSY)?;
                state.waits.close_cq(cq.id);
                if let Some(key) = cq.descriptor.key() {
                    state.waits.close(key);
                }
                Ok(())
            });
            if closed == Err(Errno::BUSY) {
                return Errno::BUSY.negative();
            }
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Cq<S>>(fid.cast()) });
        0
    })
}

/// `fi_control`: FI_GETWAIT, FI_GETWAITOBJ and our own.
unsafe extern "C" fn control<S: Serialize>(fid: *mut sys::fid, command: c_int, arg: *mut c_void) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(fid.cast()) };
        to_c(match fid::command(command) {
            TRYWAIT => try_wait(&cq.shared, cq.wait, &cq.descriptor, Target::Cq(cq.id), |state, _| {
                !state.engine.cq_is_empty(cq.id)
            }),
            command => {
                let target = Target::Cq(cq.id);
                // SAFETY: the argument is of the type that the command names.
                unsafe { wait_control(&cq.shared, cq.wait, &cq.descriptor, target, command, arg) }
            }
        })
    })
}

#[allow(clippy::cast_sign_loss, reason = "a positive constant")]
pub(crate) const TRYWAIT: u32 = CONTROL_TRYWAIT as u32;

/// `fi_trywait` for a queue or a counter.
pub(crate) fn try_wait<S: Serialize>(
    shared: &Shared<S>,
    object: Option<sys::fi_wait_obj>,
    descriptor: &Descriptor,
    target: Target,
    pending: impl Fn(&State, WaitKey) -> bool,
) -> Result {
    object.ok_or(Errno::INVAL)?;
    let (key, _) = descriptor.get(shared, target)?;
    let may_block = shared.with(|state| Ok(state.try_wait(key, |state| pending(state, key))))?;
    if may_block { Ok(()) } else { Err(Errno::AGAIN) }
}

/// The commands of `fi_control` that concern a wait object.
///
/// # Safety
/// `arg` is what libfabric documents for the command.
pub(crate) unsafe fn wait_control<S: Serialize>(
    shared: &Shared<S>,
    object: Option<sys::fi_wait_obj>,
    descriptor: &Descriptor,
    target: Target,
    command: u32,
    arg: *mut c_void,
) -> Result {
    match command {
        sys::FI_GETWAITOBJ => {
            let object = object.unwrap_or(sys::FI_WAIT_NONE);
            // SAFETY: the caller promises it.
            unsafe { cptr::give(arg.cast::<sys::fi_wait_obj>(), object) };
            Ok(())
        }
        sys::FI_GETWAIT => {
            let object = object.ok_or(Errno::NODATA)?;
            let (_, descriptor) = descriptor.get(shared, target)?;
            match object {
                sys::FI_WAIT_FD => {
                    // SAFETY: the caller promises it.
                    unsafe { cptr::give(arg.cast::<c_int>(), descriptor) };
                }
                // SAFETY: the caller promises it.
                sys::FI_WAIT_POLLFD => unsafe { give_pollfd(arg.cast(), descriptor) }?,
                _ => return Err(Errno::NODATA),
            }
            Ok(())
        }
        _ => Err(Errno::NOSYS),
    }
}

/// Fills `fi_wait_pollfd`: one descriptor that never changes.
///
/// # Safety
/// `arg` is null or a struct whose `fd` has room for `nfds` entries.
pub(crate) unsafe fn give_pollfd(arg: *mut sys::fi_wait_pollfd, descriptor: RawFd) -> Result {
    // SAFETY: the caller promises it.
    let mut wanted = *unsafe { cptr::required(arg.cast_const()) }?;
    let room = wanted.nfds;
    wanted.nfds = 1;
    wanted.change_index = 1;
    // SAFETY: not null, as `required` saw.
    unsafe { arg.write(wanted) };
    if room < 1 {
        return Err(Errno::TOOSMALL);
    }
    // SAFETY: room for at least one.
    unsafe { cptr::give(wanted.fd, libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 }) };
    Ok(())
}

unsafe extern "C" fn read<S: Serialize, F: Format>(
    cq: *mut sys::fid_cq,
    buf: *mut c_void,
    count: usize,
) -> isize {
    // SAFETY: the same promises.
    unsafe { readfrom::<S, F>(cq, buf, count, core::ptr::null_mut()) }
}

unsafe extern "C" fn readfrom<S: Serialize, F: Format>(
    cq: *mut sys::fid_cq,
    buf: *mut c_void,
    count: usize,
    src_addr: *mut sys::fi_addr_t,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(cq) };
        let mut output = Output::<F>::new(buf, count, src_addr, cq.source.is_set());
        let mut nap = None;
        let read = cq.shared.with(|state| {
            // SAFETY: the application's arrays have room for `count`.
            let read = unsafe { read_now(state, cq.id, &mut output) };
            match read {
                Ok(None) => nap = state.idle(),
                _ => state.idle.end(),
            }
            read
        });
        if let Some(nap) = nap {
            nap.take();
        }
        to_c_size(read.and_then(|count| count.ok_or(Errno::AGAIN)))
    })
}

unsafe extern "C" fn sread<S: Serialize, F: Format>(
    cq: *mut sys::fid_cq,
    buf: *mut c_void,
    count: usize,
    cond: *const c_void,
    timeout: c_int,
) -> isize {
    // SAFETY: the same promises.
    unsafe { sreadfrom::<S, F>(cq, buf, count, core::ptr::null_mut(), cond, timeout) }
}

/// `fi_cq_sread`: FI_CQ_COND_THRESHOLD is a hint (`fi_cq(3)`), and one entry is enough for us.
unsafe extern "C" fn sreadfrom<S: Serialize, F: Format>(
    cq: *mut sys::fid_cq,
    buf: *mut c_void,
    count: usize,
    src_addr: *mut sys::fi_addr_t,
    _cond: *const c_void,
    timeout: c_int,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(cq) };
        let mut output = Output::<F>::new(buf, count, src_addr, cq.source.is_set());
        to_c_size(cq.must_wait().and_then(|()| {
            let patience = Patience::new(timeout);
            let read = block_until(&cq.shared, Target::Cq(cq.id), patience, |state| {
                // SAFETY: the application's arrays have room for `count`.
                let fill = unsafe { output.fill(state, cq.id) };
                output.outcome(fill)
            })?;
            read.ok_or(Errno::AGAIN)
        }))
    })
}

unsafe extern "C" fn signal<S: Serialize>(cq: *mut sys::fid_cq) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(cq) };
        to_c(cq.must_wait().and_then(|()| {
            cq.shared.with(|state| {
                state.waits.signal(cq.id);
                Ok(())
            })
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_checked() {
        let good = sys::fi_cq_attr {
            size: 0,
            flags: 0,
            format: sys::FI_CQ_FORMAT_UNSPEC,
            wait_obj: sys::FI_WAIT_UNSPEC,
            signaling_vector: 0,
            wait_cond: sys::FI_CQ_COND_NONE,
            wait_set: core::ptr::null_mut(),
        };
        let read = Attributes::read(Some(&good));
        let expected =
            Attributes { size: SIZE_DEFAULT, format: sys::FI_CQ_FORMAT_CONTEXT, wait: sys::FI_WAIT_FD };
        assert_eq!(read, Ok(expected));
        assert_eq!(Attributes::read(Some(&sys::fi_cq_attr { flags: 1, ..good })), Err(Errno::INVAL));
        assert_eq!(Attributes::read(Some(&sys::fi_cq_attr { format: 9, ..good })), Err(Errno::INVAL));
        let condition = sys::fi_cq_attr { wait_obj: sys::FI_WAIT_MUTEX_COND, ..good };
        assert_eq!(Attributes::read(Some(&condition)), Err(Errno::INVAL));
        let huge = Attributes::read(Some(&sys::fi_cq_attr { size: usize::MAX, ..good }));
        assert_eq!(huge.map(|attributes| attributes.size), Ok(SIZE_MAX));
    }
}
