//! The sender's side of time: one timeline per viewer for sound and picture, and wall time for its
//! sender reports.
//!
//! The timeline counts 90 kHz ticks from the moment the viewer joined and runs with wall time. A
//! frame's place on it is its name plus an offset, the smallest delay seen between a frame's name
//! and its arrival; so frames that came in time lie at their arrival, late ones before it. Both
//! tracks share the offset, which keeps lips in step whatever else happens. The offset stays as it
//! is until the names jump; a drift between the publisher's clock and ours does no harm, since
//! players follow the timestamps and compare reports of both tracks only with each other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pipeline::{Pts, Ticks};

/// A frame that comes so much sooner than its name says belongs to another timeline.
const AHEAD_MAX: Ticks = Ticks::from_millis(500);

/// A frame that comes so much later than its name says belongs to another timeline.
const BEHIND_MAX: Ticks = Ticks::from_millis(3000);

/// Seconds from 1900 to 1970.
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// Wall time in the form of RTCP: seconds since 1900 in 32.32 bits (RFC 3550 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ntp(pub u64);

impl Ntp {
    /// The same moment.
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(NTP_UNIX_SECONDS << 32).plus(since)
    }

    /// The moment `later` after this one.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        let fraction = (u64::from(later.subsec_nanos()) << 32) / 1_000_000_000;
        Self(self.0.wrapping_add(later.as_secs() << 32).wrapping_add(fraction))
    }

    /// The middle 32 bits, as reports refer to each other.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The distance from `earlier` in 90 kHz ticks, negative when `self` is the older one; right
    /// within 68 years.
    pub const fn since(self, earlier: Self) -> Ticks {
        let distance = self.0.wrapping_sub(earlier.0) as i64;
        Ticks(((distance as i128 * 90_000) >> 32) as i64)
    }
}

/// A viewer's timeline.
#[derive(Clone, Copy, Debug)]
pub struct ViewerClock {
    origin: Instant,
    wall: Ntp,
    /// From names to the timeline: the one in use and the one before, for tracks that change over
    /// at different moments.
    offsets: [Option<Ticks>; 2],
    placed: bool,
}

impl ViewerClock {
    /// A timeline that begins now, at wall time `wall`.
    pub const fn new(now: Instant, wall: Ntp) -> Self {
        Self { origin: now, wall, offsets: [None, None], placed: false }
    }

    /// Learns the delay of a cached frame without placing it. Only the frames seen before the
    /// first [`Self::place`] count.
    pub fn observe(&mut self, pts: Pts, arrived: Instant) {
        let offset = Ticks(self.ticks(arrived).0.saturating_sub(pts.0));
        if !self.placed {
            self.offsets[0] = Some(self.offsets[0].map_or(offset, |known| known.min(offset)));
        }
    }

    /// The place of a frame. After a jump of the names (a frame 3 s later or 0.5 s sooner than
    /// they say) the timeline goes on with wall time.
    pub fn place(&mut self, pts: Pts, arrived: Instant) -> Ticks {
        self.placed = true;
        let arrived = self.ticks(arrived);
        for offset in self.offsets.iter().flatten() {
            let at = Ticks(pts.0.saturating_add(offset.0));
            let late = arrived.0.saturating_sub(at.0);
            if (-AHEAD_MAX.0..=BEHIND_MAX.0).contains(&late) {
                return at;
            }
        }
        self.offsets = [Some(Ticks(arrived.0.saturating_sub(pts.0))), self.offsets[0]];
        arrived
    }

    /// The place of a frame by its name alone, as the last frame was placed.
    pub fn at(&self, pts: Pts) -> Option<Ticks> {
        let offset = self.offsets[0]?;
        Some(Ticks(pts.0.saturating_add(offset.0)))
    }

    /// A moment on the timeline; negative before the viewer joined.
    pub fn ticks(&self, now: Instant) -> Ticks {
        match now.checked_duration_since(self.origin) {
            Some(since) => Ticks::from_duration(since),
            None => Ticks(-Ticks::from_duration(self.origin - now).0),
        }
    }

    /// The wall time of a moment, on a clock that does not jump while the viewer is there.
    pub fn wall(&self, now: Instant) -> Ntp {
        self.wall.plus(now.saturating_duration_since(self.origin))
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
