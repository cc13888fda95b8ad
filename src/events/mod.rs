//! What happens to streams, told to other programs: signed, in order for each stream, tried again.
//!
//! [`Events::emit`] never waits. Each webhook has its own queue ([`lanes`]) and its own task
//! ([`deliver`]); [`watch`] notices what nobody emits, [`quality`] decides what is worth an alert.

mod deliver;
mod lanes;
mod quality;
pub(crate) mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream has a publisher and tracks.
    Online,
    /// Its publisher is gone.
    Offline,
    /// Somebody watches.
    ReaderJoined,
    /// Somebody watches no more.
    ReaderLeft,
    /// A segment of a recording is complete.
    RecordingSegment,
    /// A stream breaks a rule.
    AlertRaised,
    /// It does so no more.
    AlertCleared,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Online,
        Self::Offline,
        Self::ReaderJoined,
        Self::ReaderLeft,
        Self::RecordingSegment,
        Self::AlertRaised,
        Self::AlertCleared,
    ];

    /// The word of the event's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "stream.online",
            Self::Offline => "stream.offline",
            Self::ReaderJoined => "reader.joined",
            Self::ReaderLeft => "reader.left",
            Self::RecordingSegment => "recording.segment",
            Self::AlertRaised => "alert.raised",
            Self::AlertCleared => "alert.cleared",
        }
    }
}

/// One event, as it is posted.
#[derive(Serialize)]
struct Spelled<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    stream: &'a str,
    data: Value,
}

/// An event on its way.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) stream: Arc<str>,
    /// The JSON that is signed and sent.
    pub(crate) body: Bytes,
}

/// Figures of one webhook.
#[derive(Debug, Default)]
pub struct Counters {
    /// Delivered events.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Events that were never delivered: the queue was full, or it was tried for too long.
    pub dropped: AtomicU64,
}

/// Tells webhooks what happens. Cloning shares it.
#[derive(Clone, Default)]
pub struct Events {
    hooks: Arc<[Hook]>,
}

struct Hook {
    url: String,
    wanted: Vec<String>,
    queue: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl Events {
    /// Starts a task for each webhook of the settings.
    ///
    /// # Errors
    /// A URL or a kind that is none.
    pub fn start(
        settings: &config::Events,
        client: &reqwest::Client,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, String> {
        let mut hooks = Vec::new();
        for (index, hook) in settings.webhooks.iter().enumerate() {
            let fault = |error: String| format!("events.webhooks[{index}]: {error}");
            url::Url::parse(&hook.url).map_err(|error| fault(format!("url: {error}")))?;
            for wanted in &hook.events {
                if !Kind::ALL.iter().any(|kind| kind.as_str().starts_with(wanted.as_str())) {
                    return Err(fault(format!("events: there is no kind {wanted:?}")));
                }
            }
            let (queue, events) = mpsc::channel(settings.queue_max.max(1));
            let counters = Arc::<Counters>::default();
            let delivery = deliver::Delivery {
                client: client.clone(),
                url: hook.url.clone(),
                secret: hook.secret.clone(),
                waiting_max: settings.queue_max.max(1),
                retry: std::time::Duration::from_secs(settings.retry_seconds),
                counters: Arc::clone(&counters),
            };
            tasks.spawn(delivery.run(events, stop.clone()));
            let (url, wanted) = (hook.url.clone(), hook.events.clone());
            hooks.push(Hook { url, wanted, queue, counters });
        }
        Ok(Self { hooks: hooks.into() })
    }

    /// Whether somebody wants to hear of this.
    pub fn wants(&self, kind: Kind) -> bool {
        self.hooks.iter().any(|hook| hook.wants(kind))
    }

    /// Tells everybody who wants to hear it.
    pub fn emit(&self, kind: Kind, stream: &str, data: Value) {
        if !self.wants(kind) {
            return;
        }
        let id = ingest::sessions::new_id();
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let spelled = Spelled { id: &id, kind: kind.as_str(), time, stream, data };
        let body = Bytes::from(serde_json::to_vec(&spelled).unwrap_or_default());
        let event = Event { id: id.as_str().into(), kind, stream: stream.into(), body };
        for hook in self.hooks.iter().filter(|hook| hook.wants(kind)) {
            if hook.queue.try_send(event.clone()).is_err() {
                hook.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The figures of each webhook by its URL.
    pub fn counters(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.hooks.iter().map(|hook| (hook.url.as_str(), &*hook.counters))
    }
}

impl Hook {
    fn wants(&self, kind: Kind) -> bool {
        self.wanted.is_empty()
            || self.wanted.iter().any(|wanted| kind.as_str().starts_with(wanted.as_str()))
    }
}

#[cfg(test)]
mod tests;
