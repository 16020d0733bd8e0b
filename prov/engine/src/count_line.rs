//! The line in which one-sided operations wait to be counted at their initiator: in the order issued, whichever ends first.
//!
//! An MPI library may flush by comparing a counter with the number of operations issued before (decision 0010), so an operation must not count before an earlier one.

use std::collections::VecDeque;

use crate::types::CounterEvents;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) events: CounterEvents,
    pub(crate) error: bool,
}

/// See the module. Empty but for capacity while nothing is counted.
#[derive(Debug, Default)]
pub(crate) struct CountLine {
    /// The turn of the front.
    first: u32,
    places: VecDeque<Option<Ended>>,
}

impl CountLine {
    /// A place for an operation that begins: its turn.
    pub(crate) fn join(&mut self) -> u32 {
        let turn = self.first.wrapping_add(u32::try_from(self.places.len()).expect("fewer than the entries"));
        self.places.push_back(None);
        turn
    }

    /// The operation with this turn ended.
    pub(crate) fn end(&mut self, turn: u32, ended: Ended) {
        let place = self.places.get_mut(turn.wrapping_sub(self.first) as usize);
        *place.expect("the turn of an operation that was not counted yet") = Some(ended);
    }

    /// The next one to count.
    pub(crate) fn next(&mut self) -> Option<Ended> {
        let ended = (*self.places.front()?)?;
        self.places.pop_front();
        self.first = self.first.wrapping_add(1);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_counted_before_an_earlier_one() {
        let mut line = CountLine { first: u32::MAX - 1, ..CountLine::default() };
        let ended = |error| Ended { events: CounterEvents::READ, error };
        let turns = [(); 4].map(|()| line.join());
        assert_eq!(turns, [u32::MAX - 1, u32::MAX, 0, 1]);
        line.end(turns[1], ended(true));
        line.end(turns[3], ended(false));
        assert_eq!(line.next(), None);
        line.end(turns[0], ended(false));
        assert_eq!([(); 3].map(|()| line.next()), [Some(ended(false)), Some(ended(true)), None]);
        line.end(turns[2], ended(false));
        assert_eq!([(); 3].map(|()| line.next()), [Some(ended(false)), Some(ended(false)), None]);
    }
}
