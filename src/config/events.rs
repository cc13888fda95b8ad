//! Who is told what happens to streams, and what counts as an alert.

use serde::{Deserialize, Serialize};

/// Events and alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Events that may wait for each webhook; more are dropped and counted.
    pub queue_max: usize,
    /// Seconds for which a delivery is tried again.
    pub retry_seconds: u64,
    /// What is worth an alert.
    pub alerts: Alerts,
    /// Who is told.
    pub webhooks: Vec<EventHook>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            queue_max: 1000,
            retry_seconds: 600,
            alerts: Alerts::default(),
            webhooks: Vec::new(),
        }
    }
}

/// Who is told what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventHook {
    /// Where events are posted.
    pub url: String,
    /// Secret that they are signed with; empty: they are not.
    pub secret: String,
    /// Kinds that are posted, `stream.online` or `reader` (all that begin so); empty: all.
    pub events: Vec<String>,
}

/// What is worth an alert. 0 switches a rule off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Less is too little, in kbit/s.
    pub bitrate_kbps_min: u64,
    /// More is too much, in kbit/s.
    pub bitrate_kbps_max: u64,
    /// Fewer pictures a second are too few.
    pub frame_rate_min: f64,
    /// More pictures a second are too many.
    pub frame_rate_max: f64,
    /// More milliseconds between key pictures are too many.
    pub key_interval_ms_max: u64,
    /// Whether B-frames are worth an alert.
    pub b_frames: bool,
    /// Seconds that a rule must be broken before it is told, and kept before that is.
    pub hold_seconds: u64,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            bitrate_kbps_min: 0,
            bitrate_kbps_max: 0,
            frame_rate_min: 0.0,
            frame_rate_max: 0.0,
            // Viewers start at a key picture, and a segment cannot be shorter than this.
            key_interval_ms_max: 10_000,
            b_frames: true,
            hold_seconds: 5,
        }
    }
}
