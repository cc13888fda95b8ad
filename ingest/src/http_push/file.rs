//! What a publisher sends, by the path of its request.

use std::cmp::Ordering;

/// A file of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File<'a> {
    /// The stream's name as it was given.
    pub(super) stream: &'a str,
    pub(super) kind: Kind,
    /// The file's own name, which tells where it is among the others ([`place`]).
    pub(super) name: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A segment of MPEG-TS.
    Ts,
    /// A segment or an init segment of fragmented MP4.
    Mp4,
    /// A playlist, of which only the end is looked at.
    Playlist,
}

/// What Livepeer's gateways put before a stream's name.
const PREFIX: &str = "live/";

impl<'a> File<'a> {
    /// `None` for what is no file of a stream.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let (stream, name) = path.trim_start_matches('/').rsplit_once('/')?;
        let (name, extension) = name.rsplit_once('.')?;
        let kind = match extension {
            "ts" => Kind::Ts,
            "mp4" | "m4s" => Kind::Mp4,
            "m3u8" => Kind::Playlist,
            _ => return None,
        };
        let stream = stream.strip_prefix(PREFIX).unwrap_or(stream);
        Some(Self { stream, kind, name })
    }
}

/// Where a file is beside another one: all numbers in their names count, the leftmost first, so
/// that names after the time of day (`cam-12-30-58`, `cam-12-31-00`) go on as counted ones do.
/// `None` where the names have no number, or differ in more than their numbers.
pub(super) fn place(name: &str, other: &str) -> Option<Ordering> {
    let (mut name, mut other) = (Numbers(name), Numbers(other));
    let mut place: Option<Ordering> = None;
    loop {
        match (name.next(), other.next()) {
            (Some((text, number)), Some((same, beside))) if text == same => {
                let here = number.len().cmp(&beside.len()).then_with(|| number.cmp(beside));
                place = Some(place.unwrap_or(Ordering::Equal).then(here));
            }
            (None, None) if name.0 == other.0 => return place,
            _ => return None,
        }
    }
}

/// The numbers of a name, each with the text before it. What is left is the text behind them.
struct Numbers<'a>(&'a str);

impl<'a> Iterator for Numbers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (text, rest) = self.0.split_at(self.0.find(|c: char| c.is_ascii_digit())?);
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, rest) = rest.split_at(end);
        self.0 = rest;
        // Without zeros in front, the longer one is the larger one.
        Some((text, number.trim_start_matches('0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_stream_kind_and_name() {
        let file = |path| File::parse(path).map(|file| (file.stream, file.kind, file.name));
        assert_eq!(file("/live/cam/7.ts"), Some(("cam", Kind::Ts, "7")));
        assert_eq!(file("/a/b/stream012.ts"), Some(("a/b", Kind::Ts, "stream012")));
        assert_eq!(file("/cam/1080p_v2_0003.m4s"), Some(("cam", Kind::Mp4, "1080p_v2_0003")));
        assert_eq!(file("/cam/init.mp4"), Some(("cam", Kind::Mp4, "init")));
        assert_eq!(file("/cam/index.m3u8"), Some(("cam", Kind::Playlist, "index")));
        for other in ["/cam/whip", "/7.ts", "/cam/7", "/cam/7.jpg", ""] {
            assert_eq!(file(other), None, "{other}");
        }
    }

    #[test]
    fn counted_names_and_names_after_the_time_go_on_and_only_a_new_beginning_goes_back() {
        let follow = |before, name| assert_eq!(place(name, before), Some(Ordering::Greater));
        follow("7", "8");
        follow("9", "10");
        follow("0099", "100");
        follow("720p9", "720p10");
        follow("1080p_v2_0003", "1080p_v2_0004");
        follow("99999999999999999999999", "100000000000000000000000");
        follow("cam-2026-12-31-23-59-58", "cam-2027-01-01-00-00-00");
        follow("cam-12-30-58", "cam-12-31-00");
        assert_eq!(place("cam-12-31-00", "cam-12-31-00"), Some(Ordering::Equal));
        assert_eq!(place("index07", "index7"), Some(Ordering::Equal));
        assert_eq!(place("index0", "index41"), Some(Ordering::Less));
        for (name, other) in [("init", "init"), ("a1", "b0"), ("a1", "a1b"), ("a1", "a1b2")] {
            assert_eq!(place(name, other), None, "{name} {other}");
        }
    }
}
