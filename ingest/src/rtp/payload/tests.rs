//! All formats: what is cut is joined again, foreign forms are read, nonsense is refused.

use std::time::Instant;

use bytes::Bytes;
use pipeline::{Packet, Pts, TrackKind};
use proptest::prelude::*;

use super::aac::Lengths;
use super::*;

fn packet(codec: Codec, key: bool, data: Vec<u8>) -> Packet {
    let kind = if codec.is_video() { TrackKind::Video } else { TrackKind::Audio };
    let data = Bytes::from(data);
    Packet { kind, pts: Pts(90_000), dts: Pts(90_000), key, data, arrived: Instant::now() }
}

/// Bytes without start codes, sizes or anything else that a format looks at.
fn body(length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(|at| (at * 31 % 250 + 4) as u8 | 0x80)
}

fn annex_b(units: &[(&[u8], usize)]) -> Vec<u8> {
    let unit = |(head, length): &(&[u8], usize)| {
        [&[0, 0, 0, 1][..], head, &body(*length).collect::<Vec<u8>>()].concat()
    };
    units.iter().flat_map(unit).collect()
}

fn obu(header: u8, length: usize) -> Vec<u8> {
    let mut out = vec![header | 2];
    let mut size = length;
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    // The first bits say key frame.
    out.extend(body(length).map(|byte| byte & 0x1f));
    out
}

/// A key picture with `length` bytes in its largest part.
fn key_picture(codec: Codec, length: usize) -> Vec<u8> {
    match codec {
        Codec::H264 => annex_b(&[(&[0x67], 20), (&[0x68], 4), (&[0x65], length)]),
        Codec::Hevc => annex_b(&[
            (&[0x40, 1], 20),
            (&[0x42, 1], 40),
            (&[0x44, 1], 6),
            (&[0x26, 1], length),
            (&[0x50, 1], 12),
        ]),
        Codec::Vp8 => [0x10, 2, 0].into_iter().chain(body(length)).collect(),
        Codec::Vp9 => [0x82].into_iter().chain(body(length)).collect(),
        Codec::Av1 => [obu(0x08, 11), obu(0x30, length), obu(0x28, 30)].concat(),
        other => panic!("{other}"),
    }
}

fn other_picture(codec: Codec, length: usize) -> Vec<u8> {
    match codec {
        Codec::H264 => annex_b(&[(&[0x41], length)]),
        Codec::Hevc => annex_b(&[(&[0x02, 1], length)]),
        Codec::Vp8 => [0x11, 2, 0].into_iter().chain(body(length)).collect(),
        Codec::Vp9 => [0x86].into_iter().chain(body(length)).collect(),
        Codec::Av1 => {
            let mut unit = obu(0x30, length.max(1));
            let at = unit.len() - length.max(1);
            unit[at] |= 0x20;
            unit
        }
        other => panic!("{other}"),
    }
}

const PICTURES: [Codec; 5] = [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Vp9, Codec::Av1];

fn give(
    depacketiser: &mut PictureDepacketiser,
    seq: &mut u64,
    time: u32,
    frame: &FramePackets,
) -> Vec<Unit> {
    let mut units = Vec::new();
    for at in 0..frame.len() {
        *seq += 1;
        let (payload, now) = (frame.payload(at).unwrap(), Instant::now());
        depacketiser.push(ExtSeq(*seq), RtpTime(time), frame.marker(at), payload, now).unwrap();
        units.extend(std::iter::from_fn(|| depacketiser.poll()));
    }
    units
}

/// Joins the payloads of a frame of sound, at the time that each has.
fn joined(format: SoundFormat, rate: i64, frame: &FramePackets) -> Vec<(u32, Vec<u8>)> {
    let mut depacketiser = SoundDepacketiser::new(format);
    let mut units = Vec::new();
    for at in 0..frame.len() {
        let time = RtpTime((frame.offset(at).0 * rate / 90_000) as u32);
        let (payload, now) = (frame.payload(at).unwrap(), Instant::now());
        depacketiser.push(ExtSeq(at as u64), time, frame.marker(at), payload, now).unwrap();
        units.extend(
            std::iter::from_fn(|| depacketiser.poll()).map(|u| (u.time.0, u.data.to_vec())),
        );
    }
    units
}

