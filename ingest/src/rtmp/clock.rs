//! From RTMP's timestamps, 32 bits of milliseconds that clients wrap, restart and make jump, to
//! decoding times that only grow.
//!
//! Both tracks of a connection share one line of time. Where a track leaves it (an encoder was
//! restarted behind the same connection, say), the line is continued at the newest time that was
//! given out, and the other track follows onto it when its own timestamps make the same jump, so
//! picture and sound stay together.

use std::time::{Duration, Instant};

use pipeline::time::Unwrapper;
use pipeline::{Pts, Ticks};

/// A step back of up to this is jitter of the muxer: the packet follows its predecessor at once.
const BACK_MAX: Ticks = Ticks::from_millis(100);

/// A step forward by more than this and the time that really passed is a jump.
const FORWARD_MAX: Ticks = Ticks::from_millis(10_000);

/// Steps between packets that are taken over into a continued line, at most.
const STEP_MAX: Ticks = Ticks::from_millis(1000);

/// The clock of one connection.
#[derive(Debug, Default)]
pub(super) struct Clock {
    unwrap: Unwrapper<32>,
    /// What is added to unwrapped timestamps of the newest line of time.
    offset: Ticks,
    newest: Option<(Pts, Instant)>,
    /// Jumps that were repaired.
    pub(super) repaired: u64,
}

/// The place of one track on it.
#[derive(Debug, Default)]
pub(super) struct Track {
    offset: Ticks,
    last: Option<Pts>,
    step: Ticks,
}

impl Clock {
    /// The presentation and decoding time of a packet that came at `now`. Decoding times of a
    /// track grow strictly; presentation is never before decoding.
    pub(super) fn stamp(
        &mut self,
        track: &mut Track,
        timestamp: u32,
        composition_ms: i32,
        now: Instant,
    ) -> (Pts, Pts) {
        let raw = Pts::from_millis(self.unwrap.unwrap(timestamp.into()));
        if track.last.is_none() {
            track.offset = self.offset;
        }
        let mut time = raw + track.offset;
        if !self.follows(track, time, now) {
            time = raw + self.offset;
            if !self.follows(track, time, now) {
                let step = track.step.clamp(Ticks(1), STEP_MAX);
                let newest = self.newest.map_or(raw, |(newest, _)| newest);
                time = newest + step;
                self.offset = time - raw;
                self.repaired += 1;
            }
            track.offset = self.offset;
        }
        let mut pts = time + Ticks::from_millis(composition_ms.into());
        let mut dts = time.min(pts);
        if let Some(last) = track.last {
            if dts <= last {
                dts = last + Ticks(1);
                pts = pts.max(dts);
            } else {
                track.step = dts - last;
            }
        }
        track.last = Some(dts);
        if self.newest.is_none_or(|(newest, _)| dts >= newest) {
            self.newest = Some((dts, now));
        }
        (pts, dts)
    }

    /// Whether `time` is a plausible next time of `track`.
    fn follows(&self, track: &Track, time: Pts, now: Instant) -> bool {
        let Some((newest, then)) = self.newest else { return true };
        let passed = Ticks::from_duration(now.saturating_duration_since(then).min(DAY));
        let ahead = time - newest;
        // A track's first packet may lie behind the other track's by as much as a jump.
        let back = match track.last {
            Some(last) => last - time <= BACK_MAX,
            None => newest - time <= FORWARD_MAX,
        };
        back && ahead.0 <= FORWARD_MAX.0.saturating_add(passed.0)
    }
}

