//! Time that only grows, whatever the source's clock does.
//!
//! Ingest follows wraps and small steps of a source's clock; what is left are sources that jump,
//! repeat or go back in time. A file or playlist must not: players stop there, and writers that
//! refuse lose what follows. So a stamp that does not fit is placed right behind the last one, and
//! the distance by which it was moved holds from then on, for the other track too if it jumped with
//! it.

use crate::packet::TrackKind;
use crate::time::{Pts, Ticks};

/// A step forwards that is still taken for a pause of the source: 10 s.
const FORWARD_MAX: i64 = 10 * Ticks::SECOND.0;

/// A step backwards that is taken for disorder, not for a new clock: 200 ms.
const BACKWARD_MAX: i64 = Ticks::SECOND.0 / 5;

/// The step after a jump of a track that had none before, 1/30 s.
const STEP: i64 = Ticks::SECOND.0 / 30;

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Added to stamps of this track.
    offset: i64,
    /// The last time given, in ticks since the origin.
    last: Option<i64>,
    /// The last distance of two times.
    step: i64,
}

/// The clock of one file or playlist.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    origin: Option<Pts>,
    video: Lane,
    audio: Lane,
    /// Stamps that did not fit.
    pub(super) moved: u64,
}

impl Timeline {
    pub(super) fn started(&self) -> bool {
        self.origin.is_some()
    }

    pub(super) fn start(&mut self, at: Pts) {
        self.origin = Some(at);
    }

    /// Ticks since the origin at which a packet of this track is decoded, always more than for its
    /// last one; negative only for a track's first packets.
    pub(super) fn place(&mut self, kind: TrackKind, dts: Pts) -> i64 {
        let raw = dts - *self.origin.get_or_insert(dts);
        let (lane, other) = match kind {
            TrackKind::Video => (&mut self.video, self.audio),
            TrackKind::Audio => (&mut self.audio, self.video),
        };
        let own = raw.0.wrapping_add(lane.offset);
        // What a fitting time is near to: this track's last one, else the other's.
        let Some(near) = lane.last.or(other.last) else {
            lane.last = Some(own.max(0));
            return own;
        };
        let fits = |time: i64| (-BACKWARD_MAX..=FORWARD_MAX).contains(&time.wrapping_sub(near));
        let shared = raw.0.wrapping_add(other.offset);
        let mut time = if fits(own) {
            own
        } else if shared > near && fits(shared) {
            lane.offset = other.offset;
            self.moved += 1;
            shared
        } else {
            let time = near + if lane.step > 0 { lane.step } else { STEP };
            lane.offset = time.wrapping_sub(raw.0);
            self.moved += 1;
            time
        };
        if let Some(last) = lane.last {
            if time <= last {
                time = last + 1;
                self.moved += 1;
            } else {
                lane.step = (time - last).min(Ticks::SECOND.0);
            }
        }
        lane.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(timeline: &mut Timeline, dts: i64) -> i64 {
        timeline.place(TrackKind::Video, Pts(dts))
    }

    #[test]
    fn a_steady_clock_is_kept_and_begins_at_zero() {
        let mut timeline = Timeline::default();
        let times: Vec<_> = (0..4).map(|n| video(&mut timeline, 7_000 + 3000 * n)).collect();
        assert_eq!(times, [0, 3000, 6000, 9000]);
        assert_eq!(timeline.place(TrackKind::Audio, Pts(7_000 + 1920)), 1920);
        assert_eq!(timeline.moved, 0);
    }

    #[test]
    fn a_jump_of_both_tracks_moves_both_by_the_same() {
        for jump in [1 << 40, -(1 << 40)] {
            let mut timeline = Timeline::default();
            video(&mut timeline, 0);
            timeline.place(TrackKind::Audio, Pts(0));
            video(&mut timeline, 3000);
            timeline.place(TrackKind::Audio, Pts(1920));
            assert_eq!(video(&mut timeline, 6000 + jump), 6000);
            assert_eq!(timeline.place(TrackKind::Audio, Pts(3840 + jump)), 3840);
            assert_eq!(video(&mut timeline, 9000 + jump), 9000);
            assert_eq!(timeline.moved, 2);
        }
    }

    #[test]
    fn stamps_that_stand_still_or_go_back_a_little_still_grow() {
        let mut timeline = Timeline::default();
        let times: Vec<_> =
            [0, 3000, 3000, 2000, 9000].map(|dts| video(&mut timeline, dts)).to_vec();
        assert_eq!(times, [0, 3000, 3001, 3002, 9000]);
    }

    proptest! {
        #[test]
        fn time_grows_in_bounded_steps_whatever_comes(
            stamps in prop::collection::vec((any::<bool>(), any::<i64>()), 1..60),
        ) {
            let mut timeline = Timeline::default();
            let mut last = [None; 2];
            for (is_video, dts) in stamps {
                let kind = if is_video { TrackKind::Video } else { TrackKind::Audio };
                let time = timeline.place(kind, Pts(dts));
                let last = &mut last[usize::from(is_video)];
                if let Some(last) = *last {
                    prop_assert!(time > last && time - last <= FORWARD_MAX);
                }
                *last = Some(time);
            }
        }
    }
}
