//! MPEG transport streams (ISO/IEC 13818-1) of one program with one picture and one sound track:
//! packets to bytes ([`Muxer`]) and back ([`Demuxer`]), incremental, without input or output.
//!
//! Carried are H.264 (stream type 0x1b), HEVC (0x24), AAC in ADTS (0x0f) and Opus (private stream
//! 0x06 with a registration descriptor). Packets enter and leave in the canonical form of
//! [`crate::packet`]; what only the transport wants (delimiters, ADTS and Opus headers) is put on
//! and taken off here.
//!
//! # A unit ends where it ends
//! A PES packet of length 0 is over only when the next one begins, which would hold each frame
//! back by a frame time. So this muxer always states the length, and keeps to one rule that the
//! receiver can act on at the last byte:
//!
//! - A unit is cut into PES packets that are as full as can be (`PES_packet_length` 65,535), the
//!   first with its timestamps and the alignment flag, the following ones without.
//! - **A PES packet that is less than full ends its unit.** Where a unit would end exactly with a
//!   full one, a stuffing byte in the first header pushes one byte into a last, short PES packet.
//!
//! Streams of others are read as well: with length 0 or with units spread over PES packets by
//! other rules, a unit then ends at the next one's timestamp or at the end of the segment.
//!
//! # Time
//! PTS and DTS are those of the packet modulo 2^33 and nothing is added to them. The demuxer
//! unwraps all tracks on one base, near a reference if it is given one, so that the 64-bit name of
//! a frame comes back exactly.

mod collect;
mod crc;
mod demux;
mod mux;
mod output;
mod pes;
mod psi;
mod sound;

pub use demux::{Demuxer, Event, Stats};
pub use mux::{MuxError, Muxer};

/// Bytes of a transport packet.
pub const PACKET_BYTES: usize = 188;

/// Bytes of one coded picture or PES unit, at most. Larger ones are dropped and counted.
pub const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The largest `PES_packet_length`: that of every PES packet but the last of a unit.
const PES_LENGTH_FULL: usize = 65_535;

/// First byte of each transport packet.
const SYNC: u8 = 0x47;

/// Timestamps count modulo this.
const CLOCK_MODULUS: i64 = 1 << 33;

#[cfg(test)]
mod tests;
