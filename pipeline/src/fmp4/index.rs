//! Reads back what [`super::Writer`] wrote: where each sample of a file is, and up to where the file
//! is whole. Files are our own recordings, yet possibly cut off in the middle, so nothing in them is
//! believed beyond the limits of this module.

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use mp4_atom::{Atom as _, Decode as _, Moof, Moov, Traf};

use crate::packet::TrackKind;
use crate::time::{TICKS_PER_SECOND, Ticks};

use super::writer::FLAGS_KEY;
use super::{AUDIO_ID, Error, FRAGMENTS_MAX, INIT_BYTES_MAX, MOOF_BYTES_MAX, VIDEO_ID};

/// `sample_is_non_sync_sample` in `sample_flags`.
const NON_SYNC: u32 = 0x0001_0000;

/// A track of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackInfo {
    /// Picture or sound.
    pub kind: TrackKind,
    /// Units of its clock in a second, not 0.
    pub timescale: u32,
}

/// Where a fragment is in its file, and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte of its `moof`.
    pub at: u64,
    /// Bytes of `moof` and `mdat`.
    pub bytes: u64,
    /// When its first picture (or sound, without pictures) is decoded, since the file's beginning.
    pub start: Ticks,
    /// When its last picture (or sound) ends.
    pub end: Ticks,
    /// Whether it has a picture that decoding can start at (or is of sound alone).
    pub key: bool,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its track.
    pub kind: TrackKind,
    /// When it is decoded, in units of its track since the file's beginning.
    pub time: u64,
    /// How long it lasts, in units of its track.
    pub duration: u32,
    /// How much later it is shown, in units of its track.
    pub composition: i32,
    /// Whether decoding can start here.
    pub key: bool,
    /// First byte in the file.
    pub at: u64,
    /// Its bytes.
    pub size: u32,
}

/// What is in a file.
#[derive(Clone, Debug)]
pub struct Index {
    /// `ftyp` and `moov` as they are.
    pub init: Bytes,
    /// The tracks, the picture first.
    pub tracks: Vec<TrackInfo>,
    /// The whole fragments in order.
    pub fragments: Vec<Place>,
    /// Bytes of the file that are whole; what follows was cut off.
    pub whole_bytes: u64,
    pub(super) moov: Moov,
}

impl Index {
    /// Reads a file's boxes, without its media. A last fragment that is not whole is left out.
    ///
    /// # Errors
    /// [`Error::NoInit`], [`Error::TooLarge`], [`Error::Box`] for a broken `moov`, [`Error::Io`].
    pub fn read(file: &mut (impl Read + Seek)) -> Result<Self, Error> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut at = 0;
        let mut moov = None;
        while moov.is_none() {
            let Some(head) = Head::read(file, at, length)? else { return Err(Error::NoInit) };
            let end = at + head.bytes;
            if end > INIT_BYTES_MAX {
                return Err(head.too_large(at));
            }
            if end > length {
                return Err(Error::NoInit);
            }
            match &head.kind {
                b"moov" => {
                    let body = bytes_at(file, at + head.head_bytes, end - at - head.head_bytes)?;
                    moov = Some(Moov::decode_body(&mut &body[..])?);
                }
                b"moof" | b"mdat" => return Err(Error::NoInit),
                _ => {}
            }
            at = end;
        }
        let moov = moov.ok_or(Error::NoInit)?;
        let init = bytes_at(file, 0, at)?;
        let tracks: Vec<_> = [VIDEO_ID, AUDIO_ID]
            .iter()
            .filter_map(|id| {
                let trak = moov.trak.iter().find(|trak| trak.tkhd.track_id == *id)?;
                let kind = if *id == VIDEO_ID { TrackKind::Video } else { TrackKind::Audio };
                Some(TrackInfo { kind, timescale: trak.mdia.mdhd.timescale.max(1) })
            })
            .collect();
        if tracks.is_empty() {
            return Err(Error::NoTrack);
        }
        let mut index = Self { init, tracks, fragments: Vec::new(), whole_bytes: at, moov };
        index.read_fragments(file, length)?;
        Ok(index)
    }

    fn read_fragments(&mut self, file: &mut (impl Read + Seek), length: u64) -> Result<(), Error> {
        let mut at = self.whole_bytes;
        while self.fragments.len() < FRAGMENTS_MAX {
            let Some(head) = Head::read(file, at, length)? else { break };
            if &head.kind != b"moof" || head.bytes > MOOF_BYTES_MAX {
                break;
            }
            let Some(data) = Head::read(file, at + head.bytes, length)? else { break };
            let end = at + head.bytes + data.bytes;
            if &data.kind != b"mdat" || end > length {
                break;
            }
            let moof = bytes_at(file, at, head.bytes)?;
            // What does not parse ends the file as much as what is missing.
            let Ok(samples) = self.samples_of(&moof, at, end) else { break };
            self.fragments.extend(self.place(&samples, at, end - at));
            self.whole_bytes = end;
            at = end;
        }
        Ok(())
    }

    /// The samples of one of [`Self::fragments`].
    ///
    /// # Errors
    /// [`Error::Box`], [`Error::Io`].
    pub fn samples(
        &self,
        file: &mut (impl Read + Seek),
        place: &Place,
    ) -> Result<Vec<Sample>, Error> {
        let end = place.at + place.bytes;
        let head = Head::read(file, place.at, end)?.ok_or(Error::NoInit)?;
        if head.bytes > MOOF_BYTES_MAX {
            return Err(head.too_large(place.at));
        }
        let moof = bytes_at(file, place.at, head.bytes)?;
        self.samples_of(&moof, place.at, end)
    }

    /// Where the file ends in time.
    pub fn duration(&self) -> Ticks {
        self.fragments.iter().map(|place| place.end).max().unwrap_or_default()
    }

    /// `ftyp` and `moov` as they were before the file was closed.
    pub(super) fn init_without_duration(&self) -> Bytes {
        let Some(patch) = super::duration_patch(&self.init, Ticks(0)) else {
            return self.init.clone();
        };
        let mut init = self.init.to_vec();
        let at = patch.at as usize;
        init[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
        init.into()
    }

    /// The codecs' sample entries, which tell whether two files can be joined.
    pub fn same_tracks(&self, other: &Self) -> bool {
        let entries = |index: &Self| -> Vec<_> {
            let traks = index.moov.trak.iter();
            traks
                .map(|t| (t.tkhd.track_id, t.mdia.mdhd.timescale, t.mdia.minf.stbl.stsd.clone()))
                .collect()
        };
        entries(self) == entries(other)
    }

    fn timescale(&self, kind: TrackKind) -> Option<u32> {
        self.tracks.iter().find(|track| track.kind == kind).map(|track| track.timescale)
    }

    /// A time of a track in ticks.
    pub fn ticks(&self, kind: TrackKind, units: u64) -> Ticks {
        let timescale = u128::from(self.timescale(kind).unwrap_or(1));
        let ticks = u128::from(units) * TICKS_PER_SECOND as u128 / timescale;
        Ticks(i64::try_from(ticks).unwrap_or(i64::MAX))
    }

    fn place(&self, samples: &[Sample], at: u64, bytes: u64) -> Option<Place> {
        let lead = self.tracks[0].kind;
        let lead = samples.iter().filter(|s| s.kind == lead);
        let first = lead.clone().next().or(samples.first())?;
        let last = lead.clone().next_back().or(samples.last())?;
        Some(Place {
            at,
            bytes,
            start: self.ticks(first.kind, first.time),
            end: self.ticks(last.kind, last.time.saturating_add(last.duration.into())),
            key: lead.clone().any(|sample| sample.key),
        })
    }

    /// The samples that the `moof` at byte `at` describes; all must lie before `end`.
    fn samples_of(&self, moof: &[u8], at: u64, end: u64) -> Result<Vec<Sample>, Error> {
        let moof = Moof::decode(&mut &moof[..])?;
        let mut samples = Vec::new();
        for traf in &moof.traf {
            let kind = match traf.tfhd.track_id {
                VIDEO_ID => TrackKind::Video,
                AUDIO_ID => TrackKind::Audio,
                _ => continue,
            };
            if self.timescale(kind).is_some() {
                read_traf(traf, kind, at, end, &mut samples)?;
            }
        }
        Ok(samples)
    }
}

