//! The open domains of this process: at its end what was injected is delivered although nobody closed anything, and while one domain waits for another of
//! the same process, that one makes progress.
//!
//! Responsible for the list of open domains. Must never keep a domain open, nor wait long for a lock at exit.

use core::any::TypeId;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

use rdgram_host::{fork, membarrier};
use rdgram_sync::{Biased, Serialize};

use crate::domain::{Shared, State};
use crate::{ep, progress};

/// A domain of either flavour.
trait Open: Send + Sync {
    /// Delivers what is still to be delivered and tells the peers; calls `help` while it waits.
    fn end(&self, help: &dyn Fn());
    /// Makes progress, if nobody can be inside. The process has this many progress threads, which never enter a domain without its lock.
    fn help(&self, progress_threads: usize);
    /// Progress threads of this domain.
    fn progress_threads(&self) -> usize;
    /// Ends its progress thread.
    fn stop(&self);
}

/// Looks at the list's lock before a domain goes without: whoever has it makes some progress, and is done soon.
const LOCK_TRIES: u32 = 100_000;

type List = Vec<Weak<dyn Open>>;

/// The list of one process.
struct Place {
    generation: u64,
    list: Mutex<List>,
}

/// That of this process, once it was asked for. A forked child makes its own: the one of its parent may be locked for ever, by a thread that it has not got.
static OPEN: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());

fn open_domains() -> &'static Mutex<List> {
    loop {
        let known = OPEN.load(Ordering::Acquire);
        // SAFETY: null, or made below and never freed.
        if let Some(place) = unsafe { known.as_ref() }.filter(|place| place.generation == fork::generation())
        {
            return &place.list;
        }
        let place = Box::new(Place { generation: fork::generation(), list: Mutex::new(Vec::new()) });
        let place = Box::into_raw(place);
        // Release: whoever finds it finds it made.
        if OPEN.compare_exchange(known, place, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(place) });
        }
    }
}

fn try_list() -> Option<MutexGuard<'static, List>> {
    match open_domains().try_lock() {
        Ok(open) => Some(open),
        Err(TryLockError::Poisoned(open)) => Some(open.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Keeps other threads from using domains through the list.
pub(crate) fn hold() -> Option<impl Drop> {
    list()
}

fn list() -> Option<MutexGuard<'static, List>> {
    (0..LOCK_TRIES).find_map(|_| {
        let list = try_list();
        if list.is_none() {
            std::thread::yield_now();
        }
        list
    })
}

/// A domain was opened.
pub(crate) fn watch<S: Serialize>(shared: &Arc<Shared<S>>) {
    let shared: Arc<dyn Open> = Arc::<Shared<S>>::clone(shared);
    let Some(mut open) = list() else { return };
    open.retain(|domain| domain.strong_count() > 0);
    open.push(Arc::downgrade(&shared));
}

/// Makes progress in the other domains of this process, as far as nobody else can be inside: a peer may be one of theirs, and this thread the only one that drives them.
pub(crate) fn help_others<S: Serialize>(waiting: &Arc<Shared<S>>) {
    let Some(open) = try_list() else { return };
    let this = Arc::as_ptr(waiting).addr();
    let threads = open.iter().filter_map(Weak::upgrade).map(|domain| domain.progress_threads()).sum();
    for domain in open.iter().filter(|domain| domain.as_ptr().addr() != this).filter_map(Weak::upgrade) {
        domain.help(threads);
    }
}

/// Ends every domain that is still open. For `fi_provider.cleanup`, which libfabric calls from its destructor.
pub(crate) fn end_all() {
    // One that keeps it for longer than a moment is not waited for: it may be this very thread, in a call that a signal interrupted.
    let Some(mut open) = list() else { return };
    let domains = core::mem::take(&mut *open);
    drop(open);
    let domains: Vec<Arc<dyn Open>> = domains.iter().filter_map(Weak::upgrade).collect();
    // None of our threads may run once libfabric has unloaded us.
    for domain in &domains {
        domain.stop();
    }
    for (index, domain) in domains.iter().enumerate() {
        domain.end(&|| {
            for (_, other) in domains.iter().enumerate().filter(|(other, _)| *other != index) {
                other.help(0);
            }
        });
    }
}

impl<S: Serialize> Open for Shared<S> {
    fn end(&self, help: &dyn Fn()) {
        if self.is_inherited() || !nobody_is_inside::<S>(0) {
            return;
        }
        self.try_with(|state: &mut State| ep::end_all(state, help));
    }

    fn help(&self, progress_threads: usize) {
        if self.is_inherited() || !nobody_is_inside::<S>(progress_threads) {
            return;
        }
        self.try_with(|state| {
            state.progress();
            if state.waits.any_armed() {
                state.tighten();
            }
        });
    }

    fn progress_threads(&self) -> usize {
        self.thread().references()
    }

    fn stop(&self) {
        if !self.is_inherited() {
            let _returned = progress::stop(self);
        }
    }
}

/// A lock tells by itself. One without a barrier for others tells of visitors only: then this thread's being the application's last one tells.
fn nobody_is_inside<S: Serialize>(progress_threads: usize) -> bool {
    TypeId::of::<S>() != TypeId::of::<Biased>() || membarrier::barrier() || has_threads(1 + progress_threads)
}

/// Whether this process has exactly so many threads; false when that cannot be found out.
fn has_threads(count: usize) -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.take(count + 1).count() == count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread of the parent has the list at the moment of the fork, and is not there in the child to give it back.
    #[test]
    fn a_forked_child_has_a_list_of_its_own() {
        let held = list().expect("is given back by others");
        // SAFETY: the child calls nothing that could wait for a thread of the parent, and ends without unwinding.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let own = try_list().is_some_and(|list| list.is_empty());
            // SAFETY: ends the child.
            unsafe { libc::_exit(if own { 0 } else { 1 }) }
        }
        drop(held);
        let mut status = -1;
        // SAFETY: `status` is live.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child's verdict");
    }
}
