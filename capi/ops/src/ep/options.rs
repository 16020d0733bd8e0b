//! Options and flags of an endpoint that may be read and changed: `fi_getopt`, `fi_setopt`, `fi_control`.
//!
//! Responsible for the table of options and for checking lengths. Must never accept an option that has no effect, unless having none is what was asked for.

use core::ffi::{c_int, c_void};

use rdgram_engine::ATOMIC_MAX;
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use super::{Ep, EpState, Kind, alias};
use crate::domain::{Engine, State};
use crate::errno::{Errno, Result, to_c};
use crate::guard::entry;
use crate::info::offer;
use crate::param::settings;
use crate::{cptr, fid, flags};

/// The options that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opt {
    /// Room below which a multi-receive buffer is released.
    MinMultiRecv,
    /// Largest message of a kind.
    MessageMax(Kind),
    /// Largest injected message of a kind.
    InjectMax(Kind),
    /// Shared memory may be used for peers on this host. Up to enable.
    SharedMemory,
}

impl Opt {
    #[allow(clippy::cast_possible_wrap, reason = "small constants of generated types")]
    fn of(level: c_int, name: c_int) -> Result<Self> {
        const MIN_MULTI_RECV: c_int = sys::FI_OPT_MIN_MULTI_RECV as c_int;
        if level != sys::FI_OPT_ENDPOINT as c_int {
            return Err(Errno::NOPROTOOPT);
        }
        match name {
            MIN_MULTI_RECV => Ok(Self::MinMultiRecv),
            sys::FI_OPT_MAX_MSG_SIZE => Ok(Self::MessageMax(Kind::Untagged)),
            sys::FI_OPT_MAX_TAGGED_SIZE => Ok(Self::MessageMax(Kind::Tagged)),
            sys::FI_OPT_MAX_RMA_SIZE => Ok(Self::MessageMax(Kind::Rma)),
            sys::FI_OPT_MAX_ATOMIC_SIZE => Ok(Self::MessageMax(Kind::Atomic)),
            sys::FI_OPT_INJECT_MSG_SIZE => Ok(Self::InjectMax(Kind::Untagged)),
            sys::FI_OPT_INJECT_TAGGED_SIZE => Ok(Self::InjectMax(Kind::Tagged)),
            sys::FI_OPT_INJECT_RMA_SIZE => Ok(Self::InjectMax(Kind::Rma)),
            sys::FI_OPT_INJECT_ATOMIC_SIZE => Ok(Self::InjectMax(Kind::Atomic)),
            sys::FI_OPT_SHARED_MEMORY_PERMITTED => Ok(Self::SharedMemory),
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    fn get(self, endpoint: &EpState) -> Value {
        match self {
            Self::MinMultiRecv => Value::Size(endpoint.config.min_multi_recv),
            Self::MessageMax(kind) => Value::Size(endpoint.limits(kind).message),
            Self::InjectMax(kind) => Value::Size(endpoint.limits(kind).inject),
            Self::SharedMemory => Value::Flag(endpoint.shares_memory),
        }
    }

    fn set(self, endpoint: &mut EpState, engine: &mut Engine, value: Value) -> Result {
        match (self, value) {
            (Self::MinMultiRecv, Value::Size(size)) => {
                endpoint.config.min_multi_recv = size;
                if let Some(id) = endpoint.id() {
                    engine.ep_config_mut(id).min_multi_recv = size;
                }
            }
            (Self::MessageMax(kind), Value::Size(size)) => {
                bounded(size, if kind == Kind::Atomic { ATOMIC_MAX } else { offer::MESSAGE_MAX })?;
                endpoint.limits[kind as usize].message = size;
            }
            (Self::InjectMax(kind), Value::Size(size)) => {
                bounded(size, endpoint.config.inject_max)?;
                endpoint.limits[kind as usize].inject = size;
            }
            (Self::SharedMemory, Value::Flag(permitted)) => {
                // What the user has switched off stays off.
                let shares = permitted && settings().local;
                if shares != endpoint.shares_memory && endpoint.id().is_some() {
                    return Err(Errno::OPBADSTATE);
                }
                endpoint.shares_memory = shares;
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn is_flag(self) -> bool {
        self == Self::SharedMemory
    }
}

/// A limit can be lowered, never raised beyond what was offered.
fn bounded(size: usize, most: usize) -> Result {
    if size <= most { Ok(()) } else { Err(Errno::INVAL) }
}

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Size(usize),
    Flag(bool),
}

/// `fi_getopt`.
pub(super) unsafe extern "C" fn getopt<S: Serialize>(
    fid: *mut sys::fid,
    level: c_int,
    optname: c_int,
    optval: *mut c_void,
    optlen: *mut usize,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        to_c(Opt::of(level, optname).and_then(|option| {
            let value = ep.with(|endpoint, _| Ok(option.get(endpoint)))?;
            match value {
                // SAFETY: the application's buffer of the length it says.
                Value::Size(size) => unsafe { cptr::give_bytes(&size.to_ne_bytes(), optval, optlen) },
                // SAFETY: as above.
                Value::Flag(flag) => unsafe { cptr::give_bytes(&[u8::from(flag)], optval, optlen) },
            }
        }))
    })
}

/// `fi_setopt`. A value of another length than the option's is refused.
pub(super) unsafe extern "C" fn setopt<S: Serialize>(
    fid: *mut sys::fid,
    level: c_int,
    optname: c_int,
    optval: *const c_void,
    optlen: usize,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        to_c(Opt::of(level, optname).and_then(|option| {
            // SAFETY: the application's buffer of the length it says.
            let bytes = unsafe { cptr::array(optval.cast::<u8>(), optlen) }?;
            let value = if option.is_flag() {
                <[u8; 1]>::try_from(bytes).map(|[byte]| Value::Flag(byte != 0))
            } else {
                bytes.try_into().map(|bytes| Value::Size(usize::from_ne_bytes(bytes)))
            };
            let value = value.map_err(|_| Errno::INVAL)?;
            ep.with(|endpoint, engine| option.set(endpoint, engine, value))?;
            ep.shared.with(|state| alias::refresh(&mut state.endpoints, ep.home))
        }))
    })
}

