//! A steady tone as Opus, for built-in test sources.

use std::f64::consts::TAU;
use std::time::Instant;

use bytes::Bytes;
use gstreamer as gst;
use pipeline::packet::AudioTrack;
use pipeline::stage::StageError;
use pipeline::{Codec, Packet, Pts, TrackKind};

use crate::chain::{Chain, element};

/// Opus' own clock.
const SAMPLE_RATE: u32 = 48_000;
/// Samples in a frame of 20 ms.
const FRAME: u64 = 960;
/// Loudness of the tone as a share of full scale: audible, not unpleasant.
const LEVEL: f64 = 0.1;

/// A sine in one channel, made up to a time.
pub struct Tone {
    encoder: Chain,
    hertz: f64,
    /// Frames made.
    frames: u64,
}

impl Tone {
    /// A tone of this pitch, from time zero on.
    ///
    /// # Errors
    /// When GStreamer lacks an element.
    pub fn new(hertz: f64) -> Result<Self, StageError> {
        const STAGE: &str = "tone";
        crate::init()
            .map_err(|error| StageError::Failed { stage: STAGE, reason: error.to_string() })?;
        let opus = element("opusenc")?;
        let mut encoder =
            Chain::new(STAGE, vec![opus], &gst::Caps::new_empty_simple("audio/x-opus"))?;
        encoder.set_caps(
            &gst::Caps::builder("audio/x-raw")
                .field("format", "S16LE")
                .field("layout", "interleaved")
                .field("rate", SAMPLE_RATE as i32)
                .field("channels", 1_i32)
                .build(),
        )?;
        Ok(Self { encoder, hertz, frames: 0 })
    }

    /// The track.
    pub fn track(&self) -> AudioTrack {
        let (codec, config) = (Codec::Opus, Bytes::new());
        AudioTrack { codec, sample_rate: SAMPLE_RATE, channels: 1, config }
    }

    /// Appends the frames that begin before `end`.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn until(&mut self, end: Pts, out: &mut Vec<Packet>) -> Result<(), StageError> {
        while self.pts(self.frames) < end {
            let first = self.frames * FRAME;
            let sample = |n: u64| {
                let turn = (n as f64 * self.hertz / f64::from(SAMPLE_RATE)).fract() * TAU;
                (turn.sin() * LEVEL * f64::from(i16::MAX)) as i16
            };
            let bytes: Vec<u8> =
                (first..first + FRAME).flat_map(|n| sample(n).to_le_bytes()).collect();
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(gst::ClockTime::from_mseconds(self.frames * 20));
                buffer.set_duration(gst::ClockTime::from_mseconds(20));
            }
            self.encoder.push(buffer)?;
            while let Some(output) = self.encoder.pop() {
                let coded = output.buffer.map_readable().map_err(|error| StageError::Failed {
                    stage: "tone",
                    reason: error.to_string(),
                })?;
                let pts = self.pts(self.frames);
                out.push(Packet {
                    kind: TrackKind::Audio,
                    pts,
                    dts: pts,
                    key: true,
                    data: Bytes::copy_from_slice(&coded),
                    arrived: Instant::now(),
                });
            }
            self.frames += 1;
        }
        Ok(())
    }

    fn pts(&self, frame: u64) -> Pts {
        Pts::from_millis(frame as i64 * 20)
    }
}
