//! What one viewer sees of a stream's frames: its own sequence numbers and timestamps.
//!
//! Numbers are given out one after another, whatever frames are left out, so a number never stands
//! for two contents (with an AEAD cipher that would break the encryption) and a viewer sees no gap
//! that it would ask to fill. Timestamps only rise. Requests for retransmission are answered from a
//! bounded memory of what went out under which number. It notes changes only: of a viewer that gets
//! all frames it is one entry, which matters where there are thousands.

use std::collections::VecDeque;

use pipeline::Ticks;

use super::frame::FramePackets;
use super::packet::{ExtSeq, RtpTime, Seq};

/// Retransmissions that may follow each other when a viewer was quiet before.
const RESENDS_BURST: u32 = 512;

/// A viewer may ask for at most one packet again for each so many that went out, in the long run.
const SENT_PER_RESEND: u32 = 2;

/// Stretches that are remembered: as many pictures as who joins may have to catch up with.
pub const STRETCHES_MAX: usize = 256;

/// Room for stretches that stays with a viewer.
const STRETCHES_USUAL: usize = 4;

/// Where a frame got its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Number of its first packet; the others follow.
    pub first: ExtSeq,
    /// Timestamp of all its packets.
    pub time: RtpTime,
}

/// What went out under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The number with the rollover count it had.
    pub seq: ExtSeq,
    /// The packet's number in the stream's [`Ring`](super::ring::Ring).
    pub packet: u64,
    timing: Timing,
}

/// How the names of frames became timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timing {
    /// From the name to the viewer's timeline.
    offset: Ticks,
    /// Added for the timestamp to rise, in units of the payload's clock.
    lift: i64,
}

/// Packets that followed each other in the stream and went out one after another under the same
/// timing: most viewers have one such stretch for as long as they watch.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Number of the first.
    first: ExtSeq,
    /// The same packet in the stream's ring.
    packet: u64,
    timing: Timing,
}

/// The numbering of one track for one viewer.
#[derive(Debug)]
pub struct Mapping {
    next: ExtSeq,
    base: RtpTime,
    rate: u32,
    /// The highest timestamp given out, unwrapped and without `base`.
    last: Option<i64>,
    window_packets: u64,
    stretches: VecDeque<Stretch>,
    packets: u32,
    bytes: u32,
    resends: u32,
    sent_since_resend: u32,
}

impl Mapping {
    /// A numbering that begins at the random `first` and `base` (RFC 3550 5.1), for a payload
    /// clock of `rate` ticks a second, with a memory of the newest `window_packets`, within
    /// [`STRETCHES_MAX`].
    pub fn new(first: Seq, base: RtpTime, rate: u32, window_packets: u32) -> Self {
        Self {
            // Half the range, so that the receiver cannot mistake the first wrap (RFC 3711 3.3.1).
            next: ExtSeq(u64::from(first.0 & 0x7fff)),
            base,
            rate,
            last: None,
            window_packets: window_packets.into(),
            stretches: VecDeque::new(),
            packets: 0,
            bytes: 0,
            resends: RESENDS_BURST,
            sent_since_resend: 0,
        }
    }

    /// Gives the packets of a frame their numbers. `at` is its time on the viewer's timeline
    /// ([`ViewerClock`](super::clock::ViewerClock)); one that does not rise is moved to just after
    /// the frame before. Numbers are used up even if the packets are then not sent.
    pub fn place(&mut self, frame: &FramePackets, at: Ticks) -> Placed {
        let wanted = self.to_rate(at);
        let time = self.last.map_or(wanted, |last| wanted.max(last + 1));
        self.last = Some(time);
        let timing = Timing { offset: Ticks(at.0.wrapping_sub(frame.pts.0)), lift: time - wanted };
        self.remember(frame, timing);
        let first = self.next;
        let packets = frame.len() as u32;
        self.next = first.plus(u64::from(packets));
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(frame.bytes() as u32);
        self.sent_since_resend += packets;
        let earned = self.sent_since_resend / SENT_PER_RESEND;
        self.sent_since_resend %= SENT_PER_RESEND;
        self.resends = (self.resends + earned).min(RESENDS_BURST);
        Placed { first, time: self.base.plus(time) }
    }

