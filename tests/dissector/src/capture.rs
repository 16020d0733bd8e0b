//! Capture files: datagrams out of one, and into one. Must never look into a datagram.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};

/// The UDP ports of datagrams that are written. Nobody else's in tshark.
pub(crate) const PORT: u16 = 20_001;

/// What one captured packet carries.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Where it came from.
    pub(crate) source: SocketAddr,
    /// The UDP payload.
    pub(crate) payload: Vec<u8>,
}

/// All packets of a capture by dumpcap, which holds nothing but whole UDP packets on Ethernet.
pub(crate) fn read(path: &Path) -> Result<Vec<Frame>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = PcapNgReader::new(file)?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) if interface.linktype != DataLink::ETHERNET => {
                bail!("captured on an interface of type {:?}", interface.linktype)
            }
            Block::EnhancedPacket(packet) => {
                if packet.original_len as usize != packet.data.len() {
                    bail!("packet {} was not captured whole", frames.len() + 1);
                }
                let frame = frame(&packet.data).with_context(|| format!("packet {}", frames.len() + 1))?;
                frames.push(frame);
            }
            _ => {}
        }
    }
    Ok(frames)
}

fn frame(bytes: &[u8]) -> Result<Frame> {
    let packet = SlicedPacket::from_ethernet(bytes)?;
    let source: IpAddr = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => ip.header().source_addr().into(),
        Some(NetSlice::Ipv6(ip)) => ip.header().source_addr().into(),
        _ => bail!("not IP"),
    };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { bail!("not UDP") };
    Ok(Frame { source: SocketAddr::new(source, udp.source_port()), payload: udp.payload().to_vec() })
}

/// A capture that is removed with its value.
#[derive(Debug)]
pub(crate) struct Written(PathBuf);

impl Written {
    /// Writes datagrams as packets between two ports, the n-th not longer than `kept` says.
    pub(crate) fn new(
        dir: &Path,
        datagrams: &[Vec<u8>],
        kept: impl Fn(usize, usize) -> usize,
    ) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join(format!("datagrams-{}.pcap", std::process::id()));
        let written = Self(path);
        let file = BufWriter::new(File::create(&written.0)?);
        let header = PcapHeader { datalink: DataLink::ETHERNET, snaplen: 1 << 18, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(file, header)?;
        for (number, datagram) in datagrams.iter().enumerate() {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(PORT, PORT + 1);
            let mut bytes = Vec::with_capacity(builder.size(datagram.len()));
            builder.write(&mut bytes, datagram)?;
            let length = u32::try_from(bytes.len())?;
            bytes.truncate(kept(number, bytes.len()));
            writer.write_packet(&PcapPacket::new(Duration::from_millis(number as u64), length, &bytes))?;
        }
        Ok(written)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What cannot be removed is not there.
        let _ = fs::remove_file(&self.0);
    }
}
