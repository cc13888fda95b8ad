//! AAC, Opus, MP3, FLAC and G.711 into AAC or Opus, sample-exact on the stream's clock.
//!
//! Sound is decoded to 48 kHz, laid on one continuous line of samples, cut into the target's
//! frames and encoded. Times of packets are counted on that line and never taken from an element:
//!
//! - source times that jitter by less than [`JITTER_MAX`] change nothing (RTMP rounds to 1 ms);
//! - a source clock that drifts against its own sample count is followed by leaving out or doubling
//!   one sample in a packet now and then, once the mean distance exceeds [`DRIFT_MAX`];
//! - a hole of up to [`SILENCE_MAX`] is filled with silence, an overlap is cut;
//! - beyond that the source's clock has jumped, and the packets' times jump with it.
//!
//! Both encoders delay their sound (Opus 6.5 ms, AAC one frame). The packets' times are moved back
//! by that much, so that a player that knows nothing of it is in time with the picture.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use pipeline::packet::AudioTrack;
use pipeline::stage::StageError;
use pipeline::{Codec, Packet, Pts, Ticks, TrackKind};

use crate::chain::{Chain, element};

/// The rate of everything that comes out, in samples a second: Opus has no other (RFC 7587 4.1).
pub const SAMPLE_RATE: u32 = 48_000;
/// Distance between a packet's time and the sample count that is taken as jitter.
pub const JITTER_MAX: Ticks = Ticks::from_millis(40);
/// Mean distance above which drift is followed.
pub const DRIFT_MAX: Ticks = Ticks::from_millis(5);
/// The longest hole that is filled.
pub const SILENCE_MAX: Ticks = Ticks::from_millis(1000);
/// Decoded sound that may wait to be cut into frames, in samples per channel. A packet holds at
/// most 120 ms (RFC 6716 3.2.5) and a hole 1 s.
const WAITING_MAX: usize = 2 * SAMPLE_RATE as usize;

/// What one target codec wants.
struct Target {
    codec: Codec,
    /// Samples in a frame.
    frame: usize,
    /// Samples by which the encoder's sound is late.
    delay: i64,
}

/// RFC 7587: 20 ms, and libopus' look-ahead of 6.5 ms (`OPUS_GET_LOOKAHEAD` at 48 kHz).
const OPUS: Target = Target { codec: Codec::Opus, frame: 960, delay: 312 };
/// ISO/IEC 14496-3: 1024 samples, and one frame before the first (libav's `initial_padding`).
const AAC: Target = Target { codec: Codec::Aac, frame: 1024, delay: 1024 };

/// Turns one audio track into another coding.
pub struct Transcoder {
    decoder: Chain,
    encoder: Chain,
    from: Codec,
    target: Target,
    channels: u8,
    line: Line,
    /// Samples to encode, interleaved.
    waiting: VecDeque<i16>,
    /// Frames given to the encoder, for its clock.
    fed: u64,
    /// What went into the encoder and has not come out: the time of each frame.
    inside: VecDeque<(Pts, Instant)>,
}

impl Transcoder {
    /// A transcoder from a track to Opus or AAC-LC. Up to two channels stay as they are, more are
    /// mixed down to two.
    ///
    /// # Errors
    /// For other targets, for codecs of pictures, and when GStreamer lacks an element.
    pub fn new(from: &AudioTrack, to: Codec) -> Result<Self, StageError> {
        const STAGE: &str = "audio transcoder";
        crate::init()
            .map_err(|error| StageError::Failed { stage: STAGE, reason: error.to_string() })?;
        let unsupported = |what: String| StageError::Unsupported { stage: STAGE, what };
        let target = match to {
            Codec::Opus => OPUS,
            Codec::Aac => AAC,
            other => return Err(unsupported(format!("{other} as target"))),
        };
        if from.channels == 0 || from.channels > 8 {
            return Err(unsupported(format!("{} channels", from.channels)));
        }
        let channels = from.channels.min(2);
        let pcm = gst::Caps::builder("audio/x-raw")
            .field("format", "S16LE")
            .field("layout", "interleaved")
            .field("rate", SAMPLE_RATE as i32)
            .field("channels", i32::from(channels))
            .build();
        Ok(Self {
            decoder: decoder(from, &pcm).map_err(|error| match error {
                StageError::Failed { reason, .. } => unsupported(reason),
                other => other,
            })?,
            encoder: encoder(&target, channels, &pcm)?,
            from: from.codec,
            target,
            channels,
            line: Line::default(),
            waiting: VecDeque::new(),
            fed: 0,
            inside: VecDeque::new(),
        })
    }

    /// The track that comes out.
    pub fn track(&self) -> AudioTrack {
        let config = match self.target.codec {
            Codec::Aac => self.config().unwrap_or_default(),
            _ => Bytes::new(),
        };
        AudioTrack {
            codec: self.target.codec,
            sample_rate: SAMPLE_RATE,
            channels: self.channels,
            config,
        }
    }

