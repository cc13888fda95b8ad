//! What is worth an alert: a stream's figures against the rules of the settings.
//!
//! A core: figures and time come in, alerts come out. A rule must be broken for a while before that is
//! told, and kept for as long before that is, so that a moment makes no noise.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::Alerts;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    BitrateLow,
    BitrateHigh,
    FrameRateLow,
    FrameRateHigh,
    KeyInterval,
    BFrames,
}

impl Rule {
    /// The word of an alert's `rule`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BitrateLow => "bitrate_low",
            Self::BitrateHigh => "bitrate_high",
            Self::FrameRateLow => "frame_rate_low",
            Self::FrameRateHigh => "frame_rate_high",
            Self::KeyInterval => "key_interval",
            Self::BFrames => "b_frames",
        }
    }
}

/// A stream's counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) bytes: u64,
    pub(super) frames: u64,
    pub(super) key_interval_ms: Option<i64>,
    pub(super) reordered: bool,
    pub(super) has_video: bool,
}

/// What there is to tell.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    pub(super) rule: Rule,
    pub(super) raised: bool,
    /// What was measured, and what the rule says.
    pub(super) value: Value,
    pub(super) limit: Value,
}

/// The rules of one stream.
#[derive(Default)]
pub(super) struct Quality {
    before: Option<(Figures, Instant)>,
    states: BTreeMap<Rule, State>,
}

/// Whether a rule is told as broken, and since when it is the other way round.
#[derive(Default)]
struct State {
    raised: bool,
    since: Option<Instant>,
}

impl Quality {
    /// Looks at new figures.
    pub(super) fn look(&mut self, figures: Figures, rules: &Alerts, now: Instant) -> Vec<Change> {
        let Some((before, at)) = self.before.replace((figures, now)) else {
            return Vec::new();
        };
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds <= 0.0 {
            return Vec::new();
        }
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        let kbps = rate(figures.bytes, before.bytes) * 8.0 / 1000.0;
        let frame_rate = rate(figures.frames, before.frames);
        let key_ms = figures.key_interval_ms.unwrap_or(0) as f64;
        let video = figures.has_video;
        let mut measured = vec![
            (
                Rule::BitrateLow,
                kbps,
                rules.bitrate_kbps_min as f64,
                kbps < rules.bitrate_kbps_min as f64,
            ),
            (
                Rule::BitrateHigh,
                kbps,
                rules.bitrate_kbps_max as f64,
                kbps > rules.bitrate_kbps_max as f64,
            ),
        ];
        if video {
            measured.extend([
                (
                    Rule::FrameRateLow,
                    frame_rate,
                    rules.frame_rate_min,
                    frame_rate < rules.frame_rate_min,
                ),
                (
                    Rule::FrameRateHigh,
                    frame_rate,
                    rules.frame_rate_max,
                    frame_rate > rules.frame_rate_max,
                ),
                (
                    Rule::KeyInterval,
                    key_ms,
                    rules.key_interval_ms_max as f64,
                    key_ms > rules.key_interval_ms_max as f64,
                ),
            ]);
        }
        let hold = Duration::from_secs(rules.hold_seconds);
        let mut changes = Vec::new();
        for (rule, value, limit, broken) in measured {
            // 0 switches a rule off.
            let broken = broken && limit > 0.0;
            if let Some(raised) = self.state(rule, broken, hold, now) {
                let round = |number: f64| json!((number * 10.0).round() / 10.0);
                changes.push(Change { rule, raised, value: round(value), limit: round(limit) });
            }
        }
        // Facts of the coding are not a matter of a moment.
        let broken = video && rules.b_frames && figures.reordered;
        if let Some(raised) = self.state(Rule::BFrames, broken, Duration::ZERO, now) {
            let (value, limit) = (json!(figures.reordered), json!(false));
            changes.push(Change { rule: Rule::BFrames, raised, value, limit });
        }
        changes
    }

    /// Follows one rule; tells when it is to be told.
    fn state(&mut self, rule: Rule, broken: bool, hold: Duration, now: Instant) -> Option<bool> {
        let state = self.states.entry(rule).or_default();
        if broken == state.raised {
            state.since = None;
            return None;
        }
        let since = *state.since.get_or_insert(now);
        if now.duration_since(since) < hold {
            return None;
        }
        (state.raised, state.since) = (broken, None);
        Some(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(second: u64, kbps: u64) -> Figures {
        Figures {
            bytes: second * kbps * 125,
            frames: second * 30,
            key_interval_ms: Some(2000),
            reordered: false,
            has_video: true,
        }
    }

    #[test]
    fn a_rule_is_told_when_it_is_broken_for_a_while_and_when_it_is_kept_for_as_long() {
        let rules = Alerts { bitrate_kbps_min: 500, hold_seconds: 3, ..Alerts::default() };
        let (mut quality, began) = (Quality::default(), Instant::now());
        let (mut told, mut bytes) = (Vec::new(), 0);
        for second in 0..30 {
            // A moment at 5, and a real fault from 10 to 19.
            let kbps = if second == 5 || (10..20).contains(&second) { 100 } else { 800 };
            bytes += kbps * 125;
            let figures = Figures { bytes, ..figures(second, 0) };
            let now = began + Duration::from_secs(second);
            for change in quality.look(figures, &rules, now) {
                told.push((second, change.rule, change.raised, change.value));
            }
        }
        assert_eq!(
            told,
            [
                (13, Rule::BitrateLow, true, json!(100.0)),
                (23, Rule::BitrateLow, false, json!(800.0)),
            ]
        );
    }

    #[test]
    fn key_distance_b_frames_and_frame_rate_have_their_rules_and_zero_is_off() {
        let rules = Alerts {
            key_interval_ms_max: 4000,
            frame_rate_min: 40.0,
            hold_seconds: 0,
            ..Alerts::default()
        };
        let (mut quality, began) = (Quality::default(), Instant::now());
        let mut at = |second: u64, rules: &Alerts| {
            let figures =
                Figures { key_interval_ms: Some(8300), reordered: true, ..figures(second, 1000) };
            let now = began + Duration::from_secs(second);
            let changes = quality.look(figures, rules, now);
            changes.iter().map(|change| (change.rule, change.raised)).collect::<Vec<_>>()
        };
        assert_eq!(at(0, &rules), []);
        let broken = [Rule::FrameRateLow, Rule::KeyInterval, Rule::BFrames];
        assert_eq!(at(1, &rules), broken.map(|rule| (rule, true)));
        assert_eq!(at(2, &rules), []);
        let off = Alerts {
            key_interval_ms_max: 0,
            b_frames: false,
            hold_seconds: 0,
            ..Alerts::default()
        };
        assert_eq!(at(3, &off), broken.map(|rule| (rule, false)));
    }
}