    /// Notes what the next number stands for, and forgets what is too long ago.
    fn remember(&mut self, frame: &FramePackets, timing: Timing) {
        let goes_on = self.stretches.back().is_some_and(|stretch| {
            let packets = self.next.0 - stretch.first.0;
            stretch.packet + packets == frame.first_packet && stretch.timing == timing
        });
        if !goes_on {
            if self.stretches.len() == STRETCHES_MAX {
                self.stretches.pop_front();
            }
            let (first, packet) = (self.next, frame.first_packet);
            self.stretches.push_back(Stretch { first, packet, timing });
        }
        let oldest = self.next.0.saturating_sub(self.window_packets);
        while self.stretches.get(1).is_some_and(|second| second.first.0 <= oldest) {
            self.stretches.pop_front();
        }
        // Who joins gets a stretch for each frame until it has caught up.
        if self.stretches.len() == 1 && self.stretches.capacity() > STRETCHES_USUAL {
            self.stretches.shrink_to(STRETCHES_USUAL);
        }
    }

    /// What went out under `seq`, while it is remembered.
    pub fn lookup(&self, seq: Seq) -> Option<Sent> {
        let newest = self.next.0.checked_sub(1)?;
        let back = u64::try_from(Seq(newest as u16).since(seq)).ok()?;
        let number = newest.checked_sub(back).filter(|_| back < self.window_packets)?;
        let after = self.stretches.partition_point(|stretch| stretch.first.0 <= number);
        let stretch = self.stretches.get(after.checked_sub(1)?)?;
        let packet = stretch.packet + (number - stretch.first.0);
        Some(Sent { seq: ExtSeq(number), packet, timing: stretch.timing })
    }

    /// The timestamp that `frame` had, one of whose packets was `sent`.
    pub fn time_of(&self, frame: &FramePackets, sent: &Sent) -> RtpTime {
        self.time(frame, sent.timing)
    }

    /// The timestamp that a frame of the stream's ring got, while it is remembered.
    pub fn time_of_frame(&self, frame: &FramePackets) -> Option<RtpTime> {
        let mut end = self.next.0;
        for stretch in self.stretches.iter().rev() {
            let packets = stretch.packet..stretch.packet + (end - stretch.first.0);
            if packets.contains(&frame.first_packet) {
                return Some(self.time(frame, stretch.timing));
            }
            end = stretch.first.0;
        }
        None
    }

    fn time(&self, frame: &FramePackets, timing: Timing) -> RtpTime {
        let at = Ticks(frame.pts.0.wrapping_add(timing.offset.0));
        self.base.plus(self.to_rate(at) + timing.lift)
    }

    /// Whether one more packet may be sent again: half of what went out, 512 in a row. A viewer
    /// that asks for everything does not get it twice.
    pub fn may_resend(&mut self) -> bool {
        let allowed = self.resends > 0;
        self.resends = self.resends.saturating_sub(1);
        allowed
    }

    /// The timestamp of moment `at` of the viewer's timeline, for sender reports.
    pub fn time_at(&self, at: Ticks) -> RtpTime {
        self.base.plus(self.to_rate(at))
    }

    /// The number that the next packet gets.
    pub const fn next_seq(&self) -> ExtSeq {
        self.next
    }

    /// Packets given a place, as sender reports count them (modulo 2^32).
    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// Bytes of payload given a place, as sender reports count them (modulo 2^32).
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    fn to_rate(&self, at: Ticks) -> i64 {
        (i128::from(at.0) * i128::from(self.rate)).div_euclid(90_000) as i64
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
