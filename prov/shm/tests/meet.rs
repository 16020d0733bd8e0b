//! Two endpoints of one process meet, in every order, or learn why they do not.

mod common;

use std::net::SocketAddr;

use common::{Side, meet, name, pair, small, taken};
use rdgram_shm::{Event, Local, NEIGHBOURS_MAX, Put, Reason, Refusal, Unmet};

fn check_both_ways(a: &mut Side, b: &mut Side) {
    assert_eq!(a.put(3, b"header", b"payload"), Put::Done);
    assert_eq!(b.put(4, b"", b""), Put::Done);
    assert_eq!(taken(&mut b.local), [(3, b"header".to_vec(), b"payload".to_vec())]);
    assert_eq!(taken(&mut a.local), [(4, vec![], vec![])]);
    assert!(!a.local.is_meeting() && !b.local.is_meeting());
}

#[test]
fn the_smaller_name_begins() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    a.begin(&b);
    assert_eq!(a.settle(), []);
    let told = b.settle();
    assert_eq!(told, [Event::Stranger { name: a.name, incarnation: a.incarnation }]);
    assert_eq!(b.settle(), [], "told once");
    b.begin(&a);
    meet(&mut a, &mut b);
    check_both_ways(&mut a, &mut b);
}

#[test]
fn the_larger_name_begins() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    b.begin(&a);
    assert_eq!(b.settle(), []);
    assert_eq!(a.settle(), [], "the smaller name connects");
    a.begin(&b);
    meet(&mut a, &mut b);
    check_both_ways(&mut a, &mut b);
}

#[test]
fn both_begin_at_once() {
    let (mut a, mut b) = pair(&small());
    check_both_ways(&mut a, &mut b);
    let again = a.local.meet(b.name, b.incarnation).expect("met");
    assert_eq!(Some(again), a.neighbour, "meeting twice is meeting once");
    assert_eq!(a.local.poll(), None);
    assert!(matches!(a.local.meet(a.name, 1), Err(Unmet::Own)));
}

#[test]
fn names_of_both_families_meet() {
    let six = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, name().port()));
    let (mut a, mut b) = (Side::open(&small()), Side::open_as(six, 7, &small()));
    a.begin(&b);
    b.begin(&a);
    meet(&mut a, &mut b);
    check_both_ways(&mut a, &mut b);
}

#[test]
fn who_is_not_here_is_told() {
    let mut a = Side::open(&small());
    a.begin_with(SocketAddr::from(([127, 255, 255, 255], 1)), 1);
    assert_eq!(a.settle(), [Event::NotHere(a.to(), Reason::NoListener)]);
    assert_eq!(a.put(0, b"", b""), Put::Gone);
}

#[test]
fn a_name_is_taken_once() {
    let a = Side::open(&small());
    let again = Local::open(a.name, 1, &small()).expect_err("taken");
    assert_eq!(again.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn another_incarnation_is_refused() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    // It knows our former incarnation.
    a.begin_with(b.name, b.incarnation - 1);
    b.begin(&a);
    a.settle();
    assert_eq!(b.settle(), []);
    assert_eq!(a.settle(), [Event::NotHere(a.to(), Reason::Refused(Refusal::Incarnation))]);
    // It is older than the one we are to meet.
    let mut b = Side::open(&small());
    a.begin(&b);
    b.begin_with(a.name, a.incarnation + 1);
    a.settle();
    assert_eq!(b.settle(), []);
    assert_eq!(a.settle(), [Event::NotHere(a.to(), Reason::Refused(Refusal::Incarnation))]);
}

#[test]
fn a_newer_incarnation_waits_until_it_is_named() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    b.begin_with(a.name, a.incarnation - 1);
    let former = b.to();
    a.begin(&b);
    a.settle();
    assert_eq!(b.settle(), [Event::Stranger { name: a.name, incarnation: a.incarnation }]);
    b.local.leave(former);
    b.begin(&a);
    meet(&mut a, &mut b);
}

#[test]
fn who_closes_while_meeting_is_not_here() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    a.begin(&b);
    a.settle();
    b.local.close();
    assert_eq!(a.settle(), [Event::NotHere(a.to(), Reason::Refused(Refusal::Closed))]);
    a.begin(&b);
    assert_eq!(a.settle(), [Event::NotHere(a.to(), Reason::NoListener)], "nobody listens any more");
    assert!(matches!(b.local.meet(a.name, a.incarnation), Err(Unmet::Closed)));
    // The one that answered learns from the hang-up.
    let mut b = Side::open(&small());
    a.begin(&b);
    b.begin(&a);
    a.settle();
    assert_eq!(b.settle(), []);
    assert!(b.local.is_meeting());
    a.local.close();
    b.settle();
    b.local.take(1, &mut |_| {});
    assert_eq!(b.settle(), [Event::NotHere(b.to(), Reason::HungUp)]);
    assert!(!b.local.is_meeting());
}

#[test]
fn an_offer_that_hangs_up_is_forgotten() {
    let (mut a, mut b) = (Side::open(&small()), Side::open(&small()));
    a.begin(&b);
    a.settle();
    b.settle();
    a.local.leave(a.to());
    b.begin(&a);
    assert_eq!(b.settle(), []);
    // And the next one is answered.
    a.begin(&b);
    meet(&mut a, &mut b);
}

#[test]
fn a_full_fifo_delays_the_meeting_only() {
    let (mut a, mut b) = pair(&small());
    while a.put(1, b"", b"") == Put::Done {}
    let mut c = Side::open_as(SocketAddr::from(([127, 0, 0, 0], name().port())), 3, &small());
    c.begin(&b);
    let number = b.local.meet(c.name, c.incarnation).expect("begins");
    for _ in 0..3 {
        c.settle();
        b.settle();
    }
    assert!(!c.is_up, "its word found no room");
    assert_eq!(taken(&mut b.local).len(), 4);
    assert_eq!(c.settle(), [Event::Up(c.to())]);
    assert_eq!(taken(&mut b.local), []);
    assert_eq!(b.settle(), [Event::Up(number)]);
}

#[test]
fn there_are_as_many_neighbours_as_numbers() {
    let mut b = Side::open_as(SocketAddr::from(([127, 255, 255, 1], name().port())), 1, &small());
    let others: Vec<_> =
        (0..NEIGHBOURS_MAX).map(|_| b.local.meet(name(), 1).expect("a number is free")).collect();
    assert!(matches!(b.local.meet(name(), 1), Err(Unmet::TooMany)));
    b.local.leave(others[500]);
    assert_eq!(b.local.meet(name(), 1).expect("one is free again"), others[500]);
}
