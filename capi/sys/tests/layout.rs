//! The layouts that one binary relies on for every libfabric from 1.17 to 2.6, against documented numbers.

use core::mem::{offset_of, size_of};
use rdgram_sys::abi::{
    CntrAttr, CqAttr, CqErrEntry, DomainAttr, EpAttr, MrAttr, OpsAv, OpsCntr, OpsCq, OpsDomain, OpsEp,
};
use rdgram_sys::*;

/// Sizes that are the same in every version, as a C compiler gives them.
#[test]
fn constant_sizes() {
    let table = [
        ("fi_info", size_of::<fi_info>(), 120),
        ("fi_tx_attr", size_of::<fi_tx_attr>(), 80),
        ("fi_rx_attr", size_of::<fi_rx_attr>(), 64),
        ("fi_fabric_attr", size_of::<fi_fabric_attr>(), 32),
        ("fi_provider", size_of::<fi_provider>(), 72),
        ("fid", size_of::<fid>(), 24),
        ("fid_ep", size_of::<fid_ep>(), 80),
        ("fid_domain", size_of::<fid_domain>(), 40),
        ("fid_fabric", size_of::<fid_fabric>(), 40),
        ("fid_mr", size_of::<fid_mr>(), 40),
        ("fid_cq", size_of::<fid_cq>(), 32),
        ("fid_cntr", size_of::<fid_cntr>(), 32),
        ("fid_eq", size_of::<fid_eq>(), 32),
        ("fid_av", size_of::<fid_av>(), 32),
        ("fid_nic", size_of::<fid_nic>(), 56),
        ("fi_ops", size_of::<fi_ops>(), 56),
        ("fi_ops_fabric", size_of::<fi_ops_fabric>(), 56),
        ("fi_ops_eq", size_of::<fi_ops_eq>(), 48),
        ("fi_ops_cm", size_of::<fi_ops_cm>(), 80),
        ("fi_ops_msg", size_of::<fi_ops_msg>(), 80),
        ("fi_ops_tagged", size_of::<fi_ops_tagged>(), 80),
        ("fi_ops_rma", size_of::<fi_ops_rma>(), 80),
        ("fi_ops_atomic", size_of::<fi_ops_atomic>(), 112),
        ("fi_ops_collective", size_of::<fi_ops_collective>(), 96),
        ("fi_deferred_work", size_of::<fi_deferred_work>(), 104),
        ("fi_eq_attr", size_of::<fi_eq_attr>(), 32),
        ("fi_eq_entry", size_of::<fi_eq_entry>(), 24),
        ("fi_eq_err_entry", size_of::<fi_eq_err_entry>(), 48),
        ("fi_eq_cm_entry", size_of::<fi_eq_cm_entry>(), 16),
        ("fi_cq_entry", size_of::<fi_cq_entry>(), 8),
        ("fi_cq_msg_entry", size_of::<fi_cq_msg_entry>(), 24),
        ("fi_cq_data_entry", size_of::<fi_cq_data_entry>(), 40),
        ("fi_cq_tagged_entry", size_of::<fi_cq_tagged_entry>(), 48),
        ("fi_context", size_of::<fi_context>(), 32),
        ("fi_context2", size_of::<fi_context2>(), 64),
    ];
    for (name, size, documented) in table {
        assert_eq!(size, documented, "size of {name}");
    }
}

/// Structures that grew: the size in 1.17 and the largest known one.
#[test]
fn grown_sizes() {
    let table = [
        ("fi_domain_attr", size_of::<fi_domain_attr>(), 192, size_of::<DomainAttr>(), 232),
        ("fi_ep_attr", size_of::<fi_ep_attr>(), 96, size_of::<EpAttr>(), 104),
        ("fi_mr_attr", size_of::<fi_mr_attr>(), 80, size_of::<MrAttr>(), 112),
        ("fi_cq_err_entry", size_of::<fi_cq_err_entry>(), 80, size_of::<CqErrEntry>(), 88),
        ("fi_cq_attr", size_of::<fi_cq_attr>(), 40, size_of::<CqAttr>(), 48),
        ("fi_cntr_attr", size_of::<fi_cntr_attr>(), 24, size_of::<CntrAttr>(), 32),
        ("fi_ops_av", size_of::<fi_ops_av>(), 64, size_of::<OpsAv>(), 96),
        ("fi_ops_ep", size_of::<fi_ops_ep>(), 64, size_of::<OpsEp>(), 72),
        ("fi_ops_cq", size_of::<fi_ops_cq>(), 64, size_of::<OpsCq>(), 72),
        ("fi_ops_cntr", size_of::<fi_ops_cntr>(), 64, size_of::<OpsCntr>(), 72),
        ("fi_ops_domain", size_of::<fi_ops_domain>(), 96, size_of::<OpsDomain>(), 104),
    ];
    for (name, old, documented_old, new, documented_new) in table {
        assert_eq!(old, documented_old, "size of {name} in 1.17");
        assert_eq!(new, documented_new, "largest size of {name}");
    }
}

