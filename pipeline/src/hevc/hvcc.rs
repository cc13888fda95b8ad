//! The form of FLV and MP4 (ISO/IEC 14496-15): NAL units with a length in front, parameter sets in
//! an HEVCDecoderConfigurationRecord.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::annexb::{from_length_prefixed, nals, push};
use crate::h264::ChromaFormat;

use super::{Error, NalKind, PARAMETER_SETS_BYTES_MAX, ProfileTierLevel, SpsInfo};

/// Arrays of NAL units in a record, at most.
const ARRAYS_MAX: u8 = 16;

/// HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderConfiguration {
    /// Profile, tier and level.
    pub profile: ProfileTierLevel,
    /// Chroma sampling.
    pub chroma_format: ChromaFormat,
    /// Bits of a luma sample, 8 to 15.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample, 8 to 15.
    pub bit_depth_chroma: u8,
    /// Temporal sub-layers, 0 while unknown.
    pub sub_layers: u8,
    /// `temporalIdNested`.
    pub nested: bool,
    /// Bytes of the length in front of each NAL unit: 1, 2 or 4 (3 is read as well).
    pub length_size: u8,
    /// Parameter sets without start codes, video before sequence before picture.
    pub sets: Vec<Bytes>,
}

impl DecoderConfiguration {
    /// Reads a record. Arrays of other NAL units than parameter sets are passed over.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::OutOfRange`], [`Error::WrongNal`] for a parameter set in the
    /// array of another, [`Error::TooManyParameterSets`].
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        if record.len() > PARAMETER_SETS_BYTES_MAX {
            return Err(Error::TooManyParameterSets);
        }
        let truncated = |field| Error::Truncated { what: "decoder configuration record", field };
        let Some((head, mut rest)) = record.split_first_chunk::<23>() else {
            return Err(truncated("numOfArrays"));
        };
        // Some writers of FLV leave the version 0.
        if head[0] > 1 {
            return Err(Error::OutOfRange { field: "configurationVersion", value: head[0].into() });
        }
        let mut constraints = [0; 8];
        constraints[2..].copy_from_slice(&head[6..12]);
        let profile = ProfileTierLevel {
            profile_space: head[1] >> 6,
            high_tier: head[1] & 0x20 != 0,
            profile: head[1] & 0x1f,
            compatibility: u32::from_be_bytes([head[2], head[3], head[4], head[5]]),
            constraints: u64::from_be_bytes(constraints),
            level: head[12],
        };
        let chroma_format = match head[16] & 3 {
            0 => ChromaFormat::Monochrome,
            1 => ChromaFormat::Yuv420,
            2 => ChromaFormat::Yuv422,
            _ => ChromaFormat::Yuv444,
        };
        let arrays = head[22];
        if arrays > ARRAYS_MAX {
            return Err(Error::OutOfRange { field: "numOfArrays", value: arrays.into() });
        }
        let mut sets = Vec::new();
        for _ in 0..arrays {
            let &[kind, n1, n0] = rest.first_chunk().ok_or(truncated("numNalus"))?;
            rest.advance(3);
            let kind = NalKind::of(kind << 1);
            for _ in 0..u16::from_be_bytes([n1, n0]) {
                let length = rest.first_chunk().ok_or(truncated("nalUnitLength"))?;
                let length = usize::from(u16::from_be_bytes(*length));
                rest.advance(2);
                let (nal, tail) = rest.split_at_checked(length).ok_or(truncated("nalUnit"))?;
                rest = tail;
                if !kind.is_parameter_set() || nal.is_empty() {
                    continue;
                }
                if NalKind::of(nal[0]) != kind {
                    let nal_type = (nal[0] >> 1) & 0x3f;
                    return Err(Error::WrongNal { expected: "parameter set", nal_type });
                }
                sets.push(Bytes::copy_from_slice(nal));
            }
        }
        sets.sort_by_key(order);
        Ok(Self {
            profile,
            chroma_format,
            bit_depth_luma: 8 + (head[17] & 7),
            bit_depth_chroma: 8 + (head[18] & 7),
            sub_layers: (head[21] >> 3) & 7,
            nested: head[21] & 4 != 0,
            length_size: (head[21] & 3) + 1,
            sets,
        })
    }

    /// The record for parameter sets in Annex B (as in [`crate::packet::VideoTrack`]), with
    /// four-byte lengths. What it says is what the first SPS says.
    ///
    /// # Errors
    /// [`Error::Truncated`] when one of the three kinds is missing, those of [`SpsInfo::parse`],
    /// and [`Error::TooManyParameterSets`] for more than the record holds.
    pub fn from_annex_b(parameter_sets: &[u8]) -> Result<Self, Error> {
        let of_a_set = |nal: &&[u8]| NalKind::of(nal[0]).is_parameter_set();
        let list = nals(parameter_sets).filter(of_a_set);
        let mut sets: Vec<Bytes> = list.map(Bytes::copy_from_slice).collect();
        sets.sort_by_key(order);
        if sets.iter().any(|nal| nal.len() > usize::from(u16::MAX)) || sets.len() > 255 {
            return Err(Error::TooManyParameterSets);
        }
        for (kind, field) in [
            (NalKind::Vps, "video parameter set"),
            (NalKind::Sps, "sequence parameter set"),
            (NalKind::Pps, "picture parameter set"),
        ] {
            if !sets.iter().any(|nal| NalKind::of(nal[0]) == kind) {
                return Err(Error::Truncated { what: "parameter sets", field });
            }
        }
        let sps = sets.iter().find(|nal| NalKind::of(nal[0]) == NalKind::Sps);
        let sps = SpsInfo::parse(sps.map_or(&[], |nal| nal))?;
        Ok(Self {
            profile: sps.profile,
            chroma_format: sps.chroma_format,
            bit_depth_luma: sps.bit_depth_luma.min(15),
            bit_depth_chroma: sps.bit_depth_chroma.min(15),
            sub_layers: sps.sub_layers,
            nested: sps.nested,
            length_size: 4,
            sets,
        })
    }

    /// The record's bytes. Segmentation, parallelism and rate are written as unknown.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let p = &self.profile;
        let tier = u8::from(p.high_tier) << 5;
        out.put_slice(&[1, p.profile_space << 6 | tier | (p.profile & 0x1f)]);
        out.put_u32(p.compatibility);
        out.put_slice(&p.constraints.to_be_bytes()[2..]);
        out.put_u8(p.level);
        let chroma = match self.chroma_format {
            ChromaFormat::Monochrome => 0,
            ChromaFormat::Yuv420 => 1,
            ChromaFormat::Yuv422 => 2,
            ChromaFormat::Yuv444 => 3,
        };
        out.put_slice(&[0xf0, 0, 0xfc, 0xfc | chroma]);
        out.put_slice(&[0xf8 | (self.bit_depth_luma - 8), 0xf8 | (self.bit_depth_chroma - 8)]);
        out.put_u16(0);
        let nested = u8::from(self.nested) << 2;
        out.put_u8((self.sub_layers & 7) << 3 | nested | (self.length_size.clamp(1, 4) - 1));
        let arrays: Vec<_> =
            self.sets.chunk_by(|a, b| NalKind::of(a[0]) == NalKind::of(b[0])).collect();
        out.put_u8(arrays.len() as u8);
        for array in arrays {
            // Complete: none of these comes in band only.
            out.put_u8(0x80 | ((array[0][0] >> 1) & 0x3f));
            out.put_u16(array.len() as u16);
            for nal in array {
                out.put_u16(nal.len() as u16);
                out.put_slice(nal);
            }
        }
        out.freeze()
    }

    /// All parameter sets in Annex B, as [`crate::packet::VideoTrack`] has them.
    pub fn annex_b(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.sets.iter().for_each(|nal| push(&mut out, nal));
        out.freeze()
    }
}

/// Video, sequence, picture.
fn order(nal: &Bytes) -> u8 {
    (nal[0] >> 1) & 0x3f
}

/// An access unit with lengths of `length_size` (1 to 4) bytes in front of its NAL units, brought
/// to Annex B; delimiters and filler are left out. As [`crate::h264::to_annex_b`].
///
/// # Errors
/// [`Error::Length`] when a length reaches beyond the unit, [`Error::OutOfRange`] for another
/// `length_size`.
pub fn to_annex_b(unit: BytesMut, length_size: u8) -> Result<BytesMut, Error> {
    if !(1..=4).contains(&length_size) {
        return Err(Error::OutOfRange { field: "lengthSizeMinusOne", value: length_size.into() });
    }
    Ok(from_length_prefixed(unit, length_size, |header| NalKind::of(header).is_dropped())?)
}
