//! The form of FLV and MP4 (ISO/IEC 14496-15): NAL units with a length in front, parameter sets in
//! an AVCDecoderConfigurationRecord.

use bytes::{BufMut, Bytes, BytesMut};

use crate::annexb::{from_length_prefixed, nals, push, push_length_prefixed};

use super::{ChromaFormat, Error, NalKind, PARAMETER_SETS_BYTES_MAX, SpsInfo};

/// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderConfiguration {
    /// `AVCProfileIndication`.
    pub profile: u8,
    /// `profile_compatibility`: the constraint flags.
    pub compatibility: u8,
    /// `AVCLevelIndication`.
    pub level: u8,
    /// Bytes of the length in front of each NAL unit: 1, 2 or 4 (3 is read as well).
    pub length_size: u8,
    /// Sequence parameter sets without start codes, 31 at most.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets without start codes, 255 at most.
    pub pps: Vec<Bytes>,
}

impl DecoderConfiguration {
    /// Reads a record. The extension for High profiles is not needed, as the SPS says the same,
    /// and many writers leave it out; it is passed over.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::OutOfRange`], [`Error::WrongNal`] for a parameter set of
    /// another type, [`Error::TooManyParameterSets`].
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        if record.len() > PARAMETER_SETS_BYTES_MAX {
            return Err(Error::TooManyParameterSets);
        }
        let what = "decoder configuration record";
        let truncated = |field| Error::Truncated { what, field };
        let Some((head, mut rest)) = record.split_first_chunk::<5>() else {
            return Err(truncated("lengthSizeMinusOne"));
        };
        let [version, profile, compatibility, level, lengths] = *head;
        if version != 1 {
            return Err(Error::OutOfRange { field: "configurationVersion", value: version.into() });
        }
        let mut sets = |count_mask: u8, kind: NalKind, expected: &'static str| {
            let (&count, mut left) = rest.split_first().ok_or(truncated(expected))?;
            let mut list = Vec::new();
            for _ in 0..count & count_mask {
                let (length, tail) = left.split_first_chunk::<2>().ok_or(truncated(expected))?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (nal, tail) = tail.split_at_checked(length).ok_or(truncated(expected))?;
                left = tail;
                match nal.first().map(|header| NalKind::of(*header)) {
                    Some(found) if found == kind => list.push(Bytes::copy_from_slice(nal)),
                    Some(_) => return Err(Error::WrongNal { expected, nal_type: nal[0] & 0x1f }),
                    // Written by encoders that had no set yet; the real ones come in band.
                    None => {}
                }
            }
            rest = left;
            Ok(list)
        };
        let sps = sets(0x1f, NalKind::Sps, "sequence parameter set")?;
        let pps = sets(0xff, NalKind::Pps, "picture parameter set")?;
        Ok(Self { profile, compatibility, level, length_size: (lengths & 3) + 1, sps, pps })
    }

    /// The record for parameter sets in Annex B (as in [`crate::packet::VideoTrack`]), with
    /// four-byte lengths. Profile and level are those of the first SPS.
    ///
    /// # Errors
    /// [`Error::Truncated`] when there is no SPS or no PPS, [`Error::TooManyParameterSets`] for
    /// more than the record holds.
    pub fn from_annex_b(parameter_sets: &[u8]) -> Result<Self, Error> {
        let of = |kind: NalKind| -> Vec<Bytes> {
            let list = nals(parameter_sets).filter(|nal| NalKind::of(nal[0]) == kind);
            list.map(Bytes::copy_from_slice).collect()
        };
        let (sps, pps) = (of(NalKind::Sps), of(NalKind::Pps));
        let too_long = sps.iter().chain(&pps).any(|nal| nal.len() > usize::from(u16::MAX));
        if sps.len() > 31 || pps.len() > 255 || too_long {
            return Err(Error::TooManyParameterSets);
        }
        let what = "parameter sets";
        let Some(&[_, profile, compatibility, level, ..]) = sps.first().map(|nal| &nal[..]) else {
            return Err(Error::Truncated { what, field: "sequence parameter set" });
        };
        if pps.is_empty() {
            return Err(Error::Truncated { what, field: "picture parameter set" });
        }
        Ok(Self { profile, compatibility, level, length_size: 4, sps, pps })
    }

    /// The record's bytes, with the extension where the profile has one.
    ///
    /// # Errors
    /// Those of [`SpsInfo::parse`] for the first SPS, of which the extension repeats fields.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        out.put_slice(&[1, self.profile, self.compatibility, self.level]);
        out.put_u8(0xfc | (self.length_size.clamp(1, 4) - 1));
        let list = |out: &mut BytesMut, reserved: u8, sets: &[Bytes], max: usize| {
            if sets.len() > max || sets.iter().any(|nal| nal.len() > usize::from(u16::MAX)) {
                return Err(Error::TooManyParameterSets);
            }
            out.put_u8(reserved | sets.len() as u8);
            for nal in sets {
                out.put_u16(nal.len() as u16);
                out.put_slice(nal);
            }
            Ok(())
        };
        list(&mut out, 0xe0, &self.sps, 31)?;
        list(&mut out, 0, &self.pps, 255)?;
        if !matches!(self.profile, 66 | 77 | 88)
            && let Some(sps) = self.sps.first()
        {
            let info = SpsInfo::parse(sps)?;
            let chroma = match info.chroma_format {
                ChromaFormat::Monochrome => 0,
                ChromaFormat::Yuv420 => 1,
                ChromaFormat::Yuv422 => 2,
                ChromaFormat::Yuv444 => 3,
            };
            out.put_u8(0xfc | chroma);
            out.put_u8(0xf8 | (info.bit_depth_luma - 8));
            out.put_u8(0xf8 | (info.bit_depth_chroma - 8));
            out.put_u8(0);
        }
        Ok(out.freeze())
    }

    /// All parameter sets in Annex B, as [`crate::packet::VideoTrack`] has them.
    pub fn annex_b(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.sps.iter().chain(&self.pps).for_each(|nal| push(&mut out, nal));
        out.freeze()
    }
}

/// An access unit with lengths of `length_size` (1 to 4) bytes in front of its NAL units, brought
/// to Annex B; delimiters and filler are left out.
///
/// Four-byte lengths are overwritten by start codes in place. Other lengths are copied.
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

/// The inverse: an access unit in Annex B with four-byte lengths in place of its start codes.
pub fn to_length_prefixed(unit: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(unit.len() + 16);
    push_length_prefixed(&mut out, unit, |_| false);
    out.freeze()
}
