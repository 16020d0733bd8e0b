//! Address vectors: addresses in, indices out.
//!
//! Responsible for `fi_av(3)`: insertion in all its forms, per-address errors, events, lookup. Must never resolve a name with the domain's lock held.

mod names;

use core::ffi::{c_char, c_int, c_void};
use core::marker::PhantomData;
use core::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rdgram_engine::{AvId, FiAddr};
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use crate::address::{self, Family};
use crate::domain::{Domain, Shared};
use crate::eq::EventSink;
use crate::errno::{Errno, Result, to_c};
use crate::fid::{self, Child, Object};
use crate::guard::entry;
use crate::{cptr, eq, stubs};
use names::{Names, symmetric};

/// Addresses for which room is made at once at most, whatever the application expects; a vector grows beyond.
const COUNT_MAX: usize = 1 << 16;
/// Most addresses that one symmetric insertion may make.
const SYMMETRIC_MAX: usize = 1 << 24;

/// `fid_av`.
#[repr(C)]
pub(crate) struct Av<S: Serialize> {
    child: Child<sys::fid_av>,
    shared: Arc<Shared<S>>,
    id: AvId,
    /// Opened with FI_EVENT: insertions are reported to the event queue.
    events: bool,
    sink: OnceLock<EventSink>,
    /// Held by each endpoint bound to it.
    users: Arc<()>,
}

// SAFETY: `repr(C)`, and `Child<fid_av>` is the first field.
unsafe impl<S: Serialize> Object for Av<S> {
    type Fid = sys::fid_av;
    const CLASS: usize = fid::class_of(sys::FI_CLASS_AV);
}

impl<S: Serialize> Av<S> {
    /// The engine's name of it.
    pub(crate) fn id(&self) -> AvId {
        self.id
    }

    /// Kept by an endpoint as long as it is bound.
    pub(crate) fn hold(&self) -> Arc<()> {
        Arc::clone(&self.users)
    }

    fn family(&self) -> Family {
        self.shared.family
    }
}

/// The tables of a vector, for one flavour of lock.
struct Tables<S>(PhantomData<S>);

impl<S: Serialize> Tables<S> {
    const FID: &'static sys::fi_ops =
        &sys::fi_ops { close: Some(close::<S>), bind: Some(bind::<S>), ..stubs::FID };
    const AV: &'static sys::abi::OpsAv = &sys::abi::OpsAv {
        base: sys::fi_ops_av {
            size: size_of::<sys::abi::OpsAv>(),
            insert: Some(insert::<S>),
            insertsvc: Some(insertsvc::<S>),
            insertsym: Some(insertsym::<S>),
            remove: Some(remove::<S>),
            lookup: Some(lookup::<S>),
            straddr: Some(straddr::<S>),
            av_set: Some(stubs::int4),
        },
        insert_auth_key: Some(stubs::int5),
        lookup_auth_key: Some(stubs::int4),
        set_user_id: Some(stubs::int4),
        lookup2: Some(stubs::refused),
    };
}

/// What of `fi_av_attr` decides how a vector is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attributes {
    count: usize,
    events: bool,
}

impl Attributes {
    fn read(attr: &sys::fi_av_attr) -> Result<Self> {
        // A named vector is shared between processes; an application that is given one uses `map_addr` unseen.
        if !attr.name.is_null() {
            return Err(Errno::NOSYS);
        }
        if attr.flags & !(sys::FI_EVENT | sys::FI_READ | sys::FI_SYMMETRIC) != 0 {
            return Err(Errno::INVAL);
        }
        if attr.type_ > sys::FI_AV_TABLE || !(0..=64).contains(&attr.rx_ctx_bits) {
            return Err(Errno::INVAL);
        }
        Ok(Self { count: attr.count.min(COUNT_MAX), events: attr.flags & sys::FI_EVENT != 0 })
    }
}

