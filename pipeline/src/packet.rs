//! Compressed media between the parts: what a track is, and one coded picture or audio frame of it.
//!
//! There is one form of each codec inside the node, so that every reader can take every writer's
//! packets as they are:
//!
//! - **H.264, HEVC**: one access unit in Annex B with four-byte start codes and without access unit
//!   delimiters; a key packet begins with its parameter sets, so decoding can start at any of them.
//! - **AV1**: one temporal unit of OBUs with size fields and without temporal delimiters; a key
//!   packet begins with the sequence header.
//! - **VP8, VP9**: one frame, or what VP9 calls a superframe.
//! - **AAC**: one raw frame without ADTS header; the AudioSpecificConfig is in the track.
//! - **Opus**: one packet of RFC 6716.
//! - **MP3, FLAC**: one frame.
//! - **G.711**: any number of whole samples, channels interleaved.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::frame::Size;
use crate::time::Pts;

/// What a packet's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// RFC 6386.
    Vp8,
    /// VP9 bitstream, profile 0 to 3.
    Vp9,
    /// AV1 bitstream.
    Av1,
    /// ISO/IEC 14496-3.
    Aac,
    /// RFC 6716.
    Opus,
    /// MPEG-1/2 layer III.
    Mp3,
    /// Free lossless audio.
    Flac,
    /// ITU-T G.711 with the A law, one byte a sample.
    G711A,
    /// ITU-T G.711 with the mu law, one byte a sample.
    G711U,
}

impl Codec {
    /// Whether packets of this codec are pictures.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc | Self::Vp8 | Self::Vp9 | Self::Av1)
    }

    /// The name users know, also in metrics and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Hevc => "H265",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Aac => "AAC",
            Self::Opus => "Opus",
            Self::Mp3 => "MP3",
            Self::Flac => "FLAC",
            Self::G711A => "G711A",
            Self::G711U => "G711U",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of a stream's tracks a packet belongs to. First light carries one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

impl TrackKind {
    /// Whether this is the picture.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::Video)
    }
}

/// What is known about a video track before its first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    /// The coding.
    pub codec: Codec,
    /// Cropped picture size in pixels, zero by zero while unknown.
    pub size: Size,
    /// Empty while unknown. H.264, HEVC: parameter sets in Annex B with four-byte start codes.
    /// AV1: the sequence header OBU with its size field. VP9: the VPCodecConfigurationRecord.
    /// VP8: always empty. [`crate::video::Description`] says what containers make of it.
    pub parameter_sets: Bytes,
}

/// What is known about an audio track before its first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTrack {
    /// The coding.
    pub codec: Codec,
    /// Samples in a second per channel; 48,000 for Opus whatever was encoded.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u8,
    /// AAC: AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1). FLAC: [`crate::flac`]. Others: empty.
    pub config: Bytes,
}

/// A stream's tracks. A stream may begin with one and gain the other later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// The picture, if there is one.
    pub video: Option<VideoTrack>,
    /// The sound, if there is any.
    pub audio: Option<AudioTrack>,
}

/// One coded picture or audio frame. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The track it belongs to.
    pub kind: TrackKind,
    /// When it is shown or heard: the name of the frame.
    pub pts: Pts,
    /// When it is decoded; before `pts` where the stream has B-frames.
    pub dts: Pts,
    /// Whether decoding can start here. Always true for audio.
    pub key: bool,
    /// The coded bytes in the form that the head of this file states.
    pub data: Bytes,
    /// When the last byte of it entered this process, for latency figures only.
    pub arrived: Instant,
}
