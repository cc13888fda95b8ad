//! What a request asks for: the file by the last part of its path, the rest by its query.

use super::segmenter::Format;

/// Characters of a muxer's prefix.
const PREFIX_MAX: usize = 16;

/// Characters of a session's secret.
pub(super) const SECRET_CHARS: usize = 22;

/// A file below a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File<'a> {
    /// The multivariant playlist.
    Index(Format),
    /// The media playlist.
    Media(Format),
    /// A piece of media of the muxer with this prefix.
    Piece(&'a str, Piece),
}

/// A piece of media by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Init(u32),
    Segment(Format, u64),
    Part(u64),
}

/// A path of HLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// The stream's name as it was given.
    pub(super) stream: &'a str,
    /// Which rendition of its pictures, if not the stream itself.
    pub(super) rendition: Option<&'a str>,
    pub(super) file: File<'a>,
}

impl<'a> Route<'a> {
    /// `None` for what is no file of HLS.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let (stream, file) = path.trim_start_matches('/').rsplit_once('/')?;
        // No name of a stream holds this character.
        let (stream, rendition) = match stream.rsplit_once("/@") {
            Some((stream, rendition)) => (stream, Some(rendition)),
            None => (stream, None),
        };
        let file = match file {
            "index.m3u8" | "index_ts.m3u8" if rendition.is_some() => return None,
            "index.m3u8" => File::Index(Format::Fmp4),
            "stream.m3u8" => File::Media(Format::Fmp4),
            "index_ts.m3u8" => File::Index(Format::Ts),
            "stream_ts.m3u8" => File::Media(Format::Ts),
            _ => {
                let (prefix, rest) = file.split_once('_')?;
                let hex = |c: char| c.is_ascii_hexdigit();
                if prefix.is_empty() || prefix.len() > PREFIX_MAX || !prefix.chars().all(hex) {
                    return None;
                }
                File::Piece(prefix, Piece::parse(rest)?)
            }
        };
        Some(Self { stream, rendition, file })
    }
}

impl Piece {
    fn parse(text: &str) -> Option<Self> {
        let (name, extension) = text.rsplit_once('.')?;
        let number = |digits: &str| -> Option<u64> {
            (digits.len() <= 19 && digits.chars().all(|c| c.is_ascii_digit()))
                .then(|| digits.parse().ok())
                .flatten()
        };
        match extension {
            "mp4" => {
                if let Some(digits) = name.strip_prefix("init") {
                    return Some(Self::Init(number(digits)?.try_into().ok()?));
                }
                if let Some(digits) = name.strip_prefix("part") {
                    return Some(Self::Part(number(digits)?));
                }
                Some(Self::Segment(Format::Fmp4, number(name.strip_prefix("seg")?)?))
            }
            "ts" => Some(Self::Segment(Format::Ts, number(name.strip_prefix("seg")?)?)),
            _ => None,
        }
    }
}

/// The directives of a query (RFC 8216bis 6.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// `_HLS_msn`: answer when this segment is there.
    pub(super) segment: Option<u64>,
    /// `_HLS_part`: or when this part of it is.
    pub(super) part: Option<usize>,
    /// `_HLS_skip`: leave out what the player knows.
    pub(super) skip: bool,
    /// The secret of the player's session.
    pub(super) session: Option<String>,
}

/// A directive that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not allowed so")]
pub(super) struct BadDirective(pub(super) &'static str);

impl Directives {
    /// Reads a query. Other keys are passed over.
    ///
    /// # Errors
    /// [`BadDirective`] for values that are no numbers, and for a part without a segment.
    pub(super) fn parse(query: &str) -> Result<Self, BadDirective> {
        let mut found = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "_HLS_msn" => {
                    found.segment = Some(value.parse().map_err(|_| BadDirective("_HLS_msn"))?);
                }
                "_HLS_part" => {
                    found.part = Some(value.parse().map_err(|_| BadDirective("_HLS_part"))?);
                }
                "_HLS_skip" => found.skip = matches!(&*value, "YES" | "v2"),
                "session" if value.len() == SECRET_CHARS => {
                    found.session = Some(value.into_owned());
                }
                _ => {}
            }
        }
        if found.part.is_some() && found.segment.is_none() {
            return Err(BadDirective("_HLS_part without _HLS_msn"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_path_says_which_file_is_wanted() {
        let file = |path| Route::parse(path).map(|route| route.file);
        assert_eq!(file("/cam/index.m3u8"), Some(File::Index(Format::Fmp4)));
        assert_eq!(file("/a/b/stream_ts.m3u8"), Some(File::Media(Format::Ts)));
        assert_eq!(Route::parse("/a/b/stream_ts.m3u8").unwrap().stream, "a/b");
        assert_eq!(file("/cam/0af3_part12.mp4"), Some(File::Piece("0af3", Piece::Part(12))));
        assert_eq!(file("/cam/0af3_init1.mp4"), Some(File::Piece("0af3", Piece::Init(1))));
        let segment = Piece::Segment(Format::Ts, 7);
        assert_eq!(file("/cam/0af3_seg7.ts"), Some(File::Piece("0af3", segment)));
        let rendition = Route::parse("/a/b/@360p/stream.m3u8").unwrap();
        assert_eq!((rendition.stream, rendition.rendition), ("a/b", Some("360p")));
        assert_eq!(rendition.file, File::Media(Format::Fmp4));
        for other in [
            "/cam/@360p/index.m3u8",
            "/cam/",
            "/cam/whep",
            "/index.m3u8",
            "/cam/x_part1.mp4",
            "/cam/0af3_part.mp4",
            "/cam/0af3_part-1.mp4",
            "/cam/0af3_part99999999999999999999.mp4",
            "/cam/0af3_seg1.jpg",
            "/cam/_seg1.mp4",
            "/cam/0af3_init99999999999.mp4",
        ] {
            assert_eq!(Route::parse(other), None, "{other}");
        }
    }

    #[test]
    fn directives_are_numbers_and_go_together() {
        let parsed = Directives::parse("token=x&_HLS_msn=12&_HLS_part=3&_HLS_skip=YES").unwrap();
        assert_eq!((parsed.segment, parsed.part, parsed.skip), (Some(12), Some(3), true));
        assert_eq!(Directives::parse("").unwrap(), Directives::default());
        for bad in ["_HLS_msn=-1", "_HLS_msn=x", "_HLS_part=1", "_HLS_msn=1&_HLS_part="] {
            assert!(Directives::parse(bad).is_err(), "{bad}");
        }
    }
}