/// `fi_av_open`. Tables and maps are the same here: an address is its index.
pub(crate) unsafe extern "C" fn open<S: Serialize>(
    domain: *mut sys::fid_domain,
    attr: *mut sys::fi_av_attr,
    av: *mut *mut sys::fid_av,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let domain = unsafe { fid::object::<Domain<S>>(domain) };
        // SAFETY: libfabric's caller gives a struct or nothing.
        let given = unsafe { cptr::required(attr.cast_const()) }.copied();
        to_c(given.and_then(|given| {
            let attributes = Attributes::read(&given)?;
            let shared = domain.shared();
            let id = shared.with(|state| Ok(state.engine.av_open(attributes.count)))?;
            if given.type_ == sys::FI_AV_UNSPEC {
                // SAFETY: not null, as `required` saw.
                unsafe { attr.write(sys::fi_av_attr { type_: sys::FI_AV_TABLE, ..given }) };
            }
            let face = sys::fid_av {
                fid: fid::head(Av::<S>::CLASS, context, Tables::<S>::FID),
                ops: fid::table(&Tables::<S>::AV.base),
            };
            let vector = Av {
                child: Child::new(face, shared),
                shared: Arc::clone(shared),
                id,
                events: attributes.events,
                sink: OnceLock::new(),
                users: Arc::new(()),
            };
            // SAFETY: libfabric's caller gives a place.
            unsafe { cptr::give(av, fid::publish(Box::new(vector))) };
            Ok(())
        }))
    })
}

/// `fi_close` of a vector: refused while an endpoint is bound to it.
unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(fid.cast()) };
        // In a forked child, and after a panic, only memory is freed; what holds on to it there is never asked.
        if av.shared.is_usable() {
            if Arc::strong_count(&av.users) > 1 {
                return Errno::BUSY.negative();
            }
            let closed = av.shared.with(|state| state.engine.av_close(av.id).map_err(|_| Errno::BUSY));
            if closed == Err(Errno::BUSY) {
                return Errno::BUSY.negative();
            }
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Av<S>>(fid.cast()) });
        0
    })
}

/// `fi_av_bind`: an event queue, once.
unsafe extern "C" fn bind<S: Serialize>(fid: *mut sys::fid, bfid: *mut sys::fid, flags: u64) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(fid.cast()) };
        if flags != 0 {
            return Errno::BADFLAGS.negative();
        }
        // SAFETY: the application binds a live fid.
        let sink = unsafe { eq::sink(bfid) };
        to_c(sink.and_then(|sink| av.sink.set(sink).map_err(|_| Errno::INVAL)))
    })
}

/// Where one insertion reports: counts, per-address errors, events.
struct Report<'a> {
    fi_addr: *mut sys::fi_addr_t,
    /// With FI_SYNC_ERR, one error number per address.
    errors: *mut c_int,
    events: Option<&'a EventSink>,
    fid: *mut sys::fid,
    context: *mut c_void,
    index: usize,
    inserted: usize,
}

impl<'a> Report<'a> {
    /// Checks what the call asks for (`fi_av(3)`: FI_EVENT, FI_SYNC_ERR).
    ///
    /// # Safety
    /// The pointers are those of the call: `fi_addr` null or an array of `count`, `context` such an array of `int` with FI_SYNC_ERR.
    unsafe fn new<S: Serialize>(
        av: &'a Av<S>,
        count: usize,
        fi_addr: *mut sys::fi_addr_t,
        flags: u64,
        context: *mut c_void,
    ) -> Result<Self> {
        if flags & !(sys::FI_MORE | sys::FI_SYNC_ERR) != 0 {
            return Err(Errno::BADFLAGS);
        }
        let events = match (av.events, av.sink.get()) {
            (true, None) => return Err(Errno::NOEQ),
            (true, Some(sink)) => Some(sink),
            (false, _) => None,
        };
        let mut errors = core::ptr::null_mut();
        if flags & sys::FI_SYNC_ERR != 0 {
            if context.is_null() || events.is_some() {
                return Err(Errno::INVAL);
            }
            errors = context.cast::<c_int>();
            // SAFETY: the application's array of `count`.
            unsafe { core::ptr::write_bytes(errors, 0, count) };
        }
        let fid = av.child.pointer().cast();
        Ok(Self { fi_addr, errors, events, fid, context, index: 0, inserted: 0 })
    }

