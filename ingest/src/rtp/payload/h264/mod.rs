//! H.264 over RTP, RFC 6184 in packetization mode 1, both ways.
//!
//! Sending uses single units, STAP-A and FU-A; receiving takes the same and refuses what belongs to
//! interleaved mode (STAP-B, MTAP, FU-B).

mod depacketise;
mod packetise;

pub(super) use depacketise::Joiner;
pub(super) use packetise::packetise;

const TYPE_MASK: u8 = 0x1f;
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const FU_A: u8 = 28;
const FU_B: u8 = 29;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
