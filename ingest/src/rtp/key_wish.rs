//! The wish for a key picture: asked at once, asked again until one came, never in a flood.

use std::time::{Duration, Instant};

/// Time between two requests, so that a sender with a slow encoder is not asked twice.
pub const RETRY: Duration = Duration::from_millis(500);

/// When to send the next picture loss indication (RFC 4585 6.3.1) to one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyWish {
    wanted: bool,
    asked: Option<Instant>,
}

impl KeyWish {
    /// A key picture is needed.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A key picture came.
    pub fn answered(&mut self) {
        self.wanted = false;
    }

    /// Whether to send a request now.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due =
            self.next_timeout().is_some_and(|at| at <= now) || self.wanted && self.asked.is_none();
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// When [`Self::poll`] is worth calling again.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.wanted { self.asked.map(|asked| asked + RETRY) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_repeated_until_it_is_answered() {
        let start = Instant::now();
        let mut wish = KeyWish::default();
        assert!(!wish.poll(start));
        wish.want();
        assert!(wish.poll(start));
        assert!(!wish.poll(start + RETRY / 2));
        assert_eq!(wish.next_timeout(), Some(start + RETRY));
        assert!(wish.poll(start + RETRY));
        wish.answered();
        assert!(!wish.poll(start + RETRY * 3));
        assert_eq!(wish.next_timeout(), None);
        wish.want();
        assert!(wish.poll(start + RETRY * 3), "a new wish after a pause is passed on at once");
    }
}
