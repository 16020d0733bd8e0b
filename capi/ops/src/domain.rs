//! Domains: what one lock covers, shared by every object opened on it.
//!
//! Responsible for the lock, the latch, the fork check and progress. The flavour of the lock is a type chosen when the domain is opened: must never look at
//! the threading level after that.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::DerefMut;
use core::sync::atomic::AtomicU64;
use std::io::Write as _;
use std::sync::Arc;

use rdgram_host::{HostDatapath, fork, membarrier};
use rdgram_sync::{Biased, Guarded, Latch, Mutual, Serialize};
use rdgram_sys as sys;

use crate::address::Family;
use crate::ep::EpState;
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Face, Object};
use crate::guard::{Bomb, entry};
use crate::idle::Idle;
use crate::param::{Progress, settings};
use crate::progress::{ProgressThread, Reference};
use crate::wait::{WaitKey, Waits};
use crate::{atomic, av, cntr, cptr, cq, ep, exit, log, mr, notice, poll, progress, stubs};

/// The engine over the real world.
pub(crate) type Engine = rdgram_engine::Domain<HostDatapath>;

/// Reads of a queue that found something before progress is made all the same: a queue that is never empty must not keep packets waiting.
const READS_PER_PROGRESS: u32 = 8;

/// What the lock covers.
#[derive(Debug)]
pub(crate) struct State {
    /// Everything that is not of libfabric.
    pub(crate) engine: Engine,
    /// Who may be blocked.
    pub(crate) waits: Waits,
    /// What libfabric knows of the endpoints; an endpoint's slot is its index for life.
    pub(crate) endpoints: Vec<Option<EpState>>,
    reads: u32,
    /// Progress calls of the application so far.
    calls: u64,
    /// The last of them found something to do.
    pub(crate) worked: bool,
    /// Reads in vain.
    pub(crate) idle: Idle,
    /// The thread that stands in for the application and sleeps until something is to be done; it is told the number of the progress call that ended the absence.
    pub(crate) stand_in: Option<(WaitKey, Arc<AtomicU64>)>,
}

impl State {
    /// Receives, times out, transmits, for every endpoint of the domain: for a call of the application.
    pub(crate) fn progress(&mut self) {
        self.reads = 0;
        self.calls = self.calls.wrapping_add(1);
        if let Some((key, back)) = self.stand_in.take() {
            self.dismiss(key, &back);
        }
        self.worked = self.work();
    }

    /// As [`Self::progress`], for nobody's call. True when anything happened.
    pub(crate) fn work(&mut self) -> bool {
        let worked = self.engine.progress();
        while let Some(notice) = self.engine.poll_notice() {
            notice::tell(&notice);
        }
        worked
    }

    /// How often the application made progress: the progress thread compares.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Whether a read that found something may return without progress.
    #[inline]
    pub(crate) fn may_skip_progress(&mut self) -> bool {
        self.reads += 1;
        // The more endpoints, the more a look at all of them costs.
        self.reads < READS_PER_PROGRESS * self.engine.endpoints_progressed().max(1)
    }
}

/// What the objects of a domain share.
#[derive(Debug)]
pub(crate) struct Shared<S: Serialize> {
    guarded: ManuallyDrop<Guarded<S, State>>,
    latch: Latch,
    told: Latch,
    generation: u64,
    thread: ProgressThread,
    /// The application leaves progress to that thread (FI_PROGRESS_AUTO).
    pub(crate) automatic: bool,
    /// The version of the API that the application was written for.
    pub(crate) api_version: u32,
    /// How peers' addresses are given (`fi_info.addr_format`).
    pub(crate) family: Family,
    /// Keys of memory regions are ours to choose (`FI_MR_PROV_KEY`, `FI_MR_BASIC`).
    pub(crate) provider_keys: bool,
    /// Peers name memory by its address here, not by its distance from the region's beginning (`FI_MR_VIRT_ADDR`, `FI_MR_BASIC`).
    pub(crate) virtual_addresses: bool,
    _fabric: Arc<()>,
}

