//! The receiver's side of time: from a publisher's RTP timestamps of sound and picture to names on
//! one timeline.
//!
//! Until both tracks had a sender report their distance is taken from arrival. After that the
//! picture's timeline is moved by reports towards the one that RTP and wall times of both tracks
//! imply (RFC 3550 6.4.1), by at most 1/16 of the time that passes, so names rise and never jump.
//! Sound is never moved: its players notice. Reports that contradict arrival by more than two
//! seconds are refused and counted.

use std::time::Instant;

use pipeline::time::Unwrapper;
use pipeline::{Pts, Ticks, TrackKind};

use super::clock::Ntp;
use super::packet::RtpTime;

/// Ticks of movement for each so many ticks of media.
const SLEW: i64 = 16;

/// A report that moves the picture by more than this is not believed.
const CORRECTION_MAX: Ticks = Ticks(2 * Ticks::SECOND.0);

/// Timestamps that leave arrival by more than this have been restarted.
const JUMP_MIN: Ticks = Ticks(5 * Ticks::SECOND.0);

/// The common timeline of one publisher.
#[derive(Clone, Debug)]
pub struct SourceClock {
    origin: Option<Instant>,
    video: Track,
    audio: Track,
    refused_reports: u64,
}

#[derive(Clone, Debug)]
struct Track {
    rate: u32,
    unwrap: Unwrapper<32>,
    /// From the track's time in 90 kHz ticks to names.
    offset: Option<i64>,
    /// What is still to be added to the offset.
    correction: i64,
    /// Time of the last frame in 90 kHz ticks, and its name.
    last: Option<(i64, Pts)>,
    /// The newest report: wall time and RTP time in 90 kHz ticks.
    report: Option<(Ntp, i64)>,
}

impl Track {
    fn new(rate: u32) -> Self {
        Self {
            rate: rate.max(1),
            unwrap: Unwrapper::new(),
            offset: None,
            correction: 0,
            last: None,
            report: None,
        }
    }

    fn ticks(&mut self, time: RtpTime) -> i64 {
        let unwrapped = self.unwrap.unwrap(u64::from(time.0));
        (i128::from(unwrapped) * 90_000).div_euclid(i128::from(self.rate)) as i64
    }

    fn pts(&mut self, time: RtpTime, arrived: Pts) -> Pts {
        let ticks = self.ticks(time);
        let passed = self.last.map_or(0, |(last, _)| ticks - last).max(0);
        let mut offset = self.offset.unwrap_or(arrived.0 - ticks);
        if (ticks + offset - arrived.0).abs() > JUMP_MIN.0 {
            offset = arrived.0 - ticks;
            (self.correction, self.report) = (0, None);
        } else {
            let limit = passed / SLEW;
            let step = self.correction.clamp(-limit, limit);
            offset += step;
            self.correction -= step;
        }
        self.offset = Some(offset);
        let pts = Pts(ticks + offset);
        let pts = self.last.map_or(pts, |(_, last)| pts.max(last + Ticks(1)));
        self.last = Some((ticks, pts));
        pts
    }
}

impl SourceClock {
    /// A timeline for pictures at 90 kHz and sound at `audio_rate` ticks a second (48,000 for
    /// Opus). It begins at zero with the first frame.
    pub fn new(audio_rate: u32) -> Self {
        Self {
            origin: None,
            video: Track::new(90_000),
            audio: Track::new(audio_rate),
            refused_reports: 0,
        }
    }

    /// Begins the timeline at a moment instead, for several clocks that share one. Not heard once
    /// it has begun.
    pub fn begin(&mut self, at: Instant) {
        self.origin.get_or_insert(at);
    }

    /// The name of a frame, whose packet of `time` came at `arrived`. Feed frames in order; names
    /// of a track rise strictly.
    pub fn pts(&mut self, kind: TrackKind, time: RtpTime, arrived: Instant) -> Pts {
        let origin = *self.origin.get_or_insert(arrived);
        let since = Pts(Ticks::from_duration(arrived.saturating_duration_since(origin)).0);
        self.track(kind).pts(time, since)
    }

    /// Takes a sender report of one track. Without frames of that track it is not used.
    pub fn sender_report(&mut self, kind: TrackKind, wall: Ntp, time: RtpTime) {
        let track = self.track(kind);
        if track.last.is_none() {
            return;
        }
        // A report's time may lie before the last frame; the copy keeps the frames' order.
        let ticks = track.clone().ticks(time);
        track.report = Some((wall, ticks));
        let (Some((video_wall, video)), Some((audio_wall, audio))) =
            (self.video.report, self.audio.report)
        else {
            return;
        };
        let (Some(video_offset), Some(audio_offset)) = (self.video.offset, self.audio.offset)
        else {
            return;
        };
        // Where the picture of `video_wall` belongs by the sound's clock, and where it is.
        let wanted =
            audio.saturating_add(audio_offset).saturating_add(video_wall.since(audio_wall).0);
        let correction = wanted.saturating_sub(video.saturating_add(video_offset));
        if correction.saturating_abs() <= CORRECTION_MAX.0 {
            self.video.correction = correction;
        } else {
            self.refused_reports += 1;
        }
    }

    /// The RTP timestamp of a picture or sound by its name: exact unless the track was moved between
    /// then and now. `None` before the first frame.
    pub fn rtp_time(&self, kind: TrackKind, pts: Pts) -> Option<RtpTime> {
        let track = match kind {
            TrackKind::Video => &self.video,
            TrackKind::Audio => &self.audio,
        };
        let ticks = i128::from(pts.0) - i128::from(track.offset?);
        let time = (ticks * i128::from(track.rate)).div_euclid(90_000);
        Some(RtpTime(time as u32))
    }

    /// Reports that were not believed.
    pub const fn refused_reports(&self) -> u64 {
        self.refused_reports
    }

    fn track(&mut self, kind: TrackKind) -> &mut Track {
        match kind {
            TrackKind::Video => &mut self.video,
            TrackKind::Audio => &mut self.audio,
        }
    }
}

#[cfg(test)]
#[path = "source_clock_tests.rs"]
mod tests;
