//! New viewers in virtual time: a player that decodes and shows as browsers do, beside one that
//! was there from the start.

use bytes::Bytes;
use pipeline::{Packet, Pts, TrackKind};

use super::*;
use crate::rtp::clock::Ntp;
use crate::rtp::mapping::Mapping;
use crate::rtp::packet::{RtpTime, Seq};
use crate::rtp::ring::{Ring, RingLimits};

const LATENCY: Duration = Duration::from_millis(15);
const LINK_BITS: f64 = 40_000_000.0;
const DECODE: Duration = Duration::from_micros(2500);

/// A player: a link of limited rate, a decoder that takes its time, and pictures shown at the
/// timestamp's place on a timeline fitted to the quickest arrivals, with a jitter buffer of 10 ms.
struct Player {
    start: Instant,
    link_free: Instant,
    decoder_free: Instant,
    /// Smallest arrival minus timestamp so far, in seconds.
    offset: f64,
    /// Shown when and which.
    shown: Vec<(Instant, Pts)>,
}

impl Player {
    fn new(start: Instant) -> Self {
        let [link_free, decoder_free] = [start; 2];
        Self { start, link_free, decoder_free, offset: f64::INFINITY, shown: Vec::new() }
    }

    fn receive(&mut self, now: Instant, frame: &FramePackets, time: RtpTime) {
        let wire =
            Duration::from_secs_f64((frame.bytes() + frame.len() * 50) as f64 * 8.0 / LINK_BITS);
        self.link_free = self.link_free.max(now) + wire;
        let arrived = self.link_free + LATENCY;
        let media = f64::from(time.0) / 90_000.0;
        self.offset = self.offset.min((arrived - self.start).as_secs_f64() - media);
        self.decoder_free = self.decoder_free.max(arrived) + DECODE;
        let due = self.start + Duration::from_secs_f64(media + self.offset + 0.010);
        self.shown.push((self.decoder_free.max(due), frame.pts));
    }

    /// The newest picture on the screen at a moment.
    fn on_screen(&self, at: Instant) -> Option<Pts> {
        self.shown.iter().filter(|(shown, _)| *shown <= at).map(|(_, pts)| *pts).max()
    }
}

/// A stream of 30 pictures a second, its key pictures eight times as large as the others, with
/// arrival up to 8 ms late.
fn frame(start: Instant, number: u64, group: u64, bitrate: usize) -> FramePackets {
    let key = number.is_multiple_of(group);
    let bytes = bitrate / 8 / 30 * if key { 8 } else { 1 };
    let pts = Pts(777_000 + number as i64 * 3000);
    let late = Duration::from_micros(number * 7919 % 8000);
    let arrived = start + Duration::from_micros(33_333) * number as u32 + late;
    let data = Bytes::from(vec![0; bytes]);
    let packet = Packet { kind: TrackKind::Video, pts, dts: pts, key, data, arrived };
    let ends = (1..bytes as u32 / 1100).map(|n| n * 1100).chain([bytes as u32]).collect();
    FramePackets::new(&packet, packet.data.clone(), ends)
}

struct Outcome {
    first_picture: Duration,
    /// Behind the early viewer, one and two seconds after joining.
    behind: [Duration; 2],
    sent: usize,
    skipped: u64,
    /// Packets in the busiest 10 ms of the run after the first picture.
    burst: usize,
}

