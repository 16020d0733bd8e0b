//! Counters: reading, setting, waiting.
//!
//! Responsible for `fi_cntr(3)`. Reading makes progress, because applications flush by reading alone. Must never count anything itself.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use std::sync::Arc;

use rdgram_engine::CntrId;
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cq::{TRYWAIT, try_wait, wait_control, wait_object};
use crate::domain::{Domain, Engine, Shared};
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::wait::{Descriptor, Patience, Seen, Target, block_until};
use crate::{cptr, stubs};

/// `fid_cntr`.
#[repr(C)]
pub(crate) struct Cntr<S: Serialize> {
    child: Child<sys::fid_cntr>,
    shared: Arc<Shared<S>>,
    id: CntrId,
    object: sys::fi_wait_obj,
    descriptor: Descriptor,
    /// Held by each endpoint bound to it.
    users: Arc<()>,
}

// SAFETY: `repr(C)`, and `Child<fid_cntr>` is the first field.
unsafe impl<S: Serialize> Object for Cntr<S> {
    type Fid = sys::fid_cntr;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_CNTR);
}

impl<S: Serialize> Cntr<S> {
    /// The engine's name of it.
    pub(crate) fn id(&self) -> CntrId {
        self.id
    }

    /// Kept by an endpoint as long as it is bound.
    pub(crate) fn hold(&self) -> Arc<()> {
        Arc::clone(&self.users)
    }

    fn change(&self, change: impl FnOnce(&mut Engine, CntrId)) -> c_int {
        to_c(self.shared.with(|state| {
            change(&mut state.engine, self.id);
            Ok(())
        }))
    }
}

/// The tables of a counter, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops =
        &sys::fi_ops { close: Some(close::<S>), control: Some(control::<S>), ..stubs::FID };
    const CNTR: &'static sys::abi::OpsCntr = &sys::abi::OpsCntr {
        base: sys::fi_ops_cntr {
            size: size_of::<sys::abi::OpsCntr>(),
            read: Some(read::<S>),
            readerr: Some(readerr::<S>),
            add: Some(add::<S>),
            set: Some(set::<S>),
            wait: Some(wait::<S>),
            adderr: Some(adderr::<S>),
            seterr: Some(seterr::<S>),
        },
        export_xpu: Some(stubs::refused),
    };
}

/// The wait object that `fi_cntr_attr` asks for.
fn read_attributes(attr: Option<&sys::fi_cntr_attr>) -> Result<sys::fi_wait_obj> {
    let Some(attr) = attr else { return Ok(sys::FI_WAIT_NONE) };
    if attr.flags != 0 || attr.events != sys::FI_CNTR_EVENTS_COMP {
        return Err(Errno::INVAL);
    }
    wait_object(attr.wait_obj)
}

/// `fi_cntr_open`.
pub(crate) unsafe extern "C" fn open<S: Serialize>(
    domain: *mut sys::fid_domain,
    attr: *mut sys::fi_cntr_attr,
    cntr: *mut *mut sys::fid_cntr,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(domain) };
        // SAFETY: libfabric's caller gives a struct or nothing.
        let object = read_attributes(unsafe { cptr::optional(attr.cast_const()) });
        to_c(object.and_then(|object| {
            let shared = domain.shared();
            let id = shared.with(|state| Ok(state.engine.cntr_open()))?;
            let face = sys::fid_cntr {
                fid: fid::head(Cntr::<S>::CLASS, context, Tables::<S>::FID),
                ops: fid::table(&Tables::<S>::CNTR.base),
            };
            let counter = Cntr {
                child: Child::new(face, shared),
                shared: Arc::clone(shared),
                id,
                object,
                descriptor: Descriptor::default(),
                users: Arc::new(()),
            };
            // SAFETY: libfabric's caller gives a place.
            unsafe { cptr::give(cntr, fid::publish(Box::new(counter))) };
            Ok(())
        }))
    })
}

/// `fi_close` of a counter: refused while an endpoint is bound to it.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cntr = unsafe { fid::object::<Cntr<S>>(fid.cast()) };
        // In a forked child, and after a panic, only memory is freed; what holds on to it there is never asked.
        if cntr.shared.is_usable() {
            if Arc::strong_count(&cntr.users) > 1 {
                return Errno::BUSY.negative();
            }
            let closed = cntr.shared.with(|state| {
                state.engine.cntr_close(cntr.id).map_err(|_| Errno::BUSY)?;
                if let Some(key) = cntr.descriptor.key() {
                    state.waits.close(key);
                }
                Ok(())
            });
            if closed == Err(Errno::BUSY) {
                return Errno::BUSY.negative();
            }
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Cntr<S>>(fid.cast()) });
        0
    })
}

/// `fi_control`: FI_GETWAIT, FI_GETWAITOBJ and our own.
unsafe extern "C" fn control<S: Serialize>(fid: *mut sys::fid, command: c_int, arg: *mut c_void) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cntr = unsafe { fid::object::<Cntr<S>>(fid.cast()) };
        let wait = (cntr.object != sys::FI_WAIT_NONE).then_some(cntr.object);
        to_c(match fid::command(command) {
            // Pending is a value that the application has not read.
            TRYWAIT => try_wait(&cntr.shared, wait, &cntr.descriptor, Target::Cntr(cntr.id), |state, key| {
                let (successes, errors) = state.engine.cntr_value(cntr.id);
                Seen { successes, errors } != state.waits.seen(key)
            }),
            command => {
                let target = Target::Cntr(cntr.id);
                // SAFETY: the argument is of the type that the command names.
                unsafe { wait_control(&cntr.shared, wait, &cntr.descriptor, target, command, arg) }
            }
        })
    })
}

