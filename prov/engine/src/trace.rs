//! What enters the matcher, in order: for the simulator, which runs a reference matcher over it.

use core::net::SocketAddr;

use crate::endpoint::Core;
use crate::slab::Key;
use crate::types::TagMatch;

/// One event at the matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the operations")]
pub enum TraceEvent {
    /// The start of a message came to its turn.
    Arrived { source: SocketAddr, message: u32, tag: Option<u64>, length: u64 },
    /// A receive was posted.
    Posted { receive: u32, context: usize, source: Option<SocketAddr>, tag: Option<TagMatch>, multi: bool },
    /// A message and a receive met.
    Matched { message: u32, receive: u32 },
    /// A posted receive was taken back.
    Canceled { receive: u32 },
}

impl Core {
    pub(crate) fn trace_arrival(&mut self, key: Key) {
        let rx = &self.rxs[key];
        let event = TraceEvent::Arrived {
            source: self.peer(rx.peer).name,
            message: key.to_wire(),
            tag: rx.tag,
            length: rx.total,
        };
        self.trace.push(event);
    }

    pub(crate) fn trace_post(&mut self, key: Key) {
        let entry = &self.posts[key];
        let source = entry.source.map(|peer| self.peer(peer).name);
        let event = TraceEvent::Posted {
            receive: key.to_wire(),
            context: entry.context,
            source,
            tag: entry.tag,
            multi: entry.multi.is_some(),
        };
        self.trace.push(event);
    }

    pub(crate) fn trace_match(&mut self, key: Key) {
        let Some(target) = self.rxs[key].target else { return };
        self.trace.push(TraceEvent::Matched { message: key.to_wire(), receive: target.posted.to_wire() });
    }

    pub(crate) fn trace_cancel(&mut self, key: Key) {
        self.trace.push(TraceEvent::Canceled { receive: key.to_wire() });
    }
}
