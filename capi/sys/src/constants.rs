//! Constants the generator cannot express, or expresses with the wrong type, and those of later versions.
//!
//! Values only; where the number of a bit changed its meaning between versions the documentation says so.

use core::ffi::c_int;

/// Packs a version number as libfabric does: major in the high half, minor in the low half.
#[must_use]
pub const fn fi_version(major: u32, minor: u32) -> u32 {
    (major << 16) | minor
}

/// Major part of a packed version.
#[must_use]
pub const fn fi_major(version: u32) -> u32 {
    version >> 16
}

/// Minor part of a packed version.
#[must_use]
pub const fn fi_minor(version: u32) -> u32 {
    version & 0xffff
}

/// `addr_format`, since 2.3: `sockaddr_in` or `sockaddr_in6`.
pub const FI_SOCKADDR_IP: u32 = 17;
/// No address: a receive from anybody.
pub const FI_ADDR_UNSPEC: u64 = u64::MAX;
/// No address: the sender is not known.
pub const FI_ADDR_NOTAVAIL: u64 = u64::MAX;
/// No key: the region has no remote access.
pub const FI_KEY_NOTAVAIL: u64 = u64::MAX;
/// Instead of a number of contexts: the endpoint uses a shared context.
pub const FI_SHARED_CONTEXT: usize = usize::MAX;
/// A tag format without fields: all 64 bits belong to the application.
pub const FI_TAG_GENERIC: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// `mr_mode`: nothing said.
pub const FI_MR_UNSPEC: c_int = 0;
/// `mr_mode` of API versions before 1.5: virtual addresses and keys chosen by the provider.
pub const FI_MR_BASIC: c_int = 1;
/// `mr_mode` of API versions before 1.5: offsets and keys chosen by the application.
pub const FI_MR_SCALABLE: c_int = 2;

/// Any other error.
pub const FI_EOTHER: c_int = 256;
/// The buffer given is too small.
pub const FI_ETOOSMALL: c_int = 257;
/// The object's state does not permit the operation.
pub const FI_EOPBADSTATE: c_int = 258;
/// An error entry is waiting to be read.
pub const FI_EAVAIL: c_int = 259;
/// Flags that the call does not know.
pub const FI_EBADFLAGS: c_int = 260;
/// No event queue is bound.
pub const FI_ENOEQ: c_int = 261;
/// The objects belong to different domains.
pub const FI_EDOMAIN: c_int = 262;
/// No completion queue is bound.
pub const FI_ENOCQ: c_int = 263;
/// A checksum did not match.
pub const FI_ECRC: c_int = 264;
/// The message was longer than the receive buffer.
pub const FI_ETRUNC: c_int = 265;
/// The key is in use, or none is left.
pub const FI_ENOKEY: c_int = 266;
/// No address vector is bound.
pub const FI_ENOAV: c_int = 267;
/// A queue overran.
pub const FI_EOVERRUN: c_int = 268;
/// The receiver had no buffer posted.
pub const FI_ENORX: c_int = 269;
/// No memory region (libfabric 2.0).
pub const FI_ENOMR: c_int = 270;
/// The peer's address is behind a firewall (libfabric 2.0).
pub const FI_EFIREWALLADDR: c_int = 271;

/// Progress: one progress call serves control and data (libfabric 1.20).
pub const FI_PROGRESS_CONTROL_UNIFIED: crate::fi_progress = 3;

/// `fi_getinfo` flag: enumerate the interfaces again (libfabric 2.0).
pub const FI_RESCAN: u64 = 1 << 35;
/// Memory registration flag: the region is a dma-buf (libfabric 1.20).
pub const FI_MR_DMABUF: u64 = 1 << 40;
/// Address vector insertion flag: the peer is behind a firewall (libfabric 2.0).
pub const FI_FIREWALL_ADDR: u64 = 1 << 42;
/// Queue and vector flag: authorization keys (libfabric 1.20); shares its bit with `FI_SOURCE`.
pub const FI_AUTH_KEY: u64 = 1 << 57;

/// Control command: the descriptor of an object (unreleased 2.7).
pub const FI_GET_FD: c_int = 20;

/// Endpoint option: may the provider call CUDA (libfabric 1.18).
pub const FI_OPT_CUDA_API_PERMITTED: c_int = 10;
/// Endpoint option: may the provider use shared memory (libfabric 1.21).
pub const FI_OPT_SHARED_MEMORY_PERMITTED: c_int = 11;
/// Endpoint option: largest message (libfabric 1.22, as the following ones).
pub const FI_OPT_MAX_MSG_SIZE: c_int = 12;
/// Endpoint option: largest tagged message.
pub const FI_OPT_MAX_TAGGED_SIZE: c_int = 13;
/// Endpoint option: largest remote memory operation.
pub const FI_OPT_MAX_RMA_SIZE: c_int = 14;
/// Endpoint option: largest atomic operation.
pub const FI_OPT_MAX_ATOMIC_SIZE: c_int = 15;
/// Endpoint option: largest injected message.
pub const FI_OPT_INJECT_MSG_SIZE: c_int = 16;
/// Endpoint option: largest injected tagged message.
pub const FI_OPT_INJECT_TAGGED_SIZE: c_int = 17;
/// Endpoint option: largest injected remote write.
pub const FI_OPT_INJECT_RMA_SIZE: c_int = 18;
/// Endpoint option: largest injected atomic operation.
pub const FI_OPT_INJECT_ATOMIC_SIZE: c_int = 19;
/// Endpoint option: the endpoint is behind a firewall (libfabric 2.0).
pub const FI_OPT_FIREWALL_ADDR: c_int = 20;

/// Flag the core itself passes to a provider's `getinfo`: a core provider is wanted as the lower layer of another.
pub const OFI_CORE_PROV_ONLY: u64 = 1 << 59;

/// Byte of `fi_provider.context` (counted from the start of `fi_provider`) that keeps util providers from layering
/// over this one. It belongs to the core and has stood at this place from 1.17 to 2.6.
pub const OFI_DISABLE_LAYERING_OFFSET: usize = 13;
