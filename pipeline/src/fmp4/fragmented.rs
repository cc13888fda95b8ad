//! A range of time out of indexed files as fragmented MP4: new heads for fragments, whose media is
//! copied as it lies in the files.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode as _, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use crate::packet::TrackKind;

use super::index::Sample;
use super::progressive::{Layout, Run};
use super::writer::{FLAGS_KEY, FLAGS_OTHER};
use super::{Error, id_of};

/// One fragment of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// What comes before its media.
    pub head: Bytes,
    /// Where that lies.
    pub media: Run,
}

impl Layout {
    /// The init segment, and the fragments in order.
    /// [`Self::skipping`] has no place here: the range begins with its first sample.
    ///
    /// # Errors
    /// [`Error::NoTrack`] when the range is empty, [`Error::Box`] when a table has no form.
    pub fn fragmented(&self) -> Result<(Bytes, Vec<Framed>), Error> {
        let model = self.model.as_ref().filter(|_| !self.is_empty()).ok_or(Error::NoTrack)?;
        let mut fragments = Vec::new();
        let mut rest = &self.samples[..];
        while !rest.is_empty() {
            // What lies in one piece was one fragment, or a part of one.
            let whole = rest.windows(2).take_while(|pair| {
                let ((one, file), (next, other)) = (&pair[0], &pair[1]);
                file == other && one.at + u64::from(one.size) == next.at
            });
            let (samples, others) = rest.split_at(whole.count() + 1);
            rest = others;
            let sequence = u32::try_from(fragments.len() + 1).unwrap_or(u32::MAX);
            fragments.push(fragment(samples, sequence)?);
        }
        Ok((model.init_without_duration(), fragments))
    }
}

fn fragment(samples: &[(Sample, usize)], sequence: u32) -> Result<Framed, Error> {
    let media: u64 = samples.iter().map(|(sample, _)| u64::from(sample.size)).sum();
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: [TrackKind::Video, TrackKind::Audio]
            .into_iter()
            .filter_map(|kind| traf(samples, kind))
            .collect(),
    };
    // The offsets count from the first byte of `moof`, whose length does not depend on them.
    let mut out = BytesMut::new();
    moof.encode(&mut out)?;
    let begin = out.len() as u64 + 8;
    let first = samples[0].0.at;
    let kinds = [TrackKind::Video, TrackKind::Audio].into_iter();
    let starts = kinds.filter_map(|kind| samples.iter().find(|(s, _)| s.kind == kind));
    for (traf, (sample, _)) in moof.traf.iter_mut().zip(starts) {
        traf.trun[0].data_offset = i32::try_from(begin + sample.at - first).ok();
    }
    out.clear();
    moof.encode(&mut out)?;
    let size = u32::try_from(8 + media).map_err(|_| Error::Box("a fragment of 4 GB".into()))?;
    out.put_u32(size);
    out.put_slice(b"mdat");
    let media = Run { file: samples[0].1, at: first, bytes: media };
    Ok(Framed { head: out.freeze(), media })
}

/// A track's samples; within a fragment they lie behind each other.
fn traf(samples: &[(Sample, usize)], kind: TrackKind) -> Option<Traf> {
    let own = samples.iter().map(|(sample, _)| sample).filter(|sample| sample.kind == kind);
    let base = own.clone().next()?.time;
    let entries = own.map(|sample| TrunEntry {
        duration: Some(sample.duration),
        size: Some(sample.size),
        flags: Some(if sample.key { FLAGS_KEY } else { FLAGS_OTHER }),
        cts: Some(sample.composition.into()),
    });
    Some(Traf {
        tfhd: Tfhd { track_id: id_of(kind), default_base_is_moof: true, ..Tfhd::default() },
        tfdt: Some(Tfdt { base_media_decode_time: base }),
        trun: vec![Trun { data_offset: Some(0), samples: entries.collect::<Vec<_>>().into() }],
        ..Traf::default()
    })
}
