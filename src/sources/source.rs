//! One source: attempts, and the waits between them.

use std::sync::Arc;
use std::time::Duration;

use ingest::hub::Event;
use ingest::remote::{Ended, Error, Sink, State};
use ingest::{Hub, StreamName};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Source;
use crate::remote::{Backoff, End, SharedEnds, attempt};

/// How often it is looked whether somebody watches.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A source's work.
pub(super) struct Work<'a> {
    pub(super) hub: Hub,
    pub(super) ends: SharedEnds,
    pub(super) name: StreamName,
    pub(super) source: &'a Arc<Source>,
}

impl Work<'_> {
    /// Until the source is stopped, or nobody wants it any more.
    pub(super) async fn run(self) {
        tokio::select! {
            biased;
            () = self.attempts() => {}
            () = self.unwatched() => {
                info!("nobody watches: the source is closed");
                self.source.stop.cancel();
            }
        }
        self.source.status.enter(State::Stopped);
    }

    async fn attempts(&self) {
        let Source { settings, status, stop, wake, .. } = &**self.source;
        let mut backoff = Backoff::default();
        let sink =
            Sink::new(self.hub.clone(), self.name.clone(), settings.take_over, status.clone());
        let mut first = true;
        loop {
            if !std::mem::take(&mut first) {
                status.retried();
            }
            status.enter(State::Connecting);
            let began = Instant::now();
            let ended = self.attempt(&sink).await;
            if stop.is_cancelled() {
                return;
            }
            status.enter(State::Waiting);
            let wait = match &ended {
                Ok(Ended::Replaced) => {
                    info!("a publisher has taken the stream over");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.free() => continue,
                    }
                }
                Ok(how) => {
                    let wait = backoff.next(began.elapsed(), rand::random());
                    info!(%how, ?wait, "the source has ended");
                    wait
                }
                Err(error) => {
                    status.failed(error);
                    let wait = match error.is_permanent() {
                        true => Backoff::longest(),
                        false => backoff.next(began.elapsed(), rand::random()),
                    };
                    warn!(%error, ?wait, "the source failed");
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = wake.notified() => {}
            }
        }
    }

    async fn attempt(&self, sink: &Sink) -> Result<Ended, Error> {
        let Source { settings, stop, .. } = &**self.source;
        let end = End::new(&settings.end, false)?;
        info!(target = %end.target, "pulling");
        attempt(self.ends.pull(&end, sink, stop)).await
    }

    /// Waits until nobody publishes the stream.
    async fn free(&self) {
        let mut events = self.hub.events();
        while self.hub.status(&self.name).is_some() {
            match events.recv().await {
                Ok(Event::Online(_) | Event::Offline(_)) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Waits until an on-demand source was not watched for its time.
    async fn unwatched(&self) {
        let Some(demand) = self.source.settings.demand else { return std::future::pending().await };
        // Those for whom it was started get their time first.
        let mut until = Instant::now() + demand.start_timeout.max(demand.close_after);
        let out = self.name.out();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.hub.audience(&self.name) + self.hub.audience(&out) > 0 {
                until = Instant::now() + demand.close_after;
            } else if Instant::now() >= until {
                return;
            }
        }
    }
}
