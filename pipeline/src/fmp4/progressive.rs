//! A range of time out of indexed files, as one plain MP4 (`moov` first, then all samples in order)
//! or as fragmented MP4. Only tables are made here; the samples' bytes are copied by whoever can read
//! the files.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{
    Co64, Ctts, CttsEntry, Edts, Elst, ElstEntry, Encode as _, FixedPoint, FourCC, Ftyp, Moov,
    Stbl, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry, Trak,
};

use crate::packet::TrackKind;
use crate::time::{TICKS_PER_SECOND, Ticks};

use super::index::{Index, Sample};
use super::init::mvhd;
use super::{Error, id_of};

/// Samples of one range, at most: a day of 60 pictures and 50 sound frames a second.
const SAMPLES_MAX: usize = 10_000_000;

/// A stretch of bytes to copy from one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which file, by the order in which they were added.
    pub file: usize,
    /// First byte.
    pub at: u64,
    /// How many.
    pub bytes: u64,
}

/// Gathers the samples of a range.
#[derive(Default)]
pub struct Layout {
    pub(super) model: Option<Index>,
    files: usize,
    /// Sample, its file, and its time moved to the range's clock.
    pub(super) samples: Vec<(Sample, usize)>,
    /// What is skipped at the beginning when played, in ticks.
    skip: Ticks,
}

impl Layout {
    /// Adds samples of the next file, in the order of the file. `shift` is where the file begins
    /// on the range's clock; it may be negative for the first one. Samples before 0 that are
    /// needed to decode are kept and not shown.
    ///
    /// # Errors
    /// [`Error::Box`] for more than ten million samples.
    pub fn add(&mut self, index: &Index, samples: &[Sample], shift: Ticks) -> Result<(), Error> {
        if self.samples.len() + samples.len() > SAMPLES_MAX {
            return Err(Error::Box(format!("more than {SAMPLES_MAX} samples in one range")));
        }
        let moved = |sample: &Sample| -> Option<Sample> {
            let timescale = index.tracks.iter().find(|t| t.kind == sample.kind)?.timescale;
            let shift = i128::from(shift.0 + self.skip.0) * i128::from(timescale);
            let time = i128::from(sample.time) + shift / i128::from(TICKS_PER_SECOND);
            Some(Sample { time: u64::try_from(time).ok()?, ..*sample })
        };
        let file = self.files;
        self.samples.extend(samples.iter().filter_map(moved).map(|sample| (sample, file)));
        self.files += 1;
        self.model.get_or_insert_with(|| index.clone());
        Ok(())
    }

