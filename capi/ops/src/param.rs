//! Parameters: the FI_RDGRAM_* environment variables, their defaults and their words.
//!
//! Responsible for the one table of them, for defining them with libfabric (`fi_info -e` lists them) and for reading them once. A value that makes no sense is
//! reported in one line and its default used. Must never change a setting after the first use.

use core::ffi::{CStr, c_char, c_void};
use std::ffi::CString;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use rdgram_engine::{Direct, EpConfig};
use rdgram_host::Dma;
use rdgram_sys as sys;

use crate::{log, provider};

/// Who makes progress, as the user decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A thread of ours when the application asked for FI_PROGRESS_AUTO.
    #[default]
    AsAsked,
    /// A thread in every domain.
    Auto,
    /// The application, whatever it asked for.
    Manual,
}

/// What the user may set, read once per process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Name or address of the only interface to use.
    pub(crate) interface: Option<String>,
    /// UDP ports of endpoints, first and last.
    pub(crate) port_range: Option<(u16, u16)>,
    /// Receive buffer of each socket, bytes.
    pub(crate) receive_buffer: usize,
    /// Send buffer of each socket, bytes.
    pub(crate) send_buffer: usize,
    /// Silence of a peer, while it is asked, that ends its operations in an error.
    pub(crate) peer_timeout: Duration,
    /// Largest message sent without asking first, bytes.
    pub(crate) eager_max: usize,
    /// Payload of unexpected messages that an endpoint keeps, bytes.
    pub(crate) unexpected_pool: usize,
    /// Ceiling of an endpoint's memory, bytes.
    pub(crate) memory_ceiling: usize,
    /// The checksum covers the payload too.
    pub(crate) full_integrity: bool,
    /// Small messages to one peer share datagrams.
    pub(crate) aggregation: bool,
    /// Whether the kernel puts payload straight to its final address.
    pub(crate) direct: Direct,
    /// Endpoints of one host share memory.
    pub(crate) local: bool,
    /// How long messages move in it.
    pub(crate) dma: Dma,
    /// Hand the kernel trains of datagrams (GSO).
    pub(crate) segmentation: bool,
    /// Let the kernel hand over trains of datagrams (GRO).
    pub(crate) coalescing: bool,
    /// Silence of all peers that ends the wait of a closing endpoint for what it injected.
    pub(crate) linger: Duration,
    /// Whether domains have a progress thread.
    pub(crate) progress: Progress,
    /// Print the counters of an endpoint when it closes.
    pub(crate) stats: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let engine = EpConfig::default();
        Self {
            interface: None,
            port_range: None,
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            peer_timeout: Duration::from_secs(15 * 60),
            eager_max: engine.eager_max,
            unexpected_pool: engine.unexpected_pool,
            memory_ceiling: engine.memory_ceiling,
            full_integrity: engine.full_integrity,
            aggregation: engine.bundles,
            direct: engine.direct,
            local: true,
            dma: Dma::Auto,
            segmentation: true,
            coalescing: true,
            linger: Duration::from_secs(15 * 60),
            progress: Progress::AsAsked,
            stats: false,
        }
    }
}

/// Largest socket buffer that is asked for, bytes; the kernel doubles it and counts in an int.
const SOCKET_BUFFER_MAX: usize = 1 << 30;
/// Largest `FI_RDGRAM_EAGER_MAX`, bytes: an eager message occupies the receiver unasked.
const EAGER_LIMIT: usize = 1 << 20;
/// Longest `FI_RDGRAM_PEER_TIMEOUT`, seconds: a day.
const PEER_TIMEOUT_MAX_S: usize = 24 * 60 * 60;

