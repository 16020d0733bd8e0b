//! Endpoints: opening, binding, enabling, closing.
//!
//! Responsible for `fid_ep` and for what libfabric knows of an endpoint that the engine does not: flags, limits, bindings until it is enabled. The engine's
//! endpoint exists from enable to close. Must never look at a message.

mod alias;
mod attributes;
mod closing;
mod options;

pub(crate) use closing::end_all;

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use rdgram_engine::{
    ATOMIC_MAX, AvId, CntrId, CounterEvents, CqId, Datapath as _, Direction, EpConfig, EpId, OpFlags,
};
use rdgram_host::HostDatapath;
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::address::Family;
use crate::av::Av;
use crate::cntr::Cntr;
use crate::cq::Cq;
use crate::domain::{Domain, Engine, Shared, State};
use crate::eq::{self, EventSink};
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Child, Object};
use crate::flags::{self, Reporting};
use crate::guard::entry;
use crate::info::offer;
use crate::param::settings;
use crate::{atomic, cm, cptr, msg, rma, stubs, tagged, tostr};
use attributes::{Attributes, Needs, choose_address, config, open_socket};

/// `fid_ep`.
#[repr(C)]
pub(crate) struct Ep<S: Serialize> {
    child: Child<sys::fid_ep>,
    shared: Arc<Shared<S>>,
    /// Of its own: what operations find their flags by.
    slot: usize,
    /// Of the endpoint that it stands for: another one than its own when it is an alias.
    home: usize,
}

// SAFETY: `repr(C)`, and `Child<fid_ep>` is the first field.
unsafe impl<S: Serialize> Object for Ep<S> {
    type Fid = sys::fid_ep;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_EP);
}

/// What an operation is: each kind has its own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `fi_msg(3)`.
    Untagged,
    /// `fi_tagged(3)`.
    Tagged,
    /// `fi_rma(3)`.
    Rma,
    /// `fi_atomic(3)`.
    Atomic,
}

impl Kind {
    /// The tag, where there is one.
    #[inline]
    pub(crate) fn tag(self, tag: u64) -> Option<u64> {
        match self {
            Self::Tagged => Some(tag),
            Self::Untagged | Self::Rma | Self::Atomic => None,
        }
    }
}

/// What bounds one kind of operations, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest message, or bytes of the target's memory that one operation touches.
    pub(crate) message: usize,
    /// Largest injected one.
    pub(crate) inject: usize,
}

/// One direction of an endpoint.
#[derive(Debug)]
pub(crate) struct Way {
    /// `op_flags`, as the application gave them.
    op_flags: u64,
    /// When completions are written.
    pub(crate) reporting: Reporting,
    /// What `op_flags` and the binding mean for calls without flags of their own.
    pub(crate) call: OpFlags,
    queue: Option<(CqId, Arc<()>)>,
}

/// From open to enable a bound socket, then an endpoint of the engine's. An alias has neither.
#[derive(Debug)]
enum Phase {
    Made(Box<HostDatapath>),
    Enabled(EpId),
    /// Other flags for operations of the endpoint in the slot `home`: its id once it is enabled.
    Alias {
        home: usize,
        id: Option<EpId>,
    },
    /// Something failed half-way, or it is being closed.
    Gone,
}

/// What libfabric knows of an endpoint: under the domain's lock.
#[derive(Debug)]
pub(crate) struct EpState {
    phase: Phase,
    socket: RawFd,
    /// It may share memory with endpoints of this host.
    shares_memory: bool,
    config: EpConfig,
    /// Sends.
    pub(crate) tx: Way,
    /// Receives.
    pub(crate) rx: Way,
    /// Receives match by source too (FI_DIRECTED_RECV).
    pub(crate) directed: bool,
    /// By [`Kind`].
    limits: [Limits; 4],
    needs: Needs,
    sizes: Sizes,
    av: Option<(AvId, Arc<()>)>,
    counters: Vec<(CntrId, CounterEvents, Arc<()>)>,
    sink: Option<EventSink>,
}

