//! From a publisher's messages to packets, and from packets to a viewer's messages and back.

use std::time::Duration;

use bytes::Bytes;
use pipeline::Codec;

use super::*;
use crate::rtmp::amf::object;
use crate::rtmp::capabilities::Capabilities;
use crate::rtmp::play::{self, Play};

/// Parameter sets of a 64x64 stream.
const SPS: &[u8] = &[
    0x67, 0xf4, 0x00, 0x0a, 0x91, 0x96, 0x84, 0x26, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
    0x00, 0x03, 0x00, 0x2a, 0x3c, 0x48, 0x9a, 0x80,
];
const PPS: &[u8] = &[0x68, 0xce, 0x0f, 0x19, 0x20];

fn avc_header() -> BytesMut {
    let mut out = BytesMut::from(&[0x17, 0, 0, 0, 0, 1, 0xf4, 0, 0x0a, 0xff, 0xe1][..]);
    for (set, count) in [(SPS, 1), (PPS, 0)] {
        out.extend_from_slice(&(set.len() as u16).to_be_bytes());
        out.extend_from_slice(set);
        if count == 1 {
            out.extend_from_slice(&[1]);
        }
    }
    out
}

/// A picture of one slice: an intra slice header that names parameter set 0, then filling.
fn picture(key: bool, composition_ms: i32, number: u8) -> BytesMut {
    let [_, a, b, c] = composition_ms.to_be_bytes();
    let (frame, slice) = if key { (0x17, [0x65, 0x88, 0x80]) } else { (0x27, [0x41, 0x9a, 0x80]) };
    let nal = [&slice, &[number, 0x55][..]].concat();
    let length = (nal.len() as u32).to_be_bytes();
    BytesMut::from(&[&[frame, 1, a, b, c], &length[..], &nal].concat()[..])
}

fn sound(number: u8) -> BytesMut {
    BytesMut::from(&[0xAF, 1, number][..])
}

const AAC_HEADER: &[u8] = &[0xAF, 0, 0x12, 0x10];

#[derive(Default)]
struct Feed {
    media: Publish,
    out: Vec<Output>,
}

impl Feed {
    fn video(&mut self, time: u32, data: BytesMut) -> Result<(), MediaError> {
        self.media.video(Instant::now(), time, data, &mut self.out)
    }

    fn audio(&mut self, time: u32, data: BytesMut) -> Result<(), MediaError> {
        self.media.audio(Instant::now(), time, data, &mut self.out)
    }

    fn announce(&mut self, names: &[&str]) {
        let facts = names.iter().map(|name| ((*name).to_owned(), Value::Number(7.0)));
        let values =
            ["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(facts.collect())];
        self.media.metadata(&values, &mut self.out);
    }

    /// Which tracks were told, in order: video, audio.
    fn tracks(&self) -> Vec<(bool, bool)> {
        let known = |output: &Output| match output {
            Output::Tracks(tracks) => Some((tracks.video.is_some(), tracks.audio.is_some())),
            _ => None,
        };
        self.out.iter().filter_map(known).collect()
    }

    fn packets(&self) -> Vec<&Packet> {
        let mut packets = Vec::new();
        for output in &self.out {
            if let Output::Packet(packet) = output {
                packets.push(packet);
            }
        }
        packets
    }
}

fn annex_b(nals: &[&[u8]]) -> Bytes {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
}

#[test]
fn pictures_and_sound_come_out_canonical_with_their_times() {
    let mut feed = Feed::default();
    feed.video(0, avc_header()).unwrap();
    feed.audio(0, BytesMut::from(AAC_HEADER)).unwrap();
    feed.video(0, picture(true, 80, 0)).unwrap();
    feed.audio(10, sound(1)).unwrap();
    feed.video(40, picture(false, 120, 2)).unwrap();
    let Output::Tracks(tracks) = &feed.out[0] else { panic!("tracks come first") };
    let video = tracks.video.as_ref().unwrap();
    assert_eq!((video.codec, video.size.width, video.size.height), (Codec::H264, 64, 64));
    assert_eq!(video.parameter_sets, annex_b(&[SPS, PPS]));
    let audio = tracks.audio.as_ref().unwrap();
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (Codec::Aac, 44_100, 2));
    assert_eq!(audio.config[..], [0x12, 0x10]);
    let packets = feed.packets();
    let facts: Vec<_> =
        packets.iter().map(|p| (p.kind, p.pts.as_millis(), p.dts.as_millis(), p.key)).collect();
    assert_eq!(
        facts,
        [
            (TrackKind::Video, 80, 0, true),
            (TrackKind::Audio, 10, 10, true),
            (TrackKind::Video, 160, 40, false)
        ]
    );
    assert_eq!(packets[0].data, annex_b(&[SPS, PPS, &[0x65, 0x88, 0x80, 0, 0x55]]));
    assert_eq!(packets[2].data, annex_b(&[&[0x41, 0x9a, 0x80, 2, 0x55]]));
    assert_eq!(packets[1].data[..], [1]);
}

