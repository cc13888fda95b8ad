//! Decoding times for pictures that come in decoding order with presentation times only, as in RTP.
//!
//! With pictures reordered by up to `depth`, the decoding time of a picture is the smallest
//! presentation time among it and the `depth` largest before it: sorted times, moved back by
//! `depth` pictures. Nothing waits. How deep the reordering is the parameter sets say; where they
//! do not, it is learned from the first picture that comes before its predecessor.

/// Deepest reordering of any codec here (H.264 A.3.1, H.265 A.4.1), in pictures.
const DEPTH_MAX: usize = 16;

/// Distance of the first pictures, in 90 kHz ticks: 1 ms.
const FIRST_STEP: i64 = 90;

/// A step between pictures that is longer, in 90 kHz ticks, is a restart: 10 s.
const JUMP_MIN: i64 = 900_000;

/// Times of one stream of pictures, all in 90 kHz ticks.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeTimes {
    depth: usize,
    /// Presentation times that no picture was decoded at yet, rising.
    waiting: Vec<i64>,
    last: Option<i64>,
}

impl DecodeTimes {
    /// How many pictures may be decoded before one that is shown before them.
    pub(crate) fn set_depth(&mut self, depth: u32) {
        self.depth = (depth as usize).min(DEPTH_MAX);
    }

    /// Presentation and decoding time of the picture that comes next, as near as can be to `pts`.
    /// Decoding times rise strictly and are never after presentation.
    pub(crate) fn push(&mut self, pts: i64) -> (i64, i64) {
        if self.last.is_some_and(|last| (pts - last).abs() > JUMP_MIN) {
            self.waiting.clear();
            self.last = None;
        }
        let place = self.waiting.partition_point(|waiting| *waiting <= pts);
        self.waiting.insert(place, pts);
        let first = match self.last {
            Some(last) => last + FIRST_STEP,
            None => pts - self.depth as i64 * FIRST_STEP,
        };
        let mut dts = first.min(self.waiting[0]);
        while self.waiting.len() > self.depth {
            dts = self.waiting.remove(0);
        }
        dts = self.last.map_or(dts, |last| dts.max(last + 1));
        self.last = Some(dts);
        if pts < dts {
            self.depth = (self.depth + 1).min(DEPTH_MAX);
        }
        (pts.max(dts), dts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(depth: u32, pts: &[i64]) -> Vec<i64> {
        let mut times = DecodeTimes::default();
        times.set_depth(depth);
        pts.iter().map(|pts| times.push(*pts * 3000).1).collect()
    }

    #[test]
    fn pictures_in_order_are_decoded_when_they_are_shown() {
        assert_eq!(times(0, &[0, 1, 2, 3]), [0, 3000, 6000, 9000]);
    }

    #[test]
    fn reordered_pictures_are_decoded_one_picture_before() {
        assert_eq!(times(1, &[0, 3, 1, 2, 6, 4, 5]), [-90, 0, 3000, 6000, 9000, 12_000, 15_000]);
        assert_eq!(times(2, &[0, 4, 2, 1, 3, 8]), [-180, -90, 0, 3000, 6000, 9000]);
    }

    #[test]
    fn reordering_that_nobody_announced_is_learned() {
        let mut times = DecodeTimes::default();
        let order: Vec<i64> =
            (0..40).flat_map(|group| [2, 0, 1].map(|at| (group * 3 + at) * 3000)).collect();
        let given: Vec<_> = order.iter().map(|pts| times.push(*pts)).collect();
        let moved = given.iter().zip(&order).skip(6).filter(|((pts, _), wanted)| pts != *wanted);
        assert_eq!(moved.count(), 0, "{given:?}");
    }

    proptest! {
        #[test]
        fn decoding_times_rise_and_are_never_after_presentation(
            depth in 0..20_u32, steps in prop::collection::vec(-2_000_000..2_000_000_i64, 0..100),
        ) {
            let mut times = DecodeTimes::default();
            times.set_depth(depth);
            let (mut at, mut last) = (0, None);
            for step in steps {
                at += step;
                let restart = times.last.is_some_and(|last: i64| (at - last).abs() > JUMP_MIN);
                let (pts, dts) = times.push(at);
                prop_assert!(dts <= pts);
                prop_assert!(restart || last.is_none_or(|last| dts > last));
                last = Some(dts);
            }
        }
    }
}
