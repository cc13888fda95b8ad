//! The hub's packets become a viewer's messages: FLV tags, and enhanced ones for those who asked.
//!
//! A track that RTMP cannot carry to this viewer is left out. Times begin at zero for each viewer.

use bytes::{BufMut, Bytes, BytesMut};
use pipeline::aac::AudioSpecificConfig;
use pipeline::h264::{DecoderConfiguration, NalKind, nals};
use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Codec, Packet, Pts, TrackKind, Tracks};

use super::amf::Value;

/// Message types of what is sent (7.1).
pub(crate) const AUDIO: u8 = 8;
/// A video message.
pub(crate) const VIDEO: u8 = 9;
/// A data message in AMF0.
pub(crate) const DATA: u8 = 18;

/// Sends one message: type, timestamp in milliseconds, payload in parts.
pub(crate) type Send<'a> = &'a mut dyn FnMut(u8, u32, &[&[u8]]);

/// What goes to one viewer.
#[derive(Debug)]
pub(crate) struct Play {
    /// The viewer takes enhanced audio.
    enhanced: bool,
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    /// The decoding time that is zero for this viewer.
    base: Option<Pts>,
    /// The newest timestamp in milliseconds.
    newest: u32,
    wants_key: bool,
    /// The picture being sent, kept for its memory.
    unit: BytesMut,
}

impl Play {
    /// For a viewer; `enhanced` when it said that it takes FourCC codecs.
    pub(crate) fn new(enhanced: bool) -> Self {
        Self {
            enhanced,
            video: None,
            audio: None,
            base: None,
            newest: 0,
            wants_key: true,
            unit: BytesMut::new(),
        }
    }

    /// Whether the viewer takes FourCC codecs.
    pub(crate) const fn is_enhanced(&self) -> bool {
        self.enhanced
    }

    /// Takes the tracks of what follows and sends metadata and sequence headers. False when no
    /// track can be carried to this viewer.
    pub(crate) fn tracks(&mut self, tracks: &Tracks, send: Send<'_>) -> bool {
        let video = tracks.video.clone().filter(|track| track.codec == Codec::H264);
        let audio = tracks.audio.clone().filter(|track| match track.codec {
            Codec::Aac => true,
            Codec::Opus => self.enhanced,
            _ => false,
        });
        let time = self.newest;
        send(DATA, time, &[&metadata(video.as_ref(), audio.as_ref())]);
        if let Some(track) = &video
            && let Some(record) = avc_record(&track.parameter_sets)
        {
            send(VIDEO, time, &[&[0x17, 0, 0, 0, 0], &record]);
        }
        if let Some(track) = &audio {
            match track.codec {
                Codec::Opus => {
                    send(AUDIO, time, &[&[0x90], b"Opus", &opus_head(track.channels)]);
                }
                _ => send(AUDIO, time, &[&[0xAF, 0], &aac_config(track)]),
            }
        }
        let any = video.is_some() || audio.is_some();
        (self.video, self.audio) = (video, audio);
        any
    }

    /// Packets were lost: the picture goes on at the next key.
    pub(crate) fn lagged(&mut self) {
        self.wants_key = true;
    }

    /// Sends a packet.
    pub(crate) fn packet(&mut self, packet: &Packet, send: Send<'_>) {
        match packet.kind {
            TrackKind::Video => {
                if self.video.is_none() || (self.wants_key && !packet.key) {
                    return;
                }
                self.wants_key = false;
                let time = self.time(packet.dts);
                // Both times are cut to milliseconds before the distance is taken, so that the
                // sum, which is what the viewer shows, is not off by one.
                let base = self.base.unwrap_or(packet.dts);
                let shown = (packet.pts - base).0.div_euclid(90);
                let composition = (shown - time).clamp(0, 0x7F_FFFF) as u32;
                let [_, a, b, c] = composition.to_be_bytes();
                let first = if packet.key { 0x17 } else { 0x27 };
                self.unit.clear();
                length_prefixed(&packet.data, &mut self.unit);
                send(VIDEO, time as u32, &[&[first, 1, a, b, c], &self.unit]);
            }
            TrackKind::Audio => {
                let Some(track) = &self.audio else { return };
                let opus = track.codec == Codec::Opus;
                // Sound before the first picture would only shift the viewer's start.
                if self.video.is_some() && self.base.is_none() {
                    return;
                }
                let time = self.time(packet.dts);
                if opus {
                    send(AUDIO, time as u32, &[&[0x91], b"Opus", &packet.data]);
                } else {
                    send(AUDIO, time as u32, &[&[0xAF, 1], &packet.data]);
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

/// An access unit in Annex B with lengths instead of start codes; parameter sets are left out,
/// since the sequence header has them.
fn length_prefixed(unit: &[u8], out: &mut BytesMut) {
    out.reserve(unit.len());
    for nal in nals(unit) {
        if !matches!(NalKind::of(nal[0]), NalKind::Sps | NalKind::Pps) {
            out.put_u32(nal.len() as u32);
            out.put_slice(nal);
        }
    }
}

fn avc_record(parameter_sets: &[u8]) -> Option<Bytes> {
    DecoderConfiguration::from_annex_b(parameter_sets).and_then(|record| record.to_bytes()).ok()
}

/// The track's AudioSpecificConfig, or that of plain AAC LC where nobody gave one.
fn aac_config(track: &AudioTrack) -> Bytes {
    if !track.config.is_empty() {
        return track.config.clone();
    }
    AudioSpecificConfig::lc(track.sample_rate, track.channels)
        .and_then(|config| config.to_bytes())
        .map(Bytes::from)
        .unwrap_or_default()
}

/// The identification header of RFC 7845 5.1 for a stream of one or two channels.
fn opus_head(channels: u8) -> [u8; 19] {
    let mut head = *b"OpusHead\x01\x02\x00\x00\x80\xBB\x00\x00\x00\x00\x00";
    head[9] = channels;
    head
}

fn metadata(video: Option<&VideoTrack>, audio: Option<&AudioTrack>) -> BytesMut {
    let mut facts = Vec::new();
    let mut put = |name: &str, value: f64| facts.push((name.to_owned(), Value::Number(value)));
    if let Some(track) = video {
        put("videocodecid", 7.0);
        put("width", f64::from(track.size.width));
        put("height", f64::from(track.size.height));
    }
    if let Some(track) = audio {
        let opus = f64::from(u32::from_be_bytes(*b"Opus"));
        put("audiocodecid", if track.codec == Codec::Opus { opus } else { 10.0 });
        put("audiosamplerate", f64::from(track.sample_rate));
        put("audiochannels", f64::from(track.channels));
    }
    let mut out = BytesMut::new();
    Value::from("onMetaData").write(&mut out);
    Value::EcmaArray(facts).write(&mut out);
    out
}