#[test]
fn a_lone_track_is_told_after_a_short_wait_and_the_other_when_it_comes() {
    // A picture alone, nothing announced: two pictures.
    let mut feed = Feed::default();
    feed.video(0, avc_header()).unwrap();
    feed.video(0, picture(true, 0, 0)).unwrap();
    assert!(feed.out.is_empty());
    feed.video(40, picture(false, 0, 1)).unwrap();
    assert_eq!((feed.tracks(), feed.packets().len()), (vec![(true, false)], 2));
    feed.audio(60, BytesMut::from(AAC_HEADER)).unwrap();
    assert_eq!(feed.tracks(), [(true, false), (true, true)]);

    // Sound alone: 500 ms.
    let mut feed = Feed::default();
    feed.audio(0, BytesMut::from(AAC_HEADER)).unwrap();
    for time in (0..480).step_by(20) {
        feed.audio(time, sound(0)).unwrap();
    }
    assert!(feed.out.is_empty());
    feed.audio(500, sound(0)).unwrap();
    assert_eq!((feed.tracks(), feed.packets().len()), (vec![(false, true)], 25));

    // Both announced: two pictures are no reason to give the sound up, 500 ms are.
    let mut feed = Feed::default();
    feed.announce(&["videocodecid", "audiocodecid"]);
    feed.video(0, avc_header()).unwrap();
    for time in [0, 40, 80] {
        feed.video(time, picture(time == 0, 0, 0)).unwrap();
    }
    assert!(feed.out.is_empty());
    feed.video(500, picture(false, 0, 0)).unwrap();
    assert_eq!(feed.tracks(), [(true, false)]);

    // Only a picture announced: at once.
    let mut feed = Feed::default();
    feed.announce(&["videocodecid"]);
    feed.video(0, avc_header()).unwrap();
    feed.video(0, picture(true, 0, 0)).unwrap();
    assert_eq!((feed.tracks(), feed.packets().len()), (vec![(true, false)], 1));
}

#[test]
fn broken_media_are_errors_that_pass_and_foreign_codecs_are_not() {
    let mut feed = Feed::default();
    assert_eq!(feed.audio(0, sound(0)), Err(MediaError::Headless("audio")));
    feed.video(0, avc_header()).unwrap();
    assert_eq!(feed.video(0, picture(false, 0, 0)), Err(MediaError::Headless("video")));
    let mut cut = picture(true, 0, 0);
    cut[8] = 200;
    let error = feed.video(0, cut).unwrap_err();
    assert!(error.can_pass() && matches!(error, MediaError::Video(_)), "{error}");
    feed.video(0, picture(true, 0, 0)).unwrap();
    feed.video(40, picture(false, 0, 0)).unwrap();
    assert_eq!(feed.packets().len(), 2);
    let foreign = feed.video(80, BytesMut::from(&b"\x90vvc1"[..])).unwrap_err();
    assert!(!foreign.can_pass());
}

#[test]
fn opus_in_enhanced_messages_becomes_a_track() {
    let mut feed = Feed::default();
    feed.announce(&["audiocodecid"]);
    let head = b"\x90OpusOpusHead\x01\x01\x00\x00\x80\xBB\x00\x00\x00\x00\x00";
    feed.audio(0, BytesMut::from(&head[..])).unwrap();
    feed.audio(0, BytesMut::from(&b"\x91Opusxyz"[..])).unwrap();
    let Output::Tracks(Tracks { audio: Some(track), .. }) = &feed.out[0] else { panic!("tracks") };
    assert_eq!((track.codec, track.sample_rate, track.channels), (Codec::Opus, 48_000, 1));
    assert_eq!(feed.packets()[0].data[..], b"xyz"[..]);
}

