//! What one viewer sees of a stream's frames: its own sequence numbers and timestamps.
//!
//! Numbers are given out one after another, whatever frames are left out, so a number never stands
//! for two contents (with an AEAD cipher that would break the encryption) and a viewer sees no gap
//! that it would ask to fill. Timestamps only rise. A bounded memory of what went out under which
//! number answers requests for retransmission.

use std::collections::VecDeque;

use pipeline::Ticks;

use super::frame::FramePackets;
use super::packet::{ExtSeq, RtpTime, Seq};

/// Retransmissions that may follow each other when a viewer was quiet before.
const RESENDS_BURST: u32 = 512;

/// A viewer may ask for at most one packet again for each so many that went out, in the long run.
const SENT_PER_RESEND: u32 = 2;

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
    /// The frame in the stream's ring.
    pub frame: u64,
    /// The packet of the frame.
    pub packet: usize,
    /// The timestamp it had.
    pub time: RtpTime,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    first: u64,
    frame: u64,
    packets: u32,
    time: RtpTime,
}

/// The numbering of one track for one viewer.
#[derive(Debug)]
pub struct Mapping {
    next: ExtSeq,
    base: RtpTime,
    rate: u32,
    /// The highest timestamp given out, unwrapped and without `base`.
    last: Option<i64>,
    window_frames: usize,
    window: VecDeque<Entry>,
    packets: u32,
    bytes: u32,
    resends: u32,
    sent_since_resend: u32,
}

impl Mapping {
    /// A numbering that begins at the random `first` and `base` (RFC 3550 5.1), for a payload
    /// clock of `rate` ticks a second, with a memory of `window_frames` frames (24 bytes each).
    pub fn new(first: Seq, base: RtpTime, rate: u32, window_frames: usize) -> Self {
        Self {
            // Half the range, so that the receiver cannot mistake the first wrap (RFC 3711 3.3.1).
            next: ExtSeq(u64::from(first.0 & 0x7fff)),
            base,
            rate,
            last: None,
            window_frames,
            window: VecDeque::new(),
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
        let time = self.to_rate(at);
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        let (first, time) = (self.next, self.base.plus(time));
        let packets = frame.len() as u32;
        self.next = first.plus(u64::from(packets));
        if self.window_frames > 0 {
            if self.window.len() == self.window_frames {
                self.window.pop_front();
            }
            self.window.push_back(Entry { first: first.0, frame: frame.index, packets, time });
        }
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(frame.bytes() as u32);
        self.sent_since_resend += packets;
        let earned = self.sent_since_resend / SENT_PER_RESEND;
        self.sent_since_resend %= SENT_PER_RESEND;
        self.resends = (self.resends + earned).min(RESENDS_BURST);
        Placed { first, time }
    }

    /// What went out under `seq`, while it is remembered.
    pub fn lookup(&self, seq: Seq) -> Option<Sent> {
        let newest = self.next.0.checked_sub(1)?;
        let back = Seq(newest as u16).since(seq);
        let number = newest.checked_sub(u64::try_from(back).ok()?)?;
        let after = self.window.partition_point(|entry| entry.first <= number);
        let entry = self.window.get(after.checked_sub(1)?)?;
        let packet = number - entry.first;
        (packet < u64::from(entry.packets)).then_some(Sent {
            seq: ExtSeq(number),
            frame: entry.frame,
            packet: packet as usize,
            time: entry.time,
        })
    }

    /// The timestamp that a frame of the stream's ring got, while it is remembered.
    pub fn time_of(&self, frame: u64) -> Option<RtpTime> {
        self.window.iter().rev().find(|entry| entry.frame == frame).map(|entry| entry.time)
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
