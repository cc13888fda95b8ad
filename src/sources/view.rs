//! Sources as API and metrics show them.

use dashboards::metrics::Exposition;
use ingest::StreamName;
use ingest::remote::{State, Target};
use serde::Serialize;

use super::Sources;
use crate::rpc::credentials::unix_millis;

/// One source at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct SourceView {
    /// The stream that it is the source of.
    pub stream: StreamName,
    /// Its URL without secrets.
    pub target: String,
    /// Whether it runs only while somebody watches.
    pub on_demand: bool,
    /// `connecting`, `running`, `waiting` or `stopped`.
    pub state: &'static str,
    /// Since when, in milliseconds of Unix time.
    pub since_ms: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Sources {
    /// The sources that run or are tried, by stream.
    pub fn list(&self) -> Vec<SourceView> {
        let running = self.shared.running.lock();
        let mut list: Vec<_> = running
            .iter()
            .map(|(name, source)| {
                let told = source.status.snapshot();
                let url = &source.settings.end.url;
                let target = Target::parse(url).map_or_else(|_| url.clone(), |t| t.to_string());
                SourceView {
                    stream: name.clone(),
                    target,
                    on_demand: source.settings.on_demand(),
                    state: told.state.as_str(),
                    since_ms: unix_millis(told.since),
                    retries: told.retries,
                    last_error: told.last_error,
                }
            })
            .collect();
        list.sort_by(|a, b| a.stream.cmp(&b.stream));
        list
    }

    /// The sources' figures.
    pub(crate) fn metrics(&self, out: &mut Exposition) {
        for view in self.list() {
            let labels = [("stream", view.stream.as_str())];
            let up = f64::from(u8::from(view.state == State::Running.as_str()));
            let help = "Whether a stream's source is connected";
            out.gauge("millstream_source_up", help, &labels, up);
            let help = "Attempts to reach a stream's source after the first";
            out.counter("millstream_source_retries_total", help, &labels, view.retries as f64);
        }
    }
}
