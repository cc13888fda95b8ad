//! Parameter sets and units of a real encoder (x264 through ffmpeg), and units made by hand.

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::frame::{Matrix, Size};

/// What ffmpeg writes to its output, given `input` on its own.
fn ffmpeg(arguments: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-v", "error"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg is a tool that the tests need");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "ffmpeg {arguments}: {errors}");
    output.stdout
}

fn encode(options: &str) -> Vec<u8> {
    ffmpeg(
        &format!(
            "-f lavfi -i testsrc2=s=318x238:r=30:d=0.5 -c:v libx264 -preset veryfast {options} -f h264 -"
        ),
        &[],
    )
}

fn first_sps(stream: &[u8]) -> SpsInfo {
    let nal = nals(stream).find(|nal| NalKind::of(nal[0]) == NalKind::Sps).unwrap();
    SpsInfo::parse(nal).unwrap()
}

#[test]
fn profiles_of_x264_are_read_with_size_rate_and_reordering() {
    let plain = |options: &str| first_sps(&encode(&format!("-pix_fmt yuv420p {options}")));
    let baseline = plain("-profile:v baseline");
    assert_eq!(baseline.profile_name(), "Constrained Baseline");
    assert_eq!((baseline.size, baseline.coded_size), (Size::new(318, 238), Size::new(320, 240)));
    assert_eq!(baseline.reorder_frames, Some(0));
    assert_eq!(baseline.frames_per_second(), Some(30.0));
    assert_eq!(webrtc_obstacle(&baseline), None);

    let main = plain("-profile:v main -bf 1 -b_strategy 0 -x264-params b-pyramid=none");
    assert_eq!((main.profile_name(), main.reorder_frames), ("Main", Some(1)));
    let high = plain("-profile:v high -bf 3 -b_strategy 0 -x264-params cqm=jvt");
    assert_eq!((high.profile_name(), high.reorder_frames), ("High", Some(2)));
    assert_eq!(webrtc_obstacle(&high), Some(Obstacle::Reordering(2)));
    let quick = plain("-profile:v high -tune zerolatency");
    assert_eq!((quick.profile_name(), webrtc_obstacle(&quick)), ("High", None));
}

#[test]
fn what_browsers_cannot_play_is_named() {
    let chroma = first_sps(&encode("-pix_fmt yuv422p"));
    assert_eq!(chroma.size, Size::new(318, 238));
    assert_eq!(webrtc_obstacle(&chroma), Some(Obstacle::Chroma(ChromaFormat::Yuv422)));
    let full = first_sps(&encode("-pix_fmt yuv444p"));
    assert_eq!(webrtc_obstacle(&full), Some(Obstacle::Chroma(ChromaFormat::Yuv444)));
    assert_eq!(full.size, Size::new(318, 238));
    let ten = first_sps(&encode("-pix_fmt yuv420p10le"));
    assert_eq!((ten.bit_depth_luma, webrtc_obstacle(&ten)), (10, Some(Obstacle::BitDepth(10))));
    let fields =
        first_sps(&encode("-s 318x236 -pix_fmt yuv420p -flags +ilme+ildct -x264-params tff=1"));
    assert_eq!(webrtc_obstacle(&fields), Some(Obstacle::Interlaced));
    assert_eq!(fields.size, Size::new(318, 236));
    let said = webrtc_obstacle(&ten).unwrap().to_string();
    assert_eq!(said, "the stream has 10 bits a sample, browsers take 8");
}

#[test]
fn usability_information_gives_colour_and_pixel_shape() {
    let info = first_sps(&encode(
        "-pix_fmt yuv420p -vf setsar=4/3 -color_range pc -colorspace bt709 -color_primaries bt709 \
         -color_trc bt709 -x264-params nal-hrd=vbr:vbv-maxrate=1000:vbv-bufsize=500",
    ));
    let vui = info.vui.as_ref().unwrap();
    assert_eq!(vui.sample_aspect, Some((4, 3)));
    assert_eq!(vui.color, Some(ColorDescription { primaries: 1, transfer: 1, matrix: 1 }));
    assert_eq!((info.color().matrix, info.color().full_range), (Matrix::Bt709, true));
    assert!(vui.restriction.is_some() && vui.timing.is_some());
    let silent = first_sps(&encode("-pix_fmt yuv420p"));
    assert_eq!((silent.color().matrix, silent.color().full_range), (Matrix::Bt601, false));
}