fn read_traf(
    traf: &Traf,
    kind: TrackKind,
    moof: u64,
    end: u64,
    samples: &mut Vec<Sample>,
) -> Result<(), Error> {
    let broken = |what: &str| Error::Box(what.to_owned());
    let head = &traf.tfhd;
    let mut time = traf.tfdt.as_ref().ok_or(broken("no tfdt"))?.base_media_decode_time;
    for run in &traf.trun {
        // Without a field per sample the count is anybody's word.
        if run.samples.len() as u64 > end - moof {
            return Err(broken("more samples than bytes"));
        }
        let offset = u64::try_from(run.data_offset.unwrap_or(0)).map_err(|_| broken("offset"))?;
        let mut at = moof.saturating_add(offset);
        for entry in &run.samples {
            let duration = entry.duration.or(head.default_sample_duration).unwrap_or(0);
            let size = entry.size.or(head.default_sample_size).unwrap_or(0);
            let flags = entry.flags.or(head.default_sample_flags).unwrap_or(FLAGS_KEY);
            let next = at.saturating_add(size.into());
            if next > end {
                return Err(broken("a sample lies outside of its fragment"));
            }
            samples.push(Sample {
                kind,
                time,
                duration,
                composition: i32::try_from(entry.cts.unwrap_or(0)).unwrap_or(0),
                key: flags & NON_SYNC == 0,
                at,
                size,
            });
            time = time.checked_add(duration.into()).ok_or(broken("time overflows"))?;
            at = next;
        }
    }
    Ok(())
}

/// The head of a box.
struct Head {
    kind: [u8; 4],
    head_bytes: u64,
    /// Head and body.
    bytes: u64,
}

impl Head {
    /// The head at byte `at`; `None` where the file ends before it does, or where it is none.
    fn read(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Option<Self>, Error> {
        if at.checked_add(8).is_none_or(|end| end > length) {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let mut bytes = u64::from(u32::from_be_bytes([a, b, c, d]));
        let mut head_bytes = 8;
        if bytes == 1 {
            if at.checked_add(16).is_none_or(|end| end > length) {
                return Ok(None);
            }
            let mut long = [0; 8];
            file.read_exact(&mut long)?;
            bytes = u64::from_be_bytes(long);
            head_bytes = 16;
        }
        let whole = bytes >= head_bytes && at.checked_add(bytes).is_some();
        Ok(whole.then_some(Self { kind, head_bytes, bytes }))
    }

    fn too_large(&self, at: u64) -> Error {
        let kind = String::from_utf8_lossy(&self.kind).into_owned();
        Error::TooLarge { kind, at, bytes: self.bytes }
    }
}

/// Bytes of the file; callers have checked that they are there and not too many.
fn bytes_at(file: &mut (impl Read + Seek), at: u64, count: u64) -> Result<Bytes, Error> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; usize::try_from(count).map_err(|_| Error::NoInit)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}
