//! One access unit after another, brought to canonical form.
//!
//! Keeps the newest parameter sets, whether they came in a sequence header, an SDP or in band, and
//! puts them before key pictures that lack them, so that decoding can start at each of those. Does
//! not know time and does not cut a stream into access units: transports mark their borders.

use bytes::{Bytes, BytesMut};

use crate::annexb::{START_CODE, canonical, nals, push};
use crate::bits::BitReader;
use crate::frame::Size;
use crate::packet::{Codec, VideoTrack};

use super::slice::recovery_frame_count;
use super::{
    DecoderConfiguration, Error, NalKind, PARAMETER_SETS_BYTES_MAX, SliceHead, SliceKind, SpsInfo,
    to_annex_b,
};

/// An access unit in canonical form.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Annex B, four-byte start codes, no delimiters; begins with its parameter sets if `key`.
    pub data: Bytes,
    /// Whether decoding can start here: an IDR picture, or an intra picture with a recovery point
    /// that says it is correct at once.
    pub key: bool,
    /// Whether it is an IDR picture, the only key picture that browsers start at.
    pub idr: bool,
    /// Whether other pictures may refer to it; skipping one that is not harms no other.
    pub reference: bool,
    /// What its slices may be predicted from, the furthest of them.
    pub slices: SliceKind,
    /// Whether the parameter sets in use are others than those of the last key unit. Only a key
    /// unit can say so; [`Assembler::track`] then has the new ones.
    pub changed: bool,
}

/// Makes canonical access units of one stream.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    sps: Vec<(u32, Bytes)>,
    pps: Vec<Pps>,
    length_size: Option<u8>,
    active: Option<Active>,
    /// The parameter sets of the last key unit.
    shown: Bytes,
}

#[derive(Clone, Debug)]
struct Pps {
    id: u32,
    sps: u32,
    nal: Bytes,
}

/// The SPS in use and what is put before key pictures.
#[derive(Clone, Debug)]
struct Active {
    info: SpsInfo,
    sets: Bytes,
}

/// What one walk over an access unit found.
#[derive(Default)]
struct Found {
    first_slice: Option<SliceHead>,
    slices: Option<SliceKind>,
    picture: bool,
    idr: bool,
    reference: bool,
    recovery: bool,
    /// Whether the PPS of the first slice stands before it.
    pps_before: bool,
    stray_sets: bool,
}

impl Assembler {
    /// One that knows no parameter sets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the parameter sets and the length size of a sequence header. Answers whether the
    /// parameter sets in use are others than before.
    ///
    /// # Errors
    /// Those of [`SpsInfo::parse`], and [`Error::TooManyParameterSets`].
    pub fn configure(&mut self, record: &DecoderConfiguration) -> Result<bool, Error> {
        self.length_size = Some(record.length_size);
        let before = self.active.as_ref().map(|active| active.sets.clone());
        for nal in record.sps.iter().chain(&record.pps) {
            self.keep(nal)?;
        }
        if let Some(&(id, _)) =
            record.sps.first().and_then(|nal| self.sps.iter().find(|s| s.1 == nal))
        {
            self.activate(id)?;
        }
        Ok(self.active.as_ref().map(|active| active.sets.clone()) != before)
    }

    /// Takes parameter sets in Annex B, such as those of an SDP. Answers as [`Self::configure`].
    ///
    /// # Errors
    /// Those of [`SpsInfo::parse`], and [`Error::TooManyParameterSets`].
    pub fn configure_annex_b(&mut self, sets: &[u8]) -> Result<bool, Error> {
        let of = |kind: NalKind| -> Vec<Bytes> {
            let list = nals(sets).filter(|nal| NalKind::of(nal[0]) == kind);
            list.map(Bytes::copy_from_slice).collect()
        };
        let length_size = self.length_size;
        let (sps, pps) = (of(NalKind::Sps), of(NalKind::Pps));
        let (profile, compatibility, level) = (0, 0, 0);
        let record =
            DecoderConfiguration { profile, compatibility, level, length_size: 4, sps, pps };
        let changed = self.configure(&record);
        self.length_size = length_size;
        changed
    }

