//! Sample tables of a whole file: where each sample is, in the order of decoding.

use mp4_atom::StszSamples;

use super::track::Track;
use super::{Movie, Mp4Error, SAMPLE_BYTES_MAX, SAMPLES_MAX, Sample, ticks};

impl Movie {
    /// The samples that the `moov` itself lists, of both tracks in the order of their decoding
    /// times; none in a file that is all fragments.
    pub(crate) fn samples(&self, file_bytes: u64) -> Result<Vec<Sample>, Mp4Error> {
        let mut samples = Vec::new();
        for track in &self.tracks {
            self.of_track(track, file_bytes, &mut samples)?;
        }
        // Stable: samples of a track keep their order.
        samples.sort_by_key(|sample| sample.dts);
        Ok(samples)
    }

    fn of_track(
        &self,
        track: &Track,
        file_bytes: u64,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Mp4Error> {
        let stbl = &self.moov.trak[track.index].mdia.minf.stbl;
        let count = match &stbl.stsz.samples {
            StszSamples::Identical { count, .. } => *count as usize,
            StszSamples::Different { sizes } => sizes.len(),
        };
        if samples.len() + count > SAMPLES_MAX {
            return Err(Mp4Error::Tables("the file has too many samples"));
        }
        let size_of = |number: usize| match &stbl.stsz.samples {
            StszSamples::Identical { size, .. } => Some(*size),
            StszSamples::Different { sizes } => sizes.get(number).copied(),
        };
        let chunks = stbl.stco.iter().flat_map(|stco| stco.entries.iter().map(|at| u64::from(*at)));
        let chunks = chunks.chain(stbl.co64.iter().flat_map(|co64| co64.entries.iter().copied()));
        let mut durations =
            runs(stbl.stts.entries.iter().map(|entry| (entry.sample_count, entry.sample_delta)));
        let offsets = stbl.ctts.iter().flat_map(|ctts| &ctts.entries);
        let mut offsets = runs(offsets.map(|entry| (entry.sample_count, entry.sample_offset)));
        let (mut number, mut time) = (0, 0_i64);
        let mut of_chunks = stbl.stsc.entries.iter().peekable();
        let mut per_chunk = 0;
        for (index, start) in chunks.enumerate() {
            while let Some(entry) =
                of_chunks.next_if(|entry| entry.first_chunk as usize <= index + 1)
            {
                per_chunk = entry.samples_per_chunk;
            }
            let mut at = start;
            for _ in 0..per_chunk {
                if number == count {
                    return Ok(());
                }
                let size = size_of(number).ok_or(Mp4Error::Tables("a sample has no size"))?;
                let end = at.checked_add(size.into()).filter(|end| *end <= file_bytes);
                let end = end.ok_or(Mp4Error::Tables("a sample lies outside of the file"))?;
                if size > SAMPLE_BYTES_MAX {
                    return Err(Mp4Error::Tables("a sample is too large"));
                }
                let duration = durations.next().unwrap_or_default();
                let offset = offsets.next().unwrap_or_default();
                samples.push(track.sample(at, size, time, offset));
                time = time.saturating_add(duration.into());
                number += 1;
                at = end;
            }
        }
        if number < count {
            return Err(Mp4Error::Tables("samples without a chunk"));
        }
        Ok(())
    }
}

impl Track {
    /// A sample at these times of the track's own clock.
    pub(super) fn sample(&self, at: u64, size: u32, time: i64, offset: i64) -> Sample {
        let dts = ticks(time, self.timescale).saturating_add(self.shift);
        let pts = ticks(time.saturating_add(offset), self.timescale).saturating_add(self.shift);
        Sample { kind: self.kind, at, size, dts, pts }
    }
}

/// The values of a table of runs, one by one.
fn runs<T: Copy>(table: impl Iterator<Item = (u32, T)>) -> impl Iterator<Item = T> {
    table.flat_map(|(count, value)| std::iter::repeat_n(value, count as usize))
}
