//! As much of HEVC (ITU-T H.265) as carrying it takes: canonical units and which are key.

use bytes::Bytes;

use crate::annexb::{canonical, nals};

/// An access unit delimiter that allows all slice types (7.3.2.5), with its start code.
pub(super) const DELIMITER: [u8; 7] = [0, 0, 0, 1, 0x46, 0x01, 0x50];

/// A unit without delimiters (35) and filler (38), and whether decoding can start at it: an intra
/// random access picture (16 to 23) behind its parameter sets (32 to 34).
pub(super) fn canonical_unit(unit: &Bytes) -> (Bytes, bool) {
    let unit = canonical(unit, |header| matches!(kind(header), 35 | 38));
    let key = nals(&unit).next().is_some_and(|nal| matches!(kind(nal[0]), 32..=34))
        && nals(&unit).any(|nal| matches!(kind(nal[0]), 16..=23));
    (unit, key)
}

/// Whether a unit brings its own delimiter.
pub(super) fn begins_with_delimiter(unit: &[u8]) -> bool {
    unit.get(4).is_some_and(|header| kind(*header) == 35)
}

fn kind(header: u8) -> u8 {
    (header >> 1) & 0x3f
}
