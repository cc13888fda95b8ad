//! Telling a decoder that it need not hold pictures back.
//!
//! A decoder holds as many pictures as the parameter set allows to be reordered, whether the stream
//! reorders any or not. The cure is three numbers in the sequence parameter set; the rest is kept
//! bit for bit.

use bytes::{Bytes, BytesMut};

use crate::annexb::{START_CODE, nals, push};
use crate::bits::{BitReader, BitWriter};

use super::sps::read;
use super::{Error, NalKind};

/// The SPS `nal` (header first, no start code) with `sps_max_num_reorder_pics` 0 for all
/// sub-layers, so that each picture is shown at once.
///
/// Only right for a stream whose pictures are sent in the order they are shown (`pts == dts`
/// throughout): pictures of any other would come out in the wrong order.
///
/// # Errors
/// Those of [`super::SpsInfo::parse`].
pub fn with_no_reordering(nal: &[u8]) -> Result<Vec<u8>, Error> {
    let layout = read(nal)?;
    let mut from = BitReader::escaped(&nal[2..]);
    let mut to = BitWriter::default();
    let missing = || Error::Truncated { what: "sequence parameter set", field: "rbsp_stop_bit" };
    for _ in 0..layout.ordering {
        to.bit(from.bit().ok_or_else(missing)?);
    }
    to.bit(false);
    to.ue(layout.info.buffering_minus1);
    to.ue(0);
    to.ue(0);
    for _ in layout.ordering..layout.behind {
        from.bit().ok_or_else(missing)?;
    }
    // The stop bit is the last one that is set; it is written anew.
    let rest: Vec<bool> = std::iter::from_fn(|| from.bit()).collect();
    let stop = rest.iter().rposition(|bit| *bit).ok_or_else(missing)?;
    if layout.behind + stop < layout.end {
        return Err(missing());
    }
    rest[..stop].iter().for_each(|bit| to.bit(*bit));
    let mut out = Vec::with_capacity(nal.len() + 4);
    out.extend_from_slice(&nal[..2]);
    to.finish_into(&mut out);
    Ok(out)
}

/// A canonical access unit with [`with_no_reordering`] applied to each SPS in it. Units that do not
/// begin with a parameter set, which is all but key units, share their bytes and are not searched.
///
/// # Errors
/// Those of [`super::SpsInfo::parse`].
pub fn unit_with_no_reordering(unit: &Bytes) -> Result<Bytes, Error> {
    let first = unit.get(START_CODE.len()).map(|header| NalKind::of(*header));
    if !first.is_some_and(NalKind::is_parameter_set) {
        return Ok(unit.clone());
    }
    let mut out = BytesMut::with_capacity(unit.len() + 64);
    for nal in nals(unit) {
        if NalKind::of(nal[0]) == NalKind::Sps {
            push(&mut out, &with_no_reordering(nal)?);
        } else {
            push(&mut out, nal);
        }
    }
    Ok(out.freeze())
}
