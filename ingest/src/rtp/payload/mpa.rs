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
