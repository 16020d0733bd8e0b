//! Receiving with a plan: every byte is where the plan says, whatever comes, and nothing else is touched.

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Batch, Packet, pattern, wait};
use rdgram_udp::{NetworkErrorKind, Options, PAYLOAD_MAX, Plan, Received, Sent, Udp};

const LOCAL: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
/// Bytes of each datagram that are put apart.
const HEADER: usize = 54;
/// What the memory around and in the target holds before.
const BLANK: u8 = 0xee;
/// Bytes on either side of the target.
const AROUND: usize = 64;

/// A plan for `length` bytes, `payload` of each datagram, with its memory.
struct Target {
    payload: usize,
    length: usize,
    memory: Vec<u8>,
}

/// Targets one behind the other.
struct Contiguous {
    payload: usize,
    target: *mut u8,
    length: usize,
}

// SAFETY: the memory is as long as is said, and not looked at before the plan is dropped.
unsafe impl Plan for Contiguous {
    fn header(&self) -> usize {
        HEADER
    }

    fn count(&self) -> usize {
        self.length.div_ceil(self.payload)
    }

    fn target(&self, index: usize) -> (*mut u8, usize) {
        let start = index * self.payload;
        (self.target.wrapping_add(start), self.payload.min(self.length - start))
    }
}

impl Target {
    fn new(payload: usize, length: usize) -> Self {
        Self { payload, length, memory: vec![BLANK; length + 2 * AROUND] }
    }

    /// Receives one datagram or train into it: segment size and bytes, in order.
    fn receive(&mut self, udp: &mut Udp, source: SocketAddr) -> (Received, Option<(usize, Vec<u8>)>) {
        let target = self.memory.as_mut_ptr().wrapping_add(AROUND);
        let plan = Contiguous { payload: self.payload, target, length: self.length };
        let mut parts = None;
        let received = udp.receive_scattered(&plan, &mut |train| {
            assert_eq!((train.source, train.congestion_experienced), (source, false));
            assert!(parts.is_none(), "one datagram or train at a time");
            parts = Some((train.segment, train.length, train.headers.to_vec(), train.bounce.to_vec()));
        });
        let around = self.memory[..AROUND].iter().chain(&self.memory[AROUND + self.length..]);
        assert!(around.copied().all(|byte| byte == BLANK), "nothing beside the target is touched");
        let Some((segment, length, headers, bounce)) = parts else { return (received, None) };
        let mut bytes = Vec::new();
        for (payload, header) in
            self.memory[AROUND..][..self.length].chunks(self.payload).zip(headers.chunks(HEADER))
        {
            bytes.extend_from_slice(header);
            bytes.extend_from_slice(payload);
        }
        bytes.extend_from_slice(&bounce[bytes.len()..]);
        let stride = HEADER + self.payload;
        let came = length / stride * self.payload + (length % stride).saturating_sub(HEADER);
        let rest = &self.memory[AROUND..][..self.length][came.min(self.length)..];
        assert!(rest.iter().all(|byte| *byte == BLANK), "nothing beyond what came is touched");
        bytes.truncate(length);
        (received, Some((segment, bytes)))
    }
}

fn open(local: &str, coalescing: bool) -> Udp {
    let options = Options { coalescing, ..Options::default() };
    Udp::open(local.parse().expect("an address"), &options).expect("opens")
}

fn run(to: SocketAddr, sizes: &[usize]) -> Vec<Packet> {
    sizes.iter().enumerate().map(|(index, size)| Packet::new(to, pattern(index, *size))).collect()
}

/// A plan, and datagrams that come instead of or as what it expects.
fn cases() -> Vec<((usize, usize), Vec<usize>)> {
    let planned = |payload: usize, count: usize| vec![HEADER + payload; count];
    vec![
        // As planned: long and short segments, a shorter one at the end, one alone.
        ((8918, 7 * 8918), planned(8918, 7)),
        ((1418, 44 * 1418), planned(1418, 44)),
        ((1418, 20 * 1418), [planned(1418, 12), vec![HEADER + 17]].concat()),
        ((1, 30), planned(1, 30)),
        ((32_000, 32_000), planned(32_000, 1)),
        ((PAYLOAD_MAX - HEADER - 40, 65_400), vec![PAYLOAD_MAX - 40]),
        // More than planned: datagrams, and bytes.
        ((8918, 3 * 8918), planned(8918, 7)),
        ((8918, 2 * 8918 + 100), planned(8918, 7)),
        ((1000, 3000), vec![9000]),
        ((1000, 3000), vec![65_000]),
        // Of another size.
        ((8918, 7 * 8918), planned(1418, 44)),
        ((1418, 44 * 1418), planned(8918, 7)),
        ((1418, 44 * 1418), vec![1472; 10]),
        ((1418, 44 * 1418), vec![1473; 10]),
        // Hardly anything, and nothing.
        ((8918, 7 * 8918), vec![HEADER + 1]),
        ((8918, 7 * 8918), vec![HEADER]),
        ((8918, 7 * 8918), vec![HEADER - 1]),
        ((8918, 7 * 8918), vec![1]),
        ((8918, 7 * 8918), vec![0]),
    ]
}