/// Bounds sums of real and media time.
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    /// Decoding times in milliseconds of timestamps that come every 20 ms.
    fn run(clock: &mut Clock, track: &mut Track, timestamps: &[u32]) -> Vec<i64> {
        let begin = Instant::now();
        let times = timestamps.iter().enumerate().map(|(index, timestamp)| {
            let now = begin + Duration::from_millis(20 * index as u64);
            clock.stamp(track, *timestamp, 0, now).1.as_millis()
        });
        times.collect()
    }

    #[test]
    fn ordinary_times_and_the_wrap_are_kept_exactly() {
        let (mut clock, mut track) = (Clock::default(), Track::default());
        assert_eq!(run(&mut clock, &mut track, &[5, 25, 45]), [5, 25, 45]);
        let (mut clock, mut track) = (Clock::default(), Track::default());
        let top = 1_i64 << 32;
        assert_eq!(
            run(&mut clock, &mut track, &[u32::MAX - 9, 10, 30]),
            [top - 10, top + 10, top + 30]
        );
        assert_eq!(clock.repaired, 0);
    }

    #[test]
    fn a_restart_continues_the_line_and_both_tracks_stay_together() {
        let (mut clock, mut video, mut audio) = Default::default();
        assert_eq!(run(&mut clock, &mut video, &[60_000, 60_040]), [60_000, 60_040]);
        assert_eq!(run(&mut clock, &mut audio, &[60_010, 60_030]), [60_010, 60_030]);
        // The picture restarts at 0; sound of the old line may still come, then restarts too.
        assert_eq!(run(&mut clock, &mut video, &[0]), [60_080]);
        assert_eq!(run(&mut clock, &mut audio, &[60_050]), [60_050]);
        assert_eq!(run(&mut clock, &mut audio, &[10]), [60_090]);
        assert_eq!(run(&mut clock, &mut video, &[40]), [60_120]);
        assert_eq!(clock.repaired, 1);
    }

    #[test]
    fn a_track_that_begins_after_a_restart_is_on_the_new_line() {
        let (mut clock, mut video, mut audio) = Default::default();
        assert_eq!(run(&mut clock, &mut video, &[5000, 5040, 0, 40]), [5000, 5040, 5080, 5120]);
        assert_eq!(run(&mut clock, &mut audio, &[45, 65]), [5125, 5145]);
    }

    #[test]
    fn a_leap_forward_is_closed_unless_that_time_really_passed() {
        let (mut clock, mut track) = (Clock::default(), Track::default());
        assert_eq!(run(&mut clock, &mut track, &[0, 20, 1_000_020]), [0, 20, 40]);
        let begin = Instant::now();
        let (mut clock, mut track) = (Clock::default(), Track::default());
        clock.stamp(&mut track, 0, 0, begin);
        let late = clock.stamp(&mut track, 100_000, 0, begin + Duration::from_secs(95));
        assert_eq!(late.1, Pts::from_millis(100_000));
    }

    #[test]
    fn decoding_times_grow_and_presentation_is_never_before_them() {
        let (mut clock, mut track) = (Clock::default(), Track::default());
        let now = Instant::now();
        let mut last = Pts(-1);
        for (timestamp, composition) in
            [(0, 80), (40, -40), (40, 0), (35, 0), (80, 40), (120, -500)]
        {
            let (pts, dts) = clock.stamp(&mut track, timestamp, composition, now);
            assert!(dts > last && pts >= dts, "{timestamp}");
            last = dts;
        }
        let (mut clock, mut track) = (Clock::default(), Track::default());
        let times = clock.stamp(&mut track, 1000, 80, now);
        assert_eq!(times, (Pts::from_millis(1080), Pts::from_millis(1000)));
    }

    proptest::proptest! {
        #[test]
        fn any_timestamps_give_growing_times(
            stamps in proptest::collection::vec((proptest::bool::ANY, proptest::num::u32::ANY, -60_000..60_000), 0..100),
        ) {
            let (mut clock, mut tracks) = (Clock::default(), [Track::default(), Track::default()]);
            let mut last = [None; 2];
            let now = Instant::now();
            for (second, timestamp, composition) in stamps {
                let index = usize::from(second);
                let (pts, dts) = clock.stamp(&mut tracks[index], timestamp, composition, now);
                assert!(last[index].is_none_or(|last| dts > last) && pts >= dts);
                last[index] = Some(dts);
            }
        }
    }
}
