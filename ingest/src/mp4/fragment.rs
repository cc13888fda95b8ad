//! Fragments: the samples that a `moof` lists, and the boxes around them.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mp4_atom::{Decode as _, Moof, Traf};

use super::track::Track;
use super::{MOOF_BYTES_MAX, Movie, Mp4Error, Packets, SAMPLE_BYTES_MAX, SAMPLES_MAX, Sample};
use crate::paced::Piece;

/// The head of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: [u8; 4],
    pub(crate) head_bytes: u64,
    /// Head and body; `None` for one that goes on to the end.
    pub(crate) bytes: Option<u64>,
}

impl Head {
    /// The head that these bytes begin with; `None` when there are too few, or it is impossible.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (head_bytes, bytes) = match u32::from_be_bytes(*size) {
            0 => (8, None),
            1 => (16, Some(u64::from_be_bytes(*rest.first_chunk()?))),
            size => (8, Some(u64::from(size))),
        };
        let possible = bytes.is_none_or(|bytes| bytes >= head_bytes);
        possible.then_some(Self { kind: *kind, head_bytes, bytes })
    }
}

impl Movie {
    /// The samples of a `moof` box at byte `at`, in the order of decoding. All lie before `end`.
    pub(crate) fn fragment(&self, moof: &[u8], at: u64, end: u64) -> Result<Vec<Sample>, Mp4Error> {
        let moof = Moof::decode(&mut &moof[..])?;
        let mut samples = Vec::new();
        // Where a track fragment's data begins that does not say: behind that before it.
        let mut next = at;
        for traf in &moof.traf {
            let track = self.tracks.iter().find(|track| track.id == traf.tfhd.track_id);
            let Some(track) = track else { continue };
            self.of_traf(traf, track, at, end, &mut next, &mut samples)?;
        }
        samples.sort_by_key(|sample| sample.dts);
        Ok(samples)
    }

    fn of_traf(
        &self,
        traf: &Traf,
        track: &Track,
        moof: u64,
        end: u64,
        next: &mut u64,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Mp4Error> {
        let head = &traf.tfhd;
        let extends = self.moov.mvex.iter().flat_map(|mvex| &mvex.trex);
        let defaults = extends.into_iter().find(|trex| trex.track_id == track.id);
        let duration = head.default_sample_duration;
        let duration = duration.or(defaults.map(|trex| trex.default_sample_duration)).unwrap_or(0);
        let size = head.default_sample_size;
        let size = size.or(defaults.map(|trex| trex.default_sample_size)).unwrap_or(0);
        let base = head.base_data_offset.unwrap_or(moof);
        let time = traf.tfdt.as_ref().map_or(0, |tfdt| tfdt.base_media_decode_time);
        let mut time = i64::try_from(time).unwrap_or(i64::MAX);
        for run in &traf.trun {
            let mut at = match run.data_offset {
                Some(offset) => base.saturating_add_signed(offset.into()),
                None => *next,
            };
            // Without a field per sample the count is anybody's word.
            let count = run.samples.len();
            if count as u64 > end.saturating_sub(moof) || samples.len() + count > SAMPLES_MAX {
                return Err(Mp4Error::Tables("more samples than bytes"));
            }
            for entry in run.samples.iter() {
                let size = entry.size.unwrap_or(size);
                let behind = at.checked_add(size.into()).filter(|behind| *behind <= end);
                let behind =
                    behind.ok_or(Mp4Error::Tables("a sample lies outside of its fragment"))?;
                if size > SAMPLE_BYTES_MAX {
                    return Err(Mp4Error::Tables("a sample is too large"));
                }
                samples.push(track.sample(at, size, time, entry.cts.unwrap_or(0)));
                time = time.saturating_add(entry.duration.unwrap_or(duration).into());
                at = behind;
            }
            *next = at;
        }
        Ok(())
    }
}

/// The samples of all fragments among these bytes, as packets.
pub(crate) fn fragments(
    movie: &Movie,
    packets: &mut Packets,
    bytes: &Bytes,
    now: Instant,
    out: &mut Vec<Piece>,
) -> Result<(), Mp4Error> {
    let mut from = 0;
    // Each sample is copied, and a fragment's tables may name the same bytes many times.
    let mut left = bytes.len();
    while let Some((at, _, end)) = find(&bytes[from..], b"moof") {
        let (at, end) = (from + at, from + end);
        if (end - at) as u64 > MOOF_BYTES_MAX {
            let (what, bytes) = ("a moof box", (end - at) as u64);
            return Err(Mp4Error::TooLarge { what, bytes, limit: MOOF_BYTES_MAX });
        }
        for sample in movie.fragment(&bytes[at..end], at as u64, bytes.len() as u64)? {
            let (first, size) = (sample.at as usize, sample.size as usize);
            left = left.checked_sub(size).ok_or(Mp4Error::Tables("samples overlap"))?;
            let data = BytesMut::from(&bytes[first..first + size]);
            let (tracks, packet) = packets.packet(&sample, data, now);
            out.extend(tracks.map(Piece::Tracks));
            out.extend(packet.map(Piece::Packet));
        }
        from = end;
    }
    Ok(())
}

/// The first box of a kind among those one after another: where it, its body and what is behind it
/// begin. One that is cut off is none.
pub(crate) fn find(bytes: &[u8], kind: &[u8; 4]) -> Option<(usize, usize, usize)> {
    let mut at = 0;
    loop {
        let head = Head::parse(bytes.get(at..)?)?;
        let size =
            head.bytes.map_or(bytes.len() - at, |size| usize::try_from(size).unwrap_or(usize::MAX));
        let end = at.checked_add(size).filter(|end| *end <= bytes.len())?;
        if head.kind == *kind {
            return Some((at, at + head.head_bytes as usize, end));
        }
        at = end;
    }
}
