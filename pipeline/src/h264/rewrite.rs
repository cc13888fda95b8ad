//! Telling a decoder that it need not hold pictures back.
//!
//! A decoder that is not told how far pictures are reordered waits for as many as the level allows
//! (C.4.5.3, E.2.1), which is up to 16 frames of delay in a stream that reorders none. The cure is
//! two numbers at the end of the sequence parameter set. Everything before them is kept bit for bit.

use bytes::{Bytes, BytesMut};

use crate::annexb::{START_CODE, nals, push};
use crate::bits::{BitReader, BitWriter};

use super::sps::read;
use super::{Error, NalKind};

/// The SPS `nal` (header byte first, no start code) with `max_num_reorder_frames` 0 and
/// `max_dec_frame_buffering` equal to the reference frames, so that each picture is shown at once.
///
/// Only right for a stream whose pictures are sent in the order they are shown (`pts == dts`
/// throughout): pictures of any other would come out in the wrong order.
///
/// # Errors
/// Those of [`super::SpsInfo::parse`].
pub fn with_no_reordering(nal: &[u8]) -> Result<Vec<u8>, Error> {
    let layout = read(nal)?;
    let payload = &nal[1..];
    let mut from = BitReader::escaped(payload);
    let mut to = BitWriter::default();
    let missing = || Error::Truncated { what: "sequence parameter set", field: "vui_parameters" };
    let kept = layout.restriction_flag.unwrap_or(layout.vui_flag);
    for _ in 0..kept {
        to.bit(from.bit().ok_or_else(missing)?);
    }
    if layout.restriction_flag.is_none() {
        // A VUI of nothing but the restriction: its eight presence flags are all 0. Flags of HRD
        // being 0, low_delay_hrd_flag is absent.
        to.bit(true);
        to.bits(0, 8);
    }
    to.bit(true);
    if from.bit().ok_or_else(missing)? && layout.restriction_flag.is_some() {
        to.bit(from.bit().ok_or_else(missing)?);
        for _ in 0..4 {
            to.ue(from.ue().ok_or_else(missing)?);
        }
    } else {
        // The values that the standard infers where the restriction is absent (E.2.1).
        to.bit(true);
        for inferred in [2, 1, 15, 15] {
            to.ue(inferred);
        }
    }
    to.ue(0);
    to.ue(layout.info.reference_frames);
    let mut out = Vec::with_capacity(nal.len() + 12);
    out.push(nal[0]);
    to.finish_into(&mut out);
    Ok(out)
}

/// A canonical access unit with [`with_no_reordering`] applied to each SPS in it. Units that do not
/// begin with an SPS, which is all but key units, share their bytes and are not searched.
///
/// # Errors
/// Those of [`super::SpsInfo::parse`].
pub fn unit_with_no_reordering(unit: &Bytes) -> Result<Bytes, Error> {
    let is_sps = |header: u8| NalKind::of(header) == NalKind::Sps;
    if !unit.get(START_CODE.len()).copied().is_some_and(is_sps) {
        return Ok(unit.clone());
    }
    let mut out = BytesMut::with_capacity(unit.len() + 64);
    for nal in nals(unit) {
        if is_sps(nal[0]) {
            push(&mut out, &with_no_reordering(nal)?);
        } else {
            push(&mut out, nal);
        }
    }
    Ok(out.freeze())
}