impl<S: Serialize> Shared<S> {
    /// Does something under the lock.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        if self.is_inherited() {
            return Err(self.refuse_inherited());
        }
        let guard = self.guarded.enter();
        let alarm = Alarm(self);
        let result = self.inside(guard, work);
        core::mem::forget(alarm);
        result
    }

    /// Does something under the lock, unless another thread has it: then `None`.
    pub(crate) fn with_if_free<R>(&self, work: impl FnOnce(&mut State) -> Result<R>) -> Result<Option<R>> {
        let Some(guard) = self.guarded.try_enter() else { return Ok(None) };
        let alarm = Alarm(self);
        let result = self.inside(guard, work);
        core::mem::forget(alarm);
        result.map(Some)
    }

    /// As [`Self::with_if_free`], for who is no call of the application's: the progress thread, and whoever ends or helps other domains.
    pub(crate) fn visit<R>(&self, work: impl FnOnce(&mut State) -> Result<R>) -> Result<Option<R>> {
        let Some(guard) = self.guarded.visit(membarrier::barrier) else { return Ok(None) };
        let alarm = VisitorsAlarm(self);
        let result = self.inside(guard, work);
        core::mem::forget(alarm);
        result.map(Some)
    }

    /// See [`Serialize::turns`].
    pub(crate) fn turns(&self) -> Option<u32> {
        self.guarded.turns()
    }

    #[inline]
    fn inside<R>(
        &self,
        mut guard: impl DerefMut<Target = State>,
        work: impl FnOnce(&mut State) -> Result<R>,
    ) -> Result<R> {
        if self.latch.is_set() {
            return Err(Errno::OTHER);
        }
        let bomb = Bomb::arm(&self.latch);
        let state = &mut *guard;
        let result = work(state);
        if state.waits.any_armed() {
            state.tighten();
        }
        bomb.disarm();
        result
    }

    /// Does something under the lock, at the end of the process: nothing when another thread has it or a panic shut the domain.
    pub(crate) fn try_with(&self, work: impl FnOnce(&mut State)) {
        let inside = |state: &mut State| {
            if !self.latch.is_set() {
                let bomb = Bomb::arm(&self.latch);
                work(state);
                bomb.disarm();
            }
        };
        // As a visitor, where that keeps out those who enter without a lock.
        if self.turns().is_some() && membarrier::barrier() {
            if let Some(mut state) = self.guarded.visit(membarrier::barrier) {
                inside(&mut state);
            }
        } else if let Some(mut state) = self.guarded.try_enter() {
            inside(&mut state);
        }
    }

    /// The process was forked after the domain was opened: the sockets and the peers belong to the parent.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        fork::generation() != self.generation
    }

    /// The progress thread, if there is one.
    pub(crate) fn thread(&self) -> &ProgressThread {
        &self.thread
    }

    /// Neither inherited nor shut by a panic.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_inherited() && !self.latch.is_set()
    }

    #[cold]
    fn refuse_inherited(&self) -> Errno {
        if self.told.set() {
            let text = b"rdgram: this process was forked: objects opened before the fork cannot be used here; open new ones\n";
            // A closed stderr is the user's choice. Nothing is locked: the parent's other threads may have held any lock at the fork.
            let mut stderr = log::unlocked_stderr();
            let _ = stderr.write_all(text);
        }
        Errno::OTHER
    }
}

/// Dropped by a panic only, when the lock is free again: whoever is blocked in the domain has to learn that it is shut.
struct Alarm<'a, S: Serialize>(&'a Shared<S>);

impl<S: Serialize> Drop for Alarm<'_, S> {
    #[cold]
    fn drop(&mut self) {
        self.0.guarded.enter().waits.wake_all();
    }
}

/// The same after a visit. Whom the application's call keeps out need not wake it: it is not blocked.
struct VisitorsAlarm<'a, S: Serialize>(&'a Shared<S>);

impl<S: Serialize> Drop for VisitorsAlarm<'_, S> {
    #[cold]
    fn drop(&mut self) {
        if let Some(state) = self.0.guarded.visit(membarrier::barrier) {
            state.waits.wake_all();
        }
    }
}

