//! What a decoder, a graph and an encoder are to those who drive them.
//!
//! **One in, one out**: a stage holds no frame. N pictures in and then silence give N out within a
//! frame time. All three are driven from one thread at a time and need no locks of their own.

use std::time::Duration;

use crate::frame::{Frame, Size};
use crate::packet::{Packet, VideoTrack};

/// Why a stage could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The coded picture is broken; the next key frame mends it.
    #[error("broken {codec} picture at {pts}: {reason}")]
    Broken {
        /// The codec's name.
        codec: &'static str,
        /// The picture's time.
        pts: crate::time::Pts,
        /// The library's words.
        reason: String,
    },
    /// The stage cannot take this input at all, whatever comes later.
    #[error("{stage} cannot take {what}")]
    Unsupported {
        /// The stage's name.
        stage: &'static str,
        /// What it was given.
        what: String,
    },
    /// The library behind the stage failed; a new stage may work.
    #[error("{stage} failed: {reason}")]
    Failed {
        /// The stage's name.
        stage: &'static str,
        /// The library's words.
        reason: String,
    },
    /// The stage gave no answer in time.
    #[error("{stage} gave no answer within {limit:?}")]
    Late {
        /// The stage's name.
        stage: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// Turns coded pictures into frames.
pub trait Decoder: Send {
    /// Feeds one coded picture in decoding order and appends the frames that are ready, in
    /// presentation order. Without B-frames that is exactly the picture just fed.
    ///
    /// # Errors
    /// [`StageError::Broken`] for a picture that cannot be decoded (go on with the next key
    /// packet); any other ends this decoder.
    fn decode(&mut self, packet: &Packet, out: &mut Vec<Frame>) -> Result<(), StageError>;

    /// Gives out what is held back for reordering, at the end of a stream.
    ///
    /// # Errors
    /// As [`Self::decode`].
    fn flush(&mut self, out: &mut Vec<Frame>) -> Result<(), StageError>;
}

/// Turns frames into frames: the graph, or one step of it.
pub trait Stage: Send {
    /// Processes one frame. The answer has the frame's `pts`.
    ///
    /// # Errors
    /// Any error means that this frame is passed on unchanged and counted.
    fn process(&mut self, frame: Frame) -> Result<Frame, StageError>;

    /// What was said about the frame that was processed last, as a JSON object; given once.
    fn results(&mut self) -> Option<String> {
        None
    }
}

/// What an encoder is asked to produce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderSettings {
    /// Picture size; a change needs a new encoder.
    pub size: Size,
    /// Expected pictures in a second, for rate control only.
    pub frames_per_second: f32,
    /// Target in bits per second.
    pub bitrate: u32,
    /// Longest distance between key frames; more come on request.
    pub key_interval: Duration,
}

impl EncoderSettings {
    /// The usual choice for a size and rate: 0.1 bit per pixel, from 300 kbit/s to 20 Mbit/s.
    pub fn for_picture(size: Size, frames_per_second: f32) -> Self {
        let bits = size.pixels() as f32 * frames_per_second.clamp(1.0, 120.0) * 0.1;
        Self {
            size,
            frames_per_second: frames_per_second.clamp(1.0, 120.0),
            bitrate: bits.clamp(300_000.0, 20_000_000.0) as u32,
            key_interval: Duration::from_secs(2),
        }
    }
}

/// Turns frames into coded pictures: no B-frames, no look-ahead, each frame out at once.
pub trait Encoder: Send {
    /// Encodes one frame; the packet has the frame's `pts` (and the same `dts`) and `arrived`.
    ///
    /// # Errors
    /// Any error ends this encoder.
    fn encode(&mut self, frame: &Frame, force_key: bool) -> Result<Packet, StageError>;

    /// Changes the target rate from the next frame on, in bits per second.
    fn set_bitrate(&mut self, bitrate: u32);

    /// The track as it is after the first packet.
    fn track(&self) -> VideoTrack;
}
