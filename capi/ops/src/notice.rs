//! What the user is told of endpoints, on stderr: what the engine noticed, what the socket dropped, and the counters of `FI_RDGRAM_STATS=1`.
//!
//! Responsible for the words: each line says what is wrong and what to do about it. Must never say that something is wrong which may be well without saying so.

use std::io::Write as _;

use rdgram_engine::{Datapath as _, EpId, Notice, NoticeKind};
use rdgram_host::HostDatapath;

use crate::domain::Engine;
use crate::log;
use crate::param::settings;

/// Silent peers that a process names. If there are more, these few say it all.
const SILENT_MAX: usize = 4;
/// Reasons for not sharing memory that a process gives.
const LOCAL_WARNINGS_MAX: usize = 4;
/// Datagrams dropped for want of room until the user is told. Fewer cost nothing that anybody would notice.
const DROPPED_MIN: u32 = 100;

/// The counter that the socket keeps, not the engine.
pub(crate) const DROPPED_COUNTER: &str = "rx_dropped";

/// Tells of what the engine noticed.
pub(crate) fn tell(notice: &Notice) {
    let text = words(notice, settings().peer_timeout.as_secs());
    match notice.kind {
        NoticeKind::Silent { peer, .. } => {
            log::warn_few("silent ", SILENT_MAX, &format!("{} {peer}", notice.local), &text);
        }
        NoticeKind::OtherVersion { .. } | NoticeKind::MemoryFull { .. } => log::warn_once(&text, &text),
    }
}

fn words(notice: &Notice, peer_timeout_s: u64) -> String {
    let local = notice.local;
    match notice.kind {
        NoticeKind::Silent { peer, heard: false } => format!(
            "{local} has had no answer from {peer} for 10 s: check that its process runs and makes progress, that both hosts use the same network \
             (FI_RDGRAM_IFACE), and that UDP passes every firewall in both directions (FI_RDGRAM_PORT_RANGE)"
        ),
        NoticeKind::Silent { peer, heard: true } => format!(
            "{local} waits for {peer}, which has not answered for 10 s: it may only be computing, which is no error, or be stopped, or be cut off: \
             check its process, its interface and the firewall; what is sent to it fails when not acknowledged for {peer_timeout_s} s (FI_RDGRAM_PEER_TIMEOUT)"
        ),
        NoticeKind::OtherVersion { source } => format!(
            "{local} received packets of another version of the rdgram protocol from {source}: use the same release on all hosts"
        ),
        NoticeKind::MemoryFull { ceiling } => format!(
            "{local} has reached the ceiling of its memory, {ceiling} bytes, and refuses operations: complete operations before more are begun, \
             or raise FI_RDGRAM_MEMORY_CEILING"
        ),
    }
}

/// What an endpoint that closes has to say: its counters, when they were asked for, and what its receive buffer was too small for.
pub(crate) fn tell_end(engine: &Engine, id: EpId) {
    let datapath = engine.ep_datapath(id);
    if settings().stats {
        print_counters(engine, id, datapath);
    }
    let dropped = datapath.dropped();
    if let (true, Some((wanted, got))) = (dropped >= DROPPED_MIN, datapath.receive_buffer_short()) {
        let text = format!(
            "{} lost {dropped} datagrams because its socket's receive buffer was full, and they had to be sent again: it has {got} bytes instead of \
             {wanted}: raise the limit on this host (sysctl -w net.core.rmem_max={wanted})",
            datapath.local_address()
        );
        log::warn_once("receive buffer", &text);
    }
}

/// `FI_RDGRAM_STATS=1`: one line per counter.
fn print_counters(engine: &Engine, id: EpId, datapath: &HostDatapath) {
    let name = datapath.local_address();
    let stats = engine.ep_stats(id);
    let dropped = (DROPPED_COUNTER, datapath.dropped().into());
    let mut text = String::new();
    let local = engine.ep_local_stats(id).rows();
    for (counter, value) in stats.rows().into_iter().chain(local).chain([dropped]) {
        text.push_str(&format!("rdgram: {name} {counter} {value}\n"));
    }
    // A closed stderr is the user's choice.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Why memory is not shared with endpoints of this host: on stderr when the user can do something about it.
pub(crate) fn explain_local(remedy: bool, text: &str) {
    if remedy {
        log::warn_few("local", LOCAL_WARNINGS_MAX, text, text);
    } else {
        log::log(log::Level::Info, log::Subsystem::Core, c"local", format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_names_both_sides_and_the_remedy() {
        let local = "10.0.0.1:7000".parse().expect("an address");
        let peer = "10.0.0.2:8000".parse().expect("an address");
        let cases: [(NoticeKind, &[&str]); 4] = [
            (
                NoticeKind::Silent { peer, heard: false },
                &["10.0.0.2:8000", "10 s", "FI_RDGRAM_IFACE", "firewall", "FI_RDGRAM_PORT_RANGE"],
            ),
            (
                NoticeKind::Silent { peer, heard: true },
                &["10.0.0.2:8000", "10 s", "computing, which is no error", "900 s (FI_RDGRAM_PEER_TIMEOUT)"],
            ),
            (NoticeKind::OtherVersion { source: peer }, &["10.0.0.2:8000", "version", "same release"]),
            (NoticeKind::MemoryFull { ceiling: 77 }, &["77 bytes", "FI_RDGRAM_MEMORY_CEILING"]),
        ];
        for (kind, parts) in cases {
            let text = words(&Notice { local, kind }, 900);
            assert!(text.contains("10.0.0.1:7000") && !text.contains("  "), "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
