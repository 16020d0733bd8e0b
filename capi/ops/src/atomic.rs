//! `fi_atomic(3)`: the ten calls that compute at a peer, and the four that ask what can be computed.
//!
//! Responsible for the order of their arguments, for which operation goes with which call, and for turning them into one operation of the engine's. Must never compute anything.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;

use rdgram_engine::{
    ATOMIC_MAX, AtomicArgs, AtomicOp, Datatype, FiAddr, OpFlags, RemoteSlice, UserSlice, atomic_is_defined,
};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cptr::{self, Slices};
use crate::domain::State;
use crate::ep::{Ep, Kind};
use crate::errno::{Errno, Result, to_c};
use crate::fid;
use crate::flags;
use crate::guard::entry;
use crate::transfer::{How, enabled, finish, number};

/// The table, for one flavour of lock.
pub(crate) struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    pub(crate) const ATOMIC: &'static sys::fi_ops_atomic = &sys::fi_ops_atomic {
        size: size_of::<sys::fi_ops_atomic>(),
        write: Some(write::<S>),
        writev: Some(writev::<S>),
        writemsg: Some(writemsg::<S>),
        inject: Some(inject::<S>),
        readwrite: Some(readwrite::<S>),
        readwritev: Some(readwritev::<S>),
        readwritemsg: Some(readwritemsg::<S>),
        compwrite: Some(compwrite::<S>),
        compwritev: Some(compwritev::<S>),
        compwritemsg: Some(compwritemsg::<S>),
        writevalid: Some(writevalid),
        readwritevalid: Some(readwritevalid),
        compwritevalid: Some(compwritevalid),
    };
}

/// Which family of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `fi_atomic`: nothing comes back.
    Plain,
    /// `fi_fetch_atomic`: old values come back.
    Fetch,
    /// `fi_compare_atomic`: with comparands, and old values come back.
    Compare,
}

/// An operation that a family of calls has, on a datatype that it is defined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    operation: AtomicOp,
    datatype: Datatype,
}

impl Code {
    fn new(form: Form, datatype: sys::fi_datatype, op: sys::fi_op) -> Result<Self> {
        let operation = AtomicOp::from_number(op).ok_or(Errno::OPNOTSUPP)?;
        let datatype = Datatype::from_number(datatype).ok_or(Errno::OPNOTSUPP)?;
        let fits = match form {
            Form::Plain => !operation.compares() && operation != AtomicOp::Read,
            Form::Fetch => !operation.compares(),
            Form::Compare => operation.compares(),
        };
        if fits && atomic_is_defined(operation, datatype) {
            Ok(Self { operation, datatype })
        } else {
            Err(Errno::OPNOTSUPP)
        }
    }

    /// Most elements of one operation.
    fn count_max(self) -> usize {
        ATOMIC_MAX / self.datatype.size()
    }
}

/// The arguments of a call, but its pieces.
#[derive(Clone, Copy, Debug)]
struct Atomic {
    form: Form,
    how: How,
    target: sys::fi_addr_t,
    address: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
}

/// Elements of the application's memory, as the calls name them.
#[derive(Clone, Copy, Debug)]
struct Elements {
    vector: *const sys::fi_ioc,
    count: usize,
}

impl Elements {
    const NONE: Self = Self { vector: core::ptr::null(), count: 0 };

    fn vector(vector: *const sys::fi_ioc, count: usize) -> Self {
        Self { vector, count }
    }

    /// # Safety
    /// `vector` points to `count` entries; for each the promise of [`UserSlice::new`] with elements of this datatype.
    unsafe fn slices(self, datatype: Datatype) -> Result<Slices> {
        // SAFETY: the caller of this function promises it.
        unsafe { Slices::elements(self.vector, self.count, datatype.size()) }
    }
}

/// Operands, comparands and the place of old values.
#[derive(Clone, Copy, Debug)]
struct Local {
    operands: Elements,
    compare: Elements,
    result: Elements,
}

/// One element vector of one entry, for the calls that name a buffer.
fn ioc(buffer: *const c_void, count: usize) -> sys::fi_ioc {
    sys::fi_ioc { addr: buffer.cast_mut(), count }
}

