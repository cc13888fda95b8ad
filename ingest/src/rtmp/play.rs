//! The hub's packets become a peer's messages: FLV tags, and enhanced ones for the codecs that the
//! peer has announced. The same goes to a viewer and, in a push, to a server.
//!
//! A track that RTMP cannot carry to this peer is left out. Times begin at zero for each peer. A peer
//! that understands several tracks gets further ones under their numbers (multitrack of Enhanced
//! RTMP v2), one in a message.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pipeline::annexb::push_length_prefixed;
use pipeline::audio::{aac_config, opus_head};
use pipeline::h264::NalKind;
use pipeline::hevc;
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::video::Description;
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks};

use super::amf::Value;
use super::capabilities::Capabilities;
use super::units::Units;

/// Message types of what is sent (7.1).
pub(crate) const AUDIO: u8 = 8;
/// A video message.
pub(crate) const VIDEO: u8 = 9;
/// A data message in AMF0.
pub(crate) const DATA: u8 = 18;

/// Sends one message: type, timestamp in milliseconds, head and rest of the payload.
pub(crate) type Send<'a> = &'a mut dyn FnMut(u8, u32, &[u8], &Bytes);

/// What goes to one viewer.
#[derive(Debug)]
pub(crate) struct Play {
    /// What the peer takes.
    takes: Capabilities,
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    /// The decoding time that is zero for this viewer.
    base: Option<Pts>,
    /// The newest timestamp in milliseconds.
    newest: u32,
    wants_key: bool,
    further: Vec<Further>,
    /// Pictures made for others too.
    units: Option<Arc<Units>>,
}

/// A further track.
#[derive(Debug)]
struct Further {
    kind: TrackKind,
    number: u8,
    codec: Codec,
    wants_key: bool,
}

impl Default for Play {
    fn default() -> Self {
        Self::new(Capabilities::default())
    }
}

impl Play {
    /// For a peer that takes this.
    pub(crate) fn new(takes: Capabilities) -> Self {
        Self {
            takes,
            video: None,
            audio: None,
            base: None,
            newest: 0,
            wants_key: true,
            further: Vec::new(),
            units: None,
        }
    }

    /// Shares the making of pictures with others who are sent the same stream.
    pub(crate) fn share(&mut self, units: Arc<Units>) {
        self.units = Some(units);
    }

    /// What the peer takes.
    pub(crate) const fn capabilities(&self) -> Capabilities {
        self.takes
    }

    /// Takes the tracks of what follows and sends metadata and sequence headers. False when no
    /// track can be carried to this viewer.
    pub(crate) fn tracks(&mut self, tracks: &Tracks, send: Send<'_>) -> bool {
        let video = tracks.video.clone().filter(|track| self.takes.video(track.codec));
        let audio = tracks.audio.clone().filter(|track| self.takes.audio(track.codec));
        let time = self.newest;
        send(DATA, time, &[], &metadata(video.as_ref(), audio.as_ref()).freeze());
        if let Some((head, record)) = video.as_ref().and_then(|track| picture_header(track, 0)) {
            send(VIDEO, time, &head, &record);
        }
        if let Some((head, record)) = audio.as_ref().and_then(|track| sound_header(track, 0)) {
            send(AUDIO, time, &head, &record);
        }
        let any = video.is_some() || audio.is_some();
        (self.video, self.audio) = (video, audio);
        any
    }

    /// What of these tracks the peer does not take, the picture first.
    pub(crate) fn left_out(&self, tracks: &Tracks) -> Option<Codec> {
        let video = tracks.video.as_ref().map(|track| track.codec);
        let audio = tracks.audio.as_ref().map(|track| track.codec);
        let video = video.filter(|codec| !self.takes.video(*codec));
        video.or(audio.filter(|codec| !self.takes.audio(*codec)))
    }

    /// Packets were lost: the picture goes on at the next key.
    pub(crate) fn lagged(&mut self) {
        self.wants_key = true;
    }

    /// Sends a packet.
    pub(crate) fn packet(&mut self, packet: &Packet, send: Send<'_>) {
        match packet.kind {
            TrackKind::Video => {
                let Some(codec) = self.video.as_ref().map(|track| track.codec) else { return };
                if self.wants_key && !packet.key {
                    return;
                }
                self.wants_key = false;
                self.picture(codec, 0, packet, send);
            }
            TrackKind::Audio => {
                let Some(track) = &self.audio else { return };
                let (codec, rate, channels) = (track.codec, track.sample_rate, track.channels);
                // Sound before the first picture would only shift the viewer's start.
                if self.video.is_some() && self.base.is_none() {
                    return;
                }
                let time = self.time(packet.dts) as u32;
                match codec {
                    Codec::Mp3 => send(AUDIO, time, &[mp3_tag(rate, channels)], &packet.data),
                    Codec::Aac => send(AUDIO, time, &[0xAF, 1], &packet.data),
                    _ => send(AUDIO, time, &sound_head(codec, FRAMES, 0), &packet.data),
                }
            }
        }
    }

