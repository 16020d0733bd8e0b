//! Closing an endpoint: what was accepted is delivered first.
//!
//! Responsible for the linger: injected messages have no completion that the application could wait for, so they survive `fi_close` (and with it the exit of
//! the process). Must never wait longer than a silent network deserves.

use core::ffi::c_int;
use std::sync::Arc;
use std::time::Duration;

use rdgram_engine::{Datapath as _, EpId, Instant};
use rdgram_host::clock;
use rdgram_host::wait::WaitSet;
use rdgram_sync::Serialize;
use rdgram_sys as sys;

use super::{Ep, Phase, alias};
use crate::domain::{Shared, State};
use crate::errno::{Errno, Result};
use crate::guard::entry;
use crate::log::{Level, Subsystem};
use crate::param::settings;
use crate::{exit, fid, log, notice};

/// Silence after which the user is told what is being waited for.
const NOTICE_AFTER: Duration = Duration::from_secs(5);
/// Longest sleep of a closing endpoint: another thread's progress may take the acknowledgement that it waits for, and does not know that somebody does.
const SLEEP_MAX: Duration = Duration::from_millis(10);
/// Silence that ends the linger of a process that ended with everything open: it did not close in order, so whoever started it may be waiting.
const EXIT_SILENCE: Duration = Duration::from_secs(5);
/// The linger ends after this many times the silence that is allowed in any case: other peers' traffic must not keep an endpoint open for one that is gone.
const LINGER_FACTOR: u32 = 12;

/// `fi_close` of an endpoint.
pub(super) unsafe extern "C" fn close<S: Serialize>(fid: *mut sys::fid) -> c_int {
    entry(|| {
        // SAFETY: called through the table of this type.
        let ep = unsafe { fid::object::<Ep<S>>(fid.cast()) };
        // In a forked child the peers are the parent's. Only memory is freed, which the domain owns.
        let begun = if ep.shared.is_inherited() { Ok(None) } else { begin(&ep.shared, ep.slot) };
        match begun {
            Err(Errno::BUSY) => return Errno::BUSY.negative(),
            Ok(Some(id)) => {
                let _lingered = linger(&ep.shared, id);
                let _removed = ep.shared.with(|state| remove(state, ep.slot, id));
            }
            // A domain that a panic shut refuses: then there is nothing to deliver either.
            Ok(None) | Err(_) => {}
        }
        // SAFETY: closing ends the fid's life.
        drop(unsafe { fid::reclaim::<Ep<S>>(fid.cast()) });
        0
    })
}

/// Stops the endpoint. Some when the engine knows it; one that was never enabled is gone at once, as is an alias. BUSY while there are
/// aliases of it: those are closed first.
fn begin<S: Serialize>(shared: &Shared<S>, slot: usize) -> Result<Option<EpId>> {
    shared.with(|state| {
        if alias::exists(&state.endpoints, slot) {
            return Err(Errno::BUSY);
        }
        let Some(place) = state.endpoints.get_mut(slot) else { return Ok(None) };
        let Some(endpoint) = place else { return Ok(None) };
        let Phase::Enabled(id) = endpoint.phase else {
            *place = None;
            return Ok(None);
        };
        endpoint.phase = Phase::Gone;
        state.engine.ep_shutdown(id);
        state.progress();
        Ok(Some(id))
    })
}

/// Progresses until everything accepted is acknowledged.
fn linger<S: Serialize>(shared: &Arc<Shared<S>>, id: EpId) -> Result {
    let mut linger = Linger::new(settings().linger);
    loop {
        match shared.with(|state| linger.look(state, &[id]))? {
            Step::Done => return Ok(()),
            Step::Block(limit) => {
                exit::help_others(shared);
                linger.block(limit)?;
            }
        }
    }
}

/// The end of the process, with the lock held from here to there: nobody else is to come in any more. `help` drives what else this process has open.
pub(crate) fn end_all(state: &mut State, help: &dyn Fn()) {
    let mut ids = Vec::new();
    for endpoint in state.endpoints.iter_mut().flatten() {
        if let Phase::Enabled(id) = endpoint.phase {
            endpoint.phase = Phase::Gone;
            ids.push(id);
        }
    }
    for &id in &ids {
        state.engine.ep_shutdown(id);
    }
    let mut linger = Linger::new(settings().linger.min(EXIT_SILENCE));
    while let Ok(Step::Block(limit)) = linger.look(state, &ids) {
        help();
        if linger.block(limit).is_err() {
            break;
        }
    }
    for id in ids {
        notice::tell_end(&state.engine, id);
        drop(state.engine.ep_remove(id));
    }
}

