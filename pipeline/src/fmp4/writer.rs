//! Packets into an init segment and fragments.
//!
//! A picture's duration is known when the next one comes, so the newest picture is held back; sound
//! says itself how long it lasts. Nothing else waits: [`Writer::flush`] makes a fragment of all that
//! is complete, and whoever calls it decides how long fragments are.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode as _, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use crate::aac::AudioSpecificConfig;
use crate::orientation::Turn;
use crate::packet::{AudioTrack, Codec, Packet, TrackKind, Tracks};
use crate::time::{TICKS_PER_SECOND, Ticks};

use super::entry;
use super::init::init;
use super::lane::{Lane, Sample};
use super::timeline::Timeline;
use super::{AUDIO_ID, Error, VIDEO_ID};

/// `sample_flags` (ISO/IEC 14496-12 8.8.3.1) of a sample that decoding can start at, and of others.
pub(super) const FLAGS_KEY: u32 = 0x0200_0000;
pub(super) const FLAGS_OTHER: u32 = 0x0101_0000;

/// How far sound may be from its stamps before they are believed: 60 ms. Less is the rounding of
/// transports that count milliseconds, and their jitter.
const SOUND_SLACK_MS: i64 = 60;

/// How far a picture may be shown after it was decoded: 10 s.
const COMPOSITION_MAX: i64 = 10 * TICKS_PER_SECOND;

/// One `moof` with its `mdat`.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The bytes.
    pub data: Bytes,
    /// When its first picture (or sound, without pictures) is decoded, since the writer's origin.
    pub start: Ticks,
    /// How long its pictures (or its sound) last.
    pub duration: Ticks,
    /// Whether decoding can start at its first picture; true without pictures.
    pub independent: bool,
    /// Pictures in it.
    pub pictures: u32,
}

/// The newest picture, whose duration is not known.
struct Held {
    at: u64,
    size: u32,
    key: bool,
    composition: i32,
}

struct Picture {
    codec: Codec,
    lane: Lane,
    held: Option<Held>,
    /// The last duration, for the last picture of all.
    step: u32,
}

struct Sound {
    track: AudioTrack,
    /// Samples of every frame, where they are all alike.
    frame_samples: Option<u32>,
    lane: Lane,
    /// A frame that does not say how long it lasts.
    held: Option<(u64, u32)>,
    step: u32,
}

/// Makes one run of fragments. A change of tracks needs a new one.
pub struct Writer {
    init: Bytes,
    names: Vec<String>,
    timeline: Timeline,
    picture: Option<Picture>,
    sound: Option<Sound>,
    sequence: u32,
    left_out: u64,
}

impl Writer {
    /// A writer for these tracks.
    ///
    /// # Errors
    /// [`Error::Codec`] and others for tracks that MP4 cannot carry, [`Error::NotReady`] while the
    /// picture is not fully known, [`Error::NoTrack`].
    pub fn new(tracks: &Tracks) -> Result<Self, Error> {
        Self::turned(tracks, None)
    }

