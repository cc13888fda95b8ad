//! Decoder and encoder against streams of ffmpeg, and against each other.

use std::time::{Duration, Instant};

use pipeline::frame::{Color, HostPlanes, Matrix, PixelFormat, Plane, Surface};
use pipeline::orientation::{Turn, with_turn};
use pipeline::packet::VideoTrack;
use pipeline::stage::{Decoder as _, Encoder as _, EncoderSettings, StageError};
use pipeline::{Codec, Frame, Packet, Pts, Size, h264};

use crate::h264::{Decoder, Encoder, Options, Preset, Profile};
use crate::testing::{clip, ffmpeg, samples};

const SMALL: Size = Size::new(320, 180);
const ZERO_LATENCY: &[&str] =
    &["-c:v", "libx264", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30"];

fn decode_all(decoder: &mut Decoder, packets: &[Packet]) -> Vec<Frame> {
    let mut frames = Vec::new();
    for packet in packets {
        decoder.decode(packet, &mut frames).unwrap();
    }
    decoder.flush(&mut frames).unwrap();
    frames
}

/// A picture that moves with `step`, in memory that no decoder made.
fn drawn(size: Size, step: usize, pts: Pts) -> Frame {
    let (width, height) = (size.width as usize, size.height as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let noise = (x * 7919 + y * 104_729 + step * 15_485_863) >> 7 & 31;
            bytes.push((((x + step * 3) ^ (y + step)) & 0xc0) as u8 + 16 + noise as u8);
        }
    }
    bytes.resize(bytes.len() + 2 * half_width * half_height, 128);
    let plane = |offset, stride, rows| Plane { offset, stride, row_bytes: stride, rows };
    let chroma = half_width * half_height;
    let planes = vec![
        plane(0, width, height),
        plane(width * height, half_width, half_height),
        plane(width * height + chroma, half_width, half_height),
    ];
    Frame {
        pts,
        size,
        format: PixelFormat::I420,
        color: Color::unsignalled(size),
        surface: Surface::Host(HostPlanes::new(std::sync::Arc::new(bytes), planes).unwrap()),
        arrived: Instant::now(),
    }
}

fn settings(size: Size, bitrate: u32) -> EncoderSettings {
    EncoderSettings { size, frames_per_second: 30.0, bitrate, key_interval: Duration::from_secs(2) }
}

fn track(packets: &VideoTrack) -> Decoder {
    Decoder::new(packets).unwrap()
}

#[test]
fn every_picture_comes_out_of_the_call_that_fed_it() {
    // With slices for the threads to share, and parameter sets that allow reordering (main).
    for slices in ["1", "4"] {
        let mut args = ZERO_LATENCY.to_vec();
        args.extend_from_slice(&["-slices", slices, "-profile:v", "main"]);
        let clip = clip(SMALL, 45, &args);
        for threads in [1, 2, 16] {
            let mut decoder = Decoder::with_threads(&clip.track, threads).unwrap();
            for (packet, picture) in clip.packets.iter().zip(&clip.pictures) {
                let mut frames = Vec::new();
                decoder.decode(packet, &mut frames).unwrap();
                assert_eq!(frames.len(), 1, "{threads} threads at {}", packet.pts);
                assert_eq!(frames[0].pts, packet.pts);
                assert!(samples(&frames[0]) == *picture, "another picture at {}", packet.pts);
            }
        }
    }
}

#[test]
fn a_stream_that_declares_reordering_and_has_none_is_not_held_back() {
    // x264 declares two pictures of reordering; the times of an open stream are set equal.
    let mut clip = clip(SMALL, 40, &["-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"]);
    let sps = h264::nals(&clip.packets[0].data).next().unwrap();
    assert_ne!(h264::SpsInfo::parse(sps).unwrap().reorder_frames, Some(0));
    clip.packets.truncate(1);
    clip.packets[0].dts = clip.packets[0].pts;
    let mut frames = Vec::new();
    track(&clip.track).decode(&clip.packets[0], &mut frames).unwrap();
    assert_eq!(frames.len(), 1);
}