/// One parameter: how it is named, explained and taken into the settings. `take` says whether the value makes sense.
struct Parameter {
    name: &'static CStr,
    accepts: &'static str,
    help: &'static str,
    default: fn(&Settings) -> String,
    take: fn(&mut Settings, &str) -> bool,
}

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: c"iface",
        accepts: "the name or the address of an interface, such as eth0 or 10.0.0.1",
        help: "The only network interface to use",
        default: |_| "chosen by the route to the peer".to_owned(),
        take: |settings, text| {
            settings.interface = Some(text.to_owned());
            true
        },
    },
    Parameter {
        name: c"port_range",
        accepts: "two port numbers from 1 to 65535 in ascending order, such as 20000-20999",
        help: "UDP ports that endpoints are bound to, one each; to be opened in firewalls and security groups",
        default: |_| "any free port".to_owned(),
        take: |settings, text| put(&mut settings.port_range, range(text).map(Some)),
    },
    Parameter {
        name: c"rcvbuf",
        accepts: "bytes from 4096 to 1g, with k, m or g",
        help: "Receive buffer of each endpoint's socket; beyond net.core.rmem_max it needs CAP_NET_ADMIN",
        default: |settings| settings.receive_buffer.to_string(),
        take: |settings, text| put(&mut settings.receive_buffer, size(text, 4096, SOCKET_BUFFER_MAX)),
    },
    Parameter {
        name: c"sndbuf",
        accepts: "bytes from 4096 to 1g, with k, m or g",
        help: "Send buffer of each endpoint's socket; beyond net.core.wmem_max it needs CAP_NET_ADMIN",
        default: |settings| settings.send_buffer.to_string(),
        take: |settings, text| put(&mut settings.send_buffer, size(text, 4096, SOCKET_BUFFER_MAX)),
    },
    Parameter {
        name: c"peer_timeout",
        accepts: "seconds from 1 to 86400",
        help: "How long a peer may leave unacknowledged what is sent to it before operations with it fail; \
               a process that computes outside of MPI is silent and healthy, and who only receives from it waits for ever",
        default: |settings| settings.peer_timeout.as_secs().to_string(),
        take: |settings, text| {
            let seconds = size(text, 1, PEER_TIMEOUT_MAX_S).and_then(|seconds| u64::try_from(seconds).ok());
            put(&mut settings.peer_timeout, seconds.map(Duration::from_secs))
        },
    },
    Parameter {
        name: c"eager_max",
        accepts: "bytes from 0 to 1m, with k or m",
        help: "Largest message that is sent without asking the receiver first",
        default: |settings| settings.eager_max.to_string(),
        take: |settings, text| put(&mut settings.eager_max, size(text, 0, EAGER_LIMIT)),
    },
    Parameter {
        name: c"unexpected_pool",
        accepts: "bytes from 64k, with k, m or g",
        help: "Payload of messages without a matching receive that an endpoint keeps; the rest stays at the senders",
        default: |settings| settings.unexpected_pool.to_string(),
        take: |settings, text| {
            put(&mut settings.unexpected_pool, size(text, 64 << 10, isize::MAX.unsigned_abs()))
        },
    },
    Parameter {
        name: c"memory_ceiling",
        accepts: "bytes from 1m, with k, m or g",
        help: "Ceiling of an endpoint's memory; beyond it operations fail with a message",
        default: |settings| settings.memory_ceiling.to_string(),
        take: |settings, text| {
            put(&mut settings.memory_ceiling, size(text, 1 << 20, isize::MAX.unsigned_abs()))
        },
    },
    Parameter {
        name: c"integrity",
        accepts: "header or full",
        help: "What the checksum of a packet covers: its headers, or the payload too",
        default: |settings| if settings.full_integrity { "full" } else { "header" }.to_owned(),
        take: |settings, text| {
            let full = match text {
                "header" => Some(false),
                "full" => Some(true),
                _ => None,
            };
            put(&mut settings.full_integrity, full)
        },
    },
    Parameter {
        name: c"aggregate",
        accepts: "0 or 1",
        help: "Let small messages to one peer share a datagram: those that wait, and those of a burst of sends, \
               which are held until it is full or the application makes progress",
        default: |settings| u8::from(settings.aggregation).to_string(),
        take: |settings, text| put(&mut settings.aggregation, switch(text)),
    },
    Parameter {
        name: c"direct",
        accepts: "auto, off or force",
        help: "Let the kernel put payload straight to the application's memory where it can be predicted. \
               auto: where segments are long (large MTUs); force: always, which is for tests",
        default: |_| "auto".to_owned(),
        take: |settings, text| {
            let direct = match text {
                "auto" => Some(Direct::Auto),
                "off" => Some(Direct::Off),
                "force" => Some(Direct::Force),
                _ => None,
            };
            put(&mut settings.direct, direct)
        },
    },
    Parameter {
        name: c"local",
        accepts: "auto or off",
        help: "Let endpoints of one host, user and network namespace share memory instead of exchanging datagrams",
        default: |_| "auto".to_owned(),
        take: |settings, text| {
            let local = match text {
                "auto" => Some(true),
                "off" => Some(false),
                _ => None,
            };
            put(&mut settings.local, local)
        },
    },
    Parameter {
        name: c"dma",
        accepts: "auto, memcpy or cma",
        help: "How long messages move between endpoints that share memory. auto: the receiver reads them out of the sender's \
               memory where the system permits it (process_vm_readv; where Yama allows that to ancestors only, the process \
               lets any of its user's processes trace it: PR_SET_PTRACER), else in pieces through shared buffers; \
               memcpy: always in pieces; cma: as auto, and says so when it is not permitted",
        default: |_| "auto".to_owned(),
        take: |settings, text| {
            let dma = match text {
                "auto" => Some(Dma::Auto),
                "memcpy" => Some(Dma::Memcpy),
                "cma" => Some(Dma::Cma),
                _ => None,
            };
            put(&mut settings.dma, dma)
        },
    },
    Parameter {
        name: c"gso",
        accepts: "0 or 1",
        help: "Hand the kernel trains of datagrams to send (UDP generic segmentation offload)",
        default: |settings| u8::from(settings.segmentation).to_string(),
        take: |settings, text| put(&mut settings.segmentation, switch(text)),
    },
    Parameter {
        name: c"gro",
        accepts: "0 or 1",
        help: "Take trains of datagrams from the kernel (UDP generic receive offload)",
        default: |settings| u8::from(settings.coalescing).to_string(),
        take: |settings, text| put(&mut settings.coalescing, switch(text)),
    },
    Parameter {
        name: c"linger",
        accepts: "seconds from 0 to 86400",
        help: "How long a closing endpoint waits for silent peers to take what was injected; \
               a peer that is gone is noticed earlier",
        default: |settings| settings.linger.as_secs().to_string(),
        take: |settings, text| {
            let seconds = size(text, 0, PEER_TIMEOUT_MAX_S).and_then(|seconds| u64::try_from(seconds).ok());
            put(&mut settings.linger, seconds.map(Duration::from_secs))
        },
    },
    Parameter {
        name: c"progress",
        accepts: "auto or manual",
        help: "auto: every domain has a thread that makes progress while the application computes; \
               manual: none has, not even for an application that asks for it, which may then wait for ever",
        default: |_| "as the application asks".to_owned(),
        take: |settings, text| {
            let progress = match text {
                "auto" => Some(Progress::Auto),
                "manual" => Some(Progress::Manual),
                _ => None,
            };
            put(&mut settings.progress, progress)
        },
    },
    Parameter {
        name: c"stats",
        accepts: "0 or 1",
        help: "Print an endpoint's counters on stderr when it closes",
        default: |settings| u8::from(settings.stats).to_string(),
        take: |settings, text| put(&mut settings.stats, switch(text)),
    },
];

