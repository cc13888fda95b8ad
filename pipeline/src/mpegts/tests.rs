//! Streams of our own through our own reader, cut anywhere; our streams in ffmpeg; ffmpeg's in our
//! reader; and what damage does.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::aac::AudioSpecificConfig;
use crate::annexb;
use crate::frame::Size;
use crate::packet::{AudioTrack, Codec, Packet, TrackKind, Tracks, VideoTrack};
use crate::time::{Pts, Ticks};

const SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0, 0, 0, 1, 0x68, 0xce,
    0x3c, 0x80,
];

fn video_track() -> VideoTrack {
    let parameter_sets = Bytes::from_static(SETS);
    VideoTrack { codec: Codec::H264, size: Size::new(640, 360), parameter_sets }
}

fn aac_track() -> AudioTrack {
    let config = AudioSpecificConfig::lc(48_000, 2).unwrap().to_bytes().unwrap().into();
    AudioTrack { codec: Codec::Aac, sample_rate: 48_000, channels: 2, config }
}

fn opus_track() -> AudioTrack {
    AudioTrack { codec: Codec::Opus, sample_rate: 48_000, channels: 2, config: Bytes::new() }
}

fn tracks(audio: AudioTrack) -> Tracks {
    Tracks { video: Some(video_track()), audio: Some(audio) }
}

/// A canonical unit of `bytes` bytes in all, or a little more where that is too few for one.
fn picture(pts: i64, dts: i64, key: bool, bytes: usize) -> Packet {
    let mut data = BytesMut::new();
    if key {
        data.extend_from_slice(SETS);
    }
    let slice: &[u8] = if key { &[0x65, 0x88, 0x84] } else { &[0x41, 0x9a, 0x02] };
    annexb::push(&mut data, slice);
    let mut value = pts as u8;
    while data.len() < bytes {
        value = value.wrapping_mul(181).wrapping_add(101);
        data.extend_from_slice(&[value | 4]);
    }
    packet(TrackKind::Video, pts, dts, key, data.freeze())
}

fn sound(pts: i64, toc: u8, bytes: usize) -> Packet {
    let mut data = vec![toc];
    data.extend((1..bytes).map(|n| n as u8));
    packet(TrackKind::Audio, pts, pts, true, data.into())
}

fn packet(kind: TrackKind, pts: i64, dts: i64, key: bool, data: Bytes) -> Packet {
    Packet { kind, pts: Pts(pts), dts: Pts(dts), key, data, arrived: Instant::now() }
}

type Plain = (TrackKind, i64, i64, bool, Bytes);

fn plain(packet: &Packet) -> Plain {
    (packet.kind, packet.pts.0, packet.dts.0, packet.key, packet.data.clone())
}

fn packets(events: &[Event]) -> Vec<Plain> {
    let packets = events.iter().filter_map(|event| match event {
        Event::Packet(packet) => Some(plain(packet)),
        Event::Tracks(_) => None,
    });
    packets.collect()
}

fn last_tracks(events: &[Event]) -> Tracks {
    let mut tracks = events.iter().rev().filter_map(|event| match event {
        Event::Tracks(tracks) => Some(tracks.clone()),
        Event::Packet(_) => None,
    });
    tracks.next().unwrap()
}

fn mux(tracks: &Tracks, list: &[Packet]) -> BytesMut {
    let (mut muxer, mut out) = (Muxer::new(tracks).unwrap(), BytesMut::new());
    muxer.start_segment(&mut out);
    list.iter().for_each(|packet| muxer.mux(packet, &mut out).unwrap());
    assert_eq!(out.len() % PACKET_BYTES, 0);
    assert!(out.chunks(PACKET_BYTES).all(|packet| packet[0] == SYNC));
    out
}

fn demux(demuxer: &mut Demuxer, stream: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    demuxer.push(Instant::now(), stream, &mut events);
    events
}

/// Runs a tool with `input`; answers its output, and wants it to succeed and say nothing.
fn tool(name: &str, arguments: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(name)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg and ffprobe are tools that the tests need");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name} {arguments}: {errors}");
    output.stdout
}

