//! Which page a path is.

/// First segments that belong to the node's own routes and are no streams.
pub const RESERVED: [&str; 10] =
    ["v1", "v3", "live", "api", "console", "metrics", "healthz", "readyz", "object_info", "assets"];

/// The longest name of a stream in bytes.
const NAME_BYTES_MAX: usize = 512;

/// A page of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/{stream}/`: watch it.
    Player,
    /// `/{stream}/publish`: publish it.
    Publish,
    /// The page is at this address, relative to the path.
    Moved(String),
}

impl Page {
    /// The page of a path: by its ending, since names of streams may hold slashes. `None` for what
    /// is not a page: the node's own routes, `…/whip`, `…/whep` and sessions below them, and what
    /// cannot be the name of a stream.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let (name, slash) = match path.strip_suffix('/') {
            Some(name) => (name, true),
            None => (path, false),
        };
        if !is_name(name) {
            return None;
        }
        let (before, last) = name.rsplit_once('/').unwrap_or(("", name));
        let above = before.rsplit('/').next().unwrap_or_default();
        let session = |word: &str| matches!(word, "whip" | "whep");
        match (last, slash) {
            ("publish", false) if !before.is_empty() => Some(Self::Publish),
            ("publish", true) if !before.is_empty() => Some(Self::Moved("../publish".into())),
            _ if !before.is_empty() && (session(last) || session(above)) => None,
            (_, true) => Some(Self::Player),
            // Playlists and media of HLS.
            _ if !before.is_empty() && is_media(last) => None,
            (_, false) => Some(Self::Moved(format!("{last}/"))),
        }
    }
}

/// Whether a file's name is that of a playlist or of media.
fn is_media(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| matches!(end, "m3u8" | "mp4" | "ts"))
}

/// Whether a text has the form of a stream's name (letters, digits, `. _ ~ -`, joined by `/`).
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.chars().all(plain);
    let first = text.split('/').next().unwrap_or_default();
    text.len() <= NAME_BYTES_MAX && text.split('/').all(segment) && !RESERVED.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_path_says_which_page_it_is() {
        let moved = |to: &str| Some(Page::Moved(to.into()));
        let cases = [
            ("/cam/", Some(Page::Player)),
            ("/a/b/cam-out/", Some(Page::Player)),
            ("/cam/publish", Some(Page::Publish)),
            ("/a/b/publish", Some(Page::Publish)),
            ("/cam/publish/", moved("../publish")),
            ("/cam", moved("cam/")),
            ("/a/cam", moved("cam/")),
            // A stream may be called so; there is no page below nothing.
            ("/publish", moved("publish/")),
            ("/whip/", Some(Page::Player)),
            ("/cam/whip", None),
            ("/cam/index.m3u8", None),
            ("/a/cam/0af3_seg1.ts", None),
            ("/cam.mp4", moved("cam.mp4/")),
            ("/cam/whep/", None),
            ("/cam/whep/0123abcd", None),
            ("/a/cam/whip/0123abcd", None),
            ("/v1/status", None),
            ("/live/video-to-video/cam/status", None),
            ("/assets/none.js", None),
            ("/", None),
            ("//evil.example", None),
            ("//evil.example/", None),
            ("/a//b/", None),
            ("/a/../b/", None),
            ("/a%2f/", None),
            ("/a b/", None),
            ("", None),
            ("*", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(Page::of(path), wanted, "{path}");
        }
        assert_eq!(Page::of(&format!("/{}/", "x".repeat(513))), None);
    }
}
