//! Streams that this node fetches itself: `source = "url"` of a stream, always or while somebody
//! watches.
//!
//! Each source is a task that makes attempts until it is stopped, with a growing wait between
//! them. Settings may change while the node runs: what changed is stopped and begun anew, and
//! nothing else is touched.

mod demand;
mod settings;
mod source;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use ingest::remote::Status;
use ingest::{Hub, StreamName};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info, info_span};

pub(crate) use demand::OnDemand;
pub use view::SourceView;

use crate::config::{ALL_OTHERS, Settings, pattern};
use crate::remote::SharedEnds;
use crate::streams::StreamSettings;
use settings::SourceSettings;
use source::Work;

/// The node's sources. Cloning shares them.
#[derive(Clone)]
pub struct Sources {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Hub,
    streams: StreamSettings,
    ends: SharedEnds,
    running: Mutex<HashMap<StreamName, Arc<Source>>>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A source that runs.
struct Source {
    settings: SourceSettings,
    status: Status,
    /// Ends it.
    stop: CancellationToken,
    /// Cancelled by itself when it has ended.
    ended: CancellationToken,
    /// Somebody waits for it: the next attempt begins now.
    wake: Notify,
}

impl Sources {
    /// Sources of a node, none yet. Must be called within a runtime.
    pub(crate) fn new(
        hub: Hub,
        streams: StreamSettings,
        ends: SharedEnds,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (running, runtime) = (Mutex::default(), tokio::runtime::Handle::current());
        Self { shared: Arc::new(Shared { hub, streams, ends, running, runtime, tasks, stop }) }
    }

    /// Starts, stops and changes sources until they are what the settings in force say. `settings`
    /// are those; single streams' are asked from [`StreamSettings`].
    pub(crate) fn apply(&self, settings: &Settings) {
        let mut running = self.shared.running.lock();
        let names: Vec<StreamName> = running.keys().cloned().chain(named(settings)).collect();
        for name in names {
            let wanted = SourceSettings::of(&self.shared.streams.of(&name));
            let present = running.get(&name).cloned();
            let same = match (&present, &wanted) {
                (Some(present), Some(wanted)) => present.settings == *wanted,
                (present, wanted) => present.is_none() && wanted.is_none(),
            };
            if same {
                continue;
            }
            if let Some(present) = &present {
                info!(stream = %name, "its source has changed");
                present.stop.cancel();
                running.remove(&name);
            }
            // One that waits for viewers begins with the next of them, or goes on with those who
            // are there.
            let Some(wanted) = wanted else { continue };
            if !wanted.on_demand() || present.is_some() {
                self.start(&mut running, name, wanted, present);
            }
        }
        drop(running);
    }

    /// Starts a source, after its predecessor of the same name has ended.
    fn start(
        &self,
        running: &mut HashMap<StreamName, Arc<Source>>,
        name: StreamName,
        settings: SourceSettings,
        predecessor: Option<Arc<Source>>,
    ) {
        let shared = &self.shared;
        let source = Arc::new(Source {
            settings,
            status: Status::default(),
            stop: shared.stop.child_token(),
            ended: CancellationToken::new(),
            wake: Notify::new(),
        });
        running.insert(name.clone(), Arc::clone(&source));
        let span = info_span!("source", stream = %name);
        let (this, own) = (self.clone(), Arc::clone(&source));
        let work = async move {
            if let Some(predecessor) = predecessor {
                predecessor.ended.cancelled().await;
            }
            let Shared { hub, ends, .. } = &*this.shared;
            Work { hub: hub.clone(), ends: Arc::clone(ends), name: name.clone(), source: &own }
                .run()
                .await;
            let mut running = this.shared.running.lock();
            if running.get(&name).is_some_and(|present| Arc::ptr_eq(present, &own)) {
                running.remove(&name);
            }
            own.ended.cancel();
        };
        shared.tasks.spawn_on(work.instrument(span), &shared.runtime);
    }
}

/// Streams that the settings name one by one.
fn named(settings: &Settings) -> impl Iterator<Item = StreamName> {
    let keys = settings.streams.keys().filter(|key| *key != ALL_OTHERS);
    keys.filter(|key| matches!(pattern(key), Ok(None)))
        .filter_map(|key| StreamName::parse(key).ok())
}

#[cfg(test)]
mod tests;
