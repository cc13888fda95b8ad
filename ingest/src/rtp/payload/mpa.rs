//! MPEG audio layer III over RTP, RFC 2250 3.5 (`MPA`), both ways. The RTP clock is 90 kHz whatever
//! the sampling rate.

use pipeline::{Codec, Packet};

use super::{Fault, PacketiseError};
use crate::rtp::frame::FramePackets;

/// Ticks of the RTP clock in a second.
pub const CLOCK_RATE: u32 = 90_000;

/// Sixteen zero bits, and where in the frame the payload begins.
const HEAD_BYTES: usize = 4;

/// Longest frame in bytes: what the offset can count.
const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// What a frame's header (ISO/IEC 11172-3 2.4.1.3, 13818-3 2.4.2.3) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sampling rate in Hz.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples of each channel in the frame.
    pub samples: u32,
    /// Bytes of the frame with its header.
    pub frame_bytes: usize,
}

impl Header {
    /// Reads the header of a layer III frame; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        const RATES: [u32; 3] = [44_100, 48_000, 32_000];
        const KBITS: [u32; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const KBITS_LOW: [u32; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let &[sync, version, rates, mode] = bytes.first_chunk::<4>()?;
        let layer_3 = version >> 1 & 3 == 1;
        if sync != 0xff || version & 0xe0 != 0xe0 || !layer_3 {
            return None;
        }
        // MPEG-1, MPEG-2 and the half rates of MPEG-2.5.
        let (divide, low) = match version >> 3 & 3 {
            3 => (1, false),
            2 => (2, true),
            0 => (4, true),
            _ => return None,
        };
        let sample_rate = RATES.get(usize::from(rates >> 2 & 3))? / divide;
        let index = usize::from(rates >> 4).checked_sub(1)?;
        let bitrate = if low { KBITS_LOW.get(index)? } else { KBITS.get(index)? } * 1000;
        let samples = if low { 576 } else { 1152 };
        let padding = u32::from(rates >> 1 & 1);
        let frame_bytes = (samples / 8 * bitrate / sample_rate + padding) as usize;
        let channels = if mode >> 6 == 3 { 1 } else { 2 };
        Some(Self { sample_rate, channels, samples, frame_bytes })
    }
}

/// Cuts one frame.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
) -> Result<FramePackets, PacketiseError> {
    let (codec, bytes, max) = (Codec::Mp3, packet.data.len(), FRAME_BYTES_MAX);
    if bytes > max {
        return Err(PacketiseError::Large { codec, bytes, max });
    }
    let mut offset = 0;
    let (data, ends) = super::chunks(&packet.data, payload_max, HEAD_BYTES, |_, _, out| {
        // Each head stands where the bytes before it, less all heads, tell the offset.
        let [high, low] = ((out.len() - offset) as u16).to_be_bytes();
        out.extend_from_slice(&[0, 0, high, low]);
        offset += HEAD_BYTES;
    });
    Ok(FramePackets::new(packet, data, ends))
}

/// A received payload: the place in the frame and the bytes.
pub(super) fn parse(payload: &[u8]) -> Result<(usize, &[u8]), Fault> {
    let (head, body) =
        payload.split_first_chunk::<HEAD_BYTES>().ok_or(Fault::Malformed("a cut MPA head"))?;
    if body.is_empty() {
        return Err(Fault::Malformed("an empty MPA payload"));
    }
    Ok((usize::from(u16::from_be_bytes([head[2], head[3]])), body))
}