/// Stores a value that could be read; says whether it could.
fn put<T>(place: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *place = value;
            true
        }
        None => false,
    }
}

/// A number with an optional binary suffix, within bounds.
fn size(text: &str, least: usize, most: usize) -> Option<usize> {
    let (digits, shift) = match text.char_indices().last()? {
        (end, 'k' | 'K') => (&text[..end], 10),
        (end, 'm' | 'M') => (&text[..end], 20),
        (end, 'g' | 'G') => (&text[..end], 30),
        _ => (text, 0),
    };
    let value = digits.parse::<usize>().ok()?.checked_mul(1 << shift)?;
    (least..=most).contains(&value).then_some(value)
}

/// A boolean as libfabric's own parameters accept it.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// `first-last`, or one port.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = first.trim().parse().ok()?;
    let last = last.trim().parse().ok()?;
    (first > 0 && first <= last).then_some((first, last))
}

/// The environment variable of a parameter.
fn variable(name: &CStr) -> String {
    format!("FI_RDGRAM_{}", name.to_string_lossy().to_ascii_uppercase())
}

/// Makes the parameters known to libfabric; only while it initialises us may that be done.
pub(crate) fn define() {
    static DEFINED: Once = Once::new();
    let Some(param_define) = log::core().param_define else { return };
    DEFINED.call_once(|| {
        let defaults = Settings::default();
        for parameter in PARAMETERS {
            let text = format!(
                "{} ({}; default: {})",
                parameter.help,
                parameter.accepts,
                (parameter.default)(&defaults)
            );
            let Ok(text) = CString::new(text) else { continue };
            // All are defined as strings: one parser, the same suffixes and the same words for all of them.
            // SAFETY: libfabric's function copies the strings; the format takes exactly the one that follows.
            unsafe {
                param_define(
                    provider::pointer(),
                    parameter.name.as_ptr(),
                    sys::FI_PARAM_STRING,
                    c"%s".as_ptr(),
                    text.as_ptr(),
                );
            }
        }
    });
}

