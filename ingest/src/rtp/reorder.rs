//! Incoming packets in their order: waits for those that are late or sent again, and says which to
//! ask for and when one is lost for good.
//!
//! A hole is asked for as soon as three newer packets or 10 ms have passed, again after each
//! 1.5 round trips, and given up after at most 400 ms (RFC 4585 6.2.1; two parties, so early
//! feedback needs no dithering). Without retransmission a hole is given up after 20 ms. Whether a
//! loss needs a key picture is for those who know the codec.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{ExtSeq, Seq, SeqUnwrapper};

/// Most packets between the next one due and the newest one; further ahead is a new sequence.
pub const WINDOW_PACKETS_MAX: usize = 2048;

/// A packet this far behind is not late but the start of a new sequence (RFC 3550 A.1).
const BEHIND_PACKETS_MAX: u64 = 1024;

/// A hole is asked for when so many newer packets have come ...
const REORDER_PACKETS: u64 = 3;

/// ... or this time has passed.
const REORDER_WAIT: Duration = Duration::from_millis(10);

/// How long a hole is kept open when nobody is asked to fill it.
const WAIT_UNASKED: Duration = Duration::from_millis(20);

/// Bounds on how long a hole is kept open when it is asked for.
const WAIT_ASKED: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// The shortest time between two requests for the same packet.
const RETRY_MIN: Duration = Duration::from_millis(20);

/// Most requests for one packet.
const ASKS_MAX: u8 = 10;

/// What became of a packet that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// New and in its place.
    New,
    /// It had been asked for.
    Recovered,
    /// It was there already.
    Duplicate,
    /// Its place was passed on or given up before.
    Late,
    /// It is far outside of the sequence; kept out until its successor confirms the jump.
    Jump,
}

/// What comes out, in this order of urgency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<T> {
    /// The next packet.
    Packet(ExtSeq, T),
    /// So many packets from `first` on will not come; the next packet shows the gap.
    Lost {
        /// The first of them.
        first: ExtSeq,
        /// How many.
        count: u64,
    },
    /// Packets to ask the sender for, rising.
    Nack(Vec<Seq>),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorderCounts {
    /// Packets put in their place.
    pub received: u64,
    /// Of these, the ones that had been asked for.
    pub recovered: u64,
    /// Came twice.
    pub duplicates: u64,
    /// Came after they were given up.
    pub late: u64,
    /// Never came in time.
    pub lost: u64,
    /// Requests for single packets.
    pub asked: u64,
    /// New sequences.
    pub restarts: u64,
}

#[derive(Debug)]
enum Slot<T> {
    Here(T),
    Missing { since: Instant, asked: Option<Instant>, asks: u8 },
}

/// Puts packets `T` of one stream in order.
#[derive(Debug)]
pub struct Reorder<T> {
    ask: bool,
    rtt: Duration,
    unwrap: SeqUnwrapper,
    /// Number of the slot at the front, once a packet has come.
    next: Option<ExtSeq>,
    slots: VecDeque<Slot<T>>,
    missing: usize,
    /// The number that would confirm a jump, and the packet that began it.
    jump: Option<(Seq, T)>,
    /// What is left of the sequence before a confirmed jump.
    old: VecDeque<Output<T>>,
    counts: ReorderCounts,
}

impl<T> Reorder<T> {
    /// One that asks for lost packets, or not. The round trip is taken as 50 ms until it is set.
    pub fn new(ask: bool) -> Self {
        Self {
            ask,
            rtt: Duration::from_millis(50),
            unwrap: SeqUnwrapper::default(),
            next: None,
            slots: VecDeque::new(),
            missing: 0,
            jump: None,
            old: VecDeque::new(),
            counts: ReorderCounts::default(),
        }
    }

    /// Sets the measured round trip to the sender.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Puts a packet in, be it the first of its number or a retransmission. Drain [`Self::poll`]
    /// afterwards.
    pub fn insert(&mut self, now: Instant, seq: Seq, item: T) -> Inserted {
        let Some(next) = self.next else {
            self.next = Some(self.unwrap.unwrap(seq));
            self.slots.push_back(Slot::Here(item));
            self.counts.received += 1;
            return Inserted::New;
        };
        let number = self.unwrap.peek(seq);
        if number < next && next.0 - number.0 <= BEHIND_PACKETS_MAX {
            self.counts.late += 1;
            return Inserted::Late;
        }
        let place = number.0.checked_sub(next.0).and_then(|ahead| usize::try_from(ahead).ok());
        let Some(place) = place.filter(|&place| place < WINDOW_PACKETS_MAX) else {
            return self.jump(seq, item);
        };
        self.jump = None;
        self.unwrap.unwrap(seq);
        while self.slots.len() < place {
            self.slots.push_back(Slot::Missing { since: now, asked: None, asks: 0 });
            self.missing += 1;
        }
        let Some(slot) = self.slots.get_mut(place) else {
            self.slots.push_back(Slot::Here(item));
            self.counts.received += 1;
            return Inserted::New;
        };
        let answer = match slot {
            Slot::Here(_) => {
                self.counts.duplicates += 1;
                return Inserted::Duplicate;
            }
            Slot::Missing { asked: Some(_), .. } => Inserted::Recovered,
            Slot::Missing { .. } => Inserted::New,
        };
        *slot = Slot::Here(item);
        self.missing -= 1;
        self.counts.received += 1;
        self.counts.recovered += u64::from(answer == Inserted::Recovered);
        answer
    }

