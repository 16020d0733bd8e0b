//! The rules of matching (`fi_getinfo(3)`): does what is offered cover what was asked for?
//!
//! Responsible for every rule, in the order of the built-in providers. Must never mask an unknown bit: bits change their meaning between versions, and a query for
//! what we do not know must fail.

use core::fmt;

use rdgram_sys as sys;

use super::hints::Hints;
use super::offer;
use crate::provider;

/// Why there is no match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    field: &'static str,
    asked: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:#x} is not offered", self.field, self.asked)
    }
}

type Outcome = Result<(), Mismatch>;

/// Lengths and counts as they are shown in a mismatch.
fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Fails unless a condition holds.
fn require(holds: bool, field: &'static str, asked: u64) -> Outcome {
    if holds { Ok(()) } else { Err(Mismatch { field, asked }) }
}

/// Every bit asked for is offered.
fn subset(asked: u64, offered: u64, field: &'static str) -> Outcome {
    require(asked & !offered == 0, field, asked & !offered)
}

/// No more is asked for than offered.
fn at_most(asked: usize, offered: usize, field: &'static str) -> Outcome {
    require(asked <= offered, field, wide(asked))
}

/// Applies every rule for an application that asked for `version` of the API (0: the oldest).
pub(super) fn check(hints: &Hints<'_>, version: u32) -> Outcome {
    let kind = hints.ep.type_;
    require(matches!(kind, sys::FI_EP_UNSPEC | sys::FI_EP_RDM), "ep_attr.type", u64::from(kind))?;
    subset(hints.caps, offer::capabilities(), "caps")?;
    // The mode needs no rule: nothing is demanded of the application.
    at_most_version(hints.provider_version)?;
    domain(hints, version)?;
    endpoint(hints)?;
    transmit(hints)?;
    receive(hints)
}

fn at_most_version(asked: u32) -> Outcome {
    require(asked <= provider::VERSION, "fabric_attr.prov_version", u64::from(asked))
}

fn domain(hints: &Hints<'_>, version: u32) -> Outcome {
    let asked = &hints.domain;
    // Any threading model is served: the offer is the strongest one, FI_THREAD_SAFE.
    require(asked.threading <= sys::FI_THREAD_ENDPOINT, "domain_attr.threading", u64::from(asked.threading))?;
    progress(asked.control_progress, "domain_attr.control_progress")?;
    progress(asked.data_progress, "domain_attr.data_progress")?;
    require(
        asked.resource_mgmt <= sys::FI_RM_ENABLED,
        "domain_attr.resource_mgmt",
        u64::from(asked.resource_mgmt),
    )?;
    require(asked.av_type <= sys::FI_AV_TABLE, "domain_attr.av_type", u64::from(asked.av_type))?;
    at_most(asked.cq_data_size, offer::CQ_DATA_SIZE, "domain_attr.cq_data_size")?;
    at_most(asked.mr_key_size, offer::MR_KEY_SIZE, "domain_attr.mr_key_size")?;
    memory_mode(asked.mr_mode, version)?;
    if version < sys::fi_version(1, 5) {
        return Ok(());
    }
    at_most(asked.cntr_cnt, offer::OBJECTS_MAX, "domain_attr.cntr_cnt")?;
    at_most(asked.mr_iov_limit, offer::PIECES_MAX, "domain_attr.mr_iov_limit")?;
    subset(asked.caps, offer::domain_capabilities(), "domain_attr.caps")?;
    at_most(asked.max_err_data, 0, "domain_attr.max_err_data")?;
    at_most(asked.mr_cnt, offer::OBJECTS_MAX, "domain_attr.mr_cnt")?;
    at_most(asked.auth_key_size, 0, "domain_attr.auth_key_size")?;
    at_most(hints.max_ep_auth_key, 0, "domain_attr.max_ep_auth_key")
}

/// By the application's calls, or by a thread of ours too.
fn progress(asked: sys::fi_progress, field: &'static str) -> Outcome {
    let served = matches!(
        asked,
        sys::FI_PROGRESS_UNSPEC
            | sys::FI_PROGRESS_AUTO
            | sys::FI_PROGRESS_MANUAL
            | sys::FI_PROGRESS_CONTROL_UNIFIED
    );
    require(served, field, u64::from(asked))
}

/// Nothing is demanded of memory regions, so every set of modes is served; the two values of old versions stand alone.
fn memory_mode(asked: core::ffi::c_int, version: u32) -> Outcome {
    let old = sys::FI_MR_BASIC | sys::FI_MR_SCALABLE;
    let served = match asked {
        sys::FI_MR_UNSPEC | sys::FI_MR_BASIC | sys::FI_MR_SCALABLE => true,
        _ => version >= sys::fi_version(1, 5) && asked & old == 0,
    };
    require(served, "domain_attr.mr_mode", u64::from(asked.unsigned_abs()))
}

fn endpoint(hints: &Hints<'_>) -> Outcome {
    let asked = &hints.ep;
    let protocol = matches!(asked.protocol, sys::FI_PROTO_UNSPEC | offer::PROTOCOL);
    require(protocol, "ep_attr.protocol", u64::from(asked.protocol))?;
    let version = asked.protocol_version;
    require(version <= offer::PROTOCOL_VERSION, "ep_attr.protocol_version", u64::from(version))?;
    at_most(asked.max_msg_size, offer::MESSAGE_MAX, "ep_attr.max_msg_size")?;
    at_most(asked.tx_ctx_cnt, offer::CONTEXTS_MAX, "ep_attr.tx_ctx_cnt")?;
    at_most(asked.rx_ctx_cnt, offer::CONTEXTS_MAX, "ep_attr.rx_ctx_cnt")?;
    // The tag format needs no rule: all 64 bits are the application's.
    at_most(asked.auth_key_size, 0, "ep_attr.auth_key_size")
}

fn transmit(hints: &Hints<'_>) -> Outcome {
    let asked = &hints.tx;
    subset(asked.caps, offer::transmit_capabilities_accepted(), "tx_attr.caps")?;
    subset(asked.op_flags, offer::TRANSMIT_FLAGS, "tx_attr.op_flags")?;
    subset(asked.msg_order, offer::MESSAGE_ORDER | offer::MESSAGE_ORDER_ASKED, "tx_attr.msg_order")?;
    subset(asked.comp_order, sys::FI_ORDER_NONE, "tx_attr.comp_order")?;
    at_most(asked.inject_size, offer::INJECT_MAX, "tx_attr.inject_size")?;
    at_most(asked.size, offer::CONTEXT_SIZE, "tx_attr.size")?;
    at_most(asked.iov_limit, offer::PIECES_MAX, "tx_attr.iov_limit")?;
    at_most(asked.rma_iov_limit, offer::REMOTE_PIECES_MAX, "tx_attr.rma_iov_limit")
}

fn receive(hints: &Hints<'_>) -> Outcome {
    let asked = &hints.rx;
    subset(asked.caps, offer::receive_capabilities_accepted(), "rx_attr.caps")?;
    subset(asked.op_flags, offer::RECEIVE_FLAGS, "rx_attr.op_flags")?;
    subset(asked.msg_order, offer::MESSAGE_ORDER | offer::MESSAGE_ORDER_ASKED, "rx_attr.msg_order")?;
    subset(asked.comp_order, sys::FI_ORDER_NONE, "rx_attr.comp_order")?;
    at_most(asked.total_buffered_recv, 0, "rx_attr.total_buffered_recv")?;
    at_most(asked.size, offer::CONTEXT_SIZE, "rx_attr.size")?;
    at_most(asked.iov_limit, offer::PIECES_MAX, "rx_attr.iov_limit")
}