#[test]
fn hevc_without_reordering_comes_out_of_the_call_that_fed_it() {
    let clip = clip(
        SMALL,
        20,
        &["-c:v", "libx265", "-tune", "zerolatency", "-x265-params", "log-level=error"],
    );
    for threads in [1, 16] {
        let mut decoder = Decoder::with_threads(&clip.track, threads).unwrap();
        for packet in &clip.packets {
            let mut frames = Vec::new();
            decoder.decode(packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 1, "{threads} threads at {}", packet.pts);
        }
    }
}

#[test]
fn hevc_that_declares_reordering_and_has_none_is_not_held_back() {
    let x265 = "log-level=error:bframes=3:keyint=20";
    let clip = clip(SMALL, 20, &["-c:v", "libx265", "-x265-params", x265]);
    let sps = |nal: &&[u8]| pipeline::hevc::NalKind::of(nal[0]) == pipeline::hevc::NalKind::Sps;
    let sps = h264::nals(&clip.packets[0].data).find(sps).unwrap();
    assert!(pipeline::hevc::SpsInfo::parse(sps).unwrap().reorder_frames > 0);
    // The key picture alone: in a stream without B-frames nothing tells more.
    let mut key = clip.packets[0].clone();
    key.dts = key.pts;
    let mut frames = Vec::new();
    track(&clip.track).decode(&key, &mut frames).unwrap();
    assert_eq!(frames.len(), 1);
}

#[test]
fn reordered_pictures_come_out_complete_and_in_the_order_they_are_shown() {
    for codec in [
        &["-c:v", "libx264", "-bf", "3", "-b_strategy", "0", "-g", "25", "-pix_fmt", "yuv420p"][..],
        &["-c:v", "libx265", "-x265-params", "log-level=error:bframes=3", "-pix_fmt", "yuv420p"],
    ] {
        let clip = clip(SMALL, 60, codec);
        assert!(clip.packets.iter().any(|packet| packet.pts != packet.dts));
        let frames = decode_all(&mut track(&clip.track), &clip.packets);
        let mut names: Vec<Pts> = clip.packets.iter().map(|packet| packet.pts).collect();
        names.sort();
        assert_eq!(frames.iter().map(|frame| frame.pts).collect::<Vec<_>>(), names);
        for (frame, picture) in frames.iter().zip(&clip.pictures) {
            assert!(samples(frame) == *picture, "another picture at {}", frame.pts);
        }
    }
}

#[test]
fn a_group_that_turns_out_to_be_reordered_loses_nothing() {
    let mut clip = clip(
        SMALL,
        30,
        &["-c:v", "libx264", "-bf", "3", "-b_strategy", "0", "-pix_fmt", "yuv420p"],
    );
    // Only the first packet looks as if nothing were reordered.
    clip.packets[0].dts = clip.packets[0].pts;
    let frames = decode_all(&mut track(&clip.track), &clip.packets);
    assert_eq!(frames.len(), 30);
    assert!(frames.is_sorted_by_key(|frame| frame.pts));
    assert!(samples(&frames[29]) == clip.pictures[29]);
}

#[test]
fn the_last_pictures_of_a_reordered_group_stand_as_their_own_group_says() {
    let reordered = ["-bf", "3", "-b_strategy", "0", "-g", "10", "-sc_threshold", "0"];
    let codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p"];
    let mut clip = clip(SMALL, 30, &[&codec[..], &reordered].concat());
    let second = clip.packets.iter_mut().filter(|packet| packet.key).nth(1).unwrap();
    second.data = with_turn(Codec::H264, &second.data, Turn::Quarter).unwrap();
    let frames = decode_all(&mut track(&clip.track), &clip.packets);
    let turned: Vec<bool> =
        frames.iter().map(|frame| frame.size == Turn::Quarter.size(SMALL)).collect();
    let expected = [[false; 10], [true; 10], [false; 10]].concat();
    assert_eq!(turned, expected, "each ten are a group");
}

#[test]
fn names_of_any_value_come_back_exactly() {
    let clip = clip(SMALL, 12, ZERO_LATENCY);
    let names = [-7, -6, 8_589_934_591, 8_589_934_592, 5, 6, i64::MAX, i64::MIN, 0, 1, 3, 2];
    let mut decoder = track(&clip.track);
    let mut encoder = Encoder::new(settings(SMALL, 500_000)).unwrap();
    for (packet, name) in clip.packets.iter().zip(names) {
        let packet = Packet { pts: Pts(name), dts: Pts(name), ..packet.clone() };
        let mut frames = Vec::new();
        decoder.decode(&packet, &mut frames).unwrap();
        assert_eq!(frames.iter().map(|frame| frame.pts).collect::<Vec<_>>(), [Pts(name)]);
        let coded = encoder.encode(&frames[0], false).unwrap();
        assert_eq!((coded.pts, coded.dts), (Pts(name), Pts(name)));
        assert_eq!(coded.arrived, packet.arrived);
    }
}