    /// Says that the range begins so much after the first sample that is added.
    #[must_use]
    pub fn skipping(mut self, skip: Ticks) -> Self {
        self.skip = skip;
        self
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Everything before the media, and which bytes follow: first those of the pictures and of the
    /// sound in stretches of a fragment each, as they lie in the files.
    ///
    /// # Errors
    /// [`Error::NoTrack`] when the range is empty, [`Error::Box`] when a table has no form.
    pub fn progressive(&self) -> Result<(Bytes, Vec<Run>), Error> {
        let model = self.model.as_ref().filter(|_| !self.is_empty()).ok_or(Error::NoTrack)?;
        let chunks = chunks(&self.samples);
        let media: u64 = chunks.iter().map(|chunk| chunk.run.bytes).sum();
        // The tables' size does not depend on the offsets in them: written once to measure.
        let mut out = self.head(model, &chunks, 0)?;
        let begin = out.len() as u64 + 16;
        out = self.head(model, &chunks, begin)?;
        out.put_u32(1);
        out.put_slice(b"mdat");
        out.put_u64(media + 16);
        Ok((out.freeze(), chunks.iter().map(|chunk| chunk.run).collect()))
    }

    fn head(&self, model: &Index, chunks: &[Chunk], begin: u64) -> Result<BytesMut, Error> {
        let mut out = BytesMut::new();
        Ftyp {
            major_brand: FourCC::new(b"isom"),
            minor_version: 0,
            compatible_brands: vec![
                FourCC::new(b"isom"),
                FourCC::new(b"iso2"),
                FourCC::new(b"mp41"),
            ],
        }
        .encode(&mut out)?;
        let mut traks = Vec::new();
        let mut longest = 0;
        for track in &model.tracks {
            let Some(form) = model.moov.trak.iter().find(|t| t.tkhd.track_id == id_of(track.kind))
            else {
                continue;
            };
            let samples: Vec<&Sample> =
                self.samples.iter().map(|(s, _)| s).filter(|s| s.kind == track.kind).collect();
            let Some(first) = samples.first() else { continue };
            let last = samples[samples.len() - 1];
            let units = (last.time + u64::from(last.duration)).saturating_sub(first.time);
            let (edit, shown) = self.edit(track.timescale, first, units);
            longest = longest.max(shown);
            let mut trak =
                Trak { mdia: form.mdia.clone(), tkhd: form.tkhd.clone(), ..Trak::default() };
            trak.tkhd.duration = shown;
            trak.mdia.mdhd.duration = units;
            trak.edts = Some(edit);
            let stsd = form.mdia.minf.stbl.stsd.clone();
            trak.mdia.minf.stbl = Stbl { stsd, ..tables(track.kind, &samples, chunks, begin) };
            traks.push(trak);
        }
        let moov = Moov { mvhd: mvhd(), trak: traks, ..Moov::default() };
        Moov { mvhd: mp4_atom::Mvhd { duration: longest, ..moov.mvhd.clone() }, ..moov }
            .encode(&mut out)?;
        Ok(out)
    }

    /// Shows the track, which lasts `units`, from the range's beginning on: what lies before is
    /// skipped, a track that begins later begins with an empty edit (ISO/IEC 14496-12 8.6.6). Gives
    /// how long that is in ticks, too, which is what the track's head states (8.3.2).
    fn edit(&self, timescale: u32, first: &Sample, units: u64) -> (Edts, u64) {
        let per_second = TICKS_PER_SECOND as u64;
        let ticks = |units: u64| units * per_second / u64::from(timescale);
        let skip = (self.skip.0.max(0) as u64) * u64::from(timescale) / per_second;
        let skipped = skip.saturating_sub(first.time);
        let empty = ticks(first.time.saturating_sub(skip));
        let shown = ticks(units.saturating_sub(skipped));
        let media_rate = FixedPoint::new(1, 0);
        let entry =
            |segment_duration, media_time| ElstEntry { segment_duration, media_time, media_rate };
        let begins_late = (empty > 0).then(|| entry(empty, None));
        let entries = begins_late.into_iter().chain([entry(shown, Some(skipped))]).collect();
        (Edts { elst: Some(Elst { entries }) }, empty + shown)
    }
}

/// Samples of one track that lie behind each other in one file.
struct Chunk {
    kind: TrackKind,
    samples: u32,
    run: Run,
}

fn chunks(samples: &[(Sample, usize)]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for &(sample, file) in samples {
        match chunks.last_mut() {
            Some(chunk)
                if chunk.kind == sample.kind
                    && chunk.run.file == file
                    && chunk.run.at + chunk.run.bytes == sample.at =>
            {
                chunk.samples += 1;
                chunk.run.bytes += u64::from(sample.size);
            }
            _ => chunks.push(Chunk {
                kind: sample.kind,
                samples: 1,
                run: Run { file, at: sample.at, bytes: sample.size.into() },
            }),
        }
    }
    chunks
}

fn tables(kind: TrackKind, samples: &[&Sample], chunks: &[Chunk], begin: u64) -> Stbl {
    let mut stts: Vec<SttsEntry> = Vec::new();
    let mut ctts: Vec<CttsEntry> = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        // To the next one's time, so that gaps between files stay.
        let until = samples.get(index + 1).map(|next| next.time.saturating_sub(sample.time));
        let delta = until.map_or(sample.duration, |d| u32::try_from(d).unwrap_or(u32::MAX));
        match stts.last_mut() {
            Some(entry) if entry.sample_delta == delta => entry.sample_count += 1,
            _ => stts.push(SttsEntry { sample_count: 1, sample_delta: delta }),
        }
        let offset = i64::from(sample.composition);
        match ctts.last_mut() {
            Some(entry) if entry.sample_offset == offset => entry.sample_count += 1,
            _ => ctts.push(CttsEntry { sample_count: 1, sample_offset: offset }),
        }
    }
    let mut stsc: Vec<StscEntry> = Vec::new();
    let mut co64 = Vec::new();
    let mut at = begin;
    for chunk in chunks {
        if chunk.kind == kind {
            co64.push(at);
            if stsc.last().is_none_or(|last| last.samples_per_chunk != chunk.samples) {
                stsc.push(StscEntry {
                    first_chunk: co64.len() as u32,
                    samples_per_chunk: chunk.samples,
                    sample_description_index: 1,
                });
            }
        }
        at += chunk.run.bytes;
    }
    let keys = samples.iter().zip(1..).filter(|(sample, _)| sample.key).map(|(_, n)| n);
    Stbl {
        stts: Stts { entries: stts },
        ctts: ctts.iter().any(|entry| entry.sample_offset != 0).then_some(Ctts { entries: ctts }),
        stss: kind.is_video().then(|| Stss { entries: keys.collect() }),
        stsc: Stsc { entries: stsc },
        stsz: Stsz {
            samples: StszSamples::Different { sizes: samples.iter().map(|s| s.size).collect() },
        },
        co64: Some(Co64 { entries: co64 }),
        ..Stbl::default()
    }
}
