//! The reference matcher: what libfabric demands, as plainly as possible, run over the engine's own record of what entered matching in which order.

use core::net::SocketAddr;

use rdgram_engine::{TagMatch, TraceEvent};

/// A posted receive.
#[derive(Clone, Copy, Debug)]
struct Posted {
    receive: u32,
    source: Option<SocketAddr>,
    tag: Option<TagMatch>,
    multi: bool,
}

/// A message that no receive has taken.
#[derive(Clone, Copy, Debug)]
struct Message {
    message: u32,
    source: SocketAddr,
    tag: Option<u64>,
}

fn accepts(source: Option<SocketAddr>, tag: Option<TagMatch>, message: &Message) -> bool {
    let tag_fits = match (tag, message.tag) {
        (None, None) => true,
        (Some(wanted), Some(tag)) => (wanted.tag ^ tag) & !wanted.ignore == 0,
        _ => false,
    };
    tag_fits && source.is_none_or(|source| source == message.source)
}

/// What an event leaves open until the next one: whether it met something is the engine's next word.
#[derive(Clone, Copy, Debug)]
enum Open {
    Arrival(Message),
    Post(u32),
}

/// The two queues, oldest first. Messages that a peek claimed are in neither.
#[derive(Debug, Default)]
pub struct Reference {
    posted: Vec<Posted>,
    unexpected: Vec<Message>,
    claimed: Vec<u32>,
    open: Option<Open>,
}

impl Reference {
    /// Judges the next event.
    pub fn judge(&mut self, event: &TraceEvent) -> Result<(), String> {
        let verdict = match *event {
            TraceEvent::Matched { message, receive } => self.matched(message, receive),
            TraceEvent::Released { receive } => self.take_back(receive),
            _ => self.settle().and_then(|()| self.begin(event)),
        };
        verdict.map_err(|fault| format!("the reference matcher disagrees: {fault}, at {event:?}"))
    }

    /// Nothing more follows at once: whatever is open has met nothing.
    pub fn settle(&mut self) -> Result<(), String> {
        match self.open.take() {
            None => Ok(()),
            Some(Open::Arrival(message)) => {
                let passed =
                    self.posted.iter().find(|posted| accepts(posted.source, posted.tag, &message)).copied();
                self.unexpected.push(message);
                passed.map_or(Ok(()), |posted| Err(format!("{message:?} passed {posted:?}")))
            }
            Some(Open::Post(receive)) => {
                let Some(posted) = self.posted.iter().find(|posted| posted.receive == receive) else {
                    return Ok(());
                };
                let missed =
                    self.unexpected.iter().find(|message| accepts(posted.source, posted.tag, message));
                missed.map_or(Ok(()), |message| Err(format!("{posted:?} passed {message:?}")))
            }
        }
    }

    fn begin(&mut self, event: &TraceEvent) -> Result<(), String> {
        match *event {
            TraceEvent::Arrived { source, message, tag, .. } => {
                // Names come again: what had this one was claimed and then dropped.
                self.claimed.retain(|other| *other != message);
                self.open = Some(Open::Arrival(Message { message, source, tag }));
                Ok(())
            }
            TraceEvent::Posted { receive, source, tag, multi, .. } => {
                self.posted.push(Posted { receive, source, tag, multi });
                self.open = Some(Open::Post(receive));
                Ok(())
            }
            TraceEvent::Canceled { receive } => self.take_back(receive),
            TraceEvent::Peeked { source, tag, found, taken } => {
                let index = self.unexpected.iter().position(|message| accepts(source, tag, message));
                let expected = index.map(|index| self.unexpected[index].message);
                if let (true, Some(index)) = (taken, index) {
                    self.claimed.push(self.unexpected.remove(index).message);
                }
                if found == expected { Ok(()) } else { Err(format!("{expected:?} had to be found")) }
            }
            TraceEvent::Dropped { message } => {
                self.unexpected.retain(|other| other.message != message);
                self.claimed.retain(|other| *other != message);
                Ok(())
            }
            TraceEvent::Matched { .. } | TraceEvent::Released { .. } => Ok(()),
        }
    }

