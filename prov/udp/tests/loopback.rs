//! Datagrams between sockets of this host: what is sent arrives byte for byte, and what cannot be is told.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use common::{Batch, Packet, pattern, receive, wait};
use rdgram_udp::{NetworkError, NetworkErrorKind, Options, Received, Sent, Stop, Udp};

const LOCAL: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn open(local: &str, options: &Options) -> Udp {
    Udp::open(local.parse().expect("an address"), options).expect("opens")
}

/// An address of this host that nobody is bound to, at least a moment ago.
fn closed_port(local: &str) -> SocketAddr {
    UdpSocket::bind(local).expect("binds").local_addr().expect("is bound")
}

/// Bytes of an option's value.
const INT_LENGTH: libc::socklen_t = 4;

/// Sets an option of a socket behind its back.
fn set_option(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    // SAFETY: the value is live and of the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), INT_LENGTH)
    };
    assert_eq!(result, 0, "option {level}/{option}");
}

/// Batches that meet every limit of joining datagrams: sizes, runs, pieces, destinations.
fn batches(one: SocketAddr, other: SocketAddr) -> Vec<Vec<Packet>> {
    // The IP packet's length field ends at 65,535, headers included.
    let largest = if one.is_ipv4() { 65_507 } else { 65_487 };
    let run = |to: SocketAddr, sizes: &[usize]| -> Vec<Packet> {
        sizes.iter().enumerate().map(|(index, &size)| Packet::new(to, pattern(index, size))).collect()
    };
    let mut pieces = run(one, &[1200; 40]);
    for packet in &mut pieces {
        // 40 pieces each: more than 1,024 in all.
        packet.piece = 30;
    }
    let mut padded = run(one, &[100; 4]);
    for (packet, zeros) in padded.iter_mut().zip([0, 1300, 1300, 9000]) {
        packet.zeros = zeros;
    }
    vec![
        run(one, &[8]),
        run(one, &[0]),
        run(one, &[1400; 44]),
        // A train ends with a shorter one, not with a longer or an empty one.
        run(one, &[1400, 1400, 1400, 7, 1400, 1400, 1401, 1401, 0, 0, 1, 1]),
        // More than 64 datagrams, and more than 65,507 bytes.
        run(one, &[16; 150]),
        run(one, &[9000; 12]),
        run(one, &[largest, 32_754, 32_754, 32_753, 32_753]),
        [run(one, &[700; 5]), run(other, &[700; 5]), run(one, &[700; 1]), run(other, &[30, 20, 10])].concat(),
        pieces,
        padded,
        // Each its own message: more than one system call's worth.
        (1..=100).rev().flat_map(|size| run(if size % 2 == 0 { one } else { other }, &[size])).collect(),
    ]
}

#[test]
fn batches_arrive_byte_for_byte() {
    for local in LOCAL {
        for flags in 0..4 {
            let options =
                Options { segmentation: flags & 1 != 0, coalescing: flags & 2 != 0, ..Options::default() };
            let mut sender = open(local, &options);
            let mut one = open(local, &options);
            let mut other = open(local, &options);
            let source = sender.local_address();
            for (index, batch) in batches(one.local_address(), other.local_address()).iter().enumerate() {
                let sent = sender.send(&Batch(batch));
                assert_eq!(sent, Sent { taken: batch.len(), stopped: None }, "{local} {flags} batch {index}");
                for receiver in [&mut one, &mut other] {
                    let to = receiver.local_address();
                    let expected: Vec<_> = batch.iter().filter(|packet| packet.destination == to).collect();
                    let arrived = receive(receiver, expected.len());
                    for (packet, (from, bytes, congestion)) in expected.into_iter().zip(arrived) {
                        assert!(bytes == packet.whole(), "{local} {flags} batch {index}: bytes differ");
                        assert_eq!((from, congestion), (source, false));
                    }
                }
            }
            assert_eq!(sender.segmentation(), options.segmentation, "nothing here speaks against trains");
        }
    }
}

