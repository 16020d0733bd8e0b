//! Lists of places, doubly linked, each place in at most one of them. A place is a small number that names an entry elsewhere.

/// No place.
const NONE: u32 = u32::MAX;

/// Where a list begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

impl Link {
    const ALONE: Self = Self { before: NONE, after: NONE };
}

/// The neighbours of each place. Grows to the largest place ever used and stays.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// Appends a place that is in no list to the one with these ends.
    pub(super) fn push(&mut self, ends: &mut Ends, place: u32) {
        let needed = place as usize + 1;
        if self.0.len() < needed {
            self.0.resize(needed, Link::ALONE);
        }
        self.0[place as usize] = Link { before: ends.last, after: NONE };
        match ends.last() {
            Some(last) => self.0[last as usize].after = place,
            None => ends.first = place,
        }
        ends.last = place;
    }

    /// Takes a place out of its list, the one with these ends.
    pub(super) fn remove(&mut self, ends: &mut Ends, place: u32) {
        let Link { before, after } = self.0[place as usize];
        match self.0.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => ends.first = after,
        }
        match self.0.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => ends.last = before,
        }
    }

    /// The places of a list from its beginning.
    pub(super) fn iter(&self, ends: Ends) -> impl Iterator<Item = u32> {
        core::iter::successors(ends.first(), |place| {
            let after = self.0[*place as usize].after;
            (after != NONE).then_some(after)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leaves_from_the_ends_and_from_between() {
        let mut links = Links::default();
        let mut ends = Ends::EMPTY;
        for place in [7, 0, 3, 9, 1] {
            links.push(&mut ends, place);
        }
        let all = |links: &Links, ends: Ends| links.iter(ends).collect::<Vec<_>>();
        assert_eq!(all(&links, ends), [7, 0, 3, 9, 1]);
        let mut left = vec![7, 0, 3, 9, 1];
        for place in [3, 7, 1, 0, 9] {
            links.remove(&mut ends, place);
            left.retain(|other| *other != place);
            assert_eq!(all(&links, ends), left);
            assert_eq!((ends.first(), ends.last()), (left.first().copied(), left.last().copied()));
        }
        assert_eq!(ends, Ends::EMPTY);
        links.push(&mut ends, 3);
        assert_eq!(all(&links, ends), [3]);
    }
}
