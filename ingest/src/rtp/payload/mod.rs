//! Payload formats: how each codec's frames travel in RTP packets, both ways.
//!
//! Sending is a pure function: [`Packetiser`] cuts one canonical packet of the hub (see
//! [`pipeline::packet`]) into the payloads of [`FramePackets`], without any state between frames,
//! so that a frame is cut once for all its readers. Receiving joins payloads in sequence to frames
//! ([`PictureDepacketiser`], [`SoundDepacketiser`]). SSRC, sequence, payload type and time are
//! given by whoever sends; nothing here knows SDP.
//!
//! | module | source |
//! | --- | --- |
//! | [`h264`] | RFC 6184, packetization mode 1 |
//! | [`hevc`] | RFC 7798 without decoding order numbers |
//! | [`vp8`] | RFC 7741 |
//! | [`vp9`] | RFC 9628 |
//! | [`av1`] | AOMedia, RTP Payload Format For AV1 v1.0.0 |
//! | [`opus`] | RFC 7587 |
//! | [`aac`] | RFC 3640 (`mpeg4-generic`) both ways, RFC 6416 (`MP4A-LATM`) received |
//! | [`g711`] | RFC 3551 4.5.14 |
//! | [`mpa`] | RFC 2250 3.5 |

pub mod aac;
pub mod av1;
pub mod g711;
pub mod h264;
pub mod hevc;
pub mod mpa;
mod nal;
pub mod opus;
mod picture;
mod sound;
pub mod vp8;
pub mod vp9;

#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;
use pipeline::packet::AudioTrack;
use pipeline::{Codec, Packet};

use super::frame::FramePackets;
use super::packet::{ExtSeq, RtpTime};

pub use picture::{PictureDepacketiser, UnitCounts};
pub use sound::{SoundDepacketiser, SoundFormat};

/// Largest coded picture in bytes, either way.
pub const UNIT_BYTES_MAX: usize = 8 << 20;

/// Bytes of payload in a datagram of 1,200 bytes: less 12 of header, 16 of header extensions, 16
/// of authentication tag and 2 of retransmission header.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1200 - 12 - 16 - 16 - 2;

/// The smallest payload limit that is honoured, in bytes.
const PAYLOAD_BYTES_MIN: usize = 64;

/// Why a frame cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketiseError {
    /// Nothing in it that a reader needs.
    #[error("the {codec} frame of {bytes} bytes holds nothing to send")]
    Empty {
        /// Its coding.
        codec: Codec,
        /// Its size.
        bytes: usize,
    },
    /// More than fits.
    #[error("the {codec} frame has {bytes} bytes, at most {max} are sent")]
    Large {
        /// Its coding.
        codec: Codec,
        /// Its size.
        bytes: usize,
        /// The most that is sent.
        max: usize,
    },
    /// It is not in the hub's form.
    #[error("the {codec} frame is malformed at byte {at}: {what}")]
    Malformed {
        /// Its coding.
        codec: Codec,
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

/// Why a payload was not used. The frame that it belonged to is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DepacketiseError {
    /// A structure of the format that we did not agree to.
    #[error("RTP packet {seq}: {what} {kind} is not allowed")]
    Mode {
        /// The packet.
        seq: ExtSeq,
        /// What has kinds.
        what: &'static str,
        /// The kind that came.
        kind: u8,
    },
    /// Lengths or flags contradict each other.
    #[error("RTP packet {seq}: {what}")]
    Malformed {
        /// The packet.
        seq: ExtSeq,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The frame grows beyond its limit or its packets beyond any reason.
    #[error("RTP packet {seq}: the coded frame exceeds {max} bytes")]
    Large {
        /// The packet.
        seq: ExtSeq,
        /// The limit.
        max: usize,
    },
}

/// What a format says of a payload that it cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Malformed(&'static str),
    Mode(&'static str, u8),
}

impl Fault {
    const fn at(self, seq: ExtSeq) -> DepacketiseError {
        match self {
            Self::Malformed(what) => DepacketiseError::Malformed { seq, what },
            Self::Mode(what, kind) => DepacketiseError::Mode { seq, what, kind },
        }
    }
}

/// One frame without holes: a picture, or one frame of sound.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The coded bytes. H.264 and HEVC: NAL units in Annex B with four-byte start codes, without
    /// delimiters and filler; AV1: OBUs with sizes, without temporal delimiters; others as they
    /// are.
    pub data: Bytes,
    /// Whether decoding can start here. Always true for sound.
    pub key: bool,
    /// The sender's media time on the clock of the format.
    pub time: RtpTime,
    /// When its last packet came.
    pub arrived: Instant,
}