    /// The outcome of the next address.
    fn next(&mut self, outcome: Result<FiAddr>) {
        let address = outcome.map_or(sys::FI_ADDR_NOTAVAIL, |address| address.0);
        if !self.fi_addr.is_null() {
            let place = self.fi_addr.wrapping_add(self.index);
            // SAFETY: within the application's array: there are as many outcomes as addresses.
            unsafe { place.write(address) };
        }
        match outcome {
            Ok(_) => self.inserted += 1,
            Err(errno) => self.fail(errno),
        }
        self.index += 1;
    }

    fn fail(&self, errno: Errno) {
        if let Some(events) = self.events {
            events.av_error(self.fid, self.context, self.index, errno);
        }
        if !self.errors.is_null() {
            let place = self.errors.wrapping_add(self.index);
            // SAFETY: within the application's array, as above.
            unsafe { place.write(errno.number()) };
        }
    }

    /// What the call returns: the number of addresses, or 0 when an event tells it.
    fn finish(self) -> c_int {
        match self.events {
            Some(events) => {
                events.av_complete(self.fid, self.context, self.inserted);
                0
            }
            None => c_int::try_from(self.inserted).unwrap_or(c_int::MAX),
        }
    }
}

/// An address that a peer can have.
fn usable(address: SocketAddr, family: Family) -> bool {
    family.has(address.ip()) && address.port() != 0 && !address.ip().is_unspecified()
}

/// The address at the start of `bytes` and how far the next one is. The bytes end where the application's array may.
///
/// # Safety
/// `pointer` is valid for reading one address of the family (of its own family, when any is allowed).
unsafe fn read_address(pointer: *const u8, family: Family) -> (Option<SocketAddr>, usize) {
    let length = match family {
        Family::V4 => address::V4_LENGTH,
        Family::V6 => address::V6_LENGTH,
        Family::Any => {
            // SAFETY: every socket address begins with its family.
            let tag = unsafe { pointer.cast::<[u8; 2]>().read() };
            address::length_of_family(tag).unwrap_or(address::V4_LENGTH)
        }
    };
    // SAFETY: the caller promises it.
    let bytes = unsafe { core::slice::from_raw_parts(pointer, length) };
    (address::decode(bytes).filter(|&address| usable(address, family)), length)
}

/// `fi_av_insert`.
unsafe extern "C" fn insert<S: Serialize>(
    av: *mut sys::fid_av,
    addr: *const c_void,
    count: usize,
    fi_addr: *mut sys::fi_addr_t,
    flags: u64,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(av) };
        if addr.is_null() && count > 0 {
            return Errno::INVAL.negative();
        }
        // SAFETY: the application's arrays.
        let report = unsafe { Report::new(av, count, fi_addr, flags, context) };
        let inserted = report.and_then(|mut report| {
            av.shared.with(|state| {
                let mut next = addr.cast::<u8>();
                state.engine.av_reserve(av.id, count);
                for _ in 0..count {
                    // SAFETY: the application's array holds `count` addresses.
                    let (address, length) = unsafe { read_address(next, av.family()) };
                    next = next.wrapping_add(length);
                    report.next(
                        address.map(|address| state.engine.av_insert(av.id, address)).ok_or(Errno::INVAL),
                    );
                }
                Ok(())
            })?;
            Ok(report.finish())
        });
        inserted.unwrap_or_else(Errno::negative)
    })
}