impl<S: Serialize> Drop for Shared<S> {
    fn drop(&mut self) {
        let untouched = !self.is_inherited() || self.guarded.try_enter().is_some();
        if untouched {
            // SAFETY: dropped here and never used again.
            unsafe { ManuallyDrop::drop(&mut self.guarded) };
        }
        // Otherwise another thread of the parent was inside at the fork: what it left half-made is memory to leak, not to walk through.
    }
}

/// `fid_domain`.
#[repr(C)]
pub(crate) struct Domain<S: Serialize> {
    face: Face<sys::fid_domain>,
    shared: Arc<Shared<S>>,
}

// SAFETY: `repr(C)`, and `Face<fid_domain>` is the first field.
unsafe impl<S: Serialize> Object for Domain<S> {
    type Fid = sys::fid_domain;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_DOMAIN);
}

impl<S: Serialize> Domain<S> {
    /// What the children of a domain share.
    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.shared
    }
}

/// The tables of a domain, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops = &sys::fi_ops { close: Some(close::<S>), ..stubs::FID };
    const DOMAIN: &'static sys::abi::OpsDomain = &sys::abi::OpsDomain {
        base: sys::fi_ops_domain {
            size: size_of::<sys::abi::OpsDomain>(),
            av_open: Some(av::open::<S>),
            cq_open: Some(cq::open::<S>),
            endpoint: Some(ep::open::<S>),
            scalable_ep: Some(stubs::int4),
            cntr_open: Some(cntr::open::<S>),
            poll_open: Some(poll::open::<S>),
            stx_ctx: Some(stubs::int4),
            srx_ctx: Some(stubs::int4),
            query_atomic: Some(atomic::query),
            query_collective: Some(stubs::int4),
            endpoint2: Some(ep::open2::<S>),
        },
        xpu_ctx: Some(stubs::refused),
    };
    const MR: &'static sys::fi_ops_mr = &sys::fi_ops_mr {
        size: size_of::<sys::fi_ops_mr>(),
        reg: Some(mr::reg::<S>),
        regv: Some(mr::regv::<S>),
        regattr: Some(mr::regattr::<S>),
    };
}

/// `fi_domain`: opens a domain of a fabric whose application asked for `api_version`. The domain holds `fabric` until it is closed: the fabric counts
/// its children by it (`Arc::strong_count`).
///
/// # Safety
/// The pointers are those of the `fi_ops_fabric.domain` call.
pub(crate) unsafe fn open(
    fabric: Arc<()>,
    api_version: u32,
    info: *mut sys::fi_info,
    domain: *mut *mut sys::fid_domain,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: the caller promises it.
        let info = unsafe { cptr::required(info.cast_const()) };
        to_c(info.and_then(|info| {
            let attributes = Attributes::read(api_version, info, settings().progress)?;
            // With a thread of our own the application's promise to come alone is worth nothing.
            let fid = if attributes.one_thread_at_a_time && !attributes.automatic {
                publish::<Biased>(fabric, &attributes, context)?
            } else {
                publish::<Mutual>(fabric, &attributes, context)?
            };
            // SAFETY: the caller promises it.
            unsafe { cptr::give(domain, fid) };
            Ok(())
        }))
    })
}

/// What of `fi_info` decides how a domain is made.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    api_version: u32,
    one_thread_at_a_time: bool,
    /// Progress is made by a thread of ours too (FI_PROGRESS_AUTO).
    automatic: bool,
    /// A thread of ours stands in for an application that makes none.
    stands_in: bool,
    family: Family,
    provider_keys: bool,
    virtual_addresses: bool,
}

impl Attributes {
    fn read(api_version: u32, info: &sys::fi_info, progress: Progress) -> Result<Self> {
        // SAFETY: `fi_info` points to its attributes or to nothing.
        let attributes = unsafe { cptr::required(info.domain_attr.cast_const()) }?;
        let family = Family::of_format(info.addr_format).ok_or(Errno::INVAL)?;
        let keys = sys::FI_MR_BASIC | sys::FI_MR_PROV_KEY;
        let asked = [attributes.control_progress, attributes.data_progress];
        Ok(Self {
            api_version,
            one_thread_at_a_time: attributes.threading == sys::FI_THREAD_DOMAIN,
            automatic: match progress {
                Progress::AsAsked => asked.contains(&sys::FI_PROGRESS_AUTO),
                Progress::Auto => true,
                Progress::Manual => false,
            },
            stands_in: progress != Progress::Manual,
            family,
            provider_keys: attributes.mr_mode & keys != 0,
            virtual_addresses: attributes.mr_mode & (sys::FI_MR_BASIC | sys::FI_MR_VIRT_ADDR) != 0,
        })
    }
}

