//! When each session wants to be looked at again, without looking at all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::mux::Key;

/// A heap of deadlines. An entry that is no longer wanted stays until its time and is then passed
/// over, so a session has at most a few of them.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Key)>>,
}

/// What a session remembers of its place in the heap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queued(Option<Instant>);

impl Timers {
    /// Makes sure that `key` comes up at `at` or before.
    pub(crate) fn arm(&mut self, key: Key, queued: &mut Queued, at: Option<Instant>) {
        let Some(at) = at else { return };
        if queued.0.is_none_or(|before| at < before) {
            queued.0 = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// When something comes up next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next session whose time has come. It has to be armed again, after [`Queued::clear`]
    /// with the same instant says that this was its newest entry.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, Key)> {
        let &Reverse((at, key)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((at, key))
    }
}

impl Queued {
    /// Forgets an entry that came up; false when a newer one stands for this session.
    pub(crate) fn clear(&mut self, at: Instant) -> bool {
        let mine = self.0 == Some(at);
        if mine {
            self.0 = None;
        }
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_session_comes_up_at_its_earliest_deadline_only() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut queued = Queued::default();
        timers.arm(Key(1), &mut queued, Some(at(50)));
        timers.arm(Key(1), &mut queued, Some(at(80)));
        timers.arm(Key(1), &mut queued, Some(at(20)));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop(at(10)), None);
        assert_eq!(timers.pop(at(60)), Some((at(20), Key(1))));
        assert!(queued.clear(at(20)));
        assert_eq!(timers.pop(at(60)), Some((at(50), Key(1))));
        assert!(!queued.clear(at(50)));
        assert_eq!(timers.pop(at(60)), None);
    }
}
