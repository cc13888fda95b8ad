//! One line of time out of the clocks of a transport stream, which wrap, restart and jump when an
//! encoder does or a loop begins anew.
//!
//! Both tracks share the line. Where a track leaves it, it goes on where the newest time was, and
//! the other track follows when its own times make the same jump.

use std::time::{Duration, Instant};

use pipeline::{Packet, Pts, Ticks};

/// A step back of up to this is interleaving, not a jump.
const BACK_MAX: Ticks = Ticks::from_millis(1000);

/// A step forward by more than this and the time that really passed is a jump.
const FORWARD_MAX: Ticks = Ticks::from_millis(10_000);

/// The step over a jump.
const STEP: Ticks = Ticks::from_millis(40);

/// Bounds sums of real and media time.
const DAY: Duration = Duration::from_secs(86_400);

/// The clock of one transport stream.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Added to times of the newest part of the stream.
    offset: Ticks,
    newest: Option<(Pts, Instant)>,
    /// Picture and sound.
    tracks: [Track; 2],
    /// Jumps that were repaired.
    pub(super) repaired: u64,
}

#[derive(Debug, Default)]
struct Track {
    offset: Ticks,
    last: Option<Pts>,
}

impl Line {
    /// Puts a packet on the line. Decoding times of a track grow; presentation is never before
    /// decoding.
    pub(super) fn place(&mut self, packet: &mut Packet) {
        let index = usize::from(!packet.kind.is_video());
        let now = packet.arrived;
        let ahead = Ticks(packet.pts.0.wrapping_sub(packet.dts.0).clamp(0, FORWARD_MAX.0));
        if self.tracks[index].last.is_none() {
            self.tracks[index].offset = self.offset;
        }
        let mut dts = packet.dts + self.tracks[index].offset;
        if !self.follows(index, dts, now) {
            dts = packet.dts + self.offset;
            if !self.follows(index, dts, now) {
                dts = self.newest.map_or(dts, |(newest, _)| newest + STEP);
                self.offset = dts - packet.dts;
                self.repaired += 1;
            }
            self.tracks[index].offset = self.offset;
        }
        if let Some(last) = self.tracks[index].last
            && dts <= last
        {
            dts = last + Ticks(1);
        }
        self.tracks[index].last = Some(dts);
        if self.newest.is_none_or(|(newest, _)| dts >= newest) {
            self.newest = Some((dts, now));
        }
        (packet.pts, packet.dts) = (dts + ahead, dts);
    }

    fn follows(&self, index: usize, time: Pts, now: Instant) -> bool {
        let Some((newest, then)) = self.newest else { return true };
        let passed = Ticks::from_duration(now.saturating_duration_since(then).min(DAY));
        let back = match self.tracks[index].last {
            Some(last) => (last - time).0 <= BACK_MAX.0,
            // A track's first packet may lie behind the other's by as much as a jump.
            None => (newest - time).0 <= FORWARD_MAX.0,
        };
        back && (time - newest).0 <= FORWARD_MAX.0.saturating_add(passed.0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::TrackKind;

    use super::*;

    fn place(line: &mut Line, kind: TrackKind, dts_ms: i64, now: Instant) -> i64 {
        let dts = Pts::from_millis(dts_ms);
        let pts = dts + Ticks::from_millis(80);
        let data = Bytes::new();
        let mut packet = Packet { kind, pts, dts, key: true, data, arrived: now };
        line.place(&mut packet);
        assert_eq!(packet.pts - packet.dts, Ticks::from_millis(80));
        packet.dts.as_millis()
    }

    #[test]
    fn ordinary_times_are_kept_and_a_restart_goes_on_with_both_tracks_together() {
        use TrackKind::{Audio, Video};
        let now = Instant::now();
        let mut line = Line::default();
        assert_eq!(place(&mut line, Video, 50_000, now), 50_000);
        assert_eq!(place(&mut line, Audio, 50_010, now), 50_010);
        assert_eq!(place(&mut line, Video, 50_040, now), 50_040);
        // The picture begins anew; sound of before is still on its way.
        assert_eq!(place(&mut line, Video, 1000, now), 50_080);
        assert_eq!(place(&mut line, Audio, 50_031, now), 50_031);
        assert_eq!(place(&mut line, Audio, 1010, now), 50_090);
        assert_eq!(line.repaired, 1);
        // And far ahead.
        assert_eq!(place(&mut line, Video, 900_000, now), 50_130);
        assert_eq!(place(&mut line, Audio, 900_010, now), 50_140);
        assert_eq!(line.repaired, 2);
    }

    #[test]
    fn a_pause_that_really_was_is_kept() {
        let now = Instant::now();
        let mut line = Line::default();
        place(&mut line, TrackKind::Video, 0, now);
        let later = now + Duration::from_secs(95);
        assert_eq!(place(&mut line, TrackKind::Video, 100_000, later), 100_000);
    }

    proptest::proptest! {
        #[test]
        fn any_times_give_growing_ones(times in proptest::collection::vec((proptest::bool::ANY, proptest::num::i64::ANY, proptest::num::i64::ANY), 0..60)) {
            let mut line = Line::default();
            let mut last: [Option<Pts>; 2] = [None; 2];
            for (video, pts, dts) in times {
                let kind = if video { TrackKind::Video } else { TrackKind::Audio };
                let data = Bytes::new();
                let mut packet = Packet { kind, pts: Pts(pts), dts: Pts(dts), key: true, data, arrived: Instant::now() };
                line.place(&mut packet);
                let index = usize::from(!video);
                // The first times may be anywhere; from there on they grow unless 64 bits are over.
                if let Some(last) = last[index] {
                    proptest::prop_assert!((packet.dts - last).0 > 0);
                }
                last[index] = Some(packet.dts);
            }
        }
    }
}