    /// A receive leaves the queue without a message.
    fn take_back(&mut self, receive: u32) -> Result<(), String> {
        let index = self.posted.iter().position(|posted| posted.receive == receive);
        let index = index.ok_or("it is not posted")?;
        self.posted.remove(index);
        Ok(())
    }

    fn matched(&mut self, message: u32, receive: u32) -> Result<(), String> {
        if let Some(index) = self.claimed.iter().position(|claimed| *claimed == message) {
            self.claimed.swap_remove(index);
            return Ok(());
        }
        let expected = match self.open {
            Some(Open::Arrival(arrived)) => {
                self.open = None;
                let first = self.posted.iter().find(|posted| accepts(posted.source, posted.tag, &arrived));
                first.map(|posted| (arrived.message, posted.receive))
            }
            Some(Open::Post(post)) => {
                let posted = self.posted.iter().find(|posted| posted.receive == post).copied();
                let accepted = |message: &Message| posted.is_some_and(|p| accepts(p.source, p.tag, message));
                let index = self.unexpected.iter().position(accepted);
                index.map(|index| (self.unexpected.remove(index).message, post))
            }
            None => None,
        };
        if expected != Some((message, receive)) {
            return Err(format!("{expected:?} had to meet"));
        }
        self.posted.retain(|posted| posted.receive != receive || posted.multi);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(receive: u32, tag: u64, ignore: u64) -> TraceEvent {
        let tag = Some(TagMatch { tag, ignore });
        TraceEvent::Posted { receive, context: 0, source: None, tag, multi: false }
    }

    fn arrive(message: u32, tag: u64) -> TraceEvent {
        TraceEvent::Arrived { source: ([10, 0, 0, 1], 1).into(), message, tag: Some(tag), length: 0 }
    }

    fn judge(events: &[TraceEvent]) -> Result<(), String> {
        let mut reference = Reference::default();
        events.iter().try_for_each(|event| reference.judge(event))?;
        reference.settle()
    }

    #[test]
    fn the_oldest_receive_takes_the_message() {
        let posts = [post(1, 7, 0), post(2, 0, u64::MAX), post(3, 7, 0)];
        let meet =
            |receive| [&posts[..], &[arrive(1, 7), TraceEvent::Matched { message: 1, receive }]].concat();
        assert_eq!(judge(&meet(1)), Ok(()));
        assert!(judge(&meet(2)).is_err());
        assert!(judge(&meet(3)).is_err());
        assert!(judge(&[&posts[..], &[arrive(1, 7)]].concat()).is_err(), "nothing took it");
        assert_eq!(judge(&[post(1, 7, 0), arrive(1, 8)]), Ok(()));
    }

    #[test]
    fn the_oldest_message_goes_to_the_receive() {
        let meet = |message| {
            [arrive(1, 7), arrive(2, 7), post(1, 7, 0), TraceEvent::Matched { message, receive: 1 }]
        };
        assert_eq!(judge(&meet(1)), Ok(()));
        assert!(judge(&meet(2)).is_err());
        assert!(judge(&meet(1)[..3]).is_err(), "it was left where it was");
    }

    #[test]
    fn what_is_claimed_is_out_of_reach() {
        let tag = Some(TagMatch { tag: 7, ignore: 0 });
        let peek = |found, taken| TraceEvent::Peeked { source: None, tag, found, taken };
        assert_eq!(judge(&[arrive(1, 7), peek(Some(1), true), post(1, 7, 0)]), Ok(()));
        assert!(judge(&[arrive(1, 7), peek(Some(1), false), post(1, 7, 0)]).is_err());
        assert!(judge(&[arrive(1, 7), peek(None, false)]).is_err());
        assert!(judge(&[arrive(1, 7), peek(Some(1), true), peek(Some(1), false)]).is_err());
    }

    #[test]
    fn a_canceled_receive_takes_nothing() {
        assert_eq!(judge(&[post(1, 7, 0), TraceEvent::Canceled { receive: 1 }, arrive(1, 7)]), Ok(()));
        assert!(judge(&[TraceEvent::Canceled { receive: 1 }]).is_err());
    }
}
