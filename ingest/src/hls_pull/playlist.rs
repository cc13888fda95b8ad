//! Playlists of other servers (RFC 8216): what of them is followed, on `m3u8-rs`.

use std::time::Duration;

use m3u8_rs::{ByteRange, KeyMethod, MasterPlaylist, MediaPlaylist};

use super::HlsError;

/// Segments of a playlist, at most: a day of 2 s.
const SEGMENTS_MAX: usize = 50_000;

/// Target durations between the beginning and the end of a live playlist (RFC 8216, 6.3.3).
const FROM_END: u32 = 3;

/// What was got.
#[derive(Debug, PartialEq)]
pub(super) enum Playlist {
    /// The URI of the best variant.
    Variants(String),
    /// Segments.
    Media(Media),
}

/// A playlist of segments.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Media {
    pub(super) target: Duration,
    pub(super) segments: Vec<Segment>,
    /// Whether no more will come.
    pub(super) ended: bool,
}

/// One segment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) uri: String,
    pub(super) seconds: f32,
    /// First byte and count.
    pub(super) range: Option<(u64, u64)>,
    pub(super) discontinuity: bool,
    pub(super) map: Option<Map>,
}

/// An init segment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Map {
    pub(super) uri: String,
    pub(super) range: Option<(u64, u64)>,
}

/// Reads a playlist.
pub(super) fn parse(bytes: &[u8]) -> Result<Playlist, HlsError> {
    if !bytes.trim_ascii_start().starts_with(b"#EXTM3U") {
        return Err(HlsError::Playlist("it does not begin with #EXTM3U".into()));
    }
    match m3u8_rs::parse_playlist_res(bytes) {
        Ok(m3u8_rs::Playlist::MasterPlaylist(list)) => best(&list).map(Playlist::Variants),
        Ok(m3u8_rs::Playlist::MediaPlaylist(list)) => media(list).map(Playlist::Media),
        Err(_) => Err(HlsError::Playlist("it cannot be read".into())),
    }
}

/// The variant with the highest bandwidth that has its sound in it.
fn best(list: &MasterPlaylist) -> Result<String, HlsError> {
    let own_sound = |group: &Option<String>| {
        let Some(group) = group else { return true };
        let mut others = list.alternatives.iter().filter(|media| media.group_id == *group);
        !others.any(|media| media.uri.is_some())
    };
    let variants = list.variants.iter().filter(|variant| !variant.is_i_frame);
    let best = variants
        .filter(|variant| own_sound(&variant.audio))
        .max_by_key(|variant| variant.bandwidth);
    best.map(|variant| variant.uri.clone())
        .ok_or_else(|| HlsError::Playlist("no variant has its sound in its own segments".into()))
}

fn media(list: MediaPlaylist) -> Result<Media, HlsError> {
    let fault = |text: &str| Err(HlsError::Playlist(text.into()));
    if list.segments.len() > SEGMENTS_MAX {
        return fault("it has too many segments");
    }
    if list.i_frames_only {
        return fault("it has key pictures only");
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(list.segments.len());
    let mut map = None;
    // Where the next range without a beginning begins: behind that before it.
    let mut behind = 0;
    for (number, segment) in (list.media_sequence..).zip(list.segments) {
        if segment.key.is_some_and(|key| key.method != KeyMethod::None) {
            return fault("its segments are encrypted");
        }
        if let Some(new) = segment.map {
            map = Some(Map { uri: new.uri, range: new.byte_range.map(|range| at(&range, 0)) });
        }
        let range = segment.byte_range.map(|range| at(&range, behind));
        behind = range.map_or(0, |(first, count)| first.saturating_add(count));
        segments.push(Segment {
            number,
            uri: segment.uri,
            seconds: segment.duration,
            range,
            discontinuity: segment.discontinuity,
            map: map.clone(),
        });
    }
    let target = Duration::from_secs(list.target_duration.min(3600));
    Ok(Media { target, segments, ended: list.end_list })
}

fn at(range: &ByteRange, behind: u64) -> (u64, u64) {
    (range.offset.unwrap_or(behind), range.length)
}

impl Media {
    /// The number of the segment to begin with: the first of a playlist that has an end, else one
    /// some target durations before the end.
    pub(super) fn live_edge(&self) -> u64 {
        let first = self.segments.first().map_or(0, |segment| segment.number);
        if self.ended {
            return first;
        }
        let wanted = (self.target * FROM_END).as_secs_f32();
        let mut have = 0.0;
        for segment in self.segments.iter().rev() {
            have += segment.seconds;
            if have >= wanted {
                return segment.number;
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Media {
        match parse(text.as_bytes()) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_live_playlist_begins_three_target_durations_before_its_end() {
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n".to_owned();
        for number in 7..17 {
            text += &format!("#EXTINF:2.0,\ns{number}.ts\n");
        }
        assert_eq!(read(&text).live_edge(), 14);
        assert_eq!(read(&format!("{text}#EXT-X-ENDLIST\n")).live_edge(), 7);
    }

    #[test]
    fn maps_and_ranges_hold_for_what_follows() {
        let media = read(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=\"100@0\"\n\
             #EXTINF:2,\n#EXT-X-BYTERANGE:50@100\nall.mp4\n\
             #EXTINF:2,\n#EXT-X-BYTERANGE:60\nall.mp4\n#EXT-X-DISCONTINUITY\n\
             #EXTINF:2,\nc.mp4\n",
        );
        let ranges: Vec<_> = media.segments.iter().map(|segment| segment.range).collect();
        assert_eq!(ranges, [Some((100, 50)), Some((150, 60)), None]);
        assert!(media.segments.iter().all(|segment| segment.map.is_some()));
        assert!(media.segments[2].discontinuity);
    }

    #[test]
    fn the_best_variant_with_its_own_sound_is_taken_and_the_rest_refused_with_the_reason() {
        let master = "#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",URI=\"a.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=900,AUDIO=\"a\"\nhigh.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=500\nmiddle.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=100\nlow.m3u8\n";
        assert_eq!(parse(master.as_bytes()).unwrap(), Playlist::Variants("middle.m3u8".into()));
        let fault = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        assert!(fault("<html>").contains("#EXTM3U"));
        let key = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
            #EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:2,\na.ts\n";
        assert!(fault(key).contains("encrypted"));
    }
}
