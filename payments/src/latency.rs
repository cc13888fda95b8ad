//! The 99th percentile of a time that limits adapt to: a ring of the newest samples.

use std::time::Duration;

/// Samples that are kept: about four seconds of a 60 frames/s stream.
const SAMPLES_MAX: usize = 256;
/// New samples after which the percentile is worked out again.
const REFRESH_EVERY: usize = 16;

/// Newest samples of a duration and their 99th percentile.
#[derive(Debug, Default)]
pub(crate) struct Percentile {
    ring: Vec<Duration>,
    next: usize,
    since_refresh: usize,
    p99: Duration,
}

impl Percentile {
    /// Adds a sample.
    pub(crate) fn add(&mut self, sample: Duration) {
        if self.ring.len() < SAMPLES_MAX {
            self.ring.push(sample);
        } else {
            self.ring[self.next] = sample;
        }
        self.next = (self.next + 1) % SAMPLES_MAX;
        self.since_refresh += 1;
        // Few samples: every one counts. Growth is taken at once, relief with the next refresh.
        if self.ring.len() <= REFRESH_EVERY || self.since_refresh >= REFRESH_EVERY {
            let mut sorted = self.ring.clone();
            let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
            self.p99 = *sorted.select_nth_unstable(at).1;
            self.since_refresh = 0;
        }
    }

    /// The 99th percentile; zero before the first sample.
    pub(crate) fn p99(&self) -> Duration {
        self.p99
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_follows_the_newest_samples() {
        let mut times = Percentile::default();
        assert_eq!(times.p99(), Duration::ZERO);
        times.add(Duration::from_millis(700));
        assert_eq!(times.p99(), Duration::from_millis(700));
        for ms in 0..2 * SAMPLES_MAX as u64 {
            times.add(Duration::from_millis(ms % 100));
        }
        let p99 = times.p99().as_millis();
        assert!((97..=99).contains(&p99), "{p99}");
    }
}
