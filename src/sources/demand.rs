//! Sources that run while somebody watches: a viewer's wish starts one and waits for it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ingest::StreamName;
use ingest::hub::Reader;
use ingest::remote::State;
use ingest::views::{Takes, ViewError, Views};
use tokio::time::{Instant, timeout_at};

use super::Sources;
use super::settings::SourceSettings;

impl Sources {
    /// Starts a stream's source if it is one that waits for viewers, and waits until its stream is
    /// there or its time is over. A processed stream, and one with a further sound, is
    /// wished for through its source.
    pub(crate) async fn demand(&self, name: &StreamName) {
        let shared = &self.shared;
        let name = name.without_sound();
        let source = name.source().unwrap_or(name);
        let mut events = shared.hub.events();
        if shared.hub.is_online(&source) {
            return;
        }
        let Some(settings) = SourceSettings::of(&shared.streams.of(&source)) else { return };
        let Some(demand) = settings.demand else { return };
        if shared.stop.is_cancelled() {
            return;
        }
        self.ensure(&source, settings);
        let deadline = Instant::now() + demand.start_timeout;
        while !shared.hub.is_online(&source) {
            if timeout_at(deadline, events.recv()).await.is_err() {
                return;
            }
        }
    }

    /// Starts a source, or wakes the one that waits for its next attempt.
    fn ensure(&self, name: &StreamName, settings: SourceSettings) {
        let mut running = self.shared.running.lock();
        match running.get(name).cloned() {
            Some(present) if !present.stop.is_cancelled() => {
                if present.status.state() == State::Waiting {
                    present.wake.notify_one();
                }
            }
            // One that is just closing has to be gone before another begins.
            predecessor => self.start(&mut running, name.clone(), settings, predecessor),
        }
    }
}

/// Views of streams whose sources may have to be started first.
pub(crate) struct OnDemand {
    pub(crate) sources: Sources,
    pub(crate) views: Arc<dyn Views>,
}

impl Views for OnDemand {
    fn view(
        &self,
        name: &StreamName,
        takes: &'static Takes,
    ) -> BoxFuture<'_, Result<Reader, ViewError>> {
        let name = name.clone();
        Box::pin(async move {
            self.sources.demand(&name).await;
            self.views.view(&name, takes).await
        })
    }
}
