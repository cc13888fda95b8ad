//! Playlists of other servers (RFC 8216): the tags that say what is fetched; all others are passed
//! over.

use std::time::Duration;

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
#[derive(Clone, Debug, Default, PartialEq)]
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
    let text = std::str::from_utf8(bytes).map_err(|_| fault("it is no text"))?;
    let mut lines = text.trim_start_matches('\u{FEFF}').lines().map(str::trim);
    if lines.next() != Some("#EXTM3U") {
        return Err(fault("it does not begin with #EXTM3U"));
    }
    if text.contains("#EXT-X-STREAM-INF:") {
        return best(lines).map(Playlist::Variants);
    }
    media(lines).map(Playlist::Media)
}

fn fault(text: &str) -> HlsError {
    HlsError::Playlist(text.to_owned())
}

/// The variant with the highest bandwidth that has its sound in it.
fn best<'a>(lines: impl Iterator<Item = &'a str>) -> Result<String, HlsError> {
    // Groups of sound with playlists of their own.
    let mut apart = Vec::new();
    let mut variants: Vec<(u64, Option<String>, String)> = Vec::new();
    let mut told: Option<(u64, Option<String>)> = None;
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
            if attribute(list, "TYPE") == Some("AUDIO") && attribute(list, "URI").is_some() {
                apart.extend(attribute(list, "GROUP-ID").map(str::to_owned));
            }
        } else if let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            let bandwidth = attribute(list, "BANDWIDTH").and_then(|text| text.parse().ok());
            told = Some((bandwidth.unwrap_or(0), attribute(list, "AUDIO").map(str::to_owned)));
        } else if !line.starts_with('#')
            && let Some((bandwidth, audio)) = told.take()
            && variants.len() < SEGMENTS_MAX
        {
            variants.push((bandwidth, audio, line.to_owned()));
        }
    }
    let whole = variants
        .into_iter()
        .filter(|(_, audio, _)| audio.as_ref().is_none_or(|group| !apart.contains(group)));
    let best = whole.max_by_key(|(bandwidth, ..)| *bandwidth);
    best.map(|(.., uri)| uri).ok_or_else(|| fault("no variant has its sound in its own segments"))
}

fn media<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Media, HlsError> {
    let mut media = Media::default();
    let mut next = Segment::default();
    let mut seconds = None;
    // Where the next range without a beginning begins: behind that before it.
    let mut behind = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-TARGETDURATION" => {
                let target: u64 =
                    value.parse().map_err(|_| fault("its target duration is none"))?;
                media.target = Duration::from_secs(target.min(3600));
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                next.number = value.parse().map_err(|_| fault("its sequence number is none"))?;
            }
            "#EXTINF" => {
                let text = value.split(',').next().unwrap_or_default().trim();
                let length: f32 = text.parse().map_err(|_| fault("a segment has no length"))?;
                seconds = Some(length.clamp(0.0, 3600.0));
            }
            "#EXT-X-BYTERANGE" => next.range = Some(range(value, behind)?),
            "#EXT-X-DISCONTINUITY" => next.discontinuity = true,
            "#EXT-X-ENDLIST" => media.ended = true,
            "#EXT-X-I-FRAMES-ONLY" => return Err(fault("it has key pictures only")),
            "#EXT-X-KEY" if attribute(value, "METHOD") != Some("NONE") => {
                return Err(fault("its segments are encrypted"));
            }
            "#EXT-X-MAP" => {
                let uri = attribute(value, "URI").ok_or_else(|| fault("a map has no URI"))?;
                let range = attribute(value, "BYTERANGE").map(|text| range(text, 0)).transpose()?;
                next.map = Some(Map { uri: uri.to_owned(), range });
            }
            _ if line.starts_with('#') => {}
            _ => {
                next.seconds = seconds.take().ok_or_else(|| fault("a segment has no length"))?;
                line.clone_into(&mut next.uri);
                behind = next.range.map_or(0, |(first, count)| first.saturating_add(count));
                if media.segments.len() == SEGMENTS_MAX {
                    return Err(fault("it has too many segments"));
                }
                // A map holds for what follows, a range and a discontinuity do not.
                let (number, map) = (next.number.saturating_add(1), next.map.clone());
                media.segments.push(next);
                next = Segment { number, map, ..Segment::default() };
            }
        }
    }
    Ok(media)
}

/// `count[@first]` (RFC 8216, 4.3.2.2).
fn range(text: &str, behind: u64) -> Result<(u64, u64), HlsError> {
    let (count, first) = match text.trim().split_once('@') {
        Some((count, first)) => (count.parse().ok(), first.parse().ok()),
        None => (text.trim().parse().ok(), Some(behind)),
    };
    first.zip(count).ok_or_else(|| fault("a byte range is none"))
}

/// The value of a name in an attribute list (RFC 8216, 4.2), without its quotes.
fn attribute<'a>(mut list: &'a str, wanted: &str) -> Option<&'a str> {
    loop {
        let (name, rest) = list.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        if name.trim() == wanted {
            return Some(value);
        }
        list = rest.trim_start_matches(',');
    }
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
    fn attributes_are_found_behind_quoted_commas() {
        let list = "A=1,CODECS=\"a,b=c\",URI=\"x.mp4\",B=2";
        assert_eq!(attribute(list, "URI"), Some("x.mp4"));
        assert_eq!(attribute(list, "B"), Some("2"));
        assert_eq!(attribute(list, "b"), None);
        assert_eq!(attribute("A=\"x", "A"), None);
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