#[test]
fn metadata_that_says_nothing_changes_nothing() {
    let mut feed = Feed::default();
    feed.announce(&[]);
    feed.media.metadata(&[object([]), Value::Null], &mut feed.out);
    assert_eq!(feed.media.start.announced, None);
}

/// Sends something of a further track.
fn watch_further(play: &mut Play, output: &Output, send: play::Send<'_>) {
    match output {
        Output::Picture(number, track) => {
            let tracks = Tracks { video: Some(track.clone()), audio: None };
            play.further(*number, &tracks, send);
        }
        Output::Sound(number, track) => {
            let tracks = Tracks { video: None, audio: Some(track.clone()) };
            play.further(*number, &tracks, send);
        }
        Output::Further(number, packet) => play.further_packet(*number, packet, send),
        Output::Tracks(_) | Output::Packet(_) => {}
    }
}

/// What a viewer is sent, read again as if it were published.
fn watch(play: &mut Play, outputs: &[Output]) -> Feed {
    let mut sent = Vec::new();
    let mut send =
        |kind, time, head: &[u8], body: &Bytes| sent.push((kind, time, [head, &body[..]].concat()));
    for output in outputs {
        match output {
            Output::Tracks(tracks) => assert!(play.tracks(tracks, &mut send)),
            Output::Packet(packet) => play.packet(packet, &mut send),
            further => watch_further(play, further, &mut send),
        }
    }
    let mut feed = Feed::default();
    for (kind, time, data) in sent {
        let data = BytesMut::from(&data[..]);
        match kind {
            play::VIDEO => feed.video(time, data).unwrap(),
            play::AUDIO => feed.audio(time, data).unwrap(),
            _ => {}
        }
    }
    feed
}

#[test]
fn what_a_viewer_gets_is_what_was_published_with_times_from_zero() {
    let mut feed = Feed::default();
    feed.video(5000, avc_header()).unwrap();
    feed.audio(5000, BytesMut::from(AAC_HEADER)).unwrap();
    for (index, composition) in [80, 200, 80, 0, 40, 120].into_iter().enumerate() {
        let time = 5000 + 33 * index as u32;
        feed.video(time, picture(index == 0, composition, index as u8)).unwrap();
        feed.audio(time + 5, sound(index as u8)).unwrap();
    }
    let seen = watch(&mut Play::new(Capabilities::default()), &feed.out);
    let facts = |feed: &Feed, shift: i64| -> Vec<_> {
        let packets = feed.packets().into_iter();
        packets
            .map(|p| {
                (
                    p.kind,
                    p.pts.as_millis() - shift,
                    p.dts.as_millis() - shift,
                    p.key,
                    p.data.clone(),
                )
            })
            .collect()
    };
    assert_eq!(facts(&seen, 0), facts(&feed, 5000));
}

#[test]
fn a_viewer_begins_with_a_key_picture_and_again_after_a_loss() {
    let mut feed = Feed::default();
    feed.announce(&["videocodecid"]);
    feed.video(0, avc_header()).unwrap();
    for index in 0..6_u32 {
        feed.video(index * 40, picture(index % 3 == 0, 0, index as u8)).unwrap();
    }
    let mut play = Play::new(Capabilities::default());
    let Output::Tracks(tracks) = feed.out.remove(0) else { panic!("tracks") };
    let mut times = Vec::new();
    let mut run = |play: &mut Play, range: std::ops::Range<usize>| {
        for output in &feed.out[range] {
            let Output::Packet(packet) = output else { panic!("packets") };
            play.packet(packet, &mut |kind, time, _, _| times.push((kind, time)));
        }
    };
    play.tracks(&tracks, &mut |_, _, _, _| {});
    run(&mut play, 1..5);
    play.lagged();
    run(&mut play, 5..6);
    assert_eq!(times, [(play::VIDEO, 0), (play::VIDEO, 40)]);
}

#[test]
fn opus_goes_only_to_viewers_who_asked_for_it() {
    let audio =
        AudioTrack { codec: Codec::Opus, sample_rate: 48_000, channels: 2, config: Bytes::new() };
    let tracks = Tracks { video: None, audio: Some(audio) };
    assert!(!Play::new(Capabilities::default()).tracks(&tracks, &mut |_, _, _, _| {}));
    let pts = Pts::from_millis(20);
    let data = Bytes::from_static(b"opus");
    let (kind, arrived) = (TrackKind::Audio, Instant::now() + Duration::ZERO);
    let packet = Packet { kind, pts, dts: pts, key: true, data, arrived };
    let seen = watch(
        &mut Play::new(Capabilities::all()),
        &[Output::Tracks(tracks), Output::Packet(packet)],
    );
    assert_eq!(seen.media.start.tracks.audio.unwrap().channels, 2);
}

