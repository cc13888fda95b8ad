//! Which renditions a stream has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingest::StreamName;
use pipeline::Size;

use crate::config::Rendition;
use crate::streams::StreamSettings;

/// One rendition.
#[derive(Debug)]
pub struct Rung {
    /// What viewers call it.
    pub name: String,
    /// Of its pictures, even both ways.
    pub size: Size,
    /// Bits in a second.
    pub bitrate: u32,
    pictures: AtomicU64,
    busy_ns: AtomicU64,
}

impl Rung {
    /// Pictures that were made.
    pub fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// How long its thread worked for them; for the largest rendition decoding is in it.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed))
    }

    /// Counts a picture.
    pub(super) fn made(&self, busy: Duration) {
        self.pictures.fetch_add(1, Ordering::Relaxed);
        let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.busy_ns.fetch_add(busy, Ordering::Relaxed);
    }
}

/// What the settings want of a stream. A processed one follows the settings of its source. While an
/// always-available stream shows its slate there is nothing to make renditions of, and its times are
/// others: it has none.
pub(super) fn wanted(streams: &StreamSettings, name: &StreamName) -> Vec<Rendition> {
    let source = name.source();
    let processed = source.is_some();
    let settings = streams.of(&source.unwrap_or_else(|| name.clone()));
    if settings.always_available == Some(true) {
        return Vec::new();
    }
    let all = settings.renditions.iter().flatten();
    all.filter(|rendition| rendition.processed == processed).cloned().collect()
}

/// The renditions that are smaller than pictures of this size, the largest first.
pub(super) fn below(wanted: &[Rendition], size: Size) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = wanted
        .iter()
        .filter(|rendition| size.is_valid() && rendition.height < size.height)
        .map(|rendition| Rung {
            name: rendition.name.clone(),
            size: Size::new(width(size, rendition.height), rendition.height),
            bitrate: rendition.bitrate_kbps.saturating_mul(1000),
            pictures: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
        })
        .collect();
    rungs.sort_by_key(|rung| std::cmp::Reverse(rung.size.height));
    rungs
}

/// The even width that keeps the shape of a picture best.
fn width(size: Size, height: u32) -> u32 {
    let (width, rows) = (u64::from(size.width) * u64::from(height), u64::from(size.height) * 2);
    let halves = (width + rows / 2) / rows;
    u32::try_from(halves * 2).unwrap_or(Size::SIDE_MAX).clamp(2, Size::SIDE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn sizes(size: Size, heights: &[u32]) -> Vec<(u32, u32)> {
        let wanted: Vec<_> = heights
            .iter()
            .map(|&height| Rendition { name: format!("{height}p"), height, ..Rendition::default() })
            .collect();
        let rungs = below(&wanted, size);
        rungs.iter().map(|rung| (rung.size.width, rung.size.height)).collect()
    }

    #[test]
    fn renditions_keep_the_shape_and_are_only_those_below_the_stream() {
        let hd = Size::new(1280, 720);
        assert_eq!(sizes(hd, &[360, 1080, 480, 720]), [(854, 480), (640, 360)]);
        assert_eq!(sizes(Size::new(720, 1280), &[360]), [(202, 360)]);
        assert_eq!(sizes(Size::new(8192, 18), &[16]), [(7282, 16)]);
        assert_eq!(sizes(Size::new(1, 8000), &[16]), [(2, 16)]);
        assert_eq!(sizes(Size::default(), &[16]), []);
    }

    #[test]
    fn the_published_and_the_processed_stream_have_their_own() {
        let text = "[streams.cam]\nrenditions = [\n\
            { name = \"low\", height = 360, bitrate_kbps = 700 },\n\
            { name = \"out\", height = 360, bitrate_kbps = 700, processed = true },\n]\n\
            [streams.steady]\nalways_available = true\n\
            renditions = [{ name = \"low\", height = 360, bitrate_kbps = 700 }]\n";
        let settings: Settings = toml::from_str(text).unwrap();
        let streams = StreamSettings::new(&settings).unwrap();
        let names = |name: &str| {
            let wanted = wanted(&streams, &StreamName::parse(name).unwrap());
            wanted.into_iter().map(|rendition| rendition.name).collect::<Vec<_>>()
        };
        assert_eq!(names("cam"), ["low"]);
        assert_eq!(names("cam-out"), ["out"]);
        assert!(names("steady").is_empty() && names("other").is_empty());
    }
}
