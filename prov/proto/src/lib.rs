//! The transport context of rdgram as a value: windows, acknowledgements, loss detection, RTT, congestion control, credits, path MTU, death of peers.
//!
//! Sans-IO: no clock, no socket, and no payload byte ever enters. The engine drives a [`Context`] per peer in this order:
//!
//! 1. for each packet received: [`Context::on_packet`], then by its verdict the kind-specific `on_*`, then [`Context::poll_event`] until empty;
//! 2. [`Context::on_timeout`] when [`Context::next_timeout`] has passed;
//! 3. while it has something to say: [`Context::poll_retransmit`], [`Context::poll_probe`], [`Context::send`] for as long as [`Context::can_send`];
//! 4. [`Context::ack_need`] says whether an acknowledgement is due that nothing in 3 carried: [`Context::ack`].
