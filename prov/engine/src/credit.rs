//! How the socket's receive buffer is shared among those who send to it: what all of them may have in flight together fits into it, so that the kernel drops nothing.
//!
//! Every peer has a small standing credit, for its first packets. The rest of the buffer belongs to the peers that send now, in equal shares: those of which payload came that
//! nobody asked for, and those that were granted something. One that has announced messages and waits for its turn sends nothing. The share of one that
//! stops falls back (protocol.md, section 5: more than the standing credit holds for a short time only). Must never promise more than there is, but for the standing
//! credits of very many peers.

use core::time::Duration;

use rdgram_proto::{Credit, Instant};

use crate::endpoint::Core;
use crate::matching::PeerId;

/// What a small datagram costs of a receive buffer: the kernel charges the whole socket buffer (truesize), not the bytes.
const DATAGRAM_COST: u32 = 2304;
/// What a peer may add to the packets of its credit while this process computes: four probes (protocol.md, section 6), in some tens of milliseconds.
const PROBES_COST: u32 = 4 * 832;
/// Standing credit, packets: enough to begin with, and little enough for many peers. Between them the buffer decides.
const STANDING: core::ops::RangeInclusive<u32> = 1..=32;
/// Peers whose standing credits a buffer holds together, when it is large enough for the least.
const PEERS_FORESEEN: u32 = 64;
/// A share is somebody else's again when nothing came of its peer for so long: longer than the peer may hold on to it.
const HOLD: Duration = Duration::from_millis(150);
/// Shares are looked through so often.
const SWEEP: Duration = Duration::from_millis(25);
/// Payload that was not asked for makes a sharer for so many looks: no shorter than the hold.
#[allow(clippy::cast_possible_truncation, reason = "seven")]
const UNASKED_LOOKS: u8 = (HOLD.as_millis() / SWEEP.as_millis()) as u8 + 1;

/// Shares are told in steps: small changes are not worth telling.
const STEP: u32 = DATAGRAM_COST;

/// See the module.
#[derive(Debug)]
pub(crate) struct Credits {
    /// Bytes of buffer, all in all, and after overflows.
    whole: u32,
    budget: u32,
    /// Bytes of buffer that every peer may fill with packets at any time.
    standing: u32,
    /// Peers with a share, and the shares together.
    sharers: Vec<PeerId>,
    promised: u32,
    swept: Option<Instant>,
}

impl Credits {
    /// To share a buffer of so many bytes, as the kernel counts them.
    pub(crate) fn new(receive_buffer: usize) -> Self {
        let whole = u32::try_from(receive_buffer).unwrap_or(u32::MAX);
        let each = (whole / PEERS_FORESEEN).saturating_sub(PROBES_COST);
        let packets = (each / DATAGRAM_COST).clamp(*STANDING.start(), *STANDING.end());
        Self {
            whole,
            budget: whole,
            standing: packets * DATAGRAM_COST,
            sharers: Vec::new(),
            promised: 0,
            swept: None,
        }
    }

    /// What every peer may have in flight at any time.
    pub(crate) fn standing(&self) -> Credit {
        credit_of(self.standing)
    }

    /// The kernel dropped datagrams: less fits than was thought.
    pub(crate) fn on_overflow(&mut self) {
        self.budget = (self.budget / 4 * 3).max(self.whole / 8);
    }

    /// What the sharers may share. Set aside is what they may send in any case, and a part of what the others of all `contexts` may.
    fn shareable(&self, contexts: usize) -> u32 {
        let others = contexts.saturating_sub(self.sharers.len());
        let (sharers, others) = (self.needed_by(self.sharers.len()), self.needed_by(others));
        // Of what was read, Linux goes on charging up to a quarter of the buffer while more waits in it (`udp_rmem_release`). One sender alone
        // sends trains, which cost half of what is reckoned.
        let charged = if self.sharers.len() > 1 { self.whole / 4 } else { 0 };
        self.budget.saturating_sub(sharers.saturating_add(others.min(self.whole / 4)).saturating_add(charged))
    }

    /// What so many peers may send in any case, bytes of buffer.
    fn needed_by(&self, peers: usize) -> u32 {
        u32::try_from(peers).unwrap_or(u32::MAX).saturating_mul(self.standing + PROBES_COST)
    }

    /// The share of one of the sharers, who has `own` now: as much as the others have, as far as it is free.
    fn share(&self, own: u32, contexts: usize) -> u32 {
        let shareable = self.shareable(contexts);
        let equal = shareable / u32::try_from(self.sharers.len().max(1)).unwrap_or(u32::MAX);
        let free = shareable.saturating_sub(self.promised - own);
        // What may double with every acknowledgement begins small: others may have begun at the same time.
        let first = self.whole / PEERS_FORESEEN;
        equal.min(free).min((2 * own).max(first)) / STEP * STEP
    }
}

/// The credit that lets a peer fill so many bytes of buffer: in small packets, or in large ones, each of which may cost twice its bytes unless it comes in a train.
fn credit_of(buffer: u32) -> Credit {
    let packets = (buffer / DATAGRAM_COST).min(rdgram_wire::WINDOW);
    Credit {
        packets: u16::try_from(packets).expect("at most the window"),
        bytes: (buffer / 2).max(DATAGRAM_COST),
    }
}