/// The text of a parameter: from libfabric, which may have it from elsewhere than the environment, or from the environment.
fn text_of(name: &CStr) -> Option<String> {
    from_core(name).or_else(|| std::env::var(variable(name)).ok()).map(|text| text.trim().to_owned())
}

fn from_core(name: &CStr) -> Option<String> {
    let param_get = log::core().param_get?;
    let mut value: *const c_char = core::ptr::null();
    // SAFETY: libfabric's function, which stores a string's address for a parameter defined as a string.
    let result = unsafe { param_get(provider::pointer(), name.as_ptr(), (&raw mut value).cast::<c_void>()) };
    if result != 0 || value.is_null() {
        return None;
    }
    // SAFETY: a C string in the environment or of libfabric's, copied at once.
    let text = unsafe { CStr::from_ptr(value) };
    Some(text.to_string_lossy().into_owned())
}

/// The settings. The first call reads them.
pub(crate) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let (settings, complaints) = parse(text_of);
        for complaint in complaints {
            log::warn_once(&complaint, &complaint);
        }
        settings
    })
}

/// Reads every parameter from a source of texts. An empty text is no text. Also returns what is to be said about texts that make no sense.
fn parse(source: impl Fn(&CStr) -> Option<String>) -> (Settings, Vec<String>) {
    let defaults = Settings::default();
    let mut settings = Settings::default();
    let mut complaints = Vec::new();
    for parameter in PARAMETERS {
        let Some(text) = source(parameter.name).filter(|text| !text.is_empty()) else { continue };
        if !(parameter.take)(&mut settings, &text) {
            complaints.push(format!(
                "{}={text} is not understood: it takes {}; the default is used: {}",
                variable(parameter.name),
                parameter.accepts,
                (parameter.default)(&defaults)
            ));
        }
    }
    if settings.eager_max > settings.unexpected_pool {
        complaints.push(format!(
            "FI_RDGRAM_EAGER_MAX={} is larger than FI_RDGRAM_UNEXPECTED_POOL={}: the latter is used for both",
            settings.eager_max, settings.unexpected_pool
        ));
        settings.eager_max = settings.unexpected_pool;
    }
    (settings, complaints)
}

