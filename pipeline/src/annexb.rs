//! The byte stream form of H.264 and HEVC (ITU-T H.264 Annex B): finding NAL units and bringing a
//! unit into the one form that the node uses.
//!
//! Works on bytes alone and does not know what a NAL unit means: callers say which ones to drop by
//! their first byte. Nothing is allocated unless a unit has to be rewritten.

use bytes::{BufMut, Bytes, BytesMut};

/// What stands before each NAL unit in canonical form.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units of a byte stream, without start codes and trailing zeros, empty ones left out.
///
/// Three- and four-byte start codes are taken; bytes before the first one are skipped.
pub fn nals(stream: &[u8]) -> Nals<'_> {
    Nals { pieces: pieces(stream) }
}

/// Iterator of [`nals`].
#[derive(Clone, Debug)]
pub struct Nals<'a> {
    pieces: Pieces<'a>,
}

impl<'a> Iterator for Nals<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let piece = self.pieces.next()?;
        Some(&self.pieces.stream[piece.begin..piece.end])
    }
}

/// A unit with four-byte start codes only, nothing between its NAL units, and without those for
/// whose first byte `drop` holds. Shares the bytes where that is so already or where only the two
/// ends have to go; copies otherwise. Empty when nothing is left.
pub fn canonical(unit: &Bytes, drop: impl Fn(u8) -> bool) -> Bytes {
    let mut kept: Option<(usize, usize)> = None;
    let mut length = 0;
    let mut shared = true;
    for piece in pieces(unit).filter(|piece| !drop(unit[piece.begin])) {
        shared &= piece.begin - piece.code == START_CODE.len();
        kept = match kept {
            None => Some((piece.code, piece.end)),
            Some((first, last)) => {
                shared &= last == piece.code;
                Some((first, piece.end))
            }
        };
        length += START_CODE.len() + piece.end - piece.begin;
    }
    match kept {
        None => Bytes::new(),
        Some((first, last)) if shared => unit.slice(first..last),
        Some(_) => {
            let mut out = BytesMut::with_capacity(length);
            for nal in nals(unit).filter(|nal| !drop(nal[0])) {
                push(&mut out, nal);
            }
            out.freeze()
        }
    }
}

/// Appends a start code and `nal`.
pub fn push(out: &mut BytesMut, nal: &[u8]) {
    out.put_slice(&START_CODE);
    out.put_slice(nal);
}

/// A length prefix reaches beyond the access unit; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NAL unit at byte {at} is said to have {claimed} bytes, {left} are left")]
pub struct LengthError {
    /// Byte of the length prefix in the access unit.
    pub at: usize,
    /// The length that it states.
    pub claimed: usize,
    /// Bytes that follow it.
    pub left: usize,
}

/// A unit with lengths of `length_size` (1 to 4) bytes in front of its NAL units (ISO/IEC 14496-15)
/// with four-byte start codes instead, and without those for whose first byte `drop` holds.
///
/// Four-byte lengths are overwritten in place. Other lengths are copied.
///
/// # Errors
/// [`LengthError`] when a length reaches beyond the unit.
pub fn from_length_prefixed(
    mut unit: BytesMut,
    length_size: u8,
    drop: impl Fn(u8) -> bool,
) -> Result<BytesMut, LengthError> {
    if length_size != 4 {
        let mut out = BytesMut::with_capacity(unit.len() + 64);
        let mut at = 0;
        while let Some((begin, end)) = next_prefixed(&unit, at, length_size)? {
            if begin < end && !drop(unit[begin]) {
                push(&mut out, &unit[begin..end]);
            }
            at = end;
        }
        return Ok(out);
    }
    let (mut at, mut kept) = (0, 0);
    while let Some((begin, end)) = next_prefixed(&unit, at, length_size)? {
        if begin < end && !drop(unit[begin]) {
            unit[kept..kept + 4].copy_from_slice(&START_CODE);
            if kept != at {
                unit.copy_within(begin..end, kept + 4);
            }
            kept += 4 + end - begin;
        }
        at = end;
    }
    unit.truncate(kept);
    Ok(unit)
}

