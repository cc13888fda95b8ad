//! One access unit after another, brought to canonical form: as [`crate::h264::Assembler`], with
//! three kinds of parameter sets.

use bytes::{Bytes, BytesMut};

use crate::annexb::{canonical, nals, push};
use crate::bits::BitReader;
use crate::frame::Size;
use crate::packet::{Codec, VideoTrack};

use super::{DecoderConfiguration, Error, NalKind, PARAMETER_SETS_BYTES_MAX, SpsInfo, to_annex_b};

/// An access unit in canonical form.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Annex B, four-byte start codes, no delimiters; begins with its parameter sets if `key`.
    pub data: Bytes,
    /// Whether decoding can start here: an intra random access point picture (IRAP).
    pub key: bool,
    /// Whether it is an IDR picture.
    pub idr: bool,
    /// Whether other pictures may refer to it; skipping one that is not harms no other.
    pub reference: bool,
    /// Whether the parameter sets in use are others than those of the last key unit. Only a key
    /// unit can say so; [`Assembler::track`] then has the new ones.
    pub changed: bool,
}

/// Makes canonical access units of one stream.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    /// Video parameter sets by number.
    vps: Vec<(u32, Bytes)>,
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
    /// `slice_pic_parameter_set_id` of the first slice.
    pps: Option<u32>,
    picture: bool,
    irap: bool,
    idr: bool,
    reference: bool,
    /// Parameter sets behind a picture or something else: they are moved.
    stray_sets: bool,
    /// The unit has parameter sets of its own.
    sets: bool,
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
        self.take_sets(record.sets.iter().map(|nal| &nal[..]))
    }

    /// Takes parameter sets in Annex B, such as those of an SDP. Answers as [`Self::configure`].
    ///
    /// # Errors
    /// Those of [`SpsInfo::parse`], and [`Error::TooManyParameterSets`].
    pub fn configure_annex_b(&mut self, sets: &[u8]) -> Result<bool, Error> {
        self.take_sets(nals(sets).filter(|nal| NalKind::of(nal[0]).is_parameter_set()))
    }

    fn take_sets<'a>(&mut self, sets: impl Iterator<Item = &'a [u8]>) -> Result<bool, Error> {
        let before = self.active.as_ref().map(|active| active.sets.clone());
        let mut first_sps = None;
        for nal in sets {
            self.keep(nal)?;
            if first_sps.is_none() && NalKind::of(nal[0]) == NalKind::Sps {
                first_sps = self.sps.iter().find(|(_, kept)| kept == nal).map(|(id, _)| *id);
            }
        }
        if let Some(id) = first_sps {
            self.activate(id)?;
        }
        Ok(self.active.as_ref().map(|active| active.sets.clone()) != before)
    }

    /// The track as the parameter sets in use describe it; `None` before any came.
    pub fn track(&self) -> Option<VideoTrack> {
        let active = self.active.as_ref()?;
        Some(VideoTrack {
            codec: Codec::Hevc,
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
        let data = canonical(&unit, |header| NalKind::of(header).is_dropped());
        let key = found.irap;
        let mut whole =
            Unit { data, key, idr: found.idr, reference: found.reference, changed: false };
        if !key {
            return Ok(Some(whole));
        }
        let sps = found.pps.and_then(|id| self.pps.iter().find(|pps| pps.id == id));
        let sps = sps.map(|pps| pps.sps).filter(|id| self.sps.iter().any(|s| s.0 == *id));
        let Some(sps) = sps else {
            return Err(Error::MissingParameterSets { pps: found.pps.unwrap_or_default() });
        };
        let sets = self.activate(sps)?;
        // Encoders mostly send the very sets in the very order; then nothing is copied.
        if found.stray_sets || !found.sets || !whole.data.starts_with(&sets) {
            let mut out = BytesMut::with_capacity(sets.len() + whole.data.len());
            out.extend_from_slice(&sets);
            nals(&whole.data)
                .filter(|nal| !NalKind::of(nal[0]).is_parameter_set())
                .for_each(|nal| push(&mut out, nal));
            whole.data = out.freeze();
        }
        whole.changed = sets != self.shown;
        self.shown = sets;
        Ok(Some(whole))
    }

    /// Keeps the parameter sets of `unit` and looks at its slices.
    fn walk(&mut self, unit: &[u8]) -> Result<Found, Error> {
        let mut found = Found::default();
        let highest = self.sps().map_or(0, |info| info.sub_layers - 1);
        for nal in nals(unit) {
            let kind = NalKind::of(nal[0]);
            // Further layers (7.4.2.2) are enhancements that nobody here decodes.
            let layer = (nal[0] & 1) << 5 | nal.get(1).copied().unwrap_or_default() >> 3;
            if kind.is_dropped() || layer != 0 {
                continue;
            }
            if kind.is_parameter_set() {
                found.stray_sets |= found.picture;
                found.sets = true;
                self.keep(nal)?;
            } else if kind.is_picture() {
                found.irap |= matches!(kind, NalKind::Irap(_));
                found.idr |= kind.is_idr();
                if !found.picture {
                    found.picture = true;
                    found.pps = slice_pps(nal, kind);
                    // 7.4.2.2: even numbers up to 14 are not referred to within their sub-layer.
                    let temporal = (nal.get(1).copied().unwrap_or(1) & 7).saturating_sub(1);
                    let skippable =
                        matches!(kind, NalKind::Slice(number) if number.is_multiple_of(2));
                    found.reference = !(skippable && temporal >= highest);
                }
            }
        }
        Ok(found)
    }

    /// Keeps one parameter set in place of an older one of the same number.
    fn keep(&mut self, nal: &[u8]) -> Result<(), Error> {
        let known = match NalKind::of(nal[0]) {
            NalKind::Vps => self.vps.iter().any(|(_, kept)| kept == nal),
            NalKind::Sps => self.sps.iter().any(|(_, kept)| kept == nal),
            _ => self.pps.iter().any(|kept| kept.nal == nal),
        };
        if known {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(nal);
        match NalKind::of(nal[0]) {
            NalKind::Vps => {
                let id = u32::from(nal.get(2).copied().unwrap_or_default() >> 4);
                self.vps.retain(|(other, _)| *other != id);
                self.vps.push((id, bytes));
            }
            NalKind::Sps => {
                let id = u32::from(SpsInfo::parse(nal)?.id);
                self.sps.retain(|(other, _)| *other != id);
                self.sps.push((id, bytes));
            }
            _ => {
                let (id, sps) = pps_ids(nal)?;
                self.pps.retain(|other| other.id != id);
                self.pps.push(Pps { id, sps, nal: bytes });
            }
        }
        let held: usize = self.vps.iter().chain(&self.sps).map(|(_, nal)| nal.len()).sum::<usize>()
            + self.pps.iter().map(|pps| pps.nal.len()).sum::<usize>();
        if held > PARAMETER_SETS_BYTES_MAX {
            // Start over: a sender that fills this on purpose gets nowhere, one that changed its
            // sets often sends those in use again.
            *self = Self { length_size: self.length_size, ..Self::default() };
            return Err(Error::TooManyParameterSets);
        }
        // Whatever it was, what was put together from the old sets holds no longer.
        if let Some(id) = self.active.take().map(|active| u32::from(active.info.id)) {
            self.activate(id)?;
        }
        Ok(())
    }

    /// Puts the SPS of number `id` in use and answers its sets in Annex B.
    fn activate(&mut self, id: u32) -> Result<Bytes, Error> {
        if let Some(active) = self.active.as_ref().filter(|a| u32::from(a.info.id) == id) {
            return Ok(active.sets.clone());
        }
        let Some((_, nal)) = self.sps.iter().find(|(other, _)| *other == id) else {
            return Ok(Bytes::new());
        };
        let info = SpsInfo::parse(nal)?;
        let mut sets = BytesMut::new();
        let vps = self.vps.iter().filter(|(id, _)| *id == u32::from(info.vps));
        vps.for_each(|(_, nal)| push(&mut sets, nal));
        push(&mut sets, nal);
        let of_this = self.pps.iter().filter(|pps| pps.sps == id);
        of_this.for_each(|pps| push(&mut sets, &pps.nal));
        let sets = sets.freeze();
        self.active = Some(Active { info, sets: sets.clone() });
        Ok(sets)
    }
}

/// `slice_pic_parameter_set_id` (7.3.6.1).
fn slice_pps(nal: &[u8], kind: NalKind) -> Option<u32> {
    let mut bits = BitReader::escaped(nal.get(2..)?);
    bits.bit()?;
    if matches!(kind, NalKind::Irap(_)) {
        bits.bit()?;
    }
    bits.ue().filter(|id| *id <= 63)
}

/// `pps_pic_parameter_set_id` and `pps_seq_parameter_set_id` (7.3.2.3).
fn pps_ids(nal: &[u8]) -> Result<(u32, u32), Error> {
    let mut bits = BitReader::escaped(nal.get(2..).unwrap_or_default());
    let mut id = |field, max: u32| match bits.ue() {
        None => Err(Error::Truncated { what: "picture parameter set", field }),
        Some(value) if value > max => Err(Error::OutOfRange { field, value: value.into() }),
        Some(value) => Ok(value),
    };
    Ok((id("pps_pic_parameter_set_id", 63)?, id("pps_seq_parameter_set_id", 15)?))
}
