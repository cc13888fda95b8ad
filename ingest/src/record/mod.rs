//! Recording of streams into fragmented MP4, and what was recorded.
//!
//! A [`Recordings`] follows the hub: each stream whose [`Rule`] says so has a recorder, which begins
//! a segment with a key picture and writes a part each second. Rules may change at any time.
//!
//! - [`template`]: names of files; [`moment`]: their times.
//! - [`segment`]: one file, and what survives when; [`run`]: when the next one is due.
//! - [`recorder`]: one stream's task; [`service`]: all of them. [`disk`]: threads for disk work.
//! - [`shelf`]: what is on disk, and its expiry; [`stored`]: what is in a store.
//! - [`group`]: the pictures of one moment, for a still.
//! - [`playback`]: ranges of time over HTTP, cut by [`range`] and given out by [`send`].

mod disk;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod moment;
pub mod playback;
mod range;
mod recorder;
mod run;
mod segment;
mod send;
mod service;
mod shelf;
mod stored;
mod template;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::name::StreamName;
use crate::views::Views;

pub use group::{Group, GroupError};
pub use moment::Moment;
pub use recorder::TAKES;
pub use shelf::Found;
pub use stored::Vault;
pub use template::{EXTENSION, Template, TemplateError};

use disk::Disk;
use recorder::Seen;
use stored::Stored;

/// Notices kept for a slow listener.
const EVENTS_KEPT: usize = 256;

/// How one stream is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Whether it is.
    pub record: bool,
    /// Where its segments lie.
    pub template: Template,
    /// How long a part lasts: what a killed process loses at most.
    pub part: Duration,
    /// Bytes after which a part is written before it is that long.
    pub part_bytes: usize,
    /// How long a segment lasts; it then ends at the next key picture.
    pub segment: Duration,
    /// How long segments are kept after they were written; `None` for ever.
    pub delete_after: Option<Duration>,
}

/// Who knows the rules; asked again and again.
pub trait Rules: Send + Sync + 'static {
    /// The rule of a stream.
    fn rule(&self, name: &StreamName) -> Rule;
    /// All templates that streams may have now.
    fn templates(&self) -> Vec<Template>;
}

/// How much room there is where a path lies, in bytes.
pub type FreeSpace = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// What does not change while the node runs.
#[derive(Clone)]
pub struct Config {
    /// The folder of recordings.
    pub dir: PathBuf,
    /// Bytes that stay free on its disk.
    pub free_bytes_min: u64,
    /// Who knows how many there are.
    pub free_space: FreeSpace,
}

impl Config {
    /// Recordings in this folder, which leave 256 MiB of its disk free.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, free_bytes_min: 256 << 20, free_space: Arc::new(free_space) }
    }

    fn check_room(&self) -> io::Result<()> {
        match (self.free_space)(&self.dir) {
            Ok(free) if free < self.free_bytes_min => {
                let left = self.free_bytes_min;
                let what = format!("{free} bytes are free and {left} are to stay so");
                Err(io::Error::new(io::ErrorKind::StorageFull, what))
            }
            _ => Ok(()),
        }
    }
}

/// What the system says.
fn free_space(path: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// A segment began or is complete.
#[derive(Clone, Debug)]
pub enum Event {
    /// The file is there, with its first part.
    Created {
        /// The stream.
        name: StreamName,
        /// The file.
        path: PathBuf,
    },
    /// The file will not change any more.
    Completed {
        /// The stream.
        name: StreamName,
        /// The file.
        path: PathBuf,
        /// When it begins.
        start: Moment,
        /// How long it is.
        duration: Duration,
        /// Its size.
        bytes: u64,
    },
}

/// One recorder at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The stream.
    pub name: StreamName,
    /// The segment that is being written.
    pub path: Option<PathBuf>,
    /// Why nothing, or not everything, is written.
    pub problem: Option<String>,
    /// Bytes written since it began.
    pub bytes: u64,
    /// How much of the stream that is.
    pub duration: Duration,
    /// Segments begun.
    pub segments: u64,
    /// Packets taken, in memory or on disk.
    pub packets: u64,
    /// Packets that were not written: the disk was too slow, or full.
    pub lost: u64,
    /// Stamps that did not fit and were rewritten, in closed segments.
    pub restamped: u64,
    /// Times that the disk refused something.
    pub failures: u64,
}

/// All recordings of a node. Cloning shares them.
#[derive(Clone)]
pub struct Recordings {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    hub: Hub,
    views: Arc<dyn Views>,
    rules: Arc<dyn Rules>,
    disk: Disk,
    stored: OnceLock<Stored>,
    recorders: Mutex<HashMap<StreamName, Handle>>,
    events: broadcast::Sender<Event>,
}