#[test]
fn a_run_goes_out_as_one_train_and_comes_in_at_once() {
    for local in LOCAL {
        let mut sender = open(local, &Options::default());
        let mut receiver = open(local, &Options::default());
        let plain = UdpSocket::bind(local).expect("binds");
        set_option(&plain, libc::SOL_UDP, libc::UDP_GRO, 1);
        plain.set_read_timeout(Some(Duration::from_secs(60))).expect("has timeouts");
        let run = |to| {
            (0..45).map(|index| Packet::new(to, pattern(index, if index < 44 { 1400 } else { 9 }))).collect()
        };
        let batch: Vec<_> = run(plain.local_addr().expect("is bound"));
        assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 45, stopped: None });
        let mut whole = vec![0; 65_536];
        assert_eq!(plain.recv(&mut whole).expect("receives"), 44 * 1400 + 9, "all in one");

        // One that IP may fragment is sent by itself, because DF is the socket's.
        let mut batch: Vec<_> = run(plain.local_addr().expect("is bound"));
        batch[2].fragment = true;
        assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 45, stopped: None });
        let sizes = [(); 3].map(|()| plain.recv(&mut whole).expect("receives"));
        assert_eq!(sizes, [2 * 1400, 1400, 41 * 1400 + 9]);

        let batch: Vec<_> = run(receiver.local_address());
        assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 45, stopped: None });
        assert!(wait(&receiver));
        // A quiet socket is asked for one train; whether there are more shows the next call.
        let received = receiver.receive(&mut |_| {});
        assert_eq!(received, Received { datagrams: 45, drained: false, overflowed: false });
        let received = receiver.receive(&mut |_| {});
        assert_eq!(received, Received { datagrams: 0, drained: true, overflowed: false });
    }
}

#[test]
fn a_closed_port_is_reported_and_costs_no_datagram() {
    for local in LOCAL {
        let mut sender = open(local, &Options::default());
        let mut receiver = open(local, &Options::default());
        assert_eq!(sender.poll_error(), None);
        let closed = closed_port(local);
        let mut expected = 0;
        for round in 0..20 {
            // The report about the first is pending when the others are sent, one by one and as a batch.
            let refused = [Packet::new(closed, pattern(round, 10))];
            assert_eq!(sender.send(&Batch(&refused)), Sent { taken: 1, stopped: None });
            let alone = [Packet::new(receiver.local_address(), pattern(round, 100))];
            assert_eq!(sender.send(&Batch(&alone)), Sent { taken: 1, stopped: None });
            let mut mixed = vec![Packet::new(receiver.local_address(), pattern(round, 300)); 5];
            mixed.insert(3, Packet::new(closed, pattern(round, 300)));
            assert_eq!(sender.send(&Batch(&mixed)), Sent { taken: 6, stopped: None });
            expected += 6;
        }
        assert_eq!(receive(&mut receiver, expected).len(), expected);

        // The kernel may limit how many it reports, but not the first.
        let error = NetworkError { destination: closed, kind: NetworkErrorKind::PortUnreachable };
        sender.receive(&mut |_| panic!("nobody sends to the sender"));
        assert_eq!(sender.poll_error(), Some(error));
        while let Some(next) = sender.poll_error() {
            assert_eq!(next, error);
        }
        assert!(sender.segmentation());
    }
}

/// The kernel tells of a report once, by a call that fails; `sendmmsg` does not fail when it has sent something before.
#[test]
fn a_report_about_a_datagram_in_the_middle_of_a_batch_is_not_lost() {
    for local in LOCAL {
        let mut sender = open(local, &Options::default());
        let receiver = open(local, &Options::default());
        let closed = closed_port(local);
        let batch = [(closed, 1), (receiver.local_address(), 2), (receiver.local_address(), 3)]
            .map(|(to, byte)| Packet::new(to, vec![byte; 10 + usize::from(byte)]));
        assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 3, stopped: None });
        let error = NetworkError { destination: closed, kind: NetworkErrorKind::PortUnreachable };
        assert_eq!(
            sender.poll_error().or_else(|| {
                sender.receive(&mut |_| panic!("nobody sends to the sender"));
                sender.poll_error()
            }),
            Some(error)
        );
    }
}