fn ffmpeg_ts(options: &str) -> Vec<u8> {
    let source = "-hide_banner -nostdin -v error -f lavfi -i testsrc2=s=640x360:r=30:d=2 \
                  -f lavfi -i sine=frequency=440:sample_rate=48000:duration=2 -pix_fmt yuv420p";
    tool("ffmpeg", &format!("{source} {options} -f mpegts -"), &[])
}

#[test]
fn one_in_one_out() {
    // Sizes around one and two full PES packets, where the end is hardest to see.
    let mut sizes = vec![30, 150, 184, 5000, 250_000];
    for full in [65_535_usize, 2 * 65_535 - 6 - 3] {
        sizes.extend(full - 40..full + 10);
    }
    let (mut muxer, mut demuxer) = (Muxer::new(&tracks(opus_track())).unwrap(), Demuxer::new());
    let mut first = BytesMut::new();
    muxer.mux(&picture(0, 0, true, 4000), &mut first).unwrap();
    assert_eq!(packets(&demux(&mut demuxer, &first)).len(), 1);
    for (n, bytes) in sizes.into_iter().enumerate() {
        for reordered in [0, 6000] {
            let dts = 3000 * (n as i64 + 1);
            let sent = picture(dts + reordered, dts, false, bytes);
            let mut out = BytesMut::new();
            muxer.mux(&sent, &mut out).unwrap();
            let (but_last, last) = out.split_at(out.len() - PACKET_BYTES);
            assert!(packets(&demux(&mut demuxer, but_last)).is_empty());
            assert_eq!(packets(&demux(&mut demuxer, last)), [plain(&sent)], "{bytes} bytes");
        }
        let sent = sound(3000 * n as i64, 0xfc, 200);
        let mut out = BytesMut::new();
        muxer.mux(&sent, &mut out).unwrap();
        assert_eq!(packets(&demux(&mut demuxer, &out)), [plain(&sent)]);
    }
    assert_eq!(demuxer.stats().broken_units + demuxer.stats().wrong_lengths, 0);
}

#[test]
fn names_of_64_bits_survive_the_hop() {
    let turn = 1_i64 << 33;
    for start in [-turn * 3 - 40_000, -1, turn - 9000, turn * 5 + turn / 2, i64::MAX / 2] {
        let list: Vec<_> = (0..40)
            .flat_map(|n| {
                let dts = start + n * 3000;
                [picture(dts + 6000, dts, n % 10 == 0, 2000), sound(dts - 500, 0xfc, 80)]
            })
            .collect();
        let stream = mux(&tracks(opus_track()), &list);
        let mut demuxer = Demuxer::with_reference(Pts(start) + Ticks(3600 * 90_000));
        let sent: Vec<_> = list.iter().map(plain).collect();
        assert_eq!(packets(&demux(&mut demuxer, &stream)), sent);
        // Without a reference all are off by the same whole number of turns, both tracks alike.
        let found = packets(&demux(&mut Demuxer::new(), &stream));
        let offset = found[0].1 - sent[0].1;
        assert_eq!(offset % turn, 0);
        assert!(found.iter().zip(&sent).all(|(a, b)| a.1 - b.1 == offset && a.2 - b.2 == offset));
    }
}

#[test]
fn tracks_are_told_before_their_first_packet_and_again_when_they_change() {
    let (mut muxer, mut demuxer) = (Muxer::new(&tracks(aac_track())).unwrap(), Demuxer::new());
    let mut out = BytesMut::new();
    muxer.mux(&picture(0, 0, true, 100), &mut out).unwrap();
    let events = demux(&mut demuxer, &out);
    assert!(matches!(events[..], [Event::Tracks(_), Event::Packet(_)]));
    assert_eq!(last_tracks(&events), Tracks { video: Some(video_track()), audio: None });
    out.clear();
    muxer.mux(&sound(0, 0x21, 100), &mut out).unwrap();
    assert_eq!(last_tracks(&demux(&mut demuxer, &out)), tracks(aac_track()));

    out.clear();
    muxer.set_tracks(&tracks(opus_track())).unwrap();
    muxer.mux(&picture(3000, 3000, false, 100), &mut out).unwrap();
    muxer.mux(&sound(3000, 0xfc, 100), &mut out).unwrap();
    let events = demux(&mut demuxer, &out);
    assert_eq!(packets(&events).len(), 2, "the picture goes on over the change of sound");
    assert_eq!(last_tracks(&events), tracks(opus_track()));
    out.clear();
    let silent = Tracks { video: Some(video_track()), audio: None };
    muxer.set_tracks(&silent).unwrap();
    muxer.mux(&picture(6000, 6000, false, 100), &mut out).unwrap();
    assert_eq!(last_tracks(&demux(&mut demuxer, &out)), silent);
    let unknown = muxer.mux(&sound(6000, 0xfc, 100), &mut out).unwrap_err();
    assert_eq!(unknown, MuxError::UnknownTrack(TrackKind::Audio));
    assert_eq!(demuxer.stats().gaps, 0);
}

