//! Settings of HLS.

use serde::{Deserialize, Serialize};

/// HLS for viewers, on the listener of [`super::Http`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hls {
    /// Whether streams can be watched by HLS.
    pub enabled: bool,
    /// Parts, blocking reload and preload hints, for a delay of about a second.
    pub low_latency: bool,
    /// Make segments of every stream all the time, not only while somebody watches.
    pub always: bool,
    /// Segments in a playlist.
    pub segments: usize,
    /// Milliseconds that a segment lasts at least; it then ends at the next key picture.
    pub segment_ms: u64,
    /// Milliseconds that a part lasts at most.
    pub part_ms: u64,
    /// Bytes of one segment; a larger one is cut before its key picture.
    pub segment_bytes_max: usize,
    /// Seconds that segments of a stream are still made after the last request for them.
    pub close_after_seconds: u64,
    /// Players at the same time.
    pub sessions_max: usize,
}

impl Default for Hls {
    fn default() -> Self {
        Self {
            enabled: true,
            low_latency: true,
            always: false,
            segments: 7,
            segment_ms: 1000,
            part_ms: 200,
            segment_bytes_max: 50_000_000,
            close_after_seconds: 60,
            sessions_max: 10_000,
        }
    }
}
