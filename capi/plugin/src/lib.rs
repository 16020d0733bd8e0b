//! The shared object that libfabric loads: `fi_prov_ini`, and nothing else.
//!
//! Everything behind it is in `rdgram-ops`, which also keeps panics from crossing into C.

use rdgram_sys::fi_provider;

/// What libfabric calls once after loading: gives it the provider.
#[unsafe(no_mangle)]
pub extern "C" fn fi_prov_ini() -> *mut fi_provider {
    rdgram_ops::initialize()
}
