//! Items between two sides that have met: order, room, buffers, and what is left when one goes.

mod common;

use common::{Side, meet, pair, small, taken};
use rdgram_shm::{Dma, Options, Payload, Piece, Put};

#[test]
fn items_arrive_in_order_over_many_laps() {
    let (mut a, mut b) = pair(&small());
    let mut expected = 0_u32;
    let mut sent = 0_u32;
    while expected < 1000 {
        let mut burst = sent % 5;
        while burst > 0 && a.put(1, &sent.to_ne_bytes(), &[7; 3]) == Put::Done {
            sent += 1;
            burst -= 1;
        }
        sent += u32::from(sent % 5 == 0 && a.put(1, &sent.to_ne_bytes(), &[7; 3]) == Put::Done);
        b.local.take(2, &mut |item| {
            assert_eq!(item.header, expected.to_ne_bytes());
            assert!(matches!(item.payload, Payload::Inline([7, 7, 7])));
            expected += 1;
        });
    }
    assert_eq!(b.local.stats().items_taken, u64::from(expected));
}

#[test]
fn a_full_fifo_says_so_and_takes_again() {
    let (mut a, mut b) = pair(&small());
    for _ in 0..4 {
        assert_eq!(a.put(1, b"", b""), Put::Done);
    }
    assert_eq!(a.put(1, b"", b""), Put::Full);
    assert_eq!(a.put(1, b"", &[1; 1000]), Put::Full);
    assert_eq!(a.local.stats().full, 2);
    assert!(b.local.has_items());
    assert_eq!(b.local.take(1, &mut |_| {}), 1);
    assert_eq!(a.put(1, b"", &[1; 1000]), Put::Done);
    assert_eq!(taken(&mut b.local).len(), 4);
    assert!(!b.local.has_items());
}

#[test]
fn every_length_arrives_whole() {
    let (mut a, mut b) = pair(&small());
    let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    let room = a.local.room();
    for header in [0, 1, 7, 8, 20, room - 1, room] {
        for payload in [0, 1, 7, 8, 9, room - header, room - header + 1, 500, 1023, 1024] {
            let put = a.put(9, &bytes[..header], &bytes[..payload]);
            assert_eq!(put, Put::Done, "{header} + {payload}");
            let items = taken(&mut b.local);
            assert_eq!(items, [(9, bytes[..header].to_vec(), bytes[..payload].to_vec())]);
        }
    }
}

#[test]
fn pieces_are_put_together() {
    let (mut a, mut b) = pair(&small());
    let to = a.to();
    for (first, second) in [(&[1_u8; 3][..], &[2_u8; 4][..]), (&[1; 300], &[2; 400])] {
        let empty = Piece { address: core::ptr::null(), length: 0 };
        let pieces = [Piece::new(first), empty, Piece::new(second)];
        // SAFETY: pieces of live slices, and one without bytes.
        assert_eq!(unsafe { a.local.put(to, 1, b"h", &pieces) }, Put::Done);
        assert_eq!(taken(&mut b.local), [(1, b"h".to_vec(), [first, second].concat())]);
    }
}

#[test]
fn buffers_run_out_and_come_back() {
    let (mut a, mut b) = pair(&small());
    for round in 0..100 {
        assert_eq!(a.put(1, b"", &[round; 800]), Put::Done);
        assert_eq!(a.put(1, b"", &[round; 801]), Put::Done);
        assert_eq!(a.put(1, b"", &[round; 802]), Put::Full, "two buffers");
        assert_eq!(a.put(2, b"", &[round; 8]), Put::Done, "there are slots");
        let lengths: Vec<_> = taken(&mut b.local).into_iter().map(|(_, _, payload)| payload.len()).collect();
        assert_eq!(lengths, [800, 801, 8]);
    }
}

#[test]
fn without_buffers_small_items_go() {
    let (mut a, mut b) = pair(&Options { buffers: 0, ..small() });
    assert_eq!(a.put(1, b"", &[1; 800]), Put::Full);
    assert_eq!(a.put(1, b"", &[1; 100]), Put::Done);
    assert_eq!(taken(&mut b.local).len(), 1);
}