/// (successes, errors), after progress. `note` says which of them the application is given.
fn value<S: Serialize>(cntr: &Cntr<S>, note: impl FnOnce(&mut Seen, (u64, u64))) -> Result<(u64, u64)> {
    let mut nap = None;
    let read = cntr.shared.with(|state| {
        state.progress();
        let value = state.engine.cntr_value(cntr.id);
        nap = if state.idle.is_news(cntr.id, value) { None } else { state.idle() };
        if let Some(key) = cntr.descriptor.key() {
            state.waits.note_seen(key, |seen| note(seen, value));
        }
        Ok(value)
    });
    if let Some(nap) = nap {
        nap.take();
    }
    read
}

unsafe extern "C" fn read<S: Serialize>(cntr: *mut sys::fid_cntr) -> u64 {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cntr = unsafe { fid::object::<Cntr<S>>(cntr) };
        value(cntr, |seen, (successes, _)| seen.successes = successes).map_or(0, |(successes, _)| successes)
    })
}

unsafe extern "C" fn readerr<S: Serialize>(cntr: *mut sys::fid_cntr) -> u64 {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cntr = unsafe { fid::object::<Cntr<S>>(cntr) };
        value(cntr, |seen, (_, errors)| seen.errors = errors).map_or(0, |(_, errors)| errors)
    })
}

unsafe extern "C" fn add<S: Serialize>(cntr: *mut sys::fid_cntr, value: u64) -> c_int {
    // SAFETY: called through the table of this type.
    entry(|| unsafe { fid::object::<Cntr<S>>(cntr) }.change(|engine, id| engine.cntr_add(id, value)))
}

unsafe extern "C" fn set<S: Serialize>(cntr: *mut sys::fid_cntr, value: u64) -> c_int {
    // SAFETY: called through the table of this type.
    entry(|| unsafe { fid::object::<Cntr<S>>(cntr) }.change(|engine, id| engine.cntr_set(id, value)))
}

unsafe extern "C" fn adderr<S: Serialize>(cntr: *mut sys::fid_cntr, value: u64) -> c_int {
    // SAFETY: called through the table of this type.
    entry(|| unsafe { fid::object::<Cntr<S>>(cntr) }.change(|engine, id| engine.cntr_add_error(id, value)))
}

unsafe extern "C" fn seterr<S: Serialize>(cntr: *mut sys::fid_cntr, value: u64) -> c_int {
    // SAFETY: called through the table of this type.
    entry(|| unsafe { fid::object::<Cntr<S>>(cntr) }.change(|engine, id| engine.cntr_set_error(id, value)))
}

/// `fi_cntr_wait`: also for counters without a wait object, since waiting is what progresses.
unsafe extern "C" fn wait<S: Serialize>(cntr: *mut sys::fid_cntr, threshold: u64, timeout: c_int) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let cntr = unsafe { fid::object::<Cntr<S>>(cntr) };
        to_c(wait_for(cntr, threshold, timeout))
    })
}

fn wait_for<S: Serialize>(cntr: &Cntr<S>, threshold: u64, timeout: c_int) -> Result {
    // Errors count from the call on: those that the progress made here finds too.
    let (_, errors_before) = cntr.shared.with(|state| Ok(state.engine.cntr_value(cntr.id)))?;
    let reached = |(successes, errors): (u64, u64)| {
        if successes >= threshold {
            Ok(Some(()))
        } else if errors != errors_before {
            Err(Errno::AVAIL)
        } else {
            Ok(None)
        }
    };
    let done = block_until(&cntr.shared, Target::Cntr(cntr.id), Patience::new(timeout), |state| {
        let (successes, errors) = state.engine.cntr_value(cntr.id);
        // Who waits like this does not read: else `fi_trywait` would go on refusing.
        if let Some(key) = cntr.descriptor.key() {
            state.waits.note_seen(key, |seen| *seen = Seen { successes, errors });
        }
        reached((successes, errors))
    })?;
    done.ok_or(Errno::TIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_checked() {
        let good = sys::fi_cntr_attr {
            events: sys::FI_CNTR_EVENTS_COMP,
            wait_obj: sys::FI_WAIT_UNSPEC,
            wait_set: core::ptr::null_mut(),
            flags: 0,
        };
        assert_eq!(read_attributes(None), Ok(sys::FI_WAIT_NONE));
        assert_eq!(read_attributes(Some(&good)), Ok(sys::FI_WAIT_FD));
        assert_eq!(read_attributes(Some(&sys::fi_cntr_attr { flags: 1, ..good })), Err(Errno::INVAL));
        assert_eq!(read_attributes(Some(&sys::fi_cntr_attr { events: 1, ..good })), Err(Errno::INVAL));
    }
}
