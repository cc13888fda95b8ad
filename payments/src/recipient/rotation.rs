//! When a session's set gives way to the next: on the beat, when it is used up, or when price, size
//! or round change; never because a ticket won.

use std::time::{Duration, Instant};

use super::outcome::SessionEnd;
use super::session::SessionRecipient;
use super::tickets::LiveSet;
use crate::set::NONCE_MAX;

/// A successor is offered so many nonces before a set's last one.
const NONCES_AHEAD: u32 = 256;
/// Time between two attempts to make a set when none could be offered.
const OFFER_RETRY: Duration = Duration::from_secs(1);
/// Retired sets whose winners are still kept.
const RETIRED_SETS_MAX: usize = 4;

impl SessionRecipient {
    /// True when the set's nonces are nearly used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.current.window.highest() + NONCES_AHEAD > NONCE_MAX
    }

    pub(super) fn wants_successor(&self, now: Instant) -> bool {
        let old = now.saturating_duration_since(self.current.since) >= self.shared.config.set_life;
        let head = self.shared.head();
        let round = head.is_some_and(|head| {
            head.round != self.current.set.creation.round
                || head.block >= self.current.set.seal_block
        });
        old || self.is_used_up() || self.changed || round
    }

    pub(super) fn rotate(&mut self, now: Instant) {
        let held = self.book.lock().held();
        let serial = self.current.set.serial + 1;
        let overlap = self.shared.config.set_overlap;
        match self.shared.make_set(&self.terms, self.price, serial, held) {
            Ok((set, rand)) => {
                let mut old = std::mem::replace(&mut self.current, LiveSet::new(set, rand, now));
                old.retire_at = Some(now + overlap);
                self.previous = Some(old);
                self.counters.sets += 1;
                self.changed = false;
                self.next_attempt = None;
                self.dirty = true;
            }
            Err(refusal) => {
                let last = self.current.since + self.shared.config.set_life + overlap;
                if now >= last {
                    self.end(SessionEnd::NoSet(refusal));
                } else {
                    self.next_attempt = Some(now + OFFER_RETRY);
                }
            }
        }
    }

    pub(super) fn retire_previous(&mut self) {
        if let Some(live) = self.previous.take() {
            self.shared.retire(&live.set);
            if self.retired.len() == RETIRED_SETS_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back((live.set, live.rand));
        }
    }
}
