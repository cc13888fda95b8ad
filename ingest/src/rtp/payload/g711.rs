//! G.711 over RTP, RFC 3551 4.5.14: samples as they are, both ways. A frame that is longer than a
//! payload becomes several, each with the time of its first sample.

use pipeline::{Packet, Ticks};

use crate::rtp::frame::FramePackets;

/// A payload begins at a multiple of so many samples: four of 8 kHz are whole ticks of 90 kHz.
const STEP: usize = 4;

/// Cuts one frame; `samples` are the channels and the rate.
pub(super) fn packetise(
    packet: &Packet,
    payload_max: usize,
    (channels, rate): (usize, u32),
) -> FramePackets {
    let bytes = packet.data.len();
    let step = STEP * channels;
    let piece = (payload_max / step).max(1) * step;
    let ends: Box<[u32]> =
        (1..=bytes.div_ceil(piece).max(1)).map(|count| (count * piece).min(bytes) as u32).collect();
    let spacing = (piece / channels) as i64 * Ticks::SECOND.0 / i64::from(rate);
    FramePackets::new(packet, packet.data.clone(), ends).spaced(Ticks(spacing))
}
