//! Pictures through packets and back.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::annexb::nals;
use pipeline::h264::Assembler;
use pipeline::{Packet, Pts, TrackKind};
use proptest::prelude::*;

use super::*;
use crate::rtp::frame::FramePackets;
use crate::rtp::packet::{ExtSeq, RtpTime};
use crate::rtp::payload::{
    DepacketiseError, PAYLOAD_BYTES_DEFAULT, PacketiseError, Packetiser, PictureDepacketiser,
    UNIT_BYTES_MAX, Unit,
};

fn packetiser(payload_max: usize) -> Packetiser {
    Packetiser::new(pipeline::Codec::H264, payload_max)
}

fn annex_b(units: &[Vec<u8>]) -> Bytes {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
}

fn picture(data: Bytes, pts: i64) -> Packet {
    let key = nals(&data).any(|nal| nal[0] & TYPE_MASK == IDR);
    let (kind, pts) = (TrackKind::Video, Pts(pts));
    Packet { kind, pts, dts: pts, key, data, arrived: Instant::now() }
}

/// A unit of `length` bytes whose contents hold no start code.
fn unit(head: u8, length: usize) -> Vec<u8> {
    let body = (1..length).map(|at| (at * 31 % 250 + 4) as u8 | 0x80);
    std::iter::once(head).chain(body).collect()
}

fn key_picture(slice: usize) -> Bytes {
    annex_b(&[unit(0x67, 24), unit(0x68, 4), unit(0x65, slice)])
}

fn feed(depacketiser: &mut PictureDepacketiser, first: u64, frame: &FramePackets) -> Vec<Unit> {
    let time = RtpTime(frame.pts.0 as u32);
    let mut units = Vec::new();
    for at in 0..frame.len() {
        let seq = ExtSeq(first + at as u64);
        let payload = frame.payload(at).unwrap();
        depacketiser.push(seq, time, frame.marker(at), payload, Instant::now()).unwrap();
        units.extend(std::iter::from_fn(|| depacketiser.poll()));
    }
    units
}

#[test]
fn packets_of_one_slice_have_one_size_and_leave_in_one_send() {
    let packetiser = packetiser(PAYLOAD_BYTES_DEFAULT);
    for length in (1..40_000).step_by(37) {
        let frame = packetiser.packetise(&picture(annex_b(&[unit(0x41, length)]), 0)).unwrap();
        let sizes: Vec<_> = (0..frame.len()).map(|at| frame.payload(at).unwrap().len()).collect();
        let (last, before) = sizes.split_last().unwrap();
        assert!(before.iter().all(|size| *size == sizes[0]) && *last <= sizes[0], "{sizes:?}");
        assert!(sizes[0] <= PAYLOAD_BYTES_DEFAULT);
        let fewest = match length {
            ..=PAYLOAD_BYTES_DEFAULT => 1,
            _ => (length - 1).div_ceil(PAYLOAD_BYTES_DEFAULT - 2),
        };
        assert_eq!(frame.len(), fewest);
        assert!(frame.runs().eq(std::iter::once(0..frame.len())));
        assert!((0..frame.len()).all(|at| frame.marker(at) == (at + 1 == frame.len())));
    }
}

#[test]
fn a_key_picture_has_its_parameter_sets_together_in_front() {
    let frame =
        packetiser(PAYLOAD_BYTES_DEFAULT).packetise(&picture(key_picture(5000), 0)).unwrap();
    assert!(frame.key);
    assert_eq!(frame.payload(0).unwrap()[0], 0x60 | STAP_A);
    assert_eq!(frame.runs().collect::<Vec<_>>(), [0..1, 1..frame.len()]);
    let small = packetiser(PAYLOAD_BYTES_DEFAULT).packetise(&picture(key_picture(500), 0)).unwrap();
    assert_eq!(small.len(), 1, "all in one packet");
}

#[test]
fn what_no_viewer_needs_is_left_out() {
    let units = [unit(0x09, 2), unit(0x06, 700), unit(0x41, 100), unit(0x0c, 300)];
    let frame = packetiser(PAYLOAD_BYTES_DEFAULT).packetise(&picture(annex_b(&units), 0)).unwrap();
    assert_eq!((frame.len(), frame.payload(0).unwrap()), (1, &units[2][..]));
    let nothing = packetiser(PAYLOAD_BYTES_DEFAULT).packetise(&picture(annex_b(&units[..2]), 0));
    assert!(matches!(nothing, Err(PacketiseError::Empty { bytes: 710, .. })));
    let large = picture(Bytes::from(vec![0; UNIT_BYTES_MAX + 1]), 0);
    assert!(matches!(
        packetiser(PAYLOAD_BYTES_DEFAULT).packetise(&large),
        Err(PacketiseError::Large { .. })
    ));
}

