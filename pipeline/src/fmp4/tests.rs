//! What the writer wrote, read back byte by byte.

use std::io::Cursor;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mp4_atom::{Decode as _, Ftyp, Moov, StszSamples};

use super::*;
use crate::frame::Size;
use crate::packet::{AudioTrack, Packet, Tracks, VideoTrack};
use crate::time::{Pts, Ticks};

const SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0, 0, 0, 1, 0x68, 0xce,
    0x3c, 0x80,
];

fn video() -> VideoTrack {
    let parameter_sets = Bytes::from_static(SETS);
    VideoTrack { codec: Codec::H264, size: Size::new(640, 360), parameter_sets }
}

fn aac() -> AudioTrack {
    // LC, 48 kHz, stereo.
    let config = Bytes::from_static(&[0x11, 0x90]);
    AudioTrack { codec: Codec::Aac, sample_rate: 48_000, channels: 2, config }
}

fn opus() -> AudioTrack {
    AudioTrack { codec: Codec::Opus, sample_rate: 48_000, channels: 2, config: Bytes::new() }
}

/// A picture of 30 a second, number `n`, each tenth a key picture, shown `late` ticks later.
fn picture(n: i64, late: i64) -> Packet {
    let key = n % 10 == 0;
    let mut data = BytesMut::new();
    if key {
        data.extend_from_slice(SETS);
    }
    data.extend_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x9a, n as u8 + 1]);
    let dts = Pts(9_000 + 3000 * n);
    Packet {
        kind: TrackKind::Video,
        pts: dts + Ticks(late),
        dts,
        key,
        data: data.freeze(),
        arrived: Instant::now(),
    }
}

fn sound(ticks: i64, data: &'static [u8]) -> Packet {
    let at = Pts(9_000 + ticks);
    let (kind, data) = (TrackKind::Audio, Bytes::from_static(data));
    Packet { kind, pts: at, dts: at, key: true, data, arrived: Instant::now() }
}

/// A file of `pictures` with AAC, a fragment each `per` pictures.
fn file(pictures: i64, per: i64) -> Vec<u8> {
    let mut writer = Writer::new(&Tracks { video: Some(video()), audio: Some(aac()) }).unwrap();
    let mut out = writer.init().to_vec();
    let mut sounds = 0;
    for n in 0..pictures {
        writer.push(&picture(n, 3000 * (n % 3)));
        while sounds * 1920 < n * 3000 {
            writer.push(&sound(sounds * 1920, b"sound"));
            sounds += 1;
        }
        if n > 0 && n % per == 0 {
            out.extend_from_slice(&writer.flush().unwrap().data);
        }
    }
    out.extend_from_slice(&writer.finish().unwrap().data);
    assert_eq!((writer.restamped(), writer.left_out()), (0, 0));
    out
}

fn all_samples(bytes: &[u8]) -> (Index, Vec<Sample>) {
    let mut file = Cursor::new(bytes);
    let index = Index::read(&mut file).unwrap();
    let samples = index.fragments.iter().map(|place| index.samples(&mut file, place).unwrap());
    let samples = samples.flatten().collect();
    (index, samples)
}

#[test]
fn what_was_written_reads_back_sample_by_sample() {
    let bytes = file(25, 6);
    let (index, samples) = all_samples(&bytes);
    assert_eq!(index.whole_bytes, bytes.len() as u64);
    assert_eq!(index.fragments.len(), 5);
    assert_eq!(index.tracks[0], TrackInfo { kind: TrackKind::Video, timescale: 90_000 });
    assert_eq!(index.tracks[1], TrackInfo { kind: TrackKind::Audio, timescale: 48_000 });
    let keys: Vec<_> = index.fragments.iter().map(|place| place.key).collect();
    assert_eq!(keys, [true, true, false, true, false]);
    let of = |kind| samples.iter().filter(move |sample| sample.kind == kind);
    for (n, sample) in of(TrackKind::Video).enumerate() {
        let n = n as i64;
        assert_eq!(sample.time, 3000 * n as u64);
        assert_eq!(sample.duration, 3000);
        assert_eq!(i64::from(sample.composition), 3000 * (n % 3));
        assert_eq!(sample.key, n % 10 == 0);
        let data = &bytes[sample.at as usize..][..sample.size as usize];
        // Parameter sets are in the entry, the start code is a length.
        assert_eq!(data[..4], [0, 0, 0, 3]);
        assert_eq!(data[6], n as u8 + 1);
    }
    assert_eq!(of(TrackKind::Video).count(), 25);
    for (n, sample) in of(TrackKind::Audio).enumerate() {
        assert_eq!((sample.time, sample.duration), (1024 * n as u64, 1024));
        assert_eq!(&bytes[sample.at as usize..][..5], b"sound");
    }
    assert_eq!(index.duration(), Ticks(75_000));
}

#[test]
fn a_file_cut_off_anywhere_is_whole_up_to_its_last_fragment() {
    let bytes = file(25, 6);
    let whole = Index::read(&mut Cursor::new(&bytes)).unwrap();
    let init = whole.init.len();
    for cut in 0..bytes.len() {
        match Index::read(&mut Cursor::new(&bytes[..cut])) {
            Err(error) => assert!(cut < init && matches!(error, Error::NoInit), "{cut}: {error}"),
            Ok(index) => {
                let there = whole.fragments.iter().filter(|p| p.at + p.bytes <= cut as u64);
                assert_eq!(index.fragments, there.copied().collect::<Vec<_>>(), "{cut}");
                assert!(index.whole_bytes <= cut as u64);
            }
        }
    }
}