#[test]
fn a_rewritten_parameter_set_decodes_to_the_same_pictures() {
    // With a restriction of its own, with a VUI that has none, and without a VUI.
    let own = encode("-pix_fmt yuv420p -profile:v high -bf 0 -refs 3");
    for stream in [own, without(|layout| layout.restriction_flag), without(|l| Some(l.vui_flag))] {
        let (mut rewritten, mut changed) = (BytesMut::new(), 0);
        for nal in nals(&stream) {
            if NalKind::of(nal[0]) == NalKind::Sps {
                let sps = with_no_reordering(nal).unwrap();
                let (old, new) = (SpsInfo::parse(nal).unwrap(), SpsInfo::parse(&sps).unwrap());
                let restriction = new.vui.as_ref().unwrap().restriction.unwrap();
                assert_eq!(restriction.reorder_frames, 0);
                assert_eq!(restriction.frame_buffering, old.reference_frames);
                let kept =
                    |info: &SpsInfo| SpsInfo { reorder_frames: None, vui: None, ..info.clone() };
                assert_eq!(kept(&old), kept(&new));
                assert_eq!(old.frames_per_second(), new.frames_per_second());
                assert_eq!(with_no_reordering(&sps).unwrap(), sps);
                crate::annexb::push(&mut rewritten, &sps);
                changed += 1;
            } else {
                crate::annexb::push(&mut rewritten, nal);
            }
        }
        assert!(changed > 0);
        let pictures = |stream: &[u8]| ffmpeg("-f h264 -i - -f framemd5 -", stream);
        let hashes = |text: Vec<u8>| -> Vec<String> {
            let text = String::from_utf8(text).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
        };
        let (before, after) = (hashes(pictures(&stream)), hashes(pictures(&rewritten)));
        assert_eq!(before.len(), 15);
        assert_eq!(before, after);
    }
}

/// A stream whose SPS ends with the flag that `at` names cleared: of an encoder that writes no
/// restriction, or no VUI.
fn without(at: impl Fn(&sps::Layout) -> Option<usize>) -> Vec<u8> {
    let stream = encode("-pix_fmt yuv420p -profile:v main -bf 0");
    let mut out = BytesMut::new();
    for nal in nals(&stream) {
        if NalKind::of(nal[0]) == NalKind::Sps {
            let flag = at(&sps::read(nal).unwrap()).unwrap();
            let mut from = crate::bits::BitReader::escaped(&nal[1..]);
            let mut to = crate::bits::BitWriter::default();
            (0..flag).for_each(|_| to.bit(from.bit().unwrap()));
            to.bit(false);
            let mut bare = vec![nal[0]];
            to.finish_into(&mut bare);
            assert!(SpsInfo::parse(&bare).unwrap().vui.and_then(|vui| vui.restriction).is_none());
            crate::annexb::push(&mut out, &bare);
        } else {
            crate::annexb::push(&mut out, nal);
        }
    }
    out.to_vec()
}

#[test]
fn slices_tell_what_may_be_skipped() {
    let stream =
        encode("-pix_fmt yuv420p -bf 2 -b_strategy 0 -x264-params b-pyramid=none:slices=1");
    let heads: Vec<_> =
        nals(&stream).filter_map(|nal| Some((nal[0], SliceHead::parse(nal)?))).collect();
    assert_eq!(heads.len(), 15);
    assert_eq!(heads[0].1, SliceHead { first_mb: 0, kind: SliceKind::I, pps: 0 });
    for (header, head) in &heads {
        assert_eq!(head.kind == SliceKind::B, header & 0x60 == 0);
    }
    assert!(heads.iter().any(|(_, head)| head.kind == SliceKind::B));
}

#[test]
fn a_record_and_annex_b_say_the_same() {
    for options in ["-pix_fmt yuv420p -profile:v baseline", "-pix_fmt yuv422p10le"] {
        let stream = encode(options);
        let record = DecoderConfiguration::from_annex_b(&stream).unwrap();
        let bytes = record.to_bytes().unwrap();
        assert_eq!(DecoderConfiguration::parse(&bytes).unwrap(), record);
        let mut assembler = Assembler::new();
        assert!(assembler.configure(&record).unwrap());
        assert!(!assembler.configure(&record).unwrap());
        let track = assembler.track().unwrap();
        assert_eq!(track.size, Size::new(318, 238));
        assert_eq!(track.parameter_sets, record.annex_b());
        // The record that ffmpeg puts into FLV is the same, byte for byte.
        if options.contains("baseline") {
            let flv = ffmpeg("-f h264 -i - -c copy -f flv -", &stream);
            assert!(flv.windows(bytes.len()).any(|window| window == bytes));
        }
        for end in 0..bytes.len().min(20) {
            assert!(DecoderConfiguration::parse(&bytes[..end]).is_err(), "{end}");
        }
    }
}

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x12, 0x34];
const DELTA: &[u8] = &[0x41, 0x9a, 0x02, 0x56];

fn unit(list: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    list.iter().for_each(|nal| crate::annexb::push(&mut out, nal));
    out.freeze()
}

