//! The structures and operation tables at their largest: what versions after 1.17 appended, declared by hand.
//!
//! A table is always handed out at this size, with every slot filled; a structure that libfabric or the application
//! hands in may be shorter, and its later fields are read only when the application's API version has them.
//! Slots that only the unreleased 2.7 has are typed without arguments: they are only ever filled with a refusal.

use core::ffi::{c_int, c_void};

use crate::{
    fi_addr_t, fi_cntr_attr, fi_cq_attr, fi_cq_err_entry, fi_domain_attr, fi_ep_attr, fi_mr_attr, fi_ops_av,
    fi_ops_cntr, fi_ops_cq, fi_ops_domain, fi_ops_ep, fid_av, fid_mr,
};

/// A slot of a table that this provider only ever refuses with `-FI_ENOSYS`.
pub type RefusedSlot = Option<unsafe extern "C" fn() -> c_int>;

/// `fi_domain_attr` of libfabric 2.7: 232 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DomainAttr {
    /// What 1.17 has (192 bytes).
    pub base: fi_domain_attr,
    /// Since 1.20.
    pub max_ep_auth_key: usize,
    /// Since 2.0.
    pub max_group_id: u32,
    /// Since 2.5.
    pub max_cntr_value: u64,
    /// Since 2.5.
    pub max_err_cntr_value: u64,
    /// Unreleased 2.7.
    pub max_xpu_ctx_cnt: usize,
}

/// `fi_ep_attr` of libfabric 2.7: 104 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EpAttr {
    /// What 1.17 has (96 bytes).
    pub base: fi_ep_attr,
    /// Unreleased 2.7; always zero here.
    pub reserved: usize,
}

/// `fi_mr_attr` since libfabric 2.0: 112 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the base holds a union that has no Debug")]
pub struct MrAttr {
    /// What 1.17 has (80 bytes). With `FI_MR_DMABUF` (since 1.20) its first field is another pointer.
    pub base: fi_mr_attr,
    /// Since 1.19.
    pub hmem_data: *mut c_void,
    /// Since 1.22.
    pub page_size: usize,
    /// Since 2.0.
    pub base_mr: *const fid_mr,
    /// Since 2.0.
    pub sub_mr_cnt: usize,
}

/// `fi_cq_err_entry` since libfabric 1.20: 88 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CqErrEntry {
    /// What 1.17 has (80 bytes).
    pub base: fi_cq_err_entry,
    /// Since 1.20.
    pub src_addr: fi_addr_t,
}

/// `fi_cq_attr` of libfabric 2.7: 48 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CqAttr {
    /// What 1.17 has (40 bytes).
    pub base: fi_cq_attr,
    /// Unreleased 2.7; never read.
    pub reserved: usize,
}

/// `fi_cntr_attr` of libfabric 2.7: 32 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CntrAttr {
    /// What 1.17 has (24 bytes).
    pub base: fi_cntr_attr,
    /// Unreleased 2.7; never read.
    pub reserved: usize,
}

/// `fi_ops_av` of libfabric 2.7: 96 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpsAv {
    /// What 1.17 has (64 bytes).
    pub base: fi_ops_av,
    /// Since 1.20.
    pub insert_auth_key: Option<
        unsafe extern "C" fn(
            av: *mut fid_av,
            auth_key: *const c_void,
            auth_key_size: usize,
            fi_addr: *mut fi_addr_t,
            flags: u64,
        ) -> c_int,
    >,
    /// Since 1.20.
    pub lookup_auth_key: Option<
        unsafe extern "C" fn(
            av: *mut fid_av,
            fi_addr: fi_addr_t,
            auth_key: *mut c_void,
            auth_key_size: *mut usize,
        ) -> c_int,
    >,
    /// Since 1.20.
    pub set_user_id: Option<
        unsafe extern "C" fn(av: *mut fid_av, fi_addr: fi_addr_t, user_id: fi_addr_t, flags: u64) -> c_int,
    >,
    /// Unreleased 2.7.
    pub lookup2: RefusedSlot,
}

/// `fi_ops_ep` of libfabric 2.7: 72 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpsEp {
    /// What 1.17 has (64 bytes).
    pub base: fi_ops_ep,
    /// Unreleased 2.7; called there without a check.
    pub export_xpu: RefusedSlot,
}

/// `fi_ops_cq` of libfabric 2.7: 72 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpsCq {
    /// What 1.17 has (64 bytes).
    pub base: fi_ops_cq,
    /// Unreleased 2.7; called there without a check.
    pub export_xpu: RefusedSlot,
}

/// `fi_ops_cntr` of libfabric 2.7: 72 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpsCntr {
    /// What 1.17 has (64 bytes).
    pub base: fi_ops_cntr,
    /// Unreleased 2.7; called there without a check.
    pub export_xpu: RefusedSlot,
}

/// `fi_ops_domain` of libfabric 2.7: 104 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpsDomain {
    /// What 1.17 has (96 bytes).
    pub base: fi_ops_domain,
    /// Unreleased 2.7.
    pub xpu_ctx: RefusedSlot,
}