    /// The track as the parameter sets in use describe it; `None` before any came.
    pub fn track(&self) -> Option<VideoTrack> {
        let active = self.active.as_ref()?;
        Some(VideoTrack {
            codec: Codec::H264,
            size: active.info.size,
            parameter_sets: active.sets.clone(),
        })
    }

    /// The sequence parameter set in use.
    pub fn sps(&self) -> Option<&SpsInfo> {
        self.active.as_ref().map(|active| &active.info)
    }

    /// The cropped picture size of the sequence parameter set in use.
    pub fn size(&self) -> Option<Size> {
        self.sps().map(|info| info.size)
    }

    /// Makes an access unit with length prefixes canonical; their size is that of the last
    /// sequence header, or four bytes. In place unless parameter sets have to be added.
    ///
    /// # Errors
    /// Those of [`to_annex_b`] and of [`Self::annex_b`].
    pub fn length_prefixed(&mut self, unit: BytesMut) -> Result<Option<Unit>, Error> {
        let unit = to_annex_b(unit, self.length_size.unwrap_or(4))?;
        self.annex_b(unit.freeze())
    }

    /// Makes an access unit in Annex B canonical. `None` when it holds no picture; parameter sets
    /// in it are kept all the same. Shares the bytes where they are canonical already.
    ///
    /// # Errors
    /// [`Error::MissingParameterSets`] for a key picture whose sets never came, those of
    /// [`SpsInfo::parse`] for sets in band. The unit is lost, the stream can go on.
    pub fn annex_b(&mut self, unit: Bytes) -> Result<Option<Unit>, Error> {
        let found = self.walk(&unit)?;
        if !found.picture {
            return Ok(None);
        }
        let slices = found.slices.unwrap_or(SliceKind::P);
        let known_pps =
            found.first_slice.and_then(|head| self.pps.iter().find(|p| p.id == head.pps));
        let known_sps =
            known_pps.map(|pps| pps.sps).filter(|id| self.sps.iter().any(|s| s.0 == *id));
        let recovered = found.recovery && slices == SliceKind::I && known_sps.is_some();
        let key = found.idr || recovered;
        let data = canonical(&unit, |header| NalKind::of(header).is_dropped());
        let mut whole =
            Unit { data, key, idr: found.idr, reference: found.reference, slices, changed: false };
        if !key {
            return Ok(Some(whole));
        }
        let Some(sps) = known_sps else {
            let pps = found.first_slice.map_or(0, |head| head.pps);
            return Err(Error::MissingParameterSets { pps });
        };
        let sets = self.activate(sps)?;
        let begins_with_sps = nals(&whole.data).next() == nals(&sets).next();
        if found.stray_sets || !begins_with_sps || !found.pps_before {
            let mut out = BytesMut::with_capacity(sets.len() + whole.data.len());
            out.extend_from_slice(&sets);
            let is_set = |nal: &&[u8]| matches!(NalKind::of(nal[0]), NalKind::Sps | NalKind::Pps);
            nals(&whole.data).filter(|nal| !is_set(nal)).for_each(|nal| push(&mut out, nal));
            whole.data = out.freeze();
        }
        whole.changed = sets != self.shown;
        self.shown = sets;
        Ok(Some(whole))
    }

