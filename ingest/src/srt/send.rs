//! The sending half of a connection: keeps packets until the peer has them or they are too late,
//! and sends again what was lost (draft-sharabayko-srt-01, sections 4.6 to 4.8 and 5.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::wire::{KeySlot, Seq};

/// A packet to be put on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) seq: Seq,
    pub(super) message: u32,
    pub(super) key: KeySlot,
    pub(super) again: bool,
    /// When it was handed in.
    pub(super) at: Instant,
    pub(super) data: Bytes,
}

struct Kept {
    data: Bytes,
    message: u32,
    at: Instant,
    /// The key that it was first encrypted with: a number is never used with two keys.
    key: KeySlot,
    /// When it was sent last.
    sent: Option<Instant>,
    /// It is in the queue of those to be sent again.
    queued: bool,
}

pub(super) struct Send {
    /// Number of the packet at the front.
    first: Seq,
    packets: VecDeque<Kept>,
    /// Place of the first packet that was never sent.
    unsent: usize,
    /// Packets to be sent again, by number.
    again: VecDeque<Seq>,
    message: u32,
    /// Packets in `packets`, at most.
    room: usize,
    bytes: usize,
    /// Packets under way that the peer has room for.
    window: usize,
    /// A packet of this age is too late and dropped.
    too_late: Duration,
    pacer: Pacer,
    /// When the peer acknowledged something new, or the queue was empty.
    progress: Instant,
    /// Since when there is something here, and how long there was before.
    busy: (Option<Instant>, Duration),
}

impl Send {
    pub(super) fn new(
        now: Instant,
        first: Seq,
        window: usize,
        room: usize,
        too_late: Duration,
        bytes_per_second: u64,
    ) -> Self {
        Self {
            first,
            packets: VecDeque::new(),
            unsent: 0,
            again: VecDeque::new(),
            message: 1,
            room,
            bytes: 0,
            window,
            too_late,
            pacer: Pacer { bytes_per_second, ready: now },
            progress: now,
            busy: (None, Duration::ZERO),
        }
    }

    /// Hands in a packet; false when there is no room.
    pub(super) fn push(&mut self, now: Instant, data: Bytes) -> bool {
        if self.packets.len() >= self.room {
            return false;
        }
        if self.packets.is_empty() {
            self.progress = now;
            self.busy.0 = Some(now);
        }
        self.bytes += data.len();
        let (message, key) = (self.message, KeySlot::Plain);
        self.packets.push_back(Kept { data, message, at: now, key, sent: None, queued: false });
        // 26 bits, of which 0 is left out.
        self.message = if self.message >= 0x03FF_FFFF { 1 } else { self.message + 1 };
        true
    }

    /// The next packet for the wire, lost ones first. `key` is the one for packets that were never
    /// sent.
    pub(super) fn next(&mut self, now: Instant, key: KeySlot) -> Option<Outgoing> {
        if self.pacer.wait(now) {
            return None;
        }
        while let Some(seq) = self.again.pop_front() {
            let Ok(place) = usize::try_from(seq.since(self.first)) else { continue };
            let Some(kept) = self.packets.get_mut(place) else { continue };
            kept.queued = false;
            kept.sent = Some(now);
            return Some(self.outgoing(now, place, true));
        }
        if self.unsent >= self.window {
            return None;
        }
        let place = self.unsent;
        let kept = self.packets.get_mut(place)?;
        (kept.sent, kept.key) = (Some(now), key);
        self.unsent += 1;
        Some(self.outgoing(now, place, false))
    }

    fn outgoing(&mut self, now: Instant, place: usize, again: bool) -> Outgoing {
        let Kept { data, message, at, key, .. } = &self.packets[place];
        self.pacer.spend(now, data.len());
        Outgoing {
            seq: self.first.plus(place as u32),
            message: *message,
            key: *key,
            again,
            at: *at,
            data: data.clone(),
        }
    }

    /// The peer has everything before `next`, and room for `window` packets if it says so; answers
    /// whether that can be.
    pub(super) fn acknowledge(&mut self, now: Instant, next: Seq, window: Option<usize>) -> bool {
        let place = next.since(self.first);
        if place > self.unsent as i32 {
            return false;
        }
        if place > 0 {
            self.forget(now, place as usize);
            self.progress = now;
        }
        if let Some(window) = window {
            // Never quite shut: what the peer cannot keep it asks for again.
            self.window = window.max(2);
        }
        true
    }

