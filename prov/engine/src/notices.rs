//! What an endpoint noticed outside of progress, or has to notice more than once to believe, until its user can be told. Must never change what happens to a packet or an operation.

use core::net::SocketAddr;

use crate::domain::Shared;
use crate::endpoint::Core;
use crate::types::{Notice, NoticeKind};

/// Packets of another version from one place that are believed: damage on the way can make one.
const VERSION_PACKETS: u8 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    memory: Telling,
    version: Telling,
    /// Where packets of another version came from, and how many in a row.
    stranger: Option<(SocketAddr, u8)>,
}

/// A notice is given once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telling {
    #[default]
    No,
    Due,
    Done,
}

impl Telling {
    fn begin(&mut self) {
        if *self == Self::No {
            *self = Self::Due;
        }
    }

    fn take_due(&mut self) -> bool {
        let due = *self == Self::Due;
        if due {
            *self = Self::Done;
        }
        due
    }
}

impl Notices {
    /// An operation was not accepted for want of memory.
    #[cold]
    pub(crate) fn note_memory_full(&mut self) {
        self.memory.begin();
    }

    /// A packet of another version came.
    pub(crate) fn note_other_version(&mut self, source: SocketAddr) {
        let before = self.stranger.filter(|(stranger, _)| *stranger == source).map_or(0, |(_, count)| count);
        self.stranger = Some((source, before.saturating_add(1)));
        if before + 1 == VERSION_PACKETS {
            self.version.begin();
        }
    }

    /// A packet of our version came from there: what else came was damaged.
    #[inline]
    pub(crate) fn note_version_spoken(&mut self, source: SocketAddr) {
        if self.stranger.is_some_and(|(stranger, _)| stranger == source) {
            self.stranger = None;
        }
    }
}

impl Core {
    /// Gives what is to be told to the domain.
    #[inline]
    pub(crate) fn give_notices(&mut self, shared: &mut Shared) {
        let local = self.name;
        if self.notices.memory.take_due() {
            let kind = NoticeKind::MemoryFull { ceiling: self.config.memory_ceiling };
            shared.notice(Notice { local, kind });
        }
        if let (true, Some((source, _))) = (self.notices.version.take_due(), self.notices.stranger) {
            shared.notice(Notice { local, kind: NoticeKind::OtherVersion { source } });
        }
    }
}
