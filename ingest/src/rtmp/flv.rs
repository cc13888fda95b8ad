//! The bodies of audio and video messages: FLV tags (Adobe Video File Format 10.1, E.4.2 and
//! E.4.3) and their enhanced form with FourCC codecs (Enhanced RTMP v2, "Enhanced Video" and
//! "Enhanced Audio").
//!
//! Only the framing is read here; what is inside goes to [`super::publish`]. A message has something
//! of one track or of many; what is not in a list of tracks is of track 0, the stream's own picture
//! or sound.

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
    /// An order of tracks that the format does not have.
    #[error("{kind} message with tracks in an unknown order {number}")]
    Layout {
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
    /// The pictures inside are broken.
    #[error(transparent)]
    Video(#[from] pipeline::video::Error),
    /// The AAC inside is broken.
    #[error(transparent)]
    Aac(#[from] pipeline::aac::Error),
    /// The MP3 inside is broken.
    #[error(transparent)]
    Mp3(#[from] pipeline::mp3::Error),
    /// The FLAC inside is broken.
    #[error(transparent)]
    Flac(#[from] pipeline::flac::Error),
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
    /// A frame of a codec whose frames say all that there is to say, with what FLV says about them.
    Plain {
        /// The coding: MP3 or G.711.
        codec: Codec,
        /// Channels by the tag, which MP3's own header overrules.
        channels: u8,
        /// The frames, alone in their buffer.
        data: BytesMut,
    },
    /// Nothing that has to be acted upon: end of sequence, metadata, commands to the player.
    Nothing,
}

/// What one message has for its tracks, in its order: the track's number and what comes for it. An
/// error that is one track's own (its codec, say) leaves the others readable; one of the framing is
/// the last that comes, under track 0.
#[derive(Debug)]
pub(crate) struct Parts {
    kind: &'static str,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Of track 0.
    One(Result<Tag, MediaError>),
    /// The enhanced form from here on, for one track or many.
    Tracks {
        layout: Layout,
        packet: u8,
        four: [u8; 4],
        data: BytesMut,
    },
    Over,
}

/// How tracks lie in a message (`AvMultitrackType`); plainly, all is of track 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Plain,
    /// A number, then all is of that track.
    OneTrack,
    /// Numbers and lengths, one codec for all.
    ManyTracks,
    /// Codecs, numbers and lengths.
    ManyTracksManyCodecs,
}

/// Reads a video message.
pub(crate) fn video(data: BytesMut) -> Parts {
    Parts::new("video", data, legacy_video_tag)
}

/// Reads an audio message.
pub(crate) fn audio(data: BytesMut) -> Parts {
    Parts::new("audio", data, legacy_audio_tag)
}

impl Parts {
    fn new(
        kind: &'static str,
        mut data: BytesMut,
        legacy: fn(u8, BytesMut) -> Result<Tag, MediaError>,
    ) -> Self {
        let state = match take::<1>(&mut data, kind) {
            Err(error) => State::One(Err(error)),
            Ok([first]) => {
                let is_enhanced = if kind == "video" { first & 0x80 != 0 } else { first >> 4 == 9 };
                match is_enhanced {
                    true => {
                        enhanced(data, first, kind).unwrap_or_else(|error| State::One(Err(error)))
                    }
                    false => State::One(legacy(first, data)),
                }
            }
        };
        Self { kind, state }
    }
}

impl Iterator for Parts {
    type Item = (u8, Result<Tag, MediaError>);

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => None,
            State::One(tag) => Some((0, tag)),
            State::Tracks { layout, packet, mut four, mut data } => {
                let kind = self.kind;
                match one_of_many(layout, &mut four, &mut data, kind) {
                    Err(error) => Some((0, Err(error))),
                    Ok((track, body)) => {
                        if !data.is_empty() {
                            self.state = State::Tracks { layout, packet, four, data };
                        }
                        Some((track, coded(four, packet, body, kind)))
                    }
                }
            }
        }
    }
}

/// Takes the next track's number and body, copied so that it does not keep all of the message.
fn one_of_many(
    layout: Layout,
    four: &mut [u8; 4],
    data: &mut BytesMut,
    kind: &'static str,
) -> Result<(u8, BytesMut), MediaError> {
    if layout == Layout::Plain {
        return Ok((0, std::mem::take(data)));
    }
    if layout == Layout::ManyTracksManyCodecs {
        *four = take::<4>(data, kind)?;
    }
    let [track] = take::<1>(data, kind)?;
    if layout == Layout::OneTrack {
        return Ok((track, std::mem::take(data)));
    }
    let size = unsigned_24(take::<3>(data, kind)?);
    if data.len() < size {
        return Err(MediaError::Short(kind));
    }
    Ok((track, BytesMut::from(&data.split_to(size)[..])))
}

fn legacy_video_tag(first: u8, mut data: BytesMut) -> Result<Tag, MediaError> {
    const KIND: &str = "video";
    // Frame type 5 is a command to the player (E.4.3.1).
    if first >> 4 == 5 {
        return Ok(Tag::Nothing);
    }
    let codec = match first & 0x0F {
        7 => Codec::H264,
        // In nobody's standard, and in use for years before there was one.
        12 => Codec::Hevc,
        other => return Err(unsupported(KIND, legacy_video(other))),
    };
    let [packet, time @ ..] = take::<4>(&mut data, KIND)?;
    match packet {
        0 => Ok(Tag::Header { codec, record: data }),
        1 => frame(codec, signed_24(time), data),
        2 => Ok(Tag::Nothing),
        number => Err(MediaError::Packet { kind: KIND, number }),
    }
}

fn legacy_audio_tag(first: u8, mut data: BytesMut) -> Result<Tag, MediaError> {
    const KIND: &str = "audio";
    let plain = |codec, data| Ok(Tag::Plain { codec, channels: 1 + (first & 1), data });
    match first >> 4 {
        2 | 14 => plain(Codec::Mp3, data),
        7 => plain(Codec::G711A, data),
        8 => plain(Codec::G711U, data),
        10 => match take::<1>(&mut data, KIND)?[0] {
            0 => Ok(Tag::Header { codec: Codec::Aac, record: data }),
            1 => frame(Codec::Aac, 0, data),
            number => Err(MediaError::Packet { kind: KIND, number }),
        },
        other => Err(unsupported(KIND, legacy_audio(other))),
    }
}

/// The enhanced form behind its first byte, up to what is of the tracks.
fn enhanced(mut data: BytesMut, first: u8, kind: &'static str) -> Result<State, MediaError> {
    let is_video = kind == "video";
    let (mut packet, frame_type) = (first & 0x0F, (first >> 4) & 7);
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
        return Ok(State::One(Ok(Tag::Nothing)));
    }
    let mut layout = Layout::Plain;
    if packet == if is_video { 6 } else { 5 } {
        let [byte] = take::<1>(&mut data, kind)?;
        packet = byte & 0x0F;
        layout = match byte >> 4 {
            0 => Layout::OneTrack,
            1 => Layout::ManyTracks,
            2 => Layout::ManyTracksManyCodecs,
            number => return Err(MediaError::Layout { kind, number }),
        };
    }
    let mut four = [0; 4];
    if layout != Layout::ManyTracksManyCodecs {
        four = take::<4>(&mut data, kind)?;
    }
    Ok(State::Tracks { layout, packet, four, data })
}