/// `tx_attr.size` and `rx_attr.size`.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    tx: usize,
    rx: usize,
}

impl EpState {
    /// The engine's name of it, once enabled.
    #[inline]
    pub(crate) fn id(&self) -> Option<EpId> {
        match self.phase {
            Phase::Enabled(id) => Some(id),
            Phase::Alias { id, .. } => id,
            Phase::Made(_) | Phase::Gone => None,
        }
    }

    /// What bounds operations of a kind.
    #[inline]
    pub(crate) fn limits(&self, kind: Kind) -> Limits {
        self.limits[kind as usize]
    }

    /// Completions of either direction go to this queue.
    pub(crate) fn reports_to(&self, cq: CqId) -> bool {
        [&self.tx, &self.rx].iter().any(|way| way.queue.as_ref().is_some_and(|(queue, _)| *queue == cq))
    }

    /// The vector it is bound to.
    pub(crate) fn av(&self) -> Option<AvId> {
        self.av.as_ref().map(|(av, _)| *av)
    }

    /// The address that peers know it by.
    pub(crate) fn name(&self, engine: &Engine) -> Result<SocketAddr> {
        match &self.phase {
            Phase::Made(datapath) => Ok(datapath.local_address()),
            Phase::Enabled(id) => Ok(engine.ep_address(*id)),
            Phase::Alias { .. } | Phase::Gone => Err(Errno::OPBADSTATE),
        }
    }

    /// Recomputes what calls without flags mean, after `op_flags` or a binding changed.
    fn resolve_flags(&mut self) -> Result {
        let tx = flags::send(self.tx.op_flags, self.tx.reporting)?;
        let rx = flags::recv(self.rx.op_flags, self.rx.reporting)?;
        self.tx.call = tx;
        self.rx.call = rx;
        Ok(())
    }
}

impl<S: Serialize> Ep<S> {
    /// The domain's.
    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.shared
    }

    /// Index of what operations are to look at.
    #[inline]
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Does something with the endpoint's state under the lock, also through an alias.
    fn with<R>(&self, work: impl FnOnce(&mut EpState, &mut Engine) -> Result<R>) -> Result<R> {
        self.shared.with(|state| {
            let State { engine, endpoints, .. } = state;
            let endpoint = endpoints.get_mut(self.home).and_then(Option::as_mut).ok_or(Errno::OPBADSTATE)?;
            work(endpoint, engine)
        })
    }

    /// The address that peers know it by.
    pub(crate) fn name(&self) -> Result<SocketAddr> {
        self.with(|endpoint, engine| endpoint.name(engine))
    }

    /// Binds to another address.
    pub(crate) fn rename(&self, name: SocketAddr) -> Result {
        if !self.shared.family.has(name.ip()) {
            return Err(Errno::INVAL);
        }
        self.with(|endpoint, _| {
            let Phase::Made(_) = endpoint.phase else { return Err(Errno::OPBADSTATE) };
            let datapath = open_socket(name, settings())?;
            endpoint.socket = datapath.fd().as_raw_fd();
            endpoint.phase = Phase::Made(Box::new(datapath));
            Ok(())
        })
    }
}

/// The tables of an endpoint, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops = &sys::fi_ops {
        close: Some(closing::close::<S>),
        bind: Some(bind::<S>),
        control: Some(control::<S>),
        tostr: Some(tostr::endpoint::<S>),
        ..stubs::FID
    };
    const EP: &'static sys::abi::OpsEp = &sys::abi::OpsEp {
        base: sys::fi_ops_ep {
            size: size_of::<sys::abi::OpsEp>(),
            cancel: Some(cancel::<S>),
            getopt: Some(options::getopt::<S>),
            setopt: Some(options::setopt::<S>),
            tx_ctx: Some(stubs::int5),
            rx_ctx: Some(stubs::int5),
            rx_size_left: Some(options::rx_size_left::<S>),
            tx_size_left: Some(options::tx_size_left::<S>),
        },
        export_xpu: Some(stubs::refused),
    };

    fn face(context: *mut c_void) -> sys::fid_ep {
        sys::fid_ep {
            fid: fid::head(Ep::<S>::CLASS, context, Self::FID),
            ops: fid::table(&Self::EP.base),
            cm: fid::table(cm::Tables::<S>::CM),
            msg: fid::table(msg::Tables::<S>::MSG),
            rma: fid::table(rma::Tables::<S>::RMA),
            tagged: fid::table(tagged::Tables::<S>::TAGGED),
            atomic: fid::table(atomic::Tables::<S>::ATOMIC),
            collective: fid::table(stubs::COLLECTIVE),
        }
    }
}

