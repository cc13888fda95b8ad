//! From one access unit in Annex B to RTP payloads.
//!
//! A unit that is too large is cut evenly, so that all its packets but the last have one size and
//! leave in one segmented send. Small units in a row share a packet. Access unit delimiters,
//! filler and supplemental information stay behind: no WebRTC receiver uses them, and a packet of
//! their own would cost a second send for each picture and viewer.

use pipeline::Packet;
use pipeline::annexb::nals;

use super::{DELIMITER, FU_A, IDR, PPS, SLICE, SPS, STAP_A, TYPE_MASK, UNIT_BYTES_MAX};
use crate::rtp::frame::FramePackets;

/// Bytes of payload in a datagram of 1,200 bytes: less 12 of header, 16 of header extensions, 16
/// of authentication tag and 2 of retransmission header.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1200 - 12 - 16 - 16 - 2;

/// The smallest payload limit that is honoured, in bytes.
const PAYLOAD_BYTES_MIN: usize = 64;

/// Indicator and header of a fragment, RFC 6184 5.8.
const FRAGMENT_HEAD_BYTES: usize = 2;

/// Why a picture cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketiseError {
    /// Nothing in it that a viewer needs.
    #[error("the picture of {0} bytes holds no H.264 slice or parameter set")]
    Empty(usize),
    /// More than [`UNIT_BYTES_MAX`].
    #[error("the picture has {0} bytes, at most {UNIT_BYTES_MAX} are sent")]
    Large(usize),
}

/// Cuts pictures into payloads.
#[derive(Clone, Copy, Debug)]
pub struct Packetiser {
    payload_max: usize,
}

impl Default for Packetiser {
    fn default() -> Self {
        Self::new(PAYLOAD_BYTES_DEFAULT)
    }
}

impl Packetiser {
    /// A packetiser whose payloads have at most `payload_max` bytes, 64 at the least.
    pub fn new(payload_max: usize) -> Self {
        Self { payload_max: payload_max.clamp(PAYLOAD_BYTES_MIN, usize::from(u16::MAX)) }
    }

    /// Cuts one canonical H.264 packet (see [`pipeline::packet`]).
    ///
    /// # Errors
    /// When there is nothing to send or too much.
    pub fn packetise(&self, packet: &Packet) -> Result<FramePackets, PacketiseError> {
        let length = packet.data.len();
        if length > UNIT_BYTES_MAX {
            return Err(PacketiseError::Large(length));
        }
        let mut cutter = Cutter {
            payload_max: self.payload_max,
            out: Vec::with_capacity(length + length / 256 + 64),
            ends: Vec::with_capacity(length / self.payload_max + 2),
            waiting: Vec::new(),
        };
        for unit in nals(&packet.data) {
            if matches!(unit[0] & TYPE_MASK, SLICE..=IDR | SPS | PPS) {
                cutter.add(unit);
            }
        }
        cutter.flush();
        if cutter.ends.is_empty() {
            return Err(PacketiseError::Empty(length));
        }
        Ok(FramePackets::new(packet, cutter.out.into(), cutter.ends.into_boxed_slice()))
    }
}

struct Cutter<'a> {
    payload_max: usize,
    out: Vec<u8>,
    ends: Vec<u32>,
    /// Small units that go into the next packet together.
    waiting: Vec<&'a [u8]>,
}

impl<'a> Cutter<'a> {
    fn add(&mut self, unit: &'a [u8]) {
        debug_assert_ne!(unit[0] & TYPE_MASK, DELIMITER);
        if unit.len() > self.payload_max {
            self.flush();
            self.fragment(unit);
            return;
        }
        let together: usize = self.waiting.iter().map(|other| 2 + other.len()).sum();
        if !self.waiting.is_empty() && 1 + together + 2 + unit.len() > self.payload_max {
            self.flush();
        }
        self.waiting.push(unit);
    }

    fn flush(&mut self) {
        match self.waiting[..] {
            [] => return,
            [unit] => self.out.extend_from_slice(unit),
            _ => {
                // RFC 6184 5.7: the forbidden bit is the or, the importance the greatest of all.
                let forbidden = self.waiting.iter().fold(0, |bits, unit| bits | unit[0] & 0x80);
                let importance = self.waiting.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
                self.out.push(forbidden | importance | STAP_A);
                for unit in &self.waiting {
                    self.out.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                    self.out.extend_from_slice(unit);
                }
            }
        }
        self.waiting.clear();
        self.close();
    }

    fn fragment(&mut self, unit: &[u8]) {
        let (head, body) = (unit[0], &unit[1..]);
        let pieces = body.len().div_ceil(self.payload_max - FRAGMENT_HEAD_BYTES);
        let mut pieces = body.chunks(body.len().div_ceil(pieces)).peekable();
        let mut start = 0x80;
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() { 0x40 } else { 0 };
            self.out.push(head & !TYPE_MASK | FU_A);
            self.out.push(start | end | head & TYPE_MASK);
            self.out.extend_from_slice(piece);
            start = 0;
            self.close();
        }
    }

    fn close(&mut self) {
        self.ends.push(self.out.len() as u32);
    }
}
