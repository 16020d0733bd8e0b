//! Completion queues: formats, reading, error entries, waiting.
//!
//! Responsible for the bytes that completions become in the application's memory, and for when reading makes progress. The format is a type chosen when the
//! queue is opened. Must never complete anything itself.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::Arc;

use rdgram_engine::{Completion, CqId, Failure, FailurePending, FiAddr};
use rdgram_host::wait::WaitSet;
use rdgram_sync::{Latch, Serialize};
use rdgram_sys as sys;

use crate::domain::{CONTROL_TRYWAIT, Domain, Shared, State};
use crate::errno::{Errno, Result, cause_text, provider_number, to_c, to_c_size};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::wait::{Patience, Target, WaitKey, block_until};
use crate::{cptr, flags, stubs};

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
    wait: Option<Wait>,
    /// Some endpoint bound to it reports who sent a message (FI_SOURCE).
    source: Latch,
    /// Held by each endpoint bound to it.
    users: Arc<()>,
}

/// A wait object: what was asked for, and its descriptor.
struct Wait {
    object: sys::fi_wait_obj,
    key: WaitKey,
    set: Arc<WaitSet>,
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

    fn wait(&self) -> Result<&Wait> {
        self.wait.as_ref().ok_or(Errno::NOSYS)
    }
}

/// A format of entries.
trait Format: 'static {
    /// The C struct.
    type Entry;
    /// One entry.
    fn entry(completion: &Completion) -> Self::Entry;
}

/// A number as the pointer it came as.
fn pointer(address: usize) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(address)
}

struct Context;
impl Format for Context {
    type Entry = sys::fi_cq_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_entry { op_context: pointer(completion.context) }
    }
}

struct Msg;
impl Format for Msg {
    type Entry = sys::fi_cq_msg_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_msg_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
        }
    }
}

struct Data;
impl Format for Data {
    type Entry = sys::fi_cq_data_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_data_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
        }
    }
}

struct Tagged;
impl Format for Tagged {
    type Entry = sys::fi_cq_tagged_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_tagged_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
            tag: completion.tag,
        }
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
            readerr: Some(readerr::<S>),
            sread: Some(sread::<S, F>),
            sreadfrom: Some(sreadfrom::<S, F>),
            signal: Some(signal::<S>),
            strerror: Some(strerror),
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
            let (id, wait) = shared.with(|state| make(state, &attributes))?;
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
                wait,
                source: Latch::new(),
                users: Arc::new(()),
            };
            // SAFETY: libfabric's caller gives a place.
            unsafe { cptr::give(cq, fid::publish(Box::new(queue))) };
            Ok(())
        }))
    })
}

fn make(state: &mut State, attributes: &Attributes) -> Result<(CqId, Option<Wait>)> {
    let id = state.engine.cq_open(attributes.size);
    if attributes.wait == sys::FI_WAIT_NONE {
        return Ok((id, None));
    }
    match state.waits.open(Target::Cq(id)) {
        Ok((key, set)) => Ok((id, Some(Wait { object: attributes.wait, key, set }))),
        Err(error) => {
            // Nobody is bound to it yet.
            let _unused = state.engine.cq_close(id);
            Err(Errno::from_os(&error))
        }
    }
}

