//! Where a frame's time goes: one histogram per hop, and on demand a trace of single frames.
//!
//! Parts that handle frames are given a share of [`Hops`] and note how long each frame took there.
//! Noting is a few atomic additions; the trace, which takes a lock, is kept only when
//! `latency.trace` asks for it, for `millstream bench latency`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pipeline::Pts;
use serde::{Deserialize, Serialize};

/// Upper bounds of the histogram's buckets in seconds; one more bucket has no bound.
pub const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 5.0];

/// Rows kept in a trace: 10 hops of 30 frames a second for two minutes.
const TRACE_ROWS_MAX: usize = 36_000;

/// The hops of the road, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// From the last byte of a frame at the gateway to the hub.
    Ingest,
    /// From that to its writing to the link.
    Hub,
    /// From that to the last byte at the orchestrator.
    Uplink,
    /// From that to the decoder.
    Queue,
    /// In the decoder.
    Decode,
    /// Between decoder and graph.
    Wait,
    /// In the graph.
    Graph,
    /// In the encoder.
    Encode,
    /// From the encoder to the last byte back at the gateway.
    Downlink,
    /// From that to the hub.
    Splice,
    /// From the hub to the last packet to a viewer.
    Egress,
    /// From the source frame's last byte at the gateway to the processed frame in the hub.
    Road,
}

impl Hop {
    /// All of them, in the road's order.
    pub const ALL: [Hop; 12] = [
        Hop::Ingest,
        Hop::Hub,
        Hop::Uplink,
        Hop::Queue,
        Hop::Decode,
        Hop::Wait,
        Hop::Graph,
        Hop::Encode,
        Hop::Downlink,
        Hop::Splice,
        Hop::Egress,
        Hop::Road,
    ];

    /// The word in metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Hub => "hub",
            Self::Uplink => "uplink",
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Wait => "wait",
            Self::Graph => "graph",
            Self::Encode => "encode",
            Self::Downlink => "downlink",
            Self::Splice => "splice",
            Self::Egress => "egress",
            Self::Road => "road",
        }
    }
}

/// One moment of one frame.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The frame.
    pub pts: i64,
    /// The hop that ended.
    pub hop: Hop,
    /// When it ended, in nanoseconds of the system's clock: comparable between processes of one
    /// machine.
    pub at_ns: u64,
    /// How long it took in nanoseconds, where one process saw both ends; else zero.
    pub took_ns: u64,
}

/// A histogram at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts per bucket of [`BOUNDS`] and one above.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Sum of all in seconds.
    pub sum_seconds: f64,
}

impl Snapshot {
    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound below which this share (0 to 1) of the values lies; the largest bound when it is
    /// above that. `None` without values.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let wanted = (count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            seen += bucket;
            if seen >= wanted {
                return Some(bound);
            }
        }
        (count > 0).then_some(BOUNDS[BOUNDS.len() - 1])
    }
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// The histograms of a process, and its trace.
pub struct Hops {
    histograms: [Histogram; Hop::ALL.len()],
    trace: Option<Mutex<VecDeque<Row>>>,
    /// One moment on both clocks.
    anchor: (Instant, SystemTime),
}

impl Hops {
    /// Empty histograms, with a trace if wanted.
    pub fn new(trace: bool) -> Self {
        Self {
            histograms: Default::default(),
            trace: trace.then(|| Mutex::new(VecDeque::with_capacity(TRACE_ROWS_MAX))),
            anchor: (Instant::now(), SystemTime::now()),
        }
    }

    /// A frame ended a hop at `at` that took `took`.
    pub fn note(&self, hop: Hop, pts: Pts, at: Instant, took: Duration) {
        let histogram = &self.histograms[hop as usize];
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.sum_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        self.mark(hop, pts, at, took);
    }

    /// A frame ended a hop at `at` whose beginning another process saw: for the trace only.
    pub fn mark(&self, hop: Hop, pts: Pts, at: Instant, took: Duration) {
        let Some(trace) = &self.trace else { return };
        let row = Row { pts: pts.0, hop, at_ns: self.at_ns(at), took_ns: took.as_nanos() as u64 };
        let mut rows = trace.lock();
        if rows.len() == TRACE_ROWS_MAX {
            rows.pop_front();
        }
        rows.push_back(row);
    }

    /// A hop's histogram.
    pub fn snapshot(&self, hop: Hop) -> Snapshot {
        let histogram = &self.histograms[hop as usize];
        Snapshot {
            buckets: std::array::from_fn(|i| histogram.buckets[i].load(Ordering::Relaxed)),
            sum_seconds: histogram.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    /// The trace since the last call, oldest first; empty when none is kept.
    pub fn take_trace(&self) -> Vec<Row> {
        self.trace.as_ref().map_or_else(Vec::new, |trace| trace.lock().drain(..).collect())
    }

    fn at_ns(&self, at: Instant) -> u64 {
        let (instant, system) = self.anchor;
        let time = match at.checked_duration_since(instant) {
            Some(since) => system + since,
            None => system - instant.saturating_duration_since(at),
        };
        time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_buckets() {
        let hops = Hops::new(true);
        let now = Instant::now();
        for ms in 1..=100 {
            hops.note(Hop::Graph, Pts(ms), now, Duration::from_millis(ms as u64));
        }
        let snapshot = hops.snapshot(Hop::Graph);
        assert_eq!(snapshot.count(), 100);
        assert_eq!(snapshot.quantile(0.5), Some(0.05));
        assert_eq!(snapshot.quantile(0.99), Some(0.1));
        assert!(hops.snapshot(Hop::Encode).quantile(0.5).is_none());
        assert_eq!(hops.take_trace().len(), 100);
        assert!(hops.take_trace().is_empty());
    }
}