#[test]
fn a_picture_with_a_hole_and_those_after_it_are_withheld_until_a_key_picture() {
    let packetiser = packetiser(PAYLOAD_BYTES_DEFAULT);
    let frames: Vec<_> = (0..6)
        .map(|n| match n {
            0 | 4 => key_picture(4000),
            _ => annex_b(&[unit(0x41, 3000)]),
        })
        .enumerate()
        .map(|(n, data)| packetiser.packetise(&picture(data, n as i64 * 3000)).unwrap())
        .collect();
    // Every packet of pictures 1 to 4 is lost once.
    let total: usize = frames.iter().map(FramePackets::len).sum();
    for lost in frames[0].len()..total - frames[5].len() {
        let mut depacketiser = PictureDepacketiser::h264();
        let (mut seq, mut out) = (0, Vec::new());
        for frame in &frames {
            for at in 0..frame.len() {
                if seq != lost {
                    let (now, time) = (Instant::now(), RtpTime(frame.pts.0 as u32));
                    let payload = frame.payload(at).unwrap();
                    let marker = frame.marker(at);
                    depacketiser.push(ExtSeq(seq as u64), time, marker, payload, now).unwrap();
                    out.extend(
                        std::iter::from_fn(|| depacketiser.poll()).map(|unit| unit.time.0 / 3000),
                    );
                }
                seq += 1;
            }
        }
        let starts: Vec<usize> = frames
            .iter()
            .scan(0, |at, frame| {
                *at += frame.len();
                Some(*at)
            })
            .collect();
        let damaged = starts.iter().filter(|end| **end <= lost).count() as u32;
        let expected: Vec<u32> = match damaged {
            4 => (0..4).collect(),
            _ => (0..damaged).chain([4, 5]).collect(),
        };
        assert_eq!(out, expected, "packet {lost} of picture {damaged} lost");
        assert_eq!(depacketiser.awaits_key(), damaged == 4);
    }
}

#[test]
fn a_missing_marker_is_mended_by_the_next_timestamp() {
    let now = Instant::now();
    let mut depacketiser = PictureDepacketiser::h264();
    depacketiser.push(ExtSeq(1), RtpTime(0), false, &[0x65, 0x88], now).unwrap();
    assert!(depacketiser.poll().is_none());
    depacketiser.push(ExtSeq(2), RtpTime(3000), true, &[0x41, 0x9a], now).unwrap();
    let times = [depacketiser.poll(), depacketiser.poll()].map(|unit| unit.map(|unit| unit.time.0));
    assert_eq!(times, [Some(0), Some(3000)]);
}

#[test]
fn what_mode_one_does_not_have_is_refused_and_the_stream_goes_on() {
    let now = Instant::now();
    let check = |payloads: &[&[u8]], wanted: &str| {
        let mut depacketiser = PictureDepacketiser::h264();
        depacketiser.push(ExtSeq(0), RtpTime(9), true, &[0x65, 0x88], now).unwrap();
        let mut seq = 0;
        let mut results = payloads.iter().map(|payload| {
            seq += 1;
            depacketiser.push(ExtSeq(seq), RtpTime(0), seq as usize == payloads.len(), payload, now)
        });
        let error = results.find_map(Result::err).unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
        results.for_each(drop);
        assert!(depacketiser.poll().is_none());
        depacketiser.push(ExtSeq(seq + 1), RtpTime(1), true, &[0x65, 0x88], now).unwrap();
        assert!(depacketiser.poll().is_some_and(|unit| unit.key));
    };
    check(&[&[0x79, 0, 0, 0, 2, 0x65, 1]], "type 25");
    check(&[&[0x7d, 0x85, 0, 0, 1]], "type 29");
    check(&[&[0x00, 1]], "type 0");
    check(&[&[0x78]], "empty aggregate");
    check(&[&[0x78, 0]], "cut length");
    check(&[&[0x78, 0, 9, 0x65]], "beyond the packet");
    check(&[&[0x78, 0, 0]], "empty unit");
    check(&[&[0x78, 0, 2, 0x78, 0]], "aggregate within");
    check(&[&[0x7c]], "cut FU-A");
    check(&[&[0x7c, 0x05, 1]], "out of turn");
    check(&[&[0x7c, 0x85, 1], &[0x7c, 0x85, 1]], "out of turn");
    check(&[&[0x7c, 0x9c, 1]], "fragmented aggregate");
    check(&[&[0x7c, 0x85, 1], &[0x41, 0x9a]], "inside of a fragmented");
}

#[test]
fn a_picture_without_end_is_given_up_at_its_limit() {
    let now = Instant::now();
    let mut depacketiser = PictureDepacketiser::h264();
    depacketiser.push(ExtSeq(0), RtpTime(0), false, &[0x7c, 0x85, 0x88], now).unwrap();
    let body = [&[0x7c, 0x05][..], &[0xaa; 60_000]].concat();
    let refused = (1..1000).find_map(|seq| {
        let result = depacketiser.push(ExtSeq(seq), RtpTime(0), false, &body, now);
        result.err().map(|error| (seq, error))
    });
    let Some((seq, DepacketiseError::Large { .. })) = refused else { panic!("{refused:?}") };
    assert!((130..=140).contains(&seq), "8 MiB are 140 packets: {seq}");
}

