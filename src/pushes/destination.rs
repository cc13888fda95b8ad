//! One destination: waiting for the stream, attempts, and the waits between them.

use std::sync::Arc;
use std::time::Duration;

use ingest::remote::{Ended, Error, State};
use ingest::{Hub, StreamName};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Destination;
use crate::remote::{Backoff, End, SharedEnds, attempt};

/// How long a destination that was given to one publisher waits for his stream.
const PASSING_WAIT: Duration = Duration::from_secs(60);

/// A destination's work.
pub(super) struct Work<'a> {
    pub(super) hub: Hub,
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
            self.while_online().await;
            if stop.is_cancelled() || *passing {
                break;
            }
        }
        status.enter(State::Stopped);
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

    /// Waits until the publisher for whom a passing destination is has gone, or did not come.
    async fn passed(&self) {
        if !self.destination.passing {
            return std::future::pending().await;
        }
        let stream = &self.destination.stream;
        if tokio::time::timeout(PASSING_WAIT, self.online(stream)).await.is_ok() {
            self.offline(stream).await;
        }
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
