//! H.264 as bytes: NAL units, parameter sets, the AVC record of FLV and MP4, and the canonical
//! access unit of [`crate::packet`].
//!
//! Ingest protocols hand each access unit to an [`Assembler`], which gives it back canonical.
//! Nothing here decodes a picture: headers are read as far as the node's decisions need them
//! (can decoding start here, may it be skipped, can a browser play it, how large is it).
//! Numbers of sections are those of ITU-T H.264 (08/2021) unless said otherwise.

mod assemble;
mod avcc;
mod results;
mod rewrite;
mod slice;
mod sps;
mod vui;

use std::fmt;

pub use assemble::{Assembler, Unit, prepend_parameter_sets};
pub use avcc::{DecoderConfiguration, to_annex_b, to_length_prefixed};
pub use results::{RESULTS_BYTES_MAX, results, with_results};
pub use rewrite::{unit_with_no_reordering, with_no_reordering};
pub use slice::{SliceHead, SliceKind, is_idr, is_recovery_point, is_reference};
pub(crate) use sps::color_of;
pub use sps::{ChromaFormat, SpsInfo};
pub(crate) use vui::sample_aspect;
pub use vui::{BitstreamRestriction, ColorDescription, Timing, Vui};

pub use crate::annexb::{LengthError, nals};

/// Bytes of all parameter sets of one stream together, at most.
pub const PARAMETER_SETS_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with bytes that should be H.264. All variants are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data ends too early.
    #[error("H.264 {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing, by its name in the standard.
        field: &'static str,
    },
    /// A field has a value that the standard or this node does not allow.
    #[error("H.264 {field} is {value}, which is not allowed")]
    OutOfRange {
        /// The field, by its name in the standard.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Another NAL unit than the one asked for.
    #[error("H.264 NAL unit of type {nal_type} where {expected} was expected")]
    WrongNal {
        /// What was expected.
        expected: &'static str,
        /// `nal_unit_type` found.
        nal_type: u8,
    },
    /// A length prefix reaches beyond the access unit.
    #[error("H.264 {0}")]
    Length(#[from] LengthError),
    /// A key picture whose parameter sets never came.
    #[error("H.264 key picture refers to parameter set {pps} that was never sent")]
    MissingParameterSets {
        /// `pic_parameter_set_id` of its first slice.
        pps: u32,
    },
    /// More parameter sets than [`PARAMETER_SETS_BYTES_MAX`].
    #[error("H.264 parameter sets take more than {PARAMETER_SETS_BYTES_MAX} bytes")]
    TooManyParameterSets,
}

/// `nal_unit_type` (table 7-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NalKind {
    /// 1: slice of a picture that is no IDR.
    Slice,
    /// 2 to 4: data partition (Extended profile).
    Partition,
    /// 5: slice of an IDR picture.
    Idr,
    /// 6: supplemental enhancement information.
    Sei,
    /// 7: sequence parameter set.
    Sps,
    /// 8: picture parameter set.
    Pps,
    /// 9: access unit delimiter.
    AccessUnitDelimiter,
    /// 10: end of sequence.
    EndOfSequence,
    /// 11: end of stream.
    EndOfStream,
    /// 12: filler.
    Filler,
    /// Anything else.
    Other(u8),
}

impl NalKind {
    /// The kind that a NAL unit's first byte states.
    pub const fn of(header: u8) -> Self {
        match header & 0x1f {
            1 => Self::Slice,
            2..=4 => Self::Partition,
            5 => Self::Idr,
            6 => Self::Sei,
            7 => Self::Sps,
            8 => Self::Pps,
            9 => Self::AccessUnitDelimiter,
            10 => Self::EndOfSequence,
            11 => Self::EndOfStream,
            12 => Self::Filler,
            other => Self::Other(other),
        }
    }

    /// Whether it carries a part of a picture.
    pub const fn is_picture(self) -> bool {
        matches!(self, Self::Slice | Self::Partition | Self::Idr)
    }

    /// Whether canonical form leaves it out: delimiters and filler, which each transport adds as
    /// it needs, and the numbers that are reserved for the inside of transports.
    pub const fn is_dropped(self) -> bool {
        matches!(self, Self::AccessUnitDelimiter | Self::Filler | Self::Other(0 | 24..))
    }
}

/// Why a browser cannot play a stream as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// Pictures are shown in another order than they are sent, by up to this many pictures.
    Reordering(u32),
    /// Chroma sampling other than 4:2:0.
    Chroma(ChromaFormat),
    /// More than 8 bits a sample.
    BitDepth(u8),
    /// Fields, or frames that may be coded as fields.
    Interlaced,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reordering(depth) => {
                write!(f, "the stream has B-frames (pictures are reordered by up to {depth})")
            }
            Self::Chroma(format) => {
                write!(f, "the stream has {format} chroma, browsers take 4:2:0")
            }
            Self::BitDepth(bits) => {
                write!(f, "the stream has {bits} bits a sample, browsers take 8")
            }
            Self::Interlaced => f.write_str("the stream is interlaced"),
        }
    }
}

/// What keeps a WebRTC viewer from playing a stream with this parameter set, the gravest first.
///
/// `None` with [`SpsInfo::reorder_frames`] `None` leaves one question open: the stream may then
/// have B-frames without saying so, which only `pts != dts` or a B slice shows.
pub fn webrtc_obstacle(sps: &SpsInfo) -> Option<Obstacle> {
    if sps.chroma_format != ChromaFormat::Yuv420 {
        // Monochrome is in the High profiles only, and no browser takes it over WebRTC.
        return Some(Obstacle::Chroma(sps.chroma_format));
    }
    let bits = sps.bit_depth_luma.max(sps.bit_depth_chroma);
    if bits > 8 {
        return Some(Obstacle::BitDepth(bits));
    }
    if !sps.frame_mbs_only {
        return Some(Obstacle::Interlaced);
    }
    sps.reorder_frames.filter(|depth| *depth > 0).map(Obstacle::Reordering)
}

#[cfg(test)]
mod tests;
