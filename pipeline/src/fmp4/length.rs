//! The duration in the head of a file: not known when the head is written, and put in its place when
//! the file is closed.

use bytes::Bytes;

use crate::time::Ticks;

use super::VIDEO_TIMESCALE;

/// Bytes to put over those at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The first byte.
    pub at: u64,
    /// What goes there.
    pub bytes: Bytes,
}

/// Where `mvhd` has the duration (ISO/IEC 14496-12 8.2.2), and whether it takes eight bytes.
fn place(head: &[u8]) -> Option<(usize, bool)> {
    let moov = find(head, 0, b"moov")?;
    let mvhd = find(head, moov + 8, b"mvhd")?;
    let long = *head.get(mvhd + 8)? == 1;
    Some((mvhd + if long { 32 } else { 24 }, long))
}

/// The box of a kind among those from `at` on.
fn find(head: &[u8], mut at: usize, wanted: &[u8; 4]) -> Option<usize> {
    loop {
        let (size, rest) = head.get(at..)?.split_first_chunk::<4>()?;
        if rest.starts_with(wanted) {
            return Some(at);
        }
        let size = u32::from_be_bytes(*size) as usize;
        at = at.checked_add(size).filter(|_| size >= 8)?;
    }
}

/// What makes the head of a file that [`super::Writer`] began say how long the file is. A duration
/// beyond what fits is the longest that does.
pub fn duration_patch(init: &[u8], duration: Ticks) -> Option<Patch> {
    let (at, long) = place(init)?;
    let ticks = u64::try_from(duration.0).unwrap_or(0);
    let bytes = match long {
        true => Bytes::copy_from_slice(&ticks.to_be_bytes()),
        false => {
            let ticks = u32::try_from(ticks).unwrap_or(u32::MAX - 1);
            Bytes::copy_from_slice(&ticks.to_be_bytes())
        }
    };
    (init.len() >= at + bytes.len()).then_some(Patch { at: at as u64, bytes })
}

/// What the head of such a file says; 0 for one that was not closed.
pub fn duration_of(head: &[u8]) -> Option<Ticks> {
    let (at, long) = place(head)?;
    let ticks = match long {
        true => u64::from_be_bytes(head.get(at..)?.first_chunk().copied()?),
        false => u32::from_be_bytes(head.get(at..)?.first_chunk().copied()?).into(),
    };
    debug_assert_eq!(VIDEO_TIMESCALE, 90_000, "the head counts in ticks");
    Some(Ticks(i64::try_from(ticks).unwrap_or(i64::MAX)))
}