/// A stream of each codec goes through a publisher's and a viewer's messages and comes out the same.
#[test]
fn every_codec_goes_in_and_out_again() {
    let key = |codec| -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        // Sequence header, key frame and another frame, each without its first five bytes.
        match codec {
            Codec::Av1 => (
                b"\x81\0\x0c\0\x0a\x0b\0\0\0\x04<\xfe\xcc\xfb\xf9\0@".to_vec(),
                b"\x32\x04\x10\x01\x02\x03".to_vec(),
                b"\x32\x03\x30\x01\x02".to_vec(),
            ),
            _ => (
                b"\0\x15\x82\x02\x02\x02\0\0".to_vec(),
                b"\x82\x49\x83\x42\x00\x15\xf0\x11\xf0\x00\x38\x24\x1c\x18".to_vec(),
                b"\x86\0\x01\x02".to_vec(),
            ),
        }
    };
    for (codec, four) in [(Codec::Av1, b"av01"), (Codec::Vp9, b"vp09")] {
        let (header, first, second) = key(codec);
        let mut feed = Feed::default();
        feed.announce(&["videocodecid"]);
        let message =
            |tag: u8, body: &[u8]| BytesMut::from(&[&[tag], &four[..], body].concat()[..]);
        feed.video(0, message(0x90, &header)).unwrap();
        feed.video(0, message(0x91, &first)).unwrap();
        feed.video(40, message(0xA1, &second)).unwrap();
        let packets = feed.packets();
        assert_eq!(packets.iter().map(|p| p.key).collect::<Vec<_>>(), [true, false], "{codec}");
        assert_eq!(packets[1].dts, Pts::from_millis(40));
        let mut again = Feed::default();
        let mut play = Play::new(Capabilities::all());
        for output in &feed.out {
            let mut send = |kind, time, head: &[u8], body: &Bytes| {
                if kind == play::VIDEO {
                    let message = [head, &body[..]].concat();
                    again.video(time, BytesMut::from(&message[..])).unwrap();
                }
            };
            match output {
                Output::Tracks(tracks) => assert!(play.tracks(tracks, &mut send)),
                Output::Packet(packet) => play.packet(packet, &mut send),
                further => watch_further(&mut play, further, &mut send),
            }
        }
        again.announce(&["videocodecid"]);
        let bytes = |feed: &Feed| -> Vec<_> {
            feed.packets().iter().map(|p| (p.data.clone(), p.pts, p.key)).collect()
        };
        assert_eq!(bytes(&again), bytes(&feed), "{codec}");
        assert_eq!(again.media.start.tracks, feed.media.start.tracks);
        // A viewer who has not announced it gets none of it.
        let Some(Output::Tracks(tracks)) = feed.out.first() else { panic!("tracks come first") };
        assert!(!Play::new(Capabilities::default()).tracks(tracks, &mut |_, _, _, _| {}));
    }
}

#[test]
fn mp3_and_g711_need_no_header() {
    let mut feed = Feed::default();
    feed.announce(&["audiocodecid"]);
    // Two frames of 24 kHz, 8 kbit/s, 24 bytes each, in one message.
    let frame = [&[0xff, 0xf3, 0x14, 0xc0][..], &[0; 20]].concat();
    feed.audio(0, BytesMut::from(&[&[0x2E][..], &frame, &frame].concat()[..])).unwrap();
    feed.audio(48, BytesMut::from(&[&[0x2E][..], &frame].concat()[..])).unwrap();
    let times: Vec<_> = feed.packets().iter().map(|p| p.pts.as_millis()).collect();
    assert_eq!(times, [0, 24, 48]);
    let track = feed.media.start.tracks.audio.clone().unwrap();
    assert_eq!((track.codec, track.sample_rate, track.channels), (Codec::Mp3, 24_000, 1));

    let mut feed = Feed::default();
    feed.announce(&["audiocodecid"]);
    feed.audio(0, BytesMut::from(&[&[0x82][..], &[0xff; 160]].concat()[..])).unwrap();
    let track = feed.media.start.tracks.audio.clone().unwrap();
    assert_eq!((track.codec, track.sample_rate, track.channels), (Codec::G711U, 8000, 1));
    assert_eq!(feed.packets().len(), 1);
}

