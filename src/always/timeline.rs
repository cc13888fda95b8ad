//! One clock for a stream whose writers change: what each brings is moved so that times go on.

use std::time::Instant;

use pipeline::{Packet, Pts, Ticks, TrackKind};

/// The least between the last frame of one writer and the first of the next.
const STEP: Ticks = Ticks::from_millis(33);

/// The clock of one relay.
#[derive(Debug)]
pub(super) struct Timeline {
    origin: Instant,
    /// What is added to the times of the present writer.
    shift: Ticks,
    /// The last decoding time of each kind.
    last: [Option<Pts>; 2],
    /// The latest time that was given to anything.
    end: Pts,
}

impl Timeline {
    /// A clock that stood at zero at `origin`, which is before all that it will be given came in.
    pub(super) const fn new(origin: Instant) -> Self {
        Self { origin, shift: Ticks(0), last: [None; 2], end: Pts(0) }
    }

    /// The time of a frame that is made now: later than all before it.
    pub(super) fn now(&self, at: Instant) -> Pts {
        let ticks = Ticks::from_duration(at.saturating_duration_since(self.origin));
        (Pts(0) + ticks).max(self.end + STEP)
    }

    /// Another writer begins with this packet: its time is the one at which it came in.
    pub(super) fn begin(&mut self, first: &Packet) {
        self.shift = self.now(first.arrived) - first.dts;
    }

    /// The packet in this clock; `None` for one that would go back.
    pub(super) fn place(&mut self, packet: Packet) -> Option<Packet> {
        let (pts, dts) = (packet.pts + self.shift, packet.dts + self.shift);
        self.note(packet.kind, pts, dts).then_some(Packet { pts, dts, ..packet })
    }

    /// Notes a packet that has these times already; false when it would go back.
    pub(super) fn note(&mut self, kind: TrackKind, pts: Pts, dts: Pts) -> bool {
        let last = &mut self.last[usize::from(kind == TrackKind::Audio)];
        if last.is_some_and(|last| dts <= last) {
            return false;
        }
        *last = Some(dts);
        self.end = self.end.max(pts).max(dts);
        true
    }

    /// The last sound's time.
    pub(super) const fn last_sound(&self) -> Option<Pts> {
        self.last[1]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(kind: TrackKind, dts: i64, pts: i64, arrived: Instant) -> Packet {
        let data = bytes::Bytes::from_static(b"x");
        Packet { kind, pts: Pts(pts), dts: Pts(dts), key: true, data, arrived }
    }

    #[test]
    fn times_go_on_whatever_clock_the_next_writer_has() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut timeline = Timeline::new(origin);
        let first = packet(TrackKind::Video, 900_000, 903_000, at(1000));
        timeline.begin(&first);
        let placed = timeline.place(first).unwrap();
        assert_eq!((placed.dts, placed.pts), (Pts(90_000), Pts(93_000)));
        // A slate half a second later, and one that is made before the last frame is over.
        assert_eq!(timeline.now(at(1500)), Pts(135_000));
        assert_eq!(timeline.now(origin), Pts(93_000) + STEP);
        // The publisher is back, at a time long ago.
        let back = packet(TrackKind::Video, -5, -5, at(2000));
        timeline.begin(&back);
        assert_eq!(timeline.place(back).unwrap().dts, Pts(180_000));
    }

    #[test]
    fn what_would_go_back_is_left_out() {
        let origin = Instant::now();
        let mut timeline = Timeline::new(origin);
        let first = packet(TrackKind::Video, 0, 0, origin);
        timeline.begin(&first);
        assert!(timeline.place(first.clone()).is_some());
        assert!(timeline.place(first).is_none());
        // Sound has its own order.
        let sound = packet(TrackKind::Audio, -9, -9, origin);
        assert!(timeline.place(sound.clone()).is_some());
        assert!(timeline.place(sound).is_none());
        assert_eq!(timeline.last_sound(), Some(Pts(STEP.0 - 9)));
    }
}
