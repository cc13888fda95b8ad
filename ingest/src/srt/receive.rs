//! The receiving half of a connection: puts packets in order, finds holes, and gives them up when
//! their time is over (draft-sharabayko-srt-01, sections 4.5 to 4.8).
//!
//! A packet is given out as soon as everything before it is there, not at the end of the latency:
//! media carries its own times, and a server that is no player gains nothing by waiting. A hole may
//! hold back what is behind it until the latency of that is over; then the hole is given up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipeline::time::Unwrapper;

use super::wire::{DataHead, PAYLOAD_BYTES_MAX, Seq, put_loss};

/// After so long without an earlier one, the sender's clock is taken from newer packets.
const CLOCK_PERIOD: Duration = Duration::from_secs(10);

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is where it belongs.
    Kept,
    /// It came behind a hole: the numbers from the first to the last are missing, tell the sender.
    Hole(Seq, Seq),
    /// It came before, or after it was given up.
    Late,
    /// So far ahead that there is no room for it.
    Ahead,
}

struct Slot {
    data: Bytes,
    /// When it must be given out at the latest, whatever is missing before it.
    due: Instant,
}

pub(super) struct Receive {
    /// Number of the packet at the front.
    next: Seq,
    /// Packets from `next` on; `None` where one is missing. Never ends with a hole.
    slots: VecDeque<Option<Slot>>,
    /// Packets in `slots`, at most.
    window: usize,
    /// Missing packets in `slots`.
    missing: usize,
    bytes: usize,
    latency: Duration,
    clock: Clock,
}

impl Receive {
    pub(super) fn new(first: Seq, window: usize, latency: Duration) -> Self {
        Self {
            next: first,
            slots: VecDeque::new(),
            window,
            missing: 0,
            bytes: 0,
            latency,
            clock: Clock::default(),
        }
    }

    /// Where a packet would be put, for decrypting only what is wanted.
    pub(super) fn wants(&self, seq: Seq) -> bool {
        let place = seq.since(self.next);
        let place = usize::try_from(place).ok().filter(|place| *place < self.window);
        place.is_some_and(|place| !matches!(self.slots.get(place), Some(Some(_))))
    }

    /// Takes a packet that came at `now`.
    pub(super) fn take(&mut self, now: Instant, head: &DataHead, data: Bytes) -> Taken {
        let Ok(place) = usize::try_from(head.seq.since(self.next)) else { return Taken::Late };
        if place >= self.window {
            return Taken::Ahead;
        }
        let due = self.clock.sent(now, head.time) + self.latency;
        // However wrong the sender's times are, nothing waits longer than the latency.
        let due = due.min(now + self.latency);
        let bytes = data.len();
        let slot = Some(Slot { data, due });
        let end = self.slots.len();
        let taken = if place < end {
            if self.slots[place].is_some() {
                return Taken::Late;
            }
            self.slots[place] = slot;
            self.missing -= 1;
            Taken::Kept
        } else {
            self.slots.extend(std::iter::repeat_with(|| None).take(place - end));
            self.slots.push_back(slot);
            self.missing += place - end;
            match place - end {
                0 => Taken::Kept,
                _ => Taken::Hole(self.next.plus(end as u32), head.seq.previous()),
            }
        };
        self.bytes += bytes;
        taken
    }

