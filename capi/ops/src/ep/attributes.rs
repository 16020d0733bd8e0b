//! What an endpoint is made of: attributes of `fi_info`, the user's settings, a socket.
//!
//! Responsible for reading them once, and for an address that peers can reach. Must never hold state.

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rdgram_engine::{EpConfig, Orders};
use rdgram_host::{HostDatapath, SocketOptions, interfaces};
use rdgram_sys as sys;

use crate::address::{self, Family};
use crate::errno::{Errno, Result};
use crate::info::offer;
use crate::param::Settings;
use crate::{cptr, flags, log};

/// What of `fi_info` decides how an endpoint is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) caps: u64,
    pub(super) tx_op_flags: u64,
    pub(super) rx_op_flags: u64,
    pub(super) tx_size: usize,
    pub(super) rx_size: usize,
    pub(super) inject: usize,
    pub(super) orders: Orders,
    pub(super) source: Option<SocketAddr>,
}

impl Attributes {
    pub(super) fn read(info: &sys::fi_info) -> Result<Self> {
        // SAFETY: `fi_info` points to its attributes or to nothing.
        let ep = unsafe { cptr::optional(info.ep_attr.cast_const()) };
        // SAFETY: as above.
        let tx = unsafe { cptr::optional(info.tx_attr.cast_const()) };
        // SAFETY: as above.
        let rx = unsafe { cptr::optional(info.rx_attr.cast_const()) };
        if ep.is_some_and(|ep| ep.type_ != sys::FI_EP_RDM && ep.type_ != sys::FI_EP_UNSPEC) {
            return Err(Errno::INVAL);
        }
        if ep.is_some_and(|ep| {
            ep.tx_ctx_cnt == sys::FI_SHARED_CONTEXT || ep.rx_ctx_cnt == sys::FI_SHARED_CONTEXT
        }) {
            return Err(Errno::NOSYS);
        }
        // SAFETY: the address has the length that the info says.
        let source = unsafe { cptr::array(info.src_addr.cast_const().cast::<u8>(), info.src_addrlen) };
        let source = match source.unwrap_or_default() {
            [] => None,
            bytes => Some(address::decode(bytes).ok_or(Errno::INVAL)?),
        };
        let inject = tx.map_or(offer::INJECT_MAX, |tx| tx.inject_size);
        Ok(Self {
            caps: info.caps,
            tx_op_flags: tx.map_or(0, |tx| tx.op_flags & flags::TX_OP_FLAGS),
            rx_op_flags: rx.map_or(0, |rx| rx.op_flags & flags::RX_OP_FLAGS),
            tx_size: tx.map_or(0, |tx| tx.size),
            rx_size: rx.map_or(0, |rx| rx.size),
            // The application may have cleared it; what the offer says holds in any case.
            inject: inject.max(offer::INJECT_MAX),
            orders: tx.map_or(Orders::empty(), |tx| flags::orders(tx.msg_order)),
            source,
        })
    }

    /// Which directions these capabilities use. None named is both (`fi_getinfo(3)`).
    pub(super) fn needs(&self) -> Needs {
        let messages = self.caps & (sys::FI_MSG | sys::FI_TAGGED) != 0;
        let neither = self.caps & (sys::FI_SEND | sys::FI_RECV) == 0;
        Needs {
            transmit: messages && (neither || self.caps & sys::FI_SEND != 0),
            receive: messages && (neither || self.caps & sys::FI_RECV != 0),
            source: self.caps & sys::FI_SOURCE != 0,
        }
    }
}

/// Which queues an endpoint of these capabilities cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) transmit: bool,
    pub(super) receive: bool,
    pub(super) source: bool,
}

/// The socket options that the user's settings mean.
fn socket_options(settings: &Settings) -> SocketOptions {
    SocketOptions {
        receive_buffer: settings.receive_buffer,
        send_buffer: settings.send_buffer,
        port_range: settings.port_range,
        segmentation: settings.segmentation,
        coalescing: settings.coalescing,
    }
}

/// The engine's parameters that the user's settings mean.
/// `automatic`: the domain has a progress thread.
pub(super) fn config(settings: &Settings, attributes: &Attributes, automatic: bool) -> EpConfig {
    let mut config = EpConfig {
        orders: attributes.orders,
        eager_max: settings.eager_max,
        inject_max: attributes.inject,
        unexpected_pool: settings.unexpected_pool,
        memory_ceiling: settings.memory_ceiling,
        full_integrity: settings.full_integrity,
        bundles: settings.aggregation,
        direct: settings.direct,
        // An application that leaves progress to a thread of ours may never end the holding.
        hold_bursts: settings.aggregation && !automatic,
        source_errors: attributes.caps & sys::FI_SOURCE_ERR != 0,
        ..EpConfig::default()
    };
    config.transport.peer_timeout = settings.peer_timeout;
    // What is sent without asking is taken without being asked: else the peers' limit would be the least of both.
    config.transport.staging_max = u32::try_from(settings.eager_max).unwrap_or(u32::MAX);
    config
}