    /// The AudioSpecificConfig that the encoder has named, or the one that it is going to.
    fn config(&self) -> Option<Bytes> {
        let named = self.encoder.caps().and_then(|caps| {
            let buffer = caps.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
            let bytes = buffer.map_readable().ok()?;
            Some(Bytes::copy_from_slice(&bytes))
        });
        named.or_else(|| {
            let config = pipeline::aac::AudioSpecificConfig::lc(SAMPLE_RATE, self.channels).ok()?;
            config.to_bytes().ok().map(Bytes::from)
        })
    }

    /// Feeds one packet and appends what comes out for it.
    ///
    /// # Errors
    /// [`StageError::Broken`] for a packet that cannot be decoded: go on with the next, the hole is
    /// filled. Any other ends this transcoder.
    pub fn push(&mut self, packet: &Packet, out: &mut Vec<Packet>) -> Result<(), StageError> {
        let mut buffer = gst::Buffer::from_slice(packet.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            // The line below keeps the time. Elements are shown none, so that they neither fill
            // nor cut by rules of their own.
            buffer.set_pts(gst::ClockTime::NONE);
        }
        self.decoder.push(buffer)?;
        let mut samples = Vec::new();
        while let Some(output) = self.decoder.pop() {
            let bytes = output.buffer.map_readable().map_err(|error| failed(&error))?;
            samples
                .extend(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
        }
        if samples.is_empty() {
            // Before the first sound, decoder and resampler may swallow a short packet.
            if self.line.origin.is_none() {
                return Ok(());
            }
            let reason = self.decoder.words();
            let reason = reason.unwrap_or_else(|| "no sound came out".to_owned());
            return Err(StageError::Broken { codec: self.from.name(), pts: packet.pts, reason });
        }
        self.place(packet.pts, samples);
        self.encode(packet.arrived, out)
    }

    /// Puts decoded samples on the line.
    fn place(&mut self, pts: Pts, mut samples: Vec<i16>) {
        let channels = usize::from(self.channels);
        match self.line.step(pts) {
            Step::Follow => {}
            Step::Double => samples.extend_from_within(samples.len() - channels..),
            Step::Omit => samples.truncate(samples.len() - channels),
            Step::Silence(count) => {
                self.waiting.extend(std::iter::repeat_n(0, count * channels));
                self.line.end += count as i64;
            }
            Step::Cut(count) => {
                samples.drain(..(count * channels).min(samples.len()));
            }
        }
        self.line.end += (samples.len() / channels) as i64;
        if self.waiting.len() <= WAITING_MAX * channels {
            self.waiting.extend(samples);
        }
    }

    fn encode(&mut self, arrived: Instant, out: &mut Vec<Packet>) -> Result<(), StageError> {
        let values = self.target.frame * usize::from(self.channels);
        while self.waiting.len() >= values {
            let held = (self.waiting.len() / usize::from(self.channels)) as i64;
            let pts = self.line.time(self.line.end - held);
            let bytes: Vec<u8> = self.waiting.drain(..values).flat_map(i16::to_le_bytes).collect();
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            let length = self.target.frame as u64 * 1_000_000_000;
            let at = |frame: u64| gst::ClockTime::from_nseconds(frame * length / 48_000);
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(at(self.fed));
                buffer.set_duration(at(self.fed + 1) - at(self.fed));
            }
            self.fed += 1;
            self.inside.push_back((pts, arrived));
            self.encoder.push(buffer)?;
            self.take(out)?;
        }
        Ok(())
    }

