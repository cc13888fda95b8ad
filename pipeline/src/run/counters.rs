//! What a runner counts: each packet that was pushed ends in exactly one of these.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Dropped;

/// What an engine has counted. When nothing is in flight,
/// `packets = out + failed + replaced + skipped + stopped + early`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets pushed.
    pub packets: u64,
    /// Frames that the decoder gave.
    pub decoded: u64,
    /// [`Dropped::Replaced`].
    pub replaced: u64,
    /// [`Dropped::Skipped`].
    pub skipped: u64,
    /// [`Dropped::Failed`].
    pub failed: u64,
    /// [`Dropped::Stopped`].
    pub stopped: u64,
    /// [`Dropped::Early`].
    pub early: u64,
    /// Frames processed, encoded and handed to the sink.
    pub out: u64,
    /// Results that their picture could not carry: they are too long, or its coding has no place.
    pub results_dropped: u64,
}

/// The same while they are counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) packets: AtomicU64,
    pub(super) decoded: AtomicU64,
    replaced: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicU64,
    early: AtomicU64,
    pub(super) out: AtomicU64,
    results_dropped: AtomicU64,
}

impl Counts {
    /// Counts a picture that does not come out processed.
    pub(super) fn dropped(&self, why: Dropped) {
        let count = match why {
            Dropped::Skipped => &self.skipped,
            Dropped::Replaced => &self.replaced,
            Dropped::Failed => &self.failed,
            Dropped::Stopped => &self.stopped,
            Dropped::Early => &self.early,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a result that its picture could not carry.
    pub(super) fn result_dropped(&self) {
        self.results_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures now.
    pub(super) fn snapshot(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            packets: read(&self.packets),
            decoded: read(&self.decoded),
            replaced: read(&self.replaced),
            skipped: read(&self.skipped),
            failed: read(&self.failed),
            stopped: read(&self.stopped),
            early: read(&self.early),
            out: read(&self.out),
            results_dropped: read(&self.results_dropped),
        }
    }
}
