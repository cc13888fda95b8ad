//! Joins what comes back with what stayed: processed pictures and the source's own sound.
//!
//! Sound that no node touches stays at the gateway and is held for the measured delay of the
//! pictures, so that lips stay in step; it goes on by itself when pictures stop, and is never
//! dropped for them. Pictures are let through in order only: after a swap they go on at the first
//! key picture beyond what viewers have seen. Pure: time comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipeline::{Packet, Pts};

/// Source pictures whose return is awaited; older ones count as lost.
const PENDING_MAX: usize = 1024;

/// Sound held back at most: 10 s of the shortest Opus packets would be 4,000.
const SOUND_MAX: usize = 1024;

/// The longest delay that sound follows; a slower graph loses lip sync rather than sound.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// The splice of one stream.
#[derive(Debug, Default)]
pub(crate) struct Splice {
    /// Source pictures by time of arrival, oldest first.
    pending: VecDeque<(Pts, Instant)>,
    sound: VecDeque<(Instant, Packet)>,
    /// Smoothed delay from a picture's arrival to its return.
    delay: Option<Duration>,
    last_out: Option<Pts>,
    /// After a swap: pictures wait for a key picture.
    need_key: bool,
    /// Pictures refused: late, repeated, never sent, or undecodable before a key picture.
    refused: u64,
}

/// What became of a returned picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    /// To be written; the delay since the source picture arrived is given.
    Write(Duration),
    /// Not for viewers.
    Refused,
}

impl Splice {
    /// A splice that waits for its first key picture.
    pub(crate) fn new() -> Self {
        Self { need_key: true, ..Self::default() }
    }

    /// A picture of the source arrived and is on its way out to be processed.
    pub(crate) fn sent(&mut self, pts: Pts, arrived: Instant) {
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((pts, arrived));
    }

    /// A processed picture came back.
    pub(crate) fn returned(&mut self, packet: &Packet, now: Instant) -> Returned {
        let place = self.pending.iter().position(|(pts, _)| *pts == packet.pts);
        let forward = self.last_out.is_none_or(|last| packet.pts > last);
        let Some(place) = place.filter(|_| forward && (packet.key || !self.need_key)) else {
            self.refused += 1;
            return Returned::Refused;
        };
        let (_, arrived) = self.pending[place];
        // What is older will not come back any more: there are no B-frames on this way.
        self.pending.retain(|(name, _)| *name > packet.pts);
        self.need_key = false;
        self.last_out = Some(packet.pts);
        let delay = now.saturating_duration_since(arrived);
        // One eighth of the new value: steady within a second at 30 frames a second.
        self.delay = Some(self.delay.map_or(delay, |mean| (mean * 7 + delay) / 8).min(DELAY_MAX));
        Returned::Write(delay)
    }

    /// A sound packet of the source arrived; it is held for the pictures' delay.
    pub(crate) fn sound(&mut self, packet: Packet) {
        if self.sound.len() == SOUND_MAX {
            self.sound.pop_front();
        }
        self.sound.push_back((packet.arrived, packet));
    }

    /// The next sound packet that is due.
    pub(crate) fn due_sound(&mut self, now: Instant) -> Option<Packet> {
        let due = self.next_timeout()? <= now;
        due.then(|| self.sound.pop_front().map(|(_, packet)| packet)).flatten()
    }

    /// When the next sound packet is due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let (arrived, _) = self.sound.front()?;
        Some(*arrived + self.delay.unwrap_or_default())
    }

    /// Another orchestrator takes over: pictures go on at its first key picture.
    pub(crate) fn swap(&mut self) {
        self.need_key = true;
    }

    /// The last picture that viewers have.
    pub(crate) fn last_out(&self) -> Option<Pts> {
        self.last_out
    }

    /// When the oldest picture arrived that is still awaited.
    pub(crate) fn oldest_pending(&self) -> Option<Instant> {
        self.pending.front().map(|(_, arrived)| *arrived)
    }

    /// Smoothed delay of the pictures.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Pictures refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipeline::TrackKind;

    use super::*;

    fn packet(kind: TrackKind, ms: i64, key: bool, arrived: Instant) -> Packet {
        let pts = Pts::from_millis(ms);
        Packet { kind, pts, dts: pts, key, data: Bytes::new(), arrived }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn sound_waits_for_the_pictures_and_goes_on_without_them() {
        let start = Instant::now();
        let mut splice = Splice::new();
        splice.sent(Pts::from_millis(0), start);
        let picture = packet(TrackKind::Video, 0, true, start);
        assert_eq!(splice.returned(&picture, start + 80 * MS), Returned::Write(80 * MS));
        splice.sound(packet(TrackKind::Audio, 0, true, start + 100 * MS));
        assert!(splice.due_sound(start + 179 * MS).is_none());
        assert!(splice.due_sound(start + 180 * MS).is_some(), "no further picture is needed");
    }

    #[test]
    fn after_a_swap_pictures_go_on_at_a_key_picture_beyond_the_last() {
        let now = Instant::now();
        let mut splice = Splice::new();
        for ms in [0, 33, 66, 100] {
            splice.sent(Pts::from_millis(ms), now);
        }
        let mut back = |ms, key| {
            splice.returned(&packet(TrackKind::Video, ms, key, now), now) != Returned::Refused
        };
        assert!(!back(0, false), "nothing before a key picture");
        assert!(back(0, true));
        assert!(back(33, false));
        splice.swap();
        let mut back = |ms, key| {
            splice.returned(&packet(TrackKind::Video, ms, key, now), now) != Returned::Refused
        };
        assert!(!back(66, false), "not decodable");
        assert!(!back(33, true), "seen already");
        assert!(back(66, true));
        assert!(!back(66, true), "a repeat");
        assert!(!back(77, true), "never sent");
        assert_eq!(splice.refused(), 5);
    }
}
