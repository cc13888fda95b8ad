//! Descriptions both ways: what we write we read, what others write is read, nonsense is refused.

use pipeline::packet::{AudioTrack, VideoTrack};
use pipeline::{Size, Tracks};
use proptest::prelude::*;

use super::*;
use crate::rtp::payload::SoundFormat;
use crate::rtp::payload::aac::Lengths;
use crate::rtsp::describe;

/// FFmpeg 5's description of H.264 with AAC.
const FFMPEG: &[u8] = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\n\
t=0 0\r\na=tool:libavformat 59.27.100\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADNsCgL/lwEQAAAMABAAAAwDwPFC5IA==,aMqPIA==; profile-level-id=42C00C\r\n\
a=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\nb=AS:128\r\n\
a=rtpmap:97 MPEG4-GENERIC/44100/2\r\n\
a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=121056E500\r\n\
a=control:streamid=1\r\n";

fn sdp(media: &str) -> Vec<u8> {
    format!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{media}").into_bytes()
}

fn first(media: &str) -> Format {
    read(&sdp(media)).unwrap()[0].format.clone().unwrap()
}

#[test]
fn what_ffmpeg_announces_is_read() {
    let media = read(FFMPEG).unwrap();
    assert_eq!(
        media.iter().map(|m| &m.control[..]).collect::<Vec<_>>(),
        ["streamid=0", "streamid=1"]
    );
    let video = media[0].format.as_ref().unwrap();
    let Coding::Picture(Codec::H264, sets) = &video.coding else { panic!("{video:?}") };
    assert!(sets.starts_with(&[0, 0, 0, 1, 0x67, 0x42]) && video.payload_type == 96);
    let audio = media[1].format.as_ref().unwrap();
    let Coding::Sound(sound) = &audio.coding else { panic!("{audio:?}") };
    assert_eq!(sound.format, SoundFormat::Aac { lengths: Lengths::HBR, step: 1024 });
    let track = sound.track.as_ref().unwrap();
    assert_eq!((track.sample_rate, track.channels), (44_100, 2));
}

#[test]
fn standing_payload_types_need_no_mapping() {
    let codec = |media| first(media).codec();
    assert_eq!(codec("m=audio 0 RTP/AVP 0\r\n"), Codec::G711U);
    assert_eq!(codec("m=audio 0 RTP/AVP 8\r\n"), Codec::G711A);
    assert_eq!(codec("m=audio 0 RTP/AVP 14\r\n"), Codec::Mp3);
    // The first of several formats that is carried.
    assert_eq!(
        codec("m=audio 0 RTP/AVP 9 101 8\r\na=rtpmap:101 telephone-event/8000\r\n"),
        Codec::G711A
    );
}

#[test]
fn what_is_not_carried_is_passed_over_or_refused_with_the_reason() {
    let two = "m=application 0 RTP/AVP 107\r\na=control:meta\r\nm=audio 0 RTP/AVP 8\r\na=control:a\r\nm=audio 0 RTP/AVP 0\r\n";
    let media = read(&sdp(two)).unwrap();
    let carried: Vec<_> = media.iter().map(|medium| medium.format.is_some()).collect();
    assert_eq!(carried, [false, true, false], "one of each kind");
    for (media, why) in [
        ("", "nothing"),
        ("m=video 0 RTP/AVP 32\r\n", "payload type 32"),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\n", "THEORA"),
        (
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=2\r\n",
            "interleaved",
        ),
        (
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-max-don-diff=3\r\n",
            "order numbers",
        ),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/1000\r\n", "90 kHz"),
        ("m=video 0 RTP/SAVP 96\r\na=rtpmap:96 VP8/90000\r\n", "RTP/SAVP"),
        ("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/44100\r\n", "no config"),
        (
            "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/44100\r\na=fmtp:97 config=1210;sizelength=0\r\n",
            "without sizes",
        ),
        (
            "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/44100\r\na=fmtp:97 config=1210;sizelength=99\r\n",
            "out of range",
        ),
        (
            "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MP4A-LATM/44100\r\na=fmtp:97 cpresent=1\r\n",
            "in band",
        ),
    ] {
        let error = read(&sdp(media)).unwrap_err().to_string();
        assert!(error.contains(why), "{media}: {error}");
    }
    assert!(matches!(read(b"hello"), Err(SdpError::Malformed(_))));
    let many = sdp(&"m=audio 0 RTP/AVP 8\r\n".repeat(17));
    assert_eq!(read(&many), Err(SdpError::Many(17)));
}

#[test]
fn what_we_describe_we_read() {
    let sets = Bytes::from_static(b"\0\0\0\x01\x67\x42\xc0\x0c\xdb\0\0\0\x01\x68\xca");
    let hevc =
        Bytes::from_static(b"\0\0\0\x01\x40\x01\x0c\0\0\0\x01\x42\x01\x01\0\0\0\x01\x44\x01\xc0");
    let none = Bytes::new();
    for (codec, sets) in [
        (Codec::H264, &sets),
        (Codec::Hevc, &hevc),
        (Codec::Vp8, &none),
        (Codec::Vp9, &none),
        (Codec::Av1, &none),
    ] {
        for (audio, rate, channels) in [
            (Codec::Opus, 48_000, 2),
            (Codec::Aac, 44_100, 2),
            (Codec::Mp3, 48_000, 2),
            (Codec::G711U, 8000, 1),
            (Codec::G711A, 16_000, 2),
        ] {
            let video = VideoTrack { codec, size: Size::new(2, 2), parameter_sets: sets.clone() };
            let audio_track =
                AudioTrack { codec: audio, sample_rate: rate, channels, config: none.clone() };
            let tracks = Tracks { video: Some(video), audio: Some(audio_track.clone()) };
            let outgoing = describe::outgoing(&tracks);
            let text = describe::sdp("cam", 7, &outgoing);
            let media = read(&text).unwrap();
            assert_eq!(media.len(), 2);
            let formats: Vec<_> = media.iter().map(|m| m.format.clone().unwrap()).collect();
            assert_eq!(formats[0].coding, Coding::Picture(codec, sets.clone()));
            assert_eq!(
                (formats[1].codec(), formats[1].clock_rate),
                (audio, outgoing[1].clock_rate)
            );
            assert_eq!(formats[1].payload_type, outgoing[1].payload_type);
            let Coding::Sound(Sound { track, .. }) = &formats[1].coding else { panic!() };
            if let Some(track) = track {
                assert_eq!((track.sample_rate, track.channels), (rate, channels));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_description_makes_the_reader_panic(
        lines in prop::collection::vec("[a-z]=[ -~]{0,40}", 0..12),
    ) {
        let _ = read(&sdp(&lines.join("\r\n")));
    }
}
