//! Which orchestrator does the work: a pure ranking of candidates in visible stages.
//!
//! Price, then capability, then suspension turn candidates away, each with a reason that the
//! console shows; what is left is ordered by a score of measured latency, load and price. Nothing
//! here asks anybody anything: facts come in, an order comes out.

use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, Instant};

use payments::price::PricePerPixel;
use serde::Serialize;

use crate::config::Price;

/// How long an orchestrator that failed is left alone; it doubles with each failure in a row.
const SUSPENSION: Duration = Duration::from_secs(30);

/// The longest suspension.
const SUSPENSION_MAX: Duration = Duration::from_secs(1800);

/// What is known about a candidate at the moment of choice.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Where it is.
    pub(crate) url: String,
    /// What it answered, or why it did not.
    pub(crate) answer: Result<Facts, String>,
    /// Failures in this gateway's memory.
    pub(crate) standing: Standing,
}

/// What an orchestrator said of itself, and how long it took to say it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Its price.
    pub(crate) price: PricePerPixel,
    /// Whether it runs live video.
    pub(crate) capable: bool,
    /// Sessions that it can take now.
    pub(crate) free: u32,
    /// Sessions that it runs now.
    pub(crate) in_use: u32,
    /// Round trip of its answer.
    pub(crate) round_trip: Duration,
}

/// What this gateway remembers of an orchestrator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    failures_in_a_row: u32,
    suspended_until: Option<Instant>,
    /// Mean delay of its frames when it last worked for us.
    pub(crate) frame_delay: Option<Duration>,
}

impl Standing {
    /// It failed: leave it alone for a while.
    pub(crate) fn failed(&mut self, now: Instant) {
        let factor = 1 << self.failures_in_a_row.min(8);
        self.failures_in_a_row += 1;
        self.suspended_until = Some(now + (SUSPENSION * factor).min(SUSPENSION_MAX));
    }

    /// It delivers: what was is forgotten.
    pub(crate) fn works(&mut self, frame_delay: Duration) {
        *self = Self { frame_delay: Some(frame_delay), ..Self::default() };
    }

    /// Until when it is left alone.
    pub(crate) fn suspended_until(&self, now: Instant) -> Option<Instant> {
        self.suspended_until.filter(|until| *until > now)
    }
}

/// Why a candidate was not chosen, or that it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It does the work.
    Chosen,
    /// It could, another ranks higher.
    Ranked {
        /// Place in the order, from 2.
        place: usize,
    },
    /// It gave no usable answer.
    NoAnswer {
        /// Why.
        reason: String,
    },
    /// It asks more than the gateway pays.
    TooDear {
        /// Its price in wei per pixel.
        price: String,
    },
    /// It does not run live video.
    NotCapable,
    /// It has no room.
    Full,
    /// It failed lately; used only if nobody else is left.
    Suspended,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen"),
            Self::Ranked { place } => write!(f, "number {place} in the ranking"),
            Self::NoAnswer { reason } => write!(f, "no answer: {reason}"),
            Self::TooDear { price } => write!(f, "price of {price} wei per pixel is too high"),
            Self::NotCapable => f.write_str("does not run live video"),
            Self::Full => f.write_str("has no room"),
            Self::Suspended => f.write_str("suspended after a failure"),
        }
    }
}

