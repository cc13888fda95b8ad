//! What a recorder writes at the moment: packets into one segment, and when it is time for the next.

use std::time::{Duration, SystemTime};

use pipeline::fmp4::{Error, Fragment, Writer};
use pipeline::orientation;
use pipeline::{Packet, Pts, Ticks, TrackKind, Tracks};

use super::Rule;
use super::moment::Moment;
use super::segment::SegmentFile;

/// How far the wall may be ahead of a segment's own time before the next one is begun: after a pause
/// of the source, or a jump of its clock that was closed up. Segments are found by the wall.
const WALL_SLACK: Duration = Duration::from_secs(2);

/// What a part may be longer than wanted by rounding: 2 ms.
const PART_SLACK: Ticks = Ticks::from_millis(2);

/// A segment in the making.
pub(super) struct Run {
    pub(super) writer: Writer,
    /// When its first picture came.
    pub(super) start: Moment,
    /// Made with the first part.
    pub(super) file: Option<SegmentFile>,
    /// Where the newest part ends.
    pub(super) end: Ticks,
    has_video: bool,
}

impl Run {
    /// A segment that begins with the key picture `first`, which may say that it is to be turned.
    pub(super) fn new(tracks: &Tracks, start: Moment, first: &Packet) -> Result<Self, Error> {
        let video = tracks.video.as_ref().filter(|_| first.kind.is_video());
        let turn = video.and_then(|track| orientation::turn_of(track.codec, &first.data));
        let writer = Writer::turned(tracks, turn)?;
        let has_video = tracks.video.is_some();
        Ok(Self { writer, start, file: None, end: Ticks(0), has_video })
    }

    fn duration(&self) -> Ticks {
        Ticks(self.end.0 + self.writer.pending().0)
    }

    /// Whether `packet`, which came at `wall`, is to begin the next segment.
    pub(super) fn is_over(&self, packet: &Packet, wall: Moment, rule: &Rule) -> bool {
        if !leads(packet, self.has_video) || !packet.key {
            return false;
        }
        let duration = self.duration();
        // A picture late by a little must not double the segment.
        // The newest picture is not counted yet.
        let full =
            duration.0 + self.writer.step().0 * 3 / 2 >= Ticks::from_duration(rule.segment).0;
        let own = self.start.plus(duration.to_duration().unwrap_or_default());
        full || wall.since(own) > WALL_SLACK
    }

    /// Takes a packet; gives a part when one is complete.
    pub(super) fn push(&mut self, packet: &Packet, rule: &Rule) -> Option<Fragment> {
        self.writer.push(packet);
        let pending = self.writer.pending();
        let wanted = Ticks::from_duration(rule.part).0 + PART_SLACK.0;
        let long = pending.0 > 0 && pending.0 + self.writer.step().0 > wanted;
        let heavy = self.writer.pending_bytes() > rule.part_bytes;
        ((leads(packet, self.has_video) && long) || heavy).then(|| self.writer.flush()).flatten()
    }
}

/// Whether segments and parts are cut by packets of this kind.
pub(super) fn leads(packet: &Packet, has_video: bool) -> bool {
    match packet.kind {
        TrackKind::Video => true,
        TrackKind::Audio => !has_video,
    }
}

/// A segment whose pictures are complete and which waits for the sound that belongs to them: sound
/// comes a little later, and what was played before the next segment's first picture has no place
/// in that one.
pub(super) struct Closing {
    pub(super) run: Run,
    /// When the next one begins.
    pub(super) until: Pts,
}

/// How far the pictures may be ahead of sound that a segment waits for: 1 s.
const SOUND_LATE_MAX: Ticks = Ticks::SECOND;

impl Closing {
    /// Whether a packet still belongs to it.
    pub(super) fn wants(&self, packet: &Packet) -> bool {
        packet.kind == TrackKind::Audio && packet.dts < self.until
    }

    /// Whether nothing that belongs to it comes after this packet.
    pub(super) fn is_complete(&self, packet: &Packet) -> bool {
        match packet.kind {
            TrackKind::Audio => packet.dts >= self.until,
            TrackKind::Video => (packet.dts - self.until).0.abs() > SOUND_LATE_MAX.0,
        }
    }
}

/// When a packet came in.
pub(super) fn wall_of(packet: &Packet) -> Moment {
    let now = SystemTime::now();
    Moment::of(now.checked_sub(packet.arrived.elapsed()).unwrap_or(now))
}
