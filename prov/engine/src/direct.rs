//! Hybrid placement: guesses which bytes come next, lets the datapath put them to their final address, and decides by the headers whether that was right (decision 0015).
//!
//! Only bytes that were never placed are guessed, of a matched receive that was granted or of a read of our own. Must never count as placed what the transport did not accept.

use std::collections::VecDeque;

use rdgram_proto::{Defect, Moment, planted};
use rdgram_wire::{Body, Flags, Kind, Llp, Packet, Segment};

use crate::datapath::Datagram;
use crate::domain::Shared;
use crate::endpoint::Core;
use crate::entries::{RxStage, TxKind, TxStage};
use crate::matching::PeerId;
use crate::mem::{self, UserSlice};
use crate::plan::{Plan, Scattered};
use crate::receive::integrity_holds;
use crate::slab::Key;
use crate::transmit::TURN;
use crate::types::Direct;

/// The payload of an accepted segment, and whether it is where it belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Placement<'a> {
    /// In the receive buffer: to be copied.
    Bounced(&'a [u8]),
    /// So many bytes that lie at their final address already. Only of granted data and of answers, whose place was compared.
    Direct(usize),
    /// In shared memory, where they may change: to be copied once, and not to be looked at.
    Shared(UserSlice),
}

impl<'a> Placement<'a> {
    /// Bytes of payload.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bounced(bytes) => bytes.len(),
            Self::Direct(length) => *length,
            Self::Shared(slice) => slice.len(),
        }
    }

    /// The bytes, where they may be looked at: those of a datagram.
    pub(crate) fn bounced(&self) -> &'a [u8] {
        match self {
            Self::Bounced(bytes) => bytes,
            Self::Direct(_) | Self::Shared(_) => &[],
        }
    }

    /// Copies what is not where it belongs to `offset` of `slices`. What lies beyond their end, or beyond the first `most` bytes, is left out.
    pub(crate) fn copy_to(&self, slices: &[UserSlice], offset: usize, most: usize) {
        match self {
            Self::Bounced(bytes) => mem::scatter(slices, offset, &bytes[..bytes.len().min(most)]),
            Self::Direct(_) => {}
            Self::Shared(slice) => mem::move_range(&[*slice], 0, slices, offset, slice.len().min(most)),
        }
    }
}

/// A transfer that comes in long segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The payload of a message that was asked for.
    Granted(Key),
    /// The answer to a read.
    Answer(Key),
}

/// What a receive call is expected to bring: a plan, and for each of its datagrams what that has to be.
#[derive(Debug, Default)]
pub(crate) struct Guess {
    plan: Plan,
    datagrams: Vec<Expected>,
}

/// A datagram that is expected.
#[derive(Clone, Copy, Debug)]
struct Expected {
    stream: Stream,
    peer: PeerId,
    offset: u64,
}

impl Guess {
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// What guesses are made from, and whether they are worth it.
#[derive(Debug, Default)]
pub(crate) struct Predictor {
    /// Streams under way, in the order of their turns at the sender, as far as it is known: the first one comes next.
    turns: VecDeque<Stream>,
    /// What came last.
    last: Option<Stream>,
    /// Payload of the last segment that others followed, bytes; 0: none came yet.
    segment: usize,
    /// The sender goes on with the first one whatever its turns: it has not heard of the others yet.
    single: bool,
    /// What wrong guesses cost, less what right ones saved: in short datagrams, see [`LONG`].
    loss: u32,
    /// Receive calls without a plan when that was too much.
    pause: u32,
    /// Such calls still to come.
    paused: u32,
    /// The last guess, for its memory.
    guess: Guess,
}

/// Most streams whose turns are known.
const TURNS_MAX: usize = 32;
/// What is a short datagram, bytes: put together again at hardly any cost. Acknowledgements and starts of messages come between the segments of a transfer.
const SHORT: usize = 1 << 10;
/// What a longer one or a train costs, in short ones: a copy more than without a plan, as a right guess saves one.
const LONG: u32 = 8;
/// A loss that ends in a pause.
const LOSS_MAX: u32 = 3 * LONG;
/// Longest pause, receive calls.
const PAUSE_MAX: u32 = 64;

impl Predictor {
    /// A receive call without a plan brought so many datagrams.
    pub(crate) fn on_unplanned(&mut self, datagrams: usize) {
        if datagrams > 0 {
            self.paused = self.paused.saturating_sub(1);
        }
    }

    /// A receive call with a plan brought so many bytes that were guessed right, and wrong.
    pub(crate) fn on_planned(&mut self, right: usize, wrong: usize) {
        if right >= wrong {
            self.loss = self.loss.saturating_sub(LONG);
            if self.loss == 0 {
                self.pause = 0;
            }
            return;
        }
        self.loss += if wrong > SHORT { LONG } else { 1 };
        if self.loss >= LOSS_MAX {
            // One more is too much again.
            self.loss = LOSS_MAX - LONG;
            self.pause = (self.pause * 2).clamp(1, PAUSE_MAX);
            self.paused = self.pause;
        }
    }

