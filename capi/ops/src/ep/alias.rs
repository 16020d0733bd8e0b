//! Aliases of an endpoint: `fi_ep_alias`.
//!
//! Responsible for what makes an alias another one, its flags: everything else is the endpoint's. Must never outlive the endpoint: that closes last.

use std::sync::Arc;

use rdgram_sync::Serialize;
use rdgram_sys as sys;

use super::{Ep, EpState, Phase, Tables, Way, options, place};
use crate::cptr;
use crate::errno::{Errno, Result};
use crate::fid::{self, Child};

/// FI_ALIAS: the alias has the flags of the endpoint that it is made of, but for one direction, which the call names.
///
/// # Safety
/// `arg` is null or a `struct fi_alias` of the application's.
pub(super) unsafe fn open<S: Serialize>(ep: &Ep<S>, arg: *mut sys::fi_alias) -> Result {
    // SAFETY: the caller promises it.
    let wanted = unsafe { cptr::required(arg.cast_const()) }?;
    if wanted.fid.is_null() {
        return Err(Errno::INVAL);
    }
    let slot = ep.shared.with(|state| {
        let endpoints = &mut state.endpoints;
        let model = endpoints.get(ep.slot).and_then(Option::as_ref).ok_or(Errno::OPBADSTATE)?;
        let mut alias = alias_of(model, ep.home);
        options::change_op_flags(&mut alias, wanted.flags)?;
        let slot = place(endpoints, alias);
        refresh(endpoints, ep.home)?;
        Ok(slot)
    })?;
    // SAFETY: a live fid; libfabric's field for the application.
    let context = unsafe { (*ep.child.pointer()).fid.context };
    let alias = Ep {
        child: Child::new(Tables::<S>::face(context), &ep.shared),
        shared: Arc::clone(&ep.shared),
        slot,
        home: ep.home,
    };
    // SAFETY: not null, and the application's place for it.
    unsafe { cptr::give(wanted.fid, fid::publish(Box::new(alias)).cast::<sys::fid>()) };
    Ok(())
}

fn alias_of(model: &EpState, home: usize) -> EpState {
    let way =
        |way: &Way| Way { op_flags: way.op_flags, reporting: way.reporting, call: way.call, queue: None };
    EpState {
        phase: Phase::Alias { home, id: model.id() },
        socket: model.socket,
        shares_memory: model.shares_memory,
        config: model.config.clone(),
        tx: way(&model.tx),
        rx: way(&model.rx),
        directed: model.directed,
        limits: model.limits,
        needs: model.needs,
        sizes: model.sizes,
        av: None,
        counters: Vec::new(),
        sink: None,
    }
}

/// After something of the endpoint changed: tells its aliases.
pub(super) fn refresh(endpoints: &mut [Option<EpState>], home: usize) -> Result {
    let Some(endpoint) = endpoints.get(home).and_then(Option::as_ref) else { return Ok(()) };
    let (now, limits) = (endpoint.id(), endpoint.limits);
    let (tx, rx) = (endpoint.tx.reporting, endpoint.rx.reporting);
    for alias in endpoints.iter_mut().flatten() {
        if let Phase::Alias { home: of, id } = &mut alias.phase {
            if *of == home {
                *id = now;
                alias.limits = limits;
                (alias.tx.reporting, alias.rx.reporting) = (tx, rx);
                alias.resolve_flags()?;
            }
        }
    }
    Ok(())
}

/// Whether the endpoint of a slot has an alias.
pub(super) fn exists(endpoints: &[Option<EpState>], home: usize) -> bool {
    endpoints.iter().flatten().any(|alias| matches!(alias.phase, Phase::Alias { home: of, .. } if of == home))
}