    /// Keeps the parameter sets of `unit` and looks at its slices.
    fn walk(&mut self, unit: &[u8]) -> Result<Found, Error> {
        let mut found = Found::default();
        // One bit for each of the 256 numbers.
        let mut pps_seen = [0_u64; 4];
        for nal in nals(unit) {
            let kind = NalKind::of(nal[0]);
            if kind.is_dropped() {
                continue;
            }
            match kind {
                NalKind::Sps | NalKind::Pps => {
                    // Sets between pictures of one unit, or after something else, are moved.
                    found.stray_sets |= found.picture;
                    self.keep(nal)?;
                    if kind == NalKind::Pps {
                        let (id, _) = pps_ids(nal)?;
                        pps_seen[id as usize / 64] |= 1 << (id % 64);
                    }
                }
                NalKind::Sei => found.recovery |= recovery_frame_count(nal) == Some(0),
                _ if kind.is_picture() => {
                    found.picture = true;
                    found.idr |= kind == NalKind::Idr;
                    found.reference |= nal[0] & 0x60 != 0;
                    if let Some(head) = SliceHead::parse(nal) {
                        if found.first_slice.is_none() {
                            found.first_slice = Some(head);
                            found.pps_before =
                                pps_seen[head.pps as usize / 64] >> (head.pps % 64) & 1 == 1;
                        }
                        found.slices = found.slices.max(Some(head.kind));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Keeps one parameter set in place of an older one of the same number.
    fn keep(&mut self, nal: &[u8]) -> Result<(), Error> {
        let (changed_sps, bytes);
        if NalKind::of(nal[0]) == NalKind::Sps {
            if self.sps.iter().any(|(_, kept)| kept == nal) {
                return Ok(());
            }
            let id = u32::from(SpsInfo::parse(nal)?.id);
            self.sps.retain(|(other, _)| *other != id);
            (changed_sps, bytes) = (id, Bytes::copy_from_slice(nal));
            self.sps.push((id, bytes));
        } else {
            if self.pps.iter().any(|kept| kept.nal == nal) {
                return Ok(());
            }
            let (id, sps) = pps_ids(nal)?;
            self.pps.retain(|other| other.id != id);
            (changed_sps, bytes) = (sps, Bytes::copy_from_slice(nal));
            self.pps.push(Pps { id, sps, nal: bytes });
        }
        let held: usize = self.sps.iter().map(|(_, nal)| nal.len()).sum::<usize>()
            + self.pps.iter().map(|pps| pps.nal.len()).sum::<usize>();
        if held > PARAMETER_SETS_BYTES_MAX {
            // Start over: a sender that fills this on purpose gets nowhere, one that changed its
            // sets often sends those in use again.
            *self = Self { length_size: self.length_size, ..Self::default() };
            return Err(Error::TooManyParameterSets);
        }
        if self.active.as_ref().is_some_and(|active| u32::from(active.info.id) == changed_sps) {
            self.active = None;
            if self.sps.iter().any(|(id, _)| *id == changed_sps) {
                self.activate(changed_sps)?;
            }
        }
        Ok(())
    }

    /// Puts the SPS of number `id`, which is kept, in use and answers its sets in Annex B.
    fn activate(&mut self, id: u32) -> Result<Bytes, Error> {
        if let Some(active) = self.active.as_ref().filter(|a| u32::from(a.info.id) == id) {
            return Ok(active.sets.clone());
        }
        let mut sets = BytesMut::new();
        let mut info = None;
        if let Some((_, nal)) = self.sps.iter().find(|(other, _)| *other == id) {
            info = Some(SpsInfo::parse(nal)?);
            push(&mut sets, nal);
        }
        let of_this = self.pps.iter().filter(|pps| pps.sps == id);
        of_this.for_each(|pps| push(&mut sets, &pps.nal));
        let sets = sets.freeze();
        self.active = info.map(|info| Active { info, sets: sets.clone() });
        Ok(sets)
    }
}

/// `unit` with `parameter_sets` (both in Annex B) in front, unless it begins with an SPS already.
pub fn prepend_parameter_sets(parameter_sets: &[u8], unit: &Bytes) -> Bytes {
    let first = canonical_first(unit);
    if first == Some(NalKind::Sps) {
        return unit.clone();
    }
    let mut out = BytesMut::with_capacity(parameter_sets.len() + unit.len());
    out.extend_from_slice(parameter_sets);
    out.extend_from_slice(unit);
    out.freeze()
}

/// The kind of the first NAL unit of a canonical unit, without a search.
fn canonical_first(unit: &[u8]) -> Option<NalKind> {
    let header = unit.strip_prefix(&START_CODE)?.first()?;
    Some(NalKind::of(*header))
}

/// `pic_parameter_set_id` and `seq_parameter_set_id` of a PPS.
fn pps_ids(nal: &[u8]) -> Result<(u32, u32), Error> {
    let mut bits = BitReader::escaped(nal.get(1..).unwrap_or_default());
    let what = "picture parameter set";
    let mut id = |field, max: u32| match bits.ue() {
        None => Err(Error::Truncated { what, field }),
        Some(value) if value > max => Err(Error::OutOfRange { field, value: value.into() }),
        Some(value) => Ok(value),
    };
    Ok((id("pic_parameter_set_id", 255)?, id("seq_parameter_set_id", 31)?))
}
