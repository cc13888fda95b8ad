//! Streams through segmenter and playlist, and the rules of RFC 8216bis on what comes out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use pipeline::packet::VideoTrack;
use pipeline::{Codec, Packet, Pts, Size, Ticks, TrackKind, Tracks};

use super::Config;
use super::playlist::{self, SESSION, Source, Wanted};
use super::segmenter::{Format, Segmenter};
use super::window::Window;
use crate::paced::Piece;
use crate::segment::{Form, Open};

const SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0, 0, 0, 1, 0x68, 0xce,
    0x3c, 0x80,
];

fn tracks(width: u32) -> Tracks {
    let parameter_sets = Bytes::from_static(SETS);
    let video = VideoTrack { codec: Codec::H264, size: Size::new(width, 360), parameter_sets };
    Tracks { video: Some(video), audio: None }
}

fn picture(dts: i64, key: bool, bytes: usize) -> Packet {
    let mut data = if key { SETS.to_vec() } else { Vec::new() };
    data.extend_from_slice(&[0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x9a]);
    data.resize(data.len() + bytes, 0x55);
    let (pts, arrived) = (Pts(dts), Instant::now());
    Packet { kind: TrackKind::Video, pts, dts: pts, key, data: data.into(), arrived }
}

struct Story {
    segmenter: Segmenter,
    window: Window,
    format: Format,
    next: i64,
}

impl Story {
    fn new(format: Format, config: &Config) -> Self {
        let window = Window::new(config.limits());
        let mut story = Self { segmenter: Segmenter::new(format), window, format, next: 0 };
        story.segmenter.set_tracks(&tracks(640), &mut story.window);
        story
    }

    /// `count` pictures `step` ticks apart, each `group`th a key picture; after each the playlist is
    /// held against the rules.
    fn run(&mut self, count: i64, step: i64, group: i64, bytes: usize) {
        for n in 0..count {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_micros(self.next as u64 * 100 / 9);
            let packet = picture(self.next, n % group == 0, bytes);
            self.segmenter.push(&packet, wall, &mut self.window);
            self.next += step;
            if self.window.is_ready() {
                check(&self.playlist(true, false));
            }
        }
    }

    fn playlist(&self, low_latency: bool, skip: bool) -> String {
        self.playlist_when(Source::Live, low_latency, skip)
    }