    /// The same for pictures that players have to turn.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn turned(tracks: &Tracks, turn: Option<Turn>) -> Result<Self, Error> {
        let video = tracks.video.as_ref().map(entry::video).transpose()?;
        let audio = tracks.audio.as_ref().map(entry::audio).transpose()?;
        if video.is_none() && audio.is_none() {
            return Err(Error::NoTrack);
        }
        let names = [&video, &audio].into_iter().flatten().map(|d| d.name.clone()).collect();
        let picture =
            video.as_ref().zip(tracks.video.as_ref()).map(|(description, track)| Picture {
                codec: track.codec,
                lane: Lane::new(VIDEO_ID, description.timescale),
                held: None,
                step: description.timescale / 30,
            });
        let sound = match audio.as_ref().zip(tracks.audio.as_ref()) {
            None => None,
            Some((description, track)) => Some(Sound {
                track: track.clone(),
                frame_samples: match track.codec {
                    Codec::Aac => {
                        Some(AudioSpecificConfig::parse(&track.config)?.frame_samples.into())
                    }
                    _ => None,
                },
                lane: Lane::new(AUDIO_ID, description.timescale),
                held: None,
                step: description.timescale / 50,
            }),
        };
        let init = init(tracks, video, audio, turn)?;
        let timeline = Timeline::default();
        Ok(Self { init, names, timeline, picture, sound, sequence: 0, left_out: 0 })
    }

    /// `ftyp` and `moov`.
    pub fn init(&self) -> &Bytes {
        &self.init
    }

    /// The tracks' codecs after RFC 6381, with commas, as a playlist has them.
    pub fn codecs(&self) -> String {
        self.names.join(",")
    }

    /// Stamps that did not fit and were rewritten.
    pub fn restamped(&self) -> u64 {
        self.timeline.moved
    }

    /// Packets that were left out: before the first key picture, of unknown tracks, and sound
    /// that came twice.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes a packet. It never fails: what does not fit is moved or left out, and counted.
    pub fn push(&mut self, packet: &Packet) {
        if !self.timeline.started() {
            let first = match packet.kind {
                TrackKind::Video => packet.key && self.picture.is_some(),
                TrackKind::Audio => self.picture.is_none() && self.sound.is_some(),
            };
            if !first {
                self.left_out += 1;
                return;
            }
            self.timeline.start(packet.dts);
        }
        match packet.kind {
            TrackKind::Video => self.push_picture(packet),
            TrackKind::Audio => self.push_sound(packet),
        }
    }

    fn push_picture(&mut self, packet: &Packet) {
        let Some(picture) = &mut self.picture else {
            self.left_out += 1;
            return;
        };
        let time = self.timeline.place(TrackKind::Video, packet.dts);
        let at = u64::try_from(time).unwrap_or(0);
        picture.complete(at);
        let composition = (packet.pts - packet.dts).0.clamp(0, COMPOSITION_MAX) as i32;
        let size = entry::put_sample(picture.codec, &packet.data, &mut picture.lane.data) as u32;
        picture.held = Some(Held { at, size, key: packet.key, composition });
    }

    fn push_sound(&mut self, packet: &Packet) {
        let Some(sound) = &mut self.sound else {
            self.left_out += 1;
            return;
        };
        let time = self.timeline.place(TrackKind::Audio, packet.dts);
        let timescale = i64::from(sound.lane.timescale);
        let time = (i128::from(time) * i128::from(timescale) / i128::from(TICKS_PER_SECOND)) as i64;
        let slack = timescale * SOUND_SLACK_MS / 1000;
        let counted =
            sound.held.map_or(sound.lane.end, |(at, _)| at + u64::from(sound.step)) as i64;
        let fresh = counted == 0;
        if time < if fresh { 0 } else { counted - slack } {
            // Before the first picture, or the sound runs faster than its clock.
            self.left_out += 1;
            return;
        }
        let known = entry::samples_of(&sound.track, sound.frame_samples, &packet.data);
        let steady = !fresh && known.is_some() && time <= counted + slack;
        let at = if steady { counted } else { time.max(counted) } as u64;
        sound.complete(at);
        let put = entry::put_sample(sound.track.codec, &packet.data, &mut sound.lane.data);
        sound.held = Some((at, put as u32));
        if let Some(duration) = known {
            sound.step = duration;
            sound.complete(at + u64::from(duration));
        }
    }

    /// How long the complete pictures (or the sound) since the last flush last.
    pub fn pending(&self) -> Ticks {
        let picture = self.picture.as_ref().map(|picture| picture.lane.pending());
        picture.or(self.sound.as_ref().map(|sound| sound.lane.pending())).unwrap_or_default()
    }

    /// How long the last complete picture (or sound) lasts: what the next one may add.
    pub fn step(&self) -> Ticks {
        let picture = self.picture.as_ref().map(|p| p.lane.ticks(p.step.into()));
        picture.or(self.sound.as_ref().map(|s| s.lane.ticks(s.step.into()))).unwrap_or_default()
    }

    /// Bytes since the last flush, the picture held back included.
    pub fn pending_bytes(&self) -> usize {
        let lanes = [self.picture.as_ref().map(|p| &p.lane), self.sound.as_ref().map(|s| &s.lane)];
        lanes.into_iter().flatten().map(|lane| lane.data.len()).sum()
    }

    /// All that is complete, as a fragment; `None` if nothing is.
    pub fn flush(&mut self) -> Option<Fragment> {
        let (picture, sound) = (self.picture.as_mut(), self.sound.as_mut());
        let lead = match (&picture, &sound) {
            (Some(picture), _) => &picture.lane,
            (None, Some(sound)) => &sound.lane,
            (None, None) => return None,
        };
        let (start, duration) = match lead.samples.is_empty() {
            true => (lead.ticks(lead.end), Ticks(0)),
            false => (lead.ticks(lead.base), lead.pending()),
        };
        let (independent, pictures) = match &picture {
            None => (true, 0),
            Some(picture) => {
                let samples = &picture.lane.samples;
                (samples.first().is_some_and(|sample| sample.key), samples.len() as u32)
            }
        };
        let mut lanes: Vec<&mut Lane> = [picture.map(|p| &mut p.lane), sound.map(|s| &mut s.lane)]
            .into_iter()
            .flatten()
            .filter(|lane| !lane.samples.is_empty())
            .collect();
        if lanes.is_empty() {
            return None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut moof = Moof {
            mfhd: Mfhd { sequence_number: self.sequence },
            traf: lanes.iter().map(|lane| traf(lane)).collect(),
        };
        let payload: usize = lanes.iter().map(|lane| lane.data_complete).sum();
        // The runs' offsets count from the first byte of `moof`, whose length does not depend on
        // them.
        let mut out = BytesMut::new();
        moof.encode(&mut out).ok()?;
        let mut offset = out.len() + 8;
        for (traf, lane) in moof.traf.iter_mut().zip(&lanes) {
            traf.trun[0].data_offset = i32::try_from(offset).ok();
            offset += lane.data_complete;
        }
        out.clear();
        out.reserve(offset);
        moof.encode(&mut out).ok()?;
        out.put_u32(8 + payload as u32);
        out.put_slice(b"mdat");
        for lane in &mut lanes {
            out.put_slice(&lane.data.split_to(lane.data_complete));
            lane.data_complete = 0;
            lane.samples.clear();
        }
        Some(Fragment { data: out.freeze(), start, duration, independent, pictures })
    }

    /// As [`Self::flush`], with the picture held back, which gets the duration of the one before.
    pub fn finish(&mut self) -> Option<Fragment> {
        if let Some(picture) = &mut self.picture
            && let Some(held) = &picture.held
        {
            picture.complete(held.at + u64::from(picture.step));
        }
        if let Some(sound) = &mut self.sound
            && let Some((at, _)) = sound.held
        {
            sound.complete(at + u64::from(sound.step));
        }
        self.flush()
    }
}