#[test]
fn the_tracks_are_named_as_playlists_want_them() {
    let named =
        |audio| Writer::new(&Tracks { video: Some(video()), audio: Some(audio) }).unwrap().codecs();
    assert_eq!(named(aac()), "avc1.42c01e,mp4a.40.2");
    assert_eq!(named(opus()), "avc1.42c01e,opus");
    let mp3 = AudioTrack { codec: Codec::Mp3, ..opus() };
    assert_eq!(named(mp3), "avc1.42c01e,mp4a.40.34");
    let flac = AudioTrack { codec: Codec::Flac, config: vec![1; 34].into(), ..opus() };
    assert_eq!(named(flac), "avc1.42c01e,fLaC");
}

#[test]
fn what_mp4_cannot_carry_or_is_not_known_yet_is_told_apart() {
    let error = |tracks: &Tracks| Writer::new(tracks).err().unwrap();
    let unknown = VideoTrack { parameter_sets: Bytes::new(), ..video() };
    assert!(matches!(
        error(&Tracks { video: Some(unknown), audio: None }),
        Error::NotReady(Codec::H264)
    ));
    assert!(matches!(error(&Tracks::default()), Error::NoTrack));
    let mute = AudioTrack { channels: 0, ..opus() };
    assert!(matches!(error(&Tracks { video: None, audio: Some(mute) }), Error::Sound { .. }));
}

#[test]
fn sound_keeps_its_own_count_and_shows_gaps() {
    let mut writer = Writer::new(&Tracks { video: None, audio: Some(opus()) }).unwrap();
    let mut bytes = writer.init().to_vec();
    // 20 ms packets whose stamps are rounded to milliseconds and jump about a little, then a hole
    // of half a second, then one that comes again and again.
    for ticks in [[0, 1890, 3510, 5400].as_slice(), &[50_400; 8]].concat() {
        writer.push(&sound(ticks, &[0xfc, 1, 2]));
    }
    bytes.extend_from_slice(&writer.flush().unwrap().data);
    let (_, samples) = all_samples(&bytes);
    let times: Vec<_> = samples.iter().map(|s| (s.time, s.duration)).collect();
    let hole = 50_400 * 48 / 90;
    let wanted = [(0, 960), (960, 960), (1920, 960), (2880, hole - 2880), (hole.into(), 960)];
    assert_eq!(times[..5], wanted);
    assert_eq!(times.len(), 8);
    assert_eq!(writer.left_out(), 4);
}

#[test]
fn a_source_that_starts_its_clock_again_is_one_growing_timeline() {
    let mut writer = Writer::new(&Tracks { video: Some(video()), audio: None }).unwrap();
    let mut bytes = writer.init().to_vec();
    for n in [3, 4, 10, 11, 12, 1_000_010, 1_000_011, 0, 1] {
        writer.push(&Packet { key: n % 10 == 0, ..picture(n, 0) });
    }
    bytes.extend_from_slice(&writer.finish().unwrap().data);
    let (_, samples) = all_samples(&bytes);
    let times: Vec<_> = samples.iter().map(|s| s.time / 3000).collect();
    // The two before the first key picture are left out; the rest goes on without a hole.
    assert_eq!(times, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((writer.restamped(), writer.left_out()), (2, 2));
}

#[test]
fn a_range_becomes_one_plain_file_with_the_same_samples() {
    let bytes = file(25, 6);
    let (index, samples) = all_samples(&bytes);
    let mut layout = Layout::default().skipping(Ticks(6000));
    layout.add(&index, &samples, Ticks(-6000)).unwrap();
    layout.add(&index, &samples, index.duration()).unwrap();
    let (head, runs) = layout.progressive().unwrap();
    let mut plain = head.to_vec();
    for run in runs {
        plain.extend_from_slice(&bytes[run.at as usize..][..run.bytes as usize]);
    }

    let mut rest = &plain[..];
    Ftyp::decode(&mut rest).unwrap();
    let moov = Moov::decode(&mut rest).unwrap();
    assert!(moov.mvex.is_none());
    for trak in &moov.trak {
        let kind = if trak.tkhd.track_id == 1 { TrackKind::Video } else { TrackKind::Audio };
        let of: Vec<_> = samples.iter().filter(|sample| sample.kind == kind).collect();
        let of = [&of[..], &of[..]].concat();
        let table = &trak.mdia.minf.stbl;
        let StszSamples::Different { sizes } = &table.stsz.samples else { panic!("sizes") };
        assert_eq!(sizes.len(), of.len());
        let offsets = &table.co64.as_ref().unwrap().entries;
        let mut next = 0;
        for (chunk, &offset) in offsets.iter().enumerate() {
            let chunk = chunk as u32 + 1;
            let entry = table.stsc.entries.iter().rfind(|e| e.first_chunk <= chunk).unwrap();
            let mut at = offset as usize;
            for _ in 0..entry.samples_per_chunk {
                let sample = of[next];
                let size = sample.size as usize;
                assert_eq!(plain[at..at + size], bytes[sample.at as usize..][..size]);
                assert_eq!(sizes[next], sample.size);
                at += size;
                next += 1;
            }
        }
        assert_eq!(next, of.len());
        let edits = &trak.edts.as_ref().unwrap().elst.as_ref().unwrap().entries;
        let skipped = if kind.is_video() { 6000 } else { 3200 };
        assert_eq!(edits[0].media_time, Some(skipped));
        // What is skipped is not part of the length that players show.
        let per_second = u64::from(trak.mdia.mdhd.timescale);
        let shown = (trak.mdia.mdhd.duration - skipped) * 90_000 / per_second;
        assert_eq!((edits[0].segment_duration, trak.tkhd.duration), (shown, shown));
    }
}