/// What a track's body is, by its codec and the type of packet.
fn coded(
    four: [u8; 4],
    packet: u8,
    mut data: BytesMut,
    kind: &'static str,
) -> Result<Tag, MediaError> {
    let is_video = kind == "video";
    let codec = match &four {
        b"avc1" if is_video => Codec::H264,
        b"hvc1" if is_video => Codec::Hevc,
        b"av01" if is_video => Codec::Av1,
        b"vp09" if is_video => Codec::Vp9,
        b"vp08" if is_video => Codec::Vp8,
        b"mp4a" if !is_video => Codec::Aac,
        b"Opus" if !is_video => Codec::Opus,
        b"fLaC" if !is_video => Codec::Flac,
        b".mp3" if !is_video => Codec::Mp3,
        _ => return Err(unsupported(kind, four_cc(four))),
    };
    match packet {
        0 => Ok(Tag::Header { codec, record: data }),
        // CodedFrames: two codecs have a composition time, which CodedFramesX saves where it is 0.
        1 if matches!(codec, Codec::H264 | Codec::Hevc) => {
            let time = take::<3>(&mut data, kind)?;
            frame(codec, signed_24(time), data)
        }
        1 if codec == Codec::Mp3 => Ok(Tag::Plain { codec, channels: 2, data }),
        1 => frame(codec, 0, data),
        3 if is_video => frame(codec, 0, data),
        // End of sequence, metadata (colours), channel order, AV1's descriptor of MPEG-TS.
        2 | 4 => Ok(Tag::Nothing),
        5 if is_video => Ok(Tag::Nothing),
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
    let instead = match kind {
        "video" => "H.264, HEVC, AV1 or VP9",
        _ => "AAC, Opus, MP3 or FLAC",
    };
    MediaError::Codec { kind, codec, instead }
}

/// Four characters as text, whatever they are, and the codec's name where it is known.
fn four_cc(four: [u8; 4]) -> String {
    let name = match &four {
        b"ac-3" => " (AC-3)",
        b"ec-3" => " (E-AC-3)",
        b"vvc1" => " (VVC)",
        _ => "",
    };
    format!("{:?}{name}", four.escape_ascii().to_string())
}

fn legacy_video(number: u8) -> String {
    let name = match number {
        2 => "Sorenson H.263",
        3 => "Screen video",
        4 | 5 => "VP6",
        6 => "Screen video 2",
        _ => "unknown",
    };
    format!("{number} ({name})")
}

fn legacy_audio(number: u8) -> String {
    let name = match number {
        0 | 3 => "PCM",
        1 => "ADPCM",
        4..=6 => "Nellymoser",
        11 => "Speex",
        _ => "unknown",
    };
    format!("{number} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a message has for track 0.
    fn video(data: BytesMut) -> Result<Tag, MediaError> {
        main(super::video(data))
    }

    fn audio(data: BytesMut) -> Result<Tag, MediaError> {
        main(super::audio(data))
    }

    fn main(mut parts: Parts) -> Result<Tag, MediaError> {
        parts.find(|(track, _)| *track == 0).expect("something of track 0").1
    }

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
        let opus = Tag::Frame { codec: Codec::Opus, composition_ms: 0, data: bytes(&[b"xy"]) };
        assert_eq!(audio(bytes(&[&[0x91], b"Opusxy"])), Ok(opus));
        assert_eq!(audio(bytes(&[&[0x94], b"Opus", &[1, 2]])), Ok(Tag::Nothing));
    }

    #[test]
    fn every_track_of_a_message_comes_out_with_its_number() {
        let of = |codec, data: &[u8]| {
            Ok(Tag::Frame { codec, composition_ms: 0, data: BytesMut::from(data) })
        };
        let all = |parts: Parts| parts.collect::<Vec<_>>();
        let one = super::video(bytes(&[&[0x96, 0x03], b"avc1", &[2], b"xy"]));
        assert_eq!(all(one), [(2, of(Codec::H264, b"xy"))]);
        let many: &[&[u8]] =
            &[&[0x95, 0x11], b"Opus", &[1, 0, 0, 1, 9, 0, 0, 0, 2], b"xy", &[3, 0, 0, 1, 8]];
        let opus = |data| of(Codec::Opus, data);
        assert_eq!(
            all(super::audio(bytes(many))),
            [(1, opus(&[9])), (0, opus(b"xy")), (3, opus(&[8]))]
        );
        // A codec that is not taken is its own track's trouble.
        let mixed: &[&[u8]] = &[
            &[0x96, 0x23],
            b"hvc1",
            &[1, 0, 0, 1, 9],
            b"vvc1",
            &[7, 0, 0, 0],
            b"av01",
            &[0, 0, 0, 2],
            b"xy",
        ];
        let found = all(super::video(bytes(mixed)));
        assert_eq!(found[0], (1, of(Codec::Hevc, &[9])));
        assert!(matches!(&found[1], (7, Err(MediaError::Codec { .. }))), "{found:?}");
        assert_eq!((found.len(), &found[2]), (3, &(0, of(Codec::Av1, b"xy"))));
        // A length beyond the message is the last that is said of it.
        let cut: &[&[u8]] = &[&[0x96, 0x13], b"avc1", &[1, 0, 0, 1, 9, 2, 0, 1, 0], b"xy"];
        let found = all(super::video(bytes(cut)));
        assert_eq!(found[1..], [(0, Err(MediaError::Short("video")))]);
        let odd = all(super::video(bytes(&[&[0x96, 0x33], b"avc1", &[2], b"xy"])));
        assert_eq!(odd, [(0, Err(MediaError::Layout { kind: "video", number: 3 }))]);
    }

    #[test]
    fn every_codec_has_its_frame() {
        let data = || bytes(&[b"xy"]);
        let plain = |codec| Ok(Tag::Frame { codec, composition_ms: 0, data: data() });
        let late = |codec| Ok(Tag::Frame { codec, composition_ms: 80, data: data() });
        assert_eq!(video(bytes(&[&[0x91], b"hvc1", &[0, 0, 80], b"xy"])), late(Codec::Hevc));
        assert_eq!(video(bytes(&[&[0xA3], b"hvc1xy"])), plain(Codec::Hevc));
        assert_eq!(video(bytes(&[&[0x1C, 1, 0, 0, 80], b"xy"])), late(Codec::Hevc));
        for (name, codec) in [("av01", Codec::Av1), ("vp09", Codec::Vp9), ("vp08", Codec::Vp8)] {
            assert_eq!(video(bytes(&[&[0x91], name.as_bytes(), b"xy"])), plain(codec));
        }
        let header = Ok(Tag::Header { codec: Codec::Av1, record: data() });
        assert_eq!(video(bytes(&[&[0x90], b"av01xy"])), header);
        assert_eq!(video(bytes(&[&[0x95], b"av01xy"])), Ok(Tag::Nothing));
        assert_eq!(audio(bytes(&[&[0x91], b"fLaCxy"])), plain(Codec::Flac));
        let raw = |codec, channels| Ok(Tag::Plain { codec, channels, data: data() });
        assert_eq!(audio(bytes(&[&[0x91], b".mp3xy"])), raw(Codec::Mp3, 2));
        assert_eq!(audio(bytes(&[&[0x2F], b"xy"])), raw(Codec::Mp3, 2));
        assert_eq!(audio(bytes(&[&[0x72], b"xy"])), raw(Codec::G711A, 1));
        assert_eq!(audio(bytes(&[&[0x82], b"xy"])), raw(Codec::G711U, 1));
    }

    #[test]
    fn other_codecs_are_named_with_what_to_use_instead() {
        let text = |tag: Result<Tag, MediaError>| tag.unwrap_err().to_string();
        assert_eq!(
            text(video(bytes(&[&[0x90], b"vvc1"]))),
            r#"video codec "vvc1" (VVC) is not taken over RTMP; use H.264, HEVC, AV1 or VP9"#
        );
        assert_eq!(
            text(audio(bytes(&[&[0x90], b"ac-3"]))),
            r#"audio codec "ac-3" (AC-3) is not taken over RTMP; use AAC, Opus, MP3 or FLAC"#
        );
        assert_eq!(
            text(audio(bytes(&[&[0x5F, 0]]))),
            "audio codec 5 (Nellymoser) is not taken over RTMP; use AAC, Opus, MP3 or FLAC"
        );
        assert!(!video(bytes(&[&[0x12]])).unwrap_err().can_pass());
    }

    #[test]
    fn every_beginning_of_a_tag_is_an_error_and_no_panic() {
        let whole: &[&[u8]] = &[&[0x96, 0x23], b"hvc1", &[1, 0, 0, 1, 9], b"avc1", &[0, 0, 0, 2]];
        let whole = whole.concat();
        for end in 0..whole.len() {
            for (track, tag) in super::video(BytesMut::from(&whole[..end])) {
                let good =
                    matches!((track, &tag), (0, Err(MediaError::Short("video"))) | (1, Ok(_)));
                assert!(good, "{tag:?}");
            }
        }
        assert_eq!(
            video(bytes(&[&[0x17, 1, 0x7F, 0, 0]])),
            Err(MediaError::Composition(0x7F_0000))
        );
    }

    proptest::proptest! {
        #[test]
        fn tracks_that_are_written_in_any_layout_are_read_again(
            layout in 0_u8..3,
            tracks in proptest::collection::vec(
                (proptest::prelude::any::<u8>(), proptest::collection::vec(0_u8.., 0..40)),
                1..6,
            ),
        ) {
            let tracks = if layout == 0 { &tracks[..1] } else { &tracks[..] };
            let four = |number: u8| if number.is_multiple_of(2) || layout < 2 { *b"av01" } else { *b"vp09" };
            let mut message = vec![0x96, layout << 4 | 1];
            if layout < 2 {
                message.extend_from_slice(b"av01");
            }
            for (number, body) in tracks {
                if layout == 2 {
                    message.extend_from_slice(&four(*number));
                }
                message.push(*number);
                if layout > 0 {
                    message.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
                }
                message.extend_from_slice(body);
            }
            let expected: Vec<_> = tracks
                .iter()
                .map(|(number, body)| {
                    let codec = if four(*number) == *b"av01" { Codec::Av1 } else { Codec::Vp9 };
                    let data = BytesMut::from(&body[..]);
                    (*number, Ok(Tag::Frame { codec, composition_ms: 0, data }))
                })
                .collect();
            let found: Vec<_> = super::video(BytesMut::from(&message[..])).collect();
            proptest::prop_assert_eq!(found, expected);
        }

        #[test]
        fn whatever_comes_is_read_to_an_end(message in proptest::collection::vec(0_u8.., 0..200)) {
            for parts in [super::video(BytesMut::from(&message[..])), super::audio(BytesMut::from(&message[..]))] {
                assert!(parts.count() <= message.len().max(1));
            }
        }
    }
}