/// `fi_close` of a queue: refused while an endpoint is bound to it.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(fid.cast()) };
        // In a forked child only memory is freed; what holds on to it there is never asked.
        if !cq.shared.is_inherited() {
            if Arc::strong_count(&cq.users) > 1 {
                return Errno::BUSY.negative();
            }
            let closed = cq.shared.with(|state| {
                state.engine.cq_close(cq.id).map_err(|_| Errno::BUSY)?;
                if let Some(wait) = &cq.wait {
                    state.waits.close(wait.key);
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
        let wait = cq.wait.as_ref().map(|wait| (wait.object, wait.key, &*wait.set));
        to_c(match fid::command(command) {
            TRYWAIT => try_wait(&cq.shared, wait, |state| !state.engine.cq_is_empty(cq.id)),
            // SAFETY: the argument is of the type that the command names.
            command => unsafe { wait_control(&cq.shared, wait, command, arg) },
        })
    })
}

#[allow(clippy::cast_sign_loss, reason = "a positive constant")]
pub(crate) const TRYWAIT: u32 = CONTROL_TRYWAIT as u32;

/// `fi_trywait` for a queue or a counter.
pub(crate) fn try_wait<S: Serialize>(
    shared: &Shared<S>,
    wait: Option<(sys::fi_wait_obj, WaitKey, &WaitSet)>,
    pending: impl Fn(&State) -> bool,
) -> Result {
    let (_, key, _) = wait.ok_or(Errno::INVAL)?;
    let may_block = shared.with(|state| Ok(state.try_wait(key, pending)))?;
    if may_block { Ok(()) } else { Err(Errno::AGAIN) }
}

/// The commands of `fi_control` that concern a wait object.
///
/// # Safety
/// `arg` is what libfabric documents for the command.
pub(crate) unsafe fn wait_control<S: Serialize>(
    shared: &Shared<S>,
    wait: Option<(sys::fi_wait_obj, WaitKey, &WaitSet)>,
    command: u32,
    arg: *mut c_void,
) -> Result {
    match command {
        sys::FI_GETWAITOBJ => {
            let object = wait.map_or(sys::FI_WAIT_NONE, |(object, ..)| object);
            // SAFETY: the caller promises it.
            unsafe { cptr::give(arg.cast::<sys::fi_wait_obj>(), object) };
            Ok(())
        }
        sys::FI_GETWAIT => {
            let (object, key, set) = wait.ok_or(Errno::NODATA)?;
            let descriptor = set.fd();
            match object {
                sys::FI_WAIT_FD => {
                    // SAFETY: the caller promises it.
                    unsafe { cptr::give(arg.cast::<c_int>(), descriptor) };
                }
                // SAFETY: the caller promises it.
                sys::FI_WAIT_POLLFD => unsafe { give_pollfd(arg.cast(), descriptor) }?,
                _ => return Err(Errno::NODATA),
            }
            shared.with(|state| {
                state.waits.export(key);
                Ok(())
            })
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

/// Where a read puts what it finds.
struct Output<F: Format> {
    entries: *mut F::Entry,
    sources: *mut sys::fi_addr_t,
    count: usize,
    filled: usize,
    /// Sources are known to this queue.
    source: bool,
}

impl<F: Format> Output<F> {
    /// Moves entries from the queue until there is no more, no room, or an error entry.
    ///
    /// # Safety
    /// `entries` has room for `count` entries, `sources` too unless it is null.
    #[inline]
    unsafe fn fill(&mut self, state: &mut State, cq: CqId) -> core::result::Result<(), FailurePending> {
        while self.filled < self.count {
            let Some(completion) = state.engine.cq_pop(cq)? else { break };
            // SAFETY: `filled < count`.
            let entry = unsafe { self.entries.add(self.filled) };
            // SAFETY: within the application's array.
            unsafe { entry.write(F::entry(&completion)) };
            if !self.sources.is_null() {
                let source = if self.source { completion.source } else { FiAddr::UNSPEC };
                // SAFETY: `filled < count`.
                let place = unsafe { self.sources.add(self.filled) };
                // SAFETY: within the application's array.
                unsafe { place.write(source.0) };
            }
            self.filled += 1;
        }
        Ok(())
    }

    /// What a read returns, when it returns at all: `None` while there is nothing.
    fn outcome(&self, fill: core::result::Result<(), FailurePending>) -> Result<Option<usize>> {
        match fill {
            _ if self.filled > 0 => Ok(Some(self.filled)),
            Err(FailurePending) => Err(Errno::AVAIL),
            Ok(()) => Ok(None),
        }
    }
}

/// One look at the queue: with progress, unless there is something and progress was made recently.
///
/// # Safety
/// As for [`Output::fill`].
#[inline]
unsafe fn read_now<F: Format>(state: &mut State, cq: CqId, output: &mut Output<F>) -> Result<Option<usize>> {
    // SAFETY: the caller promises it.
    let mut fill = unsafe { output.fill(state, cq) };
    let done = output.filled > 0 || fill.is_err();
    if !(done && state.may_skip_progress()) {
        state.progress();
        if fill.is_ok() {
            // SAFETY: the caller promises it.
            fill = unsafe { output.fill(state, cq) };
        }
    }
    if output.count == 0 && fill.is_ok() && !state.engine.cq_is_empty(cq) {
        return Ok(Some(0));
    }
    output.outcome(fill)
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
        let mut output = Output::<F> {
            entries: buf.cast(),
            sources: src_addr,
            count: if buf.is_null() { 0 } else { count },
            filled: 0,
            source: !src_addr.is_null() && cq.source.is_set(),
        };
        // SAFETY: the application's arrays have room for `count`.
        let read = cq.shared.with(|state| unsafe { read_now(state, cq.id, &mut output) });
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
        let mut output = Output::<F> {
            entries: buf.cast(),
            sources: src_addr,
            count: if buf.is_null() { 0 } else { count },
            filled: 0,
            source: !src_addr.is_null() && cq.source.is_set(),
        };
        to_c_size(cq.wait().and_then(|wait| {
            let patience = Patience::new(timeout);
            let read = block_until(&cq.shared, wait.key, &wait.set, patience, |state| {
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
        to_c(cq.wait().and_then(|wait| {
            cq.shared.with(|state| {
                state.waits.signal(wait.key);
                Ok(())
            })
        }))
    })
}

/// Bytes of `fi_cq_err_entry` that an application of this version has: it grew twice.
fn error_entry_size(api_version: u32) -> usize {
    const WITH_SIZE: u32 = sys::fi_version(1, 5);
    const WITH_SOURCE: u32 = sys::fi_version(1, 20);
    match api_version {
        ..WITH_SIZE => core::mem::offset_of!(sys::fi_cq_err_entry, err_data_size),
        WITH_SIZE..WITH_SOURCE => size_of::<sys::fi_cq_err_entry>(),
        WITH_SOURCE.. => size_of::<sys::abi::CqErrEntry>(),
    }
}

fn error_entry(failure: &Failure) -> sys::abi::CqErrEntry {
    let completion = &failure.completion;
    sys::abi::CqErrEntry {
        base: sys::fi_cq_err_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
            tag: completion.tag,
            olen: failure.overflow,
            err: Errno::from(failure.cause).number(),
            prov_errno: provider_number(failure.cause),
            err_data: core::ptr::null_mut(),
            err_data_size: 0,
        },
        src_addr: completion.source.0,
    }
}

unsafe extern "C" fn readerr<S: Serialize>(
    cq: *mut sys::fid_cq,
    buf: *mut sys::fi_cq_err_entry,
    _flags: u64,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cq = unsafe { fid::object::<Cq<S>>(cq) };
        if buf.is_null() {
            return to_c_size(Err(Errno::INVAL));
        }
        let failure = cq.shared.with(|state| {
            if let Some(failure) = state.engine.cq_pop_failure(cq.id) {
                return Ok(failure);
            }
            state.progress();
            state.engine.cq_pop_failure(cq.id).ok_or(Errno::AGAIN)
        });
        to_c_size(failure.map(|failure| {
            // SAFETY: the application's struct has at least this size in the version it was built for, and so does ours.
            unsafe { give_error_entry(buf, &error_entry(&failure), error_entry_size(cq.shared.api_version)) };
            1
        }))
    })
}

/// Writes as much of an error entry as the application has. Its own `err_data` buffer stays: no data comes with our errors.
///
/// # Safety
/// `buf` is valid for reads and writes of `size` bytes.
unsafe fn give_error_entry(buf: *mut sys::fi_cq_err_entry, entry: &sys::abi::CqErrEntry, size: usize) {
    const DATA: usize = core::mem::offset_of!(sys::fi_cq_err_entry, err_data);
    const REST: usize = DATA + size_of::<*mut c_void>();
    let from = core::ptr::from_ref(entry).cast::<u8>();
    let to = buf.cast::<u8>();
    // SAFETY: both are at least this long (72 bytes is the smallest), and distinct.
    unsafe { core::ptr::copy_nonoverlapping(from, to, DATA) };
    // SAFETY: as above: `REST <= size`.
    unsafe { core::ptr::copy_nonoverlapping(from.wrapping_add(REST), to.wrapping_add(REST), size - REST) };
}

/// `fi_cq_strerror`. The text is static; the application's buffer gets a copy.
unsafe extern "C" fn strerror(
    _cq: *mut sys::fid_cq,
    prov_errno: c_int,
    _err_data: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> *const c_char {
    entry(|| {
        let text: &'static CStr = cause_text(prov_errno);
        // SAFETY: the application's buffer of the length it says, or null.
        unsafe { cptr::give_text(text.to_bytes(), buf, len) };
        text.as_ptr()
    })
}

#[cfg(test)]
mod tests {
    use rdgram_engine::{Cause, CompletionFlags};

    use super::*;

    const COMPLETION: Completion = Completion {
        context: 0x1000,
        flags: CompletionFlags::RECV.union(CompletionFlags::TAGGED),
        length: 17,
        buffer: 0x2000,
        data: 3,
        tag: 4,
        source: FiAddr(5),
    };

    #[test]
    fn formats_are_of_the_documented_sizes_and_hold_the_same() {
        assert_eq!(size_of::<<Context as Format>::Entry>(), 8);
        assert_eq!(size_of::<<Msg as Format>::Entry>(), 24);
        assert_eq!(size_of::<<Data as Format>::Entry>(), 40);
        assert_eq!(size_of::<<Tagged as Format>::Entry>(), 48);
        let tagged = Tagged::entry(&COMPLETION);
        assert_eq!(tagged.op_context.addr(), Context::entry(&COMPLETION).op_context.addr());
        assert_eq!(
            (tagged.flags, tagged.len, tagged.data, tagged.tag),
            (sys::FI_RECV | sys::FI_TAGGED, 17, 3, 4)
        );
        assert_eq!(tagged.buf.addr(), 0x2000);
    }

    #[test]
    fn error_entries_end_where_the_application_s_do() {
        assert_eq!(error_entry_size(0), 72);
        assert_eq!(error_entry_size(sys::fi_version(1, 4)), 72);
        assert_eq!(error_entry_size(sys::fi_version(1, 5)), 80);
        assert_eq!(error_entry_size(sys::fi_version(1, 20)), 88);
        assert_eq!(error_entry_size(sys::fi_version(2, 5)), 88);

        let failure = Failure { completion: COMPLETION, overflow: 9, cause: Cause::Truncated };
        for size in [72, 80, 88] {
            let mut memory = [0x5A_u8; 96].map(u64::from).map(|byte| byte * 0x0101_0101_0101_0101);
            // SAFETY: more than `size` bytes.
            unsafe { give_error_entry(memory.as_mut_ptr().cast(), &error_entry(&failure), size) };
            let words = size / 8;
            assert_eq!((memory[0], memory[2], memory[6]), (0x1000, 17, 9));
            assert_eq!(memory[8], 0x5A5A_5A5A_5A5A_5A5A, "err_data is the application's");
            assert!(memory[words..].iter().all(|&word| word == 0x5A5A_5A5A_5A5A_5A5A), "beyond {size}");
        }
    }

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

    #[test]
    fn strerror_fills_the_buffer_and_returns_a_text() {
        let mut buffer = [b'x' as c_char; 16];
        // SAFETY: a buffer of the length given; the queue is not looked at.
        let text = unsafe {
            strerror(core::ptr::null_mut(), 1, core::ptr::null(), buffer.as_mut_ptr(), buffer.len())
        };
        // SAFETY: a static text.
        assert_eq!(unsafe { CStr::from_ptr(text) }, cause_text(1));
        assert_eq!(buffer[15], 0);
        // SAFETY: null is allowed.
        let unknown =
            unsafe { strerror(core::ptr::null_mut(), 99, core::ptr::null(), core::ptr::null_mut(), 0) };
        assert!(!unknown.is_null());
    }
}
