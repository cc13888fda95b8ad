//! A stream over a simulated link in virtual time: what is sent, queued and lost there, and what
//! the viewer's reports make of it. Everything is seeded and repeats.

use super::*;
use crate::rtp::rtcp::{Compound, Message, messages};
use crate::rtp::thin::{Supply, Thin};
use crate::rtp::twcc::Arrivals;

const FRAME: Duration = Duration::from_micros(33_333);
const ONE_WAY: Duration = Duration::from_millis(25);
/// What the link's queue holds before it drops.
const QUEUE_LIMIT: Duration = Duration::from_millis(800);

/// A link, a viewer at its end, and our sending half.
struct Story {
    start: Instant,
    frame: u32,
    capacity: f64,
    /// Parts of a hundred that are lost whatever the queue.
    loss: u32,
    chance: u32,
    free_at: Instant,
    arrivals: Arrivals,
    on_way: VecDeque<(Instant, Seq)>,
    reports: VecDeque<(Instant, Vec<u8>)>,
    estimate: Estimate,
    thin: Thin,
    sent_bits: f64,
    frames: u32,
    queued: Vec<Duration>,
}

impl Story {
    fn new(capacity: f64) -> Self {
        let start = Instant::now();
        Self {
            start,
            frame: 0,
            capacity,
            loss: 0,
            chance: 1,
            free_at: start,
            arrivals: Arrivals::default(),
            on_way: VecDeque::new(),
            reports: VecDeque::new(),
            estimate: Estimate::new(),
            thin: Thin::default(),
            sent_bits: 0.0,
            frames: 0,
            queued: Vec::new(),
        }
    }

    /// A seeded number below 100.
    fn percent(&mut self) -> u32 {
        self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.chance >> 16) % 100
    }

    /// Lets so many seconds pass and tells what happened in them.
    fn run(&mut self, seconds: u32) -> (f64, f64, Duration) {
        (self.sent_bits, self.frames) = (0.0, 0);
        self.queued.clear();
        let frames = seconds * 30;
        for _ in 0..frames {
            let now = self.start + FRAME * self.frame;
            self.deliver(now);
            let key = self.frame.is_multiple_of(60);
            let bytes = match key {
                true => 7_400,
                false => 1_500 + (self.percent() * 18) as usize,
            };
            if self.thin.admits(now, key, bytes, self.estimate.way()) {
                self.frames += 1;
                for _ in 0..bytes.div_ceil(1200) {
                    self.send(now, bytes / bytes.div_ceil(1200) + 40);
                }
            }
            self.frame += 1;
        }
        self.queued.sort();
        let p95 = self.queued.get(self.queued.len() * 95 / 100).copied().unwrap_or_default();
        (self.sent_bits / f64::from(seconds), f64::from(self.frames) / f64::from(frames), p95)
    }

    fn send(&mut self, now: Instant, bytes: usize) {
        let seq = self.estimate.depart(now, bytes);
        self.sent_bits += bytes as f64 * 8.0;
        let waits = self.free_at.saturating_duration_since(now);
        let lost = self.percent() < self.loss;
        if waits > QUEUE_LIMIT || lost {
            return;
        }
        self.queued.push(waits);
        let busy = Duration::from_secs_f64(bytes as f64 * 8.0 / self.capacity);
        self.free_at = self.free_at.max(now) + busy;
        self.on_way.push_back((self.free_at + ONE_WAY, seq));
    }

    /// What happens until `now` at the viewer and on the way back.
    fn deliver(&mut self, now: Instant) {
        while let Some((at, seq)) = self.on_way.pop_front_if(|(at, _)| *at <= now) {
            self.arrivals.on_packet(at, seq);
        }
        let mut buffer = Vec::new();
        while self.arrivals.poll(now, 1, 2, &mut Compound::new(&mut buffer)) {
            self.reports.push_back((now + ONE_WAY, std::mem::take(&mut buffer)));
        }
        while let Some((at, report)) = self.reports.pop_front_if(|(at, _)| *at <= now) {
            for message in messages(&report).flatten() {
                if let Message::TransportFeedback { feedback, .. } = message {
                    self.estimate.on_feedback(at, &feedback);
                }
            }
        }
    }
}

#[test]
fn a_way_that_carries_the_stream_gets_every_frame() {
    let mut story = Story::new(3e6);
    let (_, frames, queued) = story.run(30);
    assert_eq!(frames, 1.0, "{:?}", story.estimate.way().bitrate);
    assert!(queued < Duration::from_millis(40), "{queued:?}");
    assert_eq!(story.thin.supply(), Supply::Whole);
}

#[test]
fn a_way_that_shrinks_is_followed_down_and_up_without_a_queue_and_without_collapse() {
    let mut story = Story::new(2e6);
    story.run(20);
    story.capacity = 300e3;
    story.run(5);
    let (bitrate, frames, queued) = story.run(20);
    assert_eq!(story.thin.supply(), Supply::Thinned);
    assert!((40e3..330e3).contains(&bitrate), "sent {bitrate}");
    assert!((0.04..0.7).contains(&frames), "{frames} of the frames");
    assert!(queued < Duration::from_millis(400), "{queued:?}");
    let estimate = story.estimate.way().bitrate.unwrap() as f64;
    assert!((90e3..450e3).contains(&estimate), "estimate {estimate}");
    story.capacity = 2e6;
    story.run(25);
    let (_, frames, queued) = story.run(15);
    assert_eq!(frames, 1.0, "all frames again, {:?}", story.estimate.way().bitrate);
    assert!(queued < Duration::from_millis(60), "{queued:?}");
    assert_eq!(story.thin.supply(), Supply::Whole);
}

#[test]
fn loss_that_is_no_queue_thins_the_stream_only_when_it_is_heavy() {
    let mut story = Story::new(5e6);
    story.loss = 1;
    let (_, frames, _) = story.run(30);
    assert_eq!(frames, 1.0, "{:?}", story.estimate.way().bitrate);
    story.loss = 30;
    story.run(20);
    let (bitrate, ..) = story.run(10);
    assert!((30e3..450e3).contains(&bitrate), "sent {bitrate}");
    assert!(story.estimate.way().strained);
    story.loss = 0;
    story.run(50);
    let (_, frames, _) = story.run(10);
    assert_eq!(frames, 1.0, "{:?}", story.estimate.way().bitrate);
}

#[test]
fn reports_about_packets_that_never_left_or_were_told_of_before_say_nothing() {
    let now = Instant::now();
    let mut estimate = Estimate::new();
    let mut arrivals = Arrivals::default();
    for number in [40_000, 1, 2, 3] {
        arrivals.on_packet(now, Seq(number));
    }
    let mut buffer = Vec::new();
    let later = now + Duration::from_secs(1);
    while arrivals.poll(later, 1, 2, &mut Compound::new(&mut buffer)) {}
    let tell = |estimate: &mut Estimate| {
        for message in messages(&buffer).flatten() {
            if let Message::TransportFeedback { feedback, .. } = message {
                estimate.on_feedback(later, &feedback);
            }
        }
    };
    tell(&mut estimate);
    assert_eq!(estimate.way().bitrate, None);
    for _ in 0..3 {
        estimate.depart(now, 1200);
    }
    tell(&mut estimate);
    let told = estimate.way().bitrate;
    assert!(told.is_some());
    tell(&mut estimate);
    assert_eq!(estimate.way().bitrate, told);
    assert!(estimate.departures.is_empty());
}
