//! Which renditions a stream has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ingest::StreamName;
use parking_lot::Mutex;
use pipeline::packet::VideoTrack;
use pipeline::{Packet, Size, orientation};

use crate::config::{H264Profile, Rendition};
use crate::streams::StreamSettings;

/// One rendition.
#[derive(Debug)]
pub struct Rung {
    /// What viewers call it.
    pub name: String,
    /// Bits in a second.
    pub bitrate: u32,
    /// Pictures in a second at most; as many as the source has where nothing is said.
    pub fps: Option<u32>,
    /// Where it is H.264.
    pub profile: H264Profile,
    /// Rows of its pictures, if the source has more.
    height: u32,
    size: Mutex<Size>,
    pictures: AtomicU64,
    busy_ns: AtomicU64,
}

impl Rung {
    /// Of its pictures, even both ways: what is expected, then what is made.
    pub fn size(&self) -> Size {
        *self.size.lock()
    }

    /// The size for pictures that came out of the decoder with this one.
    pub(super) fn fit(&self, from: Size) -> Size {
        let size = fitting(from, self.height);
        *self.size.lock() = size;
        size
    }

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
            bitrate: rendition.bitrate_kbps.saturating_mul(1000),
            fps: rendition.fps,
            profile: rendition.profile.unwrap_or_default(),
            height: rendition.height,
            size: Mutex::new(fitting(size, rendition.height)),
            pictures: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
        })
        .collect();
    rungs.sort_by_key(|rung| std::cmp::Reverse(rung.height));
    rungs
}

/// The size of a track's pictures as they are to be seen: cameras that lie on their side say so in
/// the first picture of a group.
pub(super) fn upright(video: &VideoTrack, first: &Packet) -> Size {
    let says = first.key && first.kind.is_video();
    let turn = says.then(|| orientation::turn_of(video.codec, &first.data)).flatten();
    turn.map_or(video.size, |turn| turn.size(video.size))
}

/// The size with so many rows, never more than there are, that keeps the shape of a picture.
fn fitting(from: Size, height: u32) -> Size {
    let height = height.min(from.height & !1).max(2);
    Size::new(width(from, height), height)
}

/// The even width that keeps the shape of a picture best.
fn width(size: Size, height: u32) -> u32 {
    let (width, rows) = (u64::from(size.width) * u64::from(height), u64::from(size.height) * 2);
    let halves = (width + rows / 2) / rows;
    u32::try_from(halves * 2).unwrap_or(Size::SIDE_MAX).clamp(2, Size::SIDE_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use pipeline::orientation::Turn;
    use pipeline::{Codec, Pts, TrackKind};

    use super::*;
    use crate::config::Settings;

    fn sizes(size: Size, heights: &[u32]) -> Vec<(u32, u32)> {
        let wanted: Vec<_> = heights
            .iter()
            .map(|&height| Rendition { name: format!("{height}p"), height, ..Rendition::default() })
            .collect();
        let rungs = below(&wanted, size);
        rungs.iter().map(|rung| (rung.size().width, rung.size().height)).collect()
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
    fn a_picture_that_is_turned_keeps_its_shape_and_is_never_enlarged() {
        let wanted = [Rendition { height: 1440, ..Rendition::default() }];
        let rungs = below(&wanted, Size::new(1080, 1920));
        let [tall] = &rungs[..] else { panic!("{rungs:?}") };
        assert_eq!(tall.size(), Size::new(810, 1440));
        assert_eq!(tall.fit(Size::new(1920, 1080)), Size::new(1920, 1080));
        assert_eq!(tall.size(), Size::new(1920, 1080), "what is made is told");
        assert_eq!(tall.fit(Size::new(1080, 1920)), Size::new(810, 1440));
    }

    #[test]
    fn the_first_picture_of_a_group_says_how_the_stream_is_to_be_seen() {
        let size = Size::new(1920, 1080);
        let video = VideoTrack { codec: Codec::H264, size, parameter_sets: Bytes::new() };
        let slice: &'static [u8] = &[0, 0, 0, 1, 0x65, 3, 4];
        let turned = orientation::with_turn(Codec::H264, slice, Turn::Quarter).unwrap();
        let packet = |kind, key, data| {
            let pts = Pts(0);
            Packet { kind, pts, dts: pts, key, data, arrived: Instant::now() }
        };
        let key = packet(TrackKind::Video, true, turned.clone());
        assert_eq!(upright(&video, &key), Size::new(1080, 1920));
        for other in [
            packet(TrackKind::Video, true, Bytes::from_static(slice)),
            packet(TrackKind::Video, false, turned.clone()),
            packet(TrackKind::Audio, true, turned),
        ] {
            assert_eq!(upright(&video, &other), size);
        }
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