/// Inserts what was resolved; `None` is a name that has no address.
unsafe fn insert_resolved<S: Serialize>(
    av: &Av<S>,
    addresses: &[Option<SocketAddr>],
    fi_addr: *mut sys::fi_addr_t,
    flags: u64,
    context: *mut c_void,
) -> Result<c_int> {
    // SAFETY: the application's arrays, of as many elements as names were given.
    let mut report = unsafe { Report::new(av, addresses.len(), fi_addr, flags, context) }?;
    av.shared.with(|state| {
        for address in addresses {
            let address = address.filter(|&address| usable(address, av.family()));
            report.next(
                address.map(|address| state.engine.av_insert(av.id, address)).ok_or(Errno::ADDRNOTAVAIL),
            );
        }
        Ok(())
    })?;
    Ok(report.finish())
}

/// `fi_av_insertsvc`: one node and service by name.
unsafe extern "C" fn insertsvc<S: Serialize>(
    av: *mut sys::fid_av,
    node: *const c_char,
    service: *const c_char,
    fi_addr: *mut sys::fi_addr_t,
    flags: u64,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the same promises; a single one is a range of one.
    unsafe { insertsym::<S>(av, node, 1, service, 1, fi_addr, flags, context) }
}

/// `fi_av_insertsym`: a range of nodes, each with a range of services.
unsafe extern "C" fn insertsym<S: Serialize>(
    av: *mut sys::fid_av,
    node: *const c_char,
    nodecnt: usize,
    service: *const c_char,
    svccnt: usize,
    fi_addr: *mut sys::fi_addr_t,
    flags: u64,
    context: *mut c_void,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(av) };
        // SAFETY: a C string of the application's, or null.
        let node = unsafe { cptr::string(node) };
        // SAFETY: as above.
        let service = unsafe { cptr::string(service) };
        let names = node.and_then(|node| Ok((node, service?)));
        let inserted = names.and_then(|(node, service)| {
            let (Some(node), Some(service)) = (node, service) else { return Err(Errno::INVAL) };
            let nodes = Names::new(node, nodecnt).ok_or(Errno::INVAL)?;
            let services = Names::new(service, svccnt).ok_or(Errno::INVAL)?;
            if nodecnt.checked_mul(svccnt).is_none_or(|count| count > SYMMETRIC_MAX) {
                return Err(Errno::INVAL);
            }
            let addresses = symmetric(av.family(), &nodes, &services);
            // SAFETY: the application's arrays have room for all combinations.
            unsafe { insert_resolved(av, &addresses, fi_addr, flags, context) }
        });
        inserted.unwrap_or_else(Errno::negative)
    })
}

/// `fi_av_remove`.
unsafe extern "C" fn remove<S: Serialize>(
    av: *mut sys::fid_av,
    fi_addr: *mut sys::fi_addr_t,
    count: usize,
    flags: u64,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(av) };
        if flags != 0 {
            return Errno::INVAL.negative();
        }
        // SAFETY: the application's array.
        let addresses = unsafe { cptr::array(fi_addr.cast_const(), count) };
        to_c(addresses.and_then(|addresses| {
            av.shared.with(|state| {
                let mut result = Ok(());
                for &address in addresses {
                    if !state.engine.av_remove(av.id, FiAddr(address)) {
                        result = Err(Errno::INVAL);
                    }
                }
                result
            })
        }))
    })
}

/// `fi_av_lookup`: what does not fit is cut off without an error; the full length is told.
unsafe extern "C" fn lookup<S: Serialize>(
    av: *mut sys::fid_av,
    fi_addr: sys::fi_addr_t,
    addr: *mut c_void,
    addrlen: *mut usize,
) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(av) };
        let found =
            av.shared.with(|state| state.engine.av_lookup(av.id, FiAddr(fi_addr)).ok_or(Errno::INVAL));
        to_c(found.and_then(|address| {
            // SAFETY: the application's buffer of the length it says.
            match unsafe { cptr::give_bytes(address::encode(address).bytes(), addr, addrlen) } {
                Err(Errno::TOOSMALL) => Ok(()),
                other => other,
            }
        }))
    })
}

