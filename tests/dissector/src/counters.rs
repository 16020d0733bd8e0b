//! What the provider counted itself: the lines that `FI_RDGRAM_STATS=1` prints.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The counters of each endpoint, by its address. Endpoints that had the same address one after the other are added.
#[derive(Debug, Default)]
pub(crate) struct Counters(pub(crate) BTreeMap<SocketAddr, BTreeMap<String, u64>>);

impl Counters {
    /// From lines "rdgram: ADDRESS NAME VALUE" among others.
    pub(crate) fn of(log: &str) -> Self {
        let mut all = Self::default();
        for line in log.lines() {
            if let Some((address, name, value)) = counter(line) {
                *all.0.entry(address).or_default().entry(name.to_owned()).or_default() += value;
            }
        }
        all
    }
}

/// Packets that dumpcap missed, as it says at its end. `None` when it says nothing.
pub(crate) fn dropped(log: &str) -> Option<u64> {
    let missed = log.lines().filter_map(|line| {
        let numbers = line.strip_prefix("Packets received/dropped on interface ")?.split_once(": ")?.1;
        numbers.split_once('/')?.1.split_whitespace().next()?.parse::<u64>().ok()
    });
    missed.reduce(|one, other| one + other)
}

fn counter(line: &str) -> Option<(SocketAddr, &str, u64)> {
    let mut words = line.split_once("rdgram: ")?.1.split_whitespace();
    let (address, name, value) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() { None } else { Some((address.parse().ok()?, name, value.parse().ok()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_one_address_are_added_and_other_lines_left_out() {
        let log = "rdgram: 127.0.0.1:7 tx_bytes 3\nrdgram: 127.0.0.1:7 tx_bytes 4\nx rdgram: [::1]:8 links 0\n\
                   rdgram: 127.0.0.1:7 has had no answer from 127.0.0.1:9 for 10 s\n";
        let counters = Counters::of(log);
        let of = |address: &str| &counters.0[&address.parse::<SocketAddr>().expect("an address")];
        assert_eq!(of("127.0.0.1:7")["tx_bytes"], 7);
        assert_eq!(of("[::1]:8")["links"], 0);
        assert_eq!(counters.0.len(), 2);
    }

    #[test]
    fn what_the_capture_missed_is_added() {
        let log = "Packets received/dropped on interface 'lo': 100/2 (pcap:2/dumpcap:0/flushed:0/ps_ifdrop:0) (98.0%)\n\
                   Packets received/dropped on interface 'eth0': 7/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (70.0%)\n";
        assert_eq!(dropped(log), Some(5));
        assert_eq!(dropped("no such line\n"), None);
    }
}
