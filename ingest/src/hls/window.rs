//! What a muxer offers at one moment: the newest segments with their parts, within limits.
//!
//! Segments that left the playlist are kept a little longer, for players that are about to fetch
//! them (RFC 8216bis 6.2.2).

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pipeline::{Size, Ticks};

/// Segments that are kept after they left the playlist.
const KEPT_BEHIND: usize = 3;

/// Segments that stay in the playlist whatever they weigh: fewer and players cannot start.
const LISTED_MIN: usize = 3;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Segments in the playlist.
    pub(super) segments: usize,
    /// The shortest segment.
    pub(super) segment: Ticks,
    /// How long a part should be.
    pub(super) part: Ticks,
    /// Bytes of one segment; a larger one is cut, key picture or not.
    pub(super) segment_bytes: usize,
    /// Bytes of all segments together.
    pub(super) bytes: usize,
}

/// A piece of a segment that players can have before the segment is complete.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) data: Bytes,
    pub(super) duration: Ticks,
    pub(super) independent: bool,
}

/// A segment, complete or being made.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Media sequence number.
    pub(super) number: u64,
    /// When its first picture came in.
    pub(super) wall: SystemTime,
    /// Whether something else begins here.
    pub(super) discontinuity: bool,
    /// Number of its init segment; 0 in MPEG-TS, which has none.
    pub(super) init: u32,
    pub(super) parts: Vec<Part>,
    pub(super) duration: Ticks,
    pub(super) bytes: usize,
    pub(super) pictures: u32,
}

impl Segment {
    /// Its bytes, as chunks.
    pub(super) fn data(&self) -> Vec<Bytes> {
        self.parts.iter().map(|part| part.data.clone()).collect()
    }

    pub(super) fn push(&mut self, part: Part, pictures: u32) {
        self.duration = Ticks(self.duration.0 + part.duration.0);
        self.bytes += part.data.len();
        self.pictures += pictures;
        self.parts.push(part);
    }
}

/// What a player is told about the stream as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// After RFC 6381.
    pub(super) codecs: String,
    pub(super) size: Option<Size>,
}

/// The segments of a muxer.
#[derive(Debug)]
pub(super) struct Window {
    limits: Limits,
    /// Complete segments, those behind the playlist first.
    pub(super) segments: VecDeque<Segment>,
    /// How many of them are no longer in the playlist.
    behind: usize,
    /// The one being made.
    pub(super) open: Option<Segment>,
    /// Init segments by number, from 1.
    inits: VecDeque<(u32, Bytes)>,
    pub(super) next_segment: u64,
    pub(super) next_part: u64,
    /// Discontinuities that have left the playlist.
    pub(super) discontinuities_gone: u64,
    /// `EXT-X-TARGETDURATION` in seconds: never less than it was, since players rely on it.
    pub(super) target_s: u64,
    pub(super) facts: Facts,
    bytes: usize,
}

impl Window {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            segments: VecDeque::new(),
            behind: 0,
            open: None,
            inits: VecDeque::new(),
            next_segment: 0,
            next_part: 0,
            discontinuities_gone: 0,
            target_s: rounded_seconds(limits.segment).max(1),
            facts: Facts::default(),
            bytes: 0,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Segments of the playlist.
    pub(super) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().skip(self.behind)
    }

    /// The media sequence number of the first segment of the playlist.
    pub(super) fn first_listed(&self) -> u64 {
        self.listed().next().map_or(self.next_segment, |segment| segment.number)
    }

    /// The number of the segment that is or will be open, and the parts it has.
    pub(super) fn edge(&self) -> (u64, usize) {
        match &self.open {
            Some(open) => (open.number, open.parts.len()),
            None => (self.next_segment, 0),
        }
    }

    /// Whether a player can begin.
    pub(super) fn is_ready(&self) -> bool {
        !self.segments.is_empty()
    }

    pub(super) fn init(&self, number: u32) -> Option<Bytes> {
        self.inits.iter().find(|(n, _)| *n == number).map(|(_, data)| data.clone())
    }

    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.number == number)
    }

    pub(super) fn part(&self, number: u64) -> Option<Bytes> {
        let segments = self.segments.iter().chain(&self.open).rev();
        let mut parts = segments.flat_map(|segment| &segment.parts);
        parts.find(|part| part.number == number).map(|part| part.data.clone())
    }

    /// Keeps an init segment; answers its number.
    pub(super) fn add_init(&mut self, data: Bytes) -> u32 {
        let number = self.inits.back().map_or(0, |(number, _)| *number) + 1;
        self.inits.push_back((number, data));
        number
    }

    /// The open segment is complete.
    pub(super) fn close(&mut self) {
        let Some(segment) = self.open.take().filter(|segment| !segment.parts.is_empty()) else {
            return;
        };
        self.target_s = self.target_s.max(rounded_seconds(segment.duration));
        self.bytes += segment.bytes;
        self.next_segment = segment.number + 1;
        self.segments.push_back(segment);
        let listed = |window: &Self| window.segments.len() - window.behind;
        while listed(self) > self.limits.segments.max(LISTED_MIN)
            || (self.bytes > self.limits.bytes && listed(self) > LISTED_MIN)
        {
            let leaves = self.segments[self.behind].discontinuity;
            self.discontinuities_gone += u64::from(leaves);
            self.behind += 1;
        }
        while self.behind > KEPT_BEHIND || (self.behind > 0 && self.bytes > self.limits.bytes) {
            if let Some(gone) = self.segments.pop_front() {
                self.bytes -= gone.bytes;
            }
            self.behind -= 1;
        }
        let oldest = self.segments.front().map_or(0, |segment| segment.init);
        self.inits.retain(|(number, _)| *number >= oldest);
    }

    /// The longest part in reach of players; the wanted length before there is one.
    pub(super) fn part_target(&self) -> Ticks {
        let parts = self.listed().chain(&self.open).flat_map(|segment| &segment.parts);
        parts.map(|part| part.duration).max().unwrap_or(self.limits.part)
    }

    /// Highest and mean bits in a second of the segments.
    pub(super) fn bitrates(&self) -> (u64, u64) {
        let rate = |bytes: usize, ticks: Ticks| {
            bytes as u64 * 8 * Ticks::SECOND.0 as u64 / ticks.0.max(1) as u64
        };
        let peak = self.listed().map(|segment| rate(segment.bytes, segment.duration)).max();
        let bytes = self.listed().map(|segment| segment.bytes).sum();
        let ticks = self.listed().map(|segment| segment.duration.0).sum();
        (peak.unwrap_or(1).max(1), rate(bytes, Ticks(ticks)).max(1))
    }

    /// Pictures in a second, if there are any.
    pub(super) fn frame_rate(&self) -> Option<f64> {
        let pictures: u32 = self.listed().map(|segment| segment.pictures).sum();
        let ticks: i64 = self.listed().map(|segment| segment.duration.0).sum();
        (pictures > 0 && ticks > 0)
            .then(|| f64::from(pictures) * Ticks::SECOND.0 as f64 / ticks as f64)
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes + self.open.as_ref().map_or(0, |open| open.bytes)
    }
}

/// To the nearest whole second, as `EXTINF` is compared with the target duration.
fn rounded_seconds(ticks: Ticks) -> u64 {
    let half = Duration::from_millis(500);
    ticks.to_duration().map_or(0, |duration| (duration + half).as_secs())
}
