//! The parsers of this module under the fuzzer.

use std::path::Path;

use http::HeaderMap;
use http::header::RANGE;

use super::moment::Moment;
use super::template::Template;
use super::{playback, send};

/// A line for each: a time, a duration, a range of bytes, a path template, the name of a file.
pub fn request(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n').chain(std::iter::repeat(""));
    let mut next = || lines.next().unwrap_or_default();
    if let Some(moment) = Moment::parse(next()) {
        let told = moment.to_string();
        assert_eq!(Moment::parse(&told), Some(moment), "{told}");
    }
    if let Some(duration) = playback::parse_duration(next()) {
        assert!(!duration.is_zero() && duration <= playback::DURATION_MAX);
    }
    if let Ok(value) = next().parse() {
        let headers = HeaderMap::from_iter([(RANGE, value)]);
        if let Some(Ok((first, last))) = send::wanted(&headers, 1000) {
            assert!(first <= last && last < 1000);
        }
    }
    let (template, file) = (next(), next());
    let Ok(template) = Template::parse(template) else { return };
    if let Some((name, start)) = template.read(file) {
        let path = template.path(&name, start);
        assert!(path == file && !Path::new(&path).is_absolute() && !path.contains("../"));
    }
}

/// What players ask for, and what lies in a folder.
pub const REQUEST_SEEDS: &[&[u8]] = &[
    b"2026-11-21T16:05:09.25Z\n60.5\nbytes=0-99\n%path/%Y-%m-%d_%H-%M-%S-%f\n\
      studio/cam/2026-11-21_16-05-09-000250.mp4",
    b"2026-11-21T18:05:09+02:00\n1m30s\nbytes=-5\nrec/%path-%s.%f\nrec/cam-1795277109.000250.mp4",
];