impl Core {
    /// Payload came of the peer, `asked` for by a grant or not.
    pub(crate) fn note_payload(&mut self, peer: PeerId, asked: bool) {
        let entry = &mut self.peers[peer.0 as usize];
        if !asked {
            entry.unasked = UNASKED_LOOKS;
        }
        self.add_sharer(peer);
    }

    /// The peer was granted so many bytes more.
    pub(crate) fn note_granted(&mut self, peer: PeerId, bytes: u64) {
        self.peers[peer.0 as usize].granted += bytes;
        self.add_sharer(peer);
    }

    /// So many bytes that the peer was granted have come, or never will.
    pub(crate) fn note_grant_used(&mut self, peer: PeerId, bytes: u64) {
        self.peers[peer.0 as usize].granted -= bytes;
    }

    fn add_sharer(&mut self, peer: PeerId) {
        let entry = &mut self.peers[peer.0 as usize];
        // What comes through memory needs no room in the socket.
        if !entry.shares && entry.link.up().is_none() {
            entry.shares = true;
            self.credits.sharers.push(peer);
        }
    }

    /// Gives the peer the share that it has a right to now. A context takes it along in its next packet.
    pub(crate) fn share_credit(&mut self, peer: PeerId, now: Instant) {
        if self.credits.swept.is_none_or(|swept| swept + SWEEP <= now) {
            self.sweep_credits(now);
        }
        let entry = &mut self.peers[peer.0 as usize];
        let Some(context) = entry.context.as_deref_mut() else { return };
        // While others wait for a grant, one that has sent all of its own makes room for the next at once.
        if entry.shares && self.grants.others_wait() && entry.granted == 0 && entry.unasked == 0 {
            entry.shares = false;
            self.credits.sharers.retain(|sharer| *sharer != peer);
        }
        let own = entry.share;
        let share = if entry.shares { self.credits.share(own, self.contexts) } else { 0 };
        self.credits.promised = self.credits.promised - own + share;
        entry.share = share;
        context.set_credit(credit_of(self.credits.standing + share));
    }

    /// Takes back the shares of those that send nothing any more.
    fn sweep_credits(&mut self, now: Instant) {
        let credits = &mut self.credits;
        credits.swept = Some(now);
        credits.budget = (credits.budget + credits.whole / 64).min(credits.whole);
        let peers = &mut self.peers;
        credits.sharers.retain(|peer| {
            let entry = &mut peers[peer.0 as usize];
            let last = entry.context.as_deref().and_then(|context| context.last_data());
            entry.unasked = entry.unasked.saturating_sub(1);
            entry.shares = last.is_some_and(|last| last + HOLD > now);
            if !entry.shares {
                credits.promised -= core::mem::take(&mut entry.share);
            }
            entry.shares
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_buffer_has_room_for_the_standing_credits_of_64_peers() {
        let credits = Credits::new(2 * 212_992);
        assert_eq!(credits.standing().packets, 1);
        assert!(credits.needed_by(64) < credits.whole);
    }

    #[test]
    fn shares_together_never_exceed_what_there_is() {
        let mut credits = Credits::new(2 * 212_992);
        let mut shares = [0_u32; 16];
        for round in 0..10 {
            for (index, own) in shares.iter_mut().enumerate() {
                if round == 0 {
                    credits.sharers.push(PeerId(u32::try_from(index).unwrap()));
                }
                let share = credits.share(*own, 16);
                credits.promised = credits.promised - *own + share;
                *own = share;
                assert!(credits.promised <= credits.shareable(16));
            }
        }
        let equal = credits.shareable(16) / 16 / STEP * STEP;
        assert!(shares.iter().all(|share| *share == equal), "in the end all have the same: {shares:?}");
    }

    #[test]
    fn several_sharers_leave_free_what_linux_still_charges_and_one_alone_does_not() {
        let full = |peers: u32| {
            let mut credits = Credits::new(2 * 212_992);
            credits.sharers = (0..peers).map(PeerId).collect();
            let mut shares = vec![0; peers as usize];
            for _ in 0..20 {
                for own in &mut shares {
                    let share = credits.share(*own, peers as usize);
                    credits.promised = credits.promised - *own + share;
                    *own = share;
                }
            }
            credits.promised + credits.needed_by(peers as usize)
        };
        let whole = 2 * 212_992;
        assert!((2..=16).all(|peers| full(peers) <= whole - whole / 4));
        assert!(full(1) > whole - whole / 8);
    }

    #[test]
    fn a_large_buffer_lets_one_peer_have_a_whole_window() {
        let mut credits = Credits::new(16 << 20);
        assert_eq!(credits.standing().packets, 32);
        for _ in 0..20 {
            credits.promised = credits.share(credits.promised, 1);
        }
        let credit = credit_of(credits.standing + credits.promised);
        assert_eq!(u32::from(credit.packets), rdgram_wire::WINDOW);
        assert!(credit.bytes > 7 << 20);
    }
}
