//! From RTP payloads in sequence to coded pictures, whatever the codec.
//!
//! A picture ends at its marker or where the timestamp changes. A picture with a hole is never
//! handed out, nor anything after it until the next key picture: a viewer sees a pause, not smeared
//! pictures. Whoever drives this asks the sender for a key picture while
//! [`PictureDepacketiser::awaits_key`] says so.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use pipeline::Codec;

use super::{DepacketiseError, Fault, UNIT_BYTES_MAX, Unit, av1, h264, hevc, vp8, vp9};
use crate::rtp::packet::{ExtSeq, RtpTime};

/// Most packets in one picture: the largest picture in packets of 512 bytes.
const UNIT_PACKETS_MAX: u32 = (UNIT_BYTES_MAX / 512) as u32;

/// What became of the pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// Handed out.
    pub complete: u64,
    /// Had a hole or was malformed.
    pub damaged: u64,
    /// Whole, but depended on a lost one.
    pub withheld: u64,
}

/// The part that knows the codec.
pub(super) trait Format: fmt::Debug + Send {
    /// Whether a payload can only be the first of its picture; `stream_start` when nothing was
    /// received before it.
    fn begins(&self, payload: &[u8], stream_start: bool) -> bool;

    /// Adds a payload, which is not empty, to the picture.
    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault>;

    /// Ends the picture, which may be empty or damaged, and forgets it: `None` when it is not
    /// whole, otherwise whether decoding can start at it.
    fn end(&mut self, picture: &mut Vec<u8>) -> Option<bool>;
}

/// Joins payloads to pictures. Feed packets in order, holes declared by the gap in the sequence.
#[derive(Debug)]
pub struct PictureDepacketiser {
    format: Box<dyn Format>,
    data: Vec<u8>,
    time: Option<RtpTime>,
    arrived: Option<Instant>,
    last: Option<ExtSeq>,
    packets: u32,
    damaged: bool,
    awaits_key: bool,
    /// At most two: one ended by a new timestamp, one by the marker of the same packet.
    ready: [Option<Unit>; 2],
    counts: UnitCounts,
}

impl PictureDepacketiser {
    /// One that waits for its first key picture; `None` for a codec without pictures.
    pub fn new(codec: Codec) -> Option<Self> {
        let format: Box<dyn Format> = match codec {
            Codec::H264 => Box::new(h264::Joiner::default()),
            Codec::Hevc => Box::new(hevc::Joiner::default()),
            Codec::Vp8 => Box::new(vp8::Joiner::default()),
            Codec::Vp9 => Box::new(vp9::Joiner::default()),
            Codec::Av1 => Box::new(av1::Joiner::default()),
            _ => return None,
        };
        Some(Self::of(format))
    }

    /// One for H.264.
    pub fn h264() -> Self {
        Self::of(Box::new(h264::Joiner::default()))
    }

    fn of(format: Box<dyn Format>) -> Self {
        Self {
            format,
            data: Vec::new(),
            time: None,
            arrived: None,
            last: None,
            packets: 0,
            damaged: false,
            awaits_key: true,
            ready: [None, None],
            counts: UnitCounts::default(),
        }
    }

    /// Takes the next packet. Drain [`Self::poll`] after each call; pictures not taken are dropped
    /// by the next call.
    ///
    /// # Errors
    /// When the payload is refused; the following packets may be fed all the same.
    pub fn push(
        &mut self,
        seq: ExtSeq,
        time: RtpTime,
        marker: bool,
        payload: &[u8],
        arrived: Instant,
    ) -> Result<(), DepacketiseError> {
        self.ready = [None, None];
        // What came before the very first packet is unknown too.
        let gap = self.last.is_none_or(|last| seq != last.plus(1));
        self.last = Some(seq);
        if self.time.is_some_and(|current| current != time) {
            // Whether the hole took the end of the old picture or the start of the new one is
            // unknown: the old one had no marker, so it counts as damaged.
            self.damaged |= gap;
            self.finish(0);
        }
        let fresh = self.time.is_none();
        self.time = Some(time);
        self.arrived = Some(arrived);
        self.packets += 1;
        if gap {
            // Lost pictures before this one; or this one's own head, unless it shows its start.
            self.awaits_key = true;
            let stream_start = self.counts == UnitCounts::default();
            self.damaged |= !fresh || !self.format.begins(payload, stream_start);
        }
        let result = if self.damaged { Ok(()) } else { self.take(seq, payload) };
        self.damaged |= result.is_err();
        if marker {
            self.finish(1);
        }
        result
    }

    /// The next finished picture.
    pub fn poll(&mut self) -> Option<Unit> {
        self.ready[0].take().or_else(|| self.ready[1].take())
    }

    /// Whether pictures are withheld until the next key picture, at the start and after a loss.
    pub const fn awaits_key(&self) -> bool {
        self.awaits_key
    }

    /// What became of the pictures so far.
    pub const fn counts(&self) -> UnitCounts {
        self.counts
    }

    fn take(&mut self, seq: ExtSeq, payload: &[u8]) -> Result<(), DepacketiseError> {
        // An empty payload is a sender's probe for bandwidth; it carries nothing.
        if payload.is_empty() {
            return Ok(());
        }
        if self.packets > UNIT_PACKETS_MAX || self.data.len() + payload.len() * 2 > UNIT_BYTES_MAX {
            return Err(DepacketiseError::Large { seq, max: UNIT_BYTES_MAX });
        }
        self.format.take(payload, &mut self.data).map_err(|fault| fault.at(seq))
    }

    fn finish(&mut self, slot: usize) {
        let (time, arrived) = (self.time.take(), self.arrived.take());
        match self.format.end(&mut self.data).filter(|_| !self.damaged) {
            None => {
                self.counts.damaged += 1;
                self.awaits_key = true;
            }
            // Only probes or delimiters.
            Some(_) if self.data.is_empty() => {}
            Some(false) if self.awaits_key => self.counts.withheld += 1,
            Some(key) => {
                if let (Some(time), Some(arrived)) = (time, arrived) {
                    self.awaits_key = false;
                    self.counts.complete += 1;
                    let data = Bytes::copy_from_slice(&self.data);
                    self.ready[slot] = Some(Unit { data, key, time, arrived });
                }
            }
        }
        self.data.clear();
        self.packets = 0;
        self.damaged = false;
    }
}
