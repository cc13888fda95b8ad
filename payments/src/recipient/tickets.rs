//! What a session knows of one of its sets: the cheap checks that come before any recovery.

use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};

use super::window::{NonceFault, NonceWindow};
use crate::price::FrameRate;
use crate::set::Set;
use crate::wire::SetReceipt;

/// Rate limits count tickets in spans of this length.
const RATE_SPAN: Duration = Duration::from_secs(1);

/// A set that the session still credits.
pub(super) struct LiveSet {
    pub(super) set: Set,
    pub(super) rand: U256,
    pub(super) since: Instant,
    /// When it stops being credited; `None` for the current one.
    pub(super) retire_at: Option<Instant>,
    pub(super) window: NonceWindow,
    /// Winners on their way to the disk: hash and nonce. At most the window.
    unstored: Vec<(B256, u32)>,
}

/// What the cheap checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Worth a recovery.
    Ask,
    /// Accepted before.
    Repeated,
    /// Not a nonce that can be taken now.
    Range,
    /// Too many tickets a second.
    Rate,
}

impl LiveSet {
    pub(super) fn new(set: Set, rand: U256, now: Instant) -> Self {
        Self {
            set,
            rand,
            since: now,
            retire_at: None,
            window: NonceWindow::default(),
            unstored: Vec::new(),
        }
    }

    /// Its overlap with the successor is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.retire_at.is_some_and(|at| now >= at)
    }

    /// It credits nothing any more, by time or by block.
    pub(super) fn is_sealed(&self, now: Instant, block: Option<u64>) -> bool {
        self.is_over(now) || block.is_some_and(|block| block >= self.set.seal_block)
    }

    /// Nonce first, then the rate: a repeated nonce must not use up the rate.
    pub(super) fn check(&self, nonce: u32, rate_allows: impl FnOnce() -> bool) -> Verdict {
        match self.window.check(nonce) {
            Err(NonceFault::Repeated) => Verdict::Repeated,
            Err(NonceFault::Range) => Verdict::Range,
            Ok(()) if !rate_allows() => Verdict::Rate,
            Ok(()) => Verdict::Ask,
        }
    }

    pub(super) fn accept(&mut self, nonce: u32, winner: Option<B256>) {
        self.window.accept(nonce, winner.is_some());
        self.unstored.extend(winner.map(|hash| (hash, nonce)));
    }

    /// Returns whether this set waited for the winner.
    pub(super) fn stored(&mut self, hash: &B256) -> bool {
        let Some(at) = self.unstored.iter().position(|(h, _)| h == hash) else { return false };
        let (_, nonce) = self.unstored.swap_remove(at);
        self.window.stored(nonce)
    }

    pub(super) fn receipt(&self) -> SetReceipt {
        SetReceipt { serial: self.set.serial, settled: self.window.settled() }
    }
}

/// At most 2 × fps + K tickets in a second (rule 4), K the default limit at that rate.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    span_began: Option<Instant>,
    count: u64,
    before: u64,
}

impl RateLimit {
    /// Counts a ticket; `false` when it is one too many.
    pub(super) fn allows(&mut self, now: Instant, fps: FrameRate) -> bool {
        let began = *self.span_began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= RATE_SPAN {
            self.before = if age < RATE_SPAN * 2 { self.count } else { 0 };
            self.count = 0;
            self.span_began = Some(now);
        }
        let age = now.saturating_duration_since(self.span_began.unwrap_or(now));
        // The span before counts by the part of it that lies within the last second.
        let left = (RATE_SPAN.saturating_sub(age)).as_millis() as u64;
        let weighted = self.count + self.before * left / 1000;
        let most = 2 * fps.frames_ceil(RATE_SPAN) + u64::from(fps.default_frames_at_risk());
        if weighted >= most {
            return false;
        }
        self.count += 1;
        true
    }
}