/// Orders candidates: indices of those that may be tried, best first, and a verdict for each.
pub(crate) fn rank(
    candidates: &[Candidate],
    price_max: Option<PricePerPixel>,
    now: Instant,
) -> (Vec<usize>, Vec<Verdict>) {
    let mut verdicts = vec![Verdict::Chosen; candidates.len()];
    let mut usable = Vec::new();
    let mut suspended = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let facts = match &candidate.answer {
            Ok(facts) => facts,
            Err(reason) => {
                verdicts[index] = Verdict::NoAnswer { reason: reason.clone() };
                continue;
            }
        };
        if price_max.is_some_and(|max| facts.price.exceeds(max)) {
            verdicts[index] = Verdict::TooDear { price: Price(facts.price).to_string() };
        } else if !facts.capable {
            verdicts[index] = Verdict::NotCapable;
        } else if facts.free == 0 {
            verdicts[index] = Verdict::Full;
        } else if candidate.standing.suspended_until(now).is_some() {
            verdicts[index] = Verdict::Suspended;
            suspended.push(index);
        } else {
            usable.push((index, facts));
        }
    }
    usable.sort_by(|(a, left), (b, right)| {
        let seconds = |index: usize, facts| expected_delay(&candidates[index].standing, facts);
        seconds(*a, left)
            .total_cmp(&seconds(*b, right))
            .then_with(|| by_price(left.price, right.price))
            .then_with(|| candidates[*a].url.cmp(&candidates[*b].url))
    });
    let mut order: Vec<usize> = usable.into_iter().map(|(index, _)| index).collect();
    for (place, index) in order.iter().enumerate().skip(1) {
        verdicts[*index] = Verdict::Ranked { place: place + 1 };
    }
    // Suspended ones are the last resort, the one released soonest first.
    suspended.sort_by_key(|index| candidates[*index].standing.suspended_until(now));
    if order.is_empty()
        && let Some(first) = suspended.first()
    {
        verdicts[*first] = Verdict::Chosen;
    }
    order.extend(suspended);
    (order, verdicts)
}

fn by_price(left: PricePerPixel, right: PricePerPixel) -> Ordering {
    left.exceeds(right).cmp(&right.exceeds(left))
}

/// Seconds that a frame is expected to take, in steps of 5 ms so that price decides between near
/// equals; a busy machine counts as slower.
fn expected_delay(standing: &Standing, facts: &Facts) -> f64 {
    let measured = standing.frame_delay.unwrap_or(facts.round_trip).as_secs_f64();
    let load = f64::from(facts.in_use) / f64::from(facts.in_use + facts.free).max(1.0);
    ((measured * (1.0 + load)) / 0.005).round() * 0.005
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(price: u64, free: u32, round_trip_ms: u64) -> Facts {
        Facts {
            price: PricePerPixel::new(price, 1).unwrap(),
            capable: true,
            free,
            in_use: 0,
            round_trip: Duration::from_millis(round_trip_ms),
        }
    }

    fn candidate(url: &str, answer: Result<Facts, String>) -> Candidate {
        Candidate { url: url.into(), answer, standing: Standing::default() }
    }

    #[test]
    fn each_stage_turns_away_with_its_own_reason() {
        let now = Instant::now();
        let mut bad = candidate("e", Ok(facts(1, 1, 1)));
        bad.standing.failed(now);
        let candidates = [
            candidate("a", Err("connection refused".into())),
            candidate("b", Ok(facts(100, 1, 1))),
            candidate("c", Ok(Facts { capable: false, ..facts(1, 1, 1) })),
            candidate("d", Ok(facts(1, 0, 1))),
            bad,
            candidate("f", Ok(facts(2, 1, 40))),
            candidate("g", Ok(facts(1, 1, 41))),
        ];
        let max = PricePerPixel::new(10, 1).unwrap();
        let (order, verdicts) = rank(&candidates, Some(max), now);
        assert_eq!(order, [6, 5, 4], "the cheaper of near equals, then the suspended one");
        assert_eq!(
            verdicts,
            [
                Verdict::NoAnswer { reason: "connection refused".into() },
                Verdict::TooDear { price: "100".into() },
                Verdict::NotCapable,
                Verdict::Full,
                Verdict::Suspended,
                Verdict::Ranked { place: 2 },
                Verdict::Chosen,
            ]
        );
    }

    #[test]
    fn what_was_measured_beats_what_was_promised() {
        let now = Instant::now();
        let mut slow = candidate("a", Ok(facts(1, 4, 1)));
        slow.standing.works(Duration::from_millis(200));
        let candidates = [slow, candidate("b", Ok(facts(1, 4, 50)))];
        assert_eq!(rank(&candidates, None, now).0, [1, 0]);
    }

    #[test]
    fn a_suspended_one_is_used_when_nobody_else_is_left_and_returns_later() {
        let now = Instant::now();
        let mut only = candidate("a", Ok(facts(1, 1, 1)));
        only.standing.failed(now);
        let candidates = [only];
        let (order, verdicts) = rank(&candidates, None, now);
        assert_eq!((order, verdicts), (vec![0], vec![Verdict::Chosen]));
        assert!(candidates[0].standing.suspended_until(now + SUSPENSION).is_none());
    }
}
