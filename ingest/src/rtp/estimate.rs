//! What the way to a viewer carries, from transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): each packet gets a number of the session,
//! the viewer tells when each came, and what queues or is lost says how much is too much.
//!
//! Delay counts as it stands, not as it grows: even the fastest packet of a report that comes late
//! against the fastest one of the last 10 to 20 s (the base delay of RFC 6817) has met a queue, and
//! no mere unrest of a busy machine. Then less is to go in than comes out. Loss counts as in
//! draft-ietf-rmcat-gcc-02 section 6. Otherwise the estimate grows. `docs/decisions/
//! bandwidth-estimate.md` says why this is ours.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{ExtSeq, Seq};
use super::twcc::Feedback;

/// Bits per second before anything is known: more than most streams have, since a way that carries
/// less says so with its first reports.
const START: f64 = 20_000_000.0;

/// Bits per second that are never gone below.
const LEAST: f64 = 100_000.0;

/// Bits per second that are never gone above.
const MOST: f64 = 100_000_000.0;

/// Packets that are remembered until they are reported on.
const DEPARTURES_MAX: usize = 2048;

/// So much above the base delay is a queue.
const QUEUE: Duration = Duration::from_millis(100);

/// A queue longer than this is drained no faster.
const QUEUE_DRAINED: Duration = Duration::from_millis(500);

/// For how long the fastest packet is what others are measured by: clocks drift.
const FASTEST_FOR: Duration = Duration::from_secs(10);

/// Share of loss up to which the estimate grows, and above which it falls. Wireless ways lose some
/// without being full.
const LOSS_LOW: f64 = 0.05;
const LOSS_HIGH: f64 = 0.10;

/// Packets over which loss is smoothed.
const LOSS_PACKETS: f64 = 40.0;

/// Growth in a second.
const GROWTH: f64 = 1.15;

/// Between two steps down: the first one has shown by then.
const FALL_EVERY: Duration = Duration::from_millis(200);

/// After a step down the estimate stays for so long.
const HOLD: Duration = Duration::from_millis(500);

/// Over how long arrivals are counted.
const WINDOW: Duration = Duration::from_millis(500);

/// What is known of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// Bits per second that it carries; `None` while the viewer has told nothing.
    pub bitrate: Option<u64>,
    /// Packets queue on it, or are lost in number, at this moment.
    pub strained: bool,
}

/// One viewer's way.
#[derive(Debug)]
pub struct Estimate {
    bitrate: f64,
    /// When the first packet left.
    origin: Option<Instant>,
    /// Packets that left, the one before `next` last.
    departures: VecDeque<Departure>,
    next: ExtSeq,
    /// When the last report came.
    told: Option<Instant>,
    fell: Option<Instant>,
    base: Base,
    queued: Duration,
    /// When reports came and the bytes that they tell of.
    arrived: VecDeque<(Instant, u64)>,
    /// Bits per second that arrive.
    arriving: Option<f64>,
    loss: f64,
}

/// One packet that left. There are many of these where there are many viewers.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// Microseconds since the first one, modulo 2^32: reports come within the hour.
    at: u32,
    bytes: u32,
}

/// The least time from departure to arrival, by two clocks, so that only differences count.
#[derive(Debug, Default)]
struct Base {
    /// Microseconds: of this stretch of time and of the one before.
    fastest: [Option<i64>; 2],
    since: Option<Instant>,
}

impl Default for Estimate {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimate {
    /// A way that nothing is known about.
    pub fn new() -> Self {
        Self {
            bitrate: START,
            origin: None,
            departures: VecDeque::new(),
            next: ExtSeq(1),
            told: None,
            fell: None,
            base: Base::default(),
            queued: Duration::ZERO,
            arrived: VecDeque::new(),
            arriving: None,
            loss: 0.0,
        }
    }

    /// The number for a packet of so many bytes that leaves now.
    pub fn depart(&mut self, now: Instant, bytes: usize) -> Seq {
        if self.departures.len() == DEPARTURES_MAX {
            self.departures.pop_front();
        }
        let at = self.since_first(now) as u32;
        self.departures.push_back(Departure { at, bytes: bytes as u32 });
        let number = self.next;
        self.next = number.plus(1);
        number.seq()
    }