#[test]
fn a_hole_costs_pictures_up_to_the_next_key_picture_in_every_codec() {
    for codec in PICTURES {
        let packetiser = Packetiser::new(codec, 500);
        let mut depacketiser = PictureDepacketiser::new(codec).unwrap();
        let picture = |at: u32| match at {
            0 | 4 => packet(codec, true, key_picture(codec, 2000)),
            _ => packet(codec, false, other_picture(codec, 1800)),
        };
        let (mut seq, mut out) = (10, Vec::new());
        for at in 0..7_u32 {
            let frame = packetiser.packetise(&picture(at)).unwrap();
            if at == 2 {
                // Its last packet is lost, with the marker.
                let now = Instant::now();
                seq += 1;
                let payload = frame.payload(0).unwrap();
                depacketiser.push(ExtSeq(seq), RtpTime(at), false, payload, now).unwrap();
                seq += frame.len() as u64 - 1;
                continue;
            }
            out.extend(give(&mut depacketiser, &mut seq, at, &frame).iter().map(|u| u.time.0));
        }
        assert_eq!(out, [0, 1, 4, 5, 6], "{codec}");
        let counts = depacketiser.counts();
        assert_eq!((counts.complete, counts.damaged + counts.withheld), (5, 2), "{codec}");
    }
}

#[test]
fn a_stream_is_joined_at_its_first_key_picture_in_every_codec() {
    for codec in PICTURES {
        let packetiser = Packetiser::new(codec, 400);
        let mut depacketiser = PictureDepacketiser::new(codec).unwrap();
        let mut seq = 0;
        let inter = packetiser.packetise(&packet(codec, false, other_picture(codec, 900))).unwrap();
        let key = packetiser.packetise(&packet(codec, true, key_picture(codec, 900))).unwrap();
        assert!(give(&mut depacketiser, &mut seq, 1, &inter).is_empty(), "{codec}");
        assert!(depacketiser.awaits_key());
        let units = give(&mut depacketiser, &mut seq, 2, &key);
        assert!(units.len() == 1 && units[0].key && !depacketiser.awaits_key(), "{codec}");
        let units = give(&mut depacketiser, &mut seq, 3, &inter);
        assert!(units.len() == 1 && !units[0].key, "{codec}");
    }
}

#[test]
fn large_pictures_leave_in_packets_of_one_size() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Hevc] {
        let frame = Packetiser::new(codec, 1000)
            .packetise(&packet(codec, false, other_picture(codec, 50_000)))
            .unwrap();
        assert!((50..=52).contains(&frame.len()), "{codec}: {}", frame.len());
        assert_eq!(frame.runs().count(), 1, "{codec}");
    }
}

/// Pushes payloads of one picture, the marker on the last.
fn picture_of(codec: Codec, payloads: &[&[u8]]) -> Result<Option<Unit>, DepacketiseError> {
    let mut depacketiser = PictureDepacketiser::new(codec).unwrap();
    let mut found = None;
    for (at, payload) in payloads.iter().enumerate() {
        let (seq, last) = (ExtSeq(at as u64), at + 1 == payloads.len());
        depacketiser.push(seq, RtpTime(0), last, payload, Instant::now())?;
        found = found.or(depacketiser.poll());
    }
    Ok(found)
}

#[track_caller]
fn read(codec: Codec, payloads: &[&[u8]], wanted: &[u8], key: bool) {
    let unit = picture_of(codec, payloads).unwrap().expect("a picture");
    assert_eq!((&unit.data[..], unit.key), (wanted, key));
}

