//! A viewer whose way narrows and widens, in virtual time.

use super::*;

/// The stream itself, and two smaller renditions.
const RENDITIONS: [Option<u64>; 3] = [Some(2_000_000), Some(600_000), Some(150_000)];

struct Viewer {
    choice: Choice,
    now: Instant,
    asked: Vec<usize>,
}

impl Viewer {
    fn new() -> Self {
        Self { choice: Choice::default(), now: Instant::now(), asked: Vec::new() }
    }

    /// So many seconds on a way, pictures thirty times a second; wishes for key pictures are
    /// answered after a quarter of a second.
    fn run(&mut self, seconds: f64, way: Way, renditions: &[Option<u64>]) {
        let mut due: Option<(Instant, usize)> = None;
        for _ in 0..(seconds * 30.0) as usize {
            self.now += Duration::from_nanos(1_000_000_000 / 30);
            if let Some(rendition) = self.choice.look(self.now, way, renditions) {
                self.asked.push(rendition);
                due.get_or_insert((self.now + Duration::from_millis(250), rendition));
            }
            let answered = due.filter(|(at, _)| *at <= self.now).map(|(_, rendition)| rendition);
            due = due.filter(|_| answered.is_none());
            for rendition in 0..renditions.len() {
                self.choice.take(rendition, answered == Some(rendition));
            }
        }
    }
}

fn calm(bitrate: u64) -> Way {
    Way { bitrate: Some(bitrate), strained: false }
}

fn strained(bitrate: u64) -> Way {
    Way { bitrate: Some(bitrate), strained: true }
}

#[test]
fn a_wide_way_has_the_stream_itself_and_asks_for_nothing() {
    let mut viewer = Viewer::new();
    viewer.run(5.0, Way::default(), &RENDITIONS);
    viewer.run(60.0, calm(20_000_000), &RENDITIONS);
    assert_eq!((viewer.choice.current(), viewer.asked.len()), (0, 0));
}

#[test]
fn a_strained_way_gets_the_largest_coding_that_leaves_room() {
    for (bitrate, wanted) in [(900_000, 1), (700_000, 2), (100_000, 2), (2_300_000, 0)] {
        let mut viewer = Viewer::new();
        viewer.run(1.0, strained(bitrate), &RENDITIONS);
        assert_eq!(viewer.choice.current(), wanted, "{bitrate}");
    }
}

#[test]
fn what_was_had_goes_out_until_the_key_picture_comes_and_it_is_asked_for_again() {
    let (mut choice, start) = (Choice::default(), Instant::now());
    let way = strained(900_000);
    assert_eq!(choice.look(start, way, &RENDITIONS), Some(1));
    assert_eq!(choice.look(start + ASK_EVERY / 2, way, &RENDITIONS), None);
    assert_eq!((choice.take(1, false), choice.take(0, true)), (Taken::No, Taken::Yes));
    assert_eq!(choice.look(start + ASK_EVERY, way, &RENDITIONS), Some(1));
    assert_eq!((choice.take(1, true), choice.take(1, true)), (Taken::First, Taken::Yes));
    assert_eq!(choice.take(0, true), Taken::No);
    assert_eq!(choice.look(start + ASK_EVERY * 2, way, &RENDITIONS), None);
}

#[test]
fn larger_ones_are_tried_step_by_step_and_less_often_when_they_fail() {
    let mut viewer = Viewer::new();
    viewer.run(1.0, strained(190_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2);
    viewer.run(2.0, calm(3_000_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2, "not yet calm for long");
    viewer.run(4.0, calm(3_000_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 1, "one step");
    // The trial fails: the next one waits for ten seconds instead of five.
    viewer.run(1.0, strained(400_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2);
    viewer.run(7.0, calm(3_000_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2);
    viewer.run(4.0, calm(3_000_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 1);
    viewer.run(30.0, calm(3_000_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 0);
}

#[test]
fn an_estimate_that_is_too_low_tries_nothing() {
    let mut viewer = Viewer::new();
    viewer.run(1.0, strained(700_000), &RENDITIONS);
    viewer.run(60.0, calm(620_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2);
}

#[test]
fn a_coding_that_ends_is_left_and_one_that_was_asked_for_is_kept() {
    let mut viewer = Viewer::new();
    viewer.run(1.0, strained(900_000), &RENDITIONS);
    viewer.run(1.0, calm(900_000), &[RENDITIONS[0], None, RENDITIONS[2]]);
    assert_eq!(viewer.choice.current(), 2);
    viewer.choice.ask_for(Some(1));
    viewer.run(1.0, strained(100_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 1);
    viewer.run(1.0, strained(100_000), &[RENDITIONS[0], None, None]);
    assert_eq!(viewer.choice.current(), 0, "nothing else is left");
    viewer.choice.ask_for(None);
    viewer.run(1.0, strained(100_000), &RENDITIONS);
    assert_eq!(viewer.choice.current(), 2);
}

#[test]
fn a_picture_that_was_left_out_has_its_key_picture_asked_for() {
    let (mut choice, start) = (Choice::default(), Instant::now());
    choice.lost();
    assert_eq!(choice.look(start, Way::default(), &RENDITIONS), Some(0));
    choice.take(0, true);
    assert_eq!(choice.look(start + ASK_EVERY * 2, Way::default(), &RENDITIONS), None);
}