/// Appends a unit in Annex B with four-byte lengths in place of its start codes, without the NAL
/// units for whose first byte `drop` holds.
pub fn push_length_prefixed(out: &mut BytesMut, unit: &[u8], drop: impl Fn(u8) -> bool) {
    out.reserve(unit.len() + 16);
    for nal in nals(unit).filter(|nal| !drop(nal[0])) {
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
}

/// First byte and end of the NAL unit whose length stands at byte `at`; `None` at the end.
fn next_prefixed(
    unit: &[u8],
    at: usize,
    length_size: u8,
) -> Result<Option<(usize, usize)>, LengthError> {
    if at == unit.len() {
        return Ok(None);
    }
    let begin = at + usize::from(length_size);
    let left = unit.len().saturating_sub(begin);
    let Some(prefix) = unit.get(at..begin) else {
        return Err(LengthError { at, claimed: 0, left: unit.len() - at });
    };
    let claimed = prefix.iter().fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
    if claimed > left {
        return Err(LengthError { at, claimed, left });
    }
    Ok(Some((begin, begin + claimed)))
}

/// Where each NAL unit begins, without looking for the end of the last one that was asked for.
pub(crate) fn heads(stream: &[u8]) -> impl Iterator<Item = Head> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let zeros = find_code(stream, from)?;
        let begin = zeros + 3;
        // A start code at the very end begins nothing.
        stream.get(begin)?;
        let long = zeros > from && stream[zeros - 1] == 0;
        from = begin;
        Some(Head { code: zeros - usize::from(long), begin })
    })
}

/// Where a NAL unit begins.
pub(crate) struct Head {
    /// First byte of the start code, of which at most four bytes count.
    pub(crate) code: usize,
    /// The unit's first byte.
    pub(crate) begin: usize,
}

/// Where a NAL unit and its start code lie.
struct Piece {
    /// First byte of the start code, of which at most four bytes count.
    code: usize,
    begin: usize,
    end: usize,
}

#[derive(Clone, Debug)]
struct Pieces<'a> {
    stream: &'a [u8],
    /// The first of the two zeros of the next start code.
    zeros: Option<usize>,
    /// End of the last NAL unit: a start code does not reach back over it.
    last_end: usize,
}

fn pieces(stream: &[u8]) -> Pieces<'_> {
    Pieces { stream, zeros: find_code(stream, 0), last_end: 0 }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            let zeros = self.zeros?;
            let begin = zeros + 3;
            self.zeros = find_code(self.stream, begin);
            let mut end = self.zeros.unwrap_or(self.stream.len());
            while end > begin && self.stream[end - 1] == 0 {
                end -= 1;
            }
            if end == begin {
                continue;
            }
            let long = zeros > self.last_end && self.stream[zeros - 1] == 0;
            self.last_end = end;
            return Some(Piece { code: zeros - usize::from(long), begin, end });
        }
    }
}

/// The first `00 00 01` at or after `from`. Looks at every third byte only where it can.
fn find_code(stream: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 2;
    while let Some(&byte) = stream.get(at) {
        match byte {
            0 => at += 1,
            1 if stream[at - 1] == 0 && stream[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_start_codes_are_found_and_zeros_belong_to_no_nal() {
        let stream = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 0, 1, 0x68, 0, 0, 1, 0, 0, 1, 0x65, 0, 0];
        let found: Vec<_> = nals(&stream).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68], &[0x65]]);
        assert_eq!(nals(&[1, 2, 3]).count(), 0);
        assert_eq!(nals(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn a_canonical_unit_is_shared_also_when_its_ends_are_dropped() {
        let unit =
            Bytes::from_static(&[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x65, 1, 0, 0, 0, 1, 12, 255]);
        assert_eq!(canonical(&unit, |_| false).as_ptr(), unit.as_ptr());
        let cut = canonical(&unit, |byte| byte == 9 || byte == 12);
        assert_eq!(cut[..], unit[6..12]);
        assert_eq!(cut.as_ptr(), unit[6..].as_ptr());
        assert!(canonical(&unit, |_| true).is_empty());
    }

    #[test]
    fn short_start_codes_and_gaps_are_rewritten() {
        let unit = Bytes::from_static(&[0, 0, 1, 0x65, 1, 0, 0, 0, 0, 0, 1, 0x41, 0]);
        assert_eq!(canonical(&unit, |_| false)[..], [0, 0, 0, 1, 0x65, 1, 0, 0, 0, 1, 0x41]);
    }

    proptest! {
        #[test]
        fn any_list_of_nals_survives_any_choice_of_start_codes(
            list in prop::collection::vec((prop::collection::vec(4_u8..=255, 1..40), 2_usize..6), 0..8),
        ) {
            let mut stream = Vec::new();
            for (nal, zeros) in &list {
                stream.extend(std::iter::repeat_n(0, *zeros));
                stream.push(1);
                stream.extend(nal);
            }
            let expected: Vec<_> = list.iter().map(|(nal, _)| nal.as_slice()).collect();
            prop_assert_eq!(nals(&stream).collect::<Vec<_>>(), expected.clone());
            let canonical = canonical(&Bytes::from(stream), |_| false);
            let mut built = BytesMut::new();
            expected.iter().for_each(|nal| push(&mut built, nal));
            prop_assert_eq!(&canonical[..], &built[..]);
        }
    }
}
