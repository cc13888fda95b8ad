//! One destination: waiting for the stream, attempts, and the waits between them.

use std::sync::Arc;

use ingest::remote::{Ended, Error, State};
use ingest::{Hub, StreamName};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Destination;
use crate::remote::{Backoff, End, SharedEnds, attempt};
use crate::streams::StreamSettings;

/// A destination's work.
pub(super) struct Work<'a> {
    pub(super) hub: Hub,
    pub(super) streams: StreamSettings,
    pub(super) ends: SharedEnds,
    /// The stream that is sent.
    pub(super) stream: StreamName,
    pub(super) destination: &'a Arc<Destination>,
}

impl Work<'_> {
    /// Until the destination is removed; a passing one until its stream ends.
    pub(super) async fn run(self) {
        let Destination { status, stop, passing, .. } = &**self.destination;
        loop {
            status.enter(State::Idle);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.online(&self.stream) => {}
                () = self.passed() => break,
            }
            if self.is_wanted() {
                self.while_online().await;
            } else {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.offline(&self.stream) => {}
                }
            }
            if stop.is_cancelled() || *passing {
                break;
            }
        }
        status.enter(State::Stopped);
    }

    /// Whether the settings still name it: what was said of a publisher who has just come may not.
    fn is_wanted(&self) -> bool {
        let settings = self.streams.of(&self.destination.stream);
        settings.pushes.as_deref().unwrap_or_default().contains(&self.destination.push)
    }

    /// Attempts until the stream ends.
    async fn while_online(&self) {
        let Destination { status, stop, .. } = &**self.destination;
        let mut backoff = Backoff::default();
        let mut first = true;
        loop {
            if !std::mem::take(&mut first) {
                status.retried();
            }
            status.enter(State::Connecting);
            let began = Instant::now();
            let ended = self.attempt().await;
            // A server that ends what it has just begun is not asked again at once.
            let over = matches!(ended, Ok(Ended::StreamOver)) && !self.hub.is_online(&self.stream);
            if stop.is_cancelled() || over {
                return;
            }
            status.enter(State::Waiting);
            let mut wait = backoff.next(began.elapsed(), rand::random());
            match &ended {
                Ok(how) => info!(%how, ?wait, "the push has ended"),
                Err(error) => {
                    status.failed(error);
                    if error.is_permanent() {
                        wait = Backoff::longest();
                    }
                    warn!(%error, ?wait, "the push failed");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.offline(&self.stream) => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn attempt(&self) -> Result<Ended, Error> {
        let Destination { status, stop, push, .. } = &**self.destination;
        let end = End::new(push, true)?;
        info!("pushing");
        attempt(self.ends.push(&end, &self.stream, status, stop)).await
    }

    /// Waits until the publisher for whom a passing destination is has gone.
    async fn passed(&self) {
        if !self.destination.passing {
            return std::future::pending().await;
        }
        self.offline(&self.destination.stream).await;
    }

    async fn online(&self, stream: &StreamName) {
        let mut events = self.hub.events();
        while !self.hub.is_online(stream) {
            let _ = events.recv().await;
        }
    }

    async fn offline(&self, stream: &StreamName) {
        let mut events = self.hub.events();
        while self.hub.is_online(stream) {
            let _ = events.recv().await;
        }
    }
}
