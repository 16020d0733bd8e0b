//! The provider itself: the one static structure that libfabric's core knows, and the four entry points behind it.
//!
//! Responsible for being found, for its versions and for the wall around its entry points. Must never decide anything about attributes or objects.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::ptr::without_provenance_mut;

use rdgram_sys as sys;

use crate::{exit, fabric, guard, info, log, param};

/// The name users select by FI_PROVIDER.
pub(crate) const NAME: &core::ffi::CStr = c"rdgram";
/// Our own version, reported as `prov_version`.
pub(crate) const VERSION: u32 = sys::fi_version(0, 1);
/// The newest API an application may ask for and still be given this provider; the core passes over a provider with a smaller number, so it is ahead of all
/// that exist. What an application's version changes is decided per call.
pub(crate) const FI_VERSION: u32 = sys::fi_version(2, 9);

/// Keeps util providers from layering over this one: the core's own flag in the part of the structure that is the core's (`OFI_DISABLE_LAYERING_OFFSET`).
/// Without it "rdgram;ofi_rxd" and the like are listed before "rdgram".
const DISABLE_LAYERING: usize = {
    let mut bytes = [0_u8; size_of::<usize>()];
    bytes[sys::OFI_DISABLE_LAYERING_OFFSET - core::mem::offset_of!(sys::fi_provider, context)] = 1;
    usize::from_ne_bytes(bytes)
};

/// Writable: the core stores into the structure, and a plain static would lie in read-only memory.
struct Shared(UnsafeCell<sys::fi_provider>);

// SAFETY: Rust code never reads or writes the structure after its static initialisation; the core writes to its own part, under its own lock.
unsafe impl Sync for Shared {}

static PROVIDER: Shared = Shared(UnsafeCell::new(sys::fi_provider {
    version: VERSION,
    fi_version: FI_VERSION,
    context: sys::fi_context {
        internal: [
            without_provenance_mut(DISABLE_LAYERING),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
        ],
    },
    name: NAME.as_ptr(),
    getinfo: Some(getinfo),
    fabric: Some(open_fabric),
    cleanup: Some(cleanup),
}));

/// The structure the core knows us by: valid and at the same place for the life of the process.
pub(crate) fn pointer() -> *mut sys::fi_provider {
    PROVIDER.0.get()
}

/// The body of `fi_prov_ini`: defines the parameters and gives the core our structure. Null when it failed, which the core takes as "no provider".
pub fn initialize() -> *mut sys::fi_provider {
    guard::entry(|| {
        log::core();
        param::define();
        Pointer(pointer())
    })
    .0
}

/// A provider pointer as the outcome of a guarded call.
#[derive(Clone, Copy)]
struct Pointer(*mut sys::fi_provider);

impl guard::Outcome for Pointer {
    const FAILED: Self = Self(core::ptr::null_mut());
}

/// `fi_provider.getinfo`.
unsafe extern "C" fn getinfo(
    version: u32,
    node: *const c_char,
    service: *const c_char,
    flags: u64,
    hints: *const sys::fi_info,
    list: *mut *mut sys::fi_info,
) -> c_int {
    // SAFETY: the arguments of the core's call are passed on as they are.
    guard::entry(|| unsafe { info::getinfo(version, node, service, flags, hints, list) })
}

/// `fi_provider.fabric`.
unsafe extern "C" fn open_fabric(
    attr: *mut sys::fi_fabric_attr,
    fid: *mut *mut sys::fid_fabric,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the arguments of the core's call are passed on as they are.
    guard::entry(|| unsafe { fabric::open(attr, fid, context) })
}

/// `fi_provider.cleanup`: called from a library destructor, when exit handlers may already have run. Nothing of ours lives outside of the objects the
/// application opened; what it left open is ended here, so that what it injected arrives.
unsafe extern "C" fn cleanup() {
    guard::entry(exit::end_all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_complete_and_not_layered_over() {
        let provider = pointer();
        // SAFETY: the static, which nobody writes in this test binary.
        let provider = unsafe { &*provider };
        assert_eq!(provider.version, sys::fi_version(0, 1));
        assert!(provider.fi_version >= sys::fi_version(2, 5));
        assert!(provider.getinfo.is_some() && provider.fabric.is_some() && provider.cleanup.is_some());
        // SAFETY: a static C string.
        assert_eq!(unsafe { core::ffi::CStr::from_ptr(provider.name) }, c"rdgram");

        let bytes = core::ptr::from_ref(provider).cast::<u8>();
        let context: Vec<u8> = (8..40)
            .map(|offset| {
                // SAFETY: within the structure, whose context area has no padding.
                let byte = unsafe { bytes.add(offset) };
                // SAFETY: as above.
                unsafe { byte.read() }
            })
            .collect();
        let set: Vec<usize> = (8..40).filter(|&offset| context[offset - 8] != 0).collect();
        assert_eq!(set, [sys::OFI_DISABLE_LAYERING_OFFSET], "only disable_layering may be preset");
        assert_eq!(context[sys::OFI_DISABLE_LAYERING_OFFSET - 8], 1);
    }

    #[test]
    fn initialising_twice_gives_the_same_structure() {
        assert_eq!(initialize(), initialize());
        assert_eq!(initialize(), pointer());
    }
}