/// Does what all the calls do. `elements`: how many the call says the target's side has; `None` for as many as are fetched or, when nothing is, given.
///
/// # Safety
/// `ep` is the fid of the call; the vectors and buffers are the application's promise of `fi_atomic(3)`.
#[inline]
unsafe fn call<S: Serialize>(
    ep: *mut sys::fid_ep,
    elements: Option<usize>,
    local: Local,
    atomic: Atomic,
) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        finish(Code::new(atomic.form, atomic.datatype, atomic.op).and_then(|code| {
            // A read takes no operands, and applications give anything for them.
            let operands = if code.operation == AtomicOp::Read { Elements::NONE } else { local.operands };
            // SAFETY: the caller of this function promises it.
            let operands = unsafe { operands.slices(code.datatype) }?;
            // SAFETY: as above.
            let compare = unsafe { local.compare.slices(code.datatype) }?;
            // SAFETY: as above.
            let result = unsafe { local.result.slices(code.datatype) }?;
            let bytes = match (elements, atomic.form) {
                (Some(elements), _) => elements.checked_mul(code.datatype.size()).ok_or(Errno::MSGSIZE)?,
                (None, Form::Plain) => cptr::total(operands.as_slice())?,
                // A fetching call may be without operands (FI_ATOMIC_READ).
                (None, Form::Fetch | Form::Compare) => cptr::total(result.as_slice())?,
            };
            let pieces = Pieces {
                operands: operands.as_slice(),
                compare: compare.as_slice(),
                result: (atomic.form != Form::Plain).then(|| result.as_slice()),
                bytes,
            };
            pieces.check(code)?;
            ep.shared().with(|state| submit(state, ep.slot(), code, &pieces, &atomic))
        }))
    })
}

/// The memory of an operation.
struct Pieces<'a> {
    operands: &'a [UserSlice],
    compare: &'a [UserSlice],
    result: Option<&'a [UserSlice]>,
    /// Bytes at the target.
    bytes: usize,
}

impl Pieces<'_> {
    /// Everything has as many elements as the target's side.
    fn check(&self, code: Code) -> Result {
        let is_whole = |slices: &[UserSlice]| cptr::total(slices).map(|bytes| bytes == self.bytes);
        let operands = code.operation == AtomicOp::Read || is_whole(self.operands)?;
        let compare = !code.operation.compares() || is_whole(self.compare)?;
        let result = self.result.map_or(Ok(true), is_whole)?;
        if !operands || !compare || !result || self.bytes == 0 {
            return Err(Errno::INVAL);
        }
        if self.bytes > ATOMIC_MAX { Err(Errno::MSGSIZE) } else { Ok(()) }
    }
}

#[inline]
fn submit(state: &mut State, slot: usize, code: Code, pieces: &Pieces<'_>, atomic: &Atomic) -> Result {
    let State { engine, endpoints, .. } = state;
    let (id, endpoint) = enabled(endpoints, slot)?;
    let limits = endpoint.limits(Kind::Atomic);
    let fetches = atomic.form != Form::Plain;
    let mut flags = match atomic.how {
        How::Call if fetches => endpoint.tx.call - OpFlags::INJECT,
        How::Call => endpoint.tx.call,
        How::Inject => OpFlags::INJECT | OpFlags::INJECT_COMPLETE,
        How::Msg(flags) if fetches => flags::read(flags, endpoint.tx.reporting)?,
        How::Msg(flags) => flags::atomic(flags, endpoint.tx.reporting)?,
    };
    let over = flags.contains(OpFlags::INJECT) && pieces.bytes > limits.inject;
    if pieces.bytes > limits.message || over {
        return Err(Errno::MSGSIZE);
    }
    flags = flags::with_target_level(flags);
    engine.atomic(
        id,
        &AtomicArgs {
            destination: FiAddr(atomic.target),
            operation: code.operation,
            datatype: code.datatype,
            operands: pieces.operands,
            compare: pieces.compare,
            result: pieces.result,
            remote: RemoteSlice { key: atomic.key, offset: atomic.address, length: pieces.bytes as u64 },
            context: number(atomic.context),
            flags,
        },
    )?;
    Ok(())
}

/// The calls with a struct. The target's side is one piece: an atomic is one packet, which names one place.
///
/// # Safety
/// As for [`call`]; `msg` is the application's struct, or null.
unsafe fn message<S: Serialize>(
    ep: *mut sys::fid_ep,
    form: Form,
    msg: *const sys::fi_msg_atomic,
    compare: Elements,
    result: Elements,
    flags: u64,
) -> isize {
    // SAFETY: the caller of this function promises it.
    let Some(msg) = (unsafe { cptr::optional(msg) }) else { return Errno::INVAL.negative() as isize };
    // SAFETY: as above.
    let Ok([remote]) = (unsafe { cptr::array(msg.rma_iov, msg.rma_iov_count) }) else {
        return Errno::INVAL.negative() as isize;
    };
    let atomic = Atomic {
        form,
        how: How::Msg(flags),
        target: msg.addr,
        address: remote.addr,
        key: remote.key,
        datatype: msg.datatype,
        op: msg.op,
        context: msg.context,
    };
    let local = Local { operands: Elements::vector(msg.msg_iov, msg.iov_count), compare, result };
    // SAFETY: as above.
    unsafe { call::<S>(ep, Some(remote.count), local, atomic) }
}