#[track_caller]
fn refused(codec: Codec, payloads: &[&[u8]], why: &str) {
    let error = picture_of(codec, payloads).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn hevc_of_others_is_read() {
    let (vps, idr) = ([0x40, 0x01, 0x0c], [0x26, 0x01, 0xaf, 0x08]);
    let wanted = [&[0, 0, 0, 1][..], &vps, &[0, 0, 0, 1], &idr].concat();
    let aggregate = [&[0x60, 0x01, 0, 3][..], &vps, &[0, 4], &idr].concat();
    read(Codec::Hevc, &[&aggregate], &wanted, true);
    let fragments = [&[0x62, 0x01, 0x93, 0xaf][..], &[0x62, 0x01, 0x53, 0x08]];
    read(Codec::Hevc, &[&vps, fragments[0], fragments[1]], &wanted, true);
    // Delimiter and filler say nothing, not even in pieces.
    let filler = [&[0x62, 0x01, 0xa6, 1][..], &[0x62, 0x01, 0x66, 2]];
    read(Codec::Hevc, &[&[0x46, 1, 0x10], &aggregate, filler[0], filler[1]], &wanted, true);
    refused(Codec::Hevc, &[&vps, &[0x64, 0x01, 0]], "type 50");
    refused(Codec::Hevc, &[&vps, &[0x62]], "cut payload header");
    refused(Codec::Hevc, &[&vps, &[0x62, 1]], "cut fragment header");
    refused(Codec::Hevc, &[&vps, fragments[1]], "out of turn");
    refused(Codec::Hevc, &[&vps, fragments[0], &idr], "inside of a fragmented");
    refused(Codec::Hevc, &[&vps, &[0x60, 1, 0, 2, 0x60, 1]], "aggregate within");
}

#[test]
fn vp8_of_others_is_read_whatever_its_descriptor_has() {
    let frame = [0x10, 2, 0, 0x9d];
    let forms: [&[u8]; 6] = [
        &[0x10],
        &[0x90, 0x80, 0x11],
        &[0x90, 0x80, 0x91, 0x22],
        &[0x90, 0xc0, 0x11, 7],
        &[0x90, 0xe0, 0x91, 0x22, 7, 0x40],
        &[0x90, 0x30, 0x40],
    ];
    for form in forms {
        read(Codec::Vp8, &[&[form, &frame].concat()], &frame, true);
        read(Codec::Vp8, &[&[form, &frame[..2]].concat(), &[0, 0, 0x9d]], &frame, true);
        // Later partitions begin with a number of their own.
        read(Codec::Vp8, &[&[form, &frame[..2]].concat(), &[0x11, 0, 0x9d]], &frame, true);
    }
    refused(Codec::Vp8, &[&[0x10, 0x10, 2, 0], &[0x10, 3]], "out of turn");
    refused(Codec::Vp8, &[&[0x10, 0x10, 2, 0], &[0x80]], "cut payload descriptor");
    refused(Codec::Vp8, &[&[0x10, 0x10, 2, 0], &[0x00]], "without a payload");
}

#[test]
fn vp9_of_others_is_read_and_its_layers_become_a_superframe() {
    let frame = [0x82, 0x49, 0x83, 0x42];
    let forms: [&[u8]; 6] = [
        &[0x08],
        &[0x88, 0x11],
        &[0x88, 0x91, 0x22],
        &[0xa8, 0x91, 0x22, 0x00, 0x05],
        &[0xb8, 0x91, 0x22, 0x00],
        // Scalability structure: one layer of 640x360, one picture with one reference.
        &[0x8a, 0x91, 0x22, 0x18, 2, 0x80, 1, 0x68, 1, 0x04, 0x01],
    ];
    for form in forms {
        let end = |form: &[u8]| [&[form[0] | 4][..], &form[1..]].concat();
        read(Codec::Vp9, &[&[&end(form)[..], &frame].concat()], &frame, true);
        let pieces = [&[form, &frame[..2]].concat()[..], &[0x04, 0x83, 0x42]];
        read(Codec::Vp9, &pieces, &frame, true);
    }
    // Inter-predicted in flexible mode: two references follow.
    let unit = picture_of(Codec::Vp9, &[&[0xfc, 5, 0, 3, 2, 0x86, 1]]).unwrap();
    assert!(unit.is_none(), "no key picture");
    // ffmpeg does not set the bit for pictures that are predicted.
    assert!(picture_of(Codec::Vp9, &[&[0x0c, 0x86, 1]]).unwrap().is_none());
    let layers = [&[0x2c, 0x00, 1, 0x82, 9, 9][..], &[0x2c, 0x02, 1, 0x86, 8]];
    let index = [0xd9, 3, 0, 0, 0, 2, 0, 0, 0, 0xd9];
    let wanted = [&[0x82, 9, 9, 0x86, 8][..], &index].concat();
    read(Codec::Vp9, &layers, &wanted, true);
    refused(Codec::Vp9, &[&[0x08, 0x82], &[0x08, 0x82]], "out of turn");
    refused(Codec::Vp9, &[&[0x08, 0x82], &[0x80, 0x82]], "cut payload descriptor");
    refused(Codec::Vp9, &[&[0x08, 0x82], &[0x02, 0xf8]], "cut payload descriptor");
}

#[test]
fn av1_of_others_is_read_with_and_without_sizes() {
    let (sequence, frame) = ([0x0a, 2, 5, 6], [0x32, 3, 0x10, 8, 9]);
    let wanted = [&sequence[..], &frame].concat();
    let (bare_sequence, bare_frame) = ([0x08, 5, 6], [0x30, 0x10, 8, 9]);
    // Two elements, the last without length; all with length; sizes kept; a delimiter in front.
    let two = [&[0x28, 3][..], &bare_sequence, &bare_frame].concat();
    let all = [&[0x08, 3][..], &bare_sequence, &[4], &bare_frame].concat();
    let sized = [&[0x28, 4][..], &sequence, &frame].concat();
    let delimited = [&[0x38, 2, 0x12, 0, 3][..], &bare_sequence, &bare_frame].concat();
    for payload in [&two, &all, &sized, &delimited] {
        read(Codec::Av1, &[payload], &wanted, true);
    }
    let pieces: [&[u8]; 3] = [
        &[&[0x68, 3][..], &bare_sequence, &bare_frame[..1]].concat(),
        &[0xd0, 0x10],
        &[0x90, 8, 9],
    ];
    read(Codec::Av1, &pieces, &wanted, true);
    refused(Codec::Av1, &[pieces[0], pieces[0]], "out of turn");
    refused(Codec::Av1, &[&two, &[0x30, 9, 1]], "beyond the packet");
    refused(Codec::Av1, &[&two, &[0x20, 1, 0x30]], "another number");
    refused(Codec::Av1, &[&two, &[0x10, 0xb0]], "forbidden bit");
    assert!(picture_of(Codec::Av1, &pieces[..2]).unwrap().is_none(), "an OBU without its end");
    let no_sequence = [&[0x18][..], &bare_frame].concat();
    assert!(picture_of(Codec::Av1, &[&no_sequence]).unwrap().is_none());
}

#[test]
fn access_units_of_aac_come_together_and_in_pieces() {
    let format = SoundFormat::Aac { lengths: Lengths::HBR, step: 1024 };
    let mut depacketiser = SoundDepacketiser::new(format);
    let now = Instant::now();
    let mut push = |seq: u64, time: u32, payload: &[u8]| {
        let result = depacketiser.push(ExtSeq(seq), RtpTime(time), true, payload, now);
        let units: Vec<_> = std::iter::from_fn(|| depacketiser.poll())
            .map(|unit| (unit.time.0, unit.data.to_vec()))
            .collect();
        result.map(|()| units).map_err(|error| error.to_string())
    };
    let two = [0, 32, 0, 2 << 3, 0, 3 << 3, 1, 2, 3, 4, 5];
    let wanted = vec![(100, vec![1, 2]), (1124, vec![3, 4, 5])];
    assert_eq!(push(0, 100, &two), Ok(wanted));
    let piece = |bytes: &[u8]| [&[0, 16, 0, 5 << 3][..], bytes].concat();
    assert_eq!(push(1, 200, &piece(&[1, 2])), Ok(vec![]));
    assert_eq!(push(2, 200, &piece(&[3, 4, 5])), Ok(vec![(200, vec![1, 2, 3, 4, 5])]));
    // A hole gives up what was begun.
    assert_eq!(push(3, 300, &piece(&[1, 2])), Ok(vec![]));
    assert_eq!(push(5, 300, &piece(&[3, 4])), Ok(vec![]));
    assert_eq!(push(6, 400, &piece(&[1, 2, 3, 4, 5])), Ok(vec![(400, vec![1, 2, 3, 4, 5])]));
    for (payload, why) in [
        (&[0][..], "cut AU header section"),
        (&[0, 16, 0], "beyond the packet"),
        (&[0, 0, 1], "without access units"),
        (&[0, 16, 0, 2 << 3 | 1, 1, 2], "interleaved"),
        (&[0, 15, 0, 8], "cut AU header"),
        (&[0, 32, 0, 8, 0, 64, 1], "beyond the packet"),
    ] {
        let error = push(7, 0, payload).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn latm_is_read_and_its_config_found() {
    // From FFmpeg's sender: 44,100 Hz, stereo, low complexity.
    let config = aac::latm_config(&[0x40, 0x00, 0x24, 0x20, 0x3f, 0xc0]).unwrap();
    assert_eq!((config.object_type, config.sample_rate, config.channels), (2, 44_100, 2));
    assert!(aac::latm_config(&[0xc0, 0, 0x24]).is_none());
    assert!(aac::latm_config(&[0x40]).is_none());
    let mut depacketiser = SoundDepacketiser::new(SoundFormat::Latm { step: 1024 });
    let now = Instant::now();
    let long = [&[255, 45][..], &[7; 200]].concat();
    assert!(depacketiser.push(ExtSeq(1), RtpTime(5), false, &long, now).is_ok());
    assert!(depacketiser.poll().is_none());
    let rest = [&[7; 100][..], &[2, 8, 9]].concat();
    assert!(depacketiser.push(ExtSeq(2), RtpTime(5), true, &rest, now).is_ok());
    let units: Vec<_> = std::iter::from_fn(|| depacketiser.poll()).collect();
    assert_eq!(
        units.iter().map(|u| (u.time.0, u.data.len())).collect::<Vec<_>>(),
        [(5, 300), (1029, 2)]
    );
}

/// A frame of layer III at 48 kHz and 128 kbit/s: 384 bytes.
fn mp3(fill: u8) -> Vec<u8> {
    [&[0xff, 0xfb, 0x94, 0x40][..], &[fill; 380]].concat()
}

#[test]
fn frames_of_mp3_come_together_and_in_pieces() {
    let mut depacketiser = SoundDepacketiser::new(SoundFormat::Mpa);
    let now = Instant::now();
    let two = [&[0; 4][..], &mp3(1), &mp3(2)].concat();
    depacketiser.push(ExtSeq(1), RtpTime(0), true, &two, now).unwrap();
    let units: Vec<_> = std::iter::from_fn(|| depacketiser.poll()).collect();
    assert_eq!(
        units.iter().map(|u| (u.time.0, u.data[9])).collect::<Vec<_>>(),
        [(0, 1), (2160, 2)]
    );
    let error = depacketiser.push(ExtSeq(2), RtpTime(0), true, &[0, 0, 0, 9, 1], now).unwrap_err();
    assert!(error.to_string().contains("out of turn"));
    let error = depacketiser.push(ExtSeq(3), RtpTime(0), true, &[0, 0, 0, 0, 1], now).unwrap_err();
    assert!(error.to_string().contains("no header"));
}

#[test]
fn long_frames_of_samples_become_several_with_times_of_their_own() {
    let track =
        AudioTrack { codec: Codec::G711U, sample_rate: 8000, channels: 2, config: Bytes::new() };
    let data: Vec<u8> = body(2000).collect();
    let frame =
        Packetiser::sound(&track, 1001).packetise(&packet(Codec::G711U, true, data.clone()));
    let units = joined(SoundFormat::G711, 8000, &frame.unwrap());
    assert_eq!(units.iter().map(|unit| unit.0).collect::<Vec<_>>(), [0, 500]);
    assert_eq!(units.into_iter().flat_map(|unit| unit.1).collect::<Vec<_>>(), data);
}

#[test]
fn what_is_not_in_the_hubs_form_is_not_sent() {
    let check = |codec, data: &[u8], why: &str| {
        let refused = Packetiser::new(codec, 1000).packetise(&packet(codec, true, data.to_vec()));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    check(Codec::Hevc, &[0, 0, 0, 1, 0x46, 1, 2], "nothing to send");
    check(Codec::Vp8, &[0], "shorter than a frame tag");
    check(Codec::Vp9, &[0], "no frame marker");
    check(Codec::Av1, &[0x12, 0], "nothing to send");
    check(Codec::Av1, &[0x0a, 9], "beyond the temporal unit");
    check(Codec::Aac, &[1; 8192], "at most 8191");
    check(Codec::Opus, &[], "nothing to send");
    check(Codec::Flac, &[1], "nothing to send");
}

proptest! {
    #[test]
    fn any_picture_survives_any_payload_limit(
        codec in prop::sample::select(&PICTURES[..]),
        lengths in prop::collection::vec(1..6000_usize, 1..5),
        payload_max in 64..1500_usize,
    ) {
        let packetiser = Packetiser::new(codec, payload_max).with_supplements();
        let mut depacketiser = PictureDepacketiser::new(codec).unwrap();
        let mut seq = 7;
        for (at, length) in lengths.into_iter().enumerate() {
            let (key, data) = match at {
                0 => (true, key_picture(codec, length)),
                _ => (false, other_picture(codec, length)),
            };
            let frame = packetiser.packetise(&packet(codec, key, data.clone())).unwrap();
            for at in 0..frame.len() {
                prop_assert!(frame.payload(at).unwrap().len() <= payload_max);
            }
            let units = give(&mut depacketiser, &mut seq, at as u32, &frame);
            prop_assert_eq!(units.len(), 1);
            prop_assert_eq!(&units[0].data[..], &data[..]);
            prop_assert_eq!(units[0].key, key);
        }
    }

    #[test]
    fn any_sound_survives_any_payload_limit(length in 4..8000_usize, payload_max in 64..1500_usize) {
        let data: Vec<u8> = body(length).collect();
        let formats = [
            (Codec::Aac, SoundFormat::Aac { lengths: Lengths::HBR, step: 1024 }, data.clone()),
            (Codec::Mp3, SoundFormat::Mpa, mp3(3)),
        ];
        for (codec, format, data) in formats {
            let packetiser = Packetiser::new(codec, payload_max);
            let frame = packetiser.packetise(&packet(codec, true, data.clone())).unwrap();
            prop_assert_eq!(joined(format, 48_000, &frame), vec![(0, data)]);
        }
    }

    #[test]
    fn no_payloads_make_a_depacketiser_panic(
        codec in prop::sample::select(&PICTURES[..]),
        packets in prop::collection::vec(
            (0..3_u64, 0..3_u32, any::<bool>(), prop::collection::vec(any::<u8>(), 0..24)), 0..40),
    ) {
        let mut pictures = PictureDepacketiser::new(codec).unwrap();
        let mut sounds = [
            SoundFormat::Opus,
            SoundFormat::Aac { lengths: Lengths::LBR, step: 1 },
            SoundFormat::Latm { step: 1 },
            SoundFormat::Mpa,
        ]
        .map(SoundDepacketiser::new);
        let (mut seq, mut time, now) = (0, 0, Instant::now());
        for (step, ticks, marker, payload) in packets {
            (seq, time) = (seq + step, time + ticks);
            let (seq, time) = (ExtSeq(seq), RtpTime(time));
            let _ = pictures.push(seq, time, marker, &payload, now);
            for sound in &mut sounds {
                let _ = sound.push(seq, time, marker, &payload, now);
                while let Some(unit) = sound.poll() { prop_assert!(!unit.data.is_empty()); }
            }
        }
    }
}
