//! The provider's own traffic: every datagram is recognised and shown as it is, trains and bundles are walked, and all that was counted was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rdgram_wire::{Flags, Kind, Llp, Packet};

use crate::capture::{self, Frame};
use crate::counters::{Counters, dropped};
use crate::expected::{Expected, WITHOUT_VALUE};
use crate::tshark::{Shown, Tshark};

/// Opcodes that the programs must have caused: RDMA Write, Read Response, Extended Send, Control, Extended Write, Extended Request.
const OPCODES: [&str; 6] = ["0", "2", "12", "13", "14", "15"];
/// The fields of a segment's DDP header, here and in Wireshark's own dissector.
const IWARP: [(&str, &str); 7] = [
    ("rdgram.opcode", "iwarp_rdma.opcode"),
    ("rdgram.ddp.tagged", "iwarp_ddp.tagged_flag"),
    ("rdgram.ddp.last", "iwarp_ddp.last_flag"),
    ("rdgram.ddp.stag", "iwarp_ddp.stag"),
    ("rdgram.ddp.offset", "iwarp_ddp.tagged_offset"),
    ("rdgram.ddp.queue", "iwarp_ddp.qn"),
    ("rdgram.ddp.msn", "iwarp_ddp.msn"),
];

/// What one endpoint was seen to send.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    datagrams: u64,
    bytes: u64,
    retransmitted: u64,
    bundles: u64,
}

impl Seen {
    /// One more datagram.
    fn add(&mut self, kind: Kind, flags: Flags, length: u16) {
        // An endpoint prints its counters before its last word.
        if kind == Kind::Close {
            return;
        }
        let again = flags.contains(Flags::RETX);
        self.datagrams += 1;
        self.bytes += u64::from(length);
        self.retransmitted += u64::from(again);
        // A bundle is counted when it is made, however often it is sent.
        self.bundles += u64::from(kind == Kind::Bundle && !again);
    }
}

/// Judges a capture. Says what was in it.
pub(crate) fn judge(tshark: &Tshark, capture: &Path, log: &Path) -> Result<String> {
    let log = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let frames = capture::read(capture)?;
    ensure!(!frames.is_empty(), "nothing was captured");
    // The payload would be most of what tshark prints.
    let fields = tshark.fields()?;
    let own = fields.iter().map(String::as_str).filter(|name| *name != "rdgram.payload");
    let asked: Vec<&str> = own.chain(IWARP.iter().map(|(_, theirs)| *theirs)).collect();
    let shown = tshark.show(capture, &["-o".to_owned(), "rdgram.iwarp:all".to_owned()], &asked)?;
    ensure!(shown.len() == frames.len(), "{} packets captured, {} shown", frames.len(), shown.len());
    let mut seen: BTreeMap<SocketAddr, Seen> = BTreeMap::new();
    let mut opcodes: BTreeSet<String> = BTreeSet::new();
    let (mut datagrams, mut items, mut longest) = (0, 0, 0);
    for (number, (frame, shown)) in frames.iter().zip(&shown).enumerate() {
        let count = packet(frame, shown, seen.entry(frame.source).or_default())
            .with_context(|| format!("packet {}", number + 1))?;
        datagrams += count;
        longest = longest.max(count);
        items += shown.values("rdgram.item_length").len();
        opcodes.extend(shown.values("rdgram.opcode").iter().cloned());
    }
    let missed = dropped(&log).context("dumpcap does not say what it missed")?;
    if missed == 0 {
        compare(&seen, &Counters::of(&log))?;
    }
    let bundles: u64 = seen.values().map(|seen| seen.bundles).sum();
    let missing: Vec<&str> = OPCODES.into_iter().filter(|opcode| !opcodes.contains(*opcode)).collect();
    ensure!(missing.is_empty(), "no segment with opcode {}", missing.join(", "));
    ensure!(datagrams > frames.len(), "no train among {datagrams} datagrams");
    ensure!(items as u64 > bundles, "no bundle of several messages: {items} items in {bundles}");
    Ok(format!(
        "{} packets, {datagrams} datagrams, trains of up to {longest}, {items} messages in {bundles} bundles, {} endpoints{}",
        frames.len(),
        seen.len(),
        if missed == 0 {
            String::new()
        } else {
            format!(", counters not compared: {missed} packets not captured")
        }
    ))
}

/// One captured packet: what is shown is what its bytes say. Returns how many datagrams it holds.
fn packet(frame: &Frame, shown: &Shown, seen: &mut Seen) -> Result<usize> {
    ensure!(shown.recognised, "not recognised");
    ensure!(shown.malformed == 0, "shown as malformed");
    let mut expected = Expected::default();
    let mut count = 0;
    let mut rest = frame.payload.as_slice();
    while !rest.is_empty() {
        let length = Llp::decode(rest)?.length;
        let Some((datagram, after)) = rest.split_at_checked(length.into()) else {
            bail!("a datagram of {length} bytes where {} are left", rest.len())
        };
        let packet = Packet::decode(datagram)?;
        expected.add(datagram, &packet);
        count += 1;
        seen.add(packet.llp.kind, packet.llp.flags, length);
        rest = after;
    }
    same(&expected, shown, |name| name != "rdgram.payload")?;
    for (ours, theirs) in IWARP {
        let (ours, theirs) = (shown.values(ours), shown.values(theirs));
        ensure!(ours == theirs, "Wireshark's own dissector shows {theirs:?} for {ours:?}");
    }
    let train: Vec<String> = if count > 1 { vec![count.to_string()] } else { Vec::new() };
    ensure!(shown.values("rdgram.train.datagrams") == train, "{count} datagrams, but not so shown");
    Ok(count)
}

/// Every field that the dissector has, except where it has more to show than the wire crate keeps.
pub(crate) fn same(expected: &Expected, shown: &Shown, with: impl Fn(&str) -> bool) -> Result<()> {
    for (name, values) in shown.fields.iter().filter(|(name, _)| name.starts_with("rdgram.")) {
        if !with(name) || WITHOUT_VALUE.contains(&name.as_str()) {
            continue;
        }
        let wanted = expected.values(name);
        ensure!(values == wanted, "{name}: {values:?} shown, {wanted:?} there");
    }
    Ok(())
}

/// What was seen of each endpoint is what it counted.
fn compare(seen: &BTreeMap<SocketAddr, Seen>, counters: &Counters) -> Result<()> {
    ensure!(!counters.0.is_empty(), "no endpoint printed its counters");
    for (address, counted) in &counters.0 {
        let of = |name: &str| counted.get(name).copied().unwrap_or_default();
        let counted = Seen {
            datagrams: of("tx_datagrams"),
            bytes: of("tx_bytes"),
            retransmitted: of("tx_retransmitted"),
            bundles: of("tx_bundles"),
        };
        let nothing = Seen::default();
        let seen = seen.get(address).unwrap_or(&nothing);
        ensure!(*seen == counted, "{address} counted {counted:?}, but {seen:?} was seen");
    }
    if let Some(stranger) = seen.keys().find(|address| !counters.0.contains_key(address)) {
        bail!("{stranger} sent, but printed no counters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_sent_again_is_one_bundle_in_two_datagrams() {
        let mut seen = Seen::default();
        seen.add(Kind::Bundle, Flags::empty(), 100);
        seen.add(Kind::Bundle, Flags::RETX, 100);
        seen.add(Kind::Close, Flags::empty(), 40);
        assert_eq!(seen, Seen { datagrams: 2, bytes: 200, retransmitted: 1, bundles: 1 });
    }
}
