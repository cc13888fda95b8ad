//! The parsers of this module under the fuzzer.

use super::request::{Directives, Route};

/// A path and, behind a question mark, its query.
pub fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Some(route) = Route::parse(path) {
        assert!(path.contains(route.stream));
    }
    if let Ok(directives) = Directives::parse(query) {
        assert!(directives.part.is_none() || directives.segment.is_some());
    }
}

/// What players send.
pub const REQUEST_SEEDS: &[&[u8]] = &[
    b"/cam/index.m3u8?user=a&pass=b",
    b"/cam/stream.m3u8?session=AAAAAAAAAAAAAAAAAAAAAA&_HLS_msn=12&_HLS_part=3&_HLS_skip=YES",
    b"/studio/cam/0123abcd_part35.mp4?session=AAAAAAAAAAAAAAAAAAAAAA",
    b"/cam/0123abcd_seg7.ts",
    b"/cam/0123abcd_init1.mp4",
];
