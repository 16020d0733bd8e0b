//! `fi_getinfo`: what this provider offers, whether that is what was asked for, and on which interfaces.
//!
//! Responsible for the whole answer; nothing is opened here and nothing is kept. On any doubt the answer is `-FI_ENODATA`. Must never return a list that the core
//! cannot free with the C library's `free`.
//!
//! | file | what |
//! |---|---|
//! | `offer` | capabilities and limits: the one place that says what is offered |
//! | `hints` | what the application asked for, read once |
//! | `check` | the rules of matching |
//! | `answer` | the attributes returned |
//! | `place` | interfaces, addresses, names of fabrics and domains |
//! | `list` | the C structures, in the C library's memory |

mod answer;
mod check;
mod hints;
mod list;
pub(crate) mod offer;
mod place;
#[cfg(test)]
mod tests;

use core::ffi::{CStr, c_char, c_int};

use rdgram_sys as sys;

use crate::address::{self, Lookup};
use crate::errno::{Errno, Result, to_c};
use crate::log::{Level, Subsystem, log};
use crate::{cptr, param};
use hints::Hints;
use place::{Host, Network, Site, Wanted};

/// The body of `fi_provider.getinfo`.
///
/// # Safety
/// The arguments are those of the core's call: strings or null, hints in the core's layout (at least that of `version`) or null, a place for the list.
pub(crate) unsafe fn getinfo(
    version: u32,
    node: *const c_char,
    service: *const c_char,
    flags: u64,
    hints: *const sys::fi_info,
    list: *mut *mut sys::fi_info,
) -> c_int {
    // SAFETY: the core's promise.
    let query = unsafe { Query::read(version, node, service, flags, hints) };
    let answer = query.and_then(|query| infos(&query, &Host, param::settings().interface.as_deref()));
    to_c(answer.map(|infos| {
        // SAFETY: the core's promise.
        unsafe { cptr::give(list, infos.into_raw()) };
    }))
}

/// The arguments of one call.
#[derive(Clone, Copy, Debug)]
struct Query<'a> {
    version: u32,
    node: Option<&'a CStr>,
    service: Option<&'a CStr>,
    flags: u64,
    hints: Option<Hints<'a>>,
}

impl<'a> Query<'a> {
    /// # Safety
    /// As for [`getinfo`]; everything outlives `'a`.
    unsafe fn read(
        version: u32,
        node: *const c_char,
        service: *const c_char,
        flags: u64,
        hints: *const sys::fi_info,
    ) -> Result<Self> {
        // SAFETY: the caller's promise.
        let node = unsafe { text(node) };
        // SAFETY: the caller's promise.
        let service = unsafe { text(service) };
        // SAFETY: the caller's promise.
        let hints = unsafe { Hints::read(hints, version) }?;
        Ok(Self { version, node, service, flags, hints })
    }

    /// Whether another provider looks for one to layer over, and does not ask for this one by name.
    fn wants_another_core_provider(&self) -> bool {
        let named =
            self.hints.and_then(|hints| hints.provider_name).is_some_and(|name| name.contains("rdgram"));
        self.flags & sys::OFI_CORE_PROV_ONLY != 0 && !named
    }
}

/// # Safety
/// Null or a C string that outlives `'a`.
unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a CStr> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) })
}

/// Answers a query: at least one info, or why there is none.
fn infos(query: &Query<'_>, network: &impl Network, forced: Option<&str>) -> Result<list::List> {
    if query.wants_another_core_provider() {
        return Err(Errno::NODATA);
    }
    let hints = query.hints.unwrap_or_default();
    if let Err(mismatch) = check::check(&hints, query.version) {
        log(Level::Info, Subsystem::Core, c"getinfo", format_args!("no match: {mismatch}"));
        return Err(Errno::NODATA);
    }
    let sites = sites(query, &hints, network, forced)?;
    let template = answer::template(query.version, &hints);
    list::List::build(&template, &sites, &hints)
}

/// Where the communication can take place: the pairs of addresses that node, service and hints lead to.
fn sites(
    query: &Query<'_>,
    hints: &Hints<'_>,
    network: &impl Network,
    forced: Option<&str>,
) -> Result<Vec<Site>> {
    let family = hints.family;
    let wanted = Wanted { family, fabric: hints.fabric_name, domain: hints.domain_name, forced };
    let is_source = query.flags & sys::FI_SOURCE != 0;
    let named = query.node.is_some() || query.service.is_some();
    if is_source && !named {
        return Err(Errno::INVAL);
    }
    if !named {
        return place::sites(network, &wanted, hints.source, hints.destination);
    }
    let numeric = query.flags & sys::FI_NUMERICHOST != 0;
    let lookup = Lookup { family, numeric, passive: is_source };
    let found = address::resolve(query.node, query.service, lookup);
    // The first address that leads somewhere: a name may have addresses that this host has no route to.
    let mut answers = found.into_iter().map(|address| {
        if is_source {
            place::sites(network, &wanted, Some(address), hints.destination)
        } else {
            place::sites(network, &wanted, hints.source, Some(address))
        }
    });
    answers.find(Result::is_ok).unwrap_or(Err(Errno::NODATA))
}
