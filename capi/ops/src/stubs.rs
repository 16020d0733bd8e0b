//! Every slot of what is not offered: `-FI_ENOSYS`, in each shape that the tables need.
//!
//! libfabric's inline functions call most slots without looking: an empty one is a crash of the application. Must never do anything.

use core::ffi::c_int;

use rdgram_sys as sys;

use crate::tostr;

/// The answer, in the width of `ssize_t`.
const ENOSYS: isize = -(sys::FI_ENOSYS as isize);

macro_rules! refusals {
    ($($name:ident -> $result:ty = $value:expr, ($($argument:ident)*);)*) => {$(
        #[allow(clippy::too_many_arguments, reason = "as many as the slot has")]
        pub(crate) unsafe extern "C" fn $name<$($argument),*>($(_: $argument),*) -> $result {
            $value
        }
    )*};
}

refusals! {
    int1 -> c_int = -sys::FI_ENOSYS, (A);
    int2 -> c_int = -sys::FI_ENOSYS, (A B);
    int3 -> c_int = -sys::FI_ENOSYS, (A B C);
    int4 -> c_int = -sys::FI_ENOSYS, (A B C D);
    int5 -> c_int = -sys::FI_ENOSYS, (A B C D E);
    size3 -> isize = ENOSYS, (A B C);
    size4 -> isize = ENOSYS, (A B C D);
    size6 -> isize = ENOSYS, (A B C D E F);
    size9 -> isize = ENOSYS, (A B C D E F G H I);
    size10 -> isize = ENOSYS, (A B C D E F G H I J);
    size11 -> isize = ENOSYS, (A B C D E F G H I J K);
    size12 -> isize = ENOSYS, (A B C D E F G H I J K L);
}

/// A slot that only a later libfabric has, and that it may call without looking.
pub(crate) unsafe extern "C" fn refused() -> c_int {
    -sys::FI_ENOSYS
}

/// A fid's own operations, `close` included: to be replaced one by one.
pub(crate) const FID: sys::fi_ops = sys::fi_ops {
    size: size_of::<sys::fi_ops>(),
    close: Some(int1),
    bind: Some(int3),
    control: Some(int3),
    ops_open: Some(int5),
    tostr: Some(tostr::object),
    ops_set: Some(int5),
};

/// Collective operations.
pub(crate) const COLLECTIVE: &sys::fi_ops_collective = &sys::fi_ops_collective {
    size: size_of::<sys::fi_ops_collective>(),
    barrier: Some(size3),
    broadcast: Some(size9),
    alltoall: Some(size10),
    allreduce: Some(size11),
    allgather: Some(size10),
    reduce_scatter: Some(size11),
    reduce: Some(size12),
    scatter: Some(size11),
    gather: Some(size11),
    msg: Some(size6),
    barrier2: Some(size4),
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A table is a size and function pointers; every slot of it is filled.
    fn assert_filled<T>(table: &T, name: &str) {
        let words = size_of::<T>() / size_of::<usize>();
        let table = core::ptr::from_ref(table).cast::<usize>();
        // SAFETY: the tables are arrays of words: a size, then pointers.
        let words = unsafe { core::slice::from_raw_parts(table, words) };
        assert_eq!(words[0], size_of_val(words), "size of {name}");
        for (slot, &word) in words.iter().enumerate() {
            assert_ne!(word, 0, "slot {slot} of {name}");
        }
    }

    #[test]
    fn no_slot_is_empty() {
        assert_filled(&FID, "fi_ops");
        assert_filled(COLLECTIVE, "fi_ops_collective");
    }
}
