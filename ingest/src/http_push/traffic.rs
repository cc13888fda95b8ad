//! What of a publisher's segments is on its way and what waits to be shown: whether more are
//! taken, when nothing comes any more, and when the end is there.

use std::time::{Duration, Instant};

/// Requests of one publisher that bring a segment, at the same time: an init segment, what it
/// describes, and a few that a stalled way held back.
pub(super) const FLYING_MAX: usize = 4;

/// Why one more segment may not set out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// So many are on their way already.
    Full,
    /// The stream has ended.
    Over,
}

/// The segments of one publisher, counted.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Requests that bring a segment.
    flying: usize,
    /// Segments that were taken and are not yet shown.
    waiting: usize,
    phase: Phase,
    /// When the newest of them landed or was shown.
    moved: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The word of the end has come, before segments that are still on their way.
    Ending,
    Over,
}

impl Traffic {
    /// Of a stream that begins.
    pub(super) fn new(now: Instant) -> Self {
        Self { flying: 0, waiting: 0, phase: Phase::Open, moved: now }
    }

    /// Whether segments are taken.
    pub(super) fn is_open(&self) -> bool {
        self.phase != Phase::Over
    }

    /// A request sets out to bring a segment.
    pub(super) fn set_out(&mut self) -> Result<(), Closed> {
        if !self.is_open() {
            return Err(Closed::Over);
        }
        if self.flying >= FLYING_MAX {
            return Err(Closed::Full);
        }
        self.flying += 1;
        Ok(())
    }

    /// It has brought it, or has failed.
    pub(super) fn landed(&mut self, now: Instant) {
        self.flying = self.flying.saturating_sub(1);
        self.moved = now;
        if self.phase == Phase::Ending {
            self.end();
        }
    }

    /// A segment waits to be shown.
    pub(super) fn taken(&mut self) {
        self.waiting += 1;
    }

    /// It waits no more.
    pub(super) fn shown(&mut self, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        self.moved = now;
    }

    /// The publisher has said that it has no more: each segment has a connection of its own, and
    /// those on their way are still taken.
    pub(super) fn end(&mut self) {
        self.phase = match (self.phase, self.flying) {
            (Phase::Over, _) | (_, 0) => Phase::Over,
            _ => Phase::Ending,
        };
    }

    /// No more is taken, whatever is on its way.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Over;
    }

    /// How long nothing has come: none while a segment is on its way or waits to be shown.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        match (self.flying, self.waiting) {
            (0, 0) => now.saturating_duration_since(self.moved),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_begins_when_nothing_is_on_its_way_and_everything_was_shown() {
        let start = Instant::now();
        let mut traffic = Traffic::new(start);
        assert_eq!(traffic.silence(start + 5 * SECOND), 5 * SECOND);
        traffic.set_out().unwrap();
        assert_eq!(traffic.silence(start + 40 * SECOND), Duration::ZERO, "one is received");
        traffic.taken();
        traffic.landed(start + 40 * SECOND);
        assert_eq!(traffic.silence(start + 70 * SECOND), Duration::ZERO, "it is shown");
        traffic.shown(start + 70 * SECOND);
        assert_eq!(traffic.silence(start + 73 * SECOND), 3 * SECOND);
    }

    #[test]
    fn the_end_waits_for_every_segment_on_its_way() {
        let now = Instant::now();
        let mut traffic = Traffic::new(now);
        traffic.set_out().unwrap();
        traffic.end();
        traffic.set_out().expect("the word of the end was faster than this one too");
        traffic.landed(now);
        assert!(traffic.is_open());
        traffic.landed(now);
        assert!(!traffic.is_open());
        assert_eq!(traffic.set_out(), Err(Closed::Over));
        traffic.end();
        assert!(!traffic.is_open());
    }

    #[test]
    fn a_few_segments_are_on_their_way_at_a_time() {
        let now = Instant::now();
        let mut traffic = Traffic::new(now);
        for _ in 0..FLYING_MAX {
            traffic.set_out().unwrap();
        }
        assert_eq!(traffic.set_out(), Err(Closed::Full));
        traffic.landed(now);
        assert_eq!(traffic.set_out(), Ok(()));
        traffic.close();
        traffic.landed(now);
        assert_eq!(traffic.set_out(), Err(Closed::Over));
    }
}
