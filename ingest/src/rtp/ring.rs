//! The newest frames of one track in packets, one ring per stream whatever the number of viewers:
//! retransmissions are answered from it and new viewers begin from it.
//!
//! It keeps the group of pictures that is being written and a short past before it, within a
//! bound of bytes. Frames leave oldest first.

use std::collections::VecDeque;
use std::sync::Arc;

use pipeline::{Ticks, TrackKind};

use super::frame::FramePackets;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Bytes of payload, whatever else holds.
    pub bytes: usize,
    /// Number of packets, whatever else holds.
    pub packets: usize,
    /// Media time kept for retransmissions when the group of pictures is younger.
    pub span: Ticks,
}

impl Default for RingLimits {
    /// 32 MiB, 65,536 packets, 2 s.
    fn default() -> Self {
        Self { bytes: 32 << 20, packets: 1 << 16, span: Ticks(2 * Ticks::SECOND.0) }
    }
}

/// Frames by their number in the stream.
#[derive(Debug, Default)]
pub struct Ring {
    limits: RingLimits,
    frames: VecDeque<Arc<FramePackets>>,
    /// Number of the frame at the front.
    first: u64,
    /// Number of the next packet.
    next_packet: u64,
    last_key: Option<u64>,
    bytes: usize,
    packets: usize,
}

impl Ring {
    /// An empty ring.
    pub fn new(limits: RingLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// An empty ring whose frames and packets are numbered from `first` on.
    pub fn numbered(limits: RingLimits, first: u64) -> Self {
        Self { first, next_packet: first, ..Self::new(limits) }
    }

    /// Adds the next frame, gives it and its packets their numbers and drops what the limits no longer allow.
    pub fn push(&mut self, mut frame: FramePackets) -> Arc<FramePackets> {
        frame.index = self.first + self.frames.len() as u64;
        frame.first_packet = self.next_packet;
        self.next_packet += frame.len() as u64;
        self.bytes += frame.bytes();
        self.packets += frame.len();
        if frame.key {
            self.last_key = Some(frame.index);
        }
        let frame = Arc::new(frame);
        self.frames.push_back(Arc::clone(&frame));
        while self.frames.len() > 1 && self.front_is_spent(&frame) {
            if let Some(old) = self.frames.pop_front() {
                self.bytes -= old.bytes();
                self.packets -= old.len();
                self.first += 1;
            }
        }
        frame
    }

    /// The frame with packet `number` and the packet's place in it, while it is kept.
    pub fn with_packet(&self, number: u64) -> Option<(&Arc<FramePackets>, usize)> {
        let after = self.frames.partition_point(|frame| frame.first_packet <= number);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        let place = usize::try_from(number - frame.first_packet).ok()?;
        (place < frame.len()).then_some((frame, place))
    }

    /// The frames from the newest key picture on; empty when it is no longer kept.
    pub fn group(&self) -> impl ExactSizeIterator<Item = &Arc<FramePackets>> {
        let start = self.last_key.and_then(|key| key.checked_sub(self.first));
        let start = start.map_or(self.frames.len(), |start| start as usize);
        self.frames.range(start.min(self.frames.len())..)
    }

    /// The number that the next frame will get.
    pub fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Bytes of payload kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn front_is_spent(&self, newest: &FramePackets) -> bool {
        let Some(front) = self.frames.front() else { return false };
        let old = newest.dts - front.dts > self.limits.span || front.dts > newest.dts;
        let in_group =
            self.last_key.is_some_and(|key| front.index >= key) && newest.kind == TrackKind::Video;
        self.bytes > self.limits.bytes || self.packets > self.limits.packets || old && !in_group
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
