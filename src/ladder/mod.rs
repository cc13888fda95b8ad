//! Smaller renditions of a stream's pictures, made by this node where the settings name them
//! (`renditions`), for viewers whose way is too narrow for the stream itself.
//!
//! Each rendition is a stream of its own in the hub, `cam#rid=360p`, exactly as a simulcast layer of
//! a publisher is: WebRTC viewers are moved between them by their way or by their own choice, HLS
//! players find them in the multivariant playlist. The pictures are decoded once for all of them,
//! keep their names, and begin their groups where the source does. Nothing is decoded or encoded
//! while nobody reads one.

mod engines;
mod rate;
mod rung;
#[cfg(test)]
mod tests;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingest::hub::{Event, Item, Start, StreamStatus};
use ingest::{Hub, StreamName};
use parking_lot::Mutex;
use pipeline::Size;
use pipeline::packet::VideoTrack;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info_span, warn};

pub use rung::Rung;

use crate::streams::StreamSettings;
use work::Work;

/// How often streams are looked through for new settings, beside each that comes, and renditions for
/// readers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Streams whose renditions are made at the same time; each costs a core or more.
const MAKING_MAX: usize = 8;

/// The renditions that this node makes. Cloning shares them.
#[derive(Clone)]
pub struct Ladders {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Hub,
    streams: StreamSettings,
    ladders: Mutex<HashMap<StreamName, Arc<Ladder>>>,
    /// Renditions were refused their names, which has been told.
    refused: AtomicBool,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The renditions of one stream, the largest first.
#[derive(Debug)]
pub struct Ladder {
    /// What is made.
    pub rungs: Vec<Rung>,
    making: AtomicBool,
}

impl Ladder {
    /// Whether they are being made now.
    pub fn is_making(&self) -> bool {
        self.making.load(Ordering::Relaxed)
    }
}

impl Ladders {
    /// None yet. Must be called within a runtime.
    pub(crate) fn new(
        hub: Hub,
        streams: StreamSettings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (ladders, runtime) = (Mutex::default(), tokio::runtime::Handle::current());
        let refused = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { hub, streams, ladders, refused, runtime, tasks, stop }) }
    }

    /// The renditions that a stream has from this node.
    pub fn of(&self, name: &StreamName) -> Option<Arc<Ladder>> {
        self.shared.ladders.lock().get(name).cloned()
    }

    /// All of them.
    pub fn list(&self) -> Vec<(StreamName, Arc<Ladder>)> {
        let ladders = self.shared.ladders.lock();
        ladders.iter().map(|(name, ladder)| (name.clone(), Arc::clone(ladder))).collect()
    }

    /// Gives streams their renditions until the node stops.
    pub(crate) async fn run(self) {
        let mut events = self.shared.hub.events();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // Notices that were missed are made up for by the next look.
                event = events.recv() => if let Ok(Event::Online(name)) = event
                    && !name.is_derived()
                    && let Some(status) = self.shared.hub.status(&name)
                {
                    self.ensure(&status);
                },
                _ = look.tick() => {
                    self.shared.hub.list().iter().for_each(|status| self.ensure(status));
                }
            }
        }
    }

    /// Begins the renditions of a stream that lacks them.
    fn ensure(&self, status: &StreamStatus) {
        let (shared, name) = (&self.shared, &status.name);
        // A publisher's own renditions are as good as ours and cost nothing.
        if self.of(name).is_some() || !shared.hub.renditions(name).is_empty() {
            return;
        }
        let wanted = rung::wanted(&shared.streams, name);
        let Some(video) = status.tracks.video.clone().filter(|_| !wanted.is_empty()) else {
            return;
        };
        let Some(size) = self.upright(name, &video) else { return };
        let rungs = rung::below(&wanted, size);
        if rungs.is_empty() {
            return;
        }
        let ladder = Arc::new(Ladder { rungs, making: AtomicBool::new(false) });
        let work = match Work::new(self.clone(), status, (video, size), wanted, Arc::clone(&ladder))
        {
            Ok(work) => work,
            Err(error) => {
                // Once: the next look finds the same.
                if !shared.refused.swap(true, Ordering::Relaxed) {
                    warn!(stream = %name, %error, "no renditions");
                }
                return;
            }
        };
        shared.refused.store(false, Ordering::Relaxed);
        shared.ladders.lock().insert(name.clone(), ladder);
        let span = info_span!("renditions", stream = %status.name);
        let (this, name) = (self.clone(), status.name.clone());
        let task = async move {
            // Taken off also when it panics.
            let _listed = Listed(this, name);
            work.run().await;
        };
        shared.tasks.spawn_on(task.instrument(span), &shared.runtime);
    }

    /// The size of a stream's pictures as they are to be seen, once it has any.
    fn upright(&self, name: &StreamName, video: &VideoTrack) -> Option<Size> {
        let mut reader = self.shared.hub.tap(name, Start::LastKey)?;
        // The tracks come before it.
        let first = std::iter::from_fn(|| reader.try_next()).take(2).find_map(|item| match item {
            Item::Packet(packet) => Some(packet),
            _ => None,
        });
        Some(rung::upright(video, &first?))
    }

    /// Takes one of the places for streams whose renditions are made; false when there is none.
    fn begin_making(&self, ladder: &Ladder) -> bool {
        let ladders = self.shared.ladders.lock();
        let free = ladders.values().filter(|ladder| ladder.is_making()).count() < MAKING_MAX;
        if free {
            ladder.making.store(true, Ordering::Relaxed);
        }
        free
    }
}

/// A stream in the list.
struct Listed(Ladders, StreamName);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.shared.ladders.lock().remove(&self.1);
    }
}
