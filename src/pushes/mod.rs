//! Streams that this node sends to other servers: destinations in the settings of a stream, whether
//! the file, the API or the answer of a callback put them there.
//!
//! Each destination is a task that waits for its stream, connects, and sends from a key picture on
//! until one of the two ends; then it waits, longer each time, and tries again. It reads the
//! stream's ring as any viewer does: what a slow server does not take in time is dropped and
//! counted, and the stream never notices.

mod destination;
mod follow;
mod view;

use std::sync::Arc;
use std::time::SystemTime;

use indexmap::IndexMap;
use ingest::remote::{Status, Target};
use ingest::{Hub, StreamName};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info_span};

pub use view::PushView;

use crate::config::Push;
use crate::remote::SharedEnds;
use crate::streams::StreamSettings;
use destination::Work;

/// Destinations of a node.
const DESTINATIONS_MAX: usize = 1000;

/// Why a destination is not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    /// The stream goes there already.
    #[error("stream {stream} is pushed to {target} already")]
    Twice {
        stream: StreamName,
        /// The URL without secrets.
        target: String,
    },
    /// [`DESTINATIONS_MAX`] is reached.
    #[error("this node has {0} destinations, its limit")]
    TooMany(usize),
}

/// The node's pushes. Cloning shares them.
#[derive(Clone)]
pub struct Pushes {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Hub,
    streams: StreamSettings,
    ends: SharedEnds,
    /// By id, in the order in which they came.
    destinations: Mutex<IndexMap<String, Arc<Destination>>>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A stream on its way to a server.
struct Destination {
    id: String,
    /// The stream whose setting it is.
    stream: StreamName,
    push: Push,
    /// Whether it is forgotten when its stream ends: the setting stands for many streams, or was
    /// given to one publisher.
    passing: bool,
    created: SystemTime,
    status: Status,
    stop: CancellationToken,
}

impl Destination {
    /// The stream that is sent.
    fn sent(&self) -> StreamName {
        if self.push.processed { self.stream.out() } else { self.stream.clone() }
    }

    fn target(&self) -> String {
        let shown = Target::for_push(&self.push.url).map(|target| target.to_string());
        shown.unwrap_or_else(|_| "a URL that is none".into())
    }
}

impl Pushes {
    /// Pushes of a node, none yet. Must be called within a runtime.
    pub(crate) fn new(
        hub: Hub,
        streams: StreamSettings,
        ends: SharedEnds,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (destinations, runtime) = (Mutex::default(), tokio::runtime::Handle::current());
        let shared = Shared { hub, streams, ends, destinations, runtime, tasks, stop };
        Self { shared: Arc::new(shared) }
    }

    /// Pushes a stream to a server from now on, whether it is there yet or not.
    fn begin(
        &self,
        destinations: &mut IndexMap<String, Arc<Destination>>,
        stream: StreamName,
        push: Push,
        passing: bool,
    ) -> Result<(), Refused> {
        if destinations.len() >= DESTINATIONS_MAX {
            return Err(Refused::TooMany(destinations.len()));
        }
        let destination = Arc::new(Destination {
            id: ingest::sessions::new_id(),
            stream,
            push,
            passing,
            created: SystemTime::now(),
            status: Status::default(),
            stop: self.shared.stop.child_token(),
        });
        let sent = destination.sent();
        let same = |other: &Arc<Destination>| {
            other.sent() == sent && other.push.url == destination.push.url
        };
        if destinations.values().any(same) {
            let target = destination.target();
            return Err(Refused::Twice { stream: sent, target });
        }
        destinations.insert(destination.id.clone(), Arc::clone(&destination));
        let span = info_span!("push", stream = %sent, target = %destination.target());
        let this = self.clone();
        let work = async move {
            let Shared { hub, streams, ends, .. } = &*this.shared;
            let (hub, streams, ends) = (hub.clone(), streams.clone(), Arc::clone(ends));
            Work { hub, streams, ends, stream: sent, destination: &destination }.run().await;
            let mut destinations = this.shared.destinations.lock();
            // Its stream may have come back while it ended.
            if destinations.shift_remove(&destination.id).is_some() {
                this.settle(&mut destinations, &destination.stream);
            }
        };
        self.shared.tasks.spawn_on(work.instrument(span), &self.shared.runtime);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
