//! What the way to a viewer carries, from transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): each packet gets a number of the session,
//! the viewer tells when each came, and what queues or is lost says how much is too much.
//!
//! The estimator is `rtc-interceptor`'s port of Google's congestion control
//! (draft-ietf-rmcat-gcc-02), delay-based and loss-based, which takes all time from outside;
//! `docs/decisions/bandwidth-estimate.md` says why. Here is the memory of departures that it needs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc_interceptor::{BandwidthEstimator, Gcc, PacketReport, RateCalculator};

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

/// The viewer's clock begins anywhere, also before its own zero.
const ARRIVAL_ZERO_US: i64 = 1 << 50;

/// So much later than the fastest one before, even the fastest packet of a report: a queue, and no
/// mere unrest of a busy machine.
const QUEUE: Duration = Duration::from_millis(100);

/// Loss above which a way is taken for overloaded; wireless ones lose some without that.
const LOSS: f64 = 0.05;

/// For how long the fastest packet is what others are measured by: clocks drift.
const FASTEST_FOR: Duration = Duration::from_secs(10);

/// A queue longer than this is drained no faster.
const QUEUE_DRAINED: Duration = Duration::from_millis(500);

/// What is known of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// Bits per second that it carries; `None` while the viewer has told nothing.
    pub bitrate: Option<u64>,
    /// Packets queue on it, or are lost in number, at this moment.
    pub strained: bool,
}

/// One viewer's way.
pub struct Estimate {
    gcc: Gcc,
    /// When each packet left and its bytes, the one before `next` last.
    departures: VecDeque<(Instant, u32)>,
    next: ExtSeq,
    told: bool,
    /// From departure to arrival, of which only differences mean something, in microseconds: the
    /// least of this stretch of time and of the one before, and when this one began.
    fastest: [Option<i64>; 2],
    since: Option<Instant>,
    queued: Duration,
    begun: Option<Instant>,
    arrived: RateCalculator,
    /// Bits per second that arrive.
    arriving: Option<f64>,
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
            gcc: Gcc::new(START, LEAST, MOST),
            departures: VecDeque::new(),
            next: ExtSeq(1),
            told: false,
            fastest: [None; 2],
            since: None,
            queued: Duration::ZERO,
            begun: None,
            arrived: RateCalculator::default(),
            arriving: None,
        }
    }

    /// The number for a packet of so many bytes that leaves now.
    pub fn depart(&mut self, now: Instant, bytes: usize) -> Seq {
        if self.departures.len() == DEPARTURES_MAX {
            self.departures.pop_front();
        }
        self.departures.push_back((now, bytes as u32));
        let number = self.next;
        self.next = number.plus(1);
        number.seq()
    }

    /// Takes a report. Numbers that were not given out or were reported on before are passed over.
    pub fn on_feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        let mut reports = Vec::new();
        let mut done = 0;
        let mut least = None;
        for (seq, arrival) in feedback.clone() {
            let Some(back) = u64::try_from(self.next.seq().since(seq)).ok().filter(|&b| b > 0)
            else {
                continue;
            };
            let Some(place) = self.departures.len().checked_sub(back as usize) else { continue };
            let (departure, bytes) = self.departures[place];
            done = done.max(place + 1);
            if let Some(arrival) = arrival {
                let begun = *self.begun.get_or_insert(departure);
                let left = departure.saturating_duration_since(begun).as_micros() as i64;
                self.arrived.add(now, bytes as usize);
                let took = arrival - left;
                least = Some(least.map_or(took, |least: i64| least.min(took)));
            }
            let arrival = arrival.and_then(|us| u64::try_from(us + ARRIVAL_ZERO_US).ok());
            reports.push(PacketReport {
                ssrc: 0,
                id: self.next.0 - back,
                rtp_sequence_number: seq.0,
                is_twcc: true,
                twcc_sequence_number: seq.0,
                size: bytes as usize,
                arrived: arrival.is_some(),
                departure,
                arrival: arrival.map(Duration::from_micros),
                ecn: Default::default(),
            });
        }
        self.departures.drain(..done);
        self.queue(now, least);
        if !reports.is_empty() {
            self.told = true;
            self.arriving = self.arrived.rate_bits_per_second(now).or(self.arriving);
            self.gcc.on_reports(now, &reports);
        }
    }

    /// Notes how long the fastest packet of a report took.
    fn queue(&mut self, now: Instant, least: Option<i64>) {
        let Some(least) = least else { return };
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= FASTEST_FOR) {
            self.since = Some(now);
            self.fastest = [None, self.fastest[0]];
        }
        self.fastest[0] = Some(self.fastest[0].map_or(least, |fastest| fastest.min(least)));
        let fastest = self.fastest.iter().flatten().min().copied().unwrap_or(least);
        self.queued = Duration::from_micros(u64::try_from(least - fastest).unwrap_or(0));
    }

    /// What is known of the way.
    pub fn way(&self) -> Way {
        let lossy = self.loss().is_some_and(|loss| loss > LOSS);
        let queues = self.queued > QUEUE;
        let mut bitrate = self.gcc.target_bitrate();
        if let (true, Some(arriving)) = (queues, self.arriving) {
            // The estimator hears a queue only while it grows fast. One that is there gets shorter
            // when less goes in than comes out.
            let drained = self.queued.min(QUEUE_DRAINED).as_secs_f64();
            bitrate = bitrate.min(arriving * (1.0 - drained)).max(LEAST);
        }
        Way {
            bitrate: self.told.then_some(bitrate as u64),
            strained: self.told && (lossy || queues),
        }
    }

    /// The share of packets that are lost, smoothed, once told.
    pub fn loss(&self) -> Option<f64> {
        self.gcc.stats().packet_loss
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