    /// The next output; `None` until a packet comes or [`Self::next_timeout`] is reached.
    pub fn poll(&mut self, now: Instant) -> Option<Output<T>> {
        if let Some(output) = self.old.pop_front() {
            return Some(output);
        }
        let next = self.next?;
        match self.slots.front() {
            Some(Slot::Here(_)) => {
                let Some(Slot::Here(item)) = self.slots.pop_front() else { return None };
                self.next = Some(next.plus(1));
                return Some(Output::Packet(next, item));
            }
            Some(Slot::Missing { since, .. }) if now >= *since + self.wait() => {
                let wait = self.wait();
                let given_up = |slot: &Slot<T>| matches!(slot, Slot::Missing { since, .. } if now >= *since + wait);
                let count = self.slots.iter().take_while(|slot| given_up(slot)).count();
                self.slots.drain(..count);
                self.missing -= count;
                self.counts.lost += count as u64;
                self.next = Some(next.plus(count as u64));
                return Some(Output::Lost { first: next, count: count as u64 });
            }
            _ => {}
        }
        let due = self.take_due(next, now);
        (!due.is_empty()).then_some(Output::Nack(due))
    }

    /// When [`Self::poll`] is worth calling again though no packet came.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.missing == 0 {
            return None;
        }
        let end = self.slots.len() as u64;
        let times = self.slots.iter().enumerate().filter_map(|(place, slot)| match slot {
            Slot::Here(_) => None,
            Slot::Missing { since, asked, asks } => {
                let given_up = *since + self.wait();
                let ask = self.ask_at(*since, *asked, *asks, end - 1 - place as u64);
                Some(ask.map_or(given_up, |ask| ask.min(given_up)))
            }
        });
        times.min()
    }

    /// Counters.
    pub const fn counts(&self) -> ReorderCounts {
        self.counts
    }

    fn wait(&self) -> Duration {
        if self.ask { (self.retry() * 5).clamp(WAIT_ASKED[0], WAIT_ASKED[1]) } else { WAIT_UNASKED }
    }

    fn retry(&self) -> Duration {
        (self.rtt.min(WAIT_ASKED[1]) * 3 / 2).max(RETRY_MIN)
    }

    /// When a missing packet is asked for next; `newer` packets lie behind it.
    fn ask_at(
        &self,
        since: Instant,
        asked: Option<Instant>,
        asks: u8,
        newer: u64,
    ) -> Option<Instant> {
        if !self.ask || asks >= ASKS_MAX {
            return None;
        }
        Some(match asked {
            Some(asked) => asked + self.retry(),
            None if newer >= REORDER_PACKETS => since,
            None => since + REORDER_WAIT,
        })
    }

    fn take_due(&mut self, next: ExtSeq, now: Instant) -> Vec<Seq> {
        let mut due = Vec::new();
        if self.missing == 0 || !self.ask {
            return due;
        }
        let end = self.slots.len();
        for place in 0..end {
            let Slot::Missing { since, asked, asks } = self.slots[place] else { continue };
            let at = self.ask_at(since, asked, asks, (end - 1 - place) as u64);
            if at.is_some_and(|at| at <= now) {
                self.slots[place] = Slot::Missing { since, asked: Some(now), asks: asks + 1 };
                due.push(next.plus(place as u64).seq());
            }
        }
        self.counts.asked += due.len() as u64;
        due
    }

    /// Two packets in a row far outside make a new sequence (RFC 3550 A.1).
    fn jump(&mut self, seq: Seq, item: T) -> Inserted {
        let Some((_, begun)) = self.jump.take_if(|(wanted, _)| *wanted == seq) else {
            self.jump = Some((seq.next(), item));
            return Inserted::Jump;
        };
        let Some(mut number) = self.next else { return Inserted::Jump };
        for slot in self.slots.drain(..) {
            if let Slot::Here(item) = slot {
                self.old.push_back(Output::Packet(number, item));
            } else {
                self.counts.lost += 1;
            }
            number = number.plus(1);
        }
        self.missing = 0;
        // A fresh rollover, so that the numbers go on rising and the gap is seen.
        let first = ExtSeq(((number.0 >> 16) + 2) << 16 | u64::from(seq.0.wrapping_sub(1)));
        self.unwrap = SeqUnwrapper::starting(first.plus(1));
        self.old.push_back(Output::Lost { first: number, count: 1 });
        self.next = Some(first);
        self.slots.push_back(Slot::Here(begun));
        self.slots.push_back(Slot::Here(item));
        self.counts.received += 2;
        self.counts.restarts += 1;
        Inserted::New
    }
}

#[cfg(test)]
#[path = "reorder_tests.rs"]
mod tests;
