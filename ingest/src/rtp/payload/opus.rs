//! Opus over RTP, RFC 7587: one packet of RFC 6716 is one payload, both ways.

use std::time::Duration;

use pipeline::opus::{SAMPLE_RATE, packet_samples};
use pipeline::{Codec, Packet};

use super::PacketiseError;
use crate::rtp::frame::FramePackets;

/// Ticks of the RTP clock in a second, whatever was encoded (RFC 7587 4.1).
pub const CLOCK_RATE: u32 = SAMPLE_RATE;

/// Longest packet in bytes: what a datagram takes. RFC 6716 allows frames of 1,275 bytes.
const PACKET_BYTES_MAX: usize = 1400;

/// Why bytes are not an Opus packet that can be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpusError {
    /// Longer than a datagram takes.
    #[error("an Opus packet of {0} bytes, at most {PACKET_BYTES_MAX} are carried")]
    Large(usize),
    /// Not an Opus packet.
    #[error(transparent)]
    Packet(#[from] pipeline::opus::Error),
}

/// The payload of one coded audio frame, sharing its bytes.
///
/// # Errors
/// When it is not an Opus packet.
pub fn packetise(packet: &Packet) -> Result<FramePackets, PacketiseError> {
    duration(&packet.data).map_err(|error| match error {
        OpusError::Large(bytes) => {
            PacketiseError::Large { codec: Codec::Opus, bytes, max: PACKET_BYTES_MAX }
        }
        OpusError::Packet(_) => PacketiseError::Malformed {
            codec: Codec::Opus,
            at: 0,
            what: "not a packet of RFC 6716",
        },
    })?;
    let end = packet.data.len() as u32;
    Ok(FramePackets::new(packet, packet.data.clone(), Box::new([end])))
}

/// Checks a received payload, which is the Opus packet as it is, and says how much sound it holds.
///
/// # Errors
/// When it is not an Opus packet.
pub fn duration(payload: &[u8]) -> Result<Duration, OpusError> {
    if payload.len() > PACKET_BYTES_MAX {
        return Err(OpusError::Large(payload.len()));
    }
    let samples = packet_samples(payload)?;
    Ok(Duration::from_micros(u64::from(samples) * 1_000_000 / u64::from(SAMPLE_RATE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_sound_is_known_and_nonsense_is_refused() {
        assert_eq!(duration(&[0xfc, 1]), Ok(Duration::from_millis(20)));
        assert!(matches!(duration(&[]), Err(OpusError::Packet(_))));
        assert_eq!(duration(&[0; 1401]), Err(OpusError::Large(1401)));
    }
}