/// `fi_endpoint2`: no flags exist for our kind of endpoints.
pub(crate) unsafe extern "C" fn open2<S: Serialize>(
    domain: *mut sys::fid_domain,
    info: *mut sys::fi_info,
    ep: *mut *mut sys::fid_ep,
    flags: u64,
    context: *mut c_void,
) -> c_int {
    if flags != 0 {
        return Errno::INVAL.negative();
    }
    // SAFETY: the same promises.
    unsafe { open::<S>(domain, info, ep, context) }
}

/// `fi_endpoint`.
pub(crate) unsafe extern "C" fn open<S: Serialize>(
    domain: *mut sys::fid_domain,
    info: *mut sys::fi_info,
    ep: *mut *mut sys::fid_ep,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(domain) };
        // SAFETY: libfabric's caller gives a struct or nothing.
        let info = unsafe { cptr::required(info.cast_const()) };
        to_c(info.and_then(|info| {
            let shared = domain.shared();
            let state = make(&Attributes::read(info)?, shared.family, shared.automatic)?;
            let slot = shared.with(|domain| Ok(place(&mut domain.endpoints, state)))?;
            let endpoint = Ep {
                child: Child::new(Tables::<S>::face(context), shared),
                shared: Arc::clone(shared),
                slot,
                home: slot,
            };
            // SAFETY: libfabric's caller gives a place.
            unsafe { cptr::give(ep, fid::publish(Box::new(endpoint))) };
            Ok(())
        }))
    })
}

fn make(attributes: &Attributes, family: Family, automatic: bool) -> Result<EpState> {
    let settings = settings();
    let datapath = open_socket(choose_address(attributes.source, family, settings)?, settings)?;
    let config = config(settings, attributes, automatic);
    let limits = Limits { message: offer::MESSAGE_MAX, inject: config.inject_max };
    let atomics = Limits { message: ATOMIC_MAX, inject: config.inject_max.min(ATOMIC_MAX) };
    let way =
        |op_flags| Way { op_flags, reporting: Reporting::default(), call: OpFlags::empty(), queue: None };
    let mut state = EpState {
        socket: datapath.fd().as_raw_fd(),
        phase: Phase::Made(Box::new(datapath)),
        shares_memory: settings.local,
        config,
        tx: way(attributes.tx_op_flags),
        rx: way(attributes.rx_op_flags),
        directed: attributes.caps & sys::FI_DIRECTED_RECV != 0,
        limits: [limits, limits, limits, atomics],
        needs: attributes.needs(),
        sizes: Sizes { tx: attributes.tx_size, rx: attributes.rx_size },
        av: None,
        counters: Vec::new(),
        sink: None,
    };
    state.resolve_flags()?;
    Ok(state)
}

fn place(endpoints: &mut Vec<Option<EpState>>, state: EpState) -> usize {
    let slot = endpoints.iter().position(Option::is_none).unwrap_or(endpoints.len());
    if slot == endpoints.len() {
        endpoints.push(None);
    }
    endpoints[slot] = Some(state);
    slot
}