/// Cuts the frames of one track into payloads.
#[derive(Clone, Copy, Debug)]
pub struct Packetiser {
    codec: Codec,
    payload_max: usize,
    /// Channels and sampling rate of G.711.
    samples: (usize, u32),
    supplements: bool,
}

impl Packetiser {
    /// For a codec, in payloads of at most `payload_max` bytes, 64 at the least.
    pub fn new(codec: Codec, payload_max: usize) -> Self {
        let payload_max = payload_max.clamp(PAYLOAD_BYTES_MIN, usize::from(u16::MAX));
        Self { codec, payload_max, samples: (1, 8000), supplements: false }
    }

    /// For the sound of a track; G.711 is cut between samples of all its channels.
    pub fn sound(track: &AudioTrack, payload_max: usize) -> Self {
        let samples = (usize::from(track.channels.max(1)), track.sample_rate.max(1));
        Self { samples, ..Self::new(track.codec, payload_max) }
    }

    /// Whether there is a format for this codec.
    pub const fn carries(codec: Codec) -> bool {
        !matches!(codec, Codec::Flac)
    }

    /// H.264 and HEVC: supplemental information (captions, time codes) is sent too.
    #[must_use]
    pub fn with_supplements(self) -> Self {
        Self { supplements: true, ..self }
    }

    /// Cuts one canonical packet (see [`pipeline::packet`]) of the track.
    ///
    /// # Errors
    /// When there is nothing to send, too much, or the packet is not in the hub's form.
    pub fn packetise(&self, packet: &Packet) -> Result<FramePackets, PacketiseError> {
        let (codec, bytes, max) = (self.codec, packet.data.len(), UNIT_BYTES_MAX);
        if bytes > max {
            return Err(PacketiseError::Large { codec, bytes, max });
        }
        if bytes == 0 {
            return Err(PacketiseError::Empty { codec, bytes });
        }
        match codec {
            Codec::H264 => h264::packetise(packet, self.payload_max, self.supplements),
            Codec::Hevc => hevc::packetise(packet, self.payload_max, self.supplements),
            Codec::Vp8 => vp8::packetise(packet, self.payload_max),
            Codec::Vp9 => vp9::packetise(packet, self.payload_max),
            Codec::Av1 => av1::packetise(packet, self.payload_max),
            Codec::Aac => aac::packetise(packet, self.payload_max),
            Codec::Mp3 => mpa::packetise(packet, self.payload_max),
            Codec::G711U | Codec::G711A => {
                Ok(g711::packetise(packet, self.payload_max, self.samples))
            }
            Codec::Opus => opus::packetise(packet),
            _ => Err(PacketiseError::Empty { codec, bytes }),
        }
    }
}

/// Cuts `data` evenly into pieces that fit behind heads of `head_bytes`, which `head` writes
/// knowing whether the piece is the first and whether it is the last one.
fn chunks(
    data: &[u8],
    payload_max: usize,
    head_bytes: usize,
    mut head: impl FnMut(bool, bool, &mut Vec<u8>),
) -> (Bytes, Box<[u32]>) {
    let count = data.len().div_ceil(payload_max - head_bytes).max(1);
    let mut out = Vec::with_capacity(data.len() + count * head_bytes);
    let mut ends = Vec::with_capacity(count);
    let mut pieces = data.chunks(data.len().div_ceil(count).max(1)).peekable();
    while let Some(piece) = pieces.next() {
        head(ends.is_empty(), pieces.peek().is_none(), &mut out);
        out.extend_from_slice(piece);
        ends.push(out.len() as u32);
    }
    (out.into(), ends.into_boxed_slice())
}
