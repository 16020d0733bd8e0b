//! What needs a network of its own: a loopback interface with a small MTU, and no route to anywhere else.
//!
//! Each test starts this program again in new namespaces, where `inside` runs. Without the right to make namespaces
//! nothing is tested, and the output says so.

mod common;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Batch, Packet, pattern, receive};
use rdgram_udp::{NetworkErrorKind, Options, Sent, Stop, Udp};

/// IP packets on the loopback interface inside.
const MTU: u16 = 1500;

#[test]
fn in_a_network_of_its_own() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "inside", "--include-ignored", "--nocapture"]);
    // SAFETY: takes no pointer.
    let user = unsafe { libc::getuid() };
    let root = format!("0 {user} 1");
    let unshare = move || {
        if new_namespaces(libc::CLONE_NEWNET).is_ok() {
            return Ok(());
        }
        new_namespaces(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
        // Without being root there, the program would start without the rights it has in the new namespaces.
        std::fs::write("/proc/self/uid_map", &root)
    };
    // SAFETY: the closure makes system calls only; nothing of it takes a lock or memory.
    unsafe { command.pre_exec(unshare) };
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let failure = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "inside failed:\n{text}{failure}");
        }
        // EPERM, or ENOSPC where the number of namespaces is limited to none.
        Err(error) if [Some(libc::EPERM), Some(libc::ENOSPC)].contains(&error.raw_os_error()) => {
            eprintln!("SKIPPED: this system lets nobody make a network namespace");
        }
        Err(error) => panic!("starting this program again: {error}"),
    }
}

fn new_namespaces(which: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the child has one thread.
    match unsafe { libc::unshare(which) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
#[ignore = "runs in a network namespace, started by the other test"]
fn inside() {
    set_up_loopback();
    for (local, headers) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
        let largest = usize::from(MTU) - headers;
        too_big_is_told(local, largest);
        fragments_pass_when_allowed(local, largest);
    }
    no_route_is_told();
    reports_of_the_network_are_told();
}

/// Switches `lo` on with a small MTU.
fn set_up_loopback() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
    // SAFETY: an `ifreq` is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_mtu = i32::from(MTU);
    ioctl(&socket, libc::SIOCSIFMTU, &mut request);
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("two flags");
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request);
}

fn ioctl(socket: &UdpSocket, number: libc::Ioctl, request: &mut libc::ifreq) {
    // SAFETY: both requests take a live `ifreq` with a name ending in NUL.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut *request) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn pair(local: &str) -> (Udp, Udp) {
    let open = || Udp::open(local.parse().expect("an address"), &Options::default()).expect("opens");
    (open(), open())
}

fn too_big_is_told(local: &str, largest: usize) {
    let (mut sender, mut receiver) = pair(local);
    let to = receiver.local_address();
    assert_eq!(Udp::route(to).expect("has a route").mtu, MTU);
    let packets = |sizes: &[usize]| -> Vec<Packet> {
        sizes.iter().enumerate().map(|(index, &size)| Packet::new(to, pattern(index, size))).collect()
    };
    let too_big = Some(Stop::TooBig(Some(MTU)));
    // The largest that fits, alone and in a train; then too large ones alone, in a train, and after others.
    for (sizes, taken) in [
        (vec![largest], 1),
        (vec![largest; 30], 30),
        (vec![largest + 1], 0),
        (vec![largest + 1; 30], 0),
        (vec![100, 100, 100, largest + 1, 100], 3),
        (vec![largest + 1, 100], 0),
    ] {
        let sent = sender.send(&Batch(&packets(&sizes)));
        let stopped = if taken == sizes.len() { None } else { too_big };
        assert_eq!(sent, Sent { taken, stopped }, "{local} {sizes:?}");
        for (packet, (_, bytes, _)) in packets(&sizes[..taken]).iter().zip(receive(&mut receiver, taken)) {
            assert_eq!(packet.whole(), bytes);
        }
        assert_eq!(sender.poll_error(), None, "the refusal itself said everything");
    }
    assert!(sender.segmentation(), "a segment that is too large says nothing about trains");
}

fn fragments_pass_when_allowed(local: &str, largest: usize) {
    let (mut sender, mut receiver) = pair(local);
    let to = receiver.local_address();
    let plain = |size| Packet::new(to, pattern(size, size));
    let fragmented = |size| Packet { fragment: true, ..plain(size) };
    let batch = [plain(100), plain(100), fragmented(5000), fragmented(20_000), plain(100), plain(largest)];
    assert_eq!(sender.send(&Batch(&batch)), Sent { taken: 6, stopped: None }, "{local}");
    for (packet, (_, bytes, _)) in batch.iter().zip(receive(&mut receiver, 6)) {
        assert_eq!(packet.whole(), bytes);
    }
    let batch = [fragmented(5000), plain(5000)];
    let sent = sender.send(&Batch(&batch));
    assert_eq!(sent, Sent { taken: 1, stopped: Some(Stop::TooBig(Some(MTU))) }, "DF is set again");
    receive(&mut receiver, 1);
}

