//! Fragmented MP4 (ISO/IEC 14496-12, CMAF): packets into an init segment and fragments ([`Writer`]),
//! and what was written back into places of samples ([`Index`]), without input or output.
//!
//! Boxes are `mp4-atom`'s; here is what decides what is in them: the form of samples, which records
//! describe a codec, and time. HLS and recordings are made of the same fragments.
//!
//! # Time
//! A [`Writer`]'s time begins at 0 with the first picture (the first sound, without pictures).
//! Whatever the source's clock does, the time written only grows: see [`timeline`]. Pictures count in
//! 90 kHz, sound in its own samples, so that rounding never opens a gap between two of its frames.

mod entry;
mod fragmented;
mod index;
mod init;
mod lane;
mod length;
mod progressive;
mod timeline;
mod writer;

pub use fragmented::Framed;
pub use index::{Index, Place, Sample, TrackInfo};
pub use length::{Patch, duration_of, duration_patch};
pub use progressive::{Layout, Run};
pub use writer::{Fragment, Writer};

use crate::packet::{Codec, TrackKind};
use crate::{aac, video};

/// Bytes of `ftyp` and `moov` together that are read, at most.
pub const INIT_BYTES_MAX: u64 = 1 << 20;

/// Bytes of one `moof` that are read, at most: some hundred thousand samples.
pub const MOOF_BYTES_MAX: u64 = 4 << 20;

/// Fragments of one file that are indexed, at most: two days of one a second.
pub const FRAGMENTS_MAX: usize = 172_800;

/// Ticks of the picture's clock in a second.
const VIDEO_TIMESCALE: u32 = 90_000;

/// The ids of the two tracks.
const VIDEO_ID: u32 = 1;
const AUDIO_ID: u32 = 2;

/// The id of a kind's track.
const fn id_of(kind: TrackKind) -> u32 {
    match kind {
        TrackKind::Video => VIDEO_ID,
        TrackKind::Audio => AUDIO_ID,
    }
}

/// Why something cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The track's coding has no place in MP4 here.
    #[error("MP4 does not carry {0} here")]
    Codec(Codec),
    /// Neither picture nor sound.
    #[error("no track to write")]
    NoTrack,
    /// The picture's parameter sets or size did not come yet.
    #[error("the parameter sets of the {0} picture are not known yet")]
    NotReady(Codec),
    /// The config of a sound track cannot be used.
    #[error("the {codec} sound cannot be written: {why}")]
    Sound {
        /// The coding.
        codec: Codec,
        /// What is wrong.
        why: &'static str,
    },
    /// An AudioSpecificConfig that cannot be read.
    #[error(transparent)]
    Aac(#[from] aac::Error),
    /// Parameter sets that cannot be read.
    #[error(transparent)]
    Video(#[from] video::Error),
    /// Records of other codecs, and boxes that do not parse.
    #[error("MP4: {0}")]
    Box(String),
    /// A file that does not begin as ours do.
    #[error("the file has no init segment")]
    NoInit,
    /// A box larger than the limit for its kind.
    #[error("the box {kind} at byte {at} has {bytes} bytes, too many")]
    TooLarge {
        /// The box.
        kind: String,
        /// Where it begins.
        at: u64,
        /// Its size.
        bytes: u64,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<mp4_atom::Error> for Error {
    fn from(error: mp4_atom::Error) -> Self {
        Self::Box(error.to_string())
    }
}

#[cfg(test)]
mod tests;