#[test]
fn what_comes_lies_where_the_plan_says() {
    for local in LOCAL {
        for coalescing in [true, false] {
            let (mut sender, mut receiver) = (open(local, true), open(local, coalescing));
            let (from, to) = (sender.local_address(), receiver.local_address());
            for (case, ((payload, length), sizes)) in cases().into_iter().enumerate() {
                let packets = run(to, &sizes);
                let sent = sender.send(&Batch(&packets));
                assert_eq!(sent, Sent { taken: packets.len(), stopped: None }, "{local} case {case}");
                let mut arrived: Vec<Vec<u8>> = Vec::new();
                while arrived.len() < packets.len() {
                    assert!(wait(&receiver));
                    let mut target = Target::new(payload, length);
                    let (received, train) = target.receive(&mut receiver, from);
                    let (segment, bytes) = train.expect("something is there");
                    assert_eq!(segment != 0, coalescing && packets.len() > 1, "{local} case {case}");
                    let before = arrived.len();
                    if bytes.is_empty() {
                        arrived.push(bytes);
                    } else {
                        let size = if segment == 0 { bytes.len() } else { segment };
                        arrived.extend(bytes.chunks(size).map(<[u8]>::to_vec));
                    }
                    assert_eq!(
                        received,
                        Received { datagrams: arrived.len() - before, drained: false, overflowed: false }
                    );
                }
                for (packet, bytes) in packets.iter().zip(&arrived) {
                    assert!(*bytes == packet.bytes, "{local} {coalescing} case {case}: bytes differ");
                }
            }
        }
    }
}

#[test]
fn an_empty_queue_leaves_the_target_alone() {
    for local in LOCAL {
        let mut receiver = open(local, true);
        let mut target = Target::new(1418, 10 * 1418);
        let nobody = receiver.local_address();
        let (received, train) = target.receive(&mut receiver, nobody);
        assert_eq!((received, train), (Received { datagrams: 0, drained: true, overflowed: false }, None));
        assert!(target.memory.iter().all(|byte| *byte == BLANK));
        // A report of the network is no datagram, and is not lost.
        let closed = UdpSocket::bind(local).expect("binds").local_addr().expect("is bound");
        receiver.send(&Batch(&run(closed, &[10])));
        let (received, train) = target.receive(&mut receiver, closed);
        assert_eq!((received, train), (Received { datagrams: 0, drained: true, overflowed: false }, None));
        assert_eq!(receiver.poll_error().map(|error| error.kind), Some(NetworkErrorKind::PortUnreachable));
    }
}

#[test]
fn a_target_that_is_no_memory_costs_what_comes_for_it_and_nothing_else() {
    let (mut sender, mut receiver) = (open(LOCAL[0], true), open(LOCAL[0], true));
    let (from, to) = (sender.local_address(), receiver.local_address());
    sender.send(&Batch(&run(to, &[100, 200])));
    // SAFETY: new memory, which nothing else uses.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // Against the promise, but the kernel looks before it writes.
    let nowhere = Contiguous { payload: 1418, target: page.cast(), length: 1418 };
    let received = receiver.receive_scattered(&nowhere, &mut |_| panic!("nothing can have come"));
    assert_eq!(received, Received { datagrams: 0, drained: false, overflowed: false });
    let (_, train) = Target::new(1418, 1418).receive(&mut receiver, from);
    assert_eq!(train, Some((0, pattern(1, 200))));
    assert_eq!(receiver.poll_error(), None);
    // SAFETY: mapped above, and of this length.
    assert_eq!(unsafe { libc::munmap(page, 4096) }, 0);
}

#[test]
fn both_ways_of_receiving_may_alternate() {
    let (mut sender, mut receiver) = (open(LOCAL[0], true), open(LOCAL[0], true));
    let (from, to) = (sender.local_address(), receiver.local_address());
    let packets = run(to, &[1472; 40]);
    for _ in 0..10 {
        for _ in 0..20 {
            sender.send(&Batch(&packets));
        }
        let (mut bytes, mut scattered) = (Vec::new(), 0);
        while bytes.len() < 20 * 40 * 1472 {
            receiver.receive(&mut |datagram| bytes.extend_from_slice(datagram.bytes));
            if let (_, Some((_, train))) = Target::new(1418, 20 * 1418).receive(&mut receiver, from) {
                bytes.extend(train);
                scattered += 1;
            }
        }
        assert!(scattered > 0);
        let sent = packets.iter().cycle().take(20 * 40).flat_map(|packet| packet.bytes.iter());
        assert!(bytes.iter().eq(sent), "bytes differ");
    }
}
