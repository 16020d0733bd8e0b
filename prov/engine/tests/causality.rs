//! The order in which an application hears of its own operations and of what others do after them.

mod common;

use common::*;
use rdgram_engine::*;

const ANY: FiAddr = FiAddr::UNSPEC;

#[test]
fn a_send_completes_before_the_answer_that_acknowledges_it() {
    let net = net();
    let (mut a, mut b) = (Node::new(&net, 1), Node::new(&net, 2));
    let (to_b, to_a) = (a.knows(&b), b.knows(&a));
    let (mut at_a, mut at_b) = ([0_u8; 8], [0_u8; 8]);
    // Until both know each other's context.
    b.recv(ANY, &mut at_b, None, 0);
    a.send(to_b, b"question", None, 0);
    settle(&mut [&mut a, &mut b]);
    a.all();
    b.all();

    a.recv(ANY, &mut at_a, None, 1);
    b.recv(ANY, &mut at_b, None, 2);
    a.send(to_b, b"question", None, 3);
    a.domain.progress();
    // The acknowledgement by itself is lost: the answer carries it too.
    a.lose_nth(1);
    b.domain.progress();
    b.send(to_a, b"answered", None, 4);
    b.domain.progress();
    a.domain.progress();
    let heard: Vec<usize> = a.all().into_iter().map(|end| end.expect("no failure").context).collect();
    assert_eq!(heard, [3, 1], "its own send, then the answer");
}
