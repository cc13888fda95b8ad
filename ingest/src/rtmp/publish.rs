//! A publisher's messages become the hub's packets: canonical form, times that grow, tracks known
//! before their packets.
//!
//! Packets wait here until it is clear which tracks there are: both, or one and the word of the
//! metadata, or one and no sign of the other for [`WAIT_MAX`] of media.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use pipeline::aac::AudioSpecificConfig;
use pipeline::flac::StreamInfo;
use pipeline::mp3::FrameHeader;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::video::{self, Assembler};
use pipeline::{Codec, Packet, Pts, Ticks, TrackKind, Tracks};

use super::amf::Value;
use super::clock::{Clock, Track};
use super::flv::{self, MediaError, Tag};

/// How much media is waited for a second track.
const WAIT_MAX: Ticks = Ticks::from_millis(500);

/// Pictures waited for a second track that nobody announced.
const WAIT_PICTURES: usize = 2;

/// Packets that wait at most, whatever their times say.
const WAIT_PACKETS: usize = 256;

/// What comes out.
#[derive(Debug)]
pub(crate) enum Output {
    /// What the following packets are.
    Tracks(Tracks),
    /// The next packet in decoding order of its track.
    Packet(Packet),
}

/// The media of one publisher.
#[derive(Debug, Default)]
pub(crate) struct Publish {
    /// Of the picture's codec, from its first message on.
    assembler: Option<Assembler>,
    tracks: Tracks,
    clock: Clock,
    video: Track,
    audio: Track,
    /// What the metadata says there will be: a picture, a sound.
    announced: Option<(bool, bool)>,
    started: bool,
    waiting: VecDeque<Packet>,
    seen_key: bool,
    /// Further tracks that were seen and are not carried: bit n of the picture's, of the sound's.
    further: [[u64; 4]; 2],
    further_messages: u64,
}

impl Publish {
    /// Takes a video message that came at `now`.
    ///
    /// # Errors
    /// [`MediaError`]; unless [`MediaError::can_pass`] says no, the next message may follow.
    pub(crate) fn video(
        &mut self,
        now: Instant,
        timestamp: u32,
        data: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        match flv::video(data)? {
            Tag::Nothing | Tag::Plain { .. } => Ok(()),
            Tag::Further(track) => {
                self.further(TrackKind::Video, track);
                Ok(())
            }
            Tag::Header { codec, record } => {
                let assembler = self.assembler(codec)?;
                assembler.configure(&record)?;
                let track = assembler.track();
                // Parameter sets that replace others hold from the next key picture on.
                if self.tracks.video.as_ref().is_none_or(|known| known.codec != codec) {
                    self.video_track(track, out);
                }
                Ok(())
            }
            Tag::Frame { codec, composition_ms, data } => {
                let assembler = self.assembler(codec)?;
                let Some(unit) = assembler.sample(data)? else { return Ok(()) };
                if unit.changed || self.tracks.video.as_ref().is_none_or(|of| of.codec != codec) {
                    self.video_track(self.assembler.as_ref().and_then(Assembler::track), out);
                }
                if !self.seen_key && !unit.key {
                    return Err(MediaError::Headless("video"));
                }
                self.seen_key = true;
                let (pts, dts) = self.clock.stamp(&mut self.video, timestamp, composition_ms, now);
                let (kind, key, data) = (TrackKind::Video, unit.key, unit.data);
                self.packet(Packet { kind, pts, dts, key, data, arrived: now }, out);
                Ok(())
            }
        }
    }

    /// Takes an audio message that came at `now`.
    ///
    /// # Errors
    /// As [`Self::video`].
    pub(crate) fn audio(
        &mut self,
        now: Instant,
        timestamp: u32,
        data: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        match flv::audio(data)? {
            Tag::Nothing => Ok(()),
            Tag::Further(track) => {
                self.further(TrackKind::Audio, track);
                Ok(())
            }
            Tag::Header { codec, record } => {
                self.audio_track(audio_track(codec, record)?, out);
                Ok(())
            }
            Tag::Plain { codec: Codec::Mp3, data, .. } => self.mp3(now, timestamp, data, out),
            Tag::Plain { codec, channels, data } => {
                // G.711 has one rate (Adobe, E.4.2.1).
                let (sample_rate, config) = (8000, bytes::Bytes::new());
                self.audio_track(AudioTrack { codec, sample_rate, channels, config }, out);
                self.sound(now, timestamp, data, out);
                Ok(())
            }
            Tag::Frame { codec, data, .. } => {
                if self.tracks.audio.as_ref().is_none_or(|track| track.codec != codec) {
                    return Err(MediaError::Headless("audio"));
                }
                self.sound(now, timestamp, data, out);
                Ok(())
            }
        }
    }