/// `fi_ep_bind`.
unsafe extern "C" fn bind<S: Serialize>(fid: *mut sys::fid, bfid: *mut sys::fid, flags: u64) -> c_int {
    const CQ: usize = fid::class_of(sys::FI_CLASS_CQ);
    const CNTR: usize = fid::class_of(sys::FI_CLASS_CNTR);
    const AV: usize = fid::class_of(sys::FI_CLASS_AV);
    const EQ: usize = fid::class_of(sys::FI_CLASS_EQ);
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        if bfid.is_null() {
            return Errno::INVAL.negative();
        }
        // SAFETY: the application binds a live fid.
        to_c(match unsafe { fid::class(bfid) } {
            CQ => {
                // SAFETY: as above.
                let cq = unsafe { fid::sibling::<Cq<S>, _>(bfid, &ep.shared) };
                cq.and_then(|cq| bind_cq(ep, cq, flags))
            }
            CNTR => {
                // SAFETY: as above.
                let cntr = unsafe { fid::sibling::<Cntr<S>, _>(bfid, &ep.shared) };
                cntr.and_then(|cntr| bind_cntr(ep, cntr, flags))
            }
            AV => {
                // SAFETY: as above.
                let av = unsafe { fid::sibling::<Av<S>, _>(bfid, &ep.shared) };
                av.and_then(|av| bind_av(ep, av))
            }
            EQ => {
                // SAFETY: as above.
                let sink = unsafe { eq::sink(bfid) };
                sink.and_then(|sink| bind_eq(ep, sink))
            }
            _ => Err(Errno::INVAL),
        })
    })
}

/// Binding ends when the endpoint is enabled.
fn not_enabled(endpoint: &EpState) -> Result {
    if matches!(endpoint.phase, Phase::Made(_)) { Ok(()) } else { Err(Errno::OPBADSTATE) }
}

fn bind_cq<S: Serialize>(ep: &Ep<S>, cq: &Cq<S>, flags: u64) -> Result {
    const KNOWN: u64 = sys::FI_TRANSMIT | sys::FI_RECV | sys::FI_SELECTIVE_COMPLETION;
    if flags & !KNOWN != 0 || flags & (sys::FI_TRANSMIT | sys::FI_RECV) == 0 {
        return Err(Errno::BADFLAGS);
    }
    ep.with(|endpoint, _| {
        not_enabled(endpoint)?;
        let reporting = Reporting { bound: true, selective: flags & sys::FI_SELECTIVE_COMPLETION != 0 };
        let taken = (flags & sys::FI_TRANSMIT != 0 && endpoint.tx.queue.is_some())
            || (flags & sys::FI_RECV != 0 && endpoint.rx.queue.is_some());
        if taken {
            return Err(Errno::INVAL);
        }
        for (bit, way) in [(sys::FI_TRANSMIT, &mut endpoint.tx), (sys::FI_RECV, &mut endpoint.rx)] {
            if flags & bit != 0 {
                way.queue = Some((cq.id(), cq.hold()));
                way.reporting = reporting;
            }
        }
        if endpoint.needs.source {
            cq.report_source();
        }
        endpoint.resolve_flags()
    })
}

fn bind_cntr<S: Serialize>(ep: &Ep<S>, cntr: &Cntr<S>, flags: u64) -> Result {
    let events = flags::counter_events(flags)?;
    if events.is_empty() {
        return Err(Errno::BADFLAGS);
    }
    ep.with(|endpoint, _| {
        not_enabled(endpoint)?;
        if endpoint.counters.iter().any(|(_, other, _)| other.intersects(events)) {
            return Err(Errno::INVAL);
        }
        endpoint.counters.push((cntr.id(), events, cntr.hold()));
        Ok(())
    })
}

fn bind_av<S: Serialize>(ep: &Ep<S>, av: &Av<S>) -> Result {
    ep.with(|endpoint, _| {
        not_enabled(endpoint)?;
        if endpoint.av.is_some() {
            return Err(Errno::INVAL);
        }
        endpoint.av = Some((av.id(), av.hold()));
        Ok(())
    })
}

/// Nothing is reported to it: there are no connections.
fn bind_eq<S: Serialize>(ep: &Ep<S>, sink: EventSink) -> Result {
    ep.with(|endpoint, _| {
        not_enabled(endpoint)?;
        if endpoint.sink.is_some() {
            return Err(Errno::INVAL);
        }
        endpoint.sink = Some(sink);
        Ok(())
    })
}