/// An enhanced message with one thing of one track.
fn of_track(first: u8, packet: u8, four: &[u8; 4], number: u8, body: &[u8]) -> BytesMut {
    BytesMut::from(&[&[first, packet], &four[..], &[number], body].concat()[..])
}

/// What came out for further tracks: kind, number, and the time of a packet.
fn further(feed: &Feed) -> Vec<(char, u8, Option<i64>)> {
    let of = |output: &Output| match output {
        Output::Picture(number, _) => Some(('v', *number, None)),
        Output::Sound(number, _) => Some(('a', *number, None)),
        Output::Further(number, packet) => {
            let kind = if packet.kind.is_video() { 'v' } else { 'a' };
            Some((kind, *number, Some(packet.pts.as_millis())))
        }
        Output::Tracks(_) | Output::Packet(_) => None,
    };
    feed.out.iter().filter_map(of).collect()
}

#[test]
fn further_tracks_come_out_beside_the_stream_on_its_clock_and_after_its_start() {
    let mut feed = Feed::default();
    feed.announce(&["videocodecid", "audiocodecid"]);
    feed.video(0, avc_header()).unwrap();
    feed.video(0, of_track(0x96, 0x00, b"avc1", 1, &avc_header()[5..])).unwrap();
    feed.audio(0, of_track(0x95, 0x00, b"mp4a", 1, &AAC_HEADER[2..])).unwrap();
    feed.audio(0, of_track(0x95, 0x01, b"mp4a", 1, &[7])).unwrap();
    let key = picture(true, 80, 1);
    feed.video(0, of_track(0x96, 0x01, b"avc1", 1, &key[2..])).unwrap();
    assert!(feed.out.is_empty(), "nothing is told before the stream");
    feed.audio(0, BytesMut::from(AAC_HEADER)).unwrap();
    feed.video(0, picture(true, 80, 0)).unwrap();
    assert!(matches!(feed.out[0], Output::Tracks(_)));
    feed.audio(20, of_track(0x95, 0x01, b"mp4a", 1, &[8])).unwrap();
    assert_eq!(
        further(&feed),
        [('v', 1, None), ('a', 1, None), ('a', 1, Some(0)), ('v', 1, Some(80)), ('a', 1, Some(20))]
    );
    assert_eq!((feed.packets().len(), feed.media.left_out()), (1, 0));
}

#[test]
fn a_viewer_of_several_tracks_gets_them_as_they_were_published() {
    let mut feed = Feed::default();
    feed.announce(&["videocodecid", "audiocodecid"]);
    feed.video(0, avc_header()).unwrap();
    feed.audio(0, BytesMut::from(AAC_HEADER)).unwrap();
    feed.video(0, of_track(0x96, 0x00, b"avc1", 1, &avc_header()[5..])).unwrap();
    feed.audio(0, of_track(0x95, 0x00, b"mp4a", 3, &AAC_HEADER[2..])).unwrap();
    feed.audio(0, of_track(0x95, 0x00, b"Opus", 2, b"OpusHead\x01\x02")).unwrap();
    for (index, composition) in [80, 0, 40].into_iter().enumerate() {
        let (time, number) = (40 * index as u32, index as u8);
        let unit = picture(index == 0, composition, number);
        feed.video(time, unit.clone()).unwrap();
        let first = if index == 0 { 0x96 } else { 0xA6 };
        feed.video(time, of_track(first, 0x01, b"avc1", 1, &unit[2..])).unwrap();
        feed.audio(time, sound(number)).unwrap();
        feed.audio(time, of_track(0x95, 0x01, b"mp4a", 3, &[number])).unwrap();
        feed.audio(time, of_track(0x95, 0x01, b"Opus", 2, &[number])).unwrap();
    }
    assert_eq!(further(&feed).len(), 3 + 3 * 3);
    let seen = watch(&mut Play::new(Capabilities::all()), &feed.out);
    assert_eq!(further(&seen), further(&feed));
    assert_eq!((seen.media.left_out(), seen.packets().len()), (0, 6));
    let bytes = |feed: &Feed| -> Vec<_> {
        let of = |output: &Output| match output {
            Output::Further(_, packet) => Some((packet.data.clone(), packet.pts, packet.key)),
            _ => None,
        };
        feed.out.iter().filter_map(of).collect()
    };
    assert_eq!(bytes(&seen), bytes(&feed));
}

