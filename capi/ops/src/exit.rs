//! The end of the process: what was injected is delivered although nobody closed anything.
//!
//! Responsible for the list of open domains, which only the end of the process looks at. Must never keep a domain open, nor wait for a lock at exit.

use core::any::TypeId;
use std::sync::{Arc, Mutex, TryLockError, Weak};

use rdgram_sync::{Caller, Serialize};

use crate::domain::{Shared, State};
use crate::ep;

/// A domain of either flavour.
trait Ending: Send + Sync {
    /// Delivers what is still to be delivered and tells the peers.
    fn end(&self);
}

/// Looks at the list's lock before a domain goes without: whoever has it is done after a few instructions.
const LOCK_TRIES: u32 = 10_000;

static OPEN: Mutex<Vec<Weak<dyn Ending>>> = Mutex::new(Vec::new());

/// A domain was opened.
pub(crate) fn watch<S: Serialize>(shared: &Arc<Shared<S>>) {
    let shared: Arc<dyn Ending> = Arc::<Shared<S>>::clone(shared);
    // A forked child may find it locked for ever, by a thread that it has not got; its domains are then on no list.
    let taken = (0..LOCK_TRIES).find_map(|_| match OPEN.try_lock() {
        Ok(open) => Some(open),
        Err(TryLockError::Poisoned(open)) => Some(open.into_inner()),
        Err(TryLockError::WouldBlock) => {
            std::thread::yield_now();
            None
        }
    });
    let Some(mut open) = taken else { return };
    open.retain(|domain| domain.strong_count() > 0);
    open.push(Arc::downgrade(&shared));
}

/// Ends every domain that is still open. For `fi_provider.cleanup`, which libfabric calls from its destructor.
pub(crate) fn end_all() {
    // A thread that died inside, or a fork from another thread: then there is no list to trust.
    let Ok(mut open) = OPEN.try_lock() else { return };
    let domains = core::mem::take(&mut *open);
    drop(open);
    for domain in domains.iter().filter_map(Weak::upgrade) {
        domain.end();
    }
}

impl<S: Serialize> Ending for Shared<S> {
    fn end(&self) {
        // Without a lock only this thread's being the last one tells that nobody is inside.
        let unlocked = TypeId::of::<S>() == TypeId::of::<Caller>();
        if self.is_inherited() || (unlocked && !is_only_thread()) {
            return;
        }
        self.try_with(|state: &mut State| ep::end_all(state));
    }
}

/// Whether this process has no other thread; false when that cannot be found out.
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.take(2).count() == 1)
}