fn make<S: Serialize>(fabric: Arc<()>, attributes: &Attributes) -> Arc<Shared<S>> {
    let state = State {
        engine: Engine::new(),
        waits: Waits::default(),
        endpoints: Vec::new(),
        reads: 0,
        calls: 0,
        worked: false,
        idle: Idle::default(),
        stand_in: None,
    };
    // SAFETY: `Biased` is chosen only when the application promised, by FI_THREAD_DOMAIN, that it never enters the domain from two threads at once; visitors have the system's barrier.
    let guarded = unsafe { Guarded::<S, State>::new(state) };
    Arc::new(Shared {
        guarded: ManuallyDrop::new(guarded),
        latch: Latch::new(),
        told: Latch::new(),
        generation: fork::generation(),
        thread: ProgressThread::default(),
        automatic: attributes.automatic,
        api_version: attributes.api_version,
        family: attributes.family,
        provider_keys: attributes.provider_keys,
        virtual_addresses: attributes.virtual_addresses,
        _fabric: fabric,
    })
}

fn publish<S: Serialize>(
    fabric: Arc<()>,
    attributes: &Attributes,
    context: *mut c_void,
) -> Result<*mut sys::fid_domain> {
    let shared = make::<S>(fabric, attributes);
    // First: whoever ends the process finds the thread.
    exit::watch(&shared);
    if attributes.automatic {
        progress::start(&shared)?;
    } else if attributes.stands_in {
        progress::stand_in(&shared);
    }
    let face = sys::fid_domain {
        fid: fid::head(Domain::<S>::CLASS, context, Tables::<S>::FID),
        ops: fid::table(&Tables::<S>::DOMAIN.base),
        mr: fid::table(Tables::<S>::MR),
    };
    Ok(fid::publish(Box::new(Domain { face: Face::new(face), shared })))
}

/// `fi_close` of a domain: refused while anything opened on it is open.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(fid.cast()) };
        // Another thread may be helping it along just now.
        let _held = exit::hold();
        if Arc::strong_count(&domain.shared) > 1 + domain.shared.thread.references() {
            return Errno::BUSY.negative();
        }
        if progress::stop(&domain.shared) == Reference::Orphaned {
            // SAFETY: the thread's reference was made from an `Arc` like this one, and in this process no thread has it.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&domain.shared)) };
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Domain<S>>(fid.cast()) });
        0
    })
}

/// `fi_trywait` for one object of a domain: FI_CLASS_CQ and FI_CLASS_CNTR. `-FI_EAGAIN` when something is pending, 0 when the caller may block on the
/// object's descriptor.
///
/// # Safety
/// `fid` is a live fid of one of our completion queues or counters.
pub(crate) unsafe fn trywait(fid: *mut sys::fid) -> c_int {
    const CQ: usize = fid::class_of(sys::FI_CLASS_CQ);
    const CNTR: usize = fid::class_of(sys::FI_CLASS_CNTR);
    // The flavour of the domain is behind the object's own table: `control` is where the table is known.
    // SAFETY: the caller promises a live fid.
    match unsafe { fid::class(fid) } {
        // SAFETY: as above.
        CQ | CNTR => unsafe { control_trywait(fid) },
        _ => Errno::INVAL.negative(),
    }
}

/// Our own command of `fi_control`, far from libfabric's: `fi_trywait` arrives at the fabric, which does not know the flavour of the object's lock.
pub(crate) const CONTROL_TRYWAIT: c_int = 0x7264_0001;