#[test]
fn each_segment_can_be_read_on_its_own() {
    let mut muxer = Muxer::new(&tracks(opus_track())).unwrap();
    let mut whole = Demuxer::new();
    let mut seen = 0;
    for segment in 0..5 {
        let mut out = BytesMut::new();
        muxer.start_segment(&mut out);
        for n in 0..10 {
            let dts = (segment * 10 + n) * 3000;
            muxer.mux(&picture(dts, dts, n == 0, 20_000), &mut out).unwrap();
        }
        let tables = out.chunks(PACKET_BYTES).filter(|packet| packet[1..3] == [0x40, 0]).count();
        assert_eq!(tables, 4, "at 0, 100, 200 and 300 ms of the segment's media");
        assert_eq!(packets(&demux(&mut Demuxer::new(), &out)).len(), 10);
        seen += packets(&demux(&mut whole, &out)).len();
        whole.end_of_segment(Instant::now(), &mut Vec::new());
    }
    assert_eq!(seen, 50);
    assert_eq!(whole.stats().gaps, 0, "counters run on over segments");
}

#[test]
fn the_clock_never_waits_longer_than_the_standard_allows() {
    // Two pictures a second between sound of 20 ms, then a jump of the source's clock.
    let mut list = Vec::new();
    for start in [0, 900_000_000] {
        for n in 0..100 {
            let now = start + n * 1800;
            if n % 25 == 0 {
                list.push(picture(now, now, n == 0, 300));
            }
            list.push(sound(now, 0xfc, 60));
        }
    }
    let stream = mux(&tracks(opus_track()), &list);
    let clock = |packet: &[u8]| {
        let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
        let stated = packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0;
        assert!(!stated || pid == 0x100);
        let base = u64::from(u32::from_be_bytes([packet[6], packet[7], packet[8], packet[9]])) << 1
            | u64::from(packet[10] >> 7);
        stated.then_some((base as i64, packet[5] & 0x80 != 0))
    };
    let clocks: Vec<_> = stream.chunks(PACKET_BYTES).filter_map(clock).collect();
    assert_eq!(clocks[0].0, (1 << 33) - 9000, "a tenth of a second before the first picture");
    let mut jumps = 0;
    for pair in clocks.windows(2) {
        let step = (pair[1].0 - pair[0].0).rem_euclid(CLOCK_MODULUS);
        if pair[1].1 {
            jumps += 1;
        } else {
            assert!(step <= 9000, "{step} ticks from one clock reference to the next");
        }
    }
    assert_eq!(jumps, 1);
    let sent: Vec<_> = list.iter().map(plain).collect();
    assert_eq!(packets(&demux(&mut Demuxer::new(), &stream)), sent);
}

#[test]
fn what_cannot_be_carried_is_refused() {
    let vp8 = VideoTrack { codec: Codec::Vp8, ..video_track() };
    let error = Muxer::new(&Tracks { video: Some(vp8), audio: None }).unwrap_err();
    assert_eq!(error.to_string(), "MPEG-TS does not carry VP8 here");
    assert_eq!(Muxer::new(&Tracks::default()).unwrap_err(), MuxError::NoTrack);
    let no_config = AudioTrack { config: Bytes::new(), ..aac_track() };
    assert!(matches!(Muxer::new(&tracks(no_config)), Err(MuxError::Aac(_))));
    let mut muxer = Muxer::new(&tracks(aac_track())).unwrap();
    let mut out = BytesMut::new();
    assert!(muxer.mux(&sound(0, 0, 9000), &mut out).is_err());
    let huge = muxer.mux(&picture(0, 0, true, UNIT_BYTES_MAX + 1), &mut out).unwrap_err();
    assert_eq!(huge, MuxError::TooLarge(UNIT_BYTES_MAX + 1));
    assert!(out.is_empty());
}

