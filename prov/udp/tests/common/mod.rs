//! What the tests of the socket layer share: datagrams of given pieces, and waiting for what was sent.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use rdgram_udp::{Packets, Pieces, Shape, Udp};

/// A datagram to send: its bytes, where to cut them into pieces, and zeros after them.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) destination: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// Bytes of each piece; the last may be shorter.
    pub(crate) piece: usize,
    pub(crate) zeros: usize,
    pub(crate) fragment: bool,
}

impl Packet {
    /// A datagram in one piece.
    pub(crate) fn new(destination: SocketAddr, bytes: Vec<u8>) -> Self {
        Self { destination, piece: bytes.len().max(1), bytes, zeros: 0, fragment: false }
    }

    /// What arrives.
    pub(crate) fn whole(&self) -> Vec<u8> {
        let mut whole = self.bytes.clone();
        whole.resize(self.bytes.len() + self.zeros, 0);
        whole
    }
}

/// Datagrams in order.
pub(crate) struct Batch<'a>(pub(crate) &'a [Packet]);

// SAFETY: the pieces lie in the packets, which are borrowed for as long as the batch lives.
unsafe impl Packets for Batch<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn shape(&self, index: usize) -> Shape {
        let packet = &self.0[index];
        let length = packet.bytes.len() + packet.zeros;
        Shape { destination: packet.destination, length, fragment: packet.fragment }
    }

    fn gather(&self, index: usize, pieces: &mut Pieces<'_>) {
        let packet = &self.0[index];
        for piece in packet.bytes.chunks(packet.piece) {
            pieces.push(piece.as_ptr(), piece.len());
        }
        pieces.push_zeros(packet.zeros);
    }
}

/// Bytes that differ from datagram to datagram and from place to place.
pub(crate) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    let mut state = u32::try_from(seed & 0xffff).unwrap_or(0).wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(step).collect()
}

/// Waits until the socket has something; false when it had nothing for a minute.
pub(crate) fn wait(udp: &Udp) -> bool {
    let mut poll = libc::pollfd { fd: udp.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live `pollfd`.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 60_000) };
    ready == 1
}

/// Receives `count` datagrams, then checks that there is no more at hand.
pub(crate) fn receive(udp: &mut Udp, count: usize) -> VecDeque<(SocketAddr, Vec<u8>, bool)> {
    let mut all = VecDeque::new();
    while all.len() < count {
        let mut seen = 0;
        let received = udp.receive(&mut |datagram| {
            seen += 1;
            all.push_back((datagram.source, datagram.bytes.to_vec(), datagram.congestion_experienced));
        });
        assert_eq!(received.datagrams, seen, "what is reported is what the sink saw");
        if received.drained && all.len() < count {
            assert!(wait(udp), "{} of {count} datagrams arrived", all.len());
        }
    }
    udp.receive(&mut |datagram| panic!("one datagram too many, of {} bytes", datagram.bytes.len()));
    all
}