    /// Microseconds since the first packet left.
    fn since_first(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        now.saturating_duration_since(origin).as_micros() as u64
    }

    /// Takes a report. Numbers that were not given out or were reported on before are passed over.
    pub fn on_feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        let (mut done, mut packets, mut lost, mut bytes) = (0, 0_u32, 0_u32, 0_u64);
        let mut least: Option<i64> = None;
        let told = self.since_first(now);
        for (seq, arrival) in feedback.clone() {
            let back = self.next.seq().since(seq);
            let Some(back) = usize::try_from(back).ok().filter(|&back| back > 0) else { continue };
            let Some(place) = self.departures.len().checked_sub(back) else { continue };
            let Departure { at, bytes: size } = self.departures[place];
            let departure = told as i64 - i64::from((told as u32).wrapping_sub(at));
            done = done.max(place + 1);
            packets += 1;
            match arrival {
                Some(arrival) => {
                    bytes += u64::from(size);
                    // By two clocks: plus what they differ by.
                    let took = arrival - departure;
                    least = Some(least.map_or(took, |least| least.min(took)));
                }
                None => lost += 1,
            }
        }
        if packets == 0 {
            return;
        }
        self.departures.drain(..done);
        if let Some(least) = least {
            self.queued = self.base.queue(now, least);
        }
        let share = f64::from(lost) / f64::from(packets);
        self.loss += (share - self.loss) * (f64::from(packets) / LOSS_PACKETS).min(1.0);
        self.count(now, bytes);
        self.step(now);
    }

    /// Counts what arrives.
    fn count(&mut self, now: Instant, bytes: u64) {
        self.arrived.push_back((now, bytes));
        let old = |at: Instant| now.saturating_duration_since(at) > WINDOW;
        while self.arrived.front().is_some_and(|(at, _)| old(*at)) {
            self.arrived.pop_front();
        }
        let Some((since, first)) = self.arrived.front().copied() else { return };
        let span = now.saturating_duration_since(since).as_secs_f64();
        if span > 0.0 {
            let bytes: u64 = self.arrived.iter().map(|(_, bytes)| bytes).sum();
            self.arriving = Some((bytes - first) as f64 * 8.0 / span);
        }
    }

    fn step(&mut self, now: Instant) {
        let passed = self.told.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.told = Some(now);
        let since_fall = self.fell.map(|at| now.saturating_duration_since(at));
        let may_fall = since_fall.is_none_or(|since| since >= FALL_EVERY);
        let queues = self.queued > QUEUE;
        match self.arriving {
            Some(arriving) if (queues || self.loss > LOSS_HIGH) && may_fall => {
                let bitrate = if queues {
                    let drained = self.queued.min(QUEUE_DRAINED).as_secs_f64();
                    self.bitrate.min(arriving * (1.0 - drained))
                } else {
                    self.bitrate.min(2.0 * arriving) * (1.0 - 0.5 * self.loss)
                };
                self.bitrate = bitrate.max(LEAST);
                self.fell = Some(now);
            }
            Some(_)
                if !queues
                    && self.loss < LOSS_LOW
                    && since_fall.is_none_or(|since| since >= HOLD) =>
            {
                let grown = self.bitrate * GROWTH.powf(passed.as_secs_f64().min(1.0));
                self.bitrate = grown.min(MOST);
            }
            _ => {}
        }
    }

    /// What is known of the way.
    pub fn way(&self) -> Way {
        Way {
            bitrate: self.told.map(|_| self.bitrate as u64),
            strained: self.queued > QUEUE || self.loss > LOSS_HIGH,
        }
    }
}

impl Base {
    /// How long the fastest packet of a report queued.
    fn queue(&mut self, now: Instant, least: i64) -> Duration {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= FASTEST_FOR) {
            self.since = Some(now);
            self.fastest = [None, self.fastest[0]];
        }
        self.fastest[0] = Some(self.fastest[0].map_or(least, |fastest| fastest.min(least)));
        let fastest = self.fastest.iter().flatten().min().copied().unwrap_or(least);
        Duration::from_micros(u64::try_from(least - fastest).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