#[test]
fn a_pending_report_hides_no_datagram_from_the_receiver() {
    for local in LOCAL {
        let mut receiver = open(local, &Options::default());
        let mut sender = open(local, &Options::default());
        let closed = closed_port(local);
        receiver.send(&Batch(&[Packet::new(closed, vec![1])]));
        sender.send(&Batch(&[Packet::new(receiver.local_address(), vec![2; 50])]));
        let arrived = receive(&mut receiver, 1);
        assert_eq!(arrived[0].1, vec![2; 50]);
        let error = receiver.poll_error().expect("the closed port was reported");
        assert_eq!((error.destination, error.kind), (closed, NetworkErrorKind::PortUnreachable));
        assert_eq!(receiver.poll_error(), None);
    }
}

#[test]
fn trains_that_the_system_refuses_are_given_up_without_loss() {
    let mut sender = open(LOCAL[0], &Options::default());
    let mut receiver = open(LOCAL[0], &Options::default());
    let mut pass = |works: bool| {
        // Trains need checksums: the kernel refuses them with EINVAL on a socket that makes none.
        set_option(&sender, libc::SOL_SOCKET, libc::SO_NO_CHECK, libc::c_int::from(!works));
        let batch = [1, 2].map(|index| Packet::new(receiver.local_address(), pattern(index, 1000)));
        assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 2, stopped: None });
        for (packet, (_, bytes, _)) in batch.iter().zip(receive(&mut receiver, 2)) {
            assert_eq!(packet.whole(), bytes);
        }
        sender.segmentation()
    };
    assert!(pass(false) && pass(false), "two refusals may have another cause");
    assert!(pass(true), "a train that passed proves it");
    assert!(pass(false) && pass(false), "the count began anew");
    assert!(!pass(false), "three in a row are enough");
    assert!(!pass(true), "and it stays so");
}

#[test]
fn what_no_datagram_can_hold_is_too_big() {
    for local in LOCAL {
        let mut sender = open(local, &Options::default());
        let to = sender.local_address();
        let batch =
            [Packet::new(to, vec![1; 10]), Packet::new(to, vec![2; 70_000]), Packet::new(to, vec![3; 10])];
        let sent = sender.send(&Batch(&batch));
        assert_eq!(sent.taken, 1);
        assert!(matches!(sent.stopped, Some(Stop::TooBig(_))), "{sent:?}");
        assert_eq!(sender.send(&Batch(&batch[2..])), Sent { taken: 1, stopped: None });
        let arrived = receive(&mut sender, 2);
        assert_eq!((&arrived[0].1, &arrived[1].1), (&vec![1; 10], &vec![3; 10]));
    }
}

#[test]
fn congestion_marks_are_seen() {
    for (local, level, option) in
        [(LOCAL[0], libc::IPPROTO_IP, libc::IP_TOS), (LOCAL[1], libc::IPPROTO_IPV6, libc::IPV6_TCLASS)]
    {
        let mut receiver = open(local, &Options::default());
        let marked = UdpSocket::bind(local).expect("binds");
        // ECT(1), CE, CE with another traffic class, none.
        for (class, expected) in [(1, false), (3, true), (0x2b, true), (0, false)] {
            set_option(&marked, level, option, class);
            marked.send_to(b"x", receiver.local_address()).expect("sends");
            assert_eq!(receive(&mut receiver, 1)[0].2, expected, "traffic class {class}");
        }
        // The mark of a train is one of each of its datagrams.
        set_option(&marked, level, option, 3);
        set_option(&marked, libc::SOL_UDP, libc::UDP_SEGMENT, 100);
        marked.send_to(&[7; 250], receiver.local_address()).expect("sends");
        let train: Vec<_> =
            receive(&mut receiver, 3).iter().map(|(_, bytes, mark)| (bytes.len(), *mark)).collect();
        assert_eq!(train, [(100, true), (100, true), (50, true)]);
    }
}

