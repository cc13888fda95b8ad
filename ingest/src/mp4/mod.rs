//! MP4 of other people into packets (ISO/IEC 14496-12): whole files by their tables, fragments of
//! files and of HLS by their `moof`. Samples are copied as they are, never re-encoded.
//!
//! Boxes are `mp4-atom`'s. What the tables say is believed only as far as it fits within the file
//! and the limits here. One picture and one sound track are taken, the first of each that can be
//! carried.

mod fragment;
mod packets;
mod tables;
mod track;

pub(crate) use fragment::{Head, find, fragments};
pub(crate) use packets::Packets;
pub(crate) use track::{Config, Movie};

use pipeline::TrackKind;

/// Bytes of a `moov` that are read, at most: a day of pictures and sound.
pub(crate) const MOOV_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a `moof` that are read, at most.
pub(crate) const MOOF_BYTES_MAX: u64 = 4 << 20;

/// Bytes of one picture or sound frame, at most.
pub(crate) const SAMPLE_BYTES_MAX: u32 = 16 << 20;

/// Samples of a file, of both tracks, at most: a day of 60 pictures and 47 sound frames a second.
const SAMPLES_MAX: usize = 10_000_000;

/// Why a file or a fragment cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// A box is broken.
    #[error("a box cannot be read: {0}")]
    Box(#[from] mp4_atom::Error),
    /// The tables contradict each other or the file.
    #[error("{0}")]
    Tables(&'static str),
    /// There is nothing in it that can be carried.
    #[error("no track of it can be carried: {0}")]
    NoTrack(String),
    /// Larger than the limits.
    #[error("{what} of {bytes} bytes is more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The most that is allowed.
        limit: u64,
    },
}

/// Where a sample is, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Its track.
    pub(crate) kind: TrackKind,
    /// First byte in the file, or in the fragment's bytes.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) size: u32,
    /// When it is decoded, in 90 kHz ticks.
    pub(crate) dts: i64,
    /// When it is shown, in 90 kHz ticks.
    pub(crate) pts: i64,
}

/// `units` of a clock in ticks of 90 kHz.
fn ticks(units: i64, timescale: u32) -> i64 {
    let ticks = i128::from(units) * 90_000 / i128::from(timescale.max(1));
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
