//! How long is waited for the next attempt: longer each time, and never the same for many.

use std::time::Duration;

/// The first wait, before chance.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// An attempt that lasted so long was a success: the next failure begins anew.
const SUCCESS: Duration = Duration::from_secs(10);

/// Waits of one remote end.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after an attempt that lasted `lasted`. `chance` lies in 0 to 1: many ends that
    /// lost the same server do not come back in the same moment.
    pub(crate) fn next(&mut self, lasted: Duration, chance: f64) -> Duration {
        if lasted >= SUCCESS {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all of it.
        wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// The longest wait, for what another attempt cannot mend by itself.
    pub(crate) const fn longest() -> Duration {
        WAIT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let mut next = |lasted| backoff.next(Duration::from_secs(lasted), 1.0).as_secs();
        let waits: Vec<u64> = (0..7).map(|_| next(0)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(next(10), 1);
        assert_eq!(next(0), 2);
    }

    #[test]
    fn chance_spreads_a_wait_over_its_upper_half() {
        let wait = |chance| Backoff::default().next(Duration::ZERO, chance);
        assert_eq!(wait(0.0), Duration::from_millis(500));
        assert_eq!(wait(0.5), Duration::from_millis(750));
    }
}
