//! What FI_FENCE promises: an operation at or after a fence does not complete before everything that was submitted to the same peer before the fence.

use std::collections::HashMap;

use crate::model::LifeId;

/// Awaited operations of each initiator to each target, by how many fences came before them.
#[derive(Debug, Default)]
pub struct Fences {
    awaited: HashMap<(LifeId, usize), Vec<usize>>,
}

impl Fences {
    /// Notes an operation; returns its epoch. One that is not `awaited` ends unheard.
    pub fn submit(&mut self, from: LifeId, to: usize, fenced: bool, awaited: bool) -> usize {
        let epochs = self.awaited.entry((from, to)).or_insert_with(|| vec![0]);
        if fenced {
            epochs.push(0);
        }
        let epoch = epochs.len() - 1;
        epochs[epoch] += usize::from(awaited);
        epoch
    }

    /// Whether something behind a later fence than this is awaited.
    pub fn is_awaited_after(&self, from: LifeId, to: usize, epoch: usize) -> bool {
        let later = self.awaited.get(&(from, to)).and_then(|epochs| epochs.get(epoch + 1..));
        later.is_some_and(|later| later.iter().any(|awaited| *awaited > 0))
    }

    /// Notes the end of an awaited operation. Only success shows that earlier ones had to be over.
    pub fn end(&mut self, from: LifeId, to: usize, epoch: usize, success: bool) -> Result<(), String> {
        let Some(epochs) = self.awaited.get_mut(&(from, to)) else {
            return Err("nothing was submitted to this peer".into());
        };
        epochs[epoch] -= 1;
        let before: usize = epochs[..epoch].iter().sum();
        if success && before > 0 {
            return Err(format!("completed before {before} operations in front of its fence"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_a_fence_ends_first() {
        let mut fences = Fences::default();
        let first = fences.submit(0, 1, false, true);
        let second = fences.submit(0, 1, true, true);
        let other = fences.submit(0, 2, false, true);
        assert_eq!(fences.end(0, 2, other, true), Ok(()), "another peer");
        let third = fences.submit(0, 1, false, true);
        assert!(fences.end(0, 1, third, true).is_err(), "it stands behind the fence too");
        assert!(fences.is_awaited_after(0, 1, first) && !fences.is_awaited_after(0, 1, third));
        assert_eq!(fences.end(0, 1, first, true), Ok(()));
        assert_eq!(fences.end(0, 1, second, true), Ok(()));
    }
}