#[test]
fn many_tracks_of_many_codecs_in_one_message_are_taken_one_by_one() {
    let mut feed = Feed::default();
    feed.announce(&["audiocodecid"]);
    let head =
        |channels: u8| [&b"OpusHead\x01"[..], &[channels], b"\0\0\x80\xBB\0\0\0\0\0"].concat();
    let entry = |four: &[u8], number: u8, body: &[u8]| {
        [four, &[number, 0, 0, body.len() as u8], body].concat()
    };
    let message = |packet: u8, entries: &[Vec<u8>]| {
        BytesMut::from(&[&[0x95, 0x20 | packet][..], &entries.concat()].concat()[..])
    };
    let headers = [
        entry(b"mp4a", 0, &AAC_HEADER[2..]),
        entry(b"ac-3", 2, b"?"),
        entry(b"Opus", 1, &head(1)),
        entry(b"Opus", 200, &head(1)),
    ];
    feed.audio(0, message(0, &headers)).unwrap();
    feed.audio(0, message(1, &[entry(b"Opus", 1, b"x"), entry(b"mp4a", 0, b"y")])).unwrap();
    assert_eq!(further(&feed), [('a', 1, None), ('a', 1, Some(0))]);
    assert_eq!(feed.packets()[0].data[..], b"y"[..]);
    // One of a codec that is not taken and one of too high a number: each is told.
    assert_eq!(feed.media.left_out(), 2);
    let left = feed.media.take_left_out().unwrap();
    assert_eq!((left.kind, left.number, left.error), (TrackKind::Audio, 200, None));
    assert_eq!(feed.media.take_left_out(), None);
    // What is wrong with the stream's own track is told, and the others are taken all the same.
    let broken = message(1, &[entry(b"ac-3", 0, b"?"), entry(b"Opus", 1, b"z")]);
    assert!(matches!(feed.audio(20, broken), Err(MediaError::Codec { .. })));
    assert_eq!(further(&feed).last(), Some(&('a', 1, Some(20))));
    // A track that is kept does not keep the rest of its message.
    let mut large = b"Opus\x01\x00\x01\x00".to_vec();
    large.resize(8 + 256, 7);
    let parts = flv::audio(message(1, &[entry(b"mp4a", 0, b"y"), large]));
    let own = parts.map(|(_, tag)| tag.unwrap()).next();
    let Some(flv::Tag::Frame { data, .. }) = own else { panic!("{own:?}") };
    assert!(data.capacity() < 256, "{}", data.capacity());
}

#[test]
fn what_is_wrong_with_a_further_track_is_no_fault_of_the_stream() {
    let mut feed = Feed::default();
    feed.announce(&["videocodecid"]);
    feed.video(0, avc_header()).unwrap();
    feed.video(0, picture(true, 0, 0)).unwrap();
    // A frame before its header, a foreign codec, one without its number.
    feed.video(10, of_track(0xA6, 0x01, b"avc1", 1, &picture(false, 0, 0)[2..])).unwrap();
    let left = feed.media.take_left_out().unwrap();
    assert!(
        matches!(left.error, Some(MediaError::Headless("video") | MediaError::Video(_))),
        "{left:?}"
    );
    feed.video(10, of_track(0x96, 0x00, b"vvc1", 2, b"")).unwrap();
    assert!(matches!(feed.media.take_left_out().unwrap().error, Some(MediaError::Codec { .. })));
    let short = feed.video(20, BytesMut::from(&b"\x96\x00avc1"[..]));
    assert_eq!(short, Err(MediaError::Short("video")));
    feed.video(40, picture(false, 0, 1)).unwrap();
    assert_eq!((feed.packets().len(), feed.media.left_out()), (2, 2));
}

#[test]
fn further_tracks_without_a_stream_are_no_stream_and_no_load() {
    let mut feed = Feed::default();
    feed.audio(0, of_track(0x95, 0x00, b"mp4a", 1, &AAC_HEADER[2..])).unwrap();
    for time in 0..10_000 {
        feed.audio(time, of_track(0x95, 0x01, b"mp4a", 1, &[1])).unwrap();
    }
    assert!(feed.out.is_empty());
    assert!(feed.media.start.waiting.len() <= WAIT_PACKETS);
}