    /// The next payload in order, and how many packets before it were given up.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Bytes, usize)> {
        let hole = self.hole();
        if self.slots.get(hole)?.as_ref().is_some_and(|slot| hole > 0 && now < slot.due) {
            return None;
        }
        self.skip(hole);
        let slot = self.slots.pop_front()??;
        self.next = self.next.plus(1);
        self.bytes -= slot.data.len();
        Some((slot.data, hole))
    }

    /// From the first to the last packet that is held back, in the sender's time.
    pub(super) fn span(&self) -> Duration {
        let mut held = self.slots.iter().flatten().map(|slot| slot.due);
        let first = held.next();
        first
            .zip(held.next_back())
            .map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }

    /// When a hole is given up, if there is one.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.hole() {
            0 => None,
            hole => self.slots.get(hole)?.as_ref().map(|slot| slot.due),
        }
    }

    /// The sender has given up these packets; answers how many of them were missing. What comes
    /// behind them need not wait.
    pub(super) fn give_up(&mut self, first: Seq, last: Seq) -> usize {
        // Only the hole at the front matters: it is what holds the rest back.
        let from = first.since(self.next).max(0) as usize;
        let to = last.since(self.next);
        if from > 0 || to < 0 {
            return 0;
        }
        let count = self.hole().min(to as usize + 1);
        self.skip(count);
        count
    }

    /// The first number that is missing: all before it were received or given up.
    pub(super) fn acknowledged(&self) -> Seq {
        let whole = match self.missing {
            0 => self.slots.len(),
            _ => self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len()),
        };
        self.next.plus(whole as u32)
    }

    /// Writes what is missing as a list of losses, as much as one packet holds.
    pub(super) fn missing(&self, out: &mut Vec<u8>) {
        let mut left = self.missing;
        let mut place = 0;
        while left > 0 && out.len() + 8 <= PAYLOAD_BYTES_MAX {
            let Some(first) = self.slots.range(place..).position(Option::is_none) else { return };
            let first = place + first;
            let length = self.slots.range(first..).take_while(|slot| slot.is_none()).count();
            place = first + length;
            left -= length;
            put_loss(out, self.next.plus(first as u32), self.next.plus(place as u32 - 1));
        }
    }

    pub(super) fn any_missing(&self) -> bool {
        self.missing > 0
    }

    /// Packets for which there is room.
    pub(super) fn room(&self) -> usize {
        self.window - self.slots.len()
    }

    /// Packets and bytes that wait behind a hole.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.slots.len() - self.missing, self.bytes)
    }

    pub(super) fn latency(&self) -> Duration {
        self.latency
    }

    /// Length of the hole at the front.
    fn hole(&self) -> usize {
        match self.missing {
            0 => 0,
            _ => self.slots.iter().take_while(|slot| slot.is_none()).count(),
        }
    }

    fn skip(&mut self, count: usize) {
        self.slots.drain(..count);
        self.missing -= count;
        self.next = self.next.plus(count as u32);
    }
}

/// When packets were sent, on our clock: the shortest way that a packet took lately counts as the
/// way of all, so that the sender's clock may run a little faster or slower than ours.
#[derive(Default)]
struct Clock {
    unwrap: Unwrapper<32>,
    /// The first packet: our time and the sender's.
    origin: Option<(Instant, i64)>,
    /// Smallest distance from the sender's time to ours in microseconds, in this period and in the
    /// one before.
    way: i64,
    way_before: i64,
    period: Option<Instant>,
}