#[test]
fn ffprobe_and_ffmpeg_take_what_is_muxed() {
    // Real pictures and sound, with B-frames and key units over 65,535 bytes, muxed anew.
    let h264 = "-c:v libx264 -preset veryfast -qp 10 -bf 2 -g 20";
    let hevc = "-c:v libx265 -preset ultrafast \
                -x265-params log-level=none:qp=4:bframes=2:keyint=20:open-gop=0";
    for (video, audio) in [(h264, "-c:a aac"), (h264, "-c:a libopus -ac 2"), (hevc, "-c:a aac")] {
        let source = ffmpeg_ts(&format!("-vf noise=alls=40:allf=t {video} {audio}"));
        let mut demuxer = Demuxer::new();
        let mut events = demux(&mut demuxer, &source);
        demuxer.end_of_segment(Instant::now(), &mut events);
        let list: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Packet(packet) => Some(packet.clone()),
                Event::Tracks(_) => None,
            })
            .collect();
        let pictures = list.iter().filter(|packet| packet.kind == TrackKind::Video).count();
        assert_eq!(pictures, 60);
        assert!(list.iter().any(|packet| packet.data.len() > 66_000));
        assert!(list.iter().any(|packet| packet.pts != packet.dts));
        let stream = mux(&last_tracks(&events), &list);
        tool("ffmpeg", "-nostdin -v error -xerror -f mpegts -i - -f null -", &stream);

        let show =
            "-v error -f mpegts -show_entries packet=codec_type,pts,dts,flags -of csv=p=0 -i -";
        let shown = String::from_utf8(tool("ffprobe", show, &stream)).unwrap();
        for (name, kind) in [("video", TrackKind::Video), ("audio", TrackKind::Audio)] {
            let found: Vec<String> = shown
                .lines()
                .filter(|line| line.starts_with(name))
                .map(|line| line.trim_end_matches([',', '_']).to_owned())
                .collect();
            let sent: Vec<String> = list
                .iter()
                .filter(|packet| packet.kind == kind)
                .map(|p| format!("{name},{},{},{}", p.pts.0, p.dts.0, if p.key { "K" } else { "" }))
                .map(|line| line.trim_end_matches(',').to_owned())
                .collect();
            assert_eq!(found, sent, "{video} {audio}");
        }
        let again = packets(&demux(&mut Demuxer::new(), &stream));
        assert_eq!(again, list.iter().map(plain).collect::<Vec<_>>());
    }
}

#[test]
fn streams_of_ffmpeg_are_read_with_its_own_times_and_bytes() {
    // With lengths, short PES packets, several audio frames in one, and a second audio stream.
    for options in [
        "-c:v libx264 -preset veryfast -g 15 -c:a aac -pes_payload_size 4000",
        "-c:v libx264 -preset veryfast -bf 0 -omit_video_pes_length 0 -c:a aac -mpegts_flags +system_b",
        "-c:v libx264 -preset veryfast -qp 1 -omit_video_pes_length 0 -c:a libopus -ac 1",
        "-c:v libx265 -x265-params log-level=none -g 15 -c:a aac -ac 1",
        "-map 0 -map 1 -map 1 -c:v libx264 -c:a:0 aac -c:a:1 mp2",
    ] {
        let stream = ffmpeg_ts(options);
        let mut demuxer = Demuxer::new();
        let mut events = demux(&mut demuxer, &stream);
        let stats = demuxer.stats();
        demuxer.end_of_segment(Instant::now(), &mut events);
        assert_eq!(
            stats,
            Stats { ignored_streams: stats.ignored_streams, ..clean(stats) },
            "{options}"
        );
        let found = packets(&events);
        let show = "-v error -f mpegts -show_entries packet=codec_type,stream_index,pts,dts -of csv=p=0 -i -";
        let shown = String::from_utf8(tool("ffprobe", show, &stream)).unwrap();
        for (index, kind) in [("video,0", TrackKind::Video), ("audio,1", TrackKind::Audio)] {
            let times = |line: &str| -> Option<(i64, i64)> {
                let mut numbers = line.strip_prefix(index)?.split(',').skip(1);
                Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
            };
            let expected: Vec<_> = shown.lines().filter_map(times).collect();
            let ours = found.iter().filter(|packet| packet.0 == kind);
            let ours: Vec<_> = ours.map(|packet| (packet.1, packet.2)).collect();
            assert!(expected.len() > 50, "{options}: {}", expected.len());
            assert_eq!(ours.len(), expected.len(), "{options} {kind:?}");
            // ffprobe rounds audio times inside a PES packet, by a tick at most.
            for (ours, expected) in ours.iter().zip(&expected) {
                assert!((ours.0 - expected.0).abs() <= 1, "{options}: {ours:?} {expected:?}");
                assert!(kind == TrackKind::Audio || ours == expected, "{options}");
            }
        }
        assert!(last_tracks(&events).audio.is_some());
    }
}