#[test]
fn what_is_sent_says_that_marks_are_minded() {
    for (local, level, option) in
        [(LOCAL[0], libc::IPPROTO_IP, libc::IP_TOS), (LOCAL[1], libc::IPPROTO_IPV6, libc::IPV6_TCLASS)]
    {
        let sender = open(local, &Options::default());
        let (mut class, mut length): (libc::c_int, _) = (0, INT_LENGTH);
        // SAFETY: both are live, and the length is that of the value.
        let result = unsafe {
            libc::getsockopt(
                sender.as_fd().as_raw_fd(),
                level,
                option,
                (&raw mut class).cast::<libc::c_void>(),
                &raw mut length,
            )
        };
        assert_eq!((result, class), (0, 2), "ECT(0)");
    }
}

#[test]
fn ports_come_from_the_range() {
    let taken = UdpSocket::bind(LOCAL[0]).expect("binds").local_addr().expect("is bound").port();
    let holder = Udp::open(SocketAddr::from(([127, 0, 0, 1], taken)), &Options::default()).expect("opens");
    let ranged = |first, last| {
        let options = Options { port_range: Some((first, last)), ..Options::default() };
        Udp::open(LOCAL[0].parse().expect("an address"), &options)
    };
    let error = ranged(taken, taken).expect_err("the only port is in use");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("{taken}-{taken}")), "{error}");
    let next = ranged(taken, u16::MAX).expect("one of the others is free");
    assert!(next.local_address().port() > holder.local_address().port());
    assert_eq!(ranged(0, 5).expect_err("port 0 is none").kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(ranged(9, 8).expect_err("the wrong way round").kind(), std::io::ErrorKind::InvalidInput);
    // An explicit port is not moved into the range.
    let options = Options { port_range: Some((taken, taken)), ..Options::default() };
    let explicit = closed_port(LOCAL[0]);
    assert_eq!(Udp::open(explicit, &options).expect("opens").local_address(), explicit);
}

#[test]
fn the_receive_buffer_is_what_the_kernel_says() {
    // Below what every system allows, and doubled by the kernel for its own overhead.
    let options = Options { receive_buffer: 100_000, ..Options::default() };
    assert_eq!(open(LOCAL[0], &options).receive_buffer(), 200_000);
}

#[test]
fn what_finds_no_room_is_counted() {
    let options = Options { receive_buffer: 4096, ..Options::default() };
    for local in LOCAL {
        let (mut sender, mut receiver) = (open(local, &Options::default()), open(local, &options));
        assert_eq!(receiver.dropped(), 0);
        let packets: Vec<Packet> =
            (0..50).map(|index| Packet::new(receiver.local_address(), pattern(index, 1000))).collect();
        // A whole train may find room, two do not.
        for _ in 0..10 {
            assert_eq!(sender.send(&Batch(&packets)).taken, packets.len());
        }
        assert!(receiver.dropped() > 0);
        assert_eq!(sender.dropped(), 0);
        // A datagram that was queued after the drops tells of them, once.
        let mut overflows = || {
            let mut overflows = 0;
            loop {
                let received = receiver.receive(&mut |_| {});
                overflows += u32::from(received.overflowed);
                if received.drained {
                    return overflows;
                }
            }
        };
        overflows();
        assert_eq!(sender.send(&Batch(&packets[..1])).taken, 1);
        assert_eq!(overflows(), 1);
        assert_eq!(sender.send(&Batch(&packets[..1])).taken, 1);
        assert_eq!(overflows(), 0);
    }
}
