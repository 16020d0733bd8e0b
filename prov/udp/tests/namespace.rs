//! What needs a network of its own: a loopback interface with a small MTU, and no route to anywhere else.
//!
//! Each test starts this program again in new namespaces, where `inside` runs. Without the right to make namespaces
//! nothing is tested, and the output says so.

mod common;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Batch, Packet, pattern, receive};
use rdgram_udp::{Options, Sent, Stop, Udp};

/// IP packets on the loopback interface inside.
const MTU: u16 = 1500;

#[test]
fn in_a_network_of_its_own() {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "inside", "--include-ignored", "--nocapture"]);
    let unshare = || {
        // SAFETY: takes no pointer; the child has one thread.
        match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(unshare) };
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let failure = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "inside failed:\n{text}{failure}");
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("SKIPPED: this system lets nobody make a network namespace");
        }
        Err(error) => panic!("starting this program again: {error}"),
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
