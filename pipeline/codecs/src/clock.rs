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

/// A line that follows the source's clock within jumps.
#[derive(Debug, Default)]
pub(crate) struct Line {
    last: Option<(Pts, i64)>,
}

impl Line {
    /// The elements' time for a name.
    pub(crate) fn place(&mut self, pts: Pts) -> ClockTime {
        let ticks = match self.last {
            None => ORIGIN,
            Some((last, at)) => {
                let step = (pts - last).0;
                // A line that a hostile source has walked back to zero starts anew as by a jump.
                let followed = at.saturating_add(step);
                if step.unsigned_abs() <= STEP_MAX.0 as u64 && followed >= 0 {
                    followed
                } else {
                    at + STEP_INSTEAD
                }
            }
        };
        self.last = Some((pts, ticks));
        nanoseconds(ticks)
    }
}

fn nanoseconds(ticks: i64) -> ClockTime {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    ClockTime::from_nseconds((u128::from(ticks) * 100_000 / 9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_get_times_that_differ_and_jumps_are_smoothed() {
        let mut line = Line::default();
        let first = line.place(Pts(-5));
        assert!(line.place(Pts(-4)) > first);
        assert!(line.place(Pts(-6)) < first);
        let before = line.place(Pts(90_000));
        let after = line.place(Pts(i64::MAX - 3));
        assert_eq!(after - before, ClockTime::from_mseconds(40));
        let back = line.place(Pts(i64::MIN));
        assert!(back > after && back < after + ClockTime::from_mseconds(41));
    }
}
