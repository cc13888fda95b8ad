//! What runs all the time: recorders come and go with streams and rules, old segments go, and those
//! that a process before left open are closed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::recorder::{Recorder, Seen};
use super::segment::{self, Mended};
use super::{Handle, Moment, Recordings, shelf};
use crate::hub::Start;

/// How often rules are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often old segments are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

impl Recordings {
    /// Mends what a process before left behind, then records until `stop`, and closes all segments.
    pub async fn run(self, stop: CancellationToken) {
        let began = Moment::of(SystemTime::now());
        let mender = self.clone();
        let mending = tokio::spawn(async move { mender.mend(began).await });
        let mut events = self.shared.hub.events();
        let mut tasks = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        expire.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = events.recv() => {}
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    self.ended(match ended {
                        Ok((task, ())) => task,
                        Err(error) => {
                            warn!(%error, "a recorder ended in the middle");
                            error.id()
                        }
                    });
                }
                _ = look.tick() => {}
                _ = expire.tick() => {
                    self.expire().await;
                    continue;
                }
            }
            self.follow(&mut tasks);
        }
        for handle in self.shared.recorders.lock().values() {
            handle.stop.cancel();
        }
        while tasks.join_next().await.is_some() {}
        self.shared.recorders.lock().clear();
        let _ = mending.await;
    }

    /// Starts, changes and stops recorders as the rules say now.
    fn follow(&self, tasks: &mut JoinSet<()>) {
        for stream in self.shared.hub.list() {
            let rule = self.shared.rules.rule(&stream.name);
            let mut recorders = self.shared.recorders.lock();
            match recorders.get(&stream.name) {
                Some(handle) if !rule.record => handle.stop.cancel(),
                Some(handle) => {
                    handle.rule.send_if_modified(|now| {
                        let other = *now != rule;
                        *now = rule;
                        other
                    });
                }
                None if rule.record => {
                    let Some(reader) = self.shared.hub.tap(&stream.name, Start::LastKey) else {
                        continue;
                    };
                    let (told, rule) = watch::channel(rule);
                    let (seen, stop) = (Arc::<Seen>::default(), CancellationToken::new());
                    let recorder = Recorder {
                        name: stream.name.clone(),
                        shared: Arc::clone(&self.shared),
                        seen: Arc::clone(&seen),
                        rule,
                        stop: stop.clone(),
                    };
                    let task = tasks.spawn(recorder.run(reader)).id();
                    recorders.insert(stream.name, Handle { task, rule: told, seen, stop });
                }
                None => {}
            }
        }
    }

    fn ended(&self, task: tokio::task::Id) {
        self.shared.recorders.lock().retain(|_, handle| handle.task != task);
    }

    /// Removes what is older than its stream's rule says.
    pub(super) async fn expire(&self) {
        let found = match self.on_disk().await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "cannot look for old recordings");
                return;
            }
        };
        let now = Moment::of(SystemTime::now());
        for segment in found {
            let limit = self.shared.rules.rule(&segment.name).delete_after;
            let old = limit.is_some_and(|limit| shelf::is_old(&segment, limit, now));
            if !old || self.is_open(&segment.path) {
                continue;
            }
            let (shared, path) = (Arc::clone(&self.shared), segment.path.clone());
            let removed = self.shared.disk.run(move || shelf::remove(&shared.config.dir, &path));
            let path = segment.path.display();
            match removed.await {
                Ok(Ok(())) => info!(stream = %segment.name, %path, "an old segment is removed"),
                Ok(Err(error)) | Err(error) => {
                    warn!(stream = %segment.name, %path, %error, "cannot remove an old segment");
                }
            }
        }
    }

    /// Closes segments that were written last before `began` and never closed.
    async fn mend(&self, began: Moment) {
        let Ok(found) = self.on_disk().await else { return };
        for segment in found.into_iter().filter(|segment| segment.modified < began) {
            let path = segment.path.clone();
            let mended = self.shared.disk.run(move || segment::mend(&path)).await;
            let path = segment.path.display();
            match mended {
                Ok(Ok(Mended::Whole)) => {}
                Ok(Ok(Mended::Closed)) => info!(%path, "a segment left behind is closed"),
                Ok(Ok(Mended::Removed)) => info!(%path, "a segment without media is removed"),
                Ok(Err(error)) | Err(error) => warn!(%path, %error, "cannot close a segment"),
            }
        }
    }
}