/// `fi_rx_size_left`, deprecated: operations are bounded by memory, not by the size.
pub(super) unsafe extern "C" fn rx_size_left<S: Serialize>(ep: *mut sys::fid_ep) -> isize {
    // SAFETY: the same promises.
    unsafe { size_left::<S>(ep, |endpoint| endpoint.sizes.rx) }
}

/// `fi_tx_size_left`, deprecated likewise.
pub(super) unsafe extern "C" fn tx_size_left<S: Serialize>(ep: *mut sys::fid_ep) -> isize {
    // SAFETY: the same promises.
    unsafe { size_left::<S>(ep, |endpoint| endpoint.sizes.tx) }
}

unsafe fn size_left<S: Serialize>(ep: *mut sys::fid_ep, size: impl FnOnce(&EpState) -> usize) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(ep) };
        crate::errno::to_c_size(ep.with(|endpoint, _| {
            endpoint.id().ok_or(Errno::OPBADSTATE)?;
            Ok(size(endpoint))
        }))
    })
}

/// FI_GETOPSFLAG: the argument names the direction and becomes its flags.
///
/// # Safety
/// `arg` is null or a number of the application's.
pub(super) unsafe fn get_op_flags<S: Serialize>(ep: &Ep<S>, arg: *mut u64) -> Result {
    // SAFETY: the caller promises it.
    let wanted = *unsafe { cptr::required(arg.cast_const()) }?;
    let flags = ep.shared.with(|state| match wanted & (sys::FI_TRANSMIT | sys::FI_RECV) {
        sys::FI_TRANSMIT => Ok(own(state, ep)?.tx.op_flags),
        sys::FI_RECV => Ok(own(state, ep)?.rx.op_flags),
        _ => Err(Errno::INVAL),
    })?;
    // SAFETY: the caller promises it.
    unsafe { cptr::give(arg, flags) };
    Ok(())
}

/// FI_SETOPSFLAG: one direction, and its new flags.
///
/// # Safety
/// As for [`get_op_flags`].
pub(super) unsafe fn set_op_flags<S: Serialize>(ep: &Ep<S>, arg: *mut u64) -> Result {
    // SAFETY: the caller promises it.
    let given = *unsafe { cptr::required(arg.cast_const()) }?;
    ep.shared.with(|state| change_op_flags(own(state, ep)?, given))
}

/// What operations on this fid look at: an alias has flags of its own.
fn own<'a, S: Serialize>(state: &'a mut State, ep: &Ep<S>) -> Result<&'a mut EpState> {
    state.endpoints.get_mut(ep.slot).and_then(Option::as_mut).ok_or(Errno::OPBADSTATE)
}

/// Sets the flags of the one direction that is named among them.
pub(super) fn change_op_flags(endpoint: &mut EpState, given: u64) -> Result {
    const WAYS: u64 = sys::FI_TRANSMIT | sys::FI_RECV;
    let (way, known) = match given & WAYS {
        sys::FI_TRANSMIT => (&mut endpoint.tx, flags::TX_OP_FLAGS),
        sys::FI_RECV => (&mut endpoint.rx, flags::RX_OP_FLAGS),
        _ => return Err(Errno::INVAL),
    };
    if given & !(WAYS | known) != 0 {
        return Err(Errno::BADFLAGS);
    }
    way.op_flags = given & known;
    endpoint.resolve_flags()
}
