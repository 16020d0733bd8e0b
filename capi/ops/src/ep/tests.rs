//! Attributes of endpoints: what is read of `fi_info`, and what it means.

use super::*;

const NONE: Attributes =
    Attributes { caps: 0, tx_op_flags: 0, rx_op_flags: 0, tx_size: 0, rx_size: 0, inject: 0, source: None };

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
    let config = config(&settings, 99);
    assert_eq!((config.eager_max, config.inject_max), (5, 99));
    assert_eq!(config.transport.peer_timeout, std::time::Duration::from_secs(7));
    let options = socket_options(&settings);
    assert_eq!((options.receive_buffer, options.coalescing), (8192, false));
}
