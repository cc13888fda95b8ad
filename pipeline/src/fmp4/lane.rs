//! Samples of one track on their way into a fragment.

use bytes::BytesMut;

use crate::time::{TICKS_PER_SECOND, Ticks};

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) key: bool,
    pub(super) composition: i32,
}

/// Samples of one track on their way into a fragment.
pub(super) struct Lane {
    pub(super) id: u32,
    pub(super) timescale: u32,
    pub(super) samples: Vec<Sample>,
    /// Decode time of the first of `samples`, in the track's units.
    pub(super) base: u64,
    /// Where the last of them ends.
    pub(super) end: u64,
    /// Their bytes, and behind them those of the picture held back.
    pub(super) data: BytesMut,
    pub(super) data_complete: usize,
}

impl Lane {
    pub(super) fn new(id: u32, timescale: u32) -> Self {
        let (samples, data) = (Vec::new(), BytesMut::new());
        Self { id, timescale, samples, base: 0, end: 0, data, data_complete: 0 }
    }

    /// Appends a complete sample that begins at `at`; a gap before it makes the one before longer.
    pub(super) fn complete(&mut self, at: u64, sample: Sample) {
        match self.samples.last_mut() {
            None => self.base = at,
            Some(last) => {
                let gap = u32::try_from(at.saturating_sub(self.end)).unwrap_or(u32::MAX);
                last.duration = last.duration.saturating_add(gap);
            }
        }
        self.end = at + u64::from(sample.duration);
        self.data_complete += sample.size as usize;
        self.samples.push(sample);
    }

    pub(super) fn ticks(&self, units: u64) -> Ticks {
        let ticks = u128::from(units) * TICKS_PER_SECOND as u128 / u128::from(self.timescale);
        Ticks(i64::try_from(ticks).unwrap_or(i64::MAX))
    }

    pub(super) fn pending(&self) -> Ticks {
        match self.samples.is_empty() {
            true => Ticks(0),
            false => self.ticks(self.end - self.base),
        }
    }
}