/// `fi_av_straddr`. The length becomes what the whole text needs.
unsafe extern "C" fn straddr<S: Serialize>(
    av: *mut sys::fid_av,
    addr: *const c_void,
    buf: *mut c_char,
    len: *mut usize,
) -> *const c_char {
    entry(|| {
        // SAFETY: called through the table of this type.
        let av = unsafe { fid::object::<Av<S>>(av) };
        if addr.is_null() || len.is_null() {
            return buf.cast_const();
        }
        // SAFETY: an address of the domain's format.
        let tag = unsafe { addr.cast::<[u8; 2]>().read() };
        let length = address::length_of_family(tag).filter(|&length| match av.family() {
            Family::V4 => length == address::V4_LENGTH,
            Family::V6 => length == address::V6_LENGTH,
            Family::Any => true,
        });
        let text = length.map_or_else(String::new, |length| {
            // SAFETY: an address of this family.
            let bytes = unsafe { core::slice::from_raw_parts(addr.cast::<u8>(), length) };
            address::decode(bytes).map_or_else(String::new, address::text)
        });
        // SAFETY: not null.
        let room = unsafe { len.read() };
        // SAFETY: the application's buffer of the length it says.
        unsafe { cptr::give_text(text.as_bytes(), buf, room) };
        // SAFETY: not null.
        unsafe { len.write(text.len() + 1) };
        buf.cast_const()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> sys::fi_av_attr {
        sys::fi_av_attr {
            type_: sys::FI_AV_TABLE,
            rx_ctx_bits: 0,
            count: 4,
            ep_per_node: 0,
            name: core::ptr::null(),
            map_addr: core::ptr::null_mut(),
            flags: 0,
        }
    }

    #[test]
    fn attributes_are_checked() {
        let good = attributes();
        assert_eq!(Attributes::read(&good), Ok(Attributes { count: 4, events: false }));
        let events = sys::fi_av_attr { flags: sys::FI_EVENT, type_: sys::FI_AV_MAP, ..good };
        assert_eq!(Attributes::read(&events), Ok(Attributes { count: 4, events: true }));
        let named = sys::fi_av_attr { name: c"shared".as_ptr(), ..good };
        assert_eq!(Attributes::read(&named), Err(Errno::NOSYS));
        assert_eq!(Attributes::read(&sys::fi_av_attr { type_: 3, ..good }), Err(Errno::INVAL));
        assert_eq!(Attributes::read(&sys::fi_av_attr { flags: 1, ..good }), Err(Errno::INVAL));
        assert_eq!(Attributes::read(&sys::fi_av_attr { rx_ctx_bits: 65, ..good }), Err(Errno::INVAL));
        let huge = Attributes::read(&sys::fi_av_attr { count: usize::MAX, ..good });
        assert_eq!(huge, Ok(Attributes { count: COUNT_MAX, events: false }));
    }

    #[test]
    fn only_addresses_of_peers_are_usable() {
        let usable = |text: &str, family| usable(text.parse().expect("an address"), family);
        assert!(usable("10.0.0.1:5", Family::V4));
        assert!(usable("[::1]:5", Family::Any));
        assert!(!usable("10.0.0.1:0", Family::V4));
        assert!(!usable("0.0.0.0:5", Family::V4));
        assert!(!usable("[::1]:5", Family::V4));
    }

    #[test]
    fn addresses_are_read_by_the_domain_s_format() {
        let v4 = address::encode("10.0.0.1:80".parse().expect("an address"));
        // SAFETY: the bytes of one address.
        let (found, length) = unsafe { read_address(v4.bytes().as_ptr(), Family::V4) };
        assert_eq!((found.map(|address| address.to_string()), length), (Some("10.0.0.1:80".to_owned()), 16));
        let garbage = [0xFF_u8; 28];
        // SAFETY: enough bytes for either family.
        assert_eq!(unsafe { read_address(garbage.as_ptr(), Family::Any) }, (None, 16));
        // SAFETY: as above.
        assert_eq!(unsafe { read_address(garbage.as_ptr(), Family::V6) }, (None, 28));
    }
}
