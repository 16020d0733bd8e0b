//! A value and the rule by which threads take turns at it, the rule being a type.
//!
//! Never decides at run time which rule holds: a data path is compiled once per flavour.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// How the threads that use one object are kept apart.
///
/// # Safety
/// Between a return of `enter` (or a `try_enter` that returned true) and the matching `leave`, no other `enter`
/// returns and no `try_enter` returns true; and what was written before a `leave` is seen after the next `enter`.
/// An implementation may shift this duty to its user: [`Guarded::new`] is unsafe for its sake.
pub unsafe trait Serialize: Default + Send + Sync + 'static {
    /// Waits for the turn and takes it.
    fn enter(&self);

    /// Takes the turn if nobody has it.
    fn try_enter(&self) -> bool;

    /// Gives the turn back. Only whoever has it may call this.
    fn leave(&self);

    /// Counts the enters and leaves of the application, where its turns are not counted otherwise: the same count means that it did not come meanwhile, nor was inside when the count is even.
    fn turns(&self) -> Option<u32> {
        None
    }

    /// Takes the turn if nobody has it, for a thread that is no call of the application's. `heavy_barrier` makes every other thread of the process pass a full
    /// memory barrier, where that is needed, and tells whether it could.
    fn visit(&self, heavy_barrier: impl FnOnce() -> bool) -> bool {
        let _not_needed = heavy_barrier;
        self.try_enter()
    }

    /// Gives back a turn taken by [`visit`](Self::visit).
    fn end_visit(&self) {
        self.leave();
    }
}

/// A value that is used by one thread at a time, kept apart by `S`.
pub struct Guarded<S, T> {
    serial: S,
    value: UnsafeCell<T>,
}

// SAFETY: `S` lets one thread at a time reach the value, so sharing it only moves it between threads.
unsafe impl<S: Serialize, T: Send> Sync for Guarded<S, T> {}

impl<S: Serialize, T> Guarded<S, T> {
    /// Guards `value`.
    ///
    /// # Safety
    /// With [`Biased`](crate::Biased) the one who makes this promises that no two threads ever enter at once (the
    /// application did, by asking for `FI_THREAD_DOMAIN`), and that
    /// the barrier of every visit is one, or says that it is none. With [`Mutual`](crate::Mutual) there is nothing
    /// to promise.
    pub unsafe fn new(value: T) -> Self {
        Self { serial: S::default(), value: UnsafeCell::new(value) }
    }

    /// Waits for the turn.
    #[inline]
    pub fn enter(&self) -> Guard<'_, S, T> {
        self.serial.enter();
        Guard { guarded: self, not_send: PhantomData }
    }

    /// Takes the turn, unless another has it.
    #[inline]
    pub fn try_enter(&self) -> Option<Guard<'_, S, T>> {
        // Lazily: a guard made for a turn not taken would give back another's.
        self.serial.try_enter().then(|| Guard { guarded: self, not_send: PhantomData })
    }

    /// Takes the turn, unless another has it, for a thread that is not the application's. See [`Serialize::visit`].
    pub fn visit(&self, heavy_barrier: impl FnOnce() -> bool) -> Option<Visit<'_, S, T>> {
        self.serial.visit(heavy_barrier).then(|| Visit { guarded: self, not_send: PhantomData })
    }

    /// See [`Serialize::turns`].
    pub fn turns(&self) -> Option<u32> {
        self.serial.turns()
    }

    /// The value, without a turn: `&mut self` proves that nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<S, T> fmt::Debug for Guarded<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

/// The turn at a [`Guarded`] value; dropping it gives the turn back, also when unwinding.
#[must_use = "the turn is given back when this is dropped"]
pub struct Guard<'a, S: Serialize, T> {
    guarded: &'a Guarded<S, T>,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives out `&T` only.
unsafe impl<S: Serialize, T: Sync> Sync for Guard<'_, S, T> {}

impl<S: Serialize, T> Deref for Guard<'_, S, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard has the turn, so nobody else reaches the value, and `&self` keeps `&mut` away.
        unsafe { &*self.guarded.value.get() }
    }
}

impl<S: Serialize, T> DerefMut for Guard<'_, S, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the turn, so nobody else reaches the value; `&mut self` makes it exclusive here.
        unsafe { &mut *self.guarded.value.get() }
    }
}

impl<S: Serialize, T> Drop for Guard<'_, S, T> {
    #[inline]
    fn drop(&mut self) {
        self.guarded.serial.leave();
    }
}

impl<S: Serialize, T: fmt::Debug> fmt::Debug for Guard<'_, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&**self).finish()
    }
}

/// The turn of a visitor; dropping it gives the turn back, also when unwinding.
#[must_use = "the turn is given back when this is dropped"]
pub struct Visit<'a, S: Serialize, T> {
    guarded: &'a Guarded<S, T>,
    not_send: PhantomData<*const ()>,
}

impl<S: Serialize, T> Deref for Visit<'_, S, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this visitor has the turn, so nobody else reaches the value, and `&self` keeps `&mut` away.
        unsafe { &*self.guarded.value.get() }
    }
}

impl<S: Serialize, T> DerefMut for Visit<'_, S, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this visitor has the turn, so nobody else reaches the value; `&mut self` makes it exclusive here.
        unsafe { &mut *self.guarded.value.get() }
    }
}

impl<S: Serialize, T> Drop for Visit<'_, S, T> {
    fn drop(&mut self) {
        self.guarded.serial.end_visit();
    }
}

impl<S: Serialize, T> fmt::Debug for Visit<'_, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Mutual;

    #[test]
    fn turn_is_given_back_when_unwinding() {
        // SAFETY: a mutual lock asks for no promise.
        let guarded = unsafe { Guarded::<Mutual, u32>::new(1) };
        let unwound = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            let mut turn = guarded.enter();
            *turn = 2;
            panic!("inside");
        }));
        assert!(unwound.is_err());
        assert_eq!(*guarded.try_enter().expect("the turn came back"), 2);
    }

    #[test]
    fn one_turn_at_a_time() {
        // SAFETY: a mutual lock asks for no promise.
        let guarded = unsafe { Guarded::<Mutual, u32>::new(7) };
        let turn = guarded.enter();
        assert!(guarded.try_enter().is_none());
        drop(turn);
        assert!(guarded.try_enter().is_some());
    }
}