impl Clock {
    fn sent(&mut self, now: Instant, time: u32) -> Instant {
        let time = self.unwrap.unwrap(time.into());
        let (start, first) = *self.origin.get_or_insert((now, time));
        let passed = now.saturating_duration_since(start).as_micros() as i64;
        let way = passed.saturating_sub(time.saturating_sub(first));
        let begun = *self.period.get_or_insert(now);
        if now.saturating_duration_since(begun) >= CLOCK_PERIOD {
            (self.way_before, self.way, self.period) = (self.way, way, Some(now));
        }
        self.way = self.way.min(way);
        let late = way.saturating_sub(self.way.min(self.way_before));
        now.checked_sub(Duration::from_micros(late.max(0) as u64)).unwrap_or(start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{KeySlot, losses};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn head(seq: u32, ms: u32) -> DataHead {
        let time = ms.wrapping_mul(1000);
        let key = Some(KeySlot::Plain);
        DataHead { seq: Seq::new(seq), key, again: false, message: 1, time, to: 1 }
    }

    fn data(seq: u32) -> Bytes {
        Bytes::copy_from_slice(&seq.to_be_bytes())
    }

    fn drain(receive: &mut Receive, now: Instant) -> Vec<(u32, usize)> {
        let next = || receive.next(now);
        std::iter::from_fn(next)
            .map(|(data, lost)| (u32::from_be_bytes(data[..].try_into().unwrap()), lost))
            .collect()
    }

    #[test]
    fn packets_in_order_do_not_wait() {
        let now = Instant::now();
        let mut receive = Receive::new(Seq::new(0x7FFF_FFFF), 100, 120 * MS);
        for seq in [0x7FFF_FFFF, 0, 1] {
            assert_eq!(receive.take(now, &head(seq, 0), data(seq)), Taken::Kept);
            assert_eq!(drain(&mut receive, now), [(seq, 0)]);
        }
        assert_eq!(receive.acknowledged(), Seq::new(2));
        assert_eq!(receive.next_timeout(), None);
    }

    #[test]
    fn a_hole_is_told_and_filled() {
        let now = Instant::now();
        let mut receive = Receive::new(Seq::new(10), 100, 120 * MS);
        receive.take(now, &head(10, 0), data(10));
        assert_eq!(drain(&mut receive, now).len(), 1);
        let hole = Taken::Hole(Seq::new(11), Seq::new(12));
        assert_eq!(receive.take(now, &head(13, 3), data(13)), hole);
        assert_eq!(
            receive.take(now, &head(15, 5), data(15)),
            Taken::Hole(Seq::new(14), Seq::new(14))
        );
        let mut list = Vec::new();
        receive.missing(&mut list);
        let holes = [(11, 12), (14, 14)].map(|(a, b)| (Seq::new(a), Seq::new(b)));
        assert_eq!(losses(&list).collect::<Vec<_>>(), holes);
        assert_eq!((receive.acknowledged(), receive.waiting().0), (Seq::new(11), 2));
        assert!(drain(&mut receive, now).is_empty());
        assert_eq!(receive.take(now, &head(12, 2), data(12)), Taken::Kept);
        assert_eq!(receive.take(now, &head(12, 2), data(12)), Taken::Late);
        assert_eq!(receive.take(now, &head(11, 1), data(11)), Taken::Kept);
        assert_eq!(drain(&mut receive, now), [(11, 0), (12, 0), (13, 0)]);
        assert_eq!(receive.acknowledged(), Seq::new(14));
    }

    #[test]
    fn a_hole_is_given_up_when_the_latency_of_what_is_behind_it_is_over() {
        let start = Instant::now();
        let mut receive = Receive::new(Seq::new(0), 100, 120 * MS);
        receive.take(start, &head(0, 0), data(0));
        drain(&mut receive, start);
        // Sent at 10, here at 40: due at 130 all the same.
        receive.take(start + 40 * MS, &head(2, 10), data(2));
        assert_eq!(receive.next_timeout(), Some(start + 130 * MS));
        assert!(drain(&mut receive, start + 129 * MS).is_empty());
        assert_eq!(drain(&mut receive, start + 130 * MS), [(2, 1)]);
        assert_eq!(receive.take(start + 131 * MS, &head(1, 5), data(1)), Taken::Late);
    }

    #[test]
    fn times_of_a_liar_hold_nothing_back_longer_than_the_latency() {
        let start = Instant::now();
        for time in [0, 5, 1 << 20, u32::MAX / 2, u32::MAX] {
            let mut receive = Receive::new(Seq::new(0), 100, 120 * MS);
            receive.take(start, &head(0, 7), data(0));
            drain(&mut receive, start);
            receive.take(start, &head(5, time), data(5));
            assert!(receive.next_timeout().unwrap() <= start + 120 * MS);
            assert_eq!(drain(&mut receive, start + 120 * MS), [(5, 4)]);
        }
    }

    #[test]
    fn a_clock_that_runs_slower_than_ours_loses_no_latency() {
        let start = Instant::now();
        let mut receive = Receive::new(Seq::new(0), 100, 120 * MS);
        for seq in 0..4000_u32 {
            // 1 % slow: after 40 s the sender is 400 ms behind.
            let now = start + seq * 10 * MS;
            receive.take(now, &head(seq, seq * 10 - seq / 10), data(seq));
            drain(&mut receive, now);
        }
        let now = start + 40_000 * MS;
        receive.take(now, &head(4001, 39_600), data(4001));
        let wait = receive.next_timeout().unwrap() - now;
        assert!(wait >= Duration::from_millis(1), "{wait:?}");
    }

    #[test]
    fn what_the_sender_gave_up_holds_nothing_back_and_nothing_goes_beyond_the_window() {
        let now = Instant::now();
        let mut receive = Receive::new(Seq::new(0), 50, 120 * MS);
        receive.take(now, &head(6, 0), data(6));
        assert_eq!(receive.give_up(Seq::new(2), Seq::new(4)), 0, "not at the front");
        assert_eq!(receive.give_up(Seq::new(0x7FFF_FFF0), Seq::new(3)), 4);
        assert_eq!(receive.give_up(Seq::new(4), Seq::new(900)), 2);
        assert_eq!(drain(&mut receive, now), [(6, 0)]);
        assert_eq!(receive.take(now, &head(57, 0), data(0)), Taken::Ahead);
        assert_eq!(
            receive.take(now, &head(56, 0), data(56)),
            Taken::Hole(Seq::new(7), Seq::new(55))
        );
        assert_eq!(receive.room(), 0);
    }
}