/// Pictures of ffmpeg's encoder as our own hub would carry them.
fn encoded_pictures(extra: &[&str]) -> Vec<Packet> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=2"]);
    command.args(["-c:v", "libx264", "-tune", "zerolatency", "-g", "15"]);
    command.args(extra).args(["-bsf:v", "h264_metadata=aud=insert", "-f", "h264", "-"]);
    let output = command.stderr(Stdio::inherit()).output().expect("ffmpeg is installed");
    assert!(output.status.success());
    // A delimiter begins each picture.
    let mut pictures: Vec<Vec<Vec<u8>>> = Vec::new();
    for nal in nals(&output.stdout) {
        if nal[0] & TYPE_MASK == DELIMITER {
            pictures.push(Vec::new());
        } else {
            pictures.last_mut().unwrap().push(nal.to_vec());
        }
    }
    let mut assembler = Assembler::new();
    let canonical = pictures.iter().enumerate().map(|(at, units)| {
        let unit = assembler.annex_b(annex_b(units)).unwrap().unwrap();
        Packet { key: unit.key, ..picture(unit.data, at as i64 * 3000) }
    });
    canonical.collect()
}

#[test]
fn an_encoders_pictures_survive_and_the_assembler_takes_them() {
    for extra in
        [&["-x264-params", "sliced-threads=0", "-b:v", "2M"][..], &["-slices", "4", "-b:v", "600k"]]
    {
        let pictures = encoded_pictures(extra);
        assert_eq!(pictures.len(), 60);
        let (packetiser, mut depacketiser) =
            (packetiser(PAYLOAD_BYTES_DEFAULT), PictureDepacketiser::h264());
        let mut assembler = Assembler::new();
        let mut seq = 70_000;
        let mut sends = 0;
        for picture in &pictures {
            let frame = packetiser.packetise(picture).unwrap();
            sends += frame.runs().count();
            let units = feed(&mut depacketiser, seq, &frame);
            seq += frame.len() as u64;
            let [unit] = &units[..] else { panic!("{} units", units.len()) };
            assert_eq!((unit.key, unit.time.0), (picture.key, picture.pts.0 as u32));
            let unit = assembler.annex_b(unit.data.clone()).unwrap().unwrap();
            let wanted = nals(&picture.data).filter(|nal| nal[0] & TYPE_MASK != SEI);
            assert!(nals(&unit.data).eq(wanted));
        }
        assert_eq!(depacketiser.counts().complete, 60);
        if extra[0] != "-slices" {
            assert_eq!(sends, 60 + 4, "one send a picture, two for key pictures");
        }
        assert!(assembler.track().is_some_and(|track| track.size.width == 640));
    }
}

proptest! {
    #[test]
    fn any_units_survive_any_payload_limit(
        lengths in prop::collection::vec((prop::sample::select(vec![0x41_u8, 0x65, 0x67, 0x68]), 1..5000_usize), 1..12),
        payload_max in 64..1500_usize,
    ) {
        let units: Vec<_> = lengths.into_iter().map(|(head, length)| unit(head, length)).collect();
        let data = annex_b(&[vec![unit(0x65, 10)], units].concat());
        let frame = packetiser(payload_max).packetise(&picture(data.clone(), 0)).unwrap();
        for at in 0..frame.len() { prop_assert!(frame.payload(at).unwrap().len() <= payload_max); }
        let runs: Vec<_> = frame.runs().collect();
        prop_assert_eq!(runs.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..frame.len()).collect::<Vec<_>>());
        for run in runs {
            let sizes: Vec<_> = run.map(|at| frame.payload(at).unwrap().len()).collect();
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|size| *size == sizes[0]));
            prop_assert!(sizes[sizes.len() - 1] <= sizes[0]);
        }
        let units = feed(&mut PictureDepacketiser::h264(), 5, &frame);
        prop_assert_eq!(units.len(), 1);
        prop_assert_eq!(&units[0].data, &data);
    }

    #[test]
    fn no_payloads_make_the_depacketiser_panic(
        packets in prop::collection::vec((0..4_u64, 0..3_u32, any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..50),
    ) {
        let (mut depacketiser, mut seq, mut time, now) = (PictureDepacketiser::h264(), 0, 0, Instant::now());
        for (step, ticks, marker, payload) in packets {
            (seq, time) = (seq + step, time + ticks);
            let _ = depacketiser.push(ExtSeq(seq), RtpTime(time), marker, &payload, now + Duration::from_millis(seq));
            for unit in std::iter::from_fn(|| depacketiser.poll()) { prop_assert!(unit.data.len() >= 5); }
        }
    }
}
