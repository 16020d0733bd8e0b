//! From fids to objects: the only file that casts a pointer of libfabric's to one of our types.
//!
//! Every object begins with its C struct, which begins with `struct fid`. The application holds a raw pointer to it; we hand out `&T` only, never `&mut T`,
//! because several threads may be inside of one object. Must never be used with a pointer that did not come through an ops table of the same type.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use std::sync::Arc;

use rdgram_sys as sys;

use crate::errno::{Errno, Result};

/// The C struct at the start of an object. The application and libfabric's core read it and may write to it (`fid.context`, `api_version`).
#[repr(transparent)]
pub(crate) struct Face<F>(UnsafeCell<F>);

// SAFETY: Rust code reads and writes it through raw pointers only, when no other thread may (before the object is handed out, or as libfabric's rules say).
unsafe impl<F> Sync for Face<F> {}
// SAFETY: as above; it is plain data.
unsafe impl<F> Send for Face<F> {}

impl<F> Face<F> {
    /// Wraps the struct.
    pub(crate) const fn new(value: F) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it lies.
    pub(crate) fn pointer(&self) -> *mut F {
        self.0.get()
    }
}

/// The start of an object that belongs to a domain: whose, so that objects of different domains are never mixed up.
#[repr(C)]
pub(crate) struct Child<F> {
    face: Face<F>,
    /// Address of the domain's shared state.
    owner: usize,
}

impl<F> Child<F> {
    /// An object of the domain whose shared state is `owner`.
    pub(crate) fn new<O>(face: F, owner: &Arc<O>) -> Self {
        Self { face: Face::new(face), owner: Arc::as_ptr(owner).addr() }
    }

    /// The C struct.
    pub(crate) fn pointer(&self) -> *mut F {
        self.face.pointer()
    }
}

/// The object behind a fid that was given as an argument: of class `T`, of the domain whose shared state is `owner`. Anything else is refused.
///
/// # Safety
/// `fid` is null or a live fid; when it is of the class of `T` (of which there is one provider per domain), it came from [`publish`].
pub(crate) unsafe fn sibling<'a, T: Object, O>(fid: *mut sys::fid, owner: &Arc<O>) -> Result<&'a T> {
    if fid.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: not null, hence live.
    if unsafe { class(fid) } != T::CLASS {
        return Err(Errno::INVAL);
    }
    let child = fid.cast::<Child<T::Fid>>();
    // SAFETY: an object of this class begins with `Child`, whatever flavour its domain is of.
    if unsafe { (*child).owner } != Arc::as_ptr(owner).addr() {
        return Err(Errno::DOMAIN);
    }
    // SAFETY: the same domain, hence the same flavour: a `T`.
    Ok(unsafe { object(fid.cast()) })
}

/// An object that libfabric knows by a fid.
///
/// # Safety
/// The type is `#[repr(C)]`, its first field is `Face<Self::Fid>` (`Child<Self::Fid>` for objects of a domain), and `Self::Fid` is a `repr(C)` struct whose
/// first field is `struct fid`.
pub(crate) unsafe trait Object: Sized {
    /// The C struct.
    type Fid;
    /// Its `fclass`.
    const CLASS: usize;
}

/// The object behind a fid that was given to an operation of this type's own table.
///
/// # Safety
/// `fid` came from [`publish`] for a `T`, and the object is not closed while the reference lives (libfabric: closing is exclusive).
#[inline]
pub(crate) unsafe fn object<'a, T: Object>(fid: *mut T::Fid) -> &'a T {
    const { assert!(align_of::<T>() >= align_of::<sys::fid>()) };
    debug_assert_eq!(
        // SAFETY: by the promise above, a live fid of some class.
        unsafe { class(fid.cast()) },
        T::CLASS,
        "an operation was called with another object's fid"
    );
    // SAFETY: `publish` made the pointer from a `Box<T>`; the trait promises that the struct is at its start.
    unsafe { &*fid.cast::<T>() }
}

/// The class of any fid.
///
/// # Safety
/// `fid` is a live fid of anybody's.
#[inline]
pub(crate) unsafe fn class(fid: *const sys::fid) -> usize {
    // SAFETY: the first field of every object of libfabric's.
    unsafe { (*fid).fclass }
}

/// Gives an object to the application: the pointer is its fid until [`reclaim`].
pub(crate) fn publish<T: Object>(object: Box<T>) -> *mut T::Fid {
    Box::into_raw(object).cast()
}

/// Takes an object back when it is closed.
///
/// # Safety
/// `fid` came from [`publish`] for a `T` and nobody uses it any more.
pub(crate) unsafe fn reclaim<T: Object>(fid: *mut T::Fid) -> Box<T> {
    // SAFETY: the pointer that `publish` made.
    unsafe { Box::from_raw(fid.cast::<T>()) }
}

/// The head of every fid.
pub(crate) fn head(class: usize, context: *mut c_void, ops: &'static sys::fi_ops) -> sys::fid {
    sys::fid { fclass: class, context, ops: core::ptr::from_ref(ops).cast_mut() }
}

/// A table as the mutable pointer that the C structs hold. Nobody writes through it.
pub(crate) const fn table<T>(table: &'static T) -> *mut T {
    core::ptr::from_ref(table).cast_mut()
}

/// `fid.fclass` of a class constant.
pub(crate) const fn class_of(class: u32) -> usize {
    class as usize
}

/// The command argument of `fi_control`, in the type of the constants.
pub(crate) fn command(command: c_int) -> u32 {
    u32::try_from(command).unwrap_or(u32::MAX)
}
