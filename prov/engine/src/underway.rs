//! What is under way to a peer: the operations that began and did not end, by what they do at the target. Fences and the orders asked for wait for them.

use bitflags::bitflags;

use crate::types::Orders;

bitflags! {
    /// What an operation does at its target. A fetching atomic both reads and writes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Class: u16 {
        const READ = 1 << 0;
        const WRITE = 1 << 1;
        const SEND = 1 << 2;
    }
}

/// Classes of operations, and the bits of [`Orders`] that name each as the later one.
const CLASSES: usize = 3;

/// How many operations of each class are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Underway([u32; CLASSES]);

impl Underway {
    pub(crate) const NONE: Self = Self([0; CLASSES]);

    /// An operation began.
    pub(crate) fn add(&mut self, class: Class) {
        for (index, count) in self.0.iter_mut().enumerate() {
            *count += u32::from(class.bits() >> index & 1);
        }
    }

    /// An operation ended. Those of an ended context are not counted any more.
    pub(crate) fn remove(&mut self, class: Class) {
        for (index, count) in self.0.iter_mut().enumerate() {
            *count = count.saturating_sub(u32::from(class.bits() >> index & 1));
        }
    }

    /// Nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; CLASSES]
    }

    /// Whether an operation of this class has to wait for another, by the orders that are kept.
    pub(crate) fn holds_up(&self, class: Class, orders: Orders) -> bool {
        if orders.is_empty() {
            return false;
        }
        let earlier = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        let earlier = earlier.fold(0, |bits, (index, _)| bits | 1 << index);
        (0..CLASSES).any(|later| {
            let waits_for = orders.bits() >> (CLASSES * later);
            class.bits() >> later & 1 == 1 && waits_for & earlier != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_holds_up_its_pair_and_no_other() {
        let classes = [Class::READ, Class::WRITE, Class::SEND];
        for (later, &class) in classes.iter().enumerate() {
            for (earlier, &before) in classes.iter().enumerate() {
                let mut underway = Underway::default();
                underway.add(before);
                for order in Orders::all().iter() {
                    let names_the_pair = order.bits() == 1 << (CLASSES * later + earlier);
                    assert_eq!(
                        underway.holds_up(class, order),
                        names_the_pair,
                        "{class:?} after {before:?}, {order:?}"
                    );
                }
                underway.remove(before);
                assert!(underway.is_empty() && !underway.holds_up(class, Orders::all()));
            }
        }
    }

    #[test]
    fn a_fetching_atomic_is_both() {
        let fetch = Class::READ | Class::WRITE;
        let mut underway = Underway::default();
        underway.add(fetch);
        assert!(underway.holds_up(Class::WRITE, Orders::WAR) && underway.holds_up(Class::WRITE, Orders::WAW));
        assert!(underway.holds_up(fetch, Orders::RAR) && !underway.holds_up(Class::SEND, Orders::RAW));
        underway.remove(fetch);
        assert!(underway.is_empty());
    }
}