#[test]
fn a_change_of_size_is_followed_at_its_key_picture() {
    let first = clip(SMALL, 10, ZERO_LATENCY);
    let second = clip(Size::new(418, 234), 10, ZERO_LATENCY);
    let mut decoder = track(&first.track);
    for part in [&first, &second, &first] {
        for (packet, picture) in part.packets.iter().zip(&part.pictures) {
            let mut frames = Vec::new();
            decoder.decode(packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].size, part.track.size);
            assert!(samples(&frames[0]) == *picture);
        }
    }
}

#[test]
fn broken_pictures_are_named_and_the_next_key_picture_mends_them() {
    let mut args = ZERO_LATENCY.to_vec();
    args[7] = "10";
    let clip = clip(SMALL, 40, &args);
    let mut decoder = track(&clip.track);
    let mut broken = 0;
    for (index, packet) in clip.packets.iter().enumerate() {
        let mut packet = packet.clone();
        if index == 15 {
            let mut bytes = packet.data.to_vec();
            let half = bytes.len() / 2;
            bytes[5..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x5a);
            bytes.truncate(half.max(8));
            packet.data = bytes.into();
        }
        let mut frames = Vec::new();
        match decoder.decode(&packet, &mut frames) {
            Ok(()) => {
                assert!(!(15..20).contains(&index), "picture {index} cannot be right");
                assert!(samples(&frames[0]) == clip.pictures[index], "picture {index}");
            }
            Err(StageError::Broken { pts, .. }) => {
                assert_eq!(pts, packet.pts);
                assert!((15..20).contains(&index), "picture {index} is whole");
                broken += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(broken, 5);
}

#[test]
fn noise_instead_of_pictures_gives_errors_and_no_frame() {
    let mut errors = 0;
    let mut decoder =
        track(&VideoTrack { codec: Codec::H264, size: SMALL, parameter_sets: bytes::Bytes::new() });
    let mut seed = 1_u32;
    for index in 0..200 {
        let mut data = vec![0, 0, 0, 1];
        for _ in 0..index * 7 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.push((seed >> 24) as u8);
        }
        let pts = Pts(index * 3000);
        let packet = Packet {
            kind: pipeline::TrackKind::Video,
            pts,
            dts: pts,
            key: true,
            data: data.into(),
            arrived: Instant::now(),
        };
        let mut frames = Vec::new();
        // Noise may hold a parameter set that promises fields, of which one alone is no error.
        errors += usize::from(decoder.decode(&packet, &mut frames).is_err());
        assert!(frames.is_empty());
    }
    assert!(errors > 150, "{errors} errors");
}

#[test]
fn what_the_pipeline_does_not_know_becomes_plain_420() {
    for (format, codec, extra) in [
        ("yuv422p", "libx264", ""),
        ("yuv444p", "libx264", ""),
        ("yuv420p10le", "libx264", ""),
        ("yuv420p", "libx264", "interlaced=1:tff=1"),
    ] {
        let params = format!("threads=1:{extra}");
        let params = params.trim_end_matches(':');
        let clip = clip(
            SMALL,
            8,
            &["-c:v", codec, "-tune", "zerolatency", "-pix_fmt", format, "-x264-params", params],
        );
        let mut decoder = track(&clip.track);
        for (packet, picture) in clip.packets.iter().zip(&clip.pictures) {
            let mut frames = Vec::new();
            decoder.decode(packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 1, "{format} {extra}");
            assert_eq!(frames[0].format, PixelFormat::I420);
            assert_eq!(frames[0].size, SMALL);
            let ours = samples(&frames[0]);
            let luma = SMALL.pixels() as usize;
            let apart: u64 =
                ours[..luma].iter().zip(picture).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            // Fields are interpolated, so only the mean must agree.
            assert!(apart < 8 * luma as u64, "{format} {extra}: {}", apart / luma as u64);
        }
    }
}

#[test]
fn vp8_vp9_and_av1_are_decoded_by_the_same_means() {
    let vpx = "-deadline realtime -lag-in-frames 0 -auto-alt-ref 0";
    for (codec, options) in [
        (Codec::Vp8, format!("-c:v libvpx {vpx}")),
        (Codec::Vp9, format!("-c:v libvpx-vp9 {vpx}")),
        // No picture waits for a later one (pred-struct 1).
        (Codec::Av1, "-c:v libsvtav1 -preset 12 -svtav1-params pred-struct=1".to_owned()),
    ] {
        let source = format!("testsrc2=size={SMALL}:rate=30");
        let line = format!("-f lavfi -i {source} -frames:v 10 -pix_fmt yuv420p {options}");
        let mut args: Vec<&str> = line.split_whitespace().collect();
        args.extend_from_slice(&["-f", "ivf", "pipe:1"]);
        let stream = ffmpeg(&args, b"");
        let mut assembler = pipeline::video::Assembler::new(codec).unwrap();
        let mut decoder = None;
        let mut rest = &stream[32..];
        let mut count = 0;
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            let unit = bytes::Bytes::copy_from_slice(&rest[12..12 + length]);
            let unit = assembler.unit(unit).unwrap().unwrap();
            let pts = Pts(count * 3000);
            let packet = Packet {
                kind: pipeline::TrackKind::Video,
                pts,
                dts: pts,
                key: unit.key,
                data: unit.data,
                arrived: Instant::now(),
            };
            let decoder = decoder
                .get_or_insert_with(|| crate::video::decoder(&assembler.track().unwrap()).unwrap());
            let mut frames = Vec::new();
            decoder.decode(&packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 1, "{codec} {count}");
            assert_eq!((frames[0].pts, frames[0].size), (pts, SMALL));
            rest = &rest[12 + length..];
            count += 1;
        }
        assert_eq!(count, 10);
    }
}

#[test]
fn colour_is_read_from_the_stream_and_written_into_it() {
    let bt709 = Color { matrix: Matrix::Bt709, full_range: false };
    let full = Color { matrix: Matrix::Bt601, full_range: true };
    for (color, args) in [
        (bt709, &["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"][..]),
        (full, &["-colorspace", "smpte170m", "-color_range", "pc"]),
        (Color::unsignalled(SMALL), &[]),
    ] {
        let mut all = ZERO_LATENCY.to_vec();
        all.extend_from_slice(args);
        let clip = clip(SMALL, 2, &all);
        let mut frames = Vec::new();
        let mut decoder = track(&clip.track);
        decoder.decode(&clip.packets[0], &mut frames).unwrap();
        assert_eq!(frames[0].color, color, "{args:?}");
        let mut encoder = Encoder::new(settings(SMALL, 500_000)).unwrap();
        let coded = encoder.encode(&frames[0], false).unwrap();
        let sps = h264::nals(&coded.data).next().unwrap();
        assert_eq!(h264::SpsInfo::parse(sps).unwrap().color(), color);
        let mut again = Vec::new();
        track(&encoder.track()).decode(&coded, &mut again).unwrap();
        assert_eq!(again[0].color, color);
    }
}

#[test]
fn each_frame_is_coded_in_its_own_call_in_canonical_form() {
    for options in [
        Options::default(),
        Options { threads: 4, ..Options::default() },
        Options { profile: Profile::High, preset: Preset::Ultrafast, threads: 2 },
    ] {
        let mut encoder = Encoder::with_options(settings(SMALL, 800_000), options).unwrap();
        let mut decoder = Decoder::new(&encoder.track()).unwrap();
        for step in 0..70 {
            // Irregular times: a third of the rate, with a hole.
            let pts = Pts(step * 9001 + if step > 40 { 400_000 } else { 0 });
            let packet = encoder.encode(&drawn(SMALL, step as usize, pts), false).unwrap();
            assert_eq!((packet.pts, packet.dts), (pts, pts));
            let kinds: Vec<u8> = h264::nals(&packet.data).map(|nal| nal[0] & 0x1f).collect();
            if packet.key {
                assert_eq!(kinds[..3], [7, 8, 5]);
                assert!(packet.data.starts_with(&encoder.track().parameter_sets));
            } else {
                assert!(kinds.iter().all(|kind| *kind == 1), "{kinds:?}");
            }
            assert_eq!(pipeline::annexb::canonical(&packet.data, |_| false), packet.data);
            // Every 2 s of the stream's clock, and at the hole, which is longer.
            let expected = step == 0 || [20, 40, 41, 61].contains(&step);
            assert_eq!(packet.key, expected, "picture {step}");
            let mut frames = Vec::new();
            decoder.decode(&packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 1);
        }
        let sets = encoder.track().parameter_sets;
        let sps = h264::SpsInfo::parse(h264::nals(&sets).next().unwrap()).unwrap();
        assert_eq!(sps.reorder_frames, Some(0));
        assert_eq!(h264::webrtc_obstacle(&sps), None);
    }
}

#[test]
fn vp8_comes_out_picture_by_picture_and_shows_what_went_in() {
    let size = Size::new(322, 182);
    let mut encoder = crate::vp8::Encoder::new(settings(size, 1_500_000)).unwrap();
    let mut coded = Vec::new();
    for step in 0..20 {
        let frame = drawn(size, step, Pts(step as i64 * 3000 + 7));
        let packet = encoder.encode(&frame, step == 13).unwrap();
        assert_eq!(packet.pts, frame.pts);
        assert_eq!(packet.key, step == 0 || step == 13, "picture {step}");
        coded.push(packet);
    }
    let mut assembler = pipeline::vp8::Assembler::new();
    let unit = assembler.frame(coded[0].data.clone()).unwrap().unwrap();
    assert!(unit.key);
    assert_eq!(assembler.track().unwrap().size, size);
    let frames = decode_all(&mut track(&encoder.track()), &coded);
    assert_eq!(frames.len(), 20);
    for (step, frame) in frames.iter().enumerate() {
        let drawn = drawn(size, step, frame.pts);
        let (is, was) = (samples(frame), samples(&drawn));
        let luma = size.pixels() as usize;
        let off: u64 = (0..luma).map(|at| u64::from(is[at].abs_diff(was[at]))).sum();
        assert!(off / (luma as u64) < 8, "picture {step} is off by {}", off / luma as u64);
    }
}

#[test]
fn a_key_frame_comes_at_once_when_it_is_asked_for() {
    let mut encoder = Encoder::new(settings(SMALL, 500_000)).unwrap();
    for step in 0..20_usize {
        let packet =
            encoder.encode(&drawn(SMALL, step, Pts(step as i64 * 3000)), step == 7).unwrap();
        assert_eq!(packet.key, step == 0 || step == 7, "picture {step}");
        assert_eq!(h264::is_idr(&packet.data), packet.key);
    }
}

#[test]
fn the_rate_follows_the_target_while_it_runs() {
    let mut encoder = Encoder::new(settings(SMALL, 1_200_000)).unwrap();
    let mut bytes = [0; 2];
    for step in 0..240_usize {
        if step == 120 {
            encoder.set_bitrate(600_000);
        }
        let packet = encoder.encode(&drawn(SMALL, step, Pts(step as i64 * 3000)), false).unwrap();
        // Without the first second of each, in which the rate control settles.
        if step % 120 >= 30 {
            bytes[step / 120] += packet.data.len() * 8 / 3;
        }
    }
    assert!((1_000_000..1_400_000).contains(&bytes[0]), "{bytes:?}");
    assert!((480_000..720_000).contains(&bytes[1]), "{bytes:?}");
}

#[test]
fn a_decoded_frame_reaches_the_encoder_without_a_copy_and_keeps_its_picture() {
    // A width at which decoders pad their rows.
    let size = Size::new(418, 234);
    let clip = clip(size, 5, ZERO_LATENCY);
    let mut frames = Vec::new();
    let mut decoder = track(&clip.track);
    for packet in &clip.packets {
        decoder.decode(packet, &mut frames).unwrap();
    }
    let Surface::Host(planes) = &frames[0].surface else { panic!() };
    let memory = planes.memory().bytes().as_ptr();
    let buffer = crate::picture::buffer("test", &frames[0], size).unwrap();
    assert_eq!(buffer.map_readable().unwrap().as_ptr(), memory);
    drop(buffer);
    let mut encoder = Encoder::new(settings(size, 6_000_000)).unwrap();
    let mut again = Vec::new();
    let mut second = Decoder::new(&encoder.track()).unwrap();
    for frame in &frames {
        second.decode(&encoder.encode(frame, false).unwrap(), &mut again).unwrap();
    }
    for (frame, picture) in again.iter().zip(&clip.pictures) {
        let error: f64 = samples(frame)
            .iter()
            .zip(picture)
            .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
            .sum::<f64>()
            / picture.len() as f64;
        assert!(error < 30.0, "mean square error {error}");
    }
}

#[test]
fn odd_sizes_lose_their_last_row_and_column_only() {
    let size = Size::new(321, 181);
    let mut encoder = Encoder::new(settings(size, 500_000)).unwrap();
    let packet = encoder.encode(&drawn(size, 0, Pts(0)), false).unwrap();
    assert_eq!(encoder.track().size, Size::new(320, 180));
    let mut frames = Vec::new();
    track(&encoder.track()).decode(&packet, &mut frames).unwrap();
    assert_eq!(frames[0].size, Size::new(320, 180));
    assert!(encoder.encode(&drawn(SMALL, 0, Pts(1)), false).is_err());
    assert!(Encoder::new(settings(Size::new(1, 90), 500_000)).is_err());
}

/// Prints what decoding and encoding cost, on an idle machine.
#[test]
#[ignore = "a measurement; cargo test -p codecs --release -- --ignored --nocapture"]
fn measure_cost() {
    for size in [Size::new(640, 360), Size::new(1280, 720)] {
        let bitrate = (EncoderSettings::for_picture(size, 30.0).bitrate / 1000).to_string() + "k";
        let mut args = ZERO_LATENCY.to_vec();
        args.extend_from_slice(&["-b:v", &bitrate]);
        let clip = clip(size, 300, &args);
        let mut frames = Vec::new();
        let mut decoder = track(&clip.track);
        let start = cpu_seconds();
        for packet in &clip.packets {
            frames.clear();
            decoder.decode(packet, &mut frames).unwrap();
        }
        println!("{size} decode {:.4} CPU s per s", (cpu_seconds() - start) / 10.0);
        let mut decoder = track(&clip.track);
        frames.clear();
        for packet in &clip.packets[..60] {
            decoder.decode(packet, &mut frames).unwrap();
        }
        for preset in [Preset::Ultrafast, Preset::Superfast, Preset::Veryfast] {
            for (profile, threads) in [
                (Profile::ConstrainedBaseline, 1),
                (Profile::ConstrainedBaseline, 2),
                (Profile::High, 1),
            ] {
                let options = Options { preset, profile, threads };
                let mut encoder =
                    Encoder::with_options(EncoderSettings::for_picture(size, 30.0), options)
                        .unwrap();
                let start = cpu_seconds();
                let (mut bytes, mut error, mut samples_seen) = (0, 0.0, 0.0);
                let mut coded = Vec::new();
                let wall = Instant::now();
                for round in 0..5 {
                    for (index, frame) in frames.iter().enumerate() {
                        let pts = Pts((round * 60 + index as i64) * 3000);
                        let frame = Frame { pts, ..frame.clone() };
                        let packet = encoder.encode(&frame, false).unwrap();
                        bytes += packet.data.len();
                        coded.push(packet);
                    }
                }
                let wall = wall.elapsed();
                let cpu = (cpu_seconds() - start) / 10.0;
                let mut check = Decoder::new(&encoder.track()).unwrap();
                for (index, packet) in coded.iter().enumerate() {
                    let mut again = Vec::new();
                    check.decode(packet, &mut again).unwrap();
                    if index % 10 == 9 {
                        for (a, b) in samples(&again[0]).iter().zip(&samples(&frames[index % 60])) {
                            error += f64::from(a.abs_diff(*b)).powi(2);
                            samples_seen += 1.0;
                        }
                    }
                }
                println!(
                    "{size} {preset:?} {profile:?} {threads} threads: {cpu:.4} CPU s per s, \
                     {:.2} ms a frame, {} kbit/s, {:.1} dB",
                    wall.as_secs_f64() * 1000.0 / 300.0,
                    bytes * 8 / 10_000,
                    10.0 * (255.0 * 255.0 * samples_seen / error).log10(),
                );
            }
        }
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
