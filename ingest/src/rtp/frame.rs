//! One coded frame cut into RTP payloads, made once per stream and shared by all its viewers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pipeline::{Pts, Ticks, TrackKind};

/// The payloads of one frame in one buffer. What differs between viewers (SSRC, payload type,
/// sequence, timestamp, extensions) is not here.
#[derive(Clone, Debug)]
pub struct FramePackets {
    /// Place in the stream's [`Ring`](super::ring::Ring), zero before it is in one.
    pub index: u64,
    /// Place of its first packet among all packets of that ring, zero before it is in one.
    pub first_packet: u64,
    /// The track.
    pub kind: TrackKind,
    /// Whether decoding can start here.
    pub key: bool,
    /// The name of the frame.
    pub pts: Pts,
    /// Decoding time; frames are sent in this order.
    pub dts: Pts,
    /// When the frame entered this process.
    pub arrived: Instant,
    /// What a graph said about the picture: a JSON object.
    pub results: Option<Arc<str>>,
    data: Bytes,
    /// Where each payload ends; it begins where the one before ends.
    ends: Box<[u32]>,
    /// Whether the last packet carries the marker.
    marked: bool,
    /// How much later than the packet before it each packet begins.
    spacing: Ticks,
}

impl FramePackets {
    /// A frame of `packet` cut at `ends`, which must rise up to the length of `data`.
    pub(super) fn new(packet: &pipeline::Packet, data: Bytes, ends: Box<[u32]>) -> Self {
        debug_assert_eq!(ends.last().map_or(0, |&end| end as usize), data.len());
        debug_assert!(ends.is_sorted());
        Self {
            index: 0,
            first_packet: 0,
            kind: packet.kind,
            key: packet.key,
            pts: packet.pts,
            dts: packet.dts,
            arrived: packet.arrived,
            results: None,
            data,
            ends,
            marked: packet.kind == TrackKind::Video,
            spacing: Ticks(0),
        }
    }

    /// The same for sound whose last packet carries the marker.
    pub(super) fn marked(self) -> Self {
        Self { marked: true, ..self }
    }

    /// The same for packets that are a frame of their own each, one `spacing` after the other.
    pub(super) fn spaced(self, spacing: Ticks) -> Self {
        Self { spacing, ..self }
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all payloads.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The payload of packet `index`, or `None` beyond the last.
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.data[start..end])
    }

    /// Whether packet `index` carries the marker: the last one of a picture (RFC 6184 5.1) and of
    /// an AAC access unit (RFC 3640 3.1), none of other sound (RFC 7587 4.1).
    pub fn marker(&self, index: usize) -> bool {
        self.marked && index + 1 == self.ends.len()
    }

    /// How much later than the frame packet `index` begins: zero but for long frames of samples,
    /// whose packets have times of their own.
    pub fn offset(&self, index: usize) -> Ticks {
        Ticks(self.spacing.0 * index as i64)
    }

    /// The packets grouped so that each group fits one segmented send: all of a group have the
    /// same size but its last, which is no larger. A picture of one slice is one group; parameter
    /// sets before it, or further slices, make another.
    pub fn runs(&self) -> Runs<'_> {
        Runs { frame: self, next: 0 }
    }

    fn size(&self, index: usize) -> usize {
        self.payload(index).map_or(0, <[u8]>::len)
    }
}

/// Walks over the groups of [`FramePackets::runs`].
#[derive(Debug)]
pub struct Runs<'a> {
    frame: &'a FramePackets,
    next: usize,
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.next;
        if start >= self.frame.len() {
            return None;
        }
        let size = self.frame.size(start);
        let mut end = start + 1;
        while end < self.frame.len() && self.frame.size(end) <= size {
            end += 1;
            if self.frame.size(end - 1) < size {
                break;
            }
        }
        self.next = end;
        Some(start..end)
    }
}