#[test]
fn what_a_leaver_did_not_read_comes_back() {
    let (mut a, mut b) = pair(&small());
    assert_eq!(a.put(1, b"", &[1; 800]), Put::Done);
    assert_eq!(a.put(1, b"", &[2; 800]), Put::Done);
    a.local.leave(a.to());
    assert_eq!(a.put(1, b"", b""), Put::Gone);
    assert_eq!(b.put(1, b"", b""), Put::Gone, "its word is revoked");
    // The late reader sees nothing of it, and is not to blame for it.
    assert_eq!(taken(&mut b.local), []);
    assert_eq!(b.local.next_corrupt(), None);
    // The buffers serve the next neighbour.
    let mut c = Side::open(&small());
    a.begin(&c);
    c.begin(&a);
    a.is_up = false;
    meet(&mut a, &mut c);
    assert_eq!(a.put(1, b"", &[3; 800]), Put::Done);
    assert_eq!(a.put(1, b"", &[4; 800]), Put::Done);
    assert_eq!(taken(&mut c.local).len(), 2);
}

#[test]
fn a_taken_back_buffer_is_noticed_while_it_is_read() {
    let (mut a, mut b) = pair(&small());
    assert_eq!(a.put(1, b"", &[1; 800]), Put::Done);
    let mut items = 0;
    b.local.take(1, &mut |item| {
        let Payload::Foreign(foreign) = item.payload else { panic!("too long for a slot") };
        assert!(foreign.is_intact());
        a.local.leave(a.neighbour.expect("met"));
        assert!(!foreign.is_intact());
        items += 1;
    });
    assert_eq!(items, 1);
}

#[test]
fn late_items_of_a_former_neighbour_are_dropped() {
    let (mut a, mut b) = pair(&small());
    assert_eq!(a.put(1, b"former", b""), Put::Done);
    let number = b.to();
    b.local.leave(number);
    let mut c = Side::open_as(std::net::SocketAddr::from(([127, 0, 0, 0], a.name.port())), 3, &small());
    c.begin(&b);
    b.begin(&c);
    b.is_up = false;
    assert_eq!(b.to(), number, "the number is given again");
    meet(&mut c, &mut b);
    assert_eq!(c.put(1, b"present", b""), Put::Done);
    assert_eq!(taken(&mut b.local), [(1, b"present".to_vec(), vec![])]);
    assert_eq!(b.local.stats().corrupt, 0);
}

#[test]
fn they_can_meet_again() {
    let (mut a, mut b) = pair(&small());
    for round in 0..20 {
        a.local.leave(a.to());
        b.local.leave(b.to());
        (a.is_up, b.is_up) = (false, false);
        a.begin(&b);
        b.begin(&a);
        meet(&mut a, &mut b);
        assert_eq!(a.put(1, &[round], &[round; 900]), Put::Done);
        assert_eq!(taken(&mut b.local), [(1, vec![round], vec![round; 900])]);
    }
}

#[test]
fn who_closes_is_gone() {
    let (mut a, mut b) = pair(&small());
    b.local.close();
    assert_eq!(a.put(1, b"", b""), Put::Gone);
    assert_eq!(b.put(1, b"", b""), Put::Gone);
    assert_eq!(b.local.poll(), None);
}

#[test]
fn a_sleeper_is_to_be_woken() {
    let (mut a, mut b) = pair(&small());
    assert!(b.local.sleep());
    assert_eq!(a.put(1, b"", b""), Put::DoneWake);
    b.local.awake();
    assert_eq!(a.put(1, b"", b""), Put::Done);
    assert!(!b.local.sleep(), "there is something already");
    assert_eq!(a.put(1, b"", b""), Put::Done, "so it was not announced");
    assert_eq!(taken(&mut b.local).len(), 3);
    let mut alone = Side::open(&small());
    assert!(alone.local.sleep() && !alone.local.has_items());
}

#[test]
fn memory_comes_with_the_first_neighbour() {
    let mut a = Side::open(&Options::default());
    assert_eq!((a.local.memory(), a.local.buffer_size()), (0, 16 << 10));
    a.begin_with(common::name(), 1);
    assert!(a.local.memory() > 1 << 20);
    assert!(a.local.memory() < 2 << 20);
}

#[test]
fn impossible_sizes_are_refused() {
    for options in [
        Options { slots: 3, ..small() },
        Options { buffers: 5000, ..small() },
        Options { buffer_size: 1000, ..small() },
        Options { buffer_size: 64 << 10, dma: Dma::Memcpy, ..small() },
    ] {
        let error = rdgram_shm::Local::open(common::name(), 1, &options).expect_err("impossible");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
