//! The queue of one webhook: a lane for each stream, so that its events stay in order and a stream
//! whose event cannot be delivered holds up no other.
//!
//! A core: time comes in. One event of a lane is on its way at a time; when it fails, the lane waits
//! 1 s, then 2, 4 and so on up to [`WAIT_LIMIT`], until the event is too old.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Event;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two attempts.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Lanes with something in them.
pub(super) struct Lanes {
    lanes: HashMap<Arc<str>, Lane>,
    waiting: usize,
    waiting_max: usize,
    retry: Duration,
}

struct Lane {
    events: VecDeque<(Event, Instant)>,
    /// The first is on its way.
    sending: bool,
    attempts: u32,
    due: Instant,
}

/// An attempt to be made.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) event: Event,
    /// From 1.
    pub(super) number: u32,
}

impl Lanes {
    /// Room for so many events, each tried for so long.
    pub(super) fn new(waiting_max: usize, retry: Duration) -> Self {
        Self { lanes: HashMap::new(), waiting: 0, waiting_max, retry }
    }

    /// Takes an event; false when there is no room.
    pub(super) fn push(&mut self, event: Event, now: Instant) -> bool {
        if self.waiting >= self.waiting_max {
            return false;
        }
        self.waiting += 1;
        let lane = self.lanes.entry(Arc::clone(&event.stream)).or_insert_with(|| Lane {
            events: VecDeque::new(),
            sending: false,
            attempts: 0,
            due: now,
        });
        lane.events.push_back((event, now));
        true
    }

    /// An attempt that is due. It ends with [`Self::ended`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Attempt> {
        let lanes = self.lanes.values_mut().filter(|lane| !lane.sending && lane.due <= now);
        let lane = lanes.min_by_key(|lane| lane.due)?;
        lane.sending = true;
        lane.attempts += 1;
        let (event, _) = lane.events.front()?;
        Some(Attempt { event: event.clone(), number: lane.attempts })
    }

    /// When the next attempt is due; `None` when nothing waits for a time.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lanes.values().filter(|lane| !lane.sending).map(|lane| lane.due).min()
    }

    /// The attempt for this stream's first event ended; true when the event is given up.
    pub(super) fn ended(&mut self, stream: &str, delivered: bool, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(stream) else { return false };
        lane.sending = false;
        let old = lane.events.front().is_none_or(|(_, at)| now.duration_since(*at) >= self.retry);
        if !delivered && !old {
            let doubled =
                FIRST_WAIT * 2_u32.saturating_pow(lane.attempts.saturating_sub(1).min(16));
            lane.due = now + doubled.min(WAIT_LIMIT);
            return false;
        }
        lane.events.pop_front();
        self.waiting -= 1;
        (lane.attempts, lane.due) = (0, now);
        if lane.events.is_empty() {
            self.lanes.remove(stream);
        }
        !delivered
    }

    /// Events that wait or are on their way.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::events::Kind;

    fn event(stream: &str, id: &str) -> Event {
        Event { id: id.into(), kind: Kind::Online, stream: stream.into(), body: Bytes::new() }
    }

    #[test]
    fn a_stream_s_events_stay_in_order_and_hold_up_no_other_stream() {
        let now = Instant::now();
        let mut lanes = Lanes::new(10, Duration::from_secs(600));
        for (stream, id) in [("a", "1"), ("a", "2"), ("b", "3")] {
            assert!(lanes.push(event(stream, id), now));
        }
        let first = lanes.next(now).unwrap();
        let second = lanes.next(now).unwrap();
        let mut ids = [&*first.event.id, &*second.event.id];
        ids.sort_unstable();
        assert_eq!(ids, ["1", "3"]);
        assert!(lanes.next(now).is_none(), "2 waits for 1");
        assert!(!lanes.ended("a", false, now) && !lanes.ended("b", true, now));
        assert!(lanes.next(now).is_none(), "1 waits for its second attempt");
        assert_eq!(lanes.due(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        let again = lanes.next(later).unwrap();
        assert_eq!((&*again.event.id, again.number), ("1", 2));
        lanes.ended("a", true, later);
        let last = lanes.next(later).unwrap();
        assert_eq!((&*last.event.id, last.number), ("2", 1));
        lanes.ended("a", true, later);
        assert_eq!((lanes.len(), lanes.due()), (0, None));
    }

    #[test]
    fn waits_grow_to_a_minute_and_an_event_that_is_too_old_is_given_up() {
        let mut now = Instant::now();
        let mut lanes = Lanes::new(1, Duration::from_secs(600));
        assert!(lanes.push(event("a", "1"), now));
        assert!(!lanes.push(event("b", "2"), now), "there is no room");
        let mut waits = Vec::new();
        loop {
            assert!(lanes.next(now).is_some());
            if lanes.ended("a", false, now) {
                break;
            }
            let due = lanes.due().unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 32, 60]);
        let tried: u64 = waits.iter().sum();
        assert!((600..=660).contains(&tried), "{tried}");
        assert_eq!(lanes.len(), 0);
        assert!(lanes.push(event("b", "2"), now));
    }
}