    /// Takes MP3, of which a message may hold several frames.
    fn mp3(
        &mut self,
        now: Instant,
        timestamp: u32,
        mut data: BytesMut,
        out: &mut Vec<Output>,
    ) -> Result<(), MediaError> {
        let mut samples = 0;
        while !data.is_empty() {
            let header = FrameHeader::parse(&data)?;
            self.audio_track(header.track(), out);
            let bytes = header.frame_bytes.map_or(data.len(), |bytes| bytes.min(data.len()));
            let frame = data.split_to(bytes.max(1));
            let later = samples * 1000 / header.sample_rate;
            self.sound(now, timestamp.wrapping_add(later), frame, out);
            samples += header.samples;
        }
        Ok(())
    }

    fn sound(&mut self, now: Instant, timestamp: u32, data: BytesMut, out: &mut Vec<Output>) {
        if data.is_empty() {
            return;
        }
        let (pts, dts) = self.clock.stamp(&mut self.audio, timestamp, 0, now);
        let (kind, key, data) = (TrackKind::Audio, true, data.freeze());
        self.packet(Packet { kind, pts, dts, key, data, arrived: now }, out);
    }

    /// Takes the values of a data message; anything but `onMetaData` is passed over.
    pub(crate) fn metadata(&mut self, values: &[Value], out: &mut Vec<Output>) {
        let named = |value: &Value| value.as_str() == Some("onMetaData");
        let Some(at) = values.iter().position(named) else { return };
        let Some(facts) = values.get(at + 1) else { return };
        let announced = (facts.get("videocodecid").is_some(), facts.get("audiocodecid").is_some());
        // A writer that names neither says nothing.
        if announced != (false, false) {
            self.announced = Some(announced);
            self.start_if_known(out);
        }
    }

    /// Jumps of the publisher's clock that were repaired.
    pub(crate) fn repaired(&self) -> u64 {
        self.clock.repaired
    }

    /// Messages of further tracks, which are not carried.
    pub(crate) fn further_messages(&self) -> u64 {
        self.further_messages
    }

    /// Further tracks seen so far: of the picture, of the sound.
    pub(crate) fn further_tracks(&self) -> [u32; 2] {
        self.further.map(|bits| bits.iter().map(|bits| bits.count_ones()).sum())
    }

    fn further(&mut self, kind: TrackKind, track: u8) {
        let bits = &mut self.further[usize::from(!kind.is_video())];
        bits[usize::from(track) / 64] |= 1 << (track % 64);
        self.further_messages += 1;
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

    fn audio_track(&mut self, track: AudioTrack, out: &mut Vec<Output>) {
        if self.tracks.audio.as_ref() != Some(&track) {
            self.tracks.audio = Some(track);
            self.tracks_changed(out);
        }
    }

    fn video_track(&mut self, track: Option<VideoTrack>, out: &mut Vec<Output>) {
        if track.is_some() && self.tracks.video != track {
            self.tracks.video = track;
            self.tracks_changed(out);
        }
    }

    fn tracks_changed(&mut self, out: &mut Vec<Output>) {
        if self.started {
            out.push(Output::Tracks(self.tracks.clone()));
        }
    }

    fn packet(&mut self, packet: Packet, out: &mut Vec<Output>) {
        if self.started {
            out.push(Output::Packet(packet));
            return;
        }
        self.waiting.push_back(packet);
        self.start_if_known(out);
    }

    fn start_if_known(&mut self, out: &mut Vec<Output>) {
        if self.started || self.waiting.is_empty() || !self.known() {
            return;
        }
        self.started = true;
        out.push(Output::Tracks(self.tracks.clone()));
        out.extend(std::mem::take(&mut self.waiting).into_iter().map(Output::Packet));
    }

    /// Whether it is clear, or late enough to say, which tracks there are.
    fn known(&self) -> bool {
        let have = (self.tracks.video.is_some(), self.tracks.audio.is_some());
        if have == (true, true) || self.announced == Some(have) {
            return true;
        }
        let times = || self.waiting.iter().map(|packet| packet.dts);
        let (first, last) = (times().min(), times().max());
        let span = last.unwrap_or(Pts(0)) - first.unwrap_or(Pts(0));
        let pictures = self.waiting.iter().filter(|packet| packet.kind == TrackKind::Video).count();
        span >= WAIT_MAX
            || self.waiting.len() >= WAIT_PACKETS
            || (self.announced.is_none() && pictures >= WAIT_PICTURES)
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

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
