//! From RTP payloads in sequence to access units in Annex B.
//!
//! A unit ends at its marker or where the timestamp changes. A unit with a hole is never handed
//! out, nor anything after it until the next key picture: a viewer sees a pause, not smeared
//! pictures. Whoever drives this asks the sender for a key picture while
//! [`Depacketiser::awaits_key`] says so. Parameter sets are put before key pictures by
//! [`pipeline::h264::Assembler`], which takes the units as they come from here.

use std::time::Instant;

use bytes::Bytes;

use super::{DELIMITER, FU_A, FU_B, IDR, SLICE, SPS, STAP_A, STAP_B, TYPE_MASK, UNIT_BYTES_MAX};
use crate::rtp::packet::{ExtSeq, RtpTime};

/// Most packets in one unit: the largest unit in packets of 512 bytes.
const UNIT_PACKETS_MAX: u32 = (UNIT_BYTES_MAX / 512) as u32;

/// Why a payload was not used. The unit that it belonged to is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DepacketiseError {
    /// A structure that packetization mode 1 does not have (RFC 6184 table 3).
    #[error("RTP packet {seq}: NAL unit type {kind} is not allowed in packetization mode 1")]
    Mode {
        /// The packet.
        seq: ExtSeq,
        /// STAP-B, MTAP, FU-B or an undefined type.
        kind: u8,
    },
    /// Lengths or fragment bits contradict each other.
    #[error("RTP packet {seq}: {what}")]
    Malformed {
        /// The packet.
        seq: ExtSeq,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The unit grows beyond [`UNIT_BYTES_MAX`] or its packets beyond any reason.
    #[error("RTP packet {seq}: the coded picture exceeds {UNIT_BYTES_MAX} bytes")]
    Large {
        /// The packet.
        seq: ExtSeq,
    },
}

/// One access unit without holes.
#[derive(Clone, Debug)]
pub struct Unit {
    /// NAL units in Annex B with four-byte start codes, without delimiters and filler.
    pub data: Bytes,
    /// Whether it holds an IDR slice.
    pub key: bool,
    /// The sender's media time, 90 kHz.
    pub time: RtpTime,
    /// When its last packet came.
    pub arrived: Instant,
}

/// What became of the units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCounts {
    /// Handed out.
    pub complete: u64,
    /// Had a hole or was malformed.
    pub damaged: u64,
    /// Whole, but depended on a lost one.
    pub withheld: u64,
}

/// Joins payloads to units. Feed packets in order, holes declared by the gap in the sequence.
#[derive(Debug)]
pub struct Depacketiser {
    data: Vec<u8>,
    time: Option<RtpTime>,
    arrived: Option<Instant>,
    last: Option<ExtSeq>,
    packets: u32,
    key: bool,
    damaged: bool,
    in_fragment: bool,
    awaits_key: bool,
    /// At most two: one ended by a new timestamp, one by the marker of the same packet.
    ready: [Option<Unit>; 2],
    counts: UnitCounts,
}

impl Default for Depacketiser {
    fn default() -> Self {
        Self::new()
    }
}

impl Depacketiser {
    /// One that waits for its first key picture.
    pub fn new() -> Self {
        Self {
            data: Vec::new(),
            time: None,
            arrived: None,
            last: None,
            packets: 0,
            key: false,
            damaged: false,
            in_fragment: false,
            awaits_key: true,
            ready: [None, None],
            counts: UnitCounts::default(),
        }
    }

