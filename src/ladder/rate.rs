//! Pictures in a second: how many a source has, and how many of them a rendition is made of.

use parking_lot::Mutex;
use pipeline::run::{Dropped, Gate};
use pipeline::{Pts, Size, Ticks};

/// Steps from picture to picture after which the rate of the source is known.
const STEPS: u32 = 5;

/// The rate where it is not known.
const USUAL: f32 = 30.0;

/// A step that is not within this is a jump of the source's clock, in ticks.
const STEP: std::ops::Range<i64> = 1..Ticks::SECOND.0 * 2;

/// Pictures in a second of the source, for rate control.
#[derive(Debug, Default)]
pub(super) struct Rate {
    first: Option<Pts>,
    newest: Option<Pts>,
    steps: u32,
}

impl Rate {
    /// Counts a picture of the source.
    pub(super) fn picture(&mut self, dts: Pts) {
        let jumped = self.newest.is_some_and(|newest| !STEP.contains(&(dts - newest).0));
        if self.first.is_none() || jumped {
            (self.first, self.steps) = (Some(dts), 0);
        } else {
            self.steps += 1;
        }
        self.newest = Some(dts);
    }

    /// What is known.
    pub(super) fn get(&self) -> Option<f32> {
        let passed = self.newest? - self.first?;
        let rate = self.steps as f32 * Ticks::SECOND.0 as f32 / passed.0.max(1) as f32;
        (self.steps >= STEPS).then(|| rate.clamp(1.0, 240.0))
    }

    /// What to expect of a rendition with `fps` at most.
    pub(super) fn expected(&self, fps: Option<u32>) -> f32 {
        let rate = self.get().unwrap_or(USUAL);
        fps.map_or(rate, |fps| rate.min(fps as f32))
    }
}

/// Leaves pictures out where a rendition has fewer than the source, by their times alone: the same
/// ones whenever it is made. The first picture of a group always stays.
pub(super) struct Thinning {
    /// From picture to picture; `None` leaves out nothing.
    interval: Option<Ticks>,
    grid: Mutex<Grid>,
}

/// Where pictures are due.
#[derive(Debug, Default)]
struct Grid {
    due: Option<Pts>,
    /// The first picture from here on begins a group.
    group: Option<Pts>,
}

impl Thinning {
    /// To so many pictures in a second.
    pub(super) fn new(fps: Option<u32>) -> Self {
        let interval = fps.map(|fps| Ticks(Ticks::SECOND.0 / i64::from(fps.max(1))));
        Self { interval, grid: Mutex::default() }
    }

    /// The first picture from `pts` on begins a group.
    pub(super) fn group_at(&self, pts: Pts) {
        if self.interval.is_some() {
            self.grid.lock().group.get_or_insert(pts);
        }
    }
}

impl Gate for Thinning {
    /// One that is refused waits until a newer one takes its place.
    fn admit(&self, pts: Pts, _: Size) -> bool {
        self.interval.is_none_or(|interval| self.grid.lock().keeps(pts, interval))
    }

    fn returned(&self, _: Pts, _: usize) {}

    fn dropped(&self, _: Pts, _: Dropped) {}
}

impl Grid {
    fn keeps(&mut self, pts: Pts, interval: Ticks) -> bool {
        let group = self.group.take_if(|first| pts >= *first).is_some();
        // Sources round their times: one that comes a little early is the one that is due. One that
        // comes much earlier comes after a jump of the clock.
        let between = -2 * interval.0..-(interval.0 / 4);
        let due = self.due.filter(|_| !group);
        if due.is_some_and(|due| between.contains(&(pts - due).0)) {
            return false;
        }
        let on_time = due.filter(|due| (-interval.0..interval.0).contains(&(pts - *due).0));
        self.due = Some(on_time.unwrap_or(pts) + interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_source_is_known_after_some_pictures_and_outlives_a_jump_of_its_clock() {
        let mut rate = Rate::default();
        for n in 0..6 {
            assert_eq!(rate.get(), None);
            rate.picture(Pts(n * 1500));
        }
        assert_eq!(rate.get(), Some(60.0));
        assert_eq!((rate.expected(None), rate.expected(Some(15))), (60.0, 15.0));
        rate.picture(Pts(90_000_000));
        assert_eq!(rate.get(), None);
        (1..6).for_each(|n| rate.picture(Pts(90_000_000 + n * 3000)));
        assert_eq!(rate.get(), Some(30.0));
        assert_eq!(rate.expected(Some(60)), 30.0, "no more than the source has");
    }

    /// Which of the pictures at these times stay.
    fn kept(thinning: &Thinning, times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let stays = |at: &i64| thinning.admit(Pts(*at), Size::new(640, 360));
        times.into_iter().filter(stays).collect()
    }

    #[test]
    fn every_other_picture_of_thirty_stays_where_fifteen_are_wanted() {
        let half = Thinning::new(Some(15));
        assert_eq!(kept(&half, (0..6).map(|n| n * 3000)), [0, 6000, 12_000]);
        assert_eq!(kept(&Thinning::new(None), [0, 1, 2]), [0, 1, 2]);
    }

    #[test]
    fn the_mean_is_what_is_wanted_where_the_rates_do_not_divide() {
        for (fps, source) in [(25, 30), (10, 60), (20, 30), (7, 50)] {
            let thinning = Thinning::new(Some(fps));
            let seconds = 20;
            let count = kept(&thinning, (0..seconds * source).map(|n| n * 90_000 / source)).len();
            let expected = i64::from(fps) * seconds;
            assert!((count as i64 - expected).abs() <= 2, "{count} of {source} to {fps}");
        }
    }

    #[test]
    fn times_in_whole_milliseconds_lose_no_picture_of_the_same_rate() {
        let times: Vec<i64> = (0..90).map(|n| n * 1000 / 30 * 90).collect();
        for fps in [30, 60] {
            assert_eq!(kept(&Thinning::new(Some(fps)), times.clone()), times);
        }
    }

    #[test]
    fn the_first_picture_of_a_group_stays_and_so_does_that_after_a_jump_of_the_clock() {
        let thinning = Thinning::new(Some(10));
        assert_eq!(kept(&thinning, [0, 3000]), [0]);
        thinning.group_at(Pts(6000));
        assert_eq!(kept(&thinning, [6000, 9000, 12_000, 15_000]), [6000, 15_000]);
        assert_eq!(kept(&thinning, [9_000_000, 9_003_000, 0, 3000]), [9_000_000, 0]);
    }
}
