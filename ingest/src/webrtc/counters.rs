//! Figures of all sessions together, read by the metrics page while the worker writes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use crate::counters::add;

/// Upper bounds of the latency buckets in microseconds.
const BOUNDS_US: [u64; 14] = [
    50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000,
];

/// Counts since start, and the sessions of this moment.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Publishers now, handshakes included.
    pub publishers: AtomicU64,
    /// Viewers now, handshakes included.
    pub viewers: AtomicU64,
    /// Sessions that reached the end of their handshake.
    pub sessions_connected: AtomicU64,
    /// Sessions that were asked for and refused for a limit.
    pub sessions_refused: AtomicU64,
    /// Sessions in their handshake, and connections without a check, ended to make room for newcomers.
    pub gave_way: AtomicU64,
    /// Sessions that ended because something in the code gave way. Never, it is hoped.
    pub sessions_panicked: AtomicU64,
    /// Datagrams received.
    pub datagrams_received: AtomicU64,
    /// Datagrams that belonged to no session, were not authentic or not readable.
    pub datagrams_dropped: AtomicU64,
    /// Datagrams that reached another worker than their session's and were handed over.
    pub strays: AtomicU64,
    /// Those that were dropped because the other worker had no room.
    pub strays_dropped: AtomicU64,
    /// RTP packets sent, repeated ones included.
    pub packets_sent: AtomicU64,
    /// Bytes of protected RTP sent, without UDP and IP headers.
    pub bytes_sent: AtomicU64,
    /// Calls that sent RTP.
    pub sends: AtomicU64,
    /// RTP packets that the system did not take.
    pub packets_dropped: AtomicU64,
    /// RTP packets received.
    pub packets_received: AtomicU64,
    /// Bytes of protected RTP received.
    pub bytes_received: AtomicU64,
    /// RTP packets of publishers that never came.
    pub packets_lost: AtomicU64,
    /// Sequence numbers that viewers asked for again.
    pub nacks_received: AtomicU64,
    /// Sequence numbers that publishers were asked for again.
    pub nacks_sent: AtomicU64,
    /// Packets sent again.
    pub packets_resent: AtomicU64,
    /// Key frames that viewers asked for (PLI or FIR).
    pub plis_received: AtomicU64,
    /// Key frames that publishers were asked for.
    pub plis_sent: AtomicU64,
    /// Frames that viewers lost by being slow or on a bad way.
    pub frames_skipped: AtomicU64,
    /// Pictures that viewers did not get whose way carries less than the stream has.
    pub frames_thinned: AtomicU64,
    /// Results of graphs sent on data channels.
    pub results_sent: AtomicU64,
    /// Results of graphs that came too late or found too many before them.
    pub results_dropped: AtomicU64,
    /// From the write into the hub to the last packet of the frame sent to the last viewer.
    pub write_to_sent: Histogram,
}

impl Counters {
    /// Adds the figures of another to these. Each worker counts on its own, so that no two cores
    /// write the same memory.
    pub(crate) fn merge(&self, other: &Self) {
        let (a, b) = (self, other);
        for (sum, more) in [
            (&a.publishers, &b.publishers),
            (&a.viewers, &b.viewers),
            (&a.sessions_connected, &b.sessions_connected),
            (&a.sessions_refused, &b.sessions_refused),
            (&a.gave_way, &b.gave_way),
            (&a.sessions_panicked, &b.sessions_panicked),
            (&a.datagrams_received, &b.datagrams_received),
            (&a.datagrams_dropped, &b.datagrams_dropped),
            (&a.strays, &b.strays),
            (&a.strays_dropped, &b.strays_dropped),
            (&a.packets_sent, &b.packets_sent),
            (&a.bytes_sent, &b.bytes_sent),
            (&a.sends, &b.sends),
            (&a.packets_dropped, &b.packets_dropped),
            (&a.packets_received, &b.packets_received),
            (&a.bytes_received, &b.bytes_received),
            (&a.packets_lost, &b.packets_lost),
            (&a.nacks_received, &b.nacks_received),
            (&a.nacks_sent, &b.nacks_sent),
            (&a.packets_resent, &b.packets_resent),
            (&a.plis_received, &b.plis_received),
            (&a.plis_sent, &b.plis_sent),
            (&a.frames_skipped, &b.frames_skipped),
            (&a.frames_thinned, &b.frames_thinned),
            (&a.results_sent, &b.results_sent),
            (&a.results_dropped, &b.results_dropped),
            (&a.write_to_sent.sum_us, &b.write_to_sent.sum_us),
        ] {
            add(sum, more.load(Ordering::Relaxed));
        }
        for (sum, more) in a.write_to_sent.buckets.iter().zip(&b.write_to_sent.buckets) {
            add(sum, more.load(Ordering::Relaxed));
        }
    }
}

/// One less.
pub(crate) fn sub(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bound in seconds and how many samples were at or below it (not cumulative).
    pub buckets: Vec<(f64, u64)>,
    /// All samples, those beyond the last bound included.
    pub count: u64,
    /// Seconds of all samples together.
    pub sum_seconds: f64,
}

impl Histogram {
    /// One sample.
    pub(crate) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|&bound| us <= bound).unwrap_or(BOUNDS_US.len());
        add(&self.buckets[bucket], 1);
        add(&self.sum_us, us);
    }

    /// What was recorded so far. Samples that come meanwhile may be in one figure and not another.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        HistogramSnapshot {
            buckets: BOUNDS_US
                .iter()
                .map(|&us| us as f64 / 1e6)
                .zip(counts.iter().copied())
                .collect(),
            count: counts.iter().sum(),
            sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::default();
        for ms in [1, 2, 4, 900] {
            histogram.record(Duration::from_millis(ms));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count, 4);
        let at = |s: f64| snapshot.buckets.iter().find(|(bound, _)| *bound == s).unwrap().1;
        assert_eq!((at(0.001), at(0.002), at(0.005), at(0.5)), (1, 1, 1, 0));
        assert!((snapshot.sum_seconds - 0.907).abs() < 1e-9);
    }
}
