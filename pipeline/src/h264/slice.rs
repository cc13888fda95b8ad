//! The first fields of slices and the one SEI message that tells where decoding can start.

use crate::annexb::nals;
use crate::bits::BitReader;

use super::NalKind;

/// SEI messages looked at in one NAL unit, at most.
const SEI_MESSAGES_MAX: usize = 64;

/// What a slice may be predicted from (table 7-6, SP and SI counted as P and I).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SliceKind {
    /// Its own picture only.
    I,
    /// One earlier picture for each block.
    P,
    /// Two pictures for each block.
    B,
}

/// The first fields of a slice header (7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHead {
    /// Address of the first macroblock; 0 begins a picture.
    pub first_mb: u32,
    /// What it may be predicted from.
    pub kind: SliceKind,
    /// The picture parameter set that it uses, 0 to 255.
    pub pps: u32,
}

impl SliceHead {
    /// The head of the slice in `nal`, or `None` when that is no slice or too short.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let (&header, payload) = nal.split_first()?;
        if !matches!(header & 0x1f, 1 | 2 | 5) {
            return None;
        }
        let mut bits = BitReader::escaped(payload);
        let first_mb = bits.ue()?;
        let kind = match bits.ue()? {
            0 | 3 | 5 | 8 => SliceKind::P,
            1 | 6 => SliceKind::B,
            2 | 4 | 7 | 9 => SliceKind::I,
            _ => return None,
        };
        let pps = bits.ue().filter(|id| *id <= 255)?;
        Some(Self { first_mb, kind, pps })
    }
}

/// Whether an access unit in Annex B is an IDR picture.
pub fn is_idr(unit: &[u8]) -> bool {
    nals(unit).any(|nal| NalKind::of(nal[0]) == NalKind::Idr)
}

/// Whether other pictures may refer to an access unit in Annex B. One that is not a reference can
/// be skipped without harm to any other (`nal_ref_idc`, 7.4.1).
pub fn is_reference(unit: &[u8]) -> bool {
    nals(unit).any(|nal| NalKind::of(nal[0]).is_picture() && nal[0] & 0x60 != 0)
}

/// Whether an access unit in Annex B says that decoding can start at it with this very picture
/// correct: a recovery point SEI (D.2.8) with `recovery_frame_cnt` 0.
pub fn is_recovery_point(unit: &[u8]) -> bool {
    nals(unit).any(|nal| recovery_frame_count(nal) == Some(0))
}

/// `recovery_frame_cnt` of the recovery point in an SEI NAL unit, if it has one.
pub(super) fn recovery_frame_count(nal: &[u8]) -> Option<u32> {
    let (&header, payload) = nal.split_first()?;
    if NalKind::of(header) != NalKind::Sei {
        return None;
    }
    let mut bits = BitReader::escaped(payload);
    for _ in 0..SEI_MESSAGES_MAX {
        let kind = sei_number(&mut bits)?;
        let size = sei_number(&mut bits)?;
        if kind == 6 {
            return bits.ue();
        }
        if kind == 0x80 && size == 0 {
            return None;
        }
        bits.skip(size.checked_mul(8).filter(|n| *n as usize <= bits.left_at_most())?)?;
    }
    None
}

/// A number of 7.3.2.3.1: bytes of 255 and one that is less, added up.
fn sei_number(bits: &mut BitReader<'_>) -> Option<u32> {
    let mut value = 0_u32;
    loop {
        let byte = bits.bits(8)?;
        value = value.checked_add(byte)?;
        if byte != 255 {
            return Some(value);
        }
    }
}
