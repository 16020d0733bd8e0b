//! Two engines talk over real sockets of this host: what the simulator cannot show about the datapath and the waiting.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rdgram_engine::{
    AvId, Cause, Completion, CounterEvents, CqId, Datapath, Direction, Domain, EpConfig, EpId, Failure,
    FailurePending, FiAddr, Match, OpFlags, RecvOp, SendOp, TagMatch, UserSlice,
};
use rdgram_host::wait::WaitSet;
use rdgram_host::{HostDatapath, SocketOptions, clock};

/// An engine with one endpoint on a real socket.
struct Node {
    domain: Domain<HostDatapath>,
    ep: EpId,
    cq: CqId,
    av: AvId,
    address: SocketAddr,
    wait: WaitSet,
}

impl Node {
    fn new(local: &str, options: &SocketOptions) -> Self {
        let datapath = HostDatapath::open(local.parse().expect("an address"), options).expect("opens");
        let wait = WaitSet::new().expect("opens");
        wait.add(datapath.fd().as_raw_fd()).expect("adds");
        let address = datapath.local_address();
        let mut domain = Domain::new();
        let cq = domain.cq_open(64);
        let cntr = domain.cntr_open();
        let av = domain.av_open(4);
        let ep = domain.ep_open(EpConfig::default(), datapath);
        domain.ep_bind_cq(ep, cq, Direction::Transmit).expect("binds");
        domain.ep_bind_cq(ep, cq, Direction::Receive).expect("binds");
        domain.ep_bind_cntr(ep, cntr, CounterEvents::SEND | CounterEvents::RECV).expect("binds");
        domain.ep_bind_av(ep, av).expect("binds");
        domain.ep_enable(ep).expect("enables");
        Self { domain, ep, cq, av, address, wait }
    }

    fn knows(&mut self, other: SocketAddr) -> FiAddr {
        self.domain.av_insert(self.av, other)
    }

    fn send(&mut self, destination: FiAddr, bytes: &[u8], context: usize) {
        // SAFETY: the tests keep the bytes until the operation has completed, and do not change them.
        let slices = [unsafe { UserSlice::new(bytes.as_ptr().cast_mut(), bytes.len()) }];
        let flags = OpFlags::COMPLETION | OpFlags::DELIVERY_COMPLETE;
        let send = SendOp { destination, slices: &slices, tag: Some(1), data: None, context, flags };
        self.domain.send(self.ep, &send).expect("is accepted");
    }

    fn recv(&mut self, buffer: &mut [u8], context: usize) {
        // SAFETY: the tests keep the buffer until the operation has completed, and do not use it before.
        let slices = [unsafe { UserSlice::new(buffer.as_mut_ptr(), buffer.len()) }];
        let matching = Match { source: FiAddr::UNSPEC, tag: Some(TagMatch { tag: 1, ignore: 0 }) };
        let recv = RecvOp { matching, slices: &slices, context, flags: OpFlags::COMPLETION };
        self.domain.recv(self.ep, &recv).expect("is accepted");
    }

    fn next(&mut self) -> Option<Result<Completion, Failure>> {
        match self.domain.cq_pop(self.cq) {
            Ok(completion) => completion.map(Ok),
            Err(FailurePending) => self.domain.cq_pop_failure(self.cq).map(Err),
        }
    }
}

/// Progresses both until each has the wanted number of entries. When neither has work, sleeps on the first one's
/// descriptor, for at most `nap`: the second has no thread of its own.
fn exchange(
    a: &mut Node,
    b: &mut Node,
    wanted: [usize; 2],
    nap: Duration,
) -> [Vec<Result<Completion, Failure>>; 2] {
    let mut entries = [Vec::new(), Vec::new()];
    let end = clock::now() + Duration::from_secs(60);
    while entries[0].len() < wanted[0] || entries[1].len() < wanted[1] {
        let worked = a.domain.progress() | b.domain.progress();
        entries[0].extend(std::iter::from_fn(|| a.next()));
        entries[1].extend(std::iter::from_fn(|| b.next()));
        if !worked {
            a.wait.clear();
            a.wait.arm(a.domain.sleep(clock::now()));
            a.wait.block(Some(nap)).expect("blocks");
        }
        assert!(clock::now() < end, "{wanted:?} entries wanted, {entries:?} are there");
    }
    entries
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    let mut state = u32::try_from(seed).expect("small").wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(step).collect()
}

#[test]
fn messages_of_all_sizes_arrive_whole() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        for trains in [true, false] {
            let options =
                SocketOptions { segmentation: trains, coalescing: trains, ..SocketOptions::default() };
            let (mut a, mut b) = (Node::new(local, &options), Node::new(local, &options));
            let to_b = a.knows(b.address);
            b.knows(a.address);
            let messages: Vec<_> = [0, 1, 8, 1400, 1500, 16_384, 100_000, 1 << 20, 5_000_001]
                .iter()
                .enumerate()
                .map(|(index, &length)| pattern(index, length))
                .collect();
            let mut buffers: Vec<_> = messages.iter().map(|message| vec![0; message.len()]).collect();
            for (index, (message, buffer)) in messages.iter().zip(&mut buffers).enumerate() {
                b.recv(buffer, index);
                a.send(to_b, message, index);
            }
            let count = messages.len();
            let [sent, received] = exchange(&mut a, &mut b, [count, count], Duration::from_millis(1));
            for entry in sent.iter().chain(&received) {
                let completion = entry.as_ref().expect("nothing fails");
                assert!(completion.context < count);
            }
            assert!(messages == buffers, "{local}: bytes differ");
        }
    }
}

#[test]
fn a_peer_that_is_gone_is_refused_by_evidence() {
    let options = SocketOptions::default();
    let (mut a, mut b) = (Node::new("127.0.0.1:0", &options), Node::new("127.0.0.1:0", &options));
    let to_b = a.knows(b.address);
    let mut buffer = [0; 4];
    b.recv(&mut buffer, 0);
    a.send(to_b, b"ping", 1);
    exchange(&mut a, &mut b, [1, 1], Duration::from_millis(1));
    assert_eq!(&buffer, b"ping");

    // Its process dies: the socket is closed with no farewell.
    drop(b);
    a.send(to_b, b"gone", 2);
    let mut other = Node::new("127.0.0.1:0", &options);
    let [failed, _] = exchange(&mut a, &mut other, [1, 0], Duration::from_secs(1));
    let failure = failed[0].expect_err("nobody is there");
    assert_eq!((failure.cause, failure.completion.context), (Cause::Refused, 2));
}

#[test]
fn the_datapath_tells_what_the_host_knows() {
    let options = SocketOptions { receive_buffer: 100_000, ..SocketOptions::default() };
    let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut datapath = HostDatapath::open(local, &options).expect("opens");
    assert_eq!(datapath.local_address().ip(), local.ip());
    assert_ne!(datapath.local_address().port(), 0);
    assert_eq!(datapath.receive_buffer(), 200_000, "as the kernel counts");
    assert_eq!(datapath.receive_buffer_short(), None);
    assert_eq!(datapath.route_mtu(datapath.local_address()), u16::MAX);
    assert_ne!(datapath.random(), datapath.random());
    assert!(datapath.incarnation() < datapath.incarnation());
    // More than the kernel can count is more than it grants.
    let options = SocketOptions { receive_buffer: usize::MAX, ..SocketOptions::default() };
    let datapath = HostDatapath::open(local, &options).expect("opens");
    let (wanted, got) = datapath.receive_buffer_short().expect("is short");
    assert_eq!((wanted, got), (usize::MAX, datapath.receive_buffer() / 2));
}