    /// Takes out coded frames. libav's AAC encoder gives the first one with the second fed, and
    /// each is for the oldest frame inside less the encoder's delay.
    fn take(&mut self, out: &mut Vec<Packet>) -> Result<(), StageError> {
        while let Some(output) = self.encoder.pop() {
            let Some((pts, arrived)) = self.inside.pop_front() else { break };
            let coded = output.buffer.map_readable().map_err(|error| failed(&error))?;
            let pts = pts - Ticks(self.target.delay * 15 / 8);
            out.push(Packet {
                kind: TrackKind::Audio,
                pts,
                dts: pts,
                key: true,
                data: Bytes::copy_from_slice(&coded),
                arrived,
            });
        }
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> StageError {
    StageError::Failed { stage: "audio transcoder", reason: error.to_string() }
}

fn decoder(from: &AudioTrack, pcm: &gst::Caps) -> Result<Chain, StageError> {
    const STAGE: &str = "audio decoder";
    let (name, caps) = match from.codec {
        Codec::Aac => {
            let caps = gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4)
                .field("stream-format", "raw")
                .field("framed", true)
                .field("rate", from.sample_rate as i32)
                .field("channels", i32::from(from.channels))
                .field("codec_data", gst::Buffer::from_slice(from.config.clone()))
                .build();
            ("avdec_aac", caps)
        }
        Codec::Opus => {
            let caps = gst::Caps::builder("audio/x-opus")
                .field("channel-mapping-family", 0)
                .field("rate", SAMPLE_RATE as i32)
                .field("channels", i32::from(from.channels))
                .build();
            ("opusdec", caps)
        }
        Codec::Mp3 => {
            let caps = gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 1)
                .field("layer", 3)
                .field("parsed", true)
                .field("rate", from.sample_rate as i32)
                .field("channels", i32::from(from.channels))
                .build();
            ("avdec_mp3float", caps)
        }
        Codec::Flac => {
            // What libav calls the codec's data is the block without its header.
            let block = from.config.get(8..).unwrap_or_default().to_vec();
            let caps = gst::Caps::builder("audio/x-flac")
                .field("framed", true)
                .field("rate", from.sample_rate as i32)
                .field("channels", i32::from(from.channels))
                .field("codec_data", gst::Buffer::from_slice(block))
                .build();
            ("avdec_flac", caps)
        }
        Codec::G711U | Codec::G711A => {
            let law = from.codec == Codec::G711U;
            let caps = gst::Caps::builder(if law { "audio/x-mulaw" } else { "audio/x-alaw" })
                .field("rate", from.sample_rate as i32)
                .field("channels", i32::from(from.channels))
                .build();
            (if law { "mulawdec" } else { "alawdec" }, caps)
        }
        other => {
            return Err(StageError::Unsupported { stage: STAGE, what: other.to_string() });
        }
    };
    if from.codec == Codec::Opus && from.channels > 2 {
        let what = format!("Opus with {} channels", from.channels);
        return Err(StageError::Unsupported { stage: STAGE, what });
    }
    let decoder = element(name)?;
    // However many packets are broken, the next may be whole.
    decoder.set_property("max-errors", -1_i32);
    let row = vec![decoder, element("audioconvert")?, element("audioresample")?];
    let mut chain = Chain::new(STAGE, row, pcm)?;
    chain.set_caps(&caps)?;
    Ok(chain)
}

fn encoder(target: &Target, channels: u8, pcm: &gst::Caps) -> Result<Chain, StageError> {
    const STAGE: &str = "audio encoder";
    let stereo = channels > 1;
    let (row, accepts) = match target.codec {
        Codec::Opus => {
            let opus = element("opusenc")?;
            opus.set_property("bitrate", if stereo { 96_000 } else { 64_000 });
            opus.set_property_from_str("frame-size", "20");
            // A third of the default's work for a difference that nobody hears at these rates.
            opus.set_property("complexity", 5_i32);
            (vec![opus], gst::Caps::new_empty_simple("audio/x-opus"))
        }
        _ => {
            let aac = element("avenc_aac")?;
            aac.set_property("bitrate", if stereo { 128_000 } else { 80_000 });
            let accepts = gst::Caps::builder("audio/mpeg").field("mpegversion", 4).build();
            (vec![element("audioconvert")?, aac], accepts)
        }
    };
    let mut chain = Chain::new(STAGE, row, &accepts)?;
    chain.set_caps(pcm)?;
    Ok(chain)
}

/// What is to be done with the samples of a packet so that they lie at its time.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Follow,
    Double,
    Omit,
    Silence(usize),
    Cut(usize),
}

/// The line of samples and where it lies on the stream's clock.
#[derive(Debug, Default)]
struct Line {
    /// The time of sample zero.
    origin: Option<Pts>,
    /// Samples laid so far.
    end: i64,
    /// Mean distance of the source's times from the line, in 1/64 ticks.
    mean: i64,
}

impl Line {
    /// The time of a sample, exact at multiples of 8 samples.
    fn time(&self, sample: i64) -> Pts {
        self.origin.unwrap_or_default() + Ticks((sample * 15).div_euclid(8))
    }

    fn step(&mut self, pts: Pts) -> Step {
        if self.origin.is_none() {
            self.origin = Some(pts);
        }
        let off = pts - self.time(self.end);
        let samples = |ticks: Ticks| (ticks.0.unsigned_abs() * 8 / 15) as usize;
        if off.0.unsigned_abs() <= JITTER_MAX.0 as u64 {
            // Over about 64 packets: 1.3 s.
            self.mean += off.0 - self.mean.div_euclid(64);
            return match self.mean.div_euclid(64) {
                mean if mean > DRIFT_MAX.0 => Step::Double,
                mean if mean < -DRIFT_MAX.0 => Step::Omit,
                _ => Step::Follow,
            };
        }
        self.mean = 0;
        if off > Ticks(0) && off <= SILENCE_MAX {
            return Step::Silence(samples(off));
        }
        if off < Ticks(0) && off >= Ticks(-SILENCE_MAX.0) {
            return Step::Cut(samples(off));
        }
        self.origin = self.origin.map(|origin| origin + off);
        Step::Follow
    }
}