    /// Takes what the following packets of a further track are, and sends its sequence header. A
    /// track that the peer does not take is left out.
    pub(crate) fn further(&mut self, number: u8, tracks: &Tracks, send: Send<'_>) {
        let time = self.newest;
        if let Some(track) = &tracks.video {
            self.forget(TrackKind::Video, number);
            if self.takes.video(track.codec) {
                self.keep(TrackKind::Video, number, track.codec);
                if let Some((head, record)) = picture_header(track, number) {
                    send(VIDEO, time, &head, &record);
                }
            }
        } else if let Some(track) = &tracks.audio {
            self.forget(TrackKind::Audio, number);
            if self.takes.audio(track.codec) {
                self.keep(TrackKind::Audio, number, track.codec);
                if let Some((head, record)) = sound_header(track, number) {
                    send(AUDIO, time, &head, &record);
                }
            }
        }
    }

    /// Sends a packet of a further track, once the stream itself has begun.
    pub(crate) fn further_packet(&mut self, number: u8, packet: &Packet, send: Send<'_>) {
        let of = |lane: &&mut Further| lane.kind == packet.kind && lane.number == number;
        let begun = self.base.is_some();
        let Some(lane) = self.further.iter_mut().find(of).filter(|_| begun) else { return };
        if lane.kind.is_video() && lane.wants_key && !packet.key {
            return;
        }
        lane.wants_key = false;
        let codec = lane.codec;
        match packet.kind {
            TrackKind::Video => self.picture(codec, number, packet, send),
            TrackKind::Audio => {
                let time = self.time(packet.dts) as u32;
                send(AUDIO, time, &sound_head(codec, FRAMES, number), &packet.data);
            }
        }
    }

    /// Packets of a further track were lost, or the track is over.
    pub(crate) fn further_lagged(&mut self, kind: TrackKind, number: u8) {
        let of = |lane: &&mut Further| lane.kind == kind && lane.number == number;
        if let Some(lane) = self.further.iter_mut().find(of) {
            lane.wants_key = true;
        }
    }

    fn forget(&mut self, kind: TrackKind, number: u8) {
        self.further.retain(|lane| lane.kind != kind || lane.number != number);
    }

    fn keep(&mut self, kind: TrackKind, number: u8, codec: Codec) {
        self.further.push(Further { kind, number, codec, wants_key: true });
    }

    fn picture(&mut self, codec: Codec, number: u8, packet: &Packet, send: Send<'_>) {
        let time = self.time(packet.dts);
        // Both times are cut to milliseconds before the distance is taken, so that the
        // sum, which is what the viewer shows, is not off by one.
        let base = self.base.unwrap_or(packet.dts);
        let shown = (packet.pts - base).0.div_euclid(90);
        let composition = (shown - time).clamp(0, 0x7F_FFFF) as u32;
        let unit = |drop: fn(u8) -> bool| {
            let make = || {
                let mut unit = BytesMut::new();
                push_length_prefixed(&mut unit, &packet.data, drop);
                unit.freeze()
            };
            match &self.units {
                Some(units) => units.of(&packet.data, make),
                None => make(),
            }
        };
        // Parameter sets are left out, since the sequence header has them.
        let unit = match codec {
            Codec::H264 => {
                unit(|header| matches!(NalKind::of(header), NalKind::Sps | NalKind::Pps))
            }
            Codec::Hevc => unit(|header| hevc::NalKind::of(header).is_parameter_set()),
            _ => packet.data.clone(),
        };
        send(VIDEO, time as u32, &picture_head(codec, packet.key, composition, number), &unit);
    }

    /// The viewer's milliseconds of a decoding time. Cut to 32 bits it wraps after 49 days, as
    /// RTMP's timestamps do.
    fn time(&mut self, dts: Pts) -> i64 {
        let base = *self.base.get_or_insert(dts);
        let time = (dts - base).0.div_euclid(90).max(0);
        self.newest = time as u32;
        time
    }
}

/// Types of enhanced messages: how to decode, frames, frames without composition time.
const SEQUENCE_START: u8 = 0;
const FRAMES: u8 = 1;
const FRAMES_X: u8 = 3;

/// The beginning of a message, in front of what is coded.
#[derive(Clone, Copy)]
struct Head {
    bytes: [u8; 10],
    length: usize,
}

impl Head {
    fn of(parts: &[&[u8]]) -> Self {
        let mut head = Self { bytes: [0; 10], length: 0 };
        for byte in parts.iter().copied().flatten() {
            head.bytes[head.length] = *byte;
            head.length += 1;
        }
        head
    }

