//! Round-trip time of a path, RFC 6298, over unambiguous samples with the peer's own delay taken off. Must never see a sample of a packet of which several transmissions could be meant.

use core::time::Duration;

use crate::time::nanos;

/// The timeout before the first sample: long for one network, short for the world. Wrong by an order it costs a handful of spurious packets, as each expiry sends one and doubles.
const RTO_INITIAL: Duration = Duration::from_millis(10);

/// Smoothed round-trip time and its variance, in nanoseconds: arithmetic on `Duration` would cost more than all else that is done for a sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    smoothed_ns: Option<u64>,
    variance_ns: u64,
    latest_ns: u64,
}

/// The same in 32 bits: 4 seconds, which is longer than any timeout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    /// 0 without a sample.
    smoothed_ns: u32,
    variance_ns: u32,
    latest_ns: u32,
}

impl Rtt {
    pub(crate) fn rest(&self) -> Rest {
        let narrow = |ns: u64| u32::try_from(ns).unwrap_or(u32::MAX);
        Rest {
            smoothed_ns: self.smoothed_ns.map_or(0, |smoothed| narrow(smoothed.max(1))),
            variance_ns: narrow(self.variance_ns),
            latest_ns: narrow(self.latest_ns),
        }
    }

    pub(crate) fn resume(rest: Rest) -> Self {
        Self {
            smoothed_ns: (rest.smoothed_ns != 0).then_some(rest.smoothed_ns.into()),
            variance_ns: rest.variance_ns.into(),
            latest_ns: rest.latest_ns.into(),
        }
    }

    /// Takes in a sample (RFC 6298, section 2.2 and 2.3: alpha 1/8, beta 1/4).
    pub(crate) fn sample(&mut self, rtt: Duration) {
        // No round trip takes 2^59 ns, and the products below do not overflow.
        let rtt = nanos(rtt).min(1 << 59);
        self.latest_ns = rtt;
        self.smoothed_ns = Some(match self.smoothed_ns {
            None => {
                self.variance_ns = rtt / 2;
                rtt
            }
            Some(smoothed) => {
                self.variance_ns = (self.variance_ns * 3 + smoothed.abs_diff(rtt)) / 4;
                (smoothed * 7 + rtt) / 8
            }
        });
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed_ns.map(Duration::from_nanos)
    }

    /// The retransmission timeout before back-off, without floor.
    pub(crate) fn timeout(&self) -> Duration {
        self.smoothed_ns.map_or(RTO_INITIAL, |smoothed| Duration::from_nanos(smoothed + self.variance_ns * 4))
    }

    /// How long after a later transmission was acknowledged an earlier one may still be on its way: 9/8 of the round trip since it was sent (RFC 8985 with the reordering window of RFC 9002).
    pub(crate) fn reordering(&self) -> Duration {
        let rtt = self.smoothed_ns.unwrap_or(nanos(RTO_INITIAL)).max(self.latest_ns);
        Duration::from_nanos(rtt + rtt / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn first_sample_sets_both() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), RTO_INITIAL);
        rtt.sample(us(100));
        assert_eq!(rtt.smoothed(), Some(us(100)));
        assert_eq!(rtt.timeout(), us(300));
        assert_eq!(rtt.reordering(), Duration::from_nanos(112_500));
    }

    #[test]
    fn steady_samples_shrink_the_variance_and_a_spike_raises_it() {
        let mut rtt = Rtt::default();
        for _ in 0..100 {
            rtt.sample(us(100));
        }
        assert!(rtt.timeout() < us(101), "{rtt:?}");
        rtt.sample(us(900));
        assert_eq!(rtt.smoothed(), Some(us(200)));
        assert!(rtt.timeout() >= us(1000), "{rtt:?}");
        assert_eq!(rtt.reordering(), Duration::from_nanos(1_012_500));
    }
}