fn no_route_is_told() {
    let (mut sender, mut receiver) = pair("127.0.0.1:0");
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 9));
    assert!(Udp::route(nowhere).is_err());
    let to = receiver.local_address();
    let batch = [Packet::new(to, vec![1]), Packet::new(nowhere, vec![2]), Packet::new(to, vec![3])];
    let sent = sender.send(&Batch(&batch));
    assert_eq!(sent, Sent { taken: 1, stopped: Some(Stop::Unreachable(libc::ENETUNREACH)) });
    receive(&mut receiver, 1);
}

fn reports_of_the_network_are_told() {
    use NetworkErrorKind::{HostUnreachable, TooBig};
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let (mut sender, mut receiver) = pair(local);
        let to = receiver.local_address();
        let reports = match to {
            SocketAddr::V4(_) => {
                [(3, 4, 1400, TooBig(1400)), (3, 1, 0, HostUnreachable), (3, 13, 0, HostUnreachable)]
            }
            SocketAddr::V6(_) => {
                [(2, 0, 1300, TooBig(1300)), (1, 3, 0, HostUnreachable), (1, 0, 0, HostUnreachable)]
            }
        };
        for (kind, code, mtu, expected) in reports {
            let send = |sender: &mut Udp| sender.send(&Batch(&vec![Packet::new(to, vec![5; 200]); 10]));
            assert_eq!(send(&mut sender), Sent { taken: 10, stopped: None });
            report(sender.local_address(), to, (kind, code), mtu);
            // The report is what the next call fails with, and it costs that call's datagrams nothing.
            assert_eq!(send(&mut sender), Sent { taken: 10, stopped: None }, "{local} {expected:?}");
            receive(&mut receiver, 20);
            let error = sender.poll_error().expect("was reported");
            assert_eq!((error.destination, error.kind), (to, expected), "{local}");
            assert_eq!(sender.poll_error(), None);
        }
        assert!(sender.segmentation());

        // A report that is still unread when a datagram is refused as too large is not lost.
        let (kind, code, mtu, expected) = reports[1];
        sender.send(&Batch(&[Packet::new(to, vec![5; 200])]));
        report(sender.local_address(), to, (kind, code), mtu);
        let sent = sender.send(&Batch(&[Packet::new(to, vec![5; 5000])]));
        assert_eq!(sent, Sent { taken: 0, stopped: Some(Stop::TooBig(Some(MTU))) });
        assert_eq!(sender.poll_error().map(|error| error.kind), Some(expected));
        assert_eq!(sender.poll_error(), None);
    }
}

/// Sends what a router would, about a datagram from `source` to `destination`.
fn report(source: SocketAddr, destination: SocketAddr, (kind, code): (u8, u8), mtu: u16) {
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let udp = [ports.as_slice(), &208_u16.to_be_bytes(), &[0, 0]].concat();
    let (quoted, protocol) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = [0x45, 0, 0, 228, 0, 0, 0x40, 0, 64, 17, 0, 0];
            ([&ip, from.octets().as_slice(), &to.octets(), &udp].concat(), libc::IPPROTO_ICMP)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = [0x60, 0, 0, 0, 0, 208, 17, 64];
            ([&ip, from.octets().as_slice(), &to.octets(), &udp].concat(), libc::IPPROTO_ICMPV6)
        }
        _ => unreachable!("both are of one family"),
    };
    let mut message = [&[kind, code, 0, 0, 0, 0], mtu.to_be_bytes().as_slice(), &quoted].concat();
    if source.is_ipv4() {
        let checksum = internet_checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    let family = if source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointer.
    let raw = unsafe { libc::socket(family, libc::SOCK_RAW, protocol) };
    assert!(raw >= 0, "a raw socket: {}", io::Error::last_os_error());
    // SAFETY: just opened, and nobody else's. Sending is all that is done with it, which is the same for all kinds.
    let raw = unsafe { UdpSocket::from_raw_fd(raw) };
    let sent = raw.send_to(&message, SocketAddr::new(source.ip(), 0)).expect("sends");
    assert_eq!(sent, message.len());
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}