/// Waiting for acknowledgements. A peer that is gone ends it by itself (the engine learns of that); one that computes takes as long as it takes: to close
/// earlier would be to lose what an application may rely on.
struct Linger {
    start: Instant,
    allowed: Duration,
    heard: Heard,
    noticed: bool,
    set: Option<WaitSet>,
}

/// What one look decided.
enum Step {
    Done,
    Block(Duration),
}

impl Linger {
    fn new(allowed: Duration) -> Self {
        let start = clock::now();
        Self { start, allowed, heard: Heard { datagrams: 0, at: start }, noticed: false, set: None }
    }

    /// Progresses; done when nothing is left to deliver for these endpoints, or nobody is left to take it.
    fn look(&mut self, state: &mut State, ids: &[EpId]) -> Result<Step> {
        state.progress();
        let left: Vec<EpId> = ids.iter().copied().filter(|&id| state.engine.ep_lingers(id)).collect();
        if left.is_empty() {
            return Ok(Step::Done);
        }
        let now = clock::now();
        let datagrams = left.iter().map(|&id| heard_of(state, id)).sum();
        self.heard.look(datagrams, now);
        let silence = now.saturating_duration_since(self.heard.at);
        let waited = now.saturating_duration_since(self.start);
        if silence >= self.allowed || waited >= self.allowed * LINGER_FACTOR {
            tell(state, &left, "closes although silent peers have not taken all that was sent to them");
            return Ok(Step::Done);
        }
        if silence >= NOTICE_AFTER && !self.noticed {
            self.noticed = true;
            tell(state, &left, "waits for silent peers to take what was sent to them");
        }
        let set = match &self.set {
            Some(set) => set,
            None => self.set.insert(watch(state, &left)?),
        };
        set.clear();
        set.arm(state.engine.sleep(now));
        let until = if self.noticed { self.allowed } else { self.allowed.min(NOTICE_AFTER) };
        Ok(Step::Block(until.saturating_sub(silence).min(SLEEP_MAX)))
    }

    fn block(&self, limit: Duration) -> Result {
        let Some(set) = &self.set else { return Ok(()) };
        set.block(Some(limit)).map(|_| ()).map_err(|error| Errno::from_os(&error))
    }
}

/// What an endpoint has received so far, in datagrams and items.
fn heard_of(state: &State, id: EpId) -> u64 {
    state.engine.ep_stats(id).rx_datagrams + state.engine.ep_local_stats(id).taken
}

/// Tells the user which endpoints do something, and with whom.
fn tell(state: &State, ids: &[EpId], what: &str) {
    for &id in ids {
        let name = state.engine.ep_datapath(id).local_address();
        let peers = state.engine.ep_describe(id);
        let shown: Vec<String> = peers.iter().take(PEERS_SHOWN).map(|(peer, _)| peer.to_string()).collect();
        let more = if peers.len() > shown.len() { ", ..." } else { "" };
        let text = format!("{name} {what} (FI_RDGRAM_LINGER); its peers: {}{more}", shown.join(", "));
        log::warn_once(&text, &text);
        for (peer, line) in &peers {
            log::log(Level::Info, Subsystem::Core, c"close", format_args!("{name} with {peer}: {line}"));
        }
    }
}

/// Peers that one line names.
const PEERS_SHOWN: usize = 4;

/// When a peer was heard last.
struct Heard {
    datagrams: u64,
    at: Instant,
}

impl Heard {
    fn look(&mut self, datagrams: u64, now: Instant) {
        if self.datagrams != datagrams {
            *self = Self { datagrams, at: now };
        }
    }
}

/// A wait set for the sockets of these endpoints.
fn watch(state: &State, ids: &[EpId]) -> Result<WaitSet> {
    use std::os::fd::AsRawFd as _;
    let set = WaitSet::new().map_err(|error| Errno::from_os(&error))?;
    for &id in ids {
        let socket = state.engine.ep_datapath(id).fd().as_raw_fd();
        set.add(socket).map_err(|error| Errno::from_os(&error))?;
    }
    Ok(set)
}

/// Ends the endpoint: the peers are told, the socket is closed.
fn remove(state: &mut State, slot: usize, id: EpId) -> Result {
    notice::tell_end(&state.engine, id);
    let place = state.endpoints.get_mut(slot).ok_or(Errno::OTHER)?;
    if let Some(endpoint) = place.take() {
        state.waits.remove_socket(endpoint.socket);
    }
    drop(state.engine.ep_remove(id));
    Ok(())
}
