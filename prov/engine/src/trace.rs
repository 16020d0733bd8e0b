//! What enters the matcher, in order: for the simulator, which runs a reference matcher over it.

use core::net::SocketAddr;

use crate::endpoint::Core;
use crate::matching::PeerId;
use crate::slab::Key;
use crate::types::{Peek, TagMatch};

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
    /// A multi-receive buffer left its queue: too little is left of it.
    Released { receive: u32 },
    /// A peek looked for a message, and took what it found out of its queue (to claim or to discard it).
    Peeked { source: Option<SocketAddr>, tag: Option<TagMatch>, found: Option<u32>, taken: bool },
    /// A message that was not matched ended with its peer.
    Dropped { message: u32 },
}

impl Core {
    /// Keeps it, for whom [`crate::Domain::trace`] was called: in a build with this feature others must not grow.
    fn record(&mut self, event: TraceEvent) {
        if let Some(trace) = &mut self.trace {
            trace.push(event);
        }
    }

    pub(crate) fn trace_arrival(&mut self, key: Key) {
        let rx = &self.rxs[key];
        let event = TraceEvent::Arrived {
            source: self.peer(rx.peer).name,
            message: key.to_wire(),
            tag: rx.tag,
            length: rx.total,
        };
        self.record(event);
    }

    /// A message that came to its turn and met its receive in one step.
    pub(crate) fn trace_at_once(&mut self, peer: PeerId, tag: Option<u64>, length: usize, receive: Key) {
        let Some(key) = self.trace.as_ref().and_then(|_| self.rxs.take()) else { return };
        let (message, source) = (key.to_wire(), self.peer(peer).name);
        self.rxs.release(key);
        self.record(TraceEvent::Arrived { source, message, tag, length: length as u64 });
        self.record(TraceEvent::Matched { message, receive: receive.to_wire() });
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
        self.record(event);
    }

    pub(crate) fn trace_match(&mut self, key: Key) {
        let Some(target) = self.rxs[key].target else { return };
        let receive = target.posted.to_wire();
        self.record(TraceEvent::Matched { message: key.to_wire(), receive });
        if self.posts[target.posted].multi.is_some_and(|multi| multi.released) {
            self.record(TraceEvent::Released { receive });
        }
    }

    pub(crate) fn trace_release(&mut self, key: Key) {
        self.record(TraceEvent::Released { receive: key.to_wire() });
    }

    pub(crate) fn trace_peek(
        &mut self,
        source: Option<PeerId>,
        tag: Option<TagMatch>,
        found: Option<Key>,
        peek: Peek,
    ) {
        let source = source.map(|peer| self.peer(peer).name);
        let found = found.map(Key::to_wire);
        let taken = found.is_some() && peek != Peek::Look;
        self.record(TraceEvent::Peeked { source, tag, found, taken });
    }

    pub(crate) fn trace_drop(&mut self, key: Key) {
        self.record(TraceEvent::Dropped { message: key.to_wire() });
    }

    pub(crate) fn trace_cancel(&mut self, key: Key) {
        self.record(TraceEvent::Canceled { receive: key.to_wire() });
    }
}
