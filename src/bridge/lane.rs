//! What a form costs: of each track that is made in another codec the frames in, out and left out,
//! and the time that was worked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipeline::run::{Dropped, Gate};
use pipeline::{Pts, Size};

/// The figures of a form.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Pictures. The engine counts here too.
    pub(super) picture: Arc<Lane>,
    /// Sound, of which a frame is a packet.
    pub(super) sound: Lane,
    /// Packets of the stream that were lost by being slow.
    pub(super) lagged: AtomicU64,
}

/// A track that is made in another codec.
#[derive(Debug, Default)]
pub(super) struct Lane {
    taken: AtomicU64,
    made: AtomicU64,
    dropped: AtomicU64,
    busy_ns: AtomicU64,
}

/// A [`Lane`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// Frames that went in. Pictures before the live edge are decoded only: they neither come out
    /// nor count as dropped.
    pub(super) taken: u64,
    /// Frames that came out.
    pub(super) made: u64,
    /// Frames left out: nothing could be made of them, or a newer one took their place.
    pub(super) dropped: u64,
    /// How long threads worked for what came out.
    pub(super) busy: Duration,
}

impl Lane {
    /// A frame goes in.
    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// So many frames came out.
    pub(super) fn made(&self, frames: usize) {
        self.made.fetch_add(frames as u64, Ordering::Relaxed);
    }

    /// A frame is left out.
    pub(super) fn lost(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread worked for so long.
    pub(super) fn worked(&self, busy: Duration) {
        let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.busy_ns.fetch_add(busy, Ordering::Relaxed);
    }

    /// The figures now.
    pub(super) fn figures(&self) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            taken: read(&self.taken),
            made: read(&self.made),
            dropped: read(&self.dropped),
            busy: Duration::from_nanos(read(&self.busy_ns)),
        }
    }
}

/// Every picture may be made; those that are not are counted.
impl Gate for Lane {
    fn admit(&self, _: Pts, _: Size) -> bool {
        true
    }

    fn returned(&self, _: Pts, _: usize) {}

    fn dropped(&self, _: Pts, why: Dropped) {
        if why != Dropped::Early {
            self.lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_what_is_decoded_on_the_way_to_the_live_edge_is_not() {
        let lane = Lane::default();
        (0..5).for_each(|_| lane.take());
        lane.made(2);
        lane.worked(Duration::from_millis(3));
        lane.worked(Duration::from_millis(4));
        for why in [Dropped::Replaced, Dropped::Failed, Dropped::Early] {
            lane.dropped(Pts(0), why);
        }
        let busy = Duration::from_millis(7);
        assert_eq!(lane.figures(), Figures { taken: 5, made: 2, dropped: 2, busy });
    }
}