unsafe fn control_trywait(fid: *mut sys::fid) -> c_int {
    // SAFETY: a live fid has a table.
    let ops = unsafe { (*fid).ops };
    // SAFETY: as above.
    let control = unsafe { (*ops).control };
    match control {
        // SAFETY: the object's own operation, which takes no argument with this command.
        Some(control) => unsafe { control(fid, CONTROL_TRYWAIT, core::ptr::null_mut()) },
        None => Errno::INVAL.negative(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A domain without its C object.
    pub(crate) fn shared<S: Serialize>() -> Arc<Shared<S>> {
        make(Arc::new(()), &ATTRIBUTES)
    }

    const ATTRIBUTES: Attributes = Attributes {
        api_version: 0,
        one_thread_at_a_time: false,
        automatic: false,
        stands_in: false,
        family: Family::Any,
        provider_keys: false,
        virtual_addresses: false,
    };

    fn panic_shuts_the_domain<S: Serialize>() {
        let shared = shared::<S>();
        let call = || entry(|| to_c(shared.with(|_| Ok(()))));
        assert_eq!(call(), 0);
        let panicked: c_int = entry(|| to_c(shared.with(|_| panic!("a test's panic"))));
        assert_eq!(panicked, Errno::OTHER.negative());
        assert_eq!(call(), Errno::OTHER.negative(), "refused from now on");
        assert!(!shared.is_usable());
        let mut entered = false;
        shared.try_with(|_| entered = true);
        assert!(!entered, "not even at the end of the process");
    }

    #[test]
    fn a_panic_shuts_its_domain_and_no_other() {
        let other = shared::<Mutual>();
        panic_shuts_the_domain::<Mutual>();
        panic_shuts_the_domain::<Biased>();
        assert_eq!(other.with(|_| Ok(7)), Ok(7));
    }

    #[test]
    fn reads_that_find_something_progress_now_and_then() {
        let shared = shared::<Mutual>();
        let skipped =
            shared.with(|state| Ok((0..READS_PER_PROGRESS).filter(|_| state.may_skip_progress()).count()));
        assert_eq!(skipped, Ok(READS_PER_PROGRESS as usize - 1));
    }

    #[test]
    fn progress_is_decided_by_the_attributes_unless_the_user_does() {
        // SAFETY: all-zero is a valid value of these plain C structs.
        let mut domain: sys::fi_domain_attr = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        let mut info: sys::fi_info = unsafe { core::mem::zeroed() };
        let (auto, manual) = (sys::FI_PROGRESS_AUTO, sys::FI_PROGRESS_MANUAL);
        for (control, data, as_asked) in [
            (0, 0, false),
            (manual, manual, false),
            (manual, auto, true),
            (auto, manual, true),
            (auto, auto, true),
        ] {
            domain.control_progress = control;
            domain.data_progress = data;
            info.domain_attr = &mut domain;
            let automatic = |progress| Attributes::read(5, &info, progress).expect("complete").automatic;
            let decided = [Progress::AsAsked, Progress::Auto, Progress::Manual].map(automatic);
            assert_eq!(decided, [as_asked, true, false], "({control}, {data})");
        }
    }

    #[test]
    fn attributes_decide_the_flavour_and_the_keys() {
        // SAFETY: all-zero is a valid value of these plain C structs.
        let mut domain: sys::fi_domain_attr = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        let mut info: sys::fi_info = unsafe { core::mem::zeroed() };
        assert_eq!(
            Attributes::read(5, &info, Progress::AsAsked).err(),
            Some(Errno::INVAL),
            "no domain attributes"
        );
        domain.threading = sys::FI_THREAD_DOMAIN;
        domain.mr_mode = sys::FI_MR_BASIC;
        info.domain_attr = &mut domain;
        info.addr_format = sys::FI_SOCKADDR_IN6;
        let read = Attributes::read(5, &info, Progress::AsAsked).expect("complete");
        assert!(read.one_thread_at_a_time && read.provider_keys && read.virtual_addresses);
        assert_eq!((read.api_version, read.family), (5, Family::V6));
        domain.threading = sys::FI_THREAD_COMPLETION;
        domain.mr_mode = 0;
        info.domain_attr = &mut domain;
        let read = Attributes::read(5, &info, Progress::AsAsked).expect("complete");
        assert!(!read.one_thread_at_a_time && !read.provider_keys && !read.virtual_addresses);
        info.addr_format = sys::FI_SOCKADDR_IB;
        assert_eq!(Attributes::read(5, &info, Progress::AsAsked).err(), Some(Errno::INVAL));
    }
}
