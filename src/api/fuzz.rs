//! Targets for the fuzzer: what changes settings from outside.

use serde_json::{Map, Value as Json};

use super::{names, settings};
use crate::config::{self, Journal};

pub(crate) const PATCH_SEEDS: &[&[u8]] = &[
    br#"{"streams":{"a":{"graph":"none","pushes":[{"url":"rtmp://h/a"}]},"b":{},"c":null},"drain_seconds":null,"rtmp":{"take_over":true}}"#,
    br#"{"hls":{"part_ms":200.5},"auth":{"users":[{"user":"x","password":"********"}]}}"#,
];

pub(crate) const NAMES_SEEDS: &[&[u8]] = &[
    br#"{"source":"rtsp://h/a","sourceOnDemand":true,"recordPartDuration":"1h30m10.5s","recordMaxPartSize":"50M"}"#,
    br#"{"recordPartDuration":"99999999999d","recordMaxPartSize":"9223372036854775807G","maxReaders":-1}"#,
];

pub(crate) const PATTERN_SEEDS: &[&[u8]] =
    &[b"~^cam(\\d+)$\ncam17", b"~(a|b){1,3}[^x]*\nabba", b"cam\ncam", b"all_others\nx"];

/// A JSON merge patch of all settings, up to the point where it would be kept.
pub(crate) fn patch(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Map<String, Json>>(bytes) else { return };
    let Ok(edits) = settings::edits_of(document) else { return };
    if settings::refuse_hidden(&edits).is_err() {
        return;
    }
    let mut journal = Journal::default();
    for edit in edits {
        let _ = edit.touches();
        journal.apply(edit);
    }
    let _ = Journal::parse(&journal.to_text());
}

/// A stream's settings in the names of MediaMTX.
pub(crate) fn theirs(bytes: &[u8]) {
    let Ok(map) = serde_json::from_slice::<Map<String, Json>>(bytes) else { return };
    for rows in [names::STREAM, names::GLOBAL] {
        let _ = names::ours(rows, map.clone(), true);
    }
}

/// A key of a stream's settings, and after a new line a name that may be one of its.
pub(crate) fn pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (key, name) = text.split_once('\n').unwrap_or((&text, ""));
    // Longer ones take long to compile, and owners of nodes write them.
    if key.len() > 64 {
        return;
    }
    if let Ok(Some(pattern)) = config::pattern(key) {
        let _ = pattern.captures(name);
    }
}
