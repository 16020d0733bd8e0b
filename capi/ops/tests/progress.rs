//! FI_PROGRESS_AUTO through the tables: what happens while the application makes no call at all. No test depends on how long anything takes: what must
//! happen is waited for without an end.

#![allow(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "the tests do what a C program does: they call through pointers that the provider gave them"
)]

mod common;

use core::ptr::null;

use common::{Node, World, call};
use rdgram_sys as sys;

const ANY: u64 = sys::FI_ADDR_UNSPEC;
const THREADING: [sys::fi_threading; 5] = [
    sys::FI_THREAD_SAFE,
    sys::FI_THREAD_FID,
    sys::FI_THREAD_DOMAIN,
    sys::FI_THREAD_COMPLETION,
    sys::FI_THREAD_ENDPOINT,
];

/// A world where the application makes progress, and one where it need not.
struct Pair {
    busy: World,
    automatic: World,
    avs: [*mut sys::fid_av; 2],
    nodes: [Node; 2],
    to: [u64; 2],
}

impl Pair {
    fn new(threading: sys::fi_threading) -> Self {
        let busy = World::new(sys::FI_THREAD_SAFE);
        let automatic = World::automatic(threading);
        let avs = [busy.av(), automatic.av()];
        let nodes = [busy.node(avs[0], 0, sys::FI_WAIT_FD), automatic.node(avs[1], 0, sys::FI_WAIT_FD)];
        let to = [
            common::av_insert(avs[0], &common::name(nodes[1].ep)),
            common::av_insert(avs[1], &common::name(nodes[0].ep)),
        ];
        Self { busy, automatic, avs, nodes, to }
    }

    fn close(self) {
        std::thread::scope(|scope| {
            for node in self.nodes {
                scope.spawn(move || node.close());
            }
        });
        for av in self.avs {
            assert_eq!(common::close(av), 0);
        }
        self.busy.close();
        self.automatic.close();
    }
}

/// `fi_cq_sread` of one entry.
fn sread(node: &Node) -> usize {
    let mut entry: sys::fi_cq_tagged_entry = unsafe { core::mem::zeroed() };
    assert_eq!(call!(node.cq, ops.sread((&raw mut entry).cast(), 1, null(), -1)), 1);
    entry.op_context.addr()
}

/// The default completion of a send that cannot be copied needs the peer's acknowledgement; a long one also needs it to ask for the bytes.
#[test]
fn sends_complete_while_their_receiver_makes_no_call() {
    for threading in THREADING {
        let pair = Pair::new(threading);
        let [busy, silent] = pair.nodes;
        for length in [0, 8, 4096, 100_000, 4 << 20] {
            let sent = common::pattern(length, 3);
            let mut got = vec![0; length];
            assert_eq!(silent.recv(&mut got, ANY, 1), 0);
            assert_eq!(busy.send(&sent, pair.to[0], 2), 0);
            assert_eq!(sread(&busy), 2);
            assert!(got == sent, "{length} bytes");
            assert_eq!(sread(&silent), 1);
        }
        pair.close();
    }
}

#[test]
fn receives_complete_while_their_sender_makes_no_call() {
    let pair = Pair::new(sys::FI_THREAD_DOMAIN);
    let [busy, silent] = pair.nodes;
    let sent = common::pattern(4 << 20, 3);
    let mut got = vec![0; 4 << 20];
    assert_eq!(silent.send(&sent, pair.to[1], 2), 0);
    assert_eq!(busy.recv(&mut got, ANY, 1), 0);
    assert_eq!(sread(&busy), 1);
    assert!(got == sent);
    assert_eq!(sread(&silent), 2);
    pair.close();
}

/// Both read in tight loops, so that the thread meets an application that is always there.
#[test]
fn an_application_that_polls_loses_nothing_to_the_thread() {
    let pair = Pair::new(sys::FI_THREAD_DOMAIN);
    let [busy, silent] = pair.nodes;
    const ROUNDS: usize = 3000;
    let echo = |node: Node, to: u64, first: bool| {
        let (mut got, sent) = ([0_u8; 8], [7_u8; 8]);
        for round in 0..ROUNDS {
            assert_eq!(node.recv(&mut got, ANY, round), 0);
            if first {
                assert_eq!(call!(node.ep, msg.inject(sent.as_ptr().cast(), 8, to)), 0);
            }
            assert_eq!(node.wait(&[]).0.op_context.addr(), round);
            if !first {
                assert_eq!(call!(node.ep, msg.inject(sent.as_ptr().cast(), 8, to)), 0);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| echo(busy, pair.to[0], true));
        scope.spawn(|| echo(silent, pair.to[1], false));
    });
    pair.close();
}

/// A thread that did not hear of its end would hold up each of these for seconds, and the tests' time limit would tell.
#[test]
fn domains_close_at_once() {
    for round in 0..200 {
        let world = World::automatic(THREADING[round % THREADING.len()]);
        if round % 2 == 0 {
            let av = world.av();
            let node = world.node(av, 0, sys::FI_WAIT_NONE);
            assert_eq!(common::close(world.domain), -sys::FI_EBUSY);
            node.close();
            assert_eq!(common::close(av), 0);
        }
        world.close();
    }
}