impl Shared {
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// A running recorder.
struct Handle {
    task: tokio::task::Id,
    rule: watch::Sender<Rule>,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

/// Why something recorded cannot be had or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// There is no such segment.
    #[error("there is no such recording")]
    NotFound,
    /// It is being written.
    #[error("the segment is still being written")]
    Busy,
    /// The store.
    #[error("the store: {0}")]
    Store(io::Error),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Recordings {
    /// Recordings of the hub's streams; nothing happens before [`Self::run`].
    pub fn new(config: Config, hub: Hub, views: Arc<dyn Views>, rules: Arc<dyn Rules>) -> Self {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let (disk, stored, recorders) = (Disk::default(), OnceLock::new(), Mutex::default());
        let shared = Shared { config, hub, views, rules, disk, stored, recorders, events };
        Self { shared: Arc::new(shared) }
    }

    /// Notices of segments from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The recorders that run, by stream.
    pub fn recorders(&self) -> Vec<Status> {
        let recorders = self.shared.recorders.lock();
        let mut list: Vec<_> = recorders.iter().map(|(name, handle)| handle.status(name)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// One recorder.
    pub fn recorder(&self, name: &StreamName) -> Option<Status> {
        self.shared.recorders.lock().get(name).map(|handle| handle.status(name))
    }

    /// All segments on disk, by stream and beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn on_disk(&self) -> io::Result<Vec<Found>> {
        let shared = Arc::clone(&self.shared);
        let find = move || shelf::all(&shared.config.dir, &shared.rules.templates());
        self.shared.disk.run(find).await?
    }

    /// All segments on disk and in the store, by stream and beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn all(&self) -> io::Result<Vec<Found>> {
        Ok(stored::joined(self.on_disk().await?, self.remembered().await?))
    }

    /// A stream's segments on disk and in the store, by beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn of_stream(&self, name: &StreamName) -> io::Result<Vec<Found>> {
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        let template = self.shared.rules.rule(&name).template;
        let find = move || {
            let here = shelf::of_stream(&shared.config.dir, &template, &name)?;
            let ghosts = match shared.stored.get() {
                Some(stored) => shelf::of_stream(&stored.dir, &template, &name)?,
                None => Vec::new(),
            };
            Ok(stored::joined(here, ghosts))
        };
        self.shared.disk.run(find).await?
    }

    /// Whether a segment was closed and will not change any more.
    pub async fn is_complete(&self, found: &Found) -> bool {
        let path = found.path.clone();
        let told = self.shared.disk.run(move || segment::duration_of(&path)).await;
        matches!(told, Ok(Ok(Some(_)))) && !self.is_open(&found.path)
    }

    /// Removes the segment that begins then, from the store too.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn delete(&self, name: &StreamName, start: Moment) -> Result<(), ShelfError> {
        let found = self.of_stream(name).await?;
        let segment = found.into_iter().find(|segment| segment.start == start);
        let segment = segment.ok_or(ShelfError::NotFound)?;
        if self.is_open(&segment.path) {
            return Err(ShelfError::Busy);
        }
        self.remove_stored(&segment).await?;
        if !segment.stored {
            self.remove_here(&segment).await?;
        }
        Ok(())
    }

    /// Removes a segment from the disk.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn remove_here(&self, found: &Found) -> Result<(), ShelfError> {
        if self.is_open(&found.path) {
            return Err(ShelfError::Busy);
        }
        let (shared, path) = (Arc::clone(&self.shared), found.path.clone());
        let remove = move || shelf::remove(&shared.config.dir, &path);
        self.shared.disk.run(remove).await??;
        Ok(())
    }

    /// Whether a recorder writes this file.
    fn is_open(&self, path: &Path) -> bool {
        let recorders = self.shared.recorders.lock();
        recorders.values().any(|handle| handle.seen.path.lock().as_deref() == Some(path))
    }
}

impl Handle {
    fn status(&self, name: &StreamName) -> Status {
        let seen = &self.seen;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            name: name.clone(),
            path: seen.path.lock().clone(),
            problem: seen.problem.lock().clone(),
            bytes: read(&seen.bytes),
            duration: Duration::from_micros(read(&seen.ticks).saturating_mul(100) / 9),
            segments: read(&seen.segments),
            packets: read(&seen.packets),
            lost: read(&seen.lost),
            restamped: read(&seen.restamped),
            failures: read(&seen.failures),
        }
    }
}

#[cfg(test)]
mod tests;