/// Of every parameter: its variable, what it takes, its default.
#[cfg(test)]
pub(crate) fn described() -> impl Iterator<Item = (String, &'static str, String)> {
    let defaults = Settings::default();
    PARAMETERS
        .iter()
        .map(move |parameter| (variable(parameter.name), parameter.accepts, (parameter.default)(&defaults)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &'static str, text: &'static str) -> (Settings, Vec<String>) {
        parse(|asked| (asked.to_str() == Ok(name)).then(|| text.to_owned()))
    }

    #[test]
    fn values_are_taken() {
        let defaults = Settings::default();
        let table: &[(&str, &str, Settings)] = &[
            ("iface", "eth1", Settings { interface: Some("eth1".to_owned()), ..defaults.clone() }),
            (
                "port_range",
                "20000-20999",
                Settings { port_range: Some((20_000, 20_999)), ..defaults.clone() },
            ),
            ("port_range", "7", Settings { port_range: Some((7, 7)), ..defaults.clone() }),
            ("rcvbuf", "212992", Settings { receive_buffer: 212_992, ..defaults.clone() }),
            ("sndbuf", "2m", Settings { send_buffer: 2 << 20, ..defaults.clone() }),
            ("peer_timeout", "20", Settings { peer_timeout: Duration::from_secs(20), ..defaults.clone() }),
            ("eager_max", "0", Settings { eager_max: 0, ..defaults.clone() }),
            ("unexpected_pool", "1G", Settings { unexpected_pool: 1 << 30, ..defaults.clone() }),
            ("memory_ceiling", "512m", Settings { memory_ceiling: 512 << 20, ..defaults.clone() }),
            ("integrity", "full", Settings { full_integrity: true, ..defaults.clone() }),
            ("aggregate", "0", Settings { aggregation: false, ..defaults.clone() }),
            ("local", "auto", defaults.clone()),
            ("local", "off", Settings { local: false, ..defaults.clone() }),
            ("dma", "memcpy", Settings { dma: Dma::Memcpy, ..defaults.clone() }),
            ("dma", "cma", Settings { dma: Dma::Cma, ..defaults.clone() }),
            ("direct", "auto", defaults.clone()),
            ("direct", "off", Settings { direct: Direct::Off, ..defaults.clone() }),
            ("direct", "force", Settings { direct: Direct::Force, ..defaults.clone() }),
            ("gso", "off", Settings { segmentation: false, ..defaults.clone() }),
            ("gro", "0", Settings { coalescing: false, ..defaults.clone() }),
            ("linger", "0", Settings { linger: Duration::ZERO, ..defaults.clone() }),
            ("progress", "auto", Settings { progress: Progress::Auto, ..defaults.clone() }),
            ("progress", "manual", Settings { progress: Progress::Manual, ..defaults.clone() }),
            ("stats", "YES", Settings { stats: true, ..defaults.clone() }),
            ("stats", "", defaults.clone()),
        ];
        for (name, text, expected) in table {
            let (settings, complaints) = parsed(name, text);
            assert_eq!(&settings, expected, "{name}={text}");
            assert!(complaints.is_empty(), "{name}={text}: {complaints:?}");
        }
        let named: std::collections::BTreeSet<_> = table.iter().map(|row| row.0).collect();
        assert_eq!(named.len(), PARAMETERS.len(), "every parameter has a row above");
    }

    #[test]
    fn nonsense_is_reported_and_the_default_used() {
        let table = [
            ("port_range", "0-10"),
            ("port_range", "20-10"),
            ("port_range", "a-b"),
            ("port_range", "1-65536"),
            ("rcvbuf", "-1"),
            ("rcvbuf", "8 MB"),
            ("rcvbuf", "2g"),
            ("sndbuf", "99999999999999999999g"),
            ("peer_timeout", "0"),
            ("peer_timeout", "15min"),
            ("eager_max", "2m"),
            ("unexpected_pool", "1k"),
            ("memory_ceiling", "none"),
            ("integrity", "payload"),
            ("aggregate", "burst"),
            ("direct", "1"),
            ("local", "1"),
            ("dma", "off"),
            ("gso", "2"),
            ("linger", "1h"),
            ("progress", "thread"),
        ];
        for (name, text) in table {
            let (settings, complaints) = parsed(name, text);
            assert_eq!(settings, Settings::default(), "{name}={text}");
            let variable = format!("FI_RDGRAM_{}={text}", name.to_uppercase());
            assert_eq!(complaints.len(), 1, "{name}={text}");
            assert!(
                complaints[0].starts_with(&variable) && complaints[0].contains("default"),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn an_eager_message_fits_the_pool() {
        let (settings, complaints) = parse(|name| match name.to_str() {
            Ok("eager_max") => Some("1m".to_owned()),
            Ok("unexpected_pool") => Some("64k".to_owned()),
            _ => None,
        });
        assert_eq!(settings.eager_max, 64 << 10);
        assert_eq!(complaints.len(), 1);
    }
}
