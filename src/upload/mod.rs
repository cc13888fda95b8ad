//! Recordings into an object store: S3 and what speaks it, Google Cloud Storage, Azure, or another
//! folder.
//!
//! The folder of recordings is the spool: a segment is sent when it is complete, again and again until
//! the store has all of it. What was sent is in a journal in the data directory; what is not in it is
//! found by looking through the folder, at the start too, so that a killed process loses nothing.
//! Segments that a stream's rule lets go before the store took them are named and counted. What the
//! store has is played back from there ([`vault`]) when it is no longer here.

mod journal;
mod store;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use ingest::record::{Event, Found, Moment, Recordings};
use object_store::{ObjectStoreExt as _, WriteMultipart};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config;
use journal::Journal;
use store::without_secrets;
use vault::Shelf;

/// How often the folder is looked through for what no notice told of.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often the store is asked what it has.
const RECONCILE_EVERY: Duration = Duration::from_secs(3600);

/// Seconds of pause after failures; the last one stays.
const PAUSES: [u64; 5] = [1, 2, 5, 15, 60];

/// Segments that are sent at the same time.
const UPLOADS_MAX: usize = 4;

/// Bytes of one part of an upload. Stores want 5 MiB at least, and 10,000 parts at most.
const PART_BYTES: usize = 8 << 20;

/// Parts of one upload that are on their way at the same time.
const PARTS_MAX: usize = 2;

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 1 << 20;

/// The longest that one segment may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// Sends segments. Cloning shares it.
#[derive(Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

struct Shared {
    recordings: Recordings,
    store: Arc<Shelf>,
    keep_local: bool,
    journal: Journal,
    seen: Seen,
}

/// What it shows of itself.
#[derive(Default)]
struct Seen {
    problem: Mutex<Option<String>>,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    failures: AtomicU64,
    lost: AtomicU64,
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
}

/// The way to the store at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Why something cannot be sent.
    pub problem: Option<String>,
    /// Segments that the store has taken since the start.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Segments that were gone before the store took them.
    pub lost: u64,
    /// Complete segments that are not in the store.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

impl Uploads {
    /// Uploads to the store of the settings; what was sent is remembered in the file `journal`, and
    /// what the store has in the folder `stored`.
    ///
    /// # Errors
    /// An address or options that make no store.
    pub fn new(
        settings: &config::RecordingStore,
        journal: PathBuf,
        stored: PathBuf,
        recordings: Recordings,
    ) -> Result<Self> {
        let (store, prefix) = store::open(settings).context("recordings.store")?;
        let store = Arc::new(Shelf::new(store.into(), prefix));
        recordings.store_in(stored, store.clone());
        let (keep_local, seen) = (settings.keep_local, Seen::default());
        let journal = Journal::new(journal);
        let shared = Shared { recordings, store, keep_local, journal, seen };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Its figures.
    pub fn status(&self) -> Status {
        let Seen { problem, sent, sent_bytes, failures, lost, waiting, waiting_bytes } =
            &self.shared.seen;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            problem: problem.lock().clone(),
            segments: read(sent),
            bytes: read(sent_bytes),
            failures: read(failures),
            lost: read(lost),
            waiting: read(waiting),
            waiting_bytes: read(waiting_bytes),
        }
    }

    /// Sends what is complete until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async { tokio::join!(self.shared.send_all(), self.shared.stay_true()) };
        stop.run_until_cancelled(work).await;
    }
}

/// What is known from one look to the next.
#[derive(Default)]
struct Known {
    /// Segments that the store has, and that are still here.
    sent: HashSet<String>,
    /// Those that it does not have, with the attempts that failed.
    unsent: HashMap<String, u32>,
}

impl Shared {
    async fn send_all(&self) {
        let mut events = self.recordings.events();
        let mut known = Known { sent: self.journal.read().await, ..Known::default() };
        self.remember(&known.sent).await;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut failures = 0;
        loop {
            let pause = match self.pass(&mut known).await {
                Ok(()) => {
                    if self.seen.problem.lock().take().is_some() {
                        info!("recordings go to the store again");
                    }
                    failures = 0;
                    None
                }
                Err(error) => {
                    self.tell(&without_secrets(&format!("{error:#}")));
                    failures += 1;
                    Some(Duration::from_secs(PAUSES[(failures - 1).min(PAUSES.len() - 1)]))
                }
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
                continue;
            }
            loop {
                tokio::select! {
                    _ = look.tick() => break,
                    // A listener that lagged looks through the folder as well.
                    event = events.recv() => match event {
                        Ok(Event::Created { .. }) => {}
                        _ => break,
                    },
                }
            }
        }
    }

    /// Remembers what was sent and is still here, for a process before may not have.
    async fn remember(&self, sent: &HashSet<String>) {
        let here = self.recordings.on_disk().await.unwrap_or_default();
        for found in here.iter().filter(|found| sent.contains(&found.relative)) {
            if let Err(error) = self.recordings.remember(found).await {
                warn!(path = found.relative, %error, "cannot remember what the store has");
            }
        }
    }

    /// Looks now and then whether the store still has what it had.
    async fn stay_true(&self) {
        let mut look = tokio::time::interval(RECONCILE_EVERY);
        loop {
            look.tick().await;
            let now = Moment::of(SystemTime::now());
            if let Err(error) = self.store.reconcile(&self.recordings, now).await {
                let error = without_secrets(&format!("{error:#}"));
                warn!(error, "cannot look at what the store has");
            }
        }
    }

