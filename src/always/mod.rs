//! Always-available streams: their readers stay while the publisher is away and see a slate
//! meanwhile.
//!
//! Readers get a stream of their own in the hub, `cam#always`, made once for all who take the same
//! and only while one does: a [`relay`] copies the publisher's packets into it, or what the
//! [`slate`] and [`silence`] give, and a [`timeline`] keeps its times going. What is published stays
//! as it is: recordings, pushes, the graph and events know nothing of a slate.

mod relay;
mod silence;
mod slate;
mod timeline;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::hub::{Hub, Publisher, Reader, Start};
use ingest::views::{Takes, ViewError, Views};
use parking_lot::Mutex;
use pipeline::Codec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info_span};

use crate::streams::StreamSettings;
use relay::Relay;

/// Relays at the same time.
const RELAYS_MAX: usize = 256;

/// How long a reader waits for a relay's first picture.
const WAIT_FOR_RELAY: Duration = Duration::from_secs(5);

/// What all readers but those of WebRTC get: one coding, since few of them can change it.
const PLAYERS: Takes = Takes {
    label: "an always-available stream",
    video: &[Codec::H264],
    audio: &[Codec::Aac],
    reordering: true,
};

/// Views that do not end with the publisher, where the settings say so.
#[derive(Clone)]
pub(crate) struct AlwaysAvailable {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Hub,
    /// Streams as they are published.
    views: Arc<dyn Views>,
    streams: StreamSettings,
    running: Mutex<HashSet<StreamName>>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl AlwaysAvailable {
    /// Over these views. Must be called within a runtime.
    pub(crate) fn new(
        hub: Hub,
        views: Arc<dyn Views>,
        streams: StreamSettings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (running, runtime) = (Mutex::default(), tokio::runtime::Handle::current());
        let shared = Shared { hub, views, streams, running, runtime, tasks, stop };
        Self { shared: Arc::new(shared) }
    }

    async fn view(&self, name: &StreamName, takes: &'static Takes) -> Result<Reader, ViewError> {
        let source = name.source().unwrap_or_else(|| name.clone());
        let always = self.shared.streams.of(&source).always_available == Some(true);
        let Some((takes, kind)) = steady(takes).filter(|_| always) else {
            return self.shared.views.view(name, takes).await;
        };
        let relayed = name.derived(kind);
        self.begin(name, &relayed, takes)?;
        let reader = self.shared.hub.wait_subscribe(&relayed, Start::LastKey, WAIT_FOR_RELAY).await;
        let reader = reader.ok_or_else(|| ViewError::NotFound(name.clone()))?;
        // Readers look at the tracks before they read.
        let online = async {
            let mut events = self.shared.hub.events();
            while !self.shared.hub.is_online(&relayed) {
                let _ = events.recv().await;
            }
        };
        if tokio::time::timeout(WAIT_FOR_RELAY, online).await.is_err() {
            let why = "its slate takes too long".into();
            return Err(ViewError::Busy { name: name.clone(), why });
        }
        Ok(reader)
    }

    /// Starts a relay unless it runs.
    fn begin(
        &self,
        name: &StreamName,
        relayed: &StreamName,
        takes: &'static Takes,
    ) -> Result<(), ViewError> {
        let shared = &self.shared;
        let mut running = shared.running.lock();
        if running.contains(relayed) {
            return Ok(());
        }
        let busy = |why: String| ViewError::Busy { name: name.clone(), why };
        if running.len() >= RELAYS_MAX {
            return Err(busy(format!("{RELAYS_MAX} always-available streams are read already")));
        }
        let id = format!("{:08x}", rand::random::<u32>());
        let publisher = Publisher { protocol: "always", id, remote: String::new() };
        let writer = shared.hub.publish(relayed.clone(), publisher, true);
        let writer = writer.map_err(|error| busy(error.to_string()))?;
        running.insert(relayed.clone());
        let relay = Relay {
            hub: shared.hub.clone(),
            views: Arc::clone(&shared.views),
            streams: shared.streams.clone(),
            name: name.clone(),
            takes,
            stop: shared.stop.clone(),
        };
        let (this, relayed) = (self.clone(), relayed.clone());
        let span = info_span!("always", stream = %relayed);
        let work = async move {
            // Taken off also when it panics, and before its readers are told the end.
            let listed = Listed(this, relayed);
            let writer = relay.run(writer).await;
            drop(listed);
            drop(writer);
        };
        shared.tasks.spawn_on(work.instrument(span), &shared.runtime);
        Ok(())
    }
}

/// A relay's place in the list.
struct Listed(AlwaysAvailable, StreamName);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.shared.running.lock().remove(&self.1);
    }
}

impl Views for AlwaysAvailable {
    fn view(
        &self,
        name: &StreamName,
        takes: &'static Takes,
    ) -> BoxFuture<'_, Result<Reader, ViewError>> {
        let name = name.clone();
        Box::pin(async move { self.view(&name, takes).await })
    }
}

/// What readers get of a stream whose coding may change, and what their relay is called. `None` for
/// those that cannot have a slate.
fn steady(takes: &Takes) -> Option<(&'static Takes, &'static str)> {
    let plays = |steady: &Takes| {
        takes.video.contains(&steady.video[0]) && takes.audio.contains(&steady.audio[0])
    };
    match takes.reordering {
        false => plays(&Takes::WEBRTC).then_some((&Takes::WEBRTC, "always-webrtc")),
        true => plays(&PLAYERS).then_some((&PLAYERS, "always")),
    }
}
