//! HEVC as bytes: parameter sets, access units, and the two forms in which transports carry them.
//!
//! Nothing here decodes a picture; it is read as far as carrying it takes (can decoding start
//! here, may it be skipped, how large is it, how far is it reordered). Numbers of sections are
//! those of ITU-T H.265 (08/2021) unless said otherwise.

mod assemble;
mod hvcc;
mod profile;
mod rewrite;
mod sps;
mod vui;

pub use assemble::{Assembler, Unit};
pub use hvcc::{DecoderConfiguration, to_annex_b};
pub use profile::ProfileTierLevel;
pub use rewrite::{unit_with_no_reordering, with_no_reordering};
pub use sps::SpsInfo;
pub use vui::Vui;

pub use crate::annexb::{LengthError, nals};
pub use crate::h264::{ChromaFormat, ColorDescription};

/// Bytes of all parameter sets of one stream together, at most.
pub const PARAMETER_SETS_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with bytes that should be HEVC. All variants are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data ends too early.
    #[error("HEVC {what} ends before {field}")]
    Truncated {
        /// The structure being read.
        what: &'static str,
        /// The field that is missing, by its name in the standard.
        field: &'static str,
    },
    /// A field has a value that the standard or this node does not allow.
    #[error("HEVC {field} is {value}, which is not allowed")]
    OutOfRange {
        /// The field, by its name in the standard.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Another NAL unit than the one asked for.
    #[error("HEVC NAL unit of type {nal_type} where {expected} was expected")]
    WrongNal {
        /// What was expected.
        expected: &'static str,
        /// `nal_unit_type` found.
        nal_type: u8,
    },
    /// A length prefix reaches beyond the access unit.
    #[error("HEVC {0}")]
    Length(#[from] LengthError),
    /// A key picture whose parameter sets never came.
    #[error("HEVC key picture refers to parameter set {pps} that was never sent")]
    MissingParameterSets {
        /// `slice_pic_parameter_set_id` of its first slice.
        pps: u32,
    },
    /// More parameter sets than [`PARAMETER_SETS_BYTES_MAX`].
    #[error("HEVC parameter sets take more than {PARAMETER_SETS_BYTES_MAX} bytes")]
    TooManyParameterSets,
}

/// `nal_unit_type` (table 7-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NalKind {
    /// 0 to 9: slice of a picture that decoding cannot start at; the number says which.
    Slice(u8),
    /// 16 to 21: slice of an intra random access point picture; the number says which.
    Irap(u8),
    /// 32: video parameter set.
    Vps,
    /// 33: sequence parameter set.
    Sps,
    /// 34: picture parameter set.
    Pps,
    /// 35: access unit delimiter.
    AccessUnitDelimiter,
    /// 36: end of sequence.
    EndOfSequence,
    /// 37: end of bitstream.
    EndOfStream,
    /// 38: filler.
    Filler,
    /// 39 and 40: supplemental enhancement information.
    Sei,
    /// Anything else.
    Other(u8),
}

impl NalKind {
    /// The kind that a NAL unit's first byte states.
    pub const fn of(header: u8) -> Self {
        match (header >> 1) & 0x3f {
            number @ 0..=9 => Self::Slice(number),
            number @ 16..=21 => Self::Irap(number),
            32 => Self::Vps,
            33 => Self::Sps,
            34 => Self::Pps,
            35 => Self::AccessUnitDelimiter,
            36 => Self::EndOfSequence,
            37 => Self::EndOfStream,
            38 => Self::Filler,
            39 | 40 => Self::Sei,
            other => Self::Other(other),
        }
    }

    /// Whether it carries a part of a picture.
    pub const fn is_picture(self) -> bool {
        matches!(self, Self::Slice(_) | Self::Irap(_))
    }

    /// Whether it is an IDR picture (19, 20): nothing after it refers to anything before it.
    pub const fn is_idr(self) -> bool {
        matches!(self, Self::Irap(19 | 20))
    }

    /// Whether it is a parameter set.
    pub const fn is_parameter_set(self) -> bool {
        matches!(self, Self::Vps | Self::Sps | Self::Pps)
    }

    /// Whether canonical form leaves it out: delimiters and filler, which each transport adds as
    /// it needs, and the numbers that transports use for themselves (RFC 7798 4.4).
    pub const fn is_dropped(self) -> bool {
        matches!(self, Self::AccessUnitDelimiter | Self::Filler | Self::Other(48..))
    }
}

/// Whether other pictures may refer to an access unit in Annex B whose stream has no temporal
/// sub-layers (7.4.2.2: even numbers below 16 are not referred to).
pub fn is_reference(unit: &[u8]) -> bool {
    nals(unit).all(|nal| match NalKind::of(nal[0]) {
        // The lower three bits are the temporal id plus one: other layers may refer to it.
        NalKind::Slice(number) => {
            !number.is_multiple_of(2) || nal.get(1).is_some_and(|b| b & 7 > 1)
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests;
