//! What a publisher is told it may send, from what arrives: the receiver's estimate (REMB,
//! draft-alvestrand-rmcat-remb).
//!
//! A browser's sender begins low and climbs only as far as the estimate lets it. Without loss we
//! allow one and a half times what comes; with heavy loss less than what comes. The sender's own
//! control by loss in receiver reports does the rest. Not a delay-based estimator: a link that
//! queues without losing is left to feedback per packet ([`twcc`](super::twcc)).

use std::time::{Duration, Instant};

/// Time between two estimates.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Loss above which the estimate goes down, in parts of a thousand (GCC's 10 %).
const LOSS_HIGH_PERMILLE: u64 = 100;

/// Bounds in bits per second.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveLimits {
    /// Never less than this.
    pub min: u64,
    /// What the sender may begin with.
    pub start: u64,
    /// Never more than this.
    pub max: u64,
}

impl Default for ReceiveLimits {
    /// 150 kbit/s, 2 Mbit/s, 20 Mbit/s.
    fn default() -> Self {
        Self { min: 150_000, start: 2_000_000, max: 20_000_000 }
    }
}

/// The estimate for one publisher.
#[derive(Clone, Debug)]
pub struct ReceiveRate {
    limits: ReceiveLimits,
    bytes: u64,
    packets: u64,
    lost: u64,
    since: Option<Instant>,
    estimate: u64,
}

impl ReceiveRate {
    /// An estimate that begins at `limits.start`.
    pub fn new(limits: ReceiveLimits) -> Self {
        let estimate = limits.start.clamp(limits.min, limits.max.max(limits.min));
        Self { limits, bytes: 0, packets: 0, lost: 0, since: None, estimate }
    }

    /// Counts a datagram of `bytes`.
    pub fn on_packet(&mut self, now: Instant, bytes: usize) {
        self.since.get_or_insert(now);
        self.bytes += bytes as u64;
        self.packets += 1;
    }

    /// Counts packets that had to be asked for or never came.
    pub fn on_loss(&mut self, packets: u64) {
        self.lost += packets;
    }

    /// A new estimate in bits per second each [`INTERVAL`] in which something came.
    pub fn poll(&mut self, now: Instant) -> Option<u64> {
        let since = self.since?;
        let passed = now.saturating_duration_since(since);
        if passed < INTERVAL {
            return None;
        }
        let rate = (self.bytes * 8).saturating_mul(1000) / (passed.as_millis() as u64).max(1);
        let heavy = self.lost * 1000 > (self.packets + self.lost) * LOSS_HIGH_PERMILLE;
        let wished = if heavy { rate / 20 * 17 } else { self.estimate.max(rate / 2 * 3) };
        self.estimate = wished.clamp(self.limits.min, self.limits.max.max(self.limits.min));
        (self.bytes, self.packets, self.lost, self.since) = (0, 0, 0, None);
        Some(self.estimate)
    }

    /// When [`Self::poll`] has the next estimate.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds two seconds of `rate` bits per second of which `lost` in a thousand never come.
    fn run(estimate: &mut ReceiveRate, start: Instant, rate: u64, lost: u64) -> u64 {
        let mut last = 0;
        for step in 0..200_u32 {
            let now = start + Duration::from_millis(10) * step;
            estimate.on_packet(now, (rate / 100 / 8) as usize);
            if u64::from(step) * lost / 1000 != (u64::from(step) + 1) * lost / 1000 {
                estimate.on_loss(1);
            }
            last = estimate.poll(now).unwrap_or(last);
        }
        last
    }

    #[test]
    fn the_estimate_leads_a_clean_sender_up_and_a_losing_one_down() {
        let start = Instant::now();
        let mut estimate = ReceiveRate::new(ReceiveLimits::default());
        let up = run(&mut estimate, start, 4_000_000, 0);
        assert!((5_800_000..6_200_000).contains(&up), "{up}");
        let down = run(&mut estimate, start + Duration::from_secs(2), 4_000_000, 200);
        assert!((3_200_000..3_600_000).contains(&down), "{down}");
        let top = run(&mut estimate, start + Duration::from_secs(4), 90_000_000, 0);
        assert_eq!(top, 20_000_000);
    }
}