fn clean(stats: Stats) -> Stats {
    Stats { packets: stats.packets, ..Stats::default() }
}

#[test]
fn a_hole_costs_the_unit_it_is_in_and_no_other() {
    let list: Vec<_> = (0..20).map(|n| picture(n * 3000, n * 3000, n == 0, 1000)).collect();
    let stream = mux(&Tracks { video: Some(video_track()), audio: None }, &list);
    let sent: Vec<_> = list.iter().map(plain).collect();
    for hole in 8..stream.len() / PACKET_BYTES {
        let mut broken = stream[..hole * PACKET_BYTES].to_vec();
        broken.extend_from_slice(&stream[(hole + 1) * PACKET_BYTES..]);
        let mut demuxer = Demuxer::new();
        let mut events = demux(&mut demuxer, &broken);
        demuxer.end_of_segment(Instant::now(), &mut events);
        let found = packets(&events);
        let tables = stream[hole * PACKET_BYTES + 1..][..2] != [0x41, 0]
            && stream[hole * PACKET_BYTES + 1..][..2] != [0x01, 0];
        assert!(found.len() >= sent.len() - usize::from(!tables), "hole at {hole}");
        assert!(found.iter().all(|packet| sent.contains(packet)));
        // The same packet marked as damaged, or scrambled, or of another PID: as if it were absent.
        for (at, bits) in [(1, 0x80), (3, 0x80), (2, 0x55)] {
            let mut marked = stream.to_vec();
            marked[hole * PACKET_BYTES + at] ^= bits;
            assert_eq!(packets(&demux(&mut Demuxer::new(), &marked)), found, "hole at {hole}");
        }
        // Sent twice: as if once.
        let mut twice = stream[..(hole + 1) * PACKET_BYTES].to_vec();
        twice.extend_from_slice(&stream[hole * PACKET_BYTES..]);
        assert_eq!(packets(&demux(&mut Demuxer::new(), &twice)), sent);
    }
}

#[test]
fn sync_is_found_again_behind_foreign_bytes() {
    let list: Vec<_> = (0..20).map(|n| picture(n * 3000, n * 3000, n == 0, 1000)).collect();
    let stream = mux(&Tracks { video: Some(video_track()), audio: None }, &list);
    let cut = stream.len() / 2 / PACKET_BYTES * PACKET_BYTES;
    for foreign in [&b"G"[..], &[0; 100], &[SYNC; 187], b"GET / HTTP/1.1\r\n\r\n"] {
        let broken = [&stream[..cut], foreign, &stream[cut..]].concat();
        let mut demuxer = Demuxer::new();
        let found = packets(&demux(&mut demuxer, &broken));
        assert!(found.len() >= 18, "{} of 20 behind {foreign:?}", found.len());
        assert!(demuxer.stats().lost_sync_bytes > 0 || foreign[0] == SYNC);
        let front = [foreign, &stream[..]].concat();
        assert!(packets(&demux(&mut Demuxer::new(), &front)).len() >= 19);
    }
}