    /// An enhanced one of one track: `first` has all bits but the packet type's, which is `multitrack`
    /// for further tracks.
    fn enhanced(first: u8, multitrack: u8, packet: u8, four: [u8; 4], number: u8) -> Self {
        match number {
            0 => Self::of(&[&[first | packet], &four]),
            // One track in the message (AvMultitrackType 0).
            _ => Self::of(&[&[first | multitrack, packet], &four, &[number]]),
        }
    }
}

impl std::ops::Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The head of a picture; `composition` in milliseconds.
fn picture_head(codec: Codec, key: bool, composition: u32, number: u8) -> Head {
    let [_, a, b, c] = composition.to_be_bytes();
    let frame = if key { 0x10 } else { 0x20 };
    let four = match codec {
        Codec::H264 if number == 0 => return Head::of(&[&[frame | 7, 1, a, b, c]]),
        Codec::H264 => *b"avc1",
        Codec::Hevc => *b"hvc1",
        Codec::Av1 => *b"av01",
        Codec::Vp9 => *b"vp09",
        _ => *b"vp08",
    };
    let head = |packet| Head::enhanced(0x80 | frame, 6, packet, four, number);
    match codec {
        // CodedFramesX is CodedFrames with a composition time of zero.
        Codec::H264 | Codec::Hevc if composition == 0 => head(FRAMES_X),
        Codec::H264 | Codec::Hevc => Head::of(&[&*head(FRAMES), &[a, b, c]]),
        _ => head(FRAMES),
    }
}

/// The head of a sound in the enhanced form.
fn sound_head(codec: Codec, packet: u8, number: u8) -> Head {
    let four = match codec {
        Codec::Opus => *b"Opus",
        Codec::Flac => *b"fLaC",
        Codec::Mp3 => *b".mp3",
        _ => *b"mp4a",
    };
    Head::enhanced(0x90, 5, packet, four, number)
}

/// The sequence header of a picture, if its codec has one.
fn picture_header(track: &VideoTrack, number: u8) -> Option<(Head, Bytes)> {
    let told = Description::of(track).ok()?;
    let head = match track.codec {
        Codec::H264 if number == 0 => Head::of(&[&[0x17, 0, 0, 0, 0]]),
        // VP8 has nothing to say (Enhanced RTMP, SequenceStart).
        Codec::Vp8 => return None,
        _ => Head::enhanced(0x90, 6, SEQUENCE_START, told.four_cc, number),
    };
    Some((head, told.record))
}

/// The sequence header of a sound, if its codec has one.
fn sound_header(track: &AudioTrack, number: u8) -> Option<(Head, Bytes)> {
    let record = match track.codec {
        Codec::Opus => Bytes::copy_from_slice(&opus_head(track.channels)),
        Codec::Flac => track.config.clone(),
        Codec::Aac => aac_config(track).unwrap_or_default(),
        _ => return None,
    };
    let head = match track.codec {
        Codec::Aac if number == 0 => Head::of(&[&[0xAF, 0]]),
        _ => sound_head(track.codec, SEQUENCE_START, number),
    };
    Some((head, record))
}

/// First byte of an MP3 message (Adobe, E.4.2.1): format 2, rate, 16 bits, channels. Rates that
/// the field lacks are written as the highest, as everybody does; the frame knows better.
fn mp3_tag(rate: u32, channels: u8) -> u8 {
    let rate = match rate {
        11_025 => 1,
        22_050 => 2,
        _ => 3,
    };
    0x22 | rate << 2 | u8::from(channels > 1)
}

fn metadata(video: Option<&VideoTrack>, audio: Option<&AudioTrack>) -> BytesMut {
    let mut facts = Vec::new();
    let mut put = |name: &str, value: f64| facts.push((name.to_owned(), Value::Number(value)));
    let four = |name: &[u8; 4]| f64::from(u32::from_be_bytes(*name));
    if let Some(track) = video {
        let codec = match track.codec {
            Codec::Hevc => four(b"hvc1"),
            Codec::Av1 => four(b"av01"),
            Codec::Vp9 => four(b"vp09"),
            Codec::Vp8 => four(b"vp08"),
            _ => 7.0,
        };
        put("videocodecid", codec);
        put("width", f64::from(track.size.width));
        put("height", f64::from(track.size.height));
    }
    if let Some(track) = audio {
        let codec = match track.codec {
            Codec::Opus => four(b"Opus"),
            Codec::Flac => four(b"fLaC"),
            Codec::Mp3 => 2.0,
            _ => 10.0,
        };
        put("audiocodecid", codec);
        put("audiosamplerate", f64::from(track.sample_rate));
        put("audiochannels", f64::from(track.channels));
    }
    let mut out = BytesMut::new();
    Value::from("onMetaData").write(&mut out);
    Value::EcmaArray(facts).write(&mut out);
    out
}
