//! Frames under way: which came back, which are owed for, which are missing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::latency::Percentile;
use crate::price::Wei;

/// Frames remembered at once; beyond, the oldest count as missing.
const FRAMES_MAX: usize = 2048;
/// A frame is missing after this, or four loops if those are longer.
const MISSING_AFTER: Duration = Duration::from_secs(2);
/// Span over which losses are held against what was sent.
pub(super) const LOSS_SPAN: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Frame {
    pts: i64,
    fee: Wei,
    sent: Instant,
    back: bool,
}

/// What a returned frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// It came back for the first time; so much was promised for it.
    Fresh(Wei),
    /// Never sent, returned before, or given up.
    Unknown,
}

/// Frames that were sent, oldest first.
#[derive(Debug, Default)]
pub(super) struct FrameBook {
    frames: VecDeque<Frame>,
    /// Fee and PTS of each missing frame that may still be claimed by the recipient.
    pub(super) loop_time: Percentile,
    pub(super) missing: u64,
    sent_in_span: VecDeque<(Instant, u32)>,
}

impl FrameBook {
    pub(super) fn sent(&mut self, now: Instant, pts: i64, fee: Wei) {
        if self.frames.len() == FRAMES_MAX && self.frames.pop_front().is_some_and(|f| !f.back) {
            self.missing += 1;
        }
        self.frames.push_back(Frame { pts, fee, sent: now, back: false });
        match self.sent_in_span.back_mut() {
            Some((began, count)) if now.saturating_duration_since(*began) < LOSS_SPAN / 10 => {
                *count += 1;
            }
            _ => self.sent_in_span.push_back((now, 1)),
        }
        while self
            .sent_in_span
            .front()
            .is_some_and(|(began, _)| now.saturating_duration_since(*began) > LOSS_SPAN)
        {
            self.sent_in_span.pop_front();
        }
    }

    pub(super) fn returned(&mut self, now: Instant, pts: i64) -> Return {
        let Some(frame) = self.frames.iter_mut().find(|f| f.pts == pts && !f.back) else {
            return Return::Unknown;
        };
        frame.back = true;
        self.loop_time.add(now.saturating_duration_since(frame.sent));
        Return::Fresh(frame.fee)
    }

    /// Fees of frames that the recipient's counts do not hold yet: sent, with a PTS after `seen`.
    pub(super) fn under_way(&self, seen: Option<i64>) -> Wei {
        let after = |f: &&Frame| seen.is_none_or(|seen| f.pts > seen);
        self.frames.iter().filter(after).map(|f| f.fee).sum()
    }

    /// Forgets what is settled: frames in the recipient's counts that are back or overdue.
    pub(super) fn sweep(&mut self, now: Instant, seen: Option<i64>) {
        let overdue = self.missing_after();
        let mut missing = 0;
        self.frames.retain(|frame| {
            let old = now.saturating_duration_since(frame.sent) >= overdue;
            let counted = seen.is_some_and(|seen| frame.pts <= seen);
            if frame.back {
                return !counted && !old;
            }
            missing += u64::from(old);
            !old
        });
        self.missing += missing;
    }

    /// Frames that are not back and not yet overdue.
    pub(super) fn young(&self) -> u64 {
        self.frames.iter().filter(|f| !f.back).count() as u64
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.frames.front().map(|f| f.sent + self.missing_after())
    }

    pub(super) fn sent_in_span(&self) -> u32 {
        self.sent_in_span.iter().map(|(_, count)| count).sum()
    }

    fn missing_after(&self) -> Duration {
        MISSING_AFTER.max(self.loop_time.p99() * 4)
    }
}