    fn playlist_when(&self, source: Source, low_latency: bool, skip: bool) -> String {
        let wanted = Wanted { format: self.format, low_latency, skip, source };
        playlist::media(&self.window, "0a", wanted).replace(SESSION, "?s")
    }
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split([':', ',']).find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// The rules that a player relies on. Answers the durations of the listed segments by number.
fn check(text: &str) -> BTreeMap<u64, f64> {
    let number = |tag: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(tag));
        line.unwrap_or_else(|| panic!("{tag} is missing in {text}")).parse().unwrap()
    };
    assert!(text.starts_with("#EXTM3U\n"));
    let target = number("#EXT-X-TARGETDURATION:");
    let part_target = text.lines().find_map(|line| value(line, "PART-TARGET"));
    let part_target: Option<f64> = part_target.map(|text| text.parse().unwrap());
    if let Some(part_target) = part_target {
        let hold = text.lines().find_map(|line| value(line, "PART-HOLD-BACK")).unwrap();
        assert!(hold.parse::<f64>().unwrap() >= part_target * 2.0);
        let skip = text.lines().find_map(|line| value(line, "CAN-SKIP-UNTIL")).unwrap();
        assert!(skip.parse::<f64>().unwrap() >= target * 6.0);
    }
    let skipped = text.lines().find_map(|line| value(line, "SKIPPED-SEGMENTS"));
    let mut sequence = number("#EXT-X-MEDIA-SEQUENCE:") as u64
        + skipped.map_or(0, |count| count.parse::<u64>().unwrap());
    let mut durations = BTreeMap::new();
    let mut parts: Vec<f64> = Vec::new();
    let mut part_numbers: Vec<u64> = Vec::new();
    let mut extinf = None;
    for line in text.lines() {
        if line.starts_with("#EXT-X-PART:") {
            let duration: f64 = value(line, "DURATION").unwrap().parse().unwrap();
            assert!(duration <= part_target.unwrap() + 1e-9, "{line} is over its target: {text}");
            let name = value(line, "URI").unwrap();
            let name = name.trim_matches('"').strip_prefix("0a_part").unwrap();
            part_numbers.push(name.split('.').next().unwrap().parse().unwrap());
            parts.push(duration);
        } else if let Some(rest) = line.strip_prefix("#EXTINF:") {
            extinf = Some(rest.trim_end_matches(',').parse::<f64>().unwrap());
        } else if !line.starts_with('#') {
            let duration: f64 = extinf.take().unwrap();
            assert!(duration.round() <= target, "{line} is over {target}: {text}");
            assert!(line.starts_with(&format!("0a_seg{sequence}.")), "{line}");
            if !parts.is_empty() {
                let sum: f64 = parts.drain(..).sum();
                assert!((sum - duration).abs() < 0.001, "parts of {sum}, segment of {duration}");
            }
            durations.insert(sequence, duration);
            sequence += 1;
        }
    }
    assert!(part_numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{text}");
    if let (Some(hint), Some(last)) =
        (text.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT")), part_numbers.last())
    {
        assert!(hint.contains(&format!("0a_part{}.mp4", last + 1)), "{text}");
    }
    durations
}

#[test]
fn playlists_keep_the_rules_at_any_rate_of_pictures() {
    // 1 to 120 pictures a second; 24 and 29.97 do not fill 200 ms.
    for step in [750, 1500, 3000, 3003, 3600, 3750, 18_000, 90_000] {
        let mut story = Story::new(Format::Fmp4, &Config::default());
        let group = (180_000 / step).max(1);
        story.run(group * 12, step, group, 100);
        let durations = check(&story.playlist(true, false));
        assert_eq!(durations.len(), 7, "step {step}");
        let expected = (group * step) as f64 / 90_000.0;
        assert!(durations.values().all(|d| (d - expected).abs() < 0.001), "{durations:?}");
        assert_eq!(check(&story.playlist(false, false)), durations);
    }
}

#[test]
fn a_delta_update_leaves_out_only_what_is_old() {
    let mut story = Story::new(Format::Fmp4, &Config { segments: 12, ..Config::default() });
    story.run(900, 3000, 60, 100);
    let whole = check(&story.playlist(true, false));
    let text = story.playlist(true, true);
    let delta = check(&text);
    assert!(delta.len() < whole.len() && delta.len() >= 6, "{text}");
    assert!(delta.iter().all(|(number, duration)| whole[number] == *duration));
    assert!(!text.contains("EXT-X-MAP"), "the init segment is known: {text}");
}

#[test]
fn other_tracks_begin_a_discontinuity_with_an_init_segment_of_their_own() {
    let mut story = Story::new(Format::Fmp4, &Config::default());
    story.run(180, 3000, 30, 100);
    let before = check(&story.playlist(true, false));
    story.segmenter.set_tracks(&tracks(320), &mut story.window);
    story.run(60, 3000, 30, 100);
    let text = story.playlist(true, false);
    let after = check(&text);
    assert!(after.keys().last() > before.keys().last());
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(text.contains("0a_init1.mp4") && text.contains("0a_init2.mp4"), "{text}");
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:0"), "{text}");
    // When it has left the playlist it is counted, and the old init segment is gone.
    story.run(600, 3000, 30, 100);
    let text = story.playlist(true, false);
    assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1"), "{text}");
    assert!(story.window.init(1).is_none() && story.window.init(2).is_some());
}

#[test]
fn a_stream_without_key_pictures_is_cut_at_the_limit_of_bytes() {
    let config = Config { segment_bytes: 50_000, muxer_bytes: 200_000, ..Config::default() };
    for format in [Format::Fmp4, Format::Ts] {
        let mut story = Story::new(format, &config);
        story.run(2000, 3000, i64::MAX, 1000);
        assert!(story.window.listed().count() >= 3);
        assert!(story.window.listed().all(|segment| segment.bytes <= 60_000));
        assert!(story.window.held_bytes() <= 260_000, "{}", story.window.held_bytes());
    }
}

#[test]
fn transport_streams_keep_the_rules_and_a_jump_of_the_clock_is_a_discontinuity() {
    let mut story = Story::new(Format::Ts, &Config::default());
    story.run(180, 3000, 30, 100);
    story.next += Ticks::SECOND.0 * 3600;
    story.run(60, 3000, 30, 100);
    let text = story.playlist(false, false);
    let durations = check(&text);
    assert!(durations.values().all(|duration| *duration < 1.1), "{durations:?}");
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(!text.contains("EXT-X-MAP") && text.contains(".ts?s"), "{text}");
}

#[test]
fn a_day_of_segments_put_together_is_every_picture_once_in_its_time() {
    // Past 26.5 hours, where the clock of MPEG-TS begins anew.
    let (step, count) = (45_000, 28 * 3600 * 2);
    for (format, form) in [(Format::Fmp4, Form::Fragments), (Format::Ts, Form::Ts)] {
        let mut story = Story::new(format, &Config::default());
        let (mut reader, mut pieces, mut taken) = (Open::default(), Vec::new(), 0);
        let (mut pictures, mut before) = (0_u64, None);
        for n in 0..count {
            let mark = mark(n as u64);
            let mut packet = picture(n * step, n % 2 == 0, 0);
            packet.data = [&packet.data[..], &mark].concat().into();
            story.segmenter.push(&packet, SystemTime::UNIX_EPOCH, &mut story.window);
            let Some(segment) = story.window.segment(taken) else { continue };
            if taken == 0 && format == Format::Fmp4 {
                reader.init(&story.window.init(segment.init).unwrap()).unwrap();
            }
            let bytes = segment.data().concat().into();
            reader.segment(form, bytes, &mut pieces).unwrap();
            taken += 1;
            for piece in pieces.drain(..) {
                let Piece::Packet(packet) = piece else { continue };
                assert!(packet.data.ends_with(&self::mark(pictures)), "{form:?} {pictures}");
                let since =
                    before.replace(packet.dts).map_or(step, |before| packet.dts.0 - before.0);
                assert_eq!(since, step, "{form:?}: a gap or an overlap at picture {pictures}");
                pictures += 1;
            }
        }
        // The last segment is still open.
        assert!(pictures + 4 >= count as u64, "{form:?}: {pictures} of {count}");
    }
}

/// A picture's number in bytes that look like no start code.
fn mark(number: u64) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (number >> shift) as u8 | 0x80)
}

#[test]
fn only_a_publisher_that_is_there_promises_and_only_one_that_is_given_up_ends() {
    let mut story = Story::new(Format::Fmp4, &Config::default());
    story.run(300, 3000, 60, 400);
    let has = |source, tag| story.playlist_when(source, true, false).contains(tag);
    for (source, promises, ends) in
        [(Source::Live, true, false), (Source::Away, false, false), (Source::Over, false, true)]
    {
        assert_eq!(has(source, "#EXT-X-PRELOAD-HINT"), promises, "{source:?}");
        assert_eq!(has(source, "#EXT-X-ENDLIST\n"), ends, "{source:?}");
    }
}

#[test]
fn dates_are_written_as_rfc_3339() {
    let at = |seconds| playlist::date(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(951_782_400_123), "2000-02-29T00:00:00.123Z");
    assert_eq!(at(1_795_219_199_999), "2026-11-20T23:59:59.999Z");
}
