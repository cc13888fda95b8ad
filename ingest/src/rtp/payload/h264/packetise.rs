//! From one access unit in Annex B to RTP payloads.
//!
//! Access unit delimiters and filler stay behind. Supplemental information does too unless it is
//! asked for: no WebRTC receiver uses it, and a packet of its own would cost a second send for
//! each picture and viewer.

use pipeline::annexb::nals;
use pipeline::{Codec, Packet};

use super::{FU_A, IDR, PPS, SEI, SLICE, SPS, STAP_A, TYPE_MASK};
use crate::rtp::frame::FramePackets;
use crate::rtp::payload::PacketiseError;
use crate::rtp::payload::nal::{Cutter, Heads};

/// Cuts one picture.
pub(in crate::rtp::payload) fn packetise(
    packet: &Packet,
    payload_max: usize,
    supplements: bool,
) -> Result<FramePackets, PacketiseError> {
    let bytes = packet.data.len();
    let mut cutter = Cutter::<H264>::new(payload_max, bytes);
    for unit in nals(&packet.data) {
        let kind = unit[0] & TYPE_MASK;
        if matches!(kind, SLICE..=IDR | SPS | PPS) || (supplements && kind == SEI) {
            cutter.add(unit);
        }
    }
    let Some((data, ends)) = cutter.finish() else {
        return Err(PacketiseError::Empty { codec: Codec::H264, bytes });
    };
    Ok(FramePackets::new(packet, data, ends))
}

struct H264;

impl Heads for H264 {
    const HEADER_BYTES: usize = 1;

    fn aggregate(units: &[&[u8]], out: &mut Vec<u8>) {
        // RFC 6184 5.7: the forbidden bit is the or, the importance the greatest of all.
        let forbidden = units.iter().fold(0, |bits, unit| bits | unit[0] & 0x80);
        let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
        out.push(forbidden | importance | STAP_A);
    }

    fn fragment(header: &[u8], start: bool, end: bool, out: &mut Vec<u8>) {
        // RFC 6184 5.8: the indicator, and the header with the kind of what is cut.
        out.push(header[0] & !TYPE_MASK | FU_A);
        out.push(u8::from(start) << 7 | u8::from(end) << 6 | header[0] & TYPE_MASK);
    }
}
