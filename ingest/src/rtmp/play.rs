//! The hub's packets become a peer's messages: FLV tags, and enhanced ones for the codecs that the
//! peer has announced. The same goes to a viewer and, in a push, to a server.
//!
//! A track that RTMP cannot carry to this peer is left out. Times begin at zero for each peer.

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
    /// Pictures made for others too.
    units: Option<Arc<Units>>,
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
        if let Some(track) = &video
            && let Ok(told) = Description::of(track)
        {
            match track.codec {
                Codec::H264 => send(VIDEO, time, &[0x17, 0, 0, 0, 0], &told.record),
                // VP8 has nothing to say (Enhanced RTMP, SequenceStart).
                Codec::Vp8 => {}
                _ => send(VIDEO, time, &tag(0x90, &told.four_cc), &told.record),
            }
        }
        if let Some(track) = &audio {
            match track.codec {
                Codec::Opus => {
                    let head = Bytes::copy_from_slice(&opus_head(track.channels));
                    send(AUDIO, time, &tag(0x90, b"Opus"), &head);
                }
                Codec::Flac => send(AUDIO, time, &tag(0x90, b"fLaC"), &track.config),
                Codec::Aac => {
                    send(AUDIO, time, &[0xAF, 0], &aac_config(track).unwrap_or_default());
                }
                _ => {}
            }
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
                let time = self.time(packet.dts);
                // Both times are cut to milliseconds before the distance is taken, so that the
                // sum, which is what the viewer shows, is not off by one.
                let base = self.base.unwrap_or(packet.dts);
                let shown = (packet.pts - base).0.div_euclid(90);
                let composition = (shown - time).clamp(0, 0x7F_FFFF) as u32;
                let time = time as u32;
                let [_, a, b, c] = composition.to_be_bytes();
                let frame = if packet.key { 0x10 } else { 0x20 };
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
                match codec {
                    Codec::H264 => {
                        let unit = unit(|header| {
                            matches!(NalKind::of(header), NalKind::Sps | NalKind::Pps)
                        });
                        send(VIDEO, time, &[frame | 7, 1, a, b, c], &unit);
                    }
                    Codec::Hevc => {
                        let unit = unit(|header| hevc::NalKind::of(header).is_parameter_set());
                        // CodedFramesX is CodedFrames with a composition time of zero.
                        if composition == 0 {
                            send(VIDEO, time, &tag(0x83 | frame, b"hvc1"), &unit);
                        } else {
                            let [t0, t1, t2, t3, t4] = tag(0x81 | frame, b"hvc1");
                            send(VIDEO, time, &[t0, t1, t2, t3, t4, a, b, c], &unit);
                        }
                    }
                    Codec::Av1 => send(VIDEO, time, &tag(0x81 | frame, b"av01"), &packet.data),
                    Codec::Vp9 => send(VIDEO, time, &tag(0x81 | frame, b"vp09"), &packet.data),
                    _ => send(VIDEO, time, &tag(0x81 | frame, b"vp08"), &packet.data),
                }
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
                    Codec::Opus => send(AUDIO, time, &tag(0x91, b"Opus"), &packet.data),
                    Codec::Flac => send(AUDIO, time, &tag(0x91, b"fLaC"), &packet.data),
                    Codec::Mp3 => send(AUDIO, time, &[mp3_tag(rate, channels)], &packet.data),
                    _ => send(AUDIO, time, &[0xAF, 1], &packet.data),
                }
            }
        }
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

/// The beginning of an enhanced message.
const fn tag(first: u8, four: &[u8; 4]) -> [u8; 5] {
    [first, four[0], four[1], four[2], four[3]]
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