    /// The peer misses these; answers how many are to be sent again, and the part of the range that
    /// is not here any more. What was sent less than `rest` ago is still under way.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        (first, last): (Seq, Seq),
        rest: Duration,
    ) -> (usize, Option<(Seq, Seq)>) {
        let (from, to) = (first.since(self.first), last.since(self.first));
        let gone = (from < 0).then(|| (first, if to < 0 { last } else { self.first.previous() }));
        let to = to.min(self.unsent as i32 - 1);
        let mut count = 0;
        for place in from.max(0)..=to {
            let kept = &mut self.packets[place as usize];
            let resting = kept.sent.is_some_and(|sent| now.saturating_duration_since(sent) < rest);
            if !kept.queued && !resting {
                kept.queued = true;
                self.again.push_back(self.first.plus(place as u32));
                count += 1;
            }
        }
        (count, gone)
    }

    /// Sends again what was sent last and never acknowledged, when the peer has been silent about it
    /// for `limit`: it cannot know of losses at the end of a burst. Answers how many.
    pub(super) fn probe(&mut self, now: Instant, limit: Duration) -> usize {
        if self.probe_at(limit).is_none_or(|at| now < at) {
            return 0;
        }
        self.progress = now;
        let last = self.first.plus(self.unsent as u32).previous();
        self.lost(now, (last, last), Duration::ZERO).0
    }

    fn probe_at(&self, limit: Duration) -> Option<Instant> {
        (self.unsent > 0 && self.again.is_empty()).then(|| self.progress + limit)
    }

    /// Drops what is too late; answers how many packets and bytes.
    pub(super) fn drop_late(&mut self, now: Instant) -> (usize, usize) {
        let late = |kept: &Kept| now.saturating_duration_since(kept.at) > self.too_late;
        let count = self.packets.iter().take_while(|kept| late(kept)).count();
        let before = self.bytes;
        self.forget(now, count);
        (count, before - self.bytes)
    }

    /// When there is something to do next: to send, to probe after `probe`, or to drop.
    pub(super) fn next_timeout(&self, probe: Duration) -> Option<Instant> {
        let sendable = !self.again.is_empty()
            || (self.unsent < self.packets.len() && self.unsent < self.window);
        let send = sendable.then_some(self.pacer.ready);
        // A little beyond, so that the comparison with "more than" holds.
        let late = self.packets.front().map(|kept| kept.at + self.too_late + MILLISECOND);
        [send, late, self.probe_at(probe)].into_iter().flatten().min()
    }

    /// Packets and bytes here, and the age of the oldest.
    pub(super) fn waiting(&self, now: Instant) -> (usize, usize, Duration) {
        let oldest = self.packets.front();
        let age = oldest.map(|kept| now.saturating_duration_since(kept.at)).unwrap_or_default();
        (self.packets.len(), self.bytes, age)
    }

    /// How long there was something here.
    pub(super) fn busy(&self, now: Instant) -> Duration {
        let since = self.busy.0.map(|since| now.saturating_duration_since(since));
        self.busy.1 + since.unwrap_or_default()
    }

    /// Packets that could be handed in.
    pub(super) fn room(&self) -> usize {
        self.room.saturating_sub(self.packets.len())
    }

    /// Packets sent and not acknowledged.
    pub(super) fn under_way(&self) -> usize {
        self.unsent
    }

    pub(super) fn window(&self) -> usize {
        self.window
    }

    fn forget(&mut self, now: Instant, count: usize) {
        self.bytes -= self.packets.drain(..count).map(|kept| kept.data.len()).sum::<usize>();
        self.first = self.first.plus(count as u32);
        self.unsent = self.unsent.saturating_sub(count);
        if self.packets.is_empty() {
            let since = self.busy.0.take();
            self.busy.1 +=
                since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// Spreads packets so that a limit of bandwidth is kept; 0 is no limit.
struct Pacer {
    bytes_per_second: u64,
    ready: Instant,
}

impl Pacer {
    /// Timers are a millisecond apart: as much may be sent ahead.
    fn wait(&self, now: Instant) -> bool {
        self.bytes_per_second > 0 && now + MILLISECOND < self.ready
    }

    fn spend(&mut self, now: Instant, bytes: usize) {
        let nanos = (bytes as u64 * 1_000_000_000).checked_div(self.bytes_per_second);
        if let Some(nanos) = nanos {
            self.ready = self.ready.max(now) + Duration::from_nanos(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn send(now: Instant, first: u32, count: u32) -> Send {
        let mut send = Send::new(now, Seq::new(first), 100, 200, 1000 * MS, 0);
        for n in 0..count {
            assert!(send.push(now, Bytes::copy_from_slice(&n.to_be_bytes())));
        }
        send
    }

    fn drain(send: &mut Send, now: Instant) -> Vec<(u32, bool)> {
        let next = || send.next(now, KeySlot::Plain);
        std::iter::from_fn(next).map(|packet| (packet.seq.bits(), packet.again)).collect()
    }

    fn range(first: u32, last: u32) -> (Seq, Seq) {
        (Seq::new(first), Seq::new(last))
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_and_what_is_lost_is_sent_again_once_a_round() {
        let now = Instant::now();
        let mut send = send(now, 0x7FFF_FFFE, 5);
        assert_eq!(drain(&mut send, now).len(), 5);
        assert!(send.acknowledge(now, Seq::new(0), None));
        assert_eq!(send.waiting(now).0, 3);
        assert_eq!(send.lost(now + MS, range(1, 2), 10 * MS), (0, None), "still under way");
        let later = now + 20 * MS;
        assert_eq!(send.lost(later, range(1, 2), 10 * MS), (2, None));
        assert_eq!(send.lost(later, range(0, 2), 10 * MS), (1, None), "two wait already");
        assert_eq!(drain(&mut send, later), [(1, true), (2, true), (0, true)]);
        assert!(send.acknowledge(later, Seq::new(3), Some(50)));
        assert_eq!((send.waiting(later).0, send.next_timeout(MS)), (0, None));
    }

    #[test]
    fn acknowledgements_and_losses_that_cannot_be_are_passed_over() {
        let now = Instant::now();
        let mut send = send(now, 10, 3);
        assert_eq!(send.next(now, KeySlot::Plain).unwrap().seq, Seq::new(10));
        assert!(!send.acknowledge(now, Seq::new(12), None), "never sent");
        assert!(!send.acknowledge(now, Seq::new(1 << 29), None));
        assert!(send.acknowledge(now, Seq::new(3), None), "an old one");
        assert_eq!(send.lost(now, range(11, 0x3FFF_FFFF), Duration::ZERO).0, 0);
        assert_eq!(send.lost(now, range(0, 9), MS), (0, Some(range(0, 9))));
        assert_eq!(send.lost(now, range(5, 11), Duration::ZERO), (1, Some(range(5, 9))));
        assert_eq!(drain(&mut send, now), [(10, true), (11, false), (12, false)]);
    }

    #[test]
    fn what_is_too_late_is_dropped_and_the_rest_goes_on() {
        let start = Instant::now();
        let mut send = send(start, 0, 3);
        drain(&mut send, start);
        assert!(send.push(start + 600 * MS, Bytes::from_static(b"new")));
        assert_eq!(send.drop_late(start + 1000 * MS), (0, 0));
        assert_eq!(send.drop_late(start + 1001 * MS), (3, 12));
        assert_eq!(drain(&mut send, start + 1001 * MS), [(3, false)]);
    }

    #[test]
    fn the_end_of_a_burst_is_sent_again_when_nobody_answers() {
        let now = Instant::now();
        let mut send = send(now, 0, 3);
        drain(&mut send, now);
        assert_eq!(send.next_timeout(100 * MS), Some(now + 100 * MS));
        assert_eq!(send.probe(now + 99 * MS, 100 * MS), 0);
        assert_eq!(send.probe(now + 100 * MS, 100 * MS), 1);
        assert_eq!(drain(&mut send, now + 100 * MS), [(2, true)]);
        assert_eq!(send.probe(now + 150 * MS, 100 * MS), 0);
    }

    #[test]
    fn window_room_and_bandwidth_are_kept() {
        let now = Instant::now();
        let mut full = send(now, 0, 200);
        assert!(!full.push(now, Bytes::new()));
        assert_eq!(drain(&mut full, now).len(), 100);
        assert!(full.acknowledge(now, Seq::new(100), Some(0)));
        assert_eq!(drain(&mut full, now).len(), 2);

        let mut paced = Send::new(now, Seq::new(0), 100, 200, 1000 * MS, 1_000_000);
        for _ in 0..50 {
            paced.push(now, Bytes::from(vec![0; 1000]));
        }
        let mut sent = 0;
        for ms in 0..20 {
            sent += drain(&mut paced, now + ms * MS).len();
        }
        assert!((20..=22).contains(&sent), "{sent} packets in 20 ms at one a millisecond");
    }
}
