//! The bodies of audio and video messages: FLV tags (Adobe Video File Format 10.1, E.4.2 and
//! E.4.3) and their enhanced form with FourCC codecs (Enhanced RTMP v2, "Enhanced Video" and
//! "Enhanced Audio").
//!
//! Only the framing is read here; what is inside goes to [`super::publish`]. Of several tracks in
//! one message the first one of number 0 is taken, since a stream has one picture and one sound.

use std::fmt;

use bytes::{Buf, BytesMut};
use pipeline::Codec;

/// Composition times beyond this many milliseconds are an encoder's mistake.
const COMPOSITION_MS_MAX: i32 = 60_000;

/// Extensions in front of a tag (`ModEx`), at most.
const EXTENSIONS_MAX: usize = 8;

/// Why a media message cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The message ends too early.
    #[error("{0} message ends early")]
    Short(&'static str),
    /// A codec that this node does not take over RTMP; the publisher must choose another.
    #[error("{kind} codec {codec} is not taken over RTMP; use {instead}")]
    Codec {
        /// `video` or `audio`.
        kind: &'static str,
        /// Its FourCC or number.
        codec: String,
        /// What can be used.
        instead: &'static str,
    },
    /// A packet type that the formats do not have.
    #[error("{kind} packet type {number} is unknown")]
    Packet {
        /// `video` or `audio`.
        kind: &'static str,
        /// What was found.
        number: u8,
    },
    /// A composition time of more than a minute.
    #[error("composition time of {0} ms")]
    Composition(i32),
    /// A frame before the header that says how to decode it.
    #[error("{0} frame before its sequence header")]
    Headless(&'static str),
    /// The H.264 inside is broken.
    #[error(transparent)]
    H264(#[from] pipeline::h264::Error),
    /// The AAC inside is broken.
    #[error(transparent)]
    Aac(#[from] pipeline::aac::Error),
}

impl MediaError {
    /// Whether the next message may well be better.
    pub const fn can_pass(&self) -> bool {
        !matches!(self, Self::Codec { .. })
    }
}

/// What a video or audio message carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// How to decode what follows: the codec's own record.
    Header {
        /// The coding.
        codec: Codec,
        /// AVC record, AudioSpecificConfig, Opus identification header, ...
        record: BytesMut,
    },
    /// One coded frame.
    Frame {
        /// The coding.
        codec: Codec,
        /// Presentation after decoding time in milliseconds; 0 for audio.
        composition_ms: i32,
        /// The frame, alone in its buffer.
        data: BytesMut,
    },
    /// Nothing that has to be acted upon: end of sequence, metadata, commands to the player.
    Nothing,
}

/// Reads a video message.
///
/// # Errors
/// [`MediaError`] as far as the framing goes.
pub(crate) fn video(mut data: BytesMut) -> Result<Tag, MediaError> {
    const KIND: &str = "video";
    let first = take::<1>(&mut data, KIND)?[0];
    if first & 0x80 != 0 {
        return enhanced(data, first & 0x0F, KIND, (first >> 4) & 7);
    }
    // Frame type 5 is a command to the player (E.4.3.1).
    if first >> 4 == 5 {
        return Ok(Tag::Nothing);
    }
    match first & 0x0F {
        7 => {}
        other => return Err(unsupported(KIND, legacy_video(other))),
    }
    let [packet, time @ ..] = take::<4>(&mut data, KIND)?;
    match packet {
        0 => Ok(Tag::Header { codec: Codec::H264, record: data }),
        1 => frame(Codec::H264, signed_24(time), data),
        2 => Ok(Tag::Nothing),
        number => Err(MediaError::Packet { kind: KIND, number }),
    }
}

/// Reads an audio message.
///
/// # Errors
/// [`MediaError`] as far as the framing goes.
pub(crate) fn audio(mut data: BytesMut) -> Result<Tag, MediaError> {
    const KIND: &str = "audio";
    let first = take::<1>(&mut data, KIND)?[0];
    match first >> 4 {
        9 => enhanced(data, first & 0x0F, KIND, 0),
        10 => match take::<1>(&mut data, KIND)?[0] {
            0 => Ok(Tag::Header { codec: Codec::Aac, record: data }),
            1 => frame(Codec::Aac, 0, data),
            number => Err(MediaError::Packet { kind: KIND, number }),
        },
        other => Err(unsupported(KIND, legacy_audio(other))),
    }
}

/// The enhanced form behind its first byte.
fn enhanced(
    mut data: BytesMut,
    mut packet: u8,
    kind: &'static str,
    frame_type: u8,
) -> Result<Tag, MediaError> {
    let is_video = kind == "video";
    for _ in 0..EXTENSIONS_MAX {
        if packet != 7 {
            break;
        }
        // ModEx: its size less one in one byte, or in two more where that says 256.
        let mut size = usize::from(take::<1>(&mut data, kind)?[0]) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(take::<2>(&mut data, kind)?)) + 1;
        }
        if data.len() < size {
            return Err(MediaError::Short(kind));
        }
        data.advance(size);
        packet = take::<1>(&mut data, kind)?[0] & 0x0F;
    }
    if is_video && frame_type == 5 && packet != 4 {
        return Ok(Tag::Nothing);
    }
    let multitrack = packet == if is_video { 6 } else { 5 };
    let mut layout = 0;
    if multitrack {
        let byte = take::<1>(&mut data, kind)?[0];
        (layout, packet) = (byte >> 4, byte & 0x0F);
    }
    let mut four = [0; 4];
    if layout < 2 {
        four = take::<4>(&mut data, kind)?;
    }
    if multitrack {
        loop {
            if layout == 2 {
                four = take::<4>(&mut data, kind)?;
            }
            let track = take::<1>(&mut data, kind)?[0];
            if layout == 0 {
                if track == 0 { break } else { return Ok(Tag::Nothing) }
            }
            let size = unsigned_24(take::<3>(&mut data, kind)?);
            if data.len() < size {
                return Err(MediaError::Short(kind));
            }
            if track == 0 {
                data.truncate(size);
                break;
            }
            data.advance(size);
            if data.is_empty() {
                return Ok(Tag::Nothing);
            }
        }
    }
    let codec = match &four {
        b"avc1" if is_video => Codec::H264,
        b"mp4a" if !is_video => Codec::Aac,
        b"Opus" if !is_video => Codec::Opus,
        _ => return Err(unsupported(kind, FourCc(four).to_string())),
    };
    match packet {
        0 => Ok(Tag::Header { codec, record: data }),
        // CodedFrames: H.264 has a composition time, which CodedFramesX saves where it is 0.
        1 if is_video => {
            let time = take::<3>(&mut data, kind)?;
            frame(codec, signed_24(time), data)
        }
        1 => frame(codec, 0, data),
        3 if is_video => frame(codec, 0, data),
        // End of sequence, metadata (colours), channel order.
        2 | 4 => Ok(Tag::Nothing),
        number => Err(MediaError::Packet { kind, number }),
    }
}

