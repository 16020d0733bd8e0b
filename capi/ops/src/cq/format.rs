//! Formats of completions, and the reads that fill them in.
//!
//! Responsible for the bytes that completions become in the application's memory. Must never decide what completes.

use core::ffi::c_void;

use rdgram_engine::{Completion, CqId, FailurePending, FiAddr};
use rdgram_sys as sys;

use crate::domain::State;
use crate::errno::{Errno, Result};
use crate::flags;

/// A format of entries.
pub(super) trait Format: 'static {
    /// The C struct.
    type Entry;
    /// One entry.
    fn entry(completion: &Completion) -> Self::Entry;
}

/// A number as the pointer it came as.
pub(super) fn pointer(address: usize) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(address)
}

/// FI_CQ_FORMAT_CONTEXT.
pub(super) struct Context;
impl Format for Context {
    type Entry = sys::fi_cq_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_entry { op_context: pointer(completion.context) }
    }
}

/// FI_CQ_FORMAT_MSG.
pub(super) struct Msg;
impl Format for Msg {
    type Entry = sys::fi_cq_msg_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_msg_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
        }
    }
}

/// FI_CQ_FORMAT_DATA.
pub(super) struct Data;
impl Format for Data {
    type Entry = sys::fi_cq_data_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_data_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
        }
    }
}

/// FI_CQ_FORMAT_TAGGED.
pub(super) struct Tagged;
impl Format for Tagged {
    type Entry = sys::fi_cq_tagged_entry;
    #[inline]
    fn entry(completion: &Completion) -> Self::Entry {
        sys::fi_cq_tagged_entry {
            op_context: pointer(completion.context),
            flags: flags::completion(completion.flags),
            len: completion.length,
            buf: pointer(completion.buffer),
            data: completion.data,
            tag: completion.tag,
        }
    }
}

/// Where a read puts what it finds.
pub(super) struct Output<F: Format> {
    entries: *mut F::Entry,
    sources: *mut sys::fi_addr_t,
    count: usize,
    filled: usize,
    /// Sources are known to this queue.
    source: bool,
}

impl<F: Format> Output<F> {
    /// The application's arrays; `sources` may be null. Without entries nothing is read.
    pub(super) fn new(
        entries: *mut c_void,
        count: usize,
        sources: *mut sys::fi_addr_t,
        source: bool,
    ) -> Self {
        let count = if entries.is_null() { 0 } else { count };
        Self { entries: entries.cast(), sources, count, filled: 0, source: source && !sources.is_null() }
    }

    /// Moves entries from the queue until there is no more, no room, or an error entry.
    ///
    /// # Safety
    /// `entries` has room for `count` entries, `sources` too unless it is null.
    #[inline]
    pub(super) unsafe fn fill(
        &mut self,
        state: &mut State,
        cq: CqId,
    ) -> core::result::Result<(), FailurePending> {
        while self.filled < self.count {
            let Some(completion) = state.engine.cq_pop(cq)? else { break };
            // SAFETY: `filled < count`.
            let entry = unsafe { self.entries.add(self.filled) };
            // SAFETY: within the application's array.
            unsafe { entry.write(F::entry(&completion)) };
            if !self.sources.is_null() {
                let source = if self.source { completion.source } else { FiAddr::UNSPEC };
                // SAFETY: `filled < count`.
                let place = unsafe { self.sources.add(self.filled) };
                // SAFETY: within the application's array.
                unsafe { place.write(source.0) };
            }
            self.filled += 1;
        }
        Ok(())
    }

    /// What a read returns, when it returns at all: `None` while there is nothing.
    pub(super) fn outcome(&self, fill: core::result::Result<(), FailurePending>) -> Result<Option<usize>> {
        match fill {
            _ if self.filled > 0 => Ok(Some(self.filled)),
            Err(FailurePending) => Err(Errno::AVAIL),
            Ok(()) => Ok(None),
        }
    }
}

/// One look at the queue: with progress, unless there is something, progress was made recently, and nothing waits for it to be sent.
///
/// # Safety
/// As for [`Output::fill`].
#[inline]
pub(super) unsafe fn read_now<F: Format>(
    state: &mut State,
    cq: CqId,
    output: &mut Output<F>,
) -> Result<Option<usize>> {
    // SAFETY: the caller promises it.
    let mut fill = unsafe { output.fill(state, cq) };
    let done = output.filled > 0 || fill.is_err();
    if !(done && !state.engine.is_holding() && state.may_skip_progress()) {
        state.progress();
        if fill.is_ok() {
            // SAFETY: the caller promises it.
            fill = unsafe { output.fill(state, cq) };
        }
    }
    if output.count == 0 && fill.is_ok() && !state.engine.cq_is_empty(cq) {
        return Ok(Some(0));
    }
    output.outcome(fill)
}

#[cfg(test)]
mod tests {
    use rdgram_engine::CompletionFlags;

    use super::*;

    const COMPLETION: Completion = Completion {
        context: 0x1000,
        flags: CompletionFlags::RECV.union(CompletionFlags::TAGGED),
        length: 17,
        buffer: 0x2000,
        data: 3,
        tag: 4,
        source: FiAddr(5),
    };

    #[test]
    fn formats_are_of_the_documented_sizes_and_hold_the_same() {
        assert_eq!(size_of::<<Context as Format>::Entry>(), 8);
        assert_eq!(size_of::<<Msg as Format>::Entry>(), 24);
        assert_eq!(size_of::<<Data as Format>::Entry>(), 40);
        assert_eq!(size_of::<<Tagged as Format>::Entry>(), 48);
        let tagged = Tagged::entry(&COMPLETION);
        assert_eq!(tagged.op_context.addr(), Context::entry(&COMPLETION).op_context.addr());
        assert_eq!(
            (tagged.flags, tagged.len, tagged.data, tagged.tag),
            (sys::FI_RECV | sys::FI_TAGGED, 17, 3, 4)
        );
        assert_eq!(tagged.buf.addr(), 0x2000);
    }
}
