//! Names from RTP times before, at and after the first sender reports.

use std::time::Duration;

use super::*;

/// A publisher whose clocks began at odd values, with frames of 33 ms and sound of 20 ms.
struct Publisher {
    start: Instant,
    wall: Ntp,
    /// How much longer the picture is on its way than the sound.
    video_delay: Duration,
}

impl Publisher {
    fn time(kind: TrackKind, ms: u64) -> RtpTime {
        match kind {
            TrackKind::Video => RtpTime((ms as u32 * 90).wrapping_add(u32::MAX - 100_000)),
            TrackKind::Audio => RtpTime((ms as u32 * 48).wrapping_add(1_234_567)),
        }
    }

    /// Runs for so long and gives the names of frames taken at `ms`: (kind, ms, name).
    fn run(&self, clock: &mut SourceClock, from_ms: u64, to_ms: u64) -> Vec<(TrackKind, u64, Pts)> {
        let mut names = Vec::new();
        for ms in from_ms..to_ms {
            let at = self.start + Duration::from_millis(ms);
            if ms % 20 == 0 {
                let time = Self::time(TrackKind::Audio, ms);
                names.push((TrackKind::Audio, ms, clock.pts(TrackKind::Audio, time, at)));
            }
            if ms % 33 == 0 {
                let time = Self::time(TrackKind::Video, ms);
                let at = at + self.video_delay;
                names.push((TrackKind::Video, ms, clock.pts(TrackKind::Video, time, at)));
            }
        }
        names
    }

    fn report(&self, clock: &mut SourceClock, ms: u64) {
        let wall = self.wall.plus(Duration::from_millis(ms));
        for kind in [TrackKind::Video, TrackKind::Audio] {
            clock.sender_report(kind, wall, Self::time(kind, ms));
        }
    }
}

fn publisher(video_delay: u64) -> Publisher {
    Publisher {
        start: Instant::now(),
        wall: Ntp(0xe000_0000_1234_5678),
        video_delay: Duration::from_millis(video_delay),
    }
}

/// How far the picture's names are off the sound's, in ticks, at the end of a run.
fn skew(names: &[(TrackKind, u64, Pts)]) -> i64 {
    let offset = |kind| {
        let last = names.iter().rev().find(|name| name.0 == kind).unwrap();
        last.2.0 - last.1 as i64 * 90
    };
    offset(TrackKind::Video) - offset(TrackKind::Audio)
}

fn assert_smooth(names: &[(TrackKind, u64, Pts)]) {
    for kind in [TrackKind::Video, TrackKind::Audio] {
        let track: Vec<_> = names.iter().filter(|name| name.0 == kind).collect();
        for pair in track.windows(2) {
            let named = (pair[1].2 - pair[0].2).0;
            let real = (pair[1].1 - pair[0].1) as i64 * 90;
            assert!(named > 0);
            assert!((named - real).abs() <= 3 * 90, "{named} for {real} at {} ms", pair[1].1);
        }
    }
}

#[test]
fn reports_bring_picture_and_sound_together_without_a_jump() {
    let publisher = publisher(120);
    let mut clock = SourceClock::new(48_000);
    let mut names = publisher.run(&mut clock, 0, 1000);
    assert_eq!(skew(&names), 120 * 90, "by arrival at first");
    publisher.report(&mut clock, 1000);
    names.extend(publisher.run(&mut clock, 1000, 4000));
    assert!(skew(&names).abs() <= 2, "{}", skew(&names));
    publisher.report(&mut clock, 4000);
    names.extend(publisher.run(&mut clock, 4000, 6000));
    assert!(skew(&names).abs() <= 2);
    assert_smooth(&names);
}

#[test]
fn reports_that_contradict_arrival_are_refused() {
    let publisher = publisher(0);
    let mut clock = SourceClock::new(48_000);
    let mut names = publisher.run(&mut clock, 0, 1000);
    let wall = publisher.wall;
    clock.sender_report(TrackKind::Audio, wall, Publisher::time(TrackKind::Audio, 1000));
    let video = Publisher::time(TrackKind::Video, 1000);
    clock.sender_report(TrackKind::Video, Ntp(wall.0 ^ 1 << 63), video);
    clock.sender_report(TrackKind::Video, wall.plus(Duration::from_secs(9)), video);
    assert_eq!(clock.refused_reports(), 2);
    names.extend(publisher.run(&mut clock, 1000, 3000));
    assert_eq!(skew(&names), 0);
    assert_smooth(&names);
}

#[test]
fn restarted_timestamps_go_on_at_arrival() {
    let publisher = publisher(0);
    let mut clock = SourceClock::new(48_000);
    publisher.run(&mut clock, 0, 1000);
    let at = publisher.start + Duration::from_millis(1000);
    for jump in [0x4000_0000, 77, 0x9000_0000_u32] {
        let pts = clock.pts(TrackKind::Video, RtpTime(jump), at);
        assert!((pts.0 - 90_000).abs() < 3000, "{pts}");
    }
}

#[test]
fn names_rise_over_the_wrap_of_the_timestamp() {
    let start = Instant::now();
    let mut clock = SourceClock::new(48_000);
    let mut last = Pts(-1);
    for step in 0..400_u32 {
        let time = RtpTime((u32::MAX - 300_000).wrapping_add(step * 3000));
        let at = start + Duration::from_micros(33_333) * step;
        let pts = clock.pts(TrackKind::Video, time, at);
        assert_eq!(pts.0, i64::from(step) * 3000);
        assert!(pts > last);
        last = pts;
    }
}