fn frame(codec: Codec, composition_ms: i32, data: BytesMut) -> Result<Tag, MediaError> {
    if composition_ms.abs() > COMPOSITION_MS_MAX {
        return Err(MediaError::Composition(composition_ms));
    }
    Ok(Tag::Frame { codec, composition_ms, data })
}

fn take<const N: usize>(data: &mut BytesMut, kind: &'static str) -> Result<[u8; N], MediaError> {
    let taken = *data.first_chunk().ok_or(MediaError::Short(kind))?;
    data.advance(N);
    Ok(taken)
}

fn unsigned_24([a, b, c]: [u8; 3]) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn unsupported(kind: &'static str, codec: String) -> MediaError {
    let instead = if kind == "video" { "H.264" } else { "AAC or Opus" };
    MediaError::Codec { kind, codec, instead }
}

/// Four characters as text, whatever they are.
struct FourCc([u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

fn legacy_video(number: u8) -> String {
    let name = match number {
        2 => "Sorenson H.263",
        3 => "Screen video",
        4 | 5 => "VP6",
        6 => "Screen video 2",
        12 => "HEVC (unofficial number)",
        _ => "unknown",
    };
    format!("{number} ({name})")
}

fn legacy_audio(number: u8) -> String {
    let name = match number {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 | 8 => "G.711",
        11 => "Speex",
        _ => "unknown",
    };
    format!("{number} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(parts: &[&[u8]]) -> BytesMut {
        BytesMut::from(&parts.concat()[..])
    }

    fn h264(composition_ms: i32) -> Result<Tag, MediaError> {
        Ok(Tag::Frame { codec: Codec::H264, composition_ms, data: bytes(&[b"xy"]) })
    }

    #[test]
    fn plain_tags_are_read_with_signed_composition_times() {
        assert_eq!(video(bytes(&[&[0x17, 1, 0, 0, 80], b"xy"])), h264(80));
        assert_eq!(video(bytes(&[&[0x27, 1, 0xFF, 0xFF, 0xD8], b"xy"])), h264(-40));
        let record = bytes(&[b"rec"]);
        assert_eq!(
            video(bytes(&[&[0x17, 0, 0, 0, 0], b"rec"])),
            Ok(Tag::Header { codec: Codec::H264, record: record.clone() })
        );
        assert_eq!(video(bytes(&[&[0x17, 2, 0, 0, 0]])), Ok(Tag::Nothing));
        assert_eq!(video(bytes(&[&[0x57, 0]])), Ok(Tag::Nothing));
        assert_eq!(
            audio(bytes(&[&[0xAF, 0], b"rec"])),
            Ok(Tag::Header { codec: Codec::Aac, record })
        );
    }

    #[test]
    fn enhanced_tags_are_read_through_extensions_and_track_lists() {
        assert_eq!(video(bytes(&[&[0x91], b"avc1", &[0, 0, 80], b"xy"])), h264(80));
        assert_eq!(video(bytes(&[&[0xA3], b"avc1xy"])), h264(0));
        // A nanosecond offset in front.
        assert_eq!(video(bytes(&[&[0x97, 2, 1, 2, 3, 0x03], b"avc1xy"])), h264(0));
        // One track, then many of one codec, then many of several.
        assert_eq!(video(bytes(&[&[0x96, 0x03], b"avc1", &[0], b"xy"])), h264(0));
        let many: &[&[u8]] = &[&[0x96, 0x13], b"avc1", &[1, 0, 0, 1, 9, 0, 0, 0, 2], b"xy"];
        assert_eq!(video(bytes(many)), h264(0));
        let mixed: &[&[u8]] =
            &[&[0x96, 0x23], b"hvc1", &[1, 0, 0, 1, 9], b"avc1", &[0, 0, 0, 2], b"xy"];
        assert_eq!(video(bytes(mixed)), h264(0));
        let opus = Tag::Frame { codec: Codec::Opus, composition_ms: 0, data: bytes(&[b"xy"]) };
        assert_eq!(audio(bytes(&[&[0x91], b"Opusxy"])), Ok(opus));
        assert_eq!(audio(bytes(&[&[0x94], b"Opus", &[1, 2]])), Ok(Tag::Nothing));
    }

    #[test]
    fn other_codecs_are_named_with_what_to_use_instead() {
        let text = |tag: Result<Tag, MediaError>| tag.unwrap_err().to_string();
        assert_eq!(
            text(video(bytes(&[&[0x90], b"hvc1"]))),
            r#"video codec "hvc1" is not taken over RTMP; use H.264"#
        );
        assert_eq!(
            text(audio(bytes(&[&[0x2F, 0]]))),
            "audio codec 2 (MP3) is not taken over RTMP; use AAC or Opus"
        );
        assert!(!video(bytes(&[&[0x12]])).unwrap_err().can_pass());
    }

    #[test]
    fn every_beginning_of_a_tag_is_an_error_and_no_panic() {
        let whole: &[&[u8]] = &[&[0x96, 0x23], b"hvc1", &[1, 0, 0, 1, 9], b"avc1", &[0, 0, 0, 2]];
        let whole = whole.concat();
        for end in 0..whole.len() {
            let tag = video(BytesMut::from(&whole[..end]));
            assert!(matches!(tag, Err(MediaError::Short("video")) | Ok(Tag::Nothing)), "{tag:?}");
        }
        assert_eq!(
            video(bytes(&[&[0x17, 1, 0x7F, 0, 0]])),
            Err(MediaError::Composition(0x7F_0000))
        );
    }
}
