//! How a new viewer reaches the live edge from the cached group of pictures.
//!
//! A decoder can only begin at a key picture, which may be seconds old. So the viewer gets the
//! whole group since then, faster than it was made, and each frame's timestamp is the moment at
//! which it is due to be sent. To the player that is an ordinary stream of, say, 250 frames a
//! second without any jitter: it shows each frame as it comes, a fast run through the last seconds,
//! and has no reason to build up delay. When the last cached frame is out, the next live one has
//! its own place on the very same timeline ([`ViewerClock`]), because that runs with wall time too;
//! sound is sent live on it from the start, and sender reports are true from the first one on.
//!
//! - The first picture goes out whole at the first poll. The others follow so that the edge is
//!   reached about a second later, not closer than 4 ms (what a phone decodes), and within a
//!   limit of bits per second; bursts of large frames are spread over twice the mean rate.
//! - A key picture that comes meanwhile ends the run: everything before it is left out.
//! - [`Join::advice`] says when a fresh key picture would be the quicker way.
//!
//! Where it was negotiated, `playout-delay` with a minimum of 0 keeps Chromium from smoothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Ticks;

use super::clock::ViewerClock;
use super::frame::FramePackets;

/// The time in which the edge should be reached.
const CATCH_UP: Duration = Duration::from_millis(1000);

/// Beyond this a fresh key picture is better, if the source makes them on request.
const CATCH_UP_MAX: Duration = Duration::from_millis(1400);

/// Least speed of the run in parts of normal speed.
const SPEED_MIN: f64 = 3.0;

/// A poll that comes so much too late moves the schedule instead of sending a burst.
const SCHEDULE_LAG_MAX: Duration = Duration::from_millis(50);

/// Limits of the run.
#[derive(Clone, Copy, Debug)]
pub struct JoinLimits {
    /// Shortest time between two frames.
    pub frame_gap_min: Duration,
    /// Bits of payload per second after the first picture.
    pub bitrate_max: u64,
}

impl Default for JoinLimits {
    /// 4 ms and 50 Mbit/s.
    fn default() -> Self {
        Self { frame_gap_min: Duration::from_millis(4), bitrate_max: 50_000_000 }
    }
}

/// The quicker way to the live edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The run reaches it after about this time.
    CatchUp(Duration),
    /// Ask the source for a key picture; the run goes on until it comes.
    FreshKey,
}

/// A frame to send now.
#[derive(Clone, Debug)]
pub struct Release {
    /// The frame.
    pub frame: Arc<FramePackets>,
    /// Its place on the viewer's timeline.
    pub at: Ticks,
}

/// One viewer's run to the live edge.
#[derive(Debug)]
pub struct Join {
    queue: VecDeque<Arc<FramePackets>>,
    frame_gap: Duration,
    /// Bits of payload per second within the run.
    bitrate: f64,
    expected: Duration,
    next_at: Option<Instant>,
    begun: bool,
    live: bool,
    skipped: u64,
}

impl Join {
    /// A run through `group`, which begins with a key picture. With an empty group the viewer is
    /// live at once and waits for a key picture by other means.
    pub fn new(
        group: impl IntoIterator<Item = Arc<FramePackets>>,
        limits: JoinLimits,
        clock: &mut ViewerClock,
    ) -> Self {
        let queue: VecDeque<_> = group.into_iter().collect();
        let mut bytes = 0;
        for frame in &queue {
            clock.observe(frame.pts, frame.arrived);
            bytes += frame.bytes();
        }
        let intervals = queue.len().saturating_sub(1) as f64;
        let span = match (queue.front(), queue.back()) {
            (Some(first), Some(last)) => (last.dts - first.dts).0.max(0) as f64 / 90_000.0,
            _ => 0.0,
        };
        let live_bitrate = if span > 0.0 { bytes as f64 * 8.0 / span } else { 0.0 };
        // At speed v a backlog of s seconds is gone after s / (v - 1).
        let wished = (1.0 + span / CATCH_UP.as_secs_f64()).max(SPEED_MIN);
        let gap_min = limits.frame_gap_min.as_secs_f64();
        let by_frames = if intervals > 0.0 { span / intervals / gap_min } else { f64::INFINITY };
        let by_bits = limits.bitrate_max as f64 / live_bitrate.max(1.0);
        let speed = wished.min(by_frames).min(by_bits);
        let seconds = if speed > 1.0 { span / (speed - 1.0) } else { f64::INFINITY };
        let gap = if intervals > 0.0 { span / intervals / speed } else { 0.0 };
        let bitrate = (2.0 * live_bitrate * speed).min(limits.bitrate_max as f64).max(1.0);
        Self {
            live: queue.is_empty(),
            queue,
            frame_gap: Duration::try_from_secs_f64(gap.max(gap_min)).unwrap_or(CATCH_UP),
            bitrate,
            expected: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            next_at: None,
            begun: false,
            skipped: 0,
        }
    }

    /// Adds a frame that was written after the group, while the run lasts.
    pub fn push(&mut self, frame: Arc<FramePackets>) {
        if frame.key && self.begun {
            self.skipped += self.queue.len() as u64;
            self.queue.clear();
        }
        self.queue.push_back(frame);
    }

    /// The next frame that is due. When [`Self::is_live`] becomes true, send frames as they come,
    /// at [`ViewerClock::place`].
    pub fn poll(&mut self, now: Instant, clock: &mut ViewerClock) -> Option<Release> {
        let due =
            self.next_at.map_or(now, |at| at.max(now.checked_sub(SCHEDULE_LAG_MAX).unwrap_or(at)));
        if self.live || due > now {
            return None;
        }
        let frame = self.queue.pop_front()?;
        let due = due.max(frame.arrived.min(now));
        let spread = frame.bytes() as f64 * 8.0 / self.bitrate;
        let spread = Duration::try_from_secs_f64(spread).unwrap_or(CATCH_UP).min(CATCH_UP);
        self.next_at = Some(due + self.frame_gap.max(spread));
        self.begun = true;
        self.live = self.queue.is_empty();
        let at = clock.place(frame.pts, frame.arrived).max(clock.ticks(due));
        Some(Release { frame, at })
    }

    /// When [`Self::poll`] has the next frame; `None` before the first poll, which is due at once.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.live { None } else { self.next_at }
    }

    /// Whether the run is over.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Whether to ask the source for a key picture, given whether it makes them on request.
    pub fn advice(&self, source_answers: bool) -> Advice {
        if self.expected > CATCH_UP_MAX && source_answers {
            Advice::FreshKey
        } else {
            Advice::CatchUp(self.expected)
        }
    }

    /// Frames left out for a newer key picture.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
