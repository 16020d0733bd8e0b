//! What an endpoint lets its neighbours do, as its anchor record says: they look before they do it.

use core::sync::atomic::Ordering;

use crate::layout::{PULLS_FORBIDDEN, UNWELCOME};
use crate::neighbour::Link;
use crate::{Local, Neighbour};

impl Local {
    /// Whether neighbours may put payload that this side did not ask for: so from the beginning. What is on its way comes all the same.
    pub fn set_welcome(&mut self, welcome: bool) {
        if let Some(own) = &self.own {
            own.segment.flag(UNWELCOME).store(u32::from(!welcome), Ordering::Relaxed);
        }
    }

    /// The neighbour takes payload that it did not ask for.
    #[inline]
    pub fn is_welcome(&self, to: Neighbour) -> bool {
        let link = self.entries.get(to.index()).and_then(|entry| entry.link());
        link.is_some_and(|link| link.segment.flag(UNWELCOME).load(Ordering::Relaxed) == 0)
    }

    /// From now on nobody may read this process's own memory on behalf of this side, for good: what a neighbour has not read by now it has to be sent.
    pub fn forbid_pulls(&mut self) {
        if let Some(own) = &self.own {
            own.segment.flag(PULLS_FORBIDDEN).store(1, Ordering::SeqCst);
        }
    }
}

impl Link {
    /// The neighbour counts us as one, and lets us read its memory.
    pub(crate) fn permits_pulls(&self) -> bool {
        // SeqCst: after a pull this is the second look, which must not come before the bytes.
        self.segment.flag(PULLS_FORBIDDEN).load(Ordering::SeqCst) == 0 && self.is_open()
    }
}