impl Picture {
    /// The picture held back lasts until `end`.
    fn complete(&mut self, end: u64) {
        let Some(Held { at, size, key, composition }) = self.held.take() else { return };
        let duration = u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX);
        self.step = duration;
        self.lane.complete(at, Sample { duration, size, key, composition });
    }
}

impl Sound {
    fn complete(&mut self, end: u64) {
        let Some((at, size)) = self.held.take() else { return };
        let duration = u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX);
        self.step = duration;
        self.lane.complete(at, Sample { duration, size, key: true, composition: 0 });
    }
}

fn traf(lane: &Lane) -> Traf {
    let samples = &lane.samples;
    let alike = samples.windows(2).all(|pair| pair[0].duration == pair[1].duration);
    let composed = samples.iter().any(|sample| sample.composition != 0);
    let sound = lane.id == AUDIO_ID;
    let later_key = !sound && samples.iter().skip(1).any(|sample| sample.key);
    let entries = samples.iter().enumerate().map(|(index, sample)| TrunEntry {
        duration: (!alike).then_some(sample.duration),
        size: Some(sample.size),
        flags: match (sample.key, index) {
            _ if sound => None,
            (true, _) if later_key || index == 0 => Some(FLAGS_KEY),
            _ => later_key.then_some(FLAGS_OTHER),
        },
        cts: composed.then_some(sample.composition.into()),
    });
    Traf {
        tfhd: Tfhd {
            track_id: lane.id,
            default_sample_duration: samples.first().filter(|_| alike).map(|s| s.duration),
            default_sample_flags: Some(if sound { FLAGS_KEY } else { FLAGS_OTHER }),
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: Some(Tfdt { base_media_decode_time: lane.base }),
        trun: vec![Trun { data_offset: Some(0), samples: entries.collect::<Vec<_>>().into() }],
        ..Traf::default()
    }
}