#[test]
fn a_sender_with_another_rule_is_understood_after_one_unit() {
    // Units spread over short PES packets, only the first of each with a time.
    let mut out = mux(&Tracks { video: Some(video_track()), audio: None }, &[]);
    let list: Vec<_> = (0..6).map(|n| picture(n * 3000, n * 3000, n % 2 == 0, 600)).collect();
    let mut counter = 0;
    for packet in &list {
        for (n, part) in packet.data.chunks(150).enumerate() {
            let time = (n == 0).then_some((packet.pts.0 as u64, packet.dts.0 as u64));
            let mut pes = BytesMut::new();
            let length = 3 + pes::times_bytes(time) + part.len();
            pes::PesHead::write(&mut pes, 0xe0, length, time, 0);
            if n > 0 {
                pes[6] &= !4;
            }
            pes.extend_from_slice(part);
            let stuffing = 184 - pes.len();
            out.extend_from_slice(&[SYNC, 0x41, 0, 0x30 | counter, stuffing as u8 - 1]);
            if stuffing > 1 {
                out.extend_from_slice(&[0]);
                out.extend_from_slice(&vec![0xff; stuffing - 2]);
            }
            out.extend_from_slice(&pes);
            counter = (counter + 1) & 15;
        }
    }
    let mut demuxer = Demuxer::new();
    let mut events = demux(&mut demuxer, &out);
    demuxer.end_of_segment(Instant::now(), &mut events);
    let found = packets(&events);
    let sent: Vec<_> = list.iter().map(plain).collect();
    assert_eq!(found.last(), sent.last());
    assert_eq!(found[found.len() - 4..], sent[2..]);
}

#[test]
fn units_without_end_are_limited() {
    let mut out =
        mux(&Tracks { video: Some(video_track()), audio: None }, &[picture(0, 0, true, 100)]);
    let head = [SYNC, 0x41, 0, 0x11];
    let pes = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
    out.extend_from_slice(&head);
    out.extend_from_slice(&pes);
    out.extend_from_slice(&vec![4; 184 - pes.len()]);
    for n in 0..UNIT_BYTES_MAX / 184 + 10 {
        out.extend_from_slice(&[SYNC, 1, 0, 0x10 | ((n + 2) & 15) as u8]);
        out.extend_from_slice(&[4; 184]);
    }
    let mut demuxer = Demuxer::new();
    assert_eq!(packets(&demux(&mut demuxer, &out)).len(), 1);
    assert_eq!((demuxer.stats().oversize_units, demuxer.stats().gaps), (1, 0));
}

#[test]
fn the_seeds_of_the_fuzzer_are_streams() {
    for seed in [&include_bytes!("seed_aac.ts")[..], include_bytes!("seed_opus.ts")] {
        assert!(packets(&demux(&mut Demuxer::new(), &seed[1..])).len() >= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_packets_come_back_from_any_cuts(
        start in any::<i64>().prop_map(|start| start / 4),
        list in prop::collection::vec((any::<bool>(), 0_i64..20_000, -9000_i64..9000, any::<bool>(),
            prop_oneof![1_usize..3000, 65_400_usize..65_700, 130_900_usize..131_200, 200_000_usize..300_000]), 1..12),
        opus: bool,
        cuts in prop::collection::vec(1_usize..5000, 1..8),
    ) {
        let mut now = start;
        let mut sent = vec![picture(start, start, true, 300)];
        for (is_picture, step, reorder, key, bytes) in list {
            now += step;
            sent.push(if is_picture {
                picture(now + reorder, now, key, bytes)
            } else {
                sound(now, 0xfc, (bytes % 1200) + 1)
            });
        }
        let tracks = tracks(if opus { opus_track() } else { aac_track() });
        let stream = mux(&tracks, &sent);
        let mut demuxer = Demuxer::with_reference(Pts(start));
        let mut events = Vec::new();
        let (mut rest, mut cut) = (&stream[..], 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(cuts[cut % cuts.len()]));
            demuxer.push(Instant::now(), now, &mut events);
            (rest, cut) = (later, cut + 1);
        }
        prop_assert_eq!(packets(&events), sent.iter().map(plain).collect::<Vec<_>>());
        prop_assert_eq!(demuxer.stats(), clean(demuxer.stats()));
    }
}
