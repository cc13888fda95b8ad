//! Which frames a viewer gets whose way carries less than the stream has.
//!
//! As long as the way is not strained everything goes out, since estimates of a way that is never
//! filled say little. From then on a budget fills at the estimated rate. As long as it lasts every frame goes out; once it is spent
//! all pictures up to the next key picture that it can pay are left out, since a decoder can use
//! none of them. So such a viewer sees a part of each group of pictures and then a still picture,
//! never a broken one, and its way never queues more than the budget holds. Sound always goes out
//! and is paid first.

use std::time::{Duration, Instant};

use super::estimate::Way;

/// What the budget holds beyond a key picture, in time at the estimated rate: the most that queues.
const DEPTH: Duration = Duration::from_millis(250);

/// All pictures for so long, and it is a whole stream again.
const WHOLE_AFTER: Duration = Duration::from_secs(4);

/// Whether a viewer gets all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supply {
    /// Every frame.
    #[default]
    Whole,
    /// As many as the way carries.
    Thinned,
}

/// One viewer's budget.
#[derive(Debug, Default)]
pub struct Thin {
    /// Bits that may go out now; negative after what went out whatever it cost.
    budget: f64,
    /// Bits of the last key picture, which the budget always has room for.
    key: f64,
    filled: Option<Instant>,
    /// The budget counts: the way was strained and not yet found wide enough.
    limited: bool,
    /// No picture until a key picture.
    until_key: bool,
    supply: Supply,
    /// When a picture was last left out.
    left_out: Option<Instant>,
}

impl Thin {
    /// Whether a picture of so many bytes goes out on this way.
    pub fn admits(&mut self, now: Instant, key: bool, bytes: usize, way: Way) -> bool {
        let Some(bitrate) = way.bitrate else { return true };
        self.limited = way.strained || self.limited && self.supply == Supply::Thinned;
        let bits = bytes as f64 * 8.0;
        if key {
            self.key = bits;
        }
        let depth = bitrate as f64 * DEPTH.as_secs_f64() + self.key;
        self.fill(now, bitrate as f64, depth);
        if !self.limited {
            self.budget = depth - bits;
            return true;
        }
        let admitted = (key || !self.until_key) && self.budget >= bits;
        self.until_key = !admitted;
        if admitted {
            self.budget -= bits;
            let since = self.left_out.map(|at| now.saturating_duration_since(at));
            if since.is_some_and(|since| since >= WHOLE_AFTER) {
                self.left_out = None;
                self.supply = Supply::Whole;
            }
        } else {
            self.left_out = Some(now);
            self.supply = Supply::Thinned;
        }
        admitted
    }

    /// Pays for what goes out whatever it costs: sound, repeated packets.
    pub fn spend(&mut self, bytes: usize) {
        self.budget -= bytes as f64 * 8.0;
    }

    /// What the viewer gets.
    pub const fn supply(&self) -> Supply {
        self.supply
    }

    fn fill(&mut self, now: Instant, bitrate: f64, depth: f64) {
        let passed = self.filled.map_or(DEPTH, |at| now.saturating_duration_since(at));
        self.filled = Some(now);
        self.budget = (self.budget + bitrate * passed.as_secs_f64()).clamp(-depth, depth);
    }
}
