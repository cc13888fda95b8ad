//! What a stream's settings say of its source.

use std::time::Duration;

use crate::config::{Push, Stream};

/// How long viewers wait for a source that is started for them.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a source that is watched by nobody goes on.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// The word for the test picture.
const DEMO: &str = "demo";

/// A stream's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceSettings {
    /// Where it is; the same form as a push's.
    pub(super) end: Push,
    /// Whether it may replace who publishes the stream already.
    pub(super) take_over: bool,
    /// Only while somebody watches: how long they wait, and how long it goes on without them.
    pub(super) demand: Option<Demand>,
}

/// Times of a source that runs while somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) start_timeout: Duration,
    pub(super) close_after: Duration,
}

impl SourceSettings {
    /// The source of a stream, if it has one.
    pub(super) fn of(stream: &Stream) -> Option<Self> {
        let url = stream.source.clone().filter(|url| !url.is_empty())?;
        let url = if url == DEMO { format!("{DEMO}:") } else { url };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let seconds = |value: Option<u64>, default| value.map_or(default, Duration::from_secs);
        Some(Self {
            end: Push {
                url,
                processed: false,
                fingerprint: text(&stream.source_fingerprint),
                ca: text(&stream.source_ca),
                bearer: text(&stream.source_bearer),
                transport: stream.source_transport.unwrap_or_default(),
            },
            take_over: stream.take_over.unwrap_or_default(),
            demand: stream.source_on_demand.unwrap_or_default().then(|| Demand {
                start_timeout: seconds(stream.source_start_timeout_seconds, START_TIMEOUT),
                close_after: seconds(stream.source_close_after_seconds, CLOSE_AFTER),
            }),
        })
    }

    pub(super) const fn on_demand(&self) -> bool {
        self.demand.is_some()
    }
}