/// Offsets that readers of every version agree on.
#[test]
fn offsets() {
    let table = [
        ("fi_domain_attr.threading", offset_of!(fi_domain_attr, threading), 16),
        ("fi_domain_attr.control_progress", offset_of!(fi_domain_attr, control_progress), 20),
        ("fi_domain_attr.data_progress", offset_of!(fi_domain_attr, data_progress), 24),
        ("fi_domain_attr.mr_mode", offset_of!(fi_domain_attr, mr_mode), 36),
        ("fi_domain_attr.mr_key_size", offset_of!(fi_domain_attr, mr_key_size), 40),
        ("fi_domain_attr.cq_data_size", offset_of!(fi_domain_attr, cq_data_size), 48),
        ("fi_domain_attr.caps", offset_of!(fi_domain_attr, caps), 136),
        ("fi_domain_attr.mode", offset_of!(fi_domain_attr, mode), 144),
        ("fi_domain_attr.mr_cnt", offset_of!(fi_domain_attr, mr_cnt), 176),
        ("fi_domain_attr.tclass", offset_of!(fi_domain_attr, tclass), 184),
        ("fi_domain_attr.max_ep_auth_key", offset_of!(DomainAttr, max_ep_auth_key), 192),
        ("fi_domain_attr.max_group_id", offset_of!(DomainAttr, max_group_id), 200),
        ("fi_domain_attr.max_cntr_value", offset_of!(DomainAttr, max_cntr_value), 208),
        ("fi_domain_attr.max_err_cntr_value", offset_of!(DomainAttr, max_err_cntr_value), 216),
        ("fi_mr_attr.mr_iov", offset_of!(fi_mr_attr, mr_iov), 0),
        ("fi_mr_attr.iov_count", offset_of!(fi_mr_attr, iov_count), 8),
        ("fi_mr_attr.access", offset_of!(fi_mr_attr, access), 16),
        ("fi_mr_attr.offset", offset_of!(fi_mr_attr, offset), 24),
        ("fi_mr_attr.requested_key", offset_of!(fi_mr_attr, requested_key), 32),
        ("fi_mr_attr.context", offset_of!(fi_mr_attr, context), 40),
        ("fi_mr_attr.auth_key_size", offset_of!(fi_mr_attr, auth_key_size), 48),
        ("fi_mr_attr.auth_key", offset_of!(fi_mr_attr, auth_key), 56),
        ("fi_mr_attr.iface", offset_of!(fi_mr_attr, iface), 64),
        ("fi_mr_attr.device", offset_of!(fi_mr_attr, device), 72),
        ("fi_mr_attr.hmem_data", offset_of!(MrAttr, hmem_data), 80),
        ("fi_mr_attr.page_size", offset_of!(MrAttr, page_size), 88),
        ("fi_mr_attr.base_mr", offset_of!(MrAttr, base_mr), 96),
        ("fi_cq_err_entry.err", offset_of!(fi_cq_err_entry, err), 56),
        ("fi_cq_err_entry.prov_errno", offset_of!(fi_cq_err_entry, prov_errno), 60),
        ("fi_cq_err_entry.err_data", offset_of!(fi_cq_err_entry, err_data), 64),
        ("fi_cq_err_entry.err_data_size", offset_of!(fi_cq_err_entry, err_data_size), 72),
        ("fi_cq_err_entry.src_addr", offset_of!(CqErrEntry, src_addr), 80),
        ("fi_provider.version", offset_of!(fi_provider, version), 0),
        ("fi_provider.fi_version", offset_of!(fi_provider, fi_version), 4),
        ("fi_provider.context", offset_of!(fi_provider, context), 8),
        ("fi_provider.name", offset_of!(fi_provider, name), 40),
        ("fi_provider.getinfo", offset_of!(fi_provider, getinfo), 48),
        ("fi_provider.fabric", offset_of!(fi_provider, fabric), 56),
        ("fi_provider.cleanup", offset_of!(fi_provider, cleanup), 64),
        ("fid_fabric.api_version", offset_of!(fid_fabric, api_version), 32),
        ("fi_ops_av.insert_auth_key", offset_of!(OpsAv, insert_auth_key), 64),
        ("fi_ops_av.lookup_auth_key", offset_of!(OpsAv, lookup_auth_key), 72),
        ("fi_ops_av.set_user_id", offset_of!(OpsAv, set_user_id), 80),
        ("fi_ops_av.lookup2", offset_of!(OpsAv, lookup2), 88),
    ];
    for (name, offset, documented) in table {
        assert_eq!(offset, documented, "offset of {name}");
    }
}

/// Values that the generator takes from C expressions, and those declared by hand, against the documented bits.
#[test]
fn constants() {
    assert_eq!(fi_version(1, 17), 0x1_0011);
    assert_eq!((fi_major(fi_version(2, 9)), fi_minor(fi_version(2, 9))), (2, 9));
    assert_eq!(FI_SOURCE, 1 << 57);
    assert_eq!(FI_DIRECTED_RECV, 1 << 59);
    assert_eq!((FI_DISCARD, FI_CLAIM), (1 << 58, 1 << 59));
    assert_eq!((FI_LOCAL_COMM, FI_REMOTE_COMM), (1 << 51, 1 << 52));
    assert_eq!(FI_SELECTIVE_COMPLETION | FI_SEND | FI_RECV, 0x0800_0000_0000_0c00);
    assert_eq!((FI_CONTEXT, FI_CONTEXT2), (1 << 59, 1 << 52));
    assert_eq!(FI_ORDER_ATOMIC_RAR | FI_ORDER_SAS, 0x10_0000_0100);
    assert_eq!((FI_MATCH_COMPLETE, FI_DELIVERY_COMPLETE, FI_COMPLETION), (1 << 31, 1 << 28, 1 << 24));
    assert_eq!((FI_EAVAIL, FI_ETRUNC, FI_EIO), (259, 265, 5));
    assert_eq!((FI_AV_MAP, FI_AV_TABLE), (1, 2));
    assert_eq!((FI_CLASS_FABRIC, FI_CLASS_EQ, FI_CLASS_CNTR), (1, 13, 15));
    assert_eq!(FI_TAG_GENERIC.count_ones(), 32);
}
