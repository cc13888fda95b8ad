//! Segments that a publisher sends by HTTP, one request each: MPEG-TS or fragmented MP4, as ffmpeg's
//! `hls` muxer does with `-method PUT`, and as the push of Livepeer's gateways (`/live/{name}/7.ts`).
//!
//! There is no connection that says when a publisher comes and goes: its stream begins with the
//! first segment and ends when a playlist with an end comes, or when nothing has come for a while.
//! Segments come at once and are shown in their time; a publisher that is faster waits.

mod file;
mod http;
mod order;
mod session;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::SharedAccess;
use crate::hub::Hub;
use crate::name::StreamName;
use crate::sessions::Sessions;
use session::Session;

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether a second publisher of a name replaces the first.
    pub take_over: bool,
    /// Bytes of a segment, at most.
    pub segment_bytes: usize,
    /// How long a segment may take to arrive, and again until those before it make room.
    pub receive: Duration,
    /// How long a stream goes on when everything was shown and no segment comes.
    pub idle: Duration,
    /// Publishers at the same time.
    pub sessions_max: usize,
    /// Segments that are being received or wait for room at the same time, of all publishers.
    pub receiving_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            take_over: false,
            segment_bytes: 50_000_000,
            receive: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            sessions_max: 1000,
            receiving_max: 64,
        }
    }
}

/// The server. Cloning shares it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    hub: Hub,
    access: SharedAccess,
    sessions: Sessions,
    /// By the name that was asked for.
    open: Mutex<HashMap<StreamName, Arc<Session>>>,
    receiving: Semaphore,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server that writes into `hub`. Must be called within a runtime; its streams end with
    /// `stop`.
    pub fn new(
        config: Config,
        hub: Hub,
        access: SharedAccess,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            receiving: Semaphore::new(config.receiving_max.min(Semaphore::MAX_PERMITS)),
            config,
            hub,
            access,
            sessions: Sessions::new("http"),
            open: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            tasks,
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers what publishes segments and passes every other request on to `rest`.
    pub fn over(&self, rest: Router) -> Router {
        http::over(self.clone(), rest)
    }
}
