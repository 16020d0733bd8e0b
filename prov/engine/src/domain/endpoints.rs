//! Endpoints of a domain from their opening to their end: what they are bound to, and what they tell of themselves.

use core::net::SocketAddr;

use super::{Busy, Domain};
use crate::datapath::Datapath;
use crate::endpoint::{Endpoint, State};
use crate::local::LocalStats;
use crate::matching::PeerId;
use crate::types::*;

impl<D: Datapath> Domain<D> {
    /// Opens an endpoint on a datapath.
    pub fn ep_open(&mut self, config: EpConfig, datapath: D) -> EpId {
        EpId(self.endpoints.insert(Endpoint::new(config, datapath)))
    }

    /// Binds a queue. Fails when that direction has one.
    pub fn ep_bind_cq(&mut self, ep: EpId, cq: CqId, direction: Direction) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        let slot = match direction {
            Direction::Transmit => &mut bindings.tx_cq,
            Direction::Receive => &mut bindings.rx_cq,
        };
        if slot.is_some() {
            return Err(Busy);
        }
        *slot = Some(cq);
        self.shared.cqs.get_mut(cq.0).bound += 1;
        Ok(())
    }

    /// Binds a counter. Fails when one of the events has one.
    pub fn ep_bind_cntr(&mut self, ep: EpId, cntr: CntrId, events: CounterEvents) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        if bindings.cntrs.iter().any(|(_, bound)| bound.intersects(events)) {
            return Err(Busy);
        }
        bindings.cntrs.push((cntr, events));
        self.shared.cntrs.get_mut(cntr.0).bound += 1;
        Ok(())
    }

    /// Binds an address vector. Fails when there is one.
    pub fn ep_bind_av(&mut self, ep: EpId, av: AvId) -> Result<(), Busy> {
        let bindings = &mut self.endpoints.get_mut(ep.0).core.bindings;
        if bindings.av.is_some() {
            return Err(Busy);
        }
        bindings.av = Some(av);
        self.shared.avs.get_mut(av.0).bound += 1;
        Ok(())
    }

    /// Readies an endpoint for operations. Needs an address vector and, as the face has checked, queues for what it will do.
    pub fn ep_enable(&mut self, ep: EpId) -> Result<(), SubmitError> {
        let endpoint = self.endpoints.get_mut(ep.0);
        if endpoint.core.bindings.av.is_none() {
            return Err(SubmitError::NotBound);
        }
        if endpoint.core.state != State::Opened {
            return Err(SubmitError::BadState);
        }
        endpoint.enable();
        Ok(())
    }

    /// The endpoint's name.
    pub fn ep_address(&self, ep: EpId) -> SocketAddr {
        self.endpoints.get(ep.0).core.name
    }

    /// The endpoint's parameters. `min_multi_recv` may be changed at any time, the rest before enable.
    pub fn ep_config_mut(&mut self, ep: EpId) -> &mut EpConfig {
        &mut self.endpoints.get_mut(ep.0).core.config
    }

    /// The endpoint's counters.
    pub fn ep_stats(&self, ep: EpId) -> Stats {
        self.endpoints.get(ep.0).core.stats
    }

    /// Counters of the endpoint's way through memory.
    pub fn ep_local_stats(&self, ep: EpId) -> LocalStats {
        self.endpoints.get(ep.0).core.neighbours.stats()
    }

    /// The endpoint's datapath.
    pub fn ep_datapath(&self, ep: EpId) -> &D {
        &self.endpoints.get(ep.0).datapath
    }

    /// Begins to close: the application hears no more of the endpoint, and what was injected or accepted is still delivered.
    /// The caller progresses until [`Self::ep_lingers`] is false, or its patience ends, and then calls [`Self::ep_remove`].
    pub fn ep_shutdown(&mut self, ep: EpId) {
        self.unbind(ep);
        self.endpoints.get_mut(ep.0).shutdown();
    }

    /// Whether anything is still to be delivered.
    pub fn ep_lingers(&self, ep: EpId) -> bool {
        self.endpoints.get(ep.0).lingers()
    }

    /// Acknowledges what is owed, tells peers that the endpoint closes, and drops it.
    pub fn ep_remove(&mut self, ep: EpId) -> D {
        self.unbind(ep);
        let mut endpoint = self.endpoints.remove(ep.0);
        endpoint.say_goodbye(&mut self.shared);
        endpoint.datapath
    }

    fn unbind(&mut self, ep: EpId) {
        let bindings = core::mem::take(&mut self.endpoints.get_mut(ep.0).core.bindings);
        for cq in bindings.tx_cq.into_iter().chain(bindings.rx_cq) {
            self.shared.cqs.get_mut(cq.0).bound -= 1;
        }
        for (cntr, _) in bindings.cntrs {
            self.shared.cntrs.get_mut(cntr.0).bound -= 1;
        }
        if let Some(av) = bindings.av {
            self.shared.avs.get_mut(av.0).bound -= 1;
        }
    }

    /// One line for each peer with a context: its name, and where it stands.
    pub fn ep_describe(&self, ep: EpId) -> Vec<(SocketAddr, String)> {
        let core = &self.endpoints.get(ep.0).core;
        let ids = (0..core.peers.len()).filter_map(|index| u32::try_from(index).ok().map(PeerId));
        ids.filter_map(|peer| Some((core.peer(peer).name, core.describe(peer)?))).collect()
    }
}