    /// A segment of a stream was placed beyond all before: up to `end` of `whole` bytes.
    fn on_progress(&mut self, stream: Stream, length: usize, end: u64, whole: u64) {
        let turns = &mut self.turns;
        if turns.front() != Some(&stream) {
            // Its turn was over, and it went on.
            self.single = self.last == Some(stream);
            turns.retain(|other| *other != stream);
            turns.truncate(TURNS_MAX - 1);
            turns.push_front(stream);
        }
        self.last = Some(stream);
        if end == whole {
            turns.pop_front();
            self.single = false;
            return;
        }
        self.segment = length;
        if is_turn_over(end - length as u64, end) && !self.single {
            turns.rotate_left(1);
        }
    }
}

/// The sender of a stream goes on with another after bytes `before` to `end` of it.
fn is_turn_over(before: u64, end: u64) -> bool {
    before / TURN != end / TURN
}

impl Direct {
    /// Least payload of a segment, and least bytes to come, that are worth a plan.
    fn least(self) -> (usize, usize) {
        match self {
            Self::Auto => (4 << 10, 8 << 10),
            Self::Force => (1, 1),
            Self::Off => (usize::MAX, usize::MAX),
        }
    }
}

impl Core {
    /// Payload of a stream was placed, up to `end` of `whole` bytes. `furthest`: nothing beyond it was placed before.
    pub(crate) fn note_placed(
        &mut self,
        stream: Stream,
        placement: Placement<'_>,
        end: u64,
        whole: u64,
        furthest: bool,
    ) {
        let length = placement.len();
        self.stats.rx_placed_bytes += length as u64;
        if let Placement::Direct(_) = placement {
            self.stats.rx_direct_bytes += length as u64;
        }
        if !furthest || self.config.direct == Direct::Off {
            return;
        }
        self.predictor.on_progress(stream, length, end, whole);
    }

    /// A stream was asked for: its sender puts it behind the others. Short ones are not worth a place.
    pub(crate) fn expect(&mut self, stream: Stream) {
        let (_, run_min) = self.config.direct.least();
        if self.unplaced(stream).is_none_or(|(.., run)| run.len() < run_min) {
            return;
        }
        let turns = &mut self.predictor.turns;
        if turns.len() >= TURNS_MAX {
            turns.pop_front();
        }
        turns.push_back(stream);
    }

    /// What the next receive call should bring, if that can be said and is worth it. To be given back by [`Self::forget_guess`].
    pub(crate) fn guess(&mut self) -> Option<Guess> {
        let mode = self.config.direct;
        // What a checksum covers is never placed before it was checked, and peers are most often configured alike.
        let useless = self.config.full_integrity && mode != Direct::Force;
        if self.predictor.turns.is_empty() || self.predictor.paused > 0 || useless {
            return None;
        }
        let (first, ..) = self.next_in_turn()?;
        let payload = match self.predictor.segment {
            0 => self.peer(first).context.as_deref()?.segment().saturating_sub(Plan::HEADER),
            known => known,
        };
        let (segment_min, run_min) = mode.least();
        if payload < segment_min {
            return None;
        }
        let mut guess = core::mem::take(&mut self.predictor.guess);
        guess.plan.restart(payload);
        guess.datagrams.clear();
        self.fill_guess(&mut guess);
        if guess.plan.targets().iter().map(UserSlice::len).sum::<usize>() < run_min {
            self.forget_guess(guess);
            return None;
        }
        Some(guess)
    }

    /// Ends a guess.
    pub(crate) fn forget_guess(&mut self, guess: Guess) {
        self.predictor.guess = guess;
    }

    /// [`Self::unplaced`] of the stream that comes next; those that have ended are forgotten.
    fn next_in_turn(&mut self) -> Option<(PeerId, u64, u64, UserSlice)> {
        while let Some(stream) = self.predictor.turns.front() {
            if let Some(next) = self.unplaced(*stream) {
                return Some(next);
            }
            self.predictor.turns.pop_front();
        }
        None
    }

    /// Lays out what the sender should send next, as its turns go (`transmit`).
    fn fill_guess(&self, guess: &mut Guess) {
        let payload = guess.plan.payload();
        let alone = self.predictor.turns.len() == 1 || self.predictor.single;
        for stream in &self.predictor.turns {
            let Some((peer, mut offset, end, run)) = self.unplaced(*stream) else { continue };
            let mut at = 0;
            while offset < end {
                let length = usize::try_from(end - offset).map_or(payload, |left| left.min(payload));
                // Where memory ends before the stream does, the next segment goes to two places, and the plan ends too.
                if !guess.plan.push(run.part(at, length)) {
                    return;
                }
                guess.datagrams.push(Expected { stream: *stream, peer, offset });
                at += length;
                let before = offset;
                offset += length as u64;
                if !alone && is_turn_over(before, offset) {
                    break;
                }
            }
        }
    }