    /// Takes the next packet. Drain [`Self::poll`] after each call; units not taken are dropped by
    /// the next call.
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
            // Whether the hole took the end of the old unit or the start of the new one is
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
            self.damaged |= !fresh || !starts_unit(payload, self.counts != UnitCounts::default());
        }
        let result = if self.damaged { Ok(()) } else { self.take(seq, payload) };
        self.damaged |= result.is_err();
        if marker {
            self.finish(1);
        }
        result
    }

    /// The next finished unit.
    pub fn poll(&mut self) -> Option<Unit> {
        self.ready[0].take().or_else(|| self.ready[1].take())
    }

    /// Whether pictures are withheld until the next key picture, at the start and after a loss.
    pub const fn awaits_key(&self) -> bool {
        self.awaits_key
    }

    /// What became of the units so far.
    pub const fn counts(&self) -> UnitCounts {
        self.counts
    }

    fn take(&mut self, seq: ExtSeq, payload: &[u8]) -> Result<(), DepacketiseError> {
        let malformed = |what| DepacketiseError::Malformed { seq, what };
        // An empty payload is a sender's probe for bandwidth; it carries nothing.
        let Some((&head, body)) = payload.split_first() else { return Ok(()) };
        if self.packets > UNIT_PACKETS_MAX || self.data.len() + payload.len() * 2 > UNIT_BYTES_MAX {
            return Err(DepacketiseError::Large { seq });
        }
        let kind = head & TYPE_MASK;
        if self.in_fragment && kind != FU_A {
            return Err(malformed("a unit begins inside of a fragmented one"));
        }
        match kind {
            1..STAP_A => self.unit(head, body),
            STAP_A => {
                let mut rest = body;
                if rest.is_empty() {
                    return Err(malformed("an empty STAP-A"));
                }
                while !rest.is_empty() {
                    let (length, after) =
                        rest.split_first_chunk::<2>().ok_or(malformed("a cut STAP-A length"))?;
                    let length = usize::from(u16::from_be_bytes(*length));
                    let (unit, after) = after
                        .split_at_checked(length)
                        .ok_or(malformed("a STAP-A length beyond the packet"))?;
                    let (&head, body) =
                        unit.split_first().ok_or(malformed("an empty unit in a STAP-A"))?;
                    if !(1..STAP_A).contains(&(head & TYPE_MASK)) {
                        return Err(malformed("a STAP-A within a STAP-A"));
                    }
                    self.unit(head, body);
                    rest = after;
                }
            }
            FU_A => {
                let (&fragment, body) = body.split_first().ok_or(malformed("a cut FU-A header"))?;
                let (start, end) = (fragment & 0x80 != 0, fragment & 0x40 != 0);
                if start == self.in_fragment {
                    return Err(malformed("a fragment out of turn"));
                }
                if start {
                    if !(1..STAP_A).contains(&(fragment & TYPE_MASK)) {
                        return Err(malformed("a fragmented aggregate"));
                    }
                    self.unit(head & !TYPE_MASK | fragment & TYPE_MASK, body);
                } else {
                    self.data.extend_from_slice(body);
                }
                self.in_fragment = !end;
            }
            STAP_B..=FU_B | 0 | 30.. => return Err(DepacketiseError::Mode { seq, kind }),
        }
        Ok(())
    }

    fn unit(&mut self, head: u8, body: &[u8]) {
        match head & TYPE_MASK {
            IDR => self.key = true,
            SLICE..=8 => {}
            // Delimiters, ends and filler say nothing; 13 and above belong to other profiles.
            _ => return,
        }
        self.data.extend_from_slice(&[0, 0, 0, 1, head]);
        self.data.extend_from_slice(body);
    }

    fn finish(&mut self, slot: usize) {
        let (time, arrived) = (self.time.take(), self.arrived.take());
        let damaged = self.damaged || self.in_fragment;
        let key = self.key;
        if damaged {
            self.counts.damaged += 1;
            self.awaits_key = true;
        } else if self.data.is_empty() {
            // Only probes or delimiters.
        } else if self.awaits_key && !key {
            self.counts.withheld += 1;
        } else if let (Some(time), Some(arrived)) = (time, arrived) {
            self.awaits_key = false;
            self.counts.complete += 1;
            let data = Bytes::copy_from_slice(&self.data);
            self.ready[slot] = Some(Unit { data, key, time, arrived });
        }
        self.data.clear();
        self.packets = 0;
        self.key = false;
        self.damaged = false;
        self.in_fragment = false;
    }
}

/// Whether a payload can only be the first of its unit: it begins with a delimiter or a sequence
/// parameter set. At the start of a stream also with the slice that holds the first macroblock
/// (`first_mb_in_slice` is 0, in Exp-Golomb a single set bit; H.264 7.3.3), for senders that gave
/// their parameter sets in the SDP; after a loss those before the slice may be what is missing.
fn starts_unit(payload: &[u8], after_loss: bool) -> bool {
    let unit = match payload {
        [head, rest @ ..] if head & TYPE_MASK == STAP_A => rest.get(2..).unwrap_or(&[]),
        [head, fragment, rest @ ..] if head & TYPE_MASK == FU_A => {
            let slice = matches!(fragment & TYPE_MASK, SLICE | IDR);
            return fragment & 0x80 != 0 && slice && !after_loss && first_bit(rest);
        }
        other => other,
    };
    match unit {
        [head, rest @ ..] => match head & TYPE_MASK {
            SPS | DELIMITER => true,
            SLICE | IDR => !after_loss && first_bit(rest),
            _ => false,
        },
        [] => false,
    }
}

fn first_bit(slice: &[u8]) -> bool {
    slice.first().is_some_and(|byte| byte & 0x80 != 0)
}
