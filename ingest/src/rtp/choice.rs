//! Which of several renditions of the same pictures (simulcast) a viewer gets.
//!
//! Down: when the way is strained and its estimate is below what the rendition in use takes, to the
//! largest that leaves room. Up: after a calm time, one step, as a trial, since the estimate of a
//! way that was never filled says little; a trial that strains the way is taken back and the next
//! one waits twice as long. Every change waits for a key picture of the rendition that is wanted, which
//! is asked for; until then the viewer gets what it had.

use std::time::{Duration, Instant};

use super::estimate::Way;

/// Share of the estimate that the pictures may take where a rendition is chosen to relieve the way.
const RELIEF: f64 = 0.8;

/// Share of the estimate that a larger rendition may take.
const TRIAL: f64 = 0.9;

/// How long the way has to be calm before a trial.
const CALM: Duration = Duration::from_secs(3);

/// How long a rendition stays before a larger one is tried: at first, and at most.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// A strain within this time after a step up comes from that step.
const TRIAL_FOR: Duration = Duration::from_secs(10);

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often a key picture is asked for until it comes.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What becomes of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is of another rendition.
    No,
    /// It goes out.
    Yes,
    /// It goes out, and it is the first of another rendition than those before.
    First,
}

/// One viewer's choice. Codings are named by their place in a list of bits a second, `None` where
/// one is not to be had; place 0 is the stream itself, which is always there.
#[derive(Debug)]
pub struct Choice {
    current: usize,
    wanted: usize,
    /// The viewer's own choice.
    asked_for: Option<usize>,
    /// A key picture of the rendition in use is needed.
    needs_key: bool,
    looked: Option<Instant>,
    calm: Option<Instant>,
    changed: Option<Instant>,
    rose: Option<Instant>,
    asked: Option<Instant>,
    patience: Duration,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            current: 0,
            wanted: 0,
            asked_for: None,
            needs_key: false,
            looked: None,
            calm: None,
            changed: None,
            rose: None,
            asked: None,
            patience: PATIENCE_MIN,
        }
    }
}

impl Choice {
    /// The rendition whose pictures go out.
    pub const fn current(&self) -> usize {
        self.current
    }

    /// The viewer wants this rendition and no other, or leaves it to the way again.
    pub fn ask_for(&mut self, rendition: Option<usize>) {
        self.asked_for = rendition;
        self.looked = None;
    }

    /// The rendition in use cannot go on without a key picture.
    pub fn lost(&mut self) {
        self.needs_key = true;
    }

    /// What becomes of a picture of this rendition.
    pub fn take(&mut self, rendition: usize, key: bool) -> Taken {
        if rendition == self.wanted && key {
            self.needs_key = false;
            let first = self.current != rendition;
            self.current = rendition;
            return if first { Taken::First } else { Taken::Yes };
        }
        if rendition == self.current { Taken::Yes } else { Taken::No }
    }

    /// Looks at the way. Gives the rendition of which a key picture is to be asked for now.
    pub fn look(&mut self, now: Instant, way: Way, renditions: &[Option<u64>]) -> Option<usize> {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        if since(self.looked).is_some_and(|since| since < LOOK_EVERY) {
            return None;
        }
        self.looked = Some(now);
        let wanted = self.decide(now, way, renditions);
        if wanted != self.wanted {
            let rate = |n: usize| renditions.get(n).copied().flatten().unwrap_or(u64::MAX);
            if rate(wanted) > rate(self.wanted) {
                self.rose = Some(now);
            }
            self.wanted = wanted;
            self.changed = Some(now);
            self.asked = None;
        }
        if self.wanted == self.current && !self.needs_key {
            return None;
        }
        if since(self.asked).is_some_and(|since| since < ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        Some(self.wanted)
    }

    fn decide(&mut self, now: Instant, way: Way, renditions: &[Option<u64>]) -> usize {
        let rate = |n: usize| renditions.get(n).copied().flatten();
        if let Some(asked_for) = self.asked_for.filter(|&n| n == 0 || rate(n).is_some()) {
            return asked_for;
        }
        let strained = way.strained.then_some(way.bitrate).flatten();
        let Some(own) = rate(self.wanted) else {
            // Gone, or nothing is known of the stream yet.
            return if self.wanted == 0 { 0 } else { self.relief(way.bitrate, renditions) };
        };
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        if let Some(bitrate) = strained {
            self.calm = None;
            if (own as f64) <= bitrate as f64 * TRIAL {
                return self.wanted;
            }
            let to = self.relief(Some(bitrate), renditions);
            if to != self.wanted {
                let trial = since(self.rose).is_some_and(|since| since < TRIAL_FOR);
                let longer = (self.patience * 2).min(PATIENCE_MAX);
                self.patience = if trial { longer } else { self.patience };
            }
            return to;
        }
        let calm = since(Some(*self.calm.get_or_insert(now))).is_some_and(|calm| calm >= CALM);
        let rested = since(self.changed).is_none_or(|since| since >= self.patience);
        let above = renditions.iter().enumerate().filter_map(|(n, rate)| Some(((*rate)?, n)));
        let next = above.filter(|(rate, _)| *rate > own).min();
        match (next, way.bitrate) {
            (Some((rate, n)), Some(bitrate)) if calm && rested => {
                if rate as f64 <= bitrate as f64 * TRIAL { n } else { self.wanted }
            }
            _ => self.wanted,
        }
    }

    /// The largest rendition that leaves room on the way, else the smallest.
    fn relief(&self, bitrate: Option<u64>, renditions: &[Option<u64>]) -> usize {
        let limit = bitrate.map_or(f64::INFINITY, |bitrate| bitrate as f64 * RELIEF);
        let all = renditions.iter().enumerate().filter_map(|(n, rate)| Some(((*rate)?, n)));
        let fits = all.clone().filter(|(rate, _)| *rate as f64 <= limit).max();
        fits.or_else(|| all.min()).map_or(0, |(_, n)| n)
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
