//! What a publisher sends, by the path of its request.

/// A file of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File<'a> {
    /// The stream's name as it was given.
    pub(super) stream: &'a str,
    pub(super) kind: Kind,
    /// The number that the file's name ends in: where it is among the others.
    pub(super) number: Option<u64>,
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
        let (stem, extension) = name.rsplit_once('.')?;
        let kind = match extension {
            "ts" => Kind::Ts,
            "mp4" | "m4s" => Kind::Mp4,
            "m3u8" => Kind::Playlist,
            _ => return None,
        };
        let digits = stem.trim_start_matches(|c: char| !c.is_ascii_digit());
        let digits = digits.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let stream = stream.strip_prefix(PREFIX).unwrap_or(stream);
        Some(Self { stream, kind, number: digits.parse().ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_stream_kind_and_place() {
        let file = |path| File::parse(path).map(|file| (file.stream, file.kind, file.number));
        assert_eq!(file("/live/cam/7.ts"), Some(("cam", Kind::Ts, Some(7))));
        assert_eq!(file("/a/b/stream012.ts"), Some(("a/b", Kind::Ts, Some(12))));
        assert_eq!(file("/cam/1080p_v2_0003.m4s"), Some(("cam", Kind::Mp4, Some(3))));
        assert_eq!(file("/cam/init.mp4"), Some(("cam", Kind::Mp4, None)));
        assert_eq!(file("/cam/index.m3u8"), Some(("cam", Kind::Playlist, None)));
        assert_eq!(file("/cam/12345678901234567890123.ts"), Some(("cam", Kind::Ts, None)));
        for other in ["/cam/whip", "/7.ts", "/cam/7", "/cam/7.jpg", ""] {
            assert_eq!(file(other), None, "{other}");
        }
    }
}
