//! Between 90 kHz names of any value and the nanoseconds that elements want: from zero, growing.
//!
//! Names never go through an element: they are looked up again by the nanoseconds they were given.

use gstreamer::ClockTime;
use pipeline::{Pts, Ticks};

/// A step of the source's clock that is longer, in either direction, is not shown to the elements.
const STEP_MAX: Ticks = Ticks(10 * Ticks::SECOND.0);
/// What elements see instead of such a step.
const STEP_INSTEAD: i64 = Ticks::SECOND.0 / 25;
/// The first time given, so that reordered pictures do not reach below zero.
const ORIGIN: i64 = 3600 * Ticks::SECOND.0;

/// A line that follows the source's clock within jumps and always grows: elements alter the times
/// of what does not, or drop it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    last: Option<(Pts, i64)>,
}

impl Line {
    /// The elements' time for the next picture to be encoded.
    pub(crate) fn place(&mut self, pts: Pts) -> ClockTime {
        self.place_reordered(pts, pts)
    }

    /// The elements' time at which the next picture to be decoded is shown.
    pub(crate) fn place_reordered(&mut self, pts: Pts, dts: Pts) -> ClockTime {
        let ticks = match self.last {
            None => ORIGIN,
            Some((last, at)) => at + step(dts - last),
        };
        self.last = Some((dts, ticks));
        let ahead = (pts - dts).0.clamp(-STEP_MAX.0, STEP_MAX.0);
        nanoseconds(ticks + ahead)
    }
}

/// What the elements see of a step of the source's clock.
fn step(step: Ticks) -> i64 {
    if step.0.unsigned_abs() > STEP_MAX.0 as u64 { STEP_INSTEAD } else { step.0.max(1) }
}

fn nanoseconds(ticks: i64) -> ClockTime {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    ClockTime::from_nseconds((u128::from(ticks) * 100_000 / 9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_with_the_names_and_jumps_are_smoothed() {
        let mut line = Line::default();
        let mut last = ClockTime::ZERO;
        for name in [-5, -4, -6, -6, 90_000, i64::MAX - 3, i64::MIN, 0, 1] {
            let at = line.place(Pts(name));
            assert!(at > last);
            assert!(last.is_zero() || at - last <= ClockTime::from_mseconds(1001));
            last = at;
        }
    }

    #[test]
    fn pictures_shown_later_than_decoded_keep_their_order() {
        let mut line = Line::default();
        // Shown as 0 3 1 2, and the same again after a jump back.
        for start in [1_000_000_i64, 0] {
            let [a, b, c, d] = [(0, -2), (3, -1), (1, 0), (2, 1)].map(|(pts, dts)| {
                line.place_reordered(Pts(start + pts * 3000), Pts(start + dts * 3000))
            });
            assert!(a < c && c < d && d < b);
        }
    }
}
