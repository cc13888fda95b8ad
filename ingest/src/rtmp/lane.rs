//! One track of a publisher, of the picture or of the sound: its messages become packets.

use std::time::Instant;

use bytes::BytesMut;
use pipeline::aac::AudioSpecificConfig;
use pipeline::flac::StreamInfo;
use pipeline::mp3::FrameHeader;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::video::{self, Assembler};
use pipeline::{Codec, Packet, TrackKind};

use super::clock::{Clock, Track};
use super::flv::{MediaError, Tag};

/// When a message came: by our clock, and by the publisher's in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) now: Instant,
    pub(super) timestamp: u32,
}

/// A track of pictures.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// Of the codec, from the first message on.
    assembler: Option<Assembler>,
    clock: Track,
    seen_key: bool,
    /// What the pictures are, once that is known.
    pub(super) track: Option<VideoTrack>,
}

impl Picture {
    /// Takes a message. Says whether [`Self::track`] is another than before, and the packet.
    pub(super) fn take(
        &mut self,
        clock: &mut Clock,
        came: Came,
        tag: Tag,
    ) -> Result<(bool, Option<Packet>), MediaError> {
        match tag {
            Tag::Nothing | Tag::Plain { .. } => Ok((false, None)),
            Tag::Header { codec, record } => {
                let assembler = self.assembler(codec)?;
                assembler.configure(&record)?;
                let track = assembler.track();
                // Parameter sets that replace others hold from the next key picture on.
                let other = self.track.as_ref().is_none_or(|known| known.codec != codec);
                Ok((other && self.set(track), None))
            }
            Tag::Frame { codec, composition_ms, data } => {
                let assembler = self.assembler(codec)?;
                let Some(unit) = assembler.sample(data)? else { return Ok((false, None)) };
                let mut changed = false;
                if unit.changed || self.track.as_ref().is_none_or(|of| of.codec != codec) {
                    let track = self.assembler.as_ref().and_then(Assembler::track);
                    changed = self.set(track);
                }
                if !self.seen_key && !unit.key {
                    return Err(MediaError::Headless("video"));
                }
                self.seen_key = true;
                let Came { now, timestamp } = came;
                let (pts, dts) = clock.stamp(&mut self.clock, timestamp, composition_ms, now);
                let (kind, key, data) = (TrackKind::Video, unit.key, unit.data);
                Ok((changed, Some(Packet { kind, pts, dts, key, data, arrived: now })))
            }
        }
    }

    /// The assembler of this codec; another one than before begins anew.
    fn assembler(&mut self, codec: Codec) -> Result<&mut Assembler, MediaError> {
        if self.assembler.as_ref().is_some_and(|kept| kept.codec() != codec) {
            self.assembler = None;
            self.seen_key = false;
        }
        if self.assembler.is_none() {
            self.assembler = Assembler::new(codec);
        }
        self.assembler.as_mut().ok_or(video::Error::NoVideo(codec).into())
    }

    fn set(&mut self, track: Option<VideoTrack>) -> bool {
        let other = track.is_some() && self.track != track;
        if other {
            self.track = track;
        }
        other
    }
}

/// What a message of sound has.
#[derive(Debug)]
pub(super) enum Heard {
    /// [`Sound::track`] is another than before.
    Track,
    /// The next packet.
    Packet(Packet),
}

/// A track of sound.
#[derive(Debug, Default)]
pub(super) struct Sound {
    clock: Track,
    /// What the sound is, once that is known.
    pub(super) track: Option<AudioTrack>,
}

impl Sound {
    /// Takes a message; what it has goes to `out`, with the track as it is then.
    pub(super) fn take(
        &mut self,
        clock: &mut Clock,
        came: Came,
        tag: Tag,
        out: &mut dyn FnMut(&Self, Heard),
    ) -> Result<(), MediaError> {
        match tag {
            Tag::Nothing => {}
            Tag::Header { codec, record } => self.set(audio_track(codec, record)?, out),
            Tag::Plain { codec: Codec::Mp3, data, .. } => {
                return self.mp3(clock, came, data, out);
            }
            Tag::Plain { codec, channels, data } => {
                // G.711 has one rate (Adobe, E.4.2.1).
                let (sample_rate, config) = (8000, bytes::Bytes::new());
                self.set(AudioTrack { codec, sample_rate, channels, config }, out);
                self.frame(clock, came, data, out);
            }
            Tag::Frame { codec, data, .. } => {
                if self.track.as_ref().is_none_or(|track| track.codec != codec) {
                    return Err(MediaError::Headless("audio"));
                }
                self.frame(clock, came, data, out);
            }
        }
        Ok(())
    }

    /// Takes MP3, of which a message may hold several frames.
    fn mp3(
        &mut self,
        clock: &mut Clock,
        came: Came,
        mut data: BytesMut,
        out: &mut dyn FnMut(&Self, Heard),
    ) -> Result<(), MediaError> {
        let mut samples = 0;
        while !data.is_empty() {
            let header = FrameHeader::parse(&data)?;
            self.set(header.track(), out);
            let bytes = header.frame_bytes.map_or(data.len(), |bytes| bytes.min(data.len()));
            let frame = data.split_to(bytes.max(1));
            let later = samples * 1000 / header.sample_rate;
            let timestamp = came.timestamp.wrapping_add(later);
            self.frame(clock, Came { timestamp, ..came }, frame, out);
            samples += header.samples;
        }
        Ok(())
    }

    fn set(&mut self, track: AudioTrack, out: &mut dyn FnMut(&Self, Heard)) {
        if self.track.as_ref() != Some(&track) {
            self.track = Some(track);
            out(self, Heard::Track);
        }
    }

    fn frame(
        &mut self,
        clock: &mut Clock,
        Came { now, timestamp }: Came,
        data: BytesMut,
        out: &mut dyn FnMut(&Self, Heard),
    ) {
        if data.is_empty() {
            return;
        }
        let (pts, dts) = clock.stamp(&mut self.clock, timestamp, 0, now);
        let (kind, key, data) = (TrackKind::Audio, true, data.freeze());
        out(self, Heard::Packet(Packet { kind, pts, dts, key, data, arrived: now }));
    }
}

fn audio_track(codec: Codec, record: BytesMut) -> Result<AudioTrack, MediaError> {
    if codec == Codec::Opus {
        // The identification header of RFC 7845 5.1; its tenth byte is the channel count.
        let channels = match record.get(..8) {
            Some(b"OpusHead") => *record.get(9).ok_or(MediaError::Short("audio"))?,
            _ => 2,
        };
        let (sample_rate, config) = (pipeline::opus::SAMPLE_RATE, bytes::Bytes::new());
        return Ok(AudioTrack { codec, sample_rate, channels: channels.max(1), config });
    }
    if codec == Codec::Flac {
        return Ok(StreamInfo::parse(&record)?.track());
    }
    let config = AudioSpecificConfig::parse(&record)?;
    Ok(AudioTrack {
        codec,
        sample_rate: config.output_rate(),
        channels: config.output_channels(),
        config: record.freeze(),
    })
}
