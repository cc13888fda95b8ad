//! Pushes as API and metrics show them.

use dashboards::metrics::Exposition;
use ingest::StreamName;
use ingest::remote::State;
use serde::Serialize;

use super::{Destination, Pushes};
use crate::rpc::credentials::unix_millis;

/// One destination at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct PushView {
    /// Its id while it is there.
    pub id: String,
    /// The stream that is sent.
    pub stream: StreamName,
    /// Where to, without secrets.
    pub target: String,
    /// When it was begun, in milliseconds of Unix time.
    pub created_ms: u64,
    /// `idle` while its stream is away, `connecting`, `running`, `waiting` or `stopped`.
    pub state: &'static str,
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Pictures and sound frames sent, where the protocol counts them.
    pub packets: u64,
    /// Packets left out because the server was too slow.
    pub dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl PushView {
    fn of(destination: &Destination) -> Self {
        let told = destination.status.snapshot();
        Self {
            id: destination.id.clone(),
            stream: destination.sent(),
            target: destination.target(),
            created_ms: unix_millis(destination.created),
            state: told.state.as_str(),
            since_ms: unix_millis(told.since),
            bytes: told.bytes,
            packets: told.packets,
            dropped: told.dropped,
            retries: told.retries,
            last_error: told.last_error,
        }
    }
}

impl Pushes {
    /// All destinations in the order in which they came.
    pub fn list(&self) -> Vec<PushView> {
        self.shared.destinations.lock().values().map(|each| PushView::of(each)).collect()
    }

    /// The pushes' figures.
    pub(crate) fn metrics(&self, out: &mut Exposition) {
        for view in self.list() {
            // Two keys of one server look the same without their secrets.
            let (stream, target) = (view.stream.as_str(), view.target.as_str());
            let labels = [("stream", stream), ("target", target), ("id", view.id.as_str())];
            let up = f64::from(u8::from(view.state == State::Running.as_str()));
            out.gauge("millstream_push_up", "Whether a push is connected", &labels, up);
            for (name, help, value) in [
                ("millstream_push_bytes_total", "Bytes sent to a destination", view.bytes),
                (
                    "millstream_push_dropped_packets_total",
                    "Packets that a slow destination lost",
                    view.dropped,
                ),
                (
                    "millstream_push_retries_total",
                    "Attempts to reach a destination after the first",
                    view.retries,
                ),
            ] {
                out.counter(name, help, &labels, value as f64);
            }
        }
    }
}
