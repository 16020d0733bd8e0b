//! Poll sets: which of several queues and counters have something to read.
//!
//! Responsible for `fi_poll(3)` without waiting: progress once, then a look at every member. libfabric 2.x no longer has poll sets; programs built for older
//! versions use them. Must never read a queue, nor wait.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use rdgram_engine::{CntrId, CqId};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::cntr::Cntr;
use crate::cq::Cq;
use crate::domain::{Domain, Engine, Shared, State};
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::{cptr, stubs};

/// `fid_poll`.
#[repr(C)]
pub(crate) struct Poll<S: Serialize> {
    child: Child<sys::fid_poll>,
    shared: Arc<Shared<S>>,
    members: Mutex<Vec<Member>>,
}

// SAFETY: `repr(C)`, and `Child<fid_poll>` is the first field.
unsafe impl<S: Serialize> Object for Poll<S> {
    type Fid = sys::fid_poll;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_POLL);
}

/// A queue or a counter of the set. It cannot be closed as long as it is one.
struct Member {
    fid: *mut sys::fid,
    watched: Watched,
    _hold: Arc<()>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
enum Watched {
    Queue(CqId),
    /// `changes` is what it was when the counter was reported last.
    Counter {
        id: CntrId,
        changes: u64,
    },
}

impl Watched {
    /// Whether there is something to read.
    fn look(&mut self, engine: &Engine) -> bool {
        match self {
            Self::Queue(id) => !engine.cq_is_empty(*id),
            Self::Counter { id, changes } => {
                let now = engine.cntr_changes(*id);
                core::mem::replace(changes, now) != now
            }
        }
    }
}

/// The tables of a poll set, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops = &sys::fi_ops { close: Some(close::<S>), ..stubs::FID };
    const POLL: &'static sys::fi_ops_poll = &sys::fi_ops_poll {
        size: size_of::<sys::fi_ops_poll>(),
        poll: Some(poll::<S>),
        poll_add: Some(add::<S>),
        poll_del: Some(del::<S>),
    };
}

/// `fi_poll_open`: no flag is known.
pub(crate) unsafe extern "C" fn open<S: Serialize>(
    domain: *mut sys::fid_domain,
    attr: *mut sys::fi_poll_attr,
    set: *mut *mut sys::fid_poll,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(domain) };
        // SAFETY: libfabric's caller gives a struct or nothing.
        let attr = unsafe { cptr::optional(attr.cast_const()) };
        if set.is_null() || attr.is_some_and(|attr| attr.flags != 0) {
            return Errno::INVAL.negative();
        }
        let shared = domain.shared();
        let face = sys::fid_poll {
            fid: fid::head(Poll::<S>::CLASS, core::ptr::null_mut(), Tables::<S>::FID),
            ops: fid::table(Tables::<S>::POLL),
        };
        let object = Poll {
            child: Child::new(face, shared),
            shared: Arc::clone(shared),
            members: Mutex::new(Vec::new()),
        };
        // SAFETY: not null, and libfabric's caller gives a place.
        unsafe { cptr::give(set, fid::publish(Box::new(object))) };
        0
    })
}

/// `fi_close` of a poll set: its members are released.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Poll<S>>(fid.cast()) });
        0
    })
}

/// What a fid is to become a member as: a queue or a counter of the set's domain.
///
/// # Safety
/// `fid` is null or a live fid.
unsafe fn member<S: Serialize>(set: &Poll<S>, fid: *mut sys::fid) -> Result<Member> {
    const CNTR: usize = fid::class_of(sys::FI_CLASS_CNTR);
    if fid.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, hence live.
    if unsafe { fid::class(fid) } == CNTR {
        // SAFETY: the caller promises it.
        let cntr = unsafe { fid::sibling::<Cntr<S>, _>(fid, &set.shared) }?;
        let changes = set.shared.with(|state| Ok(state.engine.cntr_changes(cntr.id())))?;
        return Ok(Member { fid, watched: Watched::Counter { id: cntr.id(), changes }, _hold: cntr.hold() });
    }
    // SAFETY: the caller promises it; every other class is refused.
    let cq = unsafe { fid::sibling::<Cq<S>, _>(fid, &set.shared) }?;
    Ok(Member { fid, watched: Watched::Queue(cq.id()), _hold: cq.hold() })
}

impl<S: Serialize> Poll<S> {
    /// Does something with the members, under the domain's lock: a forked child is refused there, before the lock of the members, which a thread of the parent
    /// may have held.
    fn with<R>(&self, work: impl FnOnce(&mut Vec<Member>, &mut State) -> Result<R>) -> Result<R> {
        self.shared
            .with(|state| work(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner), state))
    }
}

/// `fi_poll_add`: a queue or a counter of the same domain. Adding it again changes nothing.
unsafe extern "C" fn add<S: Serialize>(
    set: *mut sys::fid_poll,
    event_fid: *mut sys::fid,
    flags: u64,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let set = unsafe { fid::object::<Poll<S>>(set) };
        if flags != 0 {
            return Errno::BADFLAGS.negative();
        }
        // SAFETY: the application's fid.
        let member = unsafe { member(set, event_fid) };
        to_c(member.and_then(|member| {
            set.with(|members, _| {
                if members.iter().all(|other| other.fid != member.fid) {
                    members.push(member);
                }
                Ok(())
            })
        }))
    })
}

/// `fi_poll_del`.
unsafe extern "C" fn del<S: Serialize>(
    set: *mut sys::fid_poll,
    event_fid: *mut sys::fid,
    flags: u64,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let set = unsafe { fid::object::<Poll<S>>(set) };
        if flags != 0 {
            return Errno::BADFLAGS.negative();
        }
        to_c(set.with(|members, _| {
            let place = members.iter().position(|member| member.fid == event_fid).ok_or(Errno::INVAL)?;
            members.remove(place);
            Ok(())
        }))
    })
}

/// `fi_poll`: how many contexts were written, of queues that are not empty and of counters that changed.
unsafe extern "C" fn poll<S: Serialize>(
    set: *mut sys::fid_poll,
    contexts: *mut *mut c_void,
    count: c_int,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let set = unsafe { fid::object::<Poll<S>>(set) };
        let found = usize::try_from(count).map_err(|_| Errno::INVAL).and_then(|room| {
            if contexts.is_null() && room > 0 {
                return Err(Errno::INVAL);
            }
            // SAFETY: the application's array has room for so many.
            unsafe { report(set, contexts, room) }
        });
        found.unwrap_or_else(Errno::negative)
    })
}

/// Progresses once and writes the context of every member that has something, as far as there is room.
///
/// # Safety
/// `contexts` has room for `room` entries.
unsafe fn report<S: Serialize>(set: &Poll<S>, contexts: *mut *mut c_void, room: usize) -> Result<c_int> {
    set.with(|members, state| {
        state.progress();
        let mut found = 0;
        for member in members {
            if found < room && member.watched.look(&state.engine) {
                // SAFETY: a member is held, hence live.
                let context = unsafe { (*member.fid).context };
                // SAFETY: `found < room`.
                let place = unsafe { contexts.add(found) };
                // SAFETY: within the application's array.
                unsafe { place.write(context) };
                found += 1;
            }
        }
        Ok(c_int::try_from(found).unwrap_or(c_int::MAX))
    })
}