    /// Says what is wrong, once until it is something else.
    fn tell(&self, why: &str) {
        let mut problem = self.seen.problem.lock();
        if problem.as_deref() != Some(why) {
            warn!(error = why, "recordings cannot be sent to the store");
            *problem = Some(why.to_owned());
        }
    }

    /// Sends all complete segments that were not sent: those that failed least first, and of these
    /// the oldest.
    async fn pass(&self, known: &mut Known) -> Result<()> {
        let mut waiting = self.look(known).await?;
        waiting.sort_by_key(|found| (known.unsent.get(&found.relative).copied(), found.start));
        self.count(&waiting);
        let mut left: BTreeMap<_, _> =
            waiting.iter().map(|found| (found.relative.clone(), found.bytes)).collect();
        let mut worst = Ok(());
        // A store that is away is not asked for each of them.
        let away = AtomicBool::new(false);
        let attempt = |found: Found| {
            let away = &away;
            async move {
                match away.load(Ordering::Relaxed) {
                    true => None,
                    false => {
                        let ended = self.attempt(&found).await;
                        Some((found, ended))
                    }
                }
            }
        };
        let uploads = futures_util::stream::iter(waiting).map(attempt).buffered(UPLOADS_MAX);
        let mut uploads = std::pin::pin!(uploads);
        while let Some(ended) = uploads.next().await {
            let Some((found, ended)) = ended else { continue };
            match ended {
                Ok(()) => {
                    self.journal.append(&found.relative).await?;
                    known.unsent.remove(&found.relative);
                    known.sent.insert(found.relative.clone());
                    left.remove(&found.relative);
                    self.seen.waiting.store(left.len() as u64, Ordering::Relaxed);
                    self.seen.waiting_bytes.store(left.values().sum(), Ordering::Relaxed);
                    self.seen.sent.fetch_add(1, Ordering::Relaxed);
                    self.seen.sent_bytes.fetch_add(found.bytes, Ordering::Relaxed);
                    info!(path = found.relative, bytes = found.bytes, "a segment is in the store");
                    self.let_go(&found).await;
                }
                Err(error) => {
                    self.seen.failures.fetch_add(1, Ordering::Relaxed);
                    let attempts = known.unsent.entry(found.relative.clone()).or_default();
                    *attempts = attempts.saturating_add(1);
                    self.tell(&without_secrets(&format!("{}: {error:#}", found.relative)));
                    worst = Err(error.context(found.relative.clone()));
                    away.store(true, Ordering::Relaxed);
                }
            }
        }
        worst
    }

    /// The complete segments that are not in the store.
    async fn look(&self, known: &mut Known) -> Result<Vec<Found>> {
        let all = self.recordings.on_disk().await.context("the folder of recordings")?;
        let there: HashSet<&str> = all.iter().map(|found| found.relative.as_str()).collect();
        let lost: Vec<String> =
            known.unsent.keys().filter(|path| !there.contains(path.as_str())).cloned().collect();
        for path in lost {
            warn!(path, "a segment is gone before the store had it");
            self.seen.lost.fetch_add(1, Ordering::Relaxed);
            known.unsent.remove(&path);
        }
        let before = known.sent.len();
        known.sent.retain(|relative| there.contains(relative.as_str()));
        if known.sent.len() < before {
            self.journal.write(&known.sent).await?;
        }
        let mut waiting = Vec::new();
        for found in all {
            if known.sent.contains(&found.relative) {
                // The process may have ended between the journal and the file.
                self.let_go(&found).await;
            } else if self.recordings.is_complete(&found).await {
                known.unsent.entry(found.relative.clone()).or_default();
                waiting.push(found);
            }
        }
        Ok(waiting)
    }

    fn count(&self, waiting: &[Found]) {
        let bytes = waiting.iter().map(|found| found.bytes).sum();
        self.seen.waiting.store(waiting.len() as u64, Ordering::Relaxed);
        self.seen.waiting_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Removes what the store has, if the settings say so.
    async fn let_go(&self, found: &Found) {
        if self.keep_local {
            return;
        }
        if let Err(error) = self.recordings.remove_here(found).await {
            warn!(path = found.relative, %error, "what is in the store cannot be removed here");
        }
    }

    async fn attempt(&self, found: &Found) -> Result<()> {
        let upload = tokio::time::timeout(UPLOAD_TIMEOUT, self.send(found));
        upload.await.context("the store takes too long")?
    }

    /// Sends one segment and makes sure that all of it is there.
    async fn send(&self, found: &Found) -> Result<()> {
        let (key, store) = (self.store.key(&found.relative)?, &self.store.store);
        let mut file = tokio::fs::File::open(&found.path).await?;
        let bytes = file.metadata().await?.len();
        if bytes <= PART_BYTES as u64 {
            let mut data = Vec::with_capacity(bytes as usize);
            file.read_to_end(&mut data).await?;
            store.put(&key, data.into()).await?;
        } else {
            let upload = store.put_multipart(&key).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            let mut data = vec![0; READ_BYTES];
            let sent = async {
                loop {
                    upload.wait_for_capacity(PARTS_MAX).await?;
                    let count = file.read(&mut data).await?;
                    if count == 0 {
                        return anyhow::Ok(());
                    }
                    upload.write(&data[..count]);
                }
            };
            match sent.await {
                Ok(()) => upload.finish().await.map(drop)?,
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
        let there = store.head(&key).await?.size;
        ensure!(there == bytes, "{there} of {bytes} bytes are in the store");
        let remembered = self.recordings.remember(found).await;
        if !remembered.context("remembering what the store has")? {
            debug!(
                path = found.relative,
                "no recording of ours: it cannot be played from the store"
            );
        }
        Ok(())
    }
}
