//! Where a receive call is to put what comes next: headers into slots of their own, payload to its final address, the rest behind the room that they leave in a bounce buffer.
//!
//! A plan is a guess. Its targets hold nothing of value, so that a wrong one does no harm: [`Plan::gather`] puts together again what was received, and the right bytes overwrite what is left there.

use core::net::SocketAddr;

use rdgram_wire::{Llp, Segment};

use crate::mem::UserSlice;

/// How to scatter datagrams of equal size. Good for one receive call: its targets belong to operations that may end at the next datagram handled.
#[derive(Debug, Default)]
pub struct Plan {
    payload: usize,
    /// One for each datagram; all but the last are of `payload` bytes.
    targets: Vec<UserSlice>,
    /// Bytes of the bounce buffer that the datagrams planned would take.
    planned: usize,
}

impl Plan {
    /// Bytes of headers before each payload.
    pub const HEADER: usize = Llp::LENGTH + Segment::TAGGED_LENGTH;
    /// Most datagrams that a plan places: a call takes 1,024 pieces (UIO_MAXIOV), two for each and one for what is beyond them.
    pub const DATAGRAMS_MAX: usize = 511;
    /// Bytes of the bounce buffer: no train is longer.
    pub const ROOM: usize = 1 << 16;

    /// Forgets everything, for datagrams of `payload` bytes each, the last one of a train may be shorter.
    pub(crate) fn restart(&mut self, payload: usize) {
        self.payload = payload;
        self.targets.clear();
        self.planned = 0;
    }

    /// Adds the target of the next datagram. False when there is no room for one, or the one before was the last of its train.
    pub(crate) fn push(&mut self, target: UserSlice) -> bool {
        let planned = self.planned + Self::HEADER + target.len();
        let follows = self.planned == self.targets.len() * self.stride();
        let fits = planned <= Self::ROOM && self.targets.len() < Self::DATAGRAMS_MAX;
        if !follows || !fits || target.is_empty() || target.len() > self.payload {
            return false;
        }
        self.planned = planned;
        self.targets.push(target);
        true
    }

    /// Payload bytes of each datagram but the last.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    /// Where the payload of each datagram goes.
    pub fn targets(&self) -> &[UserSlice] {
        &self.targets
    }

    /// From the start of one datagram to that of the next, in what is received.
    pub(crate) fn stride(&self) -> usize {
        Self::HEADER + self.payload
    }

    /// Does with `bytes` what a receive call does: for datapaths without one.
    pub fn scatter(&self, bytes: &[u8], headers: &mut [u8], bounce: &mut [u8]) {
        let mut rest = bytes;
        for (slot, target) in headers.chunks_exact_mut(Self::HEADER).zip(&self.targets) {
            let (header, after) = rest.split_at(rest.len().min(Self::HEADER));
            slot[..header.len()].copy_from_slice(header);
            let (payload, after) = after.split_at(after.len().min(target.len()));
            target.write(payload);
            rest = after;
        }
        bounce[self.planned..self.planned + rest.len()].copy_from_slice(rest);
    }

    /// Puts what was received together again, from datagram `first` on: into `bounce`, as long as what was received, whose bytes beyond the plan are there already.
    pub(crate) fn gather(&self, first: usize, headers: &[u8], bounce: &mut [u8]) {
        let slots = headers.chunks_exact(Self::HEADER);
        for (index, (slot, target)) in slots.zip(&self.targets).enumerate().skip(first) {
            let Some(rest) = bounce.get_mut(index * self.stride()..) else { return };
            let (header, rest) = rest.split_at_mut(rest.len().min(Self::HEADER));
            header.copy_from_slice(&slot[..header.len()]);
            let part = target.part(0, rest.len());
            part.read_into(&mut rest[..part.len()]);
        }
    }
}

/// A datagram or a train, as a [`Plan`] scattered it.
#[derive(Debug)]
pub struct Scattered<'a> {
    /// The UDP source.
    pub source: SocketAddr,
    /// The IP header said Congestion Experienced.
    pub congestion_experienced: bool,
    /// Bytes of each datagram of a train, the last one may be shorter; 0 for a datagram alone.
    pub segment: usize,
    /// Bytes in all.
    pub length: usize,
    /// What came in the header slots, one behind the other.
    pub headers: &'a [u8],
    /// [`Plan::ROOM`] bytes. What came beyond the plan lies behind the room that the planned bytes would take.
    pub bounce: &'a mut [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan for a run of memory, in pieces that do not follow one another.
    fn plan(payload: usize, memory: &mut [u8]) -> Plan {
        let mut plan = Plan::default();
        plan.restart(payload);
        let run = UserSlice::of_block(memory);
        let parts = (0..run.len()).step_by(payload).map(|at| run.part(at, payload));
        let odd = parts.clone().skip(1).step_by(2);
        odd.chain(parts.step_by(2)).take_while(|part| plan.push(*part)).count();
        plan
    }

    #[test]
    fn what_is_scattered_is_gathered_again_from_any_datagram_on() {
        let mut memory = vec![0; 1 << 17];
        let mut headers = vec![0; Plan::DATAGRAMS_MAX * Plan::HEADER];
        let mut bounce = vec![0; Plan::ROOM];
        let cases =
            [(1, 10_000), (100, 1000), (1418, 1 << 17), (8918, 1 << 17), (8918, 20_000), (65_453, 1 << 17)];
        for (payload, run) in cases {
            let plan = plan(payload, &mut memory[..run]);
            for length in [0, 1, 53, 54, 55, 900, 8972, 20_000, 65_507] {
                let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
                for first in [0, 1, 3] {
                    bounce.fill(0xee);
                    plan.scatter(&bytes, &mut headers, &mut bounce);
                    plan.gather(first, &headers, &mut bounce[..length]);
                    let from = (first * plan.stride()).min(length);
                    assert_eq!(
                        bounce[from..length],
                        bytes[from..],
                        "{payload} of {run}, {length} from {first}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_plan_fits_one_call_and_ends_with_the_first_short_datagram() {
        let mut memory = vec![0; 1 << 17];
        let run = UserSlice::of_block(&mut memory);
        for (payload, most) in
            [(1, 511), (53, 511), (1418, 44), (8918, 7), (32_714, 2), (65_453, 1), (65_483, 0)]
        {
            let mut plan = Plan::default();
            plan.restart(payload);
            assert_eq!((0..1000).take_while(|_| plan.push(run.part(0, payload))).count(), most, "{payload}");
        }
        let mut plan = Plan::default();
        plan.restart(1000);
        assert!(!plan.push(run.part(0, 1001)) && !plan.push(run.part(0, 0)));
        assert!(plan.push(run.part(0, 1000)) && plan.push(run.part(0, 999)));
        assert!(!plan.push(run.part(0, 1000)));
    }
}
