//! Damaged packets, captures that were cut, and traffic of others: nothing makes the dissector fail, what an endpoint would drop is shown as malformed,
//! what it would take is not, and what is not ours is left alone.

use anyhow::{Context as _, Result, bail, ensure};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::RngCore as _;
use rdgram_wire::{Ack, Bundle, Control, Flags, Kind, Llp, Malformed, Packet, SACK_WORDS, Segment};

use crate::capture::{PORT, Written};
use crate::datagram::fix_length;
use crate::expected::Expected;
use crate::generated::packets;
use crate::traffic::same;
use crate::tshark::{Shown, Tshark};

/// Different packets that damage is done to.
const WHOLE: usize = 500;
/// The headers, and some of what follows.
const NEAR: usize = 140;

/// See the module.
pub(crate) fn judge(tshark: &Tshark, count: usize, seed: u64) -> Result<String> {
    let mut dice = Dice(Pcg64Mcg::new(u128::from(seed) << 1 | 1));
    let whole = packets(WHOLE)?;
    let mut damaged: Vec<Vec<u8>> = (0..count).map(|_| damage(&whole, &mut dice)).collect();
    damaged.extend(excesses());
    let count = damaged.len();
    let refused = verdicts(tshark, &damaged)?;
    ensure!(
        refused > 0 && refused < count,
        "{refused} of {count} packets are malformed: the damage proves nothing"
    );
    cut(tshark, &damaged, &mut dice)?;
    strangers(tshark, &whole, &mut dice)?;
    Ok(format!("seed {seed}: {count} damaged packets, {refused} of them malformed"))
}

/// Told that it is rdgram's, tshark judges every packet as an endpoint does.
fn verdicts(tshark: &Tshark, damaged: &[Vec<u8>]) -> Result<usize> {
    let fields = tshark.fields()?;
    let asked: Vec<&str> = fields.iter().map(String::as_str).collect();
    let capture = Written::new(tshark.scratch(), damaged, |_, length| length)?;
    let shown = tshark.show(capture.path(), &decode_as(), &asked)?;
    ensure!(shown.len() == damaged.len(), "{} packets, {} shown", damaged.len(), shown.len());
    let mut refused = 0;
    for (number, (bytes, shown)) in damaged.iter().zip(&shown).enumerate() {
        let verdict = verdict(bytes, shown);
        refused += usize::from(verdict.with_context(|| format!("packet {}: {bytes:02x?}", number + 1))?);
    }
    Ok(refused)
}

/// Whether an endpoint would drop it.
fn verdict(bytes: &[u8], shown: &Shown) -> Result<bool> {
    match Packet::decode(bytes) {
        Ok(packet) => {
            let mut expected = Expected::default();
            expected.add(bytes, &packet);
            ensure!(
                shown.malformed == expected.malformed_items,
                "{} segments are malformed, {} are shown so: {packet}",
                expected.malformed_items,
                shown.malformed
            );
            // What is left of a malformed item is shown, and an endpoint keeps nothing of it.
            if expected.malformed_items == 0 {
                // That of READ and control messages is ignored, whatever it is.
                same(&expected, shown, |name| name != "rdgram.ddp.msn")
                    .with_context(|| packet.to_string())?;
            }
            Ok(expected.malformed_items > 0)
        }
        // Not wrong, but not for this version of the dissector.
        Err(Malformed::Version(_)) => Ok(true),
        Err(fault) => {
            ensure!(shown.malformed > 0, "malformed, and not shown so: {fault}");
            Ok(true)
        }
    }
}

/// A capture that keeps only the beginning of packets is nobody's fault.
fn cut(tshark: &Tshark, damaged: &[Vec<u8>], dice: &mut Dice) -> Result<()> {
    let kept: Vec<usize> = damaged.iter().map(|bytes| dice.below(bytes.len() + 80)).collect();
    let capture = Written::new(tshark.scratch(), damaged, |number, length| length.min(kept[number].max(1)))?;
    tshark.show(capture.path(), &decode_as(), &["rdgram.psn"])?;
    let whole = packets(WHOLE)?;
    let capture = Written::new(tshark.scratch(), &whole, |number, length| length.min(kept[number].max(82)))?;
    let shown = tshark.show(capture.path(), &[], &["rdgram.psn"])?;
    for (number, shown) in shown.iter().enumerate() {
        ensure!(shown.recognised, "packet {} of a capture that was cut is not recognised", number + 1);
        ensure!(
            shown.malformed == 0,
            "packet {} was cut by the capture and is shown as malformed",
            number + 1
        );
    }
    Ok(())
}

