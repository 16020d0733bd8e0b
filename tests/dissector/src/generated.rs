//! Packets of every kind, also of those that no program here causes: all fields are shown with their values.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, ensure};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rdgram_wire::{Flags, Llp, Packet};

use crate::capture::Written;
use crate::expected::{Expected, WITHOUT_VALUE, integrity};
use crate::strategies::datagrams;
use crate::traffic::same;
use crate::tshark::Tshark;

/// So many datagrams, always the same ones, with the right integrity field.
pub(crate) fn packets(count: usize) -> Result<Vec<Vec<u8>>> {
    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| {
            let drawn = datagrams().new_tree(&mut runner).map_err(|reason| anyhow!("{reason}"))?.current();
            let mut bytes = drawn.encode();
            sign(&mut bytes)?;
            Ok(bytes)
        })
        .collect()
}

fn sign(bytes: &mut [u8]) -> Result<()> {
    let packet = Packet::decode(bytes)?;
    let covered = if packet.llp.flags.contains(Flags::FULL) { bytes.len() } else { packet.headers };
    let integrity = integrity(&bytes[..covered]);
    bytes[Llp::INTEGRITY_OFFSET..][..4].copy_from_slice(&integrity.to_be_bytes());
    Ok(())
}

/// Every packet is recognised without being told, and every field of the dissector appears.
pub(crate) fn judge(tshark: &Tshark, count: usize) -> Result<String> {
    let datagrams = packets(count)?;
    let fields = tshark.fields()?;
    let asked: Vec<&str> = fields.iter().map(String::as_str).collect();
    let capture = Written::new(tshark.scratch(), &datagrams, |_, length| length)?;
    let shown = tshark.show(capture.path(), &[], &asked)?;
    ensure!(shown.len() == count, "{count} packets, {} shown", shown.len());
    let mut used: BTreeSet<&str> = WITHOUT_VALUE.iter().copied().collect();
    for (number, (datagram, shown)) in datagrams.iter().zip(&shown).enumerate() {
        let packet = Packet::decode(datagram)?;
        let describe = || format!("packet {}, {packet}", number + 1);
        ensure!(shown.recognised && shown.malformed == 0, "not recognised, or malformed: {}", describe());
        let mut expected = Expected::default();
        expected.add(datagram, &packet);
        same(&expected, shown, |_| true).with_context(describe)?;
        used.extend(expected.fields.keys());
    }
    let unused: Vec<&&str> = asked.iter().filter(|name| !used.contains(*name)).collect();
    ensure!(unused.is_empty(), "fields that no packet has: {unused:?}");
    Ok(format!("{count} packets, {} fields", asked.len()))
}
