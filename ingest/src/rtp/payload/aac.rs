//! AAC over RTP: RFC 3640 (`mpeg4-generic`) both ways, RFC 6416 (`MP4A-LATM`) received.
//!
//! Sending is the mode `AAC-hbr`: 13 bits of size and 3 of index for each access unit, one unit a
//! packet, fragmented where it is too long.

use pipeline::aac::AudioSpecificConfig;
use pipeline::{Codec, Packet};

use super::{Fault, PacketiseError};
use crate::rtp::frame::FramePackets;

/// Length of the header section, and the one header in it.
const HEAD_BYTES: usize = 4;

/// Longest access unit in bytes: 13 bits of size.
const UNIT_BYTES_MAX: usize = (1 << 13) - 1;

/// Access units in a received packet, at most.
const UNITS_MAX: usize = 256;

/// Bits of the fields of an access unit's header: `sizelength`, `indexlength` and
/// `indexdeltalength` of the SDP. Other fields are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Bits of a unit's size, 1 to 16.
    pub size: u8,
    /// Bits of the first unit's index.
    pub index: u8,
    /// Bits of the distance of each further index.
    pub delta: u8,
}

impl Lengths {
    /// The mode `AAC-hbr`.
    pub const HBR: Self = Self { size: 13, index: 3, delta: 3 };
    /// The mode `AAC-lbr`.
    pub const LBR: Self = Self { size: 6, index: 2, delta: 2 };
}

/// Cuts one access unit.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
) -> Result<FramePackets, PacketiseError> {
    let (codec, bytes, max) = (Codec::Aac, packet.data.len(), UNIT_BYTES_MAX);
    if bytes > max {
        return Err(PacketiseError::Large { codec, bytes, max });
    }
    let [high, low] = ((bytes as u16) << 3).to_be_bytes();
    let (data, ends) = super::chunks(&packet.data, payload_max, HEAD_BYTES, |_, _, out| {
        out.extend_from_slice(&[0, 16, high, low]);
    });
    Ok(FramePackets::new(packet, data, ends).marked())
}

/// A received payload: the whole size of each unit, and the bytes of all of them.
pub(super) fn parse(lengths: Lengths, payload: &[u8]) -> Result<(Vec<usize>, &[u8]), Fault> {
    let fault = Fault::Malformed;
    let (bits, rest) = payload.split_first_chunk::<2>().ok_or(fault("a cut AU header section"))?;
    let bits = usize::from(u16::from_be_bytes(*bits));
    let (headers, body) =
        rest.split_at_checked(bits.div_ceil(8)).ok_or(fault("AU headers beyond the packet"))?;
    let mut at = 0;
    let mut take = |count: u8| {
        let count = usize::from(count);
        let value = (at..at + count).try_fold(0_usize, |value, bit| {
            let byte = headers.get(bit / 8).filter(|_| bit < bits)?;
            Some(value << 1 | usize::from(byte >> (7 - bit % 8) & 1))
        });
        at += count;
        value
    };
    let mut sizes = Vec::with_capacity(1);
    while let Some(size) = take(lengths.size) {
        let index = if sizes.is_empty() { lengths.index } else { lengths.delta };
        match take(index) {
            Some(0) => {}
            Some(_) => return Err(fault("interleaved access units")),
            None => return Err(fault("a cut AU header")),
        }
        if sizes.len() == UNITS_MAX {
            return Err(fault("more than 256 access units in a packet"));
        }
        sizes.push(size);
    }
    if sizes.is_empty() {
        return Err(fault("a packet without access units"));
    }
    Ok((sizes, body))
}

/// The config within a StreamMuxConfig (ISO/IEC 14496-3 1.7.3), the `config` of `MP4A-LATM`. One
/// program with one layer of whole frames is taken, which is all that anybody sends.
pub fn latm_config(mux: &[u8]) -> Option<AudioSpecificConfig> {
    // Version 0, same framing for all, no sub-frames, one program, one layer: 15 bits.
    let [first, second, ..] = mux else { return None };
    if first & 0xc0 != 0x40 || first & 0x3f != 0 || second & 0xfe != 0 {
        return None;
    }
    let config: Vec<u8> = mux[1..]
        .iter()
        .zip(mux[2..].iter().chain(std::iter::once(&0)))
        .map(|(high, low)| high << 7 | low >> 1)
        .collect();
    AudioSpecificConfig::parse(&config).ok()
}

/// The length in front of a LATM payload, and what follows it.
pub(super) fn latm_length(payload: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0;
    for (at, &byte) in payload.iter().enumerate() {
        length += usize::from(byte);
        if byte != 255 {
            return Some((length, &payload[at + 1..]));
        }
    }
    None
}