/// One more of each than there may be. Chance does not find these.
fn excesses() -> [Vec<u8>; 2] {
    let header = |kind, flags| {
        let mut bytes = vec![0; Llp::LENGTH];
        Llp { dst_ctx: 1, flags, ..Llp::new(kind) }.encode(&mut bytes);
        bytes
    };
    let nop = Segment::Control(Control::Nop);
    let mut item = vec![0; nop.encoded_length()];
    nop.encode(&mut item);
    let mut bundle = header(Kind::Bundle, Flags::FULL);
    for _ in 0..=Bundle::ITEMS_MAX {
        bundle.extend(u16::try_from(item.len()).unwrap_or_default().to_be_bytes());
        bundle.extend_from_slice(&item);
    }
    let words = u16::try_from(SACK_WORDS).unwrap_or_default() + 1;
    let mut ack = header(Kind::Ack, Flags::ACKED);
    ack.extend([0; 8]);
    ack.extend(words.to_be_bytes());
    ack.resize(Llp::LENGTH + Ack::HEADER_LENGTH + 8 * usize::from(words), 0);
    [bundle, ack].map(|mut bytes| {
        fix_length(&mut bytes);
        bytes
    })
}

/// Not told, the dissector leaves alone what others send: any bytes, some that begin as ours do, and our packets with what none of ours has.
fn strangers(tshark: &Tshark, whole: &[Vec<u8>], dice: &mut Dice) -> Result<()> {
    let mut foreign: Vec<Vec<u8>> = (0..2 * whole.len())
        .map(|_| {
            let mut bytes: Vec<u8> = (0..1 + dice.below(200)).map(|_| dice.byte()).collect();
            if dice.below(2) == 0 {
                bytes[0] = 0x11;
                fix_length(&mut bytes);
            }
            bytes
        })
        .collect();
    for ours in whole {
        let mut other = |change: fn(&mut Vec<u8>)| {
            let mut bytes = ours.clone();
            change(&mut bytes);
            foreign.push(bytes);
        };
        other(|bytes| bytes.push(0));
        other(|bytes| bytes[1] |= 0x40);
        other(|bytes| bytes[11] = 1);
        if ours[0] & 0x0F != Kind::Reset as u8 {
            other(|bytes| bytes[0] += 0x10);
        }
    }
    let capture = Written::new(tshark.scratch(), &foreign, |_, length| length)?;
    let shown = tshark.show(capture.path(), &[], &["rdgram.psn"])?;
    ensure!(shown.len() == foreign.len(), "{} packets, {} shown", foreign.len(), shown.len());
    if let Some((bytes, _)) = foreign.iter().zip(&shown).find(|(_, shown)| shown.recognised) {
        bail!("taken for rdgram's, and nobody said so: {bytes:02x?}");
    }
    Ok(())
}

fn decode_as() -> Vec<String> {
    vec!["-d".to_owned(), format!("udp.port=={PORT},rdgram")]
}

/// One packet with something done to it.
fn damage(whole: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = whole[dice.below(whole.len())].clone();
    for _ in 0..=dice.below(3) {
        let near = bytes.len().min(NEAR);
        match dice.below(7) {
            0 if near > 0 => bytes[dice.below(near)] ^= 1 << dice.below(8),
            1 if near > 0 => bytes[dice.below(near)] = dice.byte(),
            2 if near > 0 => bytes[dice.below(near)] = [0, 1, 0x7F, 0x80, 0xFF][dice.below(5)],
            3 => bytes.truncate(1 + dice.below(bytes.len().max(1))),
            4 => bytes.extend((0..dice.below(40)).map(|_| dice.byte())),
            5 => {
                let other = &whole[dice.below(whole.len())];
                let at = dice.below(near.min(other.len()));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at..]);
            }
            _ if near > 4 => bytes[2..near].rotate_left(dice.below(3)),
            _ => {}
        }
    }
    // Else nearly all would be found out by their length.
    if dice.below(4) > 0 {
        fix_length(&mut bytes);
    }
    if bytes.is_empty() { vec![0] } else { bytes }
}

struct Dice(Pcg64Mcg);

impl Dice {
    fn byte(&mut self) -> u8 {
        self.0.next_u64().to_le_bytes()[7]
    }

    /// Less than `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.0.next_u64() % bound).unwrap_or_default()
    }
}
