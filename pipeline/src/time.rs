//! One clock for the whole road: 90 kHz ticks, the clock of MPEG-TS and of RTP video.
//!
//! A frame's name is its presentation time on this clock. Every hop carries it exactly, so the
//! frame that a viewer sees can be matched with the one a publisher sent. This file refuses to
//! know wall time: a `Pts` has no epoch, only distances have a meaning.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Ticks in a second of media time.
pub const TICKS_PER_SECOND: i64 = 90_000;

/// A presentation or decoding time in 90 kHz ticks, unwrapped to 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pts(pub i64);

/// A signed distance between two [`Pts`] in 90 kHz ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub i64);

impl Pts {
    /// The time `ms` milliseconds after zero. RTMP timestamps convert exactly.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms * 90)
    }

    /// Whole milliseconds, rounded towards minus infinity.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(90)
    }

    /// The distance to a later time, or `None` when `later` is before `self`.
    pub fn until(self, later: Pts) -> Option<Duration> {
        (later - self).to_duration()
    }
}

impl Ticks {
    /// One second.
    pub const SECOND: Ticks = Ticks(TICKS_PER_SECOND);

    /// A distance of `ms` milliseconds.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms * 90)
    }

    /// The nearest distance not longer than `duration`; saturates at the largest.
    pub fn from_duration(duration: Duration) -> Self {
        let ticks = duration.as_nanos() * TICKS_PER_SECOND as u128 / 1_000_000_000;
        Self(i64::try_from(ticks).unwrap_or(i64::MAX))
    }

    /// The same distance as a `Duration`, or `None` when it is negative.
    pub fn to_duration(self) -> Option<Duration> {
        let ticks = u64::try_from(self.0).ok()?;
        let (seconds, rest) = (ticks / 90_000, ticks % 90_000);
        Some(Duration::new(seconds, (rest * 1_000_000_000 / 90_000) as u32))
    }
}

impl Sub for Pts {
    type Output = Ticks;
    fn sub(self, earlier: Pts) -> Ticks {
        Ticks(self.0.wrapping_sub(earlier.0))
    }
}

impl Add<Ticks> for Pts {
    type Output = Pts;
    fn add(self, distance: Ticks) -> Pts {
        Pts(self.0.wrapping_add(distance.0))
    }
}

impl Sub<Ticks> for Pts {
    type Output = Pts;
    fn sub(self, distance: Ticks) -> Pts {
        Pts(self.0.wrapping_sub(distance.0))
    }
}

impl fmt::Display for Pts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.as_millis().div_euclid(1000), self.as_millis().rem_euclid(1000))
    }
}

/// Unwraps timestamps of `BITS` bits (33 for MPEG-TS, 32 for RTP and RTMP) to 64 bits.
///
/// Each value is taken as the one nearest to the last, so a step of less than half the range in
/// either direction is followed and a longer one reads as a wrap (ISO/IEC 13818-1 2.4.3.7,
/// RFC 3550 5.1).
#[derive(Clone, Debug, Default)]
pub struct Unwrapper<const BITS: u32> {
    last: Option<i64>,
}

impl<const BITS: u32> Unwrapper<BITS> {
    /// A fresh unwrapper: the first value is returned as it is.
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// An unwrapper whose first value is the one nearest to `reference`.
    pub const fn near(reference: i64) -> Self {
        Self { last: Some(reference) }
    }

    /// The 64-bit value of `raw`, of which only the low `BITS` bits count.
    pub fn unwrap(&mut self, raw: u64) -> i64 {
        let modulus = 1_i64 << BITS;
        let raw = (raw & (modulus as u64 - 1)) as i64;
        let value = match self.last {
            None => raw,
            Some(last) => {
                let step = raw.wrapping_sub(last) & (modulus - 1);
                last.wrapping_add(if step >= modulus / 2 { step - modulus } else { step })
            }
        };
        self.last = Some(value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_forwards_and_a_step_back_are_both_followed() {
        let mut unwrap = Unwrapper::<33>::new();
        let top = (1_u64 << 33) - 10;
        assert_eq!(unwrap.unwrap(top), top as i64);
        assert_eq!(unwrap.unwrap(5), (1_i64 << 33) + 5);
        assert_eq!(unwrap.unwrap(top), top as i64);
    }

    #[test]
    fn a_reference_chooses_the_turn_of_the_clock() {
        for name in [i64::MIN, -5, 0, (7 << 33) + 3, i64::MAX] {
            let mut unwrap = Unwrapper::<33>::near(name.wrapping_add(90_000));
            assert_eq!(unwrap.unwrap(name as u64), name);
        }
    }

    #[test]
    fn milliseconds_survive_both_ways() {
        for ms in [-1, 0, 1, 33, 4_294_967_295_i64] {
            assert_eq!(Pts::from_millis(ms).as_millis(), ms);
        }
        assert_eq!(Ticks::from_duration(Duration::from_millis(40)), Ticks(3600));
        assert_eq!(Ticks(3600).to_duration(), Some(Duration::from_millis(40)));
        assert_eq!(Ticks(-1).to_duration(), None);
    }
}
