//! The attributes returned: the offer, narrowed to what was asked for.
//!
//! Responsible for what is echoed and what is not. Must never promise more than `offer` states.

use rdgram_sys as sys;
use rdgram_sys::abi::{DomainAttr, EpAttr};

use super::hints::{Hints, zeroed};
use super::offer;

/// An answer but for its place: no names and no addresses yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    pub(super) caps: u64,
    pub(super) tx: sys::fi_tx_attr,
    pub(super) rx: sys::fi_rx_attr,
    pub(super) ep: EpAttr,
    pub(super) domain: DomainAttr,
}

/// What a query for `version` of the API (0: the oldest) is answered.
pub(super) fn template(version: u32, hints: &Hints<'_>) -> Template {
    let caps = capabilities(hints.caps);
    Template {
        caps,
        tx: transmit(caps, &hints.tx),
        rx: receive(caps, &hints.rx),
        ep: endpoint(&hints.ep),
        domain: domain(version, &hints.domain),
    }
}

/// Capabilities for those asked for: everything when nothing is said.
fn capabilities(asked: u64) -> u64 {
    if asked == 0 {
        // Errors for senders that are not known are for those who say that they can handle them.
        return offer::capabilities() & !sys::FI_SOURCE_ERR;
    }
    let primary = offer::primary_capabilities();
    let mut caps = asked & primary;
    // Secondary ones cost nothing and come unasked, but for the search of the sender's address and for errors that nobody expects.
    caps |= offer::capabilities() & !primary & !((sys::FI_SOURCE | sys::FI_SOURCE_ERR) & !asked);
    // An address that is to be reported when it is not known has to be looked for.
    if caps & sys::FI_SOURCE_ERR != 0 {
        caps |= sys::FI_SOURCE;
    }
    // Without a direction both are meant (`fi_getinfo(3)`).
    if caps & (sys::FI_MSG | sys::FI_TAGGED) != 0 && caps & (sys::FI_SEND | sys::FI_RECV) == 0 {
        caps |= sys::FI_SEND | sys::FI_RECV;
    }
    const ONE_SIDED: u64 = sys::FI_READ | sys::FI_WRITE | sys::FI_REMOTE_READ | sys::FI_REMOTE_WRITE;
    if caps & (sys::FI_RMA | sys::FI_ATOMIC) != 0 && caps & ONE_SIDED == 0 {
        caps |= ONE_SIDED;
    }
    caps
}

/// A size asked for, or ours.
fn or(asked: usize, ours: usize) -> usize {
    if asked == 0 { ours } else { asked }
}

/// The orders that always hold, and those asked for.
fn order(asked: u64) -> u64 {
    offer::MESSAGE_ORDER | asked & offer::MESSAGE_ORDER_ASKED
}

fn transmit(caps: u64, asked: &sys::fi_tx_attr) -> sys::fi_tx_attr {
    sys::fi_tx_attr {
        caps: caps & offer::transmit_capabilities(),
        mode: 0,
        op_flags: asked.op_flags,
        msg_order: order(asked.msg_order),
        comp_order: sys::FI_ORDER_NONE,
        inject_size: or(asked.inject_size, offer::INJECT_MAX),
        size: or(asked.size, offer::CONTEXT_SIZE),
        iov_limit: or(asked.iov_limit, offer::PIECES_MAX),
        rma_iov_limit: or(asked.rma_iov_limit, offer::REMOTE_PIECES_MAX),
        ..zeroed()
    }
}

fn receive(caps: u64, asked: &sys::fi_rx_attr) -> sys::fi_rx_attr {
    sys::fi_rx_attr {
        caps: caps & offer::receive_capabilities(),
        mode: 0,
        op_flags: asked.op_flags,
        msg_order: order(asked.msg_order),
        comp_order: sys::FI_ORDER_NONE,
        size: or(asked.size, offer::CONTEXT_SIZE),
        iov_limit: or(asked.iov_limit, offer::PIECES_MAX),
        ..zeroed()
    }
}

fn endpoint(asked: &sys::fi_ep_attr) -> EpAttr {
    EpAttr {
        base: sys::fi_ep_attr {
            type_: sys::FI_EP_RDM,
            protocol: offer::PROTOCOL,
            protocol_version: offer::PROTOCOL_VERSION,
            max_msg_size: offer::MESSAGE_MAX,
            max_order_raw_size: or(asked.max_order_raw_size, offer::ORDERED_MAX),
            max_order_war_size: or(asked.max_order_war_size, offer::ORDERED_MAX),
            max_order_waw_size: or(asked.max_order_waw_size, offer::ORDERED_MAX),
            mem_tag_format: sys::FI_TAG_GENERIC,
            tx_ctx_cnt: or(asked.tx_ctx_cnt, offer::CONTEXTS_MAX),
            rx_ctx_cnt: or(asked.rx_ctx_cnt, offer::CONTEXTS_MAX),
            ..zeroed()
        },
        reserved: 0,
    }
}

fn domain(version: u32, asked: &sys::fi_domain_attr) -> DomainAttr {
    let threading =
        if asked.threading == sys::FI_THREAD_UNSPEC { sys::FI_THREAD_SAFE } else { asked.threading };
    let base = sys::fi_domain_attr {
        threading,
        control_progress: progress(asked.control_progress),
        data_progress: progress(asked.data_progress),
        resource_mgmt: sys::FI_RM_ENABLED,
        av_type: asked.av_type,
        mr_mode: memory_mode(version, asked.mr_mode),
        mr_key_size: offer::MR_KEY_SIZE,
        cq_data_size: offer::CQ_DATA_SIZE,
        cq_cnt: offer::OBJECTS_MAX,
        ep_cnt: offer::OBJECTS_MAX,
        tx_ctx_cnt: offer::OBJECTS_MAX,
        rx_ctx_cnt: offer::OBJECTS_MAX,
        max_ep_tx_ctx: offer::CONTEXTS_MAX,
        max_ep_rx_ctx: offer::CONTEXTS_MAX,
        cntr_cnt: offer::OBJECTS_MAX,
        mr_iov_limit: offer::PIECES_MAX,
        caps: offer::domain_capabilities(),
        mr_cnt: offer::OBJECTS_MAX,
        ..zeroed()
    };
    DomainAttr {
        base,
        max_ep_auth_key: 0,
        max_group_id: 0,
        max_cntr_value: u64::MAX,
        max_err_cntr_value: u64::MAX,
        max_xpu_ctx_cnt: 0,
    }
}

/// As asked; an application that does not say makes its own progress, so that no thread of ours runs unasked.
fn progress(asked: sys::fi_progress) -> sys::fi_progress {
    if asked == sys::FI_PROGRESS_UNSPEC { sys::FI_PROGRESS_MANUAL } else { asked }
}

/// The two values of old versions are echoed; an old application that says nothing gets its word for "offsets and own keys"; else nothing is demanded.
fn memory_mode(version: u32, asked: core::ffi::c_int) -> core::ffi::c_int {
    match asked {
        sys::FI_MR_BASIC | sys::FI_MR_SCALABLE => asked,
        _ if version < sys::fi_version(1, 5) => sys::FI_MR_SCALABLE,
        _ => 0,
    }
}
