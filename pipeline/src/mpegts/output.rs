//! Units of both streams become packets: canonical form, unwrapped time, and what is known about
//! the tracks.

use std::time::Instant;

use bytes::Bytes;

use crate::frame::Size;
use crate::packet::{AudioTrack, Codec, Packet, TrackKind, Tracks, VideoTrack};
use crate::time::{Pts, Unwrapper};
use crate::video::Assembler;

use super::collect::Unit;
use super::psi::Elementary;
use super::sound::{Sound, Splitter};
use super::{Event, Stats};

/// Where units of one program go.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Of the picture's codec, while there is a picture.
    assembler: Option<Assembler>,
    /// A key picture came.
    started: bool,
    splitter: Option<Splitter>,
    /// One for both tracks, so that they stay together over the turn of the clock.
    pub(super) unwrap: Unwrapper<33>,
    pub(super) tracks: Tracks,
    /// `tracks` is to be told before the next packet.
    news: bool,
}

impl Output {
    pub(super) fn begin_video(&mut self, stream: Option<Elementary>) {
        self.assembler = stream.and_then(|stream| Assembler::new(stream.codec));
        self.started = false;
        self.news = true;
        self.tracks.video = stream.map(|stream| VideoTrack {
            codec: stream.codec,
            size: Size::default(),
            parameter_sets: Bytes::new(),
        });
    }

    pub(super) fn begin_audio(&mut self, stream: Option<Elementary>) {
        self.splitter = stream.map(|stream| Splitter::new(stream.codec));
        self.news = true;
        let opus = stream.filter(|stream| stream.codec == Codec::Opus);
        self.tracks.audio = opus.map(|stream| AudioTrack {
            codec: Codec::Opus,
            sample_rate: crate::opus::SAMPLE_RATE,
            channels: stream.channels,
            config: Bytes::new(),
        });
    }

    pub(super) fn unit(
        &mut self,
        codec: Codec,
        unit: Unit,
        now: Instant,
        stats: &mut Stats,
        out: &mut Vec<Event>,
    ) {
        let times = unit.times.map(|(pts, dts)| {
            let dts = Pts(self.unwrap.unwrap(dts));
            (Pts(self.unwrap.unwrap(pts)), dts)
        });
        if !codec.is_video() {
            return self.sound(unit, times.map(|(pts, _)| pts), now, stats, out);
        }
        let Some((pts, dts)) = times else {
            stats.untimed_units += 1;
            return;
        };
        let Some(assembler) = &mut self.assembler else { return };
        let (data, key) = match assembler.unit(unit.data) {
            Ok(Some(unit)) => {
                if unit.changed {
                    self.tracks.video = assembler.track();
                    self.news = true;
                }
                (unit.data, unit.key)
            }
            // Parameter sets in a unit of their own; the assembler has kept them.
            Ok(None) => return,
            Err(_) => {
                stats.broken_units += 1;
                return;
            }
        };
        self.started |= key;
        if !self.started {
            stats.units_before_key += 1;
            return;
        }
        tell(&mut self.news, &self.tracks, out);
        let kind = TrackKind::Video;
        out.push(Event::Packet(Packet { kind, pts, dts, key, data, arrived: now }));
    }

    fn sound(
        &mut self,
        unit: Unit,
        pts: Option<Pts>,
        now: Instant,
        stats: &mut Stats,
        out: &mut Vec<Event>,
    ) {
        let Some(splitter) = &mut self.splitter else { return };
        if unit.lost {
            splitter.lost();
        }
        let (tracks, news) = (&mut self.tracks, &mut self.news);
        splitter.push(unit.data, pts, stats, |sound| match sound {
            Sound::Track(track) => {
                *news |= tracks.audio.as_ref() != Some(&track);
                tracks.audio = Some(track);
            }
            Sound::Frame(pts, data) => {
                tell(news, tracks, out);
                let kind = TrackKind::Audio;
                out.push(Event::Packet(Packet {
                    kind,
                    pts,
                    dts: pts,
                    key: true,
                    data,
                    arrived: now,
                }));
            }
        });
    }
}

fn tell(news: &mut bool, tracks: &Tracks, out: &mut Vec<Event>) {
    if std::mem::take(news) {
        out.push(Event::Tracks(tracks.clone()));
    }
}
