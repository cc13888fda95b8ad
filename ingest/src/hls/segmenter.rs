//! Packets into parts and segments of a [`Window`].
//!
//! A segment begins with a key picture and is no shorter than the limit; so how often key pictures
//! come decides how long segments are. One that grows over its limit of bytes is cut where it
//! stands. After a change of tracks, a new publisher or a jump of the clock the next segment is
//! marked as discontinuous and has an init segment of its own.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use pipeline::fmp4::{self, Fragment};
use pipeline::{Packet, Pts, Ticks, TrackKind, Tracks, mpegts};

use super::window::{Facts, Part, Segment, Window};

/// What a part may be longer than wanted by rounding: 2 ms.
const PART_SLACK: Ticks = Ticks::from_millis(2);

/// How far the clock of the stream may run from the wall before segments are dated anew.
const DATE_SLACK: Duration = Duration::from_millis(500);

/// The longest step of an MPEG-TS stream's time that is still the same run: 10 s.
const STEP_MAX: Ticks = Ticks::from_millis(10_000);

/// The form of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Fragmented MP4.
    Fmp4,
    /// MPEG transport stream.
    Ts,
}

/// Makes segments.
pub(super) struct Segmenter {
    format: Format,
    tracks: Tracks,
    run: Run,
    init: u32,
    /// Whether the next segment does not follow on the last.
    discontinuity: bool,
    /// Date of the run's time 0.
    epoch: Option<SystemTime>,
    /// When the packet came that the next segment begins with.
    wall: SystemTime,
    /// Why nothing can be made of the tracks.
    problem: Option<String>,
}

/// What writes at the moment.
enum Run {
    /// Tracks are not known.
    None,
    Fmp4(Box<fmp4::Writer>),
    Ts(Box<TsRun>),
}

struct TsRun {
    muxer: mpegts::Muxer,
    out: BytesMut,
    /// Decoding time of the first and the newest leading packet of the segment.
    begin: Option<Pts>,
    newest: Pts,
    step: Ticks,
    pictures: u32,
    has_video: bool,
    /// Media time of all segments of the run before this one.
    before: Ticks,
}