    /// Of a stream that is still under way: its peer, the end of what was placed, its own end, and the memory of what comes next, as far as it is in one piece.
    fn unplaced(&self, stream: Stream) -> Option<(PeerId, u64, u64, UserSlice)> {
        let (peer, placed_end, end, slices, base) = match stream {
            Stream::Granted(key) => {
                let rx = self.rxs.get(key).filter(|rx| rx.remote && rx.stage == RxStage::Matched)?;
                let target = rx.target?;
                (rx.peer, rx.placed_end, rx.wanted(), &self.posts[target.posted].slices, target.base)
            }
            Stream::Answer(key) => {
                let tx = self.txs.get(key)?;
                if tx.kind != TxKind::Read || tx.stage != TxStage::Requesting {
                    return None;
                }
                (tx.peer, tx.placed_end, tx.length, &tx.sink, 0)
            }
        };
        let before = if planted(Defect::DirectAfterPlaced) { self.predictor.segment as u64 } else { 0 };
        let offset = placed_end.saturating_sub(before);
        let (within, left) = (usize::try_from(offset).ok()?, usize::try_from(end - offset).ok()?);
        (left > 0).then(|| (peer, offset, end, mem::first_part(slices, base + within, left)))
    }

    /// Handles what a receive call with a plan brought: as far as it is what was guessed, it is placed already.
    pub(crate) fn on_scattered(
        &mut self,
        at: Moment,
        guess: &Guess,
        train: Scattered<'_>,
        shared: &mut Shared,
    ) {
        let Scattered { source, congestion_experienced, segment, length, headers, bounce } = train;
        let plan = &guess.plan;
        let direct = self.count_guessed(guess, segment, length, headers);
        let from = (direct * plan.stride()).min(length);
        self.stats.rx_plans += 1;
        self.stats.rx_plans_wrong += u64::from(from < length || direct == 0);
        self.predictor.on_planned(from, length - from);
        // Before anything is handled: what is placed from here on may lie where the rest was scattered to.
        let bytes = &mut bounce[..length];
        plan.gather(direct, headers, bytes);
        for (index, header) in headers.chunks_exact(Plan::HEADER).enumerate().take(direct) {
            let payload = (length - index * plan.stride()).min(plan.stride()) - Plan::HEADER;
            if self.on_alike(at, header, Placement::Direct(payload), true, congestion_experienced, shared) {
                continue;
            }
            let datagram = Datagram { source, bytes: header, congestion_experienced };
            // Their integrity was looked at when they were counted.
            if let Some((llp, segment)) = decode(header, payload) {
                let body = Body::Data { segment, payload: &[] };
                let packet = Packet { llp, syn: None, body, headers: header.len() };
                self.stats.rx_datagrams += 1;
                self.stats.rx_bytes += (Plan::HEADER + payload) as u64;
                self.on_intact(at, &datagram, &packet, Some(payload), shared);
            }
        }
        if direct == 0 && length == 0 {
            self.on_datagram(at, &Datagram { source, bytes, congestion_experienced }, shared);
        }
        let segment = if segment == 0 { length.max(1) } else { segment };
        for bytes in bytes[from..].chunks(segment) {
            self.on_datagram(at, &Datagram { source, bytes, congestion_experienced }, shared);
        }
    }

    /// How many datagrams, from the first, are what was guessed, so that their payload is where it belongs.
    fn count_guessed(&self, guess: &Guess, segment: usize, length: usize, headers: &[u8]) -> usize {
        let stride = guess.plan.stride();
        let as_planned = if segment == 0 { length <= stride } else { segment == stride };
        if !as_planned {
            return 0;
        }
        let slots = headers.chunks_exact(Plan::HEADER).zip(guess.plan.targets()).zip(&guess.datagrams);
        slots
            .enumerate()
            .take_while(|(index, ((header, target), expected))| {
                let bytes = length.saturating_sub(index * stride).min(stride);
                bytes.checked_sub(Plan::HEADER).is_some_and(|payload| {
                    payload <= target.len() && self.is_expected(expected, header, payload)
                })
            })
            .count()
    }

    fn is_expected(&self, expected: &Expected, header: &[u8], payload: usize) -> bool {
        let Some((llp, segment)) = decode(header, payload) else { return false };
        let offset = match (segment, expected.stream) {
            (Segment::Write { stag, offset, .. }, Stream::Granted(key))
            | (Segment::ReadResponse { stag, offset, .. }, Stream::Answer(key))
                if stag == key.to_wire() =>
            {
                offset
            }
            _ => return false,
        };
        let context = self.peer(expected.peer).context.as_deref();
        context.is_some_and(|context| context.local().ctx == llp.dst_ctx)
            && (offset == expected.offset || planted(Defect::DirectUnchecked))
            && integrity_holds(header, &llp, header.len())
    }
}

/// The headers of a datagram with `payload` bytes after them that are somewhere else. `None` unless it is one that may be placed by its headers alone.
fn decode(header: &[u8], payload: usize) -> Option<(Llp, Segment)> {
    let llp = Llp::decode(header).ok()?;
    let plain = llp.kind == Kind::Data && !llp.flags.intersects(Flags::SYN | Flags::FULL);
    if !plain || usize::from(llp.length) != header.len() + payload {
        return None;
    }
    let (segment, length) = Segment::decode(&header[Llp::LENGTH..]).ok()?;
    (Llp::LENGTH + length == header.len()).then_some((llp, segment))
}