fn prefixed(list: &[&[u8]], size: u8) -> BytesMut {
    let mut out = BytesMut::new();
    for nal in list {
        out.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - usize::from(size)..]);
        out.extend_from_slice(nal);
    }
    out
}

#[test]
fn four_byte_lengths_become_start_codes_in_place() {
    let data = prefixed(&[IDR, DELTA], 4);
    let address = data.as_ptr();
    let out = to_annex_b(data, 4).unwrap();
    assert_eq!((out.as_ptr(), &out[..]), (address, &unit(&[IDR, DELTA])[..]));
    let delimiter = &[9, 0xf0][..];
    let filler = &[12, 0xff, 0xff][..];
    for size in 1..=4 {
        let data = prefixed(&[delimiter, IDR, filler, &[], DELTA, filler], size);
        assert_eq!(to_annex_b(data, size).unwrap(), unit(&[IDR, DELTA]), "length size {size}");
    }
    let error = to_annex_b(BytesMut::from(&[0, 0, 0, 9, 0x65][..]), 4).unwrap_err();
    assert_eq!(error, Error::Length(LengthError { at: 0, claimed: 9, left: 1 }));
    assert_eq!(to_length_prefixed(&unit(&[IDR, DELTA])), prefixed(&[IDR, DELTA], 4));
}

#[test]
fn key_units_get_the_parameter_sets_they_lack() {
    let mut assembler = Assembler::new();
    let lost = assembler.annex_b(unit(&[IDR])).unwrap_err();
    assert_eq!(lost, Error::MissingParameterSets { pps: 0 });
    assert!(assembler.annex_b(unit(&[SPS, PPS])).unwrap().is_none());
    let first = assembler.annex_b(unit(&[&[9, 0x10], IDR])).unwrap().unwrap();
    assert_eq!(first.data, unit(&[SPS, PPS, IDR]));
    assert!(first.key && first.idr && first.changed && first.reference);
    assert_eq!(assembler.size(), Some(Size::new(640, 360)));
    let delta = assembler.annex_b(unit(&[DELTA])).unwrap().unwrap();
    assert!(!delta.key && !delta.changed && delta.slices == SliceKind::P);

    // Whole already: shared, not copied. Sets in the wrong place are moved to the front.
    let whole = unit(&[SPS, PPS, IDR]);
    let again = assembler.annex_b(whole.clone()).unwrap().unwrap();
    assert_eq!(again.data.as_ptr(), whole.as_ptr());
    assert!(!again.changed);
    let sei = &[6, 1, 1, 0, 0x80][..];
    let moved = assembler.annex_b(unit(&[sei, PPS, SPS, IDR])).unwrap().unwrap();
    assert_eq!(moved.data, unit(&[SPS, PPS, sei, IDR]));
    let only_sps = assembler.annex_b(unit(&[SPS, IDR])).unwrap().unwrap();
    assert_eq!(only_sps.data, unit(&[SPS, PPS, IDR]));
}

#[test]
fn a_new_size_is_told_at_the_key_unit_that_brings_it() {
    let mut assembler = Assembler::new();
    assembler.annex_b(unit(&[SPS, PPS, IDR])).unwrap();
    let stream = encode("-pix_fmt yuv420p -profile:v baseline");
    let other = nals(&stream).find(|nal| NalKind::of(nal[0]) == NalKind::Sps).unwrap();
    let changed = assembler.annex_b(unit(&[other, PPS, IDR])).unwrap().unwrap();
    assert!(changed.changed);
    assert_eq!(assembler.size(), Some(Size::new(318, 238)));
    assert!(!assembler.annex_b(unit(&[other, PPS, IDR])).unwrap().unwrap().changed);
}

#[test]
fn a_recovery_point_of_an_open_group_is_key() {
    let stream =
        Bytes::from(encode("-pix_fmt yuv420p -g 5 -bf 2 -x264-params open-gop=1:slices=1"));
    let (mut assembler, mut units, mut current) = (Assembler::new(), Vec::new(), Vec::new());
    for nal in nals(&stream) {
        current.push(nal);
        if NalKind::of(nal[0]).is_picture() {
            units.push(assembler.annex_b(unit(&std::mem::take(&mut current))).unwrap().unwrap());
        }
    }
    let keys: Vec<_> = units.iter().filter(|unit| unit.key).collect();
    assert!(keys.len() >= 3 && keys[0].idr && keys[1..].iter().any(|unit| !unit.idr));
    for key in keys {
        assert_eq!(key.slices, SliceKind::I);
        assert_eq!(NalKind::of(key.data[4]), NalKind::Sps);
        assert!(key.idr || is_recovery_point(&key.data));
    }
    assert!(is_idr(&units[0].data) && is_reference(&units[0].data));
}
