//! Payloads of one PID into units: PES packets taken apart and, for pictures, joined again by the
//! rule of [`super`] that a PES packet which is less than full ends its unit.

use bytes::{Bytes, BytesMut};

use super::pes::{HEAD_BYTES_MAX, Look, PesHead};
use super::{PES_LENGTH_FULL, Stats, UNIT_BYTES_MAX};

/// A picture, or the sound of one PES packet.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) data: Bytes,
    /// PTS and DTS modulo 2^33.
    pub(super) times: Option<(u64, u64)>,
    /// Whether bytes before this unit, since the one before it, were lost.
    pub(super) lost: bool,
}

/// What the next payload bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of use until a PES packet starts.
    Wait,
    /// The head of a PES packet, of which `head` holds the beginning.
    Head,
    /// Data; the number of bytes that are left, or `None` when the next start ends it.
    Body(Option<usize>),
}

#[derive(Debug)]
pub(super) struct Collector {
    /// Whether a unit may be spread over PES packets: pictures.
    joins: bool,
    state: State,
    head: Vec<u8>,
    /// Whether the PES packet in work has the full length, so that its unit goes on.
    full: bool,
    unit: BytesMut,
    /// A unit has begun.
    open: bool,
    times: Option<(u64, u64)>,
    /// The sender keeps the rule; false once a PES packet without time followed a short one.
    ends_with_short: bool,
    /// The last thing that happened was that a unit ended by the rule.
    just_ended: bool,
    /// Bytes were lost since the last unit.
    lost: bool,
}

impl Collector {
    pub(super) fn new(joins: bool) -> Self {
        Self {
            joins,
            state: State::Wait,
            head: Vec::with_capacity(HEAD_BYTES_MAX),
            full: false,
            unit: BytesMut::new(),
            open: false,
            times: None,
            ends_with_short: true,
            just_ended: false,
            lost: false,
        }
    }

    /// Takes a packet's payload and appends the units that it completes, two at most, to `done`.
    /// `start` is its `payload_unit_start_indicator`.
    pub(super) fn push(
        &mut self,
        mut payload: &[u8],
        start: bool,
        stats: &mut Stats,
        done: &mut Vec<Unit>,
    ) {
        if start {
            match self.state {
                // The stated length was too long, yet no packet is missing: the data is whole.
                State::Body(Some(_)) => {
                    stats.wrong_lengths += 1;
                    self.end_pes(done);
                }
                State::Body(None) => self.end_pes(done),
                State::Head => self.drop_unit(stats),
                State::Wait => {}
            }
            self.state = State::Head;
            self.head.clear();
        }
        if self.state == State::Head {
            payload = self.read_head(payload, stats, done);
        }
        let State::Body(left) = self.state else {
            return;
        };
        let take = left.map_or(payload.len(), |left| left.min(payload.len()));
        if self.unit.len() + take > UNIT_BYTES_MAX {
            stats.oversize_units += 1;
            return self.forget();
        }
        self.unit.extend_from_slice(&payload[..take]);
        if take < payload.len() {
            stats.wrong_lengths += 1;
        }
        match left {
            Some(left) if left == take => {
                self.state = State::Wait;
                self.end_pes(done);
            }
            left => self.state = State::Body(left.map(|left| left - take)),
        }
    }

    /// Packets of this PID are missing: a unit that has begun is not given out.
    pub(super) fn gap(&mut self, stats: &mut Stats) {
        self.lost = true;
        self.just_ended = false;
        if self.open || self.state != State::Wait {
            self.drop_unit(stats);
        }
    }

    /// No more comes: gives out a unit whose end was not marked. One that is known to lack bytes
    /// is dropped.
    pub(super) fn flush(&mut self, stats: &mut Stats, done: &mut Vec<Unit>) {
        match self.state {
            State::Head | State::Body(Some(_)) => self.drop_unit(stats),
            State::Wait | State::Body(None) => self.end_unit(done),
        }
        self.state = State::Wait;
        self.just_ended = false;
    }

    /// Takes bytes of the head; answers those behind it.
    fn read_head<'a>(
        &mut self,
        mut payload: &'a [u8],
        stats: &mut Stats,
        done: &mut Vec<Unit>,
    ) -> &'a [u8] {
        loop {
            match PesHead::parse(&self.head) {
                Look::Need(bytes) => {
                    let take = (bytes - self.head.len()).min(payload.len());
                    if take == 0 {
                        return payload;
                    }
                    self.head.extend_from_slice(&payload[..take]);
                    payload = &payload[take..];
                }
                Look::Broken => {
                    self.drop_unit(stats);
                    return payload;
                }
                Look::Head(head) => {
                    self.begin_pes(head, stats, done);
                    return payload;
                }
            }
        }
    }

    fn begin_pes(&mut self, head: PesHead, stats: &mut Stats, done: &mut Vec<Unit>) {
        let begins = head.times.is_some() || head.aligned || !self.joins;
        if begins {
            self.end_unit(done);
            self.open = true;
            self.times = head.times;
        } else if !self.open {
            // The rest of a unit whose start was lost, or, right behind one that seemed to be
            // over, the sign of a sender with another rule: from now on only a time ends a unit.
            if self.just_ended {
                self.ends_with_short = false;
            }
            return self.drop_unit(stats);
        }
        self.just_ended = false;
        self.full = head.length == Some(PES_LENGTH_FULL);
        let left = head.length.map(|length| length + 6 - head.head_bytes);
        self.unit.reserve(left.unwrap_or(0));
        self.state = State::Body(left);
        if left == Some(0) {
            self.state = State::Wait;
            self.end_pes(done);
        }
    }

    fn end_pes(&mut self, done: &mut Vec<Unit>) {
        let goes_on =
            self.joins && (self.full || !self.ends_with_short || self.state != State::Wait);
        if !goes_on {
            self.end_unit(done);
            self.just_ended = true;
        }
    }

    fn end_unit(&mut self, done: &mut Vec<Unit>) {
        if std::mem::take(&mut self.open) {
            let data = std::mem::take(&mut self.unit).freeze();
            let times = self.times.take();
            if !data.is_empty() {
                let lost = std::mem::take(&mut self.lost);
                done.push(Unit { data, times, lost });
            }
        }
    }

    fn drop_unit(&mut self, stats: &mut Stats) {
        stats.broken_units += 1;
        self.forget();
    }

    fn forget(&mut self) {
        self.unit = BytesMut::new();
        self.open = false;
        self.lost = true;
        self.just_ended = false;
        self.state = State::Wait;
    }
}