impl Segmenter {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            tracks: Tracks::default(),
            run: Run::None,
            init: 0,
            discontinuity: false,
            epoch: None,
            wall: SystemTime::UNIX_EPOCH,
            problem: None,
        }
    }

    /// Why the stream cannot be shown, if it cannot.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What follows is of these tracks.
    pub(super) fn set_tracks(&mut self, tracks: &Tracks, window: &mut Window) {
        if self.tracks == *tracks && !matches!(self.run, Run::None) {
            return;
        }
        self.end_run(window);
        self.tracks = tracks.clone();
        self.problem = None;
        let size = tracks.video.as_ref().map(|video| video.size);
        match self.format {
            Format::Fmp4 => match fmp4::Writer::new(tracks) {
                Ok(writer) => {
                    self.init = window.add_init(writer.init().clone());
                    window.facts = Facts { codecs: writer.codecs(), size };
                    self.run = Run::Fmp4(Box::new(writer));
                }
                Err(fmp4::Error::NotReady(_) | fmp4::Error::NoTrack) => {}
                Err(error) => self.problem = Some(error.to_string()),
            },
            Format::Ts => match mpegts::Muxer::new(tracks) {
                Ok(muxer) => {
                    // The names are the same as in MP4.
                    let codecs = fmp4::Writer::new(tracks).map(|writer| writer.codecs());
                    window.facts = Facts { codecs: codecs.unwrap_or_default(), size };
                    self.run = Run::Ts(Box::new(TsRun::new(muxer, tracks)));
                }
                Err(mpegts::MuxError::NoTrack) => {}
                Err(error) => self.problem = Some(error.to_string()),
            },
        }
    }

    /// The source is gone or goes on elsewhere: what is there is closed, and the next segment does
    /// not follow on it.
    pub(super) fn end_run(&mut self, window: &mut Window) {
        match std::mem::replace(&mut self.run, Run::None) {
            Run::None => {}
            Run::Fmp4(mut writer) => {
                if let Some(fragment) = writer.finish() {
                    self.add_fragment(fragment, window);
                }
            }
            Run::Ts(mut run) => {
                if let Some((part, pictures, start)) = run.finish(window.next_part, None) {
                    self.add_part(part, pictures, start, window);
                }
            }
        }
        window.close();
        self.discontinuity = window.next_segment > 0;
        self.epoch = None;
    }

    /// Takes a packet that came in at `wall`; answers whether there is anything new for players.
    pub(super) fn push(&mut self, packet: &Packet, wall: SystemTime, window: &mut Window) -> bool {
        let leads = match packet.kind {
            TrackKind::Video => true,
            TrackKind::Audio => self.tracks.video.is_none(),
        };
        let before = (window.next_part, window.next_segment);
        if leads {
            self.wall = wall;
        }
        match &mut self.run {
            Run::None => return false,
            Run::Fmp4(_) => self.push_fmp4(packet, leads, window),
            Run::Ts(_) => self.push_ts(packet, leads, window),
        }
        (window.next_part, window.next_segment) != before
    }

    fn push_fmp4(&mut self, packet: &Packet, leads: bool, window: &mut Window) {
        let Run::Fmp4(writer) = &mut self.run else { return };
        writer.push(packet);
        let limits = *window.limits();
        let pending = writer.pending();
        let open = window.open.as_ref();
        let duration = open.map_or(0, |open| open.duration.0) + pending.0;
        // A picture late by a little must not double the segment.
        let long_enough = duration + writer.step().0 / 2 >= limits.segment.0;
        let heavy =
            open.map_or(0, |open| open.bytes) + writer.pending_bytes() > limits.segment_bytes;
        let ends_segment = heavy || (leads && packet.key && long_enough);
        let ends_part =
            leads && pending.0 > 0 && pending.0 + writer.step().0 > limits.part.0 + PART_SLACK.0;
        if (ends_segment || ends_part)
            && let Some(fragment) = writer.flush()
        {
            self.add_fragment(fragment, window);
        }
        if ends_segment {
            window.close();
        }
    }

    fn add_fragment(&mut self, fragment: Fragment, window: &mut Window) {
        let part = Part {
            number: window.next_part,
            data: fragment.data,
            duration: fragment.duration,
            independent: fragment.independent,
        };
        self.add_part(part, fragment.pictures, fragment.start, window);
    }

    fn push_ts(&mut self, packet: &Packet, leads: bool, window: &mut Window) {
        let Run::Ts(run) = &mut self.run else { return };
        if run.begin.is_none() && !(leads && packet.key) {
            return;
        }
        let limits = *window.limits();
        let mut jumped = false;
        if let (true, Some(begin)) = (leads, run.begin) {
            let step = packet.dts - run.newest;
            jumped = step > STEP_MAX || step <= Ticks(0);
            let long_enough = (packet.dts - begin).0 + run.step.0 / 2 >= limits.segment.0;
            let heavy = run.out.len() + packet.data.len() > limits.segment_bytes;
            if jumped || heavy || (packet.key && long_enough) {
                let next = (!jumped).then_some(packet.dts);
                if let Some((part, pictures, start)) = run.finish(window.next_part, next) {
                    self.add_part(part, pictures, start, window);
                    window.close();
                }
            }
        }
        if jumped {
            self.discontinuity = true;
            self.epoch = None;
        }
        let Run::Ts(run) = &mut self.run else { return };
        run.push(packet, leads);
    }

    fn add_part(&mut self, part: Part, pictures: u32, start: Ticks, window: &mut Window) {
        let (wall, init) = (self.date(start), self.init);
        window.next_part = part.number + 1;
        let discontinuity = &mut self.discontinuity;
        let open = window.open.get_or_insert_with(|| Segment {
            number: window.next_segment,
            wall,
            discontinuity: std::mem::take(discontinuity),
            init: if self.format == Format::Fmp4 { init } else { 0 },
            parts: Vec::new(),
            duration: Ticks(0),
            bytes: 0,
            pictures: 0,
        });
        open.push(part, pictures);
    }

    /// The date of a time of the run: by the stream's own clock, as long as that is near the wall's.
    fn date(&mut self, start: Ticks) -> SystemTime {
        let since = start.to_duration().unwrap_or_default();
        let by_clock = self.epoch.and_then(|epoch| epoch.checked_add(since));
        let near = |date: &SystemTime| {
            let apart = date.duration_since(self.wall).unwrap_or_else(|error| error.duration());
            apart < DATE_SLACK
        };
        match by_clock.filter(near) {
            Some(date) => date,
            None => {
                self.epoch = self.wall.checked_sub(since);
                self.wall
            }
        }
    }
}

impl TsRun {
    fn new(muxer: mpegts::Muxer, tracks: &Tracks) -> Self {
        Self {
            muxer,
            out: BytesMut::new(),
            begin: None,
            newest: Pts(0),
            step: Ticks(Ticks::SECOND.0 / 30),
            pictures: 0,
            has_video: tracks.video.is_some(),
            before: Ticks(0),
        }
    }

    fn push(&mut self, packet: &Packet, leads: bool) {
        if self.begin.is_none() {
            self.muxer.start_segment(&mut self.out);
        }
        // A packet that has no form in MPEG-TS leaves the others whole.
        if self.muxer.mux(packet, &mut self.out).is_err() || !leads {
            return;
        }
        if self.begin.is_none() {
            self.begin = Some(packet.dts);
        } else {
            self.step = packet.dts - self.newest;
        }
        self.newest = packet.dts;
        self.pictures += u32::from(self.has_video);
    }

    /// The segment up to `next`, the time of what follows; its part, pictures and start.
    fn finish(&mut self, number: u64, next: Option<Pts>) -> Option<(Part, u32, Ticks)> {
        let begin = self.begin.take()?;
        let duration = next.unwrap_or(self.newest + self.step) - begin;
        let start = self.before;
        self.before = Ticks(self.before.0 + duration.0);
        let data = self.out.split().freeze();
        let part = Part { number, data, duration, independent: true };
        Some((part, std::mem::take(&mut self.pictures), start))
    }
}