pub(super) fn open_socket(bind: SocketAddr, settings: &Settings) -> Result<HostDatapath> {
    let datapath = HostDatapath::open(bind, &socket_options(settings)).map_err(|error| {
        log::warn_once("bind", &format!("no socket at {bind}: {error}"));
        Errno::from_os(&error)
    })?;
    if let Some((wanted, got)) = datapath.receive_buffer_short() {
        let text = format!(
            "socket receive buffer: {got} bytes instead of {wanted}: large transfers from many peers are slower; \
             raise net.core.rmem_max (sysctl -w net.core.rmem_max={wanted}) or set FI_RDGRAM_RCVBUF={got}"
        );
        log::log(log::Level::Info, log::Subsystem::Core, c"endpoint", format_args!("{text}"));
    }
    Ok(datapath)
}

/// The address to bind to when the application names none, or any: one that peers can reach.
pub(super) fn choose_address(
    wanted: Option<SocketAddr>,
    family: Family,
    settings: &Settings,
) -> Result<SocketAddr> {
    let port = wanted.map_or(0, |wanted| wanted.port());
    match wanted {
        Some(wanted) if !family.has(wanted.ip()) => return Err(Errno::INVAL),
        Some(wanted) if !wanted.ip().is_unspecified() => return Ok(wanted),
        _ => {}
    }
    let all = interfaces::list().map_err(|error| Errno::from_os(&error))?;
    let usable = interfaces::usable(all, settings.interface.as_deref()).map_err(|_| Errno::NODATA)?;
    let same_kind = |address: IpAddr| wanted.is_none_or(|wanted| wanted.is_ipv4() == address.is_ipv4());
    let interface =
        usable.iter().find(|interface| family.has(interface.address) && same_kind(interface.address));
    let interface = interface.ok_or(Errno::NODATA)?;
    Ok(match interface.address {
        IpAddr::V4(_) => SocketAddr::new(interface.address, port),
        IpAddr::V6(address) => scoped(address, port, interface.scope_id),
    })
}

fn scoped(address: Ipv6Addr, port: u16, scope: u32) -> SocketAddr {
    SocketAddrV6::new(address, port, 0, scope).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Attributes = Attributes {
        caps: 0,
        tx_op_flags: 0,
        rx_op_flags: 0,
        tx_size: 0,
        rx_size: 0,
        inject: 0,
        orders: Orders::empty(),
        source: None,
    };

    #[test]
    fn needs_follow_the_capabilities() {
        let needs = |caps| {
            let needs = Attributes { caps, ..NONE }.needs();
            (needs.transmit, needs.receive)
        };
        assert_eq!(needs(sys::FI_MSG), (true, true));
        assert_eq!(needs(sys::FI_TAGGED | sys::FI_SEND), (true, false));
        assert_eq!(needs(sys::FI_MSG | sys::FI_RECV), (false, true));
        assert_eq!(needs(sys::FI_RMA), (false, false));
    }

    #[test]
    fn a_named_address_is_taken_as_it_is() {
        let settings = Settings::default();
        let named: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(choose_address(Some(named), Family::V4, &settings), Ok(named));
        assert_eq!(choose_address(Some(named), Family::V6, &settings), Err(Errno::INVAL));
    }

    #[test]
    fn any_address_becomes_one_that_peers_can_reach() {
        let settings = Settings::default();
        let any: SocketAddr = "0.0.0.0:4711".parse().expect("an address");
        let chosen = choose_address(Some(any), Family::V4, &settings).expect("a host has an IPv4 address");
        assert!(!chosen.ip().is_unspecified());
        assert!(chosen.is_ipv4());
        assert_eq!(chosen.port(), 4711);
    }

    #[test]
    fn settings_reach_the_engine_and_the_socket() {
        let settings = Settings {
            eager_max: 5,
            peer_timeout: std::time::Duration::from_secs(7),
            receive_buffer: 8192,
            coalescing: false,
            ..Settings::default()
        };
        let attributes =
            Attributes { inject: 99, orders: Orders::WAW, caps: sys::FI_SOURCE | sys::FI_SOURCE_ERR, ..NONE };
        let config = config(&settings, &attributes, false);
        assert!(config.source_errors && !self::config(&settings, &NONE, false).source_errors);
        assert_eq!((config.eager_max, config.inject_max, config.orders), (5, 99, Orders::WAW));
        assert_eq!(config.transport.peer_timeout, std::time::Duration::from_secs(7));
        assert_eq!(config.transport.staging_max, 5);
        let options = socket_options(&settings);
        assert_eq!((options.receive_buffer, options.coalescing), (8192, false));
    }
}