unsafe extern "C" fn write<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    count: usize,
    _desc: *mut c_void,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let operands = ioc(buf, count);
    let local =
        Local { operands: Elements::vector(&operands, 1), compare: Elements::NONE, result: Elements::NONE };
    let (form, how) = (Form::Plain, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn writev<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const sys::fi_ioc,
    _desc: *mut *mut c_void,
    count: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let operands = Elements::vector(iov, count);
    let local = Local { operands, compare: Elements::NONE, result: Elements::NONE };
    let (form, how) = (Form::Plain, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn writemsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_atomic,
    flags: u64,
) -> isize {
    // SAFETY: the arguments of the call.
    unsafe { message::<S>(ep, Form::Plain, msg, Elements::NONE, Elements::NONE, flags) }
}

unsafe extern "C" fn inject<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    count: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
) -> isize {
    let operands = ioc(buf, count);
    let local =
        Local { operands: Elements::vector(&operands, 1), compare: Elements::NONE, result: Elements::NONE };
    let context = core::ptr::null_mut();
    let (form, how) = (Form::Plain, How::Inject);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn readwrite<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    count: usize,
    _desc: *mut c_void,
    result: *mut c_void,
    _result_desc: *mut c_void,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let (operands, result) = (ioc(buf, count), ioc(result, count));
    let local = Local {
        operands: Elements::vector(&operands, 1),
        compare: Elements::NONE,
        result: Elements::vector(&result, 1),
    };
    let (form, how) = (Form::Fetch, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn readwritev<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const sys::fi_ioc,
    _desc: *mut *mut c_void,
    count: usize,
    resultv: *mut sys::fi_ioc,
    _result_desc: *mut *mut c_void,
    result_count: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let result = Elements::vector(resultv, result_count);
    let local = Local { operands: Elements::vector(iov, count), compare: Elements::NONE, result };
    let (form, how) = (Form::Fetch, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn readwritemsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_atomic,
    resultv: *mut sys::fi_ioc,
    _result_desc: *mut *mut c_void,
    result_count: usize,
    flags: u64,
) -> isize {
    let result = Elements::vector(resultv, result_count);
    // SAFETY: the arguments of the call.
    unsafe { message::<S>(ep, Form::Fetch, msg, Elements::NONE, result, flags) }
}

unsafe extern "C" fn compwrite<S: Serialize>(
    ep: *mut sys::fid_ep,
    buf: *const c_void,
    count: usize,
    _desc: *mut c_void,
    compare: *const c_void,
    _compare_desc: *mut c_void,
    result: *mut c_void,
    _result_desc: *mut c_void,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let (operands, compare, result) = (ioc(buf, count), ioc(compare, count), ioc(result, count));
    let local = Local {
        operands: Elements::vector(&operands, 1),
        compare: Elements::vector(&compare, 1),
        result: Elements::vector(&result, 1),
    };
    let (form, how) = (Form::Compare, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn compwritev<S: Serialize>(
    ep: *mut sys::fid_ep,
    iov: *const sys::fi_ioc,
    _desc: *mut *mut c_void,
    count: usize,
    comparev: *const sys::fi_ioc,
    _compare_desc: *mut *mut c_void,
    compare_count: usize,
    resultv: *mut sys::fi_ioc,
    _result_desc: *mut *mut c_void,
    result_count: usize,
    dest_addr: sys::fi_addr_t,
    addr: u64,
    key: u64,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    context: *mut c_void,
) -> isize {
    let local = Local {
        operands: Elements::vector(iov, count),
        compare: Elements::vector(comparev, compare_count),
        result: Elements::vector(resultv, result_count),
    };
    let (form, how) = (Form::Compare, How::Call);
    let atomic = Atomic { form, how, target: dest_addr, address: addr, key, datatype, op, context };
    // SAFETY: the arguments of the call.
    unsafe { call::<S>(ep, None, local, atomic) }
}

unsafe extern "C" fn compwritemsg<S: Serialize>(
    ep: *mut sys::fid_ep,
    msg: *const sys::fi_msg_atomic,
    comparev: *const sys::fi_ioc,
    _compare_desc: *mut *mut c_void,
    compare_count: usize,
    resultv: *mut sys::fi_ioc,
    _result_desc: *mut *mut c_void,
    result_count: usize,
    flags: u64,
) -> isize {
    let compare = Elements::vector(comparev, compare_count);
    let result = Elements::vector(resultv, result_count);
    // SAFETY: the arguments of the call.
    unsafe { message::<S>(ep, Form::Compare, msg, compare, result, flags) }
}

/// # Safety
/// `count` is null or a place for a number.
unsafe fn valid(form: Form, datatype: sys::fi_datatype, op: sys::fi_op, count: *mut usize) -> c_int {
    entry(|| {
        to_c(Code::new(form, datatype, op).map(|code| {
            // SAFETY: the caller of this function promises it.
            unsafe { cptr::give(count, code.count_max()) };
        }))
    })
}

unsafe extern "C" fn writevalid(
    _ep: *mut sys::fid_ep,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    count: *mut usize,
) -> c_int {
    // SAFETY: the arguments of the call.
    unsafe { valid(Form::Plain, datatype, op, count) }
}

unsafe extern "C" fn readwritevalid(
    _ep: *mut sys::fid_ep,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    count: *mut usize,
) -> c_int {
    // SAFETY: the arguments of the call.
    unsafe { valid(Form::Fetch, datatype, op, count) }
}

unsafe extern "C" fn compwritevalid(
    _ep: *mut sys::fid_ep,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    count: *mut usize,
) -> c_int {
    // SAFETY: the arguments of the call.
    unsafe { valid(Form::Compare, datatype, op, count) }
}

/// The family of calls that the flags of `fi_query_atomic` mean. There are no tagged atomics.
fn queried_form(flags: u64) -> Result<Form> {
    match flags {
        0 => Ok(Form::Plain),
        sys::FI_FETCH_ATOMIC => Ok(Form::Fetch),
        sys::FI_COMPARE_ATOMIC => Ok(Form::Compare),
        _ if flags & sys::FI_TAGGED != 0 => Err(Errno::OPNOTSUPP),
        _ => Err(Errno::BADFLAGS),
    }
}

/// `fi_query_atomic`.
pub(crate) unsafe extern "C" fn query(
    _domain: *mut sys::fid_domain,
    datatype: sys::fi_datatype,
    op: sys::fi_op,
    attr: *mut sys::fi_atomic_attr,
    flags: u64,
) -> c_int {
    entry(|| {
        let code = queried_form(flags).and_then(|form| Code::new(form, datatype, op));
        to_c(code.map(|code| {
            let attributes = sys::fi_atomic_attr { count: code.count_max(), size: code.datatype.size() };
            // SAFETY: the application's place, or null.
            unsafe { cptr::give(attr, attributes) };
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_operations() {
        let has = |form, op| Code::new(form, sys::FI_UINT64, op).is_ok();
        for form in [Form::Plain, Form::Fetch] {
            assert!(has(form, sys::FI_SUM) && has(form, sys::FI_ATOMIC_WRITE) && !has(form, sys::FI_CSWAP));
        }
        assert!(!has(Form::Plain, sys::FI_ATOMIC_READ) && has(Form::Fetch, sys::FI_ATOMIC_READ));
        assert!(has(Form::Compare, sys::FI_MSWAP) && !has(Form::Compare, sys::FI_SUM));
        let undefined = Code::new(Form::Plain, sys::FI_DOUBLE, sys::FI_BXOR);
        assert_eq!(undefined, Err(Errno::OPNOTSUPP));
        assert_eq!(Code::new(Form::Plain, 99, sys::FI_SUM), Err(Errno::OPNOTSUPP));
    }

    #[test]
    fn queries_name_one_family() {
        let mut attr = sys::fi_atomic_attr { count: 0, size: 0 };
        let mut ask = |flags| {
            // SAFETY: the domain is not looked at; a place for the answer.
            unsafe { query(core::ptr::null_mut(), sys::FI_INT32, sys::FI_CSWAP, &mut attr, flags) }
        };
        assert_eq!(ask(sys::FI_COMPARE_ATOMIC), 0);
        assert_eq!(ask(0), Errno::OPNOTSUPP.negative(), "fi_atomic has no FI_CSWAP");
        assert_eq!(ask(sys::FI_TAGGED), Errno::OPNOTSUPP.negative());
        assert_eq!(ask(sys::FI_FETCH_ATOMIC | sys::FI_COMPARE_ATOMIC), Errno::BADFLAGS.negative());
        assert_eq!((attr.count, attr.size), (ATOMIC_MAX / 4, 4));
    }
}
