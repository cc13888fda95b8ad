//! HEVC over RTP, RFC 7798 without decoding order numbers (`sprop-max-don-diff` 0), both ways.
//!
//! Single units, aggregation and fragmentation packets are sent and received; PACI is refused.
//! Numbers of NAL unit types are those of ITU-T H.265 table 7-1.

use pipeline::annexb::nals;
use pipeline::{Codec, Packet};

use super::nal::{Cutter, Heads};
use super::picture::Format;
use super::{Fault, PacketiseError, nal};
use crate::rtp::frame::FramePackets;

/// Intra random access pictures: decoding can start at any of them.
const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=23;
/// The last type of coded slices.
const SLICE_LAST: u8 = 31;
const VPS: u8 = 32;
const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const SEI_PREFIX: u8 = 39;
const SEI_SUFFIX: u8 = 40;
const AGGREGATE: u8 = 48;
const FRAGMENT: u8 = 49;

const HEADER_BYTES: usize = 2;

/// The type in the first byte of a header.
const fn kind(first: u8) -> u8 {
    first >> 1 & 0x3f
}

/// The first byte of a header with another type.
const fn with_kind(first: u8, kind: u8) -> u8 {
    first & 0x81 | kind << 1
}

/// Cuts one picture.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
    supplements: bool,
) -> Result<FramePackets, PacketiseError> {
    let bytes = packet.data.len();
    let mut cutter = Cutter::<Hevc>::new(payload_max, bytes);
    for unit in nals(&packet.data) {
        let wanted = match kind(unit[0]) {
            ..=PPS => true,
            SEI_PREFIX | SEI_SUFFIX => supplements,
            _ => false,
        };
        if wanted && unit.len() >= HEADER_BYTES {
            cutter.add(unit);
        }
    }
    let Some((data, ends)) = cutter.finish() else {
        return Err(PacketiseError::Empty { codec: Codec::Hevc, bytes });
    };
    Ok(FramePackets::new(packet, data, ends))
}

struct Hevc;

impl Heads for Hevc {
    const HEADER_BYTES: usize = HEADER_BYTES;

    fn aggregate(units: &[&[u8]], out: &mut Vec<u8>) {
        // RFC 7798 4.4.2: forbidden bit the or, layer and temporal id the lowest of all.
        let forbidden = units.iter().fold(0, |bits, unit| bits | unit[0] & 0x80);
        let id = |unit: &&[u8]| u16::from_be_bytes([unit[0], unit[1]]) & 0x1ff;
        let layer = units.iter().map(|unit| id(unit) >> 3).min().unwrap_or(0);
        let temporal = units.iter().map(|unit| id(unit) & 7).min().unwrap_or(1);
        let [high, low] = (layer << 3 | temporal).to_be_bytes();
        out.extend_from_slice(&[forbidden | AGGREGATE << 1 | high, low]);
    }

    fn fragment(header: &[u8], start: bool, end: bool, out: &mut Vec<u8>) {
        let flags = u8::from(start) << 7 | u8::from(end) << 6;
        out.extend_from_slice(&[
            with_kind(header[0], FRAGMENT),
            header[1],
            flags | kind(header[0]),
        ]);
    }
}

/// Joins the payloads of one picture.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    nal: nal::Joiner,
}

impl Joiner {
    fn unit(&mut self, header: [u8; 2], body: &[u8], picture: &mut Vec<u8>) {
        let kind = kind(header[0]);
        self.nal.kept = kind <= PPS || kind == SEI_PREFIX || kind == SEI_SUFFIX;
        if !self.nal.kept {
            return;
        }
        self.nal.key |= RANDOM_ACCESS.contains(&kind);
        picture.extend_from_slice(&[0, 0, 0, 1]);
        picture.extend_from_slice(&header);
        picture.extend_from_slice(body);
    }
}

impl Format for Joiner {
    /// As for H.264: a delimiter or parameter set comes first; at the start of a stream a slice
    /// will do that says of itself that it is the picture's first (its first bit; 7.3.6.1), or what
    /// stands before it.
    fn begins(&self, payload: &[u8], stream_start: bool) -> bool {
        let first_bit = |body: &[u8]| body.first().is_some_and(|byte| byte & 0x80 != 0);
        let [first, _, body @ ..] = payload else { return false };
        let (kind, body) = match (kind(*first), body) {
            (AGGREGATE, [_, _, first, _, body @ ..]) => (kind(*first), body),
            (FRAGMENT, [head, body @ ..]) if head & 0x80 != 0 => (head & 0x3f, body),
            (kind, body) => (kind, body),
        };
        match kind {
            ..=SLICE_LAST => stream_start && first_bit(body),
            VPS..=33 | DELIMITER => true,
            PPS | SEI_PREFIX => stream_start,
            _ => false,
        }
    }

    fn take(&mut self, payload: &[u8], picture: &mut Vec<u8>) -> Result<(), Fault> {
        let malformed = Fault::Malformed;
        let (&header, body) =
            payload.split_first_chunk::<2>().ok_or(malformed("a cut payload header"))?;
        let packet_kind = kind(header[0]);
        if self.nal.in_fragment && packet_kind != FRAGMENT {
            return Err(malformed("a unit begins inside of a fragmented one"));
        }
        match packet_kind {
            AGGREGATE => nal::Joiner::aggregate(body, |unit| {
                let (&header, body) =
                    unit.split_first_chunk::<2>().ok_or(malformed("a cut unit in an aggregate"))?;
                if kind(header[0]) >= AGGREGATE {
                    return Err(malformed("an aggregate within an aggregate"));
                }
                self.unit(header, body, picture);
                Ok(())
            })?,
            FRAGMENT => {
                let (&fragment, body) =
                    body.split_first().ok_or(malformed("a cut fragment header"))?;
                let (start, inner) = (fragment & 0x80 != 0, fragment & 0x3f);
                self.nal.turn(start, fragment & 0x40 != 0)?;
                if start {
                    if inner >= AGGREGATE {
                        return Err(malformed("a fragmented aggregate"));
                    }
                    self.unit([with_kind(header[0], inner), header[1]], body, picture);
                } else if self.nal.kept {
                    picture.extend_from_slice(body);
                }
            }
            ..AGGREGATE => self.unit(header, body, picture),
            // PACI and what is undefined.
            _ => return Err(Fault::Mode("NAL unit type", packet_kind)),
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Option<bool> {
        self.nal.end()
    }
}