/// `fi_control`: FI_ENABLE, flags, FI_ALIAS.
unsafe extern "C" fn control<S: Serialize>(fid: *mut sys::fid, command: c_int, arg: *mut c_void) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        to_c(match fid::command(command) {
            sys::FI_ENABLE => ep.shared.with(|state| enable(state, ep.home)),
            // SAFETY: the argument of this command is a `struct fi_alias`.
            sys::FI_ALIAS => unsafe { alias::open(ep, arg.cast()) },
            // SAFETY: the argument of these commands is a number.
            sys::FI_GETOPSFLAG => unsafe { options::get_op_flags(ep, arg.cast()) },
            // SAFETY: as above.
            sys::FI_SETOPSFLAG => unsafe { options::set_op_flags(ep, arg.cast()) },
            _ => Err(Errno::NOSYS),
        })
    })
}

fn enable(state: &mut State, slot: usize) -> Result {
    let State { engine, waits, endpoints, .. } = state;
    let endpoint = endpoints.get_mut(slot).and_then(Option::as_mut).ok_or(Errno::OPBADSTATE)?;
    not_enabled(endpoint)?;
    check_bindings(endpoint)?;
    let Phase::Made(mut datapath) = core::mem::replace(&mut endpoint.phase, Phase::Gone) else {
        return Err(Errno::OPBADSTATE);
    };
    if endpoint.shares_memory {
        datapath.permit_local(settings().dma, crate::notice::explain_local);
    }
    let id = engine.ep_open(endpoint.config.clone(), *datapath);
    let enabled = apply_bindings(engine, endpoint, id)
        .and_then(|()| waits.add_socket(endpoint.socket).map_err(|error| Errno::from_os(&error)));
    match enabled {
        Ok(()) => {
            endpoint.phase = Phase::Enabled(id);
            alias::refresh(endpoints, slot)
        }
        Err(errno) => {
            waits.remove_socket(endpoint.socket);
            endpoint.phase = Phase::Made(Box::new(engine.ep_remove(id)));
            Err(errno)
        }
    }
}

/// `fi_enable`: each direction used needs a queue or a counter, and all need an address vector.
fn check_bindings(endpoint: &EpState) -> Result {
    let counted = |events| endpoint.counters.iter().any(|(_, bound, _)| bound.intersects(events));
    let blind = |needed: bool, way: &Way, events| needed && way.queue.is_none() && !counted(events);
    if blind(endpoint.needs.transmit, &endpoint.tx, CounterEvents::SEND)
        || blind(endpoint.needs.receive, &endpoint.rx, CounterEvents::RECV)
    {
        return Err(Errno::NOCQ);
    }
    if endpoint.av.is_none() { Err(Errno::NOAV) } else { Ok(()) }
}

fn apply_bindings(engine: &mut Engine, endpoint: &EpState, id: EpId) -> Result {
    for (way, direction) in [(&endpoint.tx, Direction::Transmit), (&endpoint.rx, Direction::Receive)] {
        if let Some((cq, _)) = &way.queue {
            engine.ep_bind_cq(id, *cq, direction).map_err(|_| Errno::INVAL)?;
        }
    }
    for (cntr, events, _) in &endpoint.counters {
        engine.ep_bind_cntr(id, *cntr, *events).map_err(|_| Errno::INVAL)?;
    }
    if let Some((av, _)) = &endpoint.av {
        engine.ep_bind_av(id, *av).map_err(|_| Errno::INVAL)?;
    }
    Ok(engine.ep_enable(id)?)
}

/// `fi_cancel`.
unsafe extern "C" fn cancel<S: Serialize>(fid: *mut sys::fid, context: *mut c_void) -> isize {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        let cancelled = ep.with(|endpoint, engine| {
            let id = endpoint.id().ok_or(Errno::OPBADSTATE)?;
            Ok(engine.cancel(id, context.expose_provenance())?)
        });
        to_c(cancelled) as isize
    })
}