/// A viewer joins just before frame `join_at`; key frames come each `group` frames.
fn join(join_at: u64, group: u64, bitrate: usize, fresh_key_at: Option<u64>) -> Outcome {
    let start = Instant::now();
    let mut ring = Ring::new(RingLimits::default());
    let mut early = Player::new(start);
    let mut early_clock = ViewerClock::new(start, Ntp(0));
    let joined = frame(start, join_at, group, bitrate).arrived - Duration::from_micros(100);
    let mut late = Player::new(joined);
    let mut clock = ViewerClock::new(joined, Ntp(0));
    let mut mapping = Mapping::new(Seq(9), RtpTime(0), 90_000, 300);
    let mut run: Option<Join> = None;
    let mut sent: Vec<(Instant, usize, RtpTime)> = Vec::new();
    for number in 0..join_at + 70 {
        let mut frame = frame(start, number, group, bitrate);
        if fresh_key_at == Some(number) {
            frame.key = true;
        }
        let now = frame.arrived;
        if number == join_at {
            run = Some(Join::new(ring.group().cloned(), JoinLimits::default(), &mut clock));
        }
        // What the late viewer's timer does until this frame comes.
        while let Some(run) = &mut run {
            let moment = run.next_timeout().unwrap_or(joined);
            if run.is_live() || moment > now {
                break;
            }
            // The timer is a millisecond late.
            let moment = if moment == joined { joined } else { moment + Duration::from_millis(1) };
            let Some(release) = run.poll(moment, &mut clock) else { break };
            let placed = mapping.place(&release.frame, release.at);
            late.receive(moment, &release.frame, placed.time);
            sent.push((moment, release.frame.len(), placed.time));
        }
        let frame = ring.push(frame);
        let at = early_clock.place(frame.pts, frame.arrived);
        early.receive(now, &frame, RtpTime(at.0 as u32));
        if let Some(run) = &mut run {
            if run.is_live() {
                let at = clock.place(frame.pts, frame.arrived);
                let placed = mapping.place(&frame, at);
                late.receive(now, &frame, placed.time);
                sent.push((now, frame.len(), placed.time));
            } else {
                run.push(frame);
            }
        }
    }
    for pair in sent.windows(2) {
        assert!(pair[1].2.since(pair[0].2) > 0, "timestamps rise");
    }
    for (moment, _, time) in &sent {
        let due = clock.ticks(*moment).0;
        let lag = due - i64::from(time.0);
        assert!(
            (-90 * 8..=90 * 30).contains(&lag),
            "a sender report places each frame at its sending: {lag}"
        );
    }
    let behind = [1, 2].map(|seconds| {
        let at = joined + Duration::from_secs(seconds);
        let (early, late) = (early.on_screen(at).unwrap(), late.on_screen(at).unwrap());
        (early - late).to_duration().unwrap_or(Duration::ZERO)
    });
    // Within the run; a live key picture is as large as it is.
    let after_first = &sent[1..sent.len().min(150)];
    let in_window = |from: &Instant| {
        let to = *from + Duration::from_millis(10);
        after_first.iter().filter(|s| s.0 >= *from && s.0 < to).map(|s| s.1).sum()
    };
    Outcome {
        first_picture: late.shown.iter().map(|shown| shown.0).min().unwrap() - joined,
        behind,
        sent: sent.len(),
        skipped: run.unwrap().skipped(),
        burst: after_first.iter().map(|s| in_window(&s.0)).max().unwrap(),
    }
}

#[test]
fn a_late_viewer_sees_a_picture_at_once_and_is_at_the_edge_within_two_seconds() {
    for (group, name) in [(60, "2 s"), (240, "8 s")] {
        // Joins spread over the group, its very end among them.
        for place in [1, 2, 7, 20, 31, 45, 59, 60, 119, 180, 239, 240] {
            if place > group {
                continue;
            }
            for bitrate in [600_000, 2_500_000] {
                let outcome = join(group + place, group, bitrate, None);
                let story = format!("group of {name}, {place} frames cached, {bitrate} bit/s");
                assert!(
                    outcome.first_picture < Duration::from_millis(100),
                    "{story}: {:?}",
                    outcome.first_picture
                );
                assert!(
                    outcome.behind[1] <= Duration::from_millis(50),
                    "{story}: {:?}",
                    outcome.behind
                );
            }
        }
    }
}

#[test]
fn the_group_is_not_sent_in_one_burst() {
    let outcome = join(240 + 200, 240, 2_500_000, None);
    assert!(outcome.sent > 240, "every frame is needed for decoding");
    // 2.5 Mbit/s are 3 packets in 10 ms; the run may take a dozen times that.
    assert!(outcome.burst <= 60, "{} packets within 10 ms", outcome.burst);
}

#[test]
fn a_fresh_key_picture_ends_the_run() {
    let outcome = join(240 + 239, 240, 600_000, Some(240 + 239 + 4));
    assert!(outcome.skipped > 100, "{}", outcome.skipped);
    assert!(outcome.behind[0] <= Duration::from_millis(50), "{:?}", outcome.behind);
}

#[test]
fn advice_prefers_a_fresh_key_picture_only_where_the_run_is_long_and_one_can_be_had() {
    let start = Instant::now();
    let mut ring = Ring::new(RingLimits::default());
    for number in 0..240 {
        ring.push(frame(start, number, 240, 2_500_000));
    }
    let mut clock = ViewerClock::new(start + Duration::from_secs(8), Ntp(0));
    let mut advice =
        |limits, answers| Join::new(ring.group().cloned(), limits, &mut clock).advice(answers);
    let Advice::CatchUp(time) = advice(JoinLimits::default(), true) else { panic!("a fresh key") };
    assert!(time > Duration::from_millis(1000) && time < Duration::from_millis(1200), "{time:?}");
    let narrow = JoinLimits { bitrate_max: 8_000_000, ..JoinLimits::default() };
    assert_eq!(advice(narrow, true), Advice::FreshKey);
    let Advice::CatchUp(time) = advice(narrow, false) else { panic!("there is no fresh key") };
    assert!(time > Duration::from_secs(3), "{time:?}");
}

#[test]
fn without_a_cached_group_the_viewer_is_live_at_once() {
    let now = Instant::now();
    let mut clock = ViewerClock::new(now, Ntp(0));
    let mut run = Join::new([], JoinLimits::default(), &mut clock);
    assert!(run.is_live());
    assert!(run.poll(now, &mut clock).is_none());
    assert_eq!(run.next_timeout(), None);
}
